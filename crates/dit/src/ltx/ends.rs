//! The parts of one stream before and after the blocks: its tokens, its context, its timesteps and its head.

use super::config::LtxConfig;
use super::stream::Stream;
use super::time::{Time, TimeEmbedding};
use crate::Result;
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, Prologue};
use kinora_nn::Linear;

/// Epsilon of the norm before the head, which no configuration changes.
const HEAD_EPS: f64 = 1e-6;

pub(super) struct Ends {
    patchify: Linear,
    /// `caption_projection`, which 2.0 has.
    context: Option<[Linear; 2]>,
    time: TimeEmbedding,
    head_table: Tensor,
    head: Linear,
}

impl Ends {
    pub(super) fn new(config: &LtxConfig, stream: Stream, weights: &Weights) -> Result<Self> {
        let (dim, channels) = (stream.config(config).dim(), stream.config(config).channels);
        let part = |name: &str| weights.pp(stream.name(name));
        let projection = |text_dim| {
            let layers = part("caption_projection");
            let first = Linear::new(&layers.pp("linear_1"), text_dim, dim)?;
            Ok::<_, crate::Error>([first, Linear::new(&layers.pp("linear_2"), dim, dim)?])
        };
        let table = weights.get_dtype(&stream.name("scale_shift_table"), (2, dim), DType::F32)?;
        Ok(Self {
            patchify: Linear::new(&part("patchify_proj"), channels, dim)?,
            context: config.text_dim.map(projection).transpose()?,
            time: TimeEmbedding::new(config, stream, weights)?,
            head_table: table.unsqueeze(0)?,
            head: Linear::new(&part("proj_out"), dim, channels)?,
        })
    }

    /// Returns the embedded context `[B, S, dim]`.
    pub(super) fn context(&self, context: &Tensor, dtype: DType) -> Result<Tensor> {
        let context = context.to_dtype(dtype)?;
        match &self.context {
            Some([first, second]) => Ok(second.forward(&first.forward_then(&context, Epilogue::GeluTanh)?)?),
            None => Ok(context.contiguous()?),
        }
    }

    /// Returns the embedded tokens `[B, L, dim]` of video `[B, C, F, H, W]`, in the order frames, rows, columns, or of sound
    /// `[B, C, L, M]`, whose channels and bins make the channels of a token.
    pub(super) fn tokens(&self, stream: Stream, latents: &Tensor, dtype: DType) -> Result<Tensor> {
        let latents = latents.to_dtype(dtype)?;
        let tokens = match stream {
            Stream::Video => latents.flatten_from(2)?.transpose(1, 2)?.contiguous()?,
            Stream::Audio => latents.transpose(1, 2)?.contiguous()?.flatten_from(2)?,
        };
        Ok(self.patchify.forward(&tokens)?)
    }

    /// Embeds the stream's timesteps: `timestep [B]`, or `tokens [B, L]` where tokens have their own, and that of the other
    /// stream, `other [B]`.
    pub(super) fn time(
        &self,
        timestep: &Tensor,
        tokens: Option<&Tensor>,
        other: &Tensor,
        device: &Device,
    ) -> Result<Time> {
        self.time.forward(timestep, tokens, other, device)
    }

    /// `x [B, L, dim]` → `[B, L, C]`.
    pub(super) fn head(&self, x: &Tensor, time: &Time) -> Result<Tensor> {
        let [shift, scale] = time.for_head(&self.head_table)?;
        let norm = Prologue::LayerNormModulate { shift: &shift, scale: &scale, eps: HEAD_EPS };
        Ok(self.head.forward_after(x, norm)?)
    }
}
