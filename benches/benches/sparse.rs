//! Sparse against dense self-attention over the 32,760 tokens of 832×480 pixels and 81 frames in Wan 2.1: what is kept, how
//! far the result is from the dense one, and the time of both, one head at a time.
//!
//! `cargo bench -p kinora-benches --bench sparse`; `RAYON_NUM_THREADS=1` for one thread. Heads are made so that their softmax
//! is known: weights fall with the distance of query and key like a Gaussian of so many tokens along frames, rows and columns
//! (`inf`: everywhere alike). Values are random, so that what is left out of an even softmax is missed as much as it can be.
#![allow(clippy::print_stdout, reason = "the table is what this is for")]

use candle_core::{DType, Device, Result, Tensor};
use kinora_dit::{Bricks, Sparse};
use kinora_kernels as kernels;
use std::time::{Duration, Instant};

/// The binary's allocator: another one would hand the memory of each result back, and fault it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GRID: [usize; 3] = [21, 30, 52];
const TOKENS: usize = GRID[0] * GRID[1] * GRID[2];
const DIM: usize = 128;
const ROUNDS: usize = 3;
const INF: f64 = f64::INFINITY;

fn main() -> Result<()> {
    errors()?;
    times()
}

fn sparse(keep: f64) -> Sparse {
    Sparse { keep, references: 0, dense: false }
}

/// Prints the share that is kept of heads of several kinds, and the relative L2 error of the result.
fn errors() -> Result<()> {
    println!("| widths over frames, rows, columns | share kept, at most 1, 0.5, 0.3, 0.2 | relative error |");
    println!("|---|---|---|");
    let bricks = Bricks::new(GRID, sparse(1.0), &Device::Cpu).expect("a grid");
    for widths in [[1.0; 3], [2.0; 3], [4.0; 3], [2.0, 8.0, 8.0], [INF, 2.0, 2.0], [1.0, INF, INF], [INF; 3]] {
        let [q, k, v] = head(widths)?.map(|x| bricks.arranged(&x, 1).expect("a token for every place"));
        let dense = kernels::attention(&q, &k, &v, 1.0, None)?;
        let (mut shares, mut errors) = (Vec::new(), Vec::new());
        for keep in [1.0, 0.5, 0.3, 0.2] {
            let mask = kernels::choose_blocks(&q, &k, 1.0, &sparse(keep).choice(GRID))?;
            let found = kernels::attention_blocks(&q, &k, &v, 1.0, &mask)?;
            shares.push(format!("{:.2}", mask.share()));
            errors.push(format!("{:.1e}", relative_l2(&found, &dense)?));
        }
        let widths = widths.map(|width| width.to_string()).join(", ");
        println!("| {widths} | {} | {} |", shares.join(", "), errors.join(", "));
    }
    println!();
    Ok(())
}

/// The fastest of some rounds of dense and of sparse attention, in turns, with the choice of blocks and with the tokens'
/// way into their order and back, which a pass does once for all blocks.
fn times() -> Result<()> {
    println!("| operands | kept | dense | sparse | of which choice, order | gain | of the ideal |");
    println!("|---|---|---|---|---|---|---|");
    let bricks = Bricks::new(GRID, sparse(0.3), &Device::Cpu).expect("a grid");
    for (name, dtype, int8) in [("f32", DType::F32, false), ("bf16", DType::BF16, false), ("int8", DType::F32, true)] {
        let [q, k, v] = head([INF; 3])?.map(|x| x.to_dtype(dtype).expect("a float"));
        let mut best = [Duration::MAX; 4];
        let mut share = 0.0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let attend = if int8 { kernels::attention_int8 } else { kernels::attention };
            attend(&q, &k, &v, 1.0, None)?;
            let dense = start.elapsed();
            let start = Instant::now();
            let mask = kernels::choose_blocks(&q, &k, 1.0, &sparse(0.3).choice(GRID))?;
            let choice = start.elapsed();
            let attend = if int8 { kernels::attention_int8_blocks } else { kernels::attention_blocks };
            let found = attend(&q, &k, &v, 1.0, &mask)?;
            let ordered = Instant::now();
            let arranged = bricks.arranged(&found, 1).and_then(|x| bricks.restored(&x, 1));
            arranged.expect("a token for every place");
            for (best, time) in best.iter_mut().zip([dense, start.elapsed(), choice, ordered.elapsed()]) {
                *best = time.min(*best);
            }
            share = mask.share();
        }
        let [dense, sparse, choice, order] = best.map(|time| time.as_secs_f64());
        let gain = dense / sparse;
        println!(
            "| {name} | {:.1} % | {dense:.2} s | {sparse:.2} s | {choice:.3} s, {order:.3} s | {gain:.2} | {:.2} |",
            100.0 * share,
            gain * share
        );
    }
    Ok(())
}

/// Queries, keys and values `[1, L, 1, D]` whose scores are `-Σ (distance / width)² / 2` plus a term of the query alone: the
/// first elements of a query are its place, those of a key its place and its square. The others are random, and add a
/// standard deviation of 1.
fn head(widths: [f64; 3]) -> Result<[Tensor; 3]> {
    let noise = || Tensor::randn(0f32, 1f32, (1, TOKENS, 1, DIM), &Device::Cpu);
    let (mut q, mut k) = (Vec::with_capacity(4 * TOKENS), Vec::with_capacity(4 * TOKENS));
    for token in 0..TOKENS {
        let [_, rows, columns] = GRID;
        let at = [token / (rows * columns), token / columns % rows, token % columns];
        // From the middle, so that squares are small.
        let place = [0, 1, 2].map(|axis| (at[axis] as f64 - GRID[axis] as f64 / 2.0) / widths[axis]);
        q.extend(place.iter().chain(&[1.0]).map(|&x| x as f32));
        let square = place.iter().map(|x| x * x).sum::<f64>() / -2.0;
        k.extend(place.iter().chain(&[square]).map(|&x| x as f32));
    }
    let with_places = |places: Vec<f32>| {
        let places = Tensor::from_vec(places, (1, TOKENS, 1, 4), &Device::Cpu)?;
        let rest = (noise()?.narrow(3, 4, DIM - 4)? * ((DIM - 4) as f64).powf(-0.25))?;
        Tensor::cat(&[&places, &rest], 3)
    };
    Ok([with_places(q)?, with_places(k)?, noise()?])
}

fn relative_l2(found: &Tensor, expected: &Tensor) -> Result<f32> {
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>().map(f32::sqrt);
    Ok(norm(&(found - expected)?)? / norm(expected)?)
}
