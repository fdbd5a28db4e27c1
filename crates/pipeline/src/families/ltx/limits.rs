//! The sizes, the schedule and the inputs that the configurations of an LTX-2.x model allow.

use super::parts::{audio_config, dit_config, vae_config};
use super::{AUDIO, VIDEO};
use crate::families::capabilities::{
    Capabilities, ClipShape, GuidanceKind, ImageInput, Levels, Limits, Shift, StreamShape,
};
use crate::model::Model;
use crate::model::role::Role;
use crate::{Error, Result};
use kinora_sampler::DynamicShift;

/// Latents of sound in a second, channels, and bins of a channel, of every released model.
const AUDIO_RATE: f64 = 25.0;
const AUDIO_CHANNELS: usize = 8;
pub(super) const AUDIO_BINS: usize = 16;
/// Pixel frames of a latent frame but the first.
const FRAMES: usize = 8;
/// Positions along each axis; the embedding takes any, and lengths are bounded elsewhere.
const REACH: usize = 1 << 20;
/// The shift of released schedulers, by the number of tokens of video, and the noise level that they are stretched to.
const SHIFT: DynamicShift = DynamicShift { tokens: [1024, 4096], log: [0.95, 2.05] };
const TERMINAL: f64 = 0.1;

/// The limits of `model`.
pub(super) fn limits(model: &Model) -> Result<Limits> {
    let (vae, dit) = (vae_config(model)?, dit_config(model, model.component(Role::Transformer)?)?);
    let sound = audio_config(model)?;
    let wrong = |reason: String| Err(Error::NotAModel { path: model.place.clone(), reason });
    if [sound.latent_channels, sound.latent_bins()] != [AUDIO_CHANNELS, AUDIO_BINS] {
        let (channels, bins) = (sound.latent_channels, sound.latent_bins());
        return wrong(format!("its audio VAE has {channels} channels of {bins}, only {AUDIO_CHANNELS} of {AUDIO_BINS} are supported"));
    }
    let takes = [dit.video.channels, dit.audio.channels];
    let makes = [vae.latent_channels, AUDIO_CHANNELS * AUDIO_BINS];
    if takes != makes {
        return wrong(format!("its transformer has {takes:?} channels of video and sound, its autoencoders {makes:?}"));
    }
    let scheduler = model.scheduler.clone();
    let (shift, terminal) = match &scheduler {
        Some(scheduler) => {
            let dynamic = scheduler.dynamic_shift.map(Shift::Dynamic);
            (dynamic.or(scheduler.shift.map(Shift::Fixed)), scheduler.terminal)
        }
        None => {
            let manifest = &model.manifest;
            (Some(Shift::Dynamic(manifest.dynamic_shift.unwrap_or(SHIFT))), manifest.terminal.or(Some(TERMINAL)))
        }
    };
    Ok(Limits {
        latent_format: vae.latent_format(vec![0.0; vae.latent_channels], vec![1.0; vae.latent_channels]),
        patch: [1, 1, 1],
        reach: REACH,
        boundary_timestep: None,
        scheduler,
        capabilities: Capabilities { image: ImageInput::Optional, sound: true, ..Capabilities::default() },
        streams,
        shift,
        levels: Levels::Even(terminal),
        guidance: GuidanceKind::Estimates,
    })
}

/// The seconds of a clip of so many latent frames.
pub(super) fn seconds(latent_frames: usize, fps: f64) -> f64 {
    (latent_frames.saturating_sub(1) * FRAMES + 1) as f64 / fps
}

/// The number of latents of so many seconds of sound: the nearest one, halves to the even one.
pub(super) fn audio_latents(seconds: f64) -> usize {
    ((seconds * AUDIO_RATE).round_ties_even() as usize).max(1)
}

/// The video's stream, then that of the sound.
fn streams(clip: ClipShape) -> Vec<StreamShape> {
    let [c, f, h, w] = clip.latents;
    vec![
        StreamShape { name: VIDEO, shape: vec![1, c, f, h, w] },
        StreamShape { name: AUDIO, shape: vec![1, AUDIO_CHANNELS, audio_latents(clip.seconds), AUDIO_BINS] },
    ]
}
