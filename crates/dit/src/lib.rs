//! Video diffusion transformers: the network that a sampler asks for a velocity, step after step.
//!
//! A [`VideoDit`] is called in two parts. [`VideoDit::prepare`] does, once, what depends on the conditioning alone
//! (embedding the text, keys and values of the cross-attention); [`VideoDit::forward`] does the rest on every step.

mod error;
pub mod wan;

use candle_core::Tensor;
pub use error::{Error, Result};

/// A video diffusion transformer.
pub trait VideoDit: Send + Sync {
    /// Computes what depends on the conditioning alone and is the same on every step. At most `cache_bytes` are spent
    /// on results that could also be computed again on each step; the numbers do not depend on it.
    ///
    /// # Errors
    /// A context of another shape than `[B, S, text_dim]`, or whatever candle fails on.
    fn prepare(&self, conditioning: &Conditioning, cache_bytes: usize) -> Result<Prepared>;

    /// One prediction: `latents [B, C_in, F, H, W]`, `timestep` f32 `[B]`, or `[B, L]` with one value per token (in the
    /// order frames, rows, columns), in the model's own units → `[B, C_out, F, H, W]`, both in the model's dtype.
    /// Latents of another dtype are converted. `prepared` comes from the same model and has the same `B`.
    ///
    /// # Errors
    /// Shapes other than these, sizes that are no multiples of [`VideoDit::patch_size`] or that the position embedding
    /// does not reach, or whatever candle fails on.
    fn forward(&self, latents: &Tensor, timestep: &Tensor, prepared: &Prepared) -> Result<Tensor> {
        self.forward_with(latents, timestep, prepared, &mut ComputeAll)
    }

    /// The same, taking over from earlier passes what `reuse` decides to.
    ///
    /// # Errors
    /// Those of [`VideoDit::forward`], and those of `reuse`.
    fn forward_with(
        &self,
        latents: &Tensor,
        timestep: &Tensor,
        prepared: &Prepared,
        reuse: &mut dyn Reuse,
    ) -> Result<Tensor>;

    /// Latent frames, rows and columns that make one token.
    fn patch_size(&self) -> [usize; 3];

    /// Channels of the latents that go in.
    fn in_channels(&self) -> usize;

    /// Channels of the prediction that comes out.
    fn out_channels(&self) -> usize;
}

/// Decides, at three moments of a pass, what is taken over from an earlier one. Tokens are `[B, L, dim]` in the model's
/// dtype.
pub trait Reuse {
    /// Before the first block; `time` is the embedded timestep, f32 `[U, 1, dim]`, once per distinct one. The tokens after
    /// the last block, to compute none of them.
    ///
    /// # Errors
    /// Whatever candle fails on, as in the others.
    fn before_blocks(&mut self, tokens: &Tensor, time: &Tensor) -> Result<Option<Tensor>>;

    /// After the first block, with the tokens before and after it. The tokens after the last block, to compute no other.
    fn after_first_block(&mut self, before: &Tensor, after: &Tensor) -> Result<Option<Tensor>>;

    /// After the last block, where it was computed.
    fn after_last_block(&mut self, tokens: &Tensor) -> Result<()>;
}

/// Takes over nothing.
#[derive(Debug, Clone, Copy)]
pub struct ComputeAll;

impl Reuse for ComputeAll {
    fn before_blocks(&mut self, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    fn after_first_block(&mut self, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    fn after_last_block(&mut self, _: &Tensor) -> Result<()> {
        Ok(())
    }
}

/// What a prediction is conditioned on.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// Text hidden states `[B, S, text_dim]`; rows past the prompt are zero and are not masked.
    pub context: Tensor,
}

impl Conditioning {
    /// Conditioning on a text alone, `context [B, S, text_dim]`.
    pub fn new(context: Tensor) -> Self {
        Self { context }
    }
}

/// A [`Conditioning`] made ready by one model for all of its steps.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Embedded text `[B, S, dim]`; rows that only repeat the last are left out.
    context: Tensor,
    /// What is added to the scores of the text's rows, f32 `[1, 1, 1, S]`.
    bias: Option<Tensor>,
    /// One pair per block, or none where they are computed on each step.
    keys_values: Vec<KeysValues>,
}

/// Keys and values of one cross-attention, `[B, S, N, D]`.
#[derive(Debug, Clone)]
struct KeysValues {
    keys: Tensor,
    values: Tensor,
}
