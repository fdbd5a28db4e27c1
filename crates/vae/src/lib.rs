//! Video autoencoders, streamed through what their convolutions keep of other frames.
//!
//! A [`VideoVae`] turns pixels into latents and back a few frames at a time, so that the memory it needs does not
//! depend on the length of the clip: take a [`StreamDecoder`] or [`StreamEncoder`], push frame after frame, and finish.

mod error;
mod latent_format;
pub mod ltx;
mod tile;
pub mod wan;
mod window;

use candle_core::Tensor;
pub use error::{Error, Result};
pub use latent_format::LatentFormat;
pub use tile::Tile;

/// The halves of an autoencoder that are loaded; each takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Encoder and decoder.
    Both,
    /// The half that makes latents of pixels.
    Encoder,
    /// The half that makes pixels of latents.
    Decoder,
}

/// A video autoencoder. Pixels are -1..1; latents are normalised, as diffusion models see them ([`LatentFormat`]).
pub trait VideoVae: Send + Sync {
    /// Size and scale of the latents.
    fn latent_format(&self) -> &LatentFormat;

    /// Returns a decoder at the start of a clip.
    ///
    /// # Errors
    /// The decoder was not loaded.
    fn decoder(&self) -> Result<Box<dyn StreamDecoder + '_>>;

    /// Returns a decoder of one tile of every frame, at the start of a clip. It takes whole latent frames,
    /// `[B, C, 1, h, w]`, and returns the pixels of the tile alone, `[B, 3, F, H, W]`: the same as [`VideoVae::decoder`]
    /// returns there, up to rounding.
    ///
    /// Most of a stream's memory are its causal caches, which at full resolution are many times as large as a frame: to
    /// save memory, decode the whole clip with one tile's decoder before the next tile's is made.
    ///
    /// # Errors
    /// The decoder was not loaded. A tile that lies outside the frames is an error of the first push.
    fn tile_decoder(&self, tile: &Tile) -> Result<Box<dyn StreamDecoder + '_>>;

    /// Returns an encoder at the start of a clip.
    ///
    /// # Errors
    /// The encoder was not loaded.
    fn encoder(&self) -> Result<Box<dyn StreamEncoder + '_>>;

    /// Decodes whole clips at once: `latents [B, C, F, h, w]` → f32 `[B, 3, F', H, W]`, where `F'` is
    /// [`LatentFormat::pixel_frames`]. Holds every frame in memory.
    ///
    /// # Errors
    /// As [`VideoVae::decoder`] and [`StreamDecoder::push`].
    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let frames = latents.dims5()?.2;
        let mut decoder = self.decoder()?;
        let mut pixels = Vec::new();
        for frame in 0..frames {
            pixels.extend(decoder.push(&latents.narrow(2, frame, 1)?)?);
        }
        while let Some(rest) = decoder.drain()? {
            pixels.push(rest);
        }
        Ok(Tensor::cat(&pixels, 2)?)
    }

    /// Encodes whole clips at once: `frames [B, 3, F, H, W]` → f32 `[B, C, F', h, w]`. `F` is one more than a multiple of
    /// the temporal factor, `H` and `W` are multiples of the spatial factor.
    ///
    /// # Errors
    /// Frames of another shape; otherwise as [`VideoVae::encoder`] and [`StreamEncoder::push`].
    fn encode(&self, frames: &Tensor) -> Result<Tensor> {
        let (_, _, count, _, _) = frames.dims5()?;
        let format = self.latent_format();
        if count == 0 || format.pixel_frames(format.latent_frames(count)) != count {
            let expected = format!("a multiple of {} frames, plus one", format.temporal_factor);
            return Err(Error::Shape { what: "the frames", found: frames.dims().to_vec(), expected });
        }
        let mut encoder = self.encoder()?;
        let (mut latents, mut done) = (Vec::new(), 0);
        while done < count {
            let wanted = encoder.wanted();
            latents.push(encoder.push(&frames.narrow(2, done, wanted)?)?);
            done += wanted;
        }
        Ok(Tensor::cat(&latents, 2)?)
    }
}

/// Decodes one clip, one latent frame at a time. After an error it must not be used any more.
///
/// A causal decoder returns the pixels of a latent frame at once. One that looks ahead returns them later: nothing for its
/// first latent frames, and the rest from [`StreamDecoder::drain`] or [`StreamDecoder::finish`]. Over a whole clip both return
/// as many frames as [`LatentFormat::pixel_frames`] says.
pub trait StreamDecoder {
    /// Takes the next latent frame `[B, C, 1, h, w]` and returns the pixels that are complete with it, f32
    /// `[B, 3, F, H, W]` in the order of the clip, if there are any.
    ///
    /// # Errors
    /// Latents of another shape, or of another size than those before; or whatever candle fails on.
    fn push(&mut self, latents: &Tensor) -> Result<Option<Tensor>>;

    /// Ends the clip when it is called first. Returns the next of the pixels that [`StreamDecoder::push`] has not returned,
    /// f32 `[B, 3, F, H, W]`, about as many at a time, until there are none left.
    ///
    /// # Errors
    /// Whatever candle fails on.
    fn drain(&mut self) -> Result<Option<Tensor>>;

    /// Ends the clip and returns all of its last pixels, f32 `[B, 3, F, H, W]`, if there are any. They may be many: a decoder
    /// that looks far ahead has most of a short clip left, which [`StreamDecoder::drain`] returns a few frames at a time.
    ///
    /// # Errors
    /// As [`StreamDecoder::drain`].
    fn finish(mut self: Box<Self>) -> Result<Option<Tensor>> {
        let mut rest = Vec::new();
        while let Some(pixels) = self.drain()? {
            rest.push(pixels);
        }
        Ok(if rest.is_empty() { None } else { Some(Tensor::cat(&rest, 2)?) })
    }
}

/// Encodes one clip, one latent frame at a time. After an error it must not be used any more.
pub trait StreamEncoder {
    /// Returns how many pixel frames the next push takes.
    fn wanted(&self) -> usize;

    /// Takes the next [`StreamEncoder::wanted`] pixel frames `[B, 3, F, H, W]` and returns one latent frame, f32
    /// `[B, C, 1, h, w]`: the mean of the encoder's distribution.
    ///
    /// # Errors
    /// Frames of another shape; or whatever candle fails on.
    fn push(&mut self, frames: &Tensor) -> Result<Tensor>;
}
