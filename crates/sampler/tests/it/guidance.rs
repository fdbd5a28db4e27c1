//! Guidance against diffusers' arithmetic, in f32 and bf16.

use candle_core::{DType, Device, Tensor};
use kinora_sampler::{Error, cfg, cfg_zero_star, check_finite, x0_from_velocity};

use crate::support::{bits, fixture, relative_l2, values};

#[test]
fn cfg_has_the_bits_of_diffusers_in_both_dtypes() {
    let fixture = fixture("guidance.safetensors");
    for dtype in ["float32", "bfloat16"] {
        let of = |name: &str| &fixture[&format!("{dtype}.{name}")];
        let guided = cfg(of("cond"), of("uncond"), 3.7).unwrap();
        assert_eq!(guided.dtype(), of("cfg").dtype());
        assert_eq!(bits(&guided), bits(of("cfg")), "{dtype}");
    }
}

#[test]
fn cfg_zero_star_is_that_of_diffusers() {
    let fixture = fixture("guidance.safetensors");
    for (dtype, tolerance) in [("float32", 1e-6), ("bfloat16", 4e-3)] {
        let of = |name: &str| &fixture[&format!("{dtype}.{name}")];
        let guided = cfg_zero_star(of("cond"), of("uncond"), 3.7).unwrap();
        assert_eq!(guided.dtype(), of("cond").dtype());
        let error = relative_l2(&guided, of("cfg_zero_star"));
        assert!(error <= tolerance, "{dtype}: off by {error:.1e}");
    }
}

#[test]
fn cfg_zero_star_of_a_zero_prediction_is_finite() {
    let cond = Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    let guided = cfg_zero_star(&cond, &cond.zeros_like().unwrap(), 2.0).unwrap();
    assert_eq!(values(&guided), [2.0; 6]);
}

#[test]
fn x0_is_f32_whatever_the_velocity() {
    let x = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    let velocity = Tensor::new(&[0.5f32, -4.0], &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
    let x0 = x0_from_velocity(&x, &velocity, 0.5).unwrap();
    assert_eq!(x0.to_vec1::<f32>().unwrap(), [0.75, 4.0]);
}

#[test]
fn predictions_of_two_shapes_are_an_error() {
    let (a, b) = (Tensor::zeros((1, 2), DType::F32, &Device::Cpu), Tensor::zeros((2, 1), DType::F32, &Device::Cpu));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(matches!(cfg(&a, &b, 1.0), Err(Error::Shape { .. })));
    assert!(matches!(cfg_zero_star(&a, &b, 1.0), Err(Error::Shape { .. })));
}

#[test]
fn one_bad_value_is_seen_in_any_place_and_dtype() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let mut values = vec![1e4f32; 77];
            let good = Tensor::new(values.as_slice(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            assert!(check_finite(&good, || "x".into()).is_ok());
            values[76] = bad;
            let x = Tensor::new(values.as_slice(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let error = check_finite(&x, || "the latents".into()).unwrap_err();
            assert_eq!(error.to_string(), "NaN or infinity in the latents");
        }
    }
}
