//! Opening devices, loading the kernels that were compiled with the program, and launching them.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUfunction_attribute, CUmemPool_attribute, CUmemoryPool, cuDeviceGetDefaultMemPool, cuMemPoolGetAttribute,
    cuMemPoolSetAttribute,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::{CudaDevice, Device, Result, bail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Name and image of every module.
static IMAGES: [(&str, &[u8]); 6] = [
    ("attention", include_bytes!(concat!(env!("OUT_DIR"), "/attention.cubin"))),
    ("attention_hopper", include_bytes!(concat!(env!("OUT_DIR"), "/attention_hopper.cubin"))),
    ("conv", include_bytes!(concat!(env!("OUT_DIR"), "/conv.cubin"))),
    ("elementwise", include_bytes!(concat!(env!("OUT_DIR"), "/elementwise.cubin"))),
    ("linear", include_bytes!(concat!(env!("OUT_DIR"), "/linear.cubin"))),
    ("stored", include_bytes!(concat!(env!("OUT_DIR"), "/stored.cubin"))),
];

/// The compute capability that this build's kernels are compiled for, major and minor version.
pub fn built_for() -> (i32, i32) {
    let text: i32 = env!("KINORA_COMPUTE_CAPABILITY").parse().unwrap_or(0);
    (text / 10, text % 10)
}

/// Opens device `index` with a stream of its own, on which all of the process's threads queue, and lets its memory pool
/// keep freed memory, because the next step allocates the same blocks again.
///
/// # Errors
/// No such device, or one of another compute capability than this build's.
pub fn open(index: usize) -> Result<Device> {
    let device = CudaDevice::new_with_stream(index)?;
    let stream = device.cuda_stream();
    let context = stream.context();
    let (found, built) = (context.compute_capability().w()?, built_for());
    if found != built {
        let name = context.name().w()?;
        bail!(
            "this build is for GPUs of compute capability {}.{}, and {name} has {}.{}",
            built.0,
            built.1,
            found.0,
            found.1
        );
    }
    // One stream for everything: its order is all the order there is to keep.
    // SAFETY: no tensor of this device is used on another stream without waiting for an event.
    unsafe { device.disable_event_tracking() };
    set_pool(&device, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    Ok(Device::Cuda(device))
}

/// Whether the device has Hopper's instructions, and `KINORA_CUDA` does not rule them out.
pub(super) fn is_hopper(device: &CudaDevice) -> Result<bool> {
    let capability = device.cuda_stream().context().compute_capability().w()?;
    Ok(capability == (9, 0) && !portable())
}

/// Whether the environment variable `KINORA_CUDA` is `portable`: for tests of the kernels for any GPU.
fn portable() -> bool {
    static PORTABLE: OnceLock<bool> = OnceLock::new();
    *PORTABLE.get_or_init(|| std::env::var_os("KINORA_CUDA").is_some_and(|name| name == "portable"))
}

/// Bytes of the device's memory that are free.
pub fn free_bytes(device: &CudaDevice) -> Result<u64> {
    Ok(device.cuda_stream().context().mem_get_info().w()?.0 as u64)
}

/// The most bytes that tensors of `device` took at a time since [`reset_peak_bytes`].
pub fn peak_bytes(device: &CudaDevice) -> Result<u64> {
    let mut peak = 0u64;
    let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: the pool of an open device, and a local of the attribute's type.
    unsafe { cuMemPoolGetAttribute(pool(device)?, attribute, (&raw mut peak).cast()) }.result().w()?;
    Ok(peak)
}

/// Counts the peak from now on.
pub fn reset_peak_bytes(device: &CudaDevice) -> Result<()> {
    device.cuda_stream().synchronize().w()?;
    set_pool(device, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
}

fn set_pool(device: &CudaDevice, attribute: CUmemPool_attribute, mut value: u64) -> Result<()> {
    // SAFETY: the pool of an open device, and a local of the attribute's type.
    unsafe { cuMemPoolSetAttribute(pool(device)?, attribute, (&raw mut value).cast()) }.result().w()
}

/// The memory pool that tensors of `device` come from.
fn pool(device: &CudaDevice) -> Result<CUmemoryPool> {
    let mut pool = std::ptr::null_mut();
    // SAFETY: an open device, and a local to be filled.
    unsafe { cuDeviceGetDefaultMemPool(&raw mut pool, device.cuda_stream().context().cu_device()) }.result().w()?;
    Ok(pool)
}

/// A kernel, ready to be launched on the stream of its device.
pub(super) struct Kernel {
    function: CudaFunction,
    device: CudaDevice,
}

type Key = (usize, &'static str, String);

impl Kernel {
    /// Function `name` of `module`, which may use `shared` bytes of shared memory that are asked for at launch.
    pub(super) fn new(device: &CudaDevice, module: &'static str, name: String, shared: usize) -> Result<Self> {
        static FUNCTIONS: OnceLock<Mutex<HashMap<Key, CudaFunction>>> = OnceLock::new();
        let ordinal = device.cuda_stream().context().ordinal();
        let mut functions = FUNCTIONS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        let key = (ordinal, module, name);
        if let Some(function) = functions.get(&key) {
            return Ok(Self { function: function.clone(), device: device.clone() });
        }
        let function = load(device, ordinal, module)?.load_function(&key.2).w()?;
        if shared > 48 * 1024 {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared as i32).w()?;
        }
        functions.insert(key, function.clone());
        Ok(Self { function, device: device.clone() })
    }
}

/// Modules by device and name.
type Modules = HashMap<(usize, &'static str), Arc<CudaModule>>;

/// The module of this name on a device, loaded once.
fn load(device: &CudaDevice, ordinal: usize, name: &'static str) -> Result<Arc<CudaModule>> {
    static MODULES: OnceLock<Mutex<Modules>> = OnceLock::new();
    let mut modules = MODULES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&(ordinal, name)) {
        return Ok(module.clone());
    }
    let Some((_, image)) = IMAGES.iter().find(|(found, _)| *found == name) else { bail!("no CUDA module {name}") };
    let module = device.cuda_stream().context().load_module(Ptx::from_binary(image.to_vec())).w()?;
    modules.insert((ordinal, name), module.clone());
    Ok(module)
}

/// Blocks, threads of each, bytes of shared memory.
pub(super) fn grid(x: usize, y: usize, threads: usize, shared: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (x as u32, y as u32, 1),
        block_dim: (threads as u32, 1, 1),
        shared_mem_bytes: shared as u32,
    }
}

impl Kernel {
    /// Queues the kernel.
    ///
    /// # Safety
    /// `arguments` are those of the kernel, in its order and types, and what they point to lives until it is queued.
    pub(super) unsafe fn launch(&self, config: LaunchConfig, arguments: &[Argument]) -> Result<()> {
        if config.grid_dim.0 == 0 || config.grid_dim.1 == 0 {
            return Ok(());
        }
        let stream = self.device.cuda_stream();
        let mut builder = stream.launch_builder(&self.function);
        for argument in arguments {
            match argument {
                Argument::Pointer(value) => builder.arg(value),
                Argument::Int(value) => builder.arg(value),
                Argument::Long(value) => builder.arg(value),
                Argument::Float(value) => builder.arg(value),
                Argument::Struct(value) => value.push(&mut builder),
            };
        }
        // SAFETY: as the caller vouches.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

/// One argument of a kernel.
pub(super) enum Argument<'a> {
    Pointer(u64),
    Int(i32),
    Long(i64),
    Float(f32),
    Struct(&'a dyn StructArgument),
}

/// A struct that a kernel takes by value.
pub(super) trait StructArgument {
    /// Adds the struct to the arguments of a launch.
    fn push<'a, 'b>(&'a self, launch: &'b mut LaunchArgs<'a>) -> &'b mut LaunchArgs<'a>;
}

impl<T: DeviceRepr> StructArgument for T {
    fn push<'a, 'b>(&'a self, launch: &'b mut LaunchArgs<'a>) -> &'b mut LaunchArgs<'a> {
        launch.arg(self)
    }
}
