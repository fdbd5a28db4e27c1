//! Every CUDA kernel agrees with its reference, which computes the same numbers in f32 on the CPU.
//!
//! Without a GPU there is nothing to compare, and the tests say so; with `KINORA_REQUIRE_CUDA` set they fail instead.
//! `KINORA_CUDA=portable` takes the kernels for any GPU on a Hopper one too.
#![cfg(feature = "cuda")]
#![allow(clippy::print_stdout, reason = "the measured errors are worth seeing")]

use candle_core::{DType, Device, Result, Shape, Tensor};
use kinora_kernels::{
    self as kernels, Epilogue, FrameConv, FrameConvOptions, LinearWeight, Prologue, Repeat, reference,
};
use kinora_test_support::{random, relative_l2};
use std::cell::RefCell;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Relative L2 errors that dtypes allow: for f32 that of sums in another order, for the others that of rounding the result
/// (half a unit in the last place of 8 or 11 bits).
const DTYPES: [(DType, f64); 3] = [(DType::F32, 5e-6), (DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)];

thread_local! {
    /// What a test found to be too far away: all of it is worth knowing.
    static WRONG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The first GPU, for one test at a time.
fn with_gpu(test: impl FnOnce(&Device)) {
    static GPU: OnceLock<Mutex<Option<Device>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match kernels::open_cuda(0) {
        Ok(device) => Mutex::new(Some(device)),
        Err(error) => {
            assert!(std::env::var_os("KINORA_REQUIRE_CUDA").is_none(), "{error}");
            println!("no GPU, nothing is compared: {error}");
            Mutex::new(None)
        }
    });
    if let Some(device) = &*gpu.lock().unwrap_or_else(PoisonError::into_inner) {
        test(device);
        let wrong = WRONG.take();
        assert!(wrong.is_empty(), "too far from the reference:\n{}", wrong.join("\n"));
    }
}

/// Compares `fast` over inputs in every dtype on the GPU with `slow` over the same numbers in f32 on the CPU.
fn agree(
    gpu: &Device,
    name: &str,
    dtypes: &[(DType, f64)],
    inputs: &[&Tensor],
    fast: impl Fn(&[Tensor]) -> Result<Tensor>,
    slow: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    for &(dtype, tolerance) in dtypes {
        let narrow: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        let wide: Vec<Tensor> = narrow.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
        let there: Vec<Tensor> = narrow.iter().map(|x| x.to_device(gpu).unwrap()).collect();
        let found = fast(&there).unwrap_or_else(|error| panic!("{name} {dtype:?} {:?}: {error}", inputs[0].dims()));
        assert_eq!(found.dtype(), dtype, "{name}");
        let found = found.to_device(&Device::Cpu).unwrap();
        let error = relative_l2(&found, &slow(&wide).unwrap());
        let line = format!("{name} {dtype:?} {:?}: {error:.1e}", inputs[0].dims());
        println!("{line}");
        if error.is_nan() || error > tolerance {
            WRONG.with_borrow_mut(|wrong| wrong.push(line));
        }
    }
}

fn tensor(shape: impl Into<Shape>, seed: u64) -> Tensor {
    random(shape, seed)
}

