//! The sound track of an MP4 file: Opus that is encoded here (<https://opus-codec.org/docs/opus_in_isobmff.html>), or the packets of
//! another file as they are.
//!
//! An edit list names the part that is heard: the samples that an encoder puts before the first one, and what is left of the last
//! packet, are no part of it. So the sound begins with the first frame, and is as long as the frames, to a sample.

use crate::clip::Fps;
#[cfg(feature = "opus")]
use crate::error::MediaError;
use crate::error::Result;
use crate::sound::Sound;
#[cfg(feature = "opus")]
use crate::sound::opus;
use crate::sound::track::{Coded, Content, Heard, SoundTrack};
use crate::stored::Stream;
use shiguredo_mp4::boxes::{EdtsBox, ElstBox, ElstEntry, MoovBox, SampleEntry, StblBox, StszBox, TrakBox, UnknownBox};
use shiguredo_mp4::{BoxSize, BoxType, FixedPointNumber};
use std::num::NonZeroU32;
use std::sync::Arc;

/// The least units per second of edit lists.
const LEAST_UNITS: u32 = 16_000;

/// A packet of sound on its way to the file.
pub(crate) struct Packet {
    pub(crate) data: Vec<u8>,
    /// Its length in ticks.
    pub(crate) duration: u32,
}

/// Gives the packets of a clip's sound, as far as the frames are that have been written.
pub(crate) struct SoundSource {
    pub(crate) timescale: NonZeroU32,
    fps: Fps,
    /// The ticks of the packets so far.
    ticks: u64,
    kind: Kind,
}

enum Kind {
    #[cfg(feature = "opus")]
    Encoded {
        encoder: opus::Encoder,
        sound: Arc<Sound>,
        of_rate: u32,
    },
    Copied {
        coded: Arc<Coded>,
        file: Stream,
        next: usize,
    },
}

impl SoundSource {
    /// Returns the source of a track's packets; `Err` is a sentence for the user if an MP4 file cannot hold them.
    pub(crate) fn new(track: &SoundTrack, fps: Fps) -> Result<Result<Self, String>> {
        match &track.0 {
            Content::Samples(sound) => Self::encoded(sound, fps),
            Content::Foreign(foreign) => match foreign.decoded() {
                Ok(sound) => Self::encoded(&Arc::new(sound), fps),
                Err(error) => Ok(Err(format!("the sound is not kept: {error}"))),
            },
            Content::Coded(coded) => {
                let kind = Kind::Copied { coded: Arc::clone(coded), file: coded.stored.open()?, next: 0 };
                Ok(Ok(Self { timescale: coded.timescale, fps, ticks: 0, kind }))
            }
        }
    }

    #[cfg(feature = "opus")]
    fn encoded(sound: &Arc<Sound>, fps: Fps) -> Result<Result<Self, String>> {
        sound.check()?;
        let (of_rate, channels) = (sound.rate, sound.channels);
        if channels > opus::MAX_CHANNELS {
            return Ok(Err(format!("the sound has {channels} channels, an MP4 file keeps one or two: it is not kept")));
        }
        let sound = if of_rate == opus::RATE { Arc::clone(sound) } else { sound.resampled(opus::RATE)?.into() };
        let encoder = opus::Encoder::new(channels).map_err(|message| MediaError::encoder("Opus", "start", message))?;
        let timescale = NonZeroU32::MIN.saturating_add(opus::RATE - 1);
        Ok(Ok(Self { timescale, fps, ticks: 0, kind: Kind::Encoded { encoder, sound, of_rate } }))
    }

    #[cfg(not(feature = "opus"))]
    fn encoded(_: &Arc<Sound>, _: Fps) -> Result<Result<Self, String>> {
        Ok(Err("this build has no encoder of sound (feature `opus`): the sound is not kept".into()))
    }

    /// Returns what a decoder must know of the packets.
    pub(crate) fn entry(&self) -> SampleEntry {
        match &self.kind {
            #[cfg(feature = "opus")]
            Kind::Encoded { encoder, sound, of_rate } => opus_entry(encoder, sound.channels, *of_rate),
            Kind::Copied { coded, .. } => coded.entry.clone(),
        }
    }

    /// Returns the part of the track that is heard of a clip of `frames` frames.
    pub(crate) fn heard(&self, frames: u64) -> Heard {
        let length = self.fps.start_of(frames, self.timescale.get().into());
        match &self.kind {
            #[cfg(feature = "opus")]
            Kind::Encoded { encoder, .. } => Heard { delay: 0, skip: encoder.lookahead as u64, length },
            Kind::Copied { coded, .. } => {
                let Heard { delay, skip, length: all } = coded.heard;
                Heard { delay, skip, length: all.min(length.saturating_sub(delay)) }
            }
        }
    }

