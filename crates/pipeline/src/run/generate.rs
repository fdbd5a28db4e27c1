//! Whole runs: a request to a clip, latents to a clip, a clip to latents, and one window of a story.

use super::decode::{Decoding, Shape, writer};
use super::denoise::{Denoiser, read_noise};
use super::directory::tidied;
use super::event::{Event, Stage};
use super::latents_file::{About, LatentsFile, video};
use super::observer::Observer;
use super::report::{replaced, report_of};
use super::run_dir::RunDir;
use super::sink::{Destination, Sink, without_file};
use super::sound::hand_over;
use super::{Pipeline, encode};
use crate::families::family::{ClipEnd, Run, Tensors};
use crate::plan::sound::taken_over;
use crate::plan::{Plan, Planned, in_tiles};
use crate::request::Request;
use crate::request::output::{LATENTS_SUFFIX, Output, Predictions, Report, Seconds};
use crate::request::recipe::Recipe;
use crate::{Error, Result};
use kinora_files::Claim;
use kinora_media::{Lanczos, SoundTrack, Source, Upscale};
use kinora_sampler::Streams;
use kinora_vae::Parts;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The first two stages, done: latents f32, the predictions that they took, and the seconds.
type Denoised = (Streams, Predictions, Seconds);

/// The clip that latents are decoded to.
struct Target<'a> {
    fps: f64,
    /// The size that frames are cut to.
    cut: Option<(usize, usize)>,
    recipe: Option<&'a str>,
    sound: Option<SoundTrack>,
}

impl<'a> Target<'a> {
    /// The clip of a plan, without sound.
    fn of(plan: &Plan, recipe: Option<&'a str>) -> Self {
        Self { fps: plan.fps, cut: plan.cropped, recipe, sound: None }
    }
}

