//! Stories and longer clips of models that continue from frames: every released model does, by each of the three ways
//! that they take pictures. The embedded model, which continues from latents, is tested in `embedded_given.rs`.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

#[path = "continuation/interrupted.rs"]
mod interrupted;

use candle_core::{DType, Tensor};
use kinora::{Frame, Inputs, Join, Output, Picture, Pipeline, Request, Sampling, Shot, Size, Story};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{generate, latents, same_bits, tensors, video};
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const FPS: usize = 8;
const SEED: u64 = 1;
/// How far a join may change the contrast of a window.
const MOST_GAIN: f64 = 1.1;

/// A model that continues from frames.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Frames of a window that the one before has too.
    overlap: usize,
    /// Whether it makes no clip without a picture.
    needs_image: bool,
}

const CASES: [Case; 3] = [
    Case { name: "wan22_ti2v_i2v", overlap: 5, needs_image: false }, // clean latent frames
    Case { name: "wan21_vace", overlap: 9, needs_image: false },     // frames of the control clip that are kept
    Case { name: "wan21_i2v", overlap: 1, needs_image: true },       // a picture in channels
];

impl Case {
    /// Frames of a window that adds four.
    fn window(self) -> usize {
        self.overlap + 4
    }

    /// A shot of three windows, one that continues it, and one after a cut.
    fn story(self, folder: &Path) -> Story {
        let seconds = |frames: usize| Some(frames as f64 / FPS as f64);
        let image = self.needs_image.then(|| folder.join("given/image.png").into());
        let shot = |prompt: &str, frames| Shot { prompt: prompt.into(), seconds: seconds(frames), ..Shot::default() };
        let first = Shot { image: image.clone(), ..shot("a cat walks on the grass", self.window() + 8) };
        let cut = Shot { image, join: Join::Cut, ..shot("a red ball", 5) };
        Story { after: None, shots: vec![first, shot("it lies down", 4), cut] }
    }

    /// Frames of the windows of that story, and how many of them the clip has before the window.
    fn windows(self) -> [Window; 5] {
        let window = |index, frames, before, cut| Window { index, frames, before, cut };
        let first = self.window();
        [
            window(0, first, 0, true),
            window(1, first, first, false),
            window(2, first, first + 4, false),
            window(3, first, first + 8, false),
            window(4, 5, first + 12, true),
        ]
    }
}

/// One run of the sampler.
struct Window {
    index: usize,
    frames: usize,
    /// Frames of the clip before it.
    before: usize,
    cut: bool,
}

fn request(frames: usize, clip: PathBuf) -> Request {
    Request::default()
        .size(Size::Pixels { width: Some(SIDE), height: Some(SIDE) })
        .frames(frames)
        .sampling(Sampling::default().steps(2))
        .fps(FPS as f64)
        .seed(SEED)
        .output(Output::new(clip))
}

fn frames(video: &Tensor, start: usize, count: usize) -> Tensor {
    video.narrow(0, start, count).and_then(|part| part.contiguous()).expect("frames of the clip")
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a - b).and_then(|d| d.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>());
    difference.expect("a number")
}

/// Writes `[F, 3, H, W]` as raw frames.
fn write_clip(path: &Path, video: &Tensor) {
    let fps = [("fps".to_string(), FPS.to_string())].into();
    kinora_checkpoint::save_safetensors(path, &[("video".into(), video.clone())], &fps).expect("saved");
}

/// The picture that a frame `[1, 3, H, W]` becomes.
fn write_picture(path: &Path, frame: &Tensor) {
    let (_, _, height, width) = frame.dims4().expect("[1, 3, H, W]");
    let data = frame.flatten_all().and_then(|t| t.to_vec1()).expect("f32");
    let frame = Frame::new(width, height, data).expect("three planes");
    Picture::from_frame(&frame).write_png(path).expect("a picture");
}

/// `window [F, 3, H, W]` with the colours that bring its first frames to the means and deviations of `known`.
fn coloured(window: &Tensor, known: &Tensor) -> Tensor {
    let statistics = |video: &Tensor, plane: usize| {
        let values = video.narrow(1, plane, 1).and_then(|t| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>());
        let values = values.expect("f32");
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    };
    let seen = frames(window, 0, known.dims()[0]);
    let planes = (0..3).map(|plane| {
        let ((mean, deviation), (wanted, wanted_deviation)) = (statistics(&seen, plane), statistics(known, plane));
        let gain = (wanted_deviation / deviation).clamp(1.0 / MOST_GAIN, MOST_GAIN);
        window.narrow(1, plane, 1).and_then(|t| t.affine(gain, wanted - gain * mean)?.clamp(0f32, 1f32))
    });
    Tensor::cat(&planes.collect::<Result<Vec<_>, _>>().expect("planes"), 1).expect("three planes")
}

