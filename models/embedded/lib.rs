//! The model that is compiled into Kinora, file by file, as a diffusers directory has them. `README.md` says what the model can do.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[
            $(($name, include_bytes!($name) as &[u8]),)*
            ("vae/config.json", kinora_embedded_vae::CONFIG),
            ("vae/diffusion_pytorch_model.safetensors", kinora_embedded_vae::WEIGHTS),
        ]
    };
}

/// The paths of the files within the directory, and what is in them.
pub static FILES: &[(&str, &[u8])] = files![
    "manifest.toml",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
];
