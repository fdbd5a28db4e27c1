//! [`Checkpoint`]: the files of one component as one table of canonically named tensors.

use crate::convert::{Wanted, weight_dtype};
use crate::entry::Entry;
use crate::file::{TensorFile, TensorInfo};
use crate::key_map::pick_names;
use crate::kinds::refuse_unread;
use crate::{Error, KeyMap, Result};
use candle_core::{DType, Tensor};
use safetensors::Dtype;
use std::collections::{BTreeMap, BTreeSet};

/// The files of one component, with their tensors by canonical name.
pub(crate) struct Checkpoint {
    files: Vec<TensorFile>,
    names: Places,
    /// Tensors that should be the same as the one of that name.
    duplicates: Places,
}

/// The index of the file and the name in that file, by canonical name.
type Places = BTreeMap<String, (usize, String)>;

impl Checkpoint {
    pub(crate) fn new(files: Vec<TensorFile>, key_maps: &[&KeyMap]) -> Result<Self> {
        let mut sources: BTreeMap<String, usize> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            refuse_unread(file.path(), file.entries().keys().map(String::as_str))?;
            for (name, entry) in file.entries() {
                if is_counter(entry) {
                    continue;
                }
                if let Some(first) = sources.insert(name.clone(), index) {
                    let (first, second) = (files[first].path().to_path_buf(), file.path().to_path_buf());
                    return Err(Error::TwoFiles { name: name.clone(), first, second });
                }
            }
        }
        let all: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
        let picked = pick_names(key_maps, &all)?;
        let places = |names: BTreeMap<String, String>| {
            names.into_iter().map(|(canonical, source)| (canonical, (sources[&source], source))).collect()
        };
        let (names, duplicates) = (places(picked.names), places(picked.duplicates));
        Ok(Self { files, names, duplicates })
    }

    /// Iterates over the canonical names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Returns the stored dtype, shape and size of the tensor with the canonical name `name`.
    pub(crate) fn info(&self, name: &str) -> Option<TensorInfo> {
        let (_, entry) = self.find(name)?;
        Some(TensorInfo {
            name: name.to_string(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: entry.bytes(),
        })
    }

    /// Returns the tensor as it is `wanted`, or `None` if there is none of that name. A shape other than `shape` is an error
    /// before any data is read. Without a `dtype`, the tensor keeps the stored one.
    pub(crate) fn get(
        &self,
        name: &str,
        shape: &[usize],
        dtype: Option<DType>,
        wanted: &Wanted,
    ) -> Result<Option<Tensor>> {
        let Some(stored) = self.check(name, shape)? else { return Ok(None) };
        let wanted = Wanted { dtype: dtype.unwrap_or(stored), ..*wanted };
        let Some((file, entry)) = self.find(name) else { return Ok(None) };
        let weights = file.weights(name, entry, shape, &wanted);
        let Some(other) = self.duplicates.get(name) else { return weights.map(Some) };
        let (first, second) = (&self.names[name].1, &other.1);
        let other_file = &self.files[other.0];
        let other_entry = other_file.entry(second)?;
        match weights {
            // One of the two was left as it was made, by a tool that took it for the other.
            Err(Error::Zeros { .. }) => other_file.weights(name, other_entry, shape, &wanted).map(Some),
            Ok(tensor) => {
                let others = other_file.sample(other_entry)?;
                let same = entry.shape == other_entry.shape
                    && (entry.dtype != other_entry.dtype || file.sample(entry)? == others);
                if same || others.iter().all(|byte| *byte == 0) {
                    return Ok(Some(tensor));
                }
                Err(Error::Differ { first: first.clone(), second: second.clone() })
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the dtype that the tensor has without a conversion, or `None` if there is none of that name. Another shape
    /// or a dtype that no weight has is an error. No data is read.
    pub(crate) fn check(&self, name: &str, shape: &[usize]) -> Result<Option<DType>> {
        let Some((_, entry)) = self.find(name) else { return Ok(None) };
        if entry.shape != shape {
            let (found, expected) = (entry.shape.clone(), shape.to_vec());
            return Err(Error::Shape { name: name.to_string(), found, expected });
        }
        weight_dtype(name, entry.dtype).map(Some)
    }

    fn find(&self, name: &str) -> Option<(&TensorFile, &Entry)> {
        let (file, source) = self.names.get(name)?;
        let file = &self.files[*file];
        Some((file, file.entries().get(source)?))
    }
}

/// Returns whether the tensor is a whole number that a layer counted while it was trained: no weight.
fn is_counter(entry: &Entry) -> bool {
    entry.dtype == Dtype::I64 && entry.shape.is_empty()
}
