//! A folder of its own for runs of the `kinora` command: a tiny model that may be damaged, and settings that take a
//! moment.

use crate::{CACHE, CUDA_BINARY, Run, SETTINGS, binary, fixture};
use candle_core::{DType, Tensor};
use kinora::Pipeline;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What `kinora generate` gets unless a test says otherwise.
const SMALL: &[(&str, &str)] = &[
    ("--width", "32"),
    ("--height", "32"),
    ("--frames", "5"),
    ("--steps", "2"),
    ("--seed", "1"),
    ("--threads", "1"),
    ("-o", "clip.safetensors"),
];

/// Flags that exclude one of [`SMALL`].
const EXCLUDES: &[(&str, &str)] = &[("--sigmas", "--steps"), ("--timesteps", "--steps"), ("--duration", "--frames")];

/// No run may reserve more than this, whatever a file or the command line says: KiB of address space.
#[cfg(target_os = "linux")]
const MOST_MEMORY: &str = "4194304";

/// A temporary folder in which commands run.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    /// With a copy of the fixture `model` in the folder `model`.
    pub fn new(model: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy_folder(&fixture(model), &folder.path().join("model"));
        Self { folder }
    }

    /// With the model of the fixture `given/{case}`, what is given there beside it: what the case shares with its base is
    /// taken from there.
    pub fn given(case: &str) -> Self {
        let golden = crate::Golden::read(&format!("given/{case}"), "golden.safetensors");
        let sandbox = Self::new(&golden.metadata["base"]);
        let own = match case {
            "wan22_a14b_flf2v" => "wan22_a14b_i2v",
            "wan21_vace_control" => "wan21_vace",
            case => case,
        };
        for name in ["transformer", "transformer_2"] {
            let replaced = fixture(&format!("given/{own}/transformer")).is_dir();
            if replaced {
                let _ = fs::remove_dir_all(sandbox.path("model").join(name));
            }
        }
        for (from, to) in [(own, "model"), (case, "given")] {
            copy_folder(&fixture(&format!("given/{from}")), &sandbox.path(to));
        }
        sandbox
    }

    /// With a tiny model that takes a camera: the transformer of the fixture `conditioned/camera`, widened to the text
    /// encoder and the image encoder of `given/wan21_i2v`.
    pub fn camera() -> Self {
        let sandbox = Self::given("wan21_i2v");
        let folder = fixture("conditioned/camera");
        let config = fs::read(folder.join("config.json")).expect("a configuration");
        let mut config: Map<String, Value> = serde_json::from_slice(&config).expect("a JSON object");
        let [text, image] = ["text_dim", "image_dim"].map(|name| config[name].as_u64().expect("a number") as usize);
        sandbox.edit_json("model/transformer/config.json", |own| {
            for name in ["text_dim", "image_dim"] {
                config.insert(name.into(), own[name].clone());
            }
            own.clone_from(&config);
        });
        let wide = |name: &str| config[name].as_u64().expect("a number") as usize;
        let (weights, file) =
            (folder.join("diffusion_pytorch_model.safetensors"), "diffusion_pytorch_model.safetensors");
        let (tensors, _) = kinora_checkpoint::load_safetensors(&weights).expect("weights");
        let widened = tensors.into_iter().map(|(name, mut tensor)| {
            let (old, new) = if name.contains("text_embedder.linear_1") {
                (text, wide("text_dim"))
            } else if name.contains("image_embedder") {
                (image, wide("image_dim"))
            } else {
                return (name, tensor);
            };
            for axis in (0..tensor.rank()).filter(|axis| tensor.dims()[*axis] == old).collect::<Vec<_>>() {
                let copies = vec![&tensor; new.div_ceil(old)];
                let copies = Tensor::cat(&copies, axis).and_then(|copies| copies.narrow(axis, 0, new)?.contiguous());
                tensor = copies.expect("copies of a tensor");
            }
            (name, tensor)
        });
        let place = sandbox.path("model/transformer").join(file);
        let widened: Vec<_> = widened.collect();
        kinora_checkpoint::save_safetensors(&place, &widened, &BTreeMap::new()).expect("weights are written");
        sandbox
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The model in the folder `model`, in f32 and on one thread.
    pub fn pipeline(&self) -> Pipeline {
        crate::load(&self.path("model").to_string_lossy(), DType::F32, 1)
    }

    /// Runs `kinora` here, with bounded memory.
    pub fn kinora(&self, arguments: &[&str]) -> Run {
        Run::of(&self.command(arguments).output().expect("the kinora binary starts"))
    }

    /// Runs `kinora generate "a red ball"` on the model in `model`, with small settings where `more` gives none.
    pub fn generate(&self, more: &[&str]) -> Run {
        self.kinora(&Self::generate_arguments(more))
    }

    /// The arguments of [`Sandbox::generate`].
    pub fn generate_arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
        let excluded = |flag: &str| EXCLUDES.iter().any(|(by, what)| *what == flag && more.contains(by));
        let mut arguments = vec!["generate", "a red ball"];
        if !more.contains(&"--model") {
            arguments.extend(["--model", "model"]);
        }
        for (flag, value) in SMALL.iter().filter(|(flag, _)| !more.contains(flag) && !excluded(flag)) {
            arguments.extend([flag, value]);
        }
        arguments.extend(more);
        arguments
    }

    /// A command that runs `kinora` here, with bounded memory where the system can do that.
    pub fn command(&self, arguments: &[&str]) -> Command {
        #[cfg(target_os = "linux")]
        let mut command = self.shell("ulimit -v \"$LIMIT\"; exec \"$0\" \"$@\"", arguments);
        #[cfg(target_os = "linux")]
        command.env("LIMIT", MOST_MEMORY);
        #[cfg(not(target_os = "linux"))]
        let mut command = Command::new(binary());
        #[cfg(not(target_os = "linux"))]
        command.args(arguments).current_dir(self.folder.path()).env(CUDA_BINARY, "").env(CACHE, "").env(SETTINGS, "");
        command.stdin(Stdio::null());
        command
    }

    /// A shell that runs `script` here; `$0` is the `kinora` binary, `$@` are the arguments.
    pub fn shell(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(binary()).args(arguments).current_dir(self.folder.path());
        command.env(CUDA_BINARY, "").env(CACHE, "").env(SETTINGS, "").stdin(Stdio::null());
        command
    }

    /// Every file and folder here.
    pub fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        list(self.folder.path(), self.folder.path(), &mut found);
        found
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        path.parent().map(fs::create_dir_all).transpose().expect("a folder is made");
        fs::write(path, content).expect("a file is written");
    }

    /// Changes a JSON file.
    pub fn edit_json(&self, name: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        let text = fs::read(self.path(name)).expect("a file");
        let mut object = serde_json::from_slice(&text).expect("a JSON object");
        change(&mut object);
        self.write(name, serde_json::to_vec(&object).expect("plain data"));
    }

    /// Changes header and data of a safetensors file; nothing is checked.
    pub fn edit_weights(&self, name: &str, change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>)) {
        let bytes = fs::read(self.path(name)).expect("a file");
        let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let mut header = serde_json::from_slice(header).expect("a header");
        let mut data = data.to_vec();
        change(&mut header, &mut data);
        self.write_weights(name, &serde_json::to_string(&header).expect("plain data"), &data);
    }

    /// Overwrites the first element of an f32 tensor.
    pub fn poison(&self, file: &str, tensor: &str, value: f32) {
        self.edit_weights(file, |header, data| {
            let start = header[tensor]["data_offsets"][0].as_u64().expect("an offset") as usize;
            data[start..start + 4].copy_from_slice(&value.to_le_bytes());
        });
    }

    /// Writes a safetensors file with one f32 tensor, all elements `value`.
    pub fn write_tensor(&self, file: &str, name: &str, shape: &[usize], value: f32) {
        let elements: usize = shape.iter().product();
        let header = json!({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * elements]}});
        self.write_weights(file, &header.to_string(), &value.to_le_bytes().repeat(elements));
    }

    /// Writes a safetensors file; nothing is checked.
    pub fn write_weights(&self, name: &str, header: &str, data: &[u8]) {
        let length = (header.len() as u64).to_le_bytes();
        self.write(name, [&length[..], header.as_bytes(), data].concat());
    }
}

/// Copies a model: everything in the folder but golden numbers.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (name, path) = (entry.file_name(), entry.path());
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else if !name.to_string_lossy().starts_with("golden") {
            fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}

fn list(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        found.insert(path.strip_prefix(root).expect("below").to_string_lossy().into_owned());
        if path.is_dir() {
            list(root, &path, found);
        }
    }
}
