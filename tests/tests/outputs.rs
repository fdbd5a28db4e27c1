//! What a run may write: never over a file that it reads, under names of its own, and nothing that is left of a refusal.

use kinora_tests::Run;
use kinora_tests::sandbox::Sandbox;
use std::collections::BTreeMap;

fn succeeded(run: Run) -> Run {
    assert_eq!(run.status, Some(0), "{run:#?}");
    run
}

/// The bytes of every file.
fn contents(sandbox: &Sandbox) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| Some((name.clone(), std::fs::read(sandbox.path(&name)).ok()?));
    sandbox.files().into_iter().filter_map(read).collect()
}

const WEIGHTS: &str = "model/transformer/diffusion_pytorch_model.safetensors";

#[test]
fn no_result_replaces_what_a_run_reads() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["--save-latents", "latents.safetensors"]));
    succeeded(sandbox.generate(&["-o", "frames/%03d.png"]));
    sandbox.write("story.safetensors", "[[shot]]\nprompt = \"a ball\"\n");
    sandbox.write("prompts.toml", "[[prompt]]\ntext = \"a ball\"\n");
    std::fs::create_dir(sandbox.path("page")).expect("a folder");
    std::fs::hard_link(sandbox.path("prompts.toml"), sandbox.path("page/index.html")).expect("a link");
    std::fs::hard_link(sandbox.path(WEIGHTS), sandbox.path("hard.safetensors")).expect("a link");
    std::fs::hard_link(sandbox.path("clip.safetensors"), sandbox.path("same.safetensors")).expect("a link");
    #[cfg(unix)]
    std::os::unix::fs::symlink("model/vae/diffusion_pytorch_model.safetensors", sandbox.path("soft.safetensors"))
        .expect("a link");
    let before = contents(&sandbox);

    let same = "are the same file";
    let cases: &[(&[&str], &str)] = &[
        (&["generate", "-o", WEIGHTS], same),
        (&["generate", "-o", "model/vae/../vae/diffusion_pytorch_model.safetensors"], same),
        (&["generate", "-o", "hard.safetensors"], same),
        #[cfg(unix)]
        (&["generate", "-o", "soft.safetensors"], same),
        (&["generate", "--save-latents", WEIGHTS], same),
        (&["generate", "--save-latents", "model/vae/config.json"], same),
        (&["generate", "--save-latents", "model/model_index.json"], same),
        (&["generate", "--save-latents", "model/tokenizer/tokenizer.json"], same),
        (&["generate", "--preview", "new.gif", "-o", "new.gif"], same),
        (&["generate", "-o", "model/vae/%d.png"], "would go into the folder of the model"),
        (&["generate", "-o", "model/vae/"], "would go into the folder of the model"),
        (&["generate", "-o", "model/"], "would go into the folder of the model"),
        (&["generate", "--video", "frames", "-o", "frames/"], "would go into the folder of the video"),
        (&["generate", "--video", "frames/%03d.png", "-o", "frames/x.png"], "would go into the folder of the video"),
        (&["generate", "--video", "frames", "-o", "frames/001.png"], same),
        (&["encode", "clip.safetensors", "-o", WEIGHTS], same),
        (&["encode", "clip.safetensors", "-o", "same.safetensors"], same),
        (&["decode", "latents.safetensors", "-o", WEIGHTS], same),
        (&["decode", "latents.safetensors", "-o", "latents.safetensors"], same),
        (&["rerun", "clip.safetensors", "-o", "same.safetensors"], same),
    ];
    for (arguments, expected) in cases {
        let run = match arguments {
            ["generate", rest @ ..] => sandbox.generate(rest),
            _ => sandbox.kinora(&[arguments, &["--model", "model"][..]].concat()),
        };
        assert!(run.failure().contains(expected), "{arguments:?}: {run:#?}");
        assert!(contents(&sandbox) == before, "{arguments:?}");
    }
    let suite = sandbox.kinora(&["suite", "prompts.toml", "--model", "model", "-o", "page"]);
    assert!(suite.failure().contains(same), "{suite:#?}");
    assert!(contents(&sandbox) == before);
}

#[test]
fn a_picture_of_a_clip_replaces_no_input() {
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    std::fs::copy(sandbox.path("given/image.png"), sandbox.path("given/f_0002.png")).expect("a copy");
    let before = contents(&sandbox);
    for clip in ["given/f_%04d.png", "given/f.png"] {
        let run = sandbox.generate(&["--image", "given/f_0002.png", "-o", clip]);
        assert!(run.failure().contains("would replace the image"), "{run:#?}");
    }
    assert!(contents(&sandbox) == before);
    succeeded(sandbox.generate(&["--image", "given/image.png", "-o", "given/%04d.png"]));
}

