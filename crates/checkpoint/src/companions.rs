//! [`Companions`]: tensors that belong to a weight and say how its stored values are to be read.
//!
//! `X.scale_weight` or `X.weight_scale` is the scale of `X.weight`, `X.comfy_quant` (or the header's
//! `_quantization_metadata`) names its format in JSON, `scaled_fp8` says of a whole file that its fp8 matrices have scales.
//! <https://github.com/Comfy-Org/ComfyUI/blob/v0.3.76/comfy/ops.py>. A companion that is not known, or that has no weight, is
//! an error: what is read without it would be noise.

use crate::entry::Entry;
use crate::file::TensorFile;
use crate::{Error, Result};
use kinora_formats::{Format, is_rotation};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The header's metadata that names formats by layer.
const LAYERS: &str = "_quantization_metadata";
/// The group of a rotation that says none.
const ROTATION: u64 = 256;
/// The longest JSON of one layer, in bytes.
const LONGEST_JSON: usize = 1 << 16;

/// How the stored values of one weight are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    pub(crate) kind: Kind,
    /// The name of the tensor with the scales.
    pub(crate) scale: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Values of this format times the scale of the matrix, the row or a block of the row.
    Scaled(Format),
    /// Eight-bit integers times the scale of their row, in groups that were rotated then.
    Rotated(usize),
    /// Four-bit floats times an e4m3 for each 16 and the scale in the tensor of this name.
    Nvfp4(String),
    /// e4m3 times a power of two for each 32.
    Mxfp8,
}

/// The companions of all weights in some files.
#[derive(Debug, Default)]
pub(crate) struct Companions {
    /// By the weight's name in its file.
    pub(crate) codings: BTreeMap<String, Coding>,
    /// The names of all companions.
    pub(crate) names: BTreeSet<String>,
}

impl Companions {
    /// Finds the companions in all of `files`.
    pub(crate) fn of(files: &[TensorFile]) -> Result<Self> {
        let all = All {
            files,
            entries: files.iter().flat_map(|file| file.entries().iter().map(move |e| (e.0, (file, e.1)))).collect(),
        };
        let mut found = Self::default();
        let formats = all.formats(&mut found.names)?;
        let mut marked = false;
        for name in all.entries.keys() {
            let (stem, last) = name.rsplit_once('.').map_or(("", name.as_str()), |(stem, last)| (stem, last));
            match last {
                "scaled_fp8" => marked = true,
                "scale_weight" | "weight_scale" | "scale_input" | "input_scale" | "weight_scale_2" => {
                    all.weight(stem, name)?;
                }
                // They are not multiplied by alone, or in another way.
                "weight_scale_inv" | "pre_quant_scale" | "scale_output" | "output_scale" => {
                    return Err(all.refused(name, "is a scale that is not read"));
                }
                _ => continue,
            }
            found.names.insert((*name).clone());
        }
        let scaled: Vec<&str> = found
            .names
            .iter()
            .filter_map(|name| name.strip_suffix(".scale_weight").or_else(|| name.strip_suffix(".weight_scale")))
            .collect();
        let stems: BTreeSet<&str> = scaled.into_iter().chain(formats.keys().map(String::as_str)).collect();
        for stem in stems {
            let weight = format!("{stem}.weight");
            if let Some(coding) = all.coding(stem, formats.get(stem))? {
                found.codings.insert(weight, coding);
            }
        }
        if marked && let Some(name) = all.without_scale(&found.codings) {
            return Err(all.refused(name, "is an fp8 matrix of a file with scales, but has none"));
        }
        Ok(found)
    }
}

/// All tensors of some files.
struct All<'a> {
    files: &'a [TensorFile],
    entries: BTreeMap<&'a String, (&'a TensorFile, &'a Entry)>,
}

