//! Memory and time of enlarging decoded frames, from shapes alone.

use super::Plan;
use super::pace::{Basis, Estimate};
use super::placement::Placement;
use crate::Result;
use crate::request::output::Output;
use crate::request::upscaler::Upscaler;
use candle_core::DType;
use kinora_upscaler::SCALE;

/// The rate of the network, in operations of direct convolutions, relative to that of linear layers. A guess: layers of few channels reach less.
const OF_RATE: f64 = 0.5;

/// Returns the bytes that enlarging frames of `size` (width and height), one at a time, takes beside the decoder.
pub(crate) fn enlarging_bytes(
    output: &Output,
    size: (usize, usize),
    placement: &Placement,
    threads: usize,
) -> Result<usize> {
    let Some((target, upscaler)) = output.enlargement()? else { return Ok(0) };
    let (width, height) = target.size(size.0, size.1);
    let f32s = |values: usize| values * DType::F32.size_in_bytes();
    // The result, and a plane of it between columns and rows.
    let resizing = |from: usize| f32s(3 * width * height + width * from);
    Ok(match upscaler {
        Upscaler::Lanczos => resizing(size.1),
        Upscaler::Span => {
            let network = kinora_upscaler::bytes(size.0, size.1, placement.pixel_dtype(), threads);
            let enlarged = f32s(3 * SCALE * SCALE * size.0 * size.1);
            network.max(enlarged + resizing(SCALE * size.1))
        }
    })
}

/// Returns the time of a run of `plan` for `latents`, `[C, F, H, W]`, whose frames a network enlarges, before one was timed: that of the run `without`, as far as it is known,
/// and a guess by the rate at which the CPU multiplies.
pub(crate) fn guess(
    output: &Output,
    plan: &Plan,
    latents: [usize; 4],
    placement: &Placement,
    without: Option<Estimate>,
) -> Option<Estimate> {
    let is_known = placement.device.is_cpu() && output.enlarges_by_network();
    let Some(rates) = is_known.then(|| kinora_kernels::rates().ok()).flatten() else { return without };
    let (width, height) = plan.cropped.unwrap_or((plan.width, plan.height));
    let frames = plan.frames as f64 * latents[1] as f64 / plan.latent_shape[1] as f64;
    let operations = frames * kinora_upscaler::operations(width, height);
    let seconds = operations / (OF_RATE * rates.linear.f32 * 1e9);
    let (before, decode) = without.map_or((0.0, None), |without| (without.seconds, without.decode));
    Some(Estimate {
        seconds: before + seconds,
        decode: Some(decode.unwrap_or_default() + seconds),
        basis: Basis::Enlarging,
    })
}

/// Returns the words under which times of runs with this enlargement are kept.
pub(crate) fn words(output: &Output) -> String {
    match (output.upscale, output.upscaler) {
        (Some(target), Some(upscaler)) if output.enlarges_by_network() => format!(", {upscaler} to {target}"),
        _ => String::new(),
    }
}
