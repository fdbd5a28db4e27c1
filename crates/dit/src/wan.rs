//! The Wan transformer: 2.1 text to video (1.3B, 14B), 2.2 A14B (one of these per expert) and 2.2 TI2V-5B (one timestep
//! per token).
//!
//! Architecture and names after
//! <https://github.com/Wan-Video/Wan2.1/blob/main/wan/modules/model.py> and
//! <https://github.com/Wan-Video/Wan2.2/blob/main/wan/modules/model.py>; the dtypes of single operations after
//! <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/transformers/transformer_wan.py>:
//! the timestep's embedding, norms, modulation and gates are f32 in a model of any dtype, angles of positions are f64.

mod block;
mod config;
mod memory;
mod padding;
mod patch;
mod rope;
mod time;

use crate::{Conditioning, Error, Prepared, Result, Reuse, VideoDit};
use block::{Block, norm_modulate};
use candle_core::{DType, Tensor};
pub use config::WanConfig;
use kinora_checkpoint::{KeyMap, Weights};
use kinora_kernels::Epilogue;
use kinora_nn::Linear;
use padding::without_repetitions;
use patch::{patchify, unpatchify};
use rope::Rope;
use time::{Time, TimeEmbedding};

/// A Wan transformer.
pub struct WanModel {
    config: WanConfig,
    dtype: DType,
    patch_embedding: PatchEmbedding,
    text_embedding: TextEmbedding,
    time_embedding: TimeEmbedding,
    blocks: Vec<Block>,
    head: Head,
}

