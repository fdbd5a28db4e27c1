//! The options of `kinora bench`.

use super::{LoraArgs, ModelArgs};
use clap::{Args, ValueEnum};
use kinora::bench::BenchPart;
use kinora::{AttentionChoice, Blocks};
use std::path::PathBuf;

/// `kinora bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Measure the real architecture of a known variant with random weights instead, which needs no files.
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub random: Option<String>,
    /// Width, height and frames of the clip, such as 832x480x81 [default: the model's].
    #[arg(long, value_name = "WxHxF")]
    pub size: Option<String>,
    /// The parts to measure.
    #[arg(long, value_enum, default_value = "all")]
    pub what: What,
    /// Timed runs of each part; the median is printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,
    /// With --random: build and measure only N layers of the text encoder, and scale the time to all of them.
    #[arg(long, value_name = "N", requires = "random")]
    pub text_layers: Option<usize>,
    /// With --random: build and measure only N blocks of the transformer, and scale the time to all of them.
    #[arg(long, value_name = "N", requires = "random")]
    pub dit_layers: Option<usize>,
    /// With --random: matrices in blocks, of a type that GGUF files have.
    #[arg(long, value_name = "TYPE", requires = "random", value_parser = blocks)]
    pub blocks: Option<Blocks>,
    /// The transformer's self-attention: dense or sparse[:KEEP] (its first block is dense).
    #[arg(long, value_name = "KIND", default_value = "dense")]
    pub attention: AttentionChoice,
    /// The format of the result.
    #[arg(long, value_enum, default_value = "md")]
    pub format: Format,
    /// Print the speedup over an earlier result, which was printed with --format json.
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// The model to measure.
    #[command(flatten)]
    pub model: ModelArgs,
    /// LoRAs that the transformer is measured with.
    #[command(flatten)]
    pub loras: LoraArgs,
}

fn blocks(text: &str) -> Result<Blocks, String> {
    let names = || Blocks::ALL.map(Blocks::name).join(", ");
    text.parse().map_err(|()| format!("it is not one of {}", names()))
}

/// Parts of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The text encoder.
    Text,
    /// One forward pass of the transformer.
    Dit,
    /// The VAE's decoder.
    Vae,
    /// The VAE's encoder.
    Encode,
    /// All parts.
    All,
}

impl What {
    /// Returns the parts that are measured.
    pub fn parts(self) -> Vec<BenchPart> {
        match self {
            Self::Text => vec![BenchPart::Text],
            Self::Dit => vec![BenchPart::Dit],
            Self::Vae => vec![BenchPart::Vae],
            Self::Encode => vec![BenchPart::Encode],
            Self::All => BenchPart::ALL.to_vec(),
        }
    }
}

/// Formats of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Markdown.
    Md,
    /// JSON.
    Json,
    /// Comma-separated values.
    Csv,
}
