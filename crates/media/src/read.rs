//! Files to frames: the inverse of [`create`](crate::create), for the formats that lose nothing or little.

use crate::clip::{ClipSpec, Fps, Frame};
use crate::error::{MediaError, Result};
use std::path::Path;

/// Hands out the frames of one clip, in order; memory does not grow with the clip's length.
pub trait ClipReader: Send {
    /// Size of every frame, and frames per second.
    fn spec(&self) -> ClipSpec;

    /// Number of frames, where the file says it.
    fn frames(&self) -> Option<usize>;

    /// The next frame, or `None` after the last.
    fn next_frame(&mut self) -> Result<Option<Frame>>;
}

/// Opens a clip for reading: raw frames (`.safetensors`, tensor `video` `[F, 3, H, W]`).
pub fn open(path: &Path) -> Result<Box<dyn ClipReader>> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("safetensors") => Ok(Box::new(RawReader::open(path)?)),
        _ => Err(MediaError::UnknownFormat { path: path.to_path_buf() }),
    }
}

/// Raw frames, as [`create`](crate::create) writes them.
struct RawReader {
    spec: ClipSpec,
    frames: usize,
    next: usize,
    values: Vec<f32>,
}

impl RawReader {
    fn open(path: &Path) -> Result<Self> {
        let damaged = |what: &str| MediaError::Damaged { path: path.to_path_buf(), what: what.to_string() };
        let bytes = std::fs::read(path).map_err(|source| MediaError::io("read", path, source))?;
        let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|error| damaged(&error.to_string()))?;
        let video = file.tensor("video").map_err(|_| damaged("it has no tensor `video`"))?;
        let (&[frames, 3, height, width], safetensors::Dtype::F32) = (video.shape(), video.dtype()) else {
            return Err(damaged("`video` is not f32 [F, 3, H, W]"));
        };
        let (_, metadata) =
            safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| damaged(&error.to_string()))?;
        let fps = metadata.metadata().as_ref().and_then(|metadata| metadata.get("fps"));
        let fps = match fps.map(|text| text.split_once('/').unwrap_or((text, "1"))) {
            Some((num, den)) => {
                num.parse().ok().zip(den.parse().ok()).ok_or_else(|| damaged("its `fps` is no number"))?
            }
            None => (16, 1),
        };
        let values = video.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Self { spec: ClipSpec { width, height, fps: Fps::new(fps.0, fps.1)? }, frames, next: 0, values })
    }
}

impl ClipReader for RawReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.frames)
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let len = 3 * self.spec.width * self.spec.height;
        let frame = self.values.get(self.next * len..(self.next + 1) * len);
        self.next += 1;
        frame.map(|data| Frame::new(self.spec.width, self.spec.height, data.to_vec())).transpose()
    }
}
