//! Every fast operator agrees with its reference, over dtypes and odd shapes, and has the same bits for every number
//! of threads.

mod attention;
mod beside;
mod blocks;
mod linear;
mod rows;
mod stored;

use candle_core::{DType, Device, Result, Tensor};
use kinora_kernels::{self as kernels, Epilogue, LEVEL_VARIABLE, Level, LinearWeight, Repeat, Snake};
use kinora_test_support::{relative_l2, values};
use std::process::Command;

/// Dtypes, and the relative L2 error that each allows: for f32 that of sums in another order, for the others that of
/// rounding the result (half a unit in the last place of 8 or 11 bits).
const DTYPES: [(DType, f64); 3] = [(DType::F32, 1e-6), (DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)];

/// Compares `fast` over inputs in every dtype with `reference` over the same numbers in f32, and `fast` in a pool of
/// one thread with `fast` in a pool of two.
fn agree(
    name: &str,
    inputs: &[&Tensor],
    fast: impl Fn(&[Tensor]) -> Result<Tensor> + Sync,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    for (dtype, tolerance) in DTYPES {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        let wide: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
        let [one, two] = [1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fast(&inputs)).unwrap()
        });
        assert_eq!(one.dtype(), dtype, "{name}");
        let bits = |x: &Tensor| values(x).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert!(bits(&one) == bits(&two), "{name} {dtype:?}: one and two threads differ");
        let error = relative_l2(&one, &reference(&wide).unwrap());
        assert!(error <= tolerance, "{name} {dtype:?}: relative L2 error {error:e}, shapes {inputs:?}");
    }
}

#[test]
fn not_a_number_stays_visible() {
    let x = Tensor::from_vec(vec![1.0, f32::NAN, 3.0, 4.0], (1, 1, 1, 4), &Device::Cpu).unwrap();
    let flat = x.reshape((1, 1, 4)).unwrap();
    let ones = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
    for y in [
        kernels::silu(&x),
        kernels::gelu_tanh(&x),
        kernels::attention(&x, &x, &x, 1.0, None),
        kernels::layer_norm(&x, None, None, 1e-6),
        kernels::rms_norm(&flat, &ones, 1e-6),
        kernels::channel_rms_norm_silu(&x, &ones),
        kernels::silu(&x.to_dtype(DType::BF16).unwrap()),
    ] {
        assert!(values(&y.unwrap()).iter().any(|y| y.is_nan()));
    }
}

