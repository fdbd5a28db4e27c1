//! The choice of cuBLASLt's algorithm, made once per kind and size of product.

use super::Quantisation;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    cublasLtEpilogue_t as Epilogue, cublasLtMatmulDescAttributes_t as Attribute,
};
use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{CudaDevice, DType, Error, Result, bail};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::mem::size_of;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes that a product may use for partial sums.
const WORKSPACE: usize = 32 << 20;

/// `[rows, inputs] · [outputs, inputs]ᵀ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Product {
    pub rows: usize,
    pub outputs: usize,
    /// The outputs that a row of the result has, of which these are a part.
    pub all_outputs: usize,
    pub inputs: usize,
    /// The dtype of the operands, unless they are quantised.
    pub operand: DType,
    pub result: DType,
    pub quantisation: Option<Quantisation>,
}

/// A function of the sums, computed before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Activation {
    None,
    Gelu,
}

/// The scales of the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scales {
    None,
    /// One per row of each operand.
    PerRow,
}

/// A product and everything that the library does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub product: Product,
    pub bias: bool,
    pub activation: Activation,
    pub scales: Scales,
}

/// A [`Plan`] with an algorithm for it.
#[derive(Clone, Copy)]
pub(super) struct Planned {
    pub request: Plan,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// Addresses on the device; null where there is none.
#[derive(Clone, Copy, Default)]
pub(super) struct Operands {
    pub x: u64,
    pub weight: u64,
    pub out: u64,
    pub bias: u64,
    pub x_scales: u64,
    pub weight_scales: u64,
}

/// The library on one device.
struct Library {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    plans: HashMap<Plan, Option<Planned>>,
}

// SAFETY: the handle may be used by any thread; the lock around it lets one at a time.
unsafe impl Send for Library {}

/// Calls `f` with the library on the device of this ordinal, opened once.
fn with_library<T>(device: &CudaDevice, f: impl FnOnce(&mut Library) -> Result<T>) -> Result<T> {
    static LIBRARIES: OnceLock<Mutex<HashMap<usize, Library>>> = OnceLock::new();
    let stream = device.cuda_stream();
    let ordinal = stream.context().ordinal();
    let mut libraries = LIBRARIES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let library = match libraries.entry(ordinal) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            stream.context().bind_to_thread().w()?;
            let handle = result::create_handle().map_err(Error::wrap)?;
            // SAFETY: products write it before they read it.
            let workspace = unsafe { device.alloc::<u8>(WORKSPACE)? };
            entry.insert(Library { handle, workspace, plans: HashMap::new() })
        }
    };
    f(library)
}

/// Returns the algorithm that the library considers best, if it has any.
pub(super) fn plan(device: &CudaDevice, request: Plan) -> Result<Option<Planned>> {
    with_library(device, |library| {
        if let Some(known) = library.plans.get(&request) {
            return Ok(*known);
        }
        let found = search(library.handle, request);
        library.plans.insert(request, found);
        Ok(found)
    })
}

fn search(handle: sys::cublasLtHandle_t, request: Plan) -> Option<Planned> {
    let placeholder = Operands { x: 256, weight: 256, out: 256, bias: 256, x_scales: 256, weight_scales: 256 };
    let description = Description::new(request, placeholder).ok()?;
    let preference = result::create_matmul_pref().ok()?;
    let workspace = WORKSPACE;
    let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    // SAFETY: descriptors that live here, an attribute of its documented size.
    let found = unsafe {
        result::set_matmul_pref_attribute(preference, attribute, (&raw const workspace).cast(), size_of::<usize>())
            .and_then(|()| {
                result::get_matmul_algo_heuristic(
                    handle,
                    description.matmul,
                    description.weight,
                    description.x,
                    description.out,
                    description.out,
                    preference,
                )
            })
    };
    // SAFETY: made above, not used any more.
    let _ = unsafe { result::destroy_matmul_pref(preference) };
    let found = found.ok()?;
    let works = found.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS;
    works.then_some(Planned { request, algorithm: found.algo })
}

