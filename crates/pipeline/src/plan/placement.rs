//! [`Placement`]: the device, the dtype and the quantisation that the networks of a run have.

use crate::error::Settings;
use crate::request::load::{Choice, LoadOptions};
use crate::{Error, Result};
use candle_core::{DType, Device};
use kinora_checkpoint::Quant;
use kinora_kernels::{LEVEL_VARIABLE, Level, Rates};
use rayon::ThreadPool;

/// How much faster an arithmetic of less precision must be to be taken.
const WORTH_IT: f64 = 1.1;

/// The device and the dtype that a network computes in.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub device: Device,
    pub dtype: DType,
    pub quant: Option<Quant>,
    /// Inputs of linear layers over quantised weights are not quantised.
    pub exact: bool,
    /// Bytes of a GPU's memory that may be used, where the device reports them.
    pub gpu_memory: Option<u64>,
    /// The transformer's blocks are streamed from the host's memory.
    pub offload: bool,
    /// The text encoder computes on the CPU.
    pub text_on_cpu: bool,
}

impl Placement {
    /// The placement that `options` ask for, with the defaults of the device, and a notice of what was chosen.
    ///
    /// # Errors
    /// No such device, or one that cannot do the quantisation; an unknown level of CPU instructions.
    pub(crate) fn of(options: &LoadOptions, threads: &ThreadPool) -> Result<(Self, Option<String>)> {
        let device = crate::device::open(&options.device)?;
        if let Err(unknown) = Level::asked() {
            let hint = format!("unset {LEVEL_VARIABLE}: the best level of this machine is found without it");
            return Err(Error::request(format!("{LEVEL_VARIABLE}: {unknown}"), hint));
        }
        let (dtype, quant, notice) = choose(options, &device, threads)?;
        if let Some(quant) = quant {
            check_quant(quant, &device)?;
        }
        let free = kinora_kernels::gpu_free_bytes(&device)?;
        let gpu_memory = free.map(|free| options.gpu_memory.unwrap_or(free).min(free));
        let placement =
            Self { device, dtype, quant, exact: options.exact, gpu_memory, offload: false, text_on_cpu: false };
        Ok((placement, notice))
    }

    /// Checks that attention to some blocks takes less time than attention to all.
    ///
    /// # Errors
    /// A device or a dtype without a kernel for it.
    pub(crate) fn check_sparse(&self) -> Result<()> {
        let (hint, settings): (_, Settings) = match (&self.device, self.dtype) {
            (Device::Cpu, _) | (Device::Cuda(_), DType::BF16 | DType::F16) => return Ok(()),
            (Device::Cuda(_), _) => ("take dense attention, or bf16", &["attention", "dtype"]),
            (Device::Metal(_), _) => ("take dense attention, or the CPU", &["attention", "device"]),
        };
        let what = format!("sparse attention does not work in {} on this device", self.dtype.as_str());
        Err(Error::request(what, hint).about(settings))
    }

    /// The dtype of networks that make or change pixels. As in diffusers' examples it is f32 whatever the transformer's: it is where 16 bits show. On
    /// CUDA devices, whose tensor cores take no f32, it is the 16 bits with the longer mantissa, unless the transformer is f32.
    pub(crate) fn pixel_dtype(&self) -> DType {
        if self.device.is_cuda() && self.dtype != DType::F32 { DType::F16 } else { DType::F32 }
    }

    /// The same on the CPU, for a part that a GPU has no room for. Weights of 16 bits stay so, the arithmetic is f32.
    pub(crate) fn on_cpu(&self) -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, gpu_memory: None, ..self.clone() }
    }
}

/// The dtype and the quantisation, and a sentence about what was measured, if anything was.
fn choose(
    options: &LoadOptions,
    device: &Device,
    threads: &ThreadPool,
) -> Result<(DType, Option<Quant>, Option<String>)> {
    let measured = device.is_cpu() && (options.dtype == Choice::Fastest || options.quant == Choice::Fastest);
    let rates = measured.then(|| threads.install(kinora_kernels::rates)).transpose()?.map(|rates| rates.linear);
    let dtype = match (options.dtype, rates) {
        (Choice::Is(dtype), _) => dtype,
        (Choice::Fastest, Some(Rates { f32, bf16, .. })) if bf16 > WORTH_IT * f32 => DType::BF16,
        _ if device.is_cpu() => DType::F32,
        _ => DType::BF16,
    };
    let quant = match (options.quant, rates) {
        (Choice::Usual, _) => None,
        (Choice::Is(quant), _) => Some(quant),
        (Choice::Fastest, Some(Rates { f32, bf16, int8 })) => {
            (int8 > WORTH_IT * if dtype == DType::BF16 { bf16 } else { f32 }).then_some(Quant::Int8)
        }
        (Choice::Fastest, None) => {
            [Quant::Fp8, Quant::Int8].into_iter().find(|quant| check_quant(*quant, device).is_ok())
        }
    };
    let notice = rates.map(|Rates { f32, bf16, int8 }| {
        let took = quant.map_or_else(|| dtype.as_str().to_string(), |quant| format!("{quant} and {}", dtype.as_str()));
        format!(
            "{took} is taken: this machine does {f32:.0} GFLOP/s in f32, {bf16:.0} in bf16 and {int8:.0} Gop/s in int8"
        )
    });
    Ok((dtype, quant, notice))
}

/// Checks that the device multiplies matrices of this quantisation.
fn check_quant(quant: Quant, device: &Device) -> Result<()> {
    let (hint, settings): (_, Settings) = match (quant, device) {
        (Quant::Int8, Device::Cpu | Device::Cuda(_)) => return Ok(()),
        (Quant::Fp8, Device::Cuda(_)) if crate::device::has_fp8() => return Ok(()),
        (Quant::Fp8, Device::Cpu) => ("take int8, or a GPU", &["quant", "device"]),
        (Quant::Fp8, Device::Cuda(_)) => ("take int8: 8-bit floating point needs compute capability 8.9", &["quant"]),
        (_, Device::Metal(_)) => ("take none, or the CPU", &["quant", "device"]),
    };
    Err(Error::request(format!("quantisation to {quant} does not work on this device"), hint).about(settings))
}
