//! The second MP4 back end: encoders and muxer of the system's FFmpeg libraries (feature `ffmpeg`).
//!
//! Pictures, colour tags, recipe and atomic output are the same as in the embedded back end; the encoder is chosen by name.
//! Hardware encoders are available if the linked FFmpeg and the machine have them. Sound is AAC, or the packets of another file.

mod sound;

use crate::clip::{ClipSpec, Fps, Frame};
use crate::color::Yuv420;
use crate::error::{MediaError, Result};
use crate::ffmpeg::sound::SoundWriter;
use crate::output::Output;
use crate::sound::track::SoundTrack;
use crate::{ClipWriter, WriteOptions, Written};
use ffmpeg_next::codec::{Context, Flags};
use ffmpeg_next::format::{self, Pixel, context};
use ffmpeg_next::{Codec, Dictionary, Error, Packet, Rational, color, encoder, frame};
use std::io;
use std::path::Path;
use std::sync::Once;

/// Every supported encoder, software first.
const KNOWN: [&str; 15] = [
    "libx264",
    "libx265",
    "libsvtav1",
    "libaom-av1",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
    "h264_amf",
    "hevc_amf",
    "av1_amf",
    "h264_videotoolbox",
    "hevc_videotoolbox",
];

/// The longest side: MP4 has 16 bits for it, and encoders stop at or below this.
const MAX_SIDE: usize = 16384;

/// The number of frames that libx265, as FFmpeg configures it, decodes before the first is shown (B pyramid).
const X265_REORDER: i64 = 2;

pub(crate) struct FfmpegWriter {
    spec: ClipSpec,
    name: String,
    // Closed before the file under it is removed: fields are dropped in this order.
    output: context::Output,
    encoder: encoder::Video,
    out: Output,
    picture: Yuv420,
    sound: Option<SoundWriter>,
    /// Whether the header is written, after which there can be no more tracks.
    has_header: bool,
    frames: u64,
    packets: i64,
}

// SAFETY: FFmpeg's contexts have no ties to a thread; they are only used through `&mut self`.
#[expect(unsafe_code, reason = "the wrapper marks half of its contexts as Send")]
unsafe impl Send for FfmpegWriter {}

impl FfmpegWriter {
    pub(crate) fn create(path: &Path, spec: &ClipSpec, options: &WriteOptions, name: &str) -> Result<Self> {
        let &ClipSpec { width, height, .. } = spec;
        if width.min(height) < 16 || width.max(height) > MAX_SIDE {
            let limit = "each side is from 16 to 16384";
            return Err(MediaError::Size { format: "MP4", width, height, limit });
        }
        start();
        let out = Output::create(path)?;
        let failed = |error| failed(name, "start", path, error);
        let picture = Yuv420::new(width, height);
        let codec = encoder::find_by_name(name).ok_or(Error::EncoderNotFound).map_err(failed)?;
        let settings = settings(name, options.quality)?;
        // Named as a file, so that a colon in the path does not read as a protocol.
        let url = out.temporary_path().to_str().filter(|path| !path.contains('\0')).map(|path| format!("file:{path}"));
        let url = url.ok_or_else(|| MediaError::encoder(name, "start", "FFmpeg takes only paths in UTF-8"))?;
        let mut output = format::output_as(&url, "mp4").map_err(failed)?;
        let encoder = open(codec, &output, &picture, spec.fps, &settings).map_err(failed)?;
        add_stream(&mut output, &encoder, spec.fps).map_err(failed)?;
        if let Some(recipe) = &options.recipe {
            output.set_metadata([("comment", recipe.as_str())].into_iter().collect());
        }
        let (sound, has_header) = (None, false);
        Ok(Self {
            spec: *spec,
            name: name.into(),
            output,
            encoder,
            out,
            picture,
            sound,
            has_header,
            frames: 0,
            packets: 0,
        })
    }

    /// Writes the header, which names all tracks.
    fn begin(&mut self) -> Result<(), Error> {
        if !self.has_header {
            // Older libraries take Opus in MP4 for an experiment.
            let options = Dictionary::from_iter([("strict", "experimental")]);
            self.output.write_header_with(options).map(drop)?;
            self.has_header = true;
        }
        Ok(())
    }

