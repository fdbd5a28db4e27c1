//! What a pair is multiplied by: alpha / rank, from the keys or from PEFT's configuration.

use super::error::LoraError;
use super::key::Part;
use super::stored::Stored;
use crate::data::read_file;
use crate::file::TensorFile;
use crate::json::read_json;
use crate::{Error, Result};
use candle_core::DType;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The field of a safetensors header in which diffusers keeps PEFT's configuration.
const METADATA: &str = "lora_adapter_metadata";
/// PEFT's own file of it.
const CONFIG: &str = "adapter_config.json";

/// Where alpha comes from, of files whose keys do not say it.
pub(super) struct Peft {
    path: PathBuf,
    /// `lora_adapter_metadata` or `adapter_config.json`.
    pub(super) source: &'static str,
    fields: Map<String, Value>,
}

impl Peft {
    /// Reads the configuration in the file's header, or, for names of PEFT, beside the file.
    ///
    /// # Errors
    /// A configuration that is not JSON, or that cannot be read.
    pub(super) fn of(file: &TensorFile, is_peft: bool) -> Result<Option<Self>> {
        if let Some(text) = file.metadata().get(METADATA) {
            let fields = serde_json::from_str(text).map_err(|error| {
                let (subject, problem) = (format!("`{METADATA}`"), format!("is no JSON object: {error}"));
                Error::from(LoraError::Value { path: file.path().to_path_buf(), subject, problem })
            })?;
            return Ok(Some(Self { path: file.path().to_path_buf(), source: METADATA, fields }));
        }
        let path = file.path().parent().unwrap_or(Path::new("")).join(CONFIG);
        if !is_peft || !path.is_file() {
            return Ok(None);
        }
        let fields = read_json(&path, &read_file(&path)?)?;
        Ok(Some(Self { path, source: CONFIG, fields }))
    }

    /// The field `name` of the transformer `part`; diffusers puts the part's name before it.
    fn field(&self, part: Part, name: &str) -> Option<&Value> {
        let prefix = if part == Part::Second { "transformer_2." } else { "transformer." };
        self.fields.get(&format!("{prefix}{name}")).or_else(|| self.fields.get(name)).filter(|value| !value.is_null())
    }

    /// What a pair of `rank` at `module` (as the file calls it) is multiplied by, and alpha: `alpha_pattern` and
    /// `use_rslora` as in <https://github.com/huggingface/peft/blob/v0.17.0/src/peft/tuners/lora/layer.py>.
    pub(super) fn factor(&self, part: Part, module: &str, rank: usize) -> Result<Option<(f32, f64)>> {
        let mut alpha = self.field(part, "lora_alpha");
        if let Some(patterns) = self.field(part, "alpha_pattern") {
            let patterns = patterns.as_object().ok_or_else(|| self.wrong("alpha_pattern", "is no object"))?;
            for (pattern, value) in patterns {
                if self.matches(pattern, module)? {
                    alpha = Some(value);
                    break;
                }
            }
        }
        let Some(alpha) = alpha else { return Ok(None) };
        let alpha = alpha.as_f64().filter(|alpha| alpha.is_finite());
        let alpha = alpha.ok_or_else(|| self.wrong("lora_alpha", "is no number"))?;
        let rank = rank as f64;
        let rooted = self.field(part, "use_rslora").and_then(Value::as_bool).unwrap_or(false);
        Ok(Some(((alpha / if rooted { rank.sqrt() } else { rank }) as f32, alpha)))
    }

    /// Whether the module is the pattern's: its whole name, or the end of it behind a dot. Patterns are regular
    /// expressions, but written as names.
    fn matches(&self, pattern: &str, module: &str) -> Result<bool> {
        let (anchored, text) = pattern.strip_prefix('^').map_or((false, pattern), |text| (true, text));
        let text = text.strip_prefix(".*\\.").unwrap_or(text).trim_end_matches('$').replace("\\.", ".");
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(self.wrong("alpha_pattern", &format!("has the pattern `{pattern}`, which is no name")));
        }
        let Some(before) = module.strip_suffix(text.as_str()) else { return Ok(false) };
        Ok(before.is_empty() || (before.ends_with('.') && (!anchored || pattern.starts_with("^.*"))))
    }

    fn wrong(&self, field: &str, problem: &str) -> Error {
        let (subject, problem) = (format!("`{field}` of `{}`", self.source), problem.to_string());
        LoraError::Value { path: self.path.clone(), subject, problem }.into()
    }
}

/// The number in a tensor of one element, of any dtype.
///
/// # Errors
/// More elements, or one that is NaN or infinite.
pub(super) fn number(stored: &Stored) -> Result<f64> {
    let wrong = |problem: String| {
        let (path, subject) = (stored.path(), format!("key `{}`", stored.key));
        Error::from(LoraError::Value { path, subject, problem })
    };
    if stored.shape.iter().product::<usize>() != 1 {
        return Err(wrong(format!("has shape {:?}, which is no single number", stored.shape)));
    }
    let values = stored.file.tensor(&stored.key)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    match values.as_slice() {
        [value] if value.is_finite() && value.abs() <= f64::from(f32::MAX) => Ok(*value),
        other => Err(wrong(format!("is {:?}, which is no number", other.first().copied().unwrap_or(f64::NAN)))),
    }
}
