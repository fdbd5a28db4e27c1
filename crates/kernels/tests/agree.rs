//! Every fast operator agrees with its reference, over dtypes and odd shapes, and has the same bits for every number
//! of threads.

use candle_core::{DType, Device, Result, Tensor};
use kinora_kernels::{self as kernels, Epilogue, LEVEL_VARIABLE, Level, LinearWeight, Repeat, reference};
use kinora_test_support::{random, relative_l2, values};
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

/// Rows, inputs, outputs: fewer and more than tiles, panels, blocks and parts of the inputs have.
const LINEARS: [[usize; 3]; 9] = [
    [1, 1, 1],
    [1, 17, 5],
    [6, 64, 96],
    [513, 130, 257],
    [1000, 48, 300],
    [1, 1100, 40],
    [7, 1030, 1],
    [31, 512, 544],
    [0, 8, 3],
];

/// Makes an epilogue of test tensors.
type Make = for<'a> fn(&'a [Tensor]) -> Epilogue<'a>;

#[test]
fn linear() {
    for [rows, inputs, outputs] in LINEARS {
        let (x, weight, bias) = (random((1, rows, inputs), 1), random((outputs, inputs), 2), random(outputs, 3));
        let (other, gate) = (random((1, rows, outputs), 4), random((1, 1, outputs), 5));
        let gates = random((1, rows, outputs), 6);
        let epilogues: [(&str, Make); 7] = [
            ("linear", |_| Epilogue::None),
            ("linear, gelu", |_| Epilogue::GeluTanh),
            ("linear, silu", |_| Epilogue::Silu),
            ("linear, product", |t| Epilogue::Product(&t[3])),
            ("linear, residual", |t| Epilogue::Residual(&t[3])),
            ("linear, gated", |t| Epilogue::GatedResidual { x: &t[3], gate: &t[4] }),
            ("linear, gated per token", |t| Epilogue::GatedResidual { x: &t[3], gate: &t[5] }),
        ];
        for (name, epilogue) in epilogues {
            agree(
                name,
                &[&x, &weight, &bias, &other, &gate, &gates],
                |t| kernels::linear(&t[0], &LinearWeight::new(&t[1])?, Some(&t[2]), epilogue(t)),
                |t| reference::linear(&t[0], &t[1], Some(&t[2]), epilogue(t)),
            );
            agree(
                &format!("{name}, own dtype"),
                &[&x, &weight, &bias, &other, &gate, &gates],
                |t| kernels::linear(&t[0], &LinearWeight::for_own_dtype(&t[1])?, Some(&t[2]), epilogue(t)),
                |t| reference::linear(&t[0], &t[1], Some(&t[2]), epilogue(t)),
            );
        }
        agree(
            "linear without bias",
            &[&x, &weight],
            |t| kernels::linear(&t[0], &LinearWeight::new(&t[1])?, None, Epilogue::None),
            |t| reference::linear(&t[0], &t[1], None, Epilogue::None),
        );
    }
}

/// Weights of 16 bits are widened exactly, so an f32 model computes the same bits as with wide weights.
#[test]
fn linear_of_narrow_weights() {
    let (x, weight) = (random((50, 700), 1), random((90, 700), 2));
    for dtype in [DType::BF16, DType::F16] {
        let narrow = weight.to_dtype(dtype).unwrap();
        let [found, expected] = [narrow.clone(), narrow.to_dtype(DType::F32).unwrap()].map(|weight| {
            values(&kernels::linear(&x, &LinearWeight::new(&weight).unwrap(), None, Epilogue::None).unwrap())
        });
        assert_eq!(found, expected, "{dtype:?}");
    }
}

/// Small whole numbers are bf16, and their sums exact: in every order, and whatever dtype the inputs come in.
#[test]
fn linear_of_whole_numbers_is_exact() {
    for [rows, inputs, outputs] in LINEARS {
        let whole = |shape: (usize, usize), seed| (random(shape, seed) * 3.0).unwrap().round().unwrap();
        let (x, weight) = (whole((rows, inputs), 1), whole((outputs, inputs), 2));
        let expected = values(&reference::linear(&x, &weight, None, Epilogue::None).unwrap());
        let packed = LinearWeight::for_own_dtype(&weight.to_dtype(DType::BF16).unwrap()).unwrap();
        let found = kernels::linear(&x, &packed, None, Epilogue::None).unwrap();
        assert_eq!(values(&found), expected, "[{rows}, {inputs}] by [{inputs}, {outputs}]");
    }
}