impl Pipeline {
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
        self.run(|| {
            let observer = &mut Observer::new(&mut on_event);
            tidied(request.output.resume.as_deref(), || self.generate_clip(request, Destination::File, observer))
        })
    }

    /// Makes the clip of `request` and hands its frames to `sink`; `request.output.clip` is not written, and the report names no file.
    ///
    /// Until the sink has all frames, the latents are in the system's temporary folder, unless `request.output` says where.
    ///
    /// # Errors
    /// As of [`Pipeline::generate`], and those of the sink.
    pub fn generate_into(
        &self,
        request: &Request,
        sink: &mut dyn Sink,
        mut on_event: impl FnMut(Event) -> ControlFlow<()> + Send,
    ) -> Result<Report> {
        let (request, folder) = without_file(request)?;
        let request = &request;
        let made = self.run(|| {
            let observer = &mut Observer::new(&mut on_event);
            tidied(request.output.resume.as_deref(), || self.generate_clip(request, Destination::Sink(sink), observer))
        });
        if matches!(made, Err(Error::AfterLatents { .. })) {
            let _ = folder.keep();
        }
        made
    }

    /// Checks that the clip of `request` could be written to each of the `outputs`, so that this is known before the first
    /// of several is made.
    ///
    /// # Errors
    /// As of [`Pipeline::generate`], of the first that cannot.
    pub fn check_outputs(&self, request: &Request, outputs: &[Output]) -> Result<()> {
        let plan = self.plan(request)?.plan;
        outputs.iter().try_for_each(|output| {
            let latents = latents_path(output);
            check_clip(&plan, output, None)?;
            self.check_files(&plan, output, &latents)?;
            if output.resume.is_none() { Ok(kinora_checkpoint::check_writable(&latents)?) } else { Ok(()) }
        })
    }

    /// Decodes the latents in the file `latents` into a clip; `fps` overrides the frame rate recorded with them.
    ///
    /// # Errors
    /// As of [`Pipeline::generate`].
    pub fn decode(
        &self,
        latents: &Path,
        output: &Output,
        fps: Option<f64>,
        mut on_event: impl FnMut(Event) -> ControlFlow<()> + Send,
    ) -> Result<Report> {
        self.run(|| {
            let observer = &mut Observer::new(&mut on_event);
            let audio = output.audio.iter().map(|path| ("the sound", path.as_path()));
            let results: Vec<_> = audio.chain([("the clip", output.clip.as_path())]).collect();
            self.check_results(&results, &[("the latents", latents)], output)?;
            let file = LatentsFile::open(latents)?;
            let stored = file.recipe().map(str::to_string);
            let recorded: Option<Recipe> = stored.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let changed = recorded.clone().zip(fps).map(|(recipe, fps)| Recipe { fps, ..recipe }.to_text());
            let recipe = changed.or(stored);
            let fps = fps.or(file.fps()).unwrap_or(self.model.manifest.defaults.fps);
            let start = Instant::now();
            let [_, _, h, w] = file.shape();
            let tile = self.fitting().tile(output, [h, w])?;
            if let Some(side) = tile.filter(|side| output.tile.is_none() && *side < h.max(w)) {
                observer.tell(Event::Notice(&in_tiles(side)))?;
            }
            let output = &Output { tile, ..output.clone() };
            let target = Target {
                fps,
                cut: file.cut().or(recorded.as_ref().map(|recipe| (recipe.width, recipe.height))),
                recipe: recipe.as_deref(),
                sound: None,
            };
            let mut report = self.decode_file(file, Destination::File, output, &target, observer)?;
            report.seconds.total = start.elapsed().as_secs_f64();
            report.seed = recorded.map(|recipe| recipe.seed);
            Ok(report)
        })
    }

    /// Encodes the clip and saves its latents `[1, C, F, H, W]`, normalised as the transformer sees
    /// them, f32.
    /// Returns `[C, F, H, W]`.
    ///
    /// # Errors
    /// As of [`Pipeline::generate`].
    pub fn encode(
        &self,
        clip: impl Into<Source>,
        output: &Path,
        mut on_event: impl FnMut(Event) -> ControlFlow<()> + Send,
    ) -> Result<[usize; 4]> {
        let clip = clip.into();
        self.run(|| {
            let observer = &mut Observer::new(&mut on_event);
            let inputs: Vec<_> = clip.path().map(|path| ("the clip", path)).into_iter().collect();
            self.check_results(&[("the latents", output)], &inputs, &Output::default())?;
            kinora_checkpoint::check_writable(output)?;
            observer.tell(Event::Stage(Stage::Encode))?;
            let vae = self.vae(Parts::Encoder)?;
            let (latents, fps) = encode::encode_clip(vae.as_ref(), &self.readers, &clip, self.device(), observer)?;
            let (_, c, f, h, w) = latents.dims5()?;
            let replaced = replaced(output);
            LatentsFile::save(output, &video(latents), About { fps: Some(fps), ..About::default() })?;
            if let Some(note) = &replaced {
                observer.tell_last(Event::Notice(note));
            }
            Ok([c, f, h, w])
        })
    }

    /// One window of a story, which continues `end`, in the directory that `output` names: its latents' file, the
    /// predictions they took, and the seconds.
    pub(crate) fn window(
        &self,
        planned: &Planned,
        output: &Output,
        end: Option<&ClipEnd>,
        observer: &mut Observer,
    ) -> Result<(PathBuf, Predictions, Seconds)> {
        self.make_room(planned);
        let plan = &planned.plan;
        let recipe = self.recipe(plan, output);
        let dir = output.resume.as_ref().expect("a story gives every window a directory");
        let run_dir = RunDir::open(dir, &recipe, &self.model.files())?;
        let path = RunDir::latents_in(dir);
        if run_dir.has_latents(plan)? {
            return Ok((path, Predictions::default(), Seconds::default()));
        }
        let (latents, predictions, seconds) = self.denoise(planned, None, end, Some(&run_dir), observer)?;
        LatentsFile::save(&path, &latents, about(plan, Some(&recipe.text_for(output))))?;
        Ok((path, predictions, seconds))
    }

    fn generate_clip(&self, request: &Request, destination: Destination, observer: &mut Observer) -> Result<Report> {
        let start = Instant::now();
        let planned = self.plan(request)?;
        self.make_room(&planned);
        let plan = &planned.plan;
        let output = &Output { tile: planned.tile, ..request.output.clone() };
        let recipe = self.recipe(plan, output);
        let stored = recipe.text_for(output);
        let stored = output.metadata.then_some(stored.as_str());
        let latents = latents_path(output);
        if matches!(destination, Destination::File) {
            check_clip(plan, output, stored)?;
        }
        let noise = self.check_files(plan, output, &latents)?;
        // Last, because it leaves a directory behind.
        let run_dir = output.resume.as_ref().map(|dir| RunDir::open(dir, &recipe, &self.model.files())).transpose()?;
        kinora_checkpoint::check_writable(&latents)?;
        if let Some(dir) = &output.resume {
            observer.keeps_run(dir.clone());
        }
        observer.tell(Event::Planned(&planned))?;
        observer.notices(&planned.notices)?;

        let old_latents = output.latents.as_deref().and_then(replaced);
        let (mut seconds, mut predictions) = (Seconds::default(), Predictions::default());
        let (mut latents, mut _claim) = (latents, None);
        // The run reads the file that it wrote, whatever another one gives the same name.
        let own = if run_dir.as_ref().map_or(Ok(false), |run_dir| run_dir.has_latents(plan))? {
            let (total, predictions) = (plan.steps(), plan.passes().len());
            observer.tell(Event::Steps { done: total, total, predictions })?;
            LatentsFile::open(&latents)?
        } else {
            let denoised;
            (denoised, predictions, seconds) = self.denoise(&planned, noise, None, run_dir.as_ref(), observer)?;
            if output.resume.is_none() && output.latents.is_none() {
                let claim = Claim::unused(&output.latents_beside_clip());
                latents = claim.path().to_path_buf();
                _claim = Some(claim);
            }
            self.keep_latents(&latents, &denoised, plan, stored)?
        };
        let decoded = observer.tell(Event::Saved(&latents)).and_then(|()| {
            let sound = taken_over(plan, &self.readers).0;
            self.decode_file(own.clone(), destination, output, &Target { sound, ..Target::of(plan, stored) }, observer)
        });
        let mut report = decoded.map_err(|error| {
            let resumable = error.is_stop() && run_dir.is_some();
            if resumable { error } else { self.after_latents(error, &latents) }
        })?;
        let clip = Some(report.clip.as_path()).filter(|clip| *clip != Path::new(""));
        let about = About { clip, ..about(plan, stored) };
        let save = |path: &Path| LatentsFile::save(path, &own.all()?, about).map(drop);
        report.latents = settle_latents(output, latents, save)?;
        if let Some(note) = &old_latents {
            observer.tell_last(Event::Notice(note));
        }
        report.notices.extend(old_latents);
        report.seed = Some(plan.seed);
        report.predictions = Some(predictions);
        report.planned_memory = Some(planned.memory.peak);
        report.notices.splice(0..0, planned.notices.iter().cloned());
        report.seconds = Seconds { total: start.elapsed().as_secs_f64(), decode: report.seconds.decode, ..seconds };
        self.learn_pace(&planned, output, &[(plan.latent_shape, predictions, report.seconds)]);
        Ok(report)
    }

    /// Checks, before the first step, that every file beside the clip can be read or written that the run will need, and that no
    /// result replaces an input. Reads the noise.
    fn check_files(&self, plan: &Plan, output: &Output, latents: &Path) -> Result<Option<Streams>> {
        let noise = plan.init_latents.as_ref().map(|path| read_noise(path, &plan.streams)).transpose()?;
        let mut results = vec![("the clip", output.clip.as_path()), ("the latents", latents)];
        let saved = output.latents.iter().filter(|_| output.resume.is_some());
        results.extend(saved.map(|path| ("the saved latents", path.as_path())));
        results.extend(output.preview.iter().map(|path| ("the preview", path.as_path())));
        results.extend(output.audio.iter().map(|path| ("the sound", path.as_path())));
        let mut inputs = plan.inputs.files();
        inputs.extend(plan.init_latents.iter().map(|path| ("the initial latents", path.as_path())));
        self.check_results(&results, &inputs, output)?;
        output.latents.iter().try_for_each(|path| kinora_checkpoint::check_writable(path))?;
        Ok(noise)
    }

    /// The text and denoising stages, of a clip that continues `end`.
    fn denoise(
        &self,
        planned: &Planned,
        noise: Option<Streams>,
        end: Option<&ClipEnd>,
        run_dir: Option<&RunDir>,
        observer: &mut Observer,
    ) -> Result<Denoised> {
        let start = Instant::now();
        observer.tell(Event::Stage(Stage::Text))?;
        let Planned { plan, placement, .. } = planned;
        let prompts = self.encode_prompts(planned, run_dir)?;
        let text = start.elapsed().as_secs_f64();
        let conditioning = self.conditioning(plan, end, run_dir, observer)?;
        observer.tell(Event::Stage(Stage::Denoise))?;
        let run = Run { model: &self.model, placement, readers: &self.readers, plan, warm: &self.warm };
        let predictor = self.family.predictor(run, prompts, conditioning)?;
        let denoiser = Denoiser { plan, device: &placement.device, predictor, dtype: placement.dtype, noise };
        let (latents, predictions) = denoiser.run(run_dir, observer)?;
        let denoise = start.elapsed().as_secs_f64() - text;
        Ok((latents, predictions, Seconds { text, denoise, ..Seconds::default() }))
    }

    /// The conditioning inputs of `plan` beside its prompt, encoded.
    fn conditioning(
        &self,
        plan: &Plan,
        end: Option<&ClipEnd>,
        run_dir: Option<&RunDir>,
        observer: &mut Observer,
    ) -> Result<Tensors> {
        if !self.family.is_conditioned(plan, end) {
            return Ok(Tensors::new());
        }
        if let Some(run_dir) = run_dir
            && let Some(conditioning) = run_dir.load_conditioning()?
        {
            return Ok(conditioning);
        }
        observer.tell(Event::Stage(Stage::Encode))?;
        let run =
            Run { model: &self.model, placement: &self.placement, readers: &self.readers, plan, warm: &self.warm };
        let conditioning = self.family.condition(run, end, observer)?;
        if let Some(run_dir) = run_dir {
            run_dir.save_conditioning(&conditioning)?;
        }
        Ok(conditioning)
    }

    /// Saves the denoised latents; where that fails, the system's temporary folder keeps them.
    fn keep_latents(&self, path: &Path, latents: &Streams, plan: &Plan, recipe: Option<&str>) -> Result<LatentsFile> {
        LatentsFile::save(path, latents, about(plan, recipe)).map_err(|error| {
            let Ok(refuge) = refuge(plan.seed) else { return error };
            if LatentsFile::save(&refuge, latents, about(plan, recipe)).is_ok() {
                return self.after_latents(error, &refuge);
            }
            let _ = std::fs::remove_file(&refuge); // it is empty
            error // the first place is the one that the user knows
        })
    }

    fn after_latents(&self, error: Error, latents: &Path) -> Error {
        let model = self.model.argument.clone();
        Error::AfterLatents { source: Box::new(error), latents: latents.to_path_buf(), model }
    }

    fn decode_file(
        &self,
        file: LatentsFile,
        destination: Destination,
        output: &Output,
        target: &Target,
        observer: &mut Observer,
    ) -> Result<Report> {
        let start = Instant::now();
        observer.tell(Event::Stage(Stage::Decode))?;
        let made = self.sound_of(&file)?;
        let vae = self.vae(Parts::Decoder)?;
        let format = vae.latent_format();
        let file = file.checked(format)?;
        let [_, _, h, w] = file.shape();
        let size = (w * format.spatial_factor, h * format.spatial_factor);
        // Not every recipe is of these latents.
        let cut = target.cut.filter(|cut| *cut != size && cut.0 <= size.0 && cut.1 <= size.1);
        let recipe = target.recipe.filter(|_| output.metadata);
        let decoding = Decoding {
            vae: vae.as_ref(),
            device: self.device(),
            tile: output.tile,
            scratch: &output.clip,
            in_turn: output.enlarges_by_network(),
        };
        let stream = vec![(file, 0)];
        let total = decoding.frames(&stream);
        let shape = Shape { size, cut, fps: target.fps, frames: total, recipe };
        let mut writer = writer(destination, output, &shape, self.upscale(output)?)?;
        let silent = hand_over(&mut *writer, made.as_ref().or(target.sound.as_ref()), observer)?;
        decoding.decode(&stream, |frame| Ok(writer.push(&frame)?), &mut |done| {
            observer.tell(Event::Frames { done, total })
        })?;
        let replaced = replaced(&output.clip);
        let mut written = writer.finish()?;
        written.notes.extend(replaced);
        for note in &written.notes {
            observer.tell_last(Event::Notice(note));
        }
        if written.path != Path::new("") {
            observer.tell_last(Event::Saved(&written.path));
        }
        let seconds = Seconds { decode: start.elapsed().as_secs_f64(), ..Seconds::default() };
        written.notes.extend(silent);
        Ok(Report { seconds, ..report_of(written) })
    }
}

