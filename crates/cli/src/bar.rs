//! [`Bar`]: the progress of one stage on stderr, as a bar where that is a terminal, and as a line now and then elsewhere.

use crate::report;
use crate::shown::shown;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Columns of a terminal in which a bar and its numbers fit.
const WIDE: u16 = 80;
/// The clock of a bar goes on while nothing else does.
const TICK: Duration = Duration::from_millis(200);
/// Lines of a log are so far apart at least.
const PAUSE: Duration = Duration::from_secs(5);
/// And as far as such a part of the time that the stage has taken: long runs have no endless logs.
const PART: u32 = 20;

/// What a bar looks like: the name of the work, and the parts after the bar, by indicatif's templates.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Such as `denoising`; it may be empty.
    pub name: &'static str,
    /// After the bar in a wide terminal.
    pub wide: &'static str,
    /// After the name in a narrow one.
    pub narrow: &'static str,
}

/// The progress of one stage.
pub struct Bar {
    drawn: ProgressBar,
    /// Where no bar can be drawn.
    lines: Option<Lines>,
    is_narrow: bool,
}

/// The lines of a log.
struct Lines {
    name: &'static str,
    begun: Instant,
    last: Instant,
}

impl Lines {
    /// Whether it is time for a line.
    fn is_due(&self, now: Instant) -> bool {
        now - self.last >= PAUSE.max((now - self.begun) / PART)
    }
}

impl Bar {
    /// Shows nothing.
    pub fn hidden() -> Self {
        Self { drawn: ProgressBar::hidden(), lines: None, is_narrow: false }
    }

    /// Shows a text and the time, as long as the work takes.
    pub fn text(text: &'static str) -> Self {
        Self::new("{msg}  {elapsed}", text, None, None)
    }

    /// Shows work of `total` parts.
    pub fn of(look: Look, total: u64) -> Self {
        let Look { name, wide, narrow } = look;
        let columns = console::Term::stderr().size_checked().map_or(WIDE, |(_, columns)| columns);
        let template = if columns < WIDE { format!("{name} {narrow}") } else { format!("{name} {{bar:30}} {wide}") };
        let now = Instant::now();
        let lines = Lines { name: name.trim_end(), begun: now, last: now };
        let mut bar = Self::new(template.trim_start(), "", Some(total), Some(lines));
        bar.is_narrow = columns < WIDE;
        bar
    }

    /// Whether the terminal has no room for a bar beside its numbers.
    pub fn is_narrow(&self) -> bool {
        self.is_narrow
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that makes bars")]
    fn new(template: &str, text: &'static str, total: Option<u64>, lines: Option<Lines>) -> Self {
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_message(text);
        bar.set_style(ProgressStyle::with_template(template).expect("templates are constants"));
        let lines = lines.filter(|_| bar.is_hidden());
        bar.tick();
        bar.enable_steady_tick(TICK);
        Self { drawn: bar, lines, is_narrow: false }
    }

    /// Shows that `done` of `total` are done.
    pub fn at(&mut self, done: u64, total: u64) {
        self.drawn.set_length(total);
        self.drawn.set_position(done);
    }

    /// In a log, a line that says `what` has been done, if it is time for one.
    pub fn log(&mut self, what: impl FnOnce() -> String) {
        let now = Instant::now();
        let Some(lines) = self.lines.as_mut().filter(|lines| lines.is_due(now)) else { return };
        lines.last = now;
        report::say(&format!("{} {}, {}", lines.name, what(), report::seconds((now - lines.begun).as_secs_f64())));
    }

    /// Shows a count, such as `3/20`, where the look has a prefix.
    pub fn count(&self, text: String) {
        self.drawn.set_prefix(text);
    }

    /// Speed and remaining time count from here, not what an earlier run did.
    pub fn begin_at(&self, done: u64) {
        self.drawn.set_position(done);
        self.drawn.reset_eta();
    }

    /// Shows `text`, which may be somebody else's, where the look has a message.
    pub fn message(&self, text: &str) {
        let text = shown(text);
        if self.drawn.message() != text {
            self.drawn.set_message(text.into_owned());
        }
    }

    /// Prints above the bar.
    pub fn above(&self, print: impl FnOnce()) {
        self.drawn.suspend(print);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.drawn.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_log_become_rarer() {
        let begun = Instant::now();
        let after = |begun: Instant, seconds| begun + Duration::from_secs(seconds);
        let due = |last, now| Lines { name: "", begun, last: after(begun, last) }.is_due(after(begun, now));
        assert!(!due(0, 4) && due(0, 5));
        assert!(!due(95, 99) && due(95, 100));
        assert!(!due(3600, 3780) && due(3600, 3800));
    }
}
