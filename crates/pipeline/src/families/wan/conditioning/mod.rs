//! The conditioning inputs of a run beside its text, encoded before the first step: pictures, clips and a camera.
//!
//! After diffusers' pipelines `pipeline_wan_i2v.py`, `pipeline_wan_vace.py` and `pipeline_wan_video2video.py`
//! (<https://github.com/huggingface/diffusers/tree/v0.42.1/src/diffusers/pipelines/wan>).

mod control;
mod pictures;

use super::files::{Wan, load_image_encoder};
use super::limits::Images;
use crate::families::family::{ClipEnd, Family, Run, Tensors};
use crate::plan::Plan;
use crate::plan::placement::Placement;
use crate::run::encode::{Encoding, fitted_frame};
use crate::run::observer::Observer;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_camera::{Camera, CameraMove};
use kinora_dit::{Conditioning, Control};
use kinora_media::Source;
use kinora_vae::Parts;
use std::collections::BTreeMap;

/// Everything that a prediction is conditioned on beside its text.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    /// Hidden states of the image encoder, `[1, T, image_dim]`.
    pub image: Option<Tensor>,
    /// Channels appended to the latents, `[1, C', F, h, w]`.
    pub latents: Option<Tensor>,
    /// Latents of the control clip and its mask, `[1, C', F, h, w]`.
    pub control: Option<Tensor>,
    /// Packed rays of the camera, `[1, 24, F, H, W]`.
    pub camera: Option<Tensor>,
    /// Latent frames that are given without noise.
    pub clean: Option<Clean>,
    /// Latents that the run starts from, noised, `[1, C, F, h, w]`.
    pub start: Option<Tensor>,
}

/// Latent frames that are given without noise: their tokens have a time of 0.
#[derive(Debug, Clone)]
pub(super) struct Clean {
    /// `[1, C, F, h, w]` f32, zero where nothing is given.
    latents: Tensor,
    /// 1 where a frame is given, `[1, 1, F, 1, 1]` f32.
    given: Tensor,
}

impl Clean {
    /// `frames` are positions and latents `[1, C, 1, h, w]`; `shape` is that of the clip, `[C, F, h, w]`.
    fn new(frames: &BTreeMap<usize, Tensor>, [c, f, h, w]: [usize; 4], device: &Device) -> Result<Self> {
        let zeros = Tensor::zeros((1, c, 1, h, w), DType::F32, device)?;
        let latents: Vec<&Tensor> = (0..f).map(|frame| frames.get(&frame).unwrap_or(&zeros)).collect();
        let given: Vec<f32> = (0..f).map(|frame| f32::from(u8::from(frames.contains_key(&frame)))).collect();
        Ok(Self { latents: Tensor::cat(&latents, 2)?, given: Tensor::from_vec(given, (1, 1, f, 1, 1), device)? })
    }

    /// `x [1, C, F, h, w]` with the given frames in their places.
    pub(super) fn put_into(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let free = self.given.affine(-1.0, 1.0)?;
        &self.latents + x.broadcast_mul(&free)?
    }

    /// The timestep of every token `[1, L]`: 0 in given frames, `timestep` elsewhere; `tokens` are those of one latent
    /// frame, and a token is one frame long.
    pub(super) fn timesteps(&self, timestep: f64, tokens: usize) -> candle_core::Result<Tensor> {
        let frames = self.given.flatten_all()?.affine(-timestep, timestep)?; // [F]
        let f = frames.elem_count();
        frames.reshape((f, 1))?.broadcast_as((f, tokens))?.reshape((1, f * tokens))
    }
}

impl Conditions {
    /// The network's conditioning with `context [1, S, C]`, in `dtype`.
    pub(super) fn with_text(&self, context: Tensor, plan: &Plan, dtype: DType) -> candle_core::Result<Conditioning> {
        let cast = |tensor: &Option<Tensor>| tensor.as_ref().map(|tensor| tensor.to_dtype(dtype)).transpose();
        let control = cast(&self.control)?;
        Ok(Conditioning {
            context,
            image: cast(&self.image)?,
            latents: cast(&self.latents)?,
            control: control.map(|latents| Control { latents, scale: plan.inputs.control_scale.unwrap_or(1.0) }),
            camera: cast(&self.camera)?,
        })
    }

    /// Names and tensors, to be kept.
    pub(super) fn tensors(&self) -> Tensors {
        let named = [
            ("image", self.image.as_ref()),
            ("latents", self.latents.as_ref()),
            ("control", self.control.as_ref()),
            ("camera", self.camera.as_ref()),
            ("clean.latents", self.clean.as_ref().map(|clean| &clean.latents)),
            ("clean.given", self.clean.as_ref().map(|clean| &clean.given)),
            ("start", self.start.as_ref()),
        ];
        named.into_iter().filter_map(|(name, tensor)| Some((name.to_string(), tensor?.clone()))).collect()
    }

