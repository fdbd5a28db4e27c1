//! [`Pipeline`]: a loaded model; the stages that make clips with it are the files of this folder.

mod combine;
mod contexts;
pub(crate) mod decode;
mod denoise;
pub(crate) mod directory;
pub(crate) mod encode;
pub(crate) mod event;
mod generate;
pub(crate) mod latents_file;
pub(crate) mod observer;
pub(crate) mod report;
pub(crate) mod run_dir;
pub(crate) mod sink;
pub(crate) mod sound;
mod tiles;
mod upscale;
pub(crate) mod warm;

use crate::families::capabilities::{Capabilities, Limits};
use crate::families::family::Family;
use crate::families::{checked, family_of, find_model, is_known_only, random_model};
use crate::model::Model;
use crate::model::manifest::Manifest;
use crate::plan::enlarge;
use crate::plan::fit::Fitting;
use crate::plan::machine::resident;
use crate::plan::pace::{self, Estimate, Pace, Work};
use crate::plan::placement::Placement;
use crate::plan::{Plan, Planned, Probed, check};
use crate::preview::LatentRgb;
use crate::request::Request;
use crate::request::files::check_results;
use crate::request::load::LoadOptions;
use crate::request::output::{Output, Predictions, Seconds};
use crate::request::recipe::Recipe;
use crate::run::run_dir::recorded;
use crate::run::warm::{Warm, WarmVae};
use crate::{Result, device};
use candle_core::Device;
use kinora_media::Readers;
use kinora_text_encoder::Unread;
use kinora_vae::{LatentFormat, Parts};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Words that show where the unread end of a prompt begins.
const UNREAD_WORDS: usize = 5;

/// Unknown words that are said.
const UNKNOWN_WORDS: usize = 8;

/// A model that is ready to make clips. Its components are read when their stage comes and freed after it, or kept for the next
/// run ([`LoadOptions::keep_warm`]).
pub struct Pipeline {
    pub(crate) model: Model,
    pub(crate) family: &'static dyn Family,
    pub(crate) limits: Limits,
    /// What the user should know about how the model's files are read.
    notices: Vec<String>,
    pub(crate) placement: Placement,
    pub(crate) threads: rayon::ThreadPool,
    pub(crate) readers: Readers,
    /// Bytes that were resident when the model was loaded.
    idle: Option<u64>,
    /// Held by the run that a GPU works for.
    turn: Mutex<()>,
    /// Components between runs.
    pub(crate) warm: Warm,
    keep_warm: bool,
    /// How long earlier runs took.
    pace: Option<Pace>,
    /// The folder of text contexts of earlier runs.
    contexts: Option<PathBuf>,
}

/// The role of a plan's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A clip of its own, or the beginning of a story, or a window after a cut.
    Begins,
    /// A window that continues another one.
    Continues,
}

impl Pipeline {
    /// Finds the model, reads its configuration and checks names and shapes of all weights; no weights are read yet.
    ///
    /// # Errors
    /// No such model, or files that do not make one; a device that is not there.
    pub fn load(options: &LoadOptions) -> Result<Self> {
        let mut model = find_model(&options.model)?;
        let (family, limits, mut notices) = checked(&model)?;
        notices.extend(model.add_loras(options, family)?);
        let mut pipeline = Self::of(model, family, limits, options)?;
        pipeline.notices.extend(notices);
        Ok(pipeline)
    }

    /// A model without files.
    fn random(name: &str, options: &LoadOptions) -> Result<Self> {
        let mut model = random_model(name)?;
        let family = family_of(&model)?;
        let limits = family.limits(&model)?;
        let notices = model.add_loras(options, family)?;
        let mut pipeline = Self::of(model, family, limits, options)?;
        pipeline.notices.extend(notices);
        Ok(pipeline)
    }

    fn of(model: Model, family: &'static dyn Family, limits: Limits, options: &LoadOptions) -> Result<Self> {
        let threads = device::threads(options.threads)?;
        let (placement, notice) = Placement::of(options, &threads)?;
        let readers = Readers { ffmpeg: options.ffmpeg.clone() };
        Ok(Self {
            model,
            family,
            limits,
            notices: notice.into_iter().collect(),
            placement,
            threads,
            readers,
            idle: resident(),
            turn: Mutex::default(),
            warm: Warm::default(),
            keep_warm: options.keep_warm,
            pace: options.pace.clone().map(Pace::new),
            contexts: options.contexts.clone(),
        })
    }

