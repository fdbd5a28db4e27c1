//! [`Checkpoint`]: the files of one component as one table of canonically named tensors.

use crate::convert::{weight_dtype, weights_from_bytes};
use crate::entry::Entry;
use crate::file::{TensorFile, TensorInfo};
use crate::key_map::pick_names;
use crate::{Error, KeyMap, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// The mapped files of one component, with their tensors by canonical name.
pub(crate) struct Checkpoint {
    files: Vec<TensorFile>,
    /// Maps canonical names to the index of the file and the name in that file.
    names: BTreeMap<String, (usize, String)>,
}

impl Checkpoint {
    pub(crate) fn new(files: Vec<TensorFile>, key_maps: &[&KeyMap]) -> Result<Self> {
        let mut sources: BTreeMap<String, usize> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for name in file.entries().keys() {
                if let Some(first) = sources.insert(name.clone(), index) {
                    let (first, second) = (files[first].path().to_path_buf(), file.path().to_path_buf());
                    return Err(Error::TwoFiles { name: name.clone(), first, second });
                }
            }
        }
        let all: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
        let names = pick_names(key_maps, &all)?;
        let names = names.into_iter().map(|(canonical, source)| (canonical, (sources[&source], source))).collect();
        Ok(Self { files, names })
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

    /// Returns the tensor, or `None` if there is none of that name. A shape other than `shape` is an error before any data
    /// is read. Without a `dtype`, the tensor keeps the stored one.
    pub(crate) fn get(
        &self,
        name: &str,
        shape: &[usize],
        dtype: Option<DType>,
        device: &Device,
    ) -> Result<Option<Tensor>> {
        let Some(stored) = self.check(name, shape)? else { return Ok(None) };
        let Some((file, entry)) = self.find(name) else { return Ok(None) };
        let tensor = {
            let bytes = file.bytes(entry);
            weights_from_bytes(name, &bytes, entry.dtype, shape, dtype.unwrap_or(stored), device)?
        };
        file.give_back(entry);
        Ok(Some(tensor))
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
