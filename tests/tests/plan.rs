//! The memory that a plan predicts is what a run takes. In a test binary of its own: nothing else runs beside it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the measured numbers are worth seeing")]

use kinora_tests::kinora;

/// How far the prediction may be off.
const MARGIN: f64 = 0.15;

#[test]
fn the_predicted_peak_is_the_measured_one() {
    let scratch = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let run = kinora(arguments, scratch.path());
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        serde_json::from_str::<serde_json::Value>(&run.stdout).expect("JSON")
    };
    for size in [
        &["--width", "320", "--height", "192"][..],
        &["--width", "448", "--height", "256", "--frames", "17"],
        &["--width", "448", "--height", "256", "--frames", "5", "--upscale", "4x", "--upscaler", "span"],
    ] {
        let shared = [&["a red ball bounces", "--steps", "1", "--threads", "2", "--json"], size].concat();
        let plan = run(&[&["plan"], &shared[..]].concat());
        let report = run(&[&["generate", "-o", "clip.mp4"], &shared[..]].concat());
        let Some(measured) = report["peak_memory"].as_f64() else {
            eprintln!("skipped: this system does not tell a process's peak memory");
            return;
        };
        for predicted in [&plan["memory"]["peak"], &report["planned_memory"]] {
            let predicted = predicted.as_f64().expect("a number");
            println!("{size:?}: predicted {:.1} MB, measured {:.1} MB", predicted / 1e6, measured / 1e6);
            let ratio = predicted / measured;
            assert!((1.0 - MARGIN..=1.0 + MARGIN).contains(&ratio), "{size:?}: {ratio:.3} of what was measured");
        }
    }
}
