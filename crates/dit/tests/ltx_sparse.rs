//! The LTX-2.x transformer with sparse self-attention of video: the order of its tokens changes nothing, and what is left out is
//! little.

mod ltx_support;

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_dit::ltx::{Contexts, Geometry, LtxConfig, LtxModel, Skips, StreamInput};
use kinora_dit::{ComputeAll, Sparse};
use kinora_test_support::{random, relative_l2, values};
use ltx_support::{Golden, KEEP_ALL, model};

/// Sums in another order.
const F32_TOLERANCE: f64 = 1e-5;
/// Frames, rows and columns of tokens: 17 blocks, of which the first two and the last two are always kept.
const GRID: [usize; 3] = [15, 10, 14];
const SPARSE: Sparse = Sparse { keep: 0.4, references: 0, dense: false };

#[test]
fn the_order_of_tokens_changes_nothing() {
    for case in ["ltx20_t2av", "ltx23_t2av", "ltx25_t2av"] {
        let (model, golden) = (model(case, DType::F32), Golden::new(case));
        for call in ["more0", "more1", "more2"].map(|name| golden.call(name)) {
            let prepared = call.prepare(&model, KEEP_ALL);
            for references in [0, 1] {
                let sparse = Sparse { references, dense: true, ..SPARSE };
                let found = call.run_with(&model, &prepared, Some(sparse), &mut ComputeAll);
                for (found, expected) in found.iter().zip(&call.out) {
                    let error = relative_l2(found, expected);
                    assert!(error <= F32_TOLERANCE, "{case} {}, {references} references: {error:e}", call.name);
                }
            }
        }
    }
}

fn random_pass(layers: usize, sparse: Sparse) -> [Tensor; 2] {
    let json = format!(
        r#"{{"num_attention_heads": 3, "attention_head_dim": 32, "cross_attention_dim": 96, "in_channels": 8, "out_channels": 8,
        "audio_num_attention_heads": 3, "audio_attention_head_dim": 16, "audio_cross_attention_dim": 48, "audio_in_channels": 8,
        "audio_out_channels": 8, "num_layers": {layers}, "caption_channels": 16, "rope_type": "split"}}"#
    );
    let config = LtxConfig::from_diffusers_config(json.as_bytes()).unwrap();
    let model = LtxModel::new(&config, &Weights::random(7, &Device::Cpu, DType::F32)).unwrap();
    let contexts = Contexts { video: random((1, 20, 16), 1), audio: random((1, 20, 16), 2) };
    let prepared = model.prepare(&contexts, &Geometry { video: GRID, audio: 30, frame_rate: 24.0 }, 0).unwrap();
    let [f, h, w] = GRID;
    let (video, audio) = (random((1, 8, f, h, w), 3), random((1, 2, 30, 4), 4));
    let timestep = Tensor::new(&[700f32], &Device::Cpu).unwrap();
    let inputs = [&video, &audio].map(|latents| StreamInput { latents, timestep: &timestep, token_timesteps: None });
    model.forward_with(inputs, &prepared, Skips::default(), Some(sparse), &mut ComputeAll).unwrap()
}

#[test]
fn something_is_left_out_after_the_first_block() {
    let dense = Sparse { dense: true, ..SPARSE };
    let all = |pass: [Tensor; 2]| pass.each_ref().map(values);
    assert_eq!(all(random_pass(1, SPARSE)), all(random_pass(1, dense)), "the first block is dense");
    let (sparse, dense) = (random_pass(2, SPARSE), random_pass(2, dense));
    let error = relative_l2(&sparse[0], &dense[0]);
    assert!(error > 1e-4 && error < 0.1, "{error:e}");
    let [one, two] = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| all(random_pass(2, SPARSE)))
    });
    assert_eq!(one, two, "one and two threads differ");
}
