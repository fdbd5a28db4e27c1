//! [`Packets`]: the pieces of a track, by whose times its speed is known.

use crate::clip::Fps;
use crate::read::facts::speed;
use crate::read::refused::Refused;
use std::num::NonZeroU32;

/// The packets of a track that are shown.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Packets {
    pub(crate) count: usize,
    /// Their times, as far as they have one.
    times: Vec<i64>,
    /// The time of the first keyframe; pictures that are shown before it cannot be decoded.
    start: Option<i64>,
}

impl Packets {
    /// Adds a packet, the next in the order of the file.
    pub(crate) fn add(&mut self, time: Option<i64>, is_key: bool, is_shown: bool) {
        if is_key && self.start.is_none() {
            self.start = time;
        }
        let is_early = time.zip(self.start).is_some_and(|(time, start)| time < start);
        if is_shown && !is_early {
            self.count += 1;
            self.times.extend(time);
        }
    }

    /// Returns the frames per second, and a note if frames are shown for different times. Times are in units of
    /// `unit.0 / unit.1` seconds; `rate` is the speed that the file or the stream names.
    pub(crate) fn pace(&self, unit: (u32, NonZeroU32), rate: Option<Fps>) -> Result<(Fps, Option<String>), Refused> {
        let mut times: Vec<i64> = self.times.iter().map(|&time| time.saturating_mul(unit.0.into())).collect();
        times.sort_unstable();
        times.dedup();
        // Some containers have no times, or only those of some pictures.
        let are_whole = self.times.len() == self.count && times.len() > 1;
        let (fps, note) = match rate {
            Some(rate) if !are_whole => (rate, None),
            _ => speed(&times, 0, unit.1)?,
        };
        // Times in coarse units hide the rate that the file or the stream names.
        let named = rate.filter(|rate| note.is_none() && (rate.as_f64() / fps.as_f64() - 1.0).abs() < 0.01);
        Ok((named.unwrap_or(fps), note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_are_not_shown_do_not_count() {
        let mut packets = Packets::default();
        // Shown before an edit, before the first keyframe, without a time.
        packets.add(Some(-12), true, false);
        packets.add(Some(-40), false, true);
        for time in [Some(0), Some(1024), Some(512), None] {
            packets.add(time, false, true);
        }
        assert_eq!(packets, Packets { count: 4, times: vec![0, 1024, 512], start: Some(-12) });
    }

    #[test]
    fn the_named_rate_counts_where_times_fit_it() {
        let pace = |times: &[i64], rate: Option<u32>| {
            let mut packets = Packets::default();
            times.iter().for_each(|&time| packets.add(Some(time), false, true));
            let rate = rate.map(|rate| Fps::new(rate, 1001).unwrap());
            let (fps, note) = packets.pace((1, NonZeroU32::new(1000).unwrap()), rate).unwrap();
            (fps.to_string(), note.is_some())
        };
        // Milliseconds of 23.976 frames per second, of which the mean of a few is 24.
        assert_eq!(pace(&[0, 42, 83, 125], Some(24000)), ("24000/1001".into(), false));
        assert_eq!(pace(&[0, 42, 83, 125], None), ("24".into(), false));
        assert_eq!(pace(&[0, 42, 500, 1000], Some(24000)), ("3".into(), true));
        assert_eq!(pace(&[7], Some(24000)), ("24000/1001".into(), false));
    }
}