impl All<'_> {
    /// The entry of the weight that the companion `name` belongs to.
    fn weight(&self, stem: &str, name: &str) -> Result<&Entry> {
        let weight = format!("{stem}.weight");
        match self.entries.get(&weight) {
            Some((_, entry)) => Ok(entry),
            None => Err(self.refused(name, &format!("belongs to `{weight}`, which is not there"))),
        }
    }

    /// How the weight of `stem` is read; `None` if it is stored as it is.
    fn coding(&self, stem: &str, format: Option<&LayerFormat>) -> Result<Option<Coding>> {
        let weight = format!("{stem}.weight");
        let entry = self.weight(stem, &weight)?;
        let spellings = ["weight_scale", "scale_weight"].map(|last| format!("{stem}.{last}"));
        let mut scales = spellings.iter().filter(|name| self.entries.contains_key(name));
        let scale = match (scales.next(), scales.next()) {
            (Some(scale), None) => scale.clone(),
            (Some(first), Some(second)) => {
                return Err(self.refused(&weight, &format!("has two scales, `{first}` and `{second}`")));
            }
            (None, _) => return Err(self.refused(&weight, &format!("has no scale `{}`", spellings[0]))),
        };
        let kind = match format {
            Some(format) => self.named(stem, entry, format)?,
            None if matches!(entry.format, Format::F8E4m3 | Format::F8E5m2 | Format::I8) => Kind::Scaled(entry.format),
            None => {
                let problem = format!("is stored as {} and has a scale, but nothing says what it is for", entry.format);
                return Err(self.refused(&weight, &problem));
            }
        };
        Ok(Some(Coding { kind, scale }))
    }

    /// The kind of a format that is named.
    fn named(&self, stem: &str, entry: &Entry, format: &LayerFormat) -> Result<Kind> {
        let weight = format!("{stem}.weight");
        let stored = |expected: &[Format]| {
            if expected.contains(&entry.format) {
                return Ok(());
            }
            Err(self.refused(&weight, &format!("is stored as {}, which is not `{}`", entry.format, format.name)))
        };
        match format.name.as_str() {
            "float8_e4m3fn" => stored(&[Format::F8E4m3, Format::U8]).map(|()| Kind::Scaled(Format::F8E4m3)),
            "float8_e5m2" => stored(&[Format::F8E5m2, Format::U8]).map(|()| Kind::Scaled(Format::F8E5m2)),
            "int8_tensorwise" => {
                stored(&[Format::I8])?;
                Ok(format.rotation.map_or(Kind::Scaled(Format::I8), Kind::Rotated))
            }
            "mxfp8" => stored(&[Format::F8E4m3, Format::U8]).map(|()| Kind::Mxfp8),
            "nvfp4" => {
                stored(&[Format::U8])?;
                let whole = format!("{stem}.weight_scale_2");
                if !self.entries.contains_key(&whole) {
                    return Err(self.refused(&weight, &format!("has no scale `{whole}`")));
                }
                Ok(Kind::Nvfp4(whole))
            }
            other => Err(self.refused(&weight, &format!("has the format `{other}`, which is not read"))),
        }
    }

    /// The formats by layer, from tensors and headers; the names of the tensors are added to `names`.
    fn formats(&self, names: &mut BTreeSet<String>) -> Result<BTreeMap<String, LayerFormat>> {
        let mut formats = BTreeMap::new();
        for (name, (file, entry)) in &self.entries {
            let Some(stem) = name.strip_suffix(".comfy_quant") else { continue };
            let weight = format!("{stem}.weight");
            if entry.format != Format::U8 || entry.bytes() > LONGEST_JSON {
                return Err(self.refused(name, "is not JSON in bytes"));
            }
            self.weight(stem, name)?;
            let bytes = file.tensor(name)?.flatten_all()?.to_vec1::<u8>()?;
            let json: Value = serde_json::from_slice(&bytes)
                .map_err(|error| self.refused(&weight, &format!("has a format that is not JSON: {error}")))?;
            formats
                .insert(stem.to_string(), LayerFormat::of(&json).map_err(|problem| self.refused(&weight, &problem))?);
            names.insert((*name).clone());
        }
        for file in self.files {
            let Some(text) = file.metadata().get(LAYERS) else { continue };
            let invalid = |problem: String| Error::Invalid { path: file.path().to_path_buf(), problem };
            let json: Value =
                serde_json::from_str(text).map_err(|error| invalid(format!("its `{LAYERS}` is not JSON: {error}")))?;
            let layers = json.get("layers").and_then(Value::as_object);
            for (layer, json) in layers.ok_or_else(|| invalid(format!("its `{LAYERS}` has no `layers`")))? {
                let stem = self
                    .stem_of(layer)
                    .ok_or_else(|| invalid(format!("its `{LAYERS}` names `{layer}`, which has no weight")))?;
                let format =
                    LayerFormat::of(json).map_err(|problem| self.refused(&format!("{stem}.weight"), &problem))?;
                formats.entry(stem).or_insert(format);
            }
        }
        Ok(formats)
    }

    /// The stem of the layer's weight, whose name may have a prefix.
    fn stem_of(&self, layer: &str) -> Option<String> {
        let own = format!("{layer}.weight");
        if self.entries.contains_key(&own) {
            return Some(layer.to_string());
        }
        let mut longer =
            self.entries.keys().filter(|name| name.strip_suffix(&own).is_some_and(|start| start.ends_with('.')));
        let found = longer.next().filter(|_| longer.next().is_none())?;
        found.strip_suffix(".weight").map(str::to_string)
    }

    /// The first fp8 matrix that has no scale.
    fn without_scale(&self, codings: &BTreeMap<String, Coding>) -> Option<&str> {
        let is_fp8 = |entry: &Entry| matches!(entry.format, Format::F8E4m3 | Format::F8E5m2) && entry.shape.len() == 2;
        let mut names = self.entries.iter().filter(|(_, (_, entry))| is_fp8(entry)).map(|(name, _)| name.as_str());
        names.find(|name| !codings.contains_key(*name))
    }

    fn refused(&self, name: &str, problem: &str) -> Error {
        let file = self.entries.get(&name.to_string()).map(|(file, _)| *file).or(self.files.first());
        let path = file.map(|file| file.path().to_path_buf()).unwrap_or_default();
        Error::Coding { path, name: name.to_string(), problem: problem.to_string() }
    }
}

