//! One transformer block: in each stream self-attention and attention to the text, then the attention between the streams,
//! then feed-forward layers.

use super::attention::{Attention, Widths};
use super::config::{FEED_FORWARD, LtxConfig, TextModulation};
use super::inputs::Skips;
use super::positions::{Positions, Rope};
use super::prepared::Parts;
use super::stream::Stream;
use super::time::{Modulation, Time};
use crate::Result;
use crate::attention::KeysValues;
use candle_core::{DType, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Choice, Epilogue, Prologue, modulate};
use kinora_nn::Linear;

/// Rows of the modulation between the streams: scales and shifts of the attentions of video to sound and of sound to video,
/// and the gate of what the stream is given.
const EXCHANGE: usize = 5;

/// The inputs that all blocks of one pass share.
pub(super) struct Pass<'a> {
    pub(super) times: &'a [Time; 2],
    pub(super) positions: &'a Positions,
    /// How blocks of tokens are chosen, where the self-attention of video is sparse.
    pub(super) choice: Option<Choice>,
    pub(super) skips: Skips<'a>,
    pub(super) parts: &'a Parts,
    /// What tells the step, where keys and values are kept for its other passes.
    pub(super) step: Option<&'a [u32]>,
}

/// `transformer_blocks.N`.
pub(super) struct Block {
    video: Half,
    audio: Half,
    /// Queries of video, keys and values of sound.
    audio_to_video: Attention,
    /// Queries of sound, keys and values of video.
    video_to_audio: Attention,
}

impl Block {
    pub(super) fn new(config: &LtxConfig, weights: &Weights) -> Result<Self> {
        let (video, audio) = (config.video.dim(), config.audio.dim());
        // Both attentions between the streams have the heads of sound.
        let between = |name: &str, queries, keys| {
            let (heads, head_dim) = (config.audio.num_heads, config.audio.head_dim);
            let widths = Widths { queries, keys, heads, head_dim };
            Attention::new(&widths, config.gated_attention, config.eps, &weights.pp(name))
        };
        Ok(Self {
            video: Half::new(config, Stream::Video, weights)?,
            audio: Half::new(config, Stream::Audio, weights)?,
            audio_to_video: between("audio_to_video_attn", video, audio)?,
            video_to_audio: between("video_to_audio_attn", audio, video)?,
        })
    }

    /// Tokens `[B, L, dim]` of both streams → the same shapes; `index` is the block's place in the KV cache; the first is never
    /// sparse.
    pub(super) fn forward(&self, tokens: &[Tensor; 2], pass: &Pass, index: usize) -> Result<[Tensor; 2]> {
        let [video_time, audio_time] = pass.times;
        let (of_video, of_audio) = (video_time.for_block(&self.video.table)?, audio_time.for_block(&self.audio.table)?);
        let skips = pass.skips.self_attention.contains(&index);
        let attention = |rope| if skips { SelfAttention::Skipped } else { SelfAttention::With(rope) };
        let choice = pass.choice.filter(|_| index > 0);
        let mut video = self.video.to_itself(&tokens[0], &of_video, attention(&pass.positions.video), choice)?;
        let mut audio = self.audio.to_itself(&tokens[1], &of_audio, attention(&pass.positions.audio), None)?;
        let [video_text, audio_text] = self.text(pass, index)?;
        video = self.video.to_text(&video, &of_video, &video_text)?;
        audio = self.audio.to_text(&audio, &of_audio, &audio_text)?;
        drop((video_text, audio_text));
        if !pass.skips.between_streams {
            [video, audio] = self.exchange(&video, &audio, pass)?;
        }
        Ok([self.video.feed_forward(&video, &of_video)?, self.audio.feed_forward(&audio, &of_audio)?])
    }

    /// Returns keys and values of the text, from the KV cache where they are there.
    fn text(&self, pass: &Pass, index: usize) -> Result<[KeysValues; 2]> {
        let [video, audio] = pass.times;
        let compute = || self.text_keys_values(&pass.parts.contexts, [video.for_text(), audio.for_text()]);
        match pass.step {
            Some(step) => pass.parts.step_kv_cache.get(step, index, compute),
            None => pass.parts.kv_cache.get(index, compute),
        }
    }

