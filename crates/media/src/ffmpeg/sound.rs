//! Sound in files that FFmpeg's libraries write: AAC by their encoder, or the packets of another file as they are.

use crate::clip::Fps;
use crate::sound::Sound;
use crate::sound::track::{Content, SoundTrack};
use ffmpeg_next::codec::{Context, Flags, Id};
use ffmpeg_next::format::context::{Input, Output};
use ffmpeg_next::format::sample::Type;
use ffmpeg_next::format::{self, Sample};
use ffmpeg_next::{ChannelLayout, Dictionary, Error, Packet, Rational, encoder, frame, media};
use std::sync::Arc;

/// The sample rate of what is encoded.
const RATE: u32 = 48_000;

/// The bits per second of each channel.
const BIT_RATE: usize = 128_000;

/// The samples of a frame of AAC.
const FRAME: usize = 1024;

/// The sound of a file that is written.
pub(crate) struct SoundWriter {
    /// The number of the track in the file.
    track: usize,
    fps: Fps,
    kind: Kind,
}

enum Kind {
    Encoded { encoder: encoder::Audio, sound: Arc<Sound>, sent: usize },
    Copied { input: Input, from: usize, next: Option<Packet>, seconds: f64 },
}

impl SoundWriter {
    /// Adds a sound track to a file whose header is not written yet; `Err` is a sentence for the user if that is not possible.
    pub(crate) fn add(track: &SoundTrack, fps: Fps, output: &mut Output) -> Result<Result<Self, String>, Error> {
        if let Content::Coded(coded) = &track.0
            && let Ok((path, None)) = coded.stored.on_disk()
            && let Some(url) = path.to_str().filter(|path| !path.contains('\0'))
        {
            let ticks = (coded.heard.delay + coded.heard.length) as f64;
            let seconds = ticks / f64::from(coded.timescale.get());
            return Self::copied(&format!("file:{url}"), seconds, fps, output).map(Ok);
        }
        match track.decoded() {
            Ok(sound) if sound.channels > 2 => {
                Ok(Err(format!("the sound has {} channels, one or two are kept: it is not kept", sound.channels)))
            }
            Ok(sound) => match sound.resampled(RATE) {
                Ok(sound) => Self::encoded(Arc::new(sound), fps, output).map(Ok),
                Err(error) => Ok(Err(format!("the sound is not kept: {error}"))),
            },
            Err(error) => Ok(Err(format!("the sound is not kept: {error}"))),
        }
    }

    fn encoded(sound: Arc<Sound>, fps: Fps, output: &mut Output) -> Result<Self, Error> {
        let codec = encoder::find(Id::AAC).ok_or(Error::EncoderNotFound)?;
        let mut context = Context::new_with_codec(codec);
        if output.format().flags().contains(format::Flags::GLOBAL_HEADER) {
            context.set_flags(Flags::GLOBAL_HEADER);
        }
        let mut audio = context.encoder().audio()?;
        audio.set_rate(RATE as i32);
        audio.set_format(Sample::F32(Type::Planar));
        audio.set_channel_layout(ChannelLayout::default(sound.channels as i32));
        audio.set_bit_rate(BIT_RATE * sound.channels);
        audio.set_time_base(Rational::new(1, RATE as i32));
        let encoder = audio.open_as(codec)?;
        let mut stream = output.add_stream_with(&encoder)?;
        stream.set_time_base(Rational::new(1, RATE as i32));
        Ok(Self { track: stream.index(), fps, kind: Kind::Encoded { encoder, sound, sent: 0 } })
    }

