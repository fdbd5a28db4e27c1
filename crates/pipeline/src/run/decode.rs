//! Latents to frames: one loop for clips and for stories, which holds a few frames at a time.

use super::latents_file::LatentsFile;
use super::sink::{ClipInfo, Destination, SinkWriter};
use super::tiles::TiledFrames;
use crate::request::output::Output;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_media::{ClipSpec, ClipWriter, Cropped, Fps, Frame, SoundBeside, Upscale, Upscaled, WriteOptions};
use kinora_vae::{LatentFormat, StreamDecoder, Tile, VideoVae};
use std::path::Path;
use std::sync::mpsc::sync_channel;

/// Pushes of the decoder that may wait for the encoder.
const WAITING: usize = 1;

/// The most bytes of pixels between the decoder and the encoder: those of a push in f32, of one that waits, and of one that
/// is converted, scaled and split into frames.
pub(crate) fn writing_bytes(format: &LatentFormat, h: usize, w: usize) -> usize {
    let pixels = h * w * format.spatial_factor * format.spatial_factor;
    3 * pixels * 3 * format.temporal_factor * DType::F32.size_in_bytes()
}

/// Frames of a clip, as a writer needs to know them.
pub(crate) struct Shape<'a> {
    /// Width and height of the decoded frames, and what they are cut to.
    pub size: (usize, usize),
    pub cut: Option<(usize, usize)>,
    pub fps: f64,
    /// How many there will be, which a file need not know.
    pub frames: usize,
    pub recipe: Option<&'a str>,
}

/// A writer for the clip of `output`, whose frames are cut and upscaled on the way where that is asked for.
pub(crate) fn writer<'a>(
    destination: Destination<'a>,
    output: &Output,
    &Shape { size, cut, fps, frames, recipe }: &Shape,
    upscale: Option<Box<dyn Upscale>>,
) -> Result<Box<dyn ClipWriter + 'a>> {
    let (width, height) = cut.unwrap_or(size);
    let (width, height) = upscale.as_ref().map_or((width, height), |upscale| upscale.size(width, height));
    let spec = ClipSpec { width, height, fps: Fps::from_f64(fps)? };
    let recipe = recipe.map(str::to_string);
    let mut writer: Box<dyn ClipWriter + 'a> = match destination {
        Destination::File => {
            let options = WriteOptions { recipe, quality: output.quality, encoder: output.encoder.clone() };
            kinora_media::create(&output.clip, &spec, &options)?
        }
        Destination::Sink(sink) => {
            let clip = ClipInfo { width, height, frames, fps, recipe };
            Box::new(SinkWriter::begin(sink, spec, &clip)?)
        }
    };
    if let Some(path) = &output.audio {
        writer = Box::new(SoundBeside::new(writer, path, spec.fps)?);
    }
    if let Some(upscale) = upscale {
        writer = Box::new(Upscaled::new(writer, upscale));
    }
    if let Some((width, height)) = cut {
        writer = Box::new(Cropped::new(writer, width, height));
    }
    Ok(writer)
}

/// Latents that are decoded as one stream: of each file the latent frames from a number on.
pub(crate) type Stream = Vec<(LatentsFile, usize)>;

/// A VAE's decoder, and how it is used.
pub(crate) struct Decoding<'a> {
    pub vae: &'a dyn VideoVae,
    pub device: &'a Device,
    /// Latent pixels per side of the tiles that are decoded one after another, unless whole frames are.
    pub tile: Option<usize>,
    /// A path on the disk where tiles are kept meanwhile.
    pub scratch: &'a Path,
    /// What takes the frames computes as much as the decoder: it gets each as it comes, on the same thread.
    pub in_turn: bool,
}

