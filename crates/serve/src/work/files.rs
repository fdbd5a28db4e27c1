//! Uploads: what they are by their content, within bounds; and the pictures of a clip.

use crate::protocol::{FileFacts, Problem};
use kinora_media::{ClipReader, MediaError, Picture};
use std::path::Path;

/// The longest side of a picture or clip.
const MOST_SIDE: usize = 8192;
/// The most pixels of a picture or frame.
const MOST_PIXELS: usize = 40_000_000;
/// The longest picture file, in bytes.
const MOST_PICTURE_BYTES: u64 = 10 << 20;
/// The most frames of a clip.
const MOST_FRAMES: usize = 10_000;
/// The longest side of a thumbnail, and of a frame on a sheet.
const THUMBNAIL: usize = 480;
/// Frames on a sheet.
const ON_SHEET: usize = 12;

/// What the file is, whatever its name says. Its header is looked at before anything is decoded.
pub(super) fn probe(path: &Path) -> Result<FileFacts, Problem> {
    let bytes = std::fs::metadata(path).map_err(|_| invalid("the file cannot be read"))?.len();
    let still = kinora_media::picture_size(path).ok();
    if let Some((width, height)) = still {
        check_size(width, height)?;
        if bytes > MOST_PICTURE_BYTES {
            return Err(invalid(&format!("the picture has {bytes} bytes, at most {MOST_PICTURE_BYTES} are read")));
        }
    }
    let mut clip = kinora_media::open(path).map_err(|error| refused(&error))?;
    let (spec, frames) = (clip.spec(), clip.frames());
    check_size(spec.width, spec.height)?;
    if frames.is_some_and(|frames| frames > MOST_FRAMES) {
        return Err(invalid(&format!("the clip has more than {MOST_FRAMES} frames")));
    }
    let first = clip.next_frame().map_err(|error| refused(&error))?.ok_or_else(|| invalid("it has no frames"))?;
    let is_clip = still.is_none() || frames.is_none_or(|frames| frames > 1);
    let facts = FileFacts {
        media: if is_clip { "video" } else { "image" }.to_string(),
        width: first.width,
        height: first.height,
        frames: frames.filter(|_| is_clip),
        fps: is_clip.then(|| spec.fps.as_f64()),
    };
    Ok(facts)
}

/// Writes `thumbnail.png`, the first frame made small, `last.png`, the last one, and `sheet.png`, frames of the whole clip, into
/// `folder`.
pub(super) fn pictures(clip: &Path, folder: &Path) -> Result<(), Problem> {
    let mut reader = kinora_media::open(clip).map_err(|error| refused(&error))?;
    let total = count(reader.as_ref());
    let every = total.div_ceil(ON_SHEET).max(1);
    let (mut sheet, mut last) = (Vec::new(), None);
    let mut index = 0;
    while let Some(frame) = reader.next_frame().map_err(|error| refused(&error))? {
        if index == 0 || index % every == 0 {
            sheet.push(Picture::from_frame(&frame).thumbnail(THUMBNAIL).map_err(|error| refused(&error))?);
        }
        last = Some(frame);
        index += 1;
    }
    let last = last.ok_or_else(|| invalid("the clip has no frames"))?;
    let write = |picture: &Picture, name: &str| picture.write_png(folder.join(name)).map_err(|error| refused(&error));
    write(&sheet[0], "thumbnail.png")?;
    write(&Picture::from_frame(&last), "last.png")?;
    let columns = sheet.len().min(4);
    let sheet = kinora_media::contact_sheet(&sheet, columns, 4).map_err(|error| refused(&error))?;
    write(&sheet, "sheet.png")
}

/// The frames of a clip; a reader that does not know them has one for the sheet in every so many.
fn count(reader: &dyn ClipReader) -> usize {
    reader.frames().unwrap_or(ON_SHEET * 16)
}

fn check_size(width: usize, height: usize) -> Result<(), Problem> {
    if width > MOST_SIDE || height > MOST_SIDE || width * height > MOST_PIXELS {
        let most = MOST_PIXELS / 1_000_000;
        let limit = format!("at most {MOST_SIDE} a side and {most} million pixels are read");
        return Err(invalid(&format!("it has {width}×{height} pixels, {limit}")));
    }
    Ok(())
}

fn invalid(message: &str) -> Problem {
    Problem { code: "invalid_file".into(), field: None, message: message.to_string() }
}

/// The file's path, which the library's errors begin with, is not the client's.
pub(super) fn refused(error: &MediaError) -> Problem {
    let text = error.to_string();
    let message = text.rsplit_once("`: ").or(text.split_once(": ")).map_or(text.as_str(), |(_, rest)| rest);
    invalid(message)
}
