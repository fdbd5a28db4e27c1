//! [`Held`]: the parts of the latents that a run leaves as they are.

use candle_core::Tensor;

use crate::{Error, Streams};

/// Masks by the name of their stream; no step changes a value where the mask is not 0, such as the frame of a given picture.
#[derive(Debug, Clone, Default)]
pub struct Held(Vec<(String, Tensor)>);

impl Held {
    /// Holds nothing.
    pub const NOTHING: Self = Self(Vec::new());

    /// Holds what `mask` marks in the stream `name`. It has the stream's rank, with 1 for each axis along which it does not
    /// change: `[1, 1, F, 1, 1]` for frames of `[1, C, F, H, W]`. Streams without a mask are free.
    ///
    /// # Errors
    /// Those of candle.
    pub fn and(mut self, name: impl Into<String>, mask: &Tensor) -> Result<Self, Error> {
        self.0.push((name.into(), mask.ne(0.0)?));
        Ok(self)
    }

    /// Checks that every mask is of a stream of `x` and fits its shape.
    ///
    /// # Errors
    /// [`Error::NoStream`] or [`Error::Shape`].
    pub(crate) fn check(&self, x: &Streams) -> Result<(), Error> {
        self.0.iter().try_for_each(|(name, mask)| {
            let (found, expected) = (mask.dims(), x.get(name)?.dims());
            let fits = |(side, whole): (&usize, &usize)| *side == 1 || side == whole;
            if found.len() == expected.len() && found.iter().zip(expected).all(fits) {
                return Ok(());
            }
            let what = x.describe("the mask of what is held", name);
            Err(Error::Shape { what, found: found.to_vec(), expected: expected.to_vec() })
        })
    }

    /// Returns `changed` with the values of `x` where they are held.
    pub(crate) fn put(&self, changed: Streams, x: &Streams) -> Result<Streams, Error> {
        if self.0.is_empty() {
            return Ok(changed);
        }
        changed.zip(x, |name, changed, x| match self.0.iter().find(|(held, _)| held == name) {
            Some((_, mask)) => Ok(mask.broadcast_as(x.shape())?.where_cond(x, changed)?),
            None => Ok(changed.clone()),
        })
    }
}
