//! Frames that go to the caller and not to a file.

use kinora::{ClipInfo, Error, Frame, Frames, Output, Request, Shot, Sink, Size, Story};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::video;
use std::ops::ControlFlow;

fn request(output: Output) -> Request {
    let size = Size::Pixels { width: Some(32), height: Some(32) };
    let prompt = "a red ball";
    let mut request = Request::new(prompt).size(size).frames(5).seed(1).output(output);
    request.sampling.steps = Some(2);
    request
}

/// The frames in memory are those of the file of raw frames, bit for bit; nothing is left on disk.
#[test]
fn frames_in_memory_are_those_of_the_file() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let clip = sandbox.path("clip.safetensors");
    pipeline.generate(&request(Output::new(clip.clone())), |_| ControlFlow::Continue(())).expect("a clip");
    let expected = video(&clip).flatten_all().and_then(|video| video.to_vec1::<f32>()).expect("frames");
    let before = sandbox.files();

    let mut frames = Frames::default();
    let report = pipeline
        .generate_into(&request(Output::default()), &mut frames, |_| ControlFlow::Continue(()))
        .expect("frames");
    let got: Vec<f32> = frames.frames.iter().flat_map(|frame| frame.data.iter().copied()).collect();
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    let info = frames.clip.expect("it began");
    assert_eq!((info.width, info.height, info.frames), (32, 32, 5));
    assert!(info.recipe.is_some_and(|recipe| recipe.contains("a red ball")));
    assert_eq!((report.frames, report.bytes, report.latents), (5, 0, None));
    assert_eq!(report.clip.as_os_str(), "");
    assert_eq!(sandbox.files(), before);
}

/// The frames of a story are those of its file, too, and no latents stay behind.
#[test]
fn stories_go_to_a_sink() {
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    let pipeline = sandbox.pipeline();
    let shot = |prompt: &str, seconds| Shot { prompt: prompt.into(), seconds: Some(seconds), ..Shot::default() };
    let story = Story { after: None, shots: vec![shot("a cat walks on the grass", 1.0), shot("it lies down", 0.5)] };
    let clip = sandbox.path("story.safetensors");
    let request = request(Output::new(clip.clone())).fps(8.0).frames(9);
    let on_event = |_: kinora::Event<'_>| ControlFlow::Continue(());
    pipeline.film(&story, &request, &sandbox.path("project"), on_event).expect("a film");
    let expected = video(&clip).flatten_all().and_then(|video| video.to_vec1::<f32>()).expect("frames");
    std::fs::remove_file(&clip).expect("it is there");
    kinora::discard_project(&sandbox.path("project"));
    let before = sandbox.files();

    let mut frames = Frames::default();
    let report = pipeline.film_into(&story, &request, &sandbox.path("project"), &mut frames, on_event).expect("frames");
    let got: Vec<f32> = frames.frames.iter().flat_map(|frame| frame.data.iter().copied()).collect();
    assert!(got.len() == expected.len() && got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    let info = frames.clip.expect("it began");
    assert_eq!((info.width, info.height, info.frames), (32, 32, 0));
    assert!(info.recipe.is_some_and(|recipe| recipe.contains("it lies down")));
    assert_eq!((report.frames, report.latents), (frames.frames.len(), None));
    kinora::discard_project(&sandbox.path("project"));
    assert_eq!(sandbox.files(), before);
}

/// Upscaled frames reach the sink in their size; the recipe is left out where it is not wanted.
#[test]
fn sinks_get_frames_as_files_do() {
    let sandbox = Sandbox::new("wan21_t2v");
    let output = Output::default().upscale("2x".parse::<kinora::UpscaleTarget>().ok()).metadata(false);
    let mut frames = Frames::default();
    sandbox.pipeline().generate_into(&request(output), &mut frames, |_| ControlFlow::Continue(())).expect("frames");
    let info = frames.clip.expect("it began");
    assert_eq!((info.width, info.height, info.recipe), (64, 64, None));
    assert!(frames.frames.iter().all(|frame| (frame.width, frame.height) == (64, 64)));
}

/// Ends at the third frame.
struct Full(usize);

impl Sink for Full {
    fn begin(&mut self, clip: &ClipInfo) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!(clip.frames, 5);
        Ok(())
    }

    fn frame(&mut self, _: &Frame) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.0 += 1;
        if self.0 == 3 { Err("the queue is closed".into()) } else { Ok(()) }
    }
}

/// A sink that fails ends the run; the latents, which took the time, can be decoded afterwards.
#[test]
fn latents_survive_a_sink_that_fails() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let mut sink = Full(0);
    let error = pipeline
        .generate_into(&request(Output::default()), &mut sink, |_| ControlFlow::Continue(()))
        .expect_err("it is full");
    assert!(error.to_string().contains("the queue is closed"), "{error}");
    assert_eq!(sink.0, 3);
    let Error::AfterLatents { latents, .. } = error else { panic!("{error:?}") };
    let clip = sandbox.path("after.safetensors");
    pipeline.decode(&latents, &Output::new(clip.clone()), None, |_| ControlFlow::Continue(())).expect("a clip");
    assert_eq!(video(&clip).dims(), [5, 3, 32, 32]);
    std::fs::remove_dir_all(latents.parent().expect("a folder")).expect("it is ours");
}

/// A stop is no failure of the sink.
#[test]
fn runs_into_a_sink_stop_on_request() {
    let sandbox = Sandbox::new("wan21_t2v");
    let mut frames = Frames::default();
    let stopped =
        sandbox.pipeline().generate_into(&request(Output::default()), &mut frames, |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Stopped { resumable: None })) && frames.clip.is_none());
}
