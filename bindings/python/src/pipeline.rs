//! [`Pipeline`]: a loaded model; clips come out of it as bytes of frames and JSON about them.

use crate::errors::raised;
use crate::load::load_options;
use crate::options::Options;
use crate::project::Project;
use crate::request::{denoising, output, request};
use crate::watch::{FrameSender, Watched, watched};
use kinora::{ClipInfo, Frame, Picture, Recipe, Report, Request, Shot, Sink, Source, Story};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::json;
use std::error::Error;
use std::num::NonZeroU16;
use std::path::Path;

/// How long a continuation is, seconds, as that of the command.
const USUAL_SECONDS: f64 = 5.0;

/// Frames `[H, W, 3]`, and JSON about the clip.
type Clip = (Vec<Py<PyBytes>>, String);

/// A loaded model.
#[pyclass(frozen, module = "kinora._kinora")]
pub struct Pipeline {
    inner: kinora::Pipeline,
    /// The process that it was loaded in: threads do not survive a fork.
    process: u32,
}

#[pymethods]
impl Pipeline {
    #[new]
    fn new(py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut options = Options::new(options)?;
        let load = load_options(&mut options)?;
        options.finish()?;
        let loaded = py.detach(|| kinora::Pipeline::load(&load));
        let inner = loaded.map_err(|error| raised(&error))?;
        Ok(Self { inner, process: std::process::id() })
    }

    /// JSON about the model.
    fn model(&self) -> String {
        crate::clips::about(self.inner.manifest()).to_string()
    }

    /// JSON of the plan of a clip.
    fn plan(&self, py: Python<'_>, prompt: String, options: &Bound<'_, PyDict>) -> PyResult<String> {
        self.check_process()?;
        let request = whole_request(prompt, options)?;
        let planned = py.detach(|| self.inner.plan(&request)).map_err(|error| raised(&error))?;
        let plan = &planned.plan;
        let (width, height) = plan.cropped.unwrap_or((plan.width, plan.height));
        let value = json!({
            "width": width,
            "height": height,
            "frames": plan.frames,
            "fps": plan.fps,
            "steps": plan.steps(),
            "sampler": plan.sampler.to_string(),
            "guided": plan.guided(),
            "seed": plan.seed,
            "latents": plan.latent_shape,
            "memory": planned.memory,
            "time": planned.time,
            "notices": planned.notices,
        });
        Ok(value.to_string())
    }

    /// Makes a clip.
    fn generate(
        &self,
        py: Python<'_>,
        prompt: String,
        options: &Bound<'_, PyDict>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Clip> {
        self.check_process()?;
        let request = whole_request(prompt, options)?;
        let made = watched(py, progress, |watch| {
            let mut sink = ToPython { frames: watch.frame_sender(), clip: None };
            let report = self.inner.generate_into(&request, &mut sink, |event| watch.event(&event))?;
            Ok((report, sink.clip))
        });
        finished(py, made)
    }

    /// Makes a clip longer.
    fn extend(
        &self,
        py: Python<'_>,
        options: &Bound<'_, PyDict>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Clip> {
        self.check_process()?;
        let mut options = Options::new(options)?;
        let project = Project::new(options.path("project")?)?;
        let clip = options.source("clip")?.ok_or_else(|| PyTypeError::new_err("clip takes a clip or a path"))?;
        let (story, request, notice) = self.continuation(clip, options, project.folder())?;
        let made = watched(py, progress, |watch| {
            let mut sink = ToPython { frames: watch.frame_sender(), clip: None };
            let on_event = |event: kinora::Event<'_>| watch.event(&event);
            let mut report = self.inner.film_into(&story, &request, project.folder(), &mut sink, on_event)?;
            report.notices.extend(notice);
            Ok((report, sink.clip))
        });
        project.settled(py, finished(py, made))
    }
}

impl Pipeline {
    fn check_process(&self) -> PyResult<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        let hint = "load it in the process that uses it, or start processes with multiprocessing's \"spawn\"";
        let what = "a pipeline does not survive a fork of its process".to_string();
        Err(raised(&kinora::Error::request(what, hint)))
    }

    /// Returns the continuation of `clip` by `options`, and what there is to say of it.
    fn continuation(
        &self,
        clip: Source,
        mut options: Options<'_>,
        project: &Path,
    ) -> PyResult<(Story, Request, Option<String>)> {
        let (mut earlier, notice) = self.before(&clip)?;
        let shot = Shot {
            prompt: options.get("prompt")?.unwrap_or(earlier.prompt.clone()),
            seconds: Some(options.get("seconds")?.unwrap_or(USUAL_SECONDS)),
            camera: options.get("camera")?,
            ..Shot::default()
        };
        if shot.prompt.is_empty() {
            let hint = "prompt says what happens next";
            let error = kinora::Error::request("the clip has no recorded prompt", hint);
            return Err(raised(&error));
        }
        let times = options.get::<NonZeroU16>("times")?.map_or(1, NonZeroU16::get);
        let negative_prompt = options.get("negative_prompt")?.or(earlier.negative_prompt.clone());
        earlier.negative_prompt = negative_prompt;
        let mut request = denoising(earlier, &mut options)?;
        let own = output(&mut options)?;
        let (upscale, upscaler) = (own.upscale.or(request.output.upscale), own.upscaler.or(request.output.upscaler));
        request.output = own.upscale(upscale).upscaler(upscaler);
        options.finish()?;
        // A random seed is drawn once per project.
        request.seed = request.seed.or(kinora::story_seed(project));
        let story = Story { after: Some(clip), shots: vec![shot; usize::from(times)] };
        Ok((story, request, notice))
    }

    /// The settings that a continuation of `clip` takes over, and what there is to say of them.
    fn before(&self, clip: &Source) -> PyResult<(Request, Option<String>)> {
        match Recipe::read(clip) {
            Ok(recipe) if self.inner.made(&recipe) => {
                Ok((recipe.continuation().map_err(|error| raised(&error))?, None))
            }
            // Another model has settings of its own.
            Ok(recipe) => {
                let Request { prompt, negative_prompt, output, .. } =
                    recipe.continuation().map_err(|error| raised(&error))?;
                let mut request = Request::new(prompt).output(output);
                request.negative_prompt = negative_prompt;
                Ok((request, None))
            }
            Err(kinora::Error::BadFile { reason, .. }) => {
                let notice = format!("the clip before: {reason}; all settings are the model's own");
                Ok((Request::default(), Some(notice)))
            }
            // It is said where the clip is opened.
            Err(_) => Ok((Request::default(), None)),
        }
    }
}

fn whole_request(prompt: String, options: &Bound<'_, PyDict>) -> PyResult<Request> {
    let mut options = Options::new(options)?;
    let request = request(prompt, &mut options)?;
    options.finish()?;
    Ok(request)
}

fn finished(py: Python<'_>, made: Watched<(Report, Option<ClipInfo>)>) -> PyResult<Clip> {
    let ((report, clip), frames) = made.into_parts(py)?;
    let clip = clip.expect("a clip that is complete has begun");
    let value = json!({
        "width": clip.width,
        "height": clip.height,
        "fps": clip.fps,
        "recipe": clip.recipe,
        "report": report,
    });
    Ok((frames, value.to_string()))
}

/// Hands frames over as they come, rounded to 8 bits.
struct ToPython {
    frames: FrameSender,
    clip: Option<ClipInfo>,
}

impl Sink for ToPython {
    fn begin(&mut self, clip: &ClipInfo) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.clip = Some(clip.clone());
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.frames.send(Picture::from_frame(frame).rgb);
        Ok(())
    }
}
