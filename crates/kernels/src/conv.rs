//! Convolutions over video, one output frame at a time: the past frames of a causal convolution are operands of their
//! own, so that they are not copied, and memory does not grow with the frames of a chunk.

mod options;

pub use options::FrameConvOptions;

use crate::profile::{Work, timed};
use crate::{cpu, cuda, reference};
use candle_core::{Result, Tensor, bail};

/// A 3-D convolution (or 2-D, with one temporal tap) whose weights are packed once for the machine that runs it.
pub struct FrameConv {
    inputs: usize,
    outputs: usize,
    kernel: [usize; 3],
    options: FrameConvOptions,
    weights: Weights,
}

enum Weights {
    Packed(cpu::PackedConv),
    Gpu(cuda::GpuConv),
    Plain { weight: Tensor, bias: Tensor },
}

impl FrameConv {
    /// Packs `weight [O, C, kf, kh, kw]` and `bias [O]`. A weight that is a view (such as a broadcast scalar, the
    /// placeholder of an absent one) is not packed.
    pub fn new(weight: &Tensor, bias: &Tensor, options: FrameConvOptions) -> Result<Self> {
        let (outputs, inputs, kf, kh, kw) = weight.dims5()?;
        if bias.dims() != [outputs] || options.stride == 0 || weight.elem_count() == 0 {
            bail!("convolution: bias {:?} and {options:?} do not fit weight {:?}", bias.dims(), weight.dims());
        }
        if options.upsample && ([kh, kw] != [3, 3] || options.stride != 1) {
            bail!("convolution: {options:?} with weight {:?}: only 3×3 with stride 1 can upsample", weight.dims());
        }
        let reflecting = FrameConvOptions { padding: (1, 1), reflect: true, ..Default::default() };
        if options.reflect && ([kh, kw] != [3, 3] || options != reflecting) {
            bail!("convolution: {options:?} with weight {:?}: only 3×3 with padding 1 can reflect", weight.dims());
        }
        let weights = if cpu::supports(weight) && weight.is_contiguous() {
            Weights::Packed(cpu::PackedConv::new(weight, bias, options)?)
        } else if let Some(conv) = cuda::GpuConv::new(weight, bias, on_gpu(options))? {
            Weights::Gpu(conv)
        } else {
            Weights::Plain { weight: weight.clone(), bias: bias.clone() }
        };
        Ok(Self { inputs, outputs, kernel: [kf, kh, kw], options, weights })
    }

    /// Returns one frame of the result, `[B, H', W', O]` in the dtype of the frames.
    ///
    /// `frames` are the frames under the temporal taps, oldest first, `[B, H, W, C]` each; `None` is a frame of zeros, and
    /// at least one is given. `residual [B, H', W', O]` is added to the result.
    pub fn forward(&self, frames: &[Option<&Tensor>], residual: Option<&Tensor>) -> Result<Tensor> {
        let [batch, out_size @ ..] = self.check(frames, residual)?;
        let present = frames.iter().flatten().count();
        // The operations of a direct convolution, whatever algorithm is used.
        let positions = batch * out_size.iter().product::<usize>();
        let weights = self.outputs * self.inputs * present * self.kernel[1..].iter().product::<usize>();
        timed("conv3d", Work::F32(2.0 * positions as f64 * weights as f64), || match &self.weights {
            Weights::Packed(packed) => packed.forward(frames, residual, out_size),
            Weights::Gpu(conv) if self.options.reflect => {
                let frames: Vec<Option<Tensor>> =
                    frames.iter().map(|frame| frame.map(reference::reflected).transpose()).collect::<Result<_>>()?;
                conv.forward(&frames.iter().map(Option::as_ref).collect::<Vec<_>>(), residual, out_size)
            }
            Weights::Gpu(conv) => conv.forward(frames, residual, out_size),
            Weights::Plain { weight, bias } => reference::frame_conv(frames, weight, bias, self.options, residual),
        })
    }

    /// Checks the operands and returns items, rows and columns of the result.
    fn check(&self, frames: &[Option<&Tensor>], residual: Option<&Tensor>) -> Result<[usize; 3]> {
        let [kf, kernel @ ..] = self.kernel;
        let Some(first) = frames.iter().flatten().next() else { bail!("convolution: no frame among {}", frames.len()) };
        let (b, h, w, c) = first.dims4()?;
        let alike = |x: &&Tensor| x.dims() == first.dims() && x.dtype() == first.dtype();
        if frames.len() != kf || c != self.inputs || !frames.iter().flatten().all(alike) {
            let found: Vec<_> = frames.iter().map(|x| x.map(|x| (x.dtype(), x.dims()))).collect();
            bail!("convolution: frames {found:?} do not fit {} inputs, kernel {:?}", self.inputs, self.kernel);
        }
        let FrameConvOptions { stride, padding: (before, after), upsample, reflect } = self.options;
        let mut out_size = [0; 2];
        for ((out, size), kernel) in out_size.iter_mut().zip([h, w]).zip(kernel) {
            let padded = if upsample { 2 * size } else { size } + before + after;
            if size == 0 || padded < kernel || (reflect && size < 2) {
                bail!(
                    "convolution: {:?} does not fit frames {:?}, kernel {:?}",
                    self.options,
                    first.dims(),
                    self.kernel
                );
            }
            *out = (padded - kernel) / stride + 1;
        }
        let [h, w] = out_size;
        if let Some(residual) = residual
            && (residual.dims() != [b, h, w, self.outputs] || residual.dtype() != first.dtype())
        {
            let expected = [b, h, w, self.outputs];
            bail!("convolution: residual {:?} {:?} must be {expected:?}", residual.dtype(), residual.dims());
        }
        Ok([b, h, w])
    }
}

/// Returns the options of the GPU's kernel, which knows no reflection: it is given frames that are larger.
fn on_gpu(options: FrameConvOptions) -> FrameConvOptions {
    if options.reflect { FrameConvOptions { padding: (0, 0), reflect: false, ..options } } else { options }
}
