//! [`Pace`]: how long earlier runs took on this machine, by which the time of the next one is told beforehand.

use super::Plan;
use super::placement::Placement;
use crate::model::Model;
use crate::request::output::{Predictions, Seconds};
use candle_core::DType;
use kinora_checkpoint::Quant;
use kinora_kernels::{Level, Rates};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Runs that the file keeps, the newest ones.
const KEPT: usize = 200;
/// A run says something about another one if that one's predictions are at most so many times as large or as small.
const ALIKE: f64 = 64.0;
/// The part of an operator's measured rate that whole predictions reach.
const OF_RATE: f64 = 0.6;
/// Operations of a run, below which its time is not worth a guess.
const WORTH_A_GUESS: f64 = 1e12;

/// About how long a run will take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// Seconds, from the prompt to the clip.
    pub seconds: f64,
    /// Those of them that decoding takes; `None` where only the steps are counted.
    pub decode: Option<f64>,
    /// What it is known from.
    pub basis: Basis,
}

/// What an [`Estimate`] is known from, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// A run of the model in this size and length on this machine.
    SameSize,
    /// A run of the model in another size or length on this machine.
    OtherSize,
    /// The rate at which this machine multiplies. Only the steps are counted.
    Rate,
    /// One of these for the clip as it is decoded, and the rate at which this machine multiplies for the network that enlarges it.
    Enlarging,
}

impl Estimate {
    /// The time of so many runs like it.
    pub(crate) fn times(self, count: usize) -> Self {
        let count = count as f64;
        Self { seconds: count * self.seconds, decode: self.decode.map(|decode| count * decode), ..self }
    }

    /// The time of this and of another run.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            seconds: self.seconds + other.seconds,
            decode: self.decode.zip(other.decode).map(|(one, two)| one + two),
            basis: self.basis.max(other.basis),
        }
    }
}

impl std::fmt::Display for Estimate {
    /// Writes a phrase that goes on a sentence about the time, such as `as the last clip of this size`.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self.basis {
            Basis::SameSize => "by the last clip of this size",
            Basis::OtherSize => "by the last clip of this model, in another size",
            Basis::Rate => "for the steps, a guess before the first clip of this model",
            Basis::Enlarging => "a guess before the first clip that is enlarged so",
        })
    }
}

/// The file that keeps how long runs took. It is a cache: what cannot be read or written is done without.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    file: PathBuf,
}

/// A run of the sampler, as far as it takes time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// `[C, F, H, W]` of the latents.
    latents: [usize; 4],
    /// Predictions that its steps make.
    predictions: usize,
    /// Operations of one prediction.
    operations: f64,
}

