//! [`BenchReport`]: the results of a benchmark, as they are printed, kept in a file and compared.

use super::BenchPart;
use crate::{Error, Result};
use kinora_kernels::Level;
use kinora_kernels::profile::{OperatorTime, Work};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Everything that one run of the benchmark found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Version of Kinora.
    pub version: String,
    /// CPU threads.
    pub threads: usize,
    /// The machine's highest measured rate of arithmetic with these threads; `None` where the work runs on another
    /// device.
    pub peak: Option<Peak>,
    /// What this machine's kernels reach in each arithmetic; `None` as for the peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// One row per part.
    pub parts: Vec<Measurement>,
}

/// 10⁹ operations per second, of all threads together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// f32 multiplications and additions.
    pub f32: f64,
    /// bf16 multiplications and additions, where kernels use instructions for them.
    pub bf16: Option<f64>,
    /// 8-bit multiplications and additions, where there are instructions for them.
    pub int8: Option<f64>,
}

/// The CPU's kernels, and how fast they are on sizes that fit in its caches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// The level of vector instructions.
    pub level: String,
    /// What multiplies f32, bf16 and 8-bit integers, in words.
    pub instructions: [(String, String); 3],
    /// What linear layers reach.
    pub linear: Rates,
    /// What attention reaches.
    pub attention: Rates,
}

/// 10⁹ operations per second of an operator, of all threads together, by the arithmetic of its products.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// f32.
    pub f32: f64,
    /// bf16.
    pub bf16: f64,
    /// 8-bit integers.
    pub int8: f64,
}

impl Cpu {
    /// Measures with the threads of rayon's current pool; some tens of milliseconds.
    pub(super) fn measured() -> Result<Self> {
        let of = |rates: kinora_kernels::Rates| Rates { f32: rates.f32, bf16: rates.bf16, int8: rates.int8 };
        let measured = kinora_kernels::rates()?;
        Ok(Self {
            level: Level::current().name().into(),
            instructions: kinora_kernels::instructions().map(|(name, words)| (name.into(), words.into())),
            linear: of(measured.linear),
            attention: of(measured.attention),
        })
    }
}

/// One measured part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// `text`, `dit`, `vae` or `encode`.
    pub part: String,
    /// The work of one run, in words.
    pub work: String,
    /// Median seconds of a run.
    pub seconds: f64,
    /// Fastest run.
    pub fastest: f64,
    /// Slowest run.
    pub slowest: f64,
    /// Runs (steps for the transformer, prompts for the text encoder, frames for the VAE) per second, by the median.
    pub per_second: f64,
    /// 10⁹ operations per second, by the median.
    pub gflops: f64,
    /// Highest resident memory while this part ran, its weights and the program included, bytes (Linux).
    pub peak_memory: Option<u64>,
    /// Whether the system could not tell the peak of this part alone: then it is that of the process so far.
    pub peak_memory_so_far: bool,
    /// Where the time of the fastest run went, the largest share first; `other` is what no operator accounts for.
    pub operators: Vec<OperatorShare>,
    /// Median seconds of an earlier run over this one's: above 1 this one is faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<f64>,
}

/// One operator's part in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorShare {
    /// Its entry function in the kernels.
    pub operator: String,
    /// Calls in one run.
    pub calls: usize,
    /// Seconds of one run.
    pub seconds: f64,
    /// Share of the run.
    pub share: f64,
    /// 10⁹ operations per second, where they are counted.
    pub gflops: Option<f64>,
    /// The same over what the machine reaches at most in that arithmetic.
    pub of_peak: Option<f64>,
}

impl BenchReport {
    /// Reads the JSON of an earlier benchmark.
    pub fn read(path: &Path) -> Result<Self> {
        let hint = "an earlier result is the JSON of a benchmark of this version";
        let bad = |reason: String| Error::bad_file(path, reason, hint);
        let text = kinora_files::read_text(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        serde_json::from_str(&text).map_err(|error| bad(format!("it is no result of a benchmark: {error}")))
    }

    /// Fills in how much faster each part is than in `earlier`, where the same work was measured there.
    pub fn compare(&mut self, earlier: &Self) {
        for row in &mut self.parts {
            let before = earlier.parts.iter().find(|other| other.part == row.part && other.work == row.work);
            row.speedup = before.map(|before| before.seconds / row.seconds);
        }
    }
}

/// The timed runs of one part: seconds, sorted, and the operators of the fastest.
pub(super) struct Runs {
    pub seconds: Vec<f64>,
    pub operators: Vec<OperatorTime>,
    pub peak_memory: Option<u64>,
    /// Whether that is the peak of these runs alone.
    pub own_peak: bool,
}

impl Runs {
    /// The seconds and calls of the whole, of which these runs were one part in `times`.
    pub fn scaled(mut self, times: f64) -> Self {
        self.seconds.iter_mut().for_each(|seconds| *seconds *= times);
        for entry in &mut self.operators {
            entry.time = entry.time.mul_f64(times);
            entry.calls = (entry.calls as f64 * times).round() as usize;
            entry.work = match entry.work {
                Work::F32(operations) => Work::F32(operations * times),
                Work::Bf16(operations) => Work::Bf16(operations * times),
                Work::Int8(operations) => Work::Int8(operations * times),
                Work::Moves => Work::Moves,
            };
        }
        self
    }

