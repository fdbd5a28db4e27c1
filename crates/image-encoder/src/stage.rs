//! The image stage: picture → pixels → hidden states.

use crate::{ClipPreprocess, ClipVision, Result};
use candle_core::{Device, Tensor};

/// Turns a picture into hidden states, which a transformer is conditioned on.
pub trait ImageEncoder: Send + Sync {
    /// Returns the size `(width, height)` to which a picture of `width`×`height` pixels is to be resized (bicubic, as
    /// Pillow does it) before it is encoded.
    fn resized(&self, width: usize, height: usize) -> (usize, usize);

    /// Encodes `rgb`, `height` rows of `width` pixels of three bytes, the size that [`ImageEncoder::resized`] asks for →
    /// `[1, T, C]` on `device`, in the dtype of the encoder's weights.
    ///
    /// # Errors
    /// Bytes that are not `width · height` pixels, a picture that does not have the network's size after cropping, or
    /// whatever candle fails on.
    fn encode(&self, rgb: &[u8], width: usize, height: usize, device: &Device) -> Result<Tensor>;
}

/// Preprocessing and network that belong together.
pub struct ImageStage {
    network: ClipVision,
    preprocess: ClipPreprocess,
}

impl ImageStage {
    /// The stage of a CLIP vision tower.
    pub fn new(network: ClipVision, preprocess: ClipPreprocess) -> Self {
        Self { network, preprocess }
    }
}

impl ImageEncoder for ImageStage {
    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        self.preprocess.resized(width, height)
    }

    fn encode(&self, rgb: &[u8], width: usize, height: usize, device: &Device) -> Result<Tensor> {
        let pixels = self.preprocess.pixels(rgb, width, height, device)?; // [1, 3, s, s]
        Ok(self.network.penultimate(&pixels)?.to_device(device)?)
    }
}
