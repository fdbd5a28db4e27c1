//! [`Placement`]: the device, the dtype and the quantisation that the networks of a run have.

use crate::request::load::LoadOptions;
use crate::{Error, Result};
use candle_core::{DType, Device};
use kinora_checkpoint::Quant;
use kinora_kernels::{LEVEL_VARIABLE, Level};

/// The device and the dtype that a network computes in.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub device: Device,
    pub dtype: DType,
    pub quant: Option<Quant>,
    /// Bytes of a GPU's memory that may be used, where the device reports them.
    pub gpu_memory: Option<u64>,
    /// The transformer's blocks are streamed from the host's memory.
    pub offload: bool,
    /// The text encoder computes on the CPU.
    pub text_on_cpu: bool,
}

impl Placement {
    /// The placement that `options` ask for, with the defaults of the device.
    ///
    /// # Errors
    /// No such device, or one that cannot do the quantisation; an unknown level of CPU instructions.
    pub(crate) fn of(options: &LoadOptions) -> Result<Self> {
        let (device, quant) = (crate::device::open(&options.device)?, options.quant);
        if let Err(unknown) = Level::asked() {
            let hint = format!("unset {LEVEL_VARIABLE}: the best level of this machine is found without it");
            return Err(Error::request(format!("{LEVEL_VARIABLE}: {unknown}"), hint));
        }
        if let Some(quant) = quant {
            check_quant(quant, &device)?;
        }
        let dtype = options.dtype.unwrap_or(if device.is_cpu() { DType::F32 } else { DType::BF16 });
        let free = kinora_kernels::gpu_free_bytes(&device)?;
        let gpu_memory = free.map(|free| options.gpu_memory.unwrap_or(free).min(free));
        Ok(Self { device, dtype, quant, gpu_memory, offload: false, text_on_cpu: false })
    }

    /// Checks that attention to some blocks takes less time than attention to all.
    ///
    /// # Errors
    /// A device or a dtype without a kernel for it.
    pub(crate) fn check_sparse(&self) -> Result<()> {
        let hint = match (&self.device, self.dtype) {
            (Device::Cpu, _) | (Device::Cuda(_), DType::BF16 | DType::F16) => return Ok(()),
            (Device::Cuda(_), _) => "leave --attention out, or use --dtype bf16",
            (Device::Metal(_), _) => "leave --attention out, or use --device cpu",
        };
        let what = format!("sparse attention does not work in {} on this device", self.dtype.as_str());
        Err(Error::request(what, hint))
    }

    /// The same on the CPU, for a part that a GPU has no room for. Weights of 16 bits stay so, the arithmetic is f32.
    pub(crate) fn on_cpu(&self) -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, gpu_memory: None, ..self.clone() }
    }
}

/// Checks that the device multiplies matrices of this quantisation.
fn check_quant(quant: Quant, device: &Device) -> Result<()> {
    let hint = match (quant, device) {
        (Quant::Int8, Device::Cpu | Device::Cuda(_)) => return Ok(()),
        (Quant::Fp8, Device::Cuda(_)) if crate::device::has_fp8() => return Ok(()),
        (Quant::Fp8, Device::Cpu) => "use --quant int8, or --device cuda",
        (Quant::Fp8, Device::Cuda(_)) => "use --quant int8: 8-bit floating point needs compute capability 8.9",
        (_, Device::Metal(_)) => "leave --quant out, or use --device cpu",
    };
    Err(Error::request(format!("quantisation to {quant} does not work on this device"), hint))
}
