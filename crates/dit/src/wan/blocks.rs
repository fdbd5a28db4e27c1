//! The transformer's blocks: all on the device, or waiting in the host's memory for their turn.

use super::WanConfig;
use super::block::Block;
use crate::Result;
use kinora_checkpoint::{TensorLog, Weights};
use kinora_kernels::{HostTensors, Uploader};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

/// Names of the blocks' parameters start so.
pub(super) const PREFIX: &str = "blocks";

/// `blocks`.
pub(super) enum Blocks {
    Resident(Vec<Block>),
    Streamed(Box<Streamed>),
}

/// Two blocks on the device, whose parameters are overwritten with those of the next but one while the other computes.
pub(super) struct Streamed {
    // Dropped first: copies from what waits may be under way.
    uploader: Uploader,
    waiting: Vec<HostTensors>,
    slots: [Block; 2],
    /// Held by the pass that the slots work for.
    turn: Mutex<()>,
}

impl Blocks {
    /// All of them from `weights`.
    pub(super) fn resident(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let block = |i| Block::new(config, &weights.pp(PREFIX).pp(i));
        Ok(Self::Resident((0..config.num_layers).map(block).collect::<Result<_>>()?))
    }

    /// Two of them on the device of `weights`, and all in the host's memory.
    pub(super) fn streamed(config: &WanConfig, weights: &Weights) -> Result<Self> {
        // Each is made on the device, where matrices are rounded, if they are.
        let block = |i: usize| {
            let log = TensorLog::default();
            let block = Block::new(config, &weights.logged(&log).pp(PREFIX).pp(i))?;
            let logged = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
            Ok::<_, crate::Error>((block, logged.into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>()))
        };
        let [(first, tensors), (second, others)] = [block(0)?, block(0)?];
        let waiting = (0..config.num_layers)
            .map(|i| Ok(HostTensors::new(weights.device(), &block(i)?.1)?))
            .collect::<Result<_>>()?;
        let uploader = Uploader::new(weights.device(), vec![tensors, others])?;
        let slots = [first, second];
        Ok(Self::Streamed(Box::new(Streamed { uploader, waiting, slots, turn: Mutex::default() })))
    }

    pub(super) fn are_resident(&self) -> bool {
        matches!(self, Self::Resident(_))
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Resident(blocks) => blocks.len(),
            Self::Streamed(streamed) => streamed.waiting.len(),
        }
    }

    /// Calls `f` with each block and its place, in order, until it breaks.
    pub(super) fn each(&self, f: &mut dyn FnMut(usize, &Block) -> Result<ControlFlow<()>>) -> Result<()> {
        match self {
            Self::Resident(blocks) => {
                for (index, block) in blocks.iter().enumerate() {
                    if f(index, block)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Self::Streamed(streamed) => streamed.each(f),
        }
    }
}

impl Streamed {
    fn each(&self, f: &mut dyn FnMut(usize, &Block) -> Result<ControlFlow<()>>) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Self { uploader, waiting, slots, .. } = self;
        uploader.begin(0, &waiting[0])?;
        for index in 0..waiting.len() {
            let slot = index % 2;
            if let Some(next) = waiting.get(index + 1) {
                uploader.begin(1 - slot, next)?;
            }
            uploader.wait(slot)?;
            let flow = f(index, &slots[slot])?;
            uploader.release(slot)?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}