/// A film, and the project that it was made in.
struct Made<'a> {
    case: Case,
    sandbox: &'a Sandbox,
    pipeline: Pipeline,
    project: &'a str,
    film: Tensor,
}

impl Made<'_> {
    fn of_window(&self, index: usize, file: &str) -> PathBuf {
        self.sandbox.path(self.project).join(format!("{index:03}/{file}"))
    }

    fn latents(&self, index: usize) -> Tensor {
        latents(&self.of_window(index, "latents.safetensors"))
    }

    /// What the latents of a window are decoded to, alone.
    fn decoded(&self, index: usize) -> Tensor {
        let output = Output::new(self.sandbox.path("window.safetensors"));
        let latents = self.of_window(index, "latents.safetensors");
        self.pipeline.decode(&latents, &output, None, |_| Continue(())).unwrap_or_else(|error| panic!("{error}"));
        video(&output.clip)
    }

    /// The frames of the clip that the window continues.
    fn known(&self, window: &Window) -> Tensor {
        frames(&self.film, window.before - self.case.overlap, self.case.overlap)
    }

    /// The frames that a window adds to the clip: frames of the overlap are there once, and the colours of the others are those
    /// of the frames before.
    fn assert_added(&self, window: &Window) {
        let Case { name, overlap, .. } = self.case;
        let decoded = self.decoded(window.index);
        assert_eq!(decoded.dims(), [window.frames, 3, SIDE, SIDE], "{name}");
        if window.cut {
            let added = frames(&self.film, window.before, window.frames);
            assert!(same_bits(&added, &decoded), "{name}: window {}", window.index);
            return;
        }
        let count = window.frames - overlap;
        let (added, own) = (frames(&self.film, window.before, count), frames(&decoded, overlap, count));
        let expected = frames(&coloured(&decoded, &self.known(window)), overlap, count);
        let error = largest_difference(&added, &expected);
        assert!(error < 1e-5, "{name}: window {} is {error:e} away", window.index);
        let change = largest_difference(&own, &expected);
        assert!(change > 1e-3, "{name}: window {} has the colours of the frames before anyway", window.index);
    }

    /// A window is the clip that the model makes when it is given the frames before as any frames are given to it.
    fn assert_continues(&self, window: &Window, prompt: &str) {
        let (name, known) = (self.case.name, self.known(window));
        match name {
            "wan22_ti2v_i2v" => return self.assert_clean_frames(window),
            "wan21_vace" => write_clip(&self.sandbox.path("known.safetensors"), &known),
            _ => write_picture(&self.sandbox.path("known.png"), &known),
        }
        let mut request = request(window.frames, self.sandbox.path("again.safetensors"));
        request.prompt = prompt.into();
        request.seed = Some(SEED + window.index as u64);
        request.output.latents = Some(self.sandbox.path("again.latents.safetensors"));
        request.inputs = if name == "wan21_vace" {
            let black = Picture::new(SIDE, SIDE, vec![0; 3 * SIDE * SIDE]).expect("a picture");
            black.write_png(self.sandbox.path("black.png")).expect("a picture");
            let [control, mask] = ["known.safetensors", "black.png"].map(|name| self.sandbox.path(name));
            Inputs::default().control(control).mask(mask)
        } else {
            Inputs::default().image(self.sandbox.path("known.png"))
        };
        generate(&self.pipeline, &request).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = latents(&self.sandbox.path("again.latents.safetensors"));
        assert!(same_bits(&again, &self.latents(window.index)), "{name}: window {}", window.index);
    }

    /// The frames before are encoded, and begin the window without noise.
    fn assert_clean_frames(&self, window: &Window) {
        let [clip, file] = ["known.safetensors", "known.latents.safetensors"].map(|name| self.sandbox.path(name));
        write_clip(&clip, &self.known(window));
        self.pipeline.encode(&clip, &file, |_| Continue(())).unwrap_or_else(|error| panic!("{error}"));
        let encoded = latents(&file);
        let count = encoded.dims()[2];
        assert_eq!(count, self.case.overlap.div_ceil(4));
        let conditions = tensors(&self.of_window(window.index, "conditions.safetensors"));
        let given = conditions["clean.given"].flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32");
        let expected: Vec<f32> = (0..given.len()).map(|frame| f32::from(u8::from(frame < count))).collect();
        assert_eq!(given, expected);
        for latents in [&conditions["clean.latents"], &self.latents(window.index)] {
            let first = latents.narrow(2, 0, count).expect("frames");
            assert!(same_bits(&first, &encoded), "window {}", window.index);
        }
    }
}

