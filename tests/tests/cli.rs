//! The `kinora` command at work: files, printed results, recipes, seeds.

use candle_core::Tensor;
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{Run, same_bits};
use serde_json::Value;
use std::collections::BTreeMap;

fn succeeded(run: Run) -> Run {
    assert_eq!(run.status, Some(0), "{run:#?}");
    assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'), "{run:#?}");
    run
}

fn json(run: Run) -> Value {
    succeeded(run).stdout.parse().expect("JSON on stdout")
}

fn tensor(sandbox: &Sandbox, file: &str, name: &str) -> Tensor {
    let (tensors, _) = kinora_checkpoint::load_safetensors(&sandbox.path(file)).expect("tensors");
    tensors.get(name).unwrap_or_else(|| panic!("{file} has no `{name}`")).clone()
}

fn new_files(sandbox: &Sandbox, run: impl FnOnce()) -> Vec<String> {
    let before = sandbox.files();
    run();
    sandbox.files().difference(&before).cloned().collect()
}

#[test]
fn a_clip_and_nothing_else_is_written() {
    let sandbox = Sandbox::new("wan21_t2v");
    for clip in ["clip.safetensors", "clip.mp4", "clip.gif", "clip.webp"] {
        let mut run = None;
        let files = new_files(&sandbox, || run = Some(succeeded(sandbox.generate(&["-o", clip]))));
        assert_eq!(files, [clip]);
        let run = run.expect("it ran");
        assert!(run.stdout.starts_with(clip) && run.stdout.contains("32×32, 5 frames"), "{run:#?}");
        assert!(run.stderr.contains("2 steps of unipc, seed 1"), "{run:#?}");
    }
    let video = tensor(&sandbox, "clip.safetensors", "video");
    assert_eq!(video.dims(), [5, 3, 32, 32]);
    let files = new_files(&sandbox, || drop(succeeded(sandbox.generate(&["-o", "frames/%03d.png"]))));
    assert_eq!(files.len(), 6, "a folder and five frames: {files:?}");
}

#[test]
fn sizes_are_snapped_and_said() {
    let sandbox = Sandbox::new("wan21_t2v");
    let report = json(sandbox.generate(&["--width", "35", "--height", "29", "--frames", "7", "--json"]));
    assert_eq!((&report["width"], &report["height"], &report["frames"]), (&32.into(), &32.into(), &9.into()));
    let run = succeeded(sandbox.generate(&["--width", "35", "--height", "29", "--frames", "7"]));
    assert!(
        run.stderr.contains("note: 35×29 became 32×32") && run.stderr.contains("note: 7 frames became 9"),
        "{run:#?}"
    );
}

#[test]
fn json_has_everything_and_is_alone() {
    let sandbox = Sandbox::new("wan21_t2v");
    let run = sandbox.generate(&["--json", "--save-latents", "latents.safetensors"]);
    assert_eq!(run.stderr, "");
    let report = json(run);
    assert_eq!((&report["seed"], &report["clip"]), (&1.into(), &"clip.safetensors".into()));
    assert_eq!(report["latents"], "latents.safetensors");
    assert!(report["seconds"]["total"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    assert_eq!(report["bytes"], std::fs::metadata(sandbox.path("clip.safetensors")).expect("a clip").len());
}

#[test]
fn saved_latents_decode_to_the_same_frames() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["--save-latents", "latents.safetensors", "--fps", "12", "--no-metadata"]));
    let latents = tensor(&sandbox, "latents.safetensors", "latents");
    assert_eq!(latents.dims(), [1, 16, 2, 4, 4]);
    let arguments = ["decode", "latents.safetensors", "--model", "model", "--json", "-o"];
    json(sandbox.kinora(&[&arguments[..], &["again.safetensors"]].concat()));
    let (first, again) =
        (tensor(&sandbox, "clip.safetensors", "video"), tensor(&sandbox, "again.safetensors", "video"));
    assert!(same_bits(&first, &again));
    let metadata = kinora_checkpoint::load_safetensors(&sandbox.path("again.safetensors")).expect("a clip").1;
    assert_eq!(metadata.get("fps").map(String::as_str), Some("12"), "the frame rate is kept without a recipe too");
}

