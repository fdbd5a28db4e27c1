//! Files that the program `ffmpeg` reads: the second reader, for what the embedded one does not support.
//!
//! `ffprobe` says what is in the file; `ffmpeg` writes its pictures to a pipe as they are stored, and this crate converts their
//! colours. Both get the file by its name after `file:`, and may open nothing but files.

use crate::ClipReader;
use crate::clip::{ClipSpec, Frame};
use crate::error::{MediaError, Result};
use crate::read::colour::{Colour, Yuv};
use crate::read::heard::ProgramSound;
use crate::read::packets::Packets;
use crate::read::probe::Probe;
use crate::read::refused::Refused;
use crate::read::running::{QUIET, Running};
use crate::read::shown;
use crate::read::turn::Turn;
use crate::read::y4m::Header;
use crate::sound::track::{Content, SoundTrack};
use crate::stored::Stored;
use std::env::consts::EXE_SUFFIX;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempPath;

/// The longest description of a file that is read.
const MAX_DESCRIPTION: u64 = 4 << 20;

pub(crate) struct ProgramReader {
    path: PathBuf,
    program: Running,
    header: Header,
    spec: ClipSpec,
    colour: Colour,
    centred: [bool; 2],
    turn: Turn,
    /// The number of frames, where the file has it.
    frames: Option<usize>,
    done: usize,
    sound: Option<SoundTrack>,
    notes: Vec<String>,
    /// The file of bytes in memory, which goes with the reader.
    _own: Option<TempPath>,
}

impl ProgramReader {
    /// Opens a clip with the program `ffmpeg`, because the embedded reader does not, for the reason `why`.
    pub(crate) fn open(in_file: &Stored, ffmpeg: &Path, why: &str) -> Result<Self> {
        let (file, own) = in_file.on_disk()?;
        let path = in_file.path.as_path();
        let mut url = OsString::from("file:");
        url.push(file);
        let ffprobe = ffmpeg.with_file_name(format!("ffprobe{EXE_SUFFIX}"));
        let probe = probe(&ffprobe, &url, path, why)?;
        let packets = packets(&ffprobe, &url, probe.track).map_err(|what| failed(path, what))?;
        let facts = probe.facts.notes().map_err(|reason| reason.of(path))?;
        let (fps, uneven) = packets.pace(probe.unit, probe.rate).map_err(|reason| reason.of(path))?;
        let frames = Some(packets.count).filter(|_| probe.is_picture_by_packet);
        let mut program = start(ffmpeg, &url, &probe).map_err(|what| failed(path, what))?;
        let header = Header::read(program.output());
        let header = header.map_err(|error| failed(path, broken(&mut program, &error)))?;
        if header.interlaced {
            return Err(Refused::Interlaced.of(path));
        }
        let (stored, written) = (probe.stored, (header.width, header.height));
        if written != stored {
            let what = format!("it gives {}×{} for frames of {}×{}", written.0, written.1, stored.0, stored.1);
            return Err(failed(path, what));
        }
        let (width, height) = probe.turn.size(stored.0, stored.1);
        let seconds = frames.map(|frames| frames as f64 / fps.as_f64());
        let sound = probe.sound.map(|(track, channels)| {
            let heard =
                ProgramSound::new((in_file, ffmpeg.into()), format!("0:{track}"), channels, probe.start, seconds);
            SoundTrack(Content::Foreign(Arc::new(heard)))
        });
        let mut notes = vec![format!("read by ffmpeg {}", shown(&probe.version.chars().take(40).collect::<String>()))];
        notes.extend(uneven.into_iter().chain(facts));
        Ok(Self {
            path: path.to_path_buf(),
            program,
            spec: ClipSpec { width, height, fps },
            colour: header.full_range.map_or(probe.colour, |full_range| probe.colour.of_range(full_range)),
            header,
            centred: probe.centred,
            turn: probe.turn,
            sound,
            frames,
            done: 0,
            notes,
            _own: own,
        })
    }

    /// Returns what is wrong with a stream that ended, if anything.
    fn end(&mut self) -> Result<()> {
        let done = self.done;
        let what = match (self.program.finish(), self.frames) {
            (Err(what), _) => format!("after {done} frames, {what}"),
            (Ok(_), Some(frames)) if done < frames => format!("it gives {done} of {frames} frames"),
            (Ok(_), _) if done == 0 => "it gives no frames".into(),
            (Ok(_), _) => return Ok(()),
        };
        Err(failed(&self.path, what))
    }
}

