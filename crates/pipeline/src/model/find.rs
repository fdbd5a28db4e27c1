//! [`find`]: the files of a model, or of some of its components; inspecting, planning, generating and pulling share it.
//!
//! A model is the one that is compiled in, a directory in diffusers' layout, a directory of an original release, or
//! single files as people collect them. Only names of files, JSON files and indices of shards are read.

use crate::model::component::{Blob, Files};
use crate::model::embedded::EMBEDDED;
use crate::model::family_files::{Families, FamilyFiles};
use crate::model::given::{Cached, EXPERTS, Given, known_manifest};
use crate::model::manifest::Manifest;
use crate::model::role::Role;
use crate::model::root::{CONFIGS, MODEL_INDEX, PIECES_FILE, Root, TOKENIZER_FILE};
use crate::{Error, Result};
use kinora_checkpoint::{Content, WeightSet, is_plain_name, shard_paths};
use kinora_hub::snapshots_in;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The tokenizer of a diffusers directory.
pub(crate) const TOKENIZER: &str = "tokenizer/tokenizer.json";
/// The tokenizer's other form.
const PIECES: &str = "tokenizer/spiece.model";

/// The files at a place.
pub(crate) struct Found {
    /// The place, for messages.
    pub place: PathBuf,
    pub layout: Layout,
    /// The components with weights, and those that lack them.
    pub components: Vec<ComponentFiles>,
    /// Components that were given beside the place, to be taken before its own.
    pub beside: Vec<ComponentFiles>,
    pub tokenizer: Option<Blob>,
    /// The manifest of a model that was asked for by its name.
    pub manifest: Option<Manifest>,
}

/// How the files of a model are arranged.
pub(crate) enum Layout {
    /// A directory with `model_index.json`, whose content is `index`; its family, if the pipeline's class is known.
    Diffusers { root: Root, index: Value, family: Option<&'static dyn FamilyFiles> },
    /// A directory with the files of one component.
    Component,
    /// Any other directory with weights, in sub-folders or not.
    Folder,
    /// Single files.
    Files,
}

/// The files of one component.
pub(crate) struct ComponentFiles {
    /// The name of its folder, or of its file where it has no folder.
    pub name: String,
    /// The configuration file of a component in a diffusers directory, from there; original releases have other words.
    pub config: Option<String>,
    /// The weights: one file, the index of the shards, or shards without one.
    pub weights: Files,
    /// Which of two experts it was said to be: 0 for high noise, 1 for low noise.
    pub expert: Option<usize>,
    /// The reason why the component cannot be loaded.
    pub problem: Option<Error>,
}

impl Layout {
    /// The name for people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Diffusers { root: Root::Embedded, .. } => "embedded",
            Self::Diffusers { .. } => "diffusers directory",
            Self::Component => "component directory",
            Self::Folder => "directory of single files",
            Self::Files => "single file",
        }
    }

    /// Whether it is a diffusers directory whose pipeline is one of a known family.
    pub(crate) fn has_family(&self) -> bool {
        matches!(self, Self::Diffusers { family: Some(_), .. })
    }
}

impl Found {
    /// The reason why a diffusers directory has no tokenizer.
    pub(crate) fn tokenizer_problem(&self) -> Option<Error> {
        let (None, Layout::Diffusers { root, .. }) = (&self.tokenizer, &self.layout) else { return None };
        Some(root.missing(TOKENIZER))
    }
}

/// Finds the files that `argument` names: the embedded model, a known name, a directory, or single files; of the first
/// three also with files beside them. Of a directory of the hub cache it is the newest snapshot.
///
/// # Errors
/// Nothing is there, or nothing that looks like weights; JSON files that cannot be read; two models.
pub(crate) fn find(argument: &[impl AsRef<Path>], families: Families, cached: Cached) -> Result<Found> {
    let given = Given::of(argument, cached)?;
    let Some(base) = &given.base else { return single_files(&given, families) };
    let found = model(base, families, cached)?;
    if given.files.is_empty() && given.experts.is_empty() {
        return Ok(found);
    }
    let beside = single_files(&given, families)?;
    Ok(Found { beside: beside.components, tokenizer: beside.tokenizer.or(found.tokenizer), ..found })
}