    /// Computes keys and values of the attention to the text; `contexts [B, S, dim]` are embedded, `times [B, 2, dim]` f32 are
    /// shift and scale that depend on the timestep.
    pub(super) fn text_keys_values(
        &self,
        contexts: &[Tensor; 2],
        times: [Option<&Tensor>; 2],
    ) -> Result<[KeysValues; 2]> {
        let [video, audio] = contexts;
        Ok([self.video.text_keys_values(video, times[0])?, self.audio.text_keys_values(audio, times[1])?])
    }

    /// Lets the streams attend to each other, each to the other as it was before.
    fn exchange(&self, video: &Tensor, audio: &Tensor, pass: &Pass) -> Result<[Tensor; 2]> {
        let [video_time, audio_time] = pass.times;
        let of_video = video_time.for_exchange(&self.video.exchange_table)?;
        let of_audio = audio_time.for_exchange(&self.audio.exchange_table)?;
        let (of_frames, of_sound) = (&pass.positions.video_seconds, &pass.positions.audio);
        let to_video = Exchange { attention: &self.audio_to_video, first_row: 0, eps: self.video.eps };
        let to_audio = Exchange { attention: &self.video_to_audio, first_row: 2, eps: self.video.eps };
        Ok([
            to_video.forward((video, &of_video, of_frames), (audio, &of_audio, of_sound))?,
            to_audio.forward((audio, &of_audio, of_sound), (video, &of_video, of_frames))?,
        ])
    }
}

/// One direction of the attention between the streams.
struct Exchange<'a> {
    attention: &'a Attention,
    /// The row of its scale; the shift is in the next.
    first_row: usize,
    eps: f64,
}

/// Tokens `[B, L, dim]` of a stream, their modulation and their positions.
type Placed<'a> = (&'a Tensor, &'a Modulation<'a>, &'a Rope);

impl Exchange<'_> {
    /// Returns the tokens of a stream after it attended to those of the other.
    fn forward(&self, (x, modulation, rope): Placed, (other, other_modulation, other_rope): Placed) -> Result<Tensor> {
        let Self { attention, first_row, eps } = *self;
        let keys_values = {
            let (scale, shift) = (other_modulation.row(first_row)?, other_modulation.row(first_row + 1)?);
            attention.keys_values(other, modulated(&shift, &scale, eps), Some(other_rope))?
        };
        let queries = {
            let (scale, shift) = (modulation.row(first_row)?, modulation.row(first_row + 1)?);
            attention.queries(x, modulated(&shift, &scale, eps), Some(rope))?
        };
        let y = attention.attend(&queries, &keys_values)?;
        drop((queries, keys_values));
        let gate = &modulation.row(EXCHANGE - 1)?;
        Ok(attention.o.forward_then(&y, Epilogue::GatedResidual { x, gate })?)
    }
}

/// Whether tokens of a stream attend to each other.
#[derive(Clone, Copy)]
enum SelfAttention<'a> {
    With(&'a Rope),
    /// Each keeps to its own values.
    Skipped,
}

/// The parts of a block that belong to one stream.
struct Half {
    table: Tensor,
    self_attention: Attention,
    text_attention: Attention,
    /// Shift and scale of the text's keys and values, where the text is modulated.
    text_table: Option<Tensor>,
    exchange_table: Tensor,
    feed_forward: [Linear; 2],
    eps: f64,
}

