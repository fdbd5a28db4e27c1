//! Scaled dot-product attention without a matrix of all scores.

use super::linear::product;
use super::module::{Argument, Kernel, grid, is_hopper};
use super::{Operand, address, dense, device_of, parameter, suffix, uninitialised};
use crate::BlockMask;
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{CudaDevice, DType, Result, Tensor};
use std::f64::consts::LOG2_E;

/// Head widths of the kernel for any GPU, and of the one for Hopper.
const WIDTHS: [usize; 5] = [32, 64, 80, 96, 128];
const HOPPER_WIDTHS: [usize; 2] = [64, 128];
/// The most scores that are held at a time.
const SCORES: usize = 1 << 26;
/// Queries and keys of a tile, as in the sources.
const TILE: usize = 64;
const HOPPER_TILE: usize = 128;
/// The number of keys below which packing costs more than it saves.
const FEW_KEYS: usize = 256;
/// Parts in which columns are reduced.
const PARTS: usize = 32;
/// The largest number of e4m3.
const LARGEST: f64 = 448.0;

#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    key_bias: u64,
    starts: u64,
    chosen: u64,
    queries: i32,
    keys: i32,
    heads: i32,
    bias_stride: i32,
    scale: f32,
}

// SAFETY: plain data, laid out as in attention.cu.
unsafe impl DeviceRepr for Parameters {}

#[repr(C)]
#[derive(Clone, Copy)]
struct HopperParameters {
    key_bias: u64,
    query_scales: u64,
    key_scales: u64,
    value_scales: u64,
    queries: i32,
    keys: i32,
    heads: i32,
    bias_stride: i32,
    scale: f32,
}

// SAFETY: plain data, laid out as in attention_hopper.cu.
unsafe impl DeviceRepr for HopperParameters {}

/// `q [B, L, N, D]`, `k v [B, S, N, D]` of 16 bits; a bias `[1|B, 1, 1, S]`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    attend(q, k, v, scale, bias, false)
}

/// [`attention`] with queries, keys (less their mean) and values quantised to e4m3, with a scale per query, per 128 keys
/// and per column of the values (as in `SageAttention` 2, <https://arxiv.org/abs/2411.10958>), where that is faster;
/// plain [`attention`] elsewhere.
pub fn attention_fp8(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    attend(q, k, v, scale, bias, true)
}

fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    bias: Option<&Tensor>,
    quantise: bool,
) -> Result<Option<Tensor>> {
    let (_, l, _, d) = q.dims4()?;
    let s = k.dim(1)?;
    let per_key = bias.is_none_or(|bias| bias.dim(1).is_ok_and(|n| n == 1) && bias.dim(2).is_ok_and(|l| l == 1));
    if !matches!(q.dtype(), DType::BF16 | DType::F16) || !per_key || l == 0 || scale <= 0.0 {
        return Ok(None);
    }
    if !WIDTHS.contains(&d) {
        return if bias.is_none() { by_products(q, k, v, scale) } else { Ok(None) };
    }
    let bias = bias.map(parameter).transpose()?;
    let (q, k, v) = (dense(q)?, dense(k)?, dense(v)?);
    if HOPPER_WIDTHS.contains(&d) && s >= FEW_KEYS && is_hopper(device_of(&q)?)? {
        let quantise = quantise && d == 128 && bias.is_none();
        return on_hopper(&q, &k, &v, scale, bias.as_ref(), quantise).map(Some);
    }
    anywhere([&q, &k, &v], scale, bias.as_ref(), None).map(Some)
}

/// `q [B, L, N, D]`, `k v [B, S, N, D]` of 16 bits.
pub fn attention_blocks(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, mask: &BlockMask) -> Result<Option<Tensor>> {
    if !matches!(q.dtype(), DType::BF16 | DType::F16) || !WIDTHS.contains(&q.dim(3)?) || q.dim(1)? == 0 || scale <= 0.0
    {
        return Ok(None);
    }
    let (q, k, v) = (dense(q)?, dense(k)?, dense(v)?);
    anywhere([&q, &k, &v], scale, None, Some(mask)).map(Some)
}

fn bias_stride(bias: Option<&Tensor>, keys: usize) -> Result<i32> {
    Ok(match bias {
        Some(bias) if bias.dim(0)? > 1 => keys as i32,
        _ => 0,
    })
}

