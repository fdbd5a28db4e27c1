//! The [`Report`] of a file that was written.

use crate::plan::machine::peak_memory;
use crate::request::output::{Report, Seconds};
use kinora_media::Written;
use std::path::Path;

/// The sentence about the file `path` that a result is about to replace, if there is one.
pub(crate) fn replaced(path: &Path) -> Option<String> {
    path.is_file().then(|| format!("replaced `{}`", path.display()))
}

/// The report of a clip as the writer describes it.
pub(crate) fn report_of(written: Written) -> Report {
    Report {
        clip: written.path,
        width: written.width,
        height: written.height,
        frames: written.frames as usize,
        bytes: written.bytes,
        seed: None,
        predictions: None,
        latents: None,
        notices: written.notes,
        seconds: Seconds::default(),
        peak_memory: peak_memory(),
        planned_memory: None,
    }
}
