//! LoRAs of a model: opened, checked, and resolved to what they change of each transformer.

use super::Model;
use super::few_steps::{for_few_steps_in, found, in_folder, recognised};
use super::role::Role;
use crate::families::family::Family;
use crate::request::load::LoadOptions;
use crate::request::lora::Lora;
use crate::{Error, Result};
use kinora_checkpoint::{Changes, Expert, LoraDescription, LoraFile, TensorFile, is_lora};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// What is read of a file at a time, in bytes.
const PIECE: usize = 1 << 20;

impl Model {
    /// The LoRAs that change its transformers, with absolute paths and hashes.
    pub(crate) fn loras(&self) -> &[Lora] {
        &self.loras
    }

    /// Changes the transformers by the LoRAs of `options`; returns what the user should know of them.
    ///
    /// # Errors
    /// A file that cannot be read, is not the recorded one, or does not fit the model, and an expert of a model that has none.
    pub(crate) fn add_loras(&mut self, options: &LoadOptions, family: &dyn Family) -> Result<Vec<String>> {
        let transformers = self.components(Role::Transformer);
        let experts: &[Option<Expert>] = match transformers.len() {
            2 => &Expert::ALL.map(Some),
            _ => &[None],
        };
        let mut targets = Vec::new();
        for (transformer, expert) in transformers.iter().zip(experts) {
            if options.few_steps || !options.loras.is_empty() {
                targets.push(family.lora_target(self, transformer)?.of_expert(*expert));
            }
        }
        let folder = options.lora_folder.as_deref();
        let mut notices = Vec::new();
        let loras: Vec<Lora> = match folder {
            Some(folder) if options.loras.is_empty() && options.few_steps => for_few_steps_in(folder, &targets),
            _ => options.loras.iter().map(|lora| in_folder(lora, folder)).collect(),
        };
        notices.extend(found(&loras).filter(|_| options.loras.is_empty()));
        let mut opened = Vec::new();
        let mut for_few_steps = Vec::new();
        for lora in &loras {
            let file = open(lora, experts.len() == 2)?;
            notices.extend(file.remarks());
            notices.extend(file.check_values()?);
            notices.extend(notice(lora, &file, experts.len() == 2));
            let own = recognised(&lora.file, file.metadata()).filter(|_| lora.strength != 0.0);
            for_few_steps.extend(own.map(|own| (own, words(lora))));
            opened.push((lora, file, 0));
        }
        notices.extend(same_for_both(&loras));
        let mut all = Vec::new();
        for (target, expert) in targets.iter().zip(experts).filter(|_| !loras.is_empty()) {
            let mut changes = Changes::default();
            for (lora, file, changed) in &mut opened {
                if lora.expert.is_none() || lora.expert == *expert {
                    let own = file.changes(target, lora.strength)?;
                    *changed += own.names().count();
                    changes.merge(own);
                }
            }
            notices.extend(
                changes.remarks().iter().filter(|remark| !notices.contains(remark)).cloned().collect::<Vec<_>>(),
            );
            all.push((!changes.is_empty()).then(|| Arc::new(changes)));
        }
        let without = opened.iter().filter(|(_, _, changed)| *changed == 0);
        notices.extend(without.map(|(lora, ..)| format!("{} changes nothing of this model", words(lora))));
        for (transformer, changes) in self.components.get_mut(&Role::Transformer).into_iter().flatten().zip(all) {
            transformer.changes = changes;
        }
        for (own, words) in &for_few_steps {
            notices.push(self.for_few_steps(own, words));
        }
        self.loras = loras.iter().map(recorded).collect::<Result<_>>()?;
        Ok(notices)
    }
}

/// Describes a LoRA file; `None` if the file is something else.
///
/// # Errors
/// A LoRA with keys that are not understood or do not belong together.
pub fn inspect_lora(path: &Path) -> Result<Option<LoraDescription>> {
    if !path.is_file() {
        return Ok(None);
    }
    // What is wrong with another file is said where it is looked at as a model.
    match TensorFile::open(path) {
        Ok(file) if is_lora(file.infos().iter().map(|info| info.name.as_str())) => {
            Ok(Some(LoraFile::of(file)?.description()))
        }
        _ => Ok(None),
    }
}

