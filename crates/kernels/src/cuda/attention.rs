//! Scaled dot-product attention without a matrix of all scores.

use super::module::{Argument, Kernel, grid};
use super::{Operand, address, dense, device_of, parameter, suffix, uninitialised};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{CudaDevice, DType, Result, Tensor};
use std::f64::consts::LOG2_E;
use std::sync::OnceLock;

/// Head widths of the kernel for any GPU, and of the one for Hopper.
const WIDTHS: [usize; 5] = [32, 64, 80, 96, 128];
const HOPPER_WIDTHS: [usize; 2] = [64, 128];
/// Queries and keys of a tile, as in the sources.
const TILE: usize = 64;
const HOPPER_TILE: usize = 128;
/// Keys below which packing costs more than it brings.
const FEW_KEYS: usize = 256;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Parameters {
    key_bias: u64,
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
pub(super) struct HopperParameters {
    key_bias: u64,
    query_scales: u64,
    key_scales: u64,
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

/// [`attention`] with queries and keys rounded to e4m3, with a scale per query and one per 128 keys, from which their
/// mean is taken away before (as in SageAttention, <https://arxiv.org/abs/2410.02367>); exact where that is not faster.
pub fn attention_fp8(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    attend(q, k, v, scale, bias, true)
}

fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    bias: Option<&Tensor>,
    round: bool,
) -> Result<Option<Tensor>> {
    let (_, l, _, d) = q.dims4()?;
    let s = k.dim(1)?;
    let per_key = bias.is_none_or(|bias| bias.dim(1).is_ok_and(|n| n == 1) && bias.dim(2).is_ok_and(|l| l == 1));
    if !matches!(q.dtype(), DType::BF16 | DType::F16) || !WIDTHS.contains(&d) || !per_key || l == 0 || scale <= 0.0 {
        return Ok(None);
    }
    let bias = bias.map(parameter).transpose()?;
    let (q, k, v) = (dense(q)?, dense(k)?, dense(v)?);
    if HOPPER_WIDTHS.contains(&d) && s >= FEW_KEYS && is_hopper(device_of(&q)?)? {
        let round = round && d == 128 && bias.is_none();
        return on_hopper(&q, &k, &v, scale, bias.as_ref(), round).map(Some);
    }
    anywhere(&q, &k, &v, scale, bias.as_ref()).map(Some)
}

/// Whether there are Hopper's instructions, and nobody asked for kernels that do without.
pub(super) fn is_hopper(device: &CudaDevice) -> Result<bool> {
    let capability = device.cuda_stream().context().compute_capability().w()?;
    Ok(capability == (9, 0) && !portable())
}

/// Whether the environment variable `KINORA_CUDA` is `portable`: for tests of the kernels for any GPU.
fn portable() -> bool {
    static PORTABLE: OnceLock<bool> = OnceLock::new();
    *PORTABLE.get_or_init(|| std::env::var_os("KINORA_CUDA").is_some_and(|name| name == "portable"))
}

fn bias_stride(bias: Option<&Tensor>, keys: usize) -> Result<i32> {
    Ok(match bias {
        Some(bias) if bias.dim(0)? > 1 => keys as i32,
        _ => 0,
    })
}

fn anywhere(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((b, l, n, d), s) = (q.dims4()?, k.dim(1)?);
    let (device, name) = (device_of(q)?, suffix(q.dtype()).unwrap_or_default());
    let out = uninitialised(device, q.shape(), q.dtype())?;
    {
        let (q, k, v, out) = (Operand::new(q)?, Operand::new(k)?, Operand::new(v)?, Operand::new(&out)?);
        let bias_operand = Operand::optional(bias)?;
        let parameters = Parameters {
            key_bias: address(bias_operand.as_ref()),
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
            Argument::Attention(parameters),
        ];
        let shared = 5 * TILE * (d + 8) * 2; // queries, and two tiles each of keys and values
        let kernel = Kernel::new(device, "attention", format!("attend_{d}_{name}"), shared)?;
        // SAFETY: the arguments of `attend`; a block per 64 queries and head.
        unsafe { kernel.launch(grid(l.div_ceil(TILE), b * n, 128, shared), &arguments)? };
    }
    Ok(out)
}

/// Operands packed in tiles, as shared memory holds them.
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

    /// `x [B, L, N, D]` in tiles of `rows`.
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

    /// `x [B, S, N, D]` in tiles whose rows are columns of `x`.
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

    /// The mean of `x [B, S, N, D]` over `S`, f32.
    fn mean(&self, x: &Tensor) -> Result<Tensor> {
        let out = uninitialised(self.device, (self.items, self.width), DType::F32)?;
        let (source, target) = (Operand::new(x)?, Operand::new(&out)?);
        let arguments = [
            Argument::Pointer(source.pointer),
            Argument::Pointer(target.pointer),
            Argument::Int(x.dim(1)? as i32),
            Argument::Int(self.heads as i32),
            Argument::Int(self.width as i32),
        ];
        self.launch("mean_of_rows", [self.width / 32, self.items, 256], &arguments)?;
        drop((source, target));
        Ok(out)
    }

    /// `x [B, L, N, 128]` less `mean` in tiles of `rows`, e4m3, and its scales: one per row, or one per tile.
    fn rounded(
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

fn on_hopper(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    bias: Option<&Tensor>,
    round: bool,
) -> Result<Tensor> {
    let ((b, l, n, d), s) = (q.dims4()?, k.dim(1)?);
    let (device, name) = (device_of(q)?, suffix(q.dtype()).unwrap_or_default());
    let packer = Packer { device, items: b * n, heads: n, width: d, name };
    let (blocks, tiles) = (l.div_ceil(HOPPER_TILE), s.div_ceil(HOPPER_TILE));
    let out = uninitialised(device, q.shape(), q.dtype())?;
    let values = packer.columns(v, tiles)?;
    let (queries, keys, scales) = if round {
        let mean = packer.mean(k)?;
        let (queries, query_scales) = packer.rounded(q, None, [TILE, 2 * blocks], false)?;
        let (keys, key_scales) = packer.rounded(k, Some(&mean), [HOPPER_TILE, tiles], true)?;
        (queries, keys, Some((query_scales, key_scales)))
    } else {
        (packer.rows(q, TILE, 2 * blocks)?, packer.rows(k, HOPPER_TILE, tiles)?, None)
    };
    {
        let (queries, keys, values) = (Operand::new(&queries)?, Operand::new(&keys)?, Operand::new(&values)?);
        let out = Operand::new(&out)?;
        let bias_operand = Operand::optional(bias)?;
        let query_scales = Operand::optional(scales.as_ref().map(|(queries, _)| queries))?;
        let key_scales = Operand::optional(scales.as_ref().map(|(_, keys)| keys))?;
        let parameters = HopperParameters {
            key_bias: address(bias_operand.as_ref()),
            query_scales: address(query_scales.as_ref()),
            key_scales: address(key_scales.as_ref()),
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
            Argument::HopperAttention(parameters),
        ];
        // Two tiles each of queries, keys and values, barriers, and room to align.
        let score_bytes = if round { d } else { 2 * d };
        let shared = (2 * TILE + 2 * HOPPER_TILE) * score_bytes + 2 * HOPPER_TILE * 2 * d + 128 + 1024;
        let kind = if round { "_fp8" } else { "" };
        let kernel = Kernel::new(device, "attention_hopper", format!("attend_{d}_{name}{kind}"), shared)?;
        // SAFETY: the arguments of `attend`; a block per 128 queries and head.
        unsafe { kernel.launch(grid(blocks, b * n, 384, shared), &arguments)? };
    }
    Ok(out)
}
