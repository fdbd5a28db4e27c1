//! MP4 files with H.264, read with the embedded decoder: 8-bit 4:2:0, progressive, no B-frames.
//!
//! `OpenH264` is exact for I and P slices of the baseline to high profiles. It deblocks B slices wrongly
//! (<https://github.com/cisco/openh264/issues/3269>), with errors that grow from frame to frame, so files with B slices are
//! refused. Samples are read and decoded one by one. The decoder returns the number of its sample with every picture, so a
//! picture is never taken for another, and a missing one is an error.

use crate::ClipReader;
use crate::clip::{ClipSpec, Frame};
use crate::error::{MediaError, Result};
use crate::openh264::MAX_MACROBLOCKS;
use crate::read::boxes::{NoIndex, read_index};
use crate::read::colour::{Colour, Yuv};
use crate::read::decoder::{Decoded, Decoder};
use crate::read::sps::{Sps, is_b_slice};
use crate::read::track::{B_FRAMES, Refused, Sample, Track};
use crate::read::turn::Turn;
use crate::read::usual_matrix;
use shiguredo_mp4::boxes::Avc1Box;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The most bytes of a coded picture that the decoder takes.
const MAX_SAMPLE: usize = 7_000_000;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

pub(crate) struct Mp4Reader {
    path: PathBuf,
    file: File,
    track: Track,
    stream: Stream,
    decoder: Decoder,
    /// The number of the next sample to decode.
    fed: u32,
    /// The number of the sample of the next picture.
    next: u32,
    /// The decoded pictures that were not returned yet.
    ready: VecDeque<Decoded>,
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
    sps: Vec<u8>,
    /// The sequence and picture parameter sets, each after a start code.
    parameter_sets: Vec<u8>,
}

impl Mp4Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |source| MediaError::io("read", path, source);
        let mut file = File::open(path).map_err(failed)?;
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let moov = read_index(&mut file, len).map_err(|error| match error {
            NoIndex::Io(source) => failed(source),
            NoIndex::OtherFormat => refused(path, Refused::Unsupported("it is no MP4 file".into())),
            NoIndex::Damaged(what) => refused(path, Refused::Damaged(what)),
        })?;
        let track = Track::parse(&moov, len).map_err(|error| refused(path, error))?;
        let stream = Stream::new(&track).map_err(|error| refused(path, error))?;
        let decoder = Decoder::new().map_err(|message| MediaError::encoder("openh264", "start", message))?;
        let path = path.to_path_buf();
        Ok(Self { path, file, track, stream, decoder, fed: 0, next: 0, ready: VecDeque::new() })
    }

    /// Returns the picture of the next sample, shown or not.
    fn next_picture(&mut self) -> Result<Yuv> {
        loop {
            if let Some(Decoded { number, picture }) = self.ready.pop_front() {
                if number != u64::from(self.next) {
                    return Err(self.refused(format!("frame {} has no picture", self.next).into()));
                }
                let got = (picture.width, picture.height);
                if got != self.stream.stored {
                    return Err(MediaError::FrameSize { index: number, got, expected: self.stream.stored });
                }
                self.next += 1;
                return Ok(picture);
            }
            self.advance()?;
        }
    }

    /// Decodes the next sample or, after the last one, flushes the decoder.
    fn advance(&mut self) -> Result<()> {
        let mut decoded = Vec::new();
        let number = self.fed;
        let result = if let Some(Sample { offset, size }) = self.track.sample(number) {
            self.fed += 1;
            let unit = self.access_unit(number, offset, size)?;
            self.decoder.decode(u64::from(number), &unit, &mut decoded)
        } else {
            let flushed = self.decoder.flush();
            flushed.and_then(|picture| picture.ok_or("there is none".into())).map(|picture| decoded.push(picture))
        };
        self.ready.extend(decoded);
        result.map_err(|message| {
            let what = format!("the picture of frame {} cannot be decoded ({message})", self.next);
            self.refused(format!("{what}: it is damaged, or coded in a way that needs FFmpeg").into())
        })
    }

    /// Returns sample `number` in the decoder's input format.
    fn access_unit(&mut self, number: u32, offset: u64, size: usize) -> Result<Vec<u8>> {
        if size > MAX_SAMPLE {
            let what = format!("frame {number} has {size} bytes, the embedded decoder takes {MAX_SAMPLE}");
            return Err(self.refused(Refused::Unsupported(what)));
        }
        let mut sample = vec![0; size];
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut sample));
        read.map_err(|source| MediaError::io("read", &self.path, source))?;
        let mut unit = if number == 0 { self.stream.parameter_sets.clone() } else { Vec::new() };
        self.stream.append(number, &sample, &mut unit).map_err(|error| self.refused(error))?;
        Ok(unit)
    }

    fn refused(&self, reason: Refused) -> MediaError {
        refused(&self.path, reason)
    }
}

