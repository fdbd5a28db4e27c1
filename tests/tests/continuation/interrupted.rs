//! Stories of models that continue from frames, stopped and killed in every window.

use super::{CASES, Case, request};
use candle_core::{DType, Tensor};
use kinora::{Event, Shot, Stage, Story};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{load, same_bits, video};
use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Films `story` in `folder`, where its model and its project are.
fn film(
    folder: &Path,
    story: &Story,
    case: Case,
    mut stop: impl FnMut(&Event) -> bool + Send,
) -> kinora::Result<kinora::Report> {
    let pipeline = load(&folder.join("model").to_string_lossy(), DType::F32, 1);
    let request = request(case.window(), folder.join("parts.safetensors"));
    let on_event = |event: Event| if stop(&event) { Break(()) } else { Continue(()) };
    pipeline.film(story, &request, &folder.join("project"), on_event)
}

/// The frames of a film that nothing interrupts; it is written to the file `{name}.safetensors`.
fn whole(sandbox: &Sandbox, story: &Story, case: Case, name: &str) -> Tensor {
    let request = request(case.window(), sandbox.path(&format!("{name}.safetensors")));
    let report = sandbox.pipeline().film(story, &request, &sandbox.path(name), |_| Continue(()));
    video(&report.unwrap_or_else(|error| panic!("{}: {error}", case.name)).clip)
}

/// The same of a film that is stopped in every one of its windows.
fn in_parts(sandbox: &Sandbox, story: &Story, case: Case, windows: usize) -> Tensor {
    for stops in 0.. {
        // The last step of a window ends it: only the first one is stopped.
        match film(&sandbox.path(""), story, case, |event| matches!(event, Event::Step { .. })) {
            Ok(report) => {
                assert_eq!(stops, windows, "{}", case.name);
                return video(&report.clip);
            }
            Err(error) => assert!(error.is_stop(), "{}: {error}", case.name),
        }
        assert!(stops < windows && !sandbox.path("parts.safetensors").exists(), "{}: {stops} stops", case.name);
    }
    unreachable!("a range without an end");
}

#[test]
fn a_story_that_is_stopped_in_every_window_has_the_same_bits() {
    for case in CASES {
        let sandbox = Sandbox::given(case.name);
        let story = case.story(&sandbox.path(""));
        let parts = in_parts(&sandbox, &story, case, 5);
        assert!(same_bits(&parts, &whole(&sandbox, &story, case, "whole")), "{}", case.name);
    }
}

#[test]
fn an_extended_clip_that_is_stopped_in_every_window_has_the_same_bits() {
    for case in CASES {
        let sandbox = Sandbox::given(case.name);
        let clip = whole(&sandbox, &case.story(&sandbox.path("")), case, "clip");
        let shot = Shot { prompt: "it lies down".into(), seconds: Some(0.5), ..Shot::default() };
        let story = Story { after: Some(sandbox.path("clip.safetensors").into()), shots: vec![shot; 2] };
        let parts = in_parts(&sandbox, &story, case, 2);
        assert_eq!(parts.dims()[0], clip.dims()[0] + 8, "{}", case.name);
        assert!(same_bits(&parts, &whole(&sandbox, &story, case, "whole")), "{}", case.name);
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
    let folder = PathBuf::from(variable(FOLDER));
    let report = film(&folder, &case.story(&folder), case, |event| {
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
        let story = case.story(&folder);
        let report = film(&folder, &story, case, |_| false).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(same_bits(&video(&report.clip), &whole(&sandbox, &story, case, "whole")), "{}", case.name);
    }
}
