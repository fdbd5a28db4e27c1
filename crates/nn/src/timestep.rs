//! Sinusoidal timestep embedding, as in <https://arxiv.org/abs/2006.11239>, cosines first.

use candle_core::{DType, Result, Tensor};

/// `timestep [N]` (f32, 0..1000) → `[N, dim]` f32, `[cos | sin]`, periods 1 to 10,000; `dim` is even.
///
/// The exponents are rounded to f32 in the order that `PyTorch` models are trained with: at a timestep of 1000 an angle
/// shows every bit of its frequency.
pub fn timestep_embedding(timestep: &Tensor, dim: usize) -> Result<Tensor> {
    let half = dim / 2;
    let exponent = |i: usize| -(10000f64.ln() as f32) * i as f32 / half as f32;
    let frequencies: Vec<f32> = (0..half).map(|i| f64::from(exponent(i)).exp() as f32).collect();
    let frequencies = Tensor::from_vec(frequencies, (1, half), timestep.device())?;
    let angles = timestep.to_dtype(DType::F32)?.unsqueeze(1)?.broadcast_mul(&frequencies)?; // [N, half]
    Tensor::cat(&[angles.cos()?, angles.sin()?], 1)
}
