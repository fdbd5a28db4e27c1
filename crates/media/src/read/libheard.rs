//! Sound that `FFmpeg`'s libraries decode, at its own sample rate.

use crate::error::{MediaError, Result};
use crate::ffmpeg::start;
use crate::sound::Sound;
use crate::sound::track::{Foreign, MAX_VALUES};
use crate::stored::Stored;
use ffmpeg_next::codec::Context;
use ffmpeg_next::format::{self, Sample};
use ffmpeg_next::{Dictionary, Error, Packet, decoder, frame, media};

/// The sound of a file, not decoded yet.
#[derive(Debug)]
pub(crate) struct LibrarySound {
    stored: Stored,
    kind: (u32, usize),
    start: f64,
    seconds: Option<f64>,
}

impl LibrarySound {
    /// Returns the sound of the best sound track, of a sample rate and a number of channels. The first frame is shown at the
    /// time `start`, and all frames for `seconds`, if that is known.
    pub(crate) fn new(stored: &Stored, kind: (u32, usize), start: f64, seconds: Option<f64>) -> Self {
        Self { stored: stored.clone(), kind, start, seconds }
    }

    fn failed(&self, what: &str) -> MediaError {
        let what = format!("its sound cannot be decoded: {what}");
        MediaError::Damaged { path: self.stored.path.clone(), what }
    }

    /// Decodes the samples, which alternate between the channels, with the rate and the channels that come out.
    fn samples(&self, url: &str) -> Result<(u32, usize, Vec<f32>), Error> {
        let options = Dictionary::from_iter([("protocol_whitelist", "file")]);
        let mut input = format::input_with_dictionary(&url, options)?;
        let stream = input.streams().best(media::Type::Audio).ok_or(Error::StreamNotFound)?;
        let (track, unit) = (stream.index(), stream.time_base());
        let mut decoder = Context::from_parameters(stream.parameters())?.decoder();
        decoder.set_packet_time_base(unit);
        let mut decoder = decoder.audio()?;
        let (mut frame, mut packet) = (frame::Audio::empty(), Packet::empty());
        let mut out = Out { rate: 0, channels: 0, values: Vec::new(), most: MAX_VALUES };
        let mut is_over = false;
        while !is_over && !out.is_full() {
            match packet.read(&mut input) {
                Ok(()) if packet.stream() != track => continue,
                Ok(()) => decoder.send_packet(&packet)?,
                Err(Error::Eof) => {
                    is_over = true;
                    decoder.send_eof()?;
                }
                Err(error) => return Err(error),
            }
            while received(&mut decoder, &mut frame)? {
                let time =
                    frame.pts().map(|pts| pts as f64 * f64::from(unit.numerator()) / f64::from(unit.denominator()));
                out.add(&frame, time.map(|time| time - self.start), self.seconds)?;
            }
        }
        Ok((out.rate, out.channels, out.values))
    }
}

impl Foreign for LibrarySound {
    fn kind(&self) -> (u32, usize) {
        self.kind
    }

    fn decoded(&self) -> Result<Sound> {
        start();
        let (file, _own) = self.stored.on_disk()?;
        let url = file.to_str().filter(|path| !path.contains('\0')).map(|path| format!("file:{path}"));
        let url = url.ok_or_else(|| self.failed("FFmpeg takes only paths in UTF-8"))?;
        let decoded = self.samples(&url);
        let (rate, channels, values) = decoded.map_err(|error| self.failed(&format!("FFmpeg says: {error}")))?;
        if channels == 0 {
            return Err(self.failed("it has no samples"));
        }
        Sound::of_interleaved(rate, channels, &values)
    }
}

/// The samples so far.
struct Out {
    rate: u32,
    channels: usize,
    values: Vec<f32>,
    /// The most values that are taken.
    most: usize,
}

impl Out {
    fn is_full(&self) -> bool {
        self.values.len() >= self.most
    }

