//! The embedded codec of sound: Opus (RFC 6716) at 48 kHz, by libopus 1.3.1 as the crate unsafe-libopus has it in Rust.
//!
//! Packets are 20 ms, the last ones less. The bit rate varies, around 128 kbit/s for each channel, with which pure tones come back 40 dB above
//! what the codec adds, and dense sound 20 to 30 dB (the codec hides the rest where ears do not hear it).

#![expect(unsafe_code, reason = "the codec has the interface of the C library")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use unsafe_libopus::{
    OPUS_APPLICATION_AUDIO, OPUS_GET_LOOKAHEAD_REQUEST, OPUS_OK, OPUS_SET_BITRATE_REQUEST, OPUS_SET_COMPLEXITY_REQUEST,
    OPUS_SET_VBR_CONSTRAINT_REQUEST, OpusDecoder, OpusEncoder, opus_decode_float, opus_decoder_create,
    opus_decoder_destroy, opus_encode_float, opus_encoder_create, opus_encoder_ctl, opus_encoder_destroy,
    opus_strerror,
};

/// The samples per second that go in and come out.
pub(crate) const RATE: u32 = 48_000;

/// The samples that a packet may have, of each channel: 20, 10, 5 or 2.5 ms.
pub(crate) const PACKETS: [usize; 4] = [960, 480, 240, 120];

/// The most channels that are coded in one stream.
pub(crate) const MAX_CHANNELS: usize = 2;

/// The bits per second of each channel, on average.
const BIT_RATE: i32 = 128_000;

/// The longest packet of one stream with one frame in it.
const MAX_BYTES: usize = 1275 + 1;

/// The most samples of a packet: 120 ms.
const MAX_SAMPLES: usize = 5760;

/// The pole of the encoder's own high-pass filter at 3 Hz (`dc_reject`).
const REJECTED: f64 = 6.3 * 3.0 / 48_000.0;

/// How much slower the inverse of that filter forgets.
const LEAK: f64 = 0.1;

pub(crate) struct Encoder {
    raw: *mut OpusEncoder,
    channels: usize,
    /// The samples that the decoder gives before the first one of the sound.
    pub(crate) lookahead: usize,
    /// What the inverse filter remembers of each channel.
    below: [f64; MAX_CHANNELS],
}

// SAFETY: the encoder is a heap object with no ties to a thread; it is only used through `&mut self`.
unsafe impl Send for Encoder {}

impl Encoder {
    /// Returns an encoder for one or two channels.
    pub(crate) fn new(channels: usize) -> Result<Self, String> {
        let (mut status, mut lookahead) = (OPUS_OK, 0_i32);
        // SAFETY: the pointer to the status is valid for the length of the call.
        let raw = unsafe { opus_encoder_create(RATE as i32, channels as i32, OPUS_APPLICATION_AUDIO, &raw mut status) };
        if raw.is_null() {
            return Err(reason(status));
        }
        let mut encoder = Self { raw, channels, lookahead: 0, below: [0.0; MAX_CHANNELS] };
        // SAFETY: the encoder exists, and each request gets the argument that it is for.
        let statuses = unsafe {
            [
                opus_encoder_ctl!(encoder.raw, OPUS_SET_BITRATE_REQUEST, BIT_RATE * channels as i32),
                opus_encoder_ctl!(encoder.raw, OPUS_SET_VBR_CONSTRAINT_REQUEST, 0),
                opus_encoder_ctl!(encoder.raw, OPUS_SET_COMPLEXITY_REQUEST, 10),
                opus_encoder_ctl!(encoder.raw, OPUS_GET_LOOKAHEAD_REQUEST, &mut lookahead),
            ]
        };
        if let Some(status) = statuses.into_iter().find(|status| *status != OPUS_OK) {
            return Err(reason(status));
        }
        encoder.lookahead = lookahead.max(0) as usize;
        Ok(encoder)
    }

    /// Encodes the next samples, as many as a packet may have, which alternate between the channels, and are changed; those
    /// outside -1..1 are clipped.
    pub(crate) fn encode(&mut self, samples: &mut [f32]) -> Result<Vec<u8>, String> {
        let count = samples.len() / self.channels;
        if !PACKETS.contains(&count) {
            return Err(format!("a packet of {count} samples"));
        }
        self.lift(samples);
        let mut packet = vec![0; MAX_BYTES];
        // SAFETY: the encoder exists, reads as many samples as there are, and writes no more bytes than there is room for.
        let status = unsafe {
            opus_encode_float(self.raw, samples.as_ptr(), count as i32, packet.as_mut_ptr(), MAX_BYTES as i32)
        };
        match usize::try_from(status) {
            Ok(length) if length > 0 => packet.truncate(length),
            _ => return Err(reason(status)),
        }
        Ok(packet)
    }