    /// Returns the next packet that ends within `frames` frames, or, at the end of the clip, the next one of which a part is
    /// heard.
    pub(crate) fn next(&mut self, frames: u64, is_end: bool) -> Result<Option<Packet>> {
        let Heard { skip, length, .. } = self.heard(frames);
        let end = skip + length;
        let packet = match &mut self.kind {
            #[cfg(feature = "opus")]
            Kind::Encoded { encoder, sound, .. } => {
                let left = end.saturating_sub(self.ticks);
                if left == 0 || (!is_end && left < opus::PACKETS[0] as u64) {
                    return Ok(None);
                }
                // Some players hear the last packet to its end, so the last ones are as short as they can be.
                let [.., shortest] = opus::PACKETS;
                let count = opus::PACKETS.into_iter().find(|count| *count as u64 <= left).unwrap_or(shortest);
                let mut samples = interleaved(sound, self.ticks as usize, count);
                let data = encoder.encode(&mut samples);
                let data = data.map_err(|message| MediaError::encoder("Opus", "encode", message))?;
                // The last packet counts as far as it is heard.
                Packet { data, duration: left.min(count as u64) as u32 }
            }
            Kind::Copied { coded, file, next } => {
                let Some(&packet) = coded.packets.get(*next) else { return Ok(None) };
                let is_due = if is_end { self.ticks < end } else { self.ticks + u64::from(packet.duration) <= end };
                if !is_due {
                    return Ok(None);
                }
                *next += 1;
                Packet { data: coded.read(file, packet)?, duration: packet.duration }
            }
        };
        self.ticks += u64::from(packet.duration);
        Ok(Some(packet))
    }

    /// Adds to the index what makes the sound of a clip of `frames` frames begin and end with them.
    pub(crate) fn complete(&self, moov: &mut MoovBox, frames: u64) {
        // The unit of edits holds those of the sound exactly, and is fine enough for the frames.
        let factor = LEAST_UNITS.div_ceil(self.timescale.get());
        let movie = self.timescale.saturating_mul(NonZeroU32::MIN.saturating_add(factor - 1));
        moov.mvhd_box.timescale = movie;
        moov.mvhd_box.duration = 0;
        for track in &mut moov.trak_boxes {
            let media = &track.mdia_box.mdhd_box;
            let ticks = u128::from(media.duration) * u128::from(movie.get());
            track.tkhd_box.duration = ticks.div_ceil(u128::from(media.timescale.get())) as u64;
            if track.mdia_box.hdlr_box.handler_type == *b"soun" {
                edit(track, self.heard(frames), factor.into());
            }
            moov.mvhd_box.duration = moov.mvhd_box.duration.max(track.tkhd_box.duration);
        }
    }
}

/// Adds the edit list to a track, and how early decoding must begin. A tick is `factor` units of the list.
fn edit(track: &mut TrakBox, Heard { delay, skip, length }: Heard, factor: u64) {
    let entry = |ticks: u64, media_time| {
        let media_rate = FixedPointNumber::new(1, 0);
        ElstEntry { edit_duration: ticks * factor, media_time, media_rate }
    };
    let mut entries = vec![entry(length, skip as i64)];
    if delay > 0 {
        entries.insert(0, entry(delay, -1));
    }
    track.edts_box = Some(EdtsBox { elst_box: Some(ElstBox { entries }), unknown_boxes: Vec::new() });
    track.tkhd_box.duration = (delay + length) * factor;
    let table = &mut track.mdia_box.minf_box.stbl_box;
    // A decoder needs 80 ms of Opus, and a packet of AAC, before what it gives is right.
    match table.stsd_box.entries.first() {
        Some(SampleEntry::Opus(_)) => roll(table, -4),
        Some(SampleEntry::Mp4a(_)) => roll(table, -1),
        _ => {}
    }
}

/// Says how many packets before a place decoding must begin: the sample group `roll` (ISO/IEC 14496-12, 10.1).
fn roll(table: &mut StblBox, distance: i16) {
    let samples = match &table.stsz_box {
        StszBox::Fixed { sample_count, .. } => *sample_count,
        StszBox::Variable { entry_sizes } => entry_sizes.len() as u32,
    };
    let boxed = |kind: [u8; 4], payload: Vec<u8>| {
        let box_type = BoxType::Normal(kind);
        UnknownBox { box_type, box_size: BoxSize::with_payload_size(box_type, payload.len() as u64), payload }
    };
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let mut description = [&[1, 0, 0, 0][..], b"roll", &numbers(&[2, 1])].concat();
    description.extend(distance.to_be_bytes());
    let groups = [&[0, 0, 0, 0][..], b"roll", &numbers(&[1, samples, 1])].concat();
    table.unknown_boxes.extend([boxed(*b"sgpd", description), boxed(*b"sbgp", groups)]);
}

/// Returns samples that alternate between the channels, from a place on; after the last one there is silence.
#[cfg(feature = "opus")]
fn interleaved(sound: &Sound, start: usize, count: usize) -> Vec<f32> {
    let mut samples = Vec::with_capacity(count * sound.channels);
    for at in start..start + count {
        samples.extend((0..sound.channels).map(|index| sound.channel(index).get(at).copied().unwrap_or(0.0)));
    }
    samples
}

#[cfg(feature = "opus")]
fn opus_entry(encoder: &opus::Encoder, channels: usize, of_rate: u32) -> SampleEntry {
    use shiguredo_mp4::boxes::{AudioSampleEntryFields, DopsBox, OpusBox};
    let audio = AudioSampleEntryFields {
        data_reference_index: AudioSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
        channelcount: channels as u16,
        samplesize: AudioSampleEntryFields::DEFAULT_SAMPLESIZE,
        samplerate: FixedPointNumber::new(opus::RATE as u16, 0),
    };
    let dops_box = DopsBox {
        output_channel_count: channels as u8,
        pre_skip: encoder.lookahead as u16,
        input_sample_rate: of_rate,
        output_gain: 0,
    };
    SampleEntry::Opus(OpusBox { audio, dops_box, unknown_boxes: Vec::new() })
}
