//! [`Stream`]: which of a model's two streams a part belongs to.

use super::config::{LtxConfig, StreamConfig};

/// One of the two streams of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Video,
    Audio,
}

impl Stream {
    /// Both, in the order of inputs and outputs.
    pub(super) const BOTH: [Self; 2] = [Self::Video, Self::Audio];

    /// Returns the full name of a part that both streams have: that of sound begins with `audio_`.
    pub(super) fn name(self, part: &str) -> String {
        match self {
            Self::Video => part.to_string(),
            Self::Audio => format!("audio_{part}"),
        }
    }

    /// Returns the name of the stream.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    /// Returns the stream's dimensions.
    pub(super) fn config(self, config: &LtxConfig) -> &StreamConfig {
        match self {
            Self::Video => &config.video,
            Self::Audio => &config.audio,
        }
    }
}
