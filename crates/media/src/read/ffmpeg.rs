//! Files that `FFmpeg`'s libraries read, where the embedded reader does not support them: the first or best video stream, frame
//! by frame.
//!
//! This crate unpacks pixels by their description (`AVPixFmtDescriptor`) and converts them to RGB, so that colours are the same
//! as those of the embedded reader.

use crate::ClipReader;
use crate::clip::{ClipSpec, Fps, Frame};
use crate::error::{MediaError, Result};
use crate::ffmpeg::start;
use crate::read::colour::{Colour, LEFT, Yuv};
use crate::read::facts::Facts;
use crate::read::libheard::LibrarySound;
use crate::read::packets::Packets;
use crate::read::refused::Refused;
use crate::read::turn::Turn;
use crate::read::usual_matrix;
use crate::sound::track::{Content, SoundTrack};
use crate::stored::Stored;
use ffmpeg_next::chroma::Location;
use ffmpeg_next::codec::Context;
use ffmpeg_next::codec::packet::side_data::Type as SideData;
use ffmpeg_next::color::TransferCharacteristic;
use ffmpeg_next::ffi::{
    AV_PIX_FMT_FLAG_ALPHA, AV_PIX_FMT_FLAG_BAYER, AV_PIX_FMT_FLAG_BE, AV_PIX_FMT_FLAG_BITSTREAM, AV_PIX_FMT_FLAG_FLOAT,
    AV_PIX_FMT_FLAG_HWACCEL, AV_PIX_FMT_FLAG_PAL, AV_PIX_FMT_FLAG_RGB, AV_PKT_FLAG_DISCARD, AVPixFmtDescriptor,
    av_version_info,
};
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::format::stream::Stream;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, color, decoder, format, frame, media};
use std::ffi::c_int;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempPath;

/// The largest picture that is decoded, 8192×8192.
const MAX_PIXELS: i64 = 1 << 26;

/// The flags of pixel formats that do not store colour values.
const NOT_PLAIN: c_int = AV_PIX_FMT_FLAG_BITSTREAM
    | AV_PIX_FMT_FLAG_PAL
    | AV_PIX_FMT_FLAG_HWACCEL
    | AV_PIX_FMT_FLAG_BAYER
    | AV_PIX_FMT_FLAG_FLOAT;

pub(crate) struct FfmpegReader {
    path: PathBuf,
    input: Input,
    stream: usize,
    decoder: decoder::Video,
    spec: ClipSpec,
    /// The width and height before turning.
    stored: (usize, usize),
    turn: Turn,
    sound: Option<SoundTrack>,
    notes: Vec<String>,
    /// The first frame, which is decoded when the file is opened.
    first: Option<Frame>,
    done: u64,
    /// The file of bytes in memory, which goes with the reader.
    _own: Option<TempPath>,
}

// SAFETY: FFmpeg's contexts have no ties to a thread; they are only used through `&mut self`.
#[expect(unsafe_code, reason = "the wrapper marks half of its contexts as Send")]
unsafe impl Send for FfmpegReader {}

impl FfmpegReader {
    pub(crate) fn open(in_file: &Stored) -> Result<Self> {
        start();
        let (file, own) = in_file.on_disk()?;
        let path = in_file.path.as_path();
        let unsupported = |what: String| MediaError::Unsupported { path: path.to_path_buf(), what };
        let failed = |error: Error| unsupported(format!("FFmpeg says: {error}"));
        // Named as a file, so that a colon in the path does not read as a protocol; a playlist may name files only.
        let url = file.to_str().filter(|path| !path.contains('\0')).map(|path| format!("file:{path}"));
        let url = url.ok_or_else(|| unsupported("FFmpeg takes only paths in UTF-8".into()))?;
        let options = Dictionary::from_iter([("protocol_whitelist", "file")]);
        let input = format::input_with_dictionary(&url, options.clone()).map_err(failed)?;
        let best = input.streams().best(media::Type::Video);
        let stream = best.ok_or_else(|| unsupported("it has no video track".into()))?;
        let decoder = open_decoder(&stream).map_err(failed)?;
        let stored = (decoder.width() as usize, decoder.height() as usize);
        if stored.0 * stored.1 == 0 {
            return Err(MediaError::Damaged { path: path.to_path_buf(), what: "its frames have no size".into() });
        }
        let turn = turn(&stream).ok_or_else(|| unsupported("it is shown at an angle".into()))?;
        let (width, height) = turn.size(stored.0, stored.1);
        let refused = |reason: Refused| reason.of(path);
        let mut notes = vec![format!("read by FFmpeg's libraries {}", version())];
        let (fps, uneven) = pace(&url, options, &stream).map_err(failed)?.map_err(refused)?;
        notes.extend(uneven);
        notes.extend(facts(&input, &stream, &decoder).notes().map_err(refused)?);
        let spec = ClipSpec { width, height, fps };
        let sound = sound(in_file, &input, &stream);
        let (path, stream) = (path.to_path_buf(), stream.index());
        let mut reader =
            Self { path, input, stream, decoder, spec, stored, turn, sound, notes, first: None, done: 0, _own: own };
        // Whether pictures are interlaced is known from the first one on.
        reader.first = reader.decode()?;
        Ok(reader)
    }

