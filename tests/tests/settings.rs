//! What settings of a request and of a model directory come to: samplers, schedules, guidance, recipes.

use candle_core::Tensor;
use kinora::{Event, LoadOptions, Pipeline, Plan, Planned, Request, SamplerKind, Sampling, Size};
use kinora_sampler::Schedule;
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{Run, generate, relative_l2, same_bits, video};
use serde_json::{Value, json};
use std::ops::ControlFlow::Continue;

const SCHEDULER: &str = "model/scheduler/scheduler_config.json";

fn request(sandbox: &Sandbox) -> Request {
    let mut request = Request::new("a red ball")
        .size(Size::Pixels { width: Some(32), height: Some(32) })
        .frames(5)
        .sampling(Sampling::default().steps(3))
        .seed(1);
    request.output.clip = sandbox.path("clip.safetensors");
    request
}

/// `request` with other settings.
fn with(request: &Request, sampling: Sampling) -> Request {
    request.clone().sampling(sampling.or(&request.sampling))
}

fn scale(guidance_scale: f64) -> Sampling {
    Sampling::default().guidance_scale(guidance_scale)
}

fn plan(sandbox: &Sandbox, request: &Request) -> Plan {
    planned(sandbox, request).plan
}

fn planned(sandbox: &Sandbox, request: &Request) -> Planned {
    sandbox.pipeline().plan(request).unwrap_or_else(|error| panic!("{error}"))
}

fn succeeded(run: Run) -> Run {
    assert_eq!(run.status, Some(0), "{run:#?}");
    run
}

fn recipe(sandbox: &Sandbox, clip: &str) -> Value {
    succeeded(sandbox.kinora(&["show", clip, "--json"])).stdout.parse().expect("JSON")
}

/// Latents after every step, and the number of predictions.
fn steps(pipeline: &Pipeline, request: &Request) -> (Vec<Tensor>, usize) {
    let (mut steps, mut calls) = (Vec::new(), 0);
    let collect = |event: Event| {
        match event {
            Event::Step { latents, .. } => steps.push(latents.clone()),
            Event::NetworkCall => calls += 1,
            _ => {}
        }
        Continue(())
    };
    pipeline.generate(request, collect).unwrap_or_else(|error| panic!("{error}"));
    (steps, calls)
}

#[test]
fn the_scheduler_of_a_directory_chooses_the_sampler() {
    let sandbox = Sandbox::new("wan21_t2v");
    let request = request(&sandbox);
    let euler = json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 7.0});
    let dpm = json!({"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction",
        "use_flow_sigmas": true, "flow_shift": 2.0});
    for (config, kind, schedule) in [
        (&euler, SamplerKind::Euler, Schedule::flow_match_euler(3, 7.0)),
        (&dpm, SamplerKind::DpmPp2m, Schedule::flow_dpm(3, 2.0)),
    ] {
        sandbox.write(SCHEDULER, config.to_string());
        let plan = plan(&sandbox, &request);
        assert_eq!((plan.sampler, &plan.schedule), (kind, &schedule.expect("a schedule")));
    }
    // What the user says wins; without a file the variant's own holds.
    let own = with(&request, Sampling::default().sampler(SamplerKind::Heun));
    assert_eq!(plan(&sandbox, &own).sampler, SamplerKind::Heun);
    std::fs::remove_file(sandbox.path(SCHEDULER)).expect("a file");
    assert_eq!(plan(&sandbox, &request).sampler, SamplerKind::UniPc);
}

#[test]
fn a_scheduler_that_is_not_understood_needs_a_sampler() {
    let sandbox = Sandbox::new("wan21_t2v");
    sandbox.edit_json(SCHEDULER, |config| drop(config.insert("use_karras_sigmas".into(), true.into())));
    insta::assert_snapshot!(sandbox.generate(&[]).failure());
    succeeded(sandbox.generate(&["--sampler", "unipc"]));
}