/// The format of a layer, read from its JSON.
struct LayerFormat {
    name: String,
    /// The size of rotated groups.
    rotation: Option<usize>,
}

impl LayerFormat {
    fn of(json: &Value) -> std::result::Result<Self, String> {
        let object = json.as_object().ok_or("has a format that is not a JSON object")?;
        let inner = object.get("params").and_then(Value::as_object);
        let get = |key: &str| object.get(key).or_else(|| inner.and_then(|inner| inner.get(key)));
        let name = get("format").and_then(Value::as_str).ok_or("has a format without a name")?.to_string();
        let keys = object.keys().chain(inner.into_iter().flat_map(serde_json::Map::keys));
        // They say how to compute, or are looked at below; others may change values.
        let known = [
            "format",
            "params",
            "full_precision_matrix_mult",
            "group_size",
            "convrot",
            "convrot_groupsize",
            "linear_dtype",
            "orig_dtype",
            "orig_shape",
        ];
        if let Some(key) = keys.into_iter().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("has the format `{name}` with the setting `{key}`, which is not known"));
        }
        let rotated = get("convrot").is_some_and(|value| value.as_bool() != Some(false) && !value.is_null());
        let group = get("convrot_groupsize").map_or(Some(ROTATION), Value::as_u64);
        let group =
            group.and_then(|group| usize::try_from(group).ok()).filter(|group| *group > 1 && is_rotation(*group));
        match (rotated, group) {
            (false, _) => Ok(Self { name, rotation: None }),
            (true, Some(group)) => Ok(Self { name, rotation: Some(group) }),
            (true, None) => Err(format!("has the format `{name}`, rotated in groups whose size is no power of 4")),
        }
    }
}