    /// The inverse of [`Conditions::tensors`].
    pub(super) fn restored(mut tensors: Tensors, device: &Device) -> Result<Self> {
        let mut take = |name: &str| tensors.remove(name).map(|tensor| tensor.to_device(device)).transpose();
        let clean = match (take("clean.latents")?, take("clean.given")?) {
            (Some(latents), Some(given)) => Some((latents, given)),
            (None, None) => None,
            _ => {
                let what = "the kept conditioning has one of `clean.latents` and `clean.given`, not both";
                return Err(Error::request(what, "delete the directory of the run to start anew").about(&["resume"]));
            }
        };
        Ok(Self {
            image: take("image")?,
            latents: take("latents")?,
            control: take("control")?,
            camera: take("camera")?,
            clean: clean.map(|(latents, given)| Clean { latents, given }),
            start: take("start")?,
        })
    }
}

/// Whether a run of `plan` that continues `end` has anything to encode.
pub(super) fn is_needed(plan: &Plan, end: Option<&ClipEnd>) -> bool {
    let Plan { inputs, capabilities, .. } = plan;
    let pictures = inputs.image.is_some() || inputs.last_image.is_some() || end.is_some();
    pictures || inputs.video.is_some() || capabilities.control || capabilities.camera
}

/// Encodes the conditions of one run; the encoders are in memory only as long as they work.
pub(super) struct Conditioner<'a> {
    pub run: Run<'a>,
    /// The end of the clip that this one continues.
    pub end: Option<&'a ClipEnd>,
    /// The way that the transformer is conditioned on images.
    pub images: Images,
}

impl Conditioner<'_> {
    /// Everything that the plan asks for.
    pub(super) fn encode(&self, observer: &mut Observer) -> Result<Conditions> {
        let mut conditions = Conditions::default();
        let Run { model, placement, plan, warm, .. } = self.run;
        let first = self.first_picture()?;
        let last = plan.inputs.last_image.as_ref().map(kinora_media::read_image).transpose()?;
        if matches!(self.images, Images::Channels { encoder: true, .. }) {
            let encoder = load_image_encoder(model, placement)?;
            let pictures: Vec<_> = first.iter().chain(&last).collect();
            conditions.image = pictures::hidden_states(&encoder, &pictures, &placement.device)?;
        }
        let first = first.map(|picture| self.frame(picture)).transpose()?;
        let last = last.map(|picture| self.frame(picture)).transpose()?;
        let vae = warm.vae(Parts::Encoder, || Wan.vae(model, Parts::Encoder, placement))?;
        let mut encoding =
            Encoding { vae: vae.as_ref(), device: &placement.device, source: "the conditioning inputs", observer };
        if let Some(clip) = &plan.inputs.video {
            conditions.start = Some(self.start(clip, &mut encoding)?);
        }
        match self.images {
            Images::None => {}
            Images::CleanFrames => {
                let frames = self.clean_frames(first.as_ref(), last.as_ref(), encoding)?;
                let clean = Clean::new(&frames, plan.latent_shape, &placement.device)?;
                conditions.clean = (!frames.is_empty()).then_some(clean);
            }
            Images::Channels { mask, .. } => {
                conditions.latents = Some(self.channels(first.as_ref(), last.as_ref(), mask, encoding)?);
            }
            Images::Control => conditions.control = Some(self.control(first.as_ref(), last.as_ref(), encoding)?),
        }
        if plan.capabilities.camera {
            conditions.camera = Some(self.camera()?);
        }
        Ok(conditions)
    }

    /// Latents of the clip that is changed.
    fn start(&self, source: &Source, encoding: &mut Encoding) -> Result<Tensor> {
        let Plan { width, height, frames, inputs, .. } = self.run.plan;
        let mut clip = self.run.readers.open(source)?;
        encoding.encode(*frames, |index| {
            let frame = clip.next_frame()?.ok_or_else(|| too_short(source, index, *frames))?;
            fitted_frame(frame, *width, *height, inputs.fit)
        })
    }

    /// Rays of the camera's path; of a camera that stands still where there is none, or its move is in the prompt.
    fn camera(&self) -> Result<Tensor> {
        let Plan { width, height, frames, fps, temporal_factor, inputs, capabilities, .. } = self.run.plan;
        let still = Camera::Move(CameraMove::default());
        let asked = inputs.camera.as_ref().filter(|_| !inputs.says_camera(*capabilities));
        let trajectory = asked.unwrap_or(&still).trajectory(*frames, *fps)?;
        let Placement { dtype, device, .. } = self.run.placement;
        Ok(trajectory.packed(*width, *height, *temporal_factor, (*dtype, device))?)
    }
}

/// A clip ended before the frame `index` of the `wanted` ones.
fn too_short(source: &Source, index: usize, wanted: usize) -> Error {
    let reason = format!("it has {index} frames, {wanted} are needed");
    Error::bad_file(source.label(), reason, "ask for fewer, or give a longer clip").about(&["frames"])
}
