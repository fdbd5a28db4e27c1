//! Measures the network: `speed WIDTH HEIGHT FRAMES THREADS` prints seconds per frame, the fastest and the middle one.
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use candle_core::{DType, Device};
use kinora_upscaler::{Span, operations};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [width, height, frames, threads] = numbers[..] else { return Err("WIDTH HEIGHT FRAMES THREADS".into()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let span = Span::embedded(&Device::Cpu, DType::F32)?;
    let frame: Vec<f32> = (0..3 * width * height).map(|at| (at * 7919 % 251) as f32 / 250.0).collect();
    let mut seconds = Vec::with_capacity(frames);
    pool.install(|| span.enlarge(&frame, width, height))?;
    for _ in 0..frames {
        let start = Instant::now();
        pool.install(|| span.enlarge(&frame, width, height))?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let (least, middle) = (seconds[0], seconds[frames / 2]);
    let rate = operations(width, height) / middle / 1e9;
    println!(
        "{width}x{height}: least {least:.4} s, middle {middle:.4} s a frame, {rate:.0} GFLOP/s of direct convolutions"
    );
    Ok(())
}
