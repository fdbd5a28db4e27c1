//! Slow, obvious versions of every operator, against which the fast ones are tested.

use crate::outliers::outlying_columns;
use crate::softmax::softmax;
use crate::{BLOCK, BlockMask, Epilogue, FrameConvOptions, Repeat};
use candle_core::{D, DType, Result, Tensor};
use kinora_formats::{Matrix, Unpacked};

/// `x [.., K] · weightᵀ [N, K] + bias [N]`, then the epilogue → `[.., N]`, in `x`'s dtype.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Tensor> {
    let (n, k) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    let rows = x.elem_count() / k;
    if let Some(last) = shape.last_mut() {
        *last = n;
    }
    let y = x.reshape((rows, k))?.matmul(&weight.to_dtype(x.dtype())?.t()?)?;
    finish(&y.reshape(shape)?, bias, epilogue)
}

fn finish(y: &Tensor, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Tensor> {
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?)?,
        None => y.clone(),
    };
    match epilogue {
        Epilogue::None => Ok(y),
        Epilogue::GeluTanh => gelu_tanh(&y),
        Epilogue::Silu => silu(&y),
        Epilogue::Product(other) => y * other,
        Epilogue::Residual(x) => x + y,
        Epilogue::GatedResidual { x, gate } => gate_residual(x, &y, gate),
    }
}

/// [`linear`] with weights and inputs quantised to 8 bits: one scale per output and one per row, sums of whole numbers.
///
/// Columns of `x` that [`outlying_columns`] finds are quantised to 15 bits instead, with a scale of their own in each row.
/// `x` is f32, and the result the same to the last bit on every machine.
pub fn linear_int8(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Tensor> {
    let (n, k) = weight.dims2()?;
    let rows = x.reshape(((), k))?.to_vec2::<f32>()?;
    let outlying = outlying_columns(rows.len(), k, |row, out| out.copy_from_slice(&rows[row]));
    let weights: Vec<_> = weight.to_dtype(DType::F32)?.to_vec2()?.iter().map(|row| quantised(row, 127.0)).collect();
    let mut products = Vec::with_capacity(rows.len() * n);
    for row in &rows {
        let part = |wanted: bool| {
            let keep = |(i, x): (usize, &f32)| if outlying.contains(&i) == wanted { *x } else { 0.0 };
            row.iter().enumerate().map(keep).collect::<Vec<f32>>()
        };
        let (usual, scale) = quantised(&part(false), 127.0);
        let (large, large_scale) = quantised(&part(true), 127.0 * 128.0);
        for (weight, weight_scale) in &weights {
            let sum = |x: &[i64]| x.iter().zip(weight).map(|(x, weight)| x * weight).sum::<i64>() as f32;
            let product = sum(&usual) * scale + sum(&large) * large_scale;
            products.push(product * weight_scale);
        }
    }
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = n;
    let y = Tensor::from_vec(products, shape, x.device())?;
    finish(&y, bias, epilogue)
}

/// [`linear`] with weights in ggml's blocks, and inputs quantised to 8 bits with one scale per 256 of a row: sums of whole
/// numbers within a group of weights, of f64 over groups. `None` if the weights are not in blocks.
pub fn linear_blocks(x: &Tensor, weight: &Matrix, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Option<Tensor>> {
    const INPUTS: usize = 256;
    let Some(blocks) = weight.blocks() else { return Ok(None) };
    let (values, group) = (blocks.values(), blocks.group());
    let mut products = Vec::new();
    for row in x.reshape(((), weight.columns()))?.to_dtype(DType::F32)?.to_vec2::<f32>()? {
        let inputs: Vec<_> = row.chunks(INPUTS).map(|x| quantised(x, 127.0)).collect();
        for output in 0..weight.rows() {
            let mut product = 0f64;
            for (i, block) in weight.row(output).chunks_exact(blocks.bytes()).enumerate() {
                let mut unpacked = Unpacked::default();
                blocks.unpack(block, &mut unpacked);
                for (g, levels) in unpacked.levels[..values].chunks_exact(group).enumerate() {
                    let first = i * values + g * group;
                    let (x, scale) = &inputs[first / INPUTS];
                    let x = &x[first % INPUTS..][..group];
                    let sum = x.iter().zip(levels).map(|(x, &level)| x * i64::from(level)).sum::<i64>() as f64;
                    let of_inputs = x.iter().sum::<i64>() as f64;
                    let part = f64::from(unpacked.scales[g]) * sum + f64::from(unpacked.offsets[g]) * of_inputs;
                    product += f64::from(*scale) * part;
                }
            }
            products.push(product as f32);
        }
    }
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = weight.rows();
    finish(&Tensor::from_vec(products, shape, x.device())?, bias, epilogue).map(Some)
}

/// Quantises `x` so that its largest element becomes `largest`; returns whole numbers and the scale.
fn quantised(x: &[f32], largest: f32) -> (Vec<i64>, f32) {
    let scale = x.iter().fold(0f32, |a, b| a.max(b.abs())) / largest;
    let units = if scale > 0.0 { scale.recip() } else { 0.0 };
    (x.iter().map(|x| (x * units).round_ties_even() as i64).collect(), scale)
}

/// `softmax(scale · q kᵀ + bias) v` over `q [B, L, N, D]`, `k v [B, S, N, D]`, `bias [1|B, 1|N, 1|L, S]` → `[B, L, N, D]`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let dtype = q.dtype();
    let heads_first = |t: &Tensor| t.transpose(1, 2)?.to_dtype(DType::F32)?.contiguous(); // [B, N, L, D]
    let (q, k, v) = (heads_first(q)?, heads_first(k)?, heads_first(v)?);
    let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * scale)?; // [B, N, L, S]
    let scores = match bias {
        Some(bias) => scores.broadcast_add(&bias.to_dtype(DType::F32)?)?,
        None => scores,
    };
    let weights = softmax(&scores)?;
    weights.matmul(&v)?.transpose(1, 2)?.contiguous()?.to_dtype(dtype)
}

