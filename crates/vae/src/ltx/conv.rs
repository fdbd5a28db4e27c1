//! [`Conv`]: the 3×3×3 convolution of all layers, over a stream of frames `[B, H, W, C]`.

use super::config::Padding;
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{FrameConv, FrameConvOptions};

type Load<T> = kinora_checkpoint::Result<T>;

/// Which frames a convolution sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The frame of the result and the two before it. At the start of a clip its first frame is repeated.
    Past,
    /// The frame of the result and one on each side of it. At both ends of a clip the last frame there is repeated.
    BothSides,
}

/// The last two frames that a convolution was given; none before the first, and after the end.
#[derive(Default)]
pub(super) struct Seen(Option<[Tensor; 2]>);

impl Seen {
    /// Returns the frame that came last.
    pub(super) fn last(&self) -> Option<&Tensor> {
        self.0.as_ref().map(|[_, last]| last)
    }
}

/// A 3×3×3 convolution that keeps the size of frames and their number.
pub(super) struct Conv {
    conv: FrameConv,
    reach: Reach,
}

/// How a convolution is built, the same for all of an encoder or decoder.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) reach: Reach,
    pub(super) padding: Padding,
}

impl Conv {
    /// Reads `weight [outputs, inputs, 3, 3, 3]` and `bias [outputs]` below `conv`.
    pub(super) fn new(weights: &Weights, kind: Kind, inputs: usize, outputs: usize) -> Load<Self> {
        Self::reordered(weights, kind, inputs, outputs, |x| Ok(x.clone()))
    }

    /// Reads the same parameters and takes both through `reorder`, which puts the first axis into another order or leaves
    /// some of it out.
    pub(super) fn reordered(
        weights: &Weights,
        kind: Kind,
        inputs: usize,
        outputs: usize,
        reorder: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Load<Self> {
        let weights = weights.pp("conv");
        let weight = weights.get("weight", (outputs, inputs, 3, 3, 3))?;
        let bias = weights.get("bias", outputs)?;
        // A placeholder is a view of one number: in any order it is the same, and as a tensor of its own it would be large.
        let (weight, bias) = if weight.is_contiguous() {
            (reorder(&weight)?, reorder(&bias)?)
        } else {
            let outputs = reorder(&bias.contiguous()?)?.dim(0)?;
            (weight.narrow(0, 0, outputs)?, bias.narrow(0, 0, outputs)?)
        };
        let options =
            FrameConvOptions { padding: (1, 1), reflect: kind.padding == Padding::Reflect, ..Default::default() };
        Ok(Self { conv: FrameConv::new(&weight, &bias, options)?, reach: kind.reach })
    }

    /// Takes the next frame `[B, H, W, inputs]`. Returns the next frame of the result, `[B, H, W, outputs]`, plus `residual`
    /// of that shape, or nothing where it hangs on a frame to come, which is so for the first one.
    pub(super) fn push(&self, x: Tensor, seen: &mut Seen, residual: Option<&Tensor>) -> Result<Option<Tensor>> {
        let Some([before, last]) = seen.0.take() else {
            let first = match self.reach {
                Reach::Past => Some(self.conv.forward(&[Some(&x), Some(&x), Some(&x)], residual)?),
                Reach::BothSides => None,
            };
            seen.0 = Some([x.clone(), x]);
            return Ok(first);
        };
        let y = self.conv.forward(&[Some(&before), Some(&last), Some(&x)], residual)?;
        seen.0 = Some([last, x]);
        Ok(Some(y))
    }

    /// Ends the stream and returns the last frame of the result, if it was not returned yet.
    pub(super) fn end(&self, seen: &mut Seen, residual: Option<&Tensor>) -> Result<Option<Tensor>> {
        match (self.reach, seen.0.take()) {
            (Reach::BothSides, Some([before, last])) => {
                self.conv.forward(&[Some(&before), Some(&last), Some(&last)], residual).map(Some)
            }
            _ => Ok(None),
        }
    }
}
