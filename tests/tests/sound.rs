//! Sound on its way through runs: from the clip that is changed or continued into the new one, and beside it.

use kinora::{Frames, Sound, Source};
use kinora_media::{ClipSpec, Fps, Frame, WriteOptions, create, open};
use kinora_tests::sandbox::Sandbox;
use std::ops::ControlFlow;
use std::path::Path;

const SIDE: usize = 32;
const RATE: u32 = 48_000;

/// A tone of so many samples.
fn tone(samples: usize) -> Sound {
    let sample = |at: usize| (at as f32 * 0.08).sin() * 0.4;
    Sound::new(RATE, 1, (0..samples).map(sample).collect()).expect("sound")
}

/// Writes a clip of grey frames with a tone as long as they are.
fn clip(path: &Path, frames: usize, fps: u32) {
    let spec = ClipSpec { width: SIDE, height: SIDE, fps: Fps::new(fps, 1).expect("a rate") };
    let mut writer = create(path, &spec, &WriteOptions::default()).expect("a writer");
    let said = writer.sound(&tone(frames * (RATE / fps) as usize).into()).expect("sound");
    assert_eq!(said, None);
    for index in 0..frames {
        let data = vec![0.4 + 0.02 * index as f32; 3 * SIDE * SIDE];
        writer.push(&Frame::new(SIDE, SIDE, data).expect("a frame")).expect("it is taken");
    }
    writer.finish().expect("a clip");
}

fn heard(path: &Path) -> Sound {
    open(path).expect("a clip").sound().expect("sound").decoded().expect("samples").as_ref().clone()
}

fn told(sandbox: &Sandbox, more: &[&str]) -> String {
    let run = sandbox.generate(more);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    run.stderr
}

#[test]
fn the_sound_of_a_changed_clip_is_kept() {
    let sandbox = Sandbox::given("wan21_v2v");
    clip(&sandbox.path("before.mp4"), 9, 16);
    let given = ["--video", "before.mp4", "--frames", "9"];
    let said = told(&sandbox, &[&given[..], &["--fps", "16", "-o", "after.mp4", "--audio-out", "after.wav"]].concat());
    assert!(!said.contains("sound"), "{said}");
    // The packets are taken over as they are.
    let (before, after) = (heard(&sandbox.path("before.mp4")), heard(&sandbox.path("after.mp4")));
    assert_eq!(after.samples(), 27_000);
    assert!(before == after);
    assert!(Sound::read_wav(sandbox.path("after.wav")).expect("a file") == after);

    told(&sandbox, &[&given[..], &["--fps", "16", "-o", "raw.safetensors"]].concat());
    assert!(heard(&sandbox.path("raw.safetensors")) == after);

    let said = told(&sandbox, &[&given[..], &["--fps", "16", "-o", "after.gif"]].concat());
    assert!(said.contains("files of this format have no sound"), "{said}");
    let said = told(&sandbox, &[&given[..], &["--fps", "8", "-o", "slow.mp4"]].concat());
    let reason = "its sound is not kept: it has 16 frames per second, the new clip 8";
    assert!(said.contains(reason), "{said}");
    assert!(open(sandbox.path("slow.mp4")).expect("a clip").sound().is_none());
}

#[test]
fn a_continued_clip_keeps_its_sound() {
    let sandbox = Sandbox::given("wan21_vace");
    clip(&sandbox.path("before.mp4"), 13, 16);
    let run = sandbox.kinora(&[
        "extend",
        "before.mp4",
        "it lies down",
        "--seconds",
        "0.25",
        "--seed",
        "1",
        "--threads",
        "1",
        "--project",
        "project",
        "-o",
        "longer.mp4",
        "--audio-out",
        "longer.wav",
        "--model",
        "model",
        "--steps",
        "2",
    ]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("its sound is kept, and what is added to the clip is silent"), "{}", run.stderr);
    let (before, after) = (heard(&sandbox.path("before.mp4")), heard(&sandbox.path("longer.mp4")));
    assert!(before == after);
    let frames = open(sandbox.path("longer.mp4")).expect("a clip").frames().expect("a number");
    assert!(frames > 13);
    let beside = Sound::read_wav(sandbox.path("longer.wav")).expect("a file");
    assert!(beside == before.fitted(frames * 3000));
}

#[test]
fn what_only_controls_a_clip_gives_it_no_sound() {
    let sandbox = Sandbox::given("wan21_vace");
    clip(&sandbox.path("control.mp4"), 9, 16);
    let said =
        told(&sandbox, &["--control", "control.mp4", "--frames", "9", "-o", "clip.mp4", "--audio-out", "clip.wav"]);
    assert!(said.contains("its sound is not kept: it controls the clip"), "{said}");
    assert!(said.contains("the clip has no sound: `clip.wav` is not written"), "{said}");
    assert!(!sandbox.path("clip.wav").exists());
}

/// Sound of a clip in memory goes to a sink.
#[test]
fn sinks_get_sound() {
    let sandbox = Sandbox::given("wan21_v2v");
    clip(&sandbox.path("before.mp4"), 5, 16);
    let bytes = Source::from(std::fs::read(sandbox.path("before.mp4")).expect("a file"));
    let mut request = kinora::Request::new("a red ball").seed(1).frames(5).fps(16.0);
    request.inputs.video = Some(bytes);
    request.sampling.steps = Some(2);
    let (mut frames, mut events) = (Frames::default(), 0);
    sandbox
        .pipeline()
        .generate_into(&request, &mut frames, |event| {
            events += usize::from(matches!(event, kinora::Event::Sound(sound) if sound.rate() == RATE));
            ControlFlow::Continue(())
        })
        .expect("frames");
    assert_eq!((events, frames.frames.len()), (1, 5));
    assert!(frames.sound.is_some_and(|sound| sound == heard(&sandbox.path("before.mp4")) && sound.samples() == 15_000));
}