    /// One row; `units` are what a run makes.
    pub fn measurement(&self, part: BenchPart, work: String, units: f64, peak: Option<Peak>) -> Measurement {
        let seconds = self.seconds[self.seconds.len() / 2];
        let operations: f64 = self.operators.iter().filter_map(|entry| entry.work.operations()).sum();
        Measurement {
            part: part.name().into(),
            work,
            seconds,
            fastest: self.seconds[0],
            slowest: self.seconds[self.seconds.len() - 1],
            per_second: units / seconds,
            gflops: operations / seconds / 1e9,
            peak_memory: self.peak_memory,
            peak_memory_so_far: !self.own_peak,
            operators: self.shares(peak),
            speedup: None,
        }
    }

    fn shares(&self, peak: Option<Peak>) -> Vec<OperatorShare> {
        let total = self.seconds[0];
        let share = |operator: &str, calls, time: Duration, work: Work| {
            let seconds = time.as_secs_f64();
            let gflops = work.operations().map(|operations| operations / seconds / 1e9);
            let most = match work {
                Work::F32(_) => peak.map(|peak| peak.f32),
                Work::Bf16(_) => peak.and_then(|peak| peak.bf16),
                Work::Int8(_) => peak.and_then(|peak| peak.int8),
                Work::Moves => None,
            };
            let of_peak = gflops.zip(most).map(|(gflops, most)| gflops / most);
            OperatorShare { operator: operator.into(), calls, seconds, share: seconds / total, gflops, of_peak }
        };
        let counted: Duration = self.operators.iter().map(|entry| entry.time).sum();
        let rest = Duration::from_secs_f64(total).saturating_sub(counted);
        let operators = self.operators.iter().map(|entry| share(entry.operator, entry.calls, entry.time, entry.work));
        let mut shares: Vec<OperatorShare> = operators.chain([share("other", 0, rest, Work::Moves)]).collect();
        shares.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        shares
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "sums and quotients of small whole numbers are exact")]
mod tests {
    use super::*;

    fn runs() -> Runs {
        let entry = |operator, calls, ms, work| OperatorTime { operator, calls, time: Duration::from_millis(ms), work };
        let operators = vec![
            entry("linear", 4, 500, Work::F32(2e9)),
            entry("int8", 2, 250, Work::Int8(1e9)),
            entry("norm", 3, 50, Work::Moves),
        ];
        Runs { seconds: vec![1.0, 2.0, 4.0], operators, peak_memory: None, own_peak: false }
    }

    #[test]
    fn shares_are_of_the_fastest_run_and_rates_of_their_own_arithmetic() {
        let peak = Some(Peak { f32: 8.0, bf16: None, int8: Some(16.0) });
        let row = runs().measurement(BenchPart::Dit, "a step".into(), 1.0, peak);
        assert_eq!((row.seconds, row.fastest, row.slowest, row.per_second, row.gflops), (2.0, 1.0, 4.0, 0.5, 1.5));
        let found: Vec<_> =
            row.operators.iter().map(|o| (o.operator.as_str(), o.calls, o.share, o.gflops, o.of_peak)).collect();
        let expected = [
            ("linear", 4, 0.5, Some(4.0), Some(0.5)),
            ("int8", 2, 0.25, Some(4.0), Some(0.25)),
            ("other", 0, 0.2, None, None),
            ("norm", 3, 0.05, None, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_part_stands_for_the_whole() {
        let (part, whole) = (runs(), runs().scaled(12.0));
        assert_eq!(whole.seconds, [12.0, 24.0, 48.0]);
        let (part, whole) = (
            part.measurement(BenchPart::Text, String::new(), 1.0, None),
            whole.measurement(BenchPart::Text, String::new(), 1.0, None),
        );
        assert_eq!((whole.gflops, whole.operators[0].calls), (part.gflops, 48));
        assert_eq!(whole.operators[0].share, part.operators[0].share);
    }

    #[test]
    fn only_the_same_work_is_compared() {
        let row = |work: &str, scale| runs().scaled(scale).measurement(BenchPart::Dit, work.into(), 1.0, None);
        let report = |parts| BenchReport { version: String::new(), threads: 1, peak: None, cpu: None, parts };
        let mut now = report(vec![row("a", 1.0), row("b", 1.0)]);
        now.compare(&report(vec![row("c", 1.0), row("a", 3.0)]));
        assert_eq!(now.parts.iter().map(|row| row.speedup).collect::<Vec<_>>(), [Some(3.0), None]);
    }
}
