//! [`TensorFile`]: the tensors of one file, read one at a time.

use crate::content::{Content, LOOKED_AT};
use crate::convert::{Elements, Wanted, candle_dtype, tensor_from_bytes, weights_from};
use crate::data::{Data, io_error};
use crate::entry::Entry;
use crate::gguf::{Metadata, Shard, Value, read_gguf};
use crate::header::read_header;
use crate::pth::read_pth;
use crate::{Error, Result};
use candle_core::Tensor;
use kinora_formats::Format;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The longest name of a tensor, in bytes.
const LONGEST_NAME: usize = 1024;
/// What is read at a time to compare two tensors, in bytes, and the number of such parts.
const PART: usize = 1 << 16;
const PARTS: usize = 64;

/// The description of one tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// How its values are stored.
    pub format: Format,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its size in the file, in bytes.
    pub bytes: usize,
}

/// A tensor file (safetensors, GGUF or .pth) that is read lazily: only requested tensors are copied.
pub struct TensorFile {
    path: PathBuf,
    data: Data,
    header: Header,
}

/// The content of a file as its header describes it.
#[derive(Default)]
struct Header {
    /// The name of the file's format.
    format: &'static str,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    /// The metadata of GGUF that are no single values.
    lists: Metadata,
    shard: Option<Shard>,
    choice: Option<String>,
}

impl TensorFile {
    /// Opens the file and checks its header.
    ///
    /// # Errors
    /// A file that cannot be read or is not valid; the error names the file and, if it is about one, the tensor.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(path, Data::open(path)?)
    }

    /// Opens a file that is compiled into the program; errors give `name` as its path.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::new(Path::new(name), Data::Static(bytes))
    }

    /// The file that is open as `file` and was just given the name `path`.
    pub(crate) fn of_open(path: &Path, file: File) -> Result<Self> {
        Self::new(path, Data::of_open(file).map_err(|source| io_error(path, source))?)
    }

    fn new(path: &Path, data: Data) -> Result<Self> {
        let header = Header::read(path, &data)?;
        if let Some(name) = header.entries.keys().find(|name| name.len() > LONGEST_NAME) {
            let problem = format!("a tensor's name has {} bytes, at most {LONGEST_NAME} are read", name.len());
            return Err(Error::Invalid { path: path.to_path_buf(), problem });
        }
        Ok(Self { path: path.to_path_buf(), data, header })
    }

    /// Returns the file with those of its tensors alone whose names begin with `prefix`.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        self.header.entries.retain(|name, _| name.starts_with(prefix));
        self
    }

    /// Returns the file with those of its tensors alone whose names `keep` accepts.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.header.entries.retain(|name, _| keep(name));
        self
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the file's format: `safetensors`, `GGUF` or `PyTorch`.
    pub fn format(&self) -> &'static str {
        self.header.format
    }

    /// Returns the metadata strings of a safetensors file, or the single values of a GGUF file as text.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// Returns the list of texts under `key` in a GGUF file's metadata, if there is one.
    ///
    /// # Errors
    /// [`Error::Invalid`]: another kind of list, or texts that cannot be read.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(Value::List(list)) = self.header.lists.get(key) else { return Ok(None) };
        list.texts(&self.data).map(Some).map_err(|problem| self.invalid_list(key, &problem))
    }

    /// Returns the list of numbers under `key` in a GGUF file's metadata, if there is one.
    ///
    /// # Errors
    /// [`Error::Invalid`]: another kind of list, or numbers that cannot be read.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(Value::List(list)) = self.header.lists.get(key) else { return Ok(None) };
        list.numbers(&self.data).map(Some).map_err(|problem| self.invalid_list(key, &problem))
    }

    /// The place among the files that it is one with.
    pub(crate) fn shard(&self) -> Option<Shard> {
        self.header.shard
    }

    /// Returns a sentence about the set of tensors that is read, of a file that holds several.
    pub fn choice(&self) -> Option<&str> {
        self.header.choice.as_deref()
    }

    /// Returns the descriptions of all tensors, sorted by name.
    pub fn infos(&self) -> Vec<TensorInfo> {
        let info = |(name, entry): (&String, &Entry)| TensorInfo {
            name: name.clone(),
            format: entry.format,
            shape: entry.shape.clone(),
            bytes: entry.bytes(),
        };
        self.header.entries.iter().map(info).collect()
    }

    /// Returns the tensor `name` on the CPU, in its stored dtype.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let entry = self.entry(name)?;
        let dtype = candle_dtype(name, entry.format)?;
        let mut bytes = vec![0; entry.bytes()];
        match &entry.strides {
            None => self.read(entry.range.start, &mut bytes)?,
            Some(strides) => bytes = self.gathered(entry, strides)?,
        }
        tensor_from_bytes(&bytes, dtype, &entry.shape)
    }

    /// Returns the slice `start..start + len` along `axis` of the tensor `name`, without reading the rest of the file.
    pub fn narrow(&self, name: &str, axis: usize, start: usize, len: usize) -> Result<Tensor> {
        let entry = self.entry(name)?;
        let shape = &entry.shape;
        let fits = shape.get(axis).is_some_and(|size| start.checked_add(len).is_some_and(|end| end <= *size));
        if !fits || entry.strides.is_some() {
            let problem = format!("no slice {start}+{len} along axis {axis} of shape {shape:?}");
            return Err(self.invalid_tensor(name, problem));
        }
        let dtype = candle_dtype(name, entry.format)?;
        let inner = shape[axis + 1..].iter().product::<usize>() * dtype.size_in_bytes();
        let outer: usize = shape[..axis].iter().product();
        let mut bytes = vec![0; outer * len * inner];
        let rows = bytes.chunks_exact_mut((len * inner).max(1)).enumerate();
        for (row, out) in rows {
            self.read(entry.range.start + (row * shape[axis] + start) * inner, out)?;
        }
        let mut shape = shape.clone();
        shape[axis] = len;
        tensor_from_bytes(&bytes, dtype, &shape)
    }

    fn read(&self, start: usize, out: &mut [u8]) -> Result<()> {
        self.data.read(start, out).map_err(|source| io_error(&self.path, source))
    }

    pub(crate) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.header.entries
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&Entry> {
        self.header.entries.get(name).ok_or_else(|| self.invalid_tensor(name, "is not in the file".to_string()))
    }

    /// Returns the weights at `entry`, called `name`, as a tensor of `shape`.
    ///
    /// # Errors
    /// Values that no weight has, and a file that another program has written into since it was opened.
    pub(crate) fn weights(&self, name: &str, entry: &Entry, shape: &[usize], wanted: &Wanted) -> Result<Tensor> {
        let elements = match &entry.strides {
            None => Elements::File(&self.data, entry.range.clone()),
            Some(strides) => Elements::Bytes(self.gathered(entry, strides)?),
        };
        let weights = weights_from(name, &elements, entry.format, shape, wanted);
        if !self.data.is_unchanged() {
            return Err(Error::Changed { path: self.path.clone() });
        }
        match weights {
            Err(Error::Io { source, .. }) => Err(io_error(&self.path, source)),
            weights => weights,
        }
    }

    /// Returns all bytes at `entry`, row-major.
    ///
    /// # Errors
    /// A file that cannot be read, or that another program has written into since it was opened.
    pub(crate) fn bytes_of(&self, entry: &Entry) -> Result<Vec<u8>> {
        /// Bytes that a thread reads at a time.
        const PIECE: usize = 1 << 22;
        if let Some(strides) = &entry.strides {
            return self.gathered(entry, strides);
        }
        let mut bytes = vec![0; entry.range.len()];
        let pieces = bytes.par_chunks_mut(PIECE).enumerate();
        pieces.try_for_each(|(piece, out)| self.read(entry.range.start + piece * PIECE, out))?;
        if !self.data.is_unchanged() {
            return Err(Error::Changed { path: self.path.clone() });
        }
        Ok(bytes)
    }

    /// Returns some parts of the tensor's bytes, in the order of the file: of tensors that differ, they will differ.
    pub(crate) fn sample(&self, entry: &Entry) -> Result<Vec<u8>> {
        let (bytes, mut sample) = (entry.range.len(), Vec::new());
        for start in (0..bytes).step_by((bytes / PARTS).max(PART)) {
            let filled = sample.len();
            sample.resize(filled + PART.min(bytes - start), 0);
            self.read(entry.range.start + start, &mut sample[filled..])?;
        }
        Ok(sample)
    }

    /// Returns elements with strides in row-major order.
    fn gathered(&self, entry: &Entry, strides: &[usize]) -> Result<Vec<u8>> {
        let mut stored = vec![0; entry.range.len()];
        self.read(entry.range.start, &mut stored)?;
        Ok(gather(&stored, &entry.shape, strides, entry.format.unit().1))
    }

    fn invalid_tensor(&self, name: &str, problem: String) -> Error {
        Error::InvalidTensor { path: self.path.clone(), name: name.to_string(), problem }
    }

    fn invalid_list(&self, key: &str, problem: &str) -> Error {
        Error::Invalid { path: self.path.clone(), problem: format!("`{key}` {problem}") }
    }
}