impl Work {
    /// The run of `plan` for `latents`, of which a prediction takes `operations`.
    pub(crate) fn new(plan: &Plan, latents: [usize; 4], operations: f64) -> Self {
        Self { latents, predictions: predictions(plan), operations }
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Took {
    /// The model and its arithmetic.
    of: String,
    /// `[C, F, H, W]` of the latents.
    latents: [usize; 4],
    /// Operations of one prediction.
    operations: f64,
    /// Seconds of the text encoder.
    text: f64,
    /// Seconds of one prediction, loading and conditioning included.
    prediction: f64,
    /// Seconds of the decoder.
    decode: f64,
}

impl Pace {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// The time of a run of the model `of`, if one like it is known.
    pub(crate) fn estimate(&self, of: &str, work: &Work) -> Option<Estimate> {
        let known = read(&self.file);
        let mut like = known.iter().filter(|took| took.of == of);
        if let Some(same) = like.clone().rfind(|took| took.latents == work.latents) {
            return Some(same.scaled(work, Basis::SameSize));
        }
        let distance = |took: &&Took| (took.operations / work.operations).ln().abs();
        let nearest = like.by_ref().min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        (distance(&nearest) <= ALIKE.ln()).then(|| nearest.scaled(work, Basis::OtherSize))
    }

    /// Keeps how long runs of the model `of` took. One that continued an earlier one says nothing of the whole.
    pub(crate) fn learn(&self, of: &str, runs: &[(Work, Predictions, Seconds)]) {
        let is_whole = |work: &Work, made: &Predictions| made.computed + made.reused == work.predictions;
        let whole = runs.iter().filter(|(work, made, _)| work.predictions > 0 && is_whole(work, made));
        let took = whole.map(|(work, _, seconds)| Took {
            of: of.into(),
            latents: work.latents,
            operations: work.operations,
            text: seconds.text,
            prediction: seconds.denoise / work.predictions as f64,
            decode: seconds.decode,
        });
        let took: Vec<Took> = took.collect();
        if took.is_empty() {
            return;
        }
        let mut known = read(&self.file);
        for took in took {
            known.retain(|other| other.of != took.of || other.latents != took.latents);
            known.push(took);
        }
        known.drain(..known.len().saturating_sub(KEPT));
        if let Ok(text) = serde_json::to_string(&known)
            && std::fs::create_dir_all(kinora_files::folder_of(&self.file)).is_ok()
        {
            let _ = kinora_files::write(&self.file, text);
        }
    }
}

impl Took {
    /// The time of `work`.
    fn scaled(&self, work: &Work, basis: Basis) -> Estimate {
        let volume = |[_, f, h, w]: [usize; 4]| (f * h * w) as f64;
        let decode = self.decode * volume(work.latents) / volume(self.latents);
        let prediction = self.prediction * work.operations / self.operations;
        let seconds = self.text + prediction * work.predictions as f64 + decode;
        Estimate { seconds, decode: Some(decode), basis }
    }
}

/// The time of the steps by the rate at which this machine multiplies, where that is long.
pub(crate) fn guess(work: &Work, placement: &Placement) -> Option<Estimate> {
    let all = work.operations * work.predictions as f64;
    if !placement.device.is_cpu() || all < WORTH_A_GUESS {
        return None;
    }
    let Rates { f32, bf16, int8 } = kinora_kernels::rates().ok()?.linear;
    let rate = match (placement.quant, placement.dtype) {
        (Some(Quant::Int8), _) => int8,
        (_, DType::BF16) => bf16,
        _ => f32,
    };
    Some(Estimate { seconds: all / (OF_RATE * rate * 1e9), decode: None, basis: Basis::Rate })
}

/// The name of a model and its arithmetic on this machine, under which its times are kept. `weights` are the bytes of its
/// transformer.
pub(crate) fn name(model: &Model, placement: &Placement, plan: &Plan, weights: u64, threads: usize) -> String {
    let Placement { device, dtype, quant, exact, offload, .. } = placement;
    let quant = quant.map_or_else(String::new, |quant| quant.to_string());
    let cache = plan.cache.as_ref().map_or_else(String::new, |cache| format!("{cache:?}"));
    let on = if device.is_cpu() {
        format!("{} with {threads} threads", Level::current().name())
    } else {
        format!("{:?}, offload {offload}", device.location())
    };
    let name = &model.manifest.name;
    format!("{name}, {weights} bytes, {} {quant} exact {exact}, {on}, {} {cache}", dtype.as_str(), plan.attention)
}

/// Predictions that the steps of `plan` make.
fn predictions(plan: &Plan) -> usize {
    let schedule = &plan.schedule;
    (plan.zero_init..plan.steps())
        .map(|step| {
            let expert = plan.expert(schedule.timesteps()[step]);
            plan.passes_at(expert, schedule.sigmas()[step]).len()
        })
        .sum()
}

fn read(file: &Path) -> Vec<Took> {
    let known = kinora_files::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_sound = |took: &Took| {
        took.latents.iter().all(|&size| size > 0)
            && took.operations > 0.0
            && [took.text, took.prediction, took.decode].iter().all(|seconds| seconds.is_finite() && *seconds >= 0.0)
    };
    let mut known: Vec<Took> = known.unwrap_or_default();
    known.retain(is_sound);
    known
}
