//! Fixed commands whose results keep their bits: one for every task, sampler and kind of model that the tiny checkpoints
//! allow. `tests/fixtures/golden_hashes.toml` has the hashes of their latents and frames.
//!
//! Bits depend on the CPU's instructions and on the system's mathematical library: hashes are recorded per level of
//! instructions, and a level whose kind of machine has none is skipped, which is printed. A change that is meant to alter
//! bits records them again: `KINORA_RECORD_HASHES=1 cargo test --workspace --test golden_hashes`.
#![allow(clippy::print_stdout, reason = "what is skipped or recorded is said")]

use candle_core::{Device, Tensor};
use kinora_kernels::{LEVEL_VARIABLE, Level};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{fixture, latents, values};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Mutex;

/// Set, hashes are recorded instead of compared.
const RECORD: &str = "KINORA_RECORD_HASHES";
const FILE: &str = "golden_hashes.toml";

/// Its name, the model, and the commands. `generate` means [`Sandbox::generate`], which keeps the latents too.
type Case = (&'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    // Text to video, and how it is sampled.
    ("wan 2.1", "wan21_t2v", &["generate --steps 4"]),
    ("wan 2.2 ti2v", "wan22_ti2v_t2v", &["generate"]),
    ("wan 2.2 a14b", "wan22_a14b_t2v", &["generate --steps 4 --guidance-scale 4 --guidance-scale-2 3"]),
    ("euler", "wan21_t2v", &["generate --sampler euler --steps 3"]),
    ("heun", "wan21_t2v", &["generate --sampler heun --steps 3"]),
    ("dpm++2m", "wan21_t2v", &["generate --sampler dpm++2m --steps 4"]),
    ("unipc-bh1", "wan21_t2v", &["generate --sampler unipc-bh1 --steps 4"]),
    ("lcm", "wan21_t2v", &["generate --sampler lcm --steps 3"]),
    ("sigmas", "wan21_t2v", &["generate --sampler euler --sigmas 1,0.9,0.6"]),
    ("timesteps", "wan21_t2v", &["generate --sampler lcm --timesteps 1000,750,500"]),
    ("negative prompt", "wan21_t2v", &["generate --negative-prompt blurry,dark --guidance-scale 7 --shift 3"]),
    ("no guidance", "wan21_t2v", &["generate --guidance-scale 1"]),
    ("cfg-zero*", "wan21_t2v", &["generate --steps 4 --cfg-zero-star --zero-init 2"]),
    ("guidance interval", "wan21_t2v", &["generate --steps 4 --guidance-interval 0.3,0.95"]),
    ("first-block", "wan21_t2v", &["generate --steps 8 --cache first-block:0.8"]),
    ("easycache", "wan21_t2v", &["generate --steps 8 --cache easycache:1"]),
    ("bf16", "wan21_t2v", &["generate --dtype bf16"]),
    ("int8", "wan21_t2v", &["generate --quant int8"]),
    ("a14b in bf16 and int8", "wan22_a14b_t2v", &["generate --dtype bf16 --quant int8"]),
    // Pictures, clips, cameras.
    ("image", "given/wan21_i2v", &["generate --image given/image.png"]),
    ("image of a14b", "given/wan22_a14b_i2v", &["generate --image given/image.png --fit pad"]),
    ("image of ti2v", "given/wan22_ti2v_i2v", &["generate --image given/image.png"]),
    ("first and last", "given/wan21_flf2v", &["generate --image given/image.png --last-image given/last.png"]),
    (
        "first and last of a14b",
        "given/wan22_a14b_flf2v",
        &["generate --image given/image.png --last-image given/last.png"],
    ),
    ("last alone", "given/wan22_a14b_flf2v", &["generate --last-image given/last.png"]),
    ("last alone of ti2v", "given/wan22_ti2v_i2v", &["generate --last-image given/image.png"]),
    ("video", "given/wan21_v2v", &["generate --steps 4 --video given/video --strength 0.5"]),
    ("control", "given/wan21_vace_control", &["generate --control given/video --control-scale 0.7"]),
    ("control and mask", "given/wan21_vace", &["generate --control given/video --mask given/mask"]),
    ("reference", "given/wan21_vace", &["generate --reference given/reference.png"]),
    ("expand", "given/wan21_vace", &["generate --control given/video --expand left=0.5,top=0.25"]),
    ("image of vace", "given/wan21_vace", &["generate --image given/reference.png"]),
    ("camera in the prompt", "wan21_t2v", &["generate --camera pan=5,zoom=-3"]),
    ("camera", "camera", &["generate --image given/image.png --camera pan=5,zoom=-3,roll=2"]),
    ("camera without a picture", "camera", &["generate --camera-preset forward-up"]),
    // Longer clips.
    ("story from frames", "given/wan22_ti2v_i2v", &["story story.toml --model model --frames 9"]),
    ("story of vace", "given/wan21_vace", &["story story.toml --model model --frames 13"]),
    ("story from pictures", "given/wan21_i2v", &["story pictures.toml --model model --frames 5"]),
    ("extend", "given/wan22_ti2v_i2v", &["generate -o first.mp4", "extend first.mp4 --seconds 0.25 --times 2"]),
    ("embedded story", "embedded", &["story story.toml --frames 9"]),
    (
        "embedded extend",
        "embedded",
        &[
            "generate --model embedded -o first.mp4 --save-latents first.mp4.latents.safetensors",
            "extend first.mp4 --seconds 0.5 --times 2",
        ],
    ),
    // The embedded model.
    ("embedded", "embedded", &["generate --model embedded --width 112 --height 64 --steps 4"]),
    ("embedded in bf16", "embedded", &["generate --model embedded --width 64 --dtype bf16"]),
    ("embedded in int8", "embedded", &["generate --model embedded --width 64 --quant int8"]),
    ("embedded, fast", "embedded", &["generate --model embedded --mode fast --steps 6 --cache easycache:0.5"]),
    // Stages and files.
    ("mp4", "wan21_t2v", &["generate -o clip.mp4 --fps 12 --quality 30"]),
    ("png", "wan21_t2v", &["generate -o frames/%04d.png"]),
    ("encode", "wan21_t2v", &["generate -o clip.mp4", "encode clip.mp4 --model model -o latents.safetensors"]),
    ("decode", "wan22_ti2v_t2v", &["generate", "decode latents.safetensors --model model -o clip.mp4 --fps 8"]),
    (
        "tile",
        "wan21_t2v",
        &["generate --width 160 --height 80 --steps 1 --tile 8", "decode latents.safetensors --model model --tile 8"],
    ),
    ("upscale", "wan21_t2v", &["generate", "decode latents.safetensors --model model --upscale 2x"]),
];