#[test]
fn a_result_never_replaces_another_or_its_source() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["-o", "clip.safetensors", "--save-latents", "latents.safetensors"]));
    let model = ["--model", "model"];
    let refused = [
        sandbox.generate(&["-o", "same.safetensors", "--save-latents", "./same.safetensors"]),
        sandbox.generate(&["--resume", "run", "--save-latents", "run/../run/latents.safetensors"]),
        sandbox.kinora(&[&["decode", "latents.safetensors", "-o", "latents.safetensors"], &model[..]].concat()),
        sandbox.kinora(&[&["encode", "clip.safetensors", "-o", "clip.safetensors"], &model[..]].concat()),
    ];
    for run in &refused {
        assert!(run.failure().contains("are the same file"), "{run:#?}");
    }
    assert_eq!(tensor(&sandbox, "latents.safetensors", "latents").dims(), [1, 16, 2, 4, 4]);
    assert_eq!(tensor(&sandbox, "clip.safetensors", "video").dims(), [5, 3, 32, 32]);
    assert!(!sandbox.path("same.safetensors").exists());
}

#[test]
fn encoding_is_near_the_inverse_of_decoding_in_shape_and_rate() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["--fps", "10"]));
    let run = succeeded(sandbox.kinora(&["encode", "clip.safetensors", "--model", "model", "-o", "l.safetensors"]));
    assert_eq!(run.stdout, "l.safetensors  latents [1, 16, 2, 4, 4]\n");
    let report =
        json(sandbox.kinora(&["decode", "l.safetensors", "--model", "model", "-o", "b.safetensors", "--json"]));
    assert_eq!((&report["frames"], &report["width"]), (&5.into(), &32.into()));
    let metadata = kinora_checkpoint::load_safetensors(&sandbox.path("b.safetensors")).expect("a clip").1;
    assert_eq!(metadata.get("fps").map(String::as_str), Some("10"));
}

#[test]
fn a_clip_is_made_again_from_its_recipe() {
    let sandbox = Sandbox::new("wan21_t2v");
    let more = ["--guidance-scale", "2.5", "--sampler", "dpm++2m", "--shift", "4", "--negative-prompt", "a blue ball"];
    succeeded(sandbox.generate(&[&more[..], &["--seed", "77"]].concat()));
    for rerun in ["a.safetensors", "b.safetensors"] {
        succeeded(sandbox.kinora(&["rerun", "clip.safetensors", "-o", rerun, "--threads", "2"]));
        std::fs::rename(sandbox.path(rerun), sandbox.path("clip-2.safetensors")).expect("a clip");
        let (first, again) =
            (tensor(&sandbox, "clip.safetensors", "video"), tensor(&sandbox, "clip-2.safetensors", "video"));
        assert!(same_bits(&first, &again));
    }
    succeeded(sandbox.generate(&["--sigmas", "1,0.8,0.3", "--sampler", "lcm"]));
    succeeded(sandbox.kinora(&["rerun", "clip.safetensors", "-o", "again.safetensors"]));
    let (first, again) =
        (tensor(&sandbox, "clip.safetensors", "video"), tensor(&sandbox, "again.safetensors", "video"));
    assert!(same_bits(&first, &again));
}

#[test]
fn every_format_carries_the_recipe() {
    let sandbox = Sandbox::new("wan21_t2v");
    for clip in ["clip.mp4", "clip.safetensors", "clip.gif", "clip.webp", "one.png"] {
        let frames = if clip == "one.png" { "1" } else { "5" };
        succeeded(sandbox.generate(&["-o", clip, "--frames", frames]));
        let recipe = json(sandbox.kinora(&["show", clip, "--json"]));
        assert_eq!((&recipe["seed"], &recipe["prompt"]), (&1.into(), &"a red ball".into()), "{clip}");
        succeeded(sandbox.generate(&["-o", clip, "--frames", frames, "--no-metadata"]));
        let text = sandbox.kinora(&["show", clip]).failure();
        assert!(text.contains("it carries no recipe"), "{clip}: {text}");
        let bytes = std::fs::read(sandbox.path(clip)).expect("a clip");
        assert!(!bytes.windows(10).any(|window| window == b"a red ball"), "{clip} has the prompt in it");
    }
}

#[test]
fn show_prints_the_recipe() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&[]));
    let text = succeeded(sandbox.kinora(&["show", "clip.safetensors"])).stdout;
    let model = sandbox.path("model").canonicalize().expect("it is there");
    insta::assert_snapshot!(text.replace(&*model.to_string_lossy(), "/FOLDER/model"));
}

