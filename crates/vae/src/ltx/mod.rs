//! The autoencoders of LTX-2.x
//! (<https://github.com/Lightricks/LTX-2/tree/400fd31054597515f47125691032c04b1c3ee24e/packages/ltx-core/src/ltx_core/model/video_vae>)
//! and the networks that enlarge its latents.
//!
//! A latent stands for 32×32 pixels of 8 frames, the clip's first one for a single frame. The encoder sees present and past
//! frames only. The decoder's convolutions see a frame to come, too, and there are many of them: its first pixels are complete
//! about twenty latent frames later. Both are streamed: every convolution keeps its last two frames, and a residual block those
//! that wait for its result. Inside, frames are `[B, H, W, C]`.
//!
//! Parameters have the original's names, without the `vae` before them in combined files; [`canonical_from_diffusers`] and
//! [`canonical_from_combined`] translate.

mod config;
mod conv;
mod keys;
mod layers;
mod memory;
mod network;
mod read;
mod upsampler;
mod windows;

use crate::window::crop;
use crate::{Error, LatentFormat, Parts, Result, StreamDecoder, StreamEncoder, Tile, VideoVae};
use candle_core::{DType, Device, Tensor};
pub use config::{Block, Config, Padding, Resample};
pub use keys::{canonical_from_combined, canonical_from_diffusers, original};
use kinora_checkpoint::Weights;
use network::{Network, Stream};
pub use upsampler::{LatentUpsampler, UpsamplerConfig, Upsampling, upsampler_names};
use windows::Windows;

/// An LTX-2.x autoencoder. It computes in the dtype of its weights.
pub struct LtxVae {
    encoder: Option<Network>,
    decoder: Option<Network>,
    config: Config,
    format: LatentFormat,
    device: Device,
    dtype: DType,
}

impl LtxVae {
    /// Reads the parameters of `parts`, and the latents' statistics.
    ///
    /// # Errors
    /// A configuration that cannot be built; parameters that are missing or have another shape.
    pub fn new(config: &Config, weights: &Weights, parts: Parts) -> Result<Self> {
        config.validate()?;
        let encoder = (parts != Parts::Decoder).then(|| Network::encoder(config, weights)).transpose()?;
        let decoder = (parts != Parts::Encoder).then(|| Network::decoder(config, weights)).transpose()?;
        let statistics = weights.pp("per_channel_statistics");
        let [mean, std] = ["mean-of-means", "std-of-means"]
            .map(|name| Ok::<_, Error>(statistics.get_dtype(name, config.latent_channels, DType::F32)?.to_vec1()?));
        Ok(Self {
            encoder,
            decoder,
            config: config.clone(),
            format: config.latent_format(mean?, std?),
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// Returns a decoder of whole frames, or of a tile of them.
    fn decoder_of(&self, tile: Option<Tile>) -> Result<Box<dyn StreamDecoder + '_>> {
        let network = self.decoder.as_ref().ok_or(Error::NotLoaded { part: "decoder" })?;
        Ok(Box::new(Decoding { vae: self, network, tile, started: None }))
    }

    /// Returns the windows of a tile, or of the whole, of `latents`, whose shape it checks.
    fn windows(&self, latents: &Tensor, tile: Option<&Tile>) -> Result<Windows> {
        let (channels, shape) = (self.format.channels, latents.dims());
        let wrong = |expected| Error::Shape { what: "the latents", found: shape.to_vec(), expected };
        let least = if self.config.decoder_padding == Padding::Reflect { 2 } else { 1 };
        let &[b, c, 1, h, w] = shape else { return Err(wrong(format!("[B, {channels}, 1, h, w]"))) };
        if c != channels || b == 0 || h.min(w) < least {
            let sides = if least > 1 { format!(" with h and w of {least} or more") } else { String::new() };
            return Err(wrong(format!("[B, {channels}, 1, h, w]{sides}")));
        }
        let tile = tile.cloned().unwrap_or_else(|| Tile::whole(h, w));
        if tile.rows.is_empty() || tile.columns.is_empty() || tile.rows.end > h || tile.columns.end > w {
            let Tile { rows, columns } = tile;
            return Err(wrong(format!("a frame with rows {rows:?} and columns {columns:?} for this tile")));
        }
        Ok(Windows::new(&self.config, [h, w], &tile))
    }

    /// Returns the pixels of patches `[B, H, W, 3·p·p]`, f32 `[B, 3, F, H·p, W·p]`; nothing of no patches.
    fn pixels(&self, patches: Vec<Tensor>) -> Result<Option<Tensor>> {
        if patches.is_empty() {
            return Ok(None);
        }
        let p = self.config.patch_size;
        let frame = |x: Tensor| {
            let (b, h, w, _) = x.dims4()?;
            let x = x.to_dtype(DType::F32)?.clamp(-1f32, 1f32)?.reshape(vec![b, h, w, 3, p, p])?;
            x.permute(vec![0, 3, 1, 4, 2, 5])?.reshape((b, 3, 1, h * p, w * p)) // of [B, 3, H, p, W, p]
        };
        let frames: Vec<Tensor> = patches.into_iter().map(frame).collect::<candle_core::Result<_>>()?;
        Ok(Some(Tensor::cat(&frames, 2)?))
    }

    /// Returns the patches of frame `index` of `frames [B, 3, F, H, W]`: `[B, H/p, W/p, 3·p·p]`, channels in the order colour,
    /// column, row.
    fn patches(&self, frames: &Tensor, index: usize) -> candle_core::Result<Tensor> {
        let (p, (b, c, _, h, w)) = (self.config.patch_size, frames.dims5()?);
        let x = frames.narrow(2, index, 1)?.contiguous()?.reshape(vec![b, c, h / p, p, w / p, p])?;
        x.permute(vec![0, 2, 4, 1, 5, 3])?.reshape((b, h / p, w / p, c * p * p))
    }
}

impl VideoVae for LtxVae {
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
        Ok(Box::new(Encoding { vae: self, network, stream: network.stream(None), is_first: true }))
    }
}

/// The decoding of one clip, or of one tile of it.
struct Decoding<'a> {
    vae: &'a LtxVae,
    network: &'a Network,
    tile: Option<Tile>,
    /// From the first latent frame on: the shape of all, their windows, and the stream.
    started: Option<(Vec<usize>, Windows, Stream)>,
}