#[test]
fn timesteps_are_fed_as_given_and_kept_in_the_recipe() {
    let sandbox = Sandbox::new("wan21_t2v");
    let timesteps = ["--timesteps", "1000,937.5,833.3,625", "--sampler", "lcm"];
    succeeded(sandbox.generate(&timesteps));
    let recipe = recipe(&sandbox, "clip.safetensors");
    assert_eq!(recipe["timesteps"], json!([1000.0, 937.5, 833.3, 625.0]));
    assert_eq!((&recipe["steps"], recipe.get("shift")), (&4.into(), None));
    succeeded(sandbox.kinora(&["rerun", "clip.safetensors", "-o", "again.safetensors"]));
    assert!(same_bits(&video(&sandbox.path("clip.safetensors")), &video(&sandbox.path("again.safetensors"))));

    let timesteps_list = Some(vec![1000.0, 937.5, 833.3, 625.0]);
    let listed = with(&request(&sandbox), Sampling::default().timesteps(timesteps_list));
    let expected = Schedule::from_timesteps(&[1000.0, 937.5, 833.3, 625.0]).expect("a schedule");
    assert_eq!(plan(&sandbox, &listed).schedule, expected);
    for other in [["--steps", "4"], ["--shift", "3"], ["--sigmas", "1,0.5"]] {
        let run = sandbox.generate(&["--timesteps", "1000,500", other[0], other[1]]);
        assert_eq!(run.status, Some(2), "{run:#?}");
    }
    // The library refuses them too.
    let mut both = listed.clone();
    both.sampling.sigmas = Some(vec![1.0, 0.5]);
    assert!(sandbox.pipeline().plan(&both).is_err());
    let mut counted = listed;
    counted.sampling.steps = Some(4);
    assert!(sandbox.pipeline().plan(&counted).is_err());
    // A resumed run goes on with them, and with no others.
    succeeded(sandbox.generate(&[&timesteps[..], &["--resume", "run"]].concat()));
    let text = sandbox.generate(&["--timesteps", "1000,937.5,833.3,600", "--sampler", "lcm", "--resume", "run"]);
    assert!(text.failure().contains("timesteps"), "{text:#?}");
}

#[test]
fn cfg_zero_star_zeroes_the_first_steps() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let euler = Some(SamplerKind::Euler);
    let zero_star = Sampling::default().cfg_zero_star(true).sampler(euler);
    let zero_star = with(&request(&sandbox), zero_star);
    let zeroing = |steps| with(&zero_star, Sampling::default().zero_init(steps));
    let (zeroed, calls) = steps(&pipeline, &zero_star);
    assert_eq!(calls, 4, "two predictions in each of the two steps that are left");
    // Where the velocity is zero, Euler stays at the noise, but for two products and a sum in f32.
    let noise = kinora_sampler::NoiseSource::new(1).randn_tensor(zeroed[0].shape(), zeroed[0].device());
    assert!(relative_l2(&zeroed[0], &noise.expect("noise")) <= 3.0 * f64::from(f32::EPSILON));
    let (plain, calls) = steps(&pipeline, &zeroing(0));
    assert_eq!(calls, 6);
    assert!(!same_bits(&zeroed[0], &plain[0]) && !same_bits(&zeroed[2], &plain[2]));
    // Every sampler goes on from it.
    for kind in SamplerKind::ALL {
        steps(&pipeline, &with(&zeroing(2), Sampling::default().sampler(kind)));
    }
    assert!(pipeline.plan(&zeroing(3)).is_err());

    let clip = ["--cfg-zero-star", "--zero-init", "2", "--steps", "4"];
    succeeded(sandbox.generate(&clip));
    let recipe = recipe(&sandbox, "clip.safetensors");
    assert_eq!((&recipe["cfg_zero_star"], &recipe["zero_init"]), (&true.into(), &2.into()));
    succeeded(sandbox.kinora(&["rerun", "clip.safetensors", "-o", "again.safetensors"]));
    assert!(same_bits(&video(&sandbox.path("clip.safetensors")), &video(&sandbox.path("again.safetensors"))));
}