    fn copied(url: &str, seconds: f64, fps: Fps, output: &mut Output) -> Result<Self, Error> {
        let options = Dictionary::from_iter([("protocol_whitelist", "file")]);
        let input = format::input_with_dictionary(&url, options)?;
        let from = input.streams().best(media::Type::Audio).ok_or(Error::StreamNotFound)?;
        let (parameters, from) = (from.parameters(), from.index());
        let mut stream = output.add_stream(encoder::find(Id::None))?;
        stream.set_parameters(parameters);
        // SAFETY: the parameters belong to the stream, which outlives this.
        #[expect(unsafe_code, reason = "the wrapper has no setter for the tag, which is the other container's")]
        unsafe {
            (*stream.parameters().as_mut_ptr()).codec_tag = 0;
        }
        Ok(Self { track: stream.index(), fps, kind: Kind::Copied { input, from, next: None, seconds } })
    }

    /// Writes the sound of the first `frames` frames, as far as it is not written yet; at the end of the clip, all of it.
    pub(crate) fn write(&mut self, output: &mut Output, frames: u64, is_end: bool) -> Result<(), Error> {
        match &mut self.kind {
            Kind::Encoded { encoder, sound, sent } => {
                let end = self.fps.start_of(frames, RATE.into()) as usize;
                while *sent + FRAME <= end || (is_end && *sent < end) {
                    let count = FRAME.min(end - *sent);
                    encoder.send_frame(&samples(sound, *sent, count))?;
                    *sent += count;
                    drain(encoder, output, self.track)?;
                }
                if is_end {
                    encoder.send_eof()?;
                    drain(encoder, output, self.track)?;
                }
                Ok(())
            }
            Kind::Copied { input, from, next, seconds } => {
                let end = (frames as f64 / self.fps.as_f64()).min(*seconds);
                copy(input, (*from, self.track), next, end, output)
            }
        }
    }
}

/// Writes the packets that the encoder has ready.
fn drain(encoder: &mut encoder::Audio, output: &mut Output, track: usize) -> Result<(), Error> {
    let unit = output.stream(track).ok_or(Error::StreamNotFound)?.time_base();
    let mut packet = Packet::empty();
    loop {
        match encoder.receive_packet(&mut packet) {
            Ok(()) => {}
            Err(Error::Eof) => return Ok(()),
            Err(Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => return Ok(()),
            Err(error) => return Err(error),
        }
        packet.set_stream(track);
        packet.rescale_ts(Rational::new(1, RATE as i32), unit);
        packet.write_interleaved(output)?;
    }
}

/// Writes the packets that begin before the time `end`, in seconds; the first one that does not is kept in `next`.
fn copy(
    input: &mut Input,
    (from, track): (usize, usize),
    next: &mut Option<Packet>,
    end: f64,
    output: &mut Output,
) -> Result<(), Error> {
    let before = input.stream(from).ok_or(Error::StreamNotFound)?.time_base();
    let after = output.stream(track).ok_or(Error::StreamNotFound)?.time_base();
    loop {
        let mut packet = match next.take() {
            Some(packet) => packet,
            None => {
                let mut packet = Packet::empty();
                match packet.read(input) {
                    Ok(()) if packet.stream() == from => packet,
                    Ok(()) => continue,
                    Err(Error::Eof) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        let start = packet.pts().unwrap_or(0) as f64 * f64::from(before.numerator()) / f64::from(before.denominator());
        if start >= end {
            *next = Some(packet);
            return Ok(());
        }
        packet.set_stream(track);
        packet.set_position(-1);
        packet.rescale_ts(before, after);
        packet.write_interleaved(output)?;
    }
}

/// Returns `count` samples from a place on; after the last one there is silence.
fn samples(sound: &Sound, start: usize, count: usize) -> frame::Audio {
    let layout = ChannelLayout::default(sound.channels as i32);
    let mut out = frame::Audio::new(Sample::F32(Type::Planar), count, layout);
    out.set_rate(RATE);
    out.set_pts(Some(start as i64));
    for index in 0..sound.channels {
        let samples = sound.channel(index);
        for (at, value) in out.plane_mut::<f32>(index).iter_mut().enumerate() {
            *value = samples.get(start + at).copied().unwrap_or(0.0);
        }
    }
    out
}
