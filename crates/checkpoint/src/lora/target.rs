//! [`LoraTarget`]: the tensors of a model, by every name that a LoRA may have for them.

use super::key::flattened;
use crate::KeyMap;
use crate::similar::most_similar;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};

/// One of two transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expert {
    /// The one for high noise.
    High,
    /// The one for low noise.
    Low,
}

impl Expert {
    /// Both, in the order of a model's transformers.
    pub const ALL: [Self; 2] = [Self::High, Self::Low];
}

impl Display for Expert {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Low => "low",
        })
    }
}

/// The tensors of a model, by every name that a LoRA may have for them.
#[derive(Clone, Debug)]
pub struct LoraTarget {
    shapes: BTreeMap<String, Vec<usize>>,
    /// Modules by their names in all layouts.
    modules: BTreeMap<String, Place>,
    /// Modules by those names with underscores for dots; `None` if two modules have the same one.
    flat: BTreeMap<String, Option<Place>>,
    expert: Option<Expert>,
}

/// Where the model has a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Its canonical name.
    Here(String),
    /// Other variants have it, this one does not.
    Elsewhere,
}

impl LoraTarget {
    /// Returns the target for a model with these tensors, by canonical name, whose names in other layouts are those of
    /// `key_maps`.
    pub fn new(tensors: impl IntoIterator<Item = (String, Vec<usize>)>, key_maps: &[KeyMap]) -> Self {
        let shapes: BTreeMap<String, Vec<usize>> = tensors.into_iter().collect();
        let (modules, flat) = (BTreeMap::new(), BTreeMap::new());
        let mut target = Self { shapes, modules, flat, expert: None };
        let names: Vec<String> = target.shapes.keys().cloned().collect();
        target.add(&names, key_maps, |module| Place::Here(module.to_string()));
        target
    }

    /// Adds the canonical names of tensors that other variants of the model have: changes of those that this one lacks are
    /// counted and left out.
    #[must_use]
    pub fn with_siblings(mut self, tensors: impl IntoIterator<Item = String>, key_maps: &[KeyMap]) -> Self {
        let others: Vec<String> = tensors.into_iter().filter(|name| !self.shapes.contains_key(name)).collect();
        self.add(&others, key_maps, |_| Place::Elsewhere);
        self
    }

    /// Says which of two experts the model is.
    #[must_use]
    pub fn of_expert(self, expert: Option<Expert>) -> Self {
        Self { expert, ..self }
    }

    /// Returns which of two experts the model is.
    pub fn expert(&self) -> Option<Expert> {
        self.expert
    }

    fn add(&mut self, tensors: &[String], key_maps: &[KeyMap], place: impl Fn(&str) -> Place) {
        let mut found: BTreeSet<(String, String)> = BTreeSet::new();
        for canonical in tensors {
            let others = key_maps.iter().filter_map(|map| map.source_of(canonical));
            for name in std::iter::once(canonical.clone()).chain(others) {
                if let (Some((module, _)), Some((own, _))) = (name.rsplit_once('.'), canonical.rsplit_once('.')) {
                    found.insert((module.to_string(), own.to_string()));
                }
                // A parameter of a block itself, such as its modulation.
                let leaf = canonical.rsplit_once('.').map_or(canonical.as_str(), |(_, leaf)| leaf);
                if !["weight", "bias"].contains(&leaf) {
                    found.insert((name, canonical.clone()));
                }
            }
        }
        // The first name wins: what the model has before what others have, and canonical names, which are their own.
        let (canonical, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|(name, own)| name == own);
        for (name, own) in canonical.into_iter().chain(others) {
            if self.modules.contains_key(&name) {
                continue;
            }
            let place = place(&own);
            self.modules.insert(name.clone(), place.clone());
            let flat = self.flat.entry(flattened(&name)).or_insert_with(|| Some(place.clone()));
            if flat.as_ref() != Some(&place) {
                *flat = None;
            }
        }
    }

    /// Finds a module by a name of a file; `flat` says that its dots may be underscores.
    pub(super) fn find(&self, name: &str, flat: bool) -> Option<&Place> {
        let found = self.modules.get(name);
        if found.is_some() || !flat { found } else { self.flat.get(&flattened(name))?.as_ref() }
    }

    /// The closest name of a module.
    pub(super) fn similar(&self, name: &str, flat: bool) -> Option<String> {
        if flat && !name.contains('.') {
            most_similar(name, self.flat.keys().map(String::as_str))
        } else {
            most_similar(name, self.modules.keys().map(String::as_str))
        }
    }

    pub(super) fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.shapes.get(tensor).map(Vec::as_slice)
    }
}