/// Finds the files of one whole model.
fn model(path: &Path, families: Families, cached: Cached) -> Result<Found> {
    if path.as_os_str() == EMBEDDED {
        return diffusers(Root::Embedded, families);
    }
    if path.is_dir() {
        let snapshot = snapshots_in(path).into_iter().next();
        return directory(snapshot.as_deref().unwrap_or(path), families);
    }
    if path.is_file() {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        return directory(parent.unwrap_or(Path::new(".")), families);
    }
    known(&path.to_string_lossy(), families, cached)
}

/// A known variant, or a repository of the hub, whose files are on this machine.
fn known(name: &str, families: Families, cached: Cached) -> Result<Found> {
    let manifest = match known_manifest(name) {
        Ok(manifest) => manifest,
        Err(unknown) => {
            let directory = cached(name).map_err(|_| unknown)?;
            return diffusers(Root::Directory(directory), families);
        }
    };
    let here = manifest.repository.as_deref().map_or(Err(None), cached);
    let directory =
        here.map_err(|lacking| Error::NotHere { name: name.to_string(), title: manifest.title.clone(), lacking })?;
    let found = diffusers(Root::Directory(directory), families)?;
    Ok(Found { manifest: Some(manifest), ..found })
}

fn directory(path: &Path, families: Families) -> Result<Found> {
    let root = Root::Directory(path.to_path_buf());
    if root.file(MODEL_INDEX).is_some() { diffusers(root, families) } else { folder(&root, families) }
}

/// A directory with `model_index.json`: the components that it lists, and those that every model of the family needs.
pub(crate) fn diffusers(root: Root, families: Families) -> Result<Found> {
    let index = root.json(MODEL_INDEX)?.ok_or_else(|| root.missing(MODEL_INDEX))?;
    let class_name = index["_class_name"].as_str().unwrap_or_default();
    let family = families.iter().find(|family| family.owns_pipeline(class_name)).copied();
    let listed = index.as_object().into_iter().flatten().filter(|(_, value)| value[0].is_string());
    let mut folders: Vec<&str> = listed.map(|(name, _)| name.as_str()).collect();
    if let Some(name) = folders.iter().find(|name| !is_plain_name(name)) {
        return Err(root.bad_file(MODEL_INDEX, format!("component name `{name}` leads out of the model's folder")));
    }
    let needed = family.map(|family| family.needs(&[], None)).unwrap_or_default();
    folders.extend(needed.iter().map(|role| role.folders()[0]));
    for role in family.iter().flat_map(|family| family.may_have()) {
        // Not every release lists them.
        let folder = role.folders()[0];
        folders.extend((!root.names(folder)?.is_empty()).then_some(folder));
    }
    folders.sort_unstable();
    folders.dedup();
    let mut components = Vec::new();
    for folder in folders {
        let component = component(&root, folder)?;
        if Role::of_folder(folder).is_some() || !component.weights.blobs.is_empty() {
            components.push(component);
        }
    }
    let (place, tokenizer) = (root.path(""), root.file(TOKENIZER).or_else(|| root.file(PIECES)));
    Ok(Found {
        place,
        layout: Layout::Diffusers { root, index, family },
        components,
        beside: Vec::new(),
        tokenizer,
        manifest: None,
    })
}

/// The component in the folder `folder` of a diffusers directory.
fn component(root: &Root, folder: &str) -> Result<ComponentFiles> {
    let config = Some(format!("{folder}/config.json")).filter(|name| root.file(name).is_some());
    let names = root.names(folder)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sets = WeightSet::of_component(&names);
    let (weights, mut problem) = match sets.as_slice() {
        [] => (Vec::new(), Some(root.not_a_model(format!("{folder} has no weights{}", others(&names))))),
        [set] => {
            let opened: Vec<String> = set.opened().iter().map(|name| format!("{folder}/{name}")).collect();
            let lost = opened.iter().find(|name| root.file(name).is_none()).map(|name| root.missing(name));
            let problem = lost.or_else(|| shard_problem(set, &root.path(folder)));
            (opened.iter().filter_map(|name| root.file(name)).collect(), problem)
        }
        several => {
            let sets = several.iter().filter_map(|set| Some(format!("`{}`", set.opened().first()?)));
            let sets: Vec<String> = sets.collect();
            let reason = format!("{folder} has more than one set of weights: {}", sets.join(", "));
            (Vec::new(), Some(root.not_a_model(reason)))
        }
    };
    if config.is_none() {
        problem = Some(root.missing(&format!("{folder}/config.json")));
    }
    let weights = Files::of(weights);
    Ok(ComponentFiles { name: folder.to_string(), config, weights, expert: None, problem })
}

