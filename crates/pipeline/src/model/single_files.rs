//! A [`Model`] of single files: the family that they belong to, and the ones that are missing.

use crate::model::component::{Blob, Component, infos};
use crate::model::family_files::{Families, FamilyFiles, FileTensors, recognise, require_one_role};
use crate::model::find::Found;
use crate::model::role::Role;
use crate::model::{Model, experts, lacks, manifest_of, names_of_model};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Single files that belong to one family.
pub(crate) struct Recognised {
    pub family: &'static dyn FamilyFiles,
    /// The paths and tensors of the files, in the order in which they were found, and their roles.
    files: Vec<FileTensors>,
    roles: Vec<Role>,
    /// The names of the components and files that a model also needs.
    pub lacking: Vec<&'static str>,
}

impl Recognised {
    /// Asks the families for the files of `found`.
    ///
    /// # Errors
    /// Files that cannot be read, or that do not belong to one family.
    pub(crate) fn of(found: &Found, families: Families) -> Result<Self> {
        let mut files = Vec::new();
        for component in &found.components {
            let path = component.weights.first().map(|blob| blob.path().to_path_buf()).unwrap_or_default();
            files.push((path, names_of_model(infos(&component.weights)?)));
        }
        let (family, roles) = recognise(families, &files, &found.place)?;
        for (path, tensors) in &files {
            require_one_role(family, path, tensors)?;
        }
        let transformer = roles.iter().position(|role| *role == Role::Transformer);
        let needed = family.needs(transformer.map_or(&[], |index| &files[index].1), None);
        let missing = needed.into_iter().filter(|role| !roles.contains(role)).map(Role::name);
        let lacking = missing.chain(found.tokenizer.is_none().then_some("tokenizer.json")).collect();
        Ok(Self { family, files, roles, lacking })
    }
}

impl Model {
    /// A model of single files. Their configurations are inferred, or known by the family.
    pub(super) fn of_single_files(mut found: Found, families: Families) -> Result<Self> {
        if let Some(problem) = found.components.iter_mut().find_map(|component| component.problem.take()) {
            return Err(problem);
        }
        let Recognised { family, files, roles, lacking } = Recognised::of(&found, families)?;
        let Found { place, components: found, tokenizer, .. } = found;
        let bad = |path: &Path, reason: String| Error::NotAModel { path: path.to_path_buf(), reason };
        let mut weights: BTreeMap<Role, Vec<Vec<Blob>>> = BTreeMap::new();
        for ((role, component), (path, _)) in roles.iter().zip(found).zip(&files) {
            let same = weights.entry(*role).or_default();
            same.push(component.weights);
            // Experts are counted where they are told apart.
            if same.len() > role.folders().len() && *role != Role::Transformer {
                return Err(bad(path, "the same part of the model is given twice".into()));
            }
        }
        let (Some(tokenizer), true) = (tokenizer, lacking.is_empty()) else {
            let reason = format!("it has no {}; the files after --model need to be all parts", lacking.join(", no "));
            return Err(bad(&place, reason));
        };
        let transformers = weights.remove(&Role::Transformer).unwrap_or_default();
        let first = roles.iter().position(|role| *role == Role::Transformer).map(|index| &files[index]);
        let (path, tensors) = first.ok_or_else(|| lacks(&place, Role::Transformer.name()))?;
        let transformers = experts::sorted(transformers, family.variant(tensors, 2).is_some(), &place)?;
        let count = transformers.len();
        if count == 1 && experts::is_lone_expert(path, family, tensors) {
            return Err(bad(path, "by its name it is one of two experts: give both files after --model".into()));
        }
        let manifest = manifest_of(family, tensors, count, &place)?;
        weights.insert(Role::Transformer, transformers);
        let needed = family.needs(tensors, None);
        weights.retain(|role, _| needed.contains(role));
        let components = weights.into_iter().map(|(role, all)| {
            (role, all.into_iter().map(|weights| Component { role, config: None, weights }).collect())
        });
        Ok(Self {
            argument: Vec::new(),
            components: components.collect(),
            image_processor: None,
            tokenizer,
            index: None,
            scheduler: None,
            manifest,
            place,
        })
    }
}
