//! Frames to files and back: MP4, PNG, GIF, WebP, raw frames.