#[test]
fn several_clips_have_consecutive_seeds() {
    let sandbox = Sandbox::new("wan21_t2v");
    let more = ["--count", "3", "--seed", "41", "--json", "--save-latents", "l.safetensors", "--resume", "run"];
    let run = succeeded(sandbox.generate(&more));
    let reports: Vec<Value> = run.stdout.lines().map(|line| line.parse().expect("JSON")).collect();
    for (index, report) in reports.iter().enumerate() {
        let clip = format!("clip-{}.safetensors", index + 1);
        assert_eq!((&report["seed"], &report["clip"]), (&(41 + index).into(), &clip.as_str().into()));
        assert_eq!(json(sandbox.kinora(&["show", &clip, "--json"]))["seed"], 41 + index);
        assert!(sandbox.path(&format!("l-{}.safetensors", index + 1)).is_file());
        assert!(sandbox.path(&format!("run/{index}/latents.safetensors")).is_file());
    }
    assert_eq!(reports.len(), 3);
    assert!(!same_bits(
        &tensor(&sandbox, "clip-1.safetensors", "video"),
        &tensor(&sandbox, "clip-2.safetensors", "video")
    ));
    succeeded(sandbox.generate(&["--count", "2", "-o", "frames/"]));
    assert!(sandbox.path("frames-1/frame_0001.png").is_file() && sandbox.path("frames-2").is_dir());
}

#[test]
fn a_random_seed_is_printed_recorded_and_kept() {
    let sandbox = Sandbox::new("wan21_t2v");
    let arguments = ["generate", "a ball", "--model", "model", "--width", "32", "--height", "32", "--frames", "1"];
    let arguments = [&arguments[..], &["--steps", "1", "--threads", "1", "--resume", "run"]].concat();
    let mut seeds = Vec::new();
    for number in ["", "-2"] {
        let run = succeeded(sandbox.kinora(&arguments));
        let seed = run.stderr.split("seed ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a seed");
        let clip = format!("kinora-{seed}{number}.mp4");
        assert!(run.stdout.starts_with(&clip), "{run:#?}");
        assert_eq!(json(sandbox.kinora(&["show", &clip, "--json"]))["seed"].to_string(), seed);
        seeds.push(seed.to_string());
    }
    assert_eq!(seeds[0], seeds[1], "a continued run keeps its seed");
    let report = json(sandbox.kinora(&[&arguments[..arguments.len() - 2], &["--json"]].concat()));
    assert_ne!(report["seed"].to_string(), seeds[0], "another run has another seed");
}

#[test]
fn init_latents_replace_the_noise() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["-o", "seeded.safetensors"]));
    let noise = kinora_noise(&[1, 16, 2, 4, 4]);
    let file = sandbox.path("noise.safetensors");
    kinora_checkpoint::save_safetensors(&file, &[("noise".into(), noise)], &BTreeMap::new()).expect("a file");
    succeeded(sandbox.generate(&["--init-latents", "noise.safetensors", "--seed", "9"]));
    let (first, again) =
        (tensor(&sandbox, "seeded.safetensors", "video"), tensor(&sandbox, "clip.safetensors", "video"));
    assert!(same_bits(&first, &again), "the noise of seed 1 given as a file");
}

/// What seed 1 starts from.
fn kinora_noise(shape: &[usize]) -> Tensor {
    kinora_sampler::NoiseSource::new(1).randn_tensor(shape, &candle_core::Device::Cpu).expect("noise")
}

#[test]
fn inspect_says_what_is_there() {
    let sandbox = Sandbox::new("wan21_t2v");
    let whole = succeeded(sandbox.kinora(&["inspect", "model"])).stdout;
    std::fs::remove_file(sandbox.path("model/vae/diffusion_pytorch_model.safetensors")).expect("a file");
    // What is there is printed all the same.
    let unusable = |arguments: &[&str]| {
        let run = sandbox.kinora(arguments);
        assert_eq!(run.status, Some(1), "{run:#?}");
        assert!(run.stderr.contains("error: `") && run.stderr.contains("\n\nhint: "), "{run:#?}");
        run.stdout
    };
    let partial = unusable(&["inspect", "model"]);
    std::fs::remove_file(sandbox.path("model/tokenizer/tokenizer.json")).expect("a file");
    let value: Value = serde_json::from_str(&unusable(&["inspect", "model", "--json"])).expect("JSON");
    assert_eq!(value["problems"].as_array().map(Vec::len), Some(2), "{value}");
    let file = unusable(&["inspect", "model/text_encoder/model.safetensors"]);
    insta::assert_snapshot!(format!("{whole}\n# without the VAE\n{partial}\n# one file\n{file}"));
}

