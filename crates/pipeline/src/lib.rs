//! Native video diffusion: a prompt goes in, an MP4 comes out, on the user's own machine.
//!
//! ```no_run
//! use kinora::{Event, LoadOptions, Output, Pipeline, Request};
//! use std::ops::ControlFlow;
//!
//! # fn main() -> kinora::Result<()> {
//! let pipeline = Pipeline::load(&LoadOptions::default())?; // the model that ships with the library
//! let request = Request::new("a red ball bounces on a striped blue background").seed(7).output(Output::new("ball.mp4"));
//! let report = pipeline.generate(&request, |event| {
//!     if let Event::Step { done, total, .. } = event {
//!         eprintln!("step {done} of {total}");
//!     }
//!     ControlFlow::Continue(()) // Break stops the run after the network call under way
//! })?;
//! println!("{} frames in {}", report.frames, report.clip.display());
//! # Ok(())
//! # }
//! ```
//!
//! There is no global state: every setting is in [`LoadOptions`] and [`Request`], every message an [`Event`].

pub mod bench;
mod device;
mod error;
mod families;
pub mod hub;
mod model;
mod plan;
mod preview;
mod request;
mod run;
mod sheet;
mod step_cache;
mod story;

pub use candle_core::{DType, Tensor};
pub use device::{cpu_level, devices};
pub use error::{Cause, Error, Result};
pub use families::capabilities::{Capabilities, Continuation, ImageInput, LastImageInput};
pub use kinora_camera::{Camera, CameraMove, CameraPath, CameraPreset, Language, Lens, Placement, Pose, Trajectory};
pub use kinora_checkpoint::{Blocks, Expert, LoraDescription, Quant};
pub use kinora_files::Claim;
pub use kinora_kernels::{LargeBlocks, OrElse};
pub use kinora_media::{Fit, Fps, Frame, Picture, Sound, SoundTrack, Source, UpscaleTarget};
pub use kinora_sampler::{DynamicShift, SamplerKind};
pub use kinora_text_encoder::panic_is_contained;
pub use model::clips::{ClipDescription, inspect_clip};
pub use model::inspect::{Inspection, PartInspection, TypeInspection, inspect};
pub use model::loras::inspect_lora;
pub use model::manifest::{Caches, Defaults, MagCacheTable, Manifest, Modes, TeaCacheTable};
pub use model::parameters::Parameters;
pub use model::preset::Preset;
pub use plan::machine::available as available_memory;
pub use plan::memory::{MemoryPlan, PartMemory, PartsMemory};
pub use plan::pace::{Basis, Estimate};
pub use plan::{Plan, Planned};
pub use preview::{LatentRgb, write_preview};
pub use request::attention::AttentionChoice;
pub use request::cache::{CacheChoice, CacheKind, CacheSetting};
pub use request::inputs::{Expand, Inputs};
pub use request::load::{Choice, LoadOptions};
pub use request::lora::Lora;
pub use request::output::{Output, Predictions, Report, Seconds};
pub use request::recipe::Recipe;
pub use request::sampling::Sampling;
pub use request::seed::{SeedChoice, parse_seed, random_seed};
pub use request::story::{Join, Shot, Story};
pub use request::upscaler::Upscaler;
pub use request::{Mode, Request, Resolution, Size, parse_aspect};
pub use run::event::{Event, Stage};
pub use run::sink::{ClipInfo, Frames, Sink};
pub use run::{Pipeline, outline};
pub use sheet::contact_sheet;
pub use step_cache::CacheRule;
pub use story::{PlannedStory, discard_project, story_seed};
