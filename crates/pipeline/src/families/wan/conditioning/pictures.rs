//! Pictures as frames, and what models make of them: hidden states, clean latent frames, condition channels.

use super::Conditioner;
use crate::families::family::ClipEnd;
use crate::plan::Plan;
use crate::run::encode::{Encoding, fitted};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_image_encoder::ImageEncoder;
use kinora_media::{Filter, Fit, Frame, Picture};
use std::collections::BTreeMap;

/// Latent frames that a last frame takes: it is encoded as the second one of the picture, five times.
const LAST_REPEATED: usize = 5;

/// Hidden states `[1, pictures · T, C]` of the `pictures` as they were given, one after another; none of none.
pub(super) fn hidden_states(
    encoder: &dyn ImageEncoder,
    pictures: &[&Picture],
    device: &Device,
) -> Result<Option<Tensor>> {
    let states = |picture: &&Picture| {
        let (width, height) = encoder.resized(picture.width, picture.height);
        let resized = picture.fitted(width, height, Fit::Stretch, Filter::Bicubic)?;
        Ok(encoder.encode(&resized.rgb, width, height, device)?)
    };
    let states = pictures.iter().map(states).collect::<Result<Vec<_>>>()?;
    if states.is_empty() { Ok(None) } else { Ok(Some(Tensor::cat(&states, 1)?)) }
}

impl Conditioner<'_> {
    /// A picture in the clip's size.
    pub(super) fn frame(&self, picture: Picture) -> Result<Frame> {
        let Plan { width, height, inputs, .. } = self.run.plan;
        Ok(fitted(picture, *width, *height, inputs.fit)?.to_frame())
    }

    /// The first frame: the image that is given, or the last frame of the clip before.
    pub(super) fn first_picture(&self) -> Result<Option<Picture>> {
        match (&self.run.plan.inputs.image, self.end) {
            (Some(picture), _) => Ok(Some(kinora_media::read_image(picture)?)),
            (None, Some(ClipEnd::Frames(frames))) => Ok(frames.last().map(Picture::from_frame)),
            (None, _) => Ok(None),
        }
    }

    /// Latent frames without noise, by their position.
    pub(super) fn clean_frames(
        &self,
        first: Option<&Frame>,
        last: Option<&Frame>,
        mut encoding: Encoding,
    ) -> Result<BTreeMap<usize, Tensor>> {
        let frames = self.run.plan.latent_shape[1];
        let mut given = BTreeMap::new();
        let mut put = |start: usize, latents: &Tensor| -> Result<()> {
            for index in 0..latents.dim(2)? {
                given.insert(start + index, latents.narrow(2, index, 1)?);
            }
            Ok(())
        };
        match (self.end, first) {
            (Some(ClipEnd::Latents(latents)), _) => put(0, &latents.to_device(encoding.device)?)?,
            (Some(ClipEnd::Frames(before)), _) if self.run.plan.inputs.image.is_none() => {
                put(0, &encoding.encode(before.len(), |index| Ok(before[index].clone()))?)?;
            }
            (_, Some(first)) => put(0, &encoding.encode(1, |_| Ok(first.clone()))?)?,
            (_, None) => {}
        }
        if let Some(last) = last {
            if frames < 2 {
                let what = "a clip of one latent frame has no last one beside its first";
                return Err(Error::request(what, "ask for at least 5 frames"));
            }
            let latents = encoding.encode(LAST_REPEATED, |_| Ok(last.clone()))?;
            put(frames - 1, &latents.narrow(2, 1, 1)?)?;
        }
        Ok(given)
    }

    /// Condition channels: with a `mask` four channels of it, then the latents of the given frames between grey ones;
    /// without, the latents of the first frame, then zeros.
    pub(super) fn channels(
        &self,
        first: Option<&Frame>,
        last: Option<&Frame>,
        mask: bool,
        mut encoding: Encoding,
    ) -> Result<Tensor> {
        let Plan { width, height, frames, latent_shape: [_, f, h, w], .. } = *self.run.plan;
        if !mask {
            let [c, f, h, w] = self.run.plan.latent_shape;
            let zeros = Tensor::zeros((1, c, f, h, w), DType::F32, encoding.device)?;
            let Some(first) = first else { return Ok(zeros) };
            let first = encoding.encode(1, |_| Ok(first.clone()))?;
            return Ok(if f == 1 { first } else { Tensor::cat(&[&first, &zeros.narrow(2, 1, f - 1)?], 2)? });
        }
        let grey = Frame::new(width, height, vec![0.5; 3 * width * height])?;
        let at = |index: usize| match index {
            0 if first.is_some() => first,
            index if index + 1 == frames => last,
            _ => None,
        };
        let latents = encoding.encode(frames, |index| Ok(at(index).unwrap_or(&grey).clone()))?;
        let given: Vec<bool> = (0..frames).map(|index| at(index).is_some()).collect();
        let mask = mask_channels(&given, encoding.vae.latent_format().temporal_factor, [f, h, w], encoding.device)?;
        Ok(Tensor::cat(&[&mask, &latents], 1)?)
    }
}

/// Which frames are given, as channels: each latent frame stands for `factor` frames, the first for one that counts
/// `factor` times. `[1, factor, F, h, w]`.
fn mask_channels(given: &[bool], factor: usize, [f, h, w]: [usize; 3], device: &Device) -> Result<Tensor> {
    let first = std::iter::repeat_n(given[0], factor);
    let values: Vec<f32> = first.chain(given[1..].iter().copied()).map(|given| f32::from(u8::from(given))).collect();
    let mask = Tensor::from_vec(values, (1, f, factor, 1, 1), device)?.transpose(1, 2)?;
    Ok(mask.broadcast_as((1, factor, f, h, w))?.contiguous()?)
}
