//! Length of a clip, and the most that a model has positions for.

use super::guide::Guide;
use crate::families::capabilities::Limits;
use crate::model::manifest::Manifest;
use crate::request::Request;
use crate::{Error, Result};

/// The most frames of one clip: 10 minutes at 24 frames a second.
const MOST_FRAMES: usize = 14_401;
/// The most tokens of one clip: attention to more would take any machine days for a step.
const MOST_TOKENS: usize = 1 << 22;

/// Returns the pixel frames of the clip, snapped to the frames that latents decode to.
pub(super) fn frames(
    request: &Request,
    guide: Guide,
    manifest: &Manifest,
    limits: &Limits,
    fps: f64,
    notices: &mut Vec<String>,
) -> Result<usize> {
    let factor = limits.latent_format.temporal_factor;
    let asked = match (request.frames, request.duration) {
        (Some(_), Some(_)) => {
            return Err(Error::request("--frames and --duration are both given", "give one of the two"));
        }
        (Some(frames), None) => frames,
        (None, Some(seconds)) if seconds.is_finite() && seconds > 0.0 => (seconds * fps).round().max(1.0) as usize,
        (None, Some(seconds)) => {
            return Err(Error::request(format!("a duration of {seconds} s is not possible"), "give seconds above 0"));
        }
        (None, None) => guide.frames.map_or(manifest.defaults.frames, |frames| {
            // No more than there are.
            (frames.min(manifest.defaults.frames).max(1) - 1) / factor * factor + 1
        }),
    };
    if asked == 0 || asked > MOST_FRAMES {
        let what = format!("{asked} frames are outside 1 to {MOST_FRAMES}");
        return Err(Error::request(what, format!("the model's default is {}", manifest.defaults.frames)));
    }
    let frames = (asked - 1 + factor / 2) / factor * factor + 1;
    if frames != asked {
        notices.push(format!("{asked} frames became {frames}: the model makes {factor}k + 1"));
    }
    Ok(frames)
}

/// Returns the tokens of latents `[C, F, H, W]`, or the error that the model has no positions for them, or that they are
/// too many for any machine.
pub(crate) fn tokens([_, f, h, w]: [usize; 4], limits: &Limits) -> Result<usize> {
    let Limits { latent_format, patch: [pt, ph, pw], reach, .. } = limits;
    let most_frames = latent_format.pixel_frames(reach * pt);
    let most_pixels = |patch: &usize| reach * patch * latent_format.spatial_factor;
    let axes = [
        ("frames", f > reach * pt, most_frames),
        ("pixels of height", h > reach * ph, most_pixels(ph)),
        ("pixels of width", w > reach * pw, most_pixels(pw)),
    ];
    if let Some((what, _, most)) = axes.iter().find(|(_, beyond, _)| *beyond) {
        let what = format!("the model has no positions for so many {what}, only for {most}");
        return Err(Error::request(what, "make the clip smaller or shorter"));
    }
    let tokens = (f / pt) * (h / ph) * (w / pw);
    if tokens > MOST_TOKENS {
        let what = format!("a clip of {tokens} tokens is beyond any machine, {MOST_TOKENS} are the limit");
        return Err(Error::request(what, "make the clip smaller or shorter"));
    }
    Ok(tokens)
}