impl WanModel {
    /// Reads the weights, by their original names.
    ///
    /// # Errors
    /// A configuration that makes no sense; missing or misshapen tensors.
    pub fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let block = |i| Block::new(config, &weights.pp("blocks").pp(i));
        // Little work, and errors that every block would see.
        let weights = &weights.with_quant(None);
        Ok(Self {
            patch_embedding: PatchEmbedding::new(config, &weights.pp("patch_embedding"))?,
            text_embedding: TextEmbedding::new(config, &weights.pp("text_embedding"))?,
            time_embedding: TimeEmbedding::new(config, weights)?,
            blocks: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            head: Head::new(config, &weights.pp("head"))?,
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// The model's dimensions.
    pub fn config(&self) -> &WanConfig {
        &self.config
    }

    /// `x [B, L, dim]` → the same.
    fn through_blocks(
        &self,
        mut x: Tensor,
        time: &Time,
        rope: &Rope,
        prepared: &Prepared,
        reuse: &mut dyn Reuse,
    ) -> Result<Tensor> {
        for (i, block) in self.blocks.iter().enumerate() {
            let bias = prepared.bias.as_ref();
            let next = match prepared.keys_values.get(i) {
                Some(text) => block.forward(&x, time, rope, text, bias)?,
                None => block.forward(&x, time, rope, &block.text_keys_values(&prepared.context)?, bias)?,
            };
            if i == 0
                && let Some(last) = reuse.after_first_block(&x, &next)?
            {
                return Ok(last);
            }
            x = next;
        }
        reuse.after_last_block(&x)?;
        Ok(x)
    }

    /// Frames, rows and columns of tokens, once every input's shape is known to be right.
    fn token_grid(&self, latents: &Tensor, timestep: &Tensor, prepared: &Prepared) -> Result<[usize; 3]> {
        let config = &self.config;
        let [pt, ph, pw] = config.patch_size;
        let wrong = |what, tensor: &Tensor, expected: String| {
            Err(Error::Shape { what, found: tensor.dims().to_vec(), expected })
        };
        let &[b, c, f, h, w] = latents.dims() else {
            return wrong("latents", latents, "[B, C, F, H, W]".to_string());
        };
        let fits = |size: usize, patch: usize| {
            size > 0 && size.is_multiple_of(patch) && size / patch <= config.rope_max_seq_len
        };
        if b == 0 || c != config.in_channels || !fits(f, pt) || !fits(h, ph) || !fits(w, pw) {
            let (channels, reach) = (config.in_channels, config.rope_max_seq_len);
            let sizes = format!("multiples of {pt}, {ph}, {pw} and at most {reach} tokens along each");
            return wrong("latents", latents, format!("[B, {channels}, F, H, W] with F, H, W {sizes}"));
        }
        let grid = [f / pt, h / ph, w / pw];
        let tokens: usize = grid.iter().product();
        if timestep.dims() != [b] && timestep.dims() != [b, tokens] {
            return wrong("timestep", timestep, format!("[{b}] or [{b}, {tokens}]"));
        }
        match prepared.context.dims() {
            &[clips, _, dim] if clips == b && dim == config.dim() => Ok(grid),
            _ => wrong("prepared context", &prepared.context, format!("[{b}, S, {}]", config.dim())),
        }
    }
}

impl VideoDit for WanModel {
    fn prepare(&self, conditioning: &Conditioning, cache_bytes: usize) -> Result<Prepared> {
        let context = &conditioning.context;
        if !matches!(context.dims(), &[b, s, width] if b > 0 && s > 0 && width == self.config.text_dim) {
            let expected = format!("[B, S, {}]", self.config.text_dim);
            return Err(Error::Shape { what: "context", found: context.dims().to_vec(), expected });
        }
        let (context, bias) = without_repetitions(&context.to_dtype(self.dtype)?)?;
        let context = self.text_embedding.forward(&context)?; // [B, S, dim]
        let bytes = 2 * self.blocks.len() * context.elem_count() * self.dtype.size_in_bytes();
        let cached: &[Block] = if bytes <= cache_bytes { &self.blocks } else { &[] };
        let keys_values = cached.iter().map(|block| block.text_keys_values(&context)).collect::<Result<_>>()?;
        Ok(Prepared { context, bias, keys_values })
    }

    fn forward_with(
        &self,
        latents: &Tensor,
        timestep: &Tensor,
        prepared: &Prepared,
        reuse: &mut dyn Reuse,
    ) -> Result<Tensor> {
        let grid = self.token_grid(latents, timestep, prepared)?;
        let rope = Rope::new(self.config.head_dim, grid, latents.device())?;
        let time = self.time_embedding.forward(timestep)?;
        let x = self.patch_embedding.forward(&latents.to_dtype(self.dtype)?)?; // [B, L, dim]
        let x = match reuse.before_blocks(&x, time.embedding())? {
            Some(x) => x,
            None => self.through_blocks(x, &time, &rope, prepared, reuse)?,
        };
        let x = self.head.forward(&x, &time)?; // [B, L, pt·ph·pw·C]
        Ok(unpatchify(&x, grid, self.config.patch_size)?)
    }

    fn patch_size(&self) -> [usize; 3] {
        self.config.patch_size
    }

    fn in_channels(&self) -> usize {
        self.config.in_channels
    }

    fn out_channels(&self) -> usize {
        self.config.out_channels
    }
}

/// `patch_embedding`, a convolution over patches that do not overlap.
struct PatchEmbedding {
    projection: Linear,
    patch_size: [usize; 3],
}

impl PatchEmbedding {
    fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let ([pt, ph, pw], dim) = (config.patch_size, config.dim());
        let projection = Linear::of_patches(weights, [dim, config.in_channels, pt, ph, pw])?;
        Ok(Self { projection, patch_size: config.patch_size })
    }

    /// `[B, C, F, H, W]` → `[B, L, dim]`.
    fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(self.projection.forward(&patchify(latents, self.patch_size)?)?)
    }
}

/// `text_embedding`. It makes a constant, not a zero, of the context's padding.
struct TextEmbedding {
    first: Linear,
    second: Linear,
}

