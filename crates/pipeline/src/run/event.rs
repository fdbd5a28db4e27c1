//! [`Event`]: the messages that a caller gets while a clip is made.

use crate::plan::Planned;
use candle_core::Tensor;
use kinora_media::SoundTrack;
use std::path::Path;
use std::time::Duration;

/// The stages of a run; each leaves an artefact that can be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Prompt to context.
    Text,
    /// Noise to latents.
    Denoise,
    /// Latents to frames.
    Decode,
    /// Frames to latents.
    Encode,
}

/// One thing that happened. The handler returns [`std::ops::ControlFlow::Break`] to stop: the pipeline then returns
/// [`crate::Error::Stopped`] after the network call under way.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The request was checked and every default filled in.
    Planned(&'a Planned),
    /// Something worth knowing that is not an error.
    Notice(&'a str),
    /// A window of a story starts.
    Window {
        /// The window, from 1 on.
        number: usize,
        /// All of them.
        total: usize,
    },
    /// A stage starts.
    Stage(Stage),
    /// The steps begin.
    Steps {
        /// Steps that an earlier run has done, which are not done again.
        done: usize,
        /// Steps of the plan.
        total: usize,
        /// Predictions of a step, as long as all are guided.
        predictions: usize,
    },
    /// A denoising step ended.
    Step {
        /// Steps done so far, also those of an earlier run that this one continues.
        done: usize,
        /// Steps of the plan.
        total: usize,
        /// How long this one took.
        elapsed: Duration,
        /// Latents after the step, `[1, C, F, H, W]` f32.
        latents: &'a Tensor,
        /// The clip that they lead to, as the network sees it now: [`crate::LatentRgb`] makes small frames of it.
        denoised: &'a Tensor,
    },
    /// The clip has this sound, from its first frame on; it is told before the frames are written.
    Sound(&'a SoundTrack),
    /// Frames were decoded, encoded, or copied.
    Frames {
        /// Frames so far.
        done: usize,
        /// Frames of the clip.
        total: usize,
    },
    /// A prediction was made or reused (a step needs one or several): a chance to stop.
    NetworkCall,
    /// A file is complete.
    Saved(&'a Path),
}
