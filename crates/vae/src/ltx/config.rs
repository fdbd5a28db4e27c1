//! [`Config`] of the LTX-2.x autoencoders: the blocks of both halves, in the order in which they run.

use crate::{Error, LatentFormat, Result};

/// Architecture of an LTX-2.x autoencoder. Files describe it in three ways: [`Config::from_json`] reads diffusers' config.json
/// and the metadata of Lightricks' files, [`Config::from_shapes`] takes it from the tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Latent channels; the encoder begins with as many.
    pub latent_channels: usize,
    /// Pixels per side of a patch that becomes channels.
    pub patch_size: usize,
    /// The blocks of the encoder.
    pub encoder_blocks: Vec<Block>,
    /// Channels with which the decoder begins.
    pub decoder_channels: usize,
    /// The blocks of the decoder.
    pub decoder_blocks: Vec<Block>,
    /// What the encoder's convolutions see outside of the frame.
    pub encoder_padding: Padding,
    /// What the decoder's convolutions see outside of the frame.
    pub decoder_padding: Padding,
}

/// A block of the encoder or of the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Residual blocks, one after the other.
    Residual {
        /// The number of them.
        layers: usize,
    },
    /// Downsampling in the encoder, upsampling in the decoder.
    Resample(Resample),
}

/// A layer that changes the number of frames, rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resample {
    /// Factors of frames, rows and columns, each 1 or 2; those of rows and columns are the same.
    pub stride: [usize; 3],
    /// Channels of the result.
    pub outputs: usize,
    /// Whether the upsampled input is added to the result. In the encoder it always is.
    pub residual: bool,
}

/// What a convolution sees outside of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Zeros.
    Zeros,
    /// The frame's mirror image, without its outermost pixels.
    Reflect,
}

/// Strides of downsampling and upsampling.
pub(super) const SPATIAL: [usize; 3] = [1, 2, 2];
pub(super) const TEMPORAL: [usize; 3] = [2, 1, 1];
pub(super) const SPATIOTEMPORAL: [usize; 3] = [2, 2, 2];

impl Config {
    /// The autoencoder of LTX-2.0.
    pub fn ltx20() -> Self {
        let up = |outputs| Block::Resample(Resample { stride: SPATIOTEMPORAL, outputs, residual: true });
        Self {
            latent_channels: 128,
            patch_size: 4,
            encoder_blocks: encoder_blocks([4, 6, 6, 2, 2], [256, 512, 1024, 2048]),
            decoder_channels: 1024,
            decoder_blocks: alternating(&[5, 5, 5, 5], &[up(512), up(256), up(128)]),
            encoder_padding: Padding::Zeros,
            decoder_padding: Padding::Reflect,
        }
    }

    /// The autoencoder of LTX-2.3, which LTX-2.5 has, too.
    pub fn ltx23() -> Self {
        let up = |stride, outputs| Block::Resample(Resample { stride, outputs, residual: false });
        let ups = [up(SPATIOTEMPORAL, 512), up(SPATIOTEMPORAL, 512), up(TEMPORAL, 256), up(SPATIAL, 128)];
        Self {
            encoder_blocks: encoder_blocks([4, 6, 4, 2, 2], [256, 512, 1024, 1024]),
            decoder_blocks: alternating(&[2, 2, 4, 6, 4], &ups),
            decoder_padding: Padding::Zeros,
            ..Self::ltx20()
        }
    }

    /// Returns how many pixel frames a latent frame stands for, but for the first.
    pub fn temporal_factor(&self) -> usize {
        strides(&self.decoder_blocks).map(|stride| stride[0]).product()
    }

    /// Returns how many pixels a latent stands for, in each of height and width.
    pub fn spatial_factor(&self) -> usize {
        self.patch_size * strides(&self.decoder_blocks).map(|stride| stride[1]).product::<usize>()
    }

    /// Returns size and scale of the latents, whose means and standard deviations are tensors of the checkpoint, not of the
    /// configuration.
    pub fn latent_format(&self, mean: Vec<f32>, std: Vec<f32>) -> LatentFormat {
        LatentFormat {
            channels: self.latent_channels,
            temporal_factor: self.temporal_factor(),
            spatial_factor: self.spatial_factor(),
            mean,
            std,
        }
    }

