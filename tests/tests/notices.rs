//! What is given and not used as it was given is said in one line, by `plan` and by `generate` alike; values that make no
//! sense at all are refused. The texts are snapshots.

use kinora_media::{Frame, Picture};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;
use serde_json::{Value, json};
use std::fmt::Write;

/// The notices of one set of arguments, under a title.
fn noticed(text: &mut String, sandbox: &Sandbox, title: &str, more: &[&str]) {
    let notices = |command: &str| {
        let mut arguments = Sandbox::generate_arguments(more);
        arguments[0] = command;
        arguments.push("--json");
        let run = sandbox.kinora(&arguments);
        assert_eq!(run.status, Some(0), "{title}: {}", run.stderr);
        let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
        let notices = report["notices"].as_array().expect("a list").iter();
        notices.map(|notice| notice.as_str().expect("a text").to_string()).collect::<Vec<_>>()
    };
    let (planned, made) = (notices("plan"), notices("generate"));
    assert_eq!(planned, made[..planned.len()], "{title}");
    writeln!(text, "# {title}\n{}\n", planned.join("\n")).expect("a text");
}

/// Writes a mask of 32×32 pixels whose left half has these colours of 255; the rest is black.
fn mask(sandbox: &Sandbox, name: &str, colours: [u8; 3]) {
    let row = [colours.repeat(16), vec![0; 48]].concat();
    let picture = Picture::new(32, 32, row.repeat(32)).expect("a picture");
    picture.write_png(sandbox.path(name)).expect("a file");
}

#[test]
fn lengths_of_clips_masks_and_cameras() {
    let mut text = String::new();
    let sandbox = Sandbox::given("wan21_vace");
    for (name, frames) in [("three", 3), ("five", 5), ("twelve", 12)] {
        sandbox.write_tensor(&format!("{name}.safetensors"), "video", &[frames, 3, 32, 32], 1.0);
    }
    let given = ["--frames", "9", "--fps", "16"];
    for (control, mask) in [("twelve", "five"), ("five", "twelve"), ("five", "three"), ("five", "five")] {
        let (control, mask) = (format!("{control}.safetensors"), format!("{mask}.safetensors"));
        let more = [&given[..], &["--control", &control, "--mask", &mask]].concat();
        noticed(&mut text, &sandbox, &more.join(" "), &more);
    }
    let changed = Sandbox::given("wan21_v2v");
    changed.write_tensor("twelve.safetensors", "video", &[12, 3, 32, 32], 0.5);
    noticed(&mut text, &changed, "--video of 12 frames", &[&given[..], &["--video", "twelve.safetensors"]].concat());
    let camera = Sandbox::camera();
    let pose = "0 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n";
    camera.write("poses.txt", pose.repeat(7));
    let more = ["--image", "given/image.png", "--camera-path", "poses.txt", "--frames", "9"];
    noticed(&mut text, &camera, "7 poses", &more);
    insta::assert_snapshot!(text);
}

fn masked(mask: &str) -> [&str; 6] {
    ["--control", "control.safetensors", "--fps", "16", "--mask", mask]
}

#[test]
fn masks_are_read_from_every_colour_and_must_select_something() {
    let (mut text, mut t) = (String::new(), Transcript::default());
    let sandbox = Sandbox::given("wan21_vace");
    let colours = [
        ("white", [255; 3]),
        ("red", [255, 0, 0]),
        ("green", [0, 255, 0]),
        ("blue", [0, 0, 255]),
        ("black", [0; 3]),
        ("ones", [1; 3]),
        ("dark", [100; 3]),
    ];
    for (name, colours) in colours {
        mask(&sandbox, &format!("{name}.png"), colours);
    }
    sandbox.write_tensor("all.safetensors", "video", &[1, 3, 32, 32], 1.0);
    sandbox.write_tensor("control.safetensors", "video", &[5, 3, 32, 32], 0.25);
    for name in ["black.png", "all.safetensors"] {
        noticed(&mut text, &sandbox, name, &masked(name));
    }
    let clip = |name: &str| {
        let file = format!("{name}.png");
        let run = sandbox.generate(&[&masked(&file)[..], &["--no-metadata"]].concat());
        assert_eq!(run.status, Some(0), "{name}: {}", run.stderr);
        std::fs::read(sandbox.path("clip.safetensors")).expect("a clip")
    };
    let (white, black) = (clip("white"), clip("black"));
    assert!(white != black, "the mask has an effect");
    for name in ["red", "green", "blue"] {
        assert!(clip(name) == white, "{name} selects what white does");
    }
    std::fs::remove_file(sandbox.path("clip.safetensors")).expect("a clip");
    for name in ["ones.png", "dark.png"] {
        t.generate(&sandbox, &masked(name));
    }
    insta::assert_snapshot!(text + &t.0);
}