#[test]
fn a_story_does_not_replace_its_own_files() {
    let sandbox = Sandbox::given("wan21_vace");
    sandbox.write("story.mp4", "[[shot]]\nprompt = \"a ball\"\nseconds = 0.5\n");
    succeeded(sandbox.generate(&["-o", "clip.mp4", "--frames", "9"]));
    let before = contents(&sandbox);
    let small = ["--model", "model", "--steps", "1"];
    let story = ["--width", "32", "--height", "32", "--frames", "13"];
    for run in [
        sandbox.kinora(&[&["story", "story.mp4", "-o", "story.mp4"], &small[..], &story].concat()),
        sandbox.kinora(&[&["extend", "clip.mp4", "-o", "clip.mp4"], &small[..]].concat()),
        sandbox.kinora(&[&["extend", "clip.mp4", "-o", WEIGHTS], &small[..]].concat()),
    ] {
        assert!(run.failure().contains("are the same file"), "{run:#?}");
        assert!(contents(&sandbox) == before);
    }
}

#[test]
fn names_that_nobody_gave_replace_nothing() {
    let sandbox = Sandbox::given("wan21_vace");
    let small = ["--model", "model", "--width", "32", "--height", "32", "--frames", "9", "--steps", "1", "--seed", "7"];
    let made = |arguments: &[&str], expected: &str| {
        let before = contents(&sandbox);
        let run = succeeded(sandbox.kinora(arguments));
        assert!(run.stdout.starts_with(&format!("{expected}  ")), "{run:#?}");
        assert!(!run.stderr.contains("replaced"), "{run:#?}");
        let after = contents(&sandbox);
        assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "{arguments:?}");
    };
    for clip in ["kinora-7.mp4", "kinora-7-2.mp4", "kinora-7-3.mp4"] {
        made(&[&["generate", "a ball"], &small[..]].concat(), clip);
    }
    let model = ["--model", "model", "--steps", "1"];
    for clip in ["kinora-7-again.mp4", "kinora-7-again-2.mp4"] {
        made(&[&["rerun", "kinora-7.mp4"], &model[..]].concat(), clip);
    }
    for clip in ["kinora-7-extended.mp4", "kinora-7-extended-2.mp4"] {
        made(&[&["extend", "kinora-7.mp4", "--seconds", "0.25"], &model[..]].concat(), clip);
    }
    sandbox.write("tale.toml", "[[shot]]\nprompt = \"a ball\"\nseconds = 0.5\n");
    for clip in ["tale.mp4", "tale-2.mp4"] {
        made(&[&["story", "tale.toml"], &small[..]].concat(), clip);
    }
    succeeded(sandbox.kinora(&["encode", "kinora-7.mp4", "--model", "model", "-o", "l.safetensors"]));
    for clip in ["l.mp4", "l-2.mp4"] {
        made(&["decode", "l.safetensors", "--model", "model"], clip);
    }
    assert!(sandbox.files().iter().all(|name| !name.contains(".project")), "{:?}", sandbox.files());
}

#[test]
fn a_named_result_replaces_the_old_one_and_says_so() {
    let sandbox = Sandbox::new("wan21_t2v");
    let arguments = ["-o", "clip.mp4", "--save-latents", "l.safetensors"];
    let first = succeeded(sandbox.generate(&arguments));
    assert!(!first.stderr.contains("replaced"), "{first:#?}");
    let second = succeeded(sandbox.generate(&arguments));
    for file in ["clip.mp4", "l.safetensors"] {
        assert!(second.stderr.contains(&format!("note: replaced `{file}`\n")), "{second:#?}");
    }
    let third = succeeded(sandbox.generate(&[&arguments[..], &["--json"]].concat()));
    let report: serde_json::Value = third.stdout.parse().expect("JSON");
    assert!(report["notices"].as_array().is_some_and(|notices| notices.contains(&"replaced `clip.mp4`".into())));
    let decode = ["decode", "l.safetensors", "--model", "model", "-o", "clip.mp4"];
    assert!(succeeded(sandbox.kinora(&decode)).stderr.contains("note: replaced `clip.mp4`\n"));
    let encode = ["encode", "clip.mp4", "--model", "model", "-o", "l.safetensors"];
    assert!(succeeded(sandbox.kinora(&encode)).stderr.contains("note: replaced `l.safetensors`\n"));
}

