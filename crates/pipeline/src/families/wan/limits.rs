//! The sizes, the schedule and the inputs that the configurations of a Wan model allow.

use super::files::{dit_config, vae_config};
use crate::families::capabilities::{
    Capabilities, Continuation, GuidanceKind, ImageInput, LastImageInput, Levels, Limits, Shift,
};
use crate::model::Model;
use crate::model::role::Role;
use crate::model::scheduler::Scheduler;
use crate::{Error, Result};
use kinora_dit::wan::WanConfig;

/// Channels of the mask before a model's condition latents.
const MASK_CHANNELS: usize = 4;
/// The rays of a camera per latent frame: six numbers for each of its four pixel frames.
pub(super) const RAY_CHANNELS: usize = 24;
/// The network's timesteps are noise levels times this.
const TIMESTEPS: f64 = 1000.0;
/// Frames that a model of clean latent frames continues from, unless its manifest says latent frames.
const CLEAN_TAIL: usize = 5;
/// Frames that a model with control continues from.
const CONTROL_TAIL: usize = 9;
/// Latent frames that the VAE's encoder looks back on.
const VAE_CONTEXT: usize = 4;

/// The way a transformer is conditioned on images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Images {
    /// It is not.
    None,
    /// As latent frames without noise, whose tokens have a timestep of 0.
    CleanFrames,
    /// As a mask and condition latents in channels of the network's input.
    Channels {
        /// The channels begin with those of a mask.
        mask: bool,
        /// The network also attends to an image encoder's hidden states.
        encoder: bool,
        /// It was trained with two images, the first and the last frame, and no fewer.
        pair: bool,
    },
    /// As frames of the control clip that are kept.
    Control,
}

/// The limits of `model`.
pub(super) fn limits(model: &Model) -> Result<Limits> {
    let (vae, dit) = (vae_config(model)?, dit_config(model, model.component(Role::Transformer)?)?);
    let latent_format = vae.latent_format();
    let images = images_of(model, &dit, latent_format.channels)?;
    if (model.components(Role::Transformer).len() == 2) != boundary(model).is_some() {
        let reason = "two experts and a boundary go together, one of them is missing".to_string();
        return Err(Error::NotAModel { path: model.place.clone(), reason });
    }
    Ok(Limits {
        latent_format,
        patch: dit.patch_size,
        reach: dit.rope_max_seq_len,
        boundary_timestep: boundary(model).map(|boundary| boundary * TIMESTEPS),
        scheduler: model.scheduler.clone().map(Scheduler::plain),
        capabilities: capabilities(images, dit.camera, model.manifest.tail_latents),
        sound: None,
        shift: model.scheduler.as_ref().and_then(|scheduler| scheduler.shift).map(Shift::Fixed),
        levels: Levels::OfSampler,
        guidance: GuidanceKind::Velocities,
    })
}

/// The way that the transformer of `model` is conditioned on images.
pub(super) fn images(model: &Model) -> Result<Images> {
    images_of(
        model,
        &dit_config(model, model.component(Role::Transformer)?)?,
        vae_config(model)?.latent_format().channels,
    )
}

/// Told by the channels that go into the transformer; `channels` are those of the VAE.
fn images_of(model: &Model, dit: &WanConfig, channels: usize) -> Result<Images> {
    let wrong = |reason: String| Err(Error::NotAModel { path: model.place.clone(), reason });
    let (inputs, outputs) = (dit.in_channels, dit.out_channels);
    if outputs != channels || inputs < channels {
        return wrong(format!("its transformer goes from {inputs} to {outputs} channels, its VAE has {channels}"));
    }
    let (encoder, pair) = (dit.image_dim.is_some(), dit.pos_embed_seq_len.is_some());
    Ok(match inputs - channels {
        0 if !dit.vace_layers.is_empty() => Images::Control,
        0 if takes_clean_frames(model) => Images::CleanFrames,
        0 => Images::None,
        extra if extra == channels => Images::Channels { mask: false, encoder, pair },
        extra if extra == channels + MASK_CHANNELS => Images::Channels { mask: true, encoder, pair },
        extra => {
            return wrong(format!("its transformer takes {extra} channels beside the latents, for what is unknown"));
        }
    })
}

/// The noise level (of 1) below which the second expert works.
fn boundary(model: &Model) -> Option<f64> {
    match &model.index {
        Some(index) => index["boundary_ratio"].as_f64(),
        None => model.manifest.boundary.filter(|_| model.components(Role::Transformer).len() == 2),
    }
}

/// Whether latent frames can be given without noise.
fn takes_clean_frames(model: &Model) -> bool {
    model.manifest.clean_frames || model.index.as_ref().is_some_and(|index| index["expand_timesteps"] == true)
}

/// `tail_latents` are the latent frames that a model of clean latent frames was trained to continue from.
fn capabilities(images: Images, camera: bool, tail_latents: Option<usize>) -> Capabilities {
    let trained_tail = tail_latents.map(|frames| Continuation::Latents { frames, context: VAE_CONTEXT });
    let (image, last_image, continuation) = match images {
        Images::None => (ImageInput::No, LastImageInput::No, None),
        Images::CleanFrames => {
            let continuation = trained_tail.unwrap_or(Continuation::Frames(CLEAN_TAIL));
            (ImageInput::Optional, LastImageInput::Alone, Some(continuation))
        }
        Images::Control => (ImageInput::Optional, LastImageInput::Alone, Some(Continuation::Frames(CONTROL_TAIL))),
        Images::Channels { mask, encoder, pair } => {
            let image = if camera { ImageInput::Optional } else { ImageInput::Required };
            let last_image = match (pair, mask && !encoder) {
                (true, _) => LastImageInput::Required,
                (false, true) => LastImageInput::Alone,
                (false, false) => LastImageInput::No,
            };
            (image, last_image, (!pair).then_some(Continuation::Frames(1)))
        }
    };
    Capabilities {
        image,
        last_image,
        control: images == Images::Control,
        camera,
        video: !matches!(images, Images::Channels { .. }),
        continuation,
        sound: false,
        untrained: images == Images::CleanFrames && trained_tail.is_none(),
    }
}
