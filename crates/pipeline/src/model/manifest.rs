//! [`Manifest`]: the facts about a variant that a diffusers directory does not contain, as TOML.
//!
//! The known variants are compiled in from `models/*.toml`; a model directory may carry its own `manifest.toml`.

use crate::model::parameters::Parameters;
use crate::request::Mode;
use crate::request::sampling::Sampling;
use crate::{Error, Result};
use kinora_models::MANIFESTS;
use kinora_sampler::DynamicShift;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// One variant of a model family.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name of the variant on the command line.
    pub name: String,
    /// Name of the family that loads it.
    pub family: String,
    /// One line that describes it.
    pub title: String,
    /// The repository on the Hugging Face hub, in diffusers' layout.
    #[serde(default)]
    pub repository: Option<String>,
    /// The web page of a model that is not published in diffusers' layout.
    #[serde(default)]
    pub page: Option<String>,
    /// SPDX name of the weights' licence, or the name that it gives itself.
    pub licence: String,
    /// What the licence forbids or wants to be paid for, in one plain sentence, where it does not let everybody do everything.
    #[serde(default)]
    pub licence_limits: Option<String>,
    /// The web page with the licence's text.
    #[serde(default)]
    pub licence_page: Option<String>,
    /// Whether the licence has to be accepted before the download.
    #[serde(default)]
    pub gated: bool,
    /// Rows of the text context: prompts are cut to it and padded with zeros.
    pub text_len: usize,
    /// All that it can show, of a small model: words of a prompt that its tokenizer spells out are then said to be unknown.
    #[serde(default)]
    pub knows: Option<String>,
    /// The conditioning inputs that it accepts: `image`, `last-image`, `control`, `camera`.
    #[serde(default)]
    pub takes: Vec<String>,
    /// Whether images enter as latent frames without noise, whose tokens have a time of 0.
    #[serde(default)]
    pub clean_frames: bool,
    /// Latent frames that a continuation takes over, of a model that was trained for it; others take pixel frames.
    #[serde(default)]
    pub tail_latents: Option<usize>,
    /// Architecture of the VAE for files without a configuration, by the name that its family uses.
    #[serde(default)]
    pub vae: Option<String>,
    /// The noise level, from 0 to 1, below which the low-noise expert works, of models with two experts.
    #[serde(default)]
    pub boundary: Option<f64>,
    /// The shift of the noise schedule by the number of tokens, for files without a scheduler's configuration.
    #[serde(default)]
    pub dynamic_shift: Option<DynamicShift>,
    /// The noise level that schedules are stretched to, for the same files.
    #[serde(default)]
    pub terminal: Option<f64>,
    /// Configuration of the transformer for files without one, with diffusers' keys.
    #[serde(default)]
    pub transformer: Option<serde_json::Value>,
    /// The transformer's blocks whose self-attention spatio-temporal guidance leaves out.
    #[serde(default)]
    pub stg_blocks: Vec<usize>,
    /// Tables for the step caches.
    #[serde(default)]
    pub caches: Caches,
    /// The preset of a model that was distilled for few steps: its settings are those of requests without a mode.
    #[serde(default)]
    pub preset: Option<String>,
    /// Numbers of parameters.
    pub parameters: Parameters,
    /// Values for everything that a request leaves open.
    pub defaults: Defaults,
    /// The settings of the fast and the quality mode.
    #[serde(default)]
    pub modes: Modes,
}

/// The two sets of settings of a variant: each replaces the defaults that it names.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Modes {
    /// Fast, at some cost in quality.
    pub fast: Sampling,
    /// The best quality.
    pub quality: Sampling,
}

impl Modes {
    /// The same without step caches.
    pub(crate) fn without_caches(self) -> Self {
        let [fast, quality] = [self.fast, self.quality].map(|mode| Sampling { cache: None, ..mode });
        Self { fast, quality }
    }

    /// The settings of `mode`.
    pub fn of(&self, mode: Mode) -> &Sampling {
        match mode {
            Mode::Fast => &self.fast,
            Mode::Quality => &self.quality,
        }
    }
}

/// Tables of the step caches that need one.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caches {
    /// `teacache`, without retention steps.
    #[serde(default)]
    pub teacache: Option<TeaCacheTable>,
    /// `magcache`.
    #[serde(default)]
    pub magcache: Option<MagCacheTable>,
}

/// A polynomial that estimates the change of the prediction from the change of the embedded timestep.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeaCacheTable {
    /// The usual threshold.
    pub threshold: f64,
    /// Coefficients of the polynomial, highest power first.
    pub coefficients: [f64; 5],
}

/// Ratios of the magnitudes of the blocks' residual in consecutive steps.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MagCacheTable {
    /// The usual threshold.
    pub threshold: f64,
    /// The most predictions that are reused in a row.
    pub most_in_a_row: usize,
    /// One ratio per step, for the prompt.
    pub conditional: Vec<f64>,
    /// The same for the negative prompt.
    pub unconditional: Vec<f64>,
}

/// Values of a variant for everything that a request leaves open.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Width in pixels; width × height is also the area that `--aspect` keeps.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Pixel frames: a multiple, plus 1, of those that a latent frame stands for.
    pub frames: usize,
    /// Frames per second.
    pub fps: f64,
    /// The fewest steps without a notice that the result is likely poor.
    pub fewest_steps: usize,
    /// Settings of denoising; `steps`, `sampler` and `guidance_scale` are always there, and `shift` unless the manifest has a
    /// `dynamic_shift`.
    #[serde(flatten, deserialize_with = "complete")]
    pub sampling: Sampling,
    /// The negative prompt.
    #[serde(default)]
    pub negative_prompt: String,
}