#[test]
fn a_refusal_leaves_nothing_that_blocks_the_right_command() {
    let sandbox = Sandbox::given("wan21_vace");
    for (clip, frames) in [("short.mp4", "5"), ("long.mp4", "9")] {
        succeeded(sandbox.generate(&["-o", clip, "--frames", frames]));
    }
    // A text encoder that fails when its time comes.
    let weights = "model/text_encoder/model.safetensors";
    let good = std::fs::read(sandbox.path(weights)).expect("weights");
    let before = contents(&sandbox);
    let extend = |clip| sandbox.kinora(&["extend", clip, "it falls", "--seconds", "0.25", "-o", "longer.mp4"]);
    assert!(extend("short.mp4").failure().contains("it has 5 frames, 9 are needed"));
    assert!(contents(&sandbox) == before);

    let resumed = || sandbox.generate(&["--resume", "run", "-o", "resumed.mp4", "--steps", "1"]);
    sandbox.edit_weights(weights, |_, data| data.fill(0xff));
    let (first, second) = (extend("long.mp4").failure(), resumed().failure());
    sandbox.write(weights, &good);
    assert!(contents(&sandbox) == before, "{first}{second}");
    assert!(!sandbox.path("run").exists() && !sandbox.path("longer.mp4.project").exists());
    succeeded(extend("long.mp4"));
    succeeded(resumed());
}

#[test]
fn another_story_is_refused_in_words() {
    let sandbox = Sandbox::given("wan21_vace");
    let story = |text: &str| {
        sandbox.write("story.toml", text);
        sandbox.kinora(&[
            "story",
            "story.toml",
            "--model",
            "model",
            "--width",
            "32",
            "--height",
            "32",
            "--frames",
            "13",
            "--steps",
            "1",
            "--seed",
            "1",
            "--project",
            "project",
            "-o",
            "film.mp4",
        ])
    };
    succeeded(story("[[shot]]\nprompt = \"a ball\"\nseconds = 0.5\n"));
    let refused = story("[[shot]]\nprompt = \"a cube\"\nseconds = 0.5\n").failure();
    assert!(refused.contains("prompt of shot 1 is \"a ball\", here it is \"a cube\""), "{refused}");
    assert!(refused.contains("delete `project`"), "{refused}");
    let refused = story("[[shot]]\nprompt = \"a ball\"\nseconds = 0.5\n[[shot]]\nprompt = \"b\"\n").failure();
    assert!(refused.contains("the story has 1 shots, here it has 2"), "{refused}");
    assert!(!refused.contains('{'), "{refused}");
}

#[test]
fn one_run_at_a_time_works_in_a_directory() {
    let sandbox = Sandbox::given("wan21_vace");
    succeeded(sandbox.generate(&["-o", "clip.mp4", "--frames", "9", "--resume", "run"]));
    let extend = ["extend", "clip.mp4", "--seconds", "0.25", "--seed", "1", "-o", "longer.mp4", "--project", "project"];
    for (directory, arguments) in [
        ("run", Sandbox::generate_arguments(&["-o", "clip.mp4", "--frames", "9", "--resume", "run"])),
        ("project", extend.to_vec()),
    ] {
        std::fs::create_dir_all(sandbox.path(directory)).expect("a folder");
        let file = std::fs::File::create(sandbox.path(directory).join("lock")).expect("a file");
        file.lock().expect("nobody has it");
        let before = contents(&sandbox);
        let refused = sandbox.kinora(&arguments).failure();
        assert!(refused.contains(&format!("another run works in `{directory}`")), "{refused}");
        assert!(contents(&sandbox) == before);
        drop(file);
        succeeded(sandbox.kinora(&arguments));
    }
}