impl ClipReader for ProgramReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    fn frames(&self) -> Option<usize> {
        self.frames
    }

    fn sound(&self) -> Option<SoundTrack> {
        self.sound.clone()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let planes = match self.header.read_picture(self.program.output()) {
            Ok(Some(planes)) => planes,
            Ok(None) => return self.end().map(|()| None),
            Err(error) => {
                let what = broken(&mut self.program, &error);
                return Err(failed(&self.path, format!("after {} frames, {what}", self.done)));
            }
        };
        let Header { width, height, depth, chroma_shift, .. } = self.header;
        let chroma_shift = chroma_shift.unwrap_or([0, 0]);
        self.done += 1;
        let picture = Yuv { width, height, depth, chroma_shift, centred: self.centred, planes };
        Ok(Some(self.turn.apply(self.colour.to_rgb(&picture))))
    }
}

fn failed(path: &Path, what: String) -> MediaError {
    MediaError::Ffmpeg { path: path.to_path_buf(), what }
}

/// Returns the reason why the stream of a program breaks off with this error.
fn broken(program: &mut Running, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => program.finish().err().unwrap_or_else(|| "its pictures break off".into()),
        _ => "what it writes are no pictures".into(),
    }
}

/// Returns what `ffprobe` says of the file.
fn probe(ffprobe: &Path, url: &OsStr, path: &Path, why: &str) -> Result<Probe> {
    let args = ["-show_program_version", "-show_streams", "-of", "json"];
    let args: Vec<&OsStr> = QUIET.iter().chain(&args).map(OsStr::new).chain([url]).collect();
    let mut program = Running::start(ffprobe, &args).map_err(|what| failed(path, what))?;
    let mut json = Vec::new();
    let read = program.output().take(MAX_DESCRIPTION).read_to_end(&mut json);
    if read.is_err() || json.len() as u64 == MAX_DESCRIPTION {
        return Err(failed(path, "ffprobe's description of it is too long".into()));
    }
    if let Err(what) = program.finish() {
        let what = format!("{why}, and ffprobe cannot read it: {what}");
        return Err(Refused::Unsupported(what).of(path));
    }
    Probe::parse(&json).map_err(|reason| reason.of(path))
}

/// Returns the packets of a track. A complaint means that some are missing.
fn packets(ffprobe: &Path, url: &OsStr, track: u64) -> Result<Packets, String> {
    let track = track.to_string();
    let args = ["-select_streams", &track, "-show_entries", "packet=pts,flags", "-of", "csv=p=0"];
    let args: Vec<&OsStr> = QUIET.iter().chain(&args).map(OsStr::new).chain([url]).collect();
    let mut program = Running::start(ffprobe, &args)?;
    let mut packets = Packets::default();
    loop {
        let mut line = Vec::new();
        let read = program.output().take(1024).read_until(b'\n', &mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.trim().split(',');
        // A time or `N/A`, then flags: keyframe, discarded. Other lines are those of other tables.
        if let (Some(time), Some(flags)) = (fields.next(), fields.next())
            && flags.starts_with(['K', '_'])
        {
            packets.add(time.parse().ok(), flags.starts_with('K'), !flags.contains('D'));
        }
    }
    match program.finish()?.as_str() {
        "" => Ok(packets),
        said => Err(format!("ffprobe says: {said}")),
    }
}

/// Starts `ffmpeg`, which writes every picture once. Their times are known already; they are replaced, because the stream's
/// format has no room for uneven ones.
fn start(ffmpeg: &Path, url: &OsStr, probe: &Probe) -> Result<Running, String> {
    let map = format!("0:{}", probe.track);
    let (format, is_converted) = &probe.pixels;
    let passthrough = if is_old(&probe.version) { ["-vsync", "passthrough"] } else { ["-fps_mode", "passthrough"] };
    let mut args: Vec<&OsStr> = QUIET.iter().map(OsStr::new).collect();
    args.extend(["-xerror", "-nostdin", "-noautorotate", "-i"].map(OsStr::new));
    args.push(url);
    args.extend(["-map", &map, "-an", "-sn", "-dn", "-vf", "setpts=N*1000/TB"].map(OsStr::new));
    args.extend(passthrough.map(OsStr::new));
    if *is_converted {
        args.extend(["-pix_fmt", format].map(OsStr::new));
    }
    args.extend(["-f", "yuv4mpegpipe", "-strict", "-1", "-"].map(OsStr::new));
    Running::start(ffmpeg, &args)
}

/// Returns whether the version is before 5.1, which has another name for one option. Versions of development are no numbers.
fn is_old(version: &str) -> bool {
    let mut numbers = version.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), minor) => (major, minor.unwrap_or(0)) < (5_u32, 1_u32),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let old = ["4.4.2-0ubuntu0.22.04.1", "5.0", "2.8.15"].map(is_old);
        let new = ["5.1.9-0+deb12u1", "6.0", "7", "N-109468-gd39b34123d", "git-2024-01-01", ""].map(is_old);
        assert_eq!((old, new), ([true; 3], [false; 6]));
    }
}