    /// Writes the packets that the encoder has ready to the file.
    fn drain(&mut self) -> Result<(), Error> {
        let (tick, ticks) = ticks(self.spec.fps);
        let stream_time = self.output.stream(0).ok_or(Error::StreamNotFound)?.time_base();
        let mut packet = Packet::empty();
        loop {
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => {}
                Err(Error::Eof) => return Ok(()),
                Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => return Ok(()),
                Err(error) => return Err(error),
            }
            packet.set_stream(0);
            // Not every encoder says it, and without it the last frame has no length.
            packet.set_duration(ticks);
            if self.name == "libx265" {
                // It leaves the decoding times of clips that are shorter than its delay unset.
                packet.set_dts(Some((self.packets - X265_REORDER) * ticks));
            }
            self.packets += 1;
            packet.rescale_ts(tick, stream_time);
            packet.write_interleaved(&mut self.output)?;
        }
    }

    fn complete(&mut self) -> Result<(), Error> {
        self.encoder.send_eof()?;
        self.drain()?;
        if let Some(sound) = &mut self.sound {
            sound.write(&mut self.output, self.frames, true)?;
        }
        self.output.write_trailer()
    }
}

impl ClipWriter for FfmpegWriter {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.spec.check(frame, self.frames)?;
        self.picture.fill(frame);
        let mut picture = av_frame(&self.picture, self.encoder.format());
        picture.set_pts(Some(self.frames as i64 * ticks(self.spec.fps).1));
        let sent = self.begin().and_then(|()| self.encoder.send_frame(&picture)).and_then(|()| self.drain());
        sent.map_err(|error| failed(&self.name, "encode", self.out.target(), error))?;
        self.frames += 1;
        if let Some(sound) = &mut self.sound {
            let written = sound.write(&mut self.output, self.frames, false);
            written.map_err(|error| failed(&self.name, "write the sound", self.out.target(), error))?;
        }
        Ok(())
    }

    fn sound(&mut self, sound: &SoundTrack) -> Result<Option<String>> {
        if self.has_header {
            return Ok(Some("the sound came after the first frame: it is not kept".into()));
        }
        let added = SoundWriter::add(sound, self.spec.fps, &mut self.output);
        match added.map_err(|error| failed(&self.name, "add the sound", self.out.target(), error))? {
            Ok(sound) => self.sound = Some(sound),
            Err(sentence) => return Ok(Some(sentence)),
        }
        Ok(None)
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        let path = self.out.target().to_path_buf();
        if self.frames == 0 {
            return Err(MediaError::NoFrames { path });
        }
        self.complete().map_err(|error| failed(&self.name, "finish", &path, error))?;
        let Self { spec, output, out, picture, frames, .. } = *self;
        drop(output);
        let bytes = out.commit()?;
        let (width, height) = (picture.width, picture.height);
        Ok(Written { path, frames, bytes, width, height, notes: picture.size_notes(&spec) })
    }
}

/// Returns the supported encoders that the linked FFmpeg has. A hardware encoder among them may still find no hardware.
pub(crate) fn encoders() -> Vec<String> {
    start();
    KNOWN.iter().filter(|name| encoder::find_by_name(name).is_some()).map(|&name| name.to_owned()).collect()
}

/// Silences FFmpeg's log, which goes to standard error by default. (libsvtav1 prints without FFmpeg's log; `SVT_LOG=1` in the
/// environment silences it.)
pub(crate) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fills in the texts of errors; it cannot fail.
        let _ = ffmpeg_next::init();
        ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
    });
}

/// Returns the options for constant quality, on the encoder's own scale if it has one.
fn settings(name: &str, quality: Option<u8>) -> Result<Vec<(&'static str, String)>> {
    let (default, worst) = match name {
        "libsvtav1" | "libaom-av1" => (22, 63),
        _ => (16, 51),
    };
    let quality = quality.unwrap_or(default);
    if quality > worst {
        return Err(MediaError::Quality { given: quality, encoder: name.into(), worst });
    }
    let text = quality.to_string();
    let family = name.rsplit_once('_').map_or(name, |(_, family)| family);
    Ok(match family {
        "libx264" => vec![("crf", text)],
        "libx265" => vec![("crf", text), ("x265-params", "log-level=none".into())],
        // It takes a CRF of 0 for none at all.
        "libsvtav1" => vec![("crf", quality.max(1).to_string()), ("preset", "8".into())],
        "libaom-av1" => vec![("crf", text), ("b", "0".into()), ("cpu-used", "6".into()), ("row-mt", "1".into())],
        "nvenc" => vec![("rc", "constqp".into()), ("qp", text)],
        "amf" => vec![("rc", "cqp".into()), ("qp_i", text.clone()), ("qp_p", text)],
        // Apple's counts from 100 (best) in units of FF_QP2LAMBDA.
        "videotoolbox" => {
            let percent = 100 - u32::from(quality) * 100 / 51;
            vec![("flags", "+qscale".into()), ("global_quality", (percent * 118).to_string())]
        }
        _ => vec![("global_quality", text)],
    })
}

