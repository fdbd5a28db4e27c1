//! Pictures and clips that are given in memory, in place of files.

use candle_core::{DType, Tensor};
use kinora::{Event, Fps, Inputs, Picture, Recipe, Request, Shot, Source, Story};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{generate, kinora, load, same_bits, video};
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;

/// The same frames and rate, decoded.
fn decoded(clip: &Path) -> Source {
    let mut reader = kinora_media::open(clip).expect("a clip");
    let fps = reader.spec().fps;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().expect("a frame") {
        frames.push(Picture::from_frame(&frame));
    }
    Source::frames(frames, fps).expect("frames of one size")
}

fn bytes(file: &Path) -> Source {
    std::fs::read(file).expect("a file").into()
}

fn picture(file: &Path) -> Source {
    kinora_media::read_image(file).expect("a picture").into()
}

fn request(sandbox: &Sandbox, inputs: Inputs) -> Request {
    let mut request = Request::new("a red ball").frames(9).seed(3).inputs(inputs);
    request.size = kinora::Size::Pixels { width: Some(32), height: Some(32) };
    request.sampling.steps = Some(2);
    request.output.clip = sandbox.path("clip.safetensors");
    request
}

fn made(sandbox: &Sandbox, inputs: Inputs) -> Tensor {
    let pipeline = load(&sandbox.path("model").to_string_lossy(), DType::F32, 2);
    let (report, _) = generate(&pipeline, &request(sandbox, inputs)).unwrap_or_else(|error| panic!("{error}"));
    video(&report.clip)
}

#[test]
fn pictures_in_memory_make_the_same_clip() {
    let sandbox = Sandbox::given("wan21_flf2v");
    let [first, last] = ["image.png", "last.png"].map(|name| sandbox.path("given").join(name));
    let inputs = |image: Source, last_image: Source| Inputs::default().image(image).last_image(last_image);
    let expected = made(&sandbox, inputs(first.as_path().into(), last.as_path().into()));
    for (image, last) in [(bytes(&first), picture(&last)), (picture(&first), bytes(&last))] {
        assert!(same_bits(&made(&sandbox, inputs(image, last)), &expected));
    }
}

#[test]
fn clips_in_memory_make_the_same_clip() {
    let sandbox = Sandbox::given("wan21_vace");
    let given = |name: &str| sandbox.path("given").join(name);
    let inputs = |control: Source, mask: Source, reference: Source| {
        Inputs::default().control(control).mask(mask).references(vec![reference])
    };
    let [clip, mask, reference] = ["video", "mask", "reference.png"].map(given);
    let expected = made(&sandbox, inputs(clip.as_path().into(), mask.as_path().into(), reference.as_path().into()));
    let in_memory = made(&sandbox, inputs(decoded(&clip), decoded(&mask), picture(&reference)));
    assert!(same_bits(&in_memory, &expected));
}

#[test]
fn a_clip_in_memory_is_changed_and_continued() {
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    let folder = sandbox.path("frames");
    std::fs::create_dir(&folder).expect("a folder");
    let frames: Vec<Picture> = (0..17_u8)
        .map(|index| Picture::new(32, 32, (0..3 * 32 * 32).map(|at| (at % 251) as u8 ^ (index * 8)).collect()))
        .collect::<Result<_, _>>()
        .expect("pictures");
    for (index, frame) in frames.iter().enumerate() {
        frame.write_png(folder.join(format!("{index:02}.png"))).expect("a picture");
    }
    let clip = Source::frames(frames, Fps::new(16, 1).expect("a rate")).expect("a clip");
    let pipeline = load(&sandbox.path("model").to_string_lossy(), DType::F32, 2);
    let film = |after: Source, project: &str| {
        let shot = Shot { prompt: "a red ball".into(), seconds: Some(0.5), ..Shot::default() };
        let story = Story { after: Some(after), shots: vec![shot] };
        let request = request(&sandbox, Inputs::default());
        let report = pipeline.film(&story, &request, &sandbox.path(project), |_| Continue(()));
        (
            video(&report.unwrap_or_else(|error| panic!("{error}")).clip),
            Recipe::read(&request.output.clip).expect("a recipe"),
        )
    };
    let (expected, _) = film(folder.as_path().into(), "files");
    let (got, recipe) = film(clip.clone(), "memory");
    assert!(same_bits(&got, &expected));
    assert_eq!(recipe.story.and_then(|story| story.after), Some(clip), "the recipe has its hash");
}

#[test]
fn a_run_with_a_picture_in_memory_goes_on_with_the_same_one() {
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    let image = bytes(&sandbox.path("given/image.png"));
    let pipeline = load(&sandbox.path("model").to_string_lossy(), DType::F32, 2);
    let with = |image: Source| {
        let mut request = request(&sandbox, Inputs::default().image(image));
        request.output.resume = Some(sandbox.path("run"));
        request
    };
    let stop = |event: Event<'_>| if let Event::Step { done: 1, .. } = event { Break(()) } else { Continue(()) };
    assert!(pipeline.generate(&with(image.clone()), stop).expect_err("it is stopped").is_stop());
    let mut other = std::fs::read(sandbox.path("given/image.png")).expect("a picture");
    other.push(0);
    let error = pipeline.generate(&with(other.into()), |_| Continue(())).expect_err("it is another picture");
    assert!(error.to_string().contains("another request"), "{error}");
    let (report, steps) = generate(&pipeline, &with(image.clone())).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(steps.len(), 1, "the first was done");
    let resumed = video(&report.clip);
    assert!(same_bits(&resumed, &made(&sandbox, Inputs::default().image(image))));
}

#[test]
fn a_recipe_says_what_is_missing() {
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    let image = bytes(&sandbox.path("given/image.png"));
    made(&sandbox, Inputs::default().image(image.clone()));
    let clip = sandbox.path("clip.safetensors");
    let recipe = Recipe::read(&clip).expect("a recipe");
    assert_eq!(recipe.inputs.image.as_ref(), Some(&image));
    let run = kinora(&["rerun", "clip.safetensors", "-o", "again.safetensors"], &sandbox.path(""));
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(
        run.stderr.contains(&format!("error: `{}` was a picture or a clip in memory", image.text())),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("hint: give the same picture or clip in its place again"), "{}", run.stderr);
    // With the picture in its place again, the clip is the same.
    let mut again = recipe.request().expect("a request");
    again.inputs.image = Some(image);
    again.output.clip = sandbox.path("again.safetensors");
    let pipeline = load(&sandbox.path("model").to_string_lossy(), DType::F32, 2);
    let (report, _) = generate(&pipeline, &again).unwrap_or_else(|error| panic!("{error}"));
    assert!(same_bits(&video(&report.clip), &video(&clip)));
}
