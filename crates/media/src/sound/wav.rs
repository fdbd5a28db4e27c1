//! Sound in WAV files (RIFF, <https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html>): written as 32-bit floats,
//! which are the samples as they are; read as whole numbers of 8 to 32 bits, too.

use crate::error::{MediaError, Result};
use crate::output::Output;
use crate::sound::{MAX_CHANNELS, Sound};
use crate::source::{Opened, Source};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const WHOLE: u16 = 1;
const FLOAT: u16 = 3;
/// The format follows in the extension of the chunk.
const EXTENSIBLE: u16 = 0xfffe;

/// The most chunks visited before the samples.
const MAX_CHUNKS: usize = 1000;

impl Sound {
    /// Writes the sound to a WAV file of 32-bit floats. An existing file is replaced when the new one is whole.
    ///
    /// # Errors
    /// As of [`Sound::new`]; a file that cannot be written, or would be longer than 4 GiB.
    pub fn write_wav(&self, path: impl AsRef<Path>) -> Result<()> {
        self.check()?;
        let path = path.as_ref();
        let header = self.wav_header().ok_or(MediaError::TooLong { format: "WAV", path: path.to_path_buf() })?;
        let mut out = Output::create(path)?;
        out.put(&header)?;
        let (samples, mut bytes) = (self.samples(), Vec::new());
        for start in (0..samples).step_by(1 << 14) {
            bytes.clear();
            for at in start..samples.min(start + (1 << 14)) {
                let of_channel = |index: usize| self.data[index * samples + at].to_le_bytes();
                bytes.extend((0..self.channels).flat_map(of_channel));
            }
            out.put(&bytes)?;
        }
        out.commit().map(drop)
    }

    /// Returns the file before its samples; `None` of sound that is too long.
    fn wav_header(&self) -> Option<Vec<u8>> {
        let bytes = u32::try_from(self.data.len() as u64 * 4).ok()?;
        let (channels, frame) = (self.channels as u16, 4 * self.channels as u32);
        let mut header = b"RIFF".to_vec();
        header.extend(bytes.checked_add(50)?.to_le_bytes());
        header.extend(b"WAVEfmt \x12\0\0\0");
        header.extend(FLOAT.to_le_bytes());
        header.extend(channels.to_le_bytes());
        header.extend(self.rate.to_le_bytes());
        header.extend(self.rate.checked_mul(frame)?.to_le_bytes());
        header.extend((frame as u16).to_le_bytes());
        header.extend(32_u16.to_le_bytes());
        header.extend(0_u16.to_le_bytes()); // no extension
        header.extend(b"fact\x04\0\0\0");
        header.extend((self.samples() as u32).to_le_bytes());
        header.extend(b"data");
        header.extend(bytes.to_le_bytes());
        Some(header)
    }

    /// Reads a WAV file: whole numbers of 8, 16, 24 or 32 bits, or floats of 32 or 64.
    ///
    /// # Errors
    /// The file cannot be read, is damaged or no WAV file, or its samples are coded.
    pub fn read_wav(source: impl Into<Source>) -> Result<Self> {
        let source = source.into();
        let Opened::Stored(stored) = source.opened()? else {
            return Err(MediaError::Unsupported {
                path: source.label(),
                what: "it is frames in memory, not WAV".into(),
            });
        };
        let damaged = |what: &str| MediaError::Damaged { path: stored.path.clone(), what: what.into() };
        let mut file = stored.open()?;
        let failed = |error| stored.failed(error);
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let (mut at, mut format) = (12, None);
        let mut start = [0; 12];
        if len >= 12 {
            file.rewind().and_then(|()| file.read_exact(&mut start)).map_err(failed)?;
        }
        if (&start[..4], &start[8..]) != (b"RIFF", b"WAVE") {
            return Err(MediaError::Unsupported { path: stored.path.clone(), what: "it is no WAV file".into() });
        }
        for _ in 0..MAX_CHUNKS {
            if at + 8 > len {
                break;
            }
            let mut header = [0; 8];
            file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut header)).map_err(failed)?;
            let [kind @ .., a, b, c, d] = header;
            // Programs that write to a pipe do not know the length of the samples.
            let size = u64::from(u32::from_le_bytes([a, b, c, d])).min(len - at - 8);
            if &kind == b"fmt " {
                let mut bytes = vec![0; size.min(40) as usize];
                file.read_exact(&mut bytes).map_err(failed)?;
                format = Some(
                    Format::parse(&bytes)
                        .map_err(|what| MediaError::Unsupported { path: stored.path.clone(), what })?,
                );
            } else if &kind == b"data" {
                let format = format.ok_or_else(|| damaged("its samples come before their format"))?;
                let mut bytes = vec![0; size as usize];
                file.read_exact(&mut bytes).map_err(failed)?;
                return format.sound(&bytes);
            }
            at += 8 + size + size % 2;
        }
        Err(damaged("it has no samples"))
    }
}

