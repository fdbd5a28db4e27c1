//! Progress in a real terminal: tmux draws it, and its screen is read while a clip is made.
#![allow(clippy::print_stdout, reason = "what is skipped is worth seeing")]

use kinora_tests::sandbox::Sandbox;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Makes the test fail, not skip, where there is no tmux.
const REQUIRED: &str = "KINORA_REQUIRE_TMUX";
const PATIENCE: Duration = Duration::from_mins(2);

/// A terminal that runs one command, and ends with this value.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// A terminal of `columns` that runs `kinora` with `arguments`, or none where there is no tmux.
    fn run(sandbox: &Sandbox, columns: u16, arguments: &[&str]) -> Option<Self> {
        let socket = sandbox.path("tmux").to_string_lossy().into_owned();
        let width = columns.to_string();
        let script = r#"exec tmux -S "$SOCKET" -f /dev/null new-session -d -x "$COLUMNS" -y 12 "$0" "$@""#;
        let mut command = sandbox.shell(script, arguments);
        command.env("SOCKET", &socket).env("COLUMNS", width).env("TERM", "xterm-256color").env_remove("TMUX");
        let output = command.output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            assert!(said.contains("not found") && std::env::var(REQUIRED).is_err(), "tmux: {said}");
            println!("skipped: there is no tmux");
            return None;
        }
        Some(Self { socket })
    }

    fn tmux(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(arguments).output().expect("tmux");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The lines on the screen, or none when the command has ended.
    fn screen(&self) -> Option<Vec<String>> {
        let text = self.tmux(&["capture-pane", "-p"])?;
        Some(text.lines().map(|line| line.trim_end().to_string()).filter(|line| !line.is_empty()).collect())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

/// The lines about steps that were seen in a terminal of `columns`, the first of each step, while a clip was made.
fn steps_seen(columns: u16) -> Option<Vec<String>> {
    let sandbox = Sandbox::new("wan21_t2v");
    let clip = ["--model", "embedded", "--width", "176", "--height", "96", "--frames", "33", "--steps", "24"];
    let arguments = Sandbox::generate_arguments(&[&clip[..], &["--seed", "1", "-o", "clip.mp4"]].concat());
    let terminal = Terminal::run(&sandbox, columns, &arguments)?;
    let (begun, mut seen) = (Instant::now(), Vec::<String>::new());
    while let Some(screen) = terminal.screen() {
        assert!(begun.elapsed() < PATIENCE, "it does not end: {screen:#?}");
        let bars: Vec<_> = screen.iter().filter(|line| line.starts_with("denoising")).collect();
        assert!(bars.len() <= 1, "a bar is drawn once, not below itself: {screen:#?}");
        if let Some(bar) = bars.first().filter(|bar| seen.last() != Some(*bar)) {
            seen.push((*bar).clone());
        }
        sleep(Duration::from_millis(30));
    }
    assert!(sandbox.path("clip.mp4").is_file(), "the clip was made; seen: {seen:#?}");
    assert!(seen.len() >= 3, "progress was seen: {seen:#?}");
    Some(seen)
}

#[test]
fn progress_fits_terminals_of_80_and_of_40_columns() {
    for columns in [80_u16, 40] {
        let Some(seen) = steps_seen(columns) else { return };
        println!("{columns} columns:\n{}", seen.join("\n"));
        assert!(seen.iter().all(|line| line.chars().count() <= usize::from(columns)), "{seen:#?}");
        assert!(seen.iter().all(|line| line.contains("/24")), "every line counts steps: {seen:#?}");
        assert!(
            seen.iter().all(|line| !line.contains("s/") || line.ends_with("s/step")),
            "nothing is cut off: {seen:#?}"
        );
        let timed = seen.iter().filter(|line| line.contains("left"));
        assert!(timed.count() >= 1, "the remaining time is said: {seen:#?}");
    }
}
