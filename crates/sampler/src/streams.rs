//! The latents of a run: one named tensor per stream.
//!
//! A model denoises one stream (`video`) or several at once (`video` and `audio`), each of its own shape. All streams of
//! a run walk the same schedule, and every operation of a solver is done on each of them.

use candle_core::{DType, Tensor};

use crate::Error;

/// Named tensors in a fixed order: at least one, no two of the same name, each of its own shape.
#[derive(Debug, Clone)]
pub struct Streams(Vec<(String, Tensor)>);

impl Streams {
    /// Returns the stream `name` alone.
    pub fn single(name: impl Into<String>, tensor: Tensor) -> Self {
        Self(vec![(name.into(), tensor)])
    }

    /// Returns the streams in the given order.
    ///
    /// # Errors
    /// [`Error::StreamNames`] if there is no stream or if two have the same name.
    pub fn new<N: Into<String>>(streams: impl IntoIterator<Item = (N, Tensor)>) -> Result<Self, Error> {
        let streams: Vec<(String, Tensor)> = streams.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        let names: Vec<&str> = streams.iter().map(|(name, _)| name.as_str()).collect();
        check_names(&names)?;
        Ok(Self(streams))
    }

    /// Returns the tensor of the first stream.
    #[expect(clippy::missing_panics_doc, reason = "there is at least one stream")]
    pub fn first(&self) -> &Tensor {
        &self.0.first().expect("there is at least one stream").1
    }

    /// Returns the tensor of the stream `name`.
    ///
    /// # Errors
    /// [`Error::NoStream`] if there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor, Error> {
        let found = self.iter().find(|(found, _)| *found == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| Error::NoStream { name: name.to_owned(), names: self.names() })
    }

    /// Iterates over names and tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Returns the names, in order.
    pub fn names(&self) -> Vec<String> {
        self.iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// Applies `f` to the name and the tensor of every stream, in order; stops at the first error.
    pub fn map<E>(&self, mut f: impl FnMut(&str, &Tensor) -> Result<Tensor, E>) -> Result<Self, E> {
        let mapped = self.0.iter().map(|(name, tensor)| Ok((name.clone(), f(name, tensor)?)));
        Ok(Self(mapped.collect::<Result<_, E>>()?))
    }

    /// Applies `f` to the name of every stream, its tensor here and its tensor in `other`, in order; stops at the first
    /// error.
    ///
    /// # Errors
    /// [`Error::OtherStreams`] or [`Error::Shape`] if `other` has other names or shapes, and every error of `f`.
    pub fn zip<E: From<Error>>(
        &self,
        other: &Self,
        mut f: impl FnMut(&str, &Tensor, &Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        other.check_like(self, "the tensor to pair with")?;
        let pairs = self.0.iter().zip(&other.0);
        let zipped = pairs.map(|((name, here), (_, there))| Ok((name.clone(), f(name, here, there)?)));
        Ok(Self(zipped.collect::<Result<_, E>>()?))
    }

    /// Checks that the streams have the names, order and shapes of `expected`. `what` names the streams in the error.
    ///
    /// # Errors
    /// [`Error::OtherStreams`] or [`Error::Shape`].
    pub fn check_like(&self, expected: &Self, what: &str) -> Result<(), Error> {
        if self.names() != expected.names() {
            return Err(Error::OtherStreams { what: what.to_owned(), found: self.names(), expected: expected.names() });
        }
        for ((name, found), (_, expected)) in self.iter().zip(expected.iter()) {
            if found.dims() != expected.dims() {
                let (found, expected) = (found.dims().to_vec(), expected.dims().to_vec());
                return Err(Error::Shape { what: self.describe(what, name), found, expected });
            }
        }
        Ok(())
    }

    /// Returns the streams in f32.
    pub(crate) fn into_f32(self) -> candle_core::Result<Self> {
        let converted = self.0.into_iter().map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?)));
        Ok(Self(converted.collect::<candle_core::Result<_>>()?))
    }

    /// Returns `what` with the name of the stream that it concerns, unless that is the only one.
    pub(crate) fn describe(&self, what: &str, name: &str) -> String {
        if self.0.len() == 1 { what.to_owned() } else { format!("{what} (stream `{name}`)") }
    }
}

/// Checks that there is a name and that no two are equal.
pub(crate) fn check_names(names: &[impl AsRef<str>]) -> Result<(), Error> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let distinct = (1..names.len()).all(|i| !names[..i].contains(&names[i]));
    if distinct && !names.is_empty() {
        return Ok(());
    }
    Err(Error::StreamNames { names: names.into_iter().map(str::to_owned).collect() })
}
