//! [`SoundTrack`]: the sound of a clip as it is read and written, as samples or as the packets of a file.

use crate::error::{MediaError, Result};
use crate::sound::Sound;
#[cfg(feature = "opus")]
use crate::sound::opus;
use crate::stored::{Stored, Stream};
use shiguredo_mp4::BaseBox;
use shiguredo_mp4::boxes::SampleEntry;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::num::NonZeroU32;
use std::sync::Arc;

/// The sound of a clip, from its first frame on: samples, or the packets of the file that it is read from, which an MP4 file
/// takes over as they are.
#[derive(Debug, Clone)]
pub struct SoundTrack(pub(crate) Content);

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Samples(Arc<Sound>),
    Coded(Arc<Coded>),
    /// What `FFmpeg` decodes when it is asked for.
    Foreign(Arc<dyn Foreign>),
}

impl SoundTrack {
    /// Returns the number of samples per second of each channel.
    pub fn rate(&self) -> u32 {
        match &self.0 {
            Content::Samples(sound) => sound.rate,
            Content::Coded(coded) => coded.rate,
            Content::Foreign(foreign) => foreign.kind().0,
        }
    }

    /// Returns the number of channels.
    pub fn channels(&self) -> usize {
        match &self.0 {
            Content::Samples(sound) => sound.channels,
            Content::Coded(coded) => coded.channels,
            Content::Foreign(foreign) => foreign.kind().1,
        }
    }

    /// Returns whether packets are taken over as they are, without a loss.
    pub fn is_coded(&self) -> bool {
        matches!(self.0, Content::Coded(_))
    }

    /// Returns the samples. Sound that begins after the first frame has silence before it.
    ///
    /// # Errors
    /// Packets that cannot be read, are damaged, or are of a coding that neither this crate nor `FFmpeg` decodes here.
    pub fn decoded(&self) -> Result<Arc<Sound>> {
        match &self.0 {
            Content::Samples(sound) => Ok(Arc::clone(sound)),
            Content::Coded(coded) => coded.decoded().map(Arc::new),
            Content::Foreign(foreign) => foreign.decoded().map(Arc::new),
        }
    }
}

impl From<Sound> for SoundTrack {
    fn from(sound: Sound) -> Self {
        Self(Content::Samples(sound.into()))
    }
}

impl From<Arc<Sound>> for SoundTrack {
    fn from(sound: Arc<Sound>) -> Self {
        Self(Content::Samples(sound))
    }
}

/// The most values that are decoded: 46 minutes in stereo, a gigabyte.
pub(crate) const MAX_VALUES: usize = 1 << 28;

/// Decodes the sound of a file that this crate does not decode.
pub(crate) trait Foreign: Send + Sync + fmt::Debug {
    /// Returns the sample rate and the number of channels that come out.
    fn kind(&self) -> (u32, usize);

    /// Returns the samples from the first frame of the clip on, no more than its frames are shown for.
    fn decoded(&self) -> Result<Sound>;
}

/// The packets of a sound track in an MP4 file. Times are in ticks of the track.
pub(crate) struct Coded {
    pub(crate) stored: Stored,
    /// What a decoder must know of the packets.
    pub(crate) entry: SampleEntry,
    pub(crate) rate: u32,
    pub(crate) channels: usize,
    /// Ticks per second.
    pub(crate) timescale: NonZeroU32,
    pub(crate) packets: Vec<Packet>,
    pub(crate) heard: Heard,
    pub(crate) foreign: Option<Arc<dyn Foreign>>,
}

/// The place and the length of a packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Packet {
    pub(crate) offset: u64,
    pub(crate) size: u32,
    pub(crate) duration: u32,
}

/// The part of a track that is heard, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Heard {
    /// Silence before it, from the first frame on.
    pub(crate) delay: u64,
    /// Its start in the packets: what is before it is only there for the decoder.
    pub(crate) skip: u64,
    /// Its length.
    pub(crate) length: u64,
}

impl fmt::Debug for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Coded");
        all.field("path", &self.stored.path).field("coding", &self.entry.box_type().to_string());
        all.field("rate", &self.rate).field("channels", &self.channels).field("packets", &self.packets.len());
        all.field("heard", &self.heard).finish_non_exhaustive()
    }
}

impl Coded {
    /// Reads a packet from the opened file.
    pub(crate) fn read(&self, file: &mut Stream, packet: Packet) -> Result<Vec<u8>> {
        let mut bytes = vec![0; packet.size as usize];
        let read = file.seek(SeekFrom::Start(packet.offset)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|error| self.stored.failed(error)).map(|()| bytes)
    }

    fn decoded(&self) -> Result<Sound> {
        #[cfg(feature = "opus")]
        if let SampleEntry::Opus(entry) = &self.entry
            && self.channels <= opus::MAX_CHANNELS
            && self.timescale.get() == opus::RATE
        {
            return self.decoded_opus(10_f32.powf(f32::from(entry.dops_box.output_gain) / (20.0 * 256.0)));
        }
        if let Some(foreign) = &self.foreign {
            foreign.decoded()
        } else {
            let what = format!("its sound is {}, which this build does not decode", self.entry.box_type());
            Err(MediaError::Unsupported { path: self.stored.path.clone(), what })
        }
    }

    #[cfg(feature = "opus")]
    fn decoded_opus(&self, gain: f32) -> Result<Sound> {
        let damaged =
            |what: String| MediaError::Damaged { path: self.stored.path.clone(), what: format!("its sound: {what}") };
        let [delay, skip, length] =
            [self.heard.delay, self.heard.skip, self.heard.length].map(|ticks| ticks as usize * self.channels);
        if length > MAX_VALUES {
            return Err(damaged("it is too long to be decoded".into()));
        }
        let mut decoder = opus::Decoder::new(self.channels).map_err(damaged)?;
        let (mut file, mut samples, mut skipped) = (self.stored.open()?, vec![0.0; delay], 0);
        for &packet in &self.packets {
            let bytes = self.read(&mut file, packet)?;
            let decoded = decoder.decode(&bytes).map_err(damaged)?;
            let early = (skip - skipped).min(decoded.len());
            skipped += early;
            let late = &decoded[early..];
            samples.extend(late.iter().take(delay + length - samples.len()).map(|sample| sample * gain));
            if samples.len() == delay + length {
                break;
            }
        }
        samples.resize(delay + length, 0.0);
        Sound::of_interleaved(opus::RATE, self.channels, &samples)
    }
}
