//! Norms, rotary positions and elementwise operators.

use crate::agree;
use candle_core::{DType, Device, Tensor};
use kinora_kernels::{self as kernels, Repeat, SNAKE_TAPS, Snake, reference};
use kinora_test_support::{random, values};

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
        agree(
            "rms_norm_silu",
            &[&x, &weight],
            |t| kernels::rms_norm_silu(&t[0], &t[1], 1e-8),
            |t| reference::rms_norm_silu(&t[0], &t[1], 1e-8),
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
        let angles = random((tokens, heads * dim / 2), 4);
        let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
        agree(
            "rms_norm_rope_split",
            &[&x, &random(heads * dim, 3)],
            |t| kernels::rms_norm_rope_split(&t[0], &t[1], 1e-6, &cos, &sin),
            |t| reference::rms_norm_rope_split(&t[0], &t[1], 1e-6, &cos, &sin),
        );
        let gates = (random((batch, tokens, heads), 5) * 4.0).unwrap();
        agree(
            "gate_heads",
            &[&x, &gates],
            |t| kernels::gate_heads(&t[0], &t[1]),
            |t| reference::gate_heads(&t[0], &t[1]),
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
                "rms_norm_modulate",
                &[&x, &shift, &scale],
                |t| kernels::rms_norm_modulate(&t[0], Some((&t[1], &t[2])), 1e-6),
                |t| reference::rms_norm_modulate(&t[0], Some((&t[1], &t[2])), 1e-6),
            );
            agree(
                "rms_norm_modulate by nothing",
                &[&x],
                |t| kernels::rms_norm_modulate(&t[0], None, 1e-6),
                |t| reference::rms_norm_modulate(&t[0], None, 1e-6),
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
    for len in [0, 15, 40_000] {
        let (x, y) = (random((1, len), 2), (random((1, len), 3) * 6.0).unwrap());
        agree(
            "parameter_free_attention",
            &[&x, &y],
            |t| kernels::parameter_free_attention(&t[0], &t[1]),
            |t| reference::parameter_free_attention(&t[0], &t[1]),
        );
    }
    let extremes = Tensor::from_slice(&[-1e30f32, -1e4, -90.0, 0.0, 90.0, 1e4, 1e30], 7, &Device::Cpu).unwrap();
    for y in [kernels::gelu_tanh(&extremes), kernels::silu(&extremes)] {
        let y = values(&y.unwrap());
        assert_eq!(y[3..], [0.0, 90.0, 1e4, 1e30]);
        assert!(y[..3].iter().all(|y| y.abs() < 1e-6), "{y:?}");
    }
}

#[test]
fn leaky_relu() {
    for len in [0, 15, 40_000] {
        let x = random((1, len), 1);
        agree("leaky_relu", &[&x], |t| kernels::leaky_relu(&t[0], 0.1), |t| reference::leaky_relu(&t[0], 0.1));
    }
}

/// Shorter than the filters, a task and its rest, channels that fill registers and others.
#[test]
fn snake() {
    let [up, down] = [random(SNAKE_TAPS, 4), random(SNAKE_TAPS, 5)].map(|x| (x / 12f64.sqrt()).unwrap());
    for ([batch, l, channels], padding) in
        [([1, 1, 1], 0), ([2, 3, 17], 2), ([1, 64, 24], 25), ([1, 65, 768], 0), ([3, 200, 45], 5)]
    {
        let x = (random((batch, l, channels), 1) * 2.0).unwrap();
        let [alpha, scale] = [2, 3].map(|seed| (random(channels, seed) * 0.5).unwrap().exp().unwrap());
        agree(
            "snake",
            &[&x, &alpha, &scale],
            |t| Snake::new(t[1].clone(), t[2].clone(), up.clone(), down.clone())?.forward(&t[0], padding),
            |t| reference::snake(&t[0], [&t[1], &t[2], &up, &down], padding),
        );
    }
}
