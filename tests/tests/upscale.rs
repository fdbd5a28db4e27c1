//! Frames that a network enlarges on their way to the file: which ones, in which order, and how a run with them stops.

use candle_core::{DType, Device};
use kinora::{Error, Event, Frame, Frames, Output, Pipeline, Report, Request, Result, Shot, Size, Story};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{load, same_bits, video};
use kinora_upscaler::{SCALE, Span};
use std::ops::ControlFlow;

fn request(upscale: Option<&str>, tile: Option<usize>) -> Request {
    let size = Size::Pixels { width: Some(64), height: Some(32) };
    let upscale = upscale.map(|target| target.parse().expect("a size"));
    let output = Output::default().upscale(upscale).upscaler(upscale.and("span".parse().ok())).tile(tile);
    let mut request = Request::new("a red ball").size(size).frames(5).seed(1).output(output);
    request.sampling.steps = Some(2);
    request
}

/// The frames of a run, the frames that it says are done at each moment, and its result.
fn run(pipeline: &Pipeline, request: &Request, stop_at: usize) -> (Vec<Frame>, Vec<usize>, Result<Report>) {
    let (mut frames, mut seen) = (Frames::default(), Vec::new());
    let report = pipeline.generate_into(request, &mut frames, |event| match event {
        Event::Frames { done, total } => {
            assert_eq!(total, 5);
            seen.push(done);
            if done == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        _ => ControlFlow::Continue(()),
    });
    (frames.frames, seen, report)
}

fn assert_same(found: &[Frame], expected: &[Frame], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.width, found.height), (expected.width, expected.height), "{what}");
        assert!(found.data.iter().zip(&expected.data).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}");
    }
}

/// Every frame is the network's of the decoded one, and the Lanczos kernel's of that where the size is another.
#[test]
fn frames_are_the_networks_and_come_one_by_one() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let (decoded, _, report) = run(&pipeline, &request(None, None), usize::MAX);
    report.expect("frames");
    let span = Span::embedded(&Device::Cpu, DType::F32).expect("the network");
    for (target, size) in [("2x", (128, 64)), ("4x", (256, 128)), ("720p", (1440, 720))] {
        let expected: Vec<Frame> = decoded
            .iter()
            .map(|Frame { width, height, data }| {
                let data = span.enlarge(data, *width, *height).expect("a frame");
                let four = Frame::new(SCALE * width, SCALE * height, data).expect("a frame");
                if target == "4x" { four } else { kinora_media::resized(&four, size.0, size.1).expect("a frame") }
            })
            .collect();
        for threads in [1, 2] {
            let pipeline = load(&sandbox.path("model").to_string_lossy(), DType::F32, threads);
            let (found, seen, report) = run(&pipeline, &request(Some(target), None), usize::MAX);
            let report = report.expect("frames");
            assert_eq!((report.width, report.height), size, "{target}");
            assert_same(&found, &expected, &format!("{target} on {threads} threads"));
            assert_eq!(seen, [1, 2, 3, 4, 5], "each frame is told when it is done");
        }
    }
}

/// Decoding in tiles comes first; both are told as one.
#[test]
fn tiled_frames_are_enlarged_after_the_last_tile() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let (whole, ..) = run(&pipeline, &request(Some("2x"), None), usize::MAX);
    let (tiled, seen, report) = run(&pipeline, &request(Some("2x"), Some(4)), usize::MAX);
    report.expect("frames");
    let largest = |a: &Frame, b: &Frame| a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert_eq!(tiled.len(), 5);
    assert!(tiled.iter().zip(&whole).all(|(a, b)| largest(a, b) < 1e-3));
    assert!(seen.is_sorted() && seen[0] == 0 && seen[seen.len() - 1] == 5, "{seen:?}");
}

/// A stop comes between two frames, and the latents are kept.
#[test]
fn a_run_stops_between_two_frames() {
    let sandbox = Sandbox::new("wan21_t2v");
    let (frames, seen, report) = run(&sandbox.pipeline(), &request(Some("2x"), None), 3);
    assert_eq!((frames.len(), seen), (3, vec![1, 2, 3]));
    let error = report.expect_err("it was stopped");
    assert!(error.is_stop(), "{error:?}");
    let Error::AfterLatents { latents, .. } = error else { panic!("{error:?}") };
    assert!(latents.exists());
    std::fs::remove_dir_all(latents.parent().expect("a folder of its own")).expect("it is there");
}

#[test]
fn stories_are_enlarged_after_their_joins() {
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    let shot = |prompt: &str, seconds| Shot { prompt: prompt.into(), seconds: Some(seconds), ..Shot::default() };
    let story = Story { after: None, shots: vec![shot("a cat walks on the grass", 1.0), shot("it lies down", 0.5)] };
    let request = request(Some("2x"), None).fps(8.0).frames(9);
    let mut frames = Frames::default();
    let project = sandbox.path("project");
    let go_on = |_: Event<'_>| ControlFlow::Continue(());
    let report = sandbox.pipeline().film_into(&story, &request, &project, &mut frames, go_on).expect("frames");
    assert_eq!((report.width, report.height, report.frames), (128, 64, frames.frames.len()));
    assert!(frames.frames.len() > 9 && frames.frames.iter().all(|frame| (frame.width, frame.height) == (128, 64)));
}

/// The recipe says what enlarged the frames, and `rerun` does so again unless it is told otherwise.
#[test]
fn recipes_name_the_network() {
    let sandbox = Sandbox::new("wan21_t2v");
    let done = |arguments: &[&str]| {
        let run = sandbox.kinora(arguments);
        assert_eq!(run.status, Some(0), "{arguments:?}: {}", run.stderr);
        run.stdout
    };
    let recipe =
        |clip: &str| serde_json::from_str::<serde_json::Value>(&done(&["show", clip, "--json"])).expect("JSON");
    let upscaled = ["--upscale", "2x", "--upscaler", "span", "--save-latents", "l.safetensors", "-o", "a.safetensors"];
    done(&Sandbox::generate_arguments(&upscaled));
    assert_eq!(
        (recipe("a.safetensors")["upscale"].as_str(), recipe("a.safetensors")["upscaler"].as_str()),
        (Some("2x"), Some("span"))
    );
    done(&["rerun", "a.safetensors", "-o", "b.safetensors"]);
    done(&["rerun", "a.safetensors", "--upscaler", "lanczos", "-o", "c.safetensors"]);
    done(&[
        "decode",
        "l.safetensors",
        "--model",
        "model",
        "--upscale",
        "2x",
        "--upscaler",
        "span",
        "-o",
        "d.safetensors",
    ]);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| video(&sandbox.path(&format!("{name}.safetensors"))));
    assert!(same_bits(&a, &b) && same_bits(&a, &d) && !same_bits(&a, &c) && a.dims() == c.dims());
    assert_eq!(recipe("c.safetensors")["upscaler"].as_str(), None, "the usual kernel is not recorded");
    let alone = sandbox.kinora(&["decode", "l.safetensors", "--model", "model", "--upscaler", "span", "-o", "e.mp4"]);
    assert_eq!(alone.status, Some(1), "{alone:?}");
    assert!(
        alone.stderr.contains("no size to enlarge") && alone.stderr.contains("(--upscale, --upscaler)"),
        "{}",
        alone.stderr
    );
    assert!(!sandbox.path("e.mp4").exists());
}
