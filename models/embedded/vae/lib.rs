//! The autoencoder of the model that is compiled into Kinora, file by file.

/// `config.json`, as diffusers writes it.
pub static CONFIG: &[u8] = include_bytes!("config.json");

/// The weights, safetensors in f16.
pub static WEIGHTS: &[u8] = include_bytes!("diffusion_pytorch_model.safetensors");
