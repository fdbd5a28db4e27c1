//! The Wan transformer with sparse self-attention: the order of its tokens changes nothing, and what is left out is little.

mod support;

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Quant, Weights};
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_dit::{ComputeAll, Conditioning, Control, Reuse, Sparse, VideoDit};
use kinora_test_support::{cosine, fixture, random, relative_l2, tensors, values};
use support::model;

const KEEP_ALL: usize = usize::MAX;
/// Sums in another order.
const F32_TOLERANCE: f64 = 1e-5;
/// Frames, rows and columns of tokens: 17 blocks, of which the first two and the last two are always kept.
const GRID: [usize; 3] = [15, 10, 14];
const SPARSE: Sparse = Sparse { keep: 0.4, references: 0, dense: false };

fn predict(model: &WanModel, conditioning: &Conditioning, [x, time]: [&Tensor; 2], sparse: Option<Sparse>) -> Tensor {
    let prepared = model.prepare(conditioning, KEEP_ALL).unwrap();
    model.forward_with(x, time, &prepared, sparse, &mut ComputeAll).unwrap()
}

/// Models with pictures, control blocks, a camera and timesteps per token, whose every input has tokens to be arranged.
#[test]
fn the_order_of_tokens_changes_nothing() {
    for (folder, case, net) in [
        ("conditioned/i2v", "conditioned", "i2v"),
        ("conditioned/vace", "conditioned", "vace"),
        ("conditioned/camera", "conditioned", "camera"),
        ("wan22_ti2v_t2v", "wan22_ti2v_t2v", "transformer"),
    ] {
        let file = if case == "conditioned" { "golden.safetensors" } else { "golden_forward.safetensors" };
        let golden = tensors(&fixture(folder).join(file));
        let conditioning = Conditioning {
            image: golden.get("image").cloned(),
            latents: golden.get("latents").cloned(),
            control: golden.get("control").map(|latents| Control { latents: latents.clone(), scale: 1.0 }),
            camera: (net == "camera").then(|| {
                let (b, _, f, h, w) = golden["in"].dims5().unwrap();
                random((b, 24, f, 8 * h, 8 * w), 3)
            }),
            ..Conditioning::new(golden["context"].clone())
        };
        let model = model(case, net, DType::F32);
        let inputs = [&golden["in"], &golden["timestep"]];
        let expected = predict(&model, &conditioning, inputs, None);
        for references in [0, 1] {
            let sparse = Sparse { references, dense: true, ..SPARSE };
            let found = predict(&model, &conditioning, inputs, Some(sparse));
            let error = relative_l2(&found, &expected);
            assert!(error <= F32_TOLERANCE, "{net}, {references} references: {error:e}");
        }
    }
}

/// A model with random weights.
fn random_model(layers: usize, quant: Option<Quant>, dtype: DType) -> WanModel {
    let json = format!(
        r#"{{"num_attention_heads": 3, "attention_head_dim": 32, "in_channels": 4, "out_channels": 4, "text_dim": 16,
        "freq_dim": 32, "ffn_dim": 128, "num_layers": {layers}}}"#
    );
    let config = WanConfig::from_diffusers_config(json.as_bytes()).unwrap();
    WanModel::new(&config, &Weights::random(7, &Device::Cpu, dtype).with_quant(quant)).unwrap()
}

fn random_pass(model: &WanModel, dtype: DType, sparse: Option<Sparse>, reuse: &mut dyn Reuse) -> Tensor {
    let [f, h, w] = GRID;
    let x = random((1, 4, f, 2 * h, 2 * w), 1).to_dtype(dtype).unwrap();
    let context = random((1, 20, 16), 2).to_dtype(dtype).unwrap();
    let prepared = model.prepare(&Conditioning::new(context), KEEP_ALL).unwrap();
    let time = Tensor::new(&[700f32], &Device::Cpu).unwrap();
    model.forward_with(&x, &time, &prepared, sparse, reuse).unwrap()
}

#[test]
fn something_is_left_out_after_the_first_block() {
    let pass =
        |layers, sparse| random_pass(&random_model(layers, None, DType::F32), DType::F32, sparse, &mut ComputeAll);
    let dense = Some(Sparse { dense: true, ..SPARSE });
    assert_eq!(values(&pass(1, Some(SPARSE))), values(&pass(1, dense)), "the first block is dense");
    let error = relative_l2(&pass(2, Some(SPARSE)), &pass(2, dense));
    assert!(error > 1e-4 && error < 0.1, "{error:e}");
    let [one, two] = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| values(&pass(2, Some(SPARSE))))
    });
    assert_eq!(one, two, "one and two threads differ");
}

#[test]
fn sparse_attention_is_quantised_like_dense() {
    let exact = random_pass(&random_model(3, None, DType::F32), DType::F32, Some(SPARSE), &mut ComputeAll);
    for (quant, dtype) in [(None, DType::BF16), (Some(Quant::Int8), DType::F32), (Some(Quant::Int8), DType::BF16)] {
        let found = random_pass(&random_model(3, quant, dtype), dtype, Some(SPARSE), &mut ComputeAll);
        assert_eq!(found.dtype(), dtype);
        let cosine = cosine(&found, &exact);
        assert!(cosine >= 0.999, "{quant:?} {dtype:?}: {cosine}");
    }
}

/// Keeps the tokens around the first block.
#[derive(Default)]
struct FirstBlock(Vec<Vec<f32>>);

impl Reuse for FirstBlock {
    fn before_blocks(&mut self, _: &Tensor, _: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        Ok(None)
    }

    fn after_first_block(&mut self, before: &Tensor, after: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        self.0.extend([values(before), values(after)]);
        Ok(None)
    }

    fn after_last_block(&mut self, _: &Tensor) -> kinora_dit::Result<()> {
        Ok(())
    }
}

/// A step cache adds the change that a dense pass left to the tokens of a sparse one.
#[test]
fn dense_and_sparse_passes_of_a_run_have_their_tokens_in_one_order() {
    let model = random_model(2, None, DType::F32);
    let seen = [true, false].map(|dense| {
        let mut reuse = FirstBlock::default();
        random_pass(&model, DType::F32, Some(Sparse { dense, ..SPARSE }), &mut reuse);
        reuse.0
    });
    assert_eq!(seen[0].len(), 2);
    assert_eq!(seen[0], seen[1]);
}
