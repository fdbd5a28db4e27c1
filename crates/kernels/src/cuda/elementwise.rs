//! Norms, rotary embedding, modulation and activations.

use super::module::{Argument, Kernel, grid};
use super::{Operand, address, dense, device_of, parameter, suffix, uninitialised};
use crate::Repeat;
use Argument::{Float, Int, Long, Pointer};
use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{D, Result, Tensor, bail};

/// Warps of a block that work on rows of their own.
const WARPS: usize = 4;
/// Groups of 16 bytes that a lane of a row's warp may hold, as in the source.
const HELD: [usize; 5] = [2, 6, 12, 20, 40];

/// Returns the length of the last axis, if kernels can read it 16 bytes at a time.
fn channels(x: &Tensor) -> Option<usize> {
    let channels = x.dim(D::Minus1).ok()?;
    (channels > 0 && channels.is_multiple_of(8) && suffix(x.dtype()).is_some()).then_some(channels)
}

/// Returns how many groups of 16 bytes each lane holds of a row of `channels`, if there are enough registers.
fn held(x: &Tensor, channels: usize) -> Option<usize> {
    HELD.into_iter().find(|held| channels * x.dtype().size_in_bytes() <= held * 32 * 16)
}

/// Returns the number of threads for a row of `channels`: one per 16 bytes, up to the most that a block has.
fn threads(x: &Tensor, channels: usize) -> usize {
    (channels * x.dtype().size_in_bytes() / 16).next_multiple_of(32).clamp(32, 512)
}

fn kernel(x: &Tensor, name: &str) -> Result<Kernel> {
    let suffix = suffix(x.dtype()).unwrap_or_default();
    Kernel::new(device_of(x)?, "elementwise", format!("{name}_{suffix}"), 0)
}

fn warp_per_row(rows: usize) -> LaunchConfig {
    grid(rows.div_ceil(WARPS), 1, 32 * WARPS, 0)
}

/// Returns a grid whose threads stride over `count` elements.
fn strides(count: usize) -> LaunchConfig {
    grid(count.div_ceil(256).min(1 << 16), 1, 256, 0)
}

/// Returns address and steps per item and token of a parameter `[1|B, 1|L, C]` of `x [B, L, C]`; zeros if there is none.
pub(super) fn broadcast(x: &Tensor, operand: Option<&Operand>) -> Result<[Argument<'static>; 3]> {
    let Some(operand) = operand else { return Ok([Pointer(0), Int(0), Int(0)]) };
    let (items, tokens) = (operand.shape.0, operand.shape.1);
    let per_item = if items == 1 { 0 } else { tokens };
    let per_token = i32::from(tokens > 1 && tokens == x.dim(1)?);
    Ok([Pointer(operand.pointer), Int(per_item as i32), Int(per_token)])
}

/// A layer norm, or an RMS norm, and the modulation after it.
#[derive(Clone, Copy, Default)]
pub(super) struct Norm<'a> {
    pub weight: Option<&'a Tensor>,
    pub bias: Option<&'a Tensor>,
    /// Shift and scale.
    pub modulation: Option<(&'a Tensor, &'a Tensor)>,
    /// Whether it is an RMS norm, whose rows keep their mean.
    pub keeps_mean: bool,
    pub eps: f64,
}

