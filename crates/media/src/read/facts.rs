//! [`Facts`]: what a file says of a video beside its pictures. All readers of videos refuse, and tell the user, the same.

use crate::clip::Fps;
use crate::read::refused::Refused;
use crate::read::uneven;
use std::num::NonZeroU32;

/// What a file says of a video track beside its pictures. Numbers are those of ITU-T H.273; 2 is "unspecified".
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) transfer: Option<u8>,
    pub(crate) primaries: Option<u8>,
    /// The width and height of a pixel in any unit.
    pub(crate) aspect: Option<[u32; 2]>,
    pub(crate) interlaced: bool,
    /// Whether pictures have transparency that the reader leaves out.
    pub(crate) has_alpha: bool,
    pub(crate) has_sound: bool,
    /// The number of video tracks in the file, without cover pictures.
    pub(crate) tracks: usize,
}

impl Facts {
    /// Returns sentences for the user about what is not read, or not as the file shows it.
    ///
    /// # Errors
    /// Pictures that would look wrong: HDR, interlaced.
    pub(crate) fn notes(&self) -> Result<Vec<String>, Refused> {
        match self.transfer {
            Some(16) => return Err(Refused::HighDynamicRange("PQ")),
            Some(18) => return Err(Refused::HighDynamicRange("HLG")),
            _ => {}
        }
        if self.interlaced {
            return Err(Refused::Interlaced);
        }
        let mut notes = Vec::new();
        if let Some([wide, high]) = self.aspect.filter(|&[wide, high]| wide != high && wide > 0 && high > 0) {
            let convert = "ffmpeg's `-vf scale=iw*sar:ih,setsar=1`";
            notes.push(format!(
                "its pixels are {wide}:{high} and taken as square, which squeezes the picture: {convert} makes them square"
            ));
        }
        let wide = match self.primaries {
            Some(9) => Some("BT.2020"),
            Some(11 | 12) => Some("P3"),
            _ => None,
        };
        notes.extend(
            wide.map(|gamut| format!("its colours are of {gamut} and taken as BT.709, which makes them paler")),
        );
        if self.has_alpha {
            notes.push("its transparency is not read".into());
        }
        if self.has_sound {
            notes.push("its sound is not read".into());
        }
        if self.tracks > 1 {
            notes.push(format!("it has {} video tracks: one is read", self.tracks));
        }
        Ok(notes)
    }
}

/// Returns the frames per second of frames that are shown at `times`, and a note if they are shown for different times. The
/// duration of the last frame is ignored, because it is arbitrary in many files; a single frame has the duration `usual`.
pub(crate) fn speed(times: &[i64], usual: u32, timescale: NonZeroU32) -> Result<(Fps, Option<String>), Refused> {
    let ticks = |(early, late): (&i64, &i64)| late.saturating_sub(*early).unsigned_abs();
    let single = [u64::from(usual)];
    let lengths: Vec<u64> = times.iter().zip(times.get(1..).unwrap_or_default()).map(ticks).collect();
    let lengths = if lengths.is_empty() { &single[..] } else { &lengths };
    let (least, most) = (lengths.iter().min().copied().unwrap_or(0), lengths.iter().max().copied().unwrap_or(0));
    let total = lengths.iter().fold(0_u64, |total, &ticks| total.saturating_add(ticks)).max(1);
    let scale = f64::from(timescale.get());
    let mean = lengths.len() as f64 * scale / total as f64;
    let exact = u32::try_from(least).ok().filter(|_| least == most);
    let exact = exact.and_then(|ticks| Fps::new(timescale.get(), ticks).ok());
    // Times rounded to ticks: the usual number that rounds to them.
    let error = mean / total as f64;
    let usual = [mean.round(), (mean * 1.001).round() / 1.001].into_iter();
    let mut usual = usual.filter(|fps| most - least <= 1 && (fps - mean).abs() <= error);
    let fps = exact.or_else(|| Fps::from_f64(usual.next()?).ok()).or_else(|| Fps::from_f64(mean).ok());
    let fps = fps.ok_or_else(|| format!("its frames last {least} to {most} ticks of 1/{timescale} s"))?;
    Ok((fps, uneven(least, most, scale, fps)))
}
