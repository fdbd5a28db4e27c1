//! The video track of an MP4 file: the place, time and coding of its samples.

use crate::clip::Fps;
use crate::read::boxes::{self, Child};
use crate::read::fragments::Fragments;
use crate::read::samples::{self, Sample};
use crate::read::uneven;
use shiguredo_mp4::aux::SampleTableAccessor;
use shiguredo_mp4::boxes::{Avc1Box, EdtsBox, MvhdBox, SampleEntry, StblBox, TrakBox};
use shiguredo_mp4::{BaseBox, Decode};
use std::num::NonZeroU32;

/// The reason why a track cannot be read.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The file is damaged.
    Damaged(String),
    /// The file may be valid, but the embedded reader does not support it.
    Unsupported(String),
    /// The brightness is coded for displays of a high dynamic range, by the curve of this name.
    HighDynamicRange(&'static str),
}

impl<T: Into<String>> From<T> for Refused {
    fn from(what: T) -> Self {
        Self::Damaged(what.into())
    }
}

pub(crate) struct Track {
    /// The samples, in the order of decoding.
    pub(crate) samples: Vec<Sample>,
    /// The numbers of the shown samples, in the order in which they are shown.
    pub(crate) order: Vec<u32>,
    /// The decoder configuration of the samples.
    pub(crate) avc: Avc1Box,
    pub(crate) fps: Fps,
    /// The turn of the track's display matrix.
    pub(crate) matrix: [i32; 9],
    /// Sentences for the user.
    pub(crate) notes: Vec<String>,
}

impl Track {
    /// Returns the first video track of the index `moov` in a file of `file_len` bytes. `fragments` calls a function with
    /// the start and the content of every fragment (`moof`) of the file.
    pub(crate) fn parse(
        moov: &[u8],
        file_len: u64,
        fragments: impl FnOnce(Take) -> Result<(), Refused>,
    ) -> Result<Self, Refused> {
        let moov = boxes::children(moov)?;
        let movie = moov.iter().find(|child| &child.kind == b"mvhd").ok_or("it has no movie header (mvhd)")?;
        let (movie, _) = MvhdBox::decode(movie.whole).map_err(|error| error.to_string())?;
        let (track, has_sound) = tracks(&moov)?;
        let track = track.ok_or_else(|| Refused::Unsupported("it has no video track".into()))?;
        let (track, _) = TrakBox::decode(track).map_err(|error| error.to_string())?;
        let timescale = track.mdia_box.mdhd_box.timescale;
        let window = window(track.edts_box.as_ref(), timescale, movie.timescale)?;
        let (number, matrix) = (track.tkhd_box.track_id, track.tkhd_box.matrix);
        let table = track.mdia_box.minf_box.stbl_box;
        let avc = avc(&table)?.clone();
        let times = &table.stts_box.entries;
        let end = times
            .iter()
            .map(|entry| u64::from(entry.sample_count) * u64::from(entry.sample_delta))
            .fold(0, u64::saturating_add);
        let usual = times.first().map_or(0, |entry| entry.sample_delta);
        let table = SampleTableAccessor::new(table).map_err(|error| error.to_string())?;
        let mut samples = samples::of_table(&table, file_len)?;
        if let Some(mvex) = boxes::find(&moov, *b"mvex") {
            let mut found = Fragments::new(mvex, number, end, file_len)?;
            fragments(&mut |start, moof| found.add(moof, start, &mut samples))?;
        }
        samples::check(&samples, file_len)?;
        let order = samples::show(&mut samples, window)?;
        if order.is_empty() {
            return Err("it has no frames".into());
        }
        let times: Vec<i64> = order.iter().map(|&at| samples[at as usize].time).collect();
        let (fps, mut notes) = speed(&times, usual, timescale)?;
        notes.extend(has_sound.then(|| "its sound is not read".to_owned()));
        Ok(Self { samples, order, avc, fps, matrix, notes })
    }
}

/// Takes the start and the content of a fragment.
pub(crate) type Take<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), Refused>;

