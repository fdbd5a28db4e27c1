//! Files for few steps, known by their headers or their names, and the folder of LoRAs.

use super::Model;
use super::loras::{says, words};
use super::preset::Preset;
use crate::request::lora::Lora;
use kinora_checkpoint::{Expert, LoraFile, LoraTarget};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The fields of a header that name the file's content.
const TITLES: [&str; 4] = ["modelspec.title", "ss_output_name", "name", "title"];

/// The preset that a file was made for.
pub(super) struct Recognised {
    preset: Preset,
    /// Whether its header says so; else its name does.
    declared: bool,
}

/// The preset that the titles in a header or the name of the file speak for.
pub(super) fn recognised(path: &Path, header: &BTreeMap<String, String>) -> Option<Recognised> {
    let declared = TITLES.iter().filter_map(|field| header.get(*field)).find_map(|title| Preset::suggested_by(title));
    match declared {
        Some(preset) => Some(Recognised { preset, declared: true }),
        None => Preset::suggested_by(&path.file_stem()?.to_string_lossy())
            .map(|preset| Recognised { preset, declared: false }),
    }
}

impl Model {
    /// Takes the settings of a file for few steps: those of the mode `fast`, and, if its header says that it is one, those of
    /// requests without a mode. Returns a sentence about it; `what` names the file.
    pub(super) fn for_few_steps(&mut self, recognised: &Recognised, what: &str) -> String {
        let Recognised { preset, declared } = recognised;
        self.manifest.modes.fast = preset.sampling.clone();
        self.manifest.defaults.fewest_steps = self.manifest.defaults.fewest_steps.min(preset.steps());
        let name = &preset.name;
        if *declared {
            self.manifest.preset = Some(name.clone());
            format!(
                "{what} says that it is for few steps without guidance: the preset {name} is used, unless you say another, or none"
            )
        } else {
            format!(
                "{what} has the name of one for few steps without guidance: take the preset {name} or the mode fast"
            )
        }
    }
}

/// A LoRA that is given by its name in the folder, with or without `.safetensors`.
pub(super) fn in_folder(lora: &Lora, folder: Option<&Path>) -> Lora {
    let given = || lora.clone();
    let Some(folder) = folder.filter(|_| !lora.file.exists() && lora.file.components().count() == 1) else {
        return given();
    };
    let mut with_extension = lora.file.clone().into_os_string();
    with_extension.push(".safetensors");
    let names = [lora.file.clone(), PathBuf::from(with_extension)];
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.map_or_else(given, |file| Lora { file, ..lora.clone() })
}

/// LoRAs of `folder` for few steps that fit all `targets`, the model's transformers: one, or one for each of two. Of several, the
/// first by name.
pub(super) fn for_few_steps_in(folder: &Path, targets: &[LoraTarget]) -> Vec<Lora> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let known: Vec<(PathBuf, LoraFile, Preset)> = paths
        .into_iter()
        .filter_map(|path| {
            let file = LoraFile::open(&path).ok()?;
            let preset = recognised(&path, file.metadata())?.preset;
            Some((path, file, preset))
        })
        .collect();
    let fits =
        |file: &LoraFile, target: &LoraTarget| file.changes(target, 1.0).is_ok_and(|changes| !changes.is_empty());
    let lora = |path: &PathBuf, expert| Lora { file: path.clone(), strength: 1.0, expert, sha256: None };
    let experts = |path: &Path| Expert::ALL.into_iter().filter(|expert| says(path, *expert)).collect::<Vec<_>>();
    for (path, file, preset) in &known {
        let is_whole = experts(path).len() != 1 || targets.len() == 1;
        if is_whole && targets.iter().all(|target| fits(file, target)) {
            return vec![lora(path, None)];
        }
        let [high, low] = targets else { continue };
        let is_low = |other: &&(PathBuf, LoraFile, Preset)| {
            other.2 == *preset && experts(&other.0) == [Expert::Low] && fits(&other.1, low)
        };
        if experts(path) == [Expert::High]
            && fits(file, high)
            && let Some((second, ..)) = known.iter().find(is_low)
        {
            return vec![lora(path, Some(Expert::High)), lora(second, Some(Expert::Low))];
        }
    }
    Vec::new()
}

/// A sentence about LoRAs that were found in the folder.
pub(super) fn found(loras: &[Lora]) -> Option<String> {
    let names: Vec<String> = loras.iter().map(words).collect();
    (!loras.is_empty())
        .then(|| format!("{} of the folder of LoRAs: for few steps, and fits the model", names.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_before_names() {
        let header = |title: &str| BTreeMap::from([("modelspec.title".to_string(), title.to_string())]);
        let found =
            |name: &str, header| recognised(Path::new(name), &header).map(|found| (found.preset.name, found.declared));
        assert_eq!(found("a.safetensors", header("Lightning strikes over hills")), None);
        assert_eq!(found("x_lightx2v_4steps.safetensors", header("")), Some(("lightx2v-4".into(), false)));
        let both = found("x_lightx2v_4steps.safetensors", header("Wan2.2-Lightning I2V"));
        assert_eq!(both, Some(("lightning-4".into(), true)));
    }

    #[test]
    fn names_without_a_path_are_looked_for_in_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("style.safetensors"), "").expect("a file");
        let of = |name: &str| in_folder(&name.parse().expect("a LoRA"), Some(folder.path())).file;
        assert_eq!(of("style:0.5"), folder.path().join("style.safetensors"));
        assert_eq!(of("style.safetensors"), folder.path().join("style.safetensors"));
        assert_eq!(of("other/style"), Path::new("other/style"));
        assert_eq!(of("missing"), Path::new("missing"));
    }
}
