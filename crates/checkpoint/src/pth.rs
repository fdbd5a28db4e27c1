//! `PyTorch` files (`torch.save`, version 1.6 and later): an uncompressed ZIP with a pickled state dict and one member
//! per storage. <https://github.com/pytorch/pytorch/blob/v2.5.0/torch/serialization.py>
//!
//! Nothing in the pickle is executed. The tensors are read from the mapped file as those of safetensors files are.

use crate::entry::{Entry, count_elements};
use crate::pickle::{Id, Pickle, Value};
use crate::zip::{Members, members};
use crate::{Error, Result};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The names under which training scripts store the state dict.
const WRAPPERS: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];

/// Returns the tensors of the `PyTorch` file `path` with the content `bytes`.
pub(crate) fn read_pth(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let invalid = |problem: String| Error::Invalid { path: path.to_path_buf(), problem };
    let archive = Archive::read(bytes).map_err(invalid)?;
    let mut entries = BTreeMap::new();
    for (key, value) in archive.state_dict().map_err(invalid)? {
        let name = archive.pickle.text(*key).ok_or_else(|| invalid("a tensor's name is not text".to_string()))?;
        let entry = archive.entry(*value);
        let twice = entry.map(|entry| entries.insert(name.to_string(), entry).is_some());
        let problem = match twice {
            Ok(false) => continue,
            Ok(true) => "appears twice".to_string(),
            Err(problem) => problem,
        };
        return Err(Error::InvalidTensor { path: path.to_path_buf(), name: name.to_string(), problem });
    }
    Ok(entries)
}

struct Archive {
    members: Members,
    /// The folder of all members, with its slash.
    folder: String,
    pickle: Pickle,
}

impl Archive {
    fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
        let members = members(bytes)?;
        let mut pickles = members.iter().filter_map(|(name, range)| Some((name.strip_suffix("data.pkl")?, range)));
        let (Some((folder, range)), None) = (pickles.next(), pickles.next()) else {
            return Err("not a PyTorch file: it does not hold exactly one data.pkl".to_string());
        };
        let folder = folder.to_string();
        if members.get(&format!("{folder}byteorder")).is_some_and(|range| bytes[range.clone()] != *b"little") {
            return Err("its numbers are big-endian".to_string());
        }
        let pickle = Pickle::read(&bytes[range.clone()]).map_err(|e| format!("data.pkl is not valid: {e}"))?;
        Ok(Self { members, folder, pickle })
    }

    /// Returns the dictionary of tensors, without its wrappers.
    fn state_dict(&self) -> std::result::Result<&[(Id, Id)], String> {
        let mut id = self.pickle.root();
        for _ in 0..=WRAPPERS.len() {
            let Some(items) = self.pickle.dict(id) else { break };
            if items.iter().any(|(_, value)| self.pickle.call(*value).is_some()) {
                return Ok(items);
            }
            let wrapped = |name: &&str| items.iter().find(|(key, _)| self.pickle.text(*key) == Some(name));
            let Some((_, inner)) = WRAPPERS.iter().find_map(wrapped) else { break };
            id = *inner;
        }
        Err("it holds no state dict (a dictionary of tensors)".to_string())
    }

    fn entry(&self, id: Id) -> std::result::Result<Entry, String> {
        let pickle = &self.pickle;
        let (mut function, mut args) = pickle.call(id).ok_or("is not a tensor")?;
        match (function, args) {
            ("torch._utils._rebuild_parameter", [tensor, ..]) => {
                (function, args) = pickle.call(*tensor).ok_or("is not a tensor")?;
            }
            ("torch._tensor._rebuild_from_type_v2", [inner, _, inner_args, ..]) => {
                let Value::Global(name) = pickle.value(*inner) else { return Err("is not a tensor".to_string()) };
                (function, args) = (name, pickle.tuple(*inner_args).ok_or("is not a tensor")?);
            }
            _ => {}
        }
        let ("torch._utils._rebuild_tensor_v2", [storage, offset, shape, strides, ..]) = (function, args) else {
            return Err(format!("is created by the unknown function `{function}`"));
        };
        let (dtype, storage) = self.storage(*storage)?;
        let sizes = (pickle.size(*offset), pickle.sizes(*shape), pickle.sizes(*strides));
        let (Some(offset), Some(shape), Some(strides)) = sizes else {
            return Err("its shape is not valid".to_string());
        };
        place(dtype, &storage, offset, &shape, &strides)
            .ok_or_else(|| format!("shape {shape:?} with strides {strides:?} does not fit into its storage"))
    }

    /// Returns the dtype and the bytes of a storage, whose description is `("storage", class, key, device, number of elements)`.
    fn storage(&self, id: Id) -> std::result::Result<(Dtype, Range<usize>), String> {
        let description = if let Value::Outside(id) = self.pickle.value(id) { self.pickle.tuple(*id) } else { None };
        let Some([_, class, key, ..]) = description else { return Err("has no storage".to_string()) };
        let Value::Global(class) = self.pickle.value(*class) else { return Err("has no storage".to_string()) };
        let dtype = match class.strip_prefix("torch.").unwrap_or(class) {
            "FloatStorage" => Dtype::F32,
            "BFloat16Storage" => Dtype::BF16,
            "HalfStorage" => Dtype::F16,
            "DoubleStorage" => Dtype::F64,
            "LongStorage" => Dtype::I64,
            "IntStorage" => Dtype::I32,
            "ShortStorage" => Dtype::I16,
            "CharStorage" => Dtype::I8,
            "ByteStorage" => Dtype::U8,
            "BoolStorage" => Dtype::BOOL,
            other => return Err(format!("has the unknown storage class `{other}`")),
        };
        let key = self.pickle.text(*key).ok_or("has no storage")?;
        let member = format!("{}data/{key}", self.folder);
        let range = self.members.get(&member).ok_or_else(|| format!("its storage `{member}` is missing"))?;
        Ok((dtype, range.clone()))
    }
}

/// Returns the tensor's place within its storage, if it fits.
fn place(dtype: Dtype, storage: &Range<usize>, offset: usize, shape: &[usize], strides: &[usize]) -> Option<Entry> {
    if shape.len() != strides.len() {
        return None;
    }
    let size = dtype.bitsize() / 8;
    let elements = count_elements(shape)?;
    let contiguous = elements == 0 || is_contiguous(shape, strides);
    let span = if contiguous {
        elements
    } else {
        let last = shape.iter().zip(strides).try_fold(0usize, |n, (d, s)| n.checked_add((d - 1).checked_mul(*s)?))?;
        last.checked_add(1)?
    };
    let start = storage.start.checked_add(offset.checked_mul(size)?)?;
    let end = start.checked_add(span.checked_mul(size)?)?;
    // A broadcast tensor could name any number of elements.
    if end > storage.end || elements > storage.len() / size {
        return None;
    }
    let strides = (!contiguous).then(|| strides.to_vec());
    Some(Entry { dtype, shape: shape.to_vec(), strides, range: start..end })
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    for (d, s) in shape.iter().zip(strides).rev() {
        if *d != 1 && *s != expected {
            return false;
        }
        expected *= d;
    }
    true
}