/// Queues the product.
pub(super) fn multiply(device: &CudaDevice, plan: &Planned, operands: Operands) -> Result<()> {
    with_library(device, |library| {
        let stream = device.cuda_stream();
        let description = Description::new(plan.request, operands)?;
        let (one, zero) = (1f32, 0f32);
        let (whole_one, whole_zero) = (1i32, 0i32);
        let (alpha, beta): (*const c_void, *const c_void) = match plan.request.product.result {
            DType::I32 => ((&raw const whole_one).cast(), (&raw const whole_zero).cast()),
            _ => ((&raw const one).cast(), (&raw const zero).cast()),
        };
        let (workspace, _guard) = library.workspace.device_ptr(&stream);
        // SAFETY: the caller's operands have the sizes of the plan, whose algorithm fits its description.
        unsafe {
            result::matmul(
                library.handle,
                description.matmul,
                alpha,
                beta,
                operands.weight as *const c_void,
                description.weight,
                operands.x as *const c_void,
                description.x,
                operands.out as *const c_void,
                description.out,
                operands.out as *mut c_void,
                description.out,
                &raw const plan.algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
        .map_err(Error::wrap)
    })
}

/// The library's descriptors of a product. It counts columns first, so to it the weights `[N, K]` are a matrix `K × N`
/// to be transposed, `x [M, K]` is `K × M`, and the result `N × M`.
struct Description {
    matmul: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
}

impl Description {
    fn new(request: Plan, operands: Operands) -> Result<Self> {
        let Product { rows, outputs, all_outputs, inputs, operand, result: to, quantisation } = request.product;
        let operand = match quantisation {
            None => library_type(operand)?,
            Some(Quantisation::E4m3) => sys::cudaDataType_t::CUDA_R_8F_E4M3,
            Some(Quantisation::Int8) => sys::cudaDataType_t::CUDA_R_8I,
        };
        let whole = to == DType::I32;
        let (compute, scale) = if whole {
            (sys::cublasComputeType_t::CUBLAS_COMPUTE_32I, sys::cudaDataType_t::CUDA_R_32I)
        } else {
            (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType_t::CUDA_R_32F)
        };
        let layout = |kind, rows: usize, columns: usize, stride: usize| {
            result::create_matrix_layout(kind, rows as u64, columns as u64, stride as i64).map_err(Error::wrap)
        };
        let description = Self {
            matmul: result::create_matmul_desc(compute, scale).map_err(Error::wrap)?,
            weight: layout(operand, inputs, outputs, inputs)?,
            x: layout(operand, inputs, rows, inputs)?,
            out: layout(library_type(to)?, outputs, rows, all_outputs)?,
        };
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, 1i32)?;
        let epilogue = match (request.activation, request.bias) {
            (Activation::None, false) => Epilogue::CUBLASLT_EPILOGUE_DEFAULT,
            (Activation::None, true) => Epilogue::CUBLASLT_EPILOGUE_BIAS,
            (Activation::Gelu, false) => Epilogue::CUBLASLT_EPILOGUE_GELU,
            (Activation::Gelu, true) => Epilogue::CUBLASLT_EPILOGUE_GELU_BIAS,
        };
        description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue as u32)?;
        if request.bias {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias)?;
        }
        if quantisation == Some(Quantisation::E4m3) {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_FAST_ACCUM, 1i8)?;
        }
        if request.scales == Scales::PerRow {
            const OUTER_VECTOR: i32 = 3;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_MODE, OUTER_VECTOR)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_MODE, OUTER_VECTOR)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.weight_scales)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.x_scales)?;
        }
        Ok(description)
    }

    fn set<T: Copy>(&self, attribute: Attribute, value: T) -> Result<()> {
        // SAFETY: a descriptor that lives, an attribute of its documented size.
        unsafe { result::set_matmul_desc_attribute(self.matmul, attribute, (&raw const value).cast(), size_of::<T>()) }
            .map_err(Error::wrap)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: made by `new`, used by nobody else; launched work does not need them.
        unsafe {
            let _ = result::destroy_matmul_desc(self.matmul);
            for layout in [self.weight, self.x, self.out] {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

fn library_type(dtype: DType) -> Result<sys::cudaDataType_t> {
    Ok(match dtype {
        DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        DType::I32 => sys::cudaDataType_t::CUDA_R_32I,
        dtype => bail!("cuBLASLt has no {dtype:?}"),
    })
}
