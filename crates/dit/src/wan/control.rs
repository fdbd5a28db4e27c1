//! VACE's control blocks: a second stream of tokens that leaves a hint after some of the main blocks.
//!
//! Architecture and names after <https://github.com/ali-vilab/VACE/blob/48eb44f1c4be/vace/models/wan/modules/model.py>,
//! <https://arxiv.org/abs/2503.07598>. The stream never sees the main blocks, so that each of its blocks can run just
//! before its hint is needed: one tensor is held, and none where the pass ends early.

use super::WanConfig;
use super::block::{Block, Pass};
use super::patch::PatchEmbedding;
use super::positions::Positions;
use super::prepared::PreparedControl;
use crate::{Control, Result};
use candle_core::{DType, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::Epilogue;
use kinora_nn::Linear;

/// `vace_patch_embedding` and `vace_blocks`.
pub(super) struct ControlBranch {
    patch_embedding: PatchEmbedding,
    /// `vace_blocks.0.before_proj`.
    before: Linear,
    blocks: Vec<ControlBlock>,
    /// The main block after which each of them runs.
    layers: Vec<usize>,
}

/// `vace_blocks.N`.
struct ControlBlock {
    block: Block,
    /// `after_proj`.
    after: Linear,
}

impl ControlBranch {
    /// Reads the weights of a model whose control has `channels`. The projections around the blocks begin as zeros when the
    /// branch is trained.
    pub(super) fn new(config: &WanConfig, channels: usize, weights: &Weights) -> Result<Self> {
        let (dim, blocks) = (config.dim(), weights.pp("vace_blocks"));
        let block = |i| {
            let weights = blocks.pp(i);
            let after = Linear::new(&weights.pp("after_proj").allowing_zeros(), dim, dim)?;
            Ok(ControlBlock { block: Block::new(config, &weights)?, after })
        };
        let unquantised = weights.with_quant(None).with_exact(true);
        Ok(Self {
            patch_embedding: PatchEmbedding::new(config, channels, &unquantised.pp("vace_patch_embedding"))?,
            before: Linear::new(&blocks.pp(0).pp("before_proj").allowing_zeros(), dim, dim)?,
            blocks: (0..config.vace_layers.len()).map(block).collect::<Result<_>>()?,
            layers: config.vace_layers.clone(),
        })
    }

    /// Returns the blocks alone, for their keys and values.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().map(|block| &block.block)
    }

    /// Embeds the control, which is the same on every step.
    pub(super) fn prepare(&self, control: &Control, dim: usize, dtype: DType) -> Result<PreparedControl> {
        let latents = control.latents.to_dtype(dtype)?;
        let scale = Tensor::full(control.scale as f32, (1, 1, dim), latents.device())?;
        Ok(PreparedControl { tokens: self.patch_embedding.forward(&latents, None)?, scale })
    }

    /// Starts the stream of one pass; `x [B, L, dim]` are the tokens before the first main block.
    pub(super) fn stream<'a>(
        &'a self,
        x: &Tensor,
        control: &'a PreparedControl,
        positions: &Positions,
    ) -> Result<ControlStream<'a>> {
        let tokens = positions.arranged(&control.tokens)?;
        let tokens = self.before.forward_then(&tokens, Epilogue::Residual(x))?;
        Ok(ControlStream { branch: self, scale: &control.scale, tokens, done: 0 })
    }
}

/// The tokens of one pass through the control blocks.
pub(super) struct ControlStream<'a> {
    branch: &'a ControlBranch,
    scale: &'a Tensor,
    /// `[B, L, dim]`.
    tokens: Tensor,
    /// Control blocks that the tokens went through.
    done: usize,
}

impl ControlStream<'_> {
    /// Adds the hint of the main block `layer`, if there is one, to its result `x [B, L, dim]`; `others` is the number of
    /// main blocks.
    pub(super) fn after_block(&mut self, layer: usize, x: Tensor, pass: &Pass, others: usize) -> Result<Tensor> {
        let (branch, index) = (self.branch, self.done);
        let (Some(block), Some(&next)) = (branch.blocks.get(index), branch.layers.get(index)) else { return Ok(x) };
        if next != layer {
            return Ok(x);
        }
        self.tokens = block.block.forward(&self.tokens, pass, others + index)?;
        self.done += 1;
        Ok(block.after.forward_then(&self.tokens, Epilogue::GatedResidual { x: &x, gate: self.scale })?)
    }
}
