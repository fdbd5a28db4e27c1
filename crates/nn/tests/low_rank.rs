//! Changes of low rank beside weights in fewer bits: what is quantised stays what it is, and nothing of the change is rounded
//! away.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{LoraFile, LoraTarget, Quant, Weights, save_safetensors};
use kinora_kernels::Epilogue;
use kinora_nn::Linear;
use kinora_test_support::{random, relative_l2};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const OUTPUTS: usize = 48;
const INPUTS: usize = 96;
const RANK: usize = 4;
/// Far below the steps in which 8-bit whole numbers and bf16 hold the weights.
const SMALL: f64 = 1e-4;
/// The relative error of f32 sums: the change alone is the difference of two results that are 10⁴ times larger.
const TOLERANCE: f64 = 2e-3;

/// The difference that a small change makes to the layer's results, and the one that it should make.
fn difference(dtype: DType, quant: Option<Quant>) -> (Tensor, Tensor) {
    let device = Device::Cpu;
    let (weight, bias) = (random((OUTPUTS, INPUTS), 1), random(OUTPUTS, 2));
    let (down, up) = (random((RANK, INPUTS), 3), random((OUTPUTS, RANK), 4));
    let up = (up * SMALL).expect("a product");
    let x = random((5, INPUTS), 5);
    let tensors = HashMap::from([
        ("a.weight".to_string(), weight.to_dtype(dtype).expect("weights")),
        ("a.bias".to_string(), bias),
    ]);
    let weights = Weights::from_tensors(tensors, &device, DType::F32).with_quant(quant);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lora.safetensors");
    let pairs =
        [("a.lora_A.weight", &down), ("a.lora_B.weight", &up)].map(|(name, part)| (name.to_string(), part.clone()));
    save_safetensors(&file, &pairs, &BTreeMap::new()).expect("a LoRA");
    let target = LoraTarget::new([("a.weight".to_string(), vec![OUTPUTS, INPUTS])], &[]);
    let changes = LoraFile::open(&file).and_then(|file| file.changes(&target, 1.0)).expect("changes");
    let result = |weights: &Weights| {
        let layer = Linear::new(&weights.pp("a"), INPUTS, OUTPUTS).expect("a layer");
        layer.forward_then(&x, Epilogue::None).expect("a result")
    };
    let changed = result(&weights.with_changes(Arc::new(changes)));
    let expected = x.matmul(&down.t().expect("a matrix")).and_then(|low| low.matmul(&up.t()?)).expect("a product");
    ((changed - result(&weights)).expect("a difference"), expected)
}

#[test]
fn small_changes_are_kept() {
    for (dtype, quant) in [(DType::F32, Some(Quant::Int8)), (DType::BF16, Some(Quant::Int8)), (DType::BF16, None)] {
        let (found, expected) = difference(dtype, quant);
        let error = relative_l2(&found, &expected);
        assert!(error <= TOLERANCE, "{dtype:?}, {quant:?}: {error:.2e}");
    }
}
