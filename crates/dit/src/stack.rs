//! [`Stack`]: a transformer's blocks, which lie on the device, are streamed from host memory, or are replayed as they were
//! recorded; a step cache takes part in their passes. [`KvCache`] keeps keys and values that are the same on every step.
//!
//! None of this knows what a block computes: a family says so in closures. What runs through the blocks are `N` streams
//! of tokens `[B, L, dim]`, each of its own length and width: one in a model of video, two in one of video and sound.

use crate::{ComputeAll, Error, Result, Reuse};
use candle_core::{D, Tensor};
use kinora_checkpoint::{TensorLog, Weights};
use kinora_kernels::{HostTensors, Replay, Uploader};
use std::any::Any;
use std::array::from_fn;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

/// The blocks `B` of a transformer, in order.
pub(crate) enum Stack<B> {
    /// All blocks are on the device.
    Resident(Vec<B>),
    /// All blocks are in host memory, and two at a time are on the device.
    Streamed(Box<Streamed<B>>),
}

impl<B> Stack<B> {
    /// Loads `count` blocks onto the device of `weights`; `load` makes the block of an index.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn resident(
        count: usize,
        weights: &Weights,
        load: impl Fn(&Weights, usize) -> Result<B>,
    ) -> Result<Self> {
        Ok(Self::Resident((0..count).map(|index| load(weights, index)).collect::<Result<_>>()?))
    }

    /// Loads `count` blocks into host memory, from which they are copied to the CUDA device of `weights` during each
    /// pass. The device needs room for three blocks meanwhile, and for two afterwards.
    ///
    /// # Errors
    /// Those of `load`; another device, or too little host memory that can be kept from being paged out.
    pub(crate) fn streamed(
        count: usize,
        weights: &Weights,
        load: impl Fn(&Weights, usize) -> Result<B>,
    ) -> Result<Self> {
        Ok(Self::Streamed(Box::new(Streamed::new(count, weights, load)?)))
    }

    /// Returns the number of blocks.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Resident(blocks) => blocks.len(),
            Self::Streamed(streamed) => streamed.host.len(),
        }
    }

    /// Calls `f` with the index of each block and the block, in order, until it breaks.
    ///
    /// # Errors
    /// Those of `f`; a failed copy of a streamed block.
    pub(crate) fn each(&self, mut f: impl FnMut(usize, &B) -> Result<ControlFlow<()>>) -> Result<()> {
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

    /// Takes `tokens` through the blocks, as far as `reuse` does not replace them; `forward` computes one block, and
    /// `time` is the embedded timestep that `reuse` may compare.
    ///
    /// # Errors
    /// Those of `forward` and of `reuse`.
    pub(crate) fn run<const N: usize>(
        &self,
        mut tokens: [Tensor; N],
        time: &Tensor,
        reuse: &mut dyn Reuse,
        mut forward: impl FnMut(usize, &B, &[Tensor; N]) -> Result<[Tensor; N]>,
    ) -> Result<[Tensor; N]> {
        let concerned = reuse.concerns();
        if concerned && let Some(last) = reuse.before_blocks(&packed(&tokens)?, time)? {
            return unpacked(last, &tokens);
        }
        let mut reused = false;
        self.each(|index, block| {
            let next = forward(index, block, &tokens)?;
            if concerned
                && index == 0
                && let Some(last) = reuse.after_first_block(&packed(&tokens)?, &packed(&next)?)?
            {
                (tokens, reused) = (unpacked(last, &next)?, true);
                return Ok(ControlFlow::Break(()));
            }
            tokens = next;
            Ok(ControlFlow::Continue(()))
        })?;
        if concerned && !reused {
            reuse.after_last_block(&packed(&tokens)?)?;
        }
        Ok(tokens)
    }

    /// Computes `compute(inputs, reuse)`: where there is a `replay`, all blocks are on the device and `reuse` is not
    /// concerned, as [`Replay::run`] does. `kept` is what the computation reads on the device beside its inputs.
    ///
    /// # Errors
    /// Those of `compute`, or whatever the device fails on.
    pub(crate) fn replay_or_compute<const M: usize>(
        &self,
        replay: Option<&Replay>,
        inputs: [Tensor; M],
        kept: impl Any + Send,
        reuse: &mut dyn Reuse,
        compute: impl Fn([Tensor; M], &mut dyn Reuse) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match replay {
            Some(replay) if matches!(self, Self::Resident(_)) && !reuse.concerns() => {
                let all = |inputs: &[Tensor]| compute(from_fn(|index| inputs[index].clone()), &mut ComputeAll);
                replay.run(&inputs, || Box::new(kept), all)
            }
            _ => compute(inputs, reuse),
        }
    }
}

/// The streams as the one tensor that [`Reuse`] sees.
fn packed(tokens: &[Tensor]) -> Result<Tensor> {
    match tokens {
        [tokens] => Ok(tokens.clone()),
        streams => {
            let rows = streams.iter().map(|tokens| tokens.flatten_from(1)).collect::<candle_core::Result<Vec<_>>>()?;
            Ok(Tensor::cat(&rows, D::Minus1)?)
        }
    }
}

/// The inverse of [`packed`], for streams of the shapes of `like`.
fn unpacked<const N: usize>(tokens: Tensor, like: &[Tensor; N]) -> Result<[Tensor; N]> {
    if N == 1 {
        return Ok(from_fn(|_| tokens.clone()));
    }
    let (mut streams, mut start) = (like.clone(), 0);
    for stream in &mut streams {
        let (batch, length, dim) = stream.dims3()?;
        *stream = tokens.narrow(1, start, length * dim)?.reshape((batch, length, dim))?;
        start += length * dim;
    }
    Ok(streams)
}

