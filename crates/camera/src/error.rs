//! [`Error`]: the errors between a camera's description and its rays, with their values and hints.

use std::path::PathBuf;

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a camera, its file or its rays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An axis of a move is beyond its range.
    #[error("{axis} is {value}, outside {least} to {most}")]
    OutOfRange {
        /// The name of the axis.
        axis: String,
        /// Its value.
        value: f64,
        /// The smallest value allowed.
        least: f64,
        /// The largest value allowed.
        most: f64,
    },
    /// A trajectory of no frames, or at a frame rate that is not a positive number.
    #[error("a camera cannot move through {frames} frames at {fps} frames per second")]
    Length {
        /// The number of frames.
        frames: usize,
        /// Frames per second.
        fps: f64,
    },
    /// A trajectory needs at least one pose.
    #[error("a camera's trajectory has no poses")]
    NoPoses,
    /// A pose is not a rotation and a position in finite numbers.
    #[error("the camera's pose of frame {frame} cannot be used: {reason}")]
    BadPose {
        /// Index of the frame, from 0.
        frame: usize,
        /// Why the pose cannot be used.
        reason: String,
    },
    /// The poses cannot be grouped into latent frames.
    #[error("{poses} camera poses do not fit latent frames of {temporal_factor} pixel frames")]
    Packing {
        /// The number of poses, one per pixel frame.
        poses: usize,
        /// Pixel frames per latent frame.
        temporal_factor: usize,
    },
    /// A frame without pixels.
    #[error("a camera cannot see a frame of {width}×{height}")]
    EmptyFrame {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// A pose file does not have the format that [`crate::CameraPath::read`] reads.
    #[error("cannot use `{}`: {reason}", path.display())]
    BadFile {
        /// The pose file.
        path: PathBuf,
        /// Why it cannot be used, with the line.
        reason: String,
    },
    /// The operating system could not read a pose file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The pose file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Returns what the user can do about the error, if there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::OutOfRange { .. } => "0 does not move, 10 is the fastest move",
            Self::Length { .. } | Self::EmptyFrame { .. } => "both must be above 0",
            Self::NoPoses => "give at least one",
            Self::BadPose { .. } => "a pose is a rotation and a position in finite numbers",
            Self::Packing { .. } => "the number of frames must be a multiple of the factor, plus 1",
            Self::BadFile { .. } => {
                "a line is: time fx fy cx cy 0 0, then the 3 rows of a world-to-camera matrix, 4 numbers each; \
                 lengths are fractions of the frame"
            }
            Self::Io { .. } | Self::Tensor(_) => return None,
        };
        Some(hint.into())
    }
}
