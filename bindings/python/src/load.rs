//! The keyword arguments of `kinora.Pipeline` as [`LoadOptions`].

use crate::options::Options;
use kinora::{Choice, DType, LoadOptions, Lora, Quant};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The choice that leaves it to Kinora.
const AUTO: &str = "auto";

pub fn load_options(options: &mut Options<'_>) -> PyResult<LoadOptions> {
    let words = options.list("model")?.into_iter().map(|word| word.into_os_string().into_string());
    let model = words
        .collect::<Result<Vec<_>, _>>()
        .map_err(|word| PyValueError::new_err(format!("model: the path `{}` is not Unicode", word.display())))?;
    let loras = options.list("loras")?.into_iter().map(|lora| {
        lora.to_string_lossy().parse::<Lora>().map_err(|error| PyValueError::new_err(format!("loras: {error}")))
    });
    let loras = loras.collect::<PyResult<Vec<_>>>()?;
    let mut load = LoadOptions::default().loras(loras);
    if !model.is_empty() {
        load.model = model;
    }
    (load.lora_folder, load.few_steps) = (options.path("lora_folder")?, options.flag("few_steps")?);
    load.dtype = options.parse_with("dtype", dtype)?.unwrap_or_default();
    load.quant = options.parse_with("quant", quant)?.unwrap_or_default();
    load.exact = options.flag("exact")?;
    load.device = options.get("device")?.unwrap_or(load.device);
    (load.threads, load.keep_warm) = (options.get("threads")?, options.flag("keep_warm")?);
    (load.pace, load.contexts) = (options.path("pace")?, options.path("contexts")?);
    load.gpu_memory = options.get("gpu_memory")?.map(bytes).transpose()?;
    load.ffmpeg = options.path("ffmpeg")?;
    Ok(load)
}

fn dtype(text: &str) -> Result<Choice<DType>, String> {
    match text {
        AUTO => Ok(Choice::Fastest),
        "f32" => Ok(Choice::Is(DType::F32)),
        "bf16" => Ok(Choice::Is(DType::BF16)),
        "f16" => Ok(Choice::Is(DType::F16)),
        _ => Err(format!("`{text}` is not one of auto, f32, bf16, f16")),
    }
}

fn quant(text: &str) -> Result<Choice<Quant>, String> {
    match text {
        AUTO => Ok(Choice::Fastest),
        text => text.parse().map(Choice::Is).map_err(|()| format!("`{text}` is not one of auto, int8, fp8")),
    }
}

fn bytes(gigabytes: f64) -> PyResult<u64> {
    if gigabytes > 0.0 && gigabytes < 1e6 {
        return Ok((gigabytes * 1e9) as u64);
    }
    Err(PyValueError::new_err(format!("gpu_memory: {gigabytes} is no number of gigabytes, such as 8")))
}
