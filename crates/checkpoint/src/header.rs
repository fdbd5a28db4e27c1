//! The safetensors header, read strictly. <https://github.com/huggingface/safetensors#format>
//!
//! The format: 8 bytes of header length (little endian), a JSON object `name -> {dtype, shape, data_offsets}` with an
//! optional `__metadata__` of strings, then the tensors' bytes without gaps. The safetensors crate silently keeps the last
//! of two equal names; here that is an error, as is everything else that the format forbids.

use crate::data::Data;
use crate::entry::{Entry, count_elements};
use crate::{Error, Result};
use kinora_formats::Format;
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The length of the field before the header, in bytes.
pub(crate) const PREFIX: usize = 8;
/// The longest header that the safetensors crate accepts, in bytes.
const MAX_HEADER: usize = 100_000_000;

/// The content of a header.
pub(crate) struct Header {
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of the file `path`; the entries' ranges are offsets in `data`.
pub(crate) fn read_header(path: &Path, data: &Data) -> Result<Header> {
    let invalid = |problem: String| Error::Invalid { path: path.to_path_buf(), problem };
    let start = PREFIX + length(data).map_err(invalid)?;
    let changed = || Error::Changed { path: path.to_path_buf() };
    let json = data.get(PREFIX..start).ok_or_else(changed)?;
    let raw: RawHeader =
        serde_json::from_slice(&json).map_err(|e| invalid(format!("the safetensors header is not valid: {e}")))?;
    let data_len = data.len() - start;
    let mut entries = BTreeMap::new();
    for (name, tensor) in raw.tensors {
        let entry = tensor.entry(start, data_len).map_err(|problem| Error::InvalidTensor {
            path: path.to_path_buf(),
            name: name.clone(),
            problem,
        })?;
        entries.insert(name, entry);
    }
    check_cover(path, &entries, start, data.len())?;
    Ok(Header { entries, metadata: raw.metadata })
}

/// Returns the length of the JSON text, which lies within the file.
fn length(data: &Data) -> std::result::Result<usize, String> {
    let short = || format!("the file is cut short: {} bytes are too few for a safetensors file", data.len());
    let start = data.start(PREFIX);
    let length = u64::from_le_bytes(*start.first_chunk::<PREFIX>().ok_or_else(short)?);
    if length > MAX_HEADER as u64 {
        return Err(format!("not a safetensors file: its header would be {length} bytes long"));
    }
    let (length, there) = (length as usize, data.len() - PREFIX);
    if length > there {
        return Err(format!(
            "the file is cut short: its header is {length} bytes long, but only {there} bytes are there"
        ));
    }
    Ok(length)
}

/// Tensors must lie one after the other, without gaps or overlap, up to the file's end.
fn check_cover(path: &Path, entries: &BTreeMap<String, Entry>, start: usize, end: usize) -> Result<()> {
    let mut sorted: Vec<(&String, &Entry)> = entries.iter().collect();
    sorted.sort_by_key(|(_, entry)| (entry.range.start, entry.range.end));
    let mut covered = start;
    for (name, entry) in sorted {
        if entry.range.start != covered {
            let relation =
                if entry.range.start < covered { "overlaps another tensor's" } else { "leaves a gap before it" };
            let problem = format!("its data at {:?} {relation}", entry.range.start - start..entry.range.end - start);
            return Err(Error::InvalidTensor { path: path.to_path_buf(), name: name.clone(), problem });
        }
        covered = entry.range.end;
    }
    if covered == end {
        return Ok(());
    }
    let problem = format!("{} bytes after the last tensor belong to none", end - covered);
    Err(Error::Invalid { path: path.to_path_buf(), problem })
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl RawTensor {
    fn entry(self, start: usize, data_len: usize) -> std::result::Result<Entry, String> {
        let Self { dtype, shape, data_offsets: (from, to) } = self;
        let format = parse_format(&dtype).ok_or_else(|| format!("unknown dtype `{dtype}`"))?;
        if from > to || to > data_len {
            return Err(format!(
                "its data at {from}..{to} does not lie in the file, which has {data_len} bytes of data"
            ));
        }
        let Some(bytes) = count_elements(&shape).and_then(|elements| format.bytes(elements)) else {
            return Err(format!("its shape {shape:?} of {format} has no size in bytes"));
        };
        if bytes != to - from {
            return Err(format!("shape {shape:?} of {format} needs {bytes} bytes, but has {}", to - from));
        }
        Ok(Entry { format, shape, strides: None, loose: false, range: start + from..start + to })
    }
}

fn parse_format(name: &str) -> Option<Format> {
    use serde::de::{IntoDeserializer, value::StrDeserializer};
    let text: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
    Some(match Dtype::deserialize(text).ok()? {
        Dtype::F64 => Format::F64,
        Dtype::F32 => Format::F32,
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::Bf16,
        Dtype::F8_E4M3 => Format::F8E4m3,
        Dtype::F8_E5M2 => Format::F8E5m2,
        Dtype::F8_E8M0 => Format::F8E8m0,
        Dtype::F6_E2M3 => Format::F6E2m3,
        Dtype::F6_E3M2 => Format::F6E3m2,
        Dtype::F4 => Format::F4,
        Dtype::C64 => Format::C64,
        Dtype::I64 => Format::I64,
        Dtype::I32 => Format::I32,
        Dtype::I16 => Format::I16,
        Dtype::I8 => Format::I8,
        Dtype::U64 => Format::U64,
        Dtype::U32 => Format::U32,
        Dtype::U16 => Format::U16,
        Dtype::U8 => Format::U8,
        Dtype::BOOL => Format::Bool,
        _ => return None,
    })
}

struct RawHeader {
    tensors: BTreeMap<String, RawTensor>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
        let mut tensors = BTreeMap::new();
        let mut metadata = None;
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == "__metadata__" {
                metadata.replace(map.next_value::<Option<_>>()?).is_some()
            } else {
                tensors.insert(name.clone(), map.next_value()?).is_some()
            };
            if twice {
                return Err(A::Error::custom(format_args!("`{name}` appears twice")));
            }
        }
        Ok(RawHeader { tensors, metadata: metadata.flatten().unwrap_or_default() })
    }
}