    /// The plan that [`Pipeline::generate`] would follow: the request with every default filled in, checked and snapped.
    ///
    /// # Errors
    /// A value of the request that is out of range or contradicts another, and inputs that cannot be read.
    pub fn plan(&self, request: &Request) -> Result<Planned> {
        self.plan_of(request, Part::Begins)
    }

    /// The plan for a part of a story.
    pub(crate) fn plan_of(&self, request: &Request, part: Part) -> Result<Planned> {
        let (manifest, limits, continues) = (&self.model.manifest, &self.limits, part == Part::Continues);
        let resumed = request.output.resume.as_ref().filter(|_| request.seed.is_none());
        let earlier = resumed.map(|dir| recorded(dir)).transpose()?.flatten();
        check(request, manifest, limits, continues)?;
        let probed = Probed::new(request, earlier.map(|recipe| recipe.seed), continues, &self.readers)?;
        let (plan, mut notices) = Plan::new(request, probed, manifest, limits)?;
        notices.extend(self.unread(&plan)?);
        notices.extend(self.unknown(&plan)?);
        notices.extend(crate::plan::inputs::notices(&plan, &self.readers)?);
        notices.extend(self.notices.iter().cloned());
        let planned = self.fitting().fit(plan, notices, &request.output)?;
        Ok(Planned { time: self.expected_time(&planned, planned.plan.latent_shape, &request.output)?, ..planned })
    }

    /// About how long the run of `planned` will take for `latents`, `[C, F, H, W]`, if times are kept.
    pub(crate) fn expected_time(
        &self,
        planned: &Planned,
        latents: [usize; 4],
        output: &Output,
    ) -> Result<Option<Estimate>> {
        let Some(pace) = &self.pace else { return Ok(None) };
        let work = self.work(&planned.plan, latents)?;
        let (name, enlarged) = (self.pace_name(planned), enlarge::words(output));
        let known = pace.estimate(&format!("{name}{enlarged}"), &work);
        if known.is_some() || enlarged.is_empty() {
            return Ok(known.or_else(|| self.threads.install(|| pace::guess(&work, &planned.placement))));
        }
        let without = pace.estimate(&name, &work);
        Ok(self.threads.install(|| {
            let without = without.or_else(|| pace::guess(&work, &planned.placement));
            enlarge::guess(output, &planned.plan, latents, &planned.placement, without)
        }))
    }

    /// Keeps how long runs took that were planned as `planned` is, each for its latents, `[C, F, H, W]`, if times are kept.
    pub(crate) fn learn_pace(&self, planned: &Planned, output: &Output, runs: &[([usize; 4], Predictions, Seconds)]) {
        let Some(pace) = &self.pace else { return };
        let run = |(latents, made, took): &([usize; 4], Predictions, Seconds)| {
            self.work(&planned.plan, *latents).map(|work| (work, *made, *took))
        };
        if let Ok(runs) = runs.iter().map(run).collect::<Result<Vec<_>>>() {
            pace.learn(&(self.pace_name(planned) + &enlarge::words(output)), &runs);
        }
    }

    /// The run of `plan` for `latents`.
    fn work(&self, plan: &Plan, latents: [usize; 4]) -> Result<Work> {
        Ok(Work::new(plan, latents, self.family.operations(&self.model, latents)?))
    }

    fn pace_name(&self, planned: &Planned) -> String {
        let weights = planned.memory.parts.denoise.weights;
        pace::name(&self.model, &planned.placement, &planned.plan, weights, self.threads.current_num_threads())
    }

    /// A notice of each prompt whose end the text encoder has no room for.
    fn unread(&self, plan: &Plan) -> Result<Vec<String>> {
        let (prompt, negative) = (plan.spoken_prompt(), plan.guided().then_some(plan.negative_prompt.as_str()));
        let texts = [("the prompt", Some(prompt.as_str())), ("the negative prompt", negative)];
        let mut notices = Vec::new();
        for (name, text) in texts {
            let unread = text.map(|text| self.family.unread(&self.model, text)).transpose()?.flatten();
            notices.extend(unread.map(|Unread { tokens, text }| {
                let start: Vec<&str> = text.split_whitespace().take(UNREAD_WORDS).collect();
                format!("{name} is long: its last {tokens} tokens are not read, from \"{}\" on", start.join(" "))
            }));
        }
        Ok(notices)
    }

