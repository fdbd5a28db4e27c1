//! What the embedded model makes of pictures, clips and stories.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Device, Tensor};
use kinora::{Event, Frame, Inputs, LatentRgb, Output, Picture, Pipeline, Request, Shot, Source, Story};
use kinora_tests::{generate, kinora, load, same_bits, video};
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;

const RED: [f32; 3] = [0.90, 0.12, 0.12];

fn request(prompt: &str, seed: u64, clip: &Path) -> Request {
    let output = Output::new(clip.to_path_buf());
    Request::new(prompt).seed(seed).output(output)
}

fn made(pipeline: &Pipeline, request: &Request) -> Tensor {
    let (report, _) = generate(pipeline, request).unwrap_or_else(|error| panic!("{error}"));
    video(&report.clip)
}

/// One frame of `video [F, 3, H, W]` as a picture.
fn picture(video: &Tensor, frame: usize) -> Picture {
    let (_, _, height, width) = video.dims4().expect("[F, 3, H, W]");
    let data = video.get(frame).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1()).expect("f32");
    Picture::from_frame(&Frame::new(width, height, data).expect("three planes"))
}

/// Peak signal to noise ratio of one frame, dB.
fn psnr(video: &Tensor, frame: usize, picture: &Picture) -> f64 {
    let expected = Tensor::from_vec(picture.to_frame().data, (3, picture.height, picture.width), &Device::Cpu);
    let error = (video.get(frame).expect("a frame") - expected.expect("a picture")).and_then(|d| d.sqr()?.mean_all());
    -10.0 * f64::from(error.and_then(|e| e.to_scalar::<f32>()).expect("a number")).log10()
}

/// Where the middle of what is red is in each frame, in parts of the width.
fn red(video: &Tensor) -> Vec<f32> {
    let (frames, _, height, width) = video.dims4().expect("[F, 3, H, W]");
    let values: Vec<f32> = video.flatten_all().and_then(|t| t.to_vec1()).expect("f32");
    let area = height * width;
    let weight = |frame: usize, pixel: usize| {
        let at = |plane: usize| values[(3 * frame + plane) * area + pixel];
        let distance: f32 = (0..3).map(|plane| (at(plane) - RED[plane]).powi(2)).sum::<f32>().sqrt();
        f32::from(u8::from(distance < 0.4))
    };
    let centre = |frame| {
        let (mut sum, mut all) = (0.0, 1e-6);
        for pixel in 0..area {
            let weight = weight(frame, pixel);
            sum += weight * (pixel % width) as f32;
            all += weight;
        }
        sum / all / width as f32
    };
    (0..frames).map(centre).collect()
}

#[test]
fn a_given_first_frame_is_kept_and_moves_as_it_is_told() {
    let (scratch, pipeline) = (tempfile::tempdir().expect("a folder"), load("embedded", DType::F32, 2));
    let clip = scratch.path().join("clip.safetensors");
    let start = picture(&made(&pipeline, &request("a red ball stays still on a blue background", 5, &clip)), 0);
    let image = scratch.path().join("image.png");
    start.write_png(&image).expect("a picture");
    // The autoencoder's own reconstruction of it.
    let raw =
        Tensor::from_vec(start.to_frame().data, (1, 3, start.height, start.width), &Device::Cpu).expect("a frame");
    let one = scratch.path().join("one.safetensors");
    let fps = [("fps".to_string(), "8".to_string())].into();
    kinora_checkpoint::save_safetensors(&one, &[("video".into(), raw)], &fps).expect("saved");
    let latents = scratch.path().join("one.latents.safetensors");
    pipeline.encode(&one, &latents, |_| Continue(())).unwrap_or_else(|error| panic!("{error}"));
    let output = Output::new(scratch.path().join("again.safetensors"));
    pipeline.decode(&latents, &output, None, |_| Continue(())).unwrap_or_else(|error| panic!("{error}"));
    let again = video(&output.clip);

    for (way, sign) in [("right", 1.0), ("left", -1.0)] {
        let mut request = request(&format!("a red ball moves {way} on a blue background"), 7, &clip);
        request.inputs = Inputs::default().image(image.as_path());
        let video = made(&pipeline, &request);
        let difference =
            (video.get(0).expect("a frame") - again.get(0).expect("a frame")).and_then(|d| d.abs()?.max_all());
        let difference = difference.and_then(|d| d.to_scalar::<f32>()).expect("a number");
        println!("{way}: {difference:.1e} from its reconstruction, {:.1} dB from the image", psnr(&video, 0, &start));
        assert!(difference <= 1e-5, "{way}: {difference:e}");
        let x = red(&video);
        assert!((x[3] - x[0]) * sign > 0.03, "{way}: from {} to {}", x[0], x[3]);
    }
}