/// The files of a component without weights that may have been meant for them, for a message.
fn others(names: &[&str]) -> String {
    let is_other = |name: &&&str| {
        let ending = Path::new(name).extension().unwrap_or_default();
        !["json", "md", "txt"].iter().any(|text| ending == *text)
    };
    let others: Vec<String> = names.iter().filter(is_other).take(3).map(|name| format!("`{name}`")).collect();
    if others.is_empty() { String::new() } else { format!(", but {}", others.join(", ")) }
}

/// The problem with the shards of a set in `folder`: one is missing, or the index cannot be trusted.
fn shard_problem(set: &WeightSet, folder: &Path) -> Option<Error> {
    if let Some(index) = &set.index
        && folder.is_dir()
    {
        return shard_paths(&folder.join(index)).err().map(Error::from);
    }
    let shard = set.missing_shard()?;
    Some(kinora_checkpoint::Error::ShardMissing { index: folder.to_path_buf(), shard }.into())
}

/// A directory without `model_index.json`: its own weights, and those of sub-folders with a configuration.
fn folder(root: &Root, families: Families) -> Result<Found> {
    let names = root.names("")?;
    let own: Vec<PathBuf> = names.iter().filter(|name| is_weights(name)).map(|name| root.path(name)).collect();
    let mut components = grouped(&own);
    for folder in root.folders()? {
        let names = root.names(&folder)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let sets = WeightSet::of_component(&names);
        if let ([set], true) = (sets.as_slice(), names.iter().any(|name| CONFIGS.contains(name))) {
            components.push(ComponentFiles { name: folder.clone(), ..of_set(set, &root.path(&folder)) });
        }
    }
    if components.is_empty() {
        let hint = "give a directory in diffusers' layout, a .safetensors file or a .pth file";
        let reason = format!("it has no {MODEL_INDEX} and no weight files");
        return Err(Error::bad_file(root.path(""), reason, hint));
    }
    let is_component = names.iter().any(|name| CONFIGS.contains(&name.as_str())) && components.len() == 1;
    let layout = if is_component && !own.is_empty() { Layout::Component } else { Layout::Folder };
    let places = families.iter().flat_map(|family| family.tokenizers());
    let usual = [TOKENIZER_FILE].iter().chain(places).find_map(|name| root.file(name));
    let tokenizer = usual.or_else(|| {
        let others = names.iter().filter(|name| !CONFIGS.contains(&name.as_str())).map(|name| root.path(name));
        others.into_iter().find(|path| is_tokenizer(path)).map(Blob::File)
    });
    Ok(Found { place: root.path(""), layout, components, beside: Vec::new(), tokenizer, manifest: None })
}

fn is_weights(name: &str) -> bool {
    !WeightSet::all(&[name]).is_empty()
}