    /// A notice of the words of the prompt that a small model does not know.
    fn unknown(&self, plan: &Plan) -> Result<Option<String>> {
        let manifest = &self.model.manifest;
        let Some(knows) = &manifest.knows else { return Ok(None) };
        let words = self.family.unknown_words(&self.model, &plan.spoken_prompt())?;
        let is_nothing = words.is_empty();
        let (name, words) = (&manifest.name, words.into_iter().take(UNKNOWN_WORDS).collect::<Vec<_>>().join(", "));
        Ok((!is_nothing)
            .then(|| format!("{name} draws {knows}; it does not know: {words}. For footage, take another model")))
    }

    /// The model on this machine, as plans are fitted into its memory.
    fn fitting(&self) -> Fitting<'_> {
        let Self { model, family, limits, placement, idle, .. } = self;
        let threads = self.threads.current_num_threads();
        Fitting { model, family: *family, limits, placement, threads, idle: *idle }
    }

    /// The recipe that the clip of `request` would have.
    ///
    /// # Errors
    /// As of [`Pipeline::plan`].
    pub fn recipe_of(&self, request: &Request) -> Result<Recipe> {
        Ok(self.recipe(&self.plan(request)?.plan, &request.output))
    }

    /// Whether the clip of `recipe` was made with this model, its LoRAs aside.
    pub fn made(&self, recipe: &Recipe) -> bool {
        recipe.model == crate::plan::words_of(&self.model)
    }

    /// The recipe of `plan`.
    pub(crate) fn recipe(&self, plan: &Plan, output: &Output) -> Recipe {
        Recipe::of(plan, output, &self.model, &self.placement)
    }

    /// Refuses `results` that would replace each other, one of `inputs`, what else `output` says is read, or a file of the
    /// model. [`Pipeline::generate`] and the other runs do so themselves; this is for files that a caller writes.
    ///
    /// # Errors
    /// [`Error::Request`](crate::Error::Request) with the first such file.
    pub fn check_results(
        &self,
        results: &[(&'static str, &Path)],
        inputs: &[(&'static str, &Path)],
        output: &Output,
    ) -> Result<()> {
        let more = output.reads.iter().map(|path| ("a file that is read", path.as_path()));
        let inputs: Vec<_> = inputs.iter().copied().chain(more).collect();
        check_results(results, &inputs, &self.model.files())
    }

    /// Does `work` on this pipeline's threads. On a GPU, runs take turns: its memory is planned for one, and everything
    /// that is queued while a pass is recorded becomes part of the recording.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let on_gpu = !self.placement.device.is_cpu();
        let _turn = on_gpu.then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
        self.threads.install(work)
    }

    /// The conditioning inputs that the model accepts beside a prompt.
    pub fn capabilities(&self) -> Capabilities {
        self.limits.capabilities
    }

    /// Everything that is known about the model beside its files.
    pub fn manifest(&self) -> &Manifest {
        &self.model.manifest
    }

    /// The colours of the model's latents, where they are known.
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

    /// Lets components stay in memory as far as the run of `planned` leaves room, if they are to be kept.
    pub(crate) fn make_room(&self, planned: &Planned) {
        let memory = &planned.memory;
        let room = memory.available.map_or(0, |available| available.saturating_sub(memory.peak));
        self.warm.fit(if self.keep_warm { room } else { 0 });
    }

    pub(crate) fn vae(&self, parts: Parts) -> Result<WarmVae<'_>> {
        self.warm.vae(parts, || self.family.vae(&self.model, parts, &self.placement))
    }
}

/// The plan for the clip of `request`, also with a known model that is not on this machine.
///
/// # Errors
/// As of [`Pipeline::load`] and [`Pipeline::plan`].
pub fn outline(options: &LoadOptions, request: &Request) -> Result<Planned> {
    let pipeline = match options.model.as_slice() {
        [name] if is_known_only(name) => Pipeline::random(name, options)?,
        _ => Pipeline::load(options)?,
    };
    pipeline.plan(request)
}