    /// Applies the inverse of the encoder's high-pass filter, which would turn the phase of low tones: by a hundredth at 300 Hz. It
    /// forgets slowly, so that a constant does not grow without end.
    fn lift(&mut self, samples: &mut [f32]) {
        for frame in samples.chunks_exact_mut(self.channels) {
            for (sample, below) in frame.iter_mut().zip(&mut self.below) {
                let value = f64::from(sample.clamp(-1.0, 1.0));
                *sample = (value + *below) as f32;
                *below = REJECTED * value + (1.0 - LEAK * REJECTED) * *below;
            }
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: the encoder exists, and is not used after this.
        unsafe { opus_encoder_destroy(self.raw) };
    }
}

pub(crate) struct Decoder {
    raw: *mut OpusDecoder,
    channels: usize,
    samples: Vec<f32>,
}

// SAFETY: the decoder is a heap object with no ties to a thread; it is only used through `&mut self`.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Returns a decoder that gives one or two channels, whatever packets have.
    pub(crate) fn new(channels: usize) -> Result<Self, String> {
        let mut status = OPUS_OK;
        // SAFETY: the pointer to the status is valid for the length of the call.
        let raw = unsafe { opus_decoder_create(RATE as i32, channels as i32, &raw mut status) };
        if raw.is_null() {
            return Err(reason(status));
        }
        Ok(Self { raw, channels, samples: vec![0.0; MAX_SAMPLES * channels] })
    }

    /// Decodes a packet: samples that alternate between the channels. After an error the decoder must not be used any more.
    pub(crate) fn decode(&mut self, packet: &[u8]) -> Result<&[f32], String> {
        if packet.is_empty() {
            return Err("an empty packet".into());
        }
        let length = i32::try_from(packet.len()).map_err(|_| "a packet of more than 2 GiB")?;
        let (raw, samples) = (self.raw, self.samples.as_mut_ptr());
        // SAFETY: the decoder exists, reads as many bytes as there are, and writes no more samples than there is room for.
        let decode = || unsafe { opus_decode_float(raw, packet.as_ptr(), length, samples, MAX_SAMPLES as i32, 0) };
        let status = catch_unwind(AssertUnwindSafe(decode)).map_err(|_| "the decoder failed")?;
        let count = usize::try_from(status).map_err(|_| reason(status))?;
        Ok(&self.samples[..count * self.channels])
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the decoder exists, and is not used after this.
        unsafe { opus_decoder_destroy(self.raw) };
    }
}

/// Returns the library's words for a status.
fn reason(status: i32) -> String {
    opus_strerror(status).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_comes_back_in_time() {
        const PACKET: usize = PACKETS[0];
        for channels in [1, 2] {
            let (mut encoder, mut decoder) = (Encoder::new(channels).unwrap(), Decoder::new(channels).unwrap());
            let tone = |at: usize| (at as f32 / 48_000.0 * 300.0 * std::f32::consts::TAU).sin() * 0.4;
            let mut decoded = Vec::new();
            for packet in 0..50 {
                let mut samples: Vec<f32> =
                    (0..PACKET * channels).map(|value| tone(packet * PACKET + value / channels)).collect();
                decoded.extend_from_slice(decoder.decode(&encoder.encode(&mut samples).unwrap()).unwrap());
            }
            let [mut signal, mut error] = [0.0; 2];
            for at in 4800..48_000 - encoder.lookahead {
                for channel in 0..channels {
                    let (wanted, got) = (tone(at), decoded[(at + encoder.lookahead) * channels + channel]);
                    signal += f64::from(wanted).powi(2);
                    error += f64::from(wanted - got).powi(2);
                }
            }
            let snr = 10.0 * (signal / error).log10();
            assert!(snr > 40.0, "{channels} channels: {snr:.1} dB");
        }
    }

    /// Half a minute of a constant, which the inverse filter lifts, stays within bounds.
    #[test]
    fn a_constant_does_not_grow() {
        let mut encoder = Encoder::new(1).unwrap();
        for _ in 0..1500 {
            let mut samples = vec![0.1; PACKETS[0]];
            encoder.encode(&mut samples).unwrap();
            assert!(samples.iter().all(|sample| sample.abs() < 1.2));
        }
    }

    #[test]
    fn any_bytes_are_samples_or_an_error() {
        let mut state = 0x2545_f491_u32;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let mut decoded = 0;
        for _ in 0..300 {
            let mut decoder = Decoder::new(2).unwrap();
            for _ in 0..10 {
                let packet: Vec<u8> = (0..random() % 300).map(|_| random() as u8).collect();
                let Ok(samples) = decoder.decode(&packet) else { break };
                assert!(samples.len() <= 2 * MAX_SAMPLES);
                decoded += 1;
            }
        }
        assert!(decoded > 100, "{decoded}");
        assert!(Decoder::new(2).unwrap().decode(&[]).is_err());
    }
}
