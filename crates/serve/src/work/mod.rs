//! The worker process: it reads orders, makes clips with the library, and writes reports. Only here uploads are decoded and
//! weights are read; the server survives whatever happens to it.

mod files;
mod make;
mod problem;

use crate::dto::{CAMERA_PATH, ClipRequest};
use crate::protocol::{ClipPlan, ModelFacts, Order, Problem, Report, Time};
use kinora::{Error, ImageInput, LastImageInput, LoadOptions, Pipeline};
use problem::Words;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// What the thread that reads orders tells the one that works.
#[derive(Default)]
struct Signals {
    /// The jobs, with their attempts, that are to be stopped.
    stop: Vec<(String, i64)>,
    /// The server is gone.
    gone: bool,
}

/// The signals, shared by both threads.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Signals>>);

impl Shared {
    fn with<T>(&self, change: impl FnOnce(&mut Signals) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the attempt is to be stopped.
    fn stops(&self, job: &str, attempt: i64) -> bool {
        self.with(|signals| signals.gone || signals.stop.iter().any(|(id, number)| id == job && *number == attempt))
    }
}

/// A worker, with the model of its last job.
struct Worker<W> {
    /// How models run.
    options: LoadOptions,
    out: W,
    shared: Shared,
    loaded: Option<(Vec<String>, Pipeline)>,
}

/// Does what the lines of `orders` say, and writes reports to `out`. When the lines end, the process ends at once. `options` says how models run; which model
/// is in the orders.
///
/// # Errors
/// When `out` cannot be written to.
pub fn work(options: LoadOptions, orders: impl BufRead + Send + 'static, out: impl Write + Send) -> io::Result<()> {
    let shared = Shared::default();
    let orders = read_orders(orders, shared.clone())?;
    let mut worker = Worker { options, out, shared, loaded: None };
    worker.tell(&Report::Ready { version: env!("CARGO_PKG_VERSION").to_string() })?;
    for order in orders {
        worker.follow(order)?;
    }
    Ok(())
}

/// Reads lines on a thread of its own: an order to stop must be seen while a clip is made.
fn read_orders(orders: impl BufRead + Send + 'static, shared: Shared) -> io::Result<Receiver<Order>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        for line in orders.lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Order::Stop { job, attempt }) => shared.with(|signals| signals.stop.push((job, attempt))),
                Ok(order) => {
                    if sender.send(order).is_err() {
                        break;
                    }
                }
                // The server and its workers are one program; a line that does not parse means that the server is not.
                Err(_) => break,
            }
        }
        shared.with(|signals| signals.gone = true);
        // Whoever would take the result is gone, and the next server's worker goes on from what is saved: nothing may hold its
        // device and its directory.
        std::process::exit(0);
    })?;
    Ok(receiver)
}

impl<W: Write + Send> Worker<W> {
    fn tell(&mut self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_string(report).map_err(io::Error::other)?;
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        self.out.flush()
    }

    fn follow(&mut self, order: Order) -> io::Result<()> {
        let report = match order {
            Order::Make(order) => self.make(&order)?,
            Order::Plan { id, model, request, files } => {
                let words = Words::new(&files);
                let plan = self.plan(&model, &request, &files, &words).map(Box::new);
                Report::Planned { id, plan }
            }
            Order::Model { id, model } => Report::Model { id, model: self.facts(&model).map(Box::new) },
            Order::Probe { id, file } => Report::Probed { id, file: files::probe(&file) },
            Order::Pictures { id, clip, folder } => {
                Report::Pictured { id, problem: files::pictures(&clip, &folder).err() }
            }
            Order::Stop { .. } => return Ok(()),
        };
        self.tell(&report)
    }

    /// The pipeline of `model`, which stays loaded until another one is asked for.
    fn pipeline(&mut self, model: &[String]) -> kinora::Result<&Pipeline> {
        if self.loaded.as_ref().is_none_or(|(of, _)| of != model) {
            self.loaded = None; // frees its memory before the other one is read
            let options = self.options.clone().model(model.to_vec()).keep_warm(true);
            self.loaded = Some((model.to_vec(), Pipeline::load(&options)?));
        }
        self.loaded.as_ref().map(|(_, pipeline)| pipeline).ok_or_else(|| unreachable!("it was just loaded"))
    }

