//! Sinusoidal timestep embedding, as in <https://arxiv.org/abs/2006.11239>, cosines first.

use candle_core::{DType, Result, Tensor};

/// `timestep [N]` (f32, 0..1000) → `[N, dim]` f32, `[cos | sin]`, periods 1 to 10,000; `dim` is even.
pub fn timestep_embedding(timestep: &Tensor, dim: usize) -> Result<Tensor> {
    let half = dim / 2;
    let exponents: Vec<f32> = (0..half).map(|i| (-(10000f64.ln()) * i as f64 / half as f64) as f32).collect();
    let frequencies = Tensor::from_vec(exponents, (1, half), timestep.device())?.exp()?;
    let angles = timestep.to_dtype(DType::F32)?.unsqueeze(1)?.broadcast_mul(&frequencies)?; // [N, half]
    Tensor::cat(&[angles.cos()?, angles.sin()?], 1)
}