/// [`attention`] of one block of queries after the other, with a bias that takes out what `mask` leaves out.
pub fn attention_blocks(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, mask: &BlockMask) -> Result<Tensor> {
    let (_, l, n, _) = q.dims4()?;
    let blocks = (0..l.div_ceil(BLOCK)).map(|block| {
        let q = q.narrow(1, block * BLOCK, BLOCK.min(l - block * BLOCK))?;
        attention(&q, k, v, scale, Some(&mask.bias(n, block, q.device())?))
    });
    match blocks.collect::<Result<Vec<_>>>()? {
        blocks if blocks.is_empty() => Ok(q.clone()),
        blocks => Tensor::cat(&blocks, 1),
    }
}

/// [`attention`] with a second bias `relative [N, L + S - 1]`, of which element `key - query + L - 1` is added to a score.
pub fn attention_relative(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    relative: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (_, l, n, _) = q.dims4()?;
    let s = k.dim(1)?;
    let places: Vec<u32> = (0..l).flat_map(|query| (0..s).map(move |key| (key + l - 1 - query) as u32)).collect();
    let places = Tensor::from_vec(places, l * s, q.device())?;
    let relative = relative.to_dtype(DType::F32)?.contiguous()?.index_select(&places, 1)?.reshape((1, n, l, s))?;
    let bias = match bias {
        Some(bias) => relative.broadcast_add(&bias.to_dtype(DType::F32)?)?,
        None => relative,
    };
    attention(q, k, v, scale, Some(&bias))
}

/// One output frame `[B, H', W', O]` of a convolution with `weight [O, C, kf, kh, kw]`, `bias [O]`, over `frames`
/// `[B, H, W, C]` under its temporal taps (`None` is zeros), plus `residual`: one 2-D convolution per tap, summed.
pub fn frame_conv(
    frames: &[Option<&Tensor>],
    weight: &Tensor,
    bias: &Tensor,
    options: FrameConvOptions,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let (before, after) = if options.reflect { (0, 0) } else { options.padding };
    let mut sum = bias.to_dtype(DType::F32)?.reshape((1, bias.dim(0)?, 1, 1))?;
    for (tap, frame) in frames.iter().enumerate() {
        let Some(frame) = frame else { continue };
        let frame = if options.reflect { reflected(frame)? } else { (*frame).clone() };
        let x = frame.to_dtype(DType::F32)?.permute((0, 3, 1, 2))?.contiguous()?; // [B, C, H, W]
        let x = if options.upsample { upsample_nearest_2x(&x)? } else { x };
        let x = x.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)?;
        let kernel = weight.to_dtype(DType::F32)?.narrow(2, tap, 1)?.squeeze(2)?.contiguous()?;
        sum = x.conv2d(&kernel, 0, options.stride, 1, 1)?.broadcast_add(&sum)?;
    }
    let y = sum.permute((0, 2, 3, 1))?.contiguous()?; // [B, H', W', O]
    let y = match residual {
        Some(residual) => (y + residual.to_dtype(DType::F32)?)?,
        None => y,
    };
    match frames.iter().flatten().next() {
        Some(frame) => y.to_dtype(frame.dtype()),
        None => Ok(y),
    }
}

/// Layer norm over the last axis, statistics in f32, optional affine `[C]`; the result has `x`'s dtype.
pub fn layer_norm(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let mut y = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    if let Some(weight) = weight {
        y = y.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(DType::F32)?)?;
    }
    y.to_dtype(dtype)
}

