//! Step caches: against diffusers and the papers' formulas (`scripts/fixtures/caches.py`), over stops, and what they cost.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the measured numbers are worth seeing")]

use candle_core::Tensor;
use kinora::{CacheSetting, Event, Pipeline, Predictions, Request, SamplerKind, Sampling, Size};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{Golden, generate, max_error, root, same_bits, video};
use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};

/// Largest difference of a step's latents, relative to their scale, f32; as for runs without a cache.
const WHOLE_RUN: f64 = 1e-4;

/// Tables of the tiny model, as in `scripts/fixtures/caches.py`.
const TABLES: &str = "
[caches.teacache]
threshold = 1.0
coefficients = [0.1, -0.1, 0.1, 0.3, 0.004]

[caches.magcache]
threshold = 0.06
most_in_a_row = 3
conditional = [1.0, 1.02, 0.99, 1.01, 0.97, 0.95, 1.03, 0.98, 0.96, 0.99, 0.9, 0.5]
unconditional = [1.0, 1.02, 0.99, 1.01, 0.97, 0.95, 1.03, 0.98, 0.96, 0.99, 0.9, 0.5]
";

/// Thresholds of the recorded runs.
const CACHES: [&str; 4] = ["first-block:0.8", "easycache:1", "teacache", "magcache"];

fn setting(text: &str) -> CacheSetting {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A tiny model whose manifest has the tables.
fn sandbox(model: &str) -> Sandbox {
    let sandbox = Sandbox::new(model);
    let manifest = std::fs::read_to_string(root().join("models/wan2.1-t2v-1.3b.toml")).expect("a manifest");
    let own = manifest.split("[caches.").next().expect("what is before the tables");
    let own = own.rsplit_once("\n\n").map_or(own, |(before, _)| before); // the comment of the first table
    sandbox.write("model/manifest.toml", format!("{own}\n{TABLES}"));
    sandbox
}

fn request(sandbox: &Sandbox, cache: Option<&str>) -> Request {
    let mut request = Request::new("a cat walks on the grass")
        .negative_prompt("blurry, low quality")
        .size(Size::Pixels { width: Some(32), height: Some(32) })
        .frames(5)
        .sampling(
            Sampling::default()
                .steps(12)
                .shift(3.0)
                .guidance_scale(5.0)
                .cache(cache.map(|cache| kinora::CacheChoice::from(setting(cache)))),
        )
        .seed(1);
    request.output.clip = sandbox.path("clip.safetensors");
    request
}

fn made(pipeline: &Pipeline, request: &Request) -> (Predictions, Vec<Tensor>) {
    let (report, steps) = generate(pipeline, request).unwrap_or_else(|error| panic!("{error}"));
    (report.predictions.expect("it was generated"), steps)
}

#[test]
fn cached_runs_match_diffusers_and_the_papers() {
    for (model, cache) in
        CACHES.map(|cache| ("wan21_t2v", cache)).into_iter().chain([("wan22_a14b_t2v", "first-block:0.8")])
    {
        let sandbox = sandbox(model);
        let name = cache.split(':').next().expect("a name");
        let golden = Golden::read("caches", &format!("{model}.{name}.safetensors"));
        let noise = [("noise".to_string(), golden.get("noise").clone())];
        kinora_checkpoint::save_safetensors(&sandbox.path("noise"), &noise, &BTreeMap::new()).expect("a file");
        let request = request(&sandbox, Some(cache)).init_latents(sandbox.path("noise"));
        let (predictions, steps) = made(&sandbox.pipeline(), &request);
        let computed: Vec<u8> = golden.get("computed").to_vec1().expect("counts");
        let computed: usize = computed.into_iter().map(usize::from).sum();
        assert_eq!((predictions.computed, predictions.reused), (computed, 24 - computed), "{model} {cache}");
        for (index, step) in steps.iter().enumerate() {
            let error = max_error(step, &golden.get("latents").narrow(0, index, 1).expect("a step"));
            assert!(error <= WHOLE_RUN, "{model} {cache} step {index}: {error:.2e}");
        }
        println!("{model} {cache}: {computed} of 24 computed");
    }
}

#[test]
fn a_threshold_of_0_changes_no_bit() {
    let sandbox = sandbox("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let (all, plain) = made(&pipeline, &request(&sandbox, None));
    assert_eq!(all, Predictions { computed: 24, reused: 0, skipped: 0 });
    for name in ["first-block:0", "easycache:0", "teacache:0", "magcache:0"] {
        let (predictions, steps) = made(&pipeline, &request(&sandbox, Some(name)));
        assert_eq!(predictions, all, "{name}");
        assert!(plain.iter().zip(&steps).all(|(a, b)| same_bits(a, b)), "{name}");
    }
}

/// Stopped at every event in turn, so inside of steps and between the two predictions too.
#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    for (model, cache) in CACHES.map(|cache| ("wan21_t2v", cache)).into_iter().chain([("wan22_a14b_t2v", CACHES[0])]) {
        let sandbox = sandbox(model);
        let pipeline = sandbox.pipeline();
        let whole = request(&sandbox, Some(cache));
        let mut events = 0;
        let mut steps = Vec::new();
        let watch = |event: Event| {
            events += 1;
            if let Event::Step { latents, .. } = event {
                steps.push(latents.clone());
            }
            Continue(())
        };
        pipeline.generate(&whole, watch).expect("a clip");
        let mut parts = whole.clone();
        parts.output.resume = Some(sandbox.path("run"));
        parts.output.clip = sandbox.path("parts.safetensors");
        let mut last = None;
        for stop_at in 3..events {
            let mut index = 0;
            let result = pipeline.generate(&parts, |event| {
                if let Event::Step { latents, .. } = event {
                    last = Some(latents.clone());
                }
                index += 1;
                if index > stop_at { Break(()) } else { Continue(()) }
            });
            if result.is_ok() {
                break;
            }
        }
        let video = |name: &str| video(&sandbox.path(name));
        assert!(same_bits(steps.last().expect("steps"), &last.expect("steps")), "{model} {cache}: latents");
        assert!(same_bits(&video("clip.safetensors"), &video("parts.safetensors")), "{model} {cache}: frames");
    }
}

