//! Every CUDA kernel agrees with its reference, which computes the same numbers in f32 on the CPU.
//!
//! Without a GPU there is nothing to compare, and the tests say so; with `KINORA_REQUIRE_CUDA` set they fail instead.
//! `KINORA_CUDA=portable` takes the kernels for any GPU on a Hopper one too.
#![cfg(feature = "cuda")]
#![allow(clippy::print_stdout, reason = "the measured errors are worth seeing")]

mod blocks;
mod linear;
mod products;
mod rows;
mod stored;

use candle_core::{DType, Device, Result, Tensor};
use kinora_test_support::relative_l2;
use std::cell::RefCell;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Relative L2 errors that dtypes allow: for f32 that of sums in another order, for the others that of rounding the result
/// (half a unit in the last place of 8 or 11 bits).
const DTYPES: [(DType, f64); 3] = [(DType::F32, 5e-6), (DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)];

thread_local! {
    /// The results of a test that are too far from the reference.
    static WRONG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The first GPU, for one test at a time.
fn with_gpu(test: impl FnOnce(&Device)) {
    static GPU: OnceLock<Mutex<Option<Device>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match kinora_kernels::open_cuda(0) {
        Ok(device) => Mutex::new(Some(device)),
        Err(error) => {
            assert!(std::env::var_os("KINORA_REQUIRE_CUDA").is_none(), "{error}");
            println!("no GPU, nothing is compared: {error}");
            Mutex::new(None)
        }
    });
    if let Some(device) = &*gpu.lock().unwrap_or_else(PoisonError::into_inner) {
        test(device);
        let wrong = WRONG.take();
        assert!(wrong.is_empty(), "too far from the reference:\n{}", wrong.join("\n"));
    }
}

/// Compares `fast` over inputs in every dtype on the GPU with `slow` over the same numbers in f32 on the CPU.
fn agree(
    gpu: &Device,
    name: &str,
    dtypes: &[(DType, f64)],
    inputs: &[&Tensor],
    fast: impl Fn(&[Tensor]) -> Result<Tensor>,
    slow: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    for &(dtype, tolerance) in dtypes {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        let wide: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
        let there: Vec<Tensor> = inputs.iter().map(|x| x.to_device(gpu).unwrap()).collect();
        let found = fast(&there).unwrap_or_else(|error| panic!("{name} {dtype:?} {:?}: {error}", inputs[0].dims()));
        assert_eq!(found.dtype(), dtype, "{name}");
        let found = found.to_device(&Device::Cpu).unwrap();
        let error = relative_l2(&found, &slow(&wide).unwrap());
        let line = format!("{name} {dtype:?} {:?}: {error:.1e}", inputs[0].dims());
        println!("{line}");
        if error.is_nan() || error > tolerance {
            WRONG.with_borrow_mut(|wrong| wrong.push(line));
        }
    }
}
