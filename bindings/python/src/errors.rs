//! Errors of the library as exceptions of Python.

use kinora::Error;
use pyo3::PyErr;

mod python {
    pyo3::import_exception!(kinora._errors, KinoraError);
    pyo3::import_exception!(kinora._errors, Stopped);
}

/// The exception of `error`, with its hint; a stop on request has a class of its own.
pub fn raised(error: &Error) -> PyErr {
    let arguments = (in_python(&error.to_string()), hint(error));
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
        error => error.hint().map(|hint| in_python(&hint)),
    }
}

/// `text` with the names of arguments for those of the command's options: `--last-image` is `last_image`. Commands that it names stay
/// as they are.
fn in_python(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(index, part)| {
        let is_command = index % 2 == 1 && part.starts_with("kinora ");
        if is_command { part.to_string() } else { arguments_in(part) }
    });
    parts.collect::<Vec<_>>().join("`")
}

fn arguments_in(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let bare = word.trim_start_matches(['(', '"', '\'']);
        let before = &word[..word.len() - bare.len()];
        match bare.strip_prefix("--") {
            Some(option) => format!("{before}{}", option.replace('-', "_")),
            None => word.to_string(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