#[test]
fn options_of_rerun_replace_settings_of_the_recipe() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["--cfg-zero-star", "--cache", "first-block:0.5", "--sigmas", "1,0.8,0.5,0.2"]));
    let again = ["rerun", "clip.safetensors", "-o", "again.safetensors"];
    let changed = |options: &[&str]| {
        succeeded(sandbox.kinora(&[&again[..], options].concat()));
        recipe(&sandbox, "again.safetensors")
    };
    let off = changed(&["--cfg-zero-star=false", "--cache", "none", "--seed", "9", "--dtype", "bf16"]);
    let expected = json!([false, 0, null, 9, "bf16", 4]);
    let names = ["cfg_zero_star", "zero_init", "cache", "seed", "dtype", "steps"];
    assert_eq!(json!(names.map(|name| &off[name])), expected);
    let counted = changed(&["--steps", "5"]);
    assert_eq!((&counted["steps"], &counted["sigmas"], &counted["zero_init"]), (&5.into(), &Value::Null, &1.into()));
    let mode = changed(&["--mode", "quality"]);
    assert_eq!((&mode["steps"], &mode["cfg_zero_star"]), (&50.into(), &false.into()), "a mode replaces them all");
}

#[test]
fn guidance_works_inside_its_interval_only() {
    let sandbox = Sandbox::new("wan21_t2v");
    let pipeline = sandbox.pipeline();
    let sigmas = Some(vec![1.0, 0.8, 0.5, 0.2]);
    let euler = Some(SamplerKind::Euler);
    let all = with(&request(&sandbox), Sampling::default().sigmas(sigmas).sampler(euler));
    let within = |low, high| with(&all, Sampling::default().guidance_interval([low, high]));
    let (whole, calls) = steps(&pipeline, &all);
    assert_eq!(calls, 8);
    let (everywhere, calls) = steps(&pipeline, &within(0.0, 1.0));
    assert!(same_bits(&whole[3], &everywhere[3]) && calls == 8);
    // Above 0.5 and up to 0.8 lies one step.
    let (narrow, calls) = steps(&pipeline, &within(0.5, 0.8));
    assert_eq!(calls, 5);
    let (none, calls) = steps(&pipeline, &with(&all, scale(1.0)));
    assert_eq!(calls, 4);
    assert!(same_bits(&narrow[0], &none[0]) && !same_bits(&narrow[1], &none[1]));
    for [low, high] in [[0.5, 0.5], [-0.1, 0.5], [0.5, 1.1], [f64::NAN, 1.0]] {
        assert!(pipeline.plan(&within(low, high)).is_err(), "{low} to {high}");
    }

    succeeded(sandbox.generate(&["--guidance-interval", "0.3,0.95", "--steps", "3"]));
    assert_eq!(recipe(&sandbox, "clip.safetensors")["guidance_interval"], json!([0.3, 0.95]));
    succeeded(sandbox.kinora(&["rerun", "clip.safetensors", "-o", "again.safetensors"]));
    assert!(same_bits(&video(&sandbox.path("clip.safetensors")), &video(&sandbox.path("again.safetensors"))));
    assert_eq!(sandbox.generate(&["--guidance-interval", "0.3"]).status, Some(2));
}

#[test]
fn settings_that_do_nothing_are_named() {
    let sandbox = Sandbox::new("wan21_t2v");
    let off = with(&request(&sandbox), scale(1.0));
    let notices = |request: &Request| planned(&sandbox, request).notices.join("\n");
    assert_eq!(notices(&request(&sandbox)), notices(&off), "nothing was given that could do nothing");
    let negative = off.clone().negative_prompt("blue");
    assert!(notices(&negative).contains("guidance is off (scale 1): the negative prompt does nothing"));
    let more = Sampling::default().cfg_zero_star(true).guidance_interval([0.2, 0.8]);
    let more = with(&negative, more);
    let text = notices(&more);
    assert!(text.contains("the negative prompt and CFG-Zero* and the guidance interval do nothing"), "{text}");
    assert_eq!(steps(&sandbox.pipeline(), &more).1, 3, "one prediction in every step");
    let guided = with(&negative, scale(2.0));
    assert!(!notices(&guided).contains("guidance"));
}

