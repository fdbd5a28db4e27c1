//! Video diffusion transformers: the network that a sampler asks for a velocity, step after step.
//!
//! A [`VideoDit`] makes video alone; the transformer of [`ltx`] makes video and sound, has two of most inputs and outputs, and
//! methods of its own. Both share their blocks' stack, the step cache and sparse attention.
//!
//! A transformer is called in two parts. [`VideoDit::prepare`] computes, once, everything that depends on the
//! conditioning alone (the embedded text, the KV cache of the cross-attention); [`VideoDit::forward`] computes the rest on
//! every step.

mod attention;
mod bricks;
mod error;
pub mod ltx;
mod stack;
mod timesteps;
pub mod wan;

pub use bricks::{Bricks, Sparse};
use candle_core::Tensor;
pub use error::{Error, Result};
use kinora_kernels::Replay;
use std::any::Any;
use std::sync::Arc;

/// A video diffusion transformer.
pub trait VideoDit: Send + Sync {
    /// Computes what depends on the conditioning alone and is the same on every step. The KV cache takes at most
    /// `kv_cache_bytes`; where it would take more, keys and values are computed on each step, to the same bits.
    ///
    /// # Errors
    /// Conditioning that the model needs and does not get, or gets and cannot use; shapes other than those of
    /// [`Conditioning`]; or whatever candle fails on.
    fn prepare(&self, conditioning: &Conditioning, kv_cache_bytes: usize) -> Result<Prepared>;

    /// Computes one prediction: `latents [B, C_out, F, H, W]` without [`Conditioning::latents`], `timestep` f32 `[B]`, or
    /// `[B, L]` with one value per token (in the order frames, rows, columns), in the model's own units →
    /// `[B, C_out, F, H, W]` in the model's dtype. Latents of another dtype are converted. The values of timesteps per
    /// token are read on the CPU: keep them there, so that nothing waits for a GPU. `prepared` comes from the same model
    /// and has the same `B`, and the same `F`, `H`, `W` where its conditioning has any.
    ///
    /// # Errors
    /// Other shapes, sizes that are no multiples of [`VideoDit::patch_size`] or that the position embedding does not
    /// reach, another model's `prepared`, or whatever candle fails on.
    fn forward(&self, latents: &Tensor, timestep: &Tensor, prepared: &Prepared) -> Result<Tensor> {
        self.forward_with(latents, timestep, prepared, None, &mut ComputeAll)
    }

    /// Computes [`VideoDit::forward`], except what `reuse` takes over from earlier passes and what `sparse` leaves out of the
    /// self-attention.
    ///
    /// # Errors
    /// As [`VideoDit::forward`], and those of `reuse`.
    fn forward_with(
        &self,
        latents: &Tensor,
        timestep: &Tensor,
        prepared: &Prepared,
        sparse: Option<Sparse>,
        reuse: &mut dyn Reuse,
    ) -> Result<Tensor>;

    /// Returns the latent frames, rows and columns of one token.
    fn patch_size(&self) -> [usize; 3];

    /// Returns the channels that the network takes: those of the latents, then those of [`Conditioning::latents`].
    fn in_channels(&self) -> usize;

    /// Returns the channels of the prediction.
    fn out_channels(&self) -> usize;
}

/// A step cache as a transformer sees it: decides, at three moments of a pass, what is taken over from an earlier pass.
///
/// Tokens are `[B, L, dim]` in the model's dtype, in the order of the network, which is the same in all passes of a run. Where a model has several streams of tokens (video and sound), they come
/// as one tensor `[B, L·dim + L'·dim' + ..]`; a step cache only compares, adds and subtracts them.
pub trait Reuse {
    /// Returns whether the step cache looks at or takes over anything. If not, none of the other methods is called, and the pass can be
    /// replayed as it was recorded.
    fn concerns(&self) -> bool {
        true
    }

    /// Is called before the first block; `time` is the embedded timestep, f32 `[U, 1, dim]`, one row per distinct
    /// timestep. Returns the tokens after the last block, if no block is to be computed.
    ///
    /// # Errors
    /// Whatever candle fails on, as in the other methods.
    fn before_blocks(&mut self, tokens: &Tensor, time: &Tensor) -> Result<Option<Tensor>>;

    /// Is called after the first block, with the tokens before and after it. Returns the tokens after the last block, if
    /// no other block is to be computed.
    fn after_first_block(&mut self, before: &Tensor, after: &Tensor) -> Result<Option<Tensor>>;

    /// Is called after the last block, if it was computed.
    fn after_last_block(&mut self, tokens: &Tensor) -> Result<()>;
}

/// Takes over nothing, so that every block is computed.
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

/// The conditioning inputs of a prediction.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// Text hidden states `[B, S, text_dim]`; rows past the prompt are zero and are not masked.
    pub context: Tensor,
    /// Hidden states of an image encoder `[B, T, image_dim]`, or of two pictures, one after the other,
    /// `[B, 2T, image_dim]`.
    pub image: Option<Tensor>,
    /// Channels that are appended to the latents in every forward pass, `[B, C_in - C_out, F, H, W]`.
    pub latents: Option<Tensor>,
    /// The input of control blocks (VACE).
    pub control: Option<Control>,
    /// Rays of a camera, packed per latent frame, `[B, 24, F, s·H, s·W]` for the spatial factor s of the VAE.
    pub camera: Option<Tensor>,
}

/// The input of a model's control blocks.
#[derive(Debug, Clone)]
pub struct Control {
    /// `[B, C, F, H, W]` of the latents' frames, rows and columns; 96 channels in every released model.
    pub latents: Tensor,
    /// The factor of every hint.
    pub scale: f64,
}

impl Conditioning {
    /// Returns a conditioning on a text alone, `context [B, S, text_dim]`.
    pub fn new(context: Tensor) -> Self {
        Self { context, image: None, latents: None, control: None, camera: None }
    }
}

/// A [`Conditioning`] as one model prepared it for all of its steps. Clones share the tensors and the recording.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The model's own type.
    parts: Arc<dyn Any + Send + Sync>,
    cached_blocks: usize,
    /// The recorded pass; it reads `parts`.
    replay: Replay,
}

impl Prepared {
    fn new(parts: impl Any + Send + Sync, cached_blocks: usize) -> Self {
        Self { parts: Arc::new(parts), cached_blocks, replay: Replay::default() }
    }

    /// The model's own type.
    ///
    /// # Errors
    /// A model of another type prepared it.
    fn parts<T: Any>(&self) -> Result<&T> {
        self.parts.downcast_ref().ok_or(Error::Foreign)
    }

    /// Returns how many blocks have their keys and values in the KV cache: all, or none.
    pub fn cached_blocks(&self) -> usize {
        self.cached_blocks
    }

    /// Whether passes over a small clip on a GPU are replayed as they were recorded (see [`Replay`]).
    pub fn is_recorded(&self) -> bool {
        self.replay.is_recorded()
    }
}
