//! [`Options`]: the keyword arguments of a call. Each is taken by its name; what nobody takes is an error.

use crate::source::Source;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// The words of serde for types, and ours.
const TYPES: [(&str, &str); 7] = [
    ("a boolean", "True or False"),
    ("usize", "a whole number"),
    ("u64", "a whole number"),
    ("u8", "a whole number from 0 to 255"),
    ("f64", "a number"),
    ("a sequence", "a list of numbers"),
    ("an array of length 2", "two numbers"),
];

/// How alike the name of an argument is to one that it was meant for.
const ALIKE: f64 = 0.7;

/// The keyword arguments of a call that are not taken yet, and the names that were asked for. `None` is as good as no argument.
pub struct Options<'py> {
    given: Bound<'py, PyDict>,
    names: Vec<&'static str>,
}

impl<'py> Options<'py> {
    pub fn new(given: &Bound<'py, PyDict>) -> PyResult<Self> {
        Ok(Self { given: given.copy()?, names: Vec::new() })
    }

    /// Refuses what is left.
    pub fn finish(self) -> PyResult<()> {
        let Some((name, _)) = self.given.iter().next() else { return Ok(()) };
        let name: String = name.extract()?;
        let alike = |known: &&&'static str| strsim::jaro_winkler(known, &name);
        let nearest = self.names.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
        let meant = nearest.filter(|known| alike(known) > ALIKE);
        let meant = meant.map_or_else(String::new, |known| format!("; did you mean {known}?"));
        Err(PyTypeError::new_err(format!("there is no argument {name}{meant}")))
    }

    fn take(&mut self, name: &'static str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.names.push(name);
        let value = self.given.get_item(name)?;
        if value.is_some() {
            self.given.del_item(name)?;
        }
        Ok(value.filter(|value| !value.is_none()))
    }

    /// Refuses two of `names` together.
    pub fn exclusive(&self, names: &[&str]) -> PyResult<()> {
        let given = |name: &&&str| Ok::<_, PyErr>(self.given.get_item(name)?.is_some_and(|value| !value.is_none()));
        let mut both = Vec::new();
        for name in names {
            if given(&name)? {
                both.push(*name);
            }
        }
        match both[..] {
            [first, second, ..] => Err(PyValueError::new_err(format!("{first} and {second} exclude each other"))),
            _ => Ok(()),
        }
    }

    /// A value as serde reads it: numbers, truth values, text, and lists of them.
    pub fn get<T: DeserializeOwned>(&mut self, name: &'static str) -> PyResult<Option<T>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let value = json(&value).map_err(|error| named(name, &error))?;
        serde_json::from_value(value).map(Some).map_err(|error| refused(name, &error))
    }

    /// A value that is written as text, or a number that is read as its text.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> PyResult<Option<T>> {
        self.parse_with(name, |text| text.parse::<T>().map_err(|error| error.to_string()))
    }

    /// As [`Options::parse`], by a function.
    pub fn parse_with<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> PyResult<Option<T>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let text = match json(&value) {
            Ok(Value::String(text)) => text,
            Ok(Value::Number(number)) => number.to_string(),
            Err(error) if error.is_instance_of::<PyValueError>(value.py()) => return Err(named(name, &error)),
            _ => return Err(mistyped(name, "text", &value)),
        };
        read(&text).map(Some).map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
    }

    pub fn flag(&mut self, name: &'static str) -> PyResult<bool> {
        Ok(self.get(name)?.unwrap_or_default())
    }

    /// A path: text or an object of `pathlib`.
    pub fn path(&mut self, name: &'static str) -> PyResult<Option<PathBuf>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        value.extract().map(Some).map_err(|_| mistyped(name, "a path", &value))
    }

    /// A picture or a clip: a path, or what the package made of an object.
    pub fn source(&mut self, name: &'static str) -> PyResult<Option<kinora::Source>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        source_of(name, &value).map(Some)
    }

    /// A list of pictures, or one of them.
    pub fn sources(&mut self, name: &'static str) -> PyResult<Vec<kinora::Source>> {
        let Some(value) = self.take(name)? else { return Ok(Vec::new()) };
        match value.cast::<PyList>() {
            Ok(list) => list.iter().map(|one| source_of(name, &one)).collect(),
            Err(_) => Ok(vec![source_of(name, &value)?]),
        }
    }

    /// A list of text or paths, or one of them.
    pub fn list(&mut self, name: &'static str) -> PyResult<Vec<PathBuf>> {
        let Some(value) = self.take(name)? else { return Ok(Vec::new()) };
        if let Ok(one) = value.extract::<PathBuf>() {
            return Ok(vec![one]);
        }
        value.extract().map_err(|_| mistyped(name, "a list of paths", &value))
    }
}

fn source_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<kinora::Source> {
    if let Ok(source) = value.cast::<Source>() {
        return Ok(source.get().0.clone());
    }
    value.extract::<PathBuf>().map(kinora::Source::from).map_err(|_| mistyped(name, "a path", value))
}

fn mistyped(name: &str, what: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let kind = value.get_type().name().map_or_else(|_| "this type".to_string(), |kind| kind.to_string());
    PyTypeError::new_err(format!("{name} takes {what}, not {kind}"))
}

/// The exception of a value that is not what the argument takes.
pub fn refused(name: &str, error: &serde_json::Error) -> PyErr {
    let error = error.to_string();
    let text = format!("{name}: {}", in_words(&error));
    if error.starts_with("invalid type") { PyTypeError::new_err(text) } else { PyValueError::new_err(text) }
}

/// `error` with the name of the argument.
fn named(name: &str, error: &PyErr) -> PyErr {
    Python::attach(|py| {
        let text = format!("{name}: {}", error.value(py));
        if error.is_instance_of::<PyValueError>(py) || error.is_instance_of::<PyOverflowError>(py) {
            PyValueError::new_err(text)
        } else {
            PyTypeError::new_err(text)
        }
    })
}

/// A message of serde in our words.
fn in_words(message: &str) -> String {
    let Some((before, expected)) = message.split_once(", expected ") else { return message.to_string() };
    let words = TYPES.iter().find(|(name, _)| *name == expected).map_or(expected, |(_, words)| words);
    format!("{before}, expected {words}")
}

fn json(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_instance_of::<PyBool>() {
        return Ok(Value::Bool(value.extract()?));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::String(text.to_string()));
    }
    // Before other numbers, because whole numbers of numpy are none of Python's.
    if value.hasattr("__index__")? {
        let whole: i128 = value.call_method0("__index__")?.extract()?;
        let small = i64::try_from(whole).map(Value::from).or_else(|_| u64::try_from(whole).map(Value::from));
        return small.map_err(|_| PyValueError::new_err(format!("{whole} is too large")));
    }
    if value.hasattr("__float__")? {
        let number: f64 = value.extract()?;
        let json = serde_json::Number::from_f64(number).map(Value::Number);
        return json.ok_or_else(|| PyValueError::new_err(format!("{number} is not a finite number")));
    }
    let Ok(items) = value.try_iter() else {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("{kind} is neither a number nor text, nor a list of them")));
    };
    items.map(|item| json(&item?)).collect::<PyResult<Vec<_>>>().map(Value::Array)
}
