//! Memory does not grow with the length of the clip. In a test binary of its own: nothing else runs beside it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the measured numbers are worth seeing")]

use candle_core::{Device, Tensor};
use kinora_tests::kinora;
use std::collections::BTreeMap;

/// How much more a longer clip may take.
const MARGIN: f64 = 0.05;

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
    // Runs of one clip differ by some percent: what the allocator keeps depends on when threads free it.
    let least = |frames: usize| (0..3).filter_map(|_| peak(frames)).reduce(f64::min);
    let Some(short) = least(17) else {
        eprintln!("skipped: this system does not tell a process's peak memory");
        return;
    };
    for frames in [81, 321] {
        let long = least(frames).expect("told before");
        println!("{frames} frames: {:.1} MB, 17 frames: {:.1} MB", long / 1e6, short / 1e6);
        assert!(long <= (1.0 + MARGIN) * short, "{frames} frames: {:.1} MB against {:.1} MB", long / 1e6, short / 1e6);
    }
}
