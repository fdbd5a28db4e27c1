//! VACE's control (<https://arxiv.org/abs/2503.07598>): frames to keep and frames to change, a mask, references.

use super::Conditioner;
use crate::families::family::{ClipEnd, Run};
use crate::plan::Plan;
use crate::plan::inputs::{GENERATED, mask_values};
use crate::request::inputs::Expand;
use crate::run::encode::{Encoding, fitted_frame};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_media::{ClipReader, Filter, Fit, Frame, Picture, Readers, Source};
use kinora_vae::LatentFormat;

/// The frames of the control clip with their masks, one after another.
struct ControlFrames<'a> {
    plan: &'a Plan,
    /// Frames that stand at the beginning and are kept.
    begin: &'a [Frame],
    last: Option<&'a Frame>,
    clip: Option<Box<dyn ClipReader>>,
    mask: Option<Mask>,
    next: usize,
}

/// Where the masks of the frames come from.
enum Mask {
    Still(Vec<f32>),
    /// After its end its last mask stays.
    Clip(Box<dyn ClipReader>, Vec<f32>),
}

impl Conditioner<'_> {
    /// Latents of what is kept, of what is changed, and the mask: `[1, 2 · C + s², F, h, w]`, with the references before
    /// them along the frames.
    pub(super) fn control(
        &self,
        first: Option<&Frame>,
        last: Option<&Frame>,
        mut encoding: Encoding,
    ) -> Result<Tensor> {
        let begin: &[Frame] = match (self.end, first) {
            (Some(ClipEnd::Frames(frames)), _) if self.run.plan.inputs.image.is_none() => frames,
            (_, Some(first)) => std::slice::from_ref(first),
            (_, None) => &[],
        };
        let frames = || ControlFrames::open(self.run, begin, last);
        let half = |encoding: &mut Encoding, changed: bool| {
            let mut frames = frames()?;
            encoding.encode(self.run.plan.frames, |_| {
                let (frame, mask) = frames.next()?;
                Ok(masked(frame, &mask, changed))
            })
        };
        let kept = half(&mut encoding, false)?;
        let changed = half(&mut encoding, true)?;
        let latents = Tensor::cat(&[kept, changed], 1)?; // [1, 2·C, F, h, w]
        let mask = self.mask_latents(frames()?, encoding.vae.latent_format(), encoding.device)?;
        self.with_references(Tensor::cat(&[latents, mask], 1)?, encoding)
    }

    /// One channel per pixel that a latent stands for; of the pixel frames the nearest: `[1, s², F, h, w]`.
    fn mask_latents(&self, mut frames: ControlFrames, format: &LatentFormat, device: &Device) -> Result<Tensor> {
        let ([_, f, h, w], count) = (self.run.plan.latent_shape, self.run.plan.frames);
        let s = format.spatial_factor;
        let nearest = |latent: usize| ((2 * latent + 1) * count / (2 * f)).min(count - 1);
        let mut latents = Vec::with_capacity(f);
        for index in 0..count {
            let (_, mask) = frames.next()?;
            while latents.len() < f && nearest(latents.len()) == index {
                let mask = Tensor::from_slice(&mask, (h, s, w, s), &Device::Cpu)?;
                latents.push(mask.permute((1, 3, 0, 2))?.reshape((1, s * s, 1, h, w))?); // [s, s, h, w]
            }
        }
        Ok(Tensor::cat(&latents, 2)?.to_device(device)?)
    }

    fn with_references(&self, control: Tensor, mut encoding: Encoding) -> Result<Tensor> {
        let Plan { width, height, inputs, .. } = self.run.plan;
        let (_, channels, _, h, w) = control.dims5()?;
        let factor = encoding.vae.latent_format().spatial_factor;
        let mut all = vec![control];
        for picture in &inputs.references {
            let frame = on_white(&kinora_media::read_image(picture)?, *width, *height, factor)?;
            let latents = encoding.encode(1, |_| Ok(frame.clone()))?;
            let rest = channels - latents.dim(1)?;
            let zeros = Tensor::zeros((1, rest, 1, h, w), DType::F32, encoding.device)?;
            all.insert(0, Tensor::cat(&[latents, zeros], 1)?); // each before those already there, as in diffusers
        }
        Ok(Tensor::cat(&all, 2)?)
    }
}

