//! [`Stack`]: a transformer's blocks, which lie on the device, are streamed from host memory, or are replayed as they were
//! recorded; a step cache takes part in their passes. [`KvCache`] keeps keys and values that are the same on every step.
//!
//! None of this knows what a block computes: a family says so in closures. What runs through the blocks are `N` streams
//! of tokens `[B, L, dim]`, each of its own length and width: one in a model of video, two in one of video and sound.

use crate::{ComputeAll, Result, Reuse};
use candle_core::{D, DType, Tensor};
use kinora_checkpoint::{TensorLog, Weights};
use kinora_kernels::{HostTensors, Replay, Uploader};
use std::any::Any;
use std::array::from_fn;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

/// The blocks `B` of a transformer, in order.
pub(crate) enum Stack<B> {
    /// All blocks are on the device.
    Resident(Vec<B>),
    /// All blocks are in host memory, and a few at a time are on the device.
    Streamed(Box<Streamed<B>>),
}

impl<B> Stack<B> {
    /// Loads `count` blocks onto the device of `weights`; `load` makes the block of an index.
    ///
    /// # Errors
    /// As `load`.
    pub(crate) fn resident(
        count: usize,
        weights: &Weights,
        load: impl Fn(&Weights, usize) -> Result<B>,
    ) -> Result<Self> {
        Ok(Self::Resident((0..count).map(|index| load(weights, index)).collect::<Result<_>>()?))
    }

