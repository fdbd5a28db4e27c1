//! Raw frames, as [`create`](crate::create) writes them: the tensor `video` `[F, 3, H, W]` of a safetensors file
//! (<https://github.com/huggingface/safetensors#format>), which is read frame by frame, and the sound, `audio` `[channels, samples]`.

use crate::ClipReader;
use crate::clip::{ClipSpec, Fps, Frame};
use crate::error::{MediaError, Result};
use crate::sound::Sound;
use crate::sound::track::{MAX_VALUES, SoundTrack};
use crate::stored::{Stored, Stream};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The longest header that is read, which is the safetensors library's limit.
const MAX_HEADER: u64 = 100_000_000;

pub(crate) struct RawReader {
    path: PathBuf,
    /// The file, positioned at the start of the next frame.
    file: Stream,
    spec: ClipSpec,
    frames: usize,
    next: usize,
    sound: Option<SoundTrack>,
    notes: Vec<String>,
}

impl RawReader {
    pub(crate) fn open(stored: &Stored) -> Result<Self> {
        let (path, failed) = (stored.path.as_path(), |error| stored.failed(error));
        let damaged = |what: &str| MediaError::Damaged { path: path.to_path_buf(), what: what.into() };
        let mut file = stored.open()?;
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let (metadata, start) = header(&mut file, len, path)?;
        let video = metadata.info("video").ok_or_else(|| damaged("it has no tensor `video`"))?;
        let (&[frames, 3, height, width], Dtype::F32) = (video.shape.as_slice(), video.dtype) else {
            let what = format!("`video` is {:?} {:?}, not f32 [F, 3, H, W]", video.dtype, video.shape);
            return Err(damaged(&what));
        };
        if frames * height * width == 0 {
            return Err(damaged(&format!("`video` is empty, {:?}", video.shape)));
        }
        let fps = metadata.metadata().as_ref().and_then(|metadata| metadata.get("fps"));
        let fps = fps.map_or(Some((16, 1)), |text| ratio(text)).ok_or_else(|| damaged("its `fps` is no number"))?;
        let spec = ClipSpec { width, height, fps: Fps::new(fps.0, fps.1)? };
        let (sound, notes) = match audio(&metadata, (&mut file, start), path) {
            Ok(sound) => (sound.map(|sound| sound.no_longer_than(frames as u64, spec.fps).into()), Vec::new()),
            Err(error) => (None, vec![format!("its sound is not read: {error}")]),
        };
        file.seek(SeekFrom::Start(start + video.data_offsets.0 as u64)).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), file, spec, frames, next: 0, sound, notes })
    }
}

impl ClipReader for RawReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.frames)
    }

    fn sound(&self) -> Option<SoundTrack> {
        self.sound.clone()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        if self.next == self.frames {
            return Ok(None);
        }
        let ClipSpec { width, height, .. } = self.spec;
        let mut bytes = vec![0; 12 * width * height];
        self.file.read_exact(&mut bytes).map_err(|source| MediaError::io("read", &self.path, source))?;
        let data = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let frame = Frame::new(width, height, data)?;
        self.spec.check(&frame, self.next as u64)?;
        self.next += 1;
        Ok(Some(frame))
    }
}

/// Returns the tensor `audio`, if there is one, of a file whose data begin at `start`.
fn audio(metadata: &Metadata, (file, start): (&mut Stream, u64), path: &Path) -> Result<Option<Sound>> {
    let Some(audio) = metadata.info("audio") else { return Ok(None) };
    let damaged = |what: String| MediaError::Damaged { path: path.to_path_buf(), what };
    let (&[channels, samples], Dtype::F32) = (audio.shape.as_slice(), audio.dtype) else {
        return Err(damaged(format!("`audio` is {:?} {:?}, not f32 [channels, samples]", audio.dtype, audio.shape)));
    };
    let rate = metadata.metadata().as_ref().and_then(|metadata| metadata.get("sample_rate")?.parse().ok());
    let rate = rate.ok_or_else(|| damaged("its `sample_rate` is no number".into()))?;
    let values = channels.saturating_mul(samples);
    if values > MAX_VALUES {
        return Err(damaged(format!("`audio` is {:?}, which is too long", audio.shape)));
    }
    let mut bytes = vec![0; 4 * values];
    let read =
        file.seek(SeekFrom::Start(start + audio.data_offsets.0 as u64)).and_then(|_| file.read_exact(&mut bytes));
    read.map_err(|source| MediaError::io("read", path, source))?;
    let data = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Sound::new(rate, channels, data).map(Some)
}

/// Returns the header of a file of `len` bytes, checked by the safetensors library and against the length, and the offset of
/// the data.
fn header(file: &mut Stream, len: u64, path: &Path) -> Result<(Metadata, u64)> {
    let damaged = |what: String| MediaError::Damaged { path: path.to_path_buf(), what };
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it is cut short".into()),
        _ => MediaError::io("read", path, source),
    };
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(failed)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER.min(len - 8) {
        return Err(damaged(format!("its header claims {size} bytes, in a file of {len}")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(failed)?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| damaged(format!("its header: {error}")))?;
    let data = metadata.data_len() as u64;
    if data != len - 8 - size {
        return Err(damaged(format!("it has {} bytes of data, its header says {data}", len - 8 - size)));
    }
    Ok((metadata, 8 + size))
}

fn ratio(text: &str) -> Option<(u32, u32)> {
    let (num, den) = text.split_once('/').unwrap_or((text, "1"));
    num.parse().ok().zip(den.parse().ok())
}
