//! Runs that stop and go on: the result is the one that an uninterrupted run has, bit for bit, and what took long to
//! compute is on disk before anything that can fail touches it.

use candle_core::Tensor;
use kinora::{Error, Event, Pipeline, Report, Request, SamplerKind, Sampling, Size, Stage};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{Run, same_bits};
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow::{self, Break, Continue};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A small clip in `folder`.
fn request(folder: &Path, name: &str, sampler: SamplerKind) -> Request {
    let mut request = Request::new("a red ball rolls over a meadow")
        .size(Size::Pixels { width: Some(32), height: Some(48) })
        .frames(5)
        .sampling(Sampling::default().steps(4).sampler(sampler))
        .seed(3);
    request.output.clip = folder.join(format!("{name}.safetensors"));
    request.output.latents = Some(folder.join(format!("{name}.latents.safetensors")));
    request
}

fn tensor(path: &Path, name: &str) -> Tensor {
    kinora_checkpoint::load_safetensors(path).expect("tensors").0[name].clone()
}

/// Latents and frames of a request.
fn results(request: &Request) -> (Tensor, Tensor) {
    let latents = request.output.latents.as_ref().expect("latents are kept");
    (tensor(latents, "latents"), tensor(&request.output.clip, "video"))
}

fn assert_same(a: &Request, b: &Request) {
    let ((latents_a, video_a), (latents_b, video_b)) = (results(a), results(b));
    assert!(same_bits(&latents_a, &latents_b), "latents");
    assert!(same_bits(&video_a, &video_b), "frames");
}

/// Runs until `stop` says so.
fn run_until(pipeline: &Pipeline, request: &Request, stop: impl Fn(&Event) -> bool + Sync) -> kinora::Result<Report> {
    let flow = |stop: bool| -> ControlFlow<()> { if stop { Break(()) } else { Continue(()) } };
    pipeline.generate(request, |event| flow(stop(&event)))
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    for sampler in [SamplerKind::UniPc, SamplerKind::Lcm, SamplerKind::DpmPp2m, SamplerKind::Heun] {
        let folder = sandbox.path("");
        let whole = request(&folder, &format!("{sampler}-whole"), sampler);
        pipeline.generate(&whole, |_| Continue(())).expect("a clip");

        let mut parts = request(&folder, &format!("{sampler}-parts"), sampler);
        let run = folder.join(format!("{sampler}-run"));
        parts.output.resume = Some(run.clone());
        let stopped = run_until(&pipeline, &parts, |event| matches!(event, Event::Step { done: 2, .. }));
        assert!(matches!(&stopped, Err(Error::Stopped { resumable: Some(at) }) if *at == run), "{stopped:?}");
        assert!(!parts.output.clip.exists());

        let mut steps = Vec::new();
        let collect = |event: Event| {
            if let Event::Step { done, .. } = event {
                steps.push(done);
            }
            Continue(())
        };
        pipeline.generate(&parts, collect).expect("a clip");
        assert_eq!(steps, [3, 4], "{sampler}");
        assert_same(&whole, &parts);
    }
}

/// Wherever it stops, also inside a step, while decoding, or several times.
#[test]
fn a_run_may_stop_anywhere() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let whole = request(&sandbox.path(""), "whole", SamplerKind::UniPc);
    let mut events = 0;
    let count = |_: Event| {
        events += 1;
        Continue(())
    };
    pipeline.generate(&whole, count).expect("a clip");
    let mut parts = request(&sandbox.path(""), "parts", SamplerKind::UniPc);
    parts.output.resume = Some(sandbox.path("run"));
    let mut stops = 0;
    for stop_at in 0..events {
        let mut index = 0;
        let result = pipeline.generate(&parts, |_| {
            index += 1;
            if index > stop_at { Break(()) } else { Continue(()) }
        });
        match result {
            Err(error) => {
                assert!(error.is_stop(), "{error}");
                stops += 1;
            }
            Ok(_) => break,
        }
    }
    assert!(stops > 3, "{stops} stops");
    pipeline.generate(&parts, |_| Continue(())).expect("a clip");
    assert_same(&whole, &parts);
}

