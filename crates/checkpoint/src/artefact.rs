//! Saving and loading the tensors that pass between stages (contexts, latents, frames) as safetensors files. A file appears
//! under its name only when it is whole.

use crate::file::TensorFile;
use crate::{Error, Result};
use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};
use kinora_files::AtomicFile;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The length of the header is a multiple of this, so that data is aligned for readers that map it.
const ALIGNMENT: usize = 8;
const METADATA: &str = "__metadata__";

/// Writes the tensors and the metadata strings as a safetensors file, replacing the file that was there.
///
/// # Errors
/// Two tensors of one name, a dtype that the format does not have, or a file that cannot be written. The file that was
/// there is then unchanged.
pub fn save_safetensors(path: &Path, tensors: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<()> {
    save_and_open(path, tensors, metadata).map(drop)
}

/// Writes as [`save_safetensors`], and returns the file: it stays this one when another program gives `path` another file.
///
/// # Errors
/// As [`save_safetensors`].
pub fn save_and_open(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<TensorFile> {
    let mut sorted: Vec<&(String, Tensor)> = tensors.iter().collect();
    // Wide elements first keeps every tensor aligned.
    sorted.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype().size_in_bytes()), name));
    let header = header(path, &sorted, metadata)?;
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let mut file = AtomicFile::create(path).map_err(io)?;
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(&header).map_err(io)?;
    for (_, tensor) in sorted {
        write_elements(&mut file, tensor, &io)?;
    }
    TensorFile::of_open(path, file.commit_open().map_err(io)?)
}

/// Checks that [`save_safetensors`] can write to `path`, so that this is known before the tensors are computed.
///
/// # Errors
/// A path that is not a regular file, or whose folder is missing or cannot be written to.
pub fn check_writable(path: &Path) -> Result<()> {
    let folder = kinora_files::folder_of(path);
    std::fs::metadata(folder).map_err(|source| Error::Io { path: folder.to_path_buf(), source })?;
    kinora_files::check_writable(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// Reads all tensors of a safetensors file onto the CPU, in their stored dtypes, and the metadata strings.
///
/// # Errors
/// A file that cannot be read or is not valid.
pub fn load_safetensors(path: &Path) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
    let file = TensorFile::open(path)?;
    let names = file.entries().keys();
    let tensors = names.map(|name| Ok((name.clone(), file.tensor(name)?))).collect::<Result<_>>()?;
    Ok((tensors, file.metadata().clone()))
}

fn header(path: &Path, tensors: &[&(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut object = serde_json::Map::new();
    if !metadata.is_empty() {
        object.insert(METADATA.to_string(), serde_json::json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in tensors {
        let dtype = dtype_name(name, tensor.dtype())?;
        let end = offset + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let entry = serde_json::json!({"dtype": dtype, "shape": tensor.dims(), "data_offsets": [offset, end]});
        if object.insert(name.clone(), entry).is_some() || name == METADATA {
            let problem = "its name is taken by another tensor or by the metadata".to_string();
            return Err(Error::InvalidTensor { path: path.to_path_buf(), name: name.clone(), problem });
        }
        offset = end;
    }
    let mut header = serde_json::Value::Object(object).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    Ok(header)
}

fn dtype_name(name: &str, dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F64 => Ok("F64"),
        DType::F32 => Ok("F32"),
        DType::BF16 => Ok("BF16"),
        DType::F16 => Ok("F16"),
        DType::I64 => Ok("I64"),
        DType::U32 => Ok("U32"),
        DType::U8 => Ok("U8"),
        other => Err(Error::Dtype { name: name.to_string(), dtype: other.as_str().to_string() }),
    }
}

fn write_elements(writer: &mut impl Write, tensor: &Tensor, io: &impl Fn(std::io::Error) -> Error) -> Result<()> {
    match tensor.dtype() {
        DType::F64 => write_as(writer, tensor, f64::to_le_bytes, io),
        DType::F32 => write_as(writer, tensor, f32::to_le_bytes, io),
        DType::BF16 => write_as(writer, tensor, bf16::to_le_bytes, io),
        DType::F16 => write_as(writer, tensor, f16::to_le_bytes, io),
        DType::I64 => write_as(writer, tensor, i64::to_le_bytes, io),
        DType::U32 => write_as(writer, tensor, u32::to_le_bytes, io),
        _ => write_as(writer, tensor, u8::to_le_bytes, io),
    }
}

fn write_as<T: WithDType, const N: usize>(
    writer: &mut impl Write,
    tensor: &Tensor,
    bytes: impl Fn(T) -> [u8; N],
    io: &impl Fn(std::io::Error) -> Error,
) -> Result<()> {
    for value in tensor.flatten_all()?.to_vec1::<T>()? {
        writer.write_all(&bytes(value)).map_err(io)?;
    }
    Ok(())
}
