//! [`Project`]: the directory of a continuation's intermediate results.

use crate::errors::raised;
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The directory of a continuation's intermediate results: the caller's, or a temporary one.
pub enum Project {
    Named(PathBuf),
    Temporary(TempDir),
}

impl Project {
    /// The directory that is `named`, or a temporary one.
    pub fn new(named: Option<PathBuf>) -> PyResult<Self> {
        if let Some(folder) = named {
            return Ok(Self::Named(folder));
        }
        let folder = tempfile::Builder::new().prefix("kinora-").tempdir();
        let folder = folder.map_err(|source| raised(&kinora::Error::Io { path: std::env::temp_dir(), source }))?;
        Ok(Self::Temporary(folder))
    }

    pub fn folder(&self) -> &Path {
        match self {
            Self::Named(folder) => folder,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// The outcome of a call. What was done before an error is kept, and the exception says where.
    pub fn settled<T>(self, py: Python<'_>, outcome: PyResult<T>) -> PyResult<T> {
        let exception = match outcome {
            Ok(made) => return Ok(made),
            Err(exception) => exception,
        };
        let has_windows = std::fs::read_dir(self.folder()).is_ok_and(|mut entries| entries.next().is_some());
        let kept = match self {
            Self::Temporary(folder) if has_windows => folder.keep(),
            Self::Named(folder) if has_windows => folder,
            _ => return Err(exception),
        };
        add_hint(py, &exception, &format!("the same call with project=\"{}\" continues", kept.display()))?;
        Err(exception)
    }
}

/// Adds `more` to the hint of an exception of ours, and as a note to any other.
fn add_hint(py: Python<'_>, exception: &PyErr, more: &str) -> PyResult<()> {
    const HINT: &str = "hint";
    let value = exception.value(py);
    if !value.hasattr(HINT)? {
        return exception.add_note(py, more);
    }
    let hint: Option<String> = value.getattr(HINT)?.extract()?;
    value.setattr(HINT, hint.map_or(more.to_string(), |hint| format!("{hint}; {more}")))
}
