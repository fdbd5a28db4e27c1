//! The sizes, the schedule and the inputs that the configurations of an LTX-2.x model allow.

use super::parts::{audio_config, dit_config, vae_config};
use crate::families::capabilities::{Capabilities, GuidanceKind, ImageInput, Levels, Limits, Shift, SoundLatents};
use crate::model::Model;
use crate::model::role::Role;
use crate::{Error, Result};
use kinora_audio::ltx::Config as AudioConfig;
use kinora_sampler::DynamicShift;

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
    let takes = [dit.video.channels, dit.audio.channels];
    let makes = [vae.latent_channels, sound.latent_channels * sound.latent_bins()];
    if takes != makes {
        return wrong(format!("its transformer has {takes:?} channels of video and sound, its autoencoders {makes:?}"));
    }
    let scheduler = model.scheduler.clone();
    let (shift, terminal) = if let Some(scheduler) = &scheduler {
        let dynamic = scheduler.dynamic_shift.map(Shift::Dynamic);
        (dynamic.or(scheduler.shift.map(Shift::Fixed)), scheduler.terminal)
    } else {
        let manifest = &model.manifest;
        (Some(Shift::Dynamic(manifest.dynamic_shift.unwrap_or(SHIFT))), manifest.terminal.or(Some(TERMINAL)))
    };
    Ok(Limits {
        latent_format: vae.latent_format(vec![0.0; vae.latent_channels], vec![1.0; vae.latent_channels]),
        patch: [1, 1, 1],
        reach: REACH,
        boundary_timestep: None,
        scheduler,
        capabilities: Capabilities { image: ImageInput::Optional, sound: true, ..Capabilities::default() },
        sound: Some(sound_latents(&sound)),
        shift,
        levels: Levels::Even(terminal),
        guidance: GuidanceKind::Estimates,
    })
}

/// The seconds of a clip of so many latent frames.
fn seconds(latent_frames: usize, fps: f64) -> f64 {
    (latent_frames.saturating_sub(1) * FRAMES + 1) as f64 / fps
}

/// The latents of an audio VAE.
pub(super) fn sound_latents(config: &AudioConfig) -> SoundLatents {
    let rate = config.sample_rate as f64 / (config.mel_hop_length * config.factor()) as f64;
    SoundLatents { channels: config.latent_channels, bins: config.latent_bins(), rate }
}

/// The number of latents of sound of a clip of so many latent frames at the model's frame rate.
pub(super) fn audio_latents(model: &Model, latent_frames: usize) -> Result<usize> {
    Ok(sound_latents(&audio_config(model)?).length(seconds(latent_frames, model.manifest.defaults.fps)))
}
