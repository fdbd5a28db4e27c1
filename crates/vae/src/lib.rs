//! Video autoencoders, streamed through their causal caches.
//!
//! A [`VideoVae`] turns pixels into latents and back a few frames at a time, so that the memory it needs does not
//! depend on the length of the clip: take a [`StreamDecoder`] or [`StreamEncoder`] and push.

mod error;
mod latent_format;
mod tile;
pub mod wan;

use candle_core::Tensor;
pub use error::{Error, Result};
pub use latent_format::LatentFormat;
pub use tile::Tile;

/// What of an autoencoder to load: each half takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Encoder and decoder.
    Both,
    /// What makes latents of pixels.
    Encoder,
    /// What makes pixels of latents.
    Decoder,
}

/// A video autoencoder. Pixels are -1..1; latents are normalised, as diffusion models see them ([`LatentFormat`]).
pub trait VideoVae: Send + Sync {
    /// Size and scale of the latents.
    fn latent_format(&self) -> &LatentFormat;

    /// A decoder at the start of a clip.
    ///
    /// # Errors
    /// It was not loaded.
    fn decoder(&self) -> Result<Box<dyn StreamDecoder + '_>>;

    /// A decoder of one tile of every frame, at the start of a clip. It takes whole latent frames, `[B, C, 1, h, w]`, and
    /// gives the pixels of the tile alone, `[B, 3, F, H, W]`: those that [`VideoVae::decoder`] has there, up to rounding.
    ///
    /// What a stream holds is mostly its causal caches, which at full resolution are many times as large as a frame: to
    /// save memory, take a clip through the decoder of one tile before the next tile's is made.
    ///
    /// # Errors
    /// It was not loaded. A tile that lies outside of the frames is an error of the first push.
    fn tile_decoder(&self, tile: &Tile) -> Result<Box<dyn StreamDecoder + '_>>;

    /// An encoder at the start of a clip.
    ///
    /// # Errors
    /// It was not loaded.
    fn encoder(&self) -> Result<Box<dyn StreamEncoder + '_>>;

    /// Whole clips at once: `latents [B, C, F, h, w]` → f32 `[B, 3, F', H, W]`, `F'` as
    /// [`LatentFormat::pixel_frames`] says. Holds every frame in memory.
    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let frames = latents.dims5()?.2;
        let mut decoder = self.decoder()?;
        let pixels: Vec<Tensor> =
            (0..frames).map(|frame| decoder.push(&latents.narrow(2, frame, 1)?)).collect::<Result<_>>()?;
        Ok(Tensor::cat(&pixels, 2)?)
    }

    /// Whole clips at once: `frames [B, 3, F, H, W]` → f32 `[B, C, F', h, w]`. `F` is one more than a multiple of the
    /// temporal factor, `H` and `W` are multiples of the spatial factor; anything else is an error.
    fn encode(&self, frames: &Tensor) -> Result<Tensor> {
        let (_, _, count, _, _) = frames.dims5()?;
        let step = self.latent_format().temporal_factor;
        if count % step != 1 % step {
            let expected = format!("a multiple of {step} frames, plus one");
            return Err(Error::Shape { what: "the frames", found: frames.dims().to_vec(), expected });
        }
        let mut encoder = self.encoder()?;
        let mut latents = vec![encoder.push(&frames.narrow(2, 0, 1)?)?];
        for start in (1..count).step_by(step) {
            latents.push(encoder.push(&frames.narrow(2, start, step)?)?);
        }
        Ok(Tensor::cat(&latents, 2)?)
    }
}

/// Decodes one clip, one latent frame at a time. After an error it must not be used any more.
pub trait StreamDecoder {
    /// The next latent frame `[B, C, 1, h, w]` → its pixels, f32 `[B, 3, F, H, W]`: `F` is 1 for the first latent
    /// frame and [`LatentFormat::temporal_factor`] afterwards.
    fn push(&mut self, latents: &Tensor) -> Result<Tensor>;
}

/// Encodes one clip, one latent frame at a time. After an error it must not be used any more.
pub trait StreamEncoder {
    /// The next pixel frames `[B, 3, F, H, W]` → one latent frame, f32 `[B, C, 1, h, w]`: the mean of the encoder's
    /// distribution. `F` is 1 for the first push and [`LatentFormat::temporal_factor`] afterwards.
    fn push(&mut self, frames: &Tensor) -> Result<Tensor>;
}