/// Two seeds into one file, at the same time and several times: a clip is of one of them, and its recipe says of which.
#[test]
fn two_runs_with_one_output_do_not_mix() {
    let sandbox = Sandbox::new("wan21_t2v");
    let clip = |seed: &str, name: &str| vec!["-o".to_string(), name.to_string(), "--seed".into(), seed.into()];
    let run = |arguments: &[String], more: &[&'static str]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        sandbox.generate(&arguments)
    };
    let video = |name: &str| kinora_tests::video(&sandbox.path(name));
    let expected = ["1", "2"].map(|seed| {
        let name = format!("seed-{seed}.safetensors");
        succeeded(run(&clip(seed, &name), &["--no-metadata"]));
        video(&name)
    });
    for more in [&[][..], &["--save-latents", "l.safetensors"]] {
        for _ in 0..4 {
            std::thread::scope(|scope| {
                let run = &run;
                let runs = ["1", "2"].map(|seed| scope.spawn(move || run(&clip(seed, "x.safetensors"), more)));
                for run in runs {
                    drop(succeeded(run.join().expect("a run")));
                }
            });
            let shown = succeeded(sandbox.kinora(&["show", "x.safetensors", "--json"]));
            let recipe: serde_json::Value = shown.stdout.parse().expect("JSON");
            let seed = recipe["seed"].as_u64().expect("a seed") as usize;
            assert!(kinora_tests::same_bits(&expected[seed - 1], &video("x.safetensors")), "seed {seed}");
        }
    }
    let left: Vec<String> = sandbox.files().into_iter().filter(|name| name.contains(".latents")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_left_of_a_failed_run_is_not_replaced() {
    let sandbox = Sandbox::new("wan21_t2v");
    sandbox.write("clip.safetensors.latents.safetensors", "all that is left");
    succeeded(sandbox.generate(&[]));
    let left = std::fs::read_to_string(sandbox.path("clip.safetensors.latents.safetensors")).expect("a file");
    assert_eq!(left, "all that is left");
    assert!(!sandbox.path("clip.safetensors.latents-2.safetensors").exists());
}

#[test]
fn a_run_does_not_go_on_with_another_model_of_the_same_path() {
    let sandbox = Sandbox::given("wan21_vace");
    let generate = ["-o", "clip.mp4", "--frames", "9", "--resume", "run"];
    let extend = ["extend", "clip.mp4", "--seconds", "0.25", "--seed", "1", "-o", "longer.mp4", "--project", "project"];
    succeeded(sandbox.generate(&generate));
    succeeded(sandbox.kinora(&extend));
    succeeded(sandbox.generate(&generate));
    std::fs::copy(sandbox.path("clip.mp4"), sandbox.path("kept.mp4")).expect("a copy");
    sandbox.edit_weights("model/vae/diffusion_pytorch_model.safetensors", |_, data| data[..4].fill(0));
    for run in [sandbox.generate(&generate), sandbox.kinora(&extend)] {
        let refused = run.failure();
        let expected = ["vae/diffusion_pytorch_model.safetensors` has changed since", "clip.mp4` has changed since"];
        assert!(expected.iter().any(|text| refused.contains(text)), "{refused}");
    }
}

/// A clip that was edited keeps its name, its recipe and its size, but not its latents.
#[test]
fn an_edited_clip_is_not_continued_from_its_old_latents() {
    let sandbox = Sandbox::new("../../models/embedded");
    let first = ["generate", "a red ball", "--model", "model", "--seed", "3", "--steps", "1", "-o", "clip.safetensors"];
    let saved = ["--save-latents", "clip.safetensors.latents.safetensors"];
    succeeded(sandbox.kinora(&[&first[..], &saved].concat()));
    let extend = |to: &str| {
        let run = sandbox.kinora(&["extend", "clip.safetensors", "--seconds", "0.5", "--seed", "1", "-o", to]);
        succeeded(run);
        kinora_tests::video(&sandbox.path(to))
    };
    let whole = extend("whole.safetensors");
    assert!(sandbox.path("whole.safetensors.latents.safetensors").is_file(), "one stream of latents");
    sandbox.edit_weights("clip.safetensors", |_, data| data.fill(0));
    let edited = extend("edited.safetensors");
    assert!(!sandbox.path("edited.safetensors.latents.safetensors").exists());
    assert_eq!(whole.dims(), edited.dims());
    let first = edited.narrow(0, 0, 1).and_then(|frame| frame.flatten_all()?.max(0)?.to_scalar::<f32>());
    assert!(first.expect("a number") < 1e-6, "the frames of the file come first");
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let sandbox = Sandbox::given("wan21_vace");
    succeeded(sandbox.generate(&["-o", "clip.mp4", "--frames", "9"]));
    std::fs::create_dir(sandbox.path("mine")).expect("a folder");
    sandbox.write("mine/notes.txt", "mine");
    let before = contents(&sandbox);
    for (refused, option) in [
        (sandbox.generate(&["--resume", "mine", "-o", "x.mp4"]), "--resume"),
        (sandbox.kinora(&["extend", "clip.mp4", "--project", "mine", "-o", "x.mp4"]), "--project"),
    ] {
        let text = refused.failure();
        assert!(text.contains("`mine` is not empty, and holds no ") && text.contains(option), "{text}");
        assert!(contents(&sandbox) == before);
    }
}

/// A run that goes on has the frames that it began with: none was added or removed.
#[test]
fn frames_that_come_or_go_are_noticed() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["-o", "frames/%03d.png"]));
    let run = || sandbox.generate(&["--video", "frames", "--strength", "1", "--resume", "run", "-o", "x.mp4"]);
    succeeded(run());
    succeeded(run());
    std::fs::copy(sandbox.path("frames/001.png"), sandbox.path("frames/005.png")).expect("a copy");
    let text = run().failure();
    assert!(text.contains("frames/005.png` was not there then"), "{text}");
    std::fs::remove_file(sandbox.path("frames/005.png")).expect("a picture");
    succeeded(run());
    std::fs::remove_file(sandbox.path("frames/002.png")).expect("a picture");
    let text = run().failure();
    assert!(text.contains("frames/002.png` is not there any more"), "{text}");
}
