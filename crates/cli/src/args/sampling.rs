//! How noise becomes latents: the library's settings, under a mode.

use clap::Args;
use kinora::{Mode, Request, Sampling};

/// A mode, and settings that replace its own.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Denoising")]
pub struct SamplingArgs {
    /// fast or quality: steps, sampler, shift, guidance and cache of the model's mode, where no other option gives them
    /// (`kinora models --show NAME` prints both).
    #[arg(long, value_name = "NAME")]
    pub mode: Option<Mode>,
    /// The settings.
    #[command(flatten)]
    pub settings: Sampling,
}

/// Everything of denoising, of one clip.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Denoising")]
pub struct DenoisingArgs {
    /// Mode and settings.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Seed of the noise; random by default, printed and recorded.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

impl SamplingArgs {
    /// These, and `fallback` for what they leave open.
    pub fn or(&self, fallback: &Self) -> Self {
        Self { mode: self.mode.or(fallback.mode), settings: self.settings.clone().or(&fallback.settings) }
    }

    /// Changes `request` to these settings. A mode replaces all settings of an earlier clip.
    pub fn apply(&self, request: Request) -> Request {
        let earlier = if self.mode.is_some() { Sampling::default() } else { request.sampling };
        Request { mode: self.mode.or(request.mode), sampling: self.settings.clone().or(&earlier), ..request }
    }
}

impl DenoisingArgs {
    /// Changes `request` to these settings.
    pub fn apply(&self, request: Request) -> Request {
        let request = self.sampling.apply(request);
        Request { seed: self.seed.or(request.seed), ..request }
    }
}