fn anywhere([q, k, v]: [&Tensor; 3], scale: f64, bias: Option<&Tensor>, mask: Option<&BlockMask>) -> Result<Tensor> {
    let ((b, l, n, d), s) = (q.dims4()?, k.dim(1)?);
    let (device, name) = (device_of(q)?, suffix(q.dtype()).unwrap_or_default());
    let out = uninitialised(device, q.shape(), q.dtype())?;
    let starts = mask.map(|mask| Tensor::new(mask.starts(), q.device())).transpose()?;
    let chosen = mask.map(|mask| Tensor::new(mask.chosen(), q.device())).transpose()?;
    {
        let (starts, chosen) = (Operand::optional(starts.as_ref())?, Operand::optional(chosen.as_ref())?);
        let (q, k, v, out) = (Operand::new(q)?, Operand::new(k)?, Operand::new(v)?, Operand::new(&out)?);
        let bias_operand = Operand::optional(bias)?;
        let parameters = Parameters {
            key_bias: address(bias_operand.as_ref()),
            starts: address(starts.as_ref()),
            chosen: address(chosen.as_ref()),
            queries: l as i32,
            keys: s as i32,
            heads: n as i32,
            bias_stride: bias_stride(bias, s)?,
            scale: (scale * LOG2_E) as f32,
        };
        let arguments = [
            Argument::Pointer(q.pointer),
            Argument::Pointer(k.pointer),
            Argument::Pointer(v.pointer),
            Argument::Pointer(out.pointer),
            Argument::Struct(&parameters),
        ];
        let shared = 5 * TILE * (d + 8) * 2; // queries, and two tiles each of keys and values
        let kernel = Kernel::new(device, "attention", format!("attend_{d}_{name}"), shared)?;
        // SAFETY: the arguments of `attend`; a block per 64 queries and head.
        unsafe { kernel.launch(grid(l.div_ceil(TILE), b * n, 128, shared), &arguments)? };
    }
    Ok(out)
}

