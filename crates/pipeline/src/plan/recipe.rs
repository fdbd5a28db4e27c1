//! The [`Recipe`] of a plan.

use super::Plan;
use super::placement::Placement;
use crate::model::Model;
use crate::model::embedded::EMBEDDED;
use crate::request::output::Output;
use crate::request::recipe::Recipe;
use crate::request::upscaler::Upscaler;

impl Recipe {
    /// The recipe of `plan` on `model`.
    pub(crate) fn of(plan: &Plan, output: &Output, model: &Model, placement: &Placement) -> Self {
        Self {
            kinora: env!("CARGO_PKG_VERSION").to_string(),
            loras: model.loras().to_vec(),
            model: words_of(model),
            prompt: plan.prompt.clone(),
            negative_prompt: plan.negative_prompt.clone(),
            seed: plan.seed,
            width: plan.cropped.map_or(plan.width, |(width, _)| width),
            height: plan.cropped.map_or(plan.height, |(_, height)| height),
            frames: plan.frames,
            fps: plan.fps,
            sampling: plan.sampling.clone(),
            inputs: plan.inputs.with_whole_paths(),
            story: None,
            init_latents: plan.init_latents.as_ref().map(|path| std::path::absolute(path).unwrap_or(path.clone())),
            dtype: placement.dtype.as_str().to_string(),
            quant: placement.quant.map(|quant| quant.to_string()),
            exact: placement.exact,
            quality: output.quality,
            encoder: output.encoder.clone(),
            upscale: output.upscale.map(|target| target.to_string()),
            upscaler: output.upscaler.filter(|used| *used != Upscaler::default()).map(|used| used.to_string()),
        }
    }
}

/// The words of `--model` as recipes keep them.
pub(crate) fn words_of(model: &Model) -> Vec<String> {
    model.argument.iter().map(|word| with_whole_path(word)).collect()
}

/// A clip may be made again from another directory: a path is kept whole, a known name as it is.
fn with_whole_path(word: &str) -> String {
    let whole = std::path::absolute(word).ok().filter(|path| word != EMBEDDED && path.exists());
    // Words are text: in a folder whose name is none, the path stays as it was given.
    whole.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_else(|| word.to_string())
}
