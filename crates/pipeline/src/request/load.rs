//! [`LoadOptions`]: the model of a pipeline, and where it runs.

use crate::request::lora::Lora;
use candle_core::DType;
use kinora_checkpoint::Quant;
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

/// The model to load, and where it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// A known name (`embedded`, or one of [`crate::Manifest::known`]), a model directory, or single files.
    pub model: Vec<String>,
    /// LoRAs that change the transformers. Their changes add up, in any order.
    pub loras: Vec<Lora>,
    /// A folder in which LoRAs are looked for that are given by name.
    pub lora_folder: Option<PathBuf>,
    /// If no LoRA is given, one for few steps is taken from the folder, where one fits the model.
    pub few_steps: bool,
    /// Dtype of the networks; usual is f32 on the CPU, bf16 elsewhere.
    pub dtype: Choice<DType>,
    /// Quantisation of the large matrices of transformer and text encoder; usually they stay as the file has them.
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
    pub pace: Option<PathBuf>,
    /// The folder in which text contexts are kept, so that a prompt that was encoded before does not load the text encoder; `None` keeps
    /// none.
    pub contexts: Option<PathBuf>,
    /// The most bytes of a GPU's memory to plan with; `None` is what is free. Blocks that do not fit are streamed from the
    /// host's memory.
    pub gpu_memory: Option<u64>,
    /// The absolute path of the program `ffmpeg`, beside which `ffprobe` lies: it reads the clips that Kinora does not read
    /// itself. `None` refuses them.
    pub ffmpeg: Option<PathBuf>,
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