    /// Decodes the next frame.
    fn decode(&mut self) -> Result<Option<Frame>> {
        let mut frame = frame::Video::empty();
        loop {
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {
                    let frame = self.convert(&frame)?;
                    self.done += 1;
                    return Ok(Some(frame));
                }
                Err(Error::Eof) if self.done == 0 => return Err(self.damaged("it has no frames".into())),
                Err(Error::Eof) => return Ok(None),
                Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => self.feed()?,
                Err(error) => return Err(self.damaged(format!("FFmpeg says after frame {}: {error}", self.done))),
            }
        }
    }

    /// Sends the next packet of the stream, or the end of the stream, to the decoder.
    fn feed(&mut self) -> Result<()> {
        let mut packet = Packet::empty();
        loop {
            let sent = match packet.read(&mut self.input) {
                Ok(()) if packet.stream() != self.stream => continue,
                Ok(()) if packet.is_corrupt() => return Err(self.damaged("it is cut short".into())),
                Ok(()) => self.decoder.send_packet(&packet),
                Err(Error::Eof) => self.decoder.send_eof(),
                Err(error) => Err(error),
            };
            return sent.map_err(|error| self.damaged(format!("FFmpeg says after frame {}: {error}", self.done)));
        }
    }

    fn convert(&self, frame: &frame::Video) -> Result<Frame> {
        let got = (frame.width() as usize, frame.height() as usize);
        if got != self.stored {
            return Err(MediaError::FrameSize { index: self.done, got, expected: self.stored });
        }
        if frame.is_interlaced() {
            return Err(Refused::Interlaced.of(&self.path));
        }
        if is_broken(frame) {
            return Err(self.damaged(format!("frame {} cannot be decoded whole", self.done)));
        }
        let rgb = to_rgb(frame).ok_or_else(|| MediaError::Unsupported {
            path: self.path.clone(),
            what: format!("its pixels are {:?}, {:?}", frame.format(), frame.color_space()),
        })?;
        Ok(self.turn.apply(rgb))
    }

    fn damaged(&self, what: String) -> MediaError {
        MediaError::Damaged { path: self.path.clone(), what }
    }
}

impl ClipReader for FfmpegReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    /// Returns `None`: the number in a file includes frames that an edit list hides.
    fn frames(&self) -> Option<usize> {
        None
    }

    fn sound(&self) -> Option<SoundTrack> {
        self.sound.clone()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.decode(),
        }
    }
}

/// Returns the sound of a file whose pictures are in `stream`, if it has any.
fn sound(in_file: &Stored, input: &Input, stream: &Stream) -> Option<SoundTrack> {
    let track = input.streams().best(media::Type::Audio)?;
    let decoder = Context::from_parameters(track.parameters()).ok()?.decoder().audio().ok()?;
    let (unit, start) = (stream.time_base(), stream.start_time());
    // A time that is not known is the least number.
    let start = if start == i64::MIN { 0.0 } else { start as f64 * f64::from(unit) };
    let kind = (decoder.rate(), usize::from(decoder.channels()));
    Some(SoundTrack(Content::Foreign(Arc::new(LibrarySound::new(in_file, kind, start, None)))))
}

/// Returns the version of the libraries.
fn version() -> String {
    // SAFETY: the text is a constant of the library.
    #[expect(unsafe_code, reason = "the wrapper has no getter for the version")]
    let version = unsafe { std::ffi::CStr::from_ptr(av_version_info()) };
    version.to_string_lossy().into_owned()
}

