//! Noise from the seed alone, equal to `torch.randn(..., generator=torch.Generator().manual_seed(seed))` on a CPU.
//!
//! A Mersenne Twister (<https://doi.org/10.1145/272991.272995>) drives Box-Muller in torch's two orders:
//! pairs in f64 for fewer than 16 values, blocks of 16 in f32 otherwise
//! (<https://github.com/pytorch/pytorch/blob/v2.9.0/aten/src/ATen/native/cpu/DistributionTemplates.h>).
//! Uniforms are torch's bit for bit, normals within 2e-6 of it. Logarithm, sine and cosine are computed in
//! portable f64 arithmetic, never by the platform's library, so a seed gives the same bits on every machine.

use candle_core::{Device, Shape, Tensor};

/// The block length of Box-Muller in f32: the first half are cosines, the second half sines.
const BLOCK: usize = 16;

/// A generator of random numbers that continues over calls as one `torch.Generator` on the CPU does.
///
/// As in torch, only the low 32 bits of the seed count: seeds that differ by 2^32 give the same numbers.
#[derive(Debug, Clone)]
pub struct NoiseSource {
    words: Mt19937,
    /// The sine of the last f64 pair, if only its cosine was returned.
    spare: Option<f64>,
}

impl NoiseSource {
    /// Returns the generator of that seed.
    pub fn new(seed: u64) -> Self {
        Self { words: Mt19937::new(seed as u32), spare: None }
    }

    /// Returns the next `len` standard normals, as `torch.randn(len)` draws them.
    pub fn randn(&mut self, len: usize) -> Vec<f32> {
        if len < BLOCK {
            return (0..len).map(|_| self.normal_f64() as f32).collect();
        }
        let mut values = self.uniform(len);
        values.chunks_exact_mut(BLOCK).for_each(box_muller);
        if !len.is_multiple_of(BLOCK) {
            // torch redraws the whole last block, over values that the block before it has already set.
            let last = &mut values[len - BLOCK..];
            last.fill_with(|| self.words.uniform_f32());
            box_muller(last);
        }
        values
    }

    /// Returns the next standard normals as an f32 tensor of that shape, with the same values on every device.
    pub fn randn_tensor(&mut self, shape: impl Into<Shape>, device: &Device) -> candle_core::Result<Tensor> {
        let shape = shape.into();
        Tensor::from_vec(self.randn(shape.elem_count()), shape, device)
    }

    /// Returns the next `len` uniforms in [0, 1), multiples of 2^-24, as `torch.rand(len)` draws them.
    pub fn uniform(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.words.uniform_f32()).collect()
    }

    /// Advances as [`randn(len)`](Self::randn) does, at a fraction of its cost.
    pub fn skip_randn(&mut self, len: usize) {
        if len < BLOCK {
            self.randn(len);
            return;
        }
        let redrawn = if len.is_multiple_of(BLOCK) { 0 } else { BLOCK };
        for _ in 0..len + redrawn {
            self.words.next_u32();
        }
    }

    fn normal_f64(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (u1, u2) = (self.words.uniform_f64(), self.words.uniform_f64());
        let radius = (-2.0 * libm::log1p(-u2)).sqrt();
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * u1);
        self.spare = Some(radius * sin);
        radius * cos
    }
}

/// Turns 16 uniforms into normals in place. Rounds to f32 where torch's vector code does.
fn box_muller(block: &mut [f32]) {
    let (cosines, sines) = block.split_at_mut(BLOCK / 2);
    for (first, second) in cosines.iter_mut().zip(sines) {
        let radius = (-2.0 * libm::log(f64::from(1.0 - *first)) as f32).sqrt();
        let theta = std::f32::consts::TAU * *second;
        let (sin, cos) = libm::sincos(f64::from(theta));
        *first = radius * cos as f32;
        *second = radius * sin as f32;
    }
}

/// MT19937, <http://www.math.sci.hiroshima-u.ac.jp/m-mat/MT/emt.html>.
#[derive(Debug, Clone)]
struct Mt19937 {
    state: [u32; Self::N],
    next: usize,
}

impl Mt19937 {
    const N: usize = 624;
    const M: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [seed; Self::N];
        for i in 1..Self::N {
            let previous = state[i - 1];
            state[i] = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: Self::N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == Self::N {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for i in 0..Self::N {
            let mixed = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % Self::N] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + Self::M) % Self::N] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// Returns a uniform in [0, 1) from 24 bits of one word.
    fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 / (1u32 << 24) as f32
    }

    /// Returns a uniform in [0, 1) from 53 bits of two words, the first of which is the high one.
    fn uniform_f64(&mut self) -> f64 {
        let (high, low) = (u64::from(self.next_u32()), u64::from(self.next_u32()));
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }
}
