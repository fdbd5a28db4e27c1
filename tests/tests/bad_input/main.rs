//! Bad input of every kind: the command says what is wrong and what to do, leaves nothing behind, takes no memory that
//! a file made up, and never panics. The texts are snapshots.

mod clips;
mod foreign;
mod models;
mod mutated;
mod places;
mod settings;
mod sound;
mod weights;

const TRANSFORMER: &str = "model/transformer/diffusion_pytorch_model.safetensors";
const TEXT_ENCODER: &str = "model/text_encoder/model.safetensors";
const VAE: &str = "model/vae/diffusion_pytorch_model.safetensors";