#[test]
fn linear_of_views() {
    let (x, weight) = (random((20, 6, 3), 1), random((30, 9), 2));
    let views = |t: &[Tensor]| {
        Ok::<_, candle_core::Error>((t[0].transpose(0, 1)?.narrow(1, 2, 15)?, t[1].t()?.narrow(0, 3, 3)?.t()?))
    };
    agree(
        "linear of views",
        &[&x, &weight],
        |t| views(t).and_then(|(x, weight)| kernels::linear(&x, &LinearWeight::new(&weight)?, None, Epilogue::None)),
        |t| views(t).and_then(|(x, weight)| reference::linear(&x, &weight, None, Epilogue::None)),
    );
}

/// Eight-bit products are sums of whole numbers: the same to the last bit, with outlying channels and without.
#[test]
fn linear_int8() {
    for [rows, inputs, outputs] in LINEARS {
        for channels in [vec![], vec![inputs / 2], vec![0, inputs / 3, inputs - 1]] {
            let factor: Vec<f32> = (0..inputs).map(|i| if channels.contains(&i) { 30.0 } else { 1.0 }).collect();
            let factor = Tensor::from_vec(factor, inputs, &Device::Cpu).unwrap();
            let x = random((1, rows, inputs), 1).broadcast_mul(&factor).unwrap();
            let (weight, bias, other) =
                (random((outputs, inputs), 2), random(outputs, 3), random((1, rows, outputs), 4));
            for (dtype, _) in DTYPES {
                let [x, weight, other] = [&x, &weight, &other].map(|x| x.to_dtype(dtype).unwrap());
                let packed = LinearWeight::int8(&weight).unwrap();
                let [x_wide, other_wide] = [&x, &other].map(|x| x.to_dtype(DType::F32).unwrap());
                for (epilogue, wide) in
                    [(Epilogue::None, Epilogue::None), (Epilogue::Residual(&other), Epilogue::Residual(&other_wide))]
                {
                    let found = kernels::linear(&x, &packed, Some(&bias), epilogue).unwrap();
                    let expected = reference::linear_int8(&x_wide, &weight, Some(&bias), wide).unwrap();
                    let expected = values(&expected.to_dtype(dtype).unwrap());
                    assert_eq!(values(&found), expected, "{rows}x{inputs}x{outputs} {dtype:?} {channels:?}");
                }
            }
        }
    }
}

/// Eight bits keep what they can: half a unit of 127 of the largest element, for weights and inputs, also when a few
/// channels are thirty times as large as the others.
#[test]
fn linear_int8_is_near_the_exact_product() {
    let (inputs, outputs) = (1024, 200);
    let (x, weight) = (random((100, inputs), 1), random((outputs, inputs), 2));
    let loud: Vec<f32> = (0..inputs).map(|i| if i % 205 == 3 { 30.0 } else { 1.0 }).collect();
    let loud = x.broadcast_mul(&Tensor::from_vec(loud, inputs, &Device::Cpu).unwrap()).unwrap();
    // Of uniform numbers, the largest is √3 times the root of the mean square.
    let bound = 2f64.sqrt() * 3f64.sqrt() / 127.0 / 12f64.sqrt() * 1.05;
    for x in [x, loud] {
        let found = kernels::linear(&x, &LinearWeight::int8(&weight).unwrap(), None, Epilogue::None).unwrap();
        let error = relative_l2(&found, &reference::linear(&x, &weight, None, Epilogue::None).unwrap());
        assert!(error <= bound, "relative L2 error {error:e}, expected {bound:e}");
    }
}