#[test]
fn a_given_last_frame_is_reached() {
    let (scratch, pipeline) = (tempfile::tempdir().expect("a folder"), load("embedded", DType::F32, 2));
    let clip = scratch.path().join("clip.safetensors");
    let whole = made(&pipeline, &request("a red ball moves right on a blue background", 3, &clip));
    let [first, last] = [0, 16].map(|frame| picture(&whole, frame));
    let [first_file, last_file] = ["first.png", "last.png"].map(|name| scratch.path().join(name));
    first.write_png(&first_file).expect("a picture");
    last.write_png(&last_file).expect("a picture");
    for image in [Some(Source::from(first_file)), None] {
        let mut request = request("a red ball moves right on a blue background", 11, &clip);
        request.inputs = Inputs::default().last_image(last_file.as_path());
        request.inputs.image.clone_from(&image);
        let video = made(&pipeline, &request);
        println!("first {}: the last frame within {:.1} dB", image.is_some(), psnr(&video, 16, &last));
        assert!(psnr(&video, 16, &last) > 29.0);
        if image.is_some() {
            assert!(psnr(&video, 0, &first) > 29.0);
        }
    }
}

fn shot(prompt: &str, seconds: f64) -> Shot {
    Shot { prompt: prompt.into(), seconds: Some(seconds), ..Shot::default() }
}

/// Mean absolute difference from each frame to the next.
fn steps(video: &Tensor) -> Vec<f32> {
    let frames = video.dim(0).expect("frames");
    let (a, b) =
        (video.narrow(0, 0, frames - 1).expect("all but one"), video.narrow(0, 1, frames - 1).expect("the same"));
    let steps = (a - b).and_then(|d| d.abs()?.flatten_from(1)?.mean(1)?.to_vec1());
    steps.expect("a row")
}

#[test]
fn continued_clips_are_seamless_and_do_not_drift() {
    let (scratch, pipeline) = (tempfile::tempdir().expect("a folder"), load("embedded", DType::F32, 2));
    let request = request("", 3, &scratch.path().join("long.safetensors"));
    let story = Story { shots: vec![shot("a red ball moves right on a blue background", 5.0); 5], after: None };
    let report = pipeline.film(&story, &request, &scratch.path().join("project"), |_| Continue(()));
    let long = video(&report.unwrap_or_else(|error| panic!("{error}")).clip);
    // 17 frames, then 12 with every window.
    let frames = long.dim(0).expect("frames");
    assert!(frames >= 200 && (frames - 17).is_multiple_of(4), "{frames} frames");
    let steps = steps(&long);
    let mut sorted = steps.clone();
    sorted.sort_by(f32::total_cmp);
    let (median, p99) = (sorted[sorted.len() / 2], sorted[sorted.len() * 99 / 100]);
    let joins: Vec<f32> = (16..steps.len()).step_by(12).map(|join| steps[join]).collect();
    let largest = joins.iter().copied().fold(0.0, f32::max);
    println!("{frames} frames: steps {median:.4}, 99 % below {p99:.4}; at the joins up to {largest:.4}");
    assert!(joins.iter().all(|step| *step > 0.2 * median), "a frame is there twice");
    assert!(joins.iter().filter(|step| **step > p99).count() <= 1 && largest <= 1.1 * p99);
    // Of every 5 s the background, and whether the ball moves.
    let mean = |start: usize| {
        let corner = long.narrow(0, start, 40).and_then(|t| t.narrow(2, 0, 4)?.mean((0, 2, 3))?.to_vec1::<f32>());
        corner.expect("three colours")
    };
    let first = mean(0);
    for start in (40..frames - 40).step_by(40) {
        let drift = mean(start).iter().zip(&first).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) * 255.0;
        let x = red(&long.narrow(0, start, 40).expect("5 s"));
        let moved: f32 = x.windows(2).map(|pair| (pair[1] - pair[0]).abs().min(0.1)).sum::<f32>() / 39.0;
        println!("after {start} frames: background {drift:.2}/255 away, {moved:.4} of the width a frame");
        assert!(drift <= 1.0, "after {start} frames the background is {drift:.2}/255 away");
        assert!(moved > 0.01, "after {start} frames the ball stands still");
    }
}

