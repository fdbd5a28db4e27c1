//! [`LoadOptions`]: the model of a pipeline, and where it runs.

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
    /// Dtype of the networks; usual is f32 on the CPU, bf16 elsewhere.
    pub dtype: Choice<DType>,
    /// Quantisation of the large matrices of transformer and text encoder; usually they stay as the file has them.
    pub quant: Choice<Quant>,
    /// `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
    pub device: String,
    /// CPU threads; `None` is every core, or every fast one where the system tells. The result does not depend on it.
    pub threads: Option<usize>,
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
        Self { model, dtype, quant, device: "auto".into(), threads: None, gpu_memory: None, ffmpeg: None }
    }
}
