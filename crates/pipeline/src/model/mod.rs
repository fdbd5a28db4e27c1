//! Which files make a model, and what is known about it.

pub(crate) mod embedded;
pub(crate) mod inspect;
pub(crate) mod manifest;
pub(crate) mod scheduler;
pub(crate) mod source;
