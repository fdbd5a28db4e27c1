//! Clips in files, recipes, and the known models.

#![expect(clippy::needless_pass_by_value, reason = "paths that come from Python are made for the call")]

use crate::errors::raised;
use crate::watch::watched;
use kinora::{Error, Manifest, Picture, Recipe, hub};
use kinora_media::{ClipSpec, Fps, WriteOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Returns JSON of the known models.
#[pyfunction]
pub fn models() -> String {
    let known = Manifest::embedded().into_iter().chain(Manifest::known());
    known.map(|manifest| about(&manifest)).collect::<Value>().to_string()
}

/// JSON about a model.
pub fn about(manifest: &Manifest) -> Value {
    let here = manifest.repository.as_ref().and_then(|repository| hub::cached(repository));
    json!({
        "name": manifest.name,
        "title": manifest.title,
        "licence": manifest.licence,
        "licence_limits": manifest.licence_limits,
        "licence_page": manifest.licence_page,
        "gated": manifest.gated,
        "takes": manifest.takes,
        "parameters": manifest.parameters,
        "repository": manifest.repository,
        "here": here.map(|path| kinora_files::path_text(&path)),
        "defaults": manifest.defaults,
        "fast": manifest.modes.fast,
        "quality": manifest.modes.quality,
    })
}

/// Downloads a known model; returns its directory.
#[pyfunction]
#[pyo3(signature = (name, progress, accept_licence))]
pub fn pull(
    py: Python<'_>,
    name: &str,
    progress: Option<&Bound<'_, PyAny>>,
    accept_licence: bool,
) -> PyResult<PathBuf> {
    let pulled = watched(py, progress, |watch| {
        if accept_licence {
            hub::accept_licence(name)?;
        }
        hub::pull(name, |progress| watch.tell("download", progress.done, progress.total))
    });
    Ok(pulled.into_parts(py)?.0)
}

/// Returns the JSON of a clip's recipe.
#[pyfunction]
pub fn read_recipe(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let recipe = py.detach(|| Recipe::read(&path)).map_err(|error| raised(&error))?;
    Ok(serde_json::to_string(&recipe).expect("plain data"))
}

/// Writes a clip of frames `[H, W, 3]`, bytes each; returns notes.
#[pyfunction]
#[pyo3(signature = (path, frames, size, fps, recipe, quality, encoder))]
#[expect(clippy::too_many_arguments, reason = "Python hands them over one by one")]
pub fn write_clip(
    py: Python<'_>,
    path: PathBuf,
    frames: &Bound<'_, PyIterator>,
    size: (usize, usize),
    fps: f64,
    recipe: Option<String>,
    quality: Option<u8>,
    encoder: Option<String>,
) -> PyResult<Vec<String>> {
    let failed = |error: kinora_media::MediaError| raised(&error.into());
    let (width, height) = size;
    let spec = ClipSpec { width, height, fps: Fps::from_f64(fps).map_err(failed)? };
    let recipe = recipe.map(|text| encoded(&text, quality, encoder.as_deref())).transpose();
    let recipe = recipe.map_err(|error| raised(&error))?;
    let replaced = path.is_file().then(|| format!("replaced `{}`", path.display()));
    let options = WriteOptions { recipe, quality, encoder };
    let mut writer = py.detach(|| kinora_media::create(&path, &spec, &options)).map_err(failed)?;
    for frame in frames {
        let frame = frame?;
        let bytes = frame.cast::<PyBytes>().map_err(|_| PyTypeError::new_err("frames are bytes"))?.as_bytes();
        let picture = Picture::new(width, height, bytes.to_vec()).map_err(failed)?;
        py.detach(|| writer.push(&picture.to_frame())).map_err(failed)?;
        py.check_signals()?;
    }
    let written = py.detach(|| writer.finish()).map_err(failed)?;
    Ok(written.notes.into_iter().chain(replaced).collect())
}

/// A recipe with the settings of the encoder.
fn encoded(recipe: &str, quality: Option<u8>, encoder: Option<&str>) -> kinora::Result<String> {
    let bad = |error: serde_json::Error| {
        Error::request(
            format!("the clip's recipe does not parse: {error}"),
            "leave it as it came, or save with metadata=False",
        )
    };
    let mut recipe: Recipe = serde_json::from_str(recipe).map_err(bad)?;
    (recipe.quality, recipe.encoder) = (quality, encoder.map(str::to_string));
    serde_json::to_string(&recipe).map_err(bad)
}
