//! Products beside a layer's own: changes of weights that stay as they are stored.

use super::{Epilogue, Layer, LinearWeight, Storage, linear as plain, result_shape};
use crate::profile::timed;
use crate::{cpu, gelu_tanh, silu};
use candle_core::{Result, Tensor, bail};

/// Weights `[R, K]` and `[N, R]`: what the second makes of what the first makes of the inputs is added to a layer's products.
pub type Side = [LinearWeight; 2];

/// Computes [`plain`] with the sides of the layer.
pub(super) fn linear(x: &Tensor, layer: Layer, epilogue: Epilogue) -> Result<Tensor> {
    let Layer { weight, bias, sides } = layer;
    if sides.is_empty() {
        return plain(x, weight, bias, epilogue);
    }
    let shape = result_shape(x, weight, bias, epilogue)?;
    for [down, up] in sides {
        if up.outputs != weight.outputs || up.inputs != down.outputs || down.inputs != weight.inputs {
            let [down, up] = [down, up].map(|side| [side.outputs, side.inputs]);
            bail!("linear: {down:?} and {up:?} do not fit weight {:?}", [weight.outputs, weight.inputs]);
        }
    }
    if let Storage::Packed(packed) = &weight.storage
        && cpu::supports(x)
        && let Some(beside) = on_cpu(x, sides)?
    {
        let (name, work) = weight.work(x.elem_count(), weight.outputs);
        return timed(name, work, || cpu::linear(x, packed, bias, &beside, epilogue, shape));
    }
    composed(x, layer, epilogue)
}

/// What the first weights of all sides make of the inputs, if the CPU adds the rest while it computes the layer.
fn on_cpu<'a>(x: &Tensor, sides: &'a [Side]) -> Result<Option<Vec<cpu::Beside<'a>>>> {
    let ups = sides.iter().map(|[_, up]| match &up.storage {
        Storage::Packed(up) if up.is_dense() => Some(up),
        _ => None,
    });
    let Some(ups) = ups.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let beside = sides.iter().zip(ups).map(|([down, _], up)| Ok((plain(x, down, None, Epilogue::None)?, up)));
    beside.collect::<Result<_>>().map(Some)
}

/// The same as single operators.
fn composed(x: &Tensor, Layer { weight, bias, sides }: Layer, epilogue: Epilogue) -> Result<Tensor> {
    let side = |[down, up]: &Side, then: Epilogue| plain(&plain(x, down, None, Epilogue::None)?, up, None, then);
    // What the sides make goes through the epilogue, too: those that add or multiply are linear.
    let mut sum = None;
    for pair in sides {
        sum = Some(match (sum, epilogue) {
            (None, Epilogue::None | Epilogue::GeluTanh | Epilogue::Silu) => side(pair, Epilogue::None)?,
            (None, with_operands) => side(pair, with_operands)?,
            (Some(sum), Epilogue::Product(gate) | Epilogue::GatedResidual { gate, .. }) => {
                side(pair, Epilogue::GatedResidual { x: &sum, gate })?
            }
            (Some(sum), _) => side(pair, Epilogue::Residual(&sum))?,
        });
    }
    let Some(sum) = sum else { return plain(x, weight, bias, epilogue) };
    match epilogue {
        Epilogue::None | Epilogue::Residual(_) => plain(x, weight, bias, Epilogue::Residual(&sum)),
        Epilogue::GeluTanh => gelu_tanh(&plain(x, weight, bias, Epilogue::Residual(&sum))?),
        Epilogue::Silu => silu(&plain(x, weight, bias, Epilogue::Residual(&sum))?),
        Epilogue::Product(gate) | Epilogue::GatedResidual { gate, .. } => {
            plain(x, weight, bias, Epilogue::GatedResidual { x: &sum, gate })
        }
    }
}