/// Returns what the file says of a stream beside its pictures.
fn facts(input: &Input, stream: &Stream, decoder: &decoder::Video) -> Facts {
    let is_cover = |stream: &Stream| stream.disposition().contains(Disposition::ATTACHED_PIC);
    let is = |stream: &Stream, kind| stream.parameters().medium() == kind;
    // SAFETY: the stream exists.
    #[expect(unsafe_code, reason = "the wrapper has no getter for the stream's aspect")]
    let of_stream = Rational::from(unsafe { (*stream.as_ptr()).sample_aspect_ratio });
    let ratio =
        |aspect: Rational| [aspect.numerator(), aspect.denominator()].map(|side| u32::try_from(side).unwrap_or(0));
    let aspect = [of_stream, decoder.aspect_ratio()].map(ratio).into_iter().find(|&[wide, high]| wide > 0 && high > 0);
    // SAFETY: descriptors are constants of the library.
    #[expect(unsafe_code, reason = "the wrapper hides most of a descriptor")]
    let pixels = decoder.format().descriptor().map(|descriptor| unsafe { (*descriptor.as_ptr()).flags } as c_int);
    let dolby_vision =
        stream.side_data().any(|data| data.kind() == SideData::DOVI_CONF && data.data().get(2) == Some(&5));
    Facts {
        transfer: match decoder.color_transfer_characteristic() {
            _ if dolby_vision => Some(16),
            TransferCharacteristic::SMPTE2084 => Some(16),
            TransferCharacteristic::ARIB_STD_B67 => Some(18),
            _ => None,
        },
        primaries: match decoder.color_primaries() {
            color::Primaries::BT2020 => Some(9),
            color::Primaries::SMPTE431 => Some(11),
            color::Primaries::SMPTE432 => Some(12),
            _ => None,
        },
        aspect,
        interlaced: false, // known from the pictures
        has_alpha: pixels.is_some_and(|flags| flags & AV_PIX_FMT_FLAG_ALPHA != 0),
        has_sound: false, // it is read
        tracks: input.streams().filter(|stream| is(stream, media::Type::Video) && !is_cover(stream)).count(),
    }
}

/// Returns the speed of a stream by the times of all its packets, and a note if it is uneven.
fn pace(url: &str, options: Dictionary, stream: &Stream) -> Result<Result<(Fps, Option<String>), Refused>, Error> {
    let mut input = format::input_with_dictionary(url, options)?;
    let (mut packets, mut packet) = (Packets::default(), Packet::empty());
    while packet.read(&mut input).is_ok() {
        if packet.stream() == stream.index() {
            let is_shown = packet.flags().bits() & AV_PKT_FLAG_DISCARD as c_int == 0;
            packets.add(packet.pts(), packet.is_key(), is_shown);
        }
    }
    let unit = stream.time_base();
    let unit =
        u32::try_from(unit.numerator()).ok().zip(u32::try_from(unit.denominator()).ok().and_then(NonZeroU32::new));
    Ok(packets.pace(unit.unwrap_or((1, NonZeroU32::MIN)), rate(stream)))
}

fn open_decoder(stream: &Stream) -> Result<decoder::Video, Error> {
    let mut context = Context::from_parameters(stream.parameters())?;
    // SAFETY: the context exists and is not open yet.
    #[expect(unsafe_code, reason = "the wrapper has no setter for the limit")]
    unsafe {
        (*context.as_mut_ptr()).max_pixels = MAX_PIXELS;
    }
    context.decoder().video()
}

/// Returns the display matrix, if the stream has one.
fn turn(stream: &Stream) -> Option<Turn> {
    let data = stream.side_data().find(|data| data.kind() == SideData::DisplayMatrix);
    let Some(data) = data else { return Some(Turn::NONE) };
    let mut numbers = data.data().chunks_exact(4).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    Turn::from_matrix(std::array::from_fn(|_| numbers.next().unwrap_or(0)))
}

/// Returns the speed that the stream names: the rate of which every frame's time is a multiple, else the mean.
fn rate(stream: &Stream) -> Option<Fps> {
    let rates = [stream.rate(), stream.avg_frame_rate()];
    let ratio =
        |rate: &Rational| Some((u32::try_from(rate.numerator()).ok()?, u32::try_from(rate.denominator()).ok()?));
    rates.iter().find_map(|rate| ratio(rate).and_then(|(num, den)| Fps::new(num, den).ok()))
}

/// Returns whether parts of the frame were concealed.
fn is_broken(frame: &frame::Video) -> bool {
    // SAFETY: the frame exists.
    #[expect(unsafe_code, reason = "the wrapper has no getter for the flags")]
    let flags = unsafe { (*frame.as_ptr()).decode_error_flags };
    flags != 0 || frame.is_corrupt()
}