#[test]
fn a_finished_run_only_decodes_again() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let mut request = request(&sandbox.path(""), "clip", SamplerKind::Euler);
    request.output.resume = Some(sandbox.path("run"));
    pipeline.generate(&request, |_| Continue(())).expect("a clip");
    let first = results(&request);
    let again = run_until(&pipeline, &request, |event| matches!(event, Event::Step { .. } | Event::NetworkCall));
    assert!(again.is_ok(), "{again:?}");
    assert!(same_bits(&first.1, &results(&request).1));
}

/// Decoding fails: the denoised latents are there, and the command in the hint makes the clip of them.
#[cfg(unix)]
#[test]
fn latents_survive_a_decoding_that_fails() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let whole = request(&sandbox.path(""), "whole", SamplerKind::UniPc);
    pipeline.generate(&whole, |_| Continue(())).expect("a clip");

    let mut broken = request(&sandbox.path(""), "broken", SamplerKind::UniPc);
    broken.output.latents = None;
    let clip = broken.output.clip.clone();
    let take_the_place = |event: Event| {
        if matches!(event, Event::Stage(Stage::Decode)) {
            std::os::unix::fs::symlink("/dev/full", &clip).expect("a link");
        }
        Continue(())
    };
    let error = pipeline.generate(&broken, take_the_place).expect_err("the clip's place is taken");
    let Error::AfterLatents { latents, model, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*latents, sandbox.path("broken.safetensors.latents.safetensors"));
    let latents = latents.to_string_lossy();
    let run = sandbox.kinora(&["decode", &latents, "--model", &model.join(" "), "-o", "decoded.safetensors"]);
    assert_eq!(run.status, Some(0), "{run:#?}");
    assert!(same_bits(&results(&whole).1, &tensor(&sandbox.path("decoded.safetensors"), "video")));
}

/// Stopped while decoding, without a run directory.
#[test]
fn latents_survive_a_stop() {
    let sandbox = Sandbox::new("wan21_t2v");
    let mut request = request(&sandbox.path(""), "clip", SamplerKind::UniPc);
    request.output.latents = None;
    let error = run_until(&sandbox.pipeline(), &request, |event| matches!(event, Event::Frames { .. }))
        .expect_err("it was stopped");
    assert!(error.is_stop() && error.hint().expect("a hint").starts_with("nothing is lost: the denoised latents in "));
    assert!(sandbox.path("clip.safetensors.latents.safetensors").is_file() && !request.output.clip.exists());
}

/// The folder of the clip vanishes in the last step: the temporary folder of the system keeps the latents.
#[test]
fn latents_survive_the_loss_of_their_place() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let whole = request(&sandbox.path(""), "whole", SamplerKind::UniPc);
    pipeline.generate(&whole, |_| Continue(())).expect("a clip");

    std::fs::create_dir(sandbox.path("gone")).expect("a folder");
    let mut lost = request(&sandbox.path("gone"), "clip", SamplerKind::UniPc);
    lost.output.latents = None;
    let remove = |event: Event| {
        if matches!(event, Event::Step { done: 4, .. }) {
            std::fs::remove_dir(sandbox.path("gone")).expect("an empty folder");
        }
        Continue(())
    };
    let error = pipeline.generate(&lost, remove).expect_err("there is no place for the latents");
    let Error::AfterLatents { latents, .. } = &error else { panic!("{error:?}") };
    assert!(latents.starts_with(std::env::temp_dir()) && error.hint().expect("a hint").contains("nothing is lost"));
    assert!(same_bits(&results(&whole).0, &tensor(latents, "latents")));
    std::fs::remove_file(latents).expect("the latents");
}

