//! The samples of a fragmented MP4 file: those in movie fragments (`moof`, ISO/IEC 14496-12, 8.8), after those of the index.

use crate::read::boxes;
use crate::read::refused::Refused;
use crate::read::samples::Sample;

/// The values of samples that name none.
#[derive(Debug, Clone, Copy, Default)]
struct Defaults {
    entry: u32,
    duration: u32,
    size: u32,
}

/// Collects the samples of one track.
pub(crate) struct Fragments {
    track: u32,
    defaults: Defaults,
    /// The time of decoding of the next sample, in ticks.
    time: u64,
    file_len: u64,
}

impl Fragments {
    /// Returns the collector for the track of this number, whose samples in the index end at `time`. `mvex` is the content
    /// of the box of that name.
    pub(crate) fn new(mvex: &[u8], track: u32, time: u64, file_len: u64) -> Result<Self, Refused> {
        let mut defaults = Defaults::default();
        for child in boxes::children(mvex)?.iter().filter(|child| &child.kind == b"trex") {
            let mut fields = Fields(child.payload);
            fields.u32()?;
            if fields.u32()? == track {
                defaults = Defaults { entry: fields.u32()?, duration: fields.u32()?, size: fields.u32()? };
            }
        }
        Ok(Self { track, defaults, time, file_len })
    }

    /// Appends the samples of one fragment: the content of its `moof`, which starts at `start` in the file.
    pub(crate) fn add(&mut self, moof: &[u8], start: u64, samples: &mut Vec<Sample>) -> Result<(), Refused> {
        for fragment in boxes::children(moof)?.iter().filter(|child| &child.kind == b"traf") {
            self.add_track(&boxes::children(fragment.payload)?, start, samples)?;
        }
        Ok(())
    }

    /// Returns the time at which the last sample so far ends, in ticks.
    pub(crate) fn end(&self) -> u64 {
        self.time
    }

    fn add_track(&mut self, parts: &[boxes::Child], start: u64, samples: &mut Vec<Sample>) -> Result<(), Refused> {
        let mut header = Fields(boxes::find(parts, *b"tfhd").ok_or("a fragment has no header (tfhd)")?);
        let flags = header.u32()?;
        if header.u32()? != self.track {
            return Ok(());
        }
        let base = if flags & 1 != 0 { header.u64()? } else { start };
        let mut defaults = self.defaults;
        for (flag, value) in [(2, &mut defaults.entry), (8, &mut defaults.duration), (16, &mut defaults.size)] {
            if flags & flag != 0 {
                *value = header.u32()?;
            }
        }
        if defaults.entry > 1 {
            return Err(Refused::Unsupported("its coding changes within the clip".into()));
        }
        if let Some(time) = boxes::find(parts, *b"tfdt") {
            let mut time = Fields(time);
            self.time = if time.u32()? >> 24 == 0 { time.u32()?.into() } else { time.u64()? };
        }
        let mut offset = base;
        for run in parts.iter().filter(|part| &part.kind == b"trun") {
            offset = self.add_run(Fields(run.payload), [base, offset], defaults, samples)?;
        }
        Ok(())
    }

    /// Appends the samples of one run, which are one after another in the file; returns the end of the last one. The run
    /// starts at the second of the `places` unless it says how far from the first.
    fn add_run(
        &mut self,
        mut run: Fields,
        [base, mut offset]: [u64; 2],
        defaults: Defaults,
        samples: &mut Vec<Sample>,
    ) -> Result<u64, Refused> {
        let (flags, count) = (run.u32()?, run.u32()?);
        if flags & 1 != 0 {
            offset = base.checked_add_signed(i64::from(run.u32()? as i32)).ok_or("a fragment lies outside the file")?;
        }
        if flags & 4 != 0 {
            run.u32()?; // first_sample_flags
        }
        // A sample has a byte at least, so a number of samples that goes beyond the file is not walked through.
        if samples.len() as u64 + u64::from(count) > self.file_len {
            return Err(format!("its fragments claim {count} frames and more, in a file of {}", self.file_len).into());
        }
        for _ in 0..count {
            let mut field = |flag: u32, usual: u32| if flags & flag == 0 { Ok(usual) } else { run.u32() };
            let (duration, size) = (field(0x100, defaults.duration)?, field(0x200, defaults.size)?);
            field(0x400, 0)?; // sample_flags
            // Version 0 has offsets without a sign; none is so large that it matters.
            let shift = i64::from(field(0x800, 0)? as i32);
            let time = i64::try_from(self.time).ok().and_then(|time| time.checked_add(shift));
            let time = time.ok_or("the time of a fragment is out of bounds")?;
            samples.push(Sample { offset, size, time, shown: false });
            offset = offset.saturating_add(size.into());
            self.time = self.time.saturating_add(duration.into());
        }
        Ok(offset)
    }
}

/// The fields of a box, in big-endian order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&mut self) -> Result<u32, Refused> {
        let (value, rest) = self.0.split_first_chunk().ok_or("a fragment is cut short")?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*value))
    }

    fn u64(&mut self) -> Result<u64, Refused> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }
}