/// Computes attention for few wide heads, as in autoencoders, with a matrix of f32 scores of some queries at a time.
fn by_products(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Option<Tensor>> {
    let ((b, l, n, d), s) = (q.dims4()?, k.dim(1)?);
    let rows = (SCORES / s).clamp(1, l);
    if d % 8 != 0 || s % 8 != 0 {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(b * n);
    for item in 0..b * n {
        let head = |x: &Tensor| x.narrow(0, item / n, 1)?.narrow(2, item % n, 1)?.squeeze(2)?.squeeze(0)?.contiguous();
        let (q, k, v) = (head(q)?, head(k)?, head(v)?.t()?.contiguous()?); // [L, D], [S, D], [D, S]
        let mut parts = Vec::new();
        for first in (0..l).step_by(rows) {
            let q = q.narrow(0, first, rows.min(l - first))?;
            let Some(scores) = product(&q, &k, DType::F32)? else { return Ok(None) };
            let weights = candle_nn::ops::softmax_last_dim(&(scores * scale)?)?.to_dtype(q.dtype())?;
            let Some(part) = product(&weights, &v, q.dtype())? else { return Ok(None) };
            parts.push(part);
        }
        out.push(Tensor::cat(&parts, 0)?); // [L, D]
    }
    Tensor::stack(&out, 0)?.reshape((b, n, l, d))?.transpose(1, 2)?.contiguous().map(Some)
}

/// Packs operands in tiles, as shared memory holds them.
struct Packer<'a> {
    device: &'a CudaDevice,
    items: usize,
    heads: usize,
    width: usize,
    name: &'static str,
}

impl Packer<'_> {
    fn launch(&self, kernel: &str, [x, y, threads]: [usize; 3], arguments: &[Argument]) -> Result<()> {
        let kernel = Kernel::new(self.device, "attention_hopper", format!("{kernel}_{}", self.name), 0)?;
        // SAFETY: the callers give the arguments of their kernels.
        unsafe { kernel.launch(grid(x, y, threads, 0), arguments) }
    }

    /// Packs `x [B, L, N, D]` in tiles of `rows`.
    fn rows(&self, x: &Tensor, rows: usize, tiles: usize) -> Result<Tensor> {
        let out = uninitialised(self.device, (self.items, tiles, rows, self.width), x.dtype())?;
        let parts = tiles * rows * self.width / 8;
        let (source, target) = (Operand::new(x)?, Operand::new(&out)?);
        let arguments = [
            Argument::Pointer(source.pointer),
            Argument::Pointer(target.pointer),
            Argument::Int(x.dim(1)? as i32),
            Argument::Int(self.heads as i32),
            Argument::Int(self.width as i32),
            Argument::Int(rows as i32),
            Argument::Int(tiles as i32),
        ];
        self.launch("pack_rows", [parts.div_ceil(256), self.items, 256], &arguments)?;
        drop((source, target));
        Ok(out)
    }

    /// Packs `x [B, S, N, D]` in tiles whose rows are columns of `x`.
    fn columns(&self, x: &Tensor, tiles: usize) -> Result<Tensor> {
        let out = uninitialised(self.device, (self.items, tiles, self.width, HOPPER_TILE), x.dtype())?;
        let (source, target) = (Operand::new(x)?, Operand::new(&out)?);
        let arguments = [
            Argument::Pointer(source.pointer),
            Argument::Pointer(target.pointer),
            Argument::Int(x.dim(1)? as i32),
            Argument::Int(self.heads as i32),
            Argument::Int(self.width as i32),
            Argument::Int(tiles as i32),
        ];
        self.launch("pack_columns", [2 * tiles, self.items, 256], &arguments)?;
        drop((source, target));
        Ok(out)
    }

    /// Reduces each column of `x [B, S, N, D]` to its sum or its largest magnitude, f32, times `factor`.
    fn reduced(&self, x: &Tensor, largest: bool, factor: f64) -> Result<Tensor> {
        let partial = uninitialised(self.device, (self.items, PARTS, self.width), DType::F32)?;
        let out = uninitialised(self.device, (self.items, self.width), DType::F32)?;
        let (source, between, target) = (Operand::new(x)?, Operand::new(&partial)?, Operand::new(&out)?);
        let arguments = [
            Argument::Pointer(source.pointer),
            Argument::Pointer(between.pointer),
            Argument::Int(x.dim(1)? as i32),
            Argument::Int(self.heads as i32),
            Argument::Int(self.width as i32),
            Argument::Int(PARTS as i32),
            Argument::Int(i32::from(largest)),
        ];
        self.launch("reduce_rows", [self.width / 32 * PARTS, self.items, 256], &arguments)?;
        let arguments = [
            Argument::Pointer(between.pointer),
            Argument::Pointer(target.pointer),
            Argument::Int(self.width as i32),
            Argument::Int(PARTS as i32),
            Argument::Float(factor as f32),
            Argument::Int(i32::from(largest)),
        ];
        let kernel = Kernel::new(self.device, "attention_hopper", "reduce_parts".to_string(), 0)?;
        // SAFETY: the arguments of `reduce_parts`; a block per item, a thread per column.
        unsafe { kernel.launch(grid(self.items, 1, self.width, 0), &arguments)? };
        drop((source, target));
        Ok(out)
    }

    /// Packs `x [B, S, N, 128]` in tiles whose rows are columns of `x`, quantised to e4m3 with `scales [B·N, 128]`.
    fn quantised_columns(&self, x: &Tensor, scales: &Tensor, tiles: usize) -> Result<Tensor> {
        let out = uninitialised(self.device, (self.items, tiles, self.width, HOPPER_TILE), DType::U8)?;
        let (source, scales, target) = (Operand::new(x)?, Operand::new(scales)?, Operand::new(&out)?);
        let arguments = [
            Argument::Pointer(source.pointer),
            Argument::Pointer(scales.pointer),
            Argument::Pointer(target.pointer),
            Argument::Int(x.dim(1)? as i32),
            Argument::Int(self.heads as i32),
            Argument::Int(tiles as i32),
        ];
        self.launch("pack_columns_fp8", [tiles, self.items, 256], &arguments)?;
        drop((source, target));
        Ok(out)
    }

    /// Packs `x [B, L, N, 128]` less `mean` in tiles of `rows`, quantised to e4m3, and returns its scales, too: one per row,
    /// or one per tile.
    fn quantised(
        &self,
        x: &Tensor,
        mean: Option<&Tensor>,
        [rows, tiles]: [usize; 2],
        per_tile: bool,
    ) -> Result<(Tensor, Tensor)> {
        let out = uninitialised(self.device, (self.items, tiles, rows, self.width), DType::U8)?;
        let scales = if per_tile { tiles } else { tiles * rows };
        let scales = uninitialised(self.device, (self.items, scales), DType::F32)?;
        let (source, target, scales_at) = (Operand::new(x)?, Operand::new(&out)?, Operand::new(&scales)?);
        let mean = Operand::optional(mean)?;
        let arguments = [
            Argument::Pointer(source.pointer),
            Argument::Pointer(address(mean.as_ref())),
            Argument::Pointer(target.pointer),
            Argument::Pointer(scales_at.pointer),
            Argument::Int(x.dim(1)? as i32),
            Argument::Int(self.heads as i32),
            Argument::Int(rows as i32),
            Argument::Int(tiles as i32),
            Argument::Int(i32::from(per_tile)),
        ];
        self.launch("pack_rows_fp8", [tiles, self.items, 256], &arguments)?;
        drop((source, target, scales_at));
        Ok((out, scales))
    }
}

