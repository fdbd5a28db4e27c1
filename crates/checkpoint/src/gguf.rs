//! The header of GGUF files, read strictly. <https://github.com/ggml-org/ggml/blob/v0.9.4/docs/gguf.md>
//!
//! The format: a magic word and a version, keys with values, then names, dimensions, types and offsets of tensors, then
//! their bytes, each tensor's at a multiple of the alignment. Every number in it is checked against the file's size before
//! anything is allocated by it.

mod cursor;
mod metadata;
mod types;

use crate::data::Data;
use crate::entry::{Entry, count_elements};
use crate::{Error, Result};
use cursor::{Cursor, Read};
use metadata::read_metadata;
pub(crate) use metadata::{Metadata, Value};
use std::collections::BTreeMap;
use std::path::Path;
use types::format_of;

/// The length of the magic word.
const MAGIC: usize = 4;
/// The most dimensions of a tensor: ggml has four, tools for video models write five.
const MOST_DIMENSIONS: u32 = 5;
/// The most tensors that are read.
const MOST_TENSORS: usize = 1 << 16;
/// The least bytes of a tensor's description.
const LEAST_BYTES: usize = 8 + 4 + 4 + 8;
/// The alignment where the file names none.
const ALIGNMENT: usize = 32;
/// Keys before a tensor's name whose value is its shape, of one that is stored as rows of another length.
const TRUE_SHAPE: &str = "comfy.gguf.orig_shape.";
/// Parts of keys that say that values mean something else than their types do.
const OTHER_VALUES: [&str; 4] = ["convrot", "comfy_quant", "_quantization_metadata", "q8_cr"];

const TAKE_READ: &str = "take a file of the same model with types F16, BF16, Q2_K to Q8_0, IQ4_NL or IQ4_XS";
const TAKE_OTHER: &str = "take another file of the same model";

/// The content of a header.
pub(crate) struct Gguf {
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) metadata: Metadata,
}

/// The place of a file among others that are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    pub(crate) number: usize,
    pub(crate) count: usize,
}

/// Reads and checks the header of the file `path`.
pub(crate) fn read_gguf(path: &Path, data: &Data) -> Result<Gguf> {
    let reader = Reader { path, data };
    let mut cursor = Cursor::new(data, MAGIC);
    let version = cursor.u32().map_err(|problem| reader.invalid(problem))?;
    reader.check_version(version)?;
    let tensors = cursor.count(LEAST_BYTES, "tensors").map_err(|problem| reader.invalid(problem))?;
    let metadata = read_metadata(&mut cursor).map_err(|problem| reader.invalid(problem))?;
    reader.check_kind(&metadata)?;
    let described = reader.described(&mut cursor, tensors)?;
    let mut entries = reader.placed(described, &metadata, cursor.at())?;
    reader.take_true_shapes(&mut entries, &metadata)?;
    split_merged(&mut entries);
    reader.check_patch_embeddings(&entries, &metadata)?;
    Ok(Gguf { entries, metadata })
}

impl Gguf {
    /// The place among shards, if the file is one of several.
    pub(crate) fn shard(&self) -> Option<Shard> {
        let number = |key: &str| self.metadata.get(key).and_then(Value::size);
        let count = number("split.count").filter(|count| *count > 1)?;
        Some(Shard { number: number("split.no").unwrap_or_default(), count })
    }
}

/// A tensor as the header describes it.
struct Described {
    name: String,
    shape: Vec<usize>,
    kind: u32,
    offset: u64,
}

struct Reader<'a> {
    path: &'a Path,
    data: &'a Data,
}

