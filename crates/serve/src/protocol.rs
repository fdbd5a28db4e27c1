//! The messages between the server and its workers: one JSON object on each line of a pipe.

use crate::dto::ClipRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The orders of the server to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Make a clip.
    Make(Box<Make>),
    /// Say what a request would become.
    Plan {
        /// Comes back with the answer.
        id: u64,
        /// The model's arguments.
        model: Vec<String>,
        /// The request.
        request: Box<ClipRequest>,
        /// The files of its ids.
        files: BTreeMap<String, PathBuf>,
    },
    /// Say what a model is and takes.
    Model {
        /// Comes back with the answer.
        id: u64,
        /// The model's arguments.
        model: Vec<String>,
    },
    /// Say what a file is, whatever it claims to be.
    Probe {
        /// Comes back with the answer.
        id: u64,
        /// The file.
        file: PathBuf,
    },
    /// Make pictures of a clip: its first frame, its last frame, and a sheet of frames.
    Pictures {
        /// Comes back with the answer.
        id: u64,
        /// The clip.
        clip: PathBuf,
        /// The folder in which they are written, as `thumbnail.webp`, `last.png` and `spritesheet.jpg`.
        folder: PathBuf,
    },
    /// Stop the clip under way after the network call under way; its state is kept.
    Stop {
        /// The job.
        job: String,
        /// Its attempt.
        attempt: i64,
    },
}

/// A clip to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Make {
    /// The job.
    pub job: String,
    /// Its attempt; every report about it carries the number.
    pub attempt: i64,
    /// The model's arguments.
    pub model: Vec<String>,
    /// The request.
    pub request: ClipRequest,
    /// The files of its ids.
    pub files: BTreeMap<String, PathBuf>,
    /// The clip to write.
    pub clip: PathBuf,
    /// The directory that keeps the state between attempts.
    pub state: PathBuf,
    /// Where previews are written, if any are wanted.
    pub preview: Option<PathBuf>,
}

/// The reports of a worker to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// The worker reads orders.
    Ready {
        /// The program's version.
        version: String,
    },
    /// How far a job is.
    Progress {
        /// The job.
        job: String,
        /// Its attempt.
        attempt: i64,
        /// Where it is.
        stage: Stage,
        /// Steps or frames that are done.
        done: usize,
        /// All of them.
        total: usize,
        /// Seconds that the last step took.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
        /// Whether a new preview was written.
        #[serde(default)]
        preview: bool,
        /// The window of a story, from 1 on, and the number of them.
        window: [usize; 2],
    },
    /// About how long the whole job takes, by what is known when it begins.
    Expected {
        /// The job.
        job: String,
        /// Its attempt.
        attempt: i64,
        /// The time.
        time: Time,
    },
    /// The clip is under its name.
    Made {
        /// The job.
        job: String,
        /// Its attempt.
        attempt: i64,
        /// What it is.
        clip: ClipFacts,
    },
    /// There will be no clip.
    Failed {
        /// The job.
        job: String,
        /// Its attempt.
        attempt: i64,
        /// What went wrong.
        problem: Problem,
    },
    /// The job was stopped as it was told; its state is kept.
    Stopped {
        /// The job.
        job: String,
        /// Its attempt.
        attempt: i64,
    },
    /// The answer to [`Order::Plan`].
    Planned {
        /// The order's id.
        id: u64,
        /// The plan, or what is wrong with the request.
        plan: Result<Box<ClipPlan>, Problem>,
    },
    /// The answer to [`Order::Model`].
    Model {
        /// The order's id.
        id: u64,
        /// The model, or why it cannot be used.
        model: Result<Box<ModelFacts>, Problem>,
    },
    /// The answer to [`Order::Probe`].
    Probed {
        /// The order's id.
        id: u64,
        /// The file, or why it is refused.
        file: Result<FileFacts, Problem>,
    },
    /// The answer to [`Order::Pictures`].
    Pictured {
        /// The order's id.
        id: u64,
        /// Why there are none.
        problem: Option<Problem>,
    },
}

