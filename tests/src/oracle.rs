//! Whole runs of tiny checkpoints whose golden numbers `scripts/fixtures/make_tiny.py` makes.

use crate::{Golden, fixture, generate, load_on, video};
use candle_core::{DType, Tensor};

/// Tiny checkpoints, and the golden numbers of runs of them.
pub const RUNS: &[(&str, &str)] = &[
    ("wan21_t2v", "golden.safetensors"),
    ("wan21_t2v", "golden_b.safetensors"),
    ("wan21_t2v", "golden_euler.safetensors"),
    ("wan22_a14b_t2v", "golden.safetensors"),
    ("wan22_a14b_t2v", "golden_b.safetensors"),
    ("wan22_ti2v_t2v", "golden.safetensors"),
    ("wan22_ti2v_t2v", "golden_b.safetensors"),
    ("wan22_ti2v_t2v", "golden_euler.safetensors"),
];

/// Runs one case; the latents of every step, and the frames `[F, 3, H, W]`.
pub fn run(case: &str, file: &str, dtype: DType, device: &str, threads: usize) -> (Golden, Vec<Tensor>, Tensor) {
    let scratch = tempfile::tempdir().expect("a directory");
    let golden = Golden::read(case, file);
    let mut request = golden.request(scratch.path());
    if case.contains("a14b") {
        request.sampling.guidance_scale_2 = Some(golden.metadata["guidance_scale_2"].parse().expect("a number"));
    }
    let pipeline = load_on(device, &fixture(case).to_string_lossy(), dtype, None, threads);
    let (report, steps) = generate(&pipeline, &request).unwrap_or_else(|error| panic!("{case} {file}: {error}"));
    let video = video(&report.clip);
    (golden, steps, video)
}
