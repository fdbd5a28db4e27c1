//! Thousands of damaged models through the way that every command takes: a result or a sentence, never a panic, and no
//! memory that a file made up. The same seeds give the same files.

use kinora::{LoadOptions, Pipeline};
use kinora_tests::sandbox::Sandbox;
use serde_json::{Value, json};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

const WEIGHTS: [&str; 3] = [crate::TRANSFORMER, crate::TEXT_ENCODER, crate::VAE];
const TEXTS: [&str; 7] = [
    "model/model_index.json",
    "model/transformer/config.json",
    "model/vae/config.json",
    "model/text_encoder/config.json",
    "model/scheduler/scheduler_config.json",
    "model/tokenizer/tokenizer.json",
    "model/tokenizer/tokenizer_config.json",
];
const PICKLES: [&str; 6] = ["plain.pth", "wrapped.pth", "module.pth", "mixed.pth", "integers.pth", "expanded.pth"];
/// Mutants of all threads together; the checkpoint crate has ten thousand more of single files.
const MUTANTS: u64 = 6_000;
const THREADS: u64 = 4;

/// Numbers that depend on the seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

#[test]
fn damaged_models_are_results_or_sentences() {
    let base = Sandbox::new("wan21_t2v");
    let read = |name: &&str| ((*name).to_string(), fs::read(base.path(name)).expect("a file"));
    let weights: Vec<_> = WEIGHTS.iter().map(read).collect();
    let texts: Vec<_> = TEXTS.iter().map(read).collect();
    let folder = kinora_tests::fixture("checkpoint");
    let pickles: Vec<_> = PICKLES.iter().map(|name| fs::read(folder.join(name)).expect("a file")).collect();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (weights, texts, pickles) = (&weights, &texts, &pickles);
            scope.spawn(move || {
                let sandbox = Sandbox::new("wan21_t2v");
                for seed in (thread..MUTANTS).step_by(THREADS as usize) {
                    let random = &mut Random(seed ^ 0x5eed);
                    let (name, whole) = match random.below(4) {
                        0 => random.of(texts),
                        1..3 => random.of(weights),
                        _ => {
                            let damaged = pickle(random.of(pickles).clone(), random);
                            check(&sandbox, "single.pth", &damaged, "single.pth", seed, random);
                            continue;
                        }
                    };
                    let damaged = match random.below(12) {
                        0 => foreign(random),
                        _ if TEXTS.contains(&name.as_str()) => text(whole, random),
                        _ => safetensors(whole, random),
                    };
                    check(&sandbox, name, &damaged, "model", seed, random);
                    sandbox.write(name, whole);
                }
            });
        }
    });
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string("/proc/self/status").expect("a status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak").trim().to_string();
        let kilobytes: u64 = peak.trim_end_matches(" kB").parse().expect("a number");
        assert!(kilobytes < 1 << 20, "{peak}");
    }
}

/// Writes the file and opens the model, as inspecting or as a run does.
fn check(sandbox: &Sandbox, name: &str, content: &[u8], model: &str, seed: u64, random: &mut Random) {
    sandbox.write(name, content);
    let path = sandbox.path(model);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if random.below(4) > 0 {
            let inspection = kinora::inspect(&[&path]).map_err(|error| (error.to_string(), error.hint()))?;
            match inspection.problems.first() {
                None => Ok(()),
                Some(problem) => Err((problem.clone(), Some("it is inspected".to_string()))),
            }
        } else {
            let model = vec![path.to_string_lossy().into_owned()];
            let options = LoadOptions::default().model(model).device("cpu").threads(1);
            Pipeline::load(&options).map(drop).map_err(|error| (error.to_string(), error.hint()))
        }
    }));
    let outcome = outcome.unwrap_or_else(|_| panic!("mutant {seed} of {name} panics"));
    if let Err((message, hint)) = outcome {
        let is_short = !message.trim().is_empty() && message.len() < 4000;
        assert!(is_short && hint.is_some(), "mutant {seed} of {name}: {message:?} {hint:?}");
    }
}

