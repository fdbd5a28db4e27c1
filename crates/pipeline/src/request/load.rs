//! [`LoadOptions`]: the model of a pipeline, and where it runs.

use crate::request::builders::builders;
use crate::request::lora::Lora;
use crate::request::path_text;
use crate::request::text::{self, Text};
use candle_core::DType;
use kinora_checkpoint::Quant;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A setting that may be left to Kinora.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice<T> {
    /// What is usual on the device.
    #[default]
    Usual,
    /// Whatever is fastest on the machine at hand, which is measured. The recipe says what it was.
    Fastest,
    /// This.
    Is(T),
}

impl<T> From<Option<T>> for Choice<T> {
    fn from(given: Option<T>) -> Self {
        given.map_or(Self::Usual, Self::Is)
    }
}

impl<T> From<T> for Choice<T> {
    fn from(given: T) -> Self {
        Self::Is(given)
    }
}

/// The word for a choice that is measured.
const FASTEST: &str = "auto";

impl Text for Choice<DType> {
    fn text(&self) -> Option<String> {
        words(*self, |dtype| dtype.as_str().to_string())
    }

    fn of_text(text: Option<String>) -> Result<Self, String> {
        chosen(text.as_deref(), |text| text.parse().map_err(|_| format!("`{text}` is no dtype: f32, bf16 and f16 are")))
    }
}

impl Text for Choice<Quant> {
    fn text(&self) -> Option<String> {
        words(*self, |quant| quant.to_string())
    }

    fn of_text(text: Option<String>) -> Result<Self, String> {
        chosen(text.as_deref(), |text| {
            text.parse().map_err(|()| format!("`{text}` is no quantisation: int8 and fp8 are"))
        })
    }
}

fn words<T>(choice: Choice<T>, word: impl Fn(T) -> String) -> Option<String> {
    match choice {
        Choice::Usual => None,
        Choice::Fastest => Some(FASTEST.into()),
        Choice::Is(choice) => Some(word(choice)),
    }
}

fn chosen<T>(text: Option<&str>, read: impl Fn(&str) -> Result<T, String>) -> Result<Choice<T>, String> {
    match text {
        None => Ok(Choice::Usual),
        Some(FASTEST) => Ok(Choice::Fastest),
        Some(text) => read(text).map(Choice::Is),
    }
}

/// The model to load, and where it runs.
///
/// ```
/// use kinora::{DType, LoadOptions};
///
/// let options = LoadOptions::new("embedded").dtype(DType::BF16).keep_warm(true);
/// let text = serde_json::to_string(&options).unwrap();
/// assert_eq!(serde_json::from_str::<LoadOptions>(&text).unwrap(), options);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LoadOptions {
    /// A known name (`embedded`, or one of [`crate::Manifest::known`]), a model directory, or single files.
    pub model: Vec<String>,
    /// LoRAs that change the transformers. Their changes add up, in any order.
    pub loras: Vec<Lora>,
    /// A folder in which LoRAs are looked for that are given by name.
    #[serde(with = "path_text")]
    pub lora_folder: Option<PathBuf>,
    /// If no LoRA is given, one for few steps is taken from the folder, where one fits the model.
    pub few_steps: bool,
    /// Dtype of the networks; usual is f32 on the CPU, bf16 elsewhere.
    #[serde(with = "text")]
    pub dtype: Choice<DType>,
    /// Quantisation of the large matrices of transformer and text encoder; usually they stay as the file has them.
    #[serde(with = "text")]
    pub quant: Choice<Quant>,
    /// Weights that a file has quantised are dequantised part by part and multiplied in f32 on the CPU, in `dtype` elsewhere.
    /// Otherwise blocks (on the CPU), fp8 and int8 (on CUDA devices) are multiplied in eight bits, which is faster, with inputs
    /// that are quantised to eight bits as they come.
    pub exact: bool,
    /// `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
    pub device: String,
    /// CPU threads; `None` is every core, or every fast one where the system tells. The result does not depend on it.
    pub threads: Option<usize>,
    /// The components of the model stay in memory after a run, as far as the next one leaves room for them: it starts without reading
    /// them.
    pub keep_warm: bool,
    /// The file in which it is kept how long runs took on this machine, for [`Planned::time`](crate::Planned::time); `None` keeps
    /// nothing.
    #[serde(with = "path_text")]
    pub pace: Option<PathBuf>,
    /// The folder in which text contexts are kept, so that a prompt that was encoded before does not load the text encoder; `None` keeps
    /// none.
    #[serde(with = "path_text")]
    pub contexts: Option<PathBuf>,
    /// The most bytes of a GPU's memory to plan with; `None` is what is free. Blocks that do not fit are streamed from the
    /// host's memory.
    pub gpu_memory: Option<u64>,
    /// The absolute path of the program `ffmpeg`, beside which `ffprobe` lies: it reads the clips that Kinora does not read
    /// itself. `None` refuses them.
    #[serde(with = "path_text")]
    pub ffmpeg: Option<PathBuf>,
}

impl LoadOptions {
    /// A known name, a model directory, or a single file.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: vec![model.into()], ..Self::default() }
    }
}

builders! {
    LoadOptions {
        model: Vec<String>,
        loras: Vec<Lora>,
        lora_folder: PathBuf => Some,
        few_steps: bool,
        dtype: Choice<DType>,
        quant: Choice<Quant>,
        exact: bool,
        device: String,
        threads: Option<usize>,
        keep_warm: bool,
        pace: PathBuf => Some,
        contexts: PathBuf => Some,
        gpu_memory: Option<u64>,
        ffmpeg: PathBuf => Some,
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        let model = vec!["embedded".into()];
        let (dtype, quant) = (Choice::Usual, Choice::Usual);
        let loras = Vec::new();
        Self {
            model,
            loras,
            lora_folder: None,
            few_steps: false,
            dtype,
            quant,
            exact: false,
            device: "auto".into(),
            threads: None,
            keep_warm: false,
            pace: None,
            contexts: None,
            gpu_memory: None,
            ffmpeg: None,
        }
    }
}
