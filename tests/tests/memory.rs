//! Memory does not grow with the length of the clip: the bytes that decoding holds, counted as they are allocated; what the
//! video encoder's C code allocates is not among them. In a test binary of its own: nothing else runs beside the test.
#![allow(unsafe_code, reason = "an allocator is unsafe")]
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Device, Tensor};
use kinora::Output;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much more a longer clip may take. Pixels on their way from the decoder to the encoder are 3 % of all, and how many
/// of them there are at once depends on which of the two is faster.
const MARGIN: f64 = 0.05;

/// The system's allocator, with the bytes that live now, and the most that have lived at once.
struct Counted {
    live: AtomicUsize,
    peak: AtomicUsize,
}

#[global_allocator]
static MEMORY: Counted = Counted { live: AtomicUsize::new(0), peak: AtomicUsize::new(0) };

impl Counted {
    fn took(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }

    fn gave(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// The bytes that `work` holds at most, beside those that live before it.
    fn peak_of(&self, work: impl FnOnce()) -> usize {
        let before = self.live();
        self.peak.store(before, Ordering::Relaxed);
        work();
        self.peak.load(Ordering::Relaxed) - before
    }
}

// SAFETY: every call goes to the system's allocator as it came; what is counted beside it are the sizes of the layouts.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: as the caller vouches.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.gave(layout.size());
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.took(size);
        self.gave(layout.size());
        // SAFETY: as the caller vouches.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[test]
fn decoding_a_longer_clip_takes_no_more_memory() {
    assert_eq!(MEMORY.peak_of(|| drop(vec![0u8; 1_000_000])), 1_000_000, "it counts");
    let scratch = tempfile::tempdir().expect("a directory");
    let pipeline = kinora_tests::load("embedded", DType::F32, 1);
    let peak = |frames: usize, upscaler: Option<&str>| {
        let shape = (1, 48, (frames - 1) / 4 + 1, 4, 4); // 64×64
        let latents = Tensor::rand(-1f32, 1f32, shape, &Device::Cpu).expect("noise");
        let file = scratch.path().join("latents.safetensors");
        kinora_checkpoint::save_safetensors(&file, &[("latents".into(), latents)], &BTreeMap::new()).expect("saved");
        let (upscale, upscaler) = (upscaler.and("2x".parse().ok()), upscaler.and_then(|name| name.parse().ok()));
        let output = Output::new(scratch.path().join("clip.mp4")).upscale(upscale).upscaler(upscaler);
        MEMORY.peak_of(|| {
            let report = pipeline.decode(&file, &output, None, |_| ControlFlow::Continue(()));
            assert_eq!(report.unwrap_or_else(|error| panic!("{error}")).frames, frames);
        })
    };
    for upscaler in [None, Some("span")] {
        peak(17, upscaler); // what is made once and kept
        let short = peak(17, upscaler);
        for frames in [81, 321] {
            let long = peak(frames, upscaler);
            println!("{frames} frames, {upscaler:?}: {long} bytes, 17 frames: {short}");
            assert!(long as f64 <= (1.0 + MARGIN) * short as f64, "{frames} frames: {long} bytes against {short}");
        }
    }
}
