//! [`CacheRule`]: decides from numbers alone whether a prediction is reused.

use super::At;
use crate::model::manifest::Manifest;
use crate::request::cache::{CacheKind, CacheSetting};
use crate::{Error, Result};
use kinora_sampler::SamplerKind;

/// Threshold of `first-block`: that of diffusers (`FirstBlockCacheConfig`).
const FIRST_BLOCK: f64 = 0.05;
/// Threshold of `easycache`, and the share of steps that are computed at the start: 7 of 50
/// (<https://github.com/H-EmbodVis/EasyCache/blob/main/EasyCache4Wan2.2/easycache_generate.py>).
const EASYCACHE: f64 = 0.05;
const EASYCACHE_FIRST: f64 = 0.14;
/// Share of steps that `magcache` computes at the start
/// (<https://github.com/Zehong-Ma/MagCache/blob/df81cb181776c2c61477c08e1d21f87fda1cd938/MagCache4Wan2.1/magcache_generate.py>).
const MAGCACHE_FIRST: f64 = 0.2;
/// The rate of change is not known yet.
const UNKNOWN: f64 = -1.0;

/// A kind of step cache with everything that it decides by.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRule {
    /// The kind.
    pub kind: CacheKind,
    /// Predictions below this (accumulated) relative change are reused; 0 reuses none.
    pub threshold: f64,
    /// So many first steps are always computed, as is the last.
    pub first: usize,
    steps: usize,
    table: Table,
}

/// The table of one model that a step cache needs.
#[derive(Debug, Clone, PartialEq)]
enum Table {
    None,
    /// Highest power first.
    Polynomial([f64; 5]),
    /// Per prediction and step; and the most steps in a row.
    Ratios([Vec<f64>; 2], usize),
}

/// Numbers that are carried from one decision to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Numbers {
    /// Accumulated since the last computed prediction.
    pub error: f64,
    /// The same, as a product.
    pub ratio: f64,
    /// Decisions since then.
    pub count: f64,
    /// Change of the velocity by change of the latents, between the last two computed predictions.
    pub rate: f64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { error: 0.0, ratio: 1.0, count: 0.0, rate: UNKNOWN }
    }
}

impl Numbers {
    /// The rate, once it is known.
    pub fn rate(&self) -> Option<f64> {
        Some(self.rate).filter(|rate| *rate >= 0.0)
    }

    fn restart(&mut self) {
        *self = Self { rate: self.rate, ..Self::default() };
    }
}

impl CacheRule {
    /// The rule of `setting` for a run of `steps` steps on the model of `manifest`.
    pub(crate) fn new(setting: CacheSetting, manifest: &Manifest, sampler: SamplerKind, steps: usize) -> Result<Self> {
        let CacheSetting { kind, threshold } = setting;
        if sampler == SamplerKind::Heun {
            let what = "step caches need one evaluation a step, heun makes two";
            return Err(Error::request(what, "choose another sampler, or no cache").about(&["sampler", "cache"]));
        }
        let unknown = || {
            let what = format!("there is no table of {} for {}", kind.name(), manifest.name);
            Error::request(what, "first-block and easycache work with every model")
        };
        let share = |share: f64| ((share * steps as f64).round() as usize).max(1);
        let (own, first, table) = match kind {
            CacheKind::FirstBlock => (FIRST_BLOCK, 1, Table::None),
            CacheKind::EasyCache => (EASYCACHE, share(EASYCACHE_FIRST), Table::None),
            CacheKind::TeaCache => {
                let tea = manifest.caches.teacache.as_ref().ok_or_else(unknown)?;
                (tea.threshold, 1, Table::Polynomial(tea.coefficients))
            }
            CacheKind::MagCache => {
                let mag = manifest.caches.magcache.as_ref().ok_or_else(unknown)?;
                let ratios = [&mag.conditional, &mag.unconditional].map(|ratios| nearest(ratios, steps));
                (mag.threshold, share(MAGCACHE_FIRST), Table::Ratios(ratios, mag.most_in_a_row))
            }
        };
        let threshold = threshold.unwrap_or(own);
        if !(0.0..=10.0).contains(&threshold) {
            let what = format!("a threshold of {threshold} is not possible for {}", kind.name());
            return Err(Error::request(what, format!("{own} is usual, 0 reuses nothing, and 10 is the limit")));
        }
        Ok(Self { kind, threshold, first, steps, table })
    }

    /// The rule as a setting that gives it again.
    pub fn setting(&self) -> CacheSetting {
        CacheSetting { kind: self.kind, threshold: Some(self.threshold) }
    }

    /// Whether the prediction is reused. `change` is the relative change of what the cache looks at, `None` where there
    /// is nothing to compare with or to reuse.
    pub(super) fn reuses(&self, at: At, change: Option<f64>, numbers: &mut Numbers) -> bool {
        let always_computed = at.step < self.first || at.step + 1 >= self.steps;
        let Some(change) = change.filter(|_| !always_computed) else {
            numbers.restart();
            return false;
        };
        numbers.count += 1.0;
        let mut most = f64::INFINITY;
        match (&self.table, self.kind) {
            (Table::Polynomial(coefficients), _) => {
                numbers.error += coefficients.iter().fold(0.0, |sum, coefficient| sum * change + coefficient);
            }
            (Table::Ratios(ratios, most_in_a_row), _) => {
                let [conditional, unconditional] = ratios;
                let ratios = if at.prediction == 1 { unconditional } else { conditional };
                numbers.ratio *= ratios.get(at.step).copied().unwrap_or(1.0);
                numbers.error += (1.0 - numbers.ratio).abs();
                most = *most_in_a_row as f64;
            }
            (Table::None, CacheKind::EasyCache) => numbers.error += numbers.rate * change,
            (Table::None, _) => numbers.error = change,
        }
        // The first test is for polynomials, which go below 0.
        let reuses = self.threshold > 0.0 && numbers.error < self.threshold && numbers.count <= most;
        if !reuses {
            numbers.restart();
        }
        reuses
    }
}