impl<'a> ControlFrames<'a> {
    fn open(run: Run<'a>, begin: &'a [Frame], last: Option<&'a Frame>) -> Result<Self> {
        let Run { plan, readers, .. } = run;
        let clip = plan.inputs.control.as_ref().map(|clip| readers.open(clip)).transpose()?;
        let mask = plan.inputs.mask.as_ref().map(|mask| Mask::open(mask, plan, readers)).transpose()?;
        Ok(Self { plan, begin, last, clip, mask, next: 0 })
    }

    /// The next frame, and its mask `[H, W]`: 1 is generated.
    fn next(&mut self) -> Result<(Frame, Vec<f32>)> {
        let Plan { width, height, frames, inputs, .. } = self.plan;
        let (width, height, index) = (*width, *height, self.next);
        self.next += 1;
        let of_clip = self.clip.as_mut().map(|clip| clip.next_frame()).transpose()?.flatten();
        let mask = self.mask.as_mut().map(|mask| mask.next(self.plan)).transpose()?;
        let kept = |frame: &Frame| (frame.clone(), vec![0.0; width * height]);
        if let Some(frame) = self.begin.get(index) {
            return Ok(kept(frame));
        }
        if let Some(last) = self.last.filter(|_| index + 1 == *frames) {
            return Ok(kept(last));
        }
        let Some(frame) = of_clip else {
            // Nothing is known of it: grey, and all of it generated.
            return Ok((grey(width, height)?, vec![1.0; width * height]));
        };
        if let Some(expand) = inputs.expand {
            return expanded(frame, Inner::of(expand, width, height), self.plan, mask.as_deref());
        }
        let mask = mask.unwrap_or_else(|| vec![1.0; width * height]);
        Ok((fitted_frame(frame, width, height, inputs.fit)?, mask))
    }
}

impl Mask {
    fn open(source: &Source, plan: &Plan, readers: &Readers) -> Result<Self> {
        let mut clip = readers.open(source)?;
        let first = clip.next_frame()?;
        let second = clip.next_frame()?;
        match (first, second) {
            (None, _) => {
                let hint = "give a picture, or a clip with a frame for each of the control clip";
                Err(Error::bad_file(source.label(), "it has no frames", hint).about(&["mask"]))
            }
            (Some(still), None) => Ok(Self::Still(values(still, plan)?)),
            (Some(_), Some(_)) => Ok(Self::Clip(readers.open(source)?, Vec::new())),
        }
    }

    /// The mask `[H, W]` of the next frame, 0..1, in the size of the control clip's part of the frame.
    fn next(&mut self, plan: &Plan) -> Result<Vec<f32>> {
        match self {
            Self::Still(mask) => Ok(mask.clone()),
            Self::Clip(clip, last) => {
                if let Some(frame) = clip.next_frame()? {
                    *last = values(frame, plan)?;
                }
                Ok(last.clone())
            }
        }
    }
}

/// The values of a mask, 0..1, in the size of the control clip's part of the frame.
fn values(frame: Frame, plan: &Plan) -> Result<Vec<f32>> {
    let whole = Inner { left: 0, top: 0, width: plan.width, height: plan.height };
    let Inner { width, height, .. } =
        plan.inputs.expand.map_or(whole, |expand| Inner::of(expand, plan.width, plan.height));
    Ok(mask_values(&fitted_frame(frame, width, height, plan.inputs.fit)?).collect())
}

/// The part of `frame` that is generated (`changed`) or kept; the rest is grey, the middle of the VAE's range.
fn masked(mut frame: Frame, mask: &[f32], changed: bool) -> Frame {
    let area = mask.len();
    for (index, value) in frame.data.iter_mut().enumerate() {
        if (mask[index % area] > GENERATED) != changed {
            *value = 0.5;
        }
    }
    frame
}

