//! [`Component`]: one network of a model, its configuration and its weights; [`Blob`]: a file on disk or in the program.

use crate::model::role::Role;
use crate::{Error, Result};
use candle_core::{DType, Device};
use kinora_checkpoint::{KeyMap, TensorFile, TensorInfo, Weights};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One network of a model.
pub(crate) struct Component {
    pub role: Role,
    /// The configuration file's content, where there is one.
    pub config: Option<Value>,
    /// The files of the weights; none mean random weights.
    pub weights: Vec<Blob>,
}

/// A file on disk or in the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Blob {
    File(PathBuf),
    Static(&'static str, &'static [u8]),
}

impl Component {
    /// A component with random weights.
    pub(crate) fn random(role: Role, config: Option<Value>) -> Self {
        Self { role, config, weights: Vec::new() }
    }

    /// The weights on `device` under canonical names, by the one of `key_maps` that knows all of them. Dense tensors
    /// have the dtype `dtype`.
    ///
    /// # Errors
    /// [`Error::Component`] with the file or tensor that cannot be used.
    pub(crate) fn weights(&self, key_maps: &[KeyMap], device: &Device, dtype: DType) -> Result<Weights> {
        if self.weights.is_empty() {
            return Ok(Weights::random(0, device, dtype));
        }
        let key_maps: Vec<&KeyMap> = key_maps.iter().collect();
        let weights = open(&self.weights).and_then(|files| Weights::from_files(files, &key_maps, device, dtype));
        weights.map_err(|source| self.error(source))
    }

    /// Weights that check a module against the files, and count its bytes, without reading data.
    ///
    /// # Errors
    /// [`Error::Component`] with the file or tensor that cannot be used.
    pub(crate) fn headers(&self, key_maps: &[KeyMap], dtype: DType) -> Result<Weights> {
        if self.weights.is_empty() {
            return Ok(Weights::recorder_of(dtype));
        }
        let key_maps: Vec<&KeyMap> = key_maps.iter().collect();
        let headers = open(&self.weights).and_then(|files| Weights::headers_only(files, &key_maps, dtype));
        headers.map_err(|source| self.error(source))
    }

    /// Sentences about choices that were made between the contents of files.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn choices(&self) -> Result<Vec<String>> {
        let files = open(&self.weights).map_err(|source| self.error(source))?;
        Ok(files.iter().filter_map(TensorFile::choice).map(str::to_string).collect())
    }

    fn error(&self, source: kinora_checkpoint::Error) -> Error {
        Error::Component { component: self.role.name(), source }
    }
}

impl Blob {
    /// The path on disk, or the name in the program.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Static(name, _) => Path::new(name),
        }
    }

    /// All bytes.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => Ok(kinora_checkpoint::read_file(path)?),
            Self::Static(_, bytes) => Ok(bytes.to_vec()),
        }
    }

    /// The size of a file that is compiled into the program.
    pub(crate) fn bytes_in_program(&self) -> u64 {
        match self {
            Self::File(_) => 0,
            Self::Static(_, bytes) => bytes.len() as u64,
        }
    }
}

/// Names, dtypes and shapes of the tensors in the files.
pub(crate) fn infos(weights: &[Blob]) -> Result<Vec<TensorInfo>> {
    Ok(open(weights)?.iter().flat_map(TensorFile::infos).collect())
}

/// Opens the files; an index stands for its shards.
fn open(weights: &[Blob]) -> kinora_checkpoint::Result<Vec<TensorFile>> {
    let files = weights.iter().map(|blob| match blob {
        Blob::File(path) => TensorFile::open_all(path),
        Blob::Static(name, bytes) => Ok(vec![TensorFile::from_static(name, bytes)?]),
    });
    let files = files.collect::<kinora_checkpoint::Result<Vec<_>>>()?;
    Ok(files.into_iter().flatten().collect())
}