/// What the chunk `fmt ` says.
#[derive(Clone, Copy)]
struct Format {
    is_float: bool,
    channels: usize,
    rate: u32,
    /// The bytes of a sample.
    bytes: usize,
}

impl Format {
    fn parse(chunk: &[u8]) -> Result<Self, String> {
        let number = |at: usize| chunk.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
        let (Some(mut tag), Some(channels), Some(low), Some(high), Some(bits)) =
            (number(0), number(2), number(4), number(6), number(14))
        else {
            return Err("the format of its samples is cut short".into());
        };
        if tag == EXTENSIBLE {
            tag = number(24).unwrap_or(tag);
        }
        let is_float = tag == FLOAT;
        let known = if is_float { matches!(bits, 32 | 64) } else { tag == WHOLE && matches!(bits, 8 | 16 | 24 | 32) };
        if !known {
            return Err(format!("its samples have format {tag} with {bits} bits"));
        }
        let channels = usize::from(channels);
        if channels == 0 || channels > MAX_CHANNELS {
            return Err(format!("it has {channels} channels, not 1 to {MAX_CHANNELS}"));
        }
        Ok(Self { is_float, channels, rate: u32::from(high) << 16 | u32::from(low), bytes: usize::from(bits / 8) })
    }

    fn sound(self, bytes: &[u8]) -> Result<Sound> {
        let Self { is_float, channels, rate, bytes: size } = self;
        let whole = bytes.len() / (size * channels) * size * channels;
        let value = |b: &[u8]| match (is_float, b) {
            (false, &[a]) => (f32::from(a) - 128.0) / 128.0,
            (false, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32768.0,
            // The lowest byte of 32 bits is below the precision of the result.
            (false, &[a, b, c] | &[_, a, b, c]) => i32::from_le_bytes([0, a, b, c]) as f32 / 2_147_483_648.0,
            (true, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (true, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            _ => 0.0,
        };
        let samples: Vec<f32> = bytes[..whole].chunks_exact(size).map(value).collect();
        Sound::of_interleaved(rate, channels, &samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sound.wav");
        for (channels, samples) in [(1, 0), (1, 7), (2, 40_000), (6, 3)] {
            let data = (0..channels * samples).map(|at| (at as f32 * 0.37).sin() * 1.5).collect();
            let sound = Sound::new(48_000, channels, data).unwrap();
            sound.write_wav(&path).unwrap();
            assert_eq!(Sound::read_wav(&path).unwrap(), sound);
            assert_eq!(path.metadata().unwrap().len(), 58 + 4 * (channels * samples) as u64);
        }
        assert!(matches!(
            Sound { rate: 8000, channels: 2, data: vec![0.0] }.write_wav(&path),
            Err(MediaError::Sound { .. })
        ));
    }

    #[test]
    fn whole_numbers_are_read_and_damage_is_an_error() {
        let file = |tag: u16, bits: u16, data: &[u8]| {
            let mut file = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0".to_vec();
            for number in [tag, 2, 8000, 0, 0, 0, 0, bits] {
                file.extend(number.to_le_bytes());
            }
            file.extend(b"LIST\x03\0\0\0abc\0data\xff\xff\xff\xff");
            file.extend(data);
            Sound::read_wav(file).map(|sound| sound.data)
        };
        assert_eq!(file(1, 8, &[128, 0, 192, 255]).unwrap(), [0.0, 0.5, -1.0, 127.0 / 128.0]);
        assert_eq!(file(1, 16, &[0, 0x80, 0, 0x40, 9]).unwrap(), [-1.0, 0.5]);
        assert_eq!(file(1, 24, &[0, 0, 0x80, 0, 0, 0x40]).unwrap(), [-1.0, 0.5]);
        assert_eq!(file(1, 32, &[1, 0, 0, 0x80, 0, 0, 0, 0x40]).unwrap(), [-1.0, 0.5]);
        assert_eq!(file(3, 64, &[[0.25_f64, -0.5].map(f64::to_le_bytes)].concat().concat()).unwrap(), [0.25, -0.5]);
        assert!(matches!(file(2, 4, &[0; 8]), Err(MediaError::Unsupported { .. })));
        assert!(matches!(file(3, 32, &f32::NAN.to_le_bytes().repeat(2)), Err(MediaError::SoundNotFinite { .. })));
        assert!(matches!(Sound::read_wav(b"RIFF\0\0\0\0WAVE".to_vec()), Err(MediaError::Damaged { .. })));
        assert!(matches!(Sound::read_wav(b"RIFF".to_vec()), Err(MediaError::Unsupported { .. })));
    }
}
