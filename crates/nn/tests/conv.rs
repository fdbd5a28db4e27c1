//! The causal convolution gives the same frames however the clip is cut.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Conv3dOptions, conv3d};
use kinora_nn::{CausalConv3d, ChannelRmsNorm, Conv2d};
use std::collections::HashMap;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
}

fn weights(tensors: &[(&str, &Tensor)]) -> Weights {
    let tensors: HashMap<String, Tensor> =
        tensors.iter().map(|(name, t)| ((*name).to_string(), (*t).clone())).collect();
    Weights::from_tensors(tensors, &Device::Cpu, DType::F32)
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn chunks_equal_the_whole_clip() {
    let (weight, bias) = (random(&[3, 2, 3, 3, 3]), random(&[3]));
    let weights = weights(&[("weight", &weight), ("bias", &bias)]);
    let clip = random(&[1, 2, 8, 5, 6]);
    for stride in [1, 2] {
        let conv = CausalConv3d::new(&weights, 2, 3, [3; 3], [stride, 1, 1], [1, 1]).unwrap();
        let options = Conv3dOptions { stride: [stride, 1, 1], padding: [(3 - stride, 0), (1, 1), (1, 1)] };
        let whole = conv3d(&clip, &weight, Some(&bias), options).unwrap();
        for chunks in [vec![8], vec![2, 4, 2], vec![stride; 8 / stride]] {
            let (mut cache, mut start, mut frames) = (None, 0, Vec::new());
            for chunk in chunks {
                frames.push(conv.forward(&clip.narrow(2, start, chunk).unwrap(), &mut cache).unwrap());
                start += chunk;
            }
            assert_eq!(values(&Tensor::cat(&frames, 2).unwrap()), values(&whole));
            assert_eq!(cache.unwrap().dims(), [1, 2, 3 - stride, 5, 6]);
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (weight, bias) = (random(&[3, 2, 3, 1, 1]), random(&[3]));
    let weights = weights(&[("weight", &weight), ("bias", &bias)]);
    assert!(CausalConv3d::new(&weights, 2, 3, [3, 1, 1], [4, 1, 1], [0, 0]).is_err());
    let conv = CausalConv3d::new(&weights, 2, 3, [3, 1, 1], [2, 1, 1], [0, 0]).unwrap();
    assert!(conv.forward(&random(&[1, 2, 3, 4, 4]), &mut None).is_err());
    assert!(conv.forward(&random(&[1, 2, 2, 4, 4]), &mut Some(random(&[1, 2, 1, 4, 5]))).is_err());
}

#[test]
fn convolution_and_norm_of_every_frame() {
    let (weight, bias, gamma) = (random(&[3, 2, 3, 3]), random(&[3]), random(&[2, 1, 1]));
    let weights = weights(&[("weight", &weight), ("bias", &bias), ("gamma", &gamma)]);
    let x = random(&[1, 2, 3, 6, 7]);
    let conv = Conv2d::new(&weights, 2, 3, 3, 2, (0, 1)).unwrap();
    assert_eq!(conv.forward(&x).unwrap().dims(), [1, 3, 3, 3, 3]);
    let norm = ChannelRmsNorm::new(&weights, (2, 1, 1)).unwrap();
    let expected = kinora_kernels::silu(&norm.forward(&x).unwrap()).unwrap();
    assert_eq!(values(&norm.forward_silu(&x).unwrap()), values(&expected));
}
