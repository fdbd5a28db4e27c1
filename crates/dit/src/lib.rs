//! Video diffusion transformers: the network that a sampler asks for a velocity, step after step.
//!
//! A [`VideoDit`] is called in two parts. [`VideoDit::prepare`] does, once, what depends on the conditioning alone
//! (embedding the text, keys and values of the cross-attention); [`VideoDit::forward`] does the rest on every step.

mod error;
pub mod wan;

use candle_core::Tensor;
pub use error::{Error, Result};
use kinora_kernels::Replay;

/// A video diffusion transformer.
pub trait VideoDit: Send + Sync {
    /// Computes what depends on the conditioning alone and is the same on every step. At most `cache_bytes` are spent
    /// on results that could also be computed again on each step; the numbers do not depend on it.
    ///
    /// # Errors
    /// Conditioning that the model needs and is not given, or that it is given and cannot follow; shapes other than those
    /// of [`Conditioning`]; or whatever candle fails on.
    fn prepare(&self, conditioning: &Conditioning, cache_bytes: usize) -> Result<Prepared>;

    /// One prediction: `latents [B, C_out, F, H, W]` without what is appended to them, `timestep` f32 `[B]`, or `[B, L]`
    /// with one value per token (in the order frames, rows, columns), in the model's own units → `[B, C_out, F, H, W]`,
    /// both in the model's dtype. Of timesteps per token the values are looked at: on the CPU, nobody waits for that. Latents of another dtype are converted. `prepared` comes from the same model and has the
    /// same `B`, and the same `F`, `H`, `W` where it has any.
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

    /// Channels that go into the network: those of the latents, then those of [`Conditioning::latents`].
    fn in_channels(&self) -> usize;

    /// Channels of the prediction that comes out.
    fn out_channels(&self) -> usize;
}

/// Decides, at three moments of a pass, what is taken over from an earlier one. Tokens are `[B, L, dim]` in the model's
/// dtype.
pub trait Reuse {
    /// Whether it takes over, or looks at, anything: a pass that it does not concern can be replayed as it was.
    fn concerns(&self) -> bool {
        true
    }

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
    fn concerns(&self) -> bool {
        false
    }

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
    /// Hidden states of an image encoder `[B, T, image_dim]`; those of two pictures `[B, 2T, image_dim]`, one after the
    /// other.
    pub image: Option<Tensor>,
    /// Channels that follow those of the latents in every forward pass, `[B, C_in - C_out, F, H, W]`.
    pub latents: Option<Tensor>,
    /// What control blocks (VACE) follow.
    pub control: Option<Control>,
    /// Rays of a camera, packed per latent frame, `[B, 24, F, s·H, s·W]` for the spatial factor s of the VAE.
    pub camera: Option<Tensor>,
}

/// What the control blocks of a model follow.
#[derive(Debug, Clone)]
pub struct Control {
    /// `[B, C, F, H, W]`, as large as the latents; 96 channels in every released model.
    pub latents: Tensor,
    /// What every hint is multiplied by.
    pub scale: f64,
}

impl Conditioning {
    /// Conditioning on a text alone, `context [B, S, text_dim]`.
    pub fn new(context: Tensor) -> Self {
        Self { context, image: None, latents: None, control: None, camera: None }
    }
}

/// A [`Conditioning`] made ready by one model for all of its steps.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Embedded text `[B, S, dim]`; rows that only repeat the last are left out.
    context: Tensor,
    /// What is added to the scores of the text's rows, f32 `[1, 1, 1, S]`.
    bias: Option<Tensor>,
    /// Embedded pictures `[B, T, dim]`.
    image: Option<Tensor>,
    /// Channels to be appended to the latents `[B, C, F, H, W]`.
    latents: Option<Tensor>,
    control: Option<PreparedControl>,
    /// The camera's tokens `[B, L, dim]`.
    camera: Option<Tensor>,
    /// Frames, rows and columns of the latents that the last three were made for.
    sizes: Option<[usize; 3]>,
    /// One per block, or none where they are computed on each step.
    cross: Vec<CrossKeysValues>,
    /// The blocks over other tokens and times: all that is above belongs to it.
    replay: Replay,
}

impl Prepared {
    /// Whether passes over a small clip on a GPU are queued as they were recorded (see [`Replay`]).
    pub fn is_recorded(&self) -> bool {
        self.replay.is_recorded()
    }
}

/// A [`Control`] made ready.
#[derive(Debug, Clone)]
struct PreparedControl {
    /// `[B, L, dim]`.
    tokens: Tensor,
    /// The scale, f32 `[1, 1, dim]`.
    scale: Tensor,
}

/// Keys and values of one block's cross-attention.
#[derive(Debug, Clone)]
struct CrossKeysValues {
    text: KeysValues,
    image: Option<KeysValues>,
}

/// Keys and values of one attention, `[B, S, N, D]`.
#[derive(Debug, Clone)]
struct KeysValues {
    keys: Tensor,
    values: Tensor,
}
