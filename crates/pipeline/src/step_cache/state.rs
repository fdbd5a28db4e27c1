//! [`StepCache`]: the step cache of one run, around its predictor.

use super::memory::{COMPUTED_LATENTS, LATENTS, Memory, RESIDUAL, SIGNAL, VELOCITY, mean_abs, mean_change};
use super::{At, CacheRule};
use crate::Result;
use crate::families::capabilities::Pass;
use crate::request::cache::CacheKind;
use candle_core::{DType, Device, Tensor};
use kinora_dit::Reuse;
use kinora_sampler::Streams;

const EXPERT: &str = "expert";

/// The velocity of every latent stream, and whether the network computed it.
pub(crate) struct Predicted {
    pub velocity: Streams,
    pub reused: bool,
}

/// The state of a step cache between the steps of a run; a clone shares the tensors.
#[derive(Debug, Clone)]
pub(crate) struct StepCache {
    rule: CacheRule,
    expert: usize,
    /// One for the predictions of each pass.
    memories: [Memory; Pass::MOST],
    /// `easycache` decides once for all predictions of a step.
    reuses: bool,
}

impl StepCache {
    /// A step cache that has kept nothing yet.
    pub(crate) fn new(rule: CacheRule) -> Self {
        Self { rule, expert: 0, memories: Default::default(), reuses: false }
    }

    /// Forgets the results of another expert.
    pub(crate) fn use_expert(&mut self, expert: usize) {
        if self.expert != expert {
            *self = Self { expert, ..Self::new(self.rule.clone()) };
        }
    }

    /// The velocity for the latents `x`, f32. `network` computes it, with the reuse inside of it that it is given.
    pub(crate) fn predict(
        &mut self,
        at: At,
        x: &Streams,
        network: impl FnOnce(&mut dyn Reuse) -> Result<Streams>,
    ) -> Result<Predicted> {
        if self.rule.kind == CacheKind::EasyCache {
            return self.around_the_network(at, x, network);
        }
        let mut pass =
            Watched { rule: &self.rule, at, memory: &mut self.memories[at.prediction], entry: None, reused: false };
        let velocity = network(&mut pass)?;
        Ok(Predicted { velocity, reused: pass.reused })
    }

    /// `easycache`, which sees only latents and velocities. The first stream decides.
    fn around_the_network(
        &mut self,
        at: At,
        x: &Streams,
        network: impl FnOnce(&mut dyn Reuse) -> Result<Streams>,
    ) -> Result<Predicted> {
        let memory = &mut self.memories[at.prediction];
        let latents = x.first();
        if at.prediction == 0 {
            let change = change_of_latents(memory, latents)?;
            self.reuses = self.rule.reuses(at, change, &mut memory.numbers);
            memory.keep(LATENTS, latents.clone());
        }
        let residuals: Option<Vec<&Tensor>> =
            x.iter().map(|(name, x)| memory.get(&residual_of(x, latents, name))).collect();
        if let Some(residuals) = residuals.filter(|_| self.reuses) {
            let mut residuals = residuals.into_iter();
            let velocity =
                x.map(|_, x| Ok::<_, crate::Error>(x.add(residuals.next().expect("one for each stream"))?))?;
            return Ok(Predicted { velocity, reused: true });
        }
        let computed = network(&mut kinora_dit::ComputeAll)?;
        let velocities = computed.map(|_, velocity| velocity.to_dtype(DType::F32))?;
        if at.prediction == 0 {
            let velocity = velocities.first();
            if let (Some(before), Some(last)) = (memory.get(COMPUTED_LATENTS), memory.get(VELOCITY)) {
                let rate = mean_change(velocity, last)? / mean_change(latents, before)?;
                memory.numbers.rate = if rate.is_finite() { rate } else { memory.numbers.rate };
            }
            memory.keep(COMPUTED_LATENTS, latents.clone());
            memory.keep(VELOCITY, velocity.clone());
        }
        for ((name, velocity), (_, x)) in velocities.iter().zip(x.iter()) {
            memory.keep(residual_of(x, latents, name), (velocity - x)?);
        }
        Ok(Predicted { velocity: computed, reused: false })
    }

