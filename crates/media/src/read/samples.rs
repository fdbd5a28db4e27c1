//! The samples of a video track, in the order of decoding, and the order in which they are shown.

use crate::read::refused::Refused;
use shiguredo_mp4::aux::SampleTableAccessor;
use shiguredo_mp4::boxes::StblBox;

/// The most decoded pictures that wait for their turn; H.264 allows 16.
const MAX_WAITING: usize = 17;

/// A sample: one coded picture in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) offset: u64,
    pub(crate) size: u32,
    /// The time at which it is shown, in ticks of the track.
    pub(crate) time: i64,
    /// Whether it is shown; others are decoded because shown ones refer to them.
    pub(crate) shown: bool,
}

/// Returns the samples of the table in a file of `file_len` bytes.
pub(crate) fn of_table(table: &SampleTableAccessor<StblBox>, file_len: u64) -> Result<Vec<Sample>, Refused> {
    // A sample has a byte at least, so a number of samples that goes beyond the file is not walked through.
    if u64::from(table.sample_count()) > file_len {
        return Err(format!("its index claims {} frames, in a file of {file_len} bytes", table.sample_count()).into());
    }
    let mut samples = Vec::with_capacity(table.sample_count() as usize);
    let mut entry = None;
    for (index, sample) in table.samples().enumerate() {
        let time = i64::try_from(sample.timestamp()).ok();
        let time = time.and_then(|time| time.checked_add(sample.composition_time_offset().unwrap_or(0)));
        let time = time.ok_or_else(|| format!("the time of frame {index} is out of bounds"))?;
        samples.push(Sample { offset: sample.data_offset(), size: sample.data_size(), time, shown: false });
        let number = sample.chunk().sample_entry_index();
        if *entry.get_or_insert(number) != number {
            return Err(Refused::Unsupported("its coding changes within the clip".into()));
        }
    }
    Ok(samples)
}

/// Checks that every sample lies within the file and that all together have no more bytes than it.
pub(crate) fn check(samples: &[Sample], file_len: u64) -> Result<(), Refused> {
    let mut total = 0;
    for (index, sample) in samples.iter().enumerate() {
        let (offset, size) = (sample.offset, u64::from(sample.size));
        total += size;
        if size == 0 || total > file_len || offset.checked_add(size).is_none_or(|end| end > file_len) {
            return Err(format!("frame {index} is not within the file: {size} bytes at {offset} of {file_len}").into());
        }
    }
    Ok(())
}

/// Marks the samples whose times lie within the window as shown, and returns their numbers in the order of these times.
pub(crate) fn show(samples: &mut [Sample], (start, end): (i64, i64)) -> Result<Vec<u32>, Refused> {
    let mut order = Vec::new();
    for (at, sample) in (0..).zip(&mut *samples) {
        sample.shown = (start..end).contains(&sample.time);
        order.extend(sample.shown.then_some(at));
    }
    order.sort_by_key(|&at: &u32| samples[at as usize].time);
    if most_waiting(samples, &order) > MAX_WAITING {
        let what = format!("it shows frames more than {MAX_WAITING} frames after it stores them");
        return Err(Refused::Unsupported(what));
    }
    Ok(order)
}

/// Returns the most pictures that wait for their turn when samples are decoded one by one and shown in `order`.
fn most_waiting(samples: &[Sample], order: &[u32]) -> usize {
    let (mut decoded, mut waiting, mut most) = (0, 0, 0);
    for &at in order {
        while decoded <= at as usize {
            waiting += usize::from(samples[decoded].shown);
            decoded += 1;
        }
        most = most.max(waiting);
        waiting -= 1;
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(times: &[i64]) -> Vec<Sample> {
        times.iter().map(|&time| Sample { offset: 0, size: 1, time, shown: false }).collect()
    }

    #[test]
    fn samples_are_shown_by_their_times() {
        let mut pyramid = samples(&[0, 4, 2, 1, 3, 8, 6, 5, 7]);
        let order = show(&mut pyramid, (i64::MIN, i64::MAX)).unwrap();
        assert_eq!((order.as_slice(), most_waiting(&pyramid, &order)), (&[0, 3, 2, 4, 1, 7, 6, 8, 5][..], 3));
        assert_eq!(show(&mut pyramid, (2, 7)).unwrap(), [2, 4, 1, 7, 6]);
        assert_eq!(pyramid.iter().filter(|sample| sample.shown).count(), 5);
        let mut backwards = samples(&(0..40).rev().collect::<Vec<i64>>());
        assert!(matches!(show(&mut backwards, (0, 40)), Err(Refused::Unsupported(_))));
        assert_eq!(show(&mut backwards, (0, 17)).unwrap().len(), 17);
    }
}
