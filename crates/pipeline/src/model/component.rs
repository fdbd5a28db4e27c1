//! [`Component`]: one network of a model, its configuration and its weights; [`Blob`]: a file on disk or in the program.

use crate::model::role::Role;
use crate::{Error, Result};
use candle_core::{DType, Device};
use kinora_checkpoint::{Blocks, Changes, KeyMap, TensorFile, TensorInfo, Weights};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One network of a model.
pub(crate) struct Component {
    pub role: Role,
    /// The configuration file's content, where there is one.
    pub config: Option<Value>,
    /// The files of the weights; none mean random weights.
    pub weights: Files,
    /// The form of random matrices.
    pub blocks: Option<Blocks>,
    /// What LoRAs change of them.
    pub changes: Option<Arc<Changes>>,
}

/// The files that hold a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub blobs: Vec<Blob>,
    /// What the names of its tensors begin with, where the files hold others too.
    pub part: String,
}

/// A file on disk or in the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Blob {
    File(PathBuf),
    Static(&'static str, &'static [u8]),
}

impl Component {
    /// A component without changes.
    pub(crate) fn new(role: Role, config: Option<Value>, weights: Files) -> Self {
        Self { role, config, weights, blocks: None, changes: None }
    }

    /// A component with random weights.
    pub(crate) fn random(role: Role, config: Option<Value>) -> Self {
        Self::new(role, config, Files::default())
    }

    /// The weights on `device` under canonical names, by the one of `key_maps` that knows all of them. Dense tensors
    /// have the dtype `dtype`.
    ///
    /// # Errors
    /// [`Error::Component`] with the file or tensor that cannot be used.
    pub(crate) fn weights(&self, key_maps: &[KeyMap], device: &Device, dtype: DType) -> Result<Weights> {
        if self.weights.blobs.is_empty() {
            return Ok(self.changed(Weights::random_in_blocks(0, device, dtype, self.blocks)));
        }
        let key_maps: Vec<&KeyMap> = key_maps.iter().collect();
        let weights = self.weights.open().and_then(|files| Weights::from_files(files, &key_maps, device, dtype));
        weights.map(|weights| self.changed(weights)).map_err(|source| self.error(source))
    }

    /// Weights that check a module against the files, and count its bytes, without reading data.
    ///
    /// # Errors
    /// [`Error::Component`] with the file or tensor that cannot be used.
    pub(crate) fn headers(&self, key_maps: &[KeyMap], dtype: DType) -> Result<Weights> {
        if self.weights.blobs.is_empty() {
            return Ok(self.changed(Weights::recorder_of(dtype)));
        }
        let key_maps: Vec<&KeyMap> = key_maps.iter().collect();
        let headers = self.weights.open().and_then(|files| Weights::headers_only(files, &key_maps, dtype));
        headers.map(|headers| self.changed(headers)).map_err(|source| self.error(source))
    }

    fn changed(&self, weights: Weights) -> Weights {
        match &self.changes {
            Some(changes) => weights.with_changes(changes.clone()),
            None => weights,
        }
    }

    /// Sentences about choices that were made between the contents of files.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn choices(&self) -> Result<Vec<String>> {
        let files = self.weights.open().map_err(|source| self.error(source))?;
        Ok(files.iter().filter_map(TensorFile::choice).map(str::to_string).collect())
    }

    fn error(&self, source: kinora_checkpoint::Error) -> Error {
        Error::component(self.role.name(), source)
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

impl Files {
    /// Files that hold nothing else.
    pub(crate) fn of(blobs: Vec<Blob>) -> Self {
        Self { blobs, part: String::new() }
    }

    /// The path of the first file, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.blobs.first().map(|blob| blob.path().to_path_buf()).unwrap_or_default()
    }

    /// Names, dtypes and shapes of the network's tensors.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn infos(&self) -> Result<Vec<TensorInfo>> {
        Ok(self.open()?.iter().flat_map(TensorFile::infos).collect())
    }

    /// The name of the files' format.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn format(&self) -> Result<&'static str> {
        Ok(self.open_whole()?.first().map(TensorFile::format).unwrap_or_default())
    }

    /// Opens the files with the network's tensors alone; an index stands for its shards.
    fn open(&self) -> kinora_checkpoint::Result<Vec<TensorFile>> {
        let files = self.open_whole()?;
        Ok(if self.part.is_empty() { files } else { files.into_iter().map(|file| file.below(&self.part)).collect() })
    }

    /// Opens the files with all tensors.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn open_whole(&self) -> kinora_checkpoint::Result<Vec<TensorFile>> {
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        for blob in &self.blobs {
            match blob {
                Blob::File(path) => paths.push(path.clone()),
                Blob::Static(name, bytes) => files.push(TensorFile::from_static(name, bytes)?),
            }
        }
        files.extend(TensorFile::open_all(&paths)?);
        Ok(files)
    }
}