#[test]
fn a_story_that_is_stopped_goes_on_with_the_same_bits() {
    let (scratch, pipeline) = (tempfile::tempdir().expect("a folder"), load("embedded", DType::F32, 1));
    let cut = Shot { join: kinora::Join::Cut, ..shot("a green square moves up on a white background", 1.0) };
    let story = Story { after: None, shots: vec![shot("a red ball moves right on a blue background", 3.0), cut] };
    let film = |name: &str, project: &str, stop: Option<usize>| {
        let mut request = request("", 1, &scratch.path().join(name));
        request.sampling.steps = Some(4);
        let mut seen = 0;
        pipeline.film(&story, &request, &scratch.path().join(project), |event| {
            seen += usize::from(matches!(event, Event::Step { .. }));
            if stop == Some(seen) { Break(()) } else { Continue(()) }
        })
    };
    let whole = film("whole.safetensors", "a", None).unwrap_or_else(|error| panic!("{error}"));
    let stopped = film("parts.safetensors", "b", Some(6)).expect_err("it is stopped");
    assert!(stopped.is_stop() && stopped.hint().is_some_and(|hint| hint.contains("continues")), "{stopped}");
    assert!(!scratch.path().join("parts.safetensors").exists());
    let parts = film("parts.safetensors", "b", None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (whole.frames, parts.frames),
        (25 + 9, 25 + 9),
        "3 s and 1 s at 8 frames a second, in whole latent frames"
    );
    assert!(same_bits(&video(&whole.clip), &video(&parts.clip)));
    // Two takes are two streams: there are no latents to continue from, but there are frames.
    assert_eq!(whole.latents, None);
    let other = Story { shots: vec![shot("a blue ball", 1.0)], ..Story::default() };
    let request = request("", 1, &scratch.path().join("other.safetensors"));
    let mismatch = pipeline.film(&other, &request, &scratch.path().join("b"), |_| Continue(()));
    assert!(matches!(mismatch, Err(kinora::Error::ResumeMismatch { .. })));
}

#[test]
fn any_clip_can_be_continued_from_the_command_line() {
    let scratch = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let run = kinora(arguments, scratch.path());
        assert_eq!(run.status, Some(0), "{arguments:?}: {}", run.stderr);
        serde_json::from_str::<serde_json::Value>(&run.stdout).expect("JSON")
    };
    let prompt = "a red ball moves right on a blue background";
    run(&["generate", prompt, "--seed", "3", "-o", "a.mp4", "--json", "--steps", "6"]);
    // Its prompt, model and steps are those of its recipe.
    let longer = run(&["extend", "a.mp4", "--seconds", "1.5", "-o", "b.mp4", "--json"]);
    assert_eq!((longer["frames"].as_u64(), longer["latents"].as_str()), (Some(29), None));
    let again = run(&["extend", "b.mp4", prompt, "--seconds", "3", "-o", "c.mp4", "--json"]);
    assert_eq!(again["frames"], 53);
    let recipe = run(&["show", "c.mp4", "--json"]);
    assert_eq!((recipe["prompt"].as_str(), recipe["steps"].as_u64()), (Some(prompt), Some(6)));
    let rerun = run(&["rerun", "c.mp4", "-o", "d.mp4", "--json"]);
    assert_eq!(rerun["frames"], 53);
    // A mode replaces the steps of the recipe.
    run(&["extend", "b.mp4", "--seconds", "1", "--mode", "fast", "-o", "m.mp4", "--json"]);
    let recipe = run(&["show", "m.mp4", "--json"]);
    assert_eq!((recipe["steps"].as_u64(), recipe["cache"].as_str()), (Some(12), Some("easycache:0.15")));
    // Nothing of anybody else's is taken for a project, or removed.
    std::fs::create_dir(scratch.path().join("x.mp4.project")).expect("a folder");
    std::fs::write(scratch.path().join("x.mp4.project/notes.txt"), "mine").expect("a file");
    let refused = kinora(&["extend", "b.mp4", "-o", "x.mp4"], scratch.path()).failure();
    assert!(refused.contains("`x.mp4.project` is not empty"), "{refused}");
    std::fs::remove_file(scratch.path().join("x.mp4.project/notes.txt")).expect("it is still there");
    std::fs::remove_dir(scratch.path().join("x.mp4.project")).expect("nothing else is there");
    // With its latents beside it, a clip is one stream from its first frame on.
    run(&["generate", prompt, "--seed", "3", "-o", "e.mp4", "--save-latents", "e.mp4.latents.safetensors", "--json"]);
    let stream = run(&["extend", "e.mp4", "--seconds", "1.5", "-o", "f.mp4", "--json"]);
    assert_eq!((stream["frames"].as_u64(), stream["latents"].as_str()), (Some(29), Some("f.mp4.latents.safetensors")));
    // Enlarged frames go on in the size that they were made in.
    run(&["extend", "a.mp4", "--seconds", "1", "--upscale", "2x", "-o", "u.mp4", "--json"]);
    let larger = run(&["extend", "u.mp4", "--seconds", "1", "-o", "v.mp4", "--json"]);
    assert_eq!((larger["width"].as_u64(), larger["height"].as_u64()), (Some(224), Some(128)));
    let recipe = run(&["show", "v.mp4", "--json"]);
    assert_eq!((recipe["width"].as_u64(), recipe["upscale"].as_str()), (Some(112), Some("2x")));
    let left: Vec<_> =
        std::fs::read_dir(scratch.path()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert!(left.iter().all(|path| path.is_file()), "projects are gone: {left:?}");
}

