//! [`Bar`]: the progress of one stage on stderr, as a bar where that is a terminal, and as a line now and then elsewhere.

use crate::report;
use crate::shown::shown;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Columns of a terminal in which a bar and its numbers fit.
const WIDE: u16 = 80;
/// Without a terminal there is a line at least this often, if anything is done at all.
const PAUSE: Duration = Duration::from_mins(1);
/// And one for each of so many parts of the work.
const PARTS: u64 = 10;

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
    bar: ProgressBar,
    /// Where no bar can be drawn.
    lines: Option<Lines>,
}

/// The lines of a log.
struct Lines {
    name: &'static str,
    begun: Instant,
    last: Instant,
    part: u64,
    /// Where the work was when this process began with it.
    from: Option<u64>,
}

impl Bar {
    /// Shows nothing.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), lines: None }
    }

    /// Shows a text, as long as the work takes.
    pub fn text(text: &'static str) -> Self {
        Self::new("{msg}", text, None)
    }

    /// Shows work whose length is known.
    pub fn of(look: Look) -> Self {
        let Look { name, wide, narrow } = look;
        let columns = console::Term::stderr().size_checked().map_or(WIDE, |(_, columns)| columns);
        let template = if columns < WIDE { format!("{name} {narrow}") } else { format!("{name} {{bar:30}} {wide}") };
        let now = Instant::now();
        Self::new(
            template.trim_start(),
            "",
            Some(Lines { name: name.trim_end(), begun: now, last: now, part: 0, from: None }),
        )
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that makes bars")]
    fn new(template: &str, text: &'static str, lines: Option<Lines>) -> Self {
        let bar = ProgressBar::new(0).with_message(text);
        bar.set_style(ProgressStyle::with_template(template).expect("templates are constants"));
        let lines = lines.filter(|_| bar.is_hidden());
        bar.tick();
        Self { bar, lines }
    }

    /// Shows that `done` of `total` are done; `unit` is what is counted, in lines of a log.
    pub fn at(&mut self, done: u64, total: u64, unit: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        let Some(lines) = &mut self.lines else { return };
        let from = *lines.from.get_or_insert(done.saturating_sub(1));
        let part = done.saturating_mul(PARTS).checked_div(total).unwrap_or(PARTS);
        if done > from && (part > lines.part || lines.last.elapsed() >= PAUSE) {
            (lines.part, lines.last) = (part, Instant::now());
            let taken = report::seconds(lines.begun.elapsed().as_secs_f64());
            report::say(&format!("{} {done} of {total}{unit}, {taken}", lines.name));
        }
    }

    /// Speed and remaining time count from here, not what an earlier run did.
    pub fn begin_at(&self, done: u64) {
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// Shows `text`, which may be somebody else's, where the look has a message.
    pub fn message(&self, text: &str) {
        let text = shown(text);
        if self.bar.message() != text {
            self.bar.set_message(text.into_owned());
        }
    }

    /// Prints above the bar.
    pub fn above(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