#[test]
fn windows_of_a_story_continue_the_frames_before() {
    for case in CASES {
        let sandbox = Sandbox::given(case.name);
        let story = case.story(&sandbox.path(""));
        let text = toml::to_string(&story).expect("plain data");
        sandbox.write("story.toml", text);
        let [side, window, fps] = [SIDE, case.window(), FPS].map(|number| number.to_string());
        let run = sandbox.kinora(&[
            "story",
            "story.toml",
            "--model",
            "model",
            "--width",
            &side,
            "--height",
            &side,
            "--fps",
            &fps,
            "--frames",
            &window,
            "--steps",
            "2",
            "--seed",
            "1",
            "--threads",
            "1",
            "--project",
            "project",
            "-o",
            "film.safetensors",
            "--json",
        ]);
        assert_eq!(run.status, Some(0), "{}: {}", case.name, run.stderr);
        let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        // Frames are no stream of latents.
        assert_eq!((report["frames"].as_u64(), report["latents"].as_str()), (Some(case.window() as u64 + 17), None));

        let film = video(&sandbox.path("film.safetensors"));
        let made = Made { case, sandbox: &sandbox, pipeline: sandbox.pipeline(), project: "project", film };
        assert!(made.of_window(4, "latents.safetensors").exists() && !made.of_window(5, "").exists());
        for window in case.windows() {
            made.assert_added(&window);
            let prompt = &story.shots[window.index.saturating_sub(2)].prompt;
            if !window.cut {
                made.assert_continues(&window, prompt);
            }
        }
    }
}

#[test]
fn extended_clips_continue_the_frames_of_the_file() {
    for case in CASES {
        let sandbox = Sandbox::given(case.name);
        let old = case.overlap.max(5);
        let frames_of_clip = old.to_string();
        let mut first = vec!["--frames", &frames_of_clip, "-o", "clip.mp4"];
        first.extend(if case.needs_image { vec!["--image", "given/image.png"] } else { Vec::new() });
        let run = sandbox.generate(&first);
        assert_eq!(run.status, Some(0), "{}: {}", case.name, run.stderr);
        // Model, steps and size are those of the clip's recipe; each of the two windows adds four frames and no more.
        let run = sandbox.kinora(&[
            "extend",
            "clip.mp4",
            "it lies down",
            "--seconds",
            "0.25",
            "--times",
            "2",
            "--seed",
            "1",
            "--threads",
            "1",
            "--project",
            "project",
            "-o",
            "longer.safetensors",
        ]);
        assert_eq!(run.status, Some(0), "{}: {}", case.name, run.stderr);

        let film = video(&sandbox.path("longer.safetensors"));
        assert_eq!(film.dims(), [old + 8, 3, SIDE, SIDE], "{}", case.name);
        let mut reader = kinora_media::open(sandbox.path("clip.mp4")).expect("a clip");
        for index in 0..old {
            let frame = reader.next_frame().expect("it is whole").expect("a frame");
            let written = frames(&film, index, 1).flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32");
            assert!(frame.data == written, "{}: frame {index}", case.name);
        }
        let made = Made { case, sandbox: &sandbox, pipeline: sandbox.pipeline(), project: "project", film };
        for index in 0..2 {
            let window = Window { index, frames: case.window(), before: old + 4 * index, cut: false };
            made.assert_added(&window);
            made.assert_continues(&window, "it lies down");
        }
    }
}

