//! [`Percent`]: how far an attempt is, and how long it will still take, as honestly as can be.

use crate::protocol::{Stage, Time};
use std::time::Instant;

/// Shares of the bar: up to the end of each part, in percent.
const LOADED: f64 = 2.0;
const READ: f64 = 5.0;
const STEPPED: f64 = 90.0;
const WHOLE: f64 = 99.0;
/// Steps after which the time of one is measured.
const KNOWN: usize = 2;

/// The progress of one attempt.
#[derive(Default)]
pub struct Percent {
    highest: f64,
    /// Seconds of the steps of this attempt.
    steps: Vec<f64>,
    left: Option<f64>,
    /// The time of the whole attempt, where that is known beforehand, and when it was told.
    expected: Option<(Time, Instant)>,
    decoded_since: Option<Instant>,
}

impl Percent {
    /// Takes how long it is expected to take.
    pub fn expect(&mut self, time: Time) {
        self.expected = Some((time, Instant::now()));
    }

    /// Takes what the worker said; `window` is the run of the sampler of a story, and the number of them.
    pub fn hear(
        &mut self,
        stage: Stage,
        done: usize,
        total: usize,
        seconds: Option<f64>,
        [window, windows]: [usize; 2],
    ) {
        let part = if total == 0 { 0.0 } else { done as f64 / total as f64 };
        let percent = match stage {
            Stage::Load => 0.0,
            Stage::Text => LOADED,
            Stage::Encode => LOADED + (READ - LOADED) * part,
            Stage::Steps => READ + (STEPPED - READ) * (window.saturating_sub(1) as f64 + part) / windows.max(1) as f64,
            // Between windows, frames are decoded too.
            Stage::Frames if window < windows => 0.0,
            Stage::Frames => STEPPED + (WHOLE - STEPPED) * part,
        };
        self.highest = self.highest.max(percent);
        self.steps.extend(seconds);
        let decode = self.decode();
        self.left = match stage {
            Stage::Steps if self.steps.len() >= KNOWN => {
                let later = total * windows.saturating_sub(window);
                let steps = median(&self.steps) * (total.saturating_sub(done) + later) as f64;
                Some(steps + decode.unwrap_or(0.0))
            }
            Stage::Steps => self.beforehand((window.saturating_sub(1) as f64 + part) / windows.max(1) as f64),
            Stage::Frames => {
                let since = self.decoded_since.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
                if part > 0.0 { Some(since * (1.0 - part) / part) } else { decode }
            }
            _ => self.beforehand(0.0).filter(|_| self.steps.is_empty()),
        };
    }

    /// Seconds of decoding, where they are known.
    fn decode(&self) -> Option<f64> {
        self.expected.and_then(|(time, _)| time.decode)
    }

    /// Seconds that are left by what was told, when that `part` of the steps is done: an attempt that goes on from a saved step has
    /// less before it. `None` when it should be over.
    fn beforehand(&self, part: f64) -> Option<f64> {
        let (time, told) = self.expected?;
        let decode = self.decode().unwrap_or(0.0);
        let left = (time.seconds - decode) * (1.0 - part) + decode;
        Some(left.min(time.seconds - told.elapsed().as_secs_f64())).filter(|left| *left > 0.0)
    }

    /// Percent; it never falls.
    pub fn percent(&self) -> u8 {
        self.highest as u8
    }

    /// Seconds that are left, where that is known.
    pub fn seconds_left(&self) -> Option<f64> {
        self.left
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Basis;

    fn percent(seconds: f64, decode: Option<f64>) -> Percent {
        let mut percent = Percent::default();
        percent.expect(Time { seconds, decode, basis: Basis::OtherSize });
        percent
    }

    #[test]
    fn the_bar_never_falls_and_time_is_expected_before_it_is_measured() {
        let mut percent = percent(13.0, Some(3.0));
        let mut last = 0;
        let mut see = |stage, done, total, seconds, left: Option<f64>| {
            percent.hear(stage, done, total, seconds, [1, 1]);
            assert!(percent.percent() >= last, "{stage:?} {done}");
            last = percent.percent();
            assert_eq!(percent.seconds_left().map(f64::round), left, "{stage:?} {done}");
        };
        see(Stage::Load, 0, 0, None, Some(13.0));
        see(Stage::Text, 0, 0, None, Some(13.0));
        see(Stage::Steps, 0, 0, None, Some(13.0));
        see(Stage::Steps, 1, 5, Some(9.0), Some(11.0));
        see(Stage::Steps, 2, 5, Some(2.0), Some(30.0));
        see(Stage::Steps, 3, 5, Some(2.0), Some(7.0));
        see(Stage::Steps, 5, 5, Some(2.0), Some(3.0));
        see(Stage::Encode, 1, 2, None, None);
        see(Stage::Frames, 0, 5, None, Some(3.0));
        see(Stage::Frames, 5, 5, None, Some(0.0));
        assert_eq!(percent.percent(), 99);
    }

    #[test]
    fn nothing_is_said_that_is_not_known() {
        let mut unknown = Percent::default();
        unknown.hear(Stage::Text, 0, 0, None, [1, 1]);
        assert_eq!(unknown.seconds_left(), None);
        unknown.hear(Stage::Steps, 1, 5, Some(2.0), [1, 1]);
        assert_eq!(unknown.seconds_left(), None);
        unknown.hear(Stage::Steps, 2, 5, Some(2.0), [1, 1]);
        assert_eq!(unknown.seconds_left(), Some(6.0));
        unknown.hear(Stage::Frames, 0, 5, None, [1, 1]);
        assert_eq!(unknown.seconds_left(), None);
    }

    #[test]
    fn a_story_counts_its_windows() {
        let mut percent = percent(21.0, Some(1.0));
        let mut see = |stage, done, total, window| {
            percent.hear(stage, done, total, Some(1.0), [window, 2]);
            (percent.percent(), percent.seconds_left())
        };
        assert_eq!(see(Stage::Steps, 1, 4, 1).1, Some(20.0 * 7.0 / 8.0 + 1.0));
        assert_eq!(see(Stage::Steps, 2, 4, 1), (26, Some(7.0)));
        assert_eq!(see(Stage::Frames, 5, 5, 1).0, 26);
        assert_eq!(see(Stage::Steps, 2, 4, 2), (68, Some(3.0)));
        assert_eq!(see(Stage::Frames, 9, 9, 2).0, 99);
    }
}
