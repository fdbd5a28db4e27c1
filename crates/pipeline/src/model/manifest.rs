//! Manifests: what a diffusers directory cannot say about a variant, as TOML.
//!
//! The known variants are compiled in from `models/*.toml`; a model directory may carry its own `manifest.toml`.

use crate::families::manifests::KNOWN;
use crate::request::Mode;
use crate::request::sampling::Sampling;
use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// One variant of a model family.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What `--model` calls it.
    pub name: String,
    /// Name of the family that loads it.
    pub family: String,
    /// One line for people.
    pub title: String,
    /// Its repository on the Hugging Face hub, in diffusers' layout.
    #[serde(default)]
    pub repository: Option<String>,
    /// Where it is published, of a model that is not in diffusers' layout.
    #[serde(default)]
    pub page: Option<String>,
    /// SPDX name of the weights' licence.
    pub licence: String,
    /// Rows of the text context: prompts are cut to it and padded with zeros.
    pub text_len: usize,
    /// What it can be given beside a prompt: `image`, `last-image`, `control`, `camera`.
    #[serde(default)]
    pub takes: Vec<String>,
    /// Whether latent frames can be given without noise, their tokens with a time of 0.
    #[serde(default)]
    pub clean_frames: bool,
    /// Latent frames of a clip that the next one continues from, of a model that learned to; others take pixel frames.
    #[serde(default)]
    pub tail_latents: Option<usize>,
    /// Architecture of the VAE where no configuration file says it, by its family's name for it.
    #[serde(default)]
    pub vae: Option<String>,
    /// Two experts: the share of the noise scale at which the low-noise one takes over.
    #[serde(default)]
    pub boundary: Option<f64>,
    /// Configuration of the transformer, in diffusers' words, where no configuration file says it.
    #[serde(default)]
    pub transformer: Option<serde_json::Value>,
    /// What step caches know of it.
    #[serde(default)]
    pub caches: Caches,
    /// Size of its parts.
    pub parameters: Parameters,
    /// What is used where the request says nothing.
    pub defaults: Defaults,
    /// What replaces it in either mode.
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

/// How the change of the embedded timestep tells the change of the prediction.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeaCacheTable {
    /// The usual threshold.
    pub threshold: f64,
    /// Coefficients of the polynomial, highest power first.
    pub coefficients: [f64; 5],
}

/// How the magnitude of what the blocks add changes from step to step.
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

/// Parameters of the parts of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// All experts together.
    pub transformer: u64,
    /// The text encoder.
    pub text_encoder: u64,
    /// Encoder and decoder.
    pub vae: u64,
    /// The image encoder, of models that have one.
    #[serde(default)]
    pub image_encoder: u64,
}

impl Parameters {
    /// All parts together.
    pub fn total(&self) -> u64 {
        self.transformer + self.text_encoder + self.vae + self.image_encoder
    }
}

/// Defaults of a variant.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Pixels; width × height is also the area that `--aspect` keeps.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Pixel frames, 4k + 1.
    pub frames: usize,
    /// Frames per second.
    pub fps: f64,
    /// Below this many steps the result is likely poor, and a notice says so.
    pub fewest_steps: usize,
    /// Settings of denoising; `steps`, `sampler`, `shift` and `guidance_scale` are always there.
    #[serde(flatten, deserialize_with = "complete")]
    pub sampling: Sampling,
    /// The negative prompt.
    #[serde(default)]
    pub negative_prompt: String,
}

/// Reads settings that must leave nothing open.
fn complete<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Sampling, D::Error> {
    let sampling = Sampling::deserialize(deserializer)?;
    let needed = [
        ("steps", sampling.steps.is_some()),
        ("sampler", sampling.sampler.is_some()),
        ("shift", sampling.shift.is_some()),
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
    /// Every downloadable variant that the library knows.
    #[expect(clippy::missing_panics_doc, reason = "a test reads every compiled-in manifest")]
    pub fn known() -> Vec<Self> {
        KNOWN.iter().map(|text| toml::from_str(text).expect("compiled-in manifests parse; a test reads them")).collect()
    }

    /// The manifest of the model that is compiled in, in builds that have one.
    pub fn embedded() -> Option<Self> {
        let name = "manifest.toml";
        let text = crate::model::embedded::file(name)?.read().ok()?;
        Self::parse(std::str::from_utf8(&text).ok()?, Path::new(name)).ok()
    }

    /// Reads `manifest.toml` text found at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let hint = "a model's manifest is optional: correct it, or move it away";
        let bad = |reason: String| Error::BadFile { path: path.to_path_buf(), reason, hint };
        let manifest: Self = toml::from_str(text).map_err(|error| bad(error.message().to_string()))?;
        if !(1..=MOST_TOKENS).contains(&manifest.text_len) {
            return Err(bad(format!("`text_len` is {}, expected 1 to {MOST_TOKENS}", manifest.text_len)));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::FAMILIES;

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
        }
    }

    #[test]
    fn defaults_leave_nothing_open_and_know_every_key() {
        let own = KNOWN[0];
        let refused = |text: &str| Manifest::parse(text, Path::new("m")).expect_err("it is refused").to_string();
        let text = own.replace("\nshift =", "\nshifd =");
        assert!(refused(&text).contains("shif"), "{}", refused(&text));
        let without = own.replacen("\nsampler =", "\n# sampler =", 1);
        assert!(refused(&without).contains("missing field `sampler`"), "{}", refused(&without));
        let more = own.replacen("[defaults]\n", "[defaults]\ncache = \"easycache:0.1\"\n", 1);
        let more = Manifest::parse(&more, Path::new("m")).expect("a default may have every setting");
        assert!(more.defaults.sampling.cache.is_some());
        let text = own.replacen("[defaults]\n", "[defaults]\nfamous = 1\n", 1);
        assert!(refused(&text).contains("famous"), "{}", refused(&text));
    }
}