#[test]
fn previews_look_like_the_clip() {
    let (scratch, pipeline) = (tempfile::tempdir().expect("a folder"), load("embedded", DType::F32, 2));
    let request = request("a red ball moves right on a blue background", 3, &scratch.path().join("clip.safetensors"));
    let colours = pipeline.latent_rgb().expect("the embedded model's are known");
    assert_eq!(Some(&colours), LatentRgb::of("embedded").as_ref());
    let mut frames = Vec::new();
    let report = pipeline.generate(&request, |event| {
        if let Event::Step { denoised, .. } = event {
            frames = colours.frames(denoised).expect("small frames");
        }
        Continue(())
    });
    let clip = video(&report.unwrap_or_else(|error| panic!("{error}")).clip);
    assert_eq!(frames.len(), 5);
    // The second preview stands for frames 1 to 4; both are looked at in the preview's own few pixels.
    let whole = picture(&clip, 3);
    let expected = whole.fitted(7, 4, kinora::Fit::Stretch, kinora_media::Filter::Bicubic).expect("small");
    let scale = frames[1].width / 7;
    let small = Picture::from_frame(&frames[1]);
    let mut error = 0.0;
    for y in 0..4 {
        for x in 0..7 {
            for plane in 0..3 {
                let seen = small.rgb[3 * (y * scale * small.width + x * scale) + plane];
                error += (f64::from(seen) - f64::from(expected.rgb[3 * (7 * y + x) + plane])).powi(2);
            }
        }
    }
    let psnr = 10.0 * (255.0 * 255.0 / (error / 84.0)).log10();
    println!("preview: {psnr:.1} dB");
    assert!(psnr > 20.0, "{psnr:.1} dB");
}

#[test]
fn tiles_decode_to_the_same_clip() {
    let (scratch, pipeline) = (tempfile::tempdir().expect("a folder"), load("embedded", DType::F32, 2));
    let latents = Tensor::rand(-1.5f32, 1.5f32, (1, 48, 3, 9, 20), &Device::Cpu).expect("noise");
    let file = scratch.path().join("l.safetensors");
    kinora_checkpoint::save_safetensors(&file, &[("latents".into(), latents)], &std::collections::BTreeMap::new())
        .expect("saved");
    let decoded = |tile: Option<usize>| {
        let output = Output::new(scratch.path().join("clip.safetensors")).tile(tile);
        pipeline.decode(&file, &output, None, |_| Continue(())).unwrap_or_else(|error| panic!("{error}"));
        video(&output.clip)
    };
    let (whole, tiled) = (decoded(None), decoded(Some(8)));
    assert_eq!((whole.dims(), tiled.dims()), (&[9, 3, 144, 320][..], &[9, 3, 144, 320][..]));
    let error = (&whole - &tiled).and_then(|d| d.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()).expect("a number");
    println!("tiles differ by {error:.1e} at most");
    // On disk they wait in 16 bits.
    assert!(error <= 1.0 / 65535.0, "{error:e}");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 2, "nothing else is left");
}

