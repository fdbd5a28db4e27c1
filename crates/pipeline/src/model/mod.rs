//! [`Model`]: the files of a model by their [`Role`]s, and the facts that are known about it.
//!
//! [`find`] finds the files, and [`family_files`] tells which family they belong to.

mod all_in_one;
pub(crate) mod clips;
pub(crate) mod component;
mod diffusers;
pub(crate) mod embedded;
mod experts;
pub(crate) mod family_files;
mod few_steps;
mod files;
pub(crate) mod find;
pub(crate) mod given;
pub(crate) mod inspect;
pub(crate) mod loras;
pub(crate) mod manifest;
pub(crate) mod parameters;
mod pieces;
pub(crate) mod preset;
#[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "downloads alone select files"))]
pub(crate) mod repository;
pub(crate) mod role;
mod root;
pub(crate) mod scheduler;
mod single_files;
mod words;

use crate::request::lora::Lora;
use crate::{Error, Result};
use component::{Blob, Component};
use family_files::{Families, FamilyFiles};
use find::{Found, Layout};
use given::Cached;
use kinora_checkpoint::{Blocks, TensorInfo, unwrapped};
use manifest::{Caches, Manifest};
use role::Role;
use scheduler::Scheduler;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use words::Words;

/// The files of a model, and the facts that are known about it.
pub(crate) struct Model {
    /// The arguments that the caller named it with.
    pub argument: Vec<String>,
    /// The place of its files, for messages.
    pub place: PathBuf,
    pub manifest: Manifest,
    /// The components; of two transformers the first is the high-noise expert.
    components: BTreeMap<Role, Vec<Component>>,
    /// The LoRAs that change its transformers, with absolute paths and hashes.
    loras: Vec<Lora>,
    pub tokenizer: Words,
    /// `preprocessor_config.json` of the image encoder, where there is one.
    pub image_processor: Option<Value>,
    /// `model_index.json` of a diffusers directory.
    pub index: Option<Value>,
    /// The sampler and the shift, where the model's own files say them.
    pub scheduler: Option<Scheduler>,
    /// Sentences about what was guessed, and what was taken from elsewhere.
    said: Vec<String>,
}

/// Makes every word one token, for models that have no files: only the number of tokens matters to them.
const WORDS: &[u8] =
    br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [], "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
    "model": {"type": "WordLevel", "vocab": {"<pad>": 0, "</s>": 1, "<unk>": 2}, "unk_token": "<unk>"}}"#;

impl Model {
    /// The model whose files were found.
    ///
    /// # Errors
    /// [`Error::NotAModel`] with the first thing that is missing or odd; files that cannot be read.
    pub(crate) fn of(found: Found, families: Families, cached: Cached) -> Result<Self> {
        match &found.layout {
            Layout::Diffusers { .. } => Self::of_diffusers(found),
            _ => Self::of_single_files(found, families, cached),
        }
    }

    /// The architecture of the known variant `name`, with random weights.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub(crate) fn random(name: &str, families: Families) -> Result<Self> {
        let manifest = given::known_manifest(name)?;
        let config = manifest.transformer.as_ref();
        let family = families.iter().find(|family| family.name() == manifest.family);
        let needed = family.map(|family| family.needs(&[], config)).unwrap_or_default();
        let components = needed.into_iter().map(|role| match role {
            Role::Transformer => {
                let experts = if manifest.boundary.is_some() { 2 } else { 1 };
                (role, (0..experts).map(|_| Component::random(role, config.cloned())).collect())
            }
            _ => (role, vec![Component::random(role, None)]),
        });
        Ok(Self {
            argument: vec![name.to_string()],
            place: name.into(),
            components: components.collect(),
            loras: Vec::new(),
            image_processor: None,
            index: None,
            tokenizer: Words::File(Blob::Static("tokenizer.json", WORDS)),
            scheduler: None,
            said: Vec::new(),
            manifest,
        })
    }

    /// Random matrices of all components are in `blocks`.
    pub(crate) fn in_blocks(mut self, blocks: Option<Blocks>) -> Self {
        self.components.values_mut().flatten().for_each(|component| component.blocks = blocks);
        self
    }

    /// The components with this role, in the order of the role's folders.
    pub(crate) fn components(&self, role: Role) -> &[Component] {
        self.components.get(&role).map(Vec::as_slice).unwrap_or_default()
    }

    /// The first component with this role.
    ///
    /// # Errors
    /// [`Error::NotAModel`]: the model has none.
    pub(crate) fn component(&self, role: Role) -> Result<&Component> {
        self.components(role).first().ok_or_else(|| lacks(&self.place, role.name()))
    }

    /// The first component with this role, to be changed.
    ///
    /// # Errors
    /// [`Error::NotAModel`]: the model has none.
    pub(crate) fn component_mut(&mut self, role: Role) -> Result<&mut Component> {
        let first = self.components.get_mut(&role).and_then(|components| components.first_mut());
        first.ok_or_else(|| lacks(&self.place, role.name()))
    }

    /// What the user should know about how the model's files are read.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn notices(&self) -> Result<Vec<String>> {
        let mut notices = self.said.clone();
        for component in self.components.values().flatten() {
            notices.extend(component.choices()?);
        }
        Ok(notices)
    }

    /// The tokenizer's JSON.
    ///
    /// # Errors
    /// A file that cannot be read, or is something else.
    pub(crate) fn tokenizer(&self) -> Result<Vec<u8>> {
        self.tokenizer.json()
    }

    /// Bytes of weights that are compiled into the program.
    pub(crate) fn bytes_in_program(&self) -> u64 {
        self.components
            .values()
            .flatten()
            .flat_map(|component| component.weights.all_blobs())
            .map(Blob::bytes_in_program)
            .sum()
    }
}

/// The manifest of the known variant that the transformers belong to; an unknown size gets the defaults of the family's
/// smallest variant under its own name.
fn manifest_of(family: &dyn FamilyFiles, tensors: &[TensorInfo], experts: usize, place: &Path) -> Result<Manifest> {
    let variant = family.variant(tensors, experts);
    let mut known = Manifest::known().into_iter().filter(|manifest| manifest.family == family.name());
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let nearest = match variant {
        Some(variant) => known.find(|manifest| manifest.name == variant),
        None => known.next().map(|manifest| Manifest {
            name,
            repository: None,
            transformer: None,
            caches: Caches::default(),
            // Without the tables of caches, no mode can have one that needs a table.
            modes: manifest.modes.without_caches(),
            ..manifest
        }),
    };
    nearest.ok_or_else(|| Error::NotAModel { path: place.to_path_buf(), reason: "its variant is not known".into() })
}

/// The tensors with names as the model has them, without the segments of modules that wrap its own.
fn names_of_model(mut tensors: Vec<TensorInfo>) -> Vec<TensorInfo> {
    for tensor in &mut tensors {
        tensor.name = unwrapped(&tensor.name).into_owned();
    }
    tensors
}

fn lacks(place: &Path, what: &str) -> Error {
    Error::NotAModel { path: place.to_path_buf(), reason: format!("it has no {what}") }
}
