//! Memory does not grow with the length of the clip. In a test binary of its own: nothing else runs beside it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the measured numbers are worth seeing")]

use candle_core::{Device, Tensor};
use kinora_tests::kinora;
use std::collections::BTreeMap;

/// How much more a longer clip may take.
const MARGIN: f64 = 0.05;

/// Tries that a longer clip has.
const RUNS: usize = 8;

#[test]
fn decoding_a_longer_clip_takes_no_more_memory() {
    let scratch = tempfile::tempdir().expect("a directory");
    let peak = |frames: usize| {
        let shape = (1, 48, (frames - 1) / 4 + 1, 16, 16); // 256×256
        let latents = Tensor::rand(-1f32, 1f32, shape, &Device::Cpu).expect("noise");
        let file = scratch.path().join(format!("{frames}.safetensors"));
        kinora_checkpoint::save_safetensors(&file, &[("latents".into(), latents)], &BTreeMap::new()).expect("saved");
        let run = kinora(&["decode", file.to_str().expect("UTF-8"), "-o", "clip.mp4", "--json"], scratch.path());
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!(report["frames"], frames);
        report["peak_memory"].as_f64()
    };
    // Runs of one clip differ by some percent: what the allocator keeps depends on when threads free it. The least of a few is
    // what a clip needs, and if the first run of a longer one is within it, there is nothing more to learn.
    let Some(short) = (0..3).filter_map(|_| peak(17)).reduce(f64::min) else {
        eprintln!("skipped: this system does not tell a process's peak memory");
        return;
    };
    for frames in [81, 321] {
        let most = (1.0 + MARGIN) * short;
        let mut runs: Vec<f64> = Vec::new();
        while runs.len() < RUNS && runs.last().is_none_or(|&long| long > most) {
            runs.push(peak(frames).expect("told before"));
        }
        println!("{frames} frames: {runs:.0?} bytes, 17 frames: {short:.0}");
        assert!(runs.last().is_some_and(|&long| long <= most), "{frames} frames: {runs:.0?} bytes against {short:.0}");
    }
}
