//! A [`Model`] in a diffusers directory, with files beside it that take the place of its components.

use crate::model::component::{Component, Files};
use crate::model::family_files::{FamilyFiles, require_one_role};
use crate::model::find::{ComponentFiles, Found, Layout, TOKENIZER};
use crate::model::manifest::Manifest;
use crate::model::pieces::{Part, chosen, is_whole};
use crate::model::role::Role;
use crate::model::root::{MODEL_INDEX, Root};
use crate::model::scheduler::Scheduler;
use crate::model::single_files::networks;
use crate::model::words::Words;
use crate::model::{Model, experts, lacks, manifest_of, names_of_model};
use crate::{Error, Result};
use kinora_checkpoint::refuse_unread;
use std::collections::BTreeMap;
use std::path::Path;

/// Components by their roles.
type Components = BTreeMap<Role, Vec<Component>>;

impl Model {
    pub(super) fn of_diffusers(mut found: Found) -> Result<Self> {
        let tokenizer_problem = found.tokenizer_problem();
        let beside = std::mem::take(&mut found.beside);
        let Found { place, layout, components: files, tokenizer, manifest: known, .. } = found;
        let Layout::Diffusers { root, index, family } = layout else { return Err(lacks(&place, MODEL_INDEX)) };
        let class_name = index["_class_name"].as_str().unwrap_or_default();
        let family = family.ok_or_else(|| root.not_a_model(format!("its pipeline `{class_name}` is not supported")))?;
        let beside = Beside::of(beside, family)?;
        let (mut components, said) = beside.replaced(files, &root, family)?;
        let transformers = components.get(&Role::Transformer).map(Vec::as_slice).unwrap_or_default();
        let first = transformers.first().ok_or_else(|| lacks(&place, Role::Transformer.name()))?;
        let tensors = names_of_model(first.weights.infos()?);
        if let (Some(blob), true) = (first.weights.blobs.first(), first.weights.are_its_own()) {
            require_one_role(family, blob.path(), &tensors)?;
        }
        let detected = match root.text("manifest.toml")? {
            Some(text) => Manifest::parse(&text, &root.path("manifest.toml"))?,
            None => manifest_of(family, &tensors, transformers.len(), &place)?,
        };
        let needed = family.needs(&tensors, None);
        if let Some(role) = needed.iter().find(|role| !components.contains_key(role)) {
            return Err(lacks(&place, role.name()));
        }
        components.retain(|role, _| needed.contains(role) || family.may_have().contains(role));
        let mut tokenizer = tokenizer.map(Words::File);
        if let (None, Some([text, ..])) = (&tokenizer, components.get(&Role::TextEncoder).map(Vec::as_slice)) {
            tokenizer = Words::in_weights(&text.weights)?;
        }
        let Some(tokenizer) = tokenizer else {
            return Err(tokenizer_problem.unwrap_or_else(|| lacks(&place, TOKENIZER)));
        };
        Ok(Self {
            argument: Vec::new(),
            components,
            loras: Vec::new(),
            image_processor: root.json("image_processor/preprocessor_config.json")?,
            tokenizer,
            index: Some(index),
            manifest: known.unwrap_or(detected),
            scheduler: root.json("scheduler/scheduler_config.json")?.as_ref().map(Scheduler::from_config),
            place,
            said,
        })
    }
}

/// Networks that are taken before a directory's own, by their roles.
struct Beside(BTreeMap<Role, Vec<Part>>);

