//! MP4 files with H.264, read with the embedded decoder: 8-bit 4:2:0, progressive.
//!
//! Samples are read and decoded one by one, in the order of the file. Decoded pictures wait until it is their turn to be
//! shown. Every sample must give one picture, so a picture is never taken for another, and a missing one is an error.

use crate::ClipReader;
use crate::clip::{ClipSpec, Frame};
use crate::container::MAX_MACROBLOCKS;
use crate::error::{MediaError, Result};
use crate::read::boxes::{NoIndex, read_index, visit};
use crate::read::colour::{Colour, LEFT, Yuv};
use crate::read::decoder::{Decoder, Picture};
use crate::read::facts::Facts;
#[cfg(not(feature = "ffmpeg"))]
use crate::read::heard::ProgramSound;
#[cfg(feature = "ffmpeg")]
use crate::read::libheard::LibrarySound;
use crate::read::refused::Refused;
use crate::read::samples::Sample;
use crate::read::sound;
use crate::read::sps::{Sps, is_b_slice};
use crate::read::track::{Take, Track};
use crate::read::turn::Turn;
use crate::read::usual_matrix;
use crate::sound::track::{Content, Foreign, SoundTrack};
use crate::stored::{self, Stored};
use shiguredo_mp4::boxes::Avc1Box;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

pub(crate) struct Mp4Reader {
    path: PathBuf,
    file: stored::Stream,
    track: Track,
    stream: Stream,
    sound: Option<SoundTrack>,
    decoder: Decoder,
    /// The number of the next sample to decode.
    fed: u32,
    /// The number of pictures that were returned.
    done: usize,
    /// The decoded pictures that wait to be shown, by the numbers of their samples.
    waiting: BTreeMap<u32, Picture>,
}

/// The properties of the stream in its parameter sets.
struct Stream {
    spec: ClipSpec,
    /// The width and height before turning.
    stored: (usize, usize),
    colour: Colour,
    turn: Turn,
    /// The number of bytes of the length before each NAL unit.
    length_size: usize,
    /// Sentences for the user.
    notes: Vec<String>,
    /// `pic_order_cnt_type`. The decoder approximates type 1, which only matters for B slices.
    order_count: u32,
    sps: Vec<u8>,
    /// The sequence and picture parameter sets, each after a start code.
    parameter_sets: Vec<u8>,
}

impl Mp4Reader {
    /// Opens an MP4 file. `ffmpeg` is the absolute path of the program that decodes sound of a coding that this crate does not.
    pub(crate) fn open(stored: &Stored, ffmpeg: Option<&Path>) -> Result<Self> {
        let (path, failed) = (stored.path.as_path(), |error| stored.failed(error));
        let mut file = stored.open()?;
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let no_index = |error| match error {
            NoIndex::Io(source) => failed(source),
            NoIndex::OtherFormat => Refused::Unsupported("it is no MP4 file".into()).of(path),
            NoIndex::Damaged(what) => Refused::Damaged(what).of(path),
        };
        let moov = read_index(&mut file, len).map_err(no_index)?;
        let mut unread = None;
        let track = Track::parse(&moov, len, |take| {
            let (result, error) = fragments(&mut file, len, take);
            unread = error;
            result
        });
        if let Some(error) = unread {
            return Err(no_index(error));
        }
        let track = track.map_err(|error| error.of(path))?;
        let mut stream = Stream::new(&track).map_err(|error| error.of(path))?;
        let seconds = track.order.len() as f64 / track.fps.as_f64();
        let sound = sound::parse(
            &moov,
            (stored, len),
            (track.start, seconds),
            |take| fragments(&mut file, len, take).0,
            |place, start| foreign(stored, ffmpeg, (place, start, seconds)),
        );
        let sound = sound.unwrap_or_else(|what| {
            stream.notes.push(format!("its sound is not read: {what}"));
            None
        });
        let sound = sound.map(|coded| SoundTrack(Content::Coded(Arc::new(coded))));
        let (path, decoder) = (path.to_path_buf(), Decoder::new());
        let waiting = BTreeMap::new();
        let mut reader = Self { path, file, track, stream, sound, decoder, fed: 0, done: 0, waiting };
        // A coding that the decoder lacks shows in the first picture, while another reader can still take over.
        reader.feed()?;
        Ok(reader)
    }