#[test]
fn norms_and_modulation() {
    with_gpu(|gpu| {
        for [b, l, c] in [[2, 5, 64], [1, 33, 1536], [2, 7, 5120], [1, 3, 100]] {
            let (x, y) = (tensor((b, l, c), 1), tensor((b, l, c), 2));
            let (w, bias) = (tensor(c, 3), tensor(c, 4));
            agree(
                gpu,
                "layer_norm",
                &DTYPES,
                &[&x],
                |t| kernels::layer_norm(&t[0], None, None, 1e-6),
                |t| reference::layer_norm(&t[0], None, None, 1e-6),
            );
            agree(
                gpu,
                "layer_norm affine",
                &DTYPES,
                &[&x, &w, &bias],
                |t| kernels::layer_norm(&t[0], Some(&t[1]), Some(&t[2]), 1e-6),
                |t| reference::layer_norm(&t[0], Some(&t[1]), Some(&t[2]), 1e-6),
            );
            agree(
                gpu,
                "rms_norm",
                &DTYPES,
                &[&x, &w],
                |t| kernels::rms_norm(&t[0], &t[1], 1e-6),
                |t| reference::rms_norm(&t[0], &t[1], 1e-6),
            );
            for shape in [(1, 1, c), (b, 1, c), (1, l, c), (b, l, c)] {
                let (shift, scale) = (tensor(shape, 5), tensor(shape, 6));
                agree(
                    gpu,
                    "layer_norm_modulate",
                    &DTYPES,
                    &[&x, &shift, &scale],
                    |t| kernels::layer_norm_modulate(&t[0], &t[1], &t[2], 1e-6),
                    |t| reference::layer_norm_modulate(&t[0], &t[1], &t[2], 1e-6),
                );
                agree(
                    gpu,
                    "modulate",
                    &DTYPES,
                    &[&x, &shift, &scale],
                    |t| kernels::modulate(&t[0], &t[1], &t[2]),
                    |t| reference::modulate(&t[0], &t[1], &t[2]),
                );
                agree(
                    gpu,
                    "gate_residual",
                    &DTYPES,
                    &[&x, &y, &scale],
                    |t| kernels::gate_residual(&t[0], &t[1], &t[2]),
                    |t| reference::gate_residual(&t[0], &t[1], &t[2]),
                );
            }
            agree(gpu, "silu", &DTYPES, &[&x], |t| kernels::silu(&t[0]), |t| reference::silu(&t[0]));
            agree(gpu, "gelu_tanh", &DTYPES, &[&x], |t| kernels::gelu_tanh(&t[0]), |t| reference::gelu_tanh(&t[0]));
            agree(gpu, "gelu_erf", &DTYPES, &[&x], |t| kernels::gelu_erf(&t[0]), |t| reference::gelu_erf(&t[0]));
        }
    });
}

#[test]
fn repeated_channels() {
    with_gpu(|gpu| {
        for ([b, h, w, c], [outputs, frames, side]) in [
            ([1, 3, 5, 16], [16, 1, 2]),
            ([2, 3, 4, 64], [64, 2, 2]),
            ([1, 2, 7, 32], [16, 2, 2]),
            ([1, 9, 2, 48], [24, 1, 2]),
            ([1, 2, 2, 4], [4, 2, 2]),
        ] {
            let x = tensor((b, h, w, c), 1);
            for index in 0..frames {
                let repeat = Repeat { outputs, frames, side };
                agree(
                    gpu,
                    "repeat_channels",
                    &DTYPES.map(|(dtype, _)| (dtype, 0.0)),
                    &[&x],
                    |t| kernels::repeat_channels(&t[0], repeat, index),
                    |t| reference::repeat_channels(&t[0], repeat, index),
                );
            }
        }
    });
}

#[test]
fn rotation() {
    with_gpu(|gpu| {
        for [b, l, n, d] in [[1, 9, 4, 32], [2, 17, 12, 128], [1, 3, 1, 6]] {
            let (x, w) = (tensor((b, l, n, d), 1), tensor(n * d, 2));
            let angles = tensor((l, d / 2), 3);
            let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
            let [cos_there, sin_there] = [&cos, &sin].map(|x| x.to_device(gpu).unwrap());
            agree(
                gpu,
                "rope",
                &DTYPES,
                &[&x],
                |t| kernels::rope(&t[0], &cos_there, &sin_there),
                |t| reference::rope(&t[0], &cos, &sin),
            );
            agree(
                gpu,
                "rms_norm_rope",
                &DTYPES,
                &[&x, &w],
                |t| kernels::rms_norm_rope(&t[0], &t[1], 1e-6, &cos_there, &sin_there),
                |t| reference::rms_norm_rope(&t[0], &t[1], 1e-6, &cos, &sin),
            );
        }
    });
}