/// Opens a LoRA.
fn open(lora: &Lora, has_experts: bool) -> Result<LoraFile> {
    if let Some(expert) = lora.expert.filter(|_| !has_experts) {
        let what = format!("`{expert}=` of a LoRA is one of two transformers, and the model has one");
        return Err(Error::request(what, format!("leave `{expert}=` out")).about(&["loras"]));
    }
    if !lora.strength.is_finite() {
        let what = format!("strength {} of `{}` is no number", lora.strength, lora.file.display());
        return Err(Error::request(what, "use a number such as 1 or 0.7"));
    }
    Ok(LoraFile::open(&lora.file)?)
}

/// The LoRA with its absolute path and its hash.
fn recorded(lora: &Lora) -> Result<Lora> {
    let sha256 = sha256(&lora.file)?;
    if lora.sha256.as_ref().is_some_and(|recorded| *recorded != sha256) {
        let hint = "give the file that the clip was made with, or this one instead of the recorded one";
        let reason = format!("it is another LoRA than the recorded one: its SHA-256 is {sha256}");
        return Err(Error::bad_file(&lora.file, reason, hint).about(&["loras"]));
    }
    let file = std::path::absolute(&lora.file).unwrap_or_else(|_| lora.file.clone());
    Ok(Lora { file, sha256: Some(sha256), ..lora.clone() })
}

fn sha256(path: &Path) -> Result<String> {
    let error = |source| Error::Io { path: path.to_path_buf(), source };
    let mut file = std::fs::File::open(path).map_err(error)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).map_err(error)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A sentence about where a LoRA of a model with two transformers goes, or about one that is switched off.
fn notice(lora: &Lora, file: &LoraFile, has_experts: bool) -> Option<String> {
    let name = words(lora);
    if lora.strength == 0.0 {
        return Some(format!("{name} has strength 0 and changes nothing"));
    }
    if !has_experts {
        return None;
    }
    match (lora.expert, file.experts()) {
        (Some(expert), [true, true]) => {
            Some(format!("{name} has changes for both transformers; only those for {expert} noise are used"))
        }
        (Some(_), _) | (None, [_, true]) => None,
        (None, _) => {
            let own = Expert::ALL.into_iter().filter(|expert| says(&lora.file, *expert)).collect::<Vec<_>>();
            let meant = match own.as_slice() {
                [expert] => format!("; its name says `{expert}`: `{expert}=FILE` may be meant"),
                _ => String::new(),
            };
            Some(format!("{name} changes both transformers, for high and for low noise{meant}"))
        }
    }
}

/// Whether the word is in the file's name, between other characters than letters.
pub(super) fn says(path: &Path, expert: Expert) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.split(|c: char| !c.is_ascii_alphabetic()).any(|word| word == expert.to_string())
}

/// A sentence about a file that is given for each of two transformers.
fn same_for_both(loras: &[Lora]) -> Option<String> {
    let of = |expert| loras.iter().filter(move |lora| lora.expert == Some(expert));
    let twice = of(Expert::High).find(|high| of(Expert::Low).any(|low| low.file == high.file));
    twice.map(|lora| format!("{} is given for high and for low noise", words(lora)))
}

pub(super) fn words(lora: &Lora) -> String {
    format!("the LoRA `{}`", lora.file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_an_expert_have_it_as_a_word() {
        let said = |name: &str| Expert::ALL.map(|expert| says(Path::new(name), expert));
        assert_eq!(said("style2.2_high_noise.safetensors"), [true, false]);
        assert_eq!(said("Style22-LOW-4steps.safetensors"), [false, true]);
        assert_eq!(said("high/flow_slower_highly.safetensors"), [false, false]);
    }
}
