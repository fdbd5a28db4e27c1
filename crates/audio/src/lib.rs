//! Sound: autoencoders of mel spectrograms, vocoders, and the way from waveforms to mel spectrograms.
//!
//! Waveforms are `[B, C, samples]` in -1..1, mel spectrograms `[B, C, F, M]` with `M` bins, latents `[B, C, L, M]`; all are f32, and so is
//! what computes them: 16 bits can be heard.

mod conv;
mod error;
mod format;
pub mod ltx;
mod mel;
mod resample;
pub mod vocoder;

pub use error::{Error, Result};
pub use format::AudioFormat;
pub use mel::MelSpectrogram;
pub use resample::resample;

/// The halves of an autoencoder that are loaded; each takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Encoder and decoder.
    Both,
    /// The half that makes latents of mel spectrograms.
    Encoder,
    /// The half that makes mel spectrograms of latents.
    Decoder,
}
