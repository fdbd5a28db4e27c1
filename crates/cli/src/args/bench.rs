//! The options of `kinora bench`.

use super::ModelArgs;
use clap::{Args, ValueEnum};
use kinora::bench::BenchPart;
use std::path::PathBuf;

/// `kinora bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The model to measure.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Measure the real architecture of a known variant with random weights instead: no files needed.
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub random: Option<String>,
    /// Width, height and frames of the clip, such as 832x480x81 [default: the model's].
    #[arg(long, value_name = "WxHxF")]
    pub size: Option<String>,
    /// What to measure.
    #[arg(long, value_enum, default_value = "all")]
    pub what: What,
    /// Timed runs of each part; the median is printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,
    /// With --random: build and measure only so many layers of the text encoder, and count the time for all.
    #[arg(long, value_name = "N", requires = "random")]
    pub text_layers: Option<usize>,
    /// How to print.
    #[arg(long, value_enum, default_value = "md")]
    pub format: Format,
    /// An earlier result (printed with --format json): say how much faster this one is.
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// Parts of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The text encoder.
    Text,
    /// One forward of the transformer.
    Dit,
    /// Decoding.
    Vae,
    /// Encoding.
    Encode,
    /// Everything.
    All,
}

impl What {
    /// As the library takes it.
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

/// Formats of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Markdown.
    Md,
    /// JSON.
    Json,
    /// Comma-separated values.
    Csv,
}
