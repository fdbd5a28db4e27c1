//! The causal convolution makes of a clip, frame by frame, what a convolution makes of the whole.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{FrameConvOptions, reference};
use kinora_nn::{CausalCache, CausalConv3d, ChannelRmsNorm, Conv2d};
use kinora_test_support::values;
use std::collections::HashMap;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
}

fn weights(tensors: &[(&str, &Tensor)]) -> Weights {
    let tensors: HashMap<String, Tensor> =
        tensors.iter().map(|(name, t)| ((*name).to_string(), (*t).clone())).collect();
    Weights::from_tensors(tensors, &Device::Cpu, DType::F32)
}

#[test]
fn frames_equal_the_whole_clip() {
    let (weight, bias) = (random(&[3, 2, 3, 3, 3]), random(&[3]));
    let weights = weights(&[("weight", &weight), ("bias", &bias)]);
    let clip: Vec<Tensor> = (0..8).map(|_| random(&[1, 5, 6, 2])).collect();
    let options = FrameConvOptions { padding: (1, 1), ..Default::default() };
    for stride in [1, 2, 3] {
        let conv = CausalConv3d::new(&weights, 2, 3, [3; 3], stride, 1).unwrap();
        let mut cache = CausalCache::default();
        for (index, frames) in clip.chunks_exact(stride).enumerate() {
            let found = conv.forward(frames, &mut cache, None).unwrap();
            // The present frames end the kernel, whatever the stride.
            let last = index * stride + stride;
            let taps: Vec<Option<&Tensor>> = (0..3).map(|tap| (last + tap).checked_sub(3).map(|i| &clip[i])).collect();
            let expected = reference::frame_conv(&taps, &weight, &bias, options, None).unwrap();
            for (found, expected) in values(&found).into_iter().zip(values(&expected)) {
                assert!((found - expected).abs() < 1e-4, "stride {stride}, frame {index}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn a_cache_of_a_frame_stands_for_the_past() {
    let (weight, bias) = (random(&[3, 2, 3, 1, 1]), random(&[3]));
    let weights = weights(&[("weight", &weight), ("bias", &bias)]);
    let conv = CausalConv3d::new(&weights, 2, 3, [3, 1, 1], 2, 0).unwrap();
    let [past, one, other] = [0; 3].map(|_| random(&[1, 4, 4, 2]));
    let mut cache = CausalCache::default();
    conv.forward(&[random(&[1, 4, 4, 2]), past.clone()], &mut cache, None).unwrap();
    let frames = [one, other];
    let found = conv.forward(&frames, &mut CausalCache::of(past), None).unwrap();
    assert_eq!(values(&found), values(&conv.forward(&frames, &mut cache, None).unwrap()));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (weight, bias) = (random(&[3, 2, 3, 1, 1]), random(&[3]));
    let weights = weights(&[("weight", &weight), ("bias", &bias)]);
    assert!(CausalConv3d::new(&weights, 2, 3, [3, 1, 1], 4, 0).is_err());
    assert!(CausalConv3d::new(&weights, 2, 3, [3, 1, 1], 0, 0).is_err());
    let conv = CausalConv3d::new(&weights, 2, 3, [3, 1, 1], 2, 0).unwrap();
    let frames = [0; 3].map(|_| random(&[1, 4, 4, 2]));
    assert!(conv.forward(&frames, &mut CausalCache::default(), None).is_err());
    assert!(conv.forward(&frames[..2], &mut CausalCache::of(random(&[1, 4, 5, 2])), None).is_err());
    assert!(conv.forward(&frames[..2], &mut CausalCache::default(), Some(&random(&[1, 4, 4, 2]))).is_err());
}

#[test]
fn convolution_and_norm_of_a_frame() {
    let (weight, bias, gamma) = (random(&[3, 2, 3, 3]), random(&[3]), random(&[2, 1, 1]));
    let weights = weights(&[("weight", &weight), ("bias", &bias), ("gamma", &gamma)]);
    let x = random(&[1, 6, 7, 2]);
    let conv = Conv2d::new(&weights, 2, 3, 3, FrameConvOptions { stride: 2, padding: (0, 1), ..Default::default() });
    assert_eq!(conv.unwrap().forward(&x, None).unwrap().dims(), [1, 3, 3, 3]);
    let norm = ChannelRmsNorm::new(&weights, (2, 1, 1)).unwrap();
    let expected = kinora_kernels::silu(&norm.forward(&x).unwrap()).unwrap();
    assert_eq!(values(&norm.forward_silu(&x).unwrap()), values(&expected));
}
