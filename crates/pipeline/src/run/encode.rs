//! Pixels to latents: clips that are encoded, and the conditioning inputs of a run, a few frames at a time.

use super::event::Event;
use super::observer::Observer;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use kinora_media::{Filter, Fit, Frame, Picture, Readers, Source};
use kinora_vae::{LatentFormat, VideoVae};

/// A VAE's encoder at work.
pub(crate) struct Encoding<'a, 'b> {
    pub vae: &'a dyn VideoVae,
    pub device: &'a Device,
    /// The frames' origin, for errors.
    pub source: &'static str,
    pub observer: &'a mut Observer<'b>,
}

impl Encoding<'_, '_> {
    /// Encodes `count` frames, as many as make whole latent frames, which `frame` gives one after another: latents
    /// `[1, C, F, h, w]`.
    ///
    /// # Errors
    /// An error of `frame`, NaN or infinite values, and a stop.
    pub(crate) fn encode(&mut self, count: usize, mut frame: impl FnMut(usize) -> Result<Frame>) -> Result<Tensor> {
        let mut frames = (0..count).map(&mut frame);
        let (latents, _) = self.encode_all(Some(count), || frames.next().transpose())?;
        Ok(Tensor::cat(&latents, 2)?)
    }

    /// Encodes every frame until there is no more: the latent frames, and the number of frames at the end that did not
    /// fill one. `total` is how many there will be, if that is known.
    fn encode_all(
        &mut self,
        total: Option<usize>,
        mut next: impl FnMut() -> Result<Option<Frame>>,
    ) -> Result<(Vec<Tensor>, usize)> {
        let mut encoder = self.vae.encoder()?;
        let (mut latents, mut done) = (Vec::new(), 0);
        loop {
            let wanted = encoder.wanted();
            let frames = (0..wanted).map_while(|_| next().transpose()).collect::<Result<Vec<Frame>>>()?;
            if frames.len() < wanted {
                return Ok((latents, frames.len()));
            }
            done += wanted;
            let (pixels, source) = (to_pixels(&frames, self.device)?, self.source);
            kinora_sampler::check_finite(&pixels, || format!("{source}, up to frame {done},"))?;
            let encoded = encoder.push(&pixels)?;
            kinora_sampler::check_finite(&encoded, || format!("the latents of {source}, up to frame {done},"))?;
            latents.push(encoded);
            self.observer.tell(Event::Frames { done, total: total.unwrap_or(done) })?;
        }
    }
}

/// Encodes the clip: latents `[1, C, F, h, w]` f32, and its frames per second. Frames at the end that
/// do not fill a latent frame are left out.
///
/// # Errors
/// A clip that cannot be read, has no frames or a size that the VAE does not take, and a stop.
pub(crate) fn encode_clip(
    vae: &dyn VideoVae,
    readers: &Readers,
    clip: &Source,
    device: &Device,
    observer: &mut Observer,
) -> Result<(Tensor, f64)> {
    let (mut clip, path) = (readers.open(clip)?, clip.label());
    for note in crate::plan::inputs::named(&path, &clip.notes()) {
        observer.tell(Event::Notice(&note))?;
    }
    if clip.sound().is_some() {
        let said = crate::plan::inputs::said_of(&path, "its sound is not kept: latents have none");
        observer.tell(Event::Notice(&said))?;
    }
    let LatentFormat { spatial_factor, temporal_factor, .. } = *vae.latent_format();
    let (spec, total) = (clip.spec(), clip.frames());
    let fits = |size: usize| size > 0 && size.is_multiple_of(spatial_factor);
    if !fits(spec.width) || !fits(spec.height) {
        let what = format!("a clip of {}×{} cannot be encoded", spec.width, spec.height);
        return Err(Error::request(
            what,
            format!("this VAE needs multiples of {spatial_factor}: crop or scale the clip first"),
        ));
    }
    let mut encoding = Encoding { vae, device, source: "the clip", observer };
    let (latents, left_out) = encoding.encode_all(total, || Ok(clip.next_frame()?))?;
    if left_out > 0 {
        let text = format!("the last {left_out} frames are left out: latents stand for {temporal_factor}k + 1");
        observer.tell_last(Event::Notice(&text)); // everything is encoded
    }
    if latents.is_empty() {
        let hint = "give a clip with at least one frame";
        return Err(Error::bad_file(path, "it has no frames", hint));
    }
    Ok((Tensor::cat(&latents, 2)?, spec.fps.as_f64()))
}

/// A picture in the size of a clip, resized as diffusers does it; one of the right size keeps its values.
pub(crate) fn fitted(picture: Picture, width: usize, height: usize, fit: Fit) -> Result<Picture> {
    if (picture.width, picture.height) == (width, height) {
        return Ok(picture);
    }
    Ok(picture.fitted(width, height, fit, Filter::Lanczos)?)
}

/// A frame in the size of a clip, as [`fitted`].
pub(crate) fn fitted_frame(frame: Frame, width: usize, height: usize, fit: Fit) -> Result<Frame> {
    if (frame.width, frame.height) == (width, height) {
        return Ok(frame);
    }
    Ok(fitted(Picture::from_frame(&frame), width, height, fit)?.to_frame())
}

/// Frames in 0..1 to pixels `[1, 3, F, H, W]` in -1..1.
fn to_pixels(frames: &[Frame], device: &Device) -> Result<Tensor> {
    let planes = |frame: &Frame| Tensor::from_slice(&frame.data, (1, 3, 1, frame.height, frame.width), device);
    let frames = frames.iter().map(planes).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(((Tensor::cat(&frames, 2)? * 2.0)? - 1.0)?)
}