/// Two blocks on the device: while one computes, the parameters of the other are overwritten with those of the block
/// after it.
pub(crate) struct Streamed<B> {
    // Dropped first, because copies from host memory may be under way.
    uploader: Uploader,
    /// The parameters of every block.
    host: Vec<HostTensors>,
    slots: [B; 2],
    /// Held by the pass that the slots work for.
    turn: Mutex<()>,
}

impl<B> Streamed<B> {
    fn new(count: usize, weights: &Weights, load: impl Fn(&Weights, usize) -> Result<B>) -> Result<Self> {
        // Each is made on the device, where matrices are quantised, if they are.
        let block = |index: usize| {
            let log = TensorLog::default();
            let block = load(&weights.logged(&log), index)?;
            let logged = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
            Ok::<_, Error>((block, logged.into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>()))
        };
        let [(first, tensors), (second, others)] = [block(0)?, block(0)?];
        let host = (0..count).map(|index| Ok(HostTensors::new(weights.device(), &block(index)?.1)?));
        let host = host.collect::<Result<_>>()?;
        let uploader = Uploader::new(weights.device(), vec![tensors, others])?;
        Ok(Self { uploader, host, slots: [first, second], turn: Mutex::default() })
    }

    fn each(&self, mut f: impl FnMut(usize, &B) -> Result<ControlFlow<()>>) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Self { uploader, host, slots, .. } = self;
        uploader.begin(0, &host[0])?;
        for index in 0..host.len() {
            let slot = index % 2;
            if let Some(next) = host.get(index + 1) {
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

/// The KV cache: keys and values `K` of every block's attention to the conditioning, which are the same on every step.
pub(crate) struct KvCache<K>(Vec<K>);

impl<K: Clone> KvCache<K> {
    /// Keeps what `compute` returns, one `K` per block, if its `bytes` are within `budget`; nothing otherwise.
    ///
    /// # Errors
    /// Those of `compute`.
    pub(crate) fn within(budget: usize, bytes: usize, compute: impl FnOnce() -> Result<Vec<K>>) -> Result<Self> {
        Ok(Self(if bytes <= budget { compute()? } else { Vec::new() }))
    }

    /// Returns the keys and values of a block: those that are kept, or else what `compute` returns.
    ///
    /// # Errors
    /// Those of `compute`.
    pub(crate) fn get(&self, block: usize, compute: impl FnOnce() -> Result<K>) -> Result<K> {
        self.0.get(block).cloned().map_or_else(compute, Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// Adds its number to the first stream and twice that to the second.
    fn forward(_: usize, block: &f64, [video, sound]: &[Tensor; 2]) -> Result<[Tensor; 2]> {
        Ok([(video + *block)?, (sound + 2.0 * block)?])
    }

    fn streams() -> [Tensor; 2] {
        [(2, 3, 4), (2, 5, 1)].map(|shape| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap())
    }

    fn assert_all(streams: &[Tensor; 2], values: [f32; 2]) {
        for ((found, value), zeros) in streams.iter().zip(values).zip(self::streams()) {
            let expected = (zeros + f64::from(value)).unwrap();
            assert_eq!(found.to_vec3::<f32>().unwrap(), expected.to_vec3::<f32>().unwrap());
        }
    }

    /// Replaces what the blocks after the first compute by what they added in the pass before.
    #[derive(Default)]
    struct Residual {
        entry: Option<Tensor>,
        added: Option<Tensor>,
    }

    impl Reuse for Residual {
        fn before_blocks(&mut self, tokens: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
            assert_eq!(tokens.dims(), [2, 3 * 4 + 5]);
            Ok(None)
        }

        fn after_first_block(&mut self, _: &Tensor, after: &Tensor) -> Result<Option<Tensor>> {
            self.entry = Some(after.clone());
            Ok(self.added.as_ref().map(|added| after + added).transpose()?)
        }

        fn after_last_block(&mut self, tokens: &Tensor) -> Result<()> {
            self.added = Some((tokens - self.entry.as_ref().unwrap())?);
            Ok(())
        }
    }

    #[test]
    fn several_streams_pass_a_step_cache_as_one() {
        let stack = Stack::Resident(vec![1.0, 10.0, 100.0]);
        let (time, mut reuse) = (Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap(), Residual::default());
        assert_all(&stack.run(streams(), &time, &mut ComputeAll, forward).unwrap(), [111.0, 222.0]);
        assert_all(&stack.run(streams(), &time, &mut reuse, forward).unwrap(), [111.0, 222.0]);
        let mut blocks = 0;
        let reused = stack.run(streams(), &time, &mut reuse, |index, block, tokens| {
            blocks += 1;
            forward(index, block, tokens)
        });
        assert_all(&reused.unwrap(), [111.0, 222.0]);
        assert_eq!(blocks, 1);
    }

    #[test]
    fn keys_and_values_are_kept_within_their_budget() {
        let kept = |budget| KvCache::within(budget, 100, || Ok(vec![1, 2])).unwrap();
        assert_eq!(kept(100).get(1, || panic!("it is kept")).unwrap(), 2);
        assert_eq!(kept(99).get(1, || Ok(7)).unwrap(), 7);
    }
}
