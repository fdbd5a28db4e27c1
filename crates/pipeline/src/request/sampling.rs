//! [`Sampling`]: the settings of denoising. Each is declared once, in [`settings!`]: its type, what it means (the help of
//! the command too), its key in manifests and recipes, and its option on the command line.
//!
//! CFG-Zero* is of <https://arxiv.org/abs/2503.18886>, guidance intervals are of <https://arxiv.org/abs/2404.07724>.

use crate::request::attention::AttentionChoice;
use crate::request::builders::builders;
use crate::request::cache::CacheChoice;
use kinora_sampler::SamplerKind;
use serde::{Deserialize, Serialize};

/// The guidance interval of all noise levels.
pub(crate) const EVERYWHERE: [f64; 2] = [0.0, 1.0];

/// Declares the struct and the functions that treat every setting alike.
macro_rules! settings {
    ($($(#[doc = $doc:literal])* #[arg($($arg:tt)*)] $name:ident: $type:ty $(= $off:expr)?,)*) => {
        /// How noise becomes latents. `None` leaves a setting to the next layer: the model's mode, then its defaults.
        ///
        /// Flattened into recipes, it keeps the keys of its fields; a table of a manifest has the same ones.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        #[cfg_attr(feature = "clap", derive(clap::Args), command(next_help_heading = "Denoising"))]
        pub struct Sampling {
            $(
                $(#[doc = $doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                #[cfg_attr(feature = "clap", arg($($arg)*))]
                pub $name: Option<$type>,
            )*
        }

        builders! {
            Sampling { $($name: Option<$type>,)* }
        }

        impl Sampling {
            /// The keys of all settings, in the order in which recipes have them.
            pub const KEYS: &[&str] = &[$(stringify!($name)),*];

            /// Key, type and meaning of all settings, for descriptions of interfaces.
            pub const SETTINGS: &[(&str, &str, &str)] = &[$((stringify!($name), stringify!($type), concat!($($doc),*))),*];

            /// Settings that can be off are off: a recipe that leaves them out means that.
            fn off() -> Self {
                Self { $($name: or_nothing!($($off)?),)* }
            }

            /// Takes every setting that is `None` from `fallback`.
            fn or_each(self, fallback: Self) -> Self {
                Self { $($name: self.$name.or(fallback.$name),)* }
            }
        }
    };
}

/// The value if there is one, for repetitions that have one in some rounds.
macro_rules! or_nothing {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

settings! {
    /// Number of denoising steps.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    steps: usize,
    /// Sampler: euler, heun, dpm++2m, unipc, unipc-bh1 or lcm.
    #[arg(long, value_name = "NAME")]
    sampler: SamplerKind,
    /// Shift of the noise schedule.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    shift: f64,
    /// Explicit noise levels, falling from at most 1, such as 1,0.9375,0.8333,0.625.
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with_all = ["steps", "shift"])]
    sigmas: Vec<f64>,
    /// Explicit timesteps, falling from at most 1000, as published for distilled models, such as 1000,937.5,833.3,625.
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with_all = ["steps", "shift", "sigmas"])]
    timesteps: Vec<f64>,
    /// Guidance scale: how strongly the clip follows the prompt; 1 turns guidance off.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    guidance_scale: f64,
    /// Guidance scale of the low-noise expert, for models with two experts.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    guidance_scale_2: f64,
    /// Guidance away from what the network predicts with self-attention left out in a block (STG), for models that have it; 0
    /// turns it off.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    stg_scale: f64,
    /// Guidance of picture and sound away from what each would be without the other, for models that make both; 1 turns it off.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    modality_scale: f64,
    /// Share, from 0 to 1, in which a guided estimate gets the contrast of the unguided one, for models that guide estimates.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    guidance_rescale: f64,
    /// Guidance scale of the sound, for models that make sound.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    audio_guidance_scale: f64,
    /// STG scale of the sound.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    audio_stg_scale: f64,
    /// Modality scale of the sound.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    audio_modality_scale: f64,
    /// Guidance rescale of the sound.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    audio_guidance_rescale: f64,
    /// CFG-Zero*: scale the unconditional prediction optimally, and zero the velocity of the first step.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    cfg_zero_star: bool = false,
    /// Number of first steps whose velocity is zero [default: 1 with --cfg-zero-star, else 0].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    zero_init: usize = 0,
    /// Guide only at noise levels above LOW and up to HIGH, between 0 (clip) and 1 (noise).
    #[arg(long, value_name = "LOW,HIGH", value_parser = parse_interval)]
    guidance_interval: [f64; 2] = EVERYWHERE,
    /// Step cache, which reuses results of earlier steps: first-block, easycache, teacache or magcache, with a threshold
    /// such as first-block:0.05, or none; faster, a different clip [default: none].
    #[arg(long, value_name = "NAME[:X]")]
    cache: CacheChoice = CacheChoice::Off,
    /// Self-attention: dense, or sparse[:KEEP], faster in long clips, a different clip. From each block of 128 tokens, every
    /// head then attends to the fewest blocks that hold 99 % of the estimated softmax, at most to a share KEEP of all
    /// (default 1), and always to the first and the last latent frame and its own block. The first tenth of the steps and
    /// the first transformer block stay dense [default: dense].
    #[arg(long, value_name = "NAME[:KEEP]")]
    attention: AttentionChoice = AttentionChoice::Dense,
}

