//! Norms, rotary positions and elementwise operators.

use crate::{DTYPES, agree, with_gpu};
use kinora_kernels::{self as kernels, Repeat, reference};
use kinora_test_support::random;

/// Items, tokens and channels.
const SIZES: [[usize; 3]; 4] = [[2, 5, 64], [1, 33, 1536], [2, 7, 5120], [1, 3, 100]];

#[test]
fn norms() {
    with_gpu(|gpu| {
        for [b, l, c] in SIZES {
            let (x, w, bias) = (random((b, l, c), 1), random(c, 3), random(c, 4));
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
        }
    });
}

#[test]
fn modulation() {
    with_gpu(|gpu| {
        for [b, l, c] in SIZES {
            let (x, y) = (random((b, l, c), 1), random((b, l, c), 2));
            for shape in [(1, 1, c), (b, 1, c), (1, l, c), (b, l, c)] {
                let (shift, scale) = (random(shape, 5), random(shape, 6));
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
                    "rms_norm_modulate",
                    &DTYPES,
                    &[&x, &shift, &scale],
                    |t| kernels::rms_norm_modulate(&t[0], Some((&t[1], &t[2])), 1e-6),
                    |t| reference::rms_norm_modulate(&t[0], Some((&t[1], &t[2])), 1e-6),
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
        }
    });
}

#[test]
fn activations() {
    with_gpu(|gpu| {
        for size in SIZES {
            let x = random(size.to_vec(), 1);
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
            let x = random((b, h, w, c), 1);
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
            let (x, w) = (random((b, l, n, d), 1), random(n * d, 2));
            let angles = random((l, d / 2), 3);
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
            let angles = random((l, n * d / 2), 4);
            let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
            let [cos_there, sin_there] = [&cos, &sin].map(|x| x.to_device(gpu).unwrap());
            agree(
                gpu,
                "rms_norm_rope_split",
                &DTYPES,
                &[&x, &w],
                |t| kernels::rms_norm_rope_split(&t[0], &t[1], 1e-6, &cos_there, &sin_there),
                |t| reference::rms_norm_rope_split(&t[0], &t[1], 1e-6, &cos, &sin),
            );
            agree(
                gpu,
                "gate_heads",
                &DTYPES,
                &[&x, &random((b, l, n), 5)],
                |t| kernels::gate_heads(&t[0], &t[1]),
                |t| reference::gate_heads(&t[0], &t[1]),
            );
        }
    });
}

#[test]
fn channel_norm() {
    with_gpu(|gpu| {
        for (rows, channels) in [(7, 16), (131, 96), (9, 384), (5, 1024), (3, 1280), (4, 12)] {
            let (x, gamma) = (random((1, rows, 1, channels), 1), random(channels, 2));
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
