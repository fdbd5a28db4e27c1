//! Parameter names: from the layouts of files to the original's.

use super::config::{Block, Config};
use kinora_checkpoint::KeyMap;

/// Statistics of latents that the original's files have, and nothing needs.
const UNUSED: [&str; 3] = ["channel", "mean-of-stds", "mean-of-stds_over_std-of-means"];
/// What the original's combined files have beside the autoencoder.
const OTHERS: [&str; 5] = [
    "model.diffusion_model.{p..}",
    "audio_vae.{p..}",
    "vocoder.{p..}",
    "text_embedding_projection.{p..}",
    "text_encoders.{p..}",
];

/// Returns the map from the names of diffusers' `AutoencoderKLLTX2Video` to the original's, which are canonical: there,
/// residual blocks and resampling are in one list.
pub fn canonical_from_diffusers(config: &Config) -> KeyMap {
    let mut rules = vec![
        ("latents_mean".to_string(), "per_channel_statistics.mean-of-means".to_string()),
        ("latents_std".to_string(), "per_channel_statistics.std-of-means".to_string()),
    ];
    for (side, list, resampler, blocks) in [
        ("encoder", "down_blocks", "downsamplers", &config.encoder_blocks),
        ("decoder", "up_blocks", "upsamplers", &config.decoder_blocks),
    ] {
        for end in ["conv_in", "conv_out"] {
            rules.push((format!("{side}.{end}.{{p..}}"), format!("{side}.{end}.{{p..}}")));
        }
        // The encoder ends with what diffusers calls the middle, and the decoder begins with it.
        let middle = if side == "encoder" { blocks.len().saturating_sub(1) } else { 0 };
        let mut resampled = 0usize;
        for (index, block) in blocks.iter().enumerate() {
            let canonical = format!("{side}.{list}.{index}");
            match block {
                Block::Resample(_) => {
                    let source = format!("{side}.{list}.{resampled}.{resampler}.0.{{p..}}");
                    rules.push((source, format!("{canonical}.{{p..}}")));
                    resampled += 1;
                }
                Block::Residual { .. } => {
                    let stage = if side == "encoder" { resampled } else { resampled.saturating_sub(1) };
                    let source = if index == middle { "mid_block".to_string() } else { format!("{list}.{stage}") };
                    let source = format!("{side}.{source}.resnets.{{j}}.{{p..}}");
                    rules.push((source, format!("{canonical}.res_blocks.{{j}}.{{p..}}")));
                }
            }
        }
    }
    KeyMap::new("diffusers LTX-2 VAE", rules)
}

/// Returns the map of Lightricks' combined files, in which the autoencoder is below `vae` and everything else is left out.
pub fn canonical_from_combined() -> KeyMap {
    let unused = UNUSED.iter().map(|name| format!("vae.per_channel_statistics.{name}"));
    KeyMap::new("LTX-2 combined file", [("vae.{p..}", "{p..}")])
        .dropping(OTHERS.into_iter().map(String::from).chain(unused))
}

/// Returns the map of files that have the autoencoder alone, by the original's names.
pub fn original() -> KeyMap {
    let unused = UNUSED.iter().map(|name| format!("per_channel_statistics.{name}"));
    KeyMap::identity("original LTX-2 VAE").anchored(["per_channel_statistics.mean-of-means"]).dropping(unused)
}
