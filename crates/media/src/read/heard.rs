//! Sound that the program `ffmpeg` decodes: stereo or mono at 48 kHz, through a pipe.

use crate::error::{MediaError, Result};
use crate::read::running::{QUIET, Running};
use crate::sound::Sound;
use crate::sound::track::{Foreign, MAX_VALUES};
use crate::stored::Stored;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::PathBuf;

/// The sample rate that comes out, which is that of Opus.
const RATE: u32 = 48_000;

/// The sound of a file, not decoded yet.
#[derive(Debug)]
pub(crate) struct ProgramSound {
    stored: Stored,
    ffmpeg: PathBuf,
    track: String,
    channels: usize,
    start: f64,
    seconds: Option<f64>,
}

impl ProgramSound {
    /// Returns the sound of a track, which has a name of the program: `0:a:0`. The program is there by its absolute path; more
    /// than two channels are mixed down; the first frame is shown at the time `start`, and all frames for `seconds`, if that is
    /// known.
    pub(crate) fn new(
        (stored, ffmpeg): (&Stored, PathBuf),
        track: String,
        channels: usize,
        start: f64,
        seconds: Option<f64>,
    ) -> Self {
        Self { stored: stored.clone(), ffmpeg, track, channels, start, seconds }
    }
}

impl Foreign for ProgramSound {
    fn kind(&self) -> (u32, usize) {
        (RATE, self.channels.clamp(1, 2))
    }

    fn decoded(&self) -> Result<Sound> {
        let failed = |what: String| MediaError::Ffmpeg {
            path: self.stored.path.clone(),
            what: format!("its sound cannot be decoded: {what}"),
        };
        let (file, _own) = self.stored.on_disk()?;
        let mut url = OsString::from("file:");
        url.push(file);
        let (rate, channels) = self.kind();
        let (first, of_rate, of_channels) = (first_sample(self.start), rate.to_string(), channels.to_string());
        let filter = format!("aresample={rate}:async=1:first_pts={first}");
        let mut args: Vec<&OsStr> = QUIET.iter().map(OsStr::new).collect();
        args.extend(["-nostdin", "-copyts", "-i"].map(OsStr::new));
        args.push(&url);
        args.extend(["-map", &self.track, "-vn", "-sn", "-dn", "-af", &filter].map(OsStr::new));
        args.extend(["-ar", &of_rate, "-ac", &of_channels, "-f", "f32le", "-"].map(OsStr::new));
        let mut program = Running::start(&self.ffmpeg, &args).map_err(failed)?;
        let wanted = self.seconds.map(|seconds| (seconds * f64::from(rate)).round() as usize * channels);
        let most = wanted.unwrap_or(MAX_VALUES).min(MAX_VALUES);
        let mut bytes = Vec::new();
        let read = program.output().take(4 * most as u64).read_to_end(&mut bytes);
        read.map_err(|error| failed(error.to_string()))?;
        if bytes.len() == 4 * MAX_VALUES {
            return Err(failed("it is too long".into()));
        }
        // A program that has more to say than is wanted is ended.
        if bytes.len() < 4 * most {
            program.finish().map_err(failed)?;
        }
        let whole = bytes.len() / (4 * channels) * 4 * channels;
        let values = bytes[..whole].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Sound::of_interleaved(rate, channels, &values.collect::<Vec<_>>())
    }
}

/// Returns the number of the sample at a time in seconds.
fn first_sample(seconds: f64) -> i64 {
    (seconds * f64::from(RATE)).round() as i64
}
