//! Which model a command loads, and how it runs.

use clap::{Args, ValueEnum};
use kinora::{LoadOptions, Recipe};

/// Which model, and how it runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A known name, a model directory, or single files (transformer, VAE, text encoder, tokenizer.json)
    /// [default: embedded, or the model that made the clip].
    #[arg(long, num_args = 1.., value_name = "NAME|DIR|FILE")]
    pub model: Option<Vec<String>>,
    /// How it runs.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// How a model runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ComputeArgs {
    /// Dtype of the networks; f32 on the CPU by default, where bf16 halves the memory, and the time on CPUs that multiply it.
    #[arg(long, value_enum)]
    pub dtype: Option<DTypeArg>,
    /// Round the large matrices of transformer and text encoder: less memory, faster, slightly other clips.
    #[arg(long, value_enum)]
    pub quant: Option<QuantArg>,
    /// Where to compute.
    #[arg(long, default_value = "auto", value_name = "DEVICE", help = device_help())]
    pub device: String,
    /// Gigabytes of the GPU's memory to plan with; by default what is free. What does not fit waits in the host's memory.
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub gpu_memory: Option<u64>,
    /// CPU threads; all cores by default. The result does not depend on it.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

fn device_help() -> String {
    let mut devices = kinora::devices();
    if cfg!(all(target_os = "linux", not(feature = "cuda"))) {
        devices.push("cuda or cuda:N with kinora-cuda beside this program");
    }
    format!("Where to compute: {}", devices.join(", "))
}

/// Dtypes of the networks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DTypeArg {
    /// 32-bit.
    F32,
    /// 16-bit, 8 bits of exponent.
    Bf16,
    /// 16-bit, 5 bits of exponent.
    F16,
}

/// How matrices are rounded.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum QuantArg {
    /// 8-bit integers.
    Int8,
    /// 8-bit floating point, on CUDA devices.
    Fp8,
}

impl ModelArgs {
    /// As the library takes it.
    pub fn load_options(&self) -> LoadOptions {
        self.compute.load_options(self.model.clone().unwrap_or_else(|| LoadOptions::default().model))
    }

    /// The same, with the model, dtype and quantisation of `recipe` where no option gives them.
    pub fn load_options_of(&self, recipe: &Recipe) -> kinora::Result<LoadOptions> {
        let own = self.compute.load_options(self.model.clone().unwrap_or_else(|| recipe.model.clone()));
        let dtype = own.dtype.map_or_else(|| recipe.dtype(), Ok)?;
        let quant = own.quant.map_or_else(|| recipe.quant(), |quant| Ok(Some(quant)))?;
        Ok(LoadOptions { dtype: Some(dtype), quant, ..own })
    }
}

impl ComputeArgs {
    /// As the library takes it, for `model`.
    pub fn load_options(&self, model: Vec<String>) -> LoadOptions {
        LoadOptions {
            model,
            dtype: self.dtype.map(|dtype| match dtype {
                DTypeArg::F32 => kinora::DType::F32,
                DTypeArg::Bf16 => kinora::DType::BF16,
                DTypeArg::F16 => kinora::DType::F16,
            }),
            quant: self.quant.map(|quant| match quant {
                QuantArg::Int8 => kinora::Quant::Int8,
                QuantArg::Fp8 => kinora::Quant::Fp8,
            }),
            device: self.device.clone(),
            threads: self.threads,
            gpu_memory: self.gpu_memory,
        }
    }
}

/// Gigabytes in bytes.
fn gigabytes(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1e6 => Ok((number * 1e9) as u64),
        _ => Err("a number of gigabytes, such as 8".into()),
    }
}