impl Half {
    fn new(config: &LtxConfig, stream: Stream, weights: &Weights) -> Result<Self> {
        let own = stream.config(config);
        let (dim, eps) = (own.dim(), config.eps);
        let table = |name: String, rows: usize| -> Result<Tensor> {
            Ok(weights.get_dtype(&name, (rows, dim), DType::F32)?.unsqueeze(0)?)
        };
        let attention = |name: &str| {
            let widths = Widths { queries: dim, keys: dim, heads: own.num_heads, head_dim: own.head_dim };
            Attention::new(&widths, config.gated_attention, eps, &weights.pp(stream.name(name)))
        };
        let feed_forward = weights.pp(stream.name("ff")).pp("net");
        let linear = |weights: &Weights, inputs, outputs| {
            if own.ff_bias { Linear::new(weights, inputs, outputs) } else { Linear::no_bias(weights, inputs, outputs) }
        };
        let text_table = || table(stream.name("prompt_scale_shift_table"), 2);
        Ok(Self {
            table: table(stream.name("scale_shift_table"), config.modulations())?,
            self_attention: attention("attn1")?,
            text_attention: attention("attn2")?,
            text_table: (config.text_modulation != TextModulation::None).then(text_table).transpose()?,
            exchange_table: table(format!("scale_shift_table_a2v_ca_{}", stream.kind()), EXCHANGE)?,
            feed_forward: [
                linear(&feed_forward.pp(0).pp("proj"), dim, FEED_FORWARD * dim)?,
                linear(&feed_forward.pp(2), FEED_FORWARD * dim, dim)?,
            ],
            eps,
        })
    }

    fn to_itself(
        &self,
        x: &Tensor,
        modulation: &Modulation,
        attention: SelfAttention,
        choice: Option<Choice>,
    ) -> Result<Tensor> {
        let y = {
            let (shift, scale) = (modulation.row(0)?, modulation.row(1)?);
            let norm = modulated(&shift, &scale, self.eps);
            match attention {
                SelfAttention::With(rope) => self.self_attention.to_itself(x, norm, rope, choice)?,
                SelfAttention::Skipped => self.self_attention.values_alone(x, norm)?,
            }
        };
        let gate = &modulation.row(2)?;
        Ok(self.self_attention.o.forward_then(&y, Epilogue::GatedResidual { x, gate })?)
    }

    fn to_text(&self, x: &Tensor, modulation: &Modulation, text: &KeysValues) -> Result<Tensor> {
        let attention = &self.text_attention;
        if self.text_table.is_none() {
            let norm = Prologue::RmsNormModulate { modulation: None, eps: self.eps };
            let y = attention.attend(&attention.queries(x, norm, None)?, text)?;
            return Ok(attention.o.forward_then(&y, Epilogue::Residual(x))?);
        }
        let queries = {
            let (shift, scale) = (modulation.row(6)?, modulation.row(7)?);
            attention.queries(x, modulated(&shift, &scale, self.eps), None)?
        };
        let y = attention.attend(&queries, text)?;
        drop(queries);
        let gate = &modulation.row(8)?;
        Ok(attention.o.forward_then(&y, Epilogue::GatedResidual { x, gate })?)
    }

    fn text_keys_values(&self, context: &Tensor, time: Option<&Tensor>) -> Result<KeysValues> {
        let Some(table) = &self.text_table else {
            return self.text_attention.keys_values(context, Prologue::None, None);
        };
        let table = time.map_or_else(|| Ok(table.clone()), |time| time.broadcast_add(table))?;
        let (shift, scale) = (table.narrow(1, 0, 1)?.contiguous()?, table.narrow(1, 1, 1)?.contiguous()?);
        self.text_attention.keys_values(&modulate(context, &shift, &scale)?, Prologue::None, None)
    }

    fn feed_forward(&self, x: &Tensor, modulation: &Modulation) -> Result<Tensor> {
        let (shift, scale, gate) = (modulation.row(3)?, modulation.row(4)?, &modulation.row(5)?);
        let [first, second] = &self.feed_forward;
        let norm = modulated(&shift, &scale, self.eps);
        Ok(Linear::mlp([first, second], x, norm, Epilogue::GatedResidual { x, gate })?)
    }
}

/// RMS norm without a weight, then shift and scale; the result is rounded to the input's dtype once, at the end.
fn modulated<'a>(shift: &'a Tensor, scale: &'a Tensor, eps: f64) -> Prologue<'a> {
    Prologue::RmsNormModulate { modulation: Some((shift, scale)), eps }
}
