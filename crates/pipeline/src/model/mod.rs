//! Which files make a model, and what is known about it.

pub(crate) mod embedded;
pub(crate) mod inspect;
pub(crate) mod manifest;
#[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "downloads alone select files"))]
pub(crate) mod repository;
pub(crate) mod scheduler;
pub(crate) mod source;
