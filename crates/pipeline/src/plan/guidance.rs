//! [`Combination`]: how the predictions of a step become one, and with it which passes a step makes.

use super::within::within;
use crate::families::capabilities::{GuidanceKind, Limits, Pass};
use crate::request::sampling::Sampling;
use crate::{Error, Result};
use kinora_sampler::Guidance;

/// How the predictions of a step become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Combination {
    /// The velocities of the prompt and of the negative prompt, by the guidance scale of the step's expert.
    Velocities,
    /// Estimates of x0, by the scales of the first latent stream and of the others.
    Estimates([Guidance; 2]),
}

impl Combination {
    /// The combination of a run with these settings, of which those in `asked` are not the model's own. `cfg` is the guidance
    /// scale.
    pub(super) fn new(asked: &Sampling, settings: &Sampling, cfg: f64, limits: &Limits) -> Result<Self> {
        if limits.guidance == GuidanceKind::Velocities {
            refuse(of_estimates(asked), "the model guides by the guidance scale alone")?;
            return Ok(Self::Velocities);
        }
        if !limits.capabilities.sound {
            refuse(of_sound(asked), "the model makes no sound")?;
        }
        if asked.cfg_zero_star == Some(true) {
            let what = "CFG-Zero* is of velocities, the model guides estimates of the clip";
            return Err(Error::request(what, "leave it out").about(&["cfg_zero_star"]));
        }
        let scale = |name, value: Option<f64>, otherwise| within(name, value.unwrap_or(otherwise), 0.0, 100.0);
        let share = |name, value: Option<f64>, otherwise| within(name, value.unwrap_or(otherwise), 0.0, 1.0);
        let off = Guidance::OFF;
        let video = Guidance {
            cfg,
            stg: scale("STG scale", settings.stg_scale, off.stg)?,
            modality: scale("modality scale", settings.modality_scale, off.modality)?,
            rescale: share("guidance rescale", settings.guidance_rescale, off.rescale)?,
        };
        let audio = Guidance {
            cfg: scale("guidance scale of the sound", settings.audio_guidance_scale, video.cfg)?,
            stg: scale("STG scale of the sound", settings.audio_stg_scale, video.stg)?,
            modality: scale("modality scale of the sound", settings.audio_modality_scale, video.modality)?,
            rescale: share("guidance rescale of the sound", settings.audio_guidance_rescale, video.rescale)?,
        };
        Ok(Self::Estimates([video, audio]))
    }

    /// The passes of a step, in the order in which they are made. `scales` are the guidance scales of the experts that it may be
    /// of.
    pub(super) fn passes(&self, scales: &[f64]) -> Vec<Pass> {
        let [negative, perturbed, isolated] = match self {
            Self::Velocities => [scales.iter().any(|scale| *scale > 1.0), false, false],
            Self::Estimates(streams) => [
                streams.iter().any(|guidance| guidance.cfg > 1.0),
                streams.iter().any(|guidance| guidance.stg > 0.0),
                streams.iter().any(|guidance| guidance.modality > 1.0),
            ],
        };
        let more = [(Pass::Negative, negative), (Pass::Perturbed, perturbed), (Pass::Isolated, isolated)];
        let more = more.into_iter().filter(|(_, made)| *made).map(|(pass, _)| pass);
        std::iter::once(Pass::Prompt).chain(more).collect()
    }

    /// The `settings` with all scales of estimates, as recipes keep them.
    pub(super) fn recorded(&self, settings: Sampling, sound: bool) -> Sampling {
        let Self::Estimates([video, audio]) = self else { return settings };
        let of_sound = |value: f64| sound.then_some(value);
        Sampling {
            stg_scale: Some(video.stg),
            modality_scale: Some(video.modality),
            guidance_rescale: Some(video.rescale),
            audio_guidance_scale: of_sound(audio.cfg),
            audio_stg_scale: of_sound(audio.stg),
            audio_modality_scale: of_sound(audio.modality),
            audio_guidance_rescale: of_sound(audio.rescale),
            ..settings
        }
    }
}

/// A setting by the name of its field, and whether it is given.
type Given = (&'static [&'static str], bool);

fn of_sound(asked: &Sampling) -> [Given; 4] {
    [
        (&["audio_guidance_scale"], asked.audio_guidance_scale.is_some()),
        (&["audio_stg_scale"], asked.audio_stg_scale.is_some()),
        (&["audio_modality_scale"], asked.audio_modality_scale.is_some()),
        (&["audio_guidance_rescale"], asked.audio_guidance_rescale.is_some()),
    ]
}

/// The settings of estimates.
fn of_estimates(asked: &Sampling) -> impl Iterator<Item = Given> {
    let of_all: [Given; 3] = [
        (&["stg_scale"], asked.stg_scale.is_some()),
        (&["modality_scale"], asked.modality_scale.is_some()),
        (&["guidance_rescale"], asked.guidance_rescale.is_some()),
    ];
    of_all.into_iter().chain(of_sound(asked))
}

/// Refuses the first of `settings` that is given.
fn refuse(settings: impl IntoIterator<Item = Given>, why: &str) -> Result<()> {
    let Some((name, _)) = settings.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let what = format!("`{}` does nothing here: {why}", name[0]);
    Err(Error::request(what, "leave it out").about(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_made_for_the_stream_that_needs_it() {
        let estimates = |video, audio| Combination::Estimates([video, audio]).passes(&[1.0]);
        let off = Guidance::OFF;
        assert_eq!(estimates(off, off), [Pass::Prompt]);
        assert_eq!(estimates(off, Guidance { cfg: 7.0, ..off }), [Pass::Prompt, Pass::Negative]);
        assert_eq!(estimates(Guidance { stg: 1.0, ..off }, off), [Pass::Prompt, Pass::Perturbed]);
        let all = Guidance { cfg: 3.0, stg: 1.0, modality: 3.0, rescale: 0.7 };
        assert_eq!(estimates(all, off), [Pass::Prompt, Pass::Negative, Pass::Perturbed, Pass::Isolated]);
        assert_eq!(Combination::Velocities.passes(&[1.0, 3.0]), [Pass::Prompt, Pass::Negative]);
        assert_eq!(Combination::Velocities.passes(&[1.0]), [Pass::Prompt]);
    }
}