/// Single files: weights, folders of one component, and the tokenizer or its folder.
fn single_files(given: &Given, families: Families) -> Result<Found> {
    let (mut tokenizers, mut weights, mut components) = (Vec::new(), Vec::new(), Vec::new());
    for path in &given.files {
        let inside =
            [TOKENIZER_FILE, PIECES_FILE].map(|name| path.join(name)).into_iter().find(|inside| inside.is_file());
        if let Some(inside) = inside {
            tokenizers.push(inside);
        } else if path.is_dir() {
            components.extend(folder(&Root::Directory(path.clone()), families)?.components);
        } else if is_tokenizer(path) {
            tokenizers.push(path.clone());
        } else {
            weights.push(path.clone());
        }
    }
    match weights.as_slice() {
        // A single shard can be inspected.
        [one] if given.files.len() == 1 && given.base.is_none() => components.push(of_file(one)),
        several => components.extend(grouped(several)),
    }
    for (expert, path) in &given.experts {
        components.push(ComponentFiles { expert: Some(*expert), ..expert_at(path, EXPERTS[*expert], families)? });
    }
    let first = given.files.iter().chain(given.experts.iter().map(|(_, path)| path)).next();
    let (place, tokenizer) = (first.cloned().unwrap_or_default(), tokenizers.pop().map(Blob::File));
    let (layout, beside) = (Layout::Files, Vec::new());
    Ok(Found { place, layout, components, beside, tokenizer, manifest: None })
}

/// The one component at a path that was given as an expert.
fn expert_at(path: &Path, word: &str, families: Families) -> Result<ComponentFiles> {
    if !path.is_dir() {
        return Ok(of_file(path));
    }
    let mut components = folder(&Root::Directory(path.to_path_buf()), families)?.components;
    if let (Some(one), true) = (components.pop(), components.is_empty()) {
        return Ok(one);
    }
    let reason = format!("it has more than one component, and `{word}=` takes one");
    Err(Error::NotAModel { path: path.to_path_buf(), reason })
}

/// Whether the file is a tokenizer, by its name or, whatever it is called, by its content.
fn is_tokenizer(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct Parts {
        #[serde(rename = "model")]
        _model: IgnoredAny,
        #[serde(rename = "added_tokens")]
        _tokens: IgnoredAny,
    }
    if path.file_name().is_some_and(|name| name == TOKENIZER_FILE || name == PIECES_FILE) {
        return true;
    }
    let is_pieces = || matches!(Content::of_file(path), Ok(Some(Content::SentencePiece)));
    if path.extension().is_some_and(|extension| extension == "model") && is_pieces() {
        return true;
    }
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let parts = || kinora_checkpoint::read_json::<Parts>(path, &kinora_checkpoint::read_file(path).ok()?).ok();
    is_json && parts().is_some()
}

/// One component per file, but shards of the same name belong together, and an index stands for those that it names.
fn grouped(paths: &[PathBuf]) -> Vec<ComponentFiles> {
    // A file of any name may be given: its content says what it is.
    let name = |path: &PathBuf| path.file_name()?.to_str().filter(|name| is_weights(name)).map(str::to_string);
    let odd = paths.iter().filter(|path| name(path).is_none());
    let mut components: Vec<ComponentFiles> = odd.map(|path| of_file(path)).collect();
    let mut folders: Vec<&Path> = paths.iter().filter(|path| name(path).is_some()).filter_map(|p| p.parent()).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        let names: Vec<String> = paths.iter().filter(|path| path.parent() == Some(folder)).filter_map(name).collect();
        let sets = WeightSet::all(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let indices = sets.iter().filter_map(|set| set.index.as_ref());
        let indexed: Vec<PathBuf> =
            indices.filter_map(|index| shard_paths(&folder.join(index)).ok()).flatten().collect();
        let is_alone = |set: &&WeightSet| !set.files.iter().any(|file| indexed.contains(&folder.join(file)));
        components
            .extend(sets.iter().filter(|set| set.index.is_some() || is_alone(set)).map(|set| of_set(set, folder)));
    }
    components
}

fn of_set(set: &WeightSet, folder: &Path) -> ComponentFiles {
    let weights = set.opened().iter().map(|name| Blob::File(folder.join(name))).collect();
    let name = set.opened().first().cloned().unwrap_or_default();
    ComponentFiles {
        name,
        config: None,
        weights: Files::of(weights),
        expert: None,
        problem: shard_problem(set, folder),
    }
}

fn of_file(path: &Path) -> ComponentFiles {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let weights = Files::of(vec![Blob::File(path.to_path_buf())]);
    ComponentFiles { name, config: None, weights, expert: None, problem: None }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod composed_tests;

#[cfg(test)]
mod several_tests;
