//! The conditioning inputs in the form that every step uses, computed once per clip.

use crate::attention::KeysValues;
use crate::stack::KvCache;
use candle_core::Tensor;

/// A [`Conditioning`](crate::Conditioning), embedded.
pub(super) struct Prepared {
    /// Embedded text `[B, S, dim]`; rows that only repeat the last are left out.
    pub(super) context: Tensor,
    /// Added to the scores of the text's rows, f32 `[1, 1, 1, S]`.
    pub(super) bias: Option<Tensor>,
    /// Embedded pictures `[B, T, dim]`.
    pub(super) image: Option<Tensor>,
    /// Channels to be appended to the latents `[B, C, F, H, W]`.
    pub(super) latents: Option<Tensor>,
    pub(super) control: Option<PreparedControl>,
    /// The camera's tokens `[B, L, dim]`.
    pub(super) camera: Option<Tensor>,
    /// Frames, rows and columns of the latents that the last three were made for.
    pub(super) sizes: Option<[usize; 3]>,
    /// The KV cache of the blocks, then of the control blocks.
    pub(super) kv_cache: KvCache<CrossKeysValues>,
}

/// A [`Control`](crate::Control), embedded.
pub(super) struct PreparedControl {
    /// `[B, L, dim]`.
    pub(super) tokens: Tensor,
    /// The factor of every hint, f32 `[1, 1, dim]`.
    pub(super) scale: Tensor,
}

/// Keys and values of one block's cross-attention.
#[derive(Clone)]
pub(super) struct CrossKeysValues {
    pub(super) text: KeysValues,
    pub(super) image: Option<KeysValues>,
}
