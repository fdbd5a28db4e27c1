//! Kinds of checkpoints that are sound but not read, told by the names of their tensors.

use crate::{Error, LoraError, Result, is_lora};
use std::path::Path;

/// Whether a segment of a tensor's name says that it is of the kind; the kind; and what to do.
type Kind = (fn(&str) -> bool, &'static str, &'static str);

const KINDS: [Kind; 2] = [
    (
        |segment| segment == "absmax" || segment.contains("bitsandbytes__") || segment == "SCB",
        "its weights are quantised with bitsandbytes",
        TAKE_BF16,
    ),
    (|segment| ["qweight", "qzeros"].contains(&segment), "its weights are quantised in groups", TAKE_BF16),
];
const TAKE_BF16: &str = "take the bf16 or f16 file of the same model";

/// Refuses tensors with these names if they are of a kind that is not read. `path` is their file's.
///
/// # Errors
/// [`Error::NotRead`] with the kind, and [`LoraError::NotAModel`].
pub fn refuse_unread<'a>(path: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let names: Vec<&str> = names.into_iter().collect();
    if is_lora(names.iter().copied()) {
        return Err(LoraError::NotAModel { path: path.to_path_buf() }.into());
    }
    for name in names {
        for (is_of_kind, what, hint) in KINDS {
            if name.split('.').any(is_of_kind) {
                return Err(Error::NotRead { path: path.to_path_buf(), what: what.to_string(), hint });
            }
        }
    }
    Ok(())
}
