//! The embedded MP4 back end: H.264 pictures in an ISO base media file (ISO/IEC 14496-12 and -15).
//!
//! Samples are written to disk as they come. Only a few dozen bytes per frame stay in memory, for the sample table. At the end
//! the samples are moved back to put the index (`moov`) in front of them, so that players on the web start at once. Only a
//! file that would then outgrow its 32-bit offsets (4 GiB) keeps the index at its end. The recipe is the comment tag of the iTunes-style metadata that players and ffprobe
//! show (`moov/udta/meta/ilst/©cmt`). Sound lies between the frames, half a second of it at a time.

mod sound;

use crate::clip::{ClipSpec, Fps, Frame};
use crate::color::Yuv420;
use crate::container::MAX_MACROBLOCKS;
use crate::error::{MediaError, Result};
use crate::mp4::sound::SoundSource;
use crate::openh264::{Encoder, Picture};
use crate::output::Output;
use crate::sound::track::SoundTrack;
use crate::{ClipWriter, WriteOptions, Written};
use shiguredo_mp4::boxes::{Avc1Box, AvccBox, MoovBox, SampleEntry, UnknownBox, VisualSampleEntryFields};
use shiguredo_mp4::mux::{Mp4FileMuxer, Sample};
use shiguredo_mp4::{BoxSize, BoxType, Either, Encode, Mp4FileTime, TrackKind, Uint};
use std::num::NonZeroU32;
use std::path::Path;

/// The name of the embedded encoder.
pub(crate) const ENCODER: &str = "openh264";

/// The length of the header of the samples' box (`mdat`), with a size of 64 bits.
const MDAT_HEADER: u64 = 16;

/// The default quantiser: step 5.5, with which even noise, whose small coefficients are all rounded to zero, keeps about
/// 40 dB of luma.
const DEFAULT_QP: u8 = 18;
const WORST_QP: u8 = 51;

pub(crate) struct Mp4Writer {
    spec: ClipSpec,
    out: Output,
    encoder: Encoder,
    muxer: Mp4FileMuxer,
    picture: Yuv420,
    position: u64,
    frames: u64,
    recipe: Option<String>,
    sound: Option<SoundSource>,
    /// Whether the file has packets of sound already.
    has_sound: bool,
}

impl Mp4Writer {
    pub(crate) fn create(path: &Path, spec: &ClipSpec, options: &WriteOptions) -> Result<Self> {
        let qp = options.quality.unwrap_or(DEFAULT_QP);
        if qp > WORST_QP {
            return Err(MediaError::Quality { given: qp, encoder: ENCODER.into(), worst: WORST_QP });
        }
        check_size(spec)?;
        let picture = Yuv420::new(spec.width, spec.height);
        let mut out = Output::create(path)?;
        let encoder = Encoder::new(picture.width, picture.height, spec.fps, qp)
            .map_err(|message| MediaError::encoder(ENCODER, "start", message))?;
        let muxer = Mp4FileMuxer::new().map_err(muxer_failed)?;
        out.put(muxer.initial_boxes_bytes())?;
        let position = muxer.initial_boxes_bytes().len() as u64;
        let (recipe, sound) = (options.recipe.clone(), None);
        Ok(Self { spec: *spec, out, encoder, muxer, picture, position, frames: 0, recipe, sound, has_sound: false })
    }

    fn append(&mut self, Picture { keyframe, data }: &Picture) -> Result<()> {
        let (timescale, duration) = ticks(self.spec.fps);
        let sample_entry = (self.frames == 0).then(|| self.sample_entry()).transpose()?;
        let sample = Sample {
            track_kind: TrackKind::Video,
            sample_entry,
            keyframe: *keyframe,
            timescale,
            duration,
            composition_time_offset: None,
            data_offset: self.position,
            data_size: data.len(),
        };
        self.put(&sample, data)
    }

    /// Writes the packets of sound that the frames so far have room for; at the end, all that are heard.
    fn append_sound(&mut self, is_end: bool) -> Result<()> {
        let Some(mut source) = self.sound.take() else { return Ok(()) };
        while let Some(packet) = source.next(self.frames, is_end)? {
            let sample = Sample {
                track_kind: TrackKind::Audio,
                sample_entry: (!self.has_sound).then(|| source.entry()),
                keyframe: true,
                timescale: source.timescale,
                duration: packet.duration,
                composition_time_offset: None,
                data_offset: self.position,
                data_size: packet.data.len(),
            };
            self.put(&sample, &packet.data)?;
            self.has_sound = true;
        }
        self.sound = Some(source);
        Ok(())
    }