#[test]
fn linear_int8_of_zeros_and_of_what_is_no_number() {
    let weight = LinearWeight::int8(&random((3, 8), 2)).unwrap();
    let row = |first: f32| [first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let x = [row(0.0), row(f32::NAN), row(f32::INFINITY), row(1e-44)].concat();
    let x = Tensor::from_vec(x, (4, 8), &Device::Cpu).unwrap();
    let y = values(&kernels::linear(&x, &weight, None, Epilogue::None).unwrap());
    assert_eq!(y[..3], [0.0; 3]);
    assert!(y[3..9].iter().all(|y| y.is_nan()), "{y:?}");
    assert_eq!(y[9..], [0.0; 3]);
}

/// What stands for weights that are not there takes no memory, and computes.
#[test]
fn linear_of_a_placeholder() {
    let weight = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap().broadcast_as((40, 30)).unwrap();
    let y = kernels::linear(&random((5, 30), 1), &LinearWeight::new(&weight).unwrap(), None, Epilogue::None);
    assert_eq!(values(&y.unwrap()), vec![0.0; 200]);
}

#[test]
fn attention() {
    for [batch, queries, keys, heads, dim] in [
        [1, 1, 1, 1, 1],
        [2, 5, 7, 3, 8],
        [1, 130, 300, 2, 12],
        [1, 257, 513, 1, 64],
        [3, 16, 1, 2, 6],
        [1, 33, 100, 4, 128],
        [2, 127, 129, 3, 32],
        [1, 260, 31, 1, 160],
        [2, 3, 40, 2, 384],
    ] {
        let q = random((batch, queries, heads, dim), 1);
        let (k, v) = (random((batch, keys, heads, dim), 2), random((batch, keys, heads, dim), 3));
        let scale = 1.0 / (dim as f64).sqrt();
        agree(
            "attention",
            &[&q, &k, &v],
            |t| kernels::attention(&t[0], &t[1], &t[2], scale, None),
            |t| reference::attention(&t[0], &t[1], &t[2], scale, None),
        );
        for bias in [(1, heads, queries, keys), (batch, heads, queries, keys), (batch, 1, 1, keys), (1, heads, 1, keys)]
        {
            let bias = random(bias, 4);
            agree(
                "attention with bias",
                &[&q, &k, &v, &bias],
                |t| kernels::attention(&t[0], &t[1], &t[2], scale, Some(&t[3])),
                |t| reference::attention(&t[0], &t[1], &t[2], scale, Some(&t[3])),
            );
        }
    }
}

#[test]
fn attention_by_distance() {
    for [batch, queries, keys, heads, dim] in [[1, 1, 1, 1, 4], [2, 7, 5, 3, 8], [1, 130, 300, 2, 16]] {
        let q = random((batch, queries, heads, dim), 1);
        let (k, v) = (random((batch, keys, heads, dim), 2), random((batch, keys, heads, dim), 3));
        let relative = random((heads, queries + keys - 1), 4);
        agree(
            "attention by distance",
            &[&q, &k, &v, &relative],
            |t| kernels::attention_relative(&t[0], &t[1], &t[2], 0.3, &t[3], None),
            |t| reference::attention_relative(&t[0], &t[1], &t[2], 0.3, &t[3], None),
        );
        agree(
            "attention by distance with bias",
            &[&q, &k, &v, &relative, &random((batch, 1, 1, keys), 5)],
            |t| kernels::attention_relative(&t[0], &t[1], &t[2], 0.3, &t[3], Some(&t[4])),
            |t| reference::attention_relative(&t[0], &t[1], &t[2], 0.3, &t[3], Some(&t[4])),
        );
    }
}

#[test]
fn attention_of_nothing_is_nothing() {
    for (q, keys) in [((1, 0, 2, 4), 3), ((0, 3, 2, 4), 3), ((1, 3, 0, 4), 3), ((1, 3, 2, 0), 5)] {
        let (batch, _, heads, dim) = q;
        let (q, k) = (random(q, 1), random((batch, keys, heads, dim), 2));
        assert_eq!(kernels::attention(&q, &k, &k, 1.0, None).unwrap().dims(), q.dims());
    }
}

/// Queries, keys and values as parts of one tensor, heads before tokens, and a head whose elements are no neighbours.
#[test]
fn attention_of_views() {
    for [axis, first, second] in [[3, 1, 2], [0, 2, 1], [0, 3, 1]] {
        let x = random((2, 70, 5, 24), 1);
        let part = |t: &Tensor, i: usize| t.narrow(3, 8 * i, 8)?.narrow(axis, 0, 2)?.transpose(first, second);
        agree(
            "attention of views",
            &[&x],
            |t| kernels::attention(&part(&t[0], 0)?, &part(&t[0], 1)?, &part(&t[0], 2)?, 0.4, None),
            |t| reference::attention(&part(&t[0], 0)?, &part(&t[0], 1)?, &part(&t[0], 2)?, 0.4, None),
        );
    }
}

/// Keys that a bias of minus infinity, or of the least f32, takes out; also whole blocks of them.
#[test]
fn attention_with_masked_keys() {
    let (queries, keys, heads, dim) = (20, 600, 2, 8);
    let q = random((1, queries, heads, dim), 1);
    let (k, v) = (random((1, keys, heads, dim), 2), random((1, keys, heads, dim), 3));
    for masked in [f32::NEG_INFINITY, f32::MIN] {
        for open in [0..3, 290..300, 599..600] {
            let row = (0..keys).map(|key| if open.contains(&key) { 0.0 } else { masked });
            let bias = Tensor::from_iter(row, &Device::Cpu).unwrap();
            let bias = bias.broadcast_as((1, heads, queries, keys)).unwrap();
            let found = kernels::attention(&q, &k, &v, 0.3, Some(&bias)).unwrap();
            let (k, v) = (k.narrow(1, open.start, open.len()).unwrap(), v.narrow(1, open.start, open.len()).unwrap());
            let expected = reference::attention(&q, &k, &v, 0.3, None).unwrap();
            assert!(relative_l2(&found, &expected) <= 1e-6, "{masked} but {open:?}");
        }
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

#[test]
fn norms() {
    for shape in [vec![1, 1, 3], vec![2, 5, 17], vec![1, 40, 1536], vec![3, 64], vec![1, 3, 2, 128]] {
        let channels = shape[shape.len() - 1];
        let (x, weight, bias) = (random(shape, 1), random(channels, 2), random(channels, 3));
        agree(
            "layer_norm",
            &[&x, &weight, &bias],
            |t| kernels::layer_norm(&t[0], Some(&t[1]), Some(&t[2]), 1e-6),
            |t| reference::layer_norm(&t[0], Some(&t[1]), Some(&t[2]), 1e-6),
        );
        agree(
            "layer_norm without parameters",
            &[&x],
            |t| kernels::layer_norm(&t[0], None, None, 1e-5),
            |t| reference::layer_norm(&t[0], None, None, 1e-5),
        );
        agree(
            "rms_norm",
            &[&x, &weight],
            |t| kernels::rms_norm(&t[0], &t[1], 1e-6),
            |t| reference::rms_norm(&t[0], &t[1], 1e-6),
        );
    }
}

#[test]
fn channel_norms() {
    for shape in [vec![1, 1, 1], vec![2, 3, 7, 9, 5], vec![1, 30, 40, 96], vec![2, 3], vec![1, 513, 16]] {
        let (x, gamma) = (random(shape.clone(), 1), random(shape[shape.len() - 1], 2));
        agree(
            "channel_rms_norm",
            &[&x, &gamma],
            |t| kernels::channel_rms_norm(&t[0], &t[1]),
            |t| reference::channel_rms_norm(&t[0], &t[1]),
        );
        agree(
            "channel_rms_norm_silu",
            &[&x, &gamma],
            |t| kernels::channel_rms_norm_silu(&t[0], &t[1]),
            |t| reference::channel_rms_norm_silu(&t[0], &t[1]),
        );
    }
    let zeros = Tensor::zeros((1, 5, 4), DType::F32, &Device::Cpu).unwrap();
    let gamma = random(4, 1);
    assert_eq!(values(&kernels::channel_rms_norm(&zeros, &gamma).unwrap()), vec![0.0; 20]);
}

#[test]
fn rope() {
    for [batch, tokens, heads, dim] in [[1, 1, 1, 2], [2, 7, 3, 6], [1, 100, 12, 128]] {
        let x = random((batch, tokens, heads, dim), 1);
        let angles = random((tokens, dim / 2), 2);
        let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
        agree("rope", &[&x], |t| kernels::rope(&t[0], &cos, &sin), |t| reference::rope(&t[0], &cos, &sin));
        agree(
            "rms_norm_rope",
            &[&x, &random(heads * dim, 3)],
            |t| kernels::rms_norm_rope(&t[0], &t[1], 1e-6, &cos, &sin),
            |t| reference::rms_norm_rope(&t[0], &t[1], 1e-6, &cos, &sin),
        );
    }
}

#[test]
fn modulation() {
    for [batch, tokens, channels] in [[1, 1, 1], [2, 9, 33], [2, 40, 1536]] {
        let (x, y) = (random((batch, tokens, channels), 1), random((batch, tokens, channels), 2));
        for (items, rows) in [(batch, 1), (batch, tokens), (1, 1), (1, tokens)] {
            let (shift, scale) = (random((items, rows, channels), 3), random((items, rows, channels), 4));
            agree(
                "modulate",
                &[&x, &shift, &scale],
                |t| kernels::modulate(&t[0], &t[1], &t[2]),
                |t| reference::modulate(&t[0], &t[1], &t[2]),
            );
            agree(
                "layer_norm_modulate",
                &[&x, &shift, &scale],
                |t| kernels::layer_norm_modulate(&t[0], &t[1], &t[2], 1e-6),
                |t| reference::layer_norm_modulate(&t[0], &t[1], &t[2], 1e-6),
            );
            agree(
                "gate_residual",
                &[&x, &y, &scale],
                |t| kernels::gate_residual(&t[0], &t[1], &t[2]),
                |t| reference::gate_residual(&t[0], &t[1], &t[2]),
            );
        }
    }
}

#[test]
fn repeated_channels() {
    for ([b, h, w, c], [outputs, frames, side]) in
        [([1, 3, 5, 16], [16, 1, 2]), ([2, 3, 4, 6], [6, 2, 2]), ([1, 2, 7, 32], [8, 2, 2]), ([1, 2, 2, 1], [1, 1, 3])]
    {
        let x = random((b, h, w, c), 1);
        for index in 0..frames {
            let repeat = Repeat { outputs, frames, side };
            let found = kernels::repeat_channels(&x, repeat, index).unwrap();
            let expected = reference::repeat_channels(&x, repeat, index).unwrap();
            assert_eq!(found.dims(), expected.dims());
            assert_eq!(values(&found), values(&expected), "{repeat:?} of {c} channels");
        }
    }
}

#[test]
fn activations() {
    for len in [0, 15, 40_000] {
        let x = (random((1, len), 1) * 6.0).unwrap();
        agree("gelu_tanh", &[&x], |t| kernels::gelu_tanh(&t[0]), |t| reference::gelu_tanh(&t[0]));
        agree("gelu_erf", &[&x], |t| kernels::gelu_erf(&t[0]), |t| reference::gelu_erf(&t[0]));
        agree("silu", &[&x], |t| kernels::silu(&t[0]), |t| reference::silu(&t[0]));
    }
    let extremes = Tensor::from_slice(&[-1e30f32, -1e4, -90.0, 0.0, 90.0, 1e4, 1e30], 7, &Device::Cpu).unwrap();
    for y in [kernels::gelu_tanh(&extremes), kernels::silu(&extremes)] {
        let y = values(&y.unwrap());
        assert_eq!(y[3..], [0.0, 90.0, 1e4, 1e30]);
        assert!(y[..3].iter().all(|y| y.abs() < 1e-6), "{y:?}");
    }
}

/// What the machine's own level hides: this binary's tests, once more at every lower one.
#[test]
fn lower_levels_agree_too() {
    for level in Level::ALL.into_iter().filter(|level| *level < Level::current()) {
        let mut tests = Command::new(std::env::current_exe().unwrap());
        let tests = tests.env(LEVEL_VARIABLE, level.name()).args(["--skip", "lower_levels_agree_too"]);
        let run = tests.output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && text.contains("test linear ... ok"), "{level:?}: {text}");
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
        kernels::channel_rms_norm(&t(&[2, 3]), &t(&[2])),
        kernels::channel_rms_norm_silu(&t(&[]), &t(&[2])),
        kernels::repeat_channels(&t(&[1, 2, 2, 3]), Repeat { outputs: 2, frames: 1, side: 2 }, 0),
        kernels::repeat_channels(&t(&[1, 2, 2, 2]), Repeat { outputs: 2, frames: 1, side: 2 }, 1),
        kernels::rope(&t(&[1, 2, 3, 4]), &t(&[2, 2]), &t(&[2, 1])),
        kernels::rope(&t(&[1, 2, 3, 5]), &t(&[2, 2]), &t(&[2, 2])),
        kernels::rms_norm_rope(&t(&[1, 2, 3, 4]), &t(&[12]), 1e-6, &t(&[2, 2]), &t(&[2, 1])),
        kernels::rms_norm_rope(&t(&[1, 2, 3, 4]), &t(&[4]), 1e-6, &t(&[2, 2]), &t(&[2, 2])),
        kernels::modulate(&t(&[2, 3, 4]), &t(&[2, 1, 4]), &t(&[4])),
        kernels::modulate(&t(&[2, 3, 4]), &t(&[3, 1, 4]), &t(&[2, 1, 4])),
        kernels::gate_residual(&t(&[2, 3, 4]), &t(&[2, 1, 4]), &t(&[2, 1, 4])),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(result.is_err(), "case {i} is not an error");
    }
}
