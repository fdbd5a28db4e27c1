//! `PyTorch` files (`torch.save`, version 1.6 and later): an uncompressed ZIP with a pickled state dict and one member
//! per storage. <https://github.com/pytorch/pytorch/blob/v2.5.0/torch/serialization.py>
//!
//! Nothing in the pickle is executed. The tensors are read from the file as those of safetensors files are.

use crate::data::Data;
use crate::entry::{Entry, count_elements};
use crate::pickle::{Id, Pickle, Value};
use crate::zip::{Members, members};
use crate::{Error, Result};
use kinora_formats::Format;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The most keys that a message shows.
const SHOWN_KEYS: usize = 5;
/// The names under which training scripts store the state dict.
/// Of a distilled generator the averaged weights are the ones that its authors sample with.
/// <https://github.com/guandeh17/Self-Forcing>
const WRAPPERS: [&str; 6] = ["state_dict", "model_state_dict", "generator_ema", "generator", "model", "module"];

/// The longest pickle that is read, in bytes: one of a large model has a few hundred thousand.
const LONGEST_PICKLE: usize = 1 << 25;
const HINT: &str = "save the model's weights as a .safetensors file, or use a diffusers folder of the same model";

/// The reason why a file cannot be used.
enum Problem {
    /// It is damaged.
    Invalid(String),
    /// It is of a kind that is not read.
    NotRead(String),
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Invalid(problem)
    }
}

impl Problem {
    fn error(self, path: &Path) -> Error {
        let path = path.to_path_buf();
        match self {
            Self::Invalid(problem) => Error::Invalid { path, problem },
            Self::NotRead(what) => Error::NotRead { path, what, hint: HINT },
        }
    }
}

/// The tensors of a `PyTorch` file, and the choice that was made where it holds several sets of them.
pub(crate) type Tensors = (BTreeMap<String, Entry>, Option<String>);

/// The items of a dictionary of tensors, and the choice.
type StateDict<'a> = (&'a [(Id, Id)], Option<String>);

/// Returns the tensors of the `PyTorch` file `path`.
pub(crate) fn read_pth(path: &Path, data: &Data) -> Result<Tensors> {
    let archive = Archive::read(data).map_err(|problem| problem.error(path))?;
    let mut entries = BTreeMap::new();
    let (items, choice) = archive.state_dict().map_err(|problem| problem.error(path))?;
    for (key, value) in items {
        let text = archive.pickle.text(*key);
        let name = text.ok_or_else(|| Problem::from("a tensor's name is not text".to_string()).error(path))?;
        let problem = match archive.entry(*value) {
            Ok(entry) => match entries.insert(name.to_string(), entry) {
                None => continue,
                Some(_) => "appears twice".to_string(),
            },
            Err(Problem::Invalid(problem)) => problem,
            Err(Problem::NotRead(what)) => return Err(Problem::NotRead(format!("`{name}` {what}")).error(path)),
        };
        return Err(Error::InvalidTensor { path: path.to_path_buf(), name: name.to_string(), problem });
    }
    Ok((entries, choice.map(|choice| format!("{}: {choice}", path.display()))))
}

struct Archive {
    members: Members,
    /// The folder of all members, with its slash.
    folder: String,
    pickle: Pickle,
}

impl Archive {
    fn read(data: &Data) -> std::result::Result<Self, Problem> {
        let members = members(data)?;
        let mut pickles = members.iter().filter_map(|(name, range)| Some((name.strip_suffix("data.pkl")?, range)));
        let (Some((folder, range)), None) = (pickles.next(), pickles.next()) else {
            return Err(Problem::NotRead("it is a ZIP archive that does not hold exactly one data.pkl".to_string()));
        };
        let folder = folder.to_string();
        let order = members.get(&format!("{folder}byteorder")).filter(|range| range.len() <= LONGEST_PICKLE);
        if order.and_then(|range| data.get(range.clone())).is_some_and(|order| *order != *b"little") {
            return Err(Problem::NotRead("its numbers are big-endian".to_string()));
        }
        if range.len() > LONGEST_PICKLE {
            return Err(Problem::Invalid(format!("its data.pkl has {} bytes", range.len())));
        }
        let bytes = data.get(range.clone()).ok_or_else(|| "data.pkl cannot be read".to_string())?;
        if let [0x80, protocol @ 6..=u8::MAX, ..] = *bytes {
            return Err(Problem::NotRead(format!("it was saved with pickle protocol {protocol}")));
        }
        let pickle = Pickle::read(&bytes).map_err(|e| format!("data.pkl is not valid: {e}"))?;
        Ok(Self { members, folder, pickle })
    }