    /// Everything that is kept, by name.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = vec![(EXPERT.to_string(), Tensor::new(&[self.expert as u32], &Device::Cpu)?)];
        for (index, memory) in self.memories.iter().enumerate() {
            tensors.extend(memory.tensors()?.into_iter().map(|(name, tensor)| (format!("{index}.{name}"), tensor)));
        }
        Ok(tensors)
    }

    /// The cache whose [`StepCache::tensors`] these are; `None` if they are not.
    pub(crate) fn restore(rule: CacheRule, tensors: Vec<(String, Tensor)>) -> Option<Self> {
        let mut cache = Self::new(rule);
        let mut parts: [Vec<(String, Tensor)>; Pass::MOST] = Default::default();
        let mut expert = None;
        for (name, tensor) in tensors {
            match name.split_once('.') {
                Some((index, name)) => {
                    parts.get_mut(index.parse::<usize>().ok()?)?.push((name.to_string(), tensor));
                }
                None if name == EXPERT => expert = tensor.to_vec1::<u32>().ok()?.first().copied(),
                None => return None,
            }
        }
        cache.expert = expert? as usize;
        for (memory, part) in cache.memories.iter_mut().zip(parts) {
            *memory = Memory::restore(part)?;
        }
        Some(cache)
    }
}

/// The name of a stream's residual.
fn residual_of(stream: &Tensor, first: &Tensor, name: &str) -> String {
    if stream.id() == first.id() { RESIDUAL.to_string() } else { format!("{RESIDUAL}.{name}") }
}

/// Change of the latents since the last step by the size of the last computed velocity, once a rate is known.
fn change_of_latents(memory: &Memory, x: &Tensor) -> Result<Option<f64>> {
    let (Some(latents), Some(velocity), Some(_)) = (memory.get(LATENTS), memory.get(VELOCITY), memory.numbers.rate())
    else {
        return Ok(None);
    };
    let change = mean_change(x, latents)? / mean_abs(velocity)?;
    Ok(Some(change).filter(|change| change.is_finite()))
}

/// Reuse within one pass through the network.
struct Watched<'a> {
    rule: &'a CacheRule,
    at: At,
    memory: &'a mut Memory,
    /// The tokens from which on everything is computed.
    entry: Option<Tensor>,
    reused: bool,
}

impl Watched<'_> {
    /// The tokens after the last block, where those of earlier steps will do.
    fn decide(&mut self, tokens: &Tensor, change: Option<f64>) -> kinora_dit::Result<Option<Tensor>> {
        let residual = self.memory.get(RESIDUAL).cloned();
        let change = change.filter(|_| residual.is_some());
        self.reused = self.rule.reuses(self.at, change, &mut self.memory.numbers);
        if let Some(residual) = residual.filter(|_| self.reused) {
            return Ok(Some((tokens + residual)?));
        }
        self.entry = Some(tokens.clone());
        Ok(None)
    }
}

impl Reuse for Watched<'_> {
    fn before_blocks(&mut self, tokens: &Tensor, time: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        match self.rule.kind {
            CacheKind::FirstBlock | CacheKind::EasyCache => Ok(None),
            CacheKind::MagCache => self.decide(tokens, Some(0.0)),
            CacheKind::TeaCache => {
                let change = self.memory.relative_change(SIGNAL, time)?;
                self.memory.keep(SIGNAL, time.clone());
                self.decide(tokens, change)
            }
        }
    }

    fn after_first_block(&mut self, before: &Tensor, after: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        if self.rule.kind != CacheKind::FirstBlock {
            return Ok(None);
        }
        let added = (after - before)?;
        let change = self.memory.relative_change(SIGNAL, &added)?;
        let last = self.decide(after, change)?;
        if last.is_none() {
            self.memory.keep(SIGNAL, added);
        }
        Ok(last)
    }

    fn after_last_block(&mut self, tokens: &Tensor) -> kinora_dit::Result<()> {
        if let Some(entry) = self.entry.take() {
            self.memory.keep(RESIDUAL, (tokens - entry)?);
        }
        Ok(())
    }
}