#[test]
fn inspect_says_what_a_clip_is() {
    let sandbox = Sandbox::new("wan21_t2v");
    let made = ["generate", "a red ball", "--width", "32", "--height", "48", "--frames", "5", "--steps", "1", "-o"];
    let recipe = "recipe   yes: `kinora show clip.mp4` prints it\n";
    for (file, more, recipe) in [("clip.mp4", &[][..], recipe), ("frames.gif", &["--no-metadata"], "recipe   none\n")] {
        succeeded(sandbox.kinora(&[&made[..], &[file], more].concat()));
        let said = succeeded(sandbox.kinora(&["inspect", file])).stdout;
        assert!(said.starts_with("clip     32×48, 5 frames, 0.") && said.ends_with(recipe), "{said}");
        let facts = succeeded(sandbox.kinora(&["inspect", file, "--json"])).stdout;
        let facts: Value = serde_json::from_str(&facts).expect("JSON");
        assert_eq!(
            (&facts["width"], &facts["frames"], &facts["recipe"]),
            (&32.into(), &5.into(), &more.is_empty().into())
        );
    }
}

#[test]
fn models_and_bench_print_tables() {
    let sandbox = Sandbox::new("wan21_t2v");
    let mut command = sandbox.command(&["models"]);
    let models = succeeded(Run::of(&command.env("HF_HUB_CACHE", sandbox.path("")).output().expect("it runs")));
    // The size of the model that is compiled in changes whenever it is trained anew.
    let table: Vec<&str> = models.stdout.lines().filter(|line| !line.starts_with("embedded ")).collect();
    insta::assert_snapshot!(table.join("\n"));
    let arguments = ["bench", "--model", "model", "--size", "32x32x5", "--runs", "1", "--threads", "1", "--format"];
    let found = succeeded(sandbox.kinora(&[&arguments[..], &["json"]].concat())).stdout;
    let report: Value = serde_json::from_str(&found).expect("JSON");
    let rows = report["parts"].as_array().expect("rows");
    let parts: Vec<&str> = rows.iter().filter_map(|row| row["part"].as_str()).collect();
    assert_eq!(parts, ["text", "dit", "vae", "encode"]);
    for (row, operator) in rows.iter().zip(["linear", "linear", "conv3d", "conv3d"]) {
        let operators = row["operators"].as_array().expect("operators");
        let shares: f64 = operators.iter().filter_map(|operator| operator["share"].as_f64()).sum();
        assert!((shares - 1.0).abs() < 1e-6, "{row}");
        let known = operators.iter().find(|entry| entry["operator"] == operator).expect("it is called");
        assert!(known["calls"].as_u64() > Some(0) && known["of_peak"].as_f64() > Some(0.0), "{row}");
    }
    assert!(report["cpu"]["linear"]["int8"].as_f64() > Some(0.0), "{report}");
    std::fs::write(sandbox.path("earlier.json"), &found).expect("a file");
    let more = ["md", "--what", "dit", "--compare", "earlier.json"];
    let table = succeeded(sandbox.kinora(&[&arguments[..], &more].concat())).stdout;
    assert!(table.contains("earlier / now") && table.contains('×'), "{table}");
    assert!(table.contains("\nKernels of level ") && table.contains("\n| attention | "), "{table}");
    let some =
        ["bench", "--random", "wan2.1-t2v-1.3b", "--dit-layers", "1", "--attention", "sparse:0.5", "--what", "dit"];
    let some = [&some[..], &["--size", "32x32x1", "--runs", "1"]].concat();
    let table = succeeded(sandbox.kinora(&some)).stdout;
    assert!(table.contains("4 tokens, sparse:0.5 attention (1 of 30 layers, counted for all)"), "{table}");
    let csv = succeeded(sandbox.kinora(&[&arguments[..], &["csv", "--what", "dit"]].concat())).stdout;
    assert!(csv.starts_with("part,operator,work,calls,seconds") && csv.contains("\ndit,linear,"), "{csv}");
}

/// What `show` says of a clip that was just made.
fn recorded(sandbox: &Sandbox, clip: &str) -> Value {
    json(sandbox.kinora(&["show", clip, "--json"]))
}