#[test]
fn a_damaged_state_of_the_cache_is_refused() {
    let sandbox = sandbox("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let mut request = request(&sandbox, Some("first-block:0.8"));
    request.output.resume = Some(sandbox.path("run"));
    let stop = |event: Event| if matches!(event, Event::Step { done: 4, .. }) { Break(()) } else { Continue(()) };
    assert!(pipeline.generate(&request, stop).is_err_and(|error| error.is_stop()));
    let whole = std::fs::read(sandbox.path("run/state.safetensors")).expect("a state");
    for (damage, part) in [
        ("cache.expert", "has no state of the step cache"),
        ("cache.0.numbers", "has no state of the step cache"),
        ("cache.1.residual", "has no state of the step cache"),
    ] {
        sandbox.edit_weights("run/state.safetensors", |header, _| {
            let tensor = header.remove(damage).expect("the cache's tensor");
            header.insert(format!("{damage}s"), tensor);
        });
        let error = pipeline.generate(&request, |_| Continue(())).expect_err(damage);
        assert!(error.to_string().contains(part), "{damage}: {error}");
        sandbox.write("run/state.safetensors", &whole);
    }
    sandbox.edit_weights("run/state.safetensors", |_, data| data.fill(0xff));
    let error = pipeline.generate(&request, |_| Continue(())).expect_err("NaN");
    assert!(error.to_string().contains("not finite"), "{error}");
}

#[test]
fn recipes_and_reports_know_the_cache() {
    let sandbox = sandbox("wan21_t2v");
    let more = ["--steps", "12", "--cache", "first-block:0.9"];
    let run = sandbox.generate(&[&more[..], &["--json"]].concat());
    let report: serde_json::Value = run.stdout.parse().unwrap_or_else(|_| panic!("{run:#?}"));
    let count = |name: &str| report["predictions"][name].as_u64().expect("a count");
    assert!(count("reused") > 0 && count("computed") + count("reused") == 24 && count("skipped") == 0, "{report}");
    let recipe = sandbox.kinora(&["show", "clip.safetensors"]).stdout;
    assert!(recipe.contains("cache            first-block:0.9"), "{recipe}");
    let again = sandbox.kinora(&["rerun", "clip.safetensors", "-o", "again.safetensors"]);
    assert!(again.stdout.contains(&format!("{} of 24 predictions reused", count("reused"))), "{again:#?}");
    let video = |name: &str| video(&sandbox.path(name));
    assert!(same_bits(&video("clip.safetensors"), &video("again.safetensors")));
    // Outside of its interval guidance needs no second prediction.
    let run = sandbox.generate(&["--steps", "12", "--guidance-interval", "0,0.5", "--json"]);
    let report: serde_json::Value = run.stdout.parse().unwrap_or_else(|_| panic!("{run:#?}"));
    let count = |name: &str| report["predictions"][name].as_u64().expect("a count");
    assert!(count("skipped") > 0 && count("computed") + count("skipped") == 24 && count("reused") == 0, "{report}");
}

#[test]
fn caches_that_cannot_be_are_refused() {
    let sandbox = Sandbox::new("wan22_a14b_t2v");
    let pipeline = sandbox.pipeline();
    let refused = |request: &Request| pipeline.plan(request).expect_err("it is refused").to_string();
    let base = request(&sandbox, Some("first-block"));
    let mut heun = base.clone();
    heun.sampling.sampler = Some(SamplerKind::Heun);
    assert!(refused(&heun).contains("one evaluation a step"));
    for (cache, part) in [
        ("teacache", "no table of teacache"),
        ("magcache:0.1", "no table of magcache"),
        ("easycache:-1", "a threshold of -1"),
        ("first-block:NaN", "a threshold of NaN"),
    ] {
        let text = refused(&request(&sandbox, Some(cache)));
        assert!(text.contains(part), "{cache}: {text}");
    }
    assert_eq!(sandbox.generate(&["--cache", "fast"]).status, Some(2));
    assert_eq!(sandbox.generate(&["--cache", "none", "--steps", "1"]).status, Some(0));
}
