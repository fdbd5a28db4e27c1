//! The section `audio_vae` of the configuration in the original's files
//! (<https://github.com/Lightricks/LTX-2/blob/400fd31/packages/ltx-core/src/ltx_core/model/audio_vae/model_configurator.py>).

use super::Config;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Section {
    model: Model,
    preprocessing: Preprocessing,
    variables: Variables,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    params: Params,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    ddconfig: Network,
    sampling_rate: Option<usize>,
}

/// The dimensions of the network; absent ones have the released values.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Network {
    ch: Option<usize>,
    out_ch: Option<usize>,
    ch_mult: Option<Vec<usize>>,
    num_res_blocks: Option<usize>,
    attn_resolutions: Option<Vec<usize>>,
    in_channels: Option<usize>,
    z_channels: Option<usize>,
    norm_type: Option<String>,
    causality_axis: Option<String>,
    mid_block_add_attention: Option<bool>,
    mel_bins: Option<usize>,
    double_z: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Preprocessing {
    stft: Stft,
    mel: Mel,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stft {
    hop_length: Option<usize>,
    filter_length: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Mel {
    n_mel_channels: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Variables {
    mel_bins: Option<usize>,
}

pub(super) fn read(section: &Value) -> Result<Config> {
    let section = Section::deserialize(section).map_err(|source| Error::Json { part: "audio VAE", source })?;
    let Section { model: Model { params }, preprocessing: Preprocessing { stft, mel }, variables } = section;
    let (network, released) = (params.ddconfig, Config::ltx2());
    let bins = network.mel_bins.or(mel.n_mel_channels).or(variables.mel_bins);
    Ok(Config {
        base_channels: network.ch.unwrap_or(released.base_channels),
        output_channels: network.out_ch.unwrap_or(released.output_channels),
        ch_mult: network.ch_mult.unwrap_or(released.ch_mult),
        num_res_blocks: network.num_res_blocks.unwrap_or(released.num_res_blocks),
        attn_resolutions: network.attn_resolutions,
        in_channels: network.in_channels.unwrap_or(released.in_channels),
        latent_channels: network.z_channels.unwrap_or(released.latent_channels),
        norm_type: network.norm_type.unwrap_or(released.norm_type),
        causality_axis: network.causality_axis.or(released.causality_axis),
        mid_block_add_attention: network.mid_block_add_attention.unwrap_or(false),
        sample_rate: params.sampling_rate.unwrap_or(released.sample_rate),
        mel_hop_length: stft.hop_length.unwrap_or(released.mel_hop_length),
        mel_window: stft.filter_length.unwrap_or(released.mel_window),
        mel_bins: bins.unwrap_or(released.mel_bins),
        double_z: network.double_z.unwrap_or(released.double_z),
    })
}
