//! Failing runs of the command, as one text.

use crate::Run;
use crate::sandbox::Sandbox;
use std::fmt::Write;

/// Failing runs and what they printed.
#[derive(Default)]
pub struct Transcript(pub String);

impl Transcript {
    /// Runs `kinora generate` with small settings and `more`; it must fail and leave no file.
    pub fn generate(&mut self, sandbox: &Sandbox, more: &[&str]) {
        let title = format!("generate … {}", more.join(" "));
        self.run(sandbox, title.trim_end(), &Sandbox::generate_arguments(more));
    }

    /// Runs `kinora`; it must fail and leave no file.
    pub fn kinora(&mut self, sandbox: &Sandbox, arguments: &[&str]) {
        self.run(sandbox, &arguments.join(" "), arguments);
    }

    /// A model damaged by `damage` must not generate.
    pub fn damaged(&mut self, title: &str, damage: impl FnOnce(&Sandbox)) {
        let sandbox = Sandbox::new("wan21_t2v");
        damage(&sandbox);
        self.run(&sandbox, title, &Sandbox::generate_arguments(&[]));
    }

    /// Runs `kinora`, under a title; it must fail and leave no file.
    pub fn run(&mut self, sandbox: &Sandbox, title: &str, arguments: &[&str]) {
        let before = sandbox.files();
        self.keep(title, &sandbox.kinora(arguments));
        assert_eq!(sandbox.files(), before, "{title} left files");
    }

    /// Keeps what a failing run printed.
    pub fn keep(&mut self, title: &str, run: &Run) {
        let text = std::panic::catch_unwind(|| run.failure()).unwrap_or_else(|_| panic!("{title}"));
        writeln!(self.0, "# {title}\n{text}").expect("a text");
    }
}
