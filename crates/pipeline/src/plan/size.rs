//! Width and height of a clip: what is asked for, snapped to the grid of the model.

use super::guide::Guide;
use crate::families::capabilities::Limits;
use crate::model::manifest::Manifest;
use crate::request::{LONGEST_RATIO, Request, Resolution, Size};
use crate::{Error, Result};

/// The largest side of a clip, in pixels.
const LONGEST_SIDE: usize = 4096;
/// No grid has this side: frames are made larger, and cropped.
const FULL_HD: usize = 1080;

/// Frames of so many times the pixels of the model's own are said to be far from them.
const MOST_TIMES: f64 = 3.0;
const LEAST_TIMES: f64 = 1.0 / 8.0;

/// Width and height.
pub(super) type Sides = (usize, usize);

/// Returns the size that frames are made in and, where it differs, the size that they are cropped to.
pub(super) fn size(
    request: &Request,
    guide: Guide,
    manifest: &Manifest,
    limits: &Limits,
    notices: &mut Vec<String>,
) -> Result<(Sides, Option<Sides>)> {
    let (asked_width, asked_height) = asked(request.size, guide, manifest);
    // Two numbers, or an aspect, say the shape whatever the picture's is.
    let says_shape =
        matches!(request.size, Size::Pixels { width: Some(_), height: Some(_) } | Size::Aspect { ratio: Some(_), .. });
    if let Some(ratio) =
        guide.ratio.filter(|ratio| !says_shape && !(1.0 / LONGEST_RATIO..=LONGEST_RATIO).contains(ratio))
    {
        let what = format!("the given picture or clip is {}, longer than {LONGEST_RATIO}:1", shape(ratio));
        let hint = "choose an aspect such as 16:9, or width and height, and how it gets them";
        return Err(Error::request(what, hint).about(&["aspect", "width", "height", "fit"]));
    }
    for (name, asked) in [("width", asked_width), ("height", asked_height)] {
        if !(1.0..=LONGEST_SIDE as f64).contains(&asked) {
            let what = format!("{name} {asked:.0} is outside 1 to {LONGEST_SIDE} pixels");
            return Err(Error::request(what, "480p, 720p and 1080p are usual sizes").about(&["resolution"]));
        }
    }
    let factor = limits.latent_format.spatial_factor;
    let (step_h, step_w) = (factor * limits.patch[1], factor * limits.patch[2]);
    let (width, height) = (snap(asked_width, step_w), snap(asked_height, step_h));
    let crop = |asked: f64, size: usize| if is_full_hd(asked) { FULL_HD } else { size };
    let (crop_width, crop_height) = (crop(asked_width, width), crop(asked_height, height));
    let cropped = ((crop_width, crop_height) != (width, height)).then_some((crop_width, crop_height));
    if cropped.is_some() {
        notices.push(format!("made as {width}×{height} and cut to {crop_width}×{crop_height}"));
    }
    // A size that only follows from a picture's shape was not asked for.
    let own = guide.ratio.is_some() && request.size == Size::Default;
    let (asked_width, asked_height) = (asked_width.round() as usize, asked_height.round() as usize);
    if !own && (asked_width, asked_height) != (crop_width, crop_height) {
        notices.push(format!(
            "{asked_width}×{asked_height} became {crop_width}×{crop_height}: the model's sizes are multiples of {step_w}×{step_h}"
        ));
    }
    notices.extend(far_from_own(manifest, (width, height)));
    Ok(((width, height), cropped))
}

/// A notice of frames that have far more, or far fewer, pixels than those that the model has learned.
fn far_from_own(manifest: &Manifest, (width, height): Sides) -> Option<String> {
    let (own_width, own_height) = (manifest.defaults.width, manifest.defaults.height);
    let times = (width * height) as f64 / (own_width * own_height) as f64;
    let (how, then) = match times {
        MOST_TIMES.. => {
            ("far more pixels", "shapes may repeat or fall apart; frames can be enlarged afterwards instead")
        }
        ..LEAST_TIMES => ("far fewer pixels", "little may be recognised"),
        _ => return None,
    };
    let name = &manifest.name;
    Some(format!("{name} makes frames of {own_width}×{own_height}: {width}×{height} are {how}, and {then}"))
}

/// Returns the width and height that `size` means, before they are snapped.
fn asked(size: Size, guide: Guide, manifest: &Manifest) -> (f64, f64) {
    let (mut own_width, mut own_height) = (manifest.defaults.width as f64, manifest.defaults.height as f64);
    if let Some(ratio) = guide.ratio {
        let area = own_width * own_height;
        (own_width, own_height) = ((area * ratio).sqrt(), (area / ratio).sqrt());
    }
    let own_ratio = own_width / own_height;
    match size {
        Size::Default => (own_width, own_height),
        Size::Pixels { width, height } => match (width.map(|w| w as f64), height.map(|h| h as f64)) {
            (Some(width), Some(height)) => (width, height),
            (Some(width), None) => (width, width / own_ratio),
            (None, Some(height)) => (height * own_ratio, height),
            (None, None) => (own_width, own_height),
        },
        Size::Aspect { ratio, resolution } => {
            // A named resolution has its usual aspect, unless a picture or the model is upright or square.
            let named = resolution.map(Resolution::ratio).filter(|_| guide.ratio.is_none() && own_ratio > 1.0);
            let ratio = ratio.or(named).unwrap_or(own_ratio);
            let area = resolution.map_or(own_width * own_height, |resolution| resolution.area() as f64);
            ((area * ratio).sqrt(), (area / ratio).sqrt())
        }
    }
}

/// `ratio` as width to height.
fn shape(ratio: f64) -> String {
    if ratio > 1.0 { format!("{ratio:.0}:1") } else { format!("1:{:.0}", 1.0 / ratio) }
}

/// Rounds `asked` to a multiple of `step`. Half a step rounds down: with steps of 32, 1280×720 becomes the 1280×704 that
/// models with such steps were trained on, not 1280×736.
fn snap(asked: f64, step: usize) -> usize {
    let steps = if is_full_hd(asked) { FULL_HD.div_ceil(step) } else { (asked / step as f64 - 1e-6).round() as usize };
    steps.max(1) * step
}

fn is_full_hd(asked: f64) -> bool {
    (asked - FULL_HD as f64).abs() < 0.5
}
