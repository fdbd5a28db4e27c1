//! The options of denoising: a mode, and the library's settings.

use clap::Args;
use kinora::{Mode, Request, Sampling, SeedChoice};

/// A mode, and settings that replace its own.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Denoising")]
pub struct SamplingArgs {
    /// The settings that a distilled model or LoRA was made for, for those that no other option gives: lightning-4,
    /// lightx2v-4, self-forcing-4, causvid-9, fastwan-3, accvid-10, or none. A LoRA whose header names one takes it by itself.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// fast or quality: the settings of the model's mode, for those that no other option gives (`kinora models --show
    /// NAME` prints both modes).
    #[arg(long, value_name = "NAME")]
    pub mode: Option<Mode>,
    /// The settings.
    #[command(flatten)]
    pub settings: Sampling,
}

/// A mode, settings and a seed.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Denoising")]
pub struct DenoisingArgs {
    /// Mode and settings.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Seed of the noise, a number or `random` [default: random; printed and recorded].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = kinora::parse_seed)]
    pub seed: Option<SeedChoice>,
}

impl SamplingArgs {
    /// Returns these settings, and those of `fallback` where these say nothing.
    pub fn or(&self, fallback: &Self) -> Self {
        let preset = self.preset.clone().or_else(|| fallback.preset.clone());
        Self { preset, mode: self.mode.or(fallback.mode), settings: self.settings.clone().or(&fallback.settings) }
    }

    /// Returns `request` with these settings. A preset or a mode replaces all settings that an earlier clip was made with.
    pub fn apply(&self, mut request: Request) -> Request {
        let replaced = self.mode.is_some() || self.preset.is_some();
        let earlier = if replaced { Sampling::default() } else { request.sampling };
        request.preset = self.preset.clone().or(request.preset);
        request.mode = self.mode.or(request.mode);
        request.sampling = self.settings.clone().or(&earlier);
        request
    }
}

impl DenoisingArgs {
    /// Returns `request` with these settings and the seed.
    pub fn apply(&self, request: Request) -> Request {
        let mut request = self.sampling.apply(request);
        request.seed = self.seed.map_or(request.seed, SeedChoice::fixed);
        request
    }
}