#[test]
fn channel_norm() {
    with_gpu(|gpu| {
        for (rows, channels) in [(7, 16), (131, 96), (9, 384), (5, 1024), (3, 1280), (4, 12)] {
            let (x, gamma) = (tensor((1, rows, 1, channels), 1), tensor(channels, 2));
            agree(
                gpu,
                "channel_rms_norm",
                &DTYPES,
                &[&x, &gamma],
                |t| kernels::channel_rms_norm(&t[0], &t[1]),
                |t| reference::channel_rms_norm(&t[0], &t[1]),
            );
            agree(
                gpu,
                "channel_rms_norm_silu",
                &DTYPES,
                &[&x, &gamma],
                |t| kernels::channel_rms_norm_silu(&t[0], &t[1]),
                |t| reference::channel_rms_norm_silu(&t[0], &t[1]),
            );
        }
    });
}

/// Makes an epilogue of test tensors.
type Make = for<'a> fn(&'a [Tensor]) -> Epilogue<'a>;

const EPILOGUES: [(&str, Make); 7] = [
    ("linear", |_| Epilogue::None),
    ("linear, gelu", |_| Epilogue::GeluTanh),
    ("linear, silu", |_| Epilogue::Silu),
    ("linear, product", |t| Epilogue::Product(&t[3])),
    ("linear, residual", |t| Epilogue::Residual(&t[3])),
    ("linear, gated", |t| Epilogue::GatedResidual { x: &t[3], gate: &t[4] }),
    ("linear, gated per token", |t| Epilogue::GatedResidual { x: &t[3], gate: &t[5] }),
];

/// Input, weight, bias and what the epilogues take.
fn linear_operands([rows, inputs, outputs]: [usize; 3]) -> [Tensor; 6] {
    let scaled = |x: Tensor| (x * (inputs as f64).sqrt().recip()).unwrap();
    [
        tensor((1, rows, inputs), 1),
        scaled(tensor((outputs, inputs), 2)),
        tensor(outputs, 3),
        tensor((1, rows, outputs), 4),
        tensor((1, 1, outputs), 5),
        tensor((1, rows, outputs), 6),
    ]
}

#[test]
fn linear() {
    with_gpu(|gpu| {
        for size in [[1, 64, 96], [33, 1536, 128], [300, 256, 8960], [7, 17, 5], [5, 48, 3]] {
            let operands = linear_operands(size);
            let operands: Vec<&Tensor> = operands.iter().collect();
            for (name, epilogue) in EPILOGUES {
                agree(
                    gpu,
                    name,
                    &DTYPES,
                    &operands,
                    |t| kernels::linear(&t[0], &LinearWeight::new(&t[1])?, Some(&t[2]), epilogue(t)),
                    |t| reference::linear(&t[0], &t[1], Some(&t[2]), epilogue(t)),
                );
            }
            agree(
                gpu,
                "linear without bias",
                &DTYPES,
                &operands,
                |t| kernels::linear(&t[0], &LinearWeight::new(&t[1])?, None, Epilogue::None),
                |t| reference::linear(&t[0], &t[1], None, Epilogue::None),
            );
        }
    });
}

/// Rows of `x` as multiples of a scale each: whole numbers to 127, or e4m3 to 448.
fn rounded_rows(x: &Tensor, whole: bool) -> Result<Tensor> {
    let largest = x.abs()?.max_keepdim(candle_core::D::Minus1)?;
    let scale = (largest / if whole { 127.0 } else { 448.0 })?.clamp(1e-30, f64::MAX)?;
    let units = x.broadcast_div(&scale)?;
    let units = if whole { units.round()? } else { units.to_dtype(DType::F8E4M3)?.to_dtype(DType::F32)? };
    units.broadcast_mul(&scale)
}