/// A table for another number of steps: the nearest of its entries.
fn nearest(ratios: &[f64], steps: usize) -> Vec<f64> {
    let last = ratios.len().saturating_sub(1);
    if steps == 1 {
        return ratios.last().copied().into_iter().collect();
    }
    let scale = last as f64 / (steps - 1) as f64;
    (0..steps).filter_map(|step| ratios.get((step as f64 * scale).round_ties_even() as usize).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(model: &str, setting: &str, steps: usize) -> CacheRule {
        let manifest = Manifest::known().into_iter().find(|manifest| manifest.name == model).expect("a known model");
        let setting = setting.parse().expect("a setting");
        CacheRule::new(setting, &manifest, SamplerKind::UniPc, steps).expect("a rule")
    }

    /// `C` for computed, `r` for reused; each change is that before the step of its place.
    fn decisions(rule: &CacheRule, prediction: usize, changes: &[f64]) -> String {
        let mut numbers = Numbers { rate: 1.0, ..Numbers::default() };
        let mut decide = |(step, change): (usize, &f64)| {
            if rule.reuses(At { step, prediction }, Some(*change), &mut numbers) { 'r' } else { 'C' }
        };
        changes.iter().enumerate().map(&mut decide).collect()
    }

    /// Sequences of what the authors' `magcache_generate.py` decides on the tables of the manifests, but for the last step
    /// of the last one, which is always computed here.
    #[test]
    fn magcache_decides_as_its_authors_code() {
        let (small, large) = ("wan2.1-t2v-1.3b", "wan2.1-t2v-14b");
        for (model, expected) in [
            (small, "CCCCCCCCCCrrrrCrrrrCrrrrCrrrrCrrrrCrrrCrrCrrCrCrCC"),
            (small, "CCCCCCrrrrCrrrrCrrrrCrrrCrrCrC"),
            (small, "CCCCrrrrCrrrrCrrCrCC"),
            (large, "CCCCCCCCCCrrrrrrCrrrrrrCrrrrrrCrrrrrCrrrrCrrCrrCrC"),
            (large, "CCCCCCrrrrrrCrrrrrrCrrrrCrrCrC"),
            (large, "CCCrrrrrrCrrrrCC"),
        ] {
            let steps = expected.len();
            let rule = rule(model, "magcache", steps);
            for prediction in [0, 1] {
                assert_eq!(decisions(&rule, prediction, &vec![0.0; steps]), expected, "{model}, {steps} steps");
            }
        }
    }

    /// Against the same sums in Python; the polynomial of the 1.3 B model is 0.0423 at 0.02, 0.0367 at 0.03.
    #[test]
    fn teacache_adds_up_its_polynomial() {
        let changes = [9.0, 0.02, 0.03, 0.025, 0.05, 0.08, 0.1, 0.12, 0.07, 0.04, 0.2, 0.15, 0.03, 0.02, 0.02, 0.02];
        let rule = rule("wan2.1-t2v-1.3b", "teacache", changes.len());
        assert_eq!(rule.setting().to_string(), "teacache:0.08");
        assert_eq!(decisions(&rule, 0, &changes), "CrrCrCCCCrrCrrCC");
    }

    #[test]
    fn easycache_adds_up_rate_times_change_after_the_first_steps() {
        let rule = rule("wan2.2-ti2v-5b", "easycache:0.1", 20);
        assert_eq!(rule.first, 3);
        // Sums from step 3: 0.04 r, 0.08 r, 0.12 C, 0.04 r, …; the last step is always computed.
        assert_eq!(decisions(&rule, 0, &[0.04; 20]), "CCCrrCrrCrrCrrCrrCrC");
    }

    #[test]
    fn the_first_block_is_compared_with_the_last_computed_step() {
        let rule = rule("wan2.2-ti2v-5b", "first-block", 6);
        assert_eq!(rule.setting().to_string(), "first-block:0.05");
        assert_eq!(decisions(&rule, 0, &[0.0, 0.04, 0.049, 0.05, 0.0, 0.0]), "CrrCrC");
    }

    #[test]
    fn nothing_is_reused_without_something_to_compare_or_at_threshold_0() {
        let rule_of = |setting| rule("wan2.1-t2v-14b", setting, 10);
        for setting in ["first-block:0", "easycache:0", "teacache:0", "magcache:0"] {
            // The polynomial is below 0 here.
            assert_eq!(decisions(&rule_of(setting), 0, &[0.05; 10]), "CCCCCCCCCC", "{setting}");
        }
        let at = At { step: 5, prediction: 0 };
        assert!(!rule_of("first-block").reuses(at, None, &mut Numbers::default()));
    }
}