impl Sampling {
    /// These settings, and those of `fallback` where these say nothing.
    ///
    /// Settings that belong together are replaced together: a number or a list of steps replaces every other, a list the
    /// shift too, and a shift a list; a guidance scale replaces the second expert's, and each scale that of the sound;
    /// CFG-Zero* replaces the number of zeroed steps.
    #[must_use]
    pub fn or(self, fallback: &Self) -> Self {
        let mut fallback = fallback.clone();
        if self.steps.is_some() || self.is_listed() {
            (fallback.steps, fallback.sigmas, fallback.timesteps) = (None, None, None);
        }
        if self.is_listed() {
            fallback.shift = None;
        }
        if self.shift.is_some() {
            (fallback.sigmas, fallback.timesteps) = (None, None);
        }
        if self.guidance_scale.is_some() {
            (fallback.guidance_scale_2, fallback.audio_guidance_scale) = (None, None);
        }
        if self.stg_scale.is_some() {
            fallback.audio_stg_scale = None;
        }
        if self.modality_scale.is_some() {
            fallback.audio_modality_scale = None;
        }
        if self.guidance_rescale.is_some() {
            fallback.audio_guidance_rescale = None;
        }
        if self.cfg_zero_star.is_some() {
            fallback.zero_init = None;
        }
        self.or_each(fallback)
    }

    /// The settings of a recipe as a request says them: without what follows from a list, and off where the recipe is silent.
    pub(crate) fn as_requested(&self) -> Self {
        let listed = self.is_listed();
        let (steps, shift) = (self.steps.filter(|_| !listed), self.shift.filter(|_| !listed));
        Self { steps, shift, ..self.clone() }.complete()
    }

    /// The same, with settings off that are left out and can be off.
    pub(crate) fn complete(self) -> Self {
        self.or_each(Self::off())
    }

    /// Whether the noise levels are listed: `sigmas` or `timesteps`.
    pub fn is_listed(&self) -> bool {
        self.sigmas.is_some() || self.timesteps.is_some()
    }
}

/// Reads a guidance interval such as `0.2,0.9`.
#[cfg(feature = "clap")]
fn parse_interval(text: &str) -> Result<[f64; 2], String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    let pair = numbers.and_then(|numbers| <[f64; 2]>::try_from(numbers).ok());
    pair.ok_or_else(|| format!("`{text}` is not two numbers such as 0.2,0.9"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(steps: usize) -> Sampling {
        Sampling { steps: Some(steps), ..Sampling::default() }
    }

    #[test]
    fn the_first_that_says_a_setting_wins() {
        let request = steps(4);
        let mode = Sampling { shift: Some(7.0), ..steps(30) };
        let defaults = Sampling { shift: Some(3.0), sampler: Some(SamplerKind::UniPc), ..steps(50) };
        let merged = request.or(&mode).or(&defaults);
        assert_eq!(merged, Sampling { shift: Some(7.0), sampler: Some(SamplerKind::UniPc), ..steps(4) });
        assert_eq!(Sampling::default().or(&mode).or(&defaults).steps, Some(30));
        assert_eq!(Sampling::default().or(&Sampling::default()).or(&defaults), defaults);
    }

    #[test]
    fn settings_that_belong_together_are_replaced_together() {
        let listed = Sampling { sigmas: Some(vec![1.0, 0.5]), ..Sampling::default() };
        let counted = Sampling { shift: Some(3.0), ..steps(50) };
        assert_eq!(listed.clone().or(&counted), listed, "a list has its own number and shift");
        assert_eq!(steps(4).or(&listed), steps(4));
        assert_eq!(Sampling { shift: Some(5.0), ..Sampling::default() }.or(&listed).sigmas, None);
        let timesteps = Sampling { timesteps: Some(vec![900.0]), ..Sampling::default() };
        assert_eq!(timesteps.clone().or(&listed), timesteps);
        assert_eq!(Sampling::default().or(&listed), listed);

        let two = Sampling { guidance_scale: Some(4.0), guidance_scale_2: Some(3.0), ..Sampling::default() };
        let one = Sampling { guidance_scale: Some(5.0), ..Sampling::default() };
        assert_eq!(one.clone().or(&two), one, "it is the scale of both experts");
        let second = Sampling { guidance_scale_2: Some(2.0), ..Sampling::default() };
        assert_eq!(second.or(&two), Sampling { guidance_scale_2: Some(2.0), ..two.clone() });

        let sound =
            Sampling { stg_scale: Some(1.0), audio_stg_scale: Some(2.0), modality_scale: Some(3.0), ..two.clone() };
        let sound = Sampling { audio_modality_scale: Some(4.0), audio_guidance_scale: Some(7.0), ..sound };
        let merged = Sampling { stg_scale: Some(0.0), ..one.clone() }.or(&sound);
        assert_eq!((merged.audio_guidance_scale, merged.audio_stg_scale), (None, None), "they are of the sound too");
        assert_eq!((merged.modality_scale, merged.audio_modality_scale), (Some(3.0), Some(4.0)));

        let recorded = Sampling { cfg_zero_star: Some(false), zero_init: Some(0), ..Sampling::default() };
        let zero_star = Sampling { cfg_zero_star: Some(true), ..Sampling::default() };
        assert_eq!(zero_star.clone().or(&recorded), zero_star, "the number of zeroed steps is then its own");
    }

    #[test]
    fn no_cache_replaces_a_cache() {
        let cached: Sampling = serde_json::from_str(r#"{"cache": "easycache:0.1"}"#).expect("settings");
        let off: Sampling = serde_json::from_str(r#"{"cache": "none"}"#).expect("settings");
        assert_eq!(off.clone().or(&cached), off);
        assert!(serde_json::from_str::<Sampling>(r#"{"cashe": "none"}"#).is_err(), "unknown keys are refused");
    }
}
