//! The model that is compiled into the library, a diffusers directory: `models/embedded/`.

use crate::model::component::Blob;

/// The model's name.
pub(crate) const EMBEDDED: &str = "embedded";

#[cfg(feature = "embedded")]
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../models/embedded/", $name)) as &[u8])),*]
    };
}

#[cfg(feature = "embedded")]
static FILES: &[(&str, &[u8])] = files![
    "manifest.toml",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// This build has no embedded model.
#[cfg(not(feature = "embedded"))]
static FILES: &[(&str, &[u8])] = &[];

/// The file `name` of the embedded model.
pub(crate) fn file(name: &str) -> Option<Blob> {
    FILES.iter().find(|(known, _)| *known == name).map(|(name, bytes)| Blob::Static(name, bytes))
}

/// The paths of the embedded model's files.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}