fn foreign(random: &mut Random) -> Vec<u8> {
    let files: [&[u8]; 9] = [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        b"<html>",
        b"Entry not found",
        b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        b"PK\x03\x04",
        b"PK\x05\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x1f\x8b\x08",
        b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    random.of(&files).to_vec()
}

fn flip(bytes: &mut [u8], from: usize, to: usize, random: &mut Random) {
    for _ in 0..=random.below(5) {
        if to > from {
            bytes[from + random.below(to - from)] ^= 1 << random.below(8);
        }
    }
}

const SIZES: [u64; 12] = [0, 1, 2, 3, 7, 1 << 31, 1 << 32, (1 << 53) - 1, 1 << 62, 1 << 63, u64::MAX - 7, u64::MAX];

/// A damaged safetensors file.
fn safetensors(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let length = u64::from_le_bytes(*whole.first_chunk::<8>().expect("a length")) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&whole[8..8 + length]).expect("a header");
    let mut data = whole[8 + length..].to_vec();
    let names: Vec<String> = header.keys().filter(|name| *name != "__metadata__").cloned().collect();
    let name = random.of(&names).clone();
    let mut bytes = whole.to_vec();
    match random.below(12) {
        0 => flip(&mut bytes, 0, 8 + length, random),
        1 => bytes[..8].copy_from_slice(&random.of(&SIZES).to_le_bytes()),
        2 => bytes.truncate(random.below(whole.len())),
        3 => bytes.extend(vec![0; 1 + random.below(100)]),
        4 => flip(&mut bytes, 8 + length, whole.len(), random),
        5 => return join(&"[".repeat(1 << random.below(18)), &data),
        6 => {
            let tensor = header[&name].to_string();
            let text = Value::Object(header).to_string();
            return join(&format!("{},\"{name}\":{tensor}}}", text.trim_end_matches('}').to_string() + "}"), &data);
        }
        kind => {
            match kind {
                7 => header[&name]["data_offsets"] = json!([random.of(&SIZES), random.of(&SIZES)]),
                8 => reshape(&mut header[&name], &mut data, random),
                9 => {
                    let dtypes = [json!("F64"), json!("I64"), json!("F4"), json!(""), json!(5)];
                    header[&name]["dtype"] = random.of(&dtypes).clone();
                }
                10 => {
                    let tensor = header.remove(&name).expect("it is there");
                    let new = match random.below(6) {
                        0 => "a".repeat(1 << random.below(18)),
                        1 => format!("{name}."),
                        2 => format!("ü{name}"),
                        3 => name.replace('0', "99999999999"),
                        4 => format!("{name}.lora_A"),
                        _ => name.replace("weight", "bias"),
                    };
                    header.insert(new, tensor);
                }
                _ => {
                    header.remove(&name);
                }
            }
            return join(&Value::Object(header).to_string(), &data);
        }
    }
    bytes
}

fn join(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Another shape, often with bytes that agree.
fn reshape(tensor: &mut Value, data: &mut Vec<u8>, random: &mut Random) {
    let mut shape: Vec<u64> = tensor["shape"].as_array().expect("a shape").iter().filter_map(Value::as_u64).collect();
    match random.below(5) {
        0 if !shape.is_empty() => {
            let at = random.below(shape.len());
            shape[at] = *random.of(&SIZES);
        }
        1 => shape.reverse(),
        2 => shape.push(1),
        3 => shape = vec![1 << 32, 1 << 32],
        _ => shape.insert(0, 0),
    }
    let elements = shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
    if let Some(bytes) = elements.map(|elements| elements.saturating_mul(4)).filter(|bytes| *bytes < 1 << 20) {
        tensor["data_offsets"] = json!([data.len(), data.len() as u64 + bytes]);
        data.extend(vec![0; bytes as usize]);
    }
    tensor["shape"] = json!(shape);
}

/// A damaged JSON text.
fn text(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    match random.below(8) {
        0 => flip(&mut bytes, 0, whole.len(), random),
        1 => bytes.truncate(random.below(whole.len())),
        2 => {
            let texts = [
                "[".repeat(100_000),
                "{\"a\":".repeat(100_000),
                "null".into(),
                "[]".into(),
                "{}".into(),
                "1e999".into(),
            ];
            bytes = random.of(&texts).clone().into_bytes();
        }
        _ => {
            let mut value: Value = serde_json::from_slice(whole).expect("JSON");
            for _ in 0..=random.below(2) {
                change(&mut value, random);
            }
            bytes = value.to_string().into_bytes();
        }
    }
    bytes
}

/// Replaces or removes a value somewhere.
fn change(value: &mut Value, random: &mut Random) {
    let stops = random.below(3) == 0;
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            let names: Vec<String> = entries.keys().cloned().collect();
            let name = random.of(&names).clone();
            if stops && random.below(3) == 0 {
                entries.remove(&name);
            } else {
                change(&mut entries[&name], random);
            }
        }
        Value::Array(entries) if !entries.is_empty() && !stops => {
            let at = random.below(entries.len());
            change(&mut entries[at], random);
        }
        other => {
            let values = [
                json!(0),
                json!(-1),
                json!(1),
                json!(3),
                json!(1u64 << 31),
                json!(u64::MAX),
                json!(1e308),
                json!(-1e308),
                json!(0.5),
                json!(1e-30),
                json!(null),
                json!("x"),
                json!([]),
                json!({}),
                json!(true),
                json!([0, 0]),
                json!("9".repeat(400)),
            ];
            *other = random.of(&values).clone();
        }
    }
}

/// A damaged file of `torch.save`.
fn pickle(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let length = bytes.len();
    match random.below(4) {
        0 => bytes.truncate(random.below(length)),
        1 => flip(&mut bytes, length.saturating_sub(1500), length, random),
        2 => {
            let end = length.min(900);
            for _ in 0..=random.below(4) {
                bytes[random.below(end)] =
                    *random.of(b"().0123456789FIJKLMNPQRSTUVX]abcdeghjlopqrstu}\x80\x81\x85\x86\x87\x8a\x95\xff");
            }
        }
        _ => flip(&mut bytes, 0, length, random),
    }
    bytes
}