/// Each expert is guided by its own scale; one with a scale of 1 makes one prediction a step.
#[test]
fn experts_are_guided_apart() {
    let sandbox = Sandbox::new("wan22_a14b_t2v");
    let pipeline = sandbox.pipeline();
    let sigmas = Some(vec![1.0, 0.95, 0.5, 0.25]);
    let base = with(&request(&sandbox), Sampling::default().sigmas(sigmas));
    let calls = |first, second| {
        let scales = scale(first).guidance_scale_2(second);
        steps(&pipeline, &with(&base, scales)).1
    };
    assert_eq!([calls(3.0, 3.0), calls(3.0, 1.0), calls(1.0, 3.0), calls(1.0, 1.0)], [8, 6, 6, 4]);
}

#[test]
fn recipes_keep_whole_paths_and_known_names() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["--steps", "1"]));
    let folder = sandbox.path("model").canonicalize().expect("it is there");
    assert_eq!(recipe(&sandbox, "clip.safetensors")["model"], json!([folder.to_string_lossy()]));
    let model = LoadOptions::default().threads(1);
    let one = with(&request(&sandbox), Sampling::default().steps(1));
    let small = one.frames(1);
    let (report, _) = generate(&Pipeline::load(&model).expect("the embedded model"), &small).expect("a clip");
    let text = kinora_checkpoint::load_safetensors(&report.clip).expect("raw frames").1;
    assert!(text.values().any(|value| value.contains(r#""model":["embedded"]"#)), "{text:?}");
}

#[test]
fn decoding_at_another_rate_is_recorded() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["--save-latents", "l.safetensors", "--fps", "8"]));
    let decode = ["decode", "l.safetensors", "--model", "model", "-o", "again.safetensors"];
    succeeded(sandbox.kinora(&decode));
    let first = recipe(&sandbox, "again.safetensors");
    assert_eq!(first, recipe(&sandbox, "clip.safetensors"));
    succeeded(sandbox.kinora(&[&decode[..], &["--fps", "24"]].concat()));
    let second = recipe(&sandbox, "again.safetensors");
    assert_eq!((&first["fps"], &second["fps"]), (&8.0.into(), &24.0.into()));
    let same = |name: &str| first[name] == second[name];
    assert!(first.as_object().expect("fields").keys().all(|name| name == "fps" || same(name)));
}

#[test]
fn a_run_directory_appears_only_when_everything_can_be_written() {
    let sandbox = Sandbox::new("wan21_t2v");
    let run = sandbox.generate(&["--resume", "run", "--save-latents", "nowhere/l.safetensors"]);
    assert!(run.failure().contains("nowhere"), "{run:#?}");
    assert!(!sandbox.path("run").exists());
}

#[test]
fn frames_of_1080_rows_are_cut_without_a_recipe_too() {
    let sandbox = Sandbox::new("wan21_t2v");
    for more in [&[][..], &["--no-metadata"]] {
        succeeded(sandbox.generate(&[&["--height", "1080", "--frames", "1", "--steps", "1"], more].concat()));
        assert_eq!(video(&sandbox.path("clip.safetensors")).dims(), [1, 3, 1080, 32], "{more:?}");
    }
    // Latents know it too.
    let saved =
        ["--height", "1080", "--frames", "1", "--steps", "1", "--no-metadata", "--save-latents", "l.safetensors"];
    succeeded(sandbox.generate(&saved));
    succeeded(sandbox.kinora(&["decode", "l.safetensors", "--model", "model", "-o", "again.safetensors"]));
    assert_eq!(video(&sandbox.path("again.safetensors")).dims(), [1, 3, 1080, 32]);
}