    /// Loads `count` blocks into host memory, from which they are copied to the CUDA device of `weights` during each
    /// pass. The device needs room for two blocks of each kind, and for one more meanwhile: see [`Streamed`].
    ///
    /// # Errors
    /// As `load`; another device, or too little host memory that can be kept from being paged out.
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
    /// As `f`; a failed copy of a streamed block.
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
    /// As `forward` and `reuse`.
    pub(crate) fn run<const N: usize>(
        &self,
        mut tokens: [Tensor; N],
        time: &Tensor,
        reuse: &mut dyn Reuse,
        mut forward: impl FnMut(usize, &B, &[Tensor; N]) -> Result<[Tensor; N]>,
    ) -> Result<[Tensor; N]> {
        let concerned = reuse.concerns();
        if concerned && let Some(last) = reuse.before_blocks(&packed(&tokens)?, time)? {
            return unpacked(&last, sizes(&tokens));
        }
        let mut reused = false;
        self.each(|index, block| {
            let next = forward(index, block, &tokens)?;
            if concerned
                && index == 0
                && let Some(last) = reuse.after_first_block(&packed(&tokens)?, &packed(&next)?)?
            {
                (tokens, reused) = (unpacked(&last, sizes(&next))?, true);
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
    /// As `compute`, or whatever the device fails on.
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
pub(crate) fn packed(tokens: &[Tensor]) -> Result<Tensor> {
    match tokens {
        [tokens] => Ok(tokens.clone()),
        streams => {
            let rows = streams.iter().map(|tokens| tokens.flatten_from(1)).collect::<candle_core::Result<Vec<_>>>()?;
            Ok(Tensor::cat(&rows, D::Minus1)?)
        }
    }
}

/// The inverse of [`packed`], for streams of `L` tokens of `dim`.
pub(crate) fn unpacked<const N: usize>(tokens: &Tensor, sizes: [[usize; 2]; N]) -> Result<[Tensor; N]> {
    if N == 1 {
        return Ok(from_fn(|_| tokens.clone()));
    }
    let (batch, mut start) = (tokens.dim(0)?, 0);
    let mut streams = from_fn(|_| tokens.clone());
    for (stream, [length, dim]) in streams.iter_mut().zip(sizes) {
        *stream = tokens.narrow(1, start, length * dim)?.reshape((batch, length, dim))?;
        start += length * dim;
    }
    Ok(streams)
}

/// Returns the tokens of each stream and their width.
fn sizes<const N: usize>(streams: &[Tensor; N]) -> [[usize; 2]; N] {
    from_fn(|stream| [1, 2].map(|axis| streams[stream].dims().get(axis).copied().unwrap_or_default()))
}

/// Two blocks of each kind on the device: while one computes, the parameters of another are overwritten with those of the
/// block after it. Blocks are of one kind where their parameters have the same forms and shapes: files may store some
/// blocks' matrices in other formats than those of others.
pub(crate) struct Streamed<B> {
    // Dropped first, because copies from host memory may be under way.
    uploader: Uploader,
    /// The parameters of every block, and the slot that they are copied to.
    host: Vec<(HostTensors, usize)>,
    slots: Vec<B>,
    /// Held by the pass that the slots work for.
    turn: Mutex<()>,
}

/// How the parameters of a block are stored.
type Kind = Vec<(String, DType, Vec<usize>)>;

impl<B> Streamed<B> {
    fn new(count: usize, weights: &Weights, load: impl Fn(&Weights, usize) -> Result<B>) -> Result<Self> {
        let (mut host, mut slots, mut targets) = (Vec::with_capacity(count), Vec::new(), Vec::new());
        // The slots of each kind, and the number of its blocks so far.
        let mut kinds: HashMap<Kind, (Vec<usize>, usize)> = HashMap::new();
        for index in 0..count {
            // Each is made on the device, where matrices are quantised, if they are.
            let log = TensorLog::default();
            let block = load(&weights.logged(&log), index)?;
            let logged = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
            let kind = logged.iter().map(|kept| (kept.form.clone(), kept.tensor.dtype(), kept.tensor.dims().to_vec()));
            let (of_kind, blocks) = kinds.entry(kind.collect()).or_default();
            let tensors: Vec<_> = logged.into_iter().map(|kept| kept.tensor).collect();
            let parameters = HostTensors::new(weights.device(), &tensors)?;
            if of_kind.len() < 2 {
                of_kind.push(slots.len());
                slots.push(block);
                targets.push(tensors);
            }
            host.push((parameters, of_kind[*blocks % 2]));
            *blocks += 1;
        }
        let uploader = Uploader::new(weights.device(), targets)?;
        Ok(Self { uploader, host, slots, turn: Mutex::default() })
    }

    fn each(&self, mut f: impl FnMut(usize, &B) -> Result<ControlFlow<()>>) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Self { uploader, host, slots, .. } = self;
        let begin = |index: usize| match host.get(index) {
            Some((parameters, slot)) => uploader.begin(*slot, parameters),
            None => Ok(()),
        };
        begin(0)?;
        for (index, (_, slot)) in host.iter().enumerate() {
            begin(index + 1)?;
            uploader.wait(*slot)?;
            let flow = f(index, &slots[*slot])?;
            uploader.release(*slot)?;
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
    /// As `compute`.
    pub(crate) fn within(budget: usize, bytes: usize, compute: impl FnOnce() -> Result<Vec<K>>) -> Result<Self> {
        Ok(Self(if bytes <= budget { compute()? } else { Vec::new() }))
    }

    /// Returns the number of blocks whose keys and values are kept.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the keys and values of a block: those that are kept, or else what `compute` returns.
    ///
    /// # Errors
    /// As `compute`.
    pub(crate) fn get(&self, block: usize, compute: impl FnOnce() -> Result<K>) -> Result<K> {
        self.0.get(block).cloned().map_or_else(compute, Ok)
    }
}

/// The KV cache of one step: keys and values `K` of every block that depend on the step's timesteps, too, and are the same in
/// all passes of the step over the same conditioning.
pub(crate) struct StepKvCache<K> {
    /// Whether anything is kept.
    keeps: bool,
    /// What tells the step, and the keys and values of its first blocks.
    step: Mutex<(Vec<u32>, Vec<K>)>,
}

impl<K: Clone> StepKvCache<K> {
    /// Keeps the keys and values of one step, if their `bytes` are within `budget`.
    pub(crate) fn within(budget: usize, bytes: usize) -> Self {
        Self { keeps: bytes <= budget, step: Mutex::default() }
    }

    /// Returns the keys and values of a block in the step that `step` tells: those that an earlier pass computed, or else what
    /// `compute` returns, which is kept in their place.
    ///
    /// # Errors
    /// As `compute`.
    pub(crate) fn get(&self, step: &[u32], block: usize, compute: impl FnOnce() -> Result<K>) -> Result<K> {
        if !self.keeps {
            return compute();
        }
        let mut kept = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != step {
            *kept = (step.to_vec(), Vec::new());
        }
        if let Some(found) = kept.1.get(block) {
            return Ok(found.clone());
        }
        let computed = compute()?;
        if kept.1.len() == block {
            kept.1.push(computed.clone());
        }
        Ok(computed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// A block that adds its number to the first stream and twice that to the second.
    struct Adds(f64);

    fn forward(_: usize, block: &Adds, [video, sound]: &[Tensor; 2]) -> Result<[Tensor; 2]> {
        Ok([(video + block.0)?, (sound + 2.0 * block.0)?])
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
        let stack = Stack::Resident([1.0, 10.0, 100.0].map(Adds).into());
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
    fn keys_and_values_of_a_step_are_computed_once() {
        let (cache, mut computed) = (StepKvCache::within(100, 100), Vec::new());
        for (step, block) in [(1, 0), (1, 1), (1, 0), (1, 1), (2, 0), (2, 1), (1, 0)] {
            let found = cache.get(&[step], block, || {
                computed.push((step, block));
                Ok((step, block))
            });
            assert_eq!(found.unwrap(), (step, block));
        }
        assert_eq!(computed, [(1, 0), (1, 1), (2, 0), (2, 1), (1, 0)]);
        let none = StepKvCache::within(99, 100);
        assert_eq!([1, 2].map(|value| none.get(&[1], 0, || Ok(value)).unwrap()), [1, 2]);
    }

    #[test]
    fn keys_and_values_are_kept_within_their_budget() {
        let kept = |budget| KvCache::within(budget, 100, || Ok(vec![1, 2])).unwrap();
        assert_eq!(kept(100).get(1, || panic!("it is kept")).unwrap(), 2);
        assert_eq!(kept(99).get(1, || Ok(7)).unwrap(), 7);
    }
}
