//! The last stage, latents to a clip on disk, and its inverse; both hold a few frames at a time.

use super::spool::Spool;
use crate::request::output::Output;
use crate::request::recipe::Recipe;
use crate::run::event::Event;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::TensorFile;
use kinora_media::{
    ClipReader, ClipSpec, ClipWriter, Cropped, Fps, Frame, Lanczos, Upscale, Upscaled, WriteOptions, Written,
};
use kinora_vae::{LatentFormat, StreamDecoder, Tile, VideoVae};
use std::ops::ControlFlow;
use std::path::Path;

/// Pushes of the decoder that may wait for the encoder.
const WAITING: usize = 1;

/// The most bytes that pixels take on their way from the decoder to the encoder: those of a
/// push in f32 as it comes, of one that waits, and of one that is turned, scaled and split into frames.
pub(crate) fn writing_bytes(format: &LatentFormat, h: usize, w: usize) -> usize {
    let pixels = h * w * format.spatial_factor * format.spatial_factor;
    3 * pixels * 3 * format.temporal_factor * DType::F32.size_in_bytes()
}

/// A writer for the clip of `output`, of frames of `size`: they are `cut` and enlarged on the way, where that is asked for.
pub(crate) fn writer(
    output: &Output,
    size: (usize, usize),
    cut: Option<(usize, usize)>,
    fps: f64,
    recipe: Option<&str>,
) -> Result<Box<dyn ClipWriter>> {
    let fps = Fps::from_f64(fps)?;
    let options =
        WriteOptions { recipe: recipe.map(str::to_string), quality: output.quality, encoder: output.encoder.clone() };
    let (width, height) = cut.unwrap_or(size);
    let upscale = output.upscale.map(Lanczos::new);
    let (width, height) = upscale.as_ref().map_or((width, height), |upscale| upscale.size(width, height));
    let mut writer = kinora_media::create(&output.clip, &ClipSpec { width, height, fps }, &options)?;
    if let Some(upscale) = upscale {
        writer = Box::new(Upscaled::new(writer, Box::new(upscale)));
    }
    if let Some((width, height)) = cut {
        writer = Box::new(Cropped::new(writer, width, height));
    }
    Ok(writer)
}

/// Decodes the tensor `latents [1, C, F, H, W]` of `path`, read one latent frame at a time, into the clip of `output`.
pub(crate) fn decode_latents(
    vae: &dyn VideoVae,
    path: &Path,
    device: &Device,
    output: &Output,
    fps: f64,
    recipe: Option<&str>,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Written> {
    let hint = "latents come from `kinora generate --save-latents` or `kinora encode`, with the same model";
    let bad = |reason: String| Error::BadFile { path: path.to_path_buf(), reason, hint };
    let file = TensorFile::open(path)?;
    let infos = file.infos();
    let info =
        infos.iter().find(|info| info.name == "latents").ok_or_else(|| bad("it has no tensor `latents`".into()))?;
    let format = vae.latent_format();
    let &[1, channels, latent_frames, h, w] = info.shape.as_slice() else {
        return Err(bad(format!("`latents` has shape {:?}, not [1, C, F, H, W]", info.shape)));
    };
    if latent_frames * h * w == 0 {
        return Err(bad(format!("`latents` is empty, {:?}", info.shape)));
    }
    if channels != format.channels {
        return Err(bad(format!("`latents` has {channels} channels, this model's VAE has {}", format.channels)));
    }
    let (width, height) = (w * format.spatial_factor, h * format.spatial_factor);
    let total = format.pixel_frames(latent_frames);
    let cut = recipe.and_then(|recipe| cut_of(recipe, width, height));
    let writer = writer(output, (width, height), cut, fps, recipe)?;
    // Takes a decoder through the whole clip: pixels [1, 3, F, H, W] in -1..1, and the number of the first frame.
    let decode = |mut decoder: Box<dyn StreamDecoder + '_>, take: &mut dyn FnMut(Tensor, usize) -> Result<()>| {
        let mut done = 0;
        let mut hand_over = |pixels: Option<Tensor>, index: usize| {
            let Some(pixels) = pixels else { return Ok(()) };
            kinora_sampler::check_finite(&pixels, || format!("the decoded frames at latent frame {index}"))?;
            let frames = pixels.dim(2)?;
            take(pixels, done)?;
            done += frames;
            Ok::<_, Error>(())
        };
        for index in 0..latent_frames {
            let latents = file.narrow("latents", 2, index, 1)?.to_device(device)?.to_dtype(DType::F32)?;
            if !kinora_sampler::all_finite(&latents)? {
                return Err(bad(format!("`latents` has NaN or infinite values in frame {index}")));
            }
            hand_over(decoder.push(&latents)?, index)?;
        }
        hand_over(decoder.finish()?, latent_frames - 1)
    };
    let mut told = |done: usize| match on_event(Event::Frames { done, total }) {
        ControlFlow::Break(()) => Err(Error::Stopped { resumable: None }),
        ControlFlow::Continue(()) => Ok(()),
    };
    let Some(side) = output.tile.filter(|&side| side < h.max(w)) else {
        return writing(writer, |write| {
            decode(vae.decoder()?, &mut |pixels, first| {
                let done = first + pixels.dim(2)?;
                write(pixels)?;
                told(done)
            })
        });
    };
    // One tile through the whole clip, then the next; then all of them frame by frame.
    let tiles = Tile::grid(h, w, side);
    let mut spool = Spool::create(&output.clip, &tiles, format.spatial_factor, [total, height, width])?;
    for (number, tile) in tiles.iter().enumerate() {
        decode(vae.tile_decoder(tile)?, &mut |pixels, first| {
            spool.put(number, first, &pixels)?;
            told((number * total + first + pixels.dim(2)?) / tiles.len())
        })?;
    }
    writing(writer, |write| (0..total).try_for_each(|index| write(spool.frame(index)?)))
}

