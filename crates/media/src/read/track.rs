//! The video track of an MP4 file: the place, time and coding of its samples.

use crate::clip::Fps;
use crate::read::boxes::{self, Child};
use crate::read::facts::speed;
use crate::read::fragments::Fragments;
use crate::read::refused::Refused;
use crate::read::samples::{self, Sample};
use shiguredo_mp4::aux::SampleTableAccessor;
use shiguredo_mp4::boxes::{Avc1Box, EdtsBox, MvhdBox, SampleEntry, StblBox, TrakBox};
use shiguredo_mp4::{BaseBox, Decode};
use std::num::NonZeroU32;

pub(crate) struct Track {
    /// The samples, in the order of decoding.
    pub(crate) samples: Vec<Sample>,
    /// The numbers of the shown samples, in the order in which they are shown.
    pub(crate) order: Vec<u32>,
    /// The decoder configuration of the samples.
    pub(crate) avc: Avc1Box,
    pub(crate) fps: Fps,
    /// The time at which the first frame is shown, in seconds, without that of an empty edit before it.
    pub(crate) start: f64,
    /// The turn of the track's display matrix.
    pub(crate) matrix: [i32; 9],
    /// A sentence for the user about an uneven speed.
    pub(crate) note: Option<String>,
    /// The number of video tracks in the file, without cover pictures.
    pub(crate) tracks: usize,
}

impl Track {
    /// Returns a video track of the index `moov` in a file of `file_len` bytes. `fragments` calls a function with
    /// the start and the content of every fragment (`moof`) of the file.
    pub(crate) fn parse(
        moov: &[u8],
        file_len: u64,
        fragments: impl FnOnce(Take) -> Result<(), Refused>,
    ) -> Result<Self, Refused> {
        let moov = boxes::children(moov)?;
        let movie = moov.iter().find(|child| &child.kind == b"mvhd").ok_or("it has no movie header (mvhd)")?;
        let (movie, _) = MvhdBox::decode(movie.whole).map_err(|error| error.to_string())?;
        let Tracks { video, count } = tracks(&moov)?;
        let track = video.ok_or_else(|| Refused::Unsupported("it has no video track".into()))?;
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
        let start = samples[order[0] as usize].time.saturating_sub(window.0.max(0)).max(0);
        let start = start as f64 / f64::from(timescale.get());
        let times: Vec<i64> = order.iter().map(|&at| samples[at as usize].time).collect();
        let (fps, note) = speed(&times, usual, timescale)?;
        Ok(Self { samples, order, avc, fps, start, matrix, note, tracks: count })
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

/// The tracks of a file.
#[derive(Default)]
struct Tracks<'a> {
    /// The video track that is read, as a whole box.
    video: Option<&'a [u8]>,
    /// The number of video tracks without cover pictures.
    count: usize,
}

/// Sorts the tracks. Of the video tracks, a picture that moves is read rather than a cover, one that is enabled rather than
/// one that is not, and one in H.264 rather than another; the first of those that are equal.
fn tracks<'a>(moov: &[Child<'a>]) -> Result<Tracks<'a>, String> {
    let (mut found, mut best) = (Tracks::default(), None);
    for track in moov.iter().filter(|child| &child.kind == b"trak") {
        let parts = boxes::children(track.payload)?;
        let media = boxes::children(boxes::find(&parts, *b"mdia").ok_or("a track has no media (mdia)")?)?;
        let handler = boxes::find(&media, *b"hdlr").ok_or("a track has no handler (hdlr)")?;
        if handler.get(8..12) != Some(b"vide") {
            continue;
        }
        let is_enabled =
            boxes::find(&parts, *b"tkhd").and_then(|header| header.get(3)).is_some_and(|flags| flags & 1 == 1);
        let (is_h264, is_cover) = coding(&media).unwrap_or_default();
        let merit = Some((!is_cover, is_enabled, is_h264));
        if merit > best {
            (best, found.video) = (merit, Some(track.whole));
        }
        found.count += usize::from(is_enabled && !is_cover);
    }
    Ok(found)
}

/// Returns whether a track with these parts of its media box is H.264 as it can be read, and whether it is one picture.
fn coding(media: &[Child]) -> Option<(bool, bool)> {
    let information = boxes::children(boxes::find(media, *b"minf")?).ok()?;
    let table = boxes::children(boxes::find(&information, *b"stbl")?).ok()?;
    let entry = boxes::find(&table, *b"stsd").and_then(|entries| entries.get(12..16));
    let count = boxes::find(&table, *b"stsz").and_then(|sizes| sizes.get(8..12));
    Some((entry == Some(b"avc1"), count == Some(&[0, 0, 0, 1])))
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
