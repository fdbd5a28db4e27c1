//! [`MemoryPlan`]: the predicted peak memory of a run.

use super::machine::resident;
use crate::plan::Plan;
use serde::Serialize;
use std::fmt;

/// Bytes that the process takes later, beside the components of the model: code that is read when it runs, the tokenizer,
/// the threads' scratch, the encoder. Measured.
const LATER: u64 = 42_000_000;
/// Memory that the allocator holds, relative to the memory that is asked for: fractions of its blocks. Measured.
const FRAYED: f64 = 1.25;
/// Bytes that are resident when a run is planned, on systems that do not report them.
const SO_FAR: u64 = 25_000_000;

/// The properties of a run that determine its memory, beside the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demand {
    /// `[C, F, H, W]` of the latents.
    pub latents: [usize; 4],
    /// Estimated text tokens of each prediction of a step.
    pub texts: Vec<usize>,
    /// Whether a step cache keeps tensors of the size of all tokens.
    pub cached: bool,
    /// Threads, each with scratch of its own.
    pub threads: usize,
    /// Latent pixels per side of the tiles that frames are decoded in.
    pub tile: Option<usize>,
}

impl Demand {
    /// Returns the demand of `plan` if its latents had the shape `[C, F, H, W]`.
    pub(crate) fn of(plan: &Plan, [c, f, h, w]: [usize; 4], tile: Option<usize>, threads: usize) -> Self {
        // A token is four letters in English, a character or two in Chinese; a few more do not matter.
        let tokens = |text: &String| text.len() / 3 + 2;
        let texts = [Some(&plan.prompt), Some(&plan.negative_prompt).filter(|_| plan.guided())];
        Self {
            latents: [c, f + plan.inputs.references.len(), h, w],
            texts: texts.into_iter().flatten().map(tokens).collect(),
            cached: plan.cache.is_some(),
            threads,
            tile,
        }
    }
}

/// Bytes that one component of a model takes while it works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PartMemory {
    /// Bytes of the weights as they are stored in memory.
    pub weights: u64,
    /// The most bytes of activations and scratch at a time.
    pub working: u64,
}

impl PartMemory {
    /// The sum of both.
    pub fn total(&self) -> u64 {
        self.weights + self.working
    }
}

/// The components of a model; only one is in memory at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartsMemory {
    /// Text encoder.
    pub text: PartMemory,
    /// Transformer; the larger one of two experts.
    pub denoise: PartMemory,
    /// VAE decoder.
    pub decode: PartMemory,
}

/// The peak memory of every stage of a run, predicted from shapes alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Bytes of each stage's component.
    #[serde(flatten)]
    pub parts: PartsMemory,
    /// Bytes of the process beside the components.
    pub process: u64,
    /// Bytes of the largest stage with the process: the predicted peak.
    pub peak: u64,
    /// Bytes that this process can still get, if the system (Linux) or the GPU reports them.
    pub available: Option<u64>,
    /// Changes with which the run would fit, if it does not.
    pub would_fit: Vec<String>,
}

impl MemoryPlan {
    /// Returns the plan of components in host memory; `in_program` are bytes of weights that are compiled in, which count
    /// when they are read; `idle` are those that were resident when the model was loaded.
    pub(crate) fn new(mut parts: PartsMemory, in_program: u64, idle: Option<u64>, available: Option<u64>) -> Self {
        for part in [&mut parts.text, &mut parts.denoise, &mut parts.decode] {
            part.working = (part.working as f64 * FRAYED) as u64;
        }
        let largest = [parts.text, parts.denoise, parts.decode].iter().map(PartMemory::total).max().unwrap_or(0);
        // Of what is resident now, the allocator has the rest for the next stages: it kept it of an earlier run.
        let now = resident().unwrap_or(SO_FAR);
        let process = idle.unwrap_or(now).min(now) + LATER + in_program;
        // What is resident already is not counted as free.
        let available = available.map(|available| available + now);
        Self { parts, process, peak: process + largest, available, would_fit: Vec::new() }
    }

    /// Returns the plan of components on a GPU with room for `available` bytes.
    pub(crate) fn on_gpu(mut parts: PartsMemory, available: u64) -> Self {
        for part in [&mut parts.text, &mut parts.denoise, &mut parts.decode] {
            part.working = (part.working as f64 * FRAYED) as u64;
        }
        let peak = [parts.text, parts.denoise, parts.decode].iter().map(PartMemory::total).max().unwrap_or(0);
        Self { parts, process: 0, peak, available: Some(available), would_fit: Vec::new() }
    }

    /// Returns whether the peak is within the available memory, as far as that is known.
    pub fn fits(&self) -> bool {
        self.available.is_none_or(|available| self.peak <= available)
    }

    /// Returns a warning if the run may not fit.
    pub(crate) fn warning(&self) -> Option<String> {
        let available = self.available.filter(|available| self.peak > *available)?;
        let advice = if self.would_fit.is_empty() {
            "a file of its weights in four bits (GGUF) takes an eighth of f32 ones, and smaller models take less"
                .to_string()
        } else {
            format!("{} would fit", self.would_fit.join(", or "))
        };
        Some(format!(
            "this may not fit in memory: about {} are needed, {} are free; {advice}",
            gb(self.peak),
            gb(available)
        ))
    }
}

/// Writes one line: the memory of each stage and the available memory.
impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let PartsMemory { text, denoise, decode } = self.parts;
        let [text, denoise, decode] = [text, denoise, decode].map(|part| gb(self.process + part.total()));
        write!(f, "memory: text {text}, denoising {denoise}, decoding {decode}")?;
        match self.available {
            Some(available) => write!(f, "; {} free", gb(available)),
            None => Ok(()),
        }
    }
}

/// Formats bytes for people: `6.4 GB`, `83 MB`.
pub(crate) fn gb(bytes: u64) -> String {
    if bytes >= 1_000_000_000 {
        format!("{:.1} GB", bytes as f64 / 1e9)
    } else {
        format!("{} MB", bytes.div_ceil(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a plan for a process of 1 GB.
    fn plan(available: u64) -> MemoryPlan {
        let part = |weights, working| PartMemory { weights, working };
        let (text, denoise) = (part(11_000_000_000, 400_000_000), part(2_000_000_000, 800_000_000));
        let parts = PartsMemory { text, denoise, decode: part(300_000_000, 80_000_000) };
        let plan = MemoryPlan::new(parts, 0, None, None);
        let peak = plan.peak - plan.process + 1_000_000_000;
        MemoryPlan { process: 1_000_000_000, peak, available: Some(available), ..plan }
    }

    #[test]
    fn the_largest_stage_counts() {
        let plan = plan(16_000_000_000);
        assert_eq!(plan.peak, 12_500_000_000);
        assert!(plan.fits() && plan.warning().is_none());
        assert_eq!(plan.to_string(), "memory: text 12.5 GB, denoising 4.0 GB, decoding 1.4 GB; 16.0 GB free");
    }

    #[test]
    fn what_does_not_fit_is_said_with_what_would() {
        let mut plan = plan(8_000_000_000);
        assert!(!plan.fits());
        let start = "this may not fit in memory: about 12.5 GB are needed, 8.0 GB are free; ";
        assert_eq!(
            plan.warning(),
            Some(format!(
                "{start}a file of its weights in four bits (GGUF) takes an eighth of f32 ones, and smaller models take less"
            ))
        );
        plan.would_fit = vec!["bf16 (6.0 GB)".into(), "17 frames (7.0 GB)".into()];
        assert_eq!(plan.warning(), Some(format!("{start}bf16 (6.0 GB), or 17 frames (7.0 GB) would fit")));
    }
}