impl Decoding<'_> {
    /// The pixel frames that `stream` decodes to.
    pub(crate) fn frames(&self, stream: &Stream) -> usize {
        self.vae.latent_format().pixel_frames(stream.iter().map(|(file, first)| file.frames() - first).sum())
    }

    /// Decodes `stream` and hands its frames, in 0..1, to `take`, on a second thread unless they are taken in turn: the
    /// decoder need not wait for the encoder. `progress` is told how many frames are decoded, or, in turn, taken.
    ///
    /// # Errors
    /// Latents or frames with NaN or infinite values, a full disk, and those of `take` and `progress`.
    pub(crate) fn decode(
        &self,
        stream: &Stream,
        mut take: impl FnMut(Frame) -> Result<()> + Send,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let Some((first, _)) = stream.first() else { return Ok(()) };
        let ([_, _, h, w], total) = (first.shape(), self.frames(stream));
        let side = self.tile.filter(|&side| side < h.max(w));
        let tiles = side.map_or_else(Vec::new, |side| Tile::grid(h, w, side));
        // Frames that are taken in turn count as much as a tile of each.
        let parts = tiles.len() + usize::from(self.in_turn);
        let mut tiled = None;
        if !tiles.is_empty() {
            tiled = Some(self.in_tiles(stream, &tiles, &mut |done| progress(done / parts))?);
        }
        if self.in_turn {
            let mut taken = 0;
            return self.each(stream, tiled.as_mut(), &mut |pixels, _| {
                to_frames(&pixels)?.into_iter().try_for_each(|frame| {
                    take(frame)?;
                    taken += 1;
                    progress((tiles.len() * total + taken) / parts)
                })
            });
        }
        piped(take, |send| {
            let is_tiled = tiled.is_some();
            self.each(stream, tiled.as_mut(), &mut |pixels, done| {
                send(pixels)?;
                if is_tiled { Ok(()) } else { progress(done) }
            })
        })
    }

    /// Decodes one tile through the whole stream, then the next. `progress` is told how many frames are decoded, those of every tile.
    fn in_tiles(
        &self,
        stream: &Stream,
        tiles: &[Tile],
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<TiledFrames> {
        let ([_, _, h, w], total) = (stream[0].0.shape(), self.frames(stream));
        let factor = self.vae.latent_format().spatial_factor;
        let mut tiled = TiledFrames::create(self.scratch, tiles, factor, [total, h * factor, w * factor])?;
        for (number, tile) in tiles.iter().enumerate() {
            self.push_all(stream, self.vae.tile_decoder(tile)?, &mut |pixels, first| {
                tiled.put(number, first, &pixels)?;
                progress(number * total + first + pixels.dim(2)?)
            })?;
        }
        Ok(tiled)
    }

    /// Hands all pixels of the stream to `put`, `[1, 3, F, H, W]` in -1..1, with the number of frames so far.
    fn each(
        &self,
        stream: &Stream,
        tiled: Option<&mut TiledFrames>,
        put: &mut dyn FnMut(Tensor, usize) -> Result<()>,
    ) -> Result<()> {
        match tiled {
            Some(tiled) => (0..self.frames(stream)).try_for_each(|index| put(tiled.frame(index)?, index + 1)),
            None => self.push_all(stream, self.vae.decoder()?, &mut |pixels, first| {
                let done = first + pixels.dim(2)?;
                put(pixels, done)
            }),
        }
    }

    /// Takes `decoder` through the stream; `put` gets pixels `[1, 3, F, H, W]` in -1..1, and the number of the first frame.
    fn push_all(
        &self,
        stream: &Stream,
        mut decoder: Box<dyn StreamDecoder + '_>,
        put: &mut dyn FnMut(Tensor, usize) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        let mut hand_over = |pixels: Option<Tensor>| {
            let Some(pixels) = pixels else { return Ok(()) };
            kinora_sampler::check_finite(&pixels, || format!("the decoded frames from frame {done} on"))?;
            let frames = pixels.dim(2)?;
            put(pixels, done)?;
            done += frames;
            Ok::<_, Error>(())
        };
        for (file, first) in stream {
            for index in *first..file.frames() {
                hand_over(decoder.push(&file.frame(index, self.device)?)?)?;
            }
        }
        hand_over(decoder.finish()?)
    }
}

/// Runs `produce`, which sends pixels `[1, 3, F, H, W]` in -1..1, while another thread turns the earlier ones into frames
/// and gives them to `take`. At most [`WAITING`] pushes wait.
fn piped(
    mut take: impl FnMut(Frame) -> Result<()> + Send,
    produce: impl FnOnce(&mut dyn FnMut(Tensor) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = sync_channel::<Tensor>(WAITING);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
            for pixels in receiver {
                to_frames(&pixels)?.into_iter().try_for_each(&mut take)?;
            }
            Ok::<_, Error>(())
        });
        let thread = thread.map_err(|error| {
            Error::request(
                format!("no thread can be started: {error}"),
                "allow this user more processes, or close some",
            )
        })?;
        // A receiver that failed has hung up; its own error says why.
        let mut hung_up = false;
        let produced = produce(&mut |pixels| {
            sender.send(pixels).map_err(|_| {
                hung_up = true;
                Error::Stopped { resumable: None }
            })
        });
        drop(sender);
        let taken = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if hung_up { taken } else { produced.and(taken) }
    })
}

/// Pixels `[1, 3, F, H, W]` in -1..1 to frames in 0..1, computed on the device of the pixels.
fn to_frames(pixels: &Tensor) -> Result<Vec<Frame>> {
    let (_, _, count, height, width) = pixels.dims5()?;
    let values = pixels.to_dtype(DType::F32)?.affine(0.5, 0.5)?.clamp(0f32, 1f32)?;
    let frame = |index| {
        let data = values.narrow(2, index, 1)?.flatten_all()?.to_vec1::<f32>()?; // [3, H, W]
        Ok(Frame::new(width, height, data)?)
    };
    (0..count).map(frame).collect()
}
