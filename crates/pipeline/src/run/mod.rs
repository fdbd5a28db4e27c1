//! [`Pipeline`]: a loaded model and the stages that make clips with it.

pub(crate) mod codec;
pub(crate) mod denoise;
pub(crate) mod event;
pub(crate) mod run_dir;
mod spool;

use crate::families::wan::conditioning::{Before, Conditions, Maker};
use crate::families::{Family, Placement, family_of};
use crate::model::manifest::Manifest;
use crate::model::source::Model;
use crate::plan::memory::peak_memory;
use crate::plan::{Limits, Plan};
use crate::preview::LatentRgb;
use crate::request::Request;
use crate::request::inputs::Takes;
use crate::request::output::{Output, Predictions, Report, Seconds, distinct};
use crate::request::recipe::Recipe;
use crate::run::codec::{decode_latents, encode_clip};
use crate::run::denoise::{Denoiser, read_noise};
use crate::run::event::{Event, Stage};
use crate::run::run_dir::{RunDir, recorded};
use crate::{Error, Result, device};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Quant;
use kinora_vae::{LatentFormat, Parts, VideoVae};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Keys in the metadata of latents: the recipe, and the frame rate that the clip should have.
const RECIPE_KEY: &str = "recipe";
const FPS_KEY: &str = "fps";

/// Which model to load, and where it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// A known name (`embedded`, `wan2.1-t2v-1.3b`, …), a model directory, or single files.
    pub model: Vec<String>,
    /// Dtype of the networks; `None` is f32 on the CPU, bf16 elsewhere.
    pub dtype: Option<DType>,
    /// How the large matrices of transformer and text encoder are rounded; `None` leaves them as the file has them.
    pub quant: Option<Quant>,
    /// `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
    pub device: String,
    /// CPU threads; `None` is every core. The result does not depend on it.
    pub threads: Option<usize>,
    /// The most bytes of a GPU's memory to plan with; `None` is what is free. What does not fit waits in the host's memory.
    pub gpu_memory: Option<u64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let model = vec!["embedded".into()];
        Self { model, dtype: None, quant: None, device: "auto".into(), threads: None, gpu_memory: None }
    }
}

/// A model that is ready to make clips. Its parts are read when their stage comes and freed after it.
pub struct Pipeline {
    pub(crate) model: Model,
    pub(crate) family: &'static dyn Family,
    pub(crate) limits: Limits,
    pub(crate) placement: Placement,
    pub(crate) threads: rayon::ThreadPool,
    /// Held by the run that a GPU works for.
    pub(crate) turn: Mutex<()>,
}

impl Pipeline {
    /// Finds the model, reads its configuration and checks names and shapes of all weights; no weights are read yet.
    pub fn load(options: &LoadOptions) -> Result<Self> {
        let pipeline = Self::of(Model::find(&options.model)?, options)?;
        pipeline.family.check(&pipeline.model)?;
        Ok(pipeline)
    }

    fn of(model: Model, options: &LoadOptions) -> Result<Self> {
        let placement = Placement::of(options)?;
        let threads = device::threads(options.threads)?;
        let family = family_of(&model)?;
        let limits = family.limits(&model)?;
        Ok(Self { model, family, limits, placement, threads, turn: Mutex::default() })
    }