    /// Returns the next picture that is shown, or `None` after the last.
    fn next_picture(&mut self) -> Result<Option<Picture>> {
        let Some(&wanted) = self.track.order.get(self.done) else { return Ok(None) };
        while self.fed <= wanted {
            self.feed()?;
        }
        self.done += 1;
        Ok(self.waiting.remove(&wanted))
    }

    /// Decodes the next sample.
    fn feed(&mut self) -> Result<()> {
        let (number, sample) = (self.fed, self.track.samples[self.fed as usize]);
        let unit = self.access_unit(number, sample)?;
        let picture = self.decoder.decode(&unit).map_err(|reason| of_frame(number, reason).of(&self.path))?;
        let (got, expected) = ((picture.width, picture.height), self.stream.stored);
        if got != expected {
            return Err(MediaError::FrameSize { index: number.into(), got, expected });
        }
        if sample.shown {
            self.waiting.insert(number, picture);
        }
        self.fed += 1;
        Ok(())
    }

    /// Returns sample `number` in the decoder's input format.
    fn access_unit(&mut self, number: u32, Sample { offset, size, .. }: Sample) -> Result<Vec<u8>> {
        let mut sample = vec![0; size as usize];
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut sample));
        read.map_err(|source| MediaError::io("read", &self.path, source))?;
        let mut unit = if number == 0 { self.stream.parameter_sets.clone() } else { Vec::new() };
        self.stream.append(number, &sample, &mut unit).map_err(|error| error.of(&self.path))?;
        Ok(unit)
    }
}

/// Calls `take` with every fragment of the file. The second value is an error of reading.
fn fragments(file: &mut stored::Stream, len: u64, take: Take) -> (Result<(), Refused>, Option<NoIndex>) {
    let mut result = Ok(());
    let visited = visit(file, len, *b"moof", |start, moof| {
        result = take(start, &moof);
        result.is_ok()
    });
    (result, visited.err())
}

/// Returns what decodes the sound track of this number, from 0 on, in a file whose frames begin after `start` seconds.
#[cfg(not(feature = "ffmpeg"))]
fn foreign(
    stored: &Stored,
    ffmpeg: Option<&Path>,
    (place, start, seconds): (usize, f64, f64),
) -> Option<Arc<dyn Foreign>> {
    let ffmpeg = ffmpeg?.to_path_buf();
    let track = format!("0:a:{place}");
    Some(Arc::new(ProgramSound::new((stored, ffmpeg), track, 2, start, Some(seconds))))
}

#[cfg(feature = "ffmpeg")]
fn foreign(stored: &Stored, _: Option<&Path>, (_, start, seconds): (usize, f64, f64)) -> Option<Arc<dyn Foreign>> {
    Some(Arc::new(LibrarySound::new(stored, (48_000, 2), start, Some(seconds))))
}

impl ClipReader for Mp4Reader {
    fn spec(&self) -> ClipSpec {
        self.stream.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.track.order.len())
    }

    fn sound(&self) -> Option<SoundTrack> {
        self.sound.clone()
    }

    fn notes(&self) -> Vec<String> {
        self.track.note.iter().chain(&self.stream.notes).cloned().collect()
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let Some(Picture { width, height, planes }) = self.next_picture()? else { return Ok(None) };
        let planes = planes.map(|plane| plane.into_iter().map(u16::from).collect());
        let picture = Yuv { width, height, depth: 8, chroma_shift: [1, 1], centred: LEFT, planes };
        Ok(Some(self.stream.turn.apply(self.stream.colour.to_rgb(&picture))))
    }
}

impl Stream {
    fn new(track: &Track) -> Result<Self, Refused> {
        let avc = &track.avc;
        let config = &avc.avcc_box;
        let [sps] = config.sps_list.as_slice() else {
            let what = format!("it has {} sequence parameter sets, not one", config.sps_list.len());
            return Err(Refused::Unsupported(what));
        };
        let parsed = Sps::parse(sps).ok_or("its sequence parameter set is damaged")?;
        let notes = facts(&parsed, track).notes()?;
        check(&parsed)?;
        let matrix = Turn::from_matrix(track.matrix);
        let turn = matrix.ok_or_else(|| Refused::Unsupported("it is shown at an angle".into()))?;
        let stored = (parsed.width, parsed.height);
        let (width, height) = turn.size(parsed.width, parsed.height);
        let mut parameter_sets = Vec::new();
        for nal in config.sps_list.iter().chain(&config.pps_list) {
            parameter_sets.extend(START_CODE);
            parameter_sets.extend(nal);
        }
        Ok(Self {
            spec: ClipSpec { width, height, fps: track.fps },
            stored,
            colour: colour(&parsed, avc)?,
            turn,
            length_size: usize::from(config.length_size_minus_one.get()) + 1,
            notes,
            order_count: parsed.order_count,
            sps: sps.clone(),
            parameter_sets,
        })
    }