impl Header {
    fn read(path: &Path, data: &Data) -> Result<Self> {
        Ok(match Content::of(&data.start(LOOKED_AT)) {
            Some(Content::Zip) => {
                let (entries, choice) = read_pth(path, data)?;
                Self { format: "PyTorch", entries, choice, ..Self::default() }
            }
            Some(Content::Gguf) => {
                let gguf = read_gguf(path, data)?;
                let shard = gguf.shard();
                let shown = |(key, value): (&String, &Value)| Some((key.clone(), value.shown()?));
                let metadata = gguf.metadata.iter().filter_map(shown).collect();
                let mut lists = gguf.metadata;
                lists.retain(|_, value| matches!(value, Value::List(_)));
                Self { format: "GGUF", entries: gguf.entries, metadata, lists, shard, choice: None }
            }
            None | Some(Content::Safetensors) => {
                let header = read_header(path, data)?;
                let (entries, metadata) = (header.entries, header.metadata);
                Self { format: "safetensors", entries, metadata, ..Self::default() }
            }
            Some(content) => return Err(Error::Content { path: path.to_path_buf(), content, wanted: "tensors" }),
        })
    }
}

/// Copies elements of `size` bytes into row-major order.
fn gather(data: &[u8], shape: &[usize], strides: &[usize], size: usize) -> Vec<u8> {
    let elements: usize = shape.iter().product();
    let mut bytes = Vec::with_capacity(elements * size);
    let mut index = vec![0; shape.len()];
    for _ in 0..elements {
        let at = index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>() * size;
        bytes.extend_from_slice(&data[at..at + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    bytes
}
