//! A [`Model`] of single files: the family that they belong to, what is missing, and who lends it.

use crate::model::component::{Blob, Component, Files, Share};
use crate::model::family_files::{Families, FamilyFiles, FileTensors, recognise};
use crate::model::find::{ComponentFiles, Found, Layout, diffusers};
use crate::model::given::Cached;
use crate::model::manifest::Manifest;
use crate::model::pieces::{Part, chosen};
use crate::model::role::Role;
use crate::model::root::Root;
use crate::model::words::Words;
use crate::model::{Model, all_in_one, experts, lacks, manifest_of, names_of_model};
use crate::{Error, Result};
use kinora_checkpoint::TensorInfo;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Single files that belong to one family.
pub(crate) struct Recognised {
    pub family: &'static dyn FamilyFiles,
    pub parts: Vec<Part>,
    tokenizer: Option<Words>,
    lent: Option<Lent>,
    /// The names of the components and files that a model also needs.
    pub lacking: Vec<&'static str>,
}

/// The files of a network, which expert it was said to be, and its tensors.
pub(crate) type Network = (Files, Option<usize>, Vec<TensorInfo>);

/// What another model in the hub cache lends.
struct Lent {
    components: Vec<Component>,
    tokenizer: Option<Blob>,
    image_processor: Option<Value>,
    notice: String,
}

/// The networks in the files of `components`: several in one file, where it holds several.
///
/// # Errors
/// Files that cannot be read, or hold tensors of no network.
pub(crate) fn networks(components: &[ComponentFiles], families: Families) -> Result<Vec<Network>> {
    let mut networks = Vec::new();
    for component in components {
        let (files, tensors) = (&component.weights, component.weights.infos()?);
        let parts = all_in_one::parts(families, &files.path(), &tensors)?;
        let parts = parts.unwrap_or_else(|| vec![(Share::default(), tensors)]);
        let network = |(share, tensors)| (Files { share, ..files.clone() }, component.expert, names_of_model(tensors));
        networks.extend(parts.into_iter().map(network));
    }
    Ok(networks)
}

impl Recognised {
    /// Asks the families for the files of `found`, and for what they lack the models on this machine.
    ///
    /// # Errors
    /// Files that cannot be read, or that do not belong to one family.
    pub(crate) fn of(found: &Found, families: Families, cached: Cached) -> Result<Self> {
        let mut networks = networks(&found.components, families)?;
        let beside = self::networks(&found.beside, families)?;
        let own = networks.len();
        networks.extend(beside);
        let files: Vec<FileTensors> =
            networks.iter().map(|(files, _, tensors)| (files.path(), tensors.clone())).collect();
        let (family, roles) = recognise(families, &files, &found.place)?;
        let part =
            |(index, (role, (files, expert, tensors)))| Part { role, files, expert, tensors, beside: index >= own };
        let parts = chosen(family, roles.into_iter().zip(networks).enumerate().map(part).collect())?;
        let of_role = |role: Role| parts.iter().find(|part| part.role == role);
        let needed = family.needs(of_role(Role::Transformer).map_or(&[], |part| &part.tensors), None);
        let mut tokenizer = found.tokenizer.clone().map(Words::File);
        if let (None, Some(text)) = (&tokenizer, of_role(Role::TextEncoder)) {
            tokenizer = Words::in_weights(&text.files)?;
        }
        let missing: Vec<Role> = needed.into_iter().filter(|role| of_role(*role).is_none()).collect();
        let transformers = parts.iter().filter(|part| part.role == Role::Transformer).count();
        let variant = of_role(Role::Transformer).and_then(|part| family.variant(&part.tensors, transformers));
        let complete = missing.is_empty() && tokenizer.is_some();
        let is_files = matches!(found.layout, Layout::Files);
        let lent = variant.filter(|_| !complete && is_files);
        let lent = lent.and_then(|variant| lend(variant, &missing, tokenizer.is_none(), families, cached));
        let lacking = if complete || lent.is_some() {
            Vec::new()
        } else {
            missing.into_iter().map(Role::name).chain(tokenizer.is_none().then_some("tokenizer.json")).collect()
        };
        Ok(Self { family, parts, tokenizer, lent, lacking })
    }
}

/// What a known model in the hub cache has of `missing`: that of the variant itself, or another of its family with the
/// same VAE.
fn lend(variant: &str, missing: &[Role], tokenizer: bool, families: Families, cached: Cached) -> Option<Lent> {
    let known = Manifest::known();
    let own = known.iter().find(|manifest| manifest.name == variant)?;
    let alike =
        known.iter().filter(|other| other.family == own.family && other.vae == own.vae && other.name != own.name);
    std::iter::once(own).chain(alike).find_map(|manifest| {
        let root = Root::Directory(cached(manifest.repository.as_deref()?).ok()?);
        let found = diffusers(root.clone(), families).ok()?;
        let component = |role: &Role| {
            let mut components = found.components.iter().filter(|files| files.problem.is_none());
            let files = components.find(|files| Role::of_folder(&files.name) == Some(*role))?;
            let config = files.config.as_ref().and_then(|name| root.json(name).ok()).flatten();
            Some(Component::new(*role, config, files.weights.clone()))
        };
        let components =
            missing.iter().filter(|role| **role != Role::Transformer).map(component).collect::<Option<_>>()?;
        let names: Vec<&str> = missing.iter().map(|role| role.name()).chain(tokenizer.then_some("tokenizer")).collect();
        Some(Lent {
            components,
            tokenizer: if tokenizer { Some(found.tokenizer.clone()?) } else { None },
            image_processor: root.json("image_processor/preprocessor_config.json").ok().flatten(),
            notice: format!("{} of `{}` in the hub cache", sentence(&names), manifest.name),
        })
    })
}