impl Reader<'_> {
    fn invalid(&self, problem: String) -> Error {
        Error::Invalid { path: self.path.to_path_buf(), problem }
    }

    fn invalid_tensor(&self, name: &str, problem: String) -> Error {
        Error::InvalidTensor { path: self.path.to_path_buf(), name: name.to_string(), problem }
    }

    fn not_read(&self, what: String, hint: &'static str) -> Error {
        Error::NotRead { path: self.path.to_path_buf(), what, hint }
    }

    fn check_version(&self, version: u32) -> Result<()> {
        match version {
            2 | 3 => Ok(()),
            other if (2..=3).contains(&other.swap_bytes()) => {
                Err(self.not_read("it is a GGUF file with big-endian numbers".to_string(), TAKE_OTHER))
            }
            other => Err(self.not_read(format!("it is of version {other} of GGUF"), TAKE_OTHER)),
        }
    }

    /// Refuses files that are no weights, or whose values are not what their types say.
    fn check_kind(&self, metadata: &Metadata) -> Result<()> {
        if metadata.get("general.type").and_then(Value::text) == Some("adapter") {
            let hint = "give the model without it; LoRAs are read from .safetensors files";
            return Err(self.not_read("it is a LoRA or another adapter of llama.cpp".to_string(), hint));
        }
        let other = |key: &&String| OTHER_VALUES.iter().any(|part| key.contains(part));
        match metadata.keys().find(other) {
            Some(key) => Err(self.not_read(format!("its values mean what `{key}` says"), TAKE_READ)),
            None => Ok(()),
        }
    }

    /// Reads the descriptions of `count` tensors.
    fn described(&self, cursor: &mut Cursor, count: usize) -> Result<Vec<Described>> {
        if count > MOST_TENSORS {
            return Err(self.invalid(format!("it has {count} tensors, at most {MOST_TENSORS} are read")));
        }
        let mut all = Vec::new();
        for _ in 0..count {
            let name = cursor.text().map_err(|problem| self.invalid(problem))?;
            let tensor = described(cursor, &name).map_err(|problem| self.invalid_tensor(&name, problem))?;
            all.push(tensor);
        }
        Ok(all)
    }

    /// Returns the tensors' places; the header ends at `end`.
    fn placed(&self, tensors: Vec<Described>, metadata: &Metadata, end: usize) -> Result<BTreeMap<String, Entry>> {
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(value) => value
                .size()
                .filter(|size| size.is_power_of_two())
                .ok_or_else(|| self.invalid("`general.alignment` is not a power of two".to_string()))?,
        };
        let start = end.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
        let mut entries = BTreeMap::new();
        for tensor in tensors {
            let format = format_of(tensor.kind).map_err(|known| {
                let kind = known.map_or_else(|| format!("{} of later versions", tensor.kind), str::to_string);
                self.not_read(format!("tensor `{}` has the type {kind}", tensor.name), TAKE_READ)
            })?;
            let entry = Place { format, alignment, start, end: self.data.len() }.entry(&tensor);
            let entry = entry.map_err(|problem| self.invalid_tensor(&tensor.name, problem))?;
            if entries.insert(tensor.name.clone(), entry).is_some() {
                return Err(self.invalid_tensor(&tensor.name, "appears twice".to_string()));
            }
        }
        self.check_overlap(&entries)?;
        Ok(entries)
    }

    fn check_overlap(&self, entries: &BTreeMap<String, Entry>) -> Result<()> {
        let mut sorted: Vec<(&String, &Entry)> = entries.iter().filter(|(_, entry)| !entry.range.is_empty()).collect();
        sorted.sort_by_key(|(_, entry)| entry.range.start);
        let overlaps = |pair: &&[(&String, &Entry)]| pair[1].1.range.start < pair[0].1.range.end;
        match sorted.windows(2).find(overlaps) {
            Some(pair) => Err(self.invalid_tensor(pair[1].0, format!("its data overlaps that of `{}`", pair[0].0))),
            None => Ok(()),
        }
    }

    /// Gives tensors that are stored as rows of another length the shapes that the metadata say.
    fn take_true_shapes(&self, entries: &mut BTreeMap<String, Entry>, metadata: &Metadata) -> Result<()> {
        for (name, entry) in entries {
            let Some(value) = metadata.get(&format!("{TRUE_SHAPE}{name}")) else { continue };
            let shape = if let Value::List(list) = value { list.sizes(self.data) } else { None };
            let Some(shape) = shape else {
                return Err(self.invalid_tensor(name, "its true shape in the metadata is no list of sizes".to_string()));
            };
            if count_elements(&shape) != Some(entry.elements()) {
                let problem = format!("its true shape {shape:?} in the metadata is not that of {:?}", entry.shape);
                return Err(self.invalid_tensor(name, problem));
            }
            entry.shape = shape;
        }
        Ok(())
    }

    /// Refuses files in which a patch embedding has a bias alone: ggml has no tensors of five dimensions, so conversion
    /// leaves its weight out, to be put in later.
    fn check_patch_embeddings(&self, entries: &BTreeMap<String, Entry>, metadata: &Metadata) -> Result<()> {
        if metadata.contains_key("split.count") {
            return Ok(());
        }
        let lacking = |name: &String| {
            let weight = format!("{}.weight", name.strip_suffix(".bias").filter(|n| n.ends_with("patch_embedding"))?);
            (!entries.contains_key(&weight)).then_some(weight)
        };
        match entries.keys().find_map(lacking) {
            Some(weight) => Err(self.not_read(
                format!("it is an unfinished conversion, without `{weight}`"),
                "run fix_5d_tensors.py of ComfyUI-GGUF on it, or take another file of the same model",
            )),
            None => Ok(()),
        }
    }
}