    /// What [`Pipeline::generate`] would do: the request with every default filled in, checked and snapped.
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        self.plan_of(request, Part::Alone)
    }

    /// Makes the clip of `request` and writes it where `request.output` says.
    ///
    /// Latents are on disk before decoding starts; the clip appears under its name when it is complete.
    ///
    /// # Errors
    /// [`Error::Stopped`] when `on_event` breaks; otherwise what is wrong with the request, the model or the files.
    pub fn generate(
        &self,
        request: &Request,
        mut on_event: impl FnMut(Event) -> ControlFlow<()> + Send,
    ) -> Result<Report> {
        self.run(|| self.generate_here(request, &mut on_event))
    }

    /// Decodes the latents in the file `latents` into a clip; `fps` overrides the frame rate recorded with them.
    pub fn decode(
        &self,
        latents: &Path,
        output: &Output,
        fps: Option<f64>,
        mut on_event: impl FnMut(Event) -> ControlFlow<()> + Send,
    ) -> Result<Report> {
        self.run(|| {
            distinct(&[("the latents", latents), ("the clip", &output.clip)], 2)?;
            let metadata = kinora_checkpoint::TensorFile::open(latents)?.metadata().clone();
            let stored = metadata.get(RECIPE_KEY).cloned();
            let recorded: Option<Recipe> = stored.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let own_fps = metadata.get(FPS_KEY).and_then(|fps| fps.parse().ok());
            let changed = recorded.clone().zip(fps).map(|(recipe, fps)| Recipe { fps, ..recipe }.to_text());
            let recipe = changed.or(stored);
            let fps = fps.or(own_fps).unwrap_or(self.model.manifest.defaults.fps);
            let start = Instant::now();
            let size = latent_size(latents)?;
            let tile = self.tile(output, size)?;
            if let Some(side) = tile.filter(|side| output.tile.is_none() && *side < size[0].max(size[1])) {
                stopped_if(on_event(Event::Notice(&in_tiles(side))), None)?;
            }
            let output = &Output { tile, ..output.clone() };
            let mut report = self.decode_file(latents, output, fps, recipe.as_deref(), &mut on_event)?;
            report.seconds.total = start.elapsed().as_secs_f64();
            report.seed = recorded.map(|recipe| recipe.seed);
            Ok(report)
        })
    }

    /// Encodes the clip in the file `clip` and saves its latents `[1, C, F, H, W]`, normalised as the transformer sees
    /// them, f32.
    /// Returns `[C, F, H, W]`.
    pub fn encode(
        &self,
        clip: &Path,
        output: &Path,
        mut on_event: impl FnMut(Event) -> ControlFlow<()> + Send,
    ) -> Result<[usize; 4]> {
        self.run(|| {
            distinct(&[("the clip", clip), ("the latents", output)], 2)?;
            kinora_checkpoint::check_writable(output)?;
            on_event_stage(&mut on_event, Stage::Encode)?;
            let vae = self.family.vae(&self.model, Parts::Encoder, &self.placement)?;
            let (latents, fps) = encode_clip(vae.as_ref(), clip, &self.placement.device, &mut on_event)?;
            let (_, c, f, h, w) = latents.dims5()?;
            let metadata = BTreeMap::from([(FPS_KEY.to_string(), fps.to_string())]);
            kinora_checkpoint::save_safetensors(output, &[("latents".to_string(), latents)], &metadata)?;
            Ok([c, f, h, w])
        })
    }

    /// What [`Pipeline::plan`] gives, for a whole clip or a part of a story.
    pub(crate) fn plan_of(&self, request: &Request, part: Part) -> Result<Plan> {
        let mut request = request.clone();
        if request.seed.is_none()
            && let Some(dir) = &request.output.resume
        {
            request.seed = recorded(dir)?.map(|recipe| recipe.seed);
        }
        let mut plan = Plan::new(&request, &self.model.manifest, &self.limits, part == Part::GoesOn)?;
        if part == Part::Alone && plan.tile.is_none() {
            let [_, _, h, w] = plan.latent_shape;
            plan.tile = self.tile(&request.output, [h, w])?;
            plan.notices.extend(plan.tile.map(in_tiles));
        }
        self.fit(&mut plan)?;
        plan.memory = self.memory(&plan)?;
        plan.notices.extend(plan.memory.warning());
        Ok(plan)
    }

    /// One window of a story, in the directory that `output` names: where its latents are, the predictions they took,
    /// and the seconds.
    pub(crate) fn window(
        &self,
        plan: &Plan,
        output: &Output,
        before: Option<&Before>,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(PathBuf, Predictions, Seconds)> {
        let recipe = self.recipe(plan, output);
        let dir = output.resume.as_ref().expect("a story gives every window a directory");
        let run_dir = RunDir::open(dir, &recipe)?;
        let path = RunDir::latents_in(dir);
        if run_dir.has_latents(plan)? {
            return Ok((path, Predictions::default(), Seconds::default()));
        }
        let (latents, predictions, seconds) = self.make_latents(plan, None, before, Some(&run_dir), on_event)?;
        save_latents(&path, &latents, plan, Some(&recipe.to_text()))?;
        Ok((path, predictions, seconds))
    }

    /// The recipe that the clip of `request` would have.
    ///
    /// # Errors
    /// As of [`Pipeline::plan`].
    pub fn recipe_of(&self, request: &Request) -> Result<Recipe> {
        Ok(self.recipe(&self.plan(request)?, &request.output))
    }

    /// The recipe of `plan`.
    pub(crate) fn recipe(&self, plan: &Plan, output: &Output) -> Recipe {
        Recipe::new(plan, output, &self.model.argument, &self.placement)
    }

    /// Does `work` on this pipeline's threads. On a GPU, one run waits for the other: its memory is planned for one, and what
    /// is queued while a pass is recorded is recorded.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let on_gpu = !self.placement.device.is_cpu();
        let _turn = on_gpu.then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
        self.threads.install(work)
    }

    pub(crate) fn takes(&self) -> Takes {
        self.limits.takes
    }

    /// What is known about the model beside its files.
    pub fn manifest(&self) -> &Manifest {
        &self.model.manifest
    }

    /// What the model's latents look like, where that is known.
    pub fn latent_rgb(&self) -> Option<LatentRgb> {
        let manifest = &self.model.manifest;
        LatentRgb::of(manifest.vae.as_deref().unwrap_or(&manifest.name))
    }

    pub(crate) fn latent_format(&self) -> &LatentFormat {
        &self.limits.latent_format
    }

    pub(crate) fn device(&self) -> &Device {
        &self.placement.device
    }

    pub(crate) fn vae(&self, parts: Parts) -> Result<Box<dyn VideoVae>> {
        self.family.vae(&self.model, parts, &self.placement)
    }

    fn generate_here(
        &self,
        request: &Request,
        on_event: &mut (dyn FnMut(Event) -> ControlFlow<()> + Send),
    ) -> Result<Report> {
        let start = Instant::now();
        let plan = self.plan(request)?;
        let output = &Output { tile: plan.tile, ..request.output.clone() };
        let recipe = self.recipe(&plan, output);
        let stored = recipe.to_text();
        let stored = output.metadata.then_some(stored.as_str());
        // Now, not after the last step, it must come out that something cannot be read or written.
        drop(crate::run::codec::writer(output, (plan.width, plan.height), plan.cropped, plan.fps, stored)?);
        let noise = plan.init_latents.as_ref().map(|path| read_noise(path, plan.sampled_shape())).transpose()?;
        let latents = latents_path(output);
        let mut files = vec![("the clip", output.clip.as_path()), ("the latents", &latents)];
        files.extend(
            output.latents.iter().filter(|_| output.resume.is_some()).map(|path| ("the saved latents", path.as_path())),
        );
        files.extend(plan.init_latents.iter().map(|path| ("the initial latents", path.as_path())));
        files.extend(output.preview.iter().map(|path| ("the preview", path.as_path())));
        let results = files.len();
        files.extend(plan.given.files());
        distinct(&files, results)?;
        output.latents.iter().try_for_each(|path| kinora_checkpoint::check_writable(path))?;
        // Last, because it leaves a directory behind.
        let run_dir = output.resume.as_ref().map(|dir| RunDir::open(dir, &recipe)).transpose()?;
        kinora_checkpoint::check_writable(&latents)?;
        stopped_if(on_event(Event::Planned(&plan)), run_dir.as_ref())?;
        for notice in &plan.notices {
            stopped_if(on_event(Event::Notice(notice)), run_dir.as_ref())?;
        }

        let (mut seconds, mut predictions) = (Seconds::default(), Predictions::default());
        let done = run_dir.as_ref().map_or(Ok(false), |run_dir| run_dir.has_latents(&plan))?;
        if !done {
            let denoised;
            (denoised, predictions, seconds) = self.make_latents(&plan, noise, None, run_dir.as_ref(), on_event)?;
            self.keep_latents(&latents, &denoised, &plan, stored)?;
        }
        let decoded = stopped_if(on_event(Event::Saved(&latents)), None)
            .and_then(|()| self.decode_file(&latents, output, plan.fps, stored, on_event));
        let mut report = decoded.map_err(|error| match error {
            Error::Stopped { .. } if run_dir.is_some() => stopped_in(run_dir.as_ref()),
            error => self.after_latents(error, &latents),
        })?;
        let kept = output.latents.is_some() || run_dir.is_some();
        if !kept {
            // The clip is complete; a leftover is only untidy.
            let _ = std::fs::remove_file(&latents);
        }
        if let Some(path) = &output.latents
            && *path != latents
        {
            let io = |source| Error::Io { path: path.clone(), source };
            let temporary = path.with_extension("part");
            std::fs::copy(&latents, &temporary).map_err(io)?;
            std::fs::rename(&temporary, path).map_err(io)?;
        }
        report.latents = output.latents.clone().or(run_dir.map(|_| latents));
        report.seed = Some(plan.seed);
        report.predictions = Some(predictions);
        report.planned_memory = Some(plan.memory.peak);
        report.notices.splice(0..0, plan.notices);
        report.seconds = Seconds { total: start.elapsed().as_secs_f64(), decode: report.seconds.decode, ..seconds };
        Ok(report)
    }

    /// The text and denoising stages, of a clip that continues `before`: latents `[1, C, F, H, W]` f32, the predictions
    /// they took, and the seconds.
    pub(crate) fn make_latents(
        &self,
        plan: &Plan,
        noise: Option<Tensor>,
        before: Option<&Before>,
        run_dir: Option<&RunDir>,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(Tensor, Predictions, Seconds)> {
        let start = Instant::now();
        stopped_if(on_event(Event::Stage(Stage::Text)), run_dir)?;
        let contexts = self.contexts(plan, run_dir, on_event)?;
        let text = start.elapsed().as_secs_f64();
        let conditions = self.conditions(plan, before, run_dir, on_event)?;
        stopped_if(on_event(Event::Stage(Stage::Denoise)), run_dir)?;
        let Self { family, model, placement, .. } = self;
        let placement = &placement.planned(plan);
        let denoiser = Denoiser { family: *family, model, placement, plan, contexts, conditions, noise };
        let (latents, predictions) = denoiser.run(run_dir, on_event)?;
        Ok((
            latents,
            predictions,
            Seconds { text, denoise: start.elapsed().as_secs_f64() - text, ..Seconds::default() },
        ))
    }

    /// Saves the denoised latents; where that fails, the system's temporary folder keeps them.
    fn keep_latents(&self, path: &Path, latents: &Tensor, plan: &Plan, recipe: Option<&str>) -> Result<()> {
        save_latents(path, latents, plan, recipe).map_err(|error| {
            let refuge = std::env::temp_dir().join(format!("kinora-{}.latents.safetensors", plan.seed));
            match save_latents(&refuge, latents, plan, recipe) {
                Ok(()) => self.after_latents(error, &refuge),
                Err(_) => error, // the first place is the one that the user knows
            }
        })
    }

    fn after_latents(&self, error: Error, latents: &Path) -> Error {
        let model = self.model.argument.clone();
        Error::AfterLatents { source: Box::new(error), latents: latents.to_path_buf(), model }
    }

    fn contexts(
        &self,
        plan: &Plan,
        run_dir: Option<&RunDir>,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Vec<Tensor>> {
        if let Some(run_dir) = run_dir
            && let Some(contexts) = run_dir.load_contexts(plan, &self.placement.device)?
        {
            return Ok(contexts);
        }
        let placement = &self.placement;
        let on_cpu = plan.text_on_cpu.then(|| placement.on_cpu());
        let encoder = self.family.text_encoder(&self.model, on_cpu.as_ref().unwrap_or(placement))?;
        let prompt = plan.spoken_prompt();
        let mut prompts = vec![prompt.as_str()];
        if plan.guided() {
            prompts.push(&plan.negative_prompt);
        }
        let mut contexts = Vec::new();
        for prompt in prompts {
            let context = encoder.encode(prompt)?;
            if context.dropped > 0 {
                let text = format!("the prompt is long: its last {} tokens are not read", context.dropped);
                stopped_if(on_event(Event::Notice(&text)), run_dir)?;
            }
            contexts.push(context.tensor.to_device(&placement.device)?);
        }
        if let Some(run_dir) = run_dir {
            run_dir.save_contexts(&contexts)?;
        }
        Ok(contexts)
    }

    /// What `plan` gives beside its prompt, made into tensors.
    fn conditions(
        &self,
        plan: &Plan,
        before: Option<&Before>,
        run_dir: Option<&RunDir>,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Conditions> {
        let Self { family, model, placement, .. } = self;
        let maker = Maker { family: *family, model, placement, plan, before };
        if !maker.is_needed() {
            return Ok(Conditions::default());
        }
        if let Some(run_dir) = run_dir
            && let Some(conditions) = run_dir.load_conditions(&placement.device)?
        {
            return Ok(conditions);
        }
        stopped_if(on_event(Event::Stage(Stage::Encode)), run_dir)?;
        let made = maker.make(on_event).map_err(|error| match error {
            Error::Stopped { .. } => stopped_in(run_dir),
            error => error,
        })?;
        if let Some(run_dir) = run_dir {
            run_dir.save_conditions(&made)?;
        }
        Ok(made)
    }

    fn decode_file(
        &self,
        latents: &Path,
        output: &Output,
        fps: f64,
        recipe: Option<&str>,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Report> {
        let start = Instant::now();
        on_event_stage(on_event, Stage::Decode)?;
        let vae = self.family.vae(&self.model, Parts::Decoder, &self.placement)?;
        let recipe = recipe.filter(|_| output.metadata);
        let written = decode_latents(vae.as_ref(), latents, &self.placement.device, output, fps, recipe, on_event)?;
        // The clip is complete: there is nothing left to stop.
        for note in &written.notes {
            let _ = on_event(Event::Notice(note));
        }
        let _ = on_event(Event::Saved(&written.path));
        Ok(Report {
            clip: written.path,
            width: written.width,
            height: written.height,
            frames: written.frames as usize,
            bytes: written.bytes,
            seed: None,
            predictions: None,
            latents: None,
            notices: written.notes,
            seconds: Seconds { decode: start.elapsed().as_secs_f64(), ..Seconds::default() },
            peak_memory: peak_memory(),
            planned_memory: None,
        })
    }
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A clip of its own.
    Alone,
    /// A part of a story, whose frames are decoded whole, at its beginning or after a cut.
    Begins,
    /// One that continues another.
    GoesOn,
}

/// What making the clip of `request` would be like, also with a known model that is not on this machine.
pub fn outline(options: &LoadOptions, request: &Request) -> Result<Plan> {
    let pipeline = match options.model.as_slice() {
        [name] if Model::is_known_only(name) => Pipeline::of(Model::random(name)?, options)?,
        _ => Pipeline::load(options)?,
    };
    pipeline.plan(request)
}

fn in_tiles(side: usize) -> String {
    format!("whole frames do not fit in memory: they are decoded in tiles of {side}×{side} latent pixels")
}

/// Rows and columns of the latents in a file; 0 where it has none, which decoding says.
fn latent_size(path: &Path) -> Result<[usize; 2]> {
    let infos = kinora_checkpoint::TensorFile::open(path)?.infos();
    let found = infos.iter().find(|info| info.name == "latents" && info.shape.len() == 5);
    Ok(found.map_or([0, 0], |info| [info.shape[3], info.shape[4]]))
}

fn latents_path(output: &Output) -> PathBuf {
    match (&output.resume, &output.latents) {
        (Some(dir), _) => RunDir::latents_in(dir),
        (None, Some(path)) => path.clone(),
        (None, None) => output.latents_beside_clip(),
    }
}

fn save_latents(path: &Path, latents: &Tensor, plan: &Plan, recipe: Option<&str>) -> Result<()> {
    let mut metadata = BTreeMap::from([(FPS_KEY.to_string(), plan.fps.to_string())]);
    metadata.extend(recipe.map(|recipe| (RECIPE_KEY.to_string(), recipe.to_string())));
    Ok(kinora_checkpoint::save_safetensors(path, &[("latents".to_string(), latents.clone())], &metadata)?)
}

fn stopped_in(run_dir: Option<&RunDir>) -> Error {
    Error::Stopped { resumable: run_dir.map(|dir| dir.path().to_path_buf()) }
}

fn stopped_if(flow: ControlFlow<()>, run_dir: Option<&RunDir>) -> Result<()> {
    if flow.is_break() { Err(stopped_in(run_dir)) } else { Ok(()) }
}

fn on_event_stage(on_event: &mut dyn FnMut(Event) -> ControlFlow<()>, stage: Stage) -> Result<()> {
    stopped_if(on_event(Event::Stage(stage)), None)
}
