//! Parameter names: from diffusers' layout to the original's, which differ in the statistics of tokens only.

use kinora_checkpoint::KeyMap;

/// Returns the layouts of the audio autoencoder's files: the original's names, which are canonical, and diffusers'.
pub fn key_maps() -> [KeyMap; 2] {
    let map = |layout: &str, mean: &str, std: &str| {
        let halves = ["encoder", "decoder"].map(|half| format!("{half}.{{p..}}")).map(|rule| (rule.clone(), rule));
        let statistics = [(mean, "mean-of-means"), (std, "std-of-means")];
        let statistics =
            statistics.map(|(source, name)| (source.to_string(), format!("per_channel_statistics.{name}")));
        KeyMap::new(layout, halves.into_iter().chain(statistics))
    };
    let original = ["per_channel_statistics.mean-of-means", "per_channel_statistics.std-of-means"];
    [map("original audio VAE", original[0], original[1]), map("diffusers audio VAE", "latents_mean", "latents_std")]
}
