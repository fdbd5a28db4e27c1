//! Checkpoints from files: what is read, what is refused, and how the refusal reads.

mod artefacts;
mod companions;
mod gguf;
mod headers;
mod key_maps;
mod loras;
mod pth;
mod rows;
mod sharded;
mod values;
mod weight_sets;

use kinora_checkpoint::{Error, TensorFile};
use std::path::PathBuf;

/// A committed file.
fn fixture(name: &str) -> PathBuf {
    kinora_test_support::fixture("checkpoint").join(name)
}

/// The bytes of a safetensors file with this header and this much data.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// Opens a file with these bytes.
fn open_bytes(bytes: &[u8]) -> Result<TensorFile, Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file.safetensors");
    std::fs::write(&path, bytes).expect("a writable folder");
    TensorFile::open(&path)
}

/// The message that opening a file with these bytes leads to, behind the file's name.
fn refusal(bytes: &[u8]) -> String {
    let error = open_bytes(bytes).err().expect("an error");
    assert!(error.hint().is_some(), "{error} has no hint");
    error.to_string().split_once("file.safetensors: ").expect("the file is named").1.to_string()
}
