//! Transformers of the fixtures, and diffusers' calls of them.
#![allow(dead_code, reason = "every test uses some of it")]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_dit::ltx::{Contexts, Geometry, LtxConfig, LtxModel, Prepared, Skips, StreamInput, key_maps};
use kinora_dit::{ComputeAll, Reuse, Sparse};
use kinora_test_support::{fixture, tensors_and_metadata};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub const KEEP_ALL: usize = usize::MAX;
pub const CASES: [&str; 5] = ["ltx20_t2av", "ltx23_t2av", "ltx23_i2av", "ltx23_two_stages", "ltx25_t2av"];
/// Channels of the latents of sound; the rest of a token's are bins.
const SOUND_CHANNELS: usize = 2;

/// The folder of a case; some have the weights of another.
fn folders(case: &str) -> [PathBuf; 2] {
    let own = fixture("ltx_dit").join(case);
    let has_weights = own.join(FILE).exists();
    [own.clone(), if has_weights { own } else { fixture("ltx_dit/ltx23_t2av") }]
}

const FILE: &str = "diffusion_pytorch_model.safetensors";

pub fn config(case: &str) -> LtxConfig {
    let json = std::fs::read(folders(case)[0].join("config.json")).unwrap();
    LtxConfig::from_diffusers_config(&json).unwrap()
}

/// The weights of a case, of a diffusers directory.
pub fn weights(case: &str, dtype: DType) -> Weights {
    let maps = key_maps();
    let maps: Vec<_> = maps.iter().collect();
    Weights::open(&[folders(case)[1].join(FILE)], &maps, &Device::Cpu, dtype).unwrap()
}

/// The transformer of a case, every tensor of it used.
pub fn model(case: &str, dtype: DType) -> LtxModel {
    let weights = weights(case, dtype);
    let model = LtxModel::new(&config(case), &weights).unwrap();
    weights.finish().unwrap();
    model
}

/// The calls of a case.
pub struct Golden {
    tensors: BTreeMap<String, Tensor>,
    same: BTreeMap<String, String>,
    calls: BTreeMap<String, Value>,
}

impl Golden {
    pub fn new(case: &str) -> Self {
        let (tensors, metadata) = tensors_and_metadata(&folders(case)[0].join("calls.safetensors"));
        let read = |key: &str| metadata[key].as_str();
        let (same, calls) = (serde_json::from_str(read("same")).unwrap(), serde_json::from_str(read("calls")).unwrap());
        Self { tensors, same, calls }
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.iter().map(|(name, call)| self.call_of(name, call)).collect()
    }

    pub fn call(&self, name: &str) -> Call {
        self.call_of(name, &self.calls[name])
    }

    fn get(&self, key: &str) -> Option<&Tensor> {
        self.tensors.get(self.same.get(key).map_or(key, String::as_str))
    }

    fn call_of(&self, name: &str, call: &Value) -> Call {
        let number = |key: &str| call[key].as_u64().unwrap() as usize;
        let video = [number("frames"), number("rows"), number("columns")];
        let tensor = |key: &str| self.get(&format!("{name}.{key}")).cloned();
        let some = |key: &str| tensor(key).unwrap_or_else(|| panic!("{name}.{key}"));
        let audio = some("audio");
        let skipped = call["skipped"].as_array().unwrap().iter().map(|block| block.as_u64().unwrap() as usize);
        Call {
            name: name.to_string(),
            geometry: Geometry { video, audio: audio.dim(1).unwrap(), frame_rate: call["rate"].as_f64().unwrap() },
            latents: [unpacked_video(&some("video"), video), unpacked_audio(&audio)],
            contexts: Contexts { video: some("context.video"), audio: some("context.audio") },
            timesteps: [some("timestep"), some("timestep.audio")],
            tokens: tensor("tokens"),
            skipped: skipped.collect(),
            apart: call["apart"].as_bool().unwrap(),
            out: [unpacked_video(&some("out.video"), video), unpacked_audio(&some("out.audio"))],
        }
    }
}

/// One call of the network.
#[derive(Clone)]
pub struct Call {
    pub name: String,
    pub geometry: Geometry,
    pub latents: [Tensor; 2],
    pub contexts: Contexts,
    pub timesteps: [Tensor; 2],
    pub tokens: Option<Tensor>,
    pub skipped: Vec<usize>,
    pub apart: bool,
    pub out: [Tensor; 2],
}

impl Call {
    pub fn prepare(&self, model: &LtxModel, kv_cache_bytes: usize) -> Prepared {
        model.prepare(&self.contexts, &self.geometry, kv_cache_bytes).unwrap()
    }

    pub fn skips(&self) -> Skips<'_> {
        Skips { self_attention: &self.skipped, between_streams: self.apart }
    }

    pub fn inputs(&self) -> [StreamInput<'_>; 2] {
        let [video, audio] = &self.latents;
        [
            StreamInput { latents: video, timestep: &self.timesteps[0], token_timesteps: self.tokens.as_ref() },
            StreamInput { latents: audio, timestep: &self.timesteps[1], token_timesteps: None },
        ]
    }

    pub fn run(&self, model: &LtxModel, prepared: &Prepared) -> [Tensor; 2] {
        self.run_with(model, prepared, None, &mut ComputeAll)
    }

    pub fn run_with(
        &self,
        model: &LtxModel,
        prepared: &Prepared,
        sparse: Option<Sparse>,
        reuse: &mut dyn Reuse,
    ) -> [Tensor; 2] {
        model.forward_with(self.inputs(), prepared, self.skips(), sparse, reuse).unwrap()
    }

    /// One clip of a call with several.
    pub fn clip(&self, clip: usize) -> Self {
        let one = |x: &Tensor| x.narrow(0, clip, 1).unwrap();
        Self {
            latents: self.latents.each_ref().map(one),
            contexts: Contexts { video: one(&self.contexts.video), audio: one(&self.contexts.audio) },
            timesteps: self.timesteps.each_ref().map(one),
            tokens: self.tokens.as_ref().map(one),
            out: self.out.each_ref().map(one),
            ..self.clone()
        }
    }
}

/// `[B, L, C]` → `[B, C, F, H, W]`.
fn unpacked_video(x: &Tensor, [f, h, w]: [usize; 3]) -> Tensor {
    let (b, _, c) = x.dims3().unwrap();
    x.transpose(1, 2).unwrap().contiguous().unwrap().reshape((b, c, f, h, w)).unwrap()
}

/// `[B, L, C · M]` → `[B, C, L, M]`.
fn unpacked_audio(x: &Tensor) -> Tensor {
    let (b, l, width) = x.dims3().unwrap();
    let x = x.reshape((b, l, SOUND_CHANNELS, width / SOUND_CHANNELS)).unwrap();
    x.transpose(1, 2).unwrap().contiguous().unwrap()
}