    fn put(&mut self, sample: &Sample, data: &[u8]) -> Result<()> {
        self.out.put(data)?;
        self.muxer.append_sample(sample).map_err(muxer_failed)?;
        self.position += data.len() as u64;
        Ok(())
    }

    /// Returns the `avc1` box: size, decoder configuration (`avcC`) and colour (`colr`).
    fn sample_entry(&self) -> Result<SampleEntry> {
        let &[_, profile, compatibility, level, ..] = self.encoder.sps.as_slice() else {
            return Err(MediaError::encoder(ENCODER, "encode", "the first picture came without parameter sets"));
        };
        let visual = VisualSampleEntryFields {
            data_reference_index: VisualSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
            width: self.picture.width as u16,
            height: self.picture.height as u16,
            horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
            vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
            frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
            compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
            depth: VisualSampleEntryFields::DEFAULT_DEPTH,
        };
        let avcc_box = AvccBox {
            avc_profile_indication: profile,
            profile_compatibility: compatibility,
            avc_level_indication: level,
            length_size_minus_one: Uint::new(3),
            sps_list: vec![self.encoder.sps.clone()],
            pps_list: vec![self.encoder.pps.clone()],
            chroma_format: None,
            bit_depth_luma_minus8: None,
            bit_depth_chroma_minus8: None,
            sps_ext_list: Vec::new(),
        };
        Ok(SampleEntry::Avc1(Avc1Box { visual, avcc_box, unknown_boxes: vec![colour_box()] }))
    }

    fn finalize(&mut self) -> Result<()> {
        let finalized = self.muxer.finalize().map_err(muxer_failed)?;
        let mut moov = finalized.moov_box().clone();
        clear_times(&mut moov);
        if let Some(source) = self.sound.as_ref().filter(|_| self.has_sound) {
            source.complete(&mut moov, self.frames);
        }
        moov.unknown_boxes.extend(self.recipe.as_deref().map(recipe_box));
        for (offset, bytes) in finalized.offset_and_bytes_pairs() {
            // These are the boxes before the samples. The muxer's own `moov`, after them, is replaced by the one above.
            if offset < self.position {
                self.out.put_at(offset, bytes)?;
            }
        }
        let len = moov.encode_to_vec().map_err(muxer_failed)?.len() as u64;
        let moved = move_samples(&mut moov, len);
        let bytes = moov.encode_to_vec().map_err(muxer_failed)?;
        if moved {
            let samples = self.muxer.initial_boxes_bytes().len() as u64 - MDAT_HEADER;
            return self.out.insert_at(samples, &bytes);
        }
        self.out.put(&bytes)
    }
}

impl ClipWriter for Mp4Writer {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.spec.check(frame, self.frames)?;
        self.picture.fill(frame);
        let picture = self.encoder.encode(&self.picture);
        let picture = picture.map_err(|message| MediaError::encoder(ENCODER, "encode", message))?;
        self.append(&picture)?;
        self.frames += 1;
        if self.frames.is_multiple_of(u64::from(self.spec.fps.keyframe_interval()).div_ceil(4)) {
            self.append_sound(false)?;
        }
        Ok(())
    }

    fn sound(&mut self, sound: &SoundTrack) -> Result<Option<String>> {
        match SoundSource::new(sound, self.spec.fps)? {
            Ok(source) => self.sound = Some(source),
            Err(sentence) => return Ok(Some(sentence)),
        }
        Ok(None)
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        if self.frames == 0 {
            return Err(MediaError::NoFrames { path: self.out.target().to_path_buf() });
        }
        self.append_sound(true)?;
        self.finalize()?;
        let Self { spec, out, picture, frames, .. } = *self;
        let path = out.target().to_path_buf();
        let bytes = out.commit()?;
        let (width, height) = (picture.width, picture.height);
        Ok(Written { path, frames, bytes, width, height, notes: picture.size_notes(&spec) })
    }
}

