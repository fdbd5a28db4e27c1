//! The command as a process among others: streams that are gone, limits, signals, names of any bytes, and text of others,
//! none of which ends it with a panic or half a result.
#![cfg(target_os = "linux")]

use kinora_tests::Run;
use kinora_tests::sandbox::Sandbox;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

fn succeeded(run: Run) -> Run {
    assert_eq!(run.status, Some(0), "{run:#?}");
    run
}

/// Runs `kinora` in a shell, `script` beginning with `"$0" "$@"`.
fn in_shell(sandbox: &Sandbox, script: &str, arguments: &[&str]) -> Run {
    Run::of(&sandbox.shell(script, arguments).output().expect("a shell"))
}

#[test]
fn nobody_need_listen() {
    let sandbox = Sandbox::new("wan21_t2v");
    for (number, stderr) in ["2>/dev/full", "2>&-", "2>/dev/full >&- <&-"].iter().enumerate() {
        let clip = format!("{number}.mp4");
        let run = in_shell(&sandbox, &format!("\"$0\" \"$@\" {stderr}"), &Sandbox::generate_arguments(&["-o", &clip]));
        assert!(run.status == Some(0) && sandbox.path(&clip).is_file(), "{stderr}: {run:#?}");
    }
    let gone = "{ \"$0\" \"$@\" 2>&1 >/dev/null; echo $? >status; } | true";
    for (arguments, expected) in [
        (Sandbox::generate_arguments(&["-o", "gone.mp4"]), "0\n"),
        (vec!["generate", "--bogus"], "2\n"),
        (vec!["generate", "a", "--frames", "99999999"], "1\n"),
    ] {
        in_shell(&sandbox, gone, &arguments);
        assert_eq!(std::fs::read_to_string(sandbox.path("status")).expect("a status"), expected, "{arguments:?}");
    }
    assert!(sandbox.path("gone.mp4").is_file());
}

#[test]
fn a_result_that_cannot_be_printed_is_an_error() {
    let sandbox = Sandbox::new("wan21_t2v");
    sandbox.write("prompts.toml", "[[prompt]]\ntext = \"a ball\"\n");
    succeeded(sandbox.generate(&["-o", "clip.safetensors", "--save-latents", "l.safetensors"]));
    let small = ["--width", "32", "--height", "32", "--frames", "5", "--steps", "1"];
    let suite = [&["suite", "prompts.toml", "--model", "model", "-o", "page"][..], &small].concat();
    let (made, json) =
        (Sandbox::generate_arguments(&["-o", "a.mp4"]), Sandbox::generate_arguments(&["--json", "-o", "b.mp4"]));
    let commands: &[&[&str]] = &[
        &made,
        &json,
        &suite,
        &["--help"],
        &["--version"],
        &["help", "story"],
        &["show", "clip.safetensors"],
        &["show", "clip.safetensors", "--json"],
        &["models"],
        &["models", "--json"],
        &["plan", "a ball", "--model", "model"],
        &["inspect", "model"],
        &["decode", "l.safetensors", "--model", "model", "-o", "d.mp4"],
        &["encode", "clip.safetensors", "--model", "model", "-o", "e.safetensors"],
        &["rerun", "clip.safetensors", "-o", "r.mp4"],
    ];
    for arguments in commands {
        let full = in_shell(&sandbox, "exec \"$0\" \"$@\" >/dev/full", arguments);
        let expected = "error: cannot write to standard output: No space left on device";
        assert!(full.failure().starts_with(expected) && full.status == Some(1), "{arguments:?}: {full:#?}");
        let closed = in_shell(&sandbox, "{ \"$0\" \"$@\"; echo $? >status; } | true", arguments);
        assert!(!closed.stderr.contains("panicked"), "{closed:#?}");
        assert_eq!(std::fs::read_to_string(sandbox.path("status")).expect("a status"), "0\n", "{arguments:?}");
    }
    for made in ["a.mp4", "b.mp4", "page/index.html", "d.mp4", "e.safetensors", "r.mp4"] {
        assert!(sandbox.path(made).is_file(), "{made}");
    }
}