    /// Adds a frame; the first one, at a time in seconds after the first picture, has silence before it, or loses its start.
    fn add(&mut self, frame: &frame::Audio, time: Option<f64>, seconds: Option<f64>) -> Result<(), Error> {
        let (rate, channels) = (frame.rate(), usize::from(frame.channels()));
        let mut values = interleaved(frame).ok_or(Error::InvalidData)?;
        if self.channels == 0 {
            (self.rate, self.channels) = (rate, channels);
            let most = seconds.map(|seconds| (seconds * f64::from(rate)).round() as usize * channels);
            self.most = most.unwrap_or(MAX_VALUES).min(MAX_VALUES);
            let late = (time.unwrap_or(0.0) * f64::from(rate)).round();
            if late > 0.0 {
                self.values = vec![0.0; (late as usize * channels).min(self.most)];
            } else {
                values.drain(..(-late as usize * channels).min(values.len()));
            }
        }
        if (rate, channels) != (self.rate, self.channels) {
            return Err(Error::InvalidData);
        }
        values.truncate(self.most - self.values.len().min(self.most));
        self.values.extend(values);
        Ok(())
    }
}

/// Returns whether the decoder has another frame ready.
fn received(decoder: &mut decoder::Audio, frame: &mut frame::Audio) -> Result<bool, Error> {
    match decoder.receive_frame(frame) {
        Ok(()) => Ok(true),
        Err(Error::Eof) => Ok(false),
        Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns a frame's samples, which alternate between the channels; none of an unknown format.
fn interleaved(frame: &frame::Audio) -> Option<Vec<f32>> {
    let (channels, samples) = (usize::from(frame.channels()), frame.samples());
    if channels == 0 {
        return None;
    }
    let size = match frame.format() {
        Sample::U8(_) => 1,
        Sample::I16(_) => 2,
        Sample::I32(_) | Sample::F32(_) => 4,
        Sample::I64(_) | Sample::F64(_) => 8,
        Sample::None => return None,
    };
    let value = |b: &[u8]| match (frame.format(), b) {
        (Sample::U8(_), &[a]) => (f32::from(a) - 128.0) / 128.0,
        (Sample::I16(_), &[a, b]) => f32::from(i16::from_ne_bytes([a, b])) / 32768.0,
        (Sample::I32(_), &[a, b, c, d]) => i32::from_ne_bytes([a, b, c, d]) as f32 / 2_147_483_648.0,
        (Sample::F32(_), &[a, b, c, d]) => f32::from_ne_bytes([a, b, c, d]),
        (Sample::F64(_), &[a, b, c, d, e, f, g, h]) => f64::from_ne_bytes([a, b, c, d, e, f, g, h]) as f32,
        (Sample::I64(_), &[a, b, c, d, e, f, g, h]) => {
            i64::from_ne_bytes([a, b, c, d, e, f, g, h]) as f32 / 9_223_372_036_854_775_808.0
        }
        _ => 0.0,
    };
    if frame.is_packed() {
        let bytes = plane(frame, 0, samples * channels * size)?;
        return Some(bytes.chunks_exact(size).map(value).collect());
    }
    let planes: Option<Vec<&[u8]>> = (0..channels).map(|index| plane(frame, index, samples * size)).collect();
    let planes = planes?;
    let at = |sample: usize| planes.iter().map(move |plane| &plane[sample * size..][..size]);
    Some((0..samples).flat_map(at).map(value).collect())
}

/// Returns the bytes of a plane; of those after the eighth there is no more in a frame than pointers elsewhere.
fn plane(frame: &frame::Audio, index: usize, len: usize) -> Option<&[u8]> {
    // SAFETY: a decoded frame has as many planes as its format has, of which `linesize[0]` says the length.
    #[expect(
        unsafe_code,
        reason = "the wrapper takes the length of every plane from its own entry, which only the first has"
    )]
    unsafe {
        let raw = frame.as_ptr();
        let data = *(*raw).extended_data.add(index);
        let has = usize::try_from((*raw).linesize[0]).ok()?;
        (!data.is_null() && len <= has).then(|| std::slice::from_raw_parts(data, len))
    }
}
