//! The sound that a clip takes over from the clips that it is made from.

use super::Plan;
use super::inputs::said_of;
use crate::request::inputs::Inputs;
use kinora_media::{Readers, SoundTrack, Source};

/// The speeds of two clips, in frames per second, are the same if they differ by no more than this.
const SAME_SPEED: f64 = 1e-3;

/// Returns the sound of the clip that `plan` changes, and a sentence for every input whose sound is not kept. A clip that only
/// controls the new one is not changed, unless a mask or margins say what of it stays.
pub(crate) fn taken_over(plan: &Plan, readers: &Readers) -> (Option<SoundTrack>, Vec<String>) {
    let Inputs { video, control, mask, expand, .. } = &plan.inputs;
    let stays = control.as_ref().filter(|_| mask.is_some() || expand.is_some());
    let (mut kept, mut sentences) = (None, Vec::new());
    if let Some(changed) = video.as_ref().or(stays) {
        match of_clip(changed, plan.fps, readers) {
            Some(Ok(track)) => kept = Some(track),
            Some(Err(sentence)) => sentences.push(sentence),
            None => {}
        }
    }
    let others = control.iter().filter(|_| video.is_some() || stays.is_none());
    for source in others {
        if readers.open(source).is_ok_and(|clip| clip.sound().is_some()) {
            sentences.push(said_of(&source.label(), "its sound is not kept: it controls the clip"));
        }
    }
    (kept, sentences)
}

/// Returns the sound of a clip whose frames come `fps` times a second now, if it has any; `Err` is a sentence about why it
/// cannot be kept. Files that cannot be opened have none: they are refused where they are used.
pub(crate) fn of_clip(source: &Source, fps: f64, readers: &Readers) -> Option<Result<SoundTrack, String>> {
    let clip = readers.open(source).ok()?;
    let (track, own) = (clip.sound()?, clip.spec().fps.as_f64());
    if (own - fps).abs() > SAME_SPEED {
        let round = |fps: f64| (fps * 1000.0).round() / 1000.0;
        let text =
            format!("its sound is not kept: it has {} frames per second, the new clip {}", round(own), round(fps));
        return Some(Err(said_of(&source.label(), &text)));
    }
    Some(Ok(track))
}