/// Returns the frame's picture, or `None` for an unsupported pixel format.
fn to_rgb(frame: &frame::Video) -> Option<Frame> {
    // SAFETY: descriptors are constants of the library.
    #[expect(unsafe_code, reason = "the wrapper hides most of a descriptor")]
    let pixels = unsafe { &*frame.format().descriptor()?.as_ptr() };
    let flags = pixels.flags as c_int;
    let depth = pixels.comp[0].depth as u32;
    let colours = if pixels.nb_components < 3 { 1 } else { 3 };
    let plain = pixels.comp[..colours].iter().all(|c| c.depth as u32 == depth && c.shift as u32 + depth <= 16);
    let xyz = [format::Pixel::XYZ12LE, format::Pixel::XYZ12BE].contains(&frame.format());
    if flags & NOT_PLAIN != 0 || xyz || !plain || depth < 8 {
        return None;
    }
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    if flags & AV_PIX_FMT_FLAG_RGB != 0 {
        let scale = 1.0 / ((1_u32 << depth) - 1) as f32;
        let planes = (0..colours).map(|index| component(frame, pixels, index, (width, height)));
        let planes = planes.collect::<Option<Vec<_>>>()?;
        let data = (0..3).flat_map(|c| planes[c.min(colours - 1)].iter().map(|&code| f32::from(code) * scale));
        return Some(Frame { width, height, data: data.collect() });
    }
    let mut chroma_shift = [u32::from(pixels.log2_chroma_w), u32::from(pixels.log2_chroma_h)];
    let luma = component(frame, pixels, 0, (width, height))?;
    let planes = if colours == 1 {
        chroma_shift = [0, 0];
        let grey = vec![1 << (depth - 1); luma.len()];
        [luma, grey.clone(), grey]
    } else {
        let size = Yuv::chroma_size(width, height, chroma_shift);
        [luma, component(frame, pixels, 1, size)?, component(frame, pixels, 2, size)?]
    };
    let picture = Yuv { width, height, depth, chroma_shift, centred: centred(frame.chroma_location()), planes };
    Some(colour(frame, colours == 1)?.to_rgb(&picture))
}

fn colour(frame: &frame::Video, grey: bool) -> Option<Colour> {
    let matrix = match frame.color_space() {
        color::Space::Unspecified => usual_matrix(frame.height() as usize),
        color::Space::BT709 => 1,
        color::Space::FCC => 4,
        color::Space::BT470BG | color::Space::SMPTE170M => 6,
        color::Space::SMPTE240M => 7,
        color::Space::BT2020NCL => 9,
        _ if grey => 1,
        _ => return None,
    };
    let full_range = match frame.color_range() {
        color::Range::JPEG => true,
        color::Range::MPEG => false,
        color::Range::Unspecified => grey || is_full_range(frame.format()),
    };
    Colour::new(matrix, full_range)
}

/// Returns whether the format is one of the older formats of full range.
fn is_full_range(pixels: format::Pixel) -> bool {
    use format::Pixel::{YUVJ411P, YUVJ420P, YUVJ422P, YUVJ440P, YUVJ444P};
    [YUVJ411P, YUVJ420P, YUVJ422P, YUVJ440P, YUVJ444P].contains(&pixels)
}

fn centred(location: Location) -> [bool; 2] {
    match location {
        Location::Center => [true, true],
        Location::TopLeft => [false, false],
        Location::Top => [true, false],
        _ => LEFT,
    }
}

/// Returns the `width`×`height` samples of one component.
fn component(
    frame: &frame::Video,
    pixels: &AVPixFmtDescriptor,
    index: usize,
    (width, height): (usize, usize),
) -> Option<Vec<u16>> {
    let part = &pixels.comp[index];
    let plane = usize::try_from(part.plane).ok()?;
    let (step, offset) = (usize::try_from(part.step).ok()?, usize::try_from(part.offset).ok()?);
    let (depth, shift) = (part.depth as u32, part.shift as u32);
    let bytes = if depth + shift > 8 { 2 } else { 1 };
    let len = offset + (width - 1) * step + bytes;
    let mask = ((1_u32 << depth) - 1) as u16;
    let big_endian = pixels.flags as c_int & AV_PIX_FMT_FLAG_BE != 0;
    // SAFETY: the frame exists.
    #[expect(unsafe_code, reason = "rows may run upwards, which the wrapper does not know")]
    let (start, stride) = unsafe { (*(*frame.as_ptr()).data.get(plane)?, *(*frame.as_ptr()).linesize.get(plane)?) };
    if start.is_null() || (stride.unsigned_abs() as usize) < len {
        return None;
    }
    let mut out = Vec::with_capacity(width * height);
    for row in 0..height {
        // SAFETY: the plane has `height` rows, a stride apart, and each has `len` bytes at least.
        #[expect(unsafe_code, reason = "see above")]
        let row = unsafe { std::slice::from_raw_parts(start.offset(row as isize * stride as isize), len) };
        out.extend((0..width).map(|x| match row[offset + x * step..] {
            [a, b, ..] if bytes == 2 && big_endian => u16::from_be_bytes([a, b]) >> shift & mask,
            [a, b, ..] if bytes == 2 => u16::from_le_bytes([a, b]) >> shift & mask,
            [a, ..] => u16::from(a) >> shift & mask,
            [] => 0,
        }));
    }
    Some(out)
}