fn open(
    codec: Codec,
    output: &context::Output,
    picture: &Yuv420,
    fps: Fps,
    settings: &[(&'static str, String)],
) -> Result<encoder::Video, Error> {
    let mut context = Context::new_with_codec(codec);
    // Closed groups, so that every keyframe is a place to start at.
    let mut flags = Flags::CLOSED_GOP;
    if output.format().flags().contains(format::Flags::GLOBAL_HEADER) {
        flags |= Flags::GLOBAL_HEADER;
    }
    context.set_flags(flags);
    let mut video = context.encoder().video()?;
    video.set_width(picture.width as u32);
    video.set_height(picture.height as u32);
    video.set_format(pixel_format(codec)?);
    video.set_time_base(ticks(fps).0);
    video.set_frame_rate(Some(frame_rate(fps)));
    video.set_gop(fps.keyframe_interval());
    video.set_colorspace(color::Space::BT709);
    video.set_color_range(color::Range::MPEG);
    video.set_color_primaries(color::Primaries::BT709);
    video.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
    let settings: Dictionary = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    video.open_as_with(codec, settings)
}

/// Returns planar 4:2:0, or 4:2:0 with interleaved chroma for encoders that take nothing else.
fn pixel_format(codec: Codec) -> Result<Pixel, Error> {
    let Some(formats) = codec.video()?.formats() else { return Ok(Pixel::YUV420P) };
    let formats: Vec<Pixel> = formats.collect();
    let known = [Pixel::YUV420P, Pixel::NV12];
    known.into_iter().find(|format| formats.contains(format)).ok_or(Error::InvalidData)
}

fn add_stream(output: &mut context::Output, encoder: &encoder::Video, fps: Fps) -> Result<(), Error> {
    let mut stream = output.add_stream_with(encoder)?;
    stream.set_time_base(ticks(fps).0);
    stream.set_avg_frame_rate(frame_rate(fps));
    let mut parameters = stream.parameters();
    if parameters.id() == ffmpeg_next::codec::Id::HEVC {
        // Players of Apple take H.265 under this tag only.
        // SAFETY: the parameters belong to the stream, which outlives this.
        #[expect(unsafe_code, reason = "the wrapper has no setter for the tag")]
        unsafe {
            (*parameters.as_mut_ptr()).codec_tag = u32::from_le_bytes(*b"hvc1");
        }
    }
    Ok(())
}

fn frame_rate(fps: Fps) -> Rational {
    Rational::new(fps.num() as i32, fps.den() as i32)
}

/// Returns the unit of time in seconds, and the number of units per frame: one, unless a frame lasts longer than a second,
/// which is the longest unit that libaom takes.
fn ticks(fps: Fps) -> (Rational, i64) {
    let ticks = fps.den().div_ceil(fps.num());
    (Rational::new(fps.den() as i32, (fps.num() * ticks) as i32), i64::from(ticks))
}

fn av_frame(picture: &Yuv420, format: Pixel) -> frame::Video {
    let &Yuv420 { width, height, ref y, ref u, ref v } = picture;
    let mut out = frame::Video::new(format, width as u32, height as u32);
    copy_plane(&mut out, 0, y, width);
    if format == Pixel::NV12 {
        let interleaved: Vec<u8> = u.iter().zip(v).flat_map(|(&u, &v)| [u, v]).collect();
        copy_plane(&mut out, 1, &interleaved, width);
    } else {
        copy_plane(&mut out, 1, u, width / 2);
        copy_plane(&mut out, 2, v, width / 2);
    }
    out
}

/// Copies rows into FFmpeg's padded rows.
fn copy_plane(out: &mut frame::Video, plane: usize, rows: &[u8], width: usize) {
    let stride = out.stride(plane);
    for (out, row) in out.data_mut(plane).chunks_mut(stride).zip(rows.chunks(width)) {
        out[..width].copy_from_slice(row);
    }
}

fn failed(name: &str, action: &'static str, path: &Path, error: Error) -> MediaError {
    match error {
        Error::Other { errno } if errno == ffmpeg_next::error::ENOSPC => {
            MediaError::io("write", path, io::Error::from_raw_os_error(errno))
        }
        other => MediaError::encoder(name, action, other.to_string()),
    }
}