/// Returns the decoder configuration of the samples, if they are H.264 with the parameter sets in the index.
fn avc(table: &StblBox) -> Result<&Avc1Box, Refused> {
    let other = match table.stsd_box.entries.first() {
        Some(SampleEntry::Avc1(avc)) => return Ok(avc),
        Some(other) => other.box_type(),
        None => return Err("it has no frames".into()),
    };
    Err(Refused::Unsupported(format!("its video is {other}, not H.264 as in `avc1`")))
}

/// Returns the first video track, as a whole box, and whether there is a track of sound.
fn tracks<'a>(moov: &[Child<'a>]) -> Result<(Option<&'a [u8]>, bool), String> {
    let (mut video, mut has_sound) = (None, false);
    for track in moov.iter().filter(|child| &child.kind == b"trak") {
        let media = boxes::find(&boxes::children(track.payload)?, *b"mdia").ok_or("a track has no media (mdia)")?;
        let handler = boxes::find(&boxes::children(media)?, *b"hdlr").ok_or("a track has no handler (hdlr)")?;
        match handler.get(8..12) {
            Some(b"vide") => video = video.or(Some(track.whole)),
            Some(b"soun") => has_sound = true,
            _ => {}
        }
    }
    Ok((video, has_sound))
}

/// Returns the range of times in which samples are shown, in ticks of the track.
fn window(edits: Option<&EdtsBox>, track: NonZeroU32, movie: NonZeroU32) -> Result<(i64, i64), Refused> {
    let entries = edits.and_then(|edits| edits.elst_box.as_ref()).map_or(&[][..], |list| &list.entries);
    let mut shown = entries.iter().filter(|entry| entry.media_time >= 0);
    let (first, second) = (shown.next(), shown.next());
    if second.is_some() {
        return Err(Refused::Unsupported("its frames are shown in more than one piece (edit list)".into()));
    }
    let Some(edit) = first else { return Ok((i64::MIN, i64::MAX)) };
    if edit.edit_duration == 0 {
        return Ok((edit.media_time, i64::MAX));
    }
    let ticks = (u128::from(edit.edit_duration) * u128::from(track.get())).div_ceil(u128::from(movie.get()));
    let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
    Ok((edit.media_time, edit.media_time.saturating_add(ticks)))
}

/// Returns the frames per second of frames that are shown at `times`, and a note if they are shown for different times. The
/// duration of the last frame is ignored, because it is arbitrary in many files; a single frame has the duration `usual`.
fn speed(times: &[i64], usual: u32, timescale: NonZeroU32) -> Result<(Fps, Vec<String>), Refused> {
    let ticks = |(early, late): (&i64, &i64)| late.saturating_sub(*early).unsigned_abs();
    let single = [u64::from(usual)];
    let lengths: Vec<u64> = times.iter().zip(&times[1..]).map(ticks).collect();
    let lengths = if lengths.is_empty() { &single[..] } else { &lengths };
    let (least, most) = (lengths.iter().min().copied().unwrap_or(0), lengths.iter().max().copied().unwrap_or(0));
    let total = lengths.iter().fold(0_u64, |total, &ticks| total.saturating_add(ticks)).max(1);
    let scale = f64::from(timescale.get());
    let mean = lengths.len() as f64 * scale / total as f64;
    let exact = u32::try_from(least).ok().filter(|_| least == most);
    let exact = exact.and_then(|ticks| Fps::new(timescale.get(), ticks).ok());
    // Times rounded to ticks: the usual number that rounds to them.
    let error = mean / total as f64;
    let usual = [mean.round(), (mean * 1.001).round() / 1.001].into_iter();
    let mut usual = usual.filter(|fps| most - least <= 1 && (fps - mean).abs() <= error);
    let fps = exact.or_else(|| Fps::from_f64(usual.next()?).ok()).or_else(|| Fps::from_f64(mean).ok());
    let fps = fps.ok_or_else(|| format!("its frames last {least} to {most} ticks of 1/{timescale} s"))?;
    let note = uneven(least, most, scale, fps);
    Ok((fps, note.into_iter().collect()))
}
