//! The causal autoencoders of Wan 2.1 and Wan 2.2
//! (<https://github.com/Wan-Video/Wan2.2/blob/main/wan/modules/vae2_1.py> and `vae2_2.py` beside it;
//! <https://arxiv.org/abs/2503.20314>, section 4.1).
//!
//! Everything looks at the present and the past only, so a clip is coded in chunks: its first frame alone, then as many
//! frames as make one latent frame. Every convolution over time keeps the last input frames of the chunk before.
//! Parameters have the original's names; [`canonical_from_diffusers`] translates.

mod blocks;
mod cache;
mod config;
mod decoder;
mod encoder;
mod keys;
mod resample;

use crate::{Error, LatentFormat, Result, StreamDecoder, StreamEncoder, VideoVae};
use blocks::pointwise_conv;
use cache::StreamState;
use candle_core::{DType, Device, Tensor};
pub use config::Config;
use decoder::Decoder;
use encoder::Encoder;
pub use keys::canonical_from_diffusers;
use kinora_checkpoint::Weights;
use kinora_nn::CausalConv3d;
use resample::{patchify, unpatchify};

/// A Wan autoencoder. It computes in the dtype of its weights, which in all of diffusers' examples is f32: in bf16 pixels
/// are off by a few percent.
pub struct WanVae {
    encoder: Encoder,
    to_latents: CausalConv3d,
    from_latents: CausalConv3d,
    decoder: Decoder,
    format: LatentFormat,
    patch: usize,
    device: Device,
    dtype: DType,
}

impl WanVae {
    /// Reads the parameters that `config` asks for.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let z = config.z_dim;
        Ok(Self {
            encoder: Encoder::new(config, &weights.pp("encoder"))?,
            to_latents: pointwise_conv(&weights.pp("conv1"), 2 * z, 2 * z)?,
            from_latents: pointwise_conv(&weights.pp("conv2"), z, z)?,
            decoder: Decoder::new(config, &weights.pp("decoder"))?,
            format: config.latent_format(),
            patch: config.patch(),
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    fn encode_chunk(&self, frames: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let expected_frames = if state.is_first() { 1 } else { self.format.temporal_factor };
        let (factor, shape) = (self.format.spatial_factor, frames.dims());
        let fits = matches!(*shape, [_, 3, f, h, w] if f == expected_frames && h % factor == 0 && w % factor == 0);
        if !fits || shape.contains(&0) {
            let expected = format!("[B, 3, {expected_frames}, a multiple of {factor}, a multiple of {factor}]");
            return Err(Error::Shape { what: "the frames", found: shape.to_vec(), expected });
        }
        let x = patchify(&frames.to_device(&self.device)?.to_dtype(self.dtype)?, self.patch)?;
        let moments = self.to_latents.forward(&self.encoder.forward(&x, state)?, &mut None)?;
        state.finish_chunk();
        let mean = moments.narrow(1, 0, self.format.channels)?; // [B, C, 1, h, w] of [B, 2C, 1, h, w]
        Ok(self.format.normalise(&mean)?)
    }

    fn decode_chunk(&self, latents: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let (channels, shape) = (self.format.channels, latents.dims());
        if !matches!(*shape, [_, c, 1, _, _] if c == channels) || shape.contains(&0) {
            let expected = format!("[B, {channels}, 1, h, w]");
            return Err(Error::Shape { what: "the latents", found: shape.to_vec(), expected });
        }
        let z = self.format.denormalise(&latents.to_device(&self.device)?)?.to_dtype(self.dtype)?;
        let z = self.from_latents.forward(&z, &mut None)?;
        let patches = self.decoder.forward(&z, state)?;
        state.finish_chunk();
        Ok(unpatchify(&patches.to_dtype(DType::F32)?, self.patch)?.clamp(-1f32, 1f32)?)
    }
}

impl VideoVae for WanVae {
    fn latent_format(&self) -> &LatentFormat {
        &self.format
    }

    fn decoder(&self) -> Box<dyn StreamDecoder + '_> {
        Box::new(Stream { vae: self, state: StreamState::default() })
    }

    fn encoder(&self) -> Box<dyn StreamEncoder + '_> {
        Box::new(Stream { vae: self, state: StreamState::default() })
    }
}

/// One clip on its way through the autoencoder, in either direction.
struct Stream<'a> {
    vae: &'a WanVae,
    state: StreamState,
}

impl StreamDecoder for Stream<'_> {
    fn push(&mut self, latents: &Tensor) -> Result<Tensor> {
        self.vae.decode_chunk(latents, &mut self.state)
    }
}

impl StreamEncoder for Stream<'_> {
    fn push(&mut self, frames: &Tensor) -> Result<Tensor> {
        self.vae.encode_chunk(frames, &mut self.state)
    }
}

/// The weights of layer `index` of a stage below `list`: Wan 2.1 counts the layers of all stages through, Wan 2.2
/// nests a list of the same name in each stage.
fn layer_weights(
    config: &Config,
    weights: &Weights,
    list: &str,
    stage: usize,
    layers_per_stage: usize,
    index: usize,
) -> Weights {
    let list_weights = weights.pp(list);
    if config.is_residual {
        list_weights.pp(stage).pp(list).pp(index)
    } else {
        list_weights.pp(stage * layers_per_stage + index)
    }
}