#[test]
fn latents_survive_a_damaged_vae() {
    let sandbox = Sandbox::new("wan21_t2v");
    sandbox.edit_weights("model/vae/diffusion_pytorch_model.safetensors", |_, data| {
        data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let run = sandbox.generate(&[]);
    insta::assert_snapshot!(run.failure());
    assert!(
        sandbox.path("clip.safetensors.latents.safetensors").is_file() && !sandbox.path("clip.safetensors").exists()
    );
}

#[test]
fn another_request_is_refused() {
    let sandbox = Sandbox::new("wan21_t2v");
    let first = sandbox.generate(&["--resume", "run"]);
    assert_eq!(first.status, Some(0), "{first:#?}");
    let mut texts = String::new();
    for more in [
        ["--steps", "3"],
        ["--seed", "2"],
        ["--width", "48"],
        ["--sampler", "euler"],
        ["--dtype", "bf16"],
        ["--quant", "int8"],
    ] {
        texts += &sandbox.generate(&["--resume", "run", more[0], more[1]]).failure();
    }
    insta::assert_snapshot!(texts);
}

#[test]
fn a_damaged_run_is_refused() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let mut request = request(&sandbox.path(""), "clip", SamplerKind::UniPc);
    request.output.resume = Some(sandbox.path("run"));
    let stopped = run_until(&pipeline, &request, |event| matches!(event, Event::Step { done: 2, .. }));
    assert!(stopped.is_err_and(|error| error.is_stop()));

    let mut texts = String::new();
    let mut refused = |title: &str, file: &str, damage: &dyn Fn(&str)| {
        let name = format!("run/{file}");
        let good = std::fs::read(sandbox.path(&name)).ok();
        damage(&name);
        let error = pipeline.generate(&request, |_| Continue(())).expect_err(title);
        let text = format!("# {title}\nerror: {error}\n\nhint: {}\n\n", error.hint().expect("a hint"));
        texts += &text.replace(&*sandbox.path("").to_string_lossy(), "");
        match good {
            Some(good) => sandbox.write(&name, good),
            None => std::fs::remove_file(sandbox.path(&name)).expect("the damage"),
        }
    };
    refused("state that is garbage", "state.safetensors", &|file| sandbox.write(file, "garbage"));
    refused("state that is cut", "state.safetensors", &|file| {
        let bytes = std::fs::read(sandbox.path(file)).expect("a file");
        sandbox.write(file, &bytes[..bytes.len() - 4]);
    });
    refused("state without its sampler", "state.safetensors", &|file| {
        sandbox.edit_weights(file, |header, _| drop(header.remove("__metadata__")));
    });
    refused("state of another step", "state.safetensors", &|file| {
        sandbox.edit_weights(file, |header, _| {
            let state = header["__metadata__"]["state"].as_str().expect("a state");
            header["__metadata__"]["state"] = state.replace("\"index\":2", "\"index\":99").into();
        });
    });
    refused("state with NaN", "state.safetensors", &|file| {
        sandbox.edit_weights(file, |_, data| data[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    });
    refused("state of another size", "state.safetensors", &|file| {
        sandbox.edit_weights(file, |header, _| {
            for (_, tensor) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
                tensor["shape"] = serde_json::json!([1, 16, 2, 4, 6]);
            }
        });
    });
    refused("no negative context", "context.safetensors", &|file| {
        sandbox.edit_weights(file, |header, data| {
            header.remove("negative");
            header["context"]["data_offsets"] = serde_json::json!([0, data.len() / 2]);
            data.truncate(data.len() / 2);
        });
    });
    refused("context that is cut", "context.safetensors", &|file| sandbox.write(file, ""));
    refused("a recipe that is none", "recipe.json", &|file| sandbox.write(file, "{}"));
    refused("latents that are cut", "latents.safetensors", &|file| sandbox.write(file, "cut"));
    insta::assert_snapshot!(texts);
    pipeline.generate(&request, |_| Continue(())).expect("the run is whole again");
}

/// Arguments of a run that takes long enough to be interrupted.
const LONG: &[&str] =
    &["--steps", "1000", "--width", "64", "--height", "64", "--frames", "9", "-o", "clip.safetensors"];

fn long_run(more: &[&'static str]) -> Vec<&'static str> {
    Sandbox::generate_arguments(&[LONG, more].concat())
}

#[cfg(unix)]
#[test]
fn killed_and_interrupted_processes_go_on() {
    let sandbox = Sandbox::new("wan21_t2v");
    let whole = sandbox.kinora(&long_run(&[]));
    assert_eq!(whole.status, Some(0), "{whole:#?}");
    let expected = tensor(&sandbox.path("clip.safetensors"), "video");
    std::fs::remove_file(sandbox.path("clip.safetensors")).expect("a clip");

    for (signal, resume) in [("KILL", "killed"), ("INT", "interrupted"), ("TERM", "ended")] {
        // A preview is there once the steps have begun.
        let preview = format!("{resume}.gif");
        let arguments =
            [long_run(&["--resume", resume, "--preview-every", "50", "--preview"]), vec![&preview]].concat();
        let run = signalled(&sandbox, &arguments, signal, &preview);
        if signal == "KILL" {
            assert_eq!(run.status, None);
        } else {
            insta::assert_snapshot!(format!("stopped_by_{signal}"), run.failure());
            assert_eq!(run.status, Some(if signal == "INT" { 130 } else { 143 }));
            assert!(sandbox.path(resume).join("state.safetensors").is_file());
            assert!(sandbox.files().iter().all(|file| !file.contains(".clip.") && !file.contains(".part")));
        }
        assert!(!sandbox.path("clip.safetensors").exists());
        let again = sandbox.kinora(&arguments);
        assert_eq!(again.status, Some(0), "{again:#?}");
        assert!(same_bits(&expected, &tensor(&sandbox.path("clip.safetensors"), "video")), "{signal}");
        std::fs::remove_file(sandbox.path("clip.safetensors")).expect("a clip");
    }
}

/// Ctrl-C or a request to end, without --resume: nothing stays.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        assert_leaves_nothing(signal, status);
    }
}

#[cfg(unix)]
fn assert_leaves_nothing(signal: &str, status: i32) {
    let sandbox = Sandbox::new("wan21_t2v");
    let before = sandbox.files();
    let mut child = started(&sandbox, &long_run(&[]));
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut text = String::new();
    while !text.contains("seed 1") {
        assert!(stderr.read_line(&mut text).expect("text") > 0, "{text}");
    }
    send(&child, signal);
    stderr.read_to_string(&mut text).expect("text");
    let output = child.wait_with_output().expect("it ends");
    let run = Run { stderr: text, ..Run::of(&output) };
    assert_eq!(run.status, Some(status), "{run:#?}");
    insta::assert_snapshot!(format!("left_by_{signal}"), run.failure());
    assert_eq!(sandbox.files(), before);
}

/// Starts a run and sends it a signal once `file` is there.
#[cfg(unix)]
fn signalled(sandbox: &Sandbox, arguments: &[&str], signal: &str, file: &str) -> Run {
    let child = started(sandbox, arguments);
    let start = Instant::now();
    while !sandbox.path(file).exists() {
        assert!(start.elapsed() < Duration::from_mins(1), "{file} does not appear");
        std::thread::sleep(Duration::from_millis(2));
    }
    send(&child, signal);
    Run::of(&child.wait_with_output().expect("it ends"))
}

#[cfg(unix)]
fn started(sandbox: &Sandbox, arguments: &[&str]) -> Child {
    let mut command = sandbox.command(arguments);
    command.stderr(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("the kinora binary starts")
}

#[cfg(unix)]
fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}
