//! The model that is compiled into the library, a diffusers directory: `models/embedded/`.

use crate::model::source::Blob;

/// The file `name` of the embedded model.
#[cfg(feature = "embedded")]
pub(crate) fn file(name: &str) -> Option<Blob> {
    macro_rules! files {
        ($($name:literal),* $(,)?) => {
            &[$(($name, include_bytes!(concat!("../../../../models/embedded/", $name)) as &[u8])),*]
        };
    }
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
    FILES.iter().find(|(known, _)| *known == name).map(|(name, bytes)| Blob::Static(name, bytes))
}

/// This build has no embedded model.
#[cfg(not(feature = "embedded"))]
pub(crate) fn file(_name: &str) -> Option<Blob> {
    None
}
