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
    /// Which of their tensors are the network's.
    pub share: Share,
    /// Further files with tensors of the same network.
    pub more: Vec<Self>,
}

/// Which of the tensors in files are a network's, where the files hold others too: by what their names begin with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// One of these; every name does, where there are none.
    pub below: Vec<String>,
    /// None of these.
    pub without: Vec<String>,
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
        Self { blobs, ..Self::default() }
    }

    /// Whether the network is what the files are for, and not one of several in them.
    pub(crate) fn are_its_own(&self) -> bool {
        self.share.below.is_empty()
    }

    /// The path of the first file, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.blobs.first().map(|blob| blob.path().to_path_buf()).unwrap_or_default()
    }

    /// The files, further ones included.
    pub(crate) fn all_blobs(&self) -> impl Iterator<Item = &Blob> {
        self.all().flat_map(|files| &files.blobs)
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

    /// The JSON that the files have under `key` in their metadata, if one of them has any: configurations in the words of the
    /// original release, of all networks in a file.
    ///
    /// # Errors
    /// Files that cannot be read, and text that is no JSON.
    #[cfg_attr(not(test), allow(dead_code, reason = "only some families' files have any"))]
    pub(crate) fn metadata(&self, key: &str) -> Result<Option<Value>> {
        for file in self.open_whole()? {
            if let Some(text) = file.metadata().get(key) {
                let read = serde_json::from_slice(&kinora_checkpoint::plain_json(text.as_bytes()));
                let damaged = |error| format!("`{key}` in its metadata is not JSON: {error}");
                let hint = "the file is damaged: download it again";
                return read.map(Some).map_err(|error| Error::bad_file(file.path(), damaged(error), hint));
            }
        }
        Ok(None)
    }

    /// These files and the further ones.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.more)
    }

    /// Opens the files with the network's tensors alone; an index stands for its shards.
    fn open(&self) -> kinora_checkpoint::Result<Vec<TensorFile>> {
        let mut opened = Vec::new();
        for files in self.all() {
            opened.extend(files.open_own()?.into_iter().map(|file| file.only(|name| files.share.has(name))));
        }
        Ok(opened)
    }

    /// Opens the files with all tensors.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn open_whole(&self) -> kinora_checkpoint::Result<Vec<TensorFile>> {
        let mut opened = Vec::new();
        for files in self.all() {
            opened.extend(files.open_own()?);
        }
        Ok(opened)
    }

    /// Opens the files without the further ones, with all tensors.
    fn open_own(&self) -> kinora_checkpoint::Result<Vec<TensorFile>> {
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

impl Share {
    /// Whether the tensor called `name` is the network's.
    pub(crate) fn has(&self, name: &str) -> bool {
        let begins = |start: &String| name.starts_with(start.as_str());
        (self.below.is_empty() || self.below.iter().any(begins)) && !self.without.iter().any(begins)
    }
}
