//! Raw frames: a safetensors file (<https://github.com/huggingface/safetensors#format>) with the tensor `video`,
//! `[F, 3, H, W]`, little-endian f32, unchanged values; of a clip with sound also `audio`, `[channels, samples]`, as long as the
//! frames, whose `sample_rate` is in the metadata. The header comes first and contains the number of frames, so room is reserved
//! for it and it is filled in at the end.

use crate::clip::{ClipSpec, Frame};
use crate::error::{MediaError, Result};
use crate::output::Output;
use crate::sound::track::SoundTrack;
use crate::sound::{MAX_CHANNELS, Sound};
use crate::{ClipWriter, WriteOptions, Written};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

pub(crate) struct RawWriter {
    spec: ClipSpec,
    recipe: Option<String>,
    out: Output,
    header_len: usize,
    frames: u64,
    bytes: Vec<u8>,
    sound: Option<Arc<Sound>>,
}

/// What the header says of the sound.
struct Audio {
    rate: u32,
    channels: usize,
    samples: u64,
}

impl RawWriter {
    pub(crate) fn create(path: &Path, spec: &ClipSpec, options: &WriteOptions) -> Result<Self> {
        let recipe = options.recipe.clone();
        // The numbers have the most digits here, and the length is a multiple of 8 as the format requires.
        let audio = Audio { rate: u32::MAX, channels: MAX_CHANNELS, samples: u64::MAX };
        let header_len = header(spec, recipe.as_deref(), u64::MAX, Some(&audio)).len().next_multiple_of(8);
        let mut out = Output::create(path)?;
        out.put(&vec![b' '; 8 + header_len])?;
        Ok(Self { spec: *spec, recipe, out, header_len, frames: 0, bytes: Vec::new(), sound: None })
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

    fn sound(&mut self, sound: &SoundTrack) -> Result<Option<String>> {
        match sound.decoded() {
            Ok(sound) => {
                sound.check()?;
                self.sound = Some(sound);
                Ok(None)
            }
            Err(error) => Ok(Some(format!("the sound is not kept: {error}"))),
        }
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let Self { spec, recipe, mut out, header_len, frames, mut bytes, sound } = *self;
        let ClipSpec { width, height, fps } = spec;
        let path = out.target().to_path_buf();
        if frames == 0 {
            return Err(MediaError::NoFrames { path });
        }
        let sound = sound.map(|sound| sound.fitted_to(frames, fps));
        for part in sound.iter().flat_map(|sound| sound.data.chunks(1 << 16)) {
            bytes.clear();
            bytes.extend(part.iter().flat_map(|x| x.to_le_bytes()));
            out.put(&bytes)?;
        }
        let audio = sound.map(|Sound { rate, channels, data }| Audio {
            rate,
            channels,
            samples: data.len() as u64 / channels as u64,
        });
        let header = header(&spec, recipe.as_deref(), frames, audio.as_ref());
        let mut start = (header_len as u64).to_le_bytes().to_vec();
        start.extend(header.into_bytes());
        start.resize(8 + header_len, b' ');
        out.put_at(0, &start)?;
        let bytes = out.commit()?;
        Ok(Written { path, frames, bytes, width, height, notes: Vec::new() })
    }
}

fn header(spec: &ClipSpec, recipe: Option<&str>, frames: u64, audio: Option<&Audio>) -> String {
    let mut metadata = json!({ "fps": spec.fps.to_string() });
    if let Some(recipe) = recipe {
        metadata["recipe"] = recipe.into();
    }
    let shape = json!([frames, 3, spec.height, spec.width]);
    // Of the most frames, for which room is reserved, the product has as many digits.
    let end = frames.saturating_mul(12 * (spec.width * spec.height) as u64);
    let video = json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, end] });
    let mut header = json!({ "video": video });
    if let Some(&Audio { rate, channels, samples }) = audio {
        metadata["sample_rate"] = rate.to_string().into();
        let last = samples.saturating_mul(4 * channels as u64).saturating_add(end);
        header["audio"] = json!({ "dtype": "F32", "shape": [channels, samples], "data_offsets": [end, last] });
    }
    header["__metadata__"] = metadata;
    header.to_string()
}
