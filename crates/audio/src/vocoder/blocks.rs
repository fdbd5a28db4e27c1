//! Activations and residual blocks of a generator.

use super::config::Activation;
use crate::conv::{Conv1d, zeros_around};
use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{SNAKE_TAPS, Snake, leaky_relu};

type Load<T> = kinora_checkpoint::Result<T>;

/// Neighbours on either side that reach a position through an anti-aliased activation: a position depends on twelve at twice the rate, and each of
/// those on six.
const SNAKE_REACH: usize = 5;
/// The slope before the last convolution, in all models.
const LAST_SLOPE: f64 = 0.01;
/// Added to β, as in the original.
const EPS: f64 = 1e-9;

/// An activation and its parameters.
pub(super) enum Act {
    LeakyRelu(f64),
    Snake(Snake),
}

impl Act {
    /// Reads the parameters of an activation within a block.
    pub(super) fn new(activation: Activation, weights: &Weights, channels: usize) -> Load<Self> {
        match activation {
            Activation::LeakyRelu { slope } => Ok(Self::LeakyRelu(slope)),
            Activation::SnakeBeta => {
                let parameter = |name: &str| weights.pp("act").get_dtype(name, channels, DType::F32);
                let filter = |weights: &Weights| -> Load<Tensor> {
                    Ok(weights.get_dtype("filter", (1, 1, SNAKE_TAPS), DType::F32)?.flatten_all()?)
                };
                // Both are stored as logarithms.
                let (alpha, scale) = (parameter("alpha")?.exp()?, (parameter("beta")?.exp()? + EPS)?.recip()?);
                let (up, down) = (filter(&weights.pp("upsample"))?, filter(&weights.pp("downsample.lowpass"))?);
                Ok(Self::Snake(Snake::new(alpha, scale, up, down)?))
            }
        }
    }

    /// Reads the parameters of the activation before the last convolution.
    pub(super) fn last(activation: Activation, weights: &Weights, channels: usize) -> Load<Self> {
        match activation {
            Activation::LeakyRelu { .. } => Ok(Self::LeakyRelu(LAST_SLOPE)),
            Activation::SnakeBeta => Self::new(activation, weights, channels),
        }
    }

    /// Returns how many neighbours on either side reach a position.
    pub(super) fn reach(activation: Activation) -> usize {
        match activation {
            Activation::LeakyRelu { .. } => 0,
            Activation::SnakeBeta => SNAKE_REACH,
        }
    }

    /// `x [1, L, C]` → `[1, L + 2·padding, C]`, with zeros around.
    pub(super) fn forward(&self, x: &Tensor, padding: usize) -> Result<Tensor> {
        match self {
            Self::LeakyRelu(slope) => zeros_around(&leaky_relu(x, *slope)?, padding),
            Self::Snake(snake) => snake.forward(x, padding),
        }
    }
}

/// Pairs of convolutions, each after an activation, added to their input one pair after the other.
pub(super) struct ResidualBlock {
    layers: Vec<[(Act, Conv1d); 2]>,
}

impl ResidualBlock {
    /// Reads a block with one pair of convolutions of `taps` per dilation, of which the second is dense.
    pub(super) fn new(
        weights: &Weights,
        activation: Activation,
        channels: usize,
        taps: usize,
        dilations: &[usize],
    ) -> Load<Self> {
        let layer = |number: usize, index: usize, dilation: usize| -> Load<(Act, Conv1d)> {
            let act = Act::new(activation, &weights.pp(format!("acts{number}")).pp(index), channels)?;
            let conv = weights.pp(format!("convs{number}")).pp(index);
            Ok((act, Conv1d::new(&conv, [channels; 2], taps, dilation, true)?))
        };
        let pair = |(index, &dilation)| Ok([layer(1, index, dilation)?, layer(2, index, 1)?]);
        Ok(Self { layers: dilations.iter().enumerate().map(pair).collect::<Load<_>>()? })
    }

    /// Returns how many neighbours on either side reach a position through a block.
    pub(super) fn reach(activation: Activation, taps: usize, dilations: &[usize]) -> usize {
        let pair = |dilation: &usize| (taps - 1) / 2 * (dilation + 1) + 2 * Act::reach(activation);
        dilations.iter().map(pair).sum()
    }

    /// `x [1, L, C]` → the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for [(act1, conv1), (act2, conv2)] in &self.layers {
            let h = conv1.forward(&act1.forward(&x, conv1.padding())?, None)?;
            let h = act2.forward(&h, conv2.padding())?;
            x = conv2.forward(&h, Some(&x))?;
        }
        Ok(x)
    }
}
