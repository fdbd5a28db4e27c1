//! Linear layers, exact and quantised.

use crate::{DTYPES, agree, with_gpu};
use candle_core::{D, DType, Result, Tensor};
use kinora_kernels::{self as kernels, Epilogue, Layer, LinearWeight, Prologue, reference};
use kinora_test_support::random;

/// Makes an epilogue of test tensors.
pub(crate) type Make = for<'a> fn(&'a [Tensor]) -> Epilogue<'a>;

pub(crate) const EPILOGUES: [(&str, Make); 7] = [
    ("linear", |_| Epilogue::None),
    ("linear, gelu", |_| Epilogue::GeluTanh),
    ("linear, silu", |_| Epilogue::Silu),
    ("linear, product", |t| Epilogue::Product(&t[3])),
    ("linear, residual", |t| Epilogue::Residual(&t[3])),
    ("linear, gated", |t| Epilogue::GatedResidual { x: &t[3], gate: &t[4] }),
    ("linear, gated per token", |t| Epilogue::GatedResidual { x: &t[3], gate: &t[5] }),
];

/// Input, weight, bias and what the epilogues take.
pub(crate) fn linear_operands([rows, inputs, outputs]: [usize; 3]) -> [Tensor; 6] {
    let scaled = |x: Tensor| (x * (inputs as f64).sqrt().recip()).unwrap();
    [
        random((1, rows, inputs), 1),
        scaled(random((outputs, inputs), 2)),
        random(outputs, 3),
        random((1, rows, outputs), 4),
        random((1, 1, outputs), 5),
        random((1, rows, outputs), 6),
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
pub(crate) fn quantised_rows(x: &Tensor, whole: bool) -> Result<Tensor> {
    let largest = x.abs()?.max_keepdim(D::Minus1)?;
    let scale = (largest / if whole { 127.0 } else { 448.0 })?.clamp(1e-30, f64::MAX)?;
    let units = x.broadcast_div(&scale)?;
    let units = if whole { units.round()? } else { units.to_dtype(DType::F8E4M3)?.to_dtype(DType::F32)? };
    units.broadcast_mul(&scale)
}

/// Products of 8 bits are those of the operands quantised the same way, up to the rounding of the result (and for e4m3
/// that of sums of 14 bits); where a number lies between two of 8 bits, which one it becomes hangs on the last bit.
#[test]
fn quantised_linear() {
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
                            let (x, weight) = (quantised_rows(&t[0], whole)?, quantised_rows(&t[1], whole)?);
                            reference::linear(&x, &weight, Some(&t[2]), epilogue(t))
                        },
                    );
                }
            }
        }
    });
}

/// A prologue fused into quantisation has the bits of computing it first: both round to the input's dtype in between.
#[test]
fn quantising_after_a_prologue_has_the_same_bits() {
    with_gpu(|gpu| {
        for [b, l, inputs, outputs] in [[1, 64, 1536, 128], [2, 33, 512, 64], [1, 5, 8960, 48], [1, 2, 24576, 16]] {
            for dtype in [DType::BF16, DType::F16] {
                let there = |x: Tensor| x.to_dtype(dtype).unwrap().to_device(gpu).unwrap();
                let wide = |shape: &[usize], seed| random(shape, seed).to_device(gpu).unwrap();
                let x = there(random((b, l, inputs), 1));
                let weight = there(random((outputs, inputs), 2));
                let (gamma, beta) = (wide(&[inputs], 3), wide(&[inputs], 4));
                let (shift, scale) = (wide(&[b, 1, inputs], 5), wide(&[1, l, inputs], 6));
                let prologues = [
                    Prologue::None,
                    Prologue::GeluTanh,
                    Prologue::LayerNorm { affine: None, eps: 1e-6 },
                    Prologue::LayerNorm { affine: Some((&gamma, &beta)), eps: 1e-6 },
                    Prologue::LayerNormModulate { shift: &shift, scale: &scale, eps: 1e-6 },
                    Prologue::RmsNormModulate { modulation: None, eps: 1e-6 },
                    Prologue::RmsNormModulate { modulation: Some((&shift, &scale)), eps: 1e-6 },
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
                            Prologue::RmsNormModulate { modulation, eps } => {
                                kernels::rms_norm_modulate(&x, modulation, eps).unwrap()
                            }
                        };
                        let apart = kernels::linear(&first, &packed, None, Epilogue::None).unwrap();
                        let once =
                            kernels::linear_after(&x, prologue, Layer::new(&packed, None), Epilogue::None).unwrap();
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
        let scaled = |shape: (usize, usize), seed| (random(shape, seed) * (shape.1 as f64).sqrt().recip()).unwrap();
        let (x, shift, scale) = (random((1, 70, 256), 1), random((1, 1, 256), 2), random((1, 1, 256), 3));
        let (first, second) = (scaled((1024, 256), 4), scaled((256, 1024), 5));
        let (b1, b2) = (random(1024, 6), random(256, 7));
        let slow = |t: &[Tensor]| {
            let x = reference::layer_norm_modulate(&t[0], &t[1], &t[2], 1e-6)?;
            let inner = reference::linear(&x, &t[3], Some(&t[4]), Epilogue::GeluTanh)?;
            reference::linear(&inner, &t[5], Some(&t[6]), Epilogue::Residual(&t[0]))
        };
        let fast = |pack: fn(&Tensor) -> Result<LinearWeight>| {
            move |t: &[Tensor]| {
                let norm = Prologue::LayerNormModulate { shift: &t[1], scale: &t[2], eps: 1e-6 };
                let (first, second) = (pack(&t[3])?, pack(&t[5])?);
                let layers = [Layer::new(&first, Some(&t[4])), Layer::new(&second, Some(&t[6]))];
                kernels::mlp(&t[0], norm, layers, Epilogue::Residual(&t[0]))
            }
        };
        let operands = [&x, &shift, &scale, &first, &b1, &second, &b2];
        agree(gpu, "mlp", &DTYPES, &operands, fast(LinearWeight::new), slow);
        // Two products, of each of which both operands are off: by 2.6 % where they are e4m3 (see below), by 1 % where whole.
        agree(gpu, "mlp, int8", &[(DType::BF16, 0.02)], &operands, fast(LinearWeight::int8), slow);
        agree(gpu, "mlp, fp8", &[(DType::BF16, 0.053)], &operands, fast(LinearWeight::fp8), slow);
    });
}
