//! [`Source`]: a picture or a clip that was given as an object.

use crate::errors::raised;
use kinora::{Fps, Picture};
use kinora_media::MediaError;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator};

/// A picture or a clip in memory, by the name of the argument.
#[pyclass(frozen, module = "kinora._kinora")]
pub struct Source(pub kinora::Source);

#[pymethods]
impl Source {
    /// The bytes of a picture's or a clip's file.
    #[staticmethod]
    fn file(name: &str, bytes: &[u8]) -> Self {
        Self(kinora::Source::from(bytes.to_vec()).named(name))
    }

    /// A picture of bytes `[H, W, 3]`.
    #[staticmethod]
    fn picture(name: &str, rgb: &[u8], width: usize, height: usize) -> PyResult<Self> {
        Ok(Self(kinora::Source::from(picture(rgb, width, height)?).named(name)))
    }

    /// A clip of frames `[H, W, 3]`, bytes each, and its recipe.
    #[staticmethod]
    fn clip(
        name: &str,
        frames: &Bound<'_, PyIterator>,
        size: (usize, usize),
        fps: f64,
        recipe: Option<String>,
    ) -> PyResult<Self> {
        let one = |frame: PyResult<Bound<'_, PyAny>>| {
            let frame = frame?;
            let bytes = frame.cast::<PyBytes>().map_err(|_| PyTypeError::new_err("frames are bytes"))?;
            picture(bytes.as_bytes(), size.0, size.1)
        };
        let frames = frames.try_iter()?.map(one).collect::<PyResult<Vec<_>>>()?;
        let fps = Fps::from_f64(fps).map_err(failed)?;
        let source = kinora::Source::frames(frames, fps).map_err(failed)?.named(name);
        Ok(Self(match recipe {
            Some(recipe) => source.with_recipe(recipe),
            None => source,
        }))
    }
}

fn picture(rgb: &[u8], width: usize, height: usize) -> PyResult<Picture> {
    Picture::new(width, height, rgb.to_vec()).map_err(failed)
}

fn failed(error: MediaError) -> PyErr {
    raised(&error.into())
}