#[test]
fn prompts_settings_and_lengths() {
    let (mut text, mut t) = (String::new(), Transcript::default());
    let sandbox = Sandbox::new("wan21_t2v");
    let long = "a ball and a cube beside the house ".repeat(100);
    for more in [
        &["--frames", "2"][..],
        &["--frames", "3"],
        &["--duration", "0.001"],
        &["--frames", "177", "--width", "16", "--height", "16", "--steps", "1"],
        &["--fps", "60"],
        &["--fps", "2"],
        &["--timesteps", "0.9,0.5"],
        &["--timesteps", "1000,500,0"],
        &["--negative-prompt", &long],
    ] {
        let shown =
            more.iter().map(|word| if word.len() > 100 { "(long)" } else { word }).collect::<Vec<_>>().join(" ");
        noticed(&mut text, &sandbox, &shown, more);
    }
    for prompt in
        [&long, "a (red:1.4) ball", "a ball <lora:film:0.8>", "embedding:style, a ball", "a clock shows 10:15 (late)"]
    {
        let mut arguments = Sandbox::generate_arguments(&[]);
        (arguments[0], arguments[1]) = ("plan", prompt);
        let run = sandbox.kinora(&arguments);
        let notes: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("note")).collect();
        let shown: String = prompt.chars().take(40).collect();
        writeln!(text, "# {shown}\n{}\n", notes.join("\n")).expect("a text");
    }
    for prompt in ["\u{200b}", "\u{feff}", "&nbsp;", "\u{3164}\u{202e}"] {
        let mut arguments = Sandbox::generate_arguments(&[]);
        arguments[1] = prompt;
        t.run(&sandbox, "a prompt that nobody sees", &arguments);
    }
    for more in [&["--sigmas", "0.9,0.9"][..], &["--sigmas", "1.2,0.5"], &["--sigmas", "1,0", "--timesteps", "1000,0"]]
    {
        t.generate(&sandbox, more);
    }
    insta::assert_snapshot!(text + &t.0);
}

/// A small model says what it does not know, and every model what frames it makes.
#[test]
fn words_and_sizes_that_a_model_does_not_know() {
    let mut text = String::new();
    let sandbox = Sandbox::new("../../models/embedded");
    for prompt in ["a red ball moves left", "A CAT on the grass, 3d, don't", "一个小红色球", "一只猫 and a ball"]
    {
        let mut arguments = Sandbox::generate_arguments(&["--json", "--width", "112", "--height", "64"]);
        arguments[..2].copy_from_slice(&["plan", prompt]);
        let report: Value = serde_json::from_str(&sandbox.kinora(&arguments).stdout).expect("JSON");
        writeln!(text, "# {prompt}\n{}\n", report["notices"]).expect("a text");
    }
    for size in [["32", "16"], ["48", "32"], ["160", "112"], ["640", "480"]] {
        let mut arguments = Sandbox::generate_arguments(&["--json", "--width", size[0], "--height", size[1]]);
        arguments[0] = "plan";
        let report: Value = serde_json::from_str(&sandbox.kinora(&arguments).stdout).expect("JSON");
        writeln!(text, "# {}\n{}\n", size.join("×"), report["notices"]).expect("a text");
    }
    insta::assert_snapshot!(text);
}

/// How long a run took is known to the next one, of the same size and of another one, but not with another arithmetic.
#[test]
fn the_time_of_a_run_is_known_from_earlier_ones() {
    let sandbox = Sandbox::new("wan21_t2v");
    let time = |more: &[&str], command: &str| {
        let mut arguments = Sandbox::generate_arguments(more);
        arguments[0] = command;
        arguments.push("--json");
        let output = sandbox.command(&arguments).env("KINORA_CACHE", sandbox.path("cache")).output();
        let run = kinora_tests::Run::of(&output.expect("the program starts"));
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        serde_json::from_str::<Value>(&run.stdout).expect("JSON")["time"].clone()
    };
    assert_eq!(time(&[], "plan"), Value::Null);
    time(&[], "generate");
    let known = time(&[], "plan");
    assert_eq!(known["basis"], "same_size");
    assert!(known["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{known}");
    assert_eq!(time(&["--frames", "9"], "plan")["basis"], "other_size");
    assert_eq!(time(&["--dtype", "bf16"], "plan"), Value::Null);
    // Twice as many steps take longer, and a damaged file is none.
    let longer = time(&["--steps", "4"], "plan")["seconds"].as_f64();
    assert!(longer > known["seconds"].as_f64(), "{longer:?} {known}");
    sandbox.write("cache/pace.json", "[{\"of\": 1");
    assert_eq!(time(&[], "plan"), Value::Null);
}

#[test]
fn shapes_of_pictures_and_rates_of_clips() {
    let (mut text, mut t) = (String::new(), Transcript::default());
    let sandbox = Sandbox::given("wan22_ti2v_i2v");
    let column = Frame::new(1, 4000, vec![0.5; 12000]).expect("a frame");
    Picture::from_frame(&column).write_png(sandbox.path("column.png")).expect("a file");
    let narrow = ["generate", "a ball", "--model", "model", "--image", "column.png", "-o", "clip.mp4"];
    t.kinora(&sandbox, &narrow);
    t.kinora(&sandbox, &[&narrow[..], &["--width", "64"]].concat());
    noticed(&mut text, &sandbox, "a column in a square", &["--image", "column.png"]);
    insta::assert_snapshot!(text + &t.0);
}

#[test]
fn continued_clips_of_odd_lengths_and_rates() {
    let (mut text, mut t) = (String::new(), Transcript::default());
    let sandbox = Sandbox::new("wan21_t2v");
    let clip = |name: &str, fps: &str| {
        let shape = [9, 3, 64, 112];
        let len = shape.iter().product::<usize>();
        let header = json!({"video": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * len]}, "__metadata__": {"fps": fps}});
        sandbox.write_weights(name, &header.to_string(), &0.5f32.to_le_bytes().repeat(len));
    };
    clip("fast.safetensors", "1000");
    clip("usual.safetensors", "8");
    clip("double.safetensors", "60000/1001");
    t.kinora(&sandbox, &["extend", "fast.safetensors", "a ball", "-o", "longer.mp4"]);
    for (name, seconds) in [("usual", "0.1"), ("double", "0.2")] {
        let file = format!("{name}.safetensors");
        let run = sandbox.kinora(&[
            "extend",
            &file,
            "a ball",
            "--seconds",
            seconds,
            "--steps",
            "1",
            "-o",
            "longer.mp4",
            "--json",
        ]);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
        writeln!(text, "# {name}: {seconds} s\n{:#}\n", report["notices"]).expect("a text");
    }
    insta::assert_snapshot!(text + &t.0);
}