impl ClipReader for Mp4Reader {
    fn spec(&self) -> ClipSpec {
        self.stream.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.track.shown.len())
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        if self.next >= self.track.shown.end {
            return Ok(None);
        }
        while self.next < self.track.shown.start {
            self.next_picture()?;
        }
        let picture = self.next_picture()?;
        Ok(Some(self.stream.turn.apply(self.stream.colour.to_rgb(&picture))))
    }
}

impl Stream {
    fn new(track: &Track) -> Result<Self, Refused> {
        let avc = track.avc()?;
        let config = &avc.avcc_box;
        let [sps] = config.sps_list.as_slice() else {
            let what = format!("it has {} sequence parameter sets, not one", config.sps_list.len());
            return Err(Refused::Unsupported(what));
        };
        let parsed = Sps::parse(sps).ok_or("its sequence parameter set is damaged")?;
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
                Some(1) if is_b_slice(nal).unwrap_or(false) => return Err(Refused::Unsupported(B_FRAMES.into())),
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
    let &Sps { width, height, macroblocks, chroma_format, depth, progressive, .. } = sps;
    let what = if macroblocks > MAX_MACROBLOCKS {
        format!("its frames of {width}×{height} are larger than 4096×2304")
    } else if chroma_format != 1 {
        let names = ["monochrome", "4:2:0", "4:2:2", "4:4:4"];
        format!("its colours are {}, not 4:2:0", names.get(chroma_format as usize).unwrap_or(&"of an unknown kind"))
    } else if depth != [8, 8] {
        format!("it has {} bits per sample, not 8", depth[0].max(depth[1]))
    } else if !progressive {
        "it is interlaced".into()
    } else {
        return Ok(());
    };
    Err(Refused::Unsupported(what))
}

/// Returns the colours that the stream describes, else those of the file (`colr`), else the usual ones.
fn colour(sps: &Sps, avc: &Avc1Box) -> Result<Colour, Refused> {
    const UNSPECIFIED: u8 = 2;
    let tag = avc.unknown_boxes.iter().find(|child| child.box_type.as_bytes() == b"colr");
    let tag = tag.map(|child| child.payload.as_slice());
    let (matrix, full_range) = match tag {
        Some(&[b'n', b'c', b'l', b'x', _, _, _, _, _, matrix, range, ..]) => (Some(matrix), Some(range & 0x80 != 0)),
        Some(&[b'n', b'c', b'l', b'c', _, _, _, _, _, matrix, ..]) => (Some(matrix), None),
        _ => (None, None),
    };
    let named = [sps.matrix, matrix].into_iter().flatten().find(|&matrix| matrix != UNSPECIFIED);
    let matrix = named.unwrap_or_else(|| usual_matrix(sps.height));
    let full_range = sps.full_range.or(full_range).unwrap_or(false);
    Colour::new(matrix, full_range)
        .ok_or_else(|| Refused::Unsupported(format!("its colours have matrix {matrix} of ITU-T H.273")))
}

fn refused(path: &Path, reason: Refused) -> MediaError {
    let path = path.to_path_buf();
    match reason {
        Refused::Damaged(what) => MediaError::Damaged { path, what },
        Refused::Unsupported(what) => MediaError::Unsupported { path, what },
    }
}