const STORY: &str = r#"
[[shot]]
prompt = "a red ball"
seconds = 1.125
[[shot]]
prompt = "a blue ball"
seconds = 0.5
negative_prompt = "dark"
[[shot]]
prompt = "a green ball"
seconds = 0.625
join = "cut"
"#;

/// What all commands but `generate` get, unless they say otherwise.
const SHARED: &[(&str, &[&str], &str)] = &[
    ("--threads", &["story", "extend", "decode", "encode"], "1"),
    ("--seed", &["story", "extend"], "1"),
    ("--steps", &["story", "extend"], "2"),
    ("--width", &["story"], "32"),
    ("--height", &["story"], "32"),
    ("--fps", &["story"], "8"),
    ("-o", &["story", "extend", "decode"], "clip.safetensors"),
];

fn sandbox(model: &str) -> Sandbox {
    let sandbox = match model.split_once('/') {
        Some((_, case)) => Sandbox::given(case),
        None if model == "camera" => Sandbox::camera(),
        None if model == "embedded" => Sandbox::new("wan21_t2v"),
        None => Sandbox::new(model),
    };
    sandbox.write("story.toml", STORY);
    let pictures = STORY.replace("a red ball\"", "a red ball\"\nimage = \"given/image.png\"");
    sandbox.write("pictures.toml", pictures.replace("join", "image = \"given/image.png\"\njoin"));
    sandbox
}