#[test]
fn prompts_may_begin_with_a_dash() {
    let sandbox = Sandbox::new("wan21_t2v");
    let rest = &Sandbox::generate_arguments(&["--frames", "1", "--steps", "1"])[2..];
    let dashed = [&["generate", "- a red ball", "--negative-prompt", "-ugly"][..], rest].concat();
    succeeded(sandbox.kinora(&dashed));
    let recipe = recorded(&sandbox, "clip.safetensors");
    assert_eq!((&recipe["prompt"], &recipe["negative_prompt"]), (&"- a red ball".into(), &"-ugly".into()));
    for (arguments, expected) in [
        (&["generate", "--widht", "3", "a ball"][..], "a similar argument exists: '--width'"),
        (&["generate", "a", "--negative-prompt", "--steps", "4"], "a value is required for '--negative-prompt <TEXT>'"),
        (&["generate", "-ball"], "a prompt that begins with a dash goes behind `--`"),
    ] {
        let run = sandbox.kinora(arguments);
        assert!(run.status == Some(2) && run.stderr.contains(expected), "{run:#?}");
    }
}

#[test]
fn a_prompt_comes_from_standard_input() {
    let sandbox = Sandbox::new("wan21_t2v");
    let rest = &Sandbox::generate_arguments(&["--frames", "1", "--steps", "1"])[2..];
    sandbox.write("prompt.txt", "a red\nball\n");
    let run = |prompt: &str| {
        let mut command = sandbox.command(&[&["generate", prompt][..], rest].concat());
        command.stdin(std::fs::File::open(sandbox.path("prompt.txt")).expect("a file"));
        Run::of(&command.output().expect("it runs"))
    };
    succeeded(run("-"));
    assert_eq!(recorded(&sandbox, "clip.safetensors")["prompt"], "a red\nball");
    sandbox.write("file.txt", "\u{feff}a blue\nball\n");
    succeeded(run("@file.txt"));
    assert_eq!(recorded(&sandbox, "clip.safetensors")["prompt"], "a blue\nball");
    let (error, hint) =
        ("error: the prompt in `none.txt` cannot be read", "a prompt that begins with @ has a blank before it");
    let missing = run("@none.txt");
    assert!(missing.failure().contains(error) && missing.stderr.contains(hint), "{missing:#?}");
    sandbox.write("prompt.txt", " \n");
    assert!(run("-").failure().contains("the prompt on standard input is empty"));
}

#[test]
fn seeds_are_numbers_or_random() {
    let sandbox = Sandbox::new("wan21_t2v");
    let small = ["--frames", "1", "--steps", "1", "--json"];
    let seeds = ["-1", "random", "18446744073709551615"]
        .map(|seed| json(sandbox.generate(&[&small[..], &["--seed", seed]].concat()))["seed"].clone());
    assert!(seeds[0] != seeds[1] && seeds[2] == u64::MAX, "{seeds:?}");
    let again = json(sandbox.kinora(&["rerun", "clip.safetensors", "--seed", "random", "--json"]));
    assert_ne!(again["seed"], u64::MAX);
    let before = sandbox.files();
    let past = sandbox.generate(&["--seed", "18446744073709551615", "--count", "2"]).failure();
    assert!(past.contains("goes past the largest seed"), "{past}");
    assert_eq!(sandbox.files(), before);
}

/// A name that cannot be written, or is too long once it has a number, is found before the first clip is made.
#[cfg(unix)]
#[test]
fn all_names_are_checked_before_the_first_clip() {
    let sandbox = Sandbox::new("wan21_t2v");
    std::os::unix::fs::symlink("/dev/full", sandbox.path("clip-12.mp4")).expect("a link");
    let long = format!("{}.mp4", "n".repeat(249));
    let before = sandbox.files();
    for clip in ["clip.mp4", &long] {
        let refused = sandbox.generate(&["--count", "12", "-o", clip]);
        refused.failure();
        assert!(!refused.stderr.contains("steps of"), "{refused:#?}");
        assert_eq!(sandbox.files(), before);
    }
    // The longest name that a clip can have leaves no room for what stands beside it.
    let longest = format!("{}.safetensors", "n".repeat(243));
    let files = new_files(&sandbox, || drop(succeeded(sandbox.generate(&["-o", &longest]))));
    assert_eq!(files, [longest]);
}
