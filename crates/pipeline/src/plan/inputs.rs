//! What of a plan's pictures, clips and camera is not used as it was given.

use super::Plan;
use super::sound::taken_over;
use crate::request::inputs::Inputs;
use crate::{Error, Result};
use kinora_camera::{Camera, CameraPath};
use kinora_media::{ClipReader, Frame, Readers};
use std::path::Path;

/// A mask above this, of 0 to 1, is generated.
pub(crate) const GENERATED: f32 = 0.5;

/// Returns a sentence for everything that is not read of the plan's inputs, or not used as it was given. Files that cannot be
/// opened have none: they are refused where they are used.
///
/// # Errors
/// A mask that selects nothing because its white is too dark.
pub(crate) fn notices(plan: &Plan, readers: &Readers) -> Result<Vec<String>> {
    let Inputs { image, last_image, video, control, mask, references, .. } = &plan.inputs;
    let mut notices = Vec::new();
    for source in [image, last_image].into_iter().flatten().chain(references) {
        if let Ok(picture) = readers.open(source) {
            notices.extend(named(&source.label(), &picture.notes()));
        }
    }
    let mut of_control = plan.frames;
    for source in video.iter().chain(control) {
        let (Ok(clip), path) = (readers.open(source), source.label()) else { continue };
        notices.extend(named(&path, &clip.notes()));
        let Some(found) = clip.frames() else { continue };
        of_control = found.min(plan.frames);
        notices.extend(too_long(&path, found, plan.frames));
        if found < plan.frames && video.is_none() {
            let (all, rest) = (plan.frames, plan.frames - found);
            let text = format!("it has {found} of the clip's {all} frames: the other {rest} are not controlled");
            notices.push(said_of(&path, &text));
        }
    }
    if let Some((source, Ok(clip))) = mask.as_ref().map(|source| (source, readers.open(source))) {
        notices.extend(of_mask(&source.label(), clip, of_control)?);
    }
    notices.extend(taken_over(plan, readers).1);
    notices.extend(spread_poses(plan));
    Ok(notices)
}

/// Returns a reader's notes as sentences that name its file.
pub(crate) fn named(path: &Path, notes: &[String]) -> Vec<String> {
    notes.iter().map(|note| said_of(path, note)).collect()
}

pub(crate) fn said_of(path: &Path, note: &str) -> String {
    format!("`{}`: {note}", path.display())
}

/// Returns the values of a mask, 0 to 1 for each pixel: the largest of its three colours.
pub(crate) fn mask_values(mask: &Frame) -> impl Iterator<Item = f32> {
    let (red, rest) = mask.data.split_at(mask.width * mask.height);
    let (green, blue) = rest.split_at(mask.width * mask.height);
    red.iter().zip(green).zip(blue).map(|((red, green), blue)| red.max(*green).max(*blue).clamp(0.0, 1.0))
}

fn too_long(path: &Path, found: usize, used: usize) -> Option<String> {
    let text = format!("it has {found} frames, of which the first {used} are used");
    (found > used).then(|| said_of(path, &text))
}

/// The notices of a mask for `frames` frames: one that keeps or generates everything, and one of another length.
fn of_mask(path: &Path, mut clip: Box<dyn ClipReader>, frames: usize) -> Result<Vec<String>> {
    let mut notices = named(path, &clip.notes());
    if let Some(found) = clip.frames().filter(|found| *found > 1) {
        notices.extend(too_long(path, found, frames));
        if found < frames {
            let text = format!("it has {found} of {frames} frames: its last one stands for the rest");
            notices.push(said_of(path, &text));
        }
    }
    let (mut largest, mut smallest) = (0.0f32, 1.0f32);
    for _ in 0..frames {
        let Some(frame) = clip.next_frame()? else { break };
        for value in mask_values(&frame) {
            (largest, smallest) = (largest.max(value), smallest.min(value));
        }
    }
    if largest > 0.0 && largest <= GENERATED {
        let reason =
            format!("the brightest value of the mask is {:.0} of 255, so nothing in it is white", largest * 255.0);
        let hint = "white (255) is generated and black (0) is kept: make the values 0 and 255";
        return Err(Error::bad_file(path, reason, hint));
    }
    if largest <= GENERATED {
        notices.push(said_of(path, "it is black everywhere: everything is kept, nothing is generated"));
    } else if smallest > GENERATED {
        notices.push(said_of(path, "it is white everywhere: everything is generated"));
    }
    Ok(notices)
}

fn spread_poses(plan: &Plan) -> Option<String> {
    let Some(Camera::Path(path)) = &plan.inputs.camera else { return None };
    let found = CameraPath::read(path).ok()?.poses().len();
    let text = format!("its {found} poses are spread over {} frames", plan.frames);
    (found != plan.frames).then(|| said_of(path, &text))
}
