//! What people are used to from other commands: settings in a file and in the environment, results on standard output, completions,
//! manual pages, and advice for mistyped names.

use kinora_tests::Run;
use kinora_tests::sandbox::Sandbox;
use serde_json::Value;
use std::fs;

/// Runs the command with variables.
fn with(sandbox: &Sandbox, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    let mut command = sandbox.command(arguments);
    command.envs(variables.iter().copied());
    Run::of(&command.output().expect("the program starts"))
}

fn succeeded(run: Run) -> Run {
    assert_eq!(run.status, Some(0), "{run:#?}");
    run
}

/// The plan of a prompt, with settings.
fn plan(sandbox: &Sandbox, variables: &[(&str, &str)], more: &[&str]) -> Value {
    let arguments = [&["plan", "a red ball", "--json"][..], more].concat();
    serde_json::from_str(&succeeded(with(sandbox, variables, &arguments)).stdout).expect("JSON")
}

#[test]
fn settings_stand_in_for_options_that_are_left_out() {
    let sandbox = Sandbox::new("wan21_t2v");
    sandbox.write(
        "config.toml",
        "model = \"model\"\nwidth = 32\nheight = 32\nframes = 5\nsteps = 3\n[plan]\nsteps = 4\n[generate]\nsteps = 2\nquiet = true\n",
    );
    let file = sandbox.path("config.toml").to_string_lossy().into_owned();
    let settings = [("KINORA_CONFIG", file.as_str())];
    let planned = plan(&sandbox, &settings, &[]);
    assert_eq!((&planned["steps"], &planned["width"], &planned["frames"]), (&4.into(), &32.into(), &5.into()));
    assert_eq!(plan(&sandbox, &settings, &["--steps", "5"])["steps"], 5);
    // An option that is given excludes settings that it excludes.
    assert_eq!(plan(&sandbox, &settings, &["--aspect", "1:1", "--resolution", "480p"])["width"], 624);
    let seconds = plan(&sandbox, &settings, &["--duration", "0.5"]);
    assert_eq!(seconds["frames"], 9);

    // The command's own table goes before the top, a variable before both; an empty one is none.
    let none = [settings[0], ("KINORA_MODEL", "no-such-model"), ("KINORA_THREADS", "")];
    let refused = with(&sandbox, &none, &["plan", "a red ball"]);
    assert!(refused.stderr.contains("no-such-model"), "{refused:#?}");
    let made = succeeded(with(&sandbox, &settings, &["generate", "a red ball", "--seed", "1", "-o", "clip.mp4"]));
    assert_eq!(made.stderr, "");

    // What a clip records is not replaced by a setting for all commands.
    let again = ["rerun", "clip.mp4", "--print", "json", "-o", "again.mp4"];
    let again: Value = serde_json::from_str(&succeeded(with(&sandbox, &settings, &again)).stdout).expect("JSON");
    assert_eq!(again["predictions"]["computed"], 4);

    let shown = succeeded(with(&sandbox, &[settings[0], ("KINORA_DEVICE", "cpu")], &["config"])).stdout;
    for line in [
        "device = \"cpu\"  # from KINORA_DEVICE",
        "steps = \"4\"  # for `kinora plan`",
        "width = \"32\"  # for all commands",
        "quiet = true  # for `kinora generate`",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert_eq!(with(&sandbox, &settings, &["config", "--path"]).stdout.trim(), file);
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let sandbox = Sandbox::new("wan21_t2v");
    let file = sandbox.path("config.toml").to_string_lossy().into_owned();
    for (text, expected) in [
        ("stpes = 4", "`stpes` is no option: did you mean `steps`?"),
        ("[genrate]\nsteps = 4", "[genrate] is no command: did you mean `generate`?"),
        ("[serve]\nsteps = 4", "`steps` is no option"),
        ("steps = \"many\"", "is refused: invalid value 'many' for '--steps"),
        ("steps = { a = 1 }", "is no command"),
        ("steps = [[1]]", "`steps` is neither a value nor a list of them"),
        ("steps = ", "TOML parse error"),
    ] {
        sandbox.write("config.toml", text);
        let run = with(&sandbox, &[("KINORA_CONFIG", &file)], &["plan", "a red ball"]);
        assert!(
            run.status == Some(1) && run.stderr.contains(expected) && run.stderr.contains("\nhint: "),
            "{text}: {run:#?}"
        );
        // What is wrong can be seen.
        assert!(with(&sandbox, &[("KINORA_CONFIG", &file)], &["config", "--path"]).status == Some(0));
    }
}

#[test]
fn clips_go_to_standard_output() {
    let sandbox = Sandbox::new("wan21_t2v");
    succeeded(sandbox.generate(&["-o", "clip.mp4"]));
    let expected = fs::read(sandbox.path("clip.mp4")).expect("a clip");
    let own = ["-o", "-", "--no-metadata"];
    succeeded(sandbox.generate(&["-o", "plain.mp4", "--no-metadata"]));
    let before = sandbox.files();
    let output = sandbox.command(&Sandbox::generate_arguments(&own)).output().expect("it runs");
    let plain = fs::read(sandbox.path("plain.mp4")).expect("a clip");
    assert!(output.status.success() && output.stdout == plain, "{} bytes", output.stdout.len());
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output  32×32, 5 frames"));
    assert!(expected != plain);
    let gif = sandbox.command(&Sandbox::generate_arguments(&["-o", "gif:-"])).output().expect("it runs");
    assert!(gif.stdout.starts_with(b"GIF89a"));
    assert_eq!(sandbox.files(), before);

    // A full disk keeps the clip, and a reader that leaves is no failure.
    let sent = |redirect: &str| {
        let script = format!("TMPDIR=$PWD exec \"$0\" \"$@\" {redirect}");
        let output = sandbox.shell(&script, &Sandbox::generate_arguments(&own)).output().expect("it runs");
        Run::of(&output)
    };
    #[cfg(target_os = "linux")]
    {
        let full = sent("> /dev/full");
        let kept =
            full.stderr.lines().find_map(|line| line.strip_prefix("hint: the clip is kept in ")).expect("a path");
        assert!(full.status == Some(1) && fs::read(kept).expect("a clip") == plain, "{full:#?}");
        fs::remove_dir_all(std::path::Path::new(kept).parent().expect("a folder")).expect("a folder of its own");
    }
    assert_eq!(sent("| true").status, Some(0));
    assert_eq!(sandbox.files(), before);
    for (more, expected) in [
        (&["-o", "-", "--json"][..], "cannot both go to standard output"),
        (&["-o", "-", "--print", "path"], "cannot both go to standard output"),
        (&["-o", "-", "--count", "2"], "several clips cannot go to standard output"),
        (&["-o", "doc:-"], "error: "),
    ] {
        let run = sandbox.generate(more);
        assert!(run.status == Some(1) && run.stderr.contains(expected) && run.stdout.is_empty(), "{more:?}: {run:#?}");
    }
}

#[test]
fn results_are_printed_as_scripts_want_them() {
    let sandbox = Sandbox::new("wan21_t2v");
    let path = succeeded(sandbox.generate(&["--print", "path", "-q"]));
    assert_eq!((path.stdout.as_str(), path.stderr.as_str()), ("clip.safetensors\n", ""));
    let json = succeeded(sandbox.generate(&["--print", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).expect("JSON")["frames"], 5);
    assert!(json.stderr.contains("2 steps of"), "{json:#?}");
    let details = succeeded(sandbox.generate(&["-v"]));
    assert!(details.stderr.contains(" predictions of ") && details.stderr.contains("memory: at most "), "{details:#?}");
    let steps = succeeded(sandbox.kinora(&["plan", "a red ball", "--model", "model", "--steps", "2", "-v"]));
    assert!(steps.stdout.contains("timesteps: "), "{steps:#?}");
    assert_eq!(sandbox.generate(&["-q", "-v"]).status, Some(2));
}

#[test]
fn files_that_are_there_may_be_kept() {
    let sandbox = Sandbox::new("wan21_t2v");
    sandbox.write("clip.mp4", "mine");
    sandbox.write("frames/a.png", "mine");
    for more in [
        &["-o", "clip.mp4"][..],
        &["-o", "frames/%04d.png"],
        &["-o", "new.mp4", "--save-latents", "clip.mp4"],
        &["-o", "new.gif", "--preview", "clip.mp4"],
        &["-o", "clip.mp4", "--overwrite"],
    ] {
        let run = sandbox.generate(&[more, &["--no-overwrite"]].concat());
        assert!(run.status == Some(1) && run.stderr.contains("is there already"), "{more:?}: {run:#?}");
    }
    assert_eq!(fs::read(sandbox.path("clip.mp4")).expect("it is kept"), b"mine");
    succeeded(sandbox.generate(&["-o", "new.mp4", "--no-overwrite"]));
    succeeded(sandbox.generate(&["-o", "clip.mp4", "--no-overwrite", "--overwrite"]));
    assert_ne!(fs::read(sandbox.path("clip.mp4")).expect("a clip"), b"mine");
}

#[test]
fn shells_and_manuals_are_served() {
    let sandbox = Sandbox::new("wan21_t2v");
    for (shell, expected) in [
        ("bash", "_kinora()"),
        ("zsh", "#compdef kinora"),
        ("fish", "complete -c kinora"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = succeeded(sandbox.kinora(&["completions", shell])).stdout;
        assert!(script.contains(expected) && script.contains("negative-prompt"), "{shell}");
    }
    let page = succeeded(sandbox.kinora(&["man"])).stdout;
    assert!(page.contains(".TH kinora 1") && page.contains("kinora\\-generate(1)"), "{page}");
    succeeded(sandbox.kinora(&["man", "--folder", "man"]));
    for name in ["kinora.1", "kinora-generate.1", "kinora-models.1", "kinora-keys.1"] {
        let page = fs::read_to_string(sandbox.path("man").join(name)).expect("a page");
        assert!(page.contains(&format!(".TH {}", name.trim_end_matches(".1"))), "{name}: {page}");
    }
    assert!(!sandbox.path("man/kinora-worker.1").exists());
    let version = succeeded(sandbox.kinora(&["--version"])).stdout;
    assert!(version.contains("features: embedded") && version.contains("CPU level "), "{version}");
    assert_eq!(succeeded(sandbox.kinora(&["-V"])).stdout.lines().count(), 1);
}

#[test]
fn mistyped_models_are_guessed_and_downloads_deleted() {
    let sandbox = Sandbox::new("wan21_t2v");
    let run = sandbox.kinora(&["plan", "a ball", "--model", "wan2.1-t2v-1.3"]);
    assert!(run.failure().contains("hint: did you mean `wan2.1-t2v-1.3b`?"), "{run:#?}");
    let far = sandbox.kinora(&["plan", "a ball", "--model", "sora"]);
    assert!(far.failure().contains("one of the known names: embedded, "), "{far:#?}");
    let hub = sandbox.path("hub").to_string_lossy().into_owned();
    let hub = [("HF_HUB_CACHE", hub.as_str())];
    let folder = "hub/models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers";
    sandbox.write(&format!("{folder}/blobs/abc"), vec![0; 1500]);
    sandbox.write("hub/models--other--one/blobs/abc", "kept");
    let remove = ["models", "rm", "wan2.1-t2v-1.3b"];
    let told = succeeded(with(&sandbox, &hub, &[&remove[..], &["--dry-run"]].concat())).stdout;
    assert!(told.contains("1.5 KB, would be deleted") && sandbox.path(folder).exists(), "{told}");
    succeeded(with(&sandbox, &hub, &remove));
    assert!(!sandbox.path(folder).exists() && sandbox.path("hub/models--other--one/blobs/abc").exists());
    assert!(with(&sandbox, &hub, &remove).failure().contains("has no download"));
    assert!(with(&sandbox, &hub, &["models", "rm", "../other--one"]).failure().contains("error: "));
    assert!(with(&sandbox, &hub, &["models", "rm", "embedded"]).failure().contains("error: "));
}
