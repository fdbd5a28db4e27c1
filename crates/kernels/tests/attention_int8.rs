//! Attention with 8-bit queries and keys stays close to the exact one, also where some channels are far larger than the
//! others.

use candle_core::{D, DType, Device, Tensor};
use kinora_kernels::{LEVEL_VARIABLE, Level, attention, attention_int8, reference};
use kinora_test_support::{cosine, values};
use std::process::Command;

/// From the exact result, whatever the inputs.
const LEAST_COSINE: f64 = 0.9995;

fn normal(shape: (usize, usize, usize, usize), seed: u64) -> Tensor {
    // Sums of twelve uniform numbers are normal enough, and the same on every run.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let (b, l, n, d) = shape;
    let values: Vec<f32> = (0..b * l * n * d).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// `[D]`, `large` in every 16th channel and 1 elsewhere.
fn channels(dim: usize, large: f32) -> Tensor {
    Tensor::from_iter((0..dim).map(|i| if i % 16 == 3 { large } else { 1.0 }), &Device::Cpu).unwrap()
}

fn check(name: &str, q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) {
    let scale = 1.0 / (q.dim(D::Minus1).unwrap() as f64).sqrt();
    let expected = reference::attention(q, k, v, scale, bias).unwrap();
    for dtype in [DType::F32, DType::BF16] {
        let [q, k, v] = [q, k, v].map(|x| x.to_dtype(dtype).unwrap());
        let [one, two] = [1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| attention_int8(&q, &k, &v, scale, bias)).unwrap()
        });
        assert_eq!(values(&one), values(&two), "{name}: one and two threads differ");
        assert_eq!(one.dtype(), dtype);
        let cosine = cosine(&one, &expected);
        assert!(cosine >= LEAST_COSINE, "{name} {dtype:?}: cosine {cosine}");
    }
}

/// Runs this binary's tests once more at every level below the machine's own.
#[test]
fn lower_levels_are_close_too() {
    for level in Level::lower() {
        let mut tests = Command::new(std::env::current_exe().unwrap());
        let tests = tests.env(LEVEL_VARIABLE, level.name()).args(["--skip", "lower_levels_are_close_too"]);
        let run = tests.output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && text.contains("test close_over_odd_shapes ... ok"), "{level:?}: {text}");
    }
}

#[test]
fn close_over_odd_shapes() {
    for [batch, queries, keys, heads, dim] in [
        [1, 1, 1, 1, 1],
        [2, 5, 7, 3, 8],
        [1, 130, 300, 2, 12],
        [1, 257, 513, 1, 64],
        [2, 127, 129, 3, 32],
        [1, 33, 101, 2, 128],
        [1, 20, 31, 1, 160],
    ] {
        let q = normal((batch, queries, heads, dim), 1);
        let (k, v) = (normal((batch, keys, heads, dim), 2), normal((batch, keys, heads, dim), 3));
        check("random", &q, &k, &v, None);
        let bias = normal((batch, heads, queries, keys), 4);
        check("random with bias", &q, &k, &v, Some(&bias));
    }
}

#[test]
fn close_with_outlying_channels() {
    let (shape, dim) = ((1, 600, 2, 128), 128);
    let (q, k, v) = (normal(shape, 1), normal(shape, 2), normal(shape, 3));
    // As large a number in all keys: what the mean takes away.
    let shifted = k.broadcast_add(&channels(dim, 30.0)).unwrap();
    check("shifted keys", &q, &shifted, &v, None);
    // Channels of larger spread, in the keys, in the queries, and in the values.
    check("wide keys", &q, &k.broadcast_mul(&channels(dim, 5.0)).unwrap(), &v, None);
    check("wide queries", &q.broadcast_mul(&channels(dim, 5.0)).unwrap(), &k, &v, None);
    check("wide values", &q, &k, &v.broadcast_mul(&channels(dim, 30.0)).unwrap(), None);
}

/// Whole numbers up to 127 around a mean of zero are rounded to themselves; only the weights of the values are not exact.
#[test]
fn scores_of_whole_numbers_are_exact() {
    let (queries, keys, heads, dim) = (40, 150, 2, 48);
    let whole = |shape, seed| {
        let x = (normal(shape, seed) * 30.0).unwrap().round().unwrap().clamp(-126f32, 126f32).unwrap();
        let ends = Tensor::full(127f32, (1, shape.1, heads, 1), &Device::Cpu).unwrap();
        Tensor::cat(&[&ends, &x.narrow(3, 1, dim - 1).unwrap()], 3).unwrap()
    };
    let q = whole((1, queries, heads, dim), 1);
    let half = whole((1, keys / 2, heads, dim), 2);
    let k = Tensor::cat(&[&half, &half.neg().unwrap()], 1).unwrap();
    let v = normal((1, keys, heads, dim), 3);
    let scale = 1e-4;
    let found = attention_int8(&q, &k, &v, scale, None).unwrap();
    let expected = reference::attention(&q, &k, &v, scale, None).unwrap();
    let error = (&found - &expected).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    let size = expected.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    // Half a unit in the last place of bf16, twice.
    assert!((error / size).sqrt() <= 1.0 / 256.0, "{}", (error / size).sqrt());
}

#[test]
fn not_a_number_stays_visible() {
    let x = normal((1, 40, 1, 16), 1);
    for bad in [f32::NAN, f32::INFINITY] {
        let with_bad = Tensor::cat(&[&x, &Tensor::full(bad, (1, 1, 1, 16), &Device::Cpu).unwrap()], 1).unwrap();
        let whole = Tensor::cat(&[&x, &x.narrow(1, 0, 1).unwrap()], 1).unwrap();
        for [q, k, v] in [[&with_bad, &whole, &whole], [&whole, &with_bad, &whole], [&whole, &whole, &with_bad]] {
            let found = values(&attention_int8(q, k, v, 0.25, None).unwrap());
            let expected = values(&attention(q, k, v, 0.25, None).unwrap());
            assert!(expected.iter().any(|x| !x.is_finite()) && found.iter().any(|x| !x.is_finite()));
        }
    }
}
