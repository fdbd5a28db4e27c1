//! The causal autoencoders of Wan 2.1 and Wan 2.2
//! (<https://github.com/Wan-Video/Wan2.2/blob/42bf4cfaa384/wan/modules/vae2_1.py> and `vae2_2.py` beside it;
//! <https://arxiv.org/abs/2503.20314>, section 4.1).
//!
//! Every layer depends on present and past frames only, so a clip is coded in chunks: its first frame alone, then as many
//! frames as make one latent frame. Every convolution over time keeps its last input frames in a causal cache.
//! Inside, frames are `[B, H, W, C]`.
//! Parameters have the original's names; [`canonical_from_diffusers`] translates.

mod blocks;
mod cache;
mod config;
mod decoder;
mod encoder;
mod keys;
mod memory;
mod resample;
mod windows;

use crate::{Error, LatentFormat, Parts, Result, StreamDecoder, StreamEncoder, Tile, VideoVae};
use cache::StreamState;
use candle_core::{DType, Device, Tensor};
pub use config::Config;
use decoder::Decoder;
use encoder::Encoder;
pub use keys::canonical_from_diffusers;
use kinora_checkpoint::Weights;
use resample::{patchify, unpatchify};
use windows::Windows;

/// A Wan autoencoder. It computes in the dtype of its weights, which in all of diffusers' examples is f32: in bf16 pixels
/// are off by a few percent.
pub struct WanVae {
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
    config: Config,
    format: LatentFormat,
    device: Device,
    dtype: DType,
}

impl WanVae {
    /// Reads the parameters of `parts`.
    pub fn new(config: &Config, weights: &Weights, parts: Parts) -> Result<Self> {
        config.validate()?;
        let encoder = (parts != Parts::Decoder).then(|| Encoder::new(config, weights)).transpose()?;
        let decoder = (parts != Parts::Encoder).then(|| Decoder::new(config, weights)).transpose()?;
        Ok(Self {
            encoder,
            decoder,
            config: config.clone(),
            format: config.latent_format(),
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// Returns a decoder of whole frames, or of a tile of them.
    fn decoder_of(&self, tile: Option<Tile>) -> Result<Box<dyn StreamDecoder + '_>> {
        let network = self.decoder.as_ref().ok_or(Error::NotLoaded { part: "decoder" })?;
        Ok(Box::new(Decoding { vae: self, network, tile, state: StreamState::default() }))
    }

    /// Pixel frames of the next chunk: the clip's first frame is one alone.
    fn chunk_frames(&self, state: &StreamState) -> usize {
        if state.is_first() { 1 } else { self.format.temporal_factor }
    }

    fn encode_chunk(&self, encoder: &Encoder, frames: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let expected_frames = self.chunk_frames(state);
        let (factor, shape) = (self.format.spatial_factor, frames.dims());
        let fits = matches!(*shape, [_, 3, f, h, w] if f == expected_frames && h % factor == 0 && w % factor == 0);
        if !fits || shape.contains(&0) {
            let expected = format!("[B, 3, {expected_frames}, a multiple of {factor}, a multiple of {factor}]");
            return Err(Error::Shape { what: "the frames", found: shape.to_vec(), expected });
        }
        let x = patchify(&frames.to_device(&self.device)?.to_dtype(self.dtype)?, self.config.patch())?;
        let frames = (0..expected_frames).map(|index| channels_last(&x, index)).collect::<candle_core::Result<_>>()?;
        let moments = encoder.forward(frames, state)?;
        state.finish_chunk();
        let mean = moments.narrow(3, 0, self.format.channels)?; // [B, h, w, C] of [B, h, w, 2C]
        Ok(self.format.normalise(&mean.permute((0, 3, 1, 2))?.unsqueeze(2)?)?)
    }

    fn decode_chunk(
        &self,
        decoder: &Decoder,
        latents: &Tensor,
        tile: Option<&Tile>,
        state: &mut StreamState,
    ) -> Result<Tensor> {
        let (channels, shape) = (self.format.channels, latents.dims());
        let wrong = |expected| Error::Shape { what: "the latents", found: shape.to_vec(), expected };
        let &[_, c, 1, h, w] = shape else { return Err(wrong(format!("[B, {channels}, 1, h, w]"))) };
        if c != channels || shape.contains(&0) {
            return Err(wrong(format!("[B, {channels}, 1, h, w]")));
        }
        let tile = tile.cloned().unwrap_or_else(|| Tile::whole(h, w));
        if tile.rows.is_empty() || tile.columns.is_empty() || tile.rows.end > h || tile.columns.end > w {
            return Err(wrong(format!(
                "a frame with rows {:?} and columns {:?} for this tile",
                tile.rows, tile.columns
            )));
        }
        let windows = Windows::new(&self.config, [h, w], &tile);
        let z = self.format.denormalise(&latents.to_device(&self.device)?)?.to_dtype(self.dtype)?;
        let frames = decoder.forward(&channels_last(&z, 0)?, &windows, state)?;
        state.finish_chunk();
        let pixels = {
            let x = Tensor::stack(&frames, 1)?;
            drop(frames);
            let x = x.permute((0, 4, 1, 2, 3))?.to_dtype(DType::F32)?; // [B, C, F, H, W]
            unpatchify(&x, self.config.patch())?
        };
        Ok(pixels.clamp(-1f32, 1f32)?)
    }
}

impl VideoVae for WanVae {
    fn latent_format(&self) -> &LatentFormat {
        &self.format
    }

    fn decoder(&self) -> Result<Box<dyn StreamDecoder + '_>> {
        self.decoder_of(None)
    }

    fn tile_decoder(&self, tile: &Tile) -> Result<Box<dyn StreamDecoder + '_>> {
        self.decoder_of(Some(tile.clone()))
    }

    fn encoder(&self) -> Result<Box<dyn StreamEncoder + '_>> {
        let network = self.encoder.as_ref().ok_or(Error::NotLoaded { part: "encoder" })?;
        Ok(Box::new(Encoding { vae: self, network, state: StreamState::default() }))
    }
}

/// The decoding of one clip, or of one tile of it.
struct Decoding<'a> {
    vae: &'a WanVae,
    network: &'a Decoder,
    tile: Option<Tile>,
    state: StreamState,
}

impl StreamDecoder for Decoding<'_> {
    fn push(&mut self, latents: &Tensor) -> Result<Option<Tensor>> {
        self.vae.decode_chunk(self.network, latents, self.tile.as_ref(), &mut self.state).map(Some)
    }

    /// Returns nothing: a causal decoder has returned every frame.
    fn drain(&mut self) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// The encoding of one clip.
struct Encoding<'a> {
    vae: &'a WanVae,
    network: &'a Encoder,
    state: StreamState,
}

impl StreamEncoder for Encoding<'_> {
    fn wanted(&self) -> usize {
        self.vae.chunk_frames(&self.state)
    }

    fn push(&mut self, frames: &Tensor) -> Result<Tensor> {
        self.vae.encode_chunk(self.network, frames, &mut self.state)
    }
}

/// Returns one frame `[B, H, W, C]` of `x [B, C, F, H, W]`.
fn channels_last(x: &Tensor, frame: usize) -> candle_core::Result<Tensor> {
    x.narrow(2, frame, 1)?.squeeze(2)?.permute((0, 2, 3, 1))?.contiguous()
}

/// Returns the weights of layer `index` of a stage below `list`: Wan 2.1 numbers the layers of all stages in one list,
/// Wan 2.2 nests a list of the same name in each stage.
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