    fn facts(&mut self, model: &[String]) -> Result<ModelFacts, Problem> {
        let words = Words::new(&BTreeMap::new());
        let pipeline = self.pipeline(model).map_err(|error| words.of_model(&error))?;
        let (manifest, capabilities) = (pipeline.manifest(), pipeline.capabilities());
        let more = [
            ("video", capabilities.video),
            ("references", capabilities.control),
            ("extend", capabilities.continuation.is_some()),
        ];
        let takes =
            capabilities.words().into_iter().chain(more.into_iter().filter(|(_, takes)| *takes).map(|(word, _)| word));
        let needs = [
            ("image", capabilities.image == ImageInput::Required),
            ("last-image", capabilities.last_image == LastImageInput::Required),
        ];
        let defaults = &manifest.defaults;
        let own = defaults.width * defaults.height;
        let known = [
            ("480p", kinora::Resolution::P480),
            ("720p", kinora::Resolution::P720),
            ("1080p", kinora::Resolution::P1080),
        ];
        let resolutions = known.iter().filter(|(_, area)| area.area() <= 2 * own).map(|(name, _)| (*name).to_string());
        Ok(ModelFacts {
            title: manifest.title.clone(),
            takes: takes.map(str::to_string).collect(),
            needs: needs.into_iter().filter(|(_, needs)| *needs).map(|(word, _)| word.to_string()).collect(),
            width: defaults.width,
            height: defaults.height,
            frames: defaults.frames,
            fps: defaults.fps,
            seconds: defaults.frames as f64 / defaults.fps,
            steps: defaults.sampling.steps,
            guidance_scale: defaults.sampling.guidance_scale,
            negative_prompt: defaults.negative_prompt.clone(),
            resolutions: resolutions.collect(),
        })
    }

    fn plan(
        &mut self,
        model: &[String],
        request: &ClipRequest,
        files: &BTreeMap<String, PathBuf>,
        words: &Words,
    ) -> Result<ClipPlan, Problem> {
        let mut files = files.clone();
        // Lives as long as the plan is made.
        let camera = request.camera_file()?.map(|text| scratch(&text)).transpose();
        let camera = camera.map_err(|source| words.of(&Error::Io { path: std::env::temp_dir(), source }))?;
        files.extend(camera.iter().map(|file| (CAMERA_PATH.to_string(), file.path().to_path_buf())));
        let words = Words::new(&files);
        let mut asked = request.request(|id| files.get(id).cloned())?;
        asked.output = request.output()?;
        let story = request.story(|id| files.get(id).cloned())?;
        let pipeline = self.pipeline(model).map_err(|error| words.of_model(&error))?;
        let (planned, frames, windows, time, notices) = match story {
            None => {
                let planned = pipeline.plan(&asked).map_err(|error| words.of(&error))?;
                let (frames, time, notices) = (planned.plan.frames, planned.time, planned.notices.clone());
                (planned, frames, 1, time, notices)
            }
            Some(story) => {
                let asked = asked.duration(None);
                let planned = pipeline.plan_story(&story, &asked).map_err(|error| words.of(&error))?;
                (planned.first, planned.frames, planned.windows, planned.time, planned.notices)
            }
        };
        let plan = &planned.plan;
        let (width, height) = plan.cropped.unwrap_or((plan.width, plan.height));
        Ok(ClipPlan {
            width,
            height,
            frames,
            fps: plan.fps,
            own_fps: pipeline.manifest().defaults.fps,
            seconds: frames as f64 / plan.fps,
            steps: plan.steps(),
            windows,
            guided: plan.guided(),
            guidance_scale: plan.guidance_scale[..if plan.boundary_timestep.is_some() { 2 } else { 1 }].to_vec(),
            seed: plan.seed.to_string(),
            memory: planned.memory.peak,
            fits: planned.memory.fits(),
            time: time.map(Time::from),
            notices: notices.iter().map(|notice| words.plain(notice)).collect(),
        })
    }
}

/// A file with that text, for a moment.
fn scratch(text: &str) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}