#[test]
fn a_clip_that_is_too_short_to_continue_is_refused() {
    let sandbox = Sandbox::given("wan21_vace");
    let run = sandbox.generate(&["-o", "clip.safetensors"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let refused = sandbox.kinora(&["extend", "clip.safetensors", "-o", "longer.safetensors"]).failure();
    assert!(refused.contains("it has 5 frames, 9 are needed to continue"), "{refused}");
    assert!(!sandbox.path("longer.safetensors").exists());
}

/// A first shot that is shorter than what the model continues from: what there is of it is continued, and the clip is as
/// long as its shots (it once was longer by the frames that the overlap lacked).
#[test]
fn short_shots_are_continued_from_what_there_is() {
    for case in CASES {
        let sandbox = Sandbox::given(case.name);
        let image = case.needs_image.then(|| sandbox.path("given/image.png").into());
        let shot = |seconds: f64| Shot { prompt: "a cat".into(), seconds: Some(seconds), ..Shot::default() };
        let story = Story { after: None, shots: vec![Shot { image, ..shot(0.125) }, shot(0.5), shot(0.5)] };
        let request = request(case.window(), sandbox.path("film.safetensors"));
        let report = sandbox.pipeline().film(&story, &request, &sandbox.path("project"), |_| Continue(()));
        let report = report.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(report.frames, 1 + 4 + 4, "{}", case.name);
    }
}

/// The embedded model, made to continue from frames: what a trained model makes of them has no visible join.
#[test]
fn a_trained_model_continues_frames_without_a_visible_join() {
    let sandbox = Sandbox::new("../../models/embedded");
    let manifest = std::fs::read_to_string(sandbox.path("model/manifest.toml")).expect("a manifest");
    sandbox.write("model/manifest.toml", manifest.replace("tail_latents = 2\n", ""));
    let shot =
        Shot { prompt: "a red ball moves right on a blue background".into(), seconds: Some(5.0), ..Shot::default() };
    let request = Request::default()
        .seed(3)
        .sampling(Sampling::default().steps(8))
        .output(Output::new(sandbox.path("film.safetensors")));
    let story = Story { after: None, shots: vec![shot] };
    let report = sandbox.pipeline().film(&story, &request, &sandbox.path("project"), |_| Continue(()));
    let film = video(&report.unwrap_or_else(|error| panic!("{error}")).clip);
    assert_eq!(film.dim(0).expect("frames"), 41);
    let conditions = tensors(&sandbox.path("project/001/conditions.safetensors"));
    let given = conditions["clean.given"].flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32");
    assert_eq!(given, [1.0, 1.0, 0.0, 0.0, 0.0], "five frames, encoded");
    // Mean absolute difference from each frame to the next.
    let steps =
        (frames(&film, 0, 40) - frames(&film, 1, 40)).and_then(|d| d.abs()?.flatten_from(1)?.mean(1)?.to_vec1());
    let steps: Vec<f32> = steps.expect("a row");
    let joins = [steps[16], steps[28]];
    let mut sorted = steps.clone();
    sorted.sort_by(f32::total_cmp);
    let (median, largest) = (sorted[20], sorted[39]);
    // Colours of the background, in the corner of the first and of the last frame.
    let corner =
        |index| frames(&film, index, 1).narrow(2, 0, 4).and_then(|t| t.mean((0, 2, 3))).expect("three colours");
    let drift = largest_difference(&corner(0), &corner(40)) * 255.0;
    println!("steps {median:.4}, at most {largest:.4}, at the joins {joins:.4?}; the background drifts {drift:.2}/255");
    assert!(joins.iter().all(|&step| step > 0.2 * median), "a frame is there twice");
    assert!(joins.iter().all(|&step| step < 2.0 * median), "the picture jumps");
    assert!(drift < 2.0, "{drift}");
}

/// A model that continues from latent frames needs them all.
#[test]
fn a_shot_of_too_few_latent_frames_is_refused_before_it_is_made() {
    let sandbox = Sandbox::new("../../models/embedded");
    let shot = |seconds: f64| format!("[[shot]]\nprompt = \"a red ball\"\nseconds = {seconds}\n");
    sandbox.write("story.toml", format!("{}{}", shot(0.125), shot(1.0)));
    let refused = sandbox.kinora(&["story", "story.toml", "--model", "model", "-o", "clip.safetensors"]).failure();
    assert!(refused.contains("a shot of 1 frames is too short to be continued: 5 are needed"), "{refused}");
    assert!(!sandbox.path("clip.safetensors.project").exists());
}
