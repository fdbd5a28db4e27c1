//! Which model a command loads, and how it runs.

use crate::ffmpeg;
use clap::{Args, ValueEnum};
use kinora::{Choice, LoadOptions, Lora, Mode, Recipe};
use std::path::PathBuf;

/// Which model, and how it runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A known name, a model directory, or single files (transformer, VAE, text encoder, tokenizer.json). Files after a
    /// name or a directory replace its parts; high=FILE and low=FILE are two experts [default: embedded].
    #[arg(long, num_args = 1.., value_name = "NAME|DIR|FILE")]
    pub model: Option<Vec<String>>,
    /// How it runs.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// What changes a model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct LoraArgs {
    /// A LoRA, and what its changes are multiplied by [default: 1]; repeat it for several. high= or low= in front names one
    /// of two transformers, else both are changed.
    #[arg(long, value_name = "FILE[:STRENGTH]")]
    pub lora: Vec<Lora>,
    /// A folder of LoRAs: --lora takes their names, and --mode fast one for few steps that fits the model [default: the
    /// variable `KINORA_LORAS`, else kinora/loras in the user's data directory].
    #[arg(long, value_name = "DIR")]
    pub lora_folder: Option<PathBuf>,
}

impl LoraArgs {
    /// Returns `options` with these LoRAs, if there are any, for clips that are made in `mode`.
    pub fn over(&self, mut options: LoadOptions, mode: Option<Mode>) -> LoadOptions {
        if !self.lora.is_empty() {
            options.loras.clone_from(&self.lora);
        }
        options.lora_folder = self.lora_folder.clone().or_else(lora_folder);
        options.few_steps(mode == Some(Mode::Fast))
    }
}

/// The folder of LoRAs that no option names.
fn lora_folder() -> Option<PathBuf> {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = || match path(if cfg!(windows) { "LOCALAPPDATA" } else { "XDG_DATA_HOME" }) {
        Some(data) => Some(data),
        None => Some(std::env::home_dir()?.join(".local/share")),
    };
    path("KINORA_LORAS").or_else(|| Some(data()?.join("kinora").join("loras")))
}

/// How a model runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ComputeArgs {
    /// Data type of the networks [default on the CPU: f32]; bf16 halves the memory there, and the time on CPUs that
    /// multiply bf16; auto takes bf16 where it is measured to be faster.
    #[arg(long, value_enum)]
    pub dtype: Option<DTypeArg>,
    /// Quantise the large matrices of the transformer and the text encoder: less memory, faster, a slightly different
    /// clip; auto does so where it is measured to be faster.
    #[arg(long, value_enum)]
    pub quant: Option<QuantArg>,
    /// Do not round inputs to 8 bits where the file's weights are quantised: in blocks (GGUF) on the CPU, fp8 and int8 on CUDA
    /// devices. Slower, and as near to the file's numbers as can be.
    #[arg(long)]
    pub exact: bool,
    /// Where to compute.
    #[arg(long, default_value = "auto", value_name = "DEVICE", help = device_help())]
    pub device: String,
    /// Gigabytes of GPU memory to plan with [default: the free memory]; parts that do not fit are offloaded to host
    /// memory.
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub gpu_memory: Option<u64>,
    /// CPU threads [default: one for each core, or for each fast one of a hybrid processor]. The result does not depend on their number.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Refuse clips that Kinora does not read itself, instead of reading them with the programs ffmpeg and ffprobe on
    /// PATH.
    #[arg(long)]
    pub no_ffmpeg: bool,
}

fn device_help() -> String {
    let mut devices = kinora::devices();
    if cfg!(all(target_os = "linux", not(feature = "cuda"))) {
        devices.push("cuda or cuda:N with kinora-cuda beside this program");
    }
    format!("Where to compute: {}", devices.join(", "))
}

/// Data types of the networks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DTypeArg {
    /// The fastest of f32 and bf16 on this machine.
    Auto,
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point with 8 bits of exponent.
    Bf16,
    /// 16-bit floating point with 5 bits of exponent.
    F16,
}

/// How matrices are quantised.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum QuantArg {
    /// The quantisation that is faster on this machine than none, if one is.
    Auto,
    /// 8-bit integers.
    Int8,
    /// 8-bit floating point, on CUDA devices.
    Fp8,
}

impl ModelArgs {
    /// Returns the options of the library that these describe.
    pub fn load_options(&self) -> LoadOptions {
        self.compute.load_options(self.model.clone().unwrap_or_else(|| LoadOptions::default().model))
    }

    /// The same, with the model, LoRAs, dtype and quantisation of `recipe` where no option gives them.
    pub fn load_options_of(&self, recipe: &Recipe) -> kinora::Result<LoadOptions> {
        let own = self.compute.load_options(self.model.clone().unwrap_or_else(|| recipe.model.clone()));
        let dtype = match own.dtype {
            Choice::Usual => Choice::Is(recipe.dtype()?),
            given => given,
        };
        let quant = match own.quant {
            Choice::Usual => recipe.quant()?.into(),
            given => given,
        };
        let exact = own.exact || recipe.exact;
        Ok(own.dtype(dtype).quant(quant).exact(exact).loras(recipe.loras.clone()))
    }
}

impl ComputeArgs {
    /// Returns these options as words of a command line.
    pub fn words(&self) -> Vec<String> {
        let value = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_string());
        let pairs = [
            ("--dtype", self.dtype.and_then(|dtype| value(dtype.to_possible_value()))),
            ("--quant", self.quant.and_then(|quant| value(quant.to_possible_value()))),
            ("--device", Some(self.device.clone())),
            ("--gpu-memory", self.gpu_memory.map(|bytes| (bytes as f64 / 1e9).to_string())),
            ("--threads", self.threads.map(|threads| threads.to_string())),
        ];
        let flags = [("--exact", self.exact), ("--no-ffmpeg", self.no_ffmpeg)];
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some([name.to_string(), value?])).flatten();
        pairs.chain(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_string())).collect()
    }

    /// Returns the options of the library that these describe, for `model`.
    pub fn load_options(&self, model: Vec<String>) -> LoadOptions {
        let dtype = match self.dtype {
            None => Choice::Usual,
            Some(DTypeArg::Auto) => Choice::Fastest,
            Some(DTypeArg::F32) => Choice::Is(kinora::DType::F32),
            Some(DTypeArg::Bf16) => Choice::Is(kinora::DType::BF16),
            Some(DTypeArg::F16) => Choice::Is(kinora::DType::F16),
        };
        let quant = match self.quant {
            None => Choice::Usual,
            Some(QuantArg::Auto) => Choice::Fastest,
            Some(QuantArg::Int8) => Choice::Is(kinora::Quant::Int8),
            Some(QuantArg::Fp8) => Choice::Is(kinora::Quant::Fp8),
        };
        let options = LoadOptions::default().model(model).dtype(dtype).quant(quant).exact(self.exact);
        let mut options = options.device(&self.device).threads(self.threads).gpu_memory(self.gpu_memory);
        (options.pace, options.contexts) = (crate::cache::path("pace.json"), crate::cache::path("contexts"));
        options.ffmpeg = (!self.no_ffmpeg).then(ffmpeg::find).flatten();
        options
    }
}

/// Parses gigabytes, and returns bytes.
fn gigabytes(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1e6 => Ok((number * 1e9) as u64),
        _ => Err("a number of gigabytes, such as 8".into()),
    }
}