/// The hashes of what the commands of a case leave, by the name of the file.
fn hashes((name, model, commands): &Case, level: Level) -> Vec<String> {
    let sandbox = sandbox(model);
    for command in *commands {
        let words: Vec<&str> = command.split(' ').collect();
        let mut arguments = words.clone();
        if words[0] == "generate" {
            arguments = Sandbox::generate_arguments(&words[1..]);
            if !words.contains(&"--save-latents") {
                arguments.extend(["--save-latents", "latents.safetensors"]);
            }
        }
        for (flag, commands, value) in SHARED {
            if commands.contains(&words[0]) && !words.contains(flag) {
                arguments.extend([flag, value]);
            }
        }
        let output = sandbox.command(&arguments).env(LEVEL_VARIABLE, level.name()).output().expect("it starts");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let files = ["latents.safetensors", "clip.safetensors", "clip.mp4", "frames"];
    let files: Vec<&str> = files.into_iter().filter(|file| sandbox.path(file).exists()).collect();
    assert!(files.len() > 1 || commands.iter().any(|command| !command.starts_with("generate")), "{name}: {files:?}");
    files.into_iter().map(|file| format!("{file} {}", hash(&sandbox, file))).collect()
}

/// The first half of the SHA-256 of a tensor's shape and values, or of a clip's frames.
fn hash(sandbox: &Sandbox, file: &str) -> String {
    let path = sandbox.path(file);
    let mut hash = Sha256::new();
    let mut put = |shape: &[usize], values: &[f32]| {
        hash.update(shape.iter().flat_map(|side| (*side as u64).to_le_bytes()).collect::<Vec<u8>>());
        hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    };
    if file == "latents.safetensors" {
        let latents = latents(&path);
        put(latents.dims(), &values(&latents));
    } else {
        let mut clip = kinora_media::open(&path).expect("a clip");
        while let Some(frame) = clip.next_frame().expect("it is whole") {
            put(&[frame.width, frame.height], &frame.data);
        }
    }
    hex(&hash.finalize()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The kind of machine that the bits belong to: its instructions and its processor, by which some operators choose how they
/// compute, and the last bits of the system's functions and of candle's product, whose blocks depend on the caches.
fn machine(level: Level) -> String {
    let mut features = vec![std::env::consts::ARCH, level.name()];
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx512 {
        features.extend(std::arch::is_x86_feature_detected!("avx512bf16").then_some("bf16"));
        features.extend(std::arch::is_x86_feature_detected!("avx512vnni").then_some("vnni"));
    }
    let mut hash = Sha256::new();
    for index in 1..=4096 {
        let x = black_box(f64::from(index) / 64.0);
        let functions = [x.sin(), x.cos(), x.ln(), x.recip().exp(), x.exp2(), x.powf(1.0 / 3.0)];
        hash.update(functions.map(f64::to_le_bytes).concat());
        let x = black_box(x as f32);
        let functions = [x.sin(), x.cos(), x.ln(), x.recip().exp(), x.recip().exp2(), x.tanh()];
        hash.update(functions.map(f32::to_le_bytes).concat());
    }
    let matrix =
        |rows, columns| Tensor::arange(0f32, (rows * columns) as f32, &Device::Cpu)?.sin()?.reshape((rows, columns));
    let product = matrix(67, 3001).and_then(|a| a.matmul(&matrix(3001, 53)?)).expect("a product");
    hash.update(values(&product).into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>());
    format!("{} on {}, mathematics {}", features.join(" "), processor(), hex(&hash.finalize()[..4]))
}

/// The processor's maker and family, where the system says them.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| text.lines().find(|line| line.starts_with(name))?.split(':').nth(1).map(str::trim);
    [field("vendor_id"), field("cpu family")].map(Option::unwrap_or_default).join(" ")
}

/// The hashes of every case, from a process per command, as many at a time as there are cores.
fn all(level: Level) -> BTreeMap<String, Vec<String>> {
    let (next, found) = (Mutex::new(CASES.iter()), Mutex::new(BTreeMap::new()));
    let take = || next.lock().expect("no thread panicked").next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = take() {
                    let hashes = hashes(case, level);
                    found.lock().expect("no thread panicked").insert(case.0.to_string(), hashes);
                }
            });
        }
    });
    found.into_inner().expect("no thread panicked")
}

type Recorded = BTreeMap<String, BTreeMap<String, Vec<String>>>;

#[test]
fn fixed_commands_keep_their_bits() {
    let path = fixture(FILE);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut recorded: Recorded = toml::from_str(&text).expect("tables of hashes");
    let record = std::env::var_os(RECORD).is_some();
    let mut changed = String::new();
    for level in Level::of_machine() {
        let machine = machine(level);
        if record {
            println!("recorded: {machine}");
            recorded.insert(machine, all(level));
            continue;
        }
        let Some(expected) = recorded.get(&machine) else {
            println!("skipped: no hashes are recorded for {machine}; {RECORD}=1 records them");
            continue;
        };
        let found = all(level);
        let names: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for name in names.into_iter().filter(|name| expected.get(*name) != found.get(*name)) {
            let (expected, found) = (expected.get(name), found.get(name));
            let _ = writeln!(changed, "{machine}: {name}\n  was {expected:?}\n  is  {found:?}");
        }
    }
    if record {
        let first = "# Hashes of what the commands in tests/tests/golden_hashes.rs make, per kind of machine; that test records them.\n\n";
        let text = toml::to_string(&recorded).expect("plain data");
        std::fs::write(&path, first.to_string() + &text).expect("hashes are written");
    }
    assert!(changed.is_empty(), "results have other bits; where that is meant, {RECORD}=1 records them:\n{changed}");
}
