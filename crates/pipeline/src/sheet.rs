//! [`contact_sheet`]: a clip at a glance.

use crate::request::files::{ModelFiles, check_results};
use crate::{Error, Result};
use kinora_media::Picture;
use std::path::Path;

/// The longest side of a frame on a sheet.
const LONGEST: usize = 240;
/// Pixels between frames.
const GAP: usize = 4;

/// Writes a PNG of `count` frames of `clip`, evenly spaced, the first and the last among them.
///
/// # Errors
/// The clip cannot be read, or the picture not be written.
pub fn contact_sheet(clip: &Path, picture: &Path, count: usize) -> Result<()> {
    check_results(&[("the contact sheet", picture)], &[("the clip", clip)], &ModelFiles::default())?;
    let mut reader = kinora_media::open(clip)?;
    let mut all = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        all.push(Picture::from_frame(&frame).thumbnail(LONGEST)?);
    }
    if all.is_empty() {
        let hint = "give a clip with at least one frame";
        return Err(Error::bad_file(clip, "it has no frames", hint));
    }
    let count = count.clamp(1, all.len());
    let last = all.len() - 1;
    let chosen: Vec<Picture> = (0..count).map(|index| all[index * last / (count.max(2) - 1)].clone()).collect();
    let columns = count.min(4);
    Ok(kinora_media::contact_sheet(&chosen, columns, GAP)?.write_png(picture)?)
}
