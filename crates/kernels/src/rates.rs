//! [`rates`]: how fast this machine multiplies in each arithmetic, so that a run can take the fastest; and by what kernels.

use crate::{Epilogue, LinearWeight, attention, attention_int8, cpu, linear};
use candle_core::{DType, Device, Result, Tensor};
use std::sync::OnceLock;
use std::time::Instant;

/// 10⁹ operations per second that an operator reaches on the CPU, of all threads together, by the arithmetic of its products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// f32 operands.
    pub f32: f64,
    /// bf16 operands, which are widened to f32 where the machine has no faster instructions for them.
    pub bf16: f64,
    /// Operands quantised to 8-bit integers, quantising included.
    pub int8: f64,
}

/// The rates of the operators that take most of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperatorRates {
    /// [`linear`](crate::linear()).
    pub linear: Rates,
    /// [`attention`](crate::attention()).
    pub attention: Rates,
}

/// Rows, inputs and outputs of the measured product: several blocks for each thread, a few milliseconds.
const LINEAR: [usize; 3] = [432, 1536, 1536];
/// Clips, tokens, heads and elements of a head of the measured attention.
const ATTENTION: [usize; 4] = [1, 504, 8, 128];
/// The fastest of so many runs counts, after one that does not.
const RUNS: usize = 3;

/// Measures on the CPU with the threads of rayon's current pool, once in a process: some tens of milliseconds.
///
/// # Errors
/// The operators' own.
pub fn rates() -> Result<OperatorRates> {
    static RATES: OnceLock<OperatorRates> = OnceLock::new();
    if let Some(&rates) = RATES.get() {
        return Ok(rates);
    }
    let measured = OperatorRates { linear: linear_rates()?, attention: attention_rates()? };
    Ok(*RATES.get_or_init(|| measured))
}

/// What the kernels of this process compute with, in words: the products of f32, of bf16 and of 8-bit integers.
pub fn instructions() -> [(&'static str, &'static str); 3] {
    [("f32", cpu::f32_products()), ("bf16", cpu::bf16_products()), ("int8", cpu::int8_products())]
}

/// Numbers between -1 and 1, of which none stands out.
fn some(shape: &[usize], dtype: DType) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)
}

fn linear_rates() -> Result<Rates> {
    let [rows, inputs, outputs] = LINEAR;
    let operations = 2.0 * (rows * inputs * outputs) as f64;
    let rate = |dtype, pack: fn(&Tensor) -> Result<LinearWeight>| {
        let (x, weight) = (some(&[1, rows, inputs], dtype)?, pack(&some(&[outputs, inputs], dtype)?)?);
        fastest(operations, || linear(&x, &weight, None, Epilogue::None))
    };
    Ok(Rates {
        f32: rate(DType::F32, LinearWeight::new)?,
        bf16: rate(DType::BF16, LinearWeight::for_own_dtype)?,
        int8: rate(DType::F32, LinearWeight::int8)?,
    })
}

fn attention_rates() -> Result<Rates> {
    let [clips, tokens, heads, dim] = ATTENTION;
    let operations = 4.0 * (clips * tokens * tokens * heads * dim) as f64;
    let (x, half) = (some(&ATTENTION, DType::F32)?, some(&ATTENTION, DType::BF16)?);
    Ok(Rates {
        f32: fastest(operations, || attention(&x, &x, &x, 0.1, None))?,
        bf16: fastest(operations, || attention(&half, &half, &half, 0.1, None))?,
        int8: fastest(operations, || attention_int8(&x, &x, &x, 0.1, None))?,
    })
}

fn fastest(operations: f64, work: impl Fn() -> Result<Tensor>) -> Result<f64> {
    work()?;
    let mut seconds = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        std::hint::black_box(work()?);
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(operations / seconds / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_a_computer_and_measured_once() {
        let OperatorRates { linear, attention } = rates().unwrap();
        for Rates { f32, bf16, int8 } in [linear, attention] {
            assert!([f32, bf16, int8].into_iter().all(|rate| (0.01..1e7).contains(&rate)), "{f32} {bf16} {int8}");
        }
        assert_eq!(rates().unwrap(), OperatorRates { linear, attention });
    }
}
