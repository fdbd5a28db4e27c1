//! YUV4MPEG2 (<https://wiki.multimedia.cx/index.php/YUV4MPEG2>): uncompressed pictures, 8-bit 4:2:0, which every video tool takes through a
//! pipe.

use crate::clip::{ClipSpec, Frame};
use crate::color::Yuv420;
use crate::error::{MediaError, Result};
use crate::output::Output;
use crate::{ClipWriter, WriteOptions, Written};
use std::path::{Path, PathBuf};

pub(crate) struct Y4mWriter {
    spec: ClipSpec,
    path: PathBuf,
    out: Output,
    picture: Yuv420,
    frames: u64,
    has_recipe: bool,
}

impl Y4mWriter {
    pub(crate) fn create(path: &Path, spec: &ClipSpec, options: &WriteOptions) -> Result<Self> {
        let mut out = Output::create(path)?;
        let path = out.target().to_path_buf();
        let picture = Yuv420::new(spec.width, spec.height);
        let (Yuv420 { width, height, .. }, fps) = (&picture, spec.fps);
        // `mpeg2` is the position of chroma: level with the left column.
        let header = format!(
            "YUV4MPEG2 W{width} H{height} F{}:{} Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED\n",
            fps.num(),
            fps.den()
        );
        out.put(header.as_bytes())?;
        Ok(Self { spec: *spec, path, out, picture, frames: 0, has_recipe: options.recipe.is_some() })
    }
}

impl ClipWriter for Y4mWriter {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.spec.check(frame, self.frames)?;
        self.picture.fill(frame);
        self.out.put(b"FRAME\n")?;
        for plane in [&self.picture.y, &self.picture.u, &self.picture.v] {
            self.out.put(plane)?;
        }
        self.frames += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let Self { spec, path, out, picture, frames, has_recipe } = *self;
        if frames == 0 {
            return Err(MediaError::NoFrames { path });
        }
        let bytes = out.commit()?;
        let mut notes = picture.size_notes(&spec);
        if has_recipe {
            notes.push("a .y4m file has no place for the recipe".into());
        }
        Ok(Written { path, frames, bytes, width: picture.width, height: picture.height, notes })
    }
}
