//! Support code of the workspace tests: golden runs, loaded models, runs of the `kinora` binary.
#![allow(clippy::missing_panics_doc, reason = "tests panic when something is wrong")]

pub mod oracle;
pub mod sandbox;
pub mod score;
pub mod transcript;

use candle_core::{DType, Tensor};
use kinora::{Event, LoadOptions, Output, Pipeline, Quant, Request, Sampling, Size};
pub use kinora_test_support::{bits, cosine, fixture, max_error, relative_l2, root, same_bits, tensors, values};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Golden numbers of one run of diffusers: tensors, and how it was asked for.
pub struct Golden {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Prompts, size, steps, guidance.
    pub metadata: BTreeMap<String, String>,
}

impl Golden {
    /// Reads `tests/fixtures/{case}/{file}`.
    pub fn read(case: &str, file: &str) -> Self {
        let (tensors, metadata) =
            kinora_checkpoint::load_safetensors(&fixture(case).join(file)).expect("a golden file");
        Self { tensors, metadata }
    }

    /// One tensor.
    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the golden file has no {name}"))
    }

    /// Latents after each step.
    pub fn steps(&self) -> Vec<&Tensor> {
        (0..).map_while(|step| self.tensors.get(&format!("step{step:02}.latents"))).collect()
    }

    /// The request that made them; the noise goes to a file in `scratch`.
    pub fn request(&self, scratch: &Path) -> Request {
        let noise = scratch.join("noise.safetensors");
        let tensors = [("noise".to_string(), self.get("latents_init").clone())];
        kinora_checkpoint::save_safetensors(&noise, &tensors, &BTreeMap::new()).expect("noise is written");
        let text = |name: &str| self.metadata[name].clone();
        let number = |name: &str| text(name).parse::<f64>().expect("a number");
        let size: Vec<usize> = text("size").split('x').map(|n| n.parse().expect("a number")).collect();
        let euler = text("scheduler").contains("Euler");
        Request::new(text("prompt"))
            .negative_prompt(text("negative_prompt"))
            .size(Size::Pixels { width: Some(size[0]), height: Some(size[1]) })
            .frames(size[2])
            .sampling(
                Sampling::default()
                    .steps(number("steps") as usize)
                    .guidance_scale(number("guidance_scale"))
                    .sampler(euler.then_some(kinora::SamplerKind::Euler)),
            )
            .init_latents(noise)
            .output(Output::new(scratch.join("clip.safetensors")))
    }
}

/// Loads a model directory or name on the CPU.
pub fn load(model: &str, dtype: DType, threads: usize) -> Pipeline {
    load_quantised(model, dtype, None, threads)
}

/// Loads a model directory or name on the CPU, its matrices rounded.
pub fn load_quantised(model: &str, dtype: DType, quant: Option<Quant>, threads: usize) -> Pipeline {
    load_on("cpu", model, dtype, quant, threads)
}

/// Loads a model directory or name on a device.
pub fn load_on(device: &str, model: &str, dtype: DType, quant: Option<Quant>, threads: usize) -> Pipeline {
    let model = vec![model.to_string()];
    let options = LoadOptions::default().model(model).dtype(Some(dtype)).quant(quant).device(device).threads(threads);
    Pipeline::load(&options).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a request and keeps the latents of every step.
pub fn generate(pipeline: &Pipeline, request: &Request) -> kinora::Result<(kinora::Report, Vec<Tensor>)> {
    let mut steps = Vec::new();
    let report = pipeline.generate(request, |event| {
        if let Event::Step { latents, .. } = event {
            steps.push(latents.clone());
        }
        ControlFlow::Continue(())
    })?;
    Ok((report, steps))
}

/// The frames `[F, 3, H, W]` of a clip of raw frames.
pub fn video(clip: &Path) -> Tensor {
    tensors(clip).remove("video").unwrap_or_else(|| panic!("{} has no frames", clip.display()))
}

/// The latents `[1, C, F, H, W]` that a file keeps.
pub fn latents(file: &Path) -> Tensor {
    tensors(file).remove("latents").unwrap_or_else(|| panic!("{} has no latents", file.display()))
}

/// Names the `kinora-cuda` that `kinora` hands over to. Tests empty it, so that one that lies there changes nothing.
pub const CUDA_BINARY: &str = "KINORA_CUDA_BINARY";
/// The variable that names the folder of what Kinora keeps for itself; empty in tests, whose runs know nothing of each other.
pub const CACHE: &str = "KINORA_CACHE";
/// The variable that names the file of settings.
pub const SETTINGS: &str = "KINORA_CONFIG";

/// What a run of the `kinora` binary printed, and its exit status.
#[derive(Debug)]
pub struct Run {
    /// Exit status, `None` after a signal.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs the binary that Cargo built beside the tests.
pub fn kinora<S: AsRef<std::ffi::OsStr>>(arguments: &[S], directory: &Path) -> Run {
    let output = Command::new(binary())
        .args(arguments)
        .current_dir(directory)
        .env(CUDA_BINARY, "")
        .env(CACHE, "")
        .env(SETTINGS, "")
        .stdin(Stdio::null())
        .output()
        .expect("the kinora binary starts");
    Run::of(&output)
}

impl Run {
    /// What a process left.
    pub fn of(output: &std::process::Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The error on stderr, without the notes before it, and the exit status: `error:` what is wrong, an empty line,
    /// `hint:` what to do.
    ///
    /// # Panics
    /// When the run succeeded, printed a result or a panic, or its error has another form.
    pub fn failure(&self) -> String {
        let Self { status, stdout, stderr } = self;
        let start = stderr.find("error: ").unwrap_or_else(|| panic!("there is no error: {self:#?}"));
        let error = &stderr[start..];
        assert!(start == 0 || stderr[..start].ends_with('\n'), "{self:#?}");
        assert!(status.is_some_and(|status| status != 0 && status != 101) && stdout.is_empty(), "{self:#?}");
        assert!(error.contains("\n\nhint: "), "there is no hint: {self:#?}");
        assert!(!stderr.contains("panicked at") && !stderr.contains('\u{1b}'), "{self:#?}");
        format!("{error}[status {}]\n", status.unwrap_or_default())
    }
}

/// The `kinora` binary that `cargo test --workspace` puts beside the tests' folder: the test of the command's help has
/// Cargo build it in the same run.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/profile/deps/test");
    let binary = profile.join(format!("kinora{}", std::env::consts::EXE_SUFFIX));
    assert!(
        binary.is_file(),
        "{} is not there: run the tests with `cargo test --workspace`, or build it with `cargo build -p kinora-cli`",
        binary.display()
    );
    binary
}
