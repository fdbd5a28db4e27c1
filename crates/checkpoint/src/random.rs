//! Random weights of a plausible scale for any request, to measure real sizes and real arithmetic without a checkpoint.
//!
//! Every tensor is cut from one block of normal numbers, at an offset that depends on the seed and the tensor's name, so that
//! billions of parameters take no longer than writing them.

use crate::convert::Element;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use kinora_formats::{Blocks, Format, Matrix, Parts, Scales};
use rayon::prelude::*;
use std::path::PathBuf;

/// The length of the block: a prime, so that the rows of a matrix do not repeat.
const BLOCK: usize = 1_048_573;
const CHUNK: usize = 1 << 16;
/// Blocks whose values say which scale all have.
const SAMPLE: usize = 64;
/// The standard deviation of biases, and of norms around one.
const SMALL: f32 = 0.02;

/// The block of normal numbers of one seed.
pub(crate) struct RandomWeights {
    seed: u64,
    normals: Vec<f32>,
    /// The form of matrices that are asked for as they are stored.
    blocks: Option<Blocks>,
}

impl RandomWeights {
    pub(crate) fn new(seed: u64, blocks: Option<Blocks>) -> Self {
        let pairs = (0..BLOCK.div_ceil(2) as u64).into_par_iter().flat_map_iter(|i| normal_pair(seed, i));
        let mut normals: Vec<f32> = pairs.collect();
        normals.truncate(BLOCK);
        Self { seed, normals, blocks }
    }

    /// The blocks that matrices are stored in.
    pub(crate) fn blocks(&self) -> Option<Blocks> {
        self.blocks
    }

    /// Returns a matrix of random levels in blocks, with the variance of [`RandomWeights::get`]; `None` if matrices are not stored
    /// so, or rows have no whole blocks.
    pub(crate) fn matrix(&self, name: &str, [rows, columns]: [usize; 2]) -> Result<Option<Matrix>> {
        let Some(blocks) = self.blocks.filter(|blocks| columns.is_multiple_of(blocks.values())) else {
            return Ok(None);
        };
        let seed = name.bytes().fold(self.seed, |seed, byte| mix(seed ^ u64::from(byte)));
        let mut bytes = vec![0u8; rows * columns / blocks.values() * blocks.bytes()];
        bytes.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
            let mut state = mix(seed ^ chunk as u64);
            for out in out.chunks_mut(8) {
                state = mix(state);
                out.copy_from_slice(&state.to_le_bytes()[..out.len()]);
            }
        });
        let mut levels = vec![0f32; blocks.values()];
        let mut squares = 0f32;
        let some = bytes.chunks_exact_mut(blocks.bytes()).take(SAMPLE);
        let count = some.len();
        for block in some {
            blocks.set_scales(block, 1.0);
            blocks.dequantise(block, &mut levels);
            squares += levels.iter().map(|level| level * level).sum::<f32>() / levels.len() as f32;
        }
        let scale = (columns as f32 * squares / count.max(1) as f32).sqrt().recip();
        bytes.par_chunks_exact_mut(blocks.bytes()).for_each(|block| blocks.set_scales(block, scale));
        let format = Format::Blocks(blocks);
        let parts = Parts { format, rows, columns, stride: columns, bytes, scales: Scales::None, rotation: 1 };
        let path = PathBuf::new();
        Matrix::new(parts).map(Some).map_err(|problem| Error::Coding { path, name: name.to_string(), problem })
    }

    /// Returns weights of variance 1/fan-in, norms around one, or small biases; the same for the same seed and name.
    pub(crate) fn get(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let values = Spread::of(name, shape);
        match dtype {
            DType::F32 => self.fill::<f32>(name, shape, &values, device),
            DType::BF16 => self.fill::<bf16>(name, shape, &values, device),
            DType::F16 => self.fill::<f16>(name, shape, &values, device),
            DType::F64 => self.fill::<f64>(name, shape, &values, device),
            other => Err(Error::Dtype { name: name.to_string(), dtype: other.as_str().to_string() }),
        }
    }

    fn fill<T: Element>(&self, name: &str, shape: &[usize], spread: &Spread, device: &Device) -> Result<Tensor> {
        let offset = name.bytes().fold(self.seed, |hash, byte| mix(hash ^ u64::from(byte))) as usize % BLOCK;
        let mut values = T::zeros(shape.iter().product());
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(i, chunk)| {
            let normals = &self.normals[(offset + i * CHUNK) % BLOCK..];
            for (value, normal) in chunk.iter_mut().zip(normals.iter().chain(&self.normals)) {
                *value = T::narrow_f32(spread.mean + spread.deviation * normal);
            }
        });
        Ok(Tensor::from_vec(values, shape, device)?)
    }
}

struct Spread {
    mean: f32,
    deviation: f32,
}

impl Spread {
    fn of(name: &str, shape: &[usize]) -> Self {
        let last = name.rsplit('.').next().unwrap_or(name);
        let fan_in: usize = shape.iter().skip(1).product();
        match (last, shape.len()) {
            ("bias", _) => Self { mean: 0.0, deviation: SMALL },
            ("gamma", _) | (_, 0 | 1) => Self { mean: 1.0, deviation: SMALL },
            _ => Self { mean: 0.0, deviation: (fan_in.max(1) as f32).sqrt().recip() },
        }
    }
}

/// Returns two normals by the Box-Muller transform.
fn normal_pair(seed: u64, i: u64) -> [f32; 2] {
    // In (0, 1], so that the logarithm is finite.
    let uniform = |bits: u64| ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let first = mix(seed ^ mix(i));
    let radius = (-2.0 * uniform(first).ln()).sqrt();
    let angle = std::f64::consts::TAU * uniform(mix(first));
    [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
}

/// Returns one step of `SplitMix64`. <https://prng.di.unimi.it/splitmix64.c>
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
