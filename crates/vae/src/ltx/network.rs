//! [`Network`]: encoder and decoder, as a list of layers. Every frame goes through all of them before the next one, so that
//! only one frame, and what the layers keep of others, is held at a time.

use super::config::{Block, Config};
use super::conv::{Conv, Kind, Reach};
use super::layers::{Down, Head, Layer, ResidualBlock, State, Up, positions_first};
use super::windows::{Windows, enlarged};
use crate::window::{Window, crop};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;

type Load<T> = kinora_checkpoint::Result<T>;

pub(super) struct Network {
    layers: Vec<Layer>,
}

/// One clip on its way through a [`Network`].
pub(super) struct Stream {
    states: Vec<State>,
    /// For layers whose results have more around than the next one needs: the window that they have, and that which it needs.
    crops: Vec<Option<[Window; 2]>>,
    /// The number of layers that were ended.
    ended: usize,
}

impl Network {
    /// Reads the encoder, everything below `encoder`. It makes the mean of latents of patches, `[B, H, W, 3·p·p]` →
    /// `[B, h, w, latent_channels]`.
    pub(super) fn encoder(config: &Config, weights: &Weights) -> Load<Self> {
        let weights = weights.pp("encoder");
        let kind = Kind { reach: Reach::Past, padding: config.encoder_padding };
        let mut channels = config.latent_channels;
        let conv = Conv::new(&weights.pp("conv_in"), kind, config.patch_channels(), channels)?;
        let mut layers = vec![Layer::Conv(conv)];
        for (index, block) in config.encoder_blocks.iter().enumerate() {
            let weights = weights.pp("down_blocks").pp(index);
            match block {
                Block::Residual { layers: count } => residual_blocks(&mut layers, &weights, kind, channels, *count)?,
                Block::Resample(resample) => {
                    layers.push(Layer::Down(Down::new(&weights, kind, channels, *resample)?));
                    channels = resample.outputs;
                }
            }
        }
        // Behind the means is one logarithm of a variance.
        let latents = config.latent_channels;
        let means = |x: &Tensor| x.narrow(0, 0, latents);
        let conv = Conv::reordered(&weights.pp("conv_out"), kind, channels, latents + 1, means)?;
        layers.push(Layer::Head(Head::new(&weights, channels, conv)?));
        Ok(Self { layers })
    }

    /// Reads the decoder, everything below `decoder`. It makes patches of latents, `[B, h, w, latent_channels]` →
    /// `[B, H, W, 3·p·p]`, whose channels are in the order colour, row, column.
    pub(super) fn decoder(config: &Config, weights: &Weights) -> Load<Self> {
        let weights = weights.pp("decoder");
        let kind = Kind { reach: Reach::BothSides, padding: config.decoder_padding };
        let mut channels = config.decoder_channels;
        let conv = Conv::new(&weights.pp("conv_in"), kind, config.latent_channels, channels)?;
        let mut layers = vec![Layer::Conv(conv)];
        for (index, block) in config.decoder_blocks.iter().enumerate() {
            let weights = weights.pp("up_blocks").pp(index);
            match block {
                Block::Residual { layers: count } => residual_blocks(&mut layers, &weights, kind, channels, *count)?,
                Block::Resample(resample) => {
                    layers.push(Layer::Up(Up::new(&weights, kind, channels, *resample)?));
                    channels = resample.outputs;
                }
            }
        }
        let (patched, side) = (config.patch_channels(), config.patch_size);
        let conv = Conv::reordered(&weights.pp("conv_out"), kind, channels, patched, |x| rows_first(x, side))?;
        layers.push(Layer::Head(Head::new(&weights, channels, conv)?));
        Ok(Self { layers })
    }

    /// Returns the stream of a clip at its start. With `windows`, its frames are those of the first one, and its results those
    /// of the last one.
    pub(super) fn stream(&self, windows: Option<&Windows>) -> Stream {
        let mut crops = Vec::with_capacity(self.layers.len());
        let mut stage = 0;
        for layer in &self.layers {
            let next = windows.and_then(|windows| match layer {
                Layer::Up(up) => {
                    stage += 1;
                    Some([enlarged(&windows.stages[stage - 1], up.stride()[1]), windows.stages[stage].clone()])
                }
                Layer::Head(_) => Some([windows.stages[stage].clone(), windows.out.clone()]),
                _ => None,
            });
            crops.push(next);
        }
        Stream { states: self.layers.iter().map(|_| State::default()).collect(), crops, ended: 0 }
    }

    /// Takes the next frame and returns the results that are complete with it.
    pub(super) fn push(&self, x: Tensor, stream: &mut Stream) -> Result<Vec<Tensor>> {
        let mut out = Vec::new();
        self.feed(0, x, stream, &mut out)?;
        Ok(out)
    }

    /// Ends the clip when it is called first. Returns the next results, those that are complete with the end of one layer;
    /// nothing if there are none left.
    pub(super) fn drain(&self, stream: &mut Stream) -> Result<Vec<Tensor>> {
        let mut out = Vec::new();
        while let Some(layer) = self.layers.get(stream.ended) {
            let at = stream.ended;
            let frames = layer.end(&mut stream.states[at])?;
            if frames.is_empty() {
                stream.ended += 1;
                continue;
            }
            self.pass_on(at, frames, stream, &mut out)?;
            if !out.is_empty() {
                break;
            }
        }
        Ok(out)
    }

    /// Takes a frame through the layers from `at` on.
    fn feed(&self, at: usize, x: Tensor, stream: &mut Stream, out: &mut Vec<Tensor>) -> Result<()> {
        let Some(layer) = self.layers.get(at) else {
            out.push(x);
            return Ok(());
        };
        let frames = layer.push(x, &mut stream.states[at])?;
        self.pass_on(at, frames, stream, out)
    }

    /// Takes the results of layer `at` through those after it.
    fn pass_on(&self, at: usize, frames: Vec<Tensor>, stream: &mut Stream, out: &mut Vec<Tensor>) -> Result<()> {
        for frame in frames {
            let frame = match &stream.crops[at] {
                Some([found, wanted]) => crop(frame, found, wanted)?,
                None => frame,
            };
            self.feed(at + 1, frame, stream, out)?;
        }
        Ok(())
    }
}

/// Reads `count` residual blocks below `res_blocks`.
fn residual_blocks(layers: &mut Vec<Layer>, weights: &Weights, kind: Kind, channels: usize, count: usize) -> Load<()> {
    for index in 0..count {
        let block = ResidualBlock::new(&weights.pp("res_blocks").pp(index), kind, channels)?;
        layers.push(Layer::Residual(block));
    }
    Ok(())
}

/// Puts the first axis, whose order is colour, column, row of a patch of `side × side`, into the order colour, row, column.
fn rows_first(x: &Tensor, side: usize) -> Result<Tensor> {
    let colours = x.dim(0)? / (side * side);
    let patches: Vec<Tensor> = (0..colours)
        .map(|colour| positions_first(&x.narrow(0, colour * side * side, side * side)?, side, side))
        .collect::<Result<_>>()?;
    Tensor::cat(&patches, 0)
}