/// Reads default settings, in which the necessary ones must not be missing.
fn complete<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Sampling, D::Error> {
    let sampling = Sampling::deserialize(deserializer)?;
    let needed = [
        ("steps", sampling.steps.is_some()),
        ("sampler", sampling.sampler.is_some()),
        ("guidance_scale", sampling.guidance_scale.is_some()),
    ];
    match needed.iter().find(|(_, there)| !there) {
        Some((name, _)) => Err(serde::de::Error::missing_field(name)),
        None => Ok(sampling),
    }
}

/// The longest text context that a manifest may ask for.
const MOST_TOKENS: usize = 1 << 16;

impl Manifest {
    /// Returns every downloadable variant that the library knows.
    #[expect(clippy::missing_panics_doc, reason = "a test reads every compiled-in manifest")]
    pub fn known() -> Vec<Self> {
        MANIFESTS
            .iter()
            .map(|text| toml::from_str(text).expect("compiled-in manifests parse; a test reads them"))
            .collect()
    }

    /// Returns the manifest of the model that is compiled in, in builds that have one.
    pub fn embedded() -> Option<Self> {
        let name = "manifest.toml";
        let text = crate::model::embedded::file(name)?.read().ok()?;
        Self::parse(std::str::from_utf8(&text).ok()?, Path::new(name)).ok()
    }

    /// Reads the text of a `manifest.toml` found at `path`.
    ///
    /// # Errors
    /// TOML that is malformed, or has unknown, missing or impossible values.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let hint = "a model's manifest is optional: correct it, or move it away";
        let bad = |reason: String| Error::bad_file(path, reason, hint);
        let manifest: Self = toml::from_str(text).map_err(|error| bad(error.message().to_string()))?;
        if !(1..=MOST_TOKENS).contains(&manifest.text_len) {
            return Err(bad(format!("`text_len` is {}, expected 1 to {MOST_TOKENS}", manifest.text_len)));
        }
        if manifest.defaults.sampling.shift.is_none() && manifest.dynamic_shift.is_none() {
            return Err(bad("it has neither a default of `shift` nor a `dynamic_shift`".into()));
        }
        if let Some(DynamicShift { tokens: [few, many], .. }) =
            manifest.dynamic_shift.filter(|shift| shift.tokens[0] >= shift.tokens[1])
        {
            return Err(bad(format!("`dynamic_shift` goes from {few} to {many} tokens, expected more of them")));
        }
        if let Some(terminal) = manifest.terminal.filter(|terminal| !(*terminal > 0.0 && *terminal < 1.0)) {
            return Err(bad(format!("`terminal` is {terminal}, expected a noise level between 0 and 1")));
        }
        if let Some(frames @ (0 | 1025..)) = manifest.tail_latents {
            return Err(bad(format!("`tail_latents` is {frames}, expected 1 to 1024")));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::FAMILIES;

    #[test]
    fn impossible_values_are_errors() {
        let text = MANIFESTS[0];
        for (line, value) in [
            ("tail_latents = 0", "`tail_latents` is 0"),
            ("tail_latents = 9999", "`tail_latents` is 9999"),
            ("terminal = 1.5", "`terminal` is 1.5"),
            ("dynamic_shift = { tokens = [64, 64], log = [0.5, 1.0] }", "from 64 to 64 tokens"),
        ] {
            let error =
                Manifest::parse(&format!("{line}\n{text}"), Path::new("manifest.toml")).expect_err("it is refused");
            assert!(error.to_string().contains(value), "{error}");
        }
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn the_embedded_manifest_parses() {
        assert_eq!(Manifest::embedded().map(|manifest| manifest.name).as_deref(), Some("embedded"));
    }

    #[test]
    fn known_manifests_parse_and_are_sane() {
        for manifest in Manifest::known() {
            assert!(FAMILIES.iter().any(|family| family.name() == manifest.family), "{}", manifest.name);
            assert_eq!((manifest.defaults.frames - 1) % 4, 0, "{}", manifest.name);
            assert!(manifest.repository.is_some() != manifest.page.is_some(), "{}", manifest.name);
            assert!(manifest.transformer.is_some() && manifest.vae.is_some());
            assert!(manifest.defaults.sampling.shift.is_some() || manifest.dynamic_shift.is_some());
        }
    }

    #[test]
    fn defaults_leave_nothing_open_and_know_every_key() {
        let own = MANIFESTS[0];
        let refused = |text: &str| Manifest::parse(text, Path::new("m")).expect_err("it is refused").to_string();
        let text = own.replace("\nshift =", "\nshifd =");
        assert!(refused(&text).contains("shif"), "{}", refused(&text));
        let without = own.replacen("\nsampler =", "\n# sampler =", 1);
        assert!(refused(&without).contains("missing field `sampler`"), "{}", refused(&without));
        let without = own.replacen("\nshift =", "\n# shift =", 1);
        assert!(refused(&without).contains("nor a `dynamic_shift`"), "{}", refused(&without));
        let dynamic =
            format!("dynamic_shift = {{ tokens = [1024, 4096], log = [0.95, 2.05] }}\nterminal = 0.1\n{without}");
        assert!(Manifest::parse(&dynamic, Path::new("m")).is_ok());
        let more = own.replacen("[defaults]\n", "[defaults]\ncache = \"easycache:0.1\"\n", 1);
        let more = Manifest::parse(&more, Path::new("m")).expect("a default may have every setting");
        assert!(more.defaults.sampling.cache.is_some());
        let text = own.replacen("[defaults]\n", "[defaults]\nfamous = 1\n", 1);
        assert!(refused(&text).contains("famous"), "{}", refused(&text));
    }
}