impl Beside {
    /// # Errors
    /// Files that cannot be read or are no part of a model of the family, and parts that are given twice.
    fn of(files: Vec<ComponentFiles>, family: &'static dyn FamilyFiles) -> Result<Self> {
        let mut files = files;
        if let Some(problem) = files.iter_mut().find_map(|files| files.problem.take()) {
            return Err(problem);
        }
        let mut given = Vec::new();
        for (files, expert, tensors) in networks(&files, &[family])? {
            let path = files.path();
            let Some(role) = family.role(&tensors) else {
                refuse_unread(&path, tensors.iter().map(|tensor| tensor.name.as_str()))?;
                return Err(bad(&path, format!("it is no part of a model of the family `{}`", family.name())));
            };
            given.push(Part { role, files, expert, tensors, beside: true });
        }
        let mut parts: BTreeMap<Role, Vec<Part>> = BTreeMap::new();
        for part in chosen(family, given)? {
            // The directory has the other pieces, and those that fit them.
            if !part.files.are_its_own() && !is_whole(family, &part) {
                continue;
            }
            let same = parts.entry(part.role).or_default();
            if same.len() == part.role.folders().len() {
                return Err(bad(&part.files.path(), "the same part of the model is given twice".to_string()));
            }
            same.push(part);
        }
        Ok(Self(parts))
    }

    /// The components of the directory `root`, whose files are `own`, with these in their places, and what a user should
    /// know of that. Configurations are the directory's.
    fn replaced(
        mut self,
        own: Vec<ComponentFiles>,
        root: &Root,
        family: &dyn FamilyFiles,
    ) -> Result<(Components, Vec<String>)> {
        let is_transformer = |files: &&ComponentFiles| Role::of_folder(&files.name) == Some(Role::Transformer);
        let count = own.iter().filter(is_transformer).count();
        let (mut taken, said) = self.transformers(count, &root.path(""), family)?;
        let mut components = Components::new();
        let mut index = 0;
        // The names of two experts' folders sort as the experts do.
        for files in own {
            let Some(role) = Role::of_folder(&files.name) else { continue };
            let given = if role == Role::Transformer {
                index += 1;
                taken.remove(&(index - 1))
            } else {
                self.0.remove(&role).and_then(|mut parts| parts.pop()).map(|part| part.files)
            };
            if let (None, Some(problem)) = (&given, files.problem) {
                return Err(problem);
            }
            let config = files.config.map(|name| root.json(&name)).transpose()?.flatten();
            let weights = given.unwrap_or(files.weights);
            components.entry(role).or_default().push(Component::new(role, config, weights));
        }
        // A role that the directory has no folder for.
        let weights = taken.into_values().map(|files| (Role::Transformer, files));
        let others = self.0.into_iter().flat_map(|(role, parts)| parts.into_iter().map(move |part| (role, part.files)));
        for (role, weights) in weights.chain(others) {
            components.entry(role).or_default().push(Component::new(role, None, weights));
        }
        Ok((components, said))
    }

    /// Takes out the transformers, by their places among the directory's `count`.
    fn transformers(
        &mut self,
        count: usize,
        place: &Path,
        family: &dyn FamilyFiles,
    ) -> Result<(BTreeMap<usize, Files>, Vec<String>)> {
        let parts = self.0.remove(&Role::Transformer).unwrap_or_default();
        let count = count.max(parts.len());
        let given: Vec<experts::Given> = parts.iter().map(|part| (part.expert, part.files.path())).collect();
        let tensors = parts.first().map(|part| part.tensors.as_slice()).unwrap_or_default();
        if let ([part], 1) = (parts.as_slice(), count)
            && experts::is_lone_expert(&part.files.path(), family, tensors)
        {
            let reason = "by its name it is one of two experts, and the model has one transformer".to_string();
            return Err(bad(&part.files.path(), reason));
        }
        let (slots, guess) = experts::slots(&given, count, family.variant(tensors, 2).is_some(), place)?;
        let taken: BTreeMap<usize, Files> =
            slots.into_iter().zip(parts).map(|(slot, part)| (slot, part.files)).collect();
        let same = experts::same_file(taken.values());
        Ok((taken, guess.into_iter().chain(same).collect()))
    }
}

fn bad(path: &Path, reason: String) -> Error {
    Error::NotAModel { path: path.to_path_buf(), reason }
}