/// [`layer_norm`] without parameters followed by [`modulate`], in f32; `x`'s dtype.
pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    let normalised = layer_norm(&x.to_dtype(DType::F32)?, None, None, eps)?;
    modulate(&normalised, shift, scale)?.to_dtype(x.dtype())
}

/// RMS norm over the last axis, statistics in f32, times `weight [C]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + eps)?.sqrt()?)?.broadcast_mul(&weight.to_dtype(DType::F32)?)?.to_dtype(dtype)
}

/// RMS norm over the last axis, then [`modulate`] by shift and scale where there are any, in f32; `x`'s dtype.
pub fn rms_norm_modulate(x: &Tensor, modulation: Option<(&Tensor, &Tensor)>, eps: f64) -> Result<Tensor> {
    let ones = Tensor::ones(x.dim(D::Minus1)?, DType::F32, x.device())?;
    let normed = rms_norm(&x.to_dtype(DType::F32)?, &ones, eps)?;
    match modulation {
        Some((shift, scale)) => modulate(&normed, shift, scale)?.to_dtype(x.dtype()),
        None => normed.to_dtype(x.dtype()),
    }
}

/// [`rms_norm`] followed by [`silu`], in f32; `x`'s dtype.
pub fn rms_norm_silu(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    silu(&rms_norm(&x.to_dtype(DType::F32)?, weight, eps)?)?.to_dtype(x.dtype())
}

/// The Wan VAE's norm over the channels of `x [.., C]`: `x / max(‖x‖₂, 1e-12) · √C · gamma [C]`, in f32; `x`'s dtype.
pub fn channel_rms_norm(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    channel_rms_norm_f32(x, gamma)?.to_dtype(x.dtype())
}

/// [`channel_rms_norm`] followed by [`silu`], in f32; `x`'s dtype.
pub fn channel_rms_norm_silu(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    silu(&channel_rms_norm_f32(x, gamma)?)?.to_dtype(x.dtype())
}

fn channel_rms_norm_f32(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    let x = x.to_dtype(DType::F32)?;
    let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.clamp(1e-12, f64::MAX)?;
    (x.broadcast_div(&norm)? * (channels as f64).sqrt())?.broadcast_mul(&gamma.to_dtype(DType::F32)?)
}

/// Rotates interleaved pairs of `x [B, L, N, D]` by angles whose `cos`, `sin` are `[L, D/2]`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (b, l, n, d) = x.dims4()?;
    let dtype = x.dtype();
    let pairs = x.to_dtype(DType::F32)?.reshape((b, l, n, d / 2, 2))?;
    let (re, im) = (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?); // [B, L, N, D/2]
    let (cos, sin) = (cos.reshape((1, l, 1, d / 2))?, sin.reshape((1, l, 1, d / 2))?);
    let rotated_re = (re.broadcast_mul(&cos)? - im.broadcast_mul(&sin)?)?;
    let rotated_im = (re.broadcast_mul(&sin)? + im.broadcast_mul(&cos)?)?;
    Tensor::stack(&[rotated_re, rotated_im], 4)?.reshape((b, l, n, d))?.to_dtype(dtype)
}

/// [`rms_norm`] of `x [B, L, N, D]` over all heads together, times `weight [N·D]`, followed by [`rope`], in f32; `x`'s
/// dtype.
pub fn rms_norm_rope(x: &Tensor, weight: &Tensor, eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let normed = rms_norm(&x.to_dtype(DType::F32)?.flatten_from(2)?, weight, eps)?;
    rope(&normed.reshape(x.dims())?, cos, sin)?.to_dtype(x.dtype())
}

/// [`rms_norm`] of `x [B, L, N, D]` over all heads together, times `weight [N·D]`, then the rotation of every head's first half
/// with its second by angles whose `cos`, `sin` are `[L, N·D/2]`, in f32; `x`'s dtype.
pub fn rms_norm_rope_split(x: &Tensor, weight: &Tensor, eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (b, l, n, d) = x.dims4()?;
    let normed = rms_norm(&x.to_dtype(DType::F32)?.flatten_from(2)?, weight, eps)?.reshape((b, l, n, d))?;
    let (first, second) = (normed.narrow(3, 0, d / 2)?, normed.narrow(3, d / 2, d / 2)?);
    let (cos, sin) = (cos.reshape((1, l, n, d / 2))?, sin.reshape((1, l, n, d / 2))?);
    let rotated = [
        (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?,
        (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?,
    ];
    Tensor::cat(&rotated, 3)?.to_dtype(x.dtype())
}

/// `y · 2 · sigmoid(gates)`, in f32; `gates [B, L, N]` over `y [B, L, N, D]`.
pub fn gate_heads(y: &Tensor, gates: &Tensor) -> Result<Tensor> {
    let gates = ((gates.to_dtype(DType::F32)?.neg()?.exp()? + 1.0)?.recip()? * 2.0)?;
    y.to_dtype(DType::F32)?.broadcast_mul(&gates.unsqueeze(3)?)?.to_dtype(y.dtype())
}

/// `x · (1 + scale) + shift`, in f32; `scale` and `shift` broadcast over `x [B, L, C]`.
pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let scale = (scale.to_dtype(DType::F32)? + 1.0)?;
    x.broadcast_mul(&scale)?.broadcast_add(&shift.to_dtype(DType::F32)?)?.to_dtype(dtype)
}

/// `x + y · gate`, in f32; `gate` broadcasts over `y [B, L, C]`.
pub fn gate_residual(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    let gated = y.to_dtype(DType::F32)?.broadcast_mul(&gate.to_dtype(DType::F32)?)?;
    (x.to_dtype(DType::F32)? + gated)?.to_dtype(dtype)
}

/// GELU, tanh approximation.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.gelu()?.to_dtype(x.dtype())
}