impl TextEmbedding {
    fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let dim = config.dim();
        let first = Linear::new(&weights.pp(0), config.text_dim, dim)?;
        Ok(Self { first, second: Linear::new(&weights.pp(2), dim, dim)? })
    }

    /// `[B, S, text_dim]` → `[B, S, dim]`.
    fn forward(&self, context: &Tensor) -> Result<Tensor> {
        Ok(self.second.forward(&self.first.forward_then(context, Epilogue::GeluTanh)?)?)
    }
}

/// `head`: modulated by the timestep's embedding itself, not by its projection.
struct Head {
    modulation: Tensor,
    projection: Linear,
    eps: f64,
}

impl Head {
    fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let dim = config.dim();
        let outputs = config.out_channels * config.patch_size.iter().product::<usize>();
        Ok(Self {
            modulation: weights.get_dtype("modulation", (1, 2, dim), DType::F32)?,
            projection: Linear::new(&weights.pp("head"), dim, outputs)?,
            eps: config.eps,
        })
    }

    /// `[B, L, dim]` → `[B, L, pt·ph·pw·C]`.
    fn forward(&self, x: &Tensor, time: &Time) -> Result<Tensor> {
        let modulation = time.for_head(&self.modulation)?;
        Ok(self.projection.forward(&norm_modulate(x, &modulation, self.eps)?)?)
    }
}

/// Names in diffusers' layout. Only one of a block's three norms has parameters; diffusers calls it `norm2`, the
/// original `norm3`.
pub fn canonical_from_diffusers() -> KeyMap {
    KeyMap::new(
        "diffusers",
        [
            ("patch_embedding.{p}", "patch_embedding.{p}"),
            ("condition_embedder.text_embedder.linear_1.{p}", "text_embedding.0.{p}"),
            ("condition_embedder.text_embedder.linear_2.{p}", "text_embedding.2.{p}"),
            ("condition_embedder.time_embedder.linear_1.{p}", "time_embedding.0.{p}"),
            ("condition_embedder.time_embedder.linear_2.{p}", "time_embedding.2.{p}"),
            ("condition_embedder.time_proj.{p}", "time_projection.1.{p}"),
            ("blocks.{i}.scale_shift_table", "blocks.{i}.modulation"),
            ("blocks.{i}.attn1.to_q.{p}", "blocks.{i}.self_attn.q.{p}"),
            ("blocks.{i}.attn1.to_k.{p}", "blocks.{i}.self_attn.k.{p}"),
            ("blocks.{i}.attn1.to_v.{p}", "blocks.{i}.self_attn.v.{p}"),
            ("blocks.{i}.attn1.to_out.0.{p}", "blocks.{i}.self_attn.o.{p}"),
            ("blocks.{i}.attn1.norm_q.{p}", "blocks.{i}.self_attn.norm_q.{p}"),
            ("blocks.{i}.attn1.norm_k.{p}", "blocks.{i}.self_attn.norm_k.{p}"),
            ("blocks.{i}.norm2.{p}", "blocks.{i}.norm3.{p}"),
            ("blocks.{i}.attn2.to_q.{p}", "blocks.{i}.cross_attn.q.{p}"),
            ("blocks.{i}.attn2.to_k.{p}", "blocks.{i}.cross_attn.k.{p}"),
            ("blocks.{i}.attn2.to_v.{p}", "blocks.{i}.cross_attn.v.{p}"),
            ("blocks.{i}.attn2.to_out.0.{p}", "blocks.{i}.cross_attn.o.{p}"),
            ("blocks.{i}.attn2.norm_q.{p}", "blocks.{i}.cross_attn.norm_q.{p}"),
            ("blocks.{i}.attn2.norm_k.{p}", "blocks.{i}.cross_attn.norm_k.{p}"),
            ("blocks.{i}.ffn.net.0.proj.{p}", "blocks.{i}.ffn.0.{p}"),
            ("blocks.{i}.ffn.net.2.{p}", "blocks.{i}.ffn.2.{p}"),
            ("scale_shift_table", "head.modulation"),
            ("proj_out.{p}", "head.head.{p}"),
        ],
    )
}