/// Runs this binary's tests once more at every level below the machine's own.
#[test]
fn lower_levels_agree_too() {
    for level in Level::lower() {
        let mut tests = Command::new(std::env::current_exe().unwrap());
        let tests = tests.env(LEVEL_VARIABLE, level.name()).args(["--skip", "lower_levels_agree_too"]);
        let run = tests.output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && text.contains("test linear::linear ... ok"), "{level:?}: {text}");
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let half = |shape: &[usize]| Tensor::zeros(shape, DType::BF16, &Device::Cpu).unwrap();
    let linear = |x: &[usize], weight: &[usize], bias: &[usize], epilogue| {
        kernels::linear(&t(x), &LinearWeight::new(&t(weight))?, Some(&t(bias)), epilogue)
    };
    let attend = |q: &[usize], k: &[usize], v: &[usize], bias: &[usize]| {
        kernels::attention(&t(q), &t(k), &t(v), 1.0, Some(&t(bias)))
    };
    let snake = |x: &[usize], alpha: &[usize], scale: &[usize], filter: &[usize]| {
        Snake::new(t(alpha), t(scale), t(filter), t(filter))?.forward(&t(x), 1)
    };
    for (i, result) in [
        linear(&[2, 3], &[4, 5], &[4], Epilogue::None),
        linear(&[2, 5], &[4, 5], &[5], Epilogue::None),
        linear(&[], &[4, 5], &[4], Epilogue::None),
        linear(&[2, 0], &[4, 0], &[4], Epilogue::None),
        linear(&[2, 5], &[4, 5], &[4], Epilogue::Product(&t(&[2, 5]))),
        linear(&[2, 5], &[4, 5], &[4], Epilogue::Residual(&half(&[2, 4]))),
        linear(&[2, 5], &[4, 5], &[4], Epilogue::GatedResidual { x: &t(&[2, 4]), gate: &t(&[1, 4]) }),
        linear(&[1, 2, 5], &[4, 5], &[4], Epilogue::GatedResidual { x: &t(&[1, 2, 4]), gate: &t(&[1, 3, 4]) }),
        attend(&[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 3, 2, 2]),
        attend(&[1, 2, 3, 4], &[2, 2, 3, 4], &[2, 2, 3, 4], &[1, 3, 2, 2]),
        attend(&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 3, 3, 4], &[1, 3, 2, 2]),
        attend(&[1, 2, 3, 4], &[1, 0, 3, 4], &[1, 0, 3, 4], &[1, 3, 2, 0]),
        attend(&[1, 2, 3, 4], &[1, 5, 3, 4], &[1, 5, 3, 4], &[1, 3, 5, 2]),
        kernels::attention_relative(&t(&[1, 2, 3, 4]), &t(&[1, 5, 3, 4]), &t(&[1, 5, 3, 4]), 1.0, &t(&[3, 7]), None),
        kernels::layer_norm(&t(&[2, 3]), Some(&t(&[2])), None, 1e-6),
        kernels::layer_norm(&t(&[]), None, None, 1e-6),
        kernels::layer_norm_modulate(&t(&[2, 3, 4]), &t(&[2, 2, 4]), &t(&[2, 3, 4]), 1e-6),
        kernels::rms_norm(&t(&[2, 3]), &t(&[1]), 1e-6),
        kernels::rms_norm_silu(&t(&[2, 3]), &t(&[1]), 1e-8),
        kernels::channel_rms_norm(&t(&[2, 3]), &t(&[2])),
        kernels::channel_rms_norm_silu(&t(&[]), &t(&[2])),
        kernels::repeat_channels(&t(&[1, 2, 2, 3]), Repeat { outputs: 2, frames: 1, side: 2 }, 0),
        kernels::repeat_channels(&t(&[1, 2, 2, 2]), Repeat { outputs: 2, frames: 1, side: 2 }, 1),
        kernels::rope(&t(&[1, 2, 3, 4]), &t(&[2, 2]), &t(&[2, 1])),
        kernels::rope(&t(&[1, 2, 3, 5]), &t(&[2, 2]), &t(&[2, 2])),
        kernels::rms_norm_rope(&t(&[1, 2, 3, 4]), &t(&[12]), 1e-6, &t(&[2, 2]), &t(&[2, 1])),
        kernels::rms_norm_rope(&t(&[1, 2, 3, 4]), &t(&[4]), 1e-6, &t(&[2, 2]), &t(&[2, 2])),
        kernels::rms_norm_rope_split(&t(&[1, 2, 3, 4]), &t(&[12]), 1e-6, &t(&[2, 2]), &t(&[2, 2])),
        kernels::rms_norm_rope_split(&t(&[1, 2, 3, 4]), &t(&[4]), 1e-6, &t(&[2, 6]), &t(&[2, 6])),
        kernels::rms_norm_modulate(&t(&[2, 3, 4]), Some((&t(&[2, 2, 4]), &t(&[2, 3, 4]))), 1e-6),
        kernels::gate_heads(&t(&[1, 2, 3, 4]), &t(&[1, 2, 4])),
        kernels::modulate(&t(&[2, 3, 4]), &t(&[2, 1, 4]), &t(&[4])),
        kernels::modulate(&t(&[2, 3, 4]), &t(&[3, 1, 4]), &t(&[2, 1, 4])),
        kernels::gate_residual(&t(&[2, 3, 4]), &t(&[2, 1, 4]), &t(&[2, 1, 4])),
        kernels::parameter_free_attention(&t(&[2, 3, 4]), &t(&[2, 1, 4])),
        snake(&[2, 3, 4], &[4], &[4], &[11]),
        snake(&[2, 3, 4], &[4], &[3], &[12]),
        snake(&[2, 3, 4], &[5], &[5], &[12]),
        snake(&[2, 0, 4], &[4], &[4], &[12]),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(result.is_err(), "case {i} is not an error");
    }
}
