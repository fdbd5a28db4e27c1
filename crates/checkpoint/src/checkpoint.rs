//! [`Checkpoint`]: the files of one component as one table of canonically named tensors.

use crate::companions::{Coding, Companions};
use crate::convert::{Wanted, weight_dtype};
use crate::entry::Entry;
use crate::file::{TensorFile, TensorInfo};
use crate::key_map::pick_names;
use crate::kinds::refuse_unread;
use crate::stored::{self, Place, read_matrix, values_of};
use crate::{Error, KeyMap, Result};
use candle_core::{DType, Tensor};
use kinora_formats::{Format, Matrix, Parts, Scales};
use std::collections::{BTreeMap, BTreeSet};

/// The files of one component, with their tensors by canonical name.
pub(crate) struct Checkpoint {
    files: Vec<TensorFile>,
    names: Places,
    /// How weights are read that need more than their own bytes, by name in the file.
    codings: BTreeMap<String, Coding>,
}

/// The index of the file and the name in that file, by canonical name.
type Places = BTreeMap<String, (usize, String)>;

impl Checkpoint {
    pub(crate) fn new(files: Vec<TensorFile>, key_maps: &[&KeyMap]) -> Result<Self> {
        let companions = Companions::of(&files)?;
        let mut sources: BTreeMap<String, usize> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            refuse_unread(file.path(), file.entries().keys().map(String::as_str))?;
            for (name, entry) in file.entries() {
                if is_counter(entry) || companions.names.contains(name) {
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
        let places = |names: BTreeMap<String, String>| -> Places {
            names.into_iter().map(|(canonical, source)| (canonical, (sources[&source], source))).collect()
        };
        let (mut names, duplicates) = (places(picked.names), places(picked.duplicates));
        for (canonical, duplicate) in duplicates {
            let first = &names[&canonical];
            if of_two(&files, first, &duplicate)? {
                names.insert(canonical, duplicate);
            }
        }
        Ok(Self { files, names, codings: companions.codings })
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
            format: entry.format,
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
        if self.coding(name).is_some() || entry.format.blocks().is_some() {
            let matrix = self.read(name, (file, entry), shape)?;
            return values_of(name, &matrix, shape, &wanted).map(Some);
        }
        file.weights(name, entry, shape, &wanted).map(Some)
    }

    /// Returns the dtype that the tensor has without a conversion, or `None` if there is none of that name. Another shape
    /// or a dtype that no weight has is an error. No data is read.
    pub(crate) fn check(&self, name: &str, shape: &[usize]) -> Result<Option<DType>> {
        let Some((_, entry)) = self.find(name) else { return Ok(None) };
        let coding = self.coding(name);
        if !coding.map_or_else(|| entry.fits(shape), |coding| stored::fits(coding, &entry.shape, shape)) {
            let (found, expected) = (entry.shape.clone(), shape.to_vec());
            return Err(Error::Shape { name: name.to_string(), found, expected });
        }
        // Products of levels and scales need all of f32.
        if coding.is_some() || entry.format.blocks().is_some() {
            return Ok(Some(DType::F32));
        }
        weight_dtype(name, entry.format).map(Some)
    }

    /// Returns the matrix with the canonical name `name` in the form in which it is stored, or `None` if that is a dtype that
    /// tensors have, or there is none of that name.
    ///
    /// # Errors
    /// Another shape, values that are no numbers, nothing but zeros unless they are allowed, and files that cannot be read.
    pub(crate) fn matrix(&self, name: &str, shape: [usize; 2], zeros: bool) -> Result<Option<Matrix>> {
        if self.check(name, &shape)?.is_none() {
            return Ok(None);
        }
        let Some(place) = self.find(name).filter(|(_, entry)| self.stays(name, entry, shape[1])) else {
            return Ok(None);
        };
        let matrix = self.read(name, place, &shape)?;
        stored::check(name, &matrix, zeros)?;
        Ok(Some(matrix))
    }

    /// Returns the rows `ids` of the matrix with the canonical name `name`, in the form in which they are stored and without
    /// reading the others; `None` where they need more than their own bytes, or there is none of that name. `ids` are less than the
    /// number of rows.
    ///
    /// # Errors
    /// Another shape, values that are no numbers, and files that cannot be read.
    pub(crate) fn rows(&self, name: &str, shape: [usize; 2], ids: &[u32]) -> Result<Option<Matrix>> {
        if self.check(name, &shape)?.is_none() {
            return Ok(None);
        }
        let (columns, unread) = (shape[1], |entry: &Entry| entry.strides.is_some() || entry.format == Format::F64);
        let Some((file, entry)) = self.find(name).filter(|(_, entry)| !unread(entry) && self.coding(name).is_none())
        else {
            return Ok(None);
        };
        let Some(len) = entry.format.bytes(columns) else { return Ok(None) };
        let (format, bytes) = (entry.format, file.rows_of(entry, len, ids)?);
        let (rows, scales) = (ids.len(), Scales::None);
        let parts = Parts { format, rows, columns, stride: columns, bytes, scales, rotation: 1 };
        let problem = |problem| Error::Coding { path: file.path().to_path_buf(), name: name.to_string(), problem };
        let matrix = Matrix::new(parts).map_err(problem)?;
        stored::check(name, &matrix, true)?;
        Ok(Some(matrix))
    }

    /// Returns the bytes of [`Checkpoint::matrix`] without reading it.
    pub(crate) fn matrix_bytes(&self, name: &str, shape: [usize; 2]) -> Result<Option<usize>> {
        if self.check(name, &shape)?.is_none() {
            return Ok(None);
        }
        let Some((_, entry)) = self.find(name).filter(|(_, entry)| self.stays(name, entry, shape[1])) else {
            return Ok(None);
        };
        let scale = self.coding(name).and_then(|coding| self.source(&coding.scale));
        Ok(Some(entry.bytes() + scale.map_or(0, |(_, scale)| scale.bytes())))
    }

    /// Whether a matrix with so many columns can be handed out as it is stored.
    fn stays(&self, name: &str, entry: &Entry, columns: usize) -> bool {
        let is_small = matches!(entry.format, Format::F8E4m3 | Format::F8E5m2);
        let in_rows = |values: usize| columns.is_multiple_of(values);
        self.coding(name).is_some() || is_small || entry.format.blocks().is_some_and(|blocks| in_rows(blocks.values()))
    }

    fn read(&self, name: &str, place: Place, shape: &[usize]) -> Result<Matrix> {
        read_matrix(name, place, shape, self.coding(name), |source| self.source(source))
    }

    /// How the tensor with the canonical name `name` is read.
    fn coding(&self, name: &str) -> Option<&Coding> {
        self.codings.get(&self.names.get(name)?.1)
    }

    /// The tensor with this name in a file.
    fn source(&self, name: &str) -> Option<Place<'_>> {
        self.files.iter().find_map(|file| Some((file, file.entries().get(name)?)))
    }

    fn find(&self, name: &str) -> Option<(&TensorFile, &Entry)> {
        let (file, source) = self.names.get(name)?;
        let file = &self.files[*file];
        Some((file, file.entries().get(source)?))
    }
}

/// Returns whether the second of two tensors that are one in the model is to be read: where the first holds nothing but zeros, as it
/// was made by a tool that took the other one for it. Parts of both are looked at.
///
/// # Errors
/// [`Error::Differ`], and files that cannot be read.
fn of_two(files: &[TensorFile], first: &(usize, String), second: &(usize, String)) -> Result<bool> {
    let sample = |(file, name): &(usize, String)| {
        let entry = files[*file].entry(name)?;
        Ok::<_, Error>((entry, files[*file].sample(entry)?))
    };
    let ((first_entry, own), (second_entry, other)) = (sample(first)?, sample(second)?);
    let is_zero = |sample: &[u8]| sample.iter().all(|byte| *byte == 0);
    if is_zero(&own) || is_zero(&other) {
        return Ok(is_zero(&own) && !is_zero(&other));
    }
    if first_entry.shape == second_entry.shape && (first_entry.format != second_entry.format || own == other) {
        return Ok(false);
    }
    Err(Error::Differ { first: first.1.clone(), second: second.1.clone() })
}

/// Returns whether the tensor is a whole number that a layer counted while it was trained: no weight.
fn is_counter(entry: &Entry) -> bool {
    entry.format == Format::I64 && entry.shape.is_empty()
}
