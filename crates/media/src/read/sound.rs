//! The sound track of an MP4 file: the place, the length and the coding of its packets, and the part of them that is heard.
//!
//! Nothing that is wrong with the sound keeps the pictures from being read: it is a sentence for the user.

use crate::read::boxes::{self, Child};
use crate::read::fragments::Fragments;
use crate::read::refused::Refused;
use crate::read::samples::{self, Sample};
use crate::read::track::Take;
use crate::sound::track::{Coded, Foreign, Heard, Packet};
use crate::stored::Stored;
use shiguredo_mp4::Decode;
use shiguredo_mp4::aux::SampleTableAccessor;
use shiguredo_mp4::boxes::{EdtsBox, MvhdBox, SampleEntry, TrakBox};
use std::num::NonZeroU32;
use std::sync::Arc;

/// The codings that are taken over, by the kinds of their boxes. Others are too rare, raw, or protected.
const CODINGS: [&[u8; 4]; 6] = [b"Opus", b"mp4a", b"fLaC", b"alac", b"ac-3", b"ec-3"];

/// Returns the sound of a clip whose frames are shown from the time `start` of their edit on, for `seconds`, if the index `moov`
/// has a sound track. `fragments` calls a function with the start and the content of every fragment of the file; `foreign`
/// returns another decoder for the sound track of a number, from 0 on, in a file whose frames begin after so many seconds.
///
/// # Errors
/// The reason why the sound cannot be read.
pub(crate) fn parse(
    moov: &[u8],
    (stored, file_len): (&Stored, u64),
    (start, seconds): (f64, f64),
    fragments: impl FnOnce(Take) -> Result<(), Refused>,
    foreign: impl FnOnce(usize, f64) -> Option<Arc<dyn Foreign>>,
) -> Result<Option<Coded>, String> {
    let moov = boxes::children(moov)?;
    let Some(Found { sound: track, number: place, shown }) = find(&moov)? else { return Ok(None) };
    if file_len > i64::MAX as u64 {
        return Err("the file is too long".into());
    }
    let movie = moov.iter().find(|child| &child.kind == b"mvhd").ok_or("the file has no movie header")?;
    let (movie, _) = MvhdBox::decode(movie.whole).map_err(|error| error.to_string())?;
    check_coding(track)?;
    let (track, _) = TrakBox::decode(track.whole).map_err(|error| error.to_string())?;
    let timescale = track.mdia_box.mdhd_box.timescale;
    let (number, table) = (track.tkhd_box.track_id, track.mdia_box.minf_box.stbl_box);
    let entry = table.stsd_box.entries.first().ok_or("it has no coding")?.clone();
    let (rate, channels) = kind(&entry, timescale)?;
    let (samples, end) = samples(table, &moov, (number, file_len), fragments).map_err(sentence)?;
    let packets = packets(&samples, end)?;
    let total = packets.iter().map(|packet| u64::from(packet.duration)).sum();
    let units = Units { track: timescale, movie: movie.timescale };
    let empty = shown.and_then(|edits| edits.elst_box).map_or(0, |list| silent(&list.entries));
    let start = start + empty as f64 / f64::from(movie.timescale.get());
    let mut heard = heard(track.edts_box.as_ref(), units, start, total)?;
    if let (SampleEntry::Opus(opus), None) = (&entry, &track.edts_box) {
        let skip = u64::from(opus.dops_box.pre_skip) * u64::from(timescale.get()) / 48_000;
        (heard.skip, heard.length) = (heard.skip + skip, heard.length.saturating_sub(skip));
    }
    let most = (seconds * f64::from(timescale.get())).round() as u64;
    heard.length = heard.length.min(most.saturating_sub(heard.delay));
    if heard.length == 0 {
        return Ok(None);
    }
    let foreign = foreign(place, start);
    Ok(Some(Coded { stored: stored.clone(), entry, rate, channels, timescale, packets, heard, foreign }))
}

/// The sound track that is read.
struct Found<'a> {
    sound: &'a Child<'a>,
    /// Its number among the sound tracks.
    number: usize,
    /// The edit list of the first video track.
    shown: Option<EdtsBox>,
}

