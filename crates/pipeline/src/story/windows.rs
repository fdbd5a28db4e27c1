//! [`Window`]: one run of the sampler within a story, and the windows that a shot is made of.

use crate::families::capabilities::Continuation;
use crate::plan::Plan;
use crate::request::Request;
use crate::request::story::{MOST_SECONDS, Shot};
use crate::{Error, Result};

/// One run of the sampler.
pub(super) struct Window {
    pub request: Request,
    /// It continues nothing.
    pub cut: bool,
}

/// One shot in windows.
pub(super) struct InWindows {
    pub windows: Vec<Window>,
    /// Frames that the shot asks for.
    pub wanted: usize,
    /// Frames that the windows add to the clip.
    pub made: usize,
}

/// `request` with what `shot` says.
pub(super) fn request_of(request: &Request, shot: &Shot) -> Result<Request> {
    let mut request = request.clone();
    request.prompt.clone_from(&shot.prompt);
    request.negative_prompt = shot.negative_prompt.clone().or(request.negative_prompt);
    if let Some(image) = &shot.image {
        request.inputs.image = Some(image.clone());
    }
    if let Some(camera) = &shot.camera {
        let bad =
            |reason| Error::request(format!("camera `{camera}`: {reason}"), "such as pan=5,zoom=-3 or forward-up");
        request.inputs.camera = Some(camera.parse().map_err(bad)?);
    }
    Ok(request)
}

/// The windows of one shot, none longer than what the model was made for; the first one begins anew where there are no
/// frames `since_cut`, which is increased by the frames of the shot.
pub(super) fn windows_of(
    request: &Request,
    shot: &Shot,
    plan: &Plan,
    tail: Continuation,
    since_cut: &mut usize,
) -> Result<InWindows> {
    let factor = plan.temporal_factor;
    let seconds = shot.seconds.unwrap_or(plan.frames as f64 / plan.fps);
    if !(seconds > 0.0 && seconds <= MOST_SECONDS) {
        let what = format!("a shot of {seconds} s is not possible");
        return Err(Error::request(what, format!("give seconds above 0, at most {MOST_SECONDS:.0}")));
    }
    let wanted = (seconds * plan.fps).round().max(1.0) as usize;
    // Frames of a window that repeat those of the one before.
    let overlap = match tail {
        Continuation::Latents { frames, .. } => (frames - 1) * factor + 1,
        Continuation::Frames(count) => count,
    };
    if matches!(tail, Continuation::Latents { .. }) && (1..overlap).contains(since_cut) {
        let what = format!("a shot of {since_cut} frames is too short to be continued: {overlap} are needed");
        return Err(Error::request(what, "make it longer, or begin the next one with join = \"cut\""));
    }
    let longest = plan.frames.max(overlap + factor);
    let (mut windows, mut made) = (Vec::new(), 0);
    while made < wanted {
        let (cut, old) = (*since_cut == 0, overlap.min(*since_cut));
        let frames = (wanted - made + old).min(longest).max(old + 1);
        let frames = (frames - 1).div_ceil(factor) * factor + 1;
        let mut request = request.clone();
        (request.frames, request.duration) = (Some(frames), None);
        if !windows.is_empty() {
            request.inputs.image = None;
            request.seed = None;
        }
        windows.push(Window { request, cut });
        made += frames - old;
        *since_cut = since_cut.saturating_add(frames - old);
    }
    Ok(InWindows { windows, wanted, made })
}

/// The smallest number of frames of a clip that a model continues so.
pub(super) fn least_frames(tail: Continuation, factor: usize) -> usize {
    match tail {
        Continuation::Frames(count) => count,
        Continuation::Latents { frames, .. } => frames * factor + 1,
    }
}
