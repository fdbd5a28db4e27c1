//! What a pass is given, and the checks of its shapes.

use super::config::LtxConfig;
use super::prepared::Parts;
use super::stream::Stream;
use crate::{Error, Result};
use candle_core::Tensor;

/// The contexts of a prompt, one for each stream: what the connectors make of the text encoder's hidden states.
#[derive(Debug, Clone)]
pub struct Contexts {
    /// `[B, S, text_dim]` where the model projects contexts ([`LtxConfig::text_dim`]), and `[B, S, dim]` of the stream elsewhere.
    /// All rows are attended to.
    pub video: Tensor,
    /// As `video`, for sound.
    pub audio: Tensor,
}

/// The size of a clip in latents, and its rate, from which the positions of all tokens follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Latent frames, rows and columns of video.
    pub video: [usize; 3],
    /// Latents of sound, 25 to a second.
    pub audio: usize,
    /// Pixel frames to a second.
    pub frame_rate: f64,
}

impl Geometry {
    /// Returns the tokens of video.
    pub fn video_tokens(&self) -> usize {
        self.video.iter().product()
    }
}

/// What one stream is given in a pass.
#[derive(Debug, Clone, Copy)]
pub struct StreamInput<'a> {
    /// Video `[B, C, F, H, W]`; sound `[B, C, L, M]`, of which the channels and the `M` bins make the channels of a token.
    /// Latents of another dtype than the model's are converted.
    pub latents: &'a Tensor,
    /// 1000·sigma of each clip, f32 `[B]`. Keep it on the CPU, so that nothing waits for a GPU.
    pub timestep: &'a Tensor,
    /// 1000·sigma of each token, f32 `[B, L]` on the CPU, in the order frames, rows, columns, where some are less noisy than
    /// their clip: 0 for those of a given picture.
    pub token_timesteps: Option<&'a Tensor>,
}

/// The attentions that a pass leaves out, so that guidance can go away from what the model makes without them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skips<'a> {
    /// The blocks whose self-attentions, of both streams, hand on their values alone (spatio-temporal skip guidance,
    /// <https://arxiv.org/abs/2411.18664>).
    pub self_attention: &'a [usize],
    /// Whether neither stream attends to the other.
    pub between_streams: bool,
}

impl Skips<'_> {
    /// Whether nothing is left out.
    pub fn is_none(&self) -> bool {
        self.self_attention.is_empty() && !self.between_streams
    }
}

/// Checks the contexts and the geometry, and returns the number of clips.
pub(super) fn check_prepare(config: &LtxConfig, contexts: &Contexts, geometry: &Geometry) -> Result<usize> {
    let [frames, rows, columns] = geometry.video;
    if [frames, rows, columns, geometry.audio].contains(&0) {
        let found = vec![frames, rows, columns, geometry.audio];
        let expected = "at least one latent along each".to_string();
        return Err(Error::Shape { what: "clip of frames, rows, columns and sound", found, expected });
    }
    if !(geometry.frame_rate > 0.0 && geometry.frame_rate.is_finite()) {
        let (what, found) = ("frame rate", geometry.frame_rate);
        return Err(Error::Number { what, found, expected: "a positive number" });
    }
    let [video_dim, audio_dim] = Stream::BOTH.map(|stream| config.text_dim.unwrap_or(stream.config(config).dim()));
    let clips = match *contexts.video.dims() {
        [b, s, width] if b > 0 && s > 0 && width == video_dim => b,
        _ => return wrong("context of video", &contexts.video, format!("[B, S, {video_dim}]")),
    };
    match *contexts.audio.dims() {
        [b, s, width] if b == clips && s > 0 && width == audio_dim => Ok(clips),
        _ => wrong("context of sound", &contexts.audio, format!("[{clips}, S, {audio_dim}]")),
    }
}

/// Checks the shape of every input, and that `skips` names blocks that are there.
pub(super) fn check_forward(
    config: &LtxConfig,
    [video, audio]: &[StreamInput; 2],
    parts: &Parts,
    skips: Skips,
) -> Result<()> {
    let (clips, geometry) = (parts.clips, &parts.geometry);
    let widths = [config.video.dim(), config.audio.dim()];
    for (context, width) in parts.contexts.iter().zip(widths) {
        if context.dim(2)? != width {
            return wrong("prepared context", context, format!("[{clips}, S, {width}]"));
        }
    }
    let [f, h, w] = geometry.video;
    if video.latents.dims() != [clips, config.video.channels, f, h, w] {
        let expected = format!("[{clips}, {}, {f}, {h}, {w}] as prepared", config.video.channels);
        return wrong("latents of video", video.latents, expected);
    }
    let (tokens, channels) = (geometry.audio, config.audio.channels);
    if !matches!(*audio.latents.dims(), [b, c, l, m] if b == clips && l == tokens && c.checked_mul(m) == Some(channels))
    {
        let expected = format!("[{clips}, C, {tokens}, M] as prepared, with C · M = {channels}");
        return wrong("latents of sound", audio.latents, expected);
    }
    check_timesteps(["timestep of video", "timesteps of video's tokens"], video, [clips, geometry.video_tokens()])?;
    check_timesteps(["timestep of sound", "timesteps of sound's tokens"], audio, [clips, tokens])?;
    match skips.self_attention.iter().find(|block| **block >= config.num_layers) {
        Some(&block) => Err(Error::NoBlock { block, blocks: config.num_layers }),
        None => Ok(()),
    }
}

fn check_timesteps(
    [what, of_tokens]: [&'static str; 2],
    input: &StreamInput,
    [clips, tokens]: [usize; 2],
) -> Result<()> {
    if input.timestep.dims() != [clips] {
        return wrong(what, input.timestep, format!("[{clips}]"));
    }
    match input.token_timesteps {
        Some(timesteps) if timesteps.dims() != [clips, tokens] => {
            wrong(of_tokens, timesteps, format!("[{clips}, {tokens}]"))
        }
        _ => Ok(()),
    }
}

fn wrong<T>(what: &'static str, tensor: &Tensor, expected: String) -> Result<T> {
    Err(Error::Shape { what, found: tensor.dims().to_vec(), expected })
}

/// Returns predictions `[B, L, C]` in the shape of the latents that the tokens were made of.
pub(super) fn velocity(tokens: &Tensor, latents: &Tensor) -> Result<Tensor> {
    match *latents.dims() {
        [b, c, l, m] => Ok(tokens.reshape((b, l, c, m))?.transpose(1, 2)?.contiguous()?),
        _ => Ok(tokens.transpose(1, 2)?.contiguous()?.reshape(latents.shape())?),
    }
}