/// Returns the first sound track that is enabled, else the first one.
fn find<'a>(moov: &'a [Child<'a>]) -> Result<Option<Found<'a>>, String> {
    let (mut sound, mut is_best, mut shown, mut count) = (None, false, None, 0);
    for track in moov.iter().filter(|child| &child.kind == b"trak") {
        let parts = boxes::children(track.payload)?;
        let media = boxes::children(boxes::find(&parts, *b"mdia").ok_or("a track has no media (mdia)")?)?;
        let header = boxes::find(&parts, *b"tkhd").and_then(|header| header.get(3));
        let is_enabled = header.is_some_and(|flags| flags & 1 == 1);
        match boxes::find(&media, *b"hdlr").and_then(|handler| handler.get(8..12)) {
            Some(b"soun") => {
                if sound.is_none() || (is_enabled && !is_best) {
                    (sound, is_best) = (Some((track, count)), is_enabled);
                }
                count += 1;
            }
            Some(b"vide") if shown.is_none() => {
                let edits = parts.iter().find(|part| &part.kind == b"edts");
                shown = Some(edits.and_then(|edits| EdtsBox::decode(edits.whole).ok()).map(|(edits, _)| edits));
            }
            _ => {}
        }
    }
    Ok(sound.map(|(sound, number)| Found { sound, number, shown: shown.flatten() }))
}

/// Checks that the coding is one that is taken over, and described as in MP4 files, not as in `QuickTime`'s.
fn check_coding(track: &Child) -> Result<(), String> {
    let mut inner = track.payload;
    for kind in [b"mdia", b"minf", b"stbl", b"stsd"] {
        inner = boxes::find(&boxes::children(inner)?, *kind).ok_or("its index is incomplete")?;
    }
    let (Some(kind), Some(version)) = (inner.get(12..16), inner.get(24..26)) else {
        return Err("it has no coding".into());
    };
    if !CODINGS.iter().any(|known| &known[..] == kind) {
        return Err(format!("it is coded as `{}`", String::from_utf8_lossy(kind).escape_debug()));
    }
    if version != [0, 0] {
        return Err("it is described in QuickTime's way".into());
    }
    Ok(())
}

/// Returns the sample rate and the number of channels. Those of unknown boxes are where all have them.
fn kind(entry: &SampleEntry, timescale: NonZeroU32) -> Result<(u32, usize), String> {
    let (rate, channels) = match entry {
        SampleEntry::Opus(opus) => (48_000, u16::from(opus.dops_box.output_channel_count)),
        SampleEntry::Mp4a(audio) => (u32::from(audio.audio.samplerate.integer), audio.audio.channelcount),
        SampleEntry::Flac(audio) => (u32::from(audio.audio.samplerate.integer), audio.audio.channelcount),
        SampleEntry::Unknown(other) => {
            let field = |at: usize| other.payload.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
            (u32::from(field(24)), field(16))
        }
        _ => return Err("it is not coded as sound".into()),
    };
    let rate = if rate == 0 { timescale.get() } else { rate };
    if channels == 0 { Err("it has no channels".into()) } else { Ok((rate, usize::from(channels))) }
}

/// Returns the packets of the track `number` with their times, and the time at which the last one ends, if it is known.
fn samples(
    table: shiguredo_mp4::boxes::StblBox,
    moov: &[Child],
    (number, file_len): (u32, u64),
    fragments: impl FnOnce(Take) -> Result<(), Refused>,
) -> Result<(Vec<Sample>, i64), Refused> {
    let end = table
        .stts_box
        .entries
        .iter()
        .map(|entry| u64::from(entry.sample_count) * u64::from(entry.sample_delta))
        .fold(0, u64::saturating_add);
    let table = SampleTableAccessor::new(table).map_err(|error| error.to_string())?;
    let mut samples = samples::of_table(&table, file_len)?;
    let mut end = i64::try_from(end).map_err(|_| "it is too long")?;
    if let Some(mvex) = boxes::find(moov, *b"mvex") {
        let mut found = Fragments::new(mvex, number, end as u64, file_len)?;
        fragments(&mut |start, moof| found.add(moof, start, &mut samples))?;
        end = i64::try_from(found.end()).map_err(|_| "it is too long")?;
    }
    samples::check(&samples, file_len)?;
    Ok((samples, end))
}

/// Returns the places and the lengths of the packets, which follow each other.
fn packets(samples: &[Sample], end: i64) -> Result<Vec<Packet>, String> {
    let ends = samples.iter().skip(1).map(|sample| sample.time).chain([end]);
    let packet = |(sample, end): (&Sample, i64)| {
        let duration = end.checked_sub(sample.time).and_then(|ticks| u32::try_from(ticks).ok());
        let duration = duration.ok_or("its packets are not in order")?;
        Ok(Packet { offset: sample.offset, size: sample.size, duration })
    };
    let first = samples.first().map_or(0, |sample| sample.time);
    if first != 0 {
        return Err("it begins late, without an edit list".into());
    }
    samples.iter().zip(ends).map(packet).collect()
}

/// The ticks per second of a track, and of edit lists.
#[derive(Clone, Copy)]
struct Units {
    track: NonZeroU32,
    movie: NonZeroU32,
}

type Edit = shiguredo_mp4::boxes::ElstEntry;

/// Returns the part of a track of `total` ticks that its edit list names, where frames are shown from the time `start` on, in
/// seconds.
fn heard(edits: Option<&EdtsBox>, units: Units, start: f64, total: u64) -> Result<Heard, String> {
    let entries = edits.and_then(|edits| edits.elst_box.as_ref()).map_or(&[][..], |list| &list.entries);
    let ticks = |duration: u64| {
        let ticks = (u128::from(duration) * u128::from(units.track.get()) + u128::from(units.movie.get()) / 2)
            / u128::from(units.movie.get());
        u64::try_from(ticks).unwrap_or(u64::MAX)
    };
    let mut played = entries.iter().filter(|entry| entry.media_time >= 0);
    let (edit, more) = (played.next(), played.next());
    if more.is_some() {
        return Err("it is heard in more than one piece (edit list)".into());
    }
    let mut heard = Heard { length: total, ..Heard::default() };
    if let Some(edit) = edit {
        heard.skip = (edit.media_time as u64).min(total);
        heard.length = total - heard.skip;
        if edit.edit_duration > 0 {
            heard.length = heard.length.min(ticks(edit.edit_duration));
        }
    }
    let late = silent(entries) as f64 / f64::from(units.movie.get()) - start;
    let late = (late * f64::from(units.track.get())).round();
    // Sound that begins before the first frame is cut off.
    let early = (-late.min(0.0) as u64).min(heard.length);
    (heard.delay, heard.skip, heard.length) = (late.max(0.0) as u64, heard.skip + early, heard.length - early);
    Ok(heard)
}

/// Returns the length of the empty edits before the first real one, in units of the edit list.
fn silent(entries: &[Edit]) -> u64 {
    let empty = entries.iter().take_while(|entry| entry.media_time < 0);
    empty.map(|entry| entry.edit_duration).fold(0, u64::saturating_add)
}

fn sentence(reason: Refused) -> String {
    match reason {
        Refused::Damaged(what) | Refused::Unsupported(what) | Refused::Undecodable(_, what) => what,
        Refused::Interlaced | Refused::HighDynamicRange(_) => "it is not sound".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiguredo_mp4::FixedPointNumber;
    use shiguredo_mp4::boxes::ElstBox;

    fn of(edits: &[(u64, i64)], start: f64, total: u64) -> Option<(u64, u64, u64)> {
        let entry =
            |&(edit_duration, media_time)| Edit { edit_duration, media_time, media_rate: FixedPointNumber::new(1, 0) };
        let list = ElstBox { entries: edits.iter().map(entry).collect() };
        let edits = EdtsBox { elst_box: Some(list), unknown_boxes: Vec::new() };
        let [track, movie] = [48_000, 1000].map(|scale| NonZeroU32::new(scale).unwrap());
        let Heard { delay, skip, length } = heard(Some(&edits), Units { track, movie }, start, total).ok()?;
        Some((delay, skip, length))
    }

    #[test]
    fn edit_lists_say_what_is_heard() {
        assert_eq!(of(&[], 0.0, 960), Some((0, 0, 960)));
        assert_eq!(of(&[(10, 312)], 0.0, 960), Some((0, 312, 480)));
        assert_eq!(of(&[(0, 312)], 0.0, 960), Some((0, 312, 648)));
        assert_eq!(of(&[(1000, 312)], 0.0, 960), Some((0, 312, 648)), "longer than the track");
        assert_eq!(of(&[(5, -1), (10, 0)], 0.0, 960), Some((240, 0, 480)));
        assert_eq!(of(&[(5, -1), (10, 0)], 0.002, 960), Some((144, 0, 480)), "frames are late, too");
        assert_eq!(of(&[(10, 0)], 0.002, 960), Some((0, 96, 384)), "only frames are late");
        assert_eq!(of(&[(5, 0), (5, 480)], 0.0, 960), None);
        assert_eq!(of(&[(u64::MAX, -1), (u64::MAX, i64::MAX)], 0.0, 960), Some((u64::MAX, 960, 0)));
    }
}