/// How to get what a transformer lacks, where the hub has its variant.
fn pulled(family: &dyn FamilyFiles, transformer: &[TensorInfo], experts: usize) -> String {
    let variant = family.variant(transformer, experts).filter(|_| experts > 0);
    let known = Manifest::known().into_iter().find(|manifest| Some(manifest.name.as_str()) == variant);
    let known = known.filter(|manifest| manifest.repository.is_some());
    known.map(|manifest| format!(", or the others from a download of `{}`", manifest.name)).unwrap_or_default()
}

/// `the VAE and the tokenizer are those`.
fn sentence(names: &[&str]) -> String {
    match names {
        [one] => format!("the {one} is that"),
        [first @ .., last] => format!("the {} and the {last} are those", first.join(", the ")),
        [] => String::new(),
    }
}

impl Model {
    /// A model of single files. Their configurations are inferred, or known by the family.
    pub(super) fn of_single_files(mut found: Found, families: Families, cached: Cached) -> Result<Self> {
        let mut problems = found.components.iter_mut().chain(&mut found.beside);
        if let Some(problem) = problems.find_map(|component| component.problem.take()) {
            return Err(problem);
        }
        let place = found.place.clone();
        let Recognised { family, parts, tokenizer, lent, lacking } = Recognised::of(&found, families, cached)?;
        let bad = |path: &Path, reason: String| Error::NotAModel { path: path.to_path_buf(), reason };
        let (transformers, others): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|part| part.role == Role::Transformer);
        let mut components: BTreeMap<Role, Vec<Component>> = BTreeMap::new();
        for part in others {
            let path = part.files.path();
            let same = components.entry(part.role).or_default();
            same.push(Component::new(part.role, None, part.files));
            if same.len() > part.role.folders().len() {
                return Err(bad(&path, "the same part of the model is given twice".into()));
            }
        }
        let (mut notices, mut image_processor, mut tokenizer) = (Vec::new(), None, tokenizer);
        if let Some(lent) = lent {
            notices.push(lent.notice);
            image_processor = lent.image_processor;
            tokenizer = tokenizer.or(lent.tokenizer.map(Words::File));
            for component in lent.components {
                components.entry(component.role).or_default().push(component);
            }
        }
        let tensors = transformers.first().map(|part| part.tensors.clone()).unwrap_or_default();
        let (Some(tokenizer), true) = (tokenizer, lacking.is_empty()) else {
            let pulled = pulled(family, &tensors, transformers.len());
            let lacking = lacking.join(", no ");
            return Err(bad(&place, format!("it has no {lacking}; the files need to be all parts{pulled}")));
        };
        let count = transformers.len();
        let transformers = in_order(transformers, family, &tensors, &place, &mut notices)?;
        let manifest = manifest_of(family, &tensors, count, &place)?;
        components.insert(Role::Transformer, transformers);
        let needed = family.needs(&tensors, None);
        components.retain(|role, _| needed.contains(role) || family.may_have().contains(role));
        let (argument, loras, index, scheduler) = (Vec::new(), Vec::new(), None, None);
        Ok(Self {
            argument,
            components,
            loras,
            image_processor,
            tokenizer,
            index,
            scheduler,
            manifest,
            place,
            said: notices,
        })
    }
}

/// The transformers, of two experts the one for high noise first.
fn in_order(
    parts: Vec<Part>,
    family: &dyn FamilyFiles,
    tensors: &[TensorInfo],
    place: &Path,
    notices: &mut Vec<String>,
) -> Result<Vec<Component>> {
    let path = parts.first().ok_or_else(|| lacks(place, Role::Transformer.name()))?.files.path();
    let given: Vec<experts::Given> = parts.iter().map(|part| (part.expert, part.files.path())).collect();
    let (slots, guess) = experts::slots(&given, given.len(), family.variant(tensors, 2).is_some(), place)?;
    notices.extend(guess);
    if given.len() == 1 && experts::is_lone_expert(&path, family, tensors) {
        let reason = "by its name it is one of two experts: give both files".into();
        return Err(Error::NotAModel { path, reason });
    }
    let mut sorted: Vec<(usize, Part)> = slots.into_iter().zip(parts).collect();
    sorted.sort_by_key(|(slot, _)| *slot);
    notices.extend(experts::same_file(sorted.iter().map(|(_, part)| &part.files)));
    Ok(sorted.into_iter().map(|(_, part)| Component::new(Role::Transformer, None, part.files)).collect())
}