/// GELU, exact.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.gelu_erf()?.to_dtype(x.dtype())
}

/// `x · sigmoid(x)`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.silu()?.to_dtype(x.dtype())
}

/// `x`, or `slope · x` where `x` is negative.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    wide.maximum(&(&wide * slope)?)?.to_dtype(x.dtype())
}

/// [`crate::Snake::forward`] of `x [B, L, C]` with `alpha` and `scale` `[C]` and the filters `up` and `down`, as convolutions of single signals.
pub fn snake(x: &Tensor, [alpha, scale, up, down]: [&Tensor; 4], padding: usize) -> Result<Tensor> {
    let (b, l, c) = x.dims3()?;
    let (taps, before) = (up.dim(0)?, up.dim(0)? / 2 - 1);
    let wide = |x: &Tensor, shape: (usize, usize, usize)| x.to_dtype(DType::F32)?.contiguous()?.reshape(shape);
    let (up, down) = (wide(up, (1, 1, taps))?, wide(down, (1, 1, taps))?);
    let signals = wide(&x.transpose(1, 2)?, (b * c, 1, l))?.pad_with_same(2, before, before)?;
    let filtered = (signals.conv_transpose1d(&up, 0, 0, 2, 1, 1)? * 2.0)?;
    let filtered = filtered.narrow(2, 2 * before + taps / 2 - 1, 2 * l)?.reshape((b, c, 2 * l))?;
    let sines = filtered.broadcast_mul(&wide(alpha, (1, c, 1))?)?.sin()?.sqr()?;
    let active = (&filtered + sines.broadcast_mul(&wide(scale, (1, c, 1))?)?)?.reshape((b * c, 1, 2 * l))?;
    let y = active.pad_with_same(2, before, before + 1)?.conv1d(&down, 0, 2, 1, 1)?.reshape((b, c, l))?;
    y.transpose(1, 2)?.contiguous()?.pad_with_zeros(1, padding, padding)?.to_dtype(x.dtype())
}

/// `(x + y) · (sigmoid(y) - 1/2)`.
pub fn parameter_free_attention(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let y = y.to_dtype(DType::F32)?;
    let weight = ((y.neg()?.exp()? + 1.0)?.recip()? - 0.5)?;
    ((x.to_dtype(DType::F32)? + y)? * weight)?.to_dtype(x.dtype())
}

/// Channels of `x [B, H, W, C]`, repeated, become positions of frame `index`; see [`crate::repeat_channels`].
pub fn repeat_channels(x: &Tensor, repeat: Repeat, index: usize) -> Result<Tensor> {
    let Repeat { outputs, frames, side } = repeat;
    let (b, h, w, c) = x.dims4()?;
    let repeats = outputs * frames * side * side / c;
    let all = x.unsqueeze(4)?.broadcast_as((b, h, w, c, repeats))?.contiguous()?;
    all.reshape(vec![b, h, w, outputs, frames, side, side])?
        .narrow(4, index, 1)?
        .squeeze(4)? // [B, H, W, outputs, side, side]
        .permute(vec![0, 1, 4, 2, 5, 3])?
        .reshape((b, h * side, w * side, outputs))
}

/// Adds to the frame `x [B, H, W, C]` its mirror image, one row and column on each side: `[B, H + 2, W + 2, C]`.
pub fn reflected(x: &Tensor) -> Result<Tensor> {
    let mut x = x.clone();
    for axis in [1, 2] {
        let size = x.dim(axis)?;
        x = Tensor::cat(&[&x.narrow(axis, 1, 1)?, &x, &x.narrow(axis, size - 2, 1)?], axis)?;
    }
    Ok(x)
}

/// Doubles `H` and `W` of `x [B, C, H, W]` by repeating pixels.
fn upsample_nearest_2x(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    x.reshape((b * c, h, 1, w, 1))?.broadcast_as((b * c, h, 2, w, 2))?.contiguous()?.reshape((b, c, 2 * h, 2 * w))
}
