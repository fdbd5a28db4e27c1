//! The video track of an MP4 file: the place, time and coding of its samples.

use crate::clip::Fps;
use crate::read::boxes::{self, Child};
use crate::read::samples::{self, Sample};
use shiguredo_mp4::aux::SampleTableAccessor;
use shiguredo_mp4::boxes::{Avc1Box, EdtsBox, MvhdBox, SampleEntry, StblBox, SttsBox, TrakBox};
use shiguredo_mp4::{BaseBox, Decode};
use std::num::NonZeroU32;

/// The reason why a track cannot be read.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The file is damaged.
    Damaged(String),
    /// The file may be valid, but the embedded reader does not support it.
    Unsupported(String),
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
}

impl Track {
    /// Returns the first video track of the index `moov` in a file of `file_len` bytes.
    pub(crate) fn parse(moov: &[u8], file_len: u64) -> Result<Self, Refused> {
        let moov = boxes::children(moov)?;
        let movie = moov.iter().find(|child| &child.kind == b"mvhd").ok_or("it has no movie header (mvhd)")?;
        let (movie, _) = MvhdBox::decode(movie.whole).map_err(|error| error.to_string())?;
        let track = video_track(&moov)?.ok_or_else(|| Refused::Unsupported("it has no video track".into()))?;
        let (track, _) = TrakBox::decode(track).map_err(|error| error.to_string())?;
        let timescale = track.mdia_box.mdhd_box.timescale;
        let window = window(track.edts_box.as_ref(), timescale, movie.timescale)?;
        let matrix = track.tkhd_box.matrix;
        let table = track.mdia_box.minf_box.stbl_box;
        if table.stts_box.entries.is_empty() && boxes::find(&moov, *b"mvex").is_some() {
            return Err(Refused::Unsupported("its index is in fragments".into()));
        }
        let table = SampleTableAccessor::new(table).map_err(|error| error.to_string())?;
        let mut samples = samples::of_table(&table, file_len)?;
        samples::check(&samples, file_len)?;
        let avc = avc(&table)?.clone();
        let order = samples::show(&mut samples, window)?;
        if order.is_empty() {
            return Err("it has no frames".into());
        }
        let fps = speed(&table.stbl_box().stts_box, timescale)?;
        Ok(Self { samples, order, avc, fps, matrix })
    }
}

/// Returns the decoder configuration of the samples, if they are H.264 with the parameter sets in the index.
fn avc(table: &SampleTableAccessor<StblBox>) -> Result<&Avc1Box, Refused> {
    let other = match table.samples().next().map(|sample| sample.chunk().sample_entry()) {
        Some(SampleEntry::Avc1(avc)) => return Ok(avc),
        Some(other) => other.box_type(),
        None => return Err("it has no frames".into()),
    };
    Err(Refused::Unsupported(format!("its video is {other}, not H.264 as in `avc1`")))
}

/// Returns the first video track, as a whole box.
fn video_track<'a>(moov: &[Child<'a>]) -> Result<Option<&'a [u8]>, String> {
    for track in moov.iter().filter(|child| &child.kind == b"trak") {
        let media = boxes::find(&boxes::children(track.payload)?, *b"mdia").ok_or("a track has no media (mdia)")?;
        let handler = boxes::find(&boxes::children(media)?, *b"hdlr").ok_or("a track has no handler (hdlr)")?;
        if handler.get(8..12) == Some(b"vide") {
            return Ok(Some(track.whole));
        }
    }
    Ok(None)
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

/// Returns the frames per second. The duration of the last frame is ignored, because it is arbitrary in many files.
fn speed(times: &SttsBox, timescale: NonZeroU32) -> Result<Fps, Refused> {
    let runs = times.entries.iter().map(|entry| (u64::from(entry.sample_count), entry.sample_delta));
    let mut runs: Vec<(u64, u32)> = runs.filter(|&(count, _)| count > 0).collect();
    if let Some((count, _)) = runs.last_mut().filter(|(count, _)| *count > 1) {
        *count -= 1;
    } else if runs.len() > 1 {
        runs.pop();
    }
    let (least, most) =
        runs.iter().fold((u32::MAX, 0), |(least, most), &(_, ticks)| (least.min(ticks), most.max(ticks)));
    let frames: u64 = runs.iter().map(|&(count, _)| count).sum();
    let ticks: u64 = runs.iter().map(|&(count, ticks)| count * u64::from(ticks)).sum();
    let scale = f64::from(timescale.get());
    let mean = frames as f64 * scale / ticks.max(1) as f64;
    let exact = if least == most { Fps::new(timescale.get(), least).ok() } else { None };
    // Times rounded to ticks: the usual number that rounds to them.
    let error = mean / ticks.max(1) as f64;
    let usual = [mean.round(), (mean * 1.001).round() / 1.001].into_iter();
    let mut usual = usual.filter(|fps| most - least <= 1 && (fps - mean).abs() <= error);
    let fps = exact.or_else(|| Fps::from_f64(usual.next()?).ok()).or_else(|| Fps::from_f64(mean).ok());
    fps.ok_or_else(|| format!("its frames last {least} to {most} ticks of 1/{timescale} s").into())
}