fn on_hopper(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>, quantise: bool) -> Result<Tensor> {
    let ((b, l, n, d), s) = (q.dims4()?, k.dim(1)?);
    let (device, name) = (device_of(q)?, suffix(q.dtype()).unwrap_or_default());
    let packer = Packer { device, items: b * n, heads: n, width: d, name };
    let (blocks, tiles) = (l.div_ceil(HOPPER_TILE), s.div_ceil(HOPPER_TILE));
    let out = uninitialised(device, q.shape(), q.dtype())?;
    let (queries, keys, values, scales) = if quantise {
        let mean = packer.reduced(k, false, (s as f64).recip())?;
        let value_scales = packer.reduced(v, true, LARGEST.recip())?;
        let (queries, query_scales) = packer.quantised(q, None, [TILE, 2 * blocks], false)?;
        let (keys, key_scales) = packer.quantised(k, Some(&mean), [HOPPER_TILE, tiles], true)?;
        let values = packer.quantised_columns(v, &value_scales, tiles)?;
        (queries, keys, values, Some([query_scales, key_scales, value_scales]))
    } else {
        let (queries, keys) = (packer.rows(q, TILE, 2 * blocks)?, packer.rows(k, HOPPER_TILE, tiles)?);
        (queries, keys, packer.columns(v, tiles)?, None)
    };
    {
        let (queries, keys, values) = (Operand::new(&queries)?, Operand::new(&keys)?, Operand::new(&values)?);
        let out = Operand::new(&out)?;
        let bias_operand = Operand::optional(bias)?;
        let scale_of = |index: usize| Operand::optional(scales.as_ref().map(|scales: &[Tensor; 3]| &scales[index]));
        let (query_scales, key_scales, value_scales) = (scale_of(0)?, scale_of(1)?, scale_of(2)?);
        let parameters = HopperParameters {
            key_bias: address(bias_operand.as_ref()),
            query_scales: address(query_scales.as_ref()),
            key_scales: address(key_scales.as_ref()),
            value_scales: address(value_scales.as_ref()),
            queries: l as i32,
            keys: s as i32,
            heads: n as i32,
            bias_stride: bias_stride(bias, s)?,
            scale: (scale * LOG2_E) as f32,
        };
        let arguments = [
            Argument::Pointer(queries.pointer),
            Argument::Pointer(keys.pointer),
            Argument::Pointer(values.pointer),
            Argument::Pointer(out.pointer),
            Argument::Struct(&parameters),
        ];
        // Two tiles each of queries, keys and values, barriers, and room to align.
        let row = if quantise { d } else { 2 * d };
        let shared = (2 * TILE + 4 * HOPPER_TILE) * row + 128 + 1024;
        let kind = if quantise { "_fp8" } else { "" };
        let kernel = Kernel::new(device, "attention_hopper", format!("attend_{d}_{name}{kind}"), shared)?;
        // SAFETY: the arguments of `attend`; a block per 128 queries and head.
        unsafe { kernel.launch(grid(blocks, b * n, 384, shared), &arguments)? };
    }
    Ok(out)
}
