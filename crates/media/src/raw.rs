//! Raw frames: a safetensors file (<https://github.com/huggingface/safetensors#format>) with the tensor `video`,
//! `[F, 3, H, W]`, little-endian f32, unchanged values. The header comes first and contains the number of frames, so room is
//! reserved for it and it is filled in at the end.

use crate::clip::{ClipSpec, Frame};
use crate::error::{MediaError, Result};
use crate::output::Output;
use crate::{ClipWriter, WriteOptions, Written};
use serde_json::json;
use std::path::Path;

pub(crate) struct RawWriter {
    spec: ClipSpec,
    recipe: Option<String>,
    out: Output,
    header_len: usize,
    frames: u64,
    bytes: Vec<u8>,
}

impl RawWriter {
    pub(crate) fn create(path: &Path, spec: &ClipSpec, options: &WriteOptions) -> Result<Self> {
        let recipe = options.recipe.clone();
        // The numbers have the most digits here, and the length is a multiple of 8 as the format requires.
        let header_len = header(spec, recipe.as_deref(), u64::MAX, u64::MAX).len().next_multiple_of(8);
        let mut out = Output::create(path)?;
        out.put(&vec![b' '; 8 + header_len])?;
        Ok(Self { spec: *spec, recipe, out, header_len, frames: 0, bytes: Vec::new() })
    }
}

impl ClipWriter for RawWriter {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.spec.check(frame, self.frames)?;
        self.bytes.clear();
        self.bytes.extend(frame.data.iter().flat_map(|x| x.to_le_bytes()));
        self.out.put(&self.bytes)?;
        self.frames += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let Self { spec, recipe, mut out, header_len, frames, .. } = *self;
        let ClipSpec { width, height, .. } = spec;
        let path = out.target().to_path_buf();
        if frames == 0 {
            return Err(MediaError::NoFrames { path });
        }
        let len = frames * 12 * (width * height) as u64;
        let header = header(&spec, recipe.as_deref(), frames, len);
        let mut start = (header_len as u64).to_le_bytes().to_vec();
        start.extend(header.into_bytes());
        start.resize(8 + header_len, b' ');
        out.put_at(0, &start)?;
        let bytes = out.commit()?;
        Ok(Written { path, frames, bytes, width, height, notes: Vec::new() })
    }
}

fn header(spec: &ClipSpec, recipe: Option<&str>, frames: u64, len: u64) -> String {
    let mut metadata = json!({ "fps": spec.fps.to_string() });
    if let Some(recipe) = recipe {
        metadata["recipe"] = recipe.into();
    }
    let shape = json!([frames, 3, spec.height, spec.width]);
    let video = json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, len] });
    json!({ "__metadata__": metadata, "video": video }).to_string()
}