pub fn layer_norm(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Option<Tensor>> {
    normalise(x, Norm { weight, bias, eps, ..Norm::default() })
}

pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Option<Tensor>> {
    normalise(x, Norm { modulation: Some((shift, scale)), eps, ..Norm::default() })
}

pub fn rms_norm_modulate(x: &Tensor, modulation: Option<(&Tensor, &Tensor)>, eps: f64) -> Result<Option<Tensor>> {
    normalise(x, Norm { modulation, keeps_mean: true, eps, ..Norm::default() })
}

fn normalise(x: &Tensor, norm: Norm) -> Result<Option<Tensor>> {
    if !fits(x) {
        return Ok(None);
    }
    let out = uninitialised(device_of(x)?, x.shape(), x.dtype())?;
    launch_layer_norm(x, norm, "layer_norm", &[&out])?;
    Ok(Some(out))
}

/// Whether the kernels of layer norm take rows of `x`.
pub(super) fn fits(x: &Tensor) -> bool {
    channels(x).is_some_and(|channels| held(x, channels).is_some())
}

/// Queues kernel `name` of layer norm, which writes to `outs`, over rows of `x` that [`fits`].
pub(super) fn launch_layer_norm(x: &Tensor, norm: Norm, name: &str, outs: &[&Tensor]) -> Result<()> {
    let x = dense(x)?;
    let Some((channels, held)) = channels(&x).and_then(|channels| Some((channels, held(&x, channels)?))) else {
        bail!("{name}: {:?} {:?}", x.dtype(), x.dims())
    };
    let rows = x.elem_count() / channels;
    let [weight, bias] = [norm.weight, norm.bias].map(|x| x.map(parameter).transpose());
    let [shift, scale] = [norm.modulation.map(|(shift, _)| shift), norm.modulation.map(|(_, scale)| scale)]
        .map(|x| x.map(parameter).transpose());
    let [weight, bias, shift, scale] = [weight?, bias?, shift?, scale?];
    let outs: Vec<Operand> = outs.iter().map(|out| Operand::new(out)).collect::<Result<_>>()?;
    let source = Operand::new(&x)?;
    let [weight, bias, shift, scale] = [&weight, &bias, &shift, &scale].map(|x| Operand::optional(x.as_ref()));
    let [weight, bias, shift, scale] = [weight?, bias?, shift?, scale?];
    let tokens = if norm.modulation.is_some() { x.dim(1)? } else { 1 };
    let mut arguments = vec![Pointer(source.pointer)];
    arguments.extend(outs.iter().map(|out| Pointer(out.pointer)));
    arguments.extend([Pointer(address(weight.as_ref())), Pointer(address(bias.as_ref()))]);
    arguments.extend(broadcast(&x, shift.as_ref())?);
    arguments.extend(broadcast(&x, scale.as_ref())?);
    arguments.extend([Long(rows as i64), Int(tokens as i32), Int(channels as i32), Int(i32::from(norm.keeps_mean))]);
    arguments.push(Float(norm.eps as f32));
    // SAFETY: the arguments of `layer_norm`, or of its versions that quantise; one warp per row.
    unsafe { kernel(&x, &format!("{name}_{held}"))?.launch(warp_per_row(rows), &arguments) }
}

pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Option<Tensor>> {
    let Some(channels) = channels(x) else { return Ok(None) };
    normalise_rotate("rms_norm_rope", x, Some(weight), None, channels, [1, channels], eps)
}

/// `x [B, L, N, D]`, `weight [N·D]`, `cos sin [L, D/2]`.
pub fn rms_norm_rope(x: &Tensor, weight: &Tensor, eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Option<Tensor>> {
    rotate(x, Some(weight), cos, sin, eps)
}

/// `x [B, L, N, D]`, `weight [N·D]`, `cos sin [L, N·D/2]`.
pub fn rms_norm_rope_split(
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    cos: &Tensor,
    sin: &Tensor,
) -> Result<Option<Tensor>> {
    let (_, l, n, d) = x.dims4()?;
    if channels(x).is_none() || !d.is_multiple_of(16) {
        return Ok(None);
    }
    let angles = Some((&parameter(cos)?, &parameter(sin)?));
    normalise_rotate("rms_norm_rope_split", x, Some(weight), angles, n * d, [l, d], eps)
}

pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Option<Tensor>> {
    rotate(x, None, cos, sin, 0.0)
}

fn rotate(x: &Tensor, weight: Option<&Tensor>, cos: &Tensor, sin: &Tensor, eps: f64) -> Result<Option<Tensor>> {
    let (_, l, n, d) = x.dims4()?;
    if channels(x).is_none() {
        return Ok(None);
    }
    normalise_rotate("rms_norm_rope", x, weight, Some((&parameter(cos)?, &parameter(sin)?)), n * d, [l, d], eps)
}

fn normalise_rotate(
    name: &str,
    x: &Tensor,
    weight: Option<&Tensor>,
    angles: Option<(&Tensor, &Tensor)>,
    channels: usize,
    [tokens, width]: [usize; 2],
    eps: f64,
) -> Result<Option<Tensor>> {
    let Some(held) = held(x, channels) else { return Ok(None) };
    let weight = weight.map(parameter).transpose()?;
    let x = dense(x)?;
    let rows = x.elem_count() / channels;
    let out = uninitialised(device_of(&x)?, x.shape(), x.dtype())?;
    let (source, target, weight) = (Operand::new(&x)?, Operand::new(&out)?, Operand::optional(weight.as_ref())?);
    let cos = Operand::optional(angles.map(|(cos, _)| cos))?;
    let sin = Operand::optional(angles.map(|(_, sin)| sin))?;
    let arguments = [
        Pointer(source.pointer),
        Pointer(target.pointer),
        Pointer(address(weight.as_ref())),
        Pointer(address(cos.as_ref())),
        Pointer(address(sin.as_ref())),
        Long(rows as i64),
        Int(tokens as i32),
        Int(channels as i32),
        Int(width as i32),
        Float(eps as f32),
    ];
    // SAFETY: the arguments of `rms_norm_rope` and `rms_norm_rope_split`; one warp per row.
    unsafe { kernel(&x, &format!("{name}_{held}"))?.launch(warp_per_row(rows), &arguments)? };
    drop((source, target));
    Ok(Some(out))
}

pub fn channel_rms_norm(x: &Tensor, gamma: &Tensor, silu: bool) -> Result<Option<Tensor>> {
    let Some(channels) = channels(x) else { return Ok(None) };
    let (x, gamma) = (dense(x)?, parameter(gamma)?);
    let out = uninitialised(device_of(&x)?, x.shape(), x.dtype())?;
    let (source, target, gamma) = (Operand::new(&x)?, Operand::new(&out)?, Operand::new(&gamma)?);
    let rows = x.elem_count() / channels;
    let lanes = (channels * x.dtype().size_in_bytes() / 16).next_power_of_two().min(32);
    let arguments = [
        Pointer(source.pointer),
        Pointer(target.pointer),
        Pointer(gamma.pointer),
        Long(rows as i64),
        Int(channels as i32),
        Int(lanes as i32),
        Int(i32::from(silu)),
    ];
    let config = grid((rows * lanes).div_ceil(32 * WARPS), 1, 32 * WARPS, 0);
    // SAFETY: the arguments of `channel_rms_norm`; `lanes` per row.
    unsafe { kernel(&x, "channel_rms_norm")?.launch(config, &arguments)? };
    drop((source, target));
    Ok(Some(out))
}

/// `y [B, L, N, D]`, `gates [B, L, N]`.
pub fn gate_heads(y: &Tensor, gates: &Tensor) -> Result<Option<Tensor>> {
    let Some(width) = channels(y).filter(|_| gates.dtype() == y.dtype()) else { return Ok(None) };
    let (y, gates) = (dense(y)?, dense(gates)?);
    let out = uninitialised(device_of(&y)?, y.shape(), y.dtype())?;
    let groups = y.elem_count() * y.dtype().size_in_bytes() / 16;
    let (source, target, factors) = (Operand::new(&y)?, Operand::new(&out)?, Operand::new(&gates)?);
    let arguments = [
        Pointer(source.pointer),
        Pointer(factors.pointer),
        Pointer(target.pointer),
        Long(groups as i64),
        Int(width as i32),
    ];
    // SAFETY: the arguments of `gate_heads`, whose blocks stride over all groups.
    unsafe { kernel(&y, "gate_heads")?.launch(strides(groups), &arguments)? };
    drop((source, target));
    Ok(Some(out))
}

/// `kind` 0: `SiLU`, 1: GELU with tanh, 2: GELU with erf.
pub fn activate(x: &Tensor, kind: i32) -> Result<Option<Tensor>> {
    if suffix(x.dtype()).is_none() {
        return Ok(None);
    }
    let x = dense(x)?;
    let out = uninitialised(device_of(&x)?, x.shape(), x.dtype())?;
    let (source, target) = (Operand::new(&x)?, Operand::new(&out)?);
    let count = x.elem_count();
    let arguments = [Pointer(source.pointer), Pointer(target.pointer), Long(count as i64), Int(kind)];
    // SAFETY: the arguments of `activate`, whose blocks stride over all elements.
    unsafe { kernel(&x, "activate")?.launch(strides(count), &arguments)? };
    drop((source, target));
    Ok(Some(out))
}

/// See [`crate::repeat_channels`]; sizes are checked there.
pub fn repeat_channels(x: &Tensor, repeat: Repeat, index: usize) -> Result<Option<Tensor>> {
    let Repeat { outputs, frames, side } = repeat;
    if suffix(x.dtype()).is_none() || !outputs.is_multiple_of(8) {
        return Ok(None);
    }
    let (x, (b, h, w, c)) = (dense(x)?, x.dims4()?);
    let out = uninitialised(device_of(&x)?, (b, h * side, w * side, outputs), x.dtype())?;
    let groups = out.elem_count() * x.dtype().size_in_bytes() / 16;
    let (source, target) = (Operand::new(&x)?, Operand::new(&out)?);
    let mut arguments = vec![Pointer(source.pointer), Pointer(target.pointer), Long(groups as i64)];
    arguments.extend([w, c, outputs, frames, side, index].map(|size| Int(size as i32)));
    // SAFETY: the arguments of `repeat_channels`, whose blocks stride over all groups.
    unsafe { kernel(&x, "repeat_channels")?.launch(strides(groups), &arguments)? };
    drop((source, target));
    Ok(Some(out))
}

pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Option<Tensor>> {
    scale_shift(x, None, Some(shift), scale)
}

pub fn gate_residual(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Option<Tensor>> {
    if y.dtype() != x.dtype() {
        return Ok(None);
    }
    scale_shift(x, Some(y), None, gate)
}

fn scale_shift(x: &Tensor, y: Option<&Tensor>, shift: Option<&Tensor>, scale: &Tensor) -> Result<Option<Tensor>> {
    let Some(channels) = channels(x) else { return Ok(None) };
    let x = dense(x)?;
    let (y, shift) = (y.map(dense).transpose()?, shift.map(parameter).transpose()?);
    let scale = parameter(scale)?;
    let out = uninitialised(device_of(&x)?, x.shape(), x.dtype())?;
    let (source, target, scale) = (Operand::new(&x)?, Operand::new(&out)?, Operand::new(&scale)?);
    let (y, shift) = (Operand::optional(y.as_ref())?, Operand::optional(shift.as_ref())?);
    let [shift_at, shift_item, shift_token] = broadcast(&x, shift.as_ref())?;
    let [scale_at, scale_item, scale_token] = broadcast(&x, Some(&scale))?;
    let arguments = [
        Pointer(source.pointer),
        Pointer(address(y.as_ref())),
        Pointer(target.pointer),
        shift_at,
        shift_item,
        shift_token,
        scale_at,
        scale_item,
        scale_token,
        Int(x.dim(1)? as i32),
        Int(channels as i32),
    ];
    let config = grid(x.elem_count() / channels, 1, threads(&x, channels), 0);
    // SAFETY: the arguments of `modulate`; one block per row.
    unsafe { kernel(&x, "modulate")?.launch(config, &arguments)? };
    drop((source, target));
    Ok(Some(out))
}