    /// Returns the dictionary of tensors, without its wrappers, and the choice between several.
    fn state_dict(&self) -> std::result::Result<StateDict<'_>, Problem> {
        let mut id = self.pickle.root();
        let mut choice = None;
        let has_tensors = |id: Id| {
            let items = self.pickle.dict(id).unwrap_or_default();
            items.iter().any(|(_, value)| self.is_tensor(*value))
        };
        for _ in 0..=WRAPPERS.len() {
            let Some(items) = self.pickle.dict(id) else { break };
            if has_tensors(id) {
                return Ok((items, choice));
            }
            let wrapped = |name: &&str| items.iter().find(|(key, _)| self.pickle.text(*key) == Some(name));
            let Some((taken, inner)) = WRAPPERS.iter().find_map(wrapped) else { break };
            id = *inner;
            let others = items.iter().filter(|(_, value)| *value != id && has_tensors(*value));
            let others: Vec<&str> = others.filter_map(|(key, _)| self.pickle.text(*key)).take(SHOWN_KEYS).collect();
            if !others.is_empty() {
                let taken = self.pickle.text(*taken).unwrap_or_default();
                choice = Some(format!("it holds `{taken}` and `{}`, and `{taken}` is read", others.join("`, `")));
            }
        }
        let items = self.pickle.dict(id).unwrap_or_default();
        let keys = items.iter().filter_map(|(key, _)| self.pickle.text(*key)).take(SHOWN_KEYS);
        let keys: Vec<String> = keys.map(|key| format!("`{key}`")).collect();
        let there = if keys.is_empty() { String::new() } else { format!(", but {}", keys.join(", ")) };
        Err(Problem::NotRead(format!("it holds no state dict (a dictionary of tensors){there}")))
    }

    /// Whether the value is a tensor: other things are made by calls, too, such as the settings of a training.
    fn is_tensor(&self, id: Id) -> bool {
        let rebuilds = |function: &str| ["torch._utils.", "torch._tensor."].iter().any(|m| function.starts_with(m));
        self.pickle.call(id).is_some_and(|(function, _)| rebuilds(function))
    }

    fn entry(&self, id: Id) -> std::result::Result<Entry, Problem> {
        let no_tensor = || Problem::NotRead("is not a tensor".to_string());
        let pickle = &self.pickle;
        let (mut function, mut args) = pickle.call(id).ok_or_else(no_tensor)?;
        match (function, args) {
            ("torch._utils._rebuild_parameter", [tensor, ..]) => {
                (function, args) = pickle.call(*tensor).ok_or_else(no_tensor)?;
            }
            ("torch._tensor._rebuild_from_type_v2", [inner, _, inner_args, ..]) => {
                let Value::Global(name) = pickle.value(*inner) else { return Err(no_tensor()) };
                (function, args) = (name, pickle.tuple(*inner_args).ok_or_else(no_tensor)?);
            }
            _ => {}
        }
        let [storage, offset, shape, strides, ..] = args else {
            return Err(Problem::NotRead(format!("is made by `{function}`")));
        };
        let (class, storage) = self.storage(*storage)?;
        let format = match (function, args.get(6)) {
            ("torch._utils._rebuild_tensor_v2", _) => format_of_class(class),
            ("torch._utils._rebuild_tensor_v3", Some(dtype)) => match pickle.value(*dtype) {
                Value::Global(name) => format_of_dtype(name),
                _ => return Err("its dtype is not valid".to_string().into()),
            },
            _ => return Err(Problem::NotRead(format!("is made by `{function}`"))),
        }?;
        let sizes = (pickle.size(*offset), pickle.sizes(*shape), pickle.sizes(*strides));
        let (Some(offset), Some(shape), Some(strides)) = sizes else {
            return Err("its shape is not valid".to_string().into());
        };
        place(format, &storage, offset, &shape, &strides)
            .ok_or_else(|| format!("shape {shape:?} with strides {strides:?} does not fit into its storage").into())
    }

    /// Returns the class and the bytes of a storage, whose description is `("storage", class, key, device, number of elements)`.
    fn storage(&self, id: Id) -> std::result::Result<(&str, Range<usize>), Problem> {
        let no_storage = || Problem::from("has no storage".to_string());
        let description = if let Value::Outside(id) = self.pickle.value(id) { self.pickle.tuple(*id) } else { None };
        let Some([_, class, key, ..]) = description else { return Err(no_storage()) };
        let Value::Global(class) = self.pickle.value(*class) else { return Err(no_storage()) };
        let key = self.pickle.text(*key).ok_or_else(no_storage)?;
        let member = format!("{}data/{key}", self.folder);
        let range = self.members.get(&member).ok_or_else(|| format!("its storage `{member}` is missing"))?;
        Ok((class, range.clone()))
    }
}

/// The format of the elements of a storage's class.
fn format_of_class(class: &str) -> std::result::Result<Format, Problem> {
    Ok(match class.strip_prefix("torch.").unwrap_or(class) {
        "FloatStorage" => Format::F32,
        "BFloat16Storage" => Format::Bf16,
        "HalfStorage" => Format::F16,
        "DoubleStorage" => Format::F64,
        "LongStorage" => Format::I64,
        "IntStorage" => Format::I32,
        "ShortStorage" => Format::I16,
        "CharStorage" => Format::I8,
        "ByteStorage" => Format::U8,
        "BoolStorage" => Format::Bool,
        other => return Err(Problem::NotRead(format!("has the storage class `{other}`"))),
    })
}

/// The format of a dtype that has no storage class, or of any other.
fn format_of_dtype(name: &str) -> std::result::Result<Format, Problem> {
    Ok(match name.strip_prefix("torch.").unwrap_or(name) {
        "float8_e4m3fn" => Format::F8E4m3,
        "float8_e5m2" => Format::F8E5m2,
        "float8_e8m0fnu" => Format::F8E8m0,
        "uint16" => Format::U16,
        "uint32" => Format::U32,
        "uint64" => Format::U64,
        "float32" => Format::F32,
        "bfloat16" => Format::Bf16,
        "float16" => Format::F16,
        "float64" => Format::F64,
        "int8" => Format::I8,
        "uint8" => Format::U8,
        other => return Err(Problem::NotRead(format!("has the dtype `{other}`"))),
    })
}

/// Returns the tensor's place within its storage, if it fits.
fn place(format: Format, storage: &Range<usize>, offset: usize, shape: &[usize], strides: &[usize]) -> Option<Entry> {
    if shape.len() != strides.len() {
        return None;
    }
    let (_, size) = format.unit();
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
    Some(Entry { format, shape: shape.to_vec(), strides, loose: false, range: start..end })
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