/// Products of 8 bits are those of the operands rounded the same way, up to the rounding of the result (and for e4m3
/// that of sums of 14 bits); where a number lies between two of 8 bits, which one it becomes hangs on the last bit.
#[test]
fn rounded_linear() {
    with_gpu(|gpu| {
        for size in [[1, 64, 96], [40, 1536, 256], [300, 512, 1024]] {
            let operands = linear_operands(size);
            let operands: Vec<&Tensor> = operands.iter().collect();
            for (name, epilogue) in EPILOGUES {
                for whole in [true, false] {
                    let name = format!("{name}, {}", if whole { "int8" } else { "fp8" });
                    let dtypes = [(DType::BF16, 1e-2), (DType::F16, 1e-2)];
                    agree(
                        gpu,
                        &name,
                        &dtypes,
                        &operands,
                        |t| {
                            let weight = if whole { LinearWeight::int8(&t[1])? } else { LinearWeight::fp8(&t[1])? };
                            kernels::linear(&t[0], &weight, Some(&t[2]), epilogue(t))
                        },
                        |t| {
                            let (x, weight) = (rounded_rows(&t[0], whole)?, rounded_rows(&t[1], whole)?);
                            reference::linear(&x, &weight, Some(&t[2]), epilogue(t))
                        },
                    );
                }
            }
        }
    });
}

/// What is done to an input on its way into 8 bits has the bits of doing it first: both round to the input's dtype in between.
#[test]
fn rounding_after_something_else_has_the_same_bits() {
    with_gpu(|gpu| {
        for [b, l, inputs, outputs] in [[1, 64, 1536, 128], [2, 33, 512, 64], [1, 5, 8960, 48], [1, 2, 24576, 16]] {
            for dtype in [DType::BF16, DType::F16] {
                let there = |x: Tensor| x.to_dtype(dtype).unwrap().to_device(gpu).unwrap();
                let wide = |shape: &[usize], seed| tensor(shape, seed).to_device(gpu).unwrap();
                let x = there(tensor((b, l, inputs), 1));
                let weight = there(tensor((outputs, inputs), 2));
                let (gamma, beta) = (wide(&[inputs], 3), wide(&[inputs], 4));
                let (shift, scale) = (wide(&[b, 1, inputs], 5), wide(&[1, l, inputs], 6));
                let prologues = [
                    Prologue::None,
                    Prologue::GeluTanh,
                    Prologue::LayerNorm { affine: None, eps: 1e-6 },
                    Prologue::LayerNorm { affine: Some((&gamma, &beta)), eps: 1e-6 },
                    Prologue::LayerNormModulate { shift: &shift, scale: &scale, eps: 1e-6 },
                ];
                for packed in [LinearWeight::int8(&weight), LinearWeight::fp8(&weight)].map(|packed| packed.unwrap()) {
                    for (index, prologue) in prologues.into_iter().enumerate() {
                        let first = match prologue {
                            Prologue::None => x.clone(),
                            Prologue::GeluTanh => kernels::gelu_tanh(&x).unwrap(),
                            Prologue::LayerNorm { affine, eps } => {
                                kernels::layer_norm(&x, affine.map(|(w, _)| w), affine.map(|(_, b)| b), eps).unwrap()
                            }
                            Prologue::LayerNormModulate { shift, scale, eps } => {
                                kernels::layer_norm_modulate(&x, shift, scale, eps).unwrap()
                            }
                        };
                        let apart = kernels::linear(&first, &packed, None, Epilogue::None).unwrap();
                        let once = kernels::linear_after(&x, prologue, (&packed, None), Epilogue::None).unwrap();
                        let [apart, once] = [apart, once].map(|x| x.to_dtype(DType::F32).unwrap());
                        let [apart, once] = [apart, once].map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
                        assert!(apart == once, "prologue {index} of {dtype:?} [{b}, {l}, {inputs}]");
                    }
                }
            }
        }
    });
}

