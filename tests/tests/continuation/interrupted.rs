//! Stories of models that continue from frames, stopped and killed in every window.

use super::{CASES, Case, pipeline, request, video};
use candle_core::{DType, Tensor};
use kinora::{Event, Stage};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{load, same_bits};
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;
use std::process::Command;

/// Films the story of [`Case::story`] in `folder`, where its model and its project are.
fn film(folder: &Path, case: Case, mut stop: impl FnMut(&Event) -> bool + Send) -> kinora::Result<kinora::Report> {
    let pipeline = load(&folder.join("model").to_string_lossy(), DType::F32, 1);
    let request = request(case.window(), folder.join("parts.safetensors"));
    let story = case.story(folder);
    let on_event = |event: Event| if stop(&event) { Break(()) } else { Continue(()) };
    pipeline.film(&story, &request, &folder.join("project"), on_event)
}

/// The frames of a film that nothing interrupts.
fn whole(sandbox: &Sandbox, case: Case) -> Tensor {
    let request = request(case.window(), sandbox.path("whole.safetensors"));
    let story = case.story(&sandbox.path(""));
    let report = pipeline(sandbox).film(&story, &request, &sandbox.path("whole"), |_| Continue(()));
    video(&report.unwrap_or_else(|error| panic!("{}: {error}", case.name)).clip)
}

#[test]
fn a_story_that_is_stopped_in_every_window_has_the_same_bits() {
    for case in CASES {
        let sandbox = Sandbox::given(case.name);
        let expected = whole(&sandbox, case);
        let mut stops = 0;
        let report = loop {
            // The last step of a window ends it: only the first one is stopped.
            match film(&sandbox.path(""), case, |event| matches!(event, Event::Step { .. })) {
                Ok(report) => break report,
                Err(error) => assert!(error.is_stop(), "{}: {error}", case.name),
            }
            stops += 1;
            assert!(stops <= 5 && !sandbox.path("parts.safetensors").exists(), "{}: {stops} stops", case.name);
        };
        assert_eq!(stops, 5, "{}", case.name);
        assert!(same_bits(&video(&report.clip), &expected), "{}", case.name);
    }
}

/// Variables of a process that dies: where it works, with which model, and when it ends.
#[cfg(unix)]
const FOLDER: &str = "KINORA_TEST_FOLDER";
#[cfg(unix)]
const CASE: &str = "KINORA_TEST_CASE";
#[cfg(unix)]
const KILLED_IN: &str = "KINORA_TEST_KILLED_IN";

/// Films until it kills its own process.
#[cfg(unix)]
fn film_and_die() {
    let variable = |name| std::env::var(name).expect("the test below sets it");
    let case = CASES.into_iter().find(|case| case.name == variable(CASE)).expect("a case");
    let killed_in: usize = variable(KILLED_IN).parse().expect("a number");
    let (mut window, mut last_decoding) = (0, false);
    let report = film(Path::new(&variable(FOLDER)), case, |event| {
        match event {
            Event::Notice(text) if text.starts_with("window ") => window += 1,
            Event::Stage(Stage::Decode) => last_decoding = window == 5,
            _ => {}
        }
        let here = match event {
            Event::Step { .. } => window == killed_in,
            Event::Frames { .. } => last_decoding && killed_in == 6,
            _ => false,
        };
        if here {
            let _ = Command::new("kill").args(["-s", "KILL", &std::process::id().to_string()]).status();
        }
        false
    });
    panic!("it is not killed: {report:?}");
}

/// Killed in the first step of every window, and while the last ones are decoded: the test runs itself in processes that die.
#[cfg(unix)]
#[test]
fn a_story_that_is_killed_in_every_window_has_the_same_bits() {
    use std::os::unix::process::ExitStatusExt;
    if std::env::var_os(FOLDER).is_some() {
        return film_and_die();
    }
    for case in CASES {
        let sandbox = Sandbox::given(case.name);
        let folder = sandbox.path("");
        for killed_in in 1..=6 {
            let mut process = Command::new(std::env::current_exe().expect("a test has a path"));
            process.args(["--exact", "interrupted::a_story_that_is_killed_in_every_window_has_the_same_bits"]);
            process.env(FOLDER, &folder).env(CASE, case.name).env(KILLED_IN, killed_in.to_string());
            let output = process.output().expect("it starts");
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.signal(), Some(9), "{} in {killed_in}: {text}", case.name);
            let latents = |window: usize| sandbox.path(&format!("project/{window:03}/latents.safetensors")).exists();
            assert!((1..6).all(|window| latents(window - 1) == (window < killed_in)), "{} in {killed_in}", case.name);
            assert!(!sandbox.path("parts.safetensors").exists());
        }
        let report = film(&folder, case, |_| false).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(same_bits(&video(&report.clip), &whole(&sandbox, case)), "{}", case.name);
    }
}