#[test]
fn a_changed_clip_keeps_what_its_strength_leaves() {
    let (scratch, pipeline) = (tempfile::tempdir().expect("a folder"), load("embedded", DType::F32, 2));
    let source = scratch.path().join("source.safetensors");
    let original = made(&pipeline, &request("a red ball moves right on a blue background", 3, &source));
    let change = |strength: f64| {
        let mut request =
            request("a red ball moves left on a blue background", 9, &scratch.path().join("new.safetensors"));
        request.inputs = Inputs::default().video(source.as_path()).strength(strength);
        let plan = pipeline.plan(&request).unwrap_or_else(|error| panic!("{error}")).plan;
        assert_eq!((plan.steps(), plan.frames), ((16.0 * strength) as usize, 17));
        // Made again, as many steps are asked for as before.
        assert_eq!(pipeline.recipe_of(&request).unwrap_or_else(|error| panic!("{error}")).sampling.steps, Some(16));
        let changed = made(&pipeline, &request);
        let difference = (&changed - &original).and_then(|d| d.abs()?.mean_all()?.to_scalar::<f32>());
        let x = red(&changed);
        (difference.expect("a number"), x[16] - x[0])
    };
    // A quarter of the steps is enough for this model to turn the ball round.
    let [(little, goes_on), (much, turns)] = [1.0 / 16.0, 1.0].map(change);
    println!("one step: {little:.3}, {goes_on:+.2} of the width; all: {much:.3}, {turns:+.2}");
    assert!(little < 0.06 && much > 1.5 * little);
    assert!(goes_on > 0.1 && turns < -0.15);
}

#[test]
fn modes_sizes_previews_and_suites_from_the_command_line() {
    let scratch = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let run = kinora(arguments, scratch.path());
        assert_eq!(run.status, Some(0), "{arguments:?}: {}", run.stderr);
        run
    };
    let json = |arguments: &[&str]| serde_json::from_str::<serde_json::Value>(&run(arguments).stdout).expect("JSON");
    let fast =
        ["generate", "a red ball bounces", "--seed", "1", "--mode", "fast", "-o", "f.mp4", "--preview", "p.webp"];
    let report = json(&[&fast[..], &["--upscale", "2x", "--json"]].concat());
    assert_eq!((report["width"].as_u64(), report["height"].as_u64()), (Some(224), Some(128)));
    assert!(report["predictions"]["reused"].as_u64().is_some_and(|reused| reused > 0), "{report}");
    let mut preview = kinora_media::open(scratch.path().join("p.webp")).expect("a preview");
    assert_eq!((preview.spec().width, preview.spec().height), (133, 76));
    assert!(preview.next_frame().expect("a frame").is_some());
    let recipe = json(&["show", "f.mp4", "--json"]);
    assert_eq!((recipe["steps"].as_u64(), recipe["upscale"].as_str()), (Some(12), Some("2x")));
    // The grid has no 1080 rows: more are made, and cut.
    let plan = json(&["plan", "a red ball", "--resolution", "1080p", "--frames", "1", "--json"]);
    assert_eq!((plan["width"].as_u64(), plan["height"].as_u64()), (Some(1920), Some(1088)));
    assert!(plan["notices"][0].as_str().is_some_and(|notice| notice.contains("cut to 1920×1080")), "{plan}");
    let none = json(&[&fast[..6], &["--cache", "none", "-o", "n.mp4", "--json"]].concat());
    assert_eq!(none["predictions"]["reused"], 0);

    let prompts = "[[prompt]]\ncategory = \"a\"\ntext = \"a red ball <b>bounces</b>\"\n[[prompt]]\ntext = \"一个红色球\"\nenglish = \"a red ball\"\n";
    std::fs::write(scratch.path().join("prompts.toml"), prompts).expect("prompts");
    let suite = ["suite", "prompts.toml", "-o", "gallery", "--set", "steps=2", "--set", "steps=4,cache=easycache"];
    let page = run(&suite).stdout;
    assert_eq!(page.trim(), Path::new("gallery").join("index.html").to_string_lossy());
    let html = std::fs::read_to_string(scratch.path().join(page.trim())).expect("a page");
    assert_eq!(html.matches("<video ").count(), 4);
    assert!(html.contains("&lt;b&gt;bounces") && !html.contains("<b>"));
    let clip = scratch.path().join("gallery/embedded-steps-2/001.mp4");
    let before = std::fs::metadata(&clip).and_then(|data| data.modified()).expect("a clip");
    run(&suite);
    run(&[&suite[..], &["--category", "a"]].concat());
    assert_eq!(
        std::fs::metadata(&clip).and_then(|data| data.modified()).expect("a clip"),
        before,
        "it is not made again"
    );
}