#[test]
fn mlp() {
    with_gpu(|gpu| {
        let scaled = |shape: (usize, usize), seed| (tensor(shape, seed) * (shape.1 as f64).sqrt().recip()).unwrap();
        let (x, shift, scale) = (tensor((1, 70, 256), 1), tensor((1, 1, 256), 2), tensor((1, 1, 256), 3));
        let (first, second) = (scaled((1024, 256), 4), scaled((256, 1024), 5));
        let (b1, b2) = (tensor(1024, 6), tensor(256, 7));
        let slow = |t: &[Tensor]| {
            let x = reference::layer_norm_modulate(&t[0], &t[1], &t[2], 1e-6)?;
            let inner = reference::linear(&x, &t[3], Some(&t[4]), Epilogue::GeluTanh)?;
            reference::linear(&inner, &t[5], Some(&t[6]), Epilogue::Residual(&t[0]))
        };
        let fast = |pack: fn(&Tensor) -> Result<LinearWeight>| {
            move |t: &[Tensor]| {
                let norm = Prologue::LayerNormModulate { shift: &t[1], scale: &t[2], eps: 1e-6 };
                let (first, second) = (pack(&t[3])?, pack(&t[5])?);
                kernels::mlp(&t[0], norm, [(&first, Some(&t[4])), (&second, Some(&t[6]))], Epilogue::Residual(&t[0]))
            }
        };
        let operands = [&x, &shift, &scale, &first, &b1, &second, &b2];
        agree(gpu, "mlp", &DTYPES, &operands, fast(LinearWeight::new), slow);
        // Two products, of each of which both operands are off: by 2.6 % where they are e4m3 (see below), by 1 % where whole.
        agree(gpu, "mlp, int8", &[(DType::BF16, 0.02)], &operands, fast(LinearWeight::int8), slow);
        agree(gpu, "mlp, fp8", &[(DType::BF16, 0.053)], &operands, fast(LinearWeight::fp8), slow);
    });
}

#[test]
fn attention() {
    with_gpu(|gpu| {
        // Items, queries, keys, heads, width.
        let sizes = [
            [1, 1, 1, 1, 32],
            [2, 70, 65, 3, 32],
            [1, 130, 257, 2, 64],
            [2, 200, 300, 2, 128],
            [1, 129, 1000, 3, 64],
            [1, 64, 256, 1, 128],
            [1, 300, 1025, 2, 128],
            [1, 50, 90, 2, 80],
            [1, 65, 64, 1, 96],
            [1, 33, 40, 1, 48],
            [2, 100, 88, 2, 384],
        ];
        for [b, l, s, n, d] in sizes {
            // Scores with a spread, so that softmax is not a mean.
            let spread = |x: Tensor| (x * 3.0).unwrap();
            let (q, k, v) = (spread(tensor((b, l, n, d), 1)), tensor((b, s, n, d), 2), tensor((b, s, n, d), 3));
            let scale = (d as f64).sqrt().recip();
            let biases = [None, Some((1, 1, 1, s)), Some((b, 1, 1, s)), Some((1, n, l, s))];
            for bias in biases.map(|shape| shape.map(|shape| spread(tensor(shape, 4)))) {
                let mut operands = vec![&q, &k, &v];
                operands.extend(&bias);
                agree(
                    gpu,
                    &format!("attention over {s} keys, width {d}, bias {:?}", bias.as_ref().map(Tensor::dims)),
                    &DTYPES,
                    &operands,
                    |t| kernels::attention(&t[0], &t[1], &t[2], scale, t.get(3)),
                    |t| reference::attention(&t[0], &t[1], &t[2], scale, t.get(3)),
                );
            }
        }
    });
}

