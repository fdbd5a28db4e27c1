//! [`TiledFrames`]: the tiles of every frame, on disk until those of a whole frame are there. A tile is decoded through
//! the whole stream before the next, so all of them are kept.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_vae::Tile;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Steps between -1 and 1: the error is 107 dB below that.
const STEPS: f32 = u16::MAX as f32;
const BYTES: usize = size_of::<u16>();

/// Pixels of all tiles, tile by tile and frame by frame, in 16 bits, in a file without a name.
pub(super) struct TiledFrames {
    file: File,
    folder: PathBuf,
    /// Rows and columns of each tile, in pixels.
    areas: Vec<[Range<usize>; 2]>,
    /// Frames, and height and width in pixels.
    size: [usize; 3],
}

impl TiledFrames {
    /// A file for `tiles` that cover frames of `size`: their number, and height and width in pixels, which are `factor` times
    /// those in latents. It lies, without a name, on the disk of `beside`.
    pub(crate) fn create(beside: &Path, tiles: &[Tile], factor: usize, size: [usize; 3]) -> Result<Self> {
        let is_folder = |path: &&Path| path.is_dir();
        let folder = beside.ancestors().find(is_folder).unwrap_or(Path::new(".")).to_path_buf();
        let io = |source| Error::Io { path: folder.clone(), source };
        let file = tempfile::tempfile_in(&folder).map_err(io)?;
        let bytes = 3 * size.iter().product::<usize>() * BYTES;
        file.set_len(bytes as u64).map_err(io)?; // too much for the file system is known now
        let pixels = |part: &Range<usize>| part.start * factor..part.end * factor;
        let areas = tiles.iter().map(|tile| [pixels(&tile.rows), pixels(&tile.columns)]).collect();
        Ok(Self { file, folder, areas, size })
    }

    /// Stores the frames from number `first` on of a tile: `pixels [1, 3, F, H, W]` in -1..1.
    pub(crate) fn put(&mut self, tile: usize, first: usize, pixels: &Tensor) -> Result<()> {
        let frames = pixels.dim(2)?;
        let pixels = pixels.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.transpose(1, 2)?; // [1, F, 3, H, W]
        let pixels = pixels.flatten_all()?.to_vec1::<f32>()?;
        if pixels.len() != frames * self.values(tile) || first + frames > self.size[0] {
            let (found, size) = (pixels.len(), self.size);
            let message =
                format!("tile {tile}: {found} values for {frames} frames from {first} on, of a clip {size:?}");
            return Err(candle_core::Error::Msg(message).into());
        }
        let steps = |x: f32| ((x.clamp(-1.0, 1.0) + 1.0) * (0.5 * STEPS)).round() as u16;
        let bytes: Vec<u8> = pixels.into_iter().flat_map(|x| steps(x).to_le_bytes()).collect();
        let start = SeekFrom::Start(self.offset(tile, first));
        let put = self.file.seek(start).and_then(|_| self.file.write_all(&bytes));
        put.map_err(|source| Error::Io { path: self.folder.clone(), source })
    }

    /// Returns frame number `index`: `[1, 3, 1, H, W]` in -1..1.
    pub(crate) fn frame(&mut self, index: usize) -> Result<Tensor> {
        let [_, height, width] = self.size;
        let mut frame = vec![0f32; 3 * height * width];
        let mut bytes = Vec::new();
        for tile in 0..self.areas.len() {
            bytes.resize(self.values(tile) * BYTES, 0);
            let start = SeekFrom::Start(self.offset(tile, index));
            let got = self.file.seek(start).and_then(|_| self.file.read_exact(&mut bytes));
            got.map_err(|source| Error::Io { path: self.folder.clone(), source })?;
            let [rows, columns] = &self.areas[tile];
            let lines = (0..3).flat_map(|colour| rows.clone().map(move |row| colour * height + row));
            for (line, bytes) in lines.zip(bytes.chunks_exact(columns.len() * BYTES)) {
                let to = &mut frame[line * width..][columns.clone()];
                for (to, steps) in to.iter_mut().zip(bytes.chunks_exact(BYTES)) {
                    *to = f32::from(u16::from_le_bytes([steps[0], steps[1]])) / (0.5 * STEPS) - 1.0;
                }
            }
        }
        Ok(Tensor::from_vec(frame, (1, 3, 1, height, width), &Device::Cpu)?)
    }

    /// The values of one frame of a tile.
    fn values(&self, tile: usize) -> usize {
        3 * self.areas[tile].iter().map(ExactSizeIterator::len).product::<usize>()
    }

    /// Where a frame of a tile begins.
    fn offset(&self, tile: usize, frame: usize) -> u64 {
        let before: usize = (0..tile).map(|tile| self.values(tile)).sum();
        ((before * self.size[0] + frame * self.values(tile)) * BYTES) as u64
    }
}