/// Runs `produce`, which hands over pixels `[1, 3, F, H, W]` in -1..1, while another thread turns the ones before into
/// frames and writes them: the decoder need not wait for the encoder. At most [`WAITING`] pushes wait.
fn writing(
    mut writer: Box<dyn ClipWriter>,
    produce: impl FnOnce(&mut dyn FnMut(Tensor) -> Result<()>) -> Result<()>,
) -> Result<Written> {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Tensor>(WAITING);
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            for pixels in receiver {
                for frame in to_frames(&pixels)? {
                    writer.push(&frame)?;
                }
            }
            Ok::<_, Error>(writer)
        });
        // A writer that failed has hung up; its own error says why.
        let mut hung_up = false;
        let produced = produce(&mut |pixels| {
            sender.send(pixels).map_err(|_| {
                hung_up = true;
                Error::Stopped { resumable: None }
            })
        });
        drop(sender);
        let written = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (produced, written) {
            (Err(_), Err(error)) if hung_up => Err(error),
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(writer)) => Ok(writer.finish()?),
        }
    })
}

/// The size that a recipe says its clip was cut to, out of frames of `width × height`.
fn cut_of(recipe: &str, width: usize, height: usize) -> Option<(usize, usize)> {
    let recipe: Recipe = serde_json::from_str(recipe).ok()?;
    let cut = (recipe.width, recipe.height);
    (cut != (width, height) && cut.0 <= width && cut.1 <= height).then_some(cut)
}

/// Encodes a clip: latents `[1, C, F, h, w]` f32, and its frames a second. Frames at the end that
/// fill no latent frame are left out.
pub(crate) fn encode_clip(
    vae: &dyn VideoVae,
    path: &Path,
    device: &Device,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(Tensor, f64)> {
    let mut clip = kinora_media::open(path)?;
    let format = vae.latent_format();
    let (spec, factor) = (clip.spec(), format.spatial_factor);
    let fits = |size: usize| size > 0 && size.is_multiple_of(factor);
    if !fits(spec.width) || !fits(spec.height) {
        let what = format!("a clip of {}×{} cannot be encoded", spec.width, spec.height);
        return Err(Error::request(
            what,
            format!("this VAE needs multiples of {factor}: crop or scale the clip first"),
        ));
    }
    let mut encoder = vae.encoder()?;
    let mut latents = Vec::new();
    let mut done = 0;
    loop {
        let wanted = encoder.wanted();
        let frames = next_frames(clip.as_mut(), wanted)?;
        if frames.len() < wanted {
            if !frames.is_empty() {
                let (left, factor) = (frames.len(), format.temporal_factor);
                let text = format!("the last {left} frames are left out: latents stand for {factor}k + 1");
                let _ = on_event(Event::Notice(&text));
            }
            break;
        }
        done += wanted;
        let pixels = to_pixels(&frames, device)?;
        kinora_sampler::check_finite(&pixels, || format!("the clip's frames up to frame {done}"))?;
        let encoded = encoder.push(&pixels)?;
        kinora_sampler::check_finite(&encoded, || format!("the latents of the clip's frames up to frame {done}"))?;
        latents.push(encoded);
        if on_event(Event::Frames { done, total: clip.frames().unwrap_or(done) }).is_break() {
            return Err(Error::Stopped { resumable: None });
        }
    }
    if latents.is_empty() {
        let hint = "give a clip with at least one frame";
        return Err(Error::BadFile { path: path.to_path_buf(), reason: "it has no frames".into(), hint });
    }
    Ok((Tensor::cat(&latents, 2)?, spec.fps.as_f64()))
}

fn next_frames(clip: &mut dyn ClipReader, count: usize) -> Result<Vec<Frame>> {
    let mut frames = Vec::with_capacity(count);
    while frames.len() < count {
        match clip.next_frame()? {
            Some(frame) => frames.push(frame),
            None => break,
        }
    }
    Ok(frames)
}

/// Pixels `[1, 3, F, H, W]` in -1..1 to frames in 0..1, computed on the device of the pixels.
pub(crate) fn to_frames(pixels: &Tensor) -> Result<Vec<Frame>> {
    let (_, _, count, height, width) = pixels.dims5()?;
    let values = pixels.to_dtype(DType::F32)?.affine(0.5, 0.5)?.clamp(0f32, 1f32)?;
    let frame = |index| {
        let data = values.narrow(2, index, 1)?.flatten_all()?.to_vec1::<f32>()?; // [3, H, W]
        Ok(Frame::new(width, height, data)?)
    };
    (0..count).map(frame).collect()
}

/// Frames in 0..1 to pixels `[1, 3, F, H, W]` in -1..1.
pub(crate) fn to_pixels(frames: &[Frame], device: &Device) -> Result<Tensor> {
    let planes = |frame: &Frame| Tensor::from_slice(&frame.data, (1, 3, 1, frame.height, frame.width), device);
    let frames = frames.iter().map(planes).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(((Tensor::cat(&frames, 2)? * 2.0)? - 1.0)?)
}
