//! Errors of the library as exceptions of Python.

use kinora::Error;
use pyo3::PyErr;

mod python {
    pyo3::import_exception!(kinora._errors, KinoraError);
    pyo3::import_exception!(kinora._errors, Stopped);
}

/// The exception of `error`, with its hint; a stop on request has a class of its own.
pub fn raised(error: &Error) -> PyErr {
    let arguments = (error.to_string(), hint(error));
    if error.is_stop() { python::Stopped::new_err(arguments) } else { python::KinoraError::new_err(arguments) }
}

/// The hint of `error`, as one says it in Python.
pub fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Stopped { resumable: Some(folder) } => {
            Some(format!("the same call with resume=\"{}\" continues", folder.display()))
        }
        Error::Stopped { resumable: None } => {
            Some("nothing is kept of it; a call with resume=FOLDER can be stopped and continued".into())
        }
        // `Project::settled` says it.
        Error::StoryStopped { .. } => None,
        error => error.hint().map(|hint| with_arguments(hint, error.settings())),
    }
}

/// `hint` with the arguments that it speaks of.
fn with_arguments(hint: String, settings: &[&str]) -> String {
    if settings.is_empty() { hint } else { format!("{hint} ({})", settings.join(", ")) }
}