    /// Checks that the parts fit together; the first that does not is the error.
    ///
    /// # Errors
    /// [`Error::Config`], with the field.
    pub fn validate(&self) -> Result<()> {
        within("latent_channels", self.latent_channels, 1, 1 << 12)?;
        within("patch_size", self.patch_size, 1, 64)?;
        within("decoder_channels", self.decoder_channels, 1, 1 << 16)?;
        check_blocks("encoder_blocks", &self.encoder_blocks, self.latent_channels, |from, to| {
            to.outputs % volume(to.stride) == 0 && (from * volume(to.stride)).is_multiple_of(to.outputs)
        })?;
        check_blocks("decoder_blocks", &self.decoder_blocks, self.decoder_channels, |from, to| {
            !to.residual || (from % volume(to.stride) == 0 && to.outputs % (from / volume(to.stride)) == 0)
        })?;
        for axis in [0, 1] {
            let [down, up] = [&self.encoder_blocks, &self.decoder_blocks]
                .map(|blocks| strides(blocks).map(|stride| stride[axis]).product::<usize>());
            if down != up {
                return wrong("decoder_blocks", format!("enlarge {up} times what the encoder reduces {down} times"));
            }
        }
        Ok(())
    }

    /// Channels of a patch of pixels.
    pub(super) fn patch_channels(&self) -> usize {
        3 * self.patch_size * self.patch_size
    }
}

/// Returns the product of the three factors.
pub(super) fn volume(stride: [usize; 3]) -> usize {
    stride.iter().product()
}

/// Returns the factors of the blocks that have some, in their order.
fn strides(blocks: &[Block]) -> impl Iterator<Item = [usize; 3]> + '_ {
    blocks.iter().filter_map(|block| match block {
        Block::Resample(resample) => Some(resample.stride),
        Block::Residual { .. } => None,
    })
}

/// Returns residual blocks with one of `between` after each but the last.
pub(super) fn alternating(layers: &[usize], between: &[Block]) -> Vec<Block> {
    let mut blocks = Vec::with_capacity(layers.len() + between.len());
    for (index, &layers) in layers.iter().enumerate() {
        blocks.push(Block::Residual { layers });
        blocks.extend(between.get(index));
    }
    blocks
}

fn encoder_blocks(layers: [usize; 5], outputs: [usize; 4]) -> Vec<Block> {
    let strides = [SPATIAL, TEMPORAL, SPATIOTEMPORAL, SPATIOTEMPORAL];
    let down = |(stride, outputs)| Block::Resample(Resample { stride, outputs, residual: true });
    alternating(&layers, &strides.into_iter().zip(outputs).map(down).collect::<Vec<_>>())
}

/// Checks sizes and, by `fits`, what each resampling makes of its channels.
fn check_blocks(
    field: &'static str,
    blocks: &[Block],
    mut channels: usize,
    fits: impl Fn(usize, &Resample) -> bool,
) -> Result<()> {
    within(field, blocks.len(), 1, 64)?;
    for block in blocks {
        match block {
            Block::Residual { layers } => within(field, *layers, 1, 64)?,
            Block::Resample(resample) => {
                if ![SPATIAL, TEMPORAL, SPATIOTEMPORAL].contains(&resample.stride) {
                    return wrong(field, format!("have a stride of {:?}", resample.stride));
                }
                within(field, resample.outputs, 1, 1 << 16)?;
                if !fits(channels, resample) {
                    let Resample { stride, outputs, .. } = resample;
                    return wrong(
                        field,
                        format!("lead from {channels} to {outputs} channels by a stride of {stride:?}"),
                    );
                }
                channels = resample.outputs;
            }
        }
    }
    Ok(())
}

pub(super) fn within(field: &'static str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let range = if low == high { format!("{low}") } else { format!("{low} to {high}") };
    wrong(field, format!("is {value}, must be {range}"))
}

pub(super) fn wrong<T>(field: &'static str, problem: String) -> Result<T> {
    Err(Error::Config { field, problem })
}