    /// Appends the slices of a sample and their parameter sets to `unit`, without the other NAL units.
    fn append(&self, number: u32, mut sample: &[u8], unit: &mut Vec<u8>) -> Result<(), Refused> {
        let before = unit.len();
        while !sample.is_empty() {
            let nal = sample.split_at_checked(self.length_size).and_then(|(length, rest)| {
                let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
                rest.split_at_checked(length)
            });
            let (nal, rest) = nal.ok_or_else(|| format!("frame {number} is cut short"))?;
            sample = rest;
            match nal.first().map(|header| header & 31) {
                Some(1) if self.order_count == 1 && is_b_slice(nal).unwrap_or(false) => {
                    return Err(Refused::Unsupported("its B-frames have picture order count type 1".into()));
                }
                Some(1 | 5 | 8) => {
                    unit.extend(START_CODE);
                    unit.extend(nal);
                }
                Some(2..=4) => return Err(Refused::Unsupported("its slices are in partitions".into())),
                Some(7) if nal != self.sps => {
                    return Err(Refused::Unsupported("its parameters change within the clip".into()));
                }
                _ => {}
            }
        }
        if unit.len() == before { Err(format!("frame {number} has no picture").into()) } else { Ok(()) }
    }
}

/// Checks that the embedded decoder supports the stream.
fn check(sps: &Sps) -> Result<(), Refused> {
    let &Sps { width, height, macroblocks, chroma_format, depth, .. } = sps;
    let what = if macroblocks > MAX_MACROBLOCKS {
        format!("its frames of {width}×{height} are larger than 4096×2304")
    } else if chroma_format != 1 {
        let names = ["monochrome", "4:2:0", "4:2:2", "4:4:4"];
        format!("its colours are {}, not 4:2:0", names.get(chroma_format as usize).unwrap_or(&"of an unknown kind"))
    } else if depth != [8, 8] {
        format!("it has {} bits per sample, not 8", depth[0].max(depth[1]))
    } else {
        return Ok(());
    };
    Err(Refused::Unsupported(what))
}

/// Returns the content of the first box of this kind in the sample entry.
fn extension(avc: &Avc1Box, kind: [u8; 4]) -> Option<&[u8]> {
    let found = avc.unknown_boxes.iter().find(|child| child.box_type.as_bytes() == kind);
    found.map(|child| child.payload.as_slice())
}

/// The colours that the file names (`colr`), as numbers of ITU-T H.273, and whether samples use all codes.
#[derive(Default)]
struct Named {
    primaries: Option<u8>,
    transfer: Option<u8>,
    matrix: Option<u8>,
    full_range: Option<bool>,
}

impl Named {
    fn of(avc: &Avc1Box) -> Self {
        let (all, full_range) = match extension(avc, *b"colr") {
            Some([b'n', b'c', b'l', b'x', _, p, _, t, _, m, range, ..]) => ([p, t, m], Some(range & 0x80 != 0)),
            Some([b'n', b'c', b'l', b'c', _, p, _, t, _, m, ..]) => ([p, t, m], None),
            _ => return Self::default(),
        };
        let [primaries, transfer, matrix] = all.map(|&number| Some(number));
        Self { primaries, transfer, matrix, full_range }
    }
}

/// Returns the first number that is there and not "unspecified": that of the stream, else that of the file.
fn first(numbers: [Option<u8>; 2]) -> Option<u8> {
    const UNSPECIFIED: u8 = 2;
    numbers.into_iter().flatten().find(|&number| number != UNSPECIFIED)
}

/// Returns what the stream and the file say beside the pictures.
fn facts(sps: &Sps, track: &Track) -> Facts {
    let named = Named::of(&track.avc);
    let of_file = extension(&track.avc, *b"pasp")
        .and_then(|pasp| pasp.first_chunk::<8>())
        .map(|&[a, b, c, d, e, f, g, h]| [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]);
    Facts {
        transfer: first([sps.transfer, named.transfer]),
        primaries: first([sps.primaries, named.primaries]),
        aspect: of_file.or(sps.aspect),
        interlaced: !sps.progressive,
        has_alpha: false,
        has_sound: false, // it is read
        tracks: track.tracks,
    }
}

