//! Files that torch wrote (scripts/fixtures/checkpoint.py), and damaged ones.

use crate::fixture;
use candle_core::{DType, Device};
use kinora_checkpoint::{Dtype, TensorFile, Weights};

#[test]
fn tensors_are_those_that_torch_wrote() {
    let expected = TensorFile::open(&fixture("plain.safetensors")).unwrap();
    assert_eq!(expected.metadata()["made"], "by torch");
    for (name, extra) in [("plain.pth", 1), ("wrapped.pth", 0)] {
        let file = TensorFile::open(&fixture(name)).unwrap();
        assert_eq!(file.infos().len(), 11 + extra);
        for info in file.infos() {
            let (found, expected) = (file.tensor(&info.name).unwrap(), expected.tensor(&info.name).unwrap());
            assert_eq!(found.dims(), expected.dims(), "{}", info.name);
            assert_eq!(found.dtype(), expected.dtype(), "{}", info.name);
            let flat = |tensor: &candle_core::Tensor| {
                tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            assert_eq!(flat(&found), flat(&expected), "{}", info.name);
        }
    }
}

#[test]
fn weights_from_pth() {
    let weights = Weights::open(&[fixture("wrapped.pth")], &[], &Device::Cpu, DType::F32).unwrap();
    assert_eq!(weights.pp("block").pp(0).get("weight", (5, 7)).unwrap().dtype(), DType::F32);
    assert_eq!(weights.get("transposed", (2, 3, 4)).unwrap().dims(), [2, 3, 4]);
    let integers = Weights::open(&[fixture("integers.pth")], &[], &Device::Cpu, DType::F32).unwrap();
    assert_eq!(
        integers.get("steps", 3).unwrap_err().to_string(),
        "tensor `steps` is stored as I64, which cannot be used as a weight"
    );
}

#[test]
fn refusals_say_why() {
    let refusal = |name: &str| {
        let error = TensorFile::open(&fixture(name)).err().unwrap();
        assert!(error.hint().is_some());
        error.to_string().split_once(".pth: ").unwrap().1.to_string()
    };
    assert_eq!(refusal("legacy.pth"), "it is a PyTorch file from before version 1.6, not tensors");
    assert_eq!(refusal("module.pth"), "it holds no state dict (a dictionary of tensors), which is not read yet");
    assert_eq!(refusal("mixed.pth"), "`step` is not a tensor, which is not read yet");
    assert_eq!(
        refusal("expanded.pth"),
        "tensor `weight`: shape [1099511627776, 2] with strides [0, 1] does not fit into its storage"
    );
}

#[test]
fn slices_of_pth() {
    let file = TensorFile::open(&fixture("plain.pth")).unwrap();
    let rows = file.narrow("block.0.weight", 0, 3, 2).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(rows, file.tensor("tail").unwrap().to_vec2::<f32>().unwrap());
    assert!(file.narrow("transposed", 0, 0, 1).is_err());
    assert_eq!(file.infos().iter().find(|info| info.name == "half").unwrap().dtype, Dtype::F16);
}

/// Damage anywhere in the file (directory, pickle, data) leads to a result.
#[test]
fn mutated_files_never_panic() {
    let seed = std::fs::read(fixture("plain.pth")).unwrap();
    let mut state = 7u64;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for _ in 0..4000 {
        let mut bytes = seed.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes.truncate(at.max(4)),
                1 => bytes[at] = b"(.tuRQ}]bcJKX\x85\x86\x87\x8a\xff"[random(18)],
                _ => bytes[at] = random(256) as u8,
            }
        }
        let Ok(file) = TensorFile::from_static("file.pth", bytes.leak()) else { continue };
        for info in file.infos() {
            let _ = file.tensor(&info.name);
        }
    }
}
