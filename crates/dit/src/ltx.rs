//! The LTX-2.x transformer (2.0, 2.3 and 2.5): video and sound, two streams of tokens that attend to each other in every block.
//!
//! A pass takes the latents of both streams, noisy to the same or to different degrees, and predicts both velocities. Every
//! stream is conditioned on a context of its own, and every token has its place in seconds, so that sound and pictures find
//! each other. Version 2.0 projects its contexts in here; later ones gate their attentions and modulate queries and keys of
//! the text; 2.5 has no biases in the feed-forward layers of video.
//!
//! Architecture and names after
//! <https://github.com/Lightricks/LTX-2/tree/400fd3105459/packages/ltx-core/src/ltx_core/model/transformer>, and where that
//! differs, as in the timesteps between the streams, after
//! <https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/models/transformers/transformer_ltx2.py>. The
//! timesteps' embeddings, norms, modulation and gates are f32 in a model of any dtype.

mod attention;
mod block;
mod config;
mod ends;
mod inputs;
mod keys;
mod memory;
mod positions;
mod prepared;
mod stream;
mod time;

use crate::stack::{Stack, packed, unpacked};
use crate::{ComputeAll, Result, Reuse, Sparse};
use block::{Block, Pass};
use candle_core::{DType, Device, Tensor};
pub use config::{LtxConfig, StreamConfig, TextModulation};
use ends::Ends;
pub use inputs::{Contexts, Geometry, Skips, StreamInput};
use inputs::{check_forward, check_prepare, velocity};
pub use keys::{canonical_from_combined, canonical_from_diffusers, key_maps};
use kinora_checkpoint::Weights;
use positions::Positions;
pub use prepared::Prepared;
use std::array::from_fn;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use stream::Stream;
use time::{TIMES, Time};

/// An LTX-2.x transformer.
pub struct LtxModel {
    config: LtxConfig,
    dtype: DType,
    /// The parts around the blocks, of video and of sound.
    ends: [Ends; 2],
    blocks: Stack<Block>,
    /// The positions of the last clip.
    positions: Mutex<Option<Arc<Positions>>>,
}

impl LtxModel {
    /// Reads the weights, by their original names.
    ///
    /// # Errors
    /// A configuration that makes no sense; missing or misshapen tensors.
    pub fn new(config: &LtxConfig, weights: &Weights) -> Result<Self> {
        Self::with_blocks(config, weights, |load| Stack::resident(config.num_layers, weights, load))
    }

    /// Reads the weights for a CUDA device that has no room for all of them: the blocks are streamed from host memory,
    /// each while the one before it computes. The bits are the same. Loading takes room for three blocks.
    ///
    /// # Errors
    /// As [`LtxModel::new`]; another device, or too little memory.
    pub fn streamed(config: &LtxConfig, weights: &Weights) -> Result<Self> {
        Self::with_blocks(config, weights, |load| Stack::streamed(config.num_layers, weights, load))
    }

