//! The keyword arguments of a clip as a [`Request`].

use crate::options::{Options, refused};
use kinora::{Camera, Inputs, Output, Request, Sampling, Size, parse_aspect, parse_seed};
use pyo3::prelude::*;
use serde_json::{Map, Value};

/// Arguments that say the same thing in two ways.
const EXCLUSIVE: [&[&str]; 7] = [
    &["aspect", "width"],
    &["aspect", "height"],
    &["resolution", "width"],
    &["resolution", "height"],
    &["frames", "duration"],
    &["sigmas", "timesteps", "steps"],
    &["sigmas", "timesteps", "shift"],
];
const EXCLUSIVE_INPUTS: [&[&str]; 3] =
    [&["video", "image"], &["video", "last_image"], &["camera", "camera_preset", "camera_path"]];

/// The request for a clip.
pub fn request(prompt: String, options: &mut Options<'_>) -> PyResult<Request> {
    for names in EXCLUSIVE.iter().chain(&EXCLUSIVE_INPUTS) {
        options.exclusive(names)?;
    }
    let mut request = Request::new(prompt).size(size(options)?).inputs(inputs(options)?).output(output(options)?);
    request.negative_prompt = options.get("negative_prompt")?;
    request.frames = options.get("frames")?;
    request.duration = options.get("duration")?;
    request.fps = options.get("fps")?;
    request.init_latents = options.path("init_latents")?;
    request.output.latents = options.path("save_latents")?;
    request.output.resume = options.path("resume")?;
    denoising(request, options)
}

/// `earlier` with the settings that are given; a preset or a mode replaces all of them.
pub fn denoising(mut earlier: Request, options: &mut Options<'_>) -> PyResult<Request> {
    let (preset, mode) = (options.get("preset")?, options.parse("mode")?);
    let replaced = preset.is_some() || mode.is_some();
    let fallback = if replaced { Sampling::default() } else { earlier.sampling };
    let seed = options.parse_with("seed", parse_seed)?;
    earlier.preset = preset.or(earlier.preset);
    earlier.mode = mode.or(earlier.mode);
    earlier.sampling = sampling(options)?.or(&fallback);
    earlier.seed = seed.map_or(earlier.seed, kinora::SeedChoice::fixed);
    Ok(earlier)
}

/// The treatment of decoded frames.
pub fn output(options: &mut Options<'_>) -> PyResult<Output> {
    let mut output = Output::default();
    (output.tile, output.upscale, output.upscaler) =
        (options.get("tile")?, options.parse("upscale")?, options.parse("upscaler")?);
    Ok(output)
}

/// The settings of denoising are what [`Sampling`] declares.
fn sampling(options: &mut Options<'_>) -> PyResult<Sampling> {
    let mut all = Map::new();
    for name in Sampling::KEYS {
        let Some(value) = options.get::<Value>(name)? else { continue };
        let one = Map::from_iter([((*name).to_string(), value.clone())]);
        // On its own first, because the error does not say which one it is of.
        serde_json::from_value::<Sampling>(one.into()).map_err(|error| refused(name, &error))?;
        all.insert((*name).to_string(), value);
    }
    Ok(serde_json::from_value(all.into()).expect("each of them was read"))
}

fn size(options: &mut Options<'_>) -> PyResult<Size> {
    let (ratio, resolution) = (options.parse_with("aspect", parse_aspect)?, options.parse("resolution")?);
    let (width, height) = (options.get("width")?, options.get("height")?);
    Ok(match (ratio, resolution, width, height) {
        (None, None, None, None) => Size::Default,
        (None, None, width, height) => Size::Pixels { width, height },
        (ratio, resolution, ..) => Size::Aspect { ratio, resolution },
    })
}

fn inputs(options: &mut Options<'_>) -> PyResult<Inputs> {
    let camera = options.parse("camera")?.map(Camera::Move);
    let camera = camera.or(options.parse("camera_preset")?.map(Camera::Preset));
    let mut inputs = Inputs::default().camera(camera.or(options.path("camera_path")?.map(Camera::Path)));
    (inputs.image, inputs.last_image) = (options.source("image")?, options.source("last_image")?);
    inputs.fit = options.parse("fit")?.unwrap_or_default();
    (inputs.video, inputs.strength) = (options.source("video")?, options.get("strength")?);
    (inputs.control, inputs.control_scale) = (options.source("control")?, options.get("control_scale")?);
    (inputs.mask, inputs.references) = (options.source("mask")?, options.sources("references")?);
    (inputs.expand, inputs.camera_in_prompt) = (options.parse("expand")?, options.get("camera_in_prompt")?);
    Ok(inputs)
}