/// Returns the colours that the stream describes, else those of the file (`colr`), else the usual ones.
fn colour(sps: &Sps, avc: &Avc1Box) -> Result<Colour, Refused> {
    let named = Named::of(avc);
    let matrix = first([sps.matrix, named.matrix]).unwrap_or_else(|| usual_matrix(sps.height));
    let full_range = sps.full_range.or(named.full_range).unwrap_or(false);
    Colour::new(matrix, full_range)
        .ok_or_else(|| Refused::Unsupported(format!("its colours have matrix {matrix} of ITU-T H.273")))
}

/// Returns the reason why frame `number` cannot be decoded.
fn of_frame(number: u32, reason: Refused) -> Refused {
    match reason {
        Refused::Damaged(what) => Refused::Undecodable(number.into(), what),
        Refused::Unsupported(what) => Refused::Unsupported(format!("frame {number} cannot be decoded ({what})")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};
    use std::fmt::Write;

    fn fixtures() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/media/h264")
    }

    /// Returns the number of the pictures of a file and the SHA-256 of their planes.
    fn decode(path: &Path) -> Result<(usize, String)> {
        let (mut reader, mut hash, mut count) = (Mp4Reader::open(&Stored::file(path), None)?, Sha256::new(), 0);
        while let Some(picture) = reader.next_picture()? {
            picture.planes.iter().for_each(|plane| hash.update(plane));
            count += 1;
        }
        assert!(reader.waiting.is_empty());
        let hex = hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        Ok((count, hex))
    }

    /// Returns the lines of `sha256.txt`: the hash that FFmpeg's pictures have, their number, and the file.
    fn golden() -> Vec<(String, usize, PathBuf)> {
        let list = std::fs::read_to_string(fixtures().join("sha256.txt")).unwrap();
        let line = |line: &str| {
            let [hash, count, name] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            (hash.into(), count.parse().unwrap(), fixtures().join(name))
        };
        list.lines().map(line).collect()
    }

    /// scripts/fixtures/h264.py makes the streams.
    #[test]
    fn pictures_are_those_of_ffmpeg_bit_for_bit() {
        let golden = golden();
        assert_eq!(golden.len(), 36);
        for (hash, count, path) in golden {
            assert_eq!(decode(&path).unwrap(), (count, hash), "{}", path.display());
        }
    }

    #[test]
    fn what_streams_say_beside_their_pictures_is_said_or_refused() {
        let open = |name: &str| Mp4Reader::open(&Stored::file(&fixtures().join(name)), None);
        assert!(matches!(open("interlaced.mp4"), Err(MediaError::Interlaced { .. })));
        let said = |name: &str| open(name).unwrap().notes().join("; ");
        assert_eq!(said("pyramid.mp4"), "");
        assert_eq!((said("sound.mp4").as_str(), open("sound.mp4").unwrap().sound().is_some()), ("", true));
        assert!(said("wide.mp4").starts_with("its pixels are 16:11"), "{}", said("wide.mp4"));
        assert!(said("uneven.mp4").contains("taken at an even"), "{}", said("uneven.mp4"));
        let turned = open("turned.mp4").unwrap().spec();
        assert_eq!((turned.width, turned.height), (48, 64));
    }

    /// Damage of any kind is an error, or pictures that are as many as the file says.
    #[test]
    fn damaged_streams_are_pictures_or_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged.mp4");
        let mut state = 0x2545_f491_u32;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as usize % below
        };
        let (mut whole, mut rounds) = (0, 0);
        for (_, count, original) in golden() {
            let bytes = std::fs::read(original).unwrap();
            for round in 0..10 {
                let mut bytes = bytes.clone();
                for _ in 0..=random(4) {
                    let at = random(bytes.len());
                    bytes[at] ^= 1 << random(8);
                }
                if round % 5 == 0 {
                    bytes.truncate(random(bytes.len()));
                }
                std::fs::write(&path, &bytes).unwrap();
                let read = decode(&path);
                assert!(read.as_ref().map_or(0, |(count, _)| *count) <= count.max(30), "{read:?}");
                (whole, rounds) = (whole + usize::from(read.is_ok()), rounds + 1);
            }
        }
        assert_eq!(rounds, 360);
        assert!(whole > 0 && whole < rounds, "{whole} of {rounds} damaged files could be read");
    }
}