/// e4m3 keeps four bits of a number, which is then off by 2.6 % (root mean square): values and exponentials are, and a
/// score, of which query and key are, by √2 · 2.6 % of its own spread, here 1.33. Together 6.1 %.
#[test]
fn attention_of_8_bits_is_near_the_exact_one() {
    with_gpu(|gpu| {
        for [b, l, s, n] in [[1, 200, 300, 2], [2, 129, 1025, 2], [1, 40, 90, 1]] {
            let (q, k, v) = (tensor((b, l, n, 128), 1), tensor((b, s, n, 128), 2), tensor((b, s, n, 128), 3));
            let k = (k + 2.0).unwrap(); // a mean, which does not count
            let scale = 128f64.sqrt().recip();
            agree(
                gpu,
                &format!("attention_fp8 over {s} keys"),
                &[(DType::BF16, 0.061), (DType::F16, 0.061)],
                &[&q, &k, &v],
                |t| kernels::attention_fp8(&t[0], &t[1], &t[2], scale, None),
                |t| reference::attention(&t[0], &t[1], &t[2], scale, None),
            );
        }
    });
}

#[test]
fn convolution() {
    with_gpu(|gpu| {
        let same = FrameConvOptions { padding: (1, 1), ..Default::default() };
        let down = FrameConvOptions { stride: 2, padding: (0, 1), upsample: false };
        let up = FrameConvOptions { padding: (1, 1), upsample: true, ..Default::default() };
        let plain = FrameConvOptions::default();
        let cases = [
            ([3, 3, 3], same, [1, 9, 14], [16, 96]),
            ([3, 3, 3], same, [2, 13, 11], [96, 96]),
            ([3, 3, 3], same, [1, 20, 33], [96, 3]),
            ([3, 3, 3], same, [1, 8, 8], [3, 40]),
            ([3, 3, 3], same, [1, 5, 6], [384, 192]),
            ([3, 3, 3], same, [1, 16, 17], [48, 256]),
            ([3, 1, 1], plain, [1, 7, 9], [32, 64]),
            ([1, 1, 1], plain, [2, 7, 9], [192, 384]),
            ([1, 3, 3], down, [1, 10, 12], [96, 96]),
            ([1, 3, 3], up, [1, 7, 5], [64, 32]),
            ([1, 3, 3], up, [2, 9, 12], [48, 256]),
            ([3, 3, 3], up, [1, 3, 50], [16, 7]),
            ([1, 3, 3], same, [1, 7, 5], [12, 12]),
        ];
        for (kernel, options, [b, h, w], [inputs, outputs]) in cases {
            let [kf, kh, kw] = kernel;
            let fan_in = (inputs * kf * kh * kw) as f64;
            let weight = (tensor((outputs, inputs, kf, kh, kw), 10) * fan_in.sqrt().recip()).unwrap();
            let bias = tensor(outputs, 11);
            let frames: Vec<Tensor> = (0..kf).map(|tap| tensor((b, h, w, inputs), tap as u64)).collect();
            for absent in 0..kf {
                let taps = |t: &[Tensor]| -> Vec<Option<Tensor>> {
                    t[2..2 + kf].iter().enumerate().map(|(tap, frame)| (tap >= absent).then(|| frame.clone())).collect()
                };
                let mut operands = vec![&weight, &bias];
                operands.extend(&frames);
                let forward = |t: &[Tensor]| {
                    let taps = taps(t);
                    let taps: Vec<Option<&Tensor>> = taps.iter().map(Option::as_ref).collect();
                    let conv = FrameConv::new(&t[0], &t[1], options)?;
                    let once = conv.forward(&taps, None)?;
                    conv.forward(&taps, Some(&once))
                };
                let expected = |t: &[Tensor]| {
                    let taps = taps(t);
                    let taps: Vec<Option<&Tensor>> = taps.iter().map(Option::as_ref).collect();
                    reference::frame_conv(&taps, &t[0], &t[1], options, None).map(|x| (x * 2.0).unwrap())
                };
                let name = format!("convolution {kernel:?}, {inputs} to {outputs}, {absent} absent");
                agree(gpu, &name, &DTYPES, &operands, forward, expected);
            }
        }
    });
}
