//! [`LatentRgb`]: latents as small pictures without decoding, by a linear map from channels to colours
//! (`models/latent_rgb.toml`).

use crate::{Error, Result};
use candle_core::{D, DType, Device, Tensor};
use kinora_media::{ClipSpec, Fps, Frame, WriteOptions};
use kinora_models::LATENT_RGB;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Previews are enlarged to at least this width.
const NARROWEST: usize = 128;

/// The colours of one kind of latents.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentRgb {
    /// Colour of a latent of zeros, -1..1.
    bias: [f32; 3],
    /// The colour that each channel adds.
    factors: Vec<[f32; 3]>,
}

impl LatentRgb {
    /// The colours of the autoencoder `name`, as manifests name it; `None` for one that has no table.
    #[expect(clippy::missing_panics_doc, reason = "a test reads the compiled-in table")]
    pub fn of(name: &str) -> Option<Self> {
        let mut tables: BTreeMap<String, Self> = toml::from_str(LATENT_RGB).expect("a constant; a test reads it");
        tables.remove(name)
    }

    /// Returns one small frame per latent frame of `latents [1, C, F, h, w]`, which are normalised as the network sees
    /// them; frames are enlarged to at least 128 pixels of width.
    ///
    /// # Errors
    /// Latents of another autoencoder, told by their channels.
    pub fn frames(&self, latents: &Tensor) -> Result<Vec<Frame>> {
        let (_, c, f, h, w) = latents.dims5()?;
        if c != self.factors.len() {
            let what = format!("latents of {c} channels have no colours here, only those of {}", self.factors.len());
            return Err(Error::request(what, "leave the preview out"));
        }
        let x = latents.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.squeeze(0)?.permute((1, 2, 3, 0))?; // [F, h, w, C]
        let factors = Tensor::from_iter(self.factors.iter().flatten().copied(), &Device::Cpu)?.reshape((c, 3))?;
        let rgb = x.reshape((f * h * w, c))?.matmul(&factors)?; // [F·h·w, 3]
        let rgb = rgb.broadcast_add(&Tensor::new(&self.bias, &Device::Cpu)?)?.affine(0.5, 0.5)?.clamp(0f32, 1f32)?;
        let planes = rgb.reshape((f, h, w, 3))?.permute((0, 3, 1, 2))?; // [F, 3, h, w]
        let scale = NARROWEST.div_ceil(w);
        let shape = (f, 3, h, scale, w, scale);
        let large = planes.reshape((f, 3, h, 1, w, 1))?.broadcast_as(shape)?.reshape((f, 3, h * scale, w * scale))?;
        let frame = |index: usize| {
            let data = large.get(index)?.flatten_all()?.to_vec1()?;
            Ok(Frame::new(large.dim(D::Minus1)?, h * scale, data)?)
        };
        (0..f).map(frame).collect()
    }
}

/// Writes `frames` as a small clip, by the extension of `path`: .webp, .gif or .mp4; whole or not at all.
///
/// # Errors
/// A file that cannot be written.
pub fn write_preview(path: &Path, frames: &[Frame], fps: f64) -> Result<()> {
    let Some(first) = frames.first() else { return Ok(()) };
    let spec = ClipSpec { width: first.width, height: first.height, fps: Fps::from_f64(fps)? };
    let mut writer = kinora_media::create(path, &spec, &WriteOptions::default())?;
    frames.iter().try_for_each(|frame| writer.push(frame))?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_autoencoder_has_colours() {
        for (name, channels) in [("embedded", 48), ("wan2.1", 16), ("wan2.2", 48)] {
            assert_eq!(LatentRgb::of(name).map(|colours| colours.factors.len()), Some(channels), "{name}");
        }
        assert_eq!(LatentRgb::of("other"), None);
    }

    #[test]
    fn channels_become_colours() {
        let colours = LatentRgb { bias: [0.0, -1.0, 1.0], factors: vec![[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]] };
        let latents = Tensor::from_vec(vec![1f32, 0.0, 2.0, 0.0], (1, 2, 2, 1, 1), &Device::Cpu).expect("two frames");
        let frames = colours.frames(&latents).expect("two frames");
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[0].width, frames[0].height), (128, 128));
        let at = |frame: &Frame| [0, 1, 2].map(|plane| frame.data[plane * 128 * 128 + 77]);
        // Exact in f32, so compared as bits.
        assert_eq!(at(&frames[0]).map(f32::to_bits), [1f32, 1.0, 0.0].map(f32::to_bits));
        assert_eq!(at(&frames[1]).map(f32::to_bits), [0.5f32, 0.0, 1.0].map(f32::to_bits));
        assert!(matches!(colours.frames(&latents.narrow(1, 0, 1).expect("one")), Err(Error::Request { .. })));
    }
}
