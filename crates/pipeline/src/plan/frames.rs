//! Length of a clip, and the most that a model has positions for.

use super::guide::Guide;
use super::within::within;
use crate::families::capabilities::Limits;
use crate::model::manifest::Manifest;
use crate::request::Request;
use crate::{Error, Result};
use std::ops::RangeInclusive;

/// The most frames of one clip: 10 minutes at 24 frames a second.
const MOST_FRAMES: usize = 14_401;
/// The most tokens of one clip: attention to more would take any machine days for a step.
const MOST_TOKENS: usize = 1 << 22;

/// Frames per second that a clip may have.
const FPS: RangeInclusive<f64> = 1.0..=240.0;
/// Frames per second that differ from the model's by more than this factor get a notice.
const UNUSUAL: f64 = 1.5;
/// Clips of more than this many times a model's default length get a notice.
const TRUSTED_LENGTH: usize = 2;

/// Returns the frames per second: the request's, else those of the clip that guides it, else the model's.
pub(super) fn fps(request: &Request, guide: Guide, manifest: &Manifest, notices: &mut Vec<String>) -> Result<f64> {
    let usual = manifest.defaults.fps;
    let fps = match (request.fps, guide.fps) {
        (Some(fps), _) => within("frames per second", fps, *FPS.start(), *FPS.end())?,
        (None, Some(fps)) => fps_of_clip(fps)?,
        (None, None) => usual,
    };
    let ratio = fps / usual;
    if !(1.0 / UNUSUAL..=UNUSUAL).contains(&ratio) {
        let (name, how) = (&manifest.name, if ratio > 1.0 { "faster" } else { "slower" });
        let times = ratio.max(1.0 / ratio);
        notices.push(format!(
            "{name} makes motion for {usual} frames per second: at {} it looks {times:.1} times {how}",
            (fps * 1000.0).round() / 1000.0
        ));
    }
    Ok(fps)
}

/// Returns the frames per second of a given clip, if a clip that is made from it may have them.
pub(crate) fn fps_of_clip(fps: f64) -> Result<f64> {
    if FPS.contains(&fps) {
        return Ok(fps);
    }
    let what = format!("the given clip has {fps} frames per second, outside {} to {}", FPS.start(), FPS.end());
    Err(Error::request(what, "give it another rate first: ffmpeg -i CLIP -r 24 OTHER.mp4"))
}

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
    let default = manifest.defaults.frames;
    let asked = match (request.frames, request.duration) {
        (Some(_), Some(_)) => {
            let what = "a number of frames and a duration are both given";
            return Err(Error::request(what, "give one of the two").about(&["frames", "duration"]));
        }
        (Some(frames), None) => frames,
        (None, Some(seconds)) if seconds.is_finite() && seconds > 0.0 => (seconds * fps).round().max(1.0) as usize,
        (None, Some(seconds)) => {
            return Err(Error::request(format!("a duration of {seconds} s is not possible"), "give seconds above 0")
                .about(&["duration"]));
        }
        (None, None) => guide.frames.map_or(default, |frames| {
            // No more than there are.
            (frames.min(default).max(1) - 1) / factor * factor + 1
        }),
    };
    if asked == 0 || asked > MOST_FRAMES {
        let what = format!("{asked} frames are outside 1 to {MOST_FRAMES}");
        return Err(Error::request(what, format!("the model's default is {default}")));
    }
    // To the nearest, but what should move does not become a still.
    let latent_frames = ((asked - 1 + factor / 2) / factor).max(usize::from(asked > 1));
    let frames = latent_frames * factor + 1;
    if frames != asked {
        notices.push(format!("{asked} frames became {frames}: the model makes {factor}k + 1"));
    }
    if let Some(seconds) = request.duration.filter(|seconds| seconds * fps < 0.5) {
        notices.push(format!("{seconds} s became one frame, which lasts {:.3} s", 1.0 / fps));
    }
    if frames > TRUSTED_LENGTH * default {
        let name = &manifest.name;
        notices
            .push(format!("{name} makes clips of {default} frames: {frames} are far more, and may repeat or freeze"));
    }
    Ok(frames)
}

/// Returns frames, rows and columns of tokens of latents `[C, F, H, W]`, or the error that the model has no positions for them, or that they are
/// too many for any machine.
pub(crate) fn token_grid([_, f, h, w]: [usize; 4], limits: &Limits) -> Result<[usize; 3]> {
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
    let grid = [f / pt, h / ph, w / pw];
    let tokens: usize = grid.iter().product();
    if tokens > MOST_TOKENS {
        let what = format!("a clip of {tokens} tokens is beyond any machine, {MOST_TOKENS} are the limit");
        return Err(Error::request(what, "make the clip smaller or shorter"));
    }
    Ok(grid)
}