/// Checks, before the first step, that the clip of `plan` can be written.
fn check_clip(plan: &Plan, output: &Output, recipe: Option<&str>) -> Result<()> {
    let &Plan { width, height, cropped: cut, fps, frames, .. } = plan;
    // Only the size matters here.
    let upscale = output.enlargement()?.map(|(target, _)| Box::new(Lanczos::new(target)) as Box<dyn Upscale>);
    writer(Destination::File, output, &Shape { size: (width, height), cut, fps, frames, recipe }, upscale).map(drop)
}

fn latents_path(output: &Output) -> PathBuf {
    match (&output.resume, &output.latents) {
        (Some(dir), _) => RunDir::latents_in(dir),
        (None, Some(path)) => path.clone(),
        (None, None) => Claim::unused(&output.latents_beside_clip()).path().to_path_buf(),
    }
}

/// A new file in the system's temporary folder, with a name that nobody can guess.
fn refuge(seed: u64) -> std::io::Result<PathBuf> {
    let prefix = format!("kinora-{seed}-");
    let file = tempfile::Builder::new().prefix(&prefix).suffix(LATENTS_SUFFIX).rand_bytes(10).tempfile()?;
    Ok(file.into_temp_path().keep()?)
}

/// After the clip is complete: removes the file `latents`, or has `save` write them where they are asked for, as the
/// latents of the clip; returns the file that is kept.
fn settle_latents(
    output: &Output,
    latents: PathBuf,
    save: impl FnOnce(&Path) -> Result<()>,
) -> Result<Option<PathBuf>> {
    match &output.latents {
        Some(path) => match save(path) {
            Err(error) if *path != latents => Err(error),
            _ => Ok(Some(path.clone())),
        },
        None if output.resume.is_some() => Ok(Some(latents)),
        None => {
            // The clip is complete; a leftover is only untidy.
            let _ = std::fs::remove_file(&latents);
            Ok(None)
        }
    }
}

/// The facts that the latents of `plan` carry.
fn about<'a>(plan: &Plan, recipe: Option<&'a str>) -> About<'a> {
    About { fps: Some(plan.fps), cut: plan.cropped, recipe, clip: None }
}
