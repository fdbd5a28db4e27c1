//! The network against ncnn, the runtime that it is packed for; `scripts/fixtures/upscaler.py` made the numbers.

#![allow(clippy::print_stderr, reason = "measured differences are reported")]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_test_support::{fixture, tensors, values};
use kinora_upscaler::{SCALE, Span};
use std::collections::BTreeMap;

#[test]
fn enlarges_like_ncnn() {
    let golden = tensors(&fixture("upscaler/golden.safetensors"));
    let (picture, expected) = (&golden["picture"], &golden["enlarged"]);
    let (_, h, w) = picture.dims3().unwrap();
    for (dtype, least) in [(DType::F32, 110.0), (DType::F16, 60.0)] {
        let span = Span::embedded(&Device::Cpu, dtype).unwrap();
        let x = picture.permute((1, 2, 0)).unwrap().unsqueeze(0).unwrap().contiguous().unwrap();
        let found = span.forward(&x).unwrap().reshape(vec![h, w, 3, SCALE, SCALE]).unwrap();
        let found = found.permute(vec![2, 0, 3, 1, 4]).unwrap().reshape((3, SCALE * h, SCALE * w)).unwrap();
        let psnr = psnr(&values(&found), &values(expected));
        eprintln!("{dtype:?}: {psnr:.1} dB");
        assert!(psnr >= least, "{dtype:?}: {psnr:.1} dB");
    }
    let span = Span::embedded(&Device::Cpu, DType::F32).unwrap();
    let clipped: Vec<f32> = values(expected).iter().map(|x| x.clamp(0.0, 1.0)).collect();
    let psnr = psnr(&span.enlarge(&values(picture), w, h).unwrap(), &clipped);
    assert!(psnr >= 110.0, "frames: {psnr:.1} dB");
}

#[test]
fn asks_for_every_tensor_that_is_compiled_in() {
    let recorder = Weights::recorder();
    Span::new(&recorder).unwrap();
    let stored = candle_core::safetensors::load_buffer(kinora_span::WEIGHTS, &Device::Cpu).unwrap();
    let shape = |(name, tensor): (String, Tensor)| (name, tensor.dims().to_vec());
    assert_eq!(recorder.asked(), stored.into_iter().map(shape).collect::<BTreeMap<_, _>>());
}

/// Between values of 0..1.
fn psnr(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = found.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    -10.0 * (square / found.len() as f64).log10()
}