/// The part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading the model's files.
    Load,
    /// Prompt to context.
    Text,
    /// Conditioning inputs to latents.
    Encode,
    /// Denoising steps.
    Steps,
    /// Latents to frames.
    Frames,
}

/// Something that went wrong, in words that name no path of the server and no option of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The kind: `invalid_value`, `invalid_file`, `model_unavailable`, `out_of_memory`, `storage_full`, `generation_failed`.
    pub code: String,
    /// The field of the request, where one is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// A sentence.
    pub message: String,
}

/// A clip that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClipFacts {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// Frames per second.
    pub fps: f64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// The seed, as digits.
    pub seed: Option<String>,
    /// Seconds that the stages took: text, denoising, decoding, all.
    pub seconds: [f64; 4],
    /// The most memory of the process, in bytes.
    pub peak_memory: Option<u64>,
    /// Sentences worth knowing.
    pub notices: Vec<String>,
}

/// Returns the length of a clip in seconds, by the JSON of its facts or its plan; 0 if that has none.
pub fn seconds_of(facts: &Value) -> f64 {
    let number = |name: &str| facts[name].as_f64().unwrap_or(0.0);
    number("frames") / number("fps").max(1e-9)
}

/// Seconds as a text with at most two decimals.
pub fn seconds_text(seconds: f64) -> String {
    ((seconds * 100.0).round() / 100.0).to_string()
}

/// A request with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClipPlan {
    /// Width of the file in pixels.
    pub width: usize,
    /// Height of the file in pixels.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// Frames per second.
    pub fps: f64,
    /// Frames per second of clips of which nothing else is said.
    pub own_fps: f64,
    /// Length in seconds.
    pub seconds: f64,
    /// Denoising steps, of one window.
    pub steps: usize,
    /// Runs of the sampler, of which a story has several.
    #[serde(default = "one")]
    pub windows: usize,
    /// Whether every step takes two predictions.
    pub guided: bool,
    /// The guidance scale of each expert; 1 is none.
    #[serde(default)]
    pub guidance_scale: Vec<f64>,
    /// The seed, as digits.
    pub seed: String,
    /// The most memory that the run is expected to take, in bytes.
    pub memory: u64,
    /// Whether that much memory is there.
    pub fits: bool,
    /// About how long it takes to be made, where anything is known of it.
    #[serde(default)]
    pub time: Option<Time>,
    /// Sentences worth knowing.
    pub notices: Vec<String>,
}

/// About how long a clip takes to be made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Time {
    /// Seconds, from the prompt to the clip.
    pub seconds: f64,
    /// Those of them that decoding takes; null where only the steps are counted.
    pub decode: Option<f64>,
    /// What they are known from.
    pub basis: Basis,
}

/// What a time is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// A clip of the model in this size and length on this machine.
    SameSize,
    /// A clip of the model in another size or length on this machine.
    OtherSize,
    /// The rate at which this machine multiplies, for all or for a part of it.
    Rate,
}

impl From<kinora::Estimate> for Time {
    fn from(known: kinora::Estimate) -> Self {
        let basis = match known.basis {
            kinora::Basis::SameSize => Basis::SameSize,
            kinora::Basis::OtherSize => Basis::OtherSize,
            kinora::Basis::Rate | kinora::Basis::Enlarging => Basis::Rate,
        };
        Self { seconds: known.seconds, decode: known.decode, basis }
    }
}

fn one() -> usize {
    1
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFacts {
    /// One line that describes it.
    pub title: String,
    /// What it takes beside a prompt.
    pub takes: Vec<String>,
    /// What every clip of it needs, of these.
    pub needs: Vec<String>,
    /// Width, height, frames and frames per second of a clip of which nothing else is said.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// Frames per second.
    pub fps: f64,
    /// Length in seconds.
    pub seconds: f64,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Guidance scale.
    pub guidance_scale: Option<f64>,
    /// The negative prompt that is used when none is given.
    pub negative_prompt: String,
    /// Names of areas that are not larger than twice the model's own.
    pub resolutions: Vec<String>,
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileFacts {
    /// `image` or `video`.
    pub media: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frames, of a clip.
    pub frames: Option<usize>,
    /// Frames per second, of a clip.
    pub fps: Option<f64>,
}