#[test]
fn a_limit_is_an_error_not_the_end() {
    let sandbox = Sandbox::new("wan21_t2v");
    let before = sandbox.files();
    let run = in_shell(&sandbox, "ulimit -f 4; exec \"$0\" \"$@\"", &Sandbox::generate_arguments(&["-o", "clip.mp4"]));
    assert!(run.failure().contains("File too large") && run.status == Some(1), "{run:#?}");
    assert_eq!(sandbox.files(), before);
    // Some limit between too little to start and enough must be met while it computes.
    let failed = (60..400).step_by(20).find_map(|megabytes| {
        let script = format!("ulimit -v {megabytes}000; exec \"$0\" \"$@\"");
        let run = in_shell(&sandbox, &script, &Sandbox::generate_arguments(&["--width", "256", "--height", "256"]));
        run.stderr.contains("out of memory").then_some(run)
    });
    let text = failed.expect("memory ran out").failure();
    assert!(text.starts_with("error: out of memory: ") && text.ends_with("[status 1]\n"), "{text}");
}

/// Starts a run that takes long, and sends it a signal once a step is done.
fn signalled(sandbox: &Sandbox, script: &str, signal: &str) -> Run {
    let more = ["--steps", "400", "--preview", "p.gif", "--preview-every", "5", "-o", "clip.safetensors"];
    let mut command = sandbox.shell(script, &Sandbox::generate_arguments(&more));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    let start = std::time::Instant::now();
    while !sandbox.path("p.gif").exists() {
        assert!(start.elapsed().as_secs() < 60, "no preview");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
    Run::of(&child.wait_with_output().expect("it ends"))
}

#[test]
fn a_hang_up_stops_a_run_unless_it_is_ignored() {
    let sandbox = Sandbox::new("wan21_t2v");
    let run = signalled(&sandbox, "exec \"$0\" \"$@\"", "HUP");
    assert!(run.failure().starts_with("error: stopped on request") && run.status == Some(129), "{run:#?}");
    std::fs::remove_file(sandbox.path("p.gif")).expect("a preview");
    assert!(sandbox.files().iter().all(|name| !name.contains("clip")), "{:?}", sandbox.files());
    succeeded(signalled(&sandbox, "trap '' HUP; exec \"$0\" \"$@\"", "HUP"));
}

/// A log has whole lines: what is done first, and no bar.
#[test]
fn a_log_has_no_bar() {
    let sandbox = Sandbox::new("wan21_t2v");
    let run = succeeded(sandbox.generate(&["--steps", "40"]));
    assert!(run.stderr.contains(" 40 steps of ") && !run.stderr.contains(['\r', '\x1b', '█']), "{run:#?}");
}

const HOSTILE: &str = "\u{1b}]0;title\u{7}\u{9b}31m\u{202e}evil\u{2066}\u{200b}\u{feff}\r\nseed  7\u{7f}";

/// Everything that a run printed, none of which a terminal obeys or hides.
fn assert_seen(title: &str, run: &Run) {
    for text in [&run.stdout, &run.stderr] {
        let bad = text.chars().find(|&c| c != '\n' && kinora_files::is_hidden(c));
        assert_eq!(bad, None, "{title}: {run:#?}");
        assert!(!text.lines().any(|line| line.starts_with("seed  7")), "{title}: {run:#?}");
    }
}

#[test]
fn text_of_others_is_seen_not_obeyed() {
    let sandbox = Sandbox::given("wan21_vace");
    succeeded(sandbox.generate(&["-o", "clip.safetensors", "--frames", "9"]));
    sandbox.edit_weights("clip.safetensors", |header, _| {
        let metadata = &mut header["__metadata__"];
        let mut recipe: serde_json::Value =
            serde_json::from_str(metadata["recipe"].as_str().expect("a recipe")).expect("JSON");
        recipe["prompt"] = HOSTILE.into();
        recipe["negative_prompt"] = HOSTILE.into();
        metadata["recipe"] = recipe.to_string().into();
    });
    let recorded = |recipe: &serde_json::Value| {
        sandbox
            .edit_weights("clip.safetensors", |header, _| header["__metadata__"]["recipe"] = recipe.to_string().into());
    };
    let clip = "clip.safetensors";
    let shown = succeeded(sandbox.kinora(&["show", clip]));
    assert!(shown.stdout.contains("\\u{1b}]0;title") && shown.stdout.contains("\\u{202e}evil"), "{shown:#?}");
    let json = succeeded(sandbox.kinora(&["show", clip, "--json"]));
    assert_seen("show --json", &json);
    let recipe: serde_json::Value = json.stdout.parse().expect("JSON");
    assert_eq!(recipe["prompt"], HOSTILE);

    let all = |title: &str, arguments: &[&str]| assert_seen(title, &sandbox.kinora(arguments));
    assert_seen("show", &shown);
    all("rerun", &["rerun", clip, "-o", "again.safetensors"]);
    all("extend", &["extend", clip, "--seconds", "0.25", "-o", "longer.safetensors"]);
    // Of a recipe whose other values are somebody else's too.
    let fields: &[(&str, serde_json::Value)] = &[
        ("sampler", HOSTILE.into()),
        ("dtype", HOSTILE.into()),
        ("quant", HOSTILE.into()),
        ("upscale", HOSTILE.into()),
        ("upscaler", HOSTILE.into()),
        ("model", serde_json::json!([HOSTILE])),
        ("given", serde_json::json!({ "image": HOSTILE })),
        ("encoder", HOSTILE.into()),
    ];
    for (field, value) in fields {
        let mut hostile = recipe.clone();
        hostile[*field] = value.clone();
        recorded(&hostile);
        for command in [
            &["show", clip][..],
            &["rerun", clip, "-o", "x.mp4"],
            &["extend", clip, "-o", "y.mp4", "--seconds", "0.25"],
        ] {
            all(field, command);
        }
    }
}

#[test]
fn names_of_others_are_seen_not_obeyed() {
    let sandbox = Sandbox::new("wan21_t2v");
    let name = "\u{1b}[2J\u{202e}gpj.\nhint: x";
    let (clip, text) = (format!("{name}.safetensors"), format!("{name}.toml"));
    assert_seen("generate", &succeeded(sandbox.generate(&["-o", &clip])));
    sandbox.write(&text, HOSTILE);
    for arguments in [
        &["show", &clip][..],
        &["show", name],
        &["inspect", &clip],
        &["inspect", name],
        &["generate", HOSTILE, "--model", name],
        &["generate", "a", "--model", "model", "--image", name],
        &["encode", name, "-o", "x.safetensors"],
        &["decode", &clip, "--model", "model", "-o", "x.mp4"],
        &["story", &text],
        &["suite", &text, "-o", "page"],
        &["rerun", name],
        &["extend", name, HOSTILE],
        &["pull", name],
        &["models", "--show", name],
        &["bench", "--compare", &text],
        &["generate", HOSTILE, "--sampler", HOSTILE],
        &["generate", "a", &format!("--{HOSTILE}")],
        &[HOSTILE],
    ] {
        let run = sandbox.kinora(arguments);
        assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{run:#?}");
    }
    sandbox.write("p.toml", "[[prompt]]\ntext = \"a \\u202E\\u001B[31m ball\"\ncategory = \"\\u200B<b>\"\n");
    let small = ["--width", "32", "--height", "32", "--frames", "1", "--steps", "1", "--model", "model"];
    let run = succeeded(sandbox.kinora(&[&["suite", "p.toml", "-o", "page"][..], &small].concat()));
    assert_seen("suite", &run);
    let page = std::fs::read_to_string(sandbox.path("page/index.html")).expect("a page");
    assert!(page.contains("a \\u{202e}\\u{1b}[31m ball") && page.contains("\\u{200b}&lt;b&gt;"), "{page}");
    assert!(!page.chars().any(|c| c != '\n' && kinora_files::is_hidden(c)));
}

#[test]
fn names_are_bytes() {
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    let name = |suffix: &str| {
        let mut name = OsStr::from_bytes(b"caf\xe9").to_os_string();
        name.push(suffix);
        name
    };
    let run = |arguments: &[&OsStr]| {
        let mut command = sandbox.shell("exec \"$0\" \"$@\"", &[]);
        succeeded(Run::of(&command.args(arguments).output().expect("it runs")))
    };
    let generate = |more: &[&OsStr]| {
        let base = Sandbox::generate_arguments(&["--frames", "5", "--steps", "1", "-o"]);
        let base: Vec<&OsStr> = base.into_iter().filter(|word| *word != "clip.safetensors").map(OsStr::new).collect();
        run(&[&base[..], more].concat())
    };
    std::fs::copy(sandbox.path("given/image.png"), sandbox.path("").join(name(".png"))).expect("a copy");
    let (picture, clip, raw) = (name(".png"), name(".mp4"), name(".safetensors"));
    let json = generate(&[&raw, "--image".as_ref(), &picture, "--json".as_ref(), "--resume".as_ref(), &name(".run")]);
    let report: serde_json::Value = json.stdout.parse().expect("JSON");
    assert_eq!(report["clip"], "caf\\xE9.safetensors");
    generate(&[&raw, "--image".as_ref(), &picture, "--resume".as_ref(), &name(".run")]);
    let recipe: serde_json::Value = run(&["show".as_ref(), &raw, "--json".as_ref()]).stdout.parse().expect("JSON");
    assert!(recipe["given"]["image"].as_str().is_some_and(|path| path.ends_with("/caf\\xE9.png")), "{recipe}");
    run(&["rerun".as_ref(), &raw, "-o".as_ref(), "again.safetensors".as_ref()]);
    let frames = |path: &Path| kinora_tests::video(path);
    let again = frames(&sandbox.path("again.safetensors"));
    assert!(kinora_tests::same_bits(&frames(&sandbox.path("").join(&raw)), &again));
    generate(&[&clip, "--count".as_ref(), "2".as_ref()]);
    for number in ["-1.mp4", "-2.mp4"] {
        assert!(sandbox.path("").join(name(number)).is_file());
    }
    run(&["encode".as_ref(), &raw, "-o".as_ref(), &name(".latents"), "--model".as_ref(), "model".as_ref()]);
    let decode = ["decode".as_ref(), &*name(".latents"), "--model".as_ref(), "model".as_ref(), "--json".as_ref()];
    assert_eq!(
        run(&decode).stdout.parse::<serde_json::Value>().expect("JSON")["clip"],
        "caf\\xE9-3.mp4".replace("-3", "")
    );
}

#[test]
fn a_pipe_is_no_input() {
    let sandbox = Sandbox::given("wan21_vace");
    let made = Command::new("mkfifo").arg(sandbox.path("pipe")).arg(sandbox.path("pipe.safetensors")).status();
    assert!(made.expect("mkfifo is there").success());
    succeeded(sandbox.generate(&["-o", "clip.safetensors", "--frames", "9"]));
    sandbox.write("story.toml", "[[shot]]\nprompt = \"a\"\nimage = \"pipe\"\n");
    for arguments in [
        &["story", "pipe"][..],
        &["story", "story.toml", "--model", "model"],
        &["suite", "pipe", "-o", "page"],
        &["bench", "--compare", "pipe"],
        &["generate", "a", "--camera-path", "pipe"],
        &["generate", "a", "--model", "model", "--image", "pipe"],
        &["generate", "a", "--model", "model", "-o", "pipe.safetensors"],
        &["generate", "a", "--model", "model", "--save-latents", "pipe"],
    ] {
        // Nobody writes into the pipe: who waits for that waits for ever.
        let script = "timeout -s KILL 20 \"$0\" \"$@\"";
        let run = in_shell(&sandbox, script, arguments);
        assert!(run.status == Some(1) && run.stderr.contains("error: "), "{arguments:?}: {run:#?}");
    }
}

#[test]
fn what_a_killed_run_left_goes_with_the_next() {
    let sandbox = Sandbox::new("wan21_t2v");
    let users = [".clip.backup.mp4", ".clip.kinora-short.mp4", ".clip.kinora-12345678x.mp4"];
    for name in users {
        sandbox.write(name, "the user's");
    }
    for name in [".clip.kinora-abcd1234.mp4", ".claim.kinora-0123abcd", ".other.kinora-ABCDEFGH.safetensors"] {
        sandbox.write(name, "half");
    }
    std::fs::create_dir(sandbox.path(".files.kinora-a1b2c3d4")).expect("a folder");
    sandbox.write(".files.kinora-a1b2c3d4/1.png", "half");
    let held = std::fs::File::create(sandbox.path(".clip.kinora-hold1234.mp4")).expect("a file");
    held.lock().expect("nobody has it");
    succeeded(sandbox.generate(&["-o", "clip.mp4"]));
    let hidden: Vec<String> = sandbox.files().into_iter().filter(|name| name.starts_with('.')).collect();
    let mut expected: Vec<&str> = users.iter().copied().chain([".clip.kinora-hold1234.mp4"]).collect();
    expected.sort_unstable();
    assert_eq!(hidden, expected);
}
