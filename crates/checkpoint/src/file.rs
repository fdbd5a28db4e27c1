//! [`TensorFile`]: the tensors of one file, read one at a time.

use crate::content::{Content, LOOKED_AT};
use crate::convert::{Elements, Wanted, candle_dtype, tensor_from_bytes, weights_from};
use crate::data::{Data, io_error};
use crate::entry::Entry;
use crate::header::read_header;
use crate::pth::read_pth;
use crate::{Error, Result};
use candle_core::Tensor;
use safetensors::Dtype;
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
    /// The dtype in which its elements are stored.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its size in the file, in bytes.
    pub bytes: usize,
}

/// A tensor file (safetensors or .pth) that is read lazily: only requested tensors are copied.
pub struct TensorFile {
    path: PathBuf,
    data: Data,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
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
        let (entries, metadata, choice) = match Content::of(&data.start(LOOKED_AT)) {
            Some(Content::Zip) => {
                let (entries, choice) = read_pth(path, &data)?;
                (entries, BTreeMap::new(), choice)
            }
            None | Some(Content::Safetensors) => {
                let header = read_header(path, &data)?;
                (header.entries, header.metadata, None)
            }
            Some(content) => return Err(Error::Content { path: path.to_path_buf(), content, wanted: "tensors" }),
        };
        if let Some(name) = entries.keys().find(|name| name.len() > LONGEST_NAME) {
            let problem = format!("a tensor's name has {} bytes, at most {LONGEST_NAME} are read", name.len());
            return Err(Error::Invalid { path: path.to_path_buf(), problem });
        }
        Ok(Self { path: path.to_path_buf(), data, entries, metadata, choice })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the metadata strings of a safetensors file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns a sentence about the set of tensors that is read, of a file that holds several.
    pub fn choice(&self) -> Option<&str> {
        self.choice.as_deref()
    }

    /// Returns the descriptions of all tensors, sorted by name.
    pub fn infos(&self) -> Vec<TensorInfo> {
        let info = |(name, entry): (&String, &Entry)| TensorInfo {
            name: name.clone(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: entry.bytes(),
        };
        self.entries.iter().map(info).collect()
    }

    /// Returns the tensor `name` on the CPU, in its stored dtype.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let entry = self.entry(name)?;
        let dtype = candle_dtype(name, entry.dtype)?;
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
        let dtype = candle_dtype(name, entry.dtype)?;
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
        &self.entries
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| self.invalid_tensor(name, "is not in the file".to_string()))
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
        let weights = weights_from(name, &elements, entry.dtype, shape, wanted);
        if !self.data.is_unchanged() {
            return Err(Error::Changed { path: self.path.clone() });
        }
        match weights {
            Err(Error::Io { source, .. }) => Err(io_error(&self.path, source)),
            weights => weights,
        }
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
        Ok(gather(&stored, &entry.shape, strides, entry.dtype.bitsize() / 8))
    }

    fn invalid_tensor(&self, name: &str, problem: String) -> Error {
        Error::InvalidTensor { path: self.path.clone(), name: name.to_string(), problem }
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