fn grey(width: usize, height: usize) -> Result<Frame> {
    Ok(Frame::new(width, height, vec![0.5; 3 * width * height])?)
}

/// Where the control clip lies in a larger frame.
#[derive(Debug, Clone, Copy)]
struct Inner {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Inner {
    fn of(expand: Expand, width: usize, height: usize) -> Self {
        let along = |size: usize, before: f64, after: f64| {
            let inner = ((size as f64 / (1.0 + before + after)).round() as usize).clamp(1, size);
            (((inner as f64 * before).round() as usize).min(size - inner), inner)
        };
        let (left, inner_width) = along(width, expand.left, expand.right);
        let (top, inner_height) = along(height, expand.top, expand.bottom);
        Self { left, top, width: inner_width, height: inner_height }
    }
}

/// `frame` in a larger one that is generated around it; `mask` is of its own size.
fn expanded(frame: Frame, inner: Inner, plan: &Plan, mask: Option<&[f32]>) -> Result<(Frame, Vec<f32>)> {
    let (width, height) = (plan.width, plan.height);
    let frame = fitted_frame(frame, inner.width, inner.height, plan.inputs.fit)?;
    let mut whole = grey(width, height)?;
    let mut generated = vec![1.0; width * height];
    for row in 0..inner.height {
        for plane in 0..3 {
            let from = (plane * inner.height + row) * inner.width;
            let to = (plane * height + inner.top + row) * width + inner.left;
            whole.data[to..to + inner.width].copy_from_slice(&frame.data[from..from + inner.width]);
        }
        let to = (inner.top + row) * width + inner.left;
        let generated = &mut generated[to..to + inner.width];
        match mask {
            Some(mask) => generated.copy_from_slice(&mask[row * inner.width..(row + 1) * inner.width]),
            None => generated.fill(0.0),
        }
    }
    Ok((whole, generated))
}

/// A reference within the clip's size, white around it. As in diffusers it is first squeezed to multiples of the VAE's
/// `factor`, then sampled bilinearly.
fn on_white(picture: &Picture, width: usize, height: usize, factor: usize) -> Result<Frame> {
    let whole = |side: usize| (side / factor).max(1) * factor;
    let squeezed = picture.fitted(whole(picture.width), whole(picture.height), Fit::Stretch, Filter::Lanczos)?;
    let frame = squeezed.to_frame();
    let scale = (height as f64 / frame.height as f64).min(width as f64 / frame.width as f64);
    let new_width = ((frame.width as f64 * scale) as usize).max(1);
    let new_height = ((frame.height as f64 * scale) as usize).max(1);
    let (top, left) = ((height - new_height) / 2, (width - new_width) / 2);
    let mut whole = Frame::new(width, height, vec![1.0; 3 * width * height])?;
    let rows: Vec<_> = (0..new_height).map(|row| between(row, new_height, frame.height)).collect();
    let columns: Vec<_> = (0..new_width).map(|column| between(column, new_width, frame.width)).collect();
    for plane in 0..3 {
        let at = |row: usize, column: usize| frame.data[(plane * frame.height + row) * frame.width + column];
        for (y, &(above, below, down)) in rows.iter().enumerate() {
            for (x, &(before, after, right)) in columns.iter().enumerate() {
                let upper = at(above, before) * (1.0 - right) + at(above, after) * right;
                let lower = at(below, before) * (1.0 - right) + at(below, after) * right;
                whole.data[(plane * height + top + y) * width + left + x] = upper * (1.0 - down) + lower * down;
            }
        }
    }
    Ok(whole)
}

/// Where pixel `index` of `new` lies among `old` ones: its neighbours, and the second one's weight.
fn between(index: usize, new: usize, old: usize) -> (usize, usize, f32) {
    let ratio = old as f32 / new as f32;
    let position = ((index as f32 + 0.5) * ratio - 0.5).max(0.0);
    let before = (position as usize).min(old - 1);
    (before, (before + 1).min(old - 1), position - before as f32)
}
