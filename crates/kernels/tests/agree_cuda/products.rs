//! Attention and convolutions.

use crate::{DTYPES, agree, with_gpu};
use candle_core::{DType, Tensor};
use kinora_kernels::{self as kernels, FrameConv, FrameConvOptions, reference};
use kinora_test_support::random;

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
            let (q, k, v) = (spread(random((b, l, n, d), 1)), random((b, s, n, d), 2), random((b, s, n, d), 3));
            let scale = (d as f64).sqrt().recip();
            let biases = [None, Some((1, 1, 1, s)), Some((b, 1, 1, s)), Some((1, n, l, s))];
            for bias in biases.map(|shape| shape.map(|shape| spread(random(shape, 4)))) {
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
            let (q, k, v) = (random((b, l, n, 128), 1), random((b, s, n, 128), 2), random((b, s, n, 128), 3));
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
        let down = FrameConvOptions { stride: 2, padding: (0, 1), ..Default::default() };
        let up = FrameConvOptions { padding: (1, 1), upsample: true, ..Default::default() };
        let reflected = FrameConvOptions { padding: (1, 1), reflect: true, ..Default::default() };
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
            ([3, 3, 3], reflected, [1, 9, 14], [16, 96]),
        ];
        for (kernel, options, [b, h, w], [inputs, outputs]) in cases {
            let [kf, kh, kw] = kernel;
            let fan_in = (inputs * kf * kh * kw) as f64;
            let weight = (random((outputs, inputs, kf, kh, kw), 10) * fan_in.sqrt().recip()).unwrap();
            let bias = random(outputs, 11);
            let frames: Vec<Tensor> = (0..kf).map(|tap| random((b, h, w, inputs), tap as u64)).collect();
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
