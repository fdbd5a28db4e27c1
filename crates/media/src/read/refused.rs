//! [`Refused`]: the reason why a video cannot be read, before the file that it is of is known.

use crate::error::MediaError;
use std::path::Path;

/// The reason why a video cannot be read.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The file is damaged.
    Damaged(String),
    /// A picture cannot be decoded: the number of its frame, and what the decoder says.
    Undecodable(u64, String),
    /// The file may be valid, but the reader does not support it.
    Unsupported(String),
    /// Pictures are made of two fields, which were taken one after the other.
    Interlaced,
    /// The brightness is coded for displays of a high dynamic range, by the curve of this name.
    HighDynamicRange(&'static str),
}

impl<T: Into<String>> From<T> for Refused {
    fn from(what: T) -> Self {
        Self::Damaged(what.into())
    }
}

impl Refused {
    /// Returns the error for the file `path`.
    pub(crate) fn of(self, path: &Path) -> MediaError {
        let path = path.to_path_buf();
        match self {
            Self::Damaged(what) => MediaError::Damaged { path, what },
            Self::Undecodable(frame, what) => MediaError::Undecodable { path, frame, what },
            Self::Unsupported(what) => MediaError::Unsupported { path, what },
            Self::Interlaced => MediaError::Interlaced { path },
            Self::HighDynamicRange(curve) => MediaError::HighDynamicRange { path, curve },
        }
    }
}
