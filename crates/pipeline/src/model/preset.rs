//! [`Preset`]: the settings with which a distilled model or LoRA was made to run, as TOML from `models/presets`.

use crate::request::sampling::Sampling;
use crate::{Error, Result};
use serde::Deserialize;

/// Settings for a few steps.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The name on the command line.
    pub name: String,
    /// One line that describes it.
    pub title: String,
    /// Words in the names and titles of files that were made for it.
    pub words: Vec<String>,
    /// Settings of denoising, which replace those of the model.
    pub sampling: Sampling,
}

impl Preset {
    /// The name that stands for no preset.
    pub const NONE: &str = "none";

    /// All presets.
    ///
    /// # Panics
    /// If a file that is compiled in is not valid, which a test excludes.
    pub fn known() -> Vec<Self> {
        kinora_models::PRESETS.iter().map(|text| toml::from_str(text).expect("presets are valid")).collect()
    }

    /// The number of its steps.
    pub fn steps(&self) -> usize {
        let listed = self.sampling.sigmas.as_ref().or(self.sampling.timesteps.as_ref()).map(Vec::len);
        listed.or(self.sampling.steps).unwrap_or_default()
    }

    /// The preset of that name.
    ///
    /// # Errors
    /// A name that no preset has.
    pub fn named(name: &str) -> Result<Self> {
        let known = Self::known();
        let names: Vec<String> = known.iter().map(|preset| preset.name.clone()).collect();
        known.into_iter().find(|preset| preset.name == name).ok_or_else(|| {
            Error::request(
                format!("there is no preset `{name}`"),
                format!("these are known: {}, none", names.join(", ")),
            )
        })
    }

    /// The preset whose words are in `name`, the name of a file, letters of any case.
    pub fn suggested_by(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        Self::known().into_iter().find(|preset| preset.words.iter().any(|word| name.contains(word.as_str())))
    }

    /// Sentences about a run with it that has `steps` and is `guided` or not.
    pub(crate) fn notices(&self, steps: usize, guided: bool) -> Vec<String> {
        let name = &self.name;
        let sampler = self.sampling.sampler.map_or_else(String::new, |sampler| format!(" of {sampler}"));
        let run = format!("preset {name}: {steps} steps{sampler}{}", if guided { "" } else { ", without guidance" });
        let warning =
            format!("guidance is on, which takes twice the time: files for {name} were distilled to do without");
        std::iter::once(run).chain(guided.then_some(warning)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_found_by_their_words() {
        for preset in Preset::known() {
            assert_eq!(Preset::named(&preset.name).expect("a preset"), preset);
            assert_eq!(preset.sampling.guidance_scale, Some(1.0), "{}", preset.name);
            assert!((1..=10).contains(&preset.steps()), "{}", preset.name);
            assert!(preset.notices(4, false)[0].contains(" of "), "{:?}", preset.notices(4, false));
            let word = preset.words.first().expect("a word").to_uppercase();
            assert_eq!(Preset::suggested_by(&format!("Wan21_{word}_rank32.safetensors")), Some(preset));
        }
        assert_eq!(Preset::suggested_by("wan2.1_t2v_14B.safetensors"), None);
        assert!(
            Preset::named("lightning-5")
                .is_err_and(|error| error.hint().is_some_and(|hint| hint.contains("lightning-4")))
        );
    }
}