impl StreamDecoder for Decoding<'_> {
    fn push(&mut self, latents: &Tensor) -> Result<Option<Tensor>> {
        let (shape, windows, stream) = if let Some(started) = &mut self.started {
            started
        } else {
            let windows = self.vae.windows(latents, self.tile.as_ref())?;
            let stream = self.network.stream(Some(&windows));
            self.started.insert((latents.dims().to_vec(), windows, stream))
        };
        let found = latents.dims();
        if shape.as_slice() != found {
            let expected = format!("{shape:?}, as before");
            return Err(Error::Shape { what: "the latents", found: found.to_vec(), expected });
        }
        let z = self.vae.format.denormalise(&latents.to_device(&self.vae.device)?)?.to_dtype(self.vae.dtype)?;
        let (h, w) = (found[3], found[4]);
        let z = z.squeeze(2)?.permute((0, 2, 3, 1))?.contiguous()?; // [B, h, w, C]
        let patches = self.network.push(crop(z, &[0..h, 0..w], &windows.stages[0])?, stream)?;
        self.vae.pixels(patches)
    }

    fn drain(&mut self) -> Result<Option<Tensor>> {
        let Some((_, _, stream)) = &mut self.started else { return Ok(None) };
        self.vae.pixels(self.network.drain(stream)?)
    }
}

/// The encoding of one clip.
struct Encoding<'a> {
    vae: &'a LtxVae,
    network: &'a Network,
    stream: Stream,
    is_first: bool,
}

impl StreamEncoder for Encoding<'_> {
    fn wanted(&self) -> usize {
        if self.is_first { 1 } else { self.vae.format.temporal_factor }
    }

    fn push(&mut self, frames: &Tensor) -> Result<Tensor> {
        let (wanted, vae) = (self.wanted(), self.vae);
        let (factor, shape) = (vae.format.spatial_factor, frames.dims());
        let least = if vae.config.encoder_padding == Padding::Reflect { 2 * factor } else { factor };
        let fits = |size: usize| size.is_multiple_of(factor) && size >= least;
        if !matches!(*shape, [b, 3, f, h, w] if b > 0 && f == wanted && fits(h) && fits(w)) {
            let expected = format!("[B, 3, {wanted}, a multiple of {factor}, a multiple of {factor}]");
            return Err(Error::Shape { what: "the frames", found: shape.to_vec(), expected });
        }
        let frames = frames.to_device(&vae.device)?.to_dtype(vae.dtype)?;
        let mut latents = Vec::new();
        for index in 0..wanted {
            latents.extend(self.network.push(vae.patches(&frames, index)?, &mut self.stream)?);
        }
        self.is_first = false;
        let [mean] = <[Tensor; 1]>::try_from(latents).map_err(|latents| {
            candle_core::Error::Msg(format!("the encoder made {} latent frames at once", latents.len()))
        })?;
        Ok(vae.format.normalise(&mean.permute((0, 3, 1, 2))?.unsqueeze(2)?)?)
    }
}