/// Checks that H.264 and the encoder support the size: H.264 limits the area and each side, and 16×16 is the encoder's
/// smallest frame.
pub(crate) fn check_size(spec: &ClipSpec) -> Result<()> {
    let &ClipSpec { width, height, .. } = spec;
    let size = |limit| Err(MediaError::Size { format: "H.264", width, height, limit });
    if width.min(height) < 16 {
        return size("the smallest frame is 16×16");
    }
    if width.max(height) > 4096 || width.div_ceil(16) * height.div_ceil(16) > MAX_MACROBLOCKS {
        return size("the largest frame is 4096×2304 or 2304×4096");
    }
    Ok(())
}

/// Returns the ticks per second and per frame: the exact ratio, fine enough for players that round times to ticks.
fn ticks(fps: Fps) -> (NonZeroU32, u32) {
    let mut factor = 1;
    while fps.num() * factor < 10_000 {
        factor *= 2;
    }
    (NonZeroU32::MIN.saturating_add(fps.num() * factor - 1), fps.den() * factor)
}

/// Adds `distance` to the offsets of all chunks of samples; returns whether their 32 or 64 bits hold the sums. Without that,
/// nothing is changed.
fn move_samples(moov: &mut MoovBox, distance: u64) -> bool {
    let mut tables: Vec<_> =
        moov.trak_boxes.iter_mut().map(|track| &mut track.mdia_box.minf_box.stbl_box.stco_or_co64_box).collect();
    let fits = |offset: &u32| u32::try_from(u64::from(*offset) + distance).is_ok();
    if tables.iter().any(|table| matches!(table, Either::A(short) if !short.chunk_offsets.iter().all(fits))) {
        return false;
    }
    for table in &mut tables {
        match table {
            Either::A(short) => short.chunk_offsets.iter_mut().for_each(|offset| *offset += distance as u32),
            Either::B(long) => long.chunk_offsets.iter_mut().for_each(|offset| *offset += distance),
        }
    }
    true
}

/// Clears the creation times, which would make the same clip differ from run to run.
fn clear_times(moov: &mut MoovBox) {
    let unknown = Mp4FileTime::from_secs(0);
    (moov.mvhd_box.creation_time, moov.mvhd_box.modification_time) = (unknown, unknown);
    for track in &mut moov.trak_boxes {
        (track.tkhd_box.creation_time, track.tkhd_box.modification_time) = (unknown, unknown);
        let media = &mut track.mdia_box.mdhd_box;
        (media.creation_time, media.modification_time) = (unknown, unknown);
    }
}

/// Returns the `colr` box of BT.709 primaries, transfer and matrix (1 each in ITU-T H.273), limited range.
fn colour_box() -> UnknownBox {
    let mut payload = b"nclx".to_vec();
    payload.extend([0, 1, 0, 1, 0, 1, 0]);
    child(*b"colr", payload)
}

/// Returns `udta/meta/ilst/©cmt/data` around `text`, in the iTunes metadata format
/// (<https://developer.apple.com/documentation/quicktime-file-format/metadata_item_list_atom>).
fn recipe_box(text: &str) -> UnknownBox {
    let mut data = [0, 0, 0, 1, 0, 0, 0, 0].to_vec(); // type 1 is UTF-8, then the locale
    data.extend(text.as_bytes());
    let mut handler = [0; 8].to_vec();
    handler.extend(b"mdirappl");
    handler.extend([0; 9]);
    let mut meta = [0; 4].to_vec();
    meta.extend(plain_box(*b"hdlr", &handler));
    meta.extend(plain_box(*b"ilst", &plain_box(*b"\xa9cmt", &plain_box(*b"data", &data))));
    child(*b"udta", plain_box(*b"meta", &meta))
}

fn child(kind: [u8; 4], payload: Vec<u8>) -> UnknownBox {
    let box_type = BoxType::Normal(kind);
    UnknownBox { box_type, box_size: BoxSize::with_payload_size(box_type, payload.len() as u64), payload }
}

/// Returns a box. The recipe is at most a megabyte, so 32 bits hold every size.
fn plain_box(kind: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(payload);
    out
}

fn muxer_failed(error: impl std::error::Error) -> MediaError {
    MediaError::encoder("the MP4 muxer", "write", error.to_string())
}