fn described(cursor: &mut Cursor, name: &str) -> Read<Described> {
    let dimensions = cursor.u32()?;
    if dimensions > MOST_DIMENSIONS {
        return Err(format!("it has {dimensions} dimensions, at most {MOST_DIMENSIONS} are read"));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = cursor.u64()?;
        shape.push(usize::try_from(size).map_err(|_| format!("it has {size} rows"))?);
    }
    // The first dimension is that of neighbours in memory.
    shape.reverse();
    Ok(Described { name: name.to_string(), shape, kind: cursor.u32()?, offset: cursor.u64()? })
}

/// The facts that the place of a tensor follows from.
struct Place {
    format: kinora_formats::Format,
    alignment: usize,
    /// Where the data begin and end.
    start: usize,
    end: usize,
}

impl Place {
    fn entry(&self, tensor: &Described) -> Read<Entry> {
        let (format, shape) = (self.format, tensor.shape.clone());
        let row = shape.last().copied().unwrap_or(1);
        let (unit, _) = format.unit();
        if !row.is_multiple_of(unit) {
            return Err(format!("its rows of {row} values are no whole number of {format}'s blocks of {unit}"));
        }
        let bytes = count_elements(&shape).and_then(|elements| format.bytes(elements));
        let bytes = bytes.ok_or_else(|| format!("its shape {shape:?} of {format} has no size in bytes"))?;
        let offset = usize::try_from(tensor.offset).unwrap_or(usize::MAX);
        if !offset.is_multiple_of(self.alignment) {
            return Err(format!("its offset {} is not a multiple of the alignment {}", tensor.offset, self.alignment));
        }
        let from = self.start.checked_add(offset);
        let range = from.and_then(|from| Some(from..from.checked_add(bytes)?)).filter(|range| range.end <= self.end);
        let range = range.ok_or_else(|| {
            let there = self.end.saturating_sub(self.start);
            format!("its {bytes} bytes at {} do not lie in the file, which has {there} bytes of data", tensor.offset)
        })?;
        Ok(Entry { format, shape, strides: None, loose: true, range })
    }
}

/// Splits the first dimension of convolutions in which output and input channels are one: stable-diffusion.cpp writes those
/// of five dimensions so. The bias says how many output channels there are.
fn split_merged(entries: &mut BTreeMap<String, Entry>) {
    let channels = |name: &String, entry: &Entry| {
        let [merged, _, _, _] = entry.shape[..] else { return None };
        let bias = entries.get(&format!("{}.bias", name.strip_suffix(".weight")?))?.elements();
        (bias > 0 && merged != bias && merged.is_multiple_of(bias)).then_some(bias)
    };
    let merged: Vec<(String, usize)> =
        entries.iter().filter_map(|(name, entry)| Some((name.clone(), channels(name, entry)?))).collect();
    for (name, channels) in merged {
        if let Some(entry) = entries.get_mut(&name) {
            let inputs = entry.shape[0] / channels;
            entry.shape.splice(..1, [channels, inputs]);
        }
    }
}

#[cfg(test)]
mod tests;