    fn with_blocks(
        config: &LtxConfig,
        weights: &Weights,
        blocks: impl FnOnce(&dyn Fn(&Weights, usize) -> Result<Block>) -> Result<Stack<Block>>,
    ) -> Result<Self> {
        config.validate()?;
        // These are little work, and every block would see their errors.
        let unquantised = &weights.with_quant(None).with_exact(true);
        if config.keyframes {
            // It marks tokens that stand for single frames, which are appended to those of a clip. No pass here has any.
            let width = config.video.dim();
            unquantised.allowing_zeros().get("keyframes_abs_pos_embedding", (1, width))?;
        }
        let [video, audio] = Stream::BOTH.map(|stream| Ends::new(config, stream, unquantised));
        Ok(Self {
            ends: [video?, audio?],
            blocks: blocks(&|weights, index| Block::new(config, &weights.pp("transformer_blocks").pp(index)))?,
            positions: Mutex::default(),
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// Returns the model's dimensions.
    pub fn config(&self) -> &LtxConfig {
        &self.config
    }

    /// Computes what depends on the contexts and the clip's size alone and is the same on every step. The KV cache takes at
    /// most `kv_cache_bytes`; where it would take more, keys and values are computed in each pass, to the same bits. In a model
    /// that modulates the text by the step's timestep it serves the passes of one step: a caller that makes one pass a step
    /// gives it 0.
    ///
    /// # Errors
    /// Shapes other than those of [`Contexts`], a [`Geometry`] without tokens or time, or whatever candle fails on.
    pub fn prepare(&self, contexts: &Contexts, geometry: &Geometry, kv_cache_bytes: usize) -> Result<Prepared> {
        let clips = check_prepare(&self.config, contexts, geometry)?;
        let [video, audio] = &self.ends;
        let contexts = [video.context(&contexts.video, self.dtype)?, audio.context(&contexts.audio, self.dtype)?];
        let elements: usize = contexts.iter().map(Tensor::elem_count).sum();
        let bytes = 2 * self.blocks.len() * elements * self.dtype.size_in_bytes();
        let each_step = self.config.text_modulation == TextModulation::All;
        Prepared::new(geometry, clips, contexts, [kv_cache_bytes, bytes], each_step, |contexts| {
            let mut found = Vec::with_capacity(self.blocks.len());
            self.blocks.each(|_, block| {
                found.push(block.text_keys_values(contexts, [None, None])?);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(found)
        })
    }

    /// Computes one prediction, of both velocities, in the shapes of the latents and the model's dtype: `video` is
    /// `[B, C, F, H, W]`, `audio` is `[B, C, L, M]` for `M` bins of the mel spectrogram's latents.
    ///
    /// # Errors
    /// Shapes other than those that `prepared` was made for, another model's `prepared`, or whatever candle fails on.
    pub fn forward(&self, video: StreamInput, audio: StreamInput, prepared: &Prepared) -> Result<[Tensor; 2]> {
        self.forward_with([video, audio], prepared, Skips::default(), None, &mut ComputeAll)
    }

    /// Computes [`LtxModel::forward`], except the attentions in `skips`, what `reuse` takes over from earlier passes and what
    /// `sparse` leaves out of the self-attention of video.
    ///
    /// # Errors
    /// As [`LtxModel::forward`]; a block in `skips` that there is not, and those of `reuse`.
    pub fn forward_with(
        &self,
        inputs: [StreamInput; 2],
        prepared: &Prepared,
        skips: Skips,
        sparse: Option<Sparse>,
        reuse: &mut dyn Reuse,
    ) -> Result<[Tensor; 2]> {
        let parts = prepared.parts();
        let geometry = &parts.geometry;
        check_forward(&self.config, &inputs, parts, skips)?;
        let device = inputs[0].latents.device();
        let positions = self.positions(geometry, sparse, device)?;
        let times = self.times(&inputs, &positions, device)?;
        let [video, audio] = [0, 1].map(|i| self.ends[i].tokens(Stream::BOTH[i], inputs[i].latents, self.dtype));
        let (video, audio) = (positions.arranged(&video?)?, audio?);
        // Where passes are so small that queueing their kernels takes much of their time.
        let replays = device.is_cuda()
            && self.config.replay_bytes(geometry, self.dtype) > 0
            && skips.is_none()
            && sparse.is_none()
            && times.iter().all(Time::is_per_clip);
        let replay = replays.then(|| prepared.replay());
        // A recording computes what it was recorded with.
        let step = if replays { None } else { parts.step(&inputs)? };
        let sizes = [[video.dim(1)?, self.config.video.channels], [audio.dim(1)?, self.config.audio.channels]];
        let of_times = times.each_ref().map(Time::tensors).concat();
        let through = |all: [Tensor; 2 + 2 * TIMES], reuse: &mut dyn Reuse| {
            let [video, audio, of_times @ ..] = all;
            let time = |stream: usize| times[stream].with(from_fn(|part| of_times[stream * TIMES + part].clone()));
            let times = [time(0), time(1)];
            let choice = sparse.filter(|sparse| !sparse.dense).map(|sparse| sparse.choice(geometry.video));
            let pass = Pass { times: &times, positions: &positions, choice, skips, parts, step: step.as_deref() };
            self.through_blocks([video, audio], &pass, reuse)
        };
        let mut of_blocks = [video, audio].into_iter().chain(of_times);
        let of_blocks = from_fn(|_| of_blocks.next().unwrap_or_else(|| times[0].embedding().clone()));
        let both = self.blocks.replay_or_compute(replay, of_blocks, positions.clone(), reuse, through)?;
        let [video, audio] = unpacked(&both, sizes)?;
        let video = positions.restored(&video)?;
        Ok([velocity(&video, inputs[0].latents)?, velocity(&audio, inputs[1].latents)?])
    }

    /// Takes tokens through the blocks and the heads; both predictions come as one tensor.
    fn through_blocks(&self, tokens: [Tensor; 2], pass: &Pass, reuse: &mut dyn Reuse) -> Result<Tensor> {
        let time = pass.times[0].embedding();
        let [video, audio] =
            self.blocks.run(tokens, time, reuse, |index, block, tokens| block.forward(tokens, pass, index))?;
        let [of_video, of_audio] = &self.ends;
        packed(&[of_video.head(&video, &pass.times[0])?, of_audio.head(&audio, &pass.times[1])?])
    }

    /// Returns the positions of a clip's tokens, which are the same on all steps.
    fn positions(&self, geometry: &Geometry, sparse: Option<Sparse>, device: &Device) -> Result<Arc<Positions>> {
        let mut last = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(positions) if positions.fit(geometry, sparse) => Ok(positions.clone()),
            _ => Ok(last.insert(Arc::new(Positions::new(&self.config, geometry, sparse, device)?)).clone()),
        }
    }

    /// Embeds the timesteps of both streams.
    fn times(&self, inputs: &[StreamInput; 2], positions: &Positions, device: &Device) -> Result<[Time; 2]> {
        let [video, audio] = inputs;
        let arranged = video.token_timesteps.map(|timesteps| positions.arranged(timesteps)).transpose()?;
        let tokens = [arranged.as_ref(), audio.token_timesteps];
        let time = |i: usize| self.ends[i].time(inputs[i].timestep, tokens[i], inputs[1 - i].timestep, device);
        Ok([time(0)?, time(1)?])
    }
}
