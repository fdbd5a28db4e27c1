//! [`TensorFile`]: the tensors of one mapped file, read one at a time.

use crate::convert::{candle_dtype, tensor_from_bytes};
use crate::entry::Entry;
use crate::header::read_header;
use crate::map::{give_back, map, map_open};
use crate::pth::read_pth;
use crate::{Error, Result};
use candle_core::Tensor;
use memmap2::Mmap;
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

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

enum Data {
    Mapped(File, Mmap),
    Static(&'static [u8]),
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(_, map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// A tensor file (safetensors or .pth) that is memory-mapped and read lazily: only requested tensors are copied.
pub struct TensorFile {
    path: PathBuf,
    data: Data,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Maps the file and checks its header.
    ///
    /// # Errors
    /// A file that cannot be read or is not valid; the error names the file and, if it is about one, the tensor.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(path, {
            let (file, map) = map(path)?;
            Data::Mapped(file, map)
        })
    }

    /// Opens a file that is compiled into the program; errors give `name` as its path.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::new(Path::new(name), Data::Static(bytes))
    }

    /// The file that is open as `file` and was just given the name `path`.
    pub(crate) fn of_open(path: &Path, file: File) -> Result<Self> {
        let map = map_open(&file).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        Self::new(path, Data::Mapped(file, map))
    }

    fn new(path: &Path, data: Data) -> Result<Self> {
        let (entries, metadata) = match format(path, &data)? {
            Format::Safetensors => {
                let header = read_header(path, &data)?;
                (header.entries, header.metadata)
            }
            Format::Pth => (read_pth(path, &data)?, BTreeMap::new()),
        };
        Ok(Self { path: path.to_path_buf(), data, entries, metadata })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the metadata strings of a safetensors file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
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
        tensor_from_bytes(&self.bytes(entry), dtype, &entry.shape)
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
        let starts = rows.map(|(row, out)| (entry.range.start + (row * shape[axis] + start) * inner, out));
        self.copy_parts(starts)?;
        let mut shape = shape.clone();
        shape[axis] = len;
        tensor_from_bytes(&bytes, dtype, &shape)
    }

    /// Copies parts of the file, each from its offset. A file on disk is read rather than mapped here, because touched pages
    /// of a map count as this process's memory.
    fn copy_parts<'a>(&self, parts: impl Iterator<Item = (usize, &'a mut [u8])>) -> Result<()> {
        for (start, out) in parts {
            match &self.data {
                Data::Static(bytes) => out.copy_from_slice(&bytes[start..start + out.len()]),
                Data::Mapped(file, map) => {
                    read_at(file, map, start, out).map_err(|source| Error::Io { path: self.path.clone(), source })?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| self.invalid_tensor(name, "is not in the file".to_string()))
    }

    /// Returns the tensor's elements in row-major order, without a copy if they are stored in that order.
    pub(crate) fn bytes(&self, entry: &Entry) -> Cow<'_, [u8]> {
        let data = &self.data[entry.range.clone()];
        match &entry.strides {
            None => Cow::Borrowed(data),
            Some(strides) => Cow::Owned(gather(data, &entry.shape, strides, entry.dtype.bitsize() / 8)),
        }
    }

    /// Gives the tensor's mapped pages back to the system.
    pub(crate) fn give_back(&self, entry: &Entry) {
        if let Data::Mapped(_, map) = &self.data {
            give_back(map, entry.range.clone());
        }
    }

    fn invalid_tensor(&self, name: &str, problem: String) -> Error {
        Error::InvalidTensor { path: self.path.clone(), name: name.to_string(), problem }
    }
}

/// A supported format of tensor files.
enum Format {
    Safetensors,
    Pth,
}

/// Returns the format of a file by its first bytes.
fn format(path: &Path, bytes: &[u8]) -> Result<Format> {
    let unsupported = |format| Err(Error::UnsupportedFormat { path: path.to_path_buf(), format });
    match bytes {
        [b'P', b'K', 3, 4, ..] => Ok(Format::Pth),
        [b'G', b'G', b'U', b'F', ..] => unsupported("GGUF"),
        // The pickled magic number of the old format.
        [0x80, 2, 0x8a, 10, ..] => unsupported("PyTorch (before version 1.6)"),
        _ => Ok(Format::Safetensors),
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

/// Reads `out` from the position `start` of the file, which may be done by several threads at once.
#[cfg(unix)]
fn read_at(file: &File, _: &Mmap, start: usize, out: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, start as u64)
}

/// The same from the map, where the system reads only from a position that all threads share.
#[cfg(not(unix))]
fn read_at(_: &File, map: &Mmap, start: usize, out: &mut [u8]) -> std::io::Result<()> {
    out.copy_from_slice(&map[start..start + out.len()]);
    Ok(())
}
