//! The operators at the sizes of Wan 2.1 1.3B (1,280 tokens: 256×256 pixels, 17 frames) and of its autoencoder.
//!
//! `cargo bench -p kinora-benches -- linear` runs one group. Throughput in elements stands for floating-point
//! operations; `candle` and `reference` are what the fast operators replace.

use candle_core::{DType, Device, Result, Shape, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kinora_checkpoint::{Blocks, StoredMatrix, Weights};
use kinora_kernels::{
    self as kernels, Epilogue, FrameConv, FrameConvOptions, Layer, LinearWeight, Prologue, Snake, reference,
};
use std::hint::black_box;

/// The binary's allocator: another one would hand the memory of each result back, and fault it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion_group!(benches, linear, stored, beside, attention, conv3d, rows, elementwise, snake, channel_norm);
criterion_main!(benches);

const TOKENS: usize = 1280;
/// 640×432 pixels, 17 frames.
const MANY_TOKENS: usize = 5400;
const DIM: usize = 1536;
const MLP: usize = 8960;
const HEADS: usize = 12;

fn linear(criterion: &mut Criterion) {
    for (inputs, outputs) in [(DIM, DIM), (DIM, MLP), (MLP, DIM)] {
        for tokens in [1, 16, TOKENS, MANY_TOKENS] {
            let flops = 2 * tokens * inputs * outputs;
            let (x, weight) = (random((tokens, inputs), DType::F32), random((outputs, inputs), DType::F32));
            let bias = random(outputs, DType::F32);
            let group = format!("linear {tokens} rows {inputs} to {outputs}");
            for dtype in [DType::F32, DType::BF16] {
                let packed = weight.to_dtype(dtype).and_then(|weight| LinearWeight::new(&weight)).expect("a float");
                let name = format!("{} weights", dtype.as_str());
                time(criterion, &group, &name, flops, || kernels::linear(&x, &packed, Some(&bias), Epilogue::None));
            }
            time(criterion, &group, "reference", flops, || reference::linear(&x, &weight, Some(&bias), Epilogue::None));
        }
    }
}

/// Weights in ggml's blocks, beside those that are quantised to eight bits when they are read.
fn stored(criterion: &mut Criterion) {
    let (inputs, outputs) = (DIM, MLP);
    let x = random((TOKENS, inputs), DType::F32);
    let flops = 2 * TOKENS * inputs * outputs;
    let group = format!("stored {TOKENS} rows {inputs} to {outputs}");
    let eight = LinearWeight::int8(&random((outputs, inputs), DType::F32)).expect("a float");
    time(criterion, &group, "int8", flops, || kernels::linear(&x, &eight, None, Epilogue::None));
    for blocks in [Blocks::Q8_0, Blocks::Q4_0, Blocks::Q4K, Blocks::Q5K, Blocks::Q6K, Blocks::Iq4Xs] {
        for exact in [false, true] {
            let weights = Weights::random_in_blocks(0, &Device::Cpu, DType::F32, Some(blocks));
            let Ok(Some(StoredMatrix::Matrix(matrix))) = weights.matrix("weight", [outputs, inputs]) else {
                unreachable!("random matrices are in blocks")
            };
            let weight = LinearWeight::stored(matrix, &Device::Cpu, exact).expect("a matrix").expect("one for a CPU");
            let name = format!("{blocks:?}{}", if exact { " exact" } else { "" });
            time(criterion, &group, &name, flops, || kernels::linear(&x, &weight, None, Epilogue::None));
        }
    }
}

/// A change of rank 32 beside weights in blocks, over what its own products take.
fn beside(criterion: &mut Criterion) {
    for (inputs, outputs) in [(DIM, DIM), (DIM, MLP), (MLP, DIM)] {
        let x = random((TOKENS, inputs), DType::F32);
        let weights = Weights::random_in_blocks(0, &Device::Cpu, DType::F32, Some(Blocks::Q4K));
        let Ok(Some(StoredMatrix::Matrix(matrix))) = weights.matrix("weight", [outputs, inputs]) else {
            unreachable!("random matrices are in blocks")
        };
        let weight = LinearWeight::stored(matrix, &Device::Cpu, false).expect("a matrix").expect("one for a CPU");
        let side =
            [(32, inputs), (outputs, 32)].map(|shape| LinearWeight::new(&random(shape, DType::F32)).expect("f32"));
        let group = format!("Q4K {TOKENS} rows {inputs} to {outputs}");
        for (name, sides) in [("alone", &[][..]), ("rank 32 beside", &[side][..])] {
            let layer = Layer { weight: &weight, bias: None, sides };
            let flops = 2 * TOKENS * inputs * outputs;
            time(criterion, &group, name, flops, || kernels::linear_after(&x, Prologue::None, layer, Epilogue::None));
        }
    }
}

fn attention(criterion: &mut Criterion) {
    for (queries, keys, heads, dim) in [
        (TOKENS, TOKENS, HEADS, 128),
        (TOKENS, 512, HEADS, 128),
        (TOKENS, 32, HEADS, 128),
        (TOKENS, TOKENS, HEADS, 64),
        (TOKENS, TOKENS, HEADS, 32),
        (MANY_TOKENS, MANY_TOKENS, HEADS, 128),
    ] {
        let q = random((1, queries, heads, dim), DType::F32);
        let (k, v) = (random((1, keys, heads, dim), DType::F32), random((1, keys, heads, dim), DType::F32));
        let group = format!("attention {queries} over {keys}, heads of {dim}");
        let flops = 4 * queries * keys * heads * dim;
        time(criterion, &group, "kinora", flops, || kernels::attention(&q, &k, &v, 0.1, None));
        time(criterion, &group, "kinora, int8", flops, || kernels::attention_int8(&q, &k, &v, 0.1, None));
        // The scores of all heads would take gigabytes.
        if queries < MANY_TOKENS {
            time(criterion, &group, "reference", flops, || reference::attention(&q, &k, &v, 0.1, None));
        }
    }
}

fn conv3d(criterion: &mut Criterion) {
    let same = FrameConvOptions { padding: (1, 1), ..Default::default() };
    let double = FrameConvOptions { upsample: true, ..same };
    let half = FrameConvOptions { stride: 2, padding: (0, 1), ..Default::default() };
    for (name, inputs, outputs, size, kernel, options) in [
        ("3x3x3", 384, 384, 32, [3; 3], same),
        ("3x3x3", 384, 384, 64, [3; 3], same),
        ("3x3x3", 192, 192, 128, [3; 3], same),
        ("3x3x3", 96, 96, 256, [3; 3], same),
        ("3x3x3", 96, 3, 256, [3; 3], same),
        ("3x3x3", 3, 96, 256, [3; 3], same),
        ("3x3x3", 80, 80, 32, [3; 3], same),
        ("3x3x3", 40, 40, 64, [3; 3], same),
        ("doubling", 384, 192, 64, [1, 3, 3], double),
        ("doubling", 192, 96, 128, [1, 3, 3], double),
        ("halving", 96, 96, 256, [1, 3, 3], half),
        ("over time", 384, 768, 64, [3, 1, 1], FrameConvOptions::default()),
        ("pointwise", 384, 1152, 32, [1; 3], FrameConvOptions::default()),
    ] {
        let [kf, kh, kw] = kernel;
        let (weight, bias) = (random((outputs, inputs, kf, kh, kw), DType::F32), random(outputs, DType::F32));
        let x = random((1, size, size, inputs), DType::F32);
        let frames = vec![Some(&x); kf];
        let conv = FrameConv::new(&weight, &bias, options).expect("fits");
        let group = format!("conv3d {name} {inputs} to {outputs} at {size}");
        let scale = if options.upsample { 4.0 } else { 1.0 / options.stride.pow(2) as f64 };
        let flops = (2.0 * weight.elem_count() as f64 * (size * size) as f64 * scale) as usize;
        time(criterion, &group, "kinora", flops, || conv.forward(&frames, None));
        time(criterion, &group, "reference", flops, || reference::frame_conv(&frames, &weight, &bias, options, None));
    }
}

fn rows(criterion: &mut Criterion) {
    let (x, shift) = (random((1, TOKENS, DIM), DType::F32), random((1, 1, DIM), DType::F32));
    let weight = shift.flatten_all().expect("contiguous");
    let heads = x.reshape((1, TOKENS, HEADS, DIM / HEADS)).expect("same size");
    let angles = random((TOKENS, DIM / HEADS / 2), DType::F32);
    let len = TOKENS * DIM;
    let group = "rows";
    time(criterion, group, "rms_norm", len, || kernels::rms_norm(&x, &weight, 1e-6));
    time(criterion, group, "rms_norm, reference", len, || reference::rms_norm(&x, &weight, 1e-6));
    time(criterion, group, "layer_norm_modulate", len, || kernels::layer_norm_modulate(&x, &shift, &shift, 1e-6));
    time(criterion, group, "layer_norm_modulate, reference", len, || {
        reference::layer_norm_modulate(&x, &shift, &shift, 1e-6)
    });
    time(criterion, group, "gate_residual", len, || kernels::gate_residual(&x, &x, &shift));
    time(criterion, group, "gate_residual, reference", len, || reference::gate_residual(&x, &x, &shift));
    time(criterion, group, "rms_norm_rope", len, || kernels::rms_norm_rope(&heads, &weight, 1e-6, &angles, &angles));
    time(criterion, group, "rms_norm_rope, reference", len, || {
        reference::rms_norm_rope(&heads, &weight, 1e-6, &angles, &angles)
    });
    let apart = random((TOKENS, DIM / 2), DType::F32);
    time(criterion, group, "rms_norm_rope_split", len, || {
        kernels::rms_norm_rope_split(&heads, &weight, 1e-6, &apart, &apart)
    });
    time(criterion, group, "rms_norm_rope_split, reference", len, || {
        reference::rms_norm_rope_split(&heads, &weight, 1e-6, &apart, &apart)
    });
    let modulation = Some((&shift, &shift));
    time(criterion, group, "rms_norm_modulate", len, || kernels::rms_norm_modulate(&x, modulation, 1e-6));
    time(criterion, group, "rms_norm_modulate, reference", len, || reference::rms_norm_modulate(&x, modulation, 1e-6));
    let gates = random((1, TOKENS, HEADS), DType::F32);
    time(criterion, group, "gate_heads", len, || kernels::gate_heads(&heads, &gates));
    time(criterion, group, "gate_heads, reference", len, || reference::gate_heads(&heads, &gates));
    time(criterion, group, "rope", len, || kernels::rope(&heads, &angles, &angles));
    time(criterion, group, "rope, reference", len, || reference::rope(&heads, &angles, &angles));
}

fn elementwise(criterion: &mut Criterion) {
    let len = TOKENS * MLP;
    for dtype in [DType::F32, DType::BF16] {
        let x = random((TOKENS, MLP), dtype);
        let group = format!("elementwise {}", dtype.as_str());
        time(criterion, &group, "gelu_tanh", len, || kernels::gelu_tanh(&x));
        time(criterion, &group, "gelu_tanh, reference", len, || reference::gelu_tanh(&x));
        time(criterion, &group, "parameter_free_attention", len, || kernels::parameter_free_attention(&x, &x));
        time(criterion, &group, "parameter_free_attention, reference", len, || {
            reference::parameter_free_attention(&x, &x)
        });
    }
}

fn snake(criterion: &mut Criterion) {
    let (x, parameter, filter) = (random((1, 8192, 192), DType::F32), random(192, DType::F32), random(12, DType::F32));
    let (group, len) = ("over signals", x.elem_count());
    let snake = Snake::new(parameter.clone(), parameter.clone(), filter.clone(), filter.clone()).expect("shapes fit");
    time(criterion, group, "snake", len, || snake.forward(&x, 5));
    time(criterion, group, "snake, reference", len, || {
        reference::snake(&x, [&parameter, &parameter, &filter, &filter], 5)
    });
}

fn channel_norm(criterion: &mut Criterion) {
    let (x, gamma) = (random((2, 256, 256, 96), DType::F32), random(96, DType::F32));
    let (group, len) = ("over channels", x.elem_count());
    time(criterion, group, "channel_rms_norm_silu", len, || kernels::channel_rms_norm_silu(&x, &gamma));
    time(criterion, group, "channel_rms_norm_silu, reference", len, || reference::channel_rms_norm_silu(&x, &gamma));
}

fn time(criterion: &mut Criterion, group: &str, name: &str, work: usize, f: impl Fn() -> Result<Tensor>) {
    let mut group = criterion.benchmark_group(group);
    group.sample_size(10).throughput(Throughput::Elements(work as u64));
    group.bench_function(name, |bencher| bencher.iter(|| black_box(f())));
    group.finish();
}

fn random(shape: impl Into<Shape>, dtype: DType) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).and_then(|x| x.to_dtype(dtype)).expect("enough memory")
}
