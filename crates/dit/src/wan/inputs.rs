//! Checks of the network's inputs.

use super::prepared::Prepared;
use super::{WanConfig, camera};
use crate::{Conditioning, Error, Result};
use candle_core::Tensor;

/// Checks that everything that the model needs is there in the right shape, and nothing that it cannot use. Returns
/// frames, rows and columns of the latents that the conditioning is for, if it has any.
pub(super) fn check_conditioning(config: &WanConfig, conditioning: &Conditioning) -> Result<Option<[usize; 3]>> {
    let context = &conditioning.context;
    let clips = match *context.dims() {
        [b, s, width] if b > 0 && s > 0 && width == config.text_dim => b,
        _ => return wrong("context", context, format!("[B, S, {}]", config.text_dim)),
    };
    check_image(config, conditioning.image.as_ref(), clips)?;
    let control = conditioning.control.as_ref().map(|control| &control.latents);
    let rays = if config.camera { camera::CHANNELS } else { 0 };
    let videos = [
        ("conditioning latents", config.appended_channels(), 1, conditioning.latents.as_ref()),
        ("control latents", config.vace_in_channels.unwrap_or(0), 1, control),
        ("camera rays", rays, config.camera_scale, conditioning.camera.as_ref()),
    ];
    let mut sizes = None;
    for (what, channels, scale, given) in videos {
        let Some(given) = wanted(what, channels > 0, given)? else { continue };
        sizes = Some(check_video(config, what, given, [clips, channels, scale], sizes)?);
    }
    Ok(sizes)
}

/// Checks the image hidden states; models with a camera adapter do without them too.
fn check_image(config: &WanConfig, image: Option<&Tensor>, clips: usize) -> Result<()> {
    let what = "image hidden states";
    let needed = config.image_dim.is_some() && (image.is_some() || !config.camera);
    let (Some(image), Some(image_dim)) = (wanted(what, needed, image)?, config.image_dim) else { return Ok(()) };
    let rows_fit = |rows| config.pos_embed_seq_len.map_or(rows > 0, |expected| rows == expected);
    if matches!(*image.dims(), [b, rows, width] if b == clips && rows_fit(rows) && width == image_dim) {
        return Ok(());
    }
    let rows = config.pos_embed_seq_len.map_or_else(|| "T".to_string(), |rows| rows.to_string());
    wrong(what, image, format!("[{clips}, {rows}, {image_dim}]"))
}

/// Checks a conditioning input that has `scale` times as many rows and columns as the latents, and returns the frames,
/// rows and columns of the latents. `expected` are those of the other conditioning inputs.
fn check_video(
    config: &WanConfig,
    what: &'static str,
    video: &Tensor,
    [clips, channels, scale]: [usize; 3],
    expected: Option<[usize; 3]>,
) -> Result<[usize; 3]> {
    let fits =
        |b, c, h: usize, w: usize| b == clips && c == channels && h.is_multiple_of(scale) && w.is_multiple_of(scale);
    if let [b, c, f, h, w] = *video.dims()
        && fits(b, c, h, w)
        && grid(config, [f, h / scale, w / scale]).is_some()
        && expected.is_none_or(|sizes| sizes == [f, h / scale, w / scale])
    {
        return Ok([f, h / scale, w / scale]);
    }
    let axes = match expected {
        Some([f, h, w]) => format!("{f}, {}, {}] like the other conditioning inputs", h * scale, w * scale),
        None if scale == 1 => format!("F, H, W] with {}", sizes(config)),
        None => format!("F, {scale}H, {scale}W] with {}", sizes(config)),
    };
    wrong(what, video, format!("[{clips}, {channels}, {axes}"))
}

/// Checks the shape of every input and returns frames, rows and columns of tokens.
pub(super) fn check_forward(
    config: &WanConfig,
    latents: &Tensor,
    timestep: &Tensor,
    prepared: &Prepared,
) -> Result<[usize; 3]> {
    let &[b, c, f, h, w] = latents.dims() else {
        return wrong("latents", latents, "[B, C, F, H, W]".to_string());
    };
    let grid = grid(config, [f, h, w]).filter(|_| b > 0 && c == config.out_channels);
    let Some(grid) = grid else {
        let expected = format!("[B, {}, F, H, W] with {}", config.out_channels, sizes(config));
        return wrong("latents", latents, expected);
    };
    let tokens: usize = grid.iter().product();
    if timestep.dims() != [b] && timestep.dims() != [b, tokens] {
        return wrong("timestep", timestep, format!("[{b}] or [{b}, {tokens}]"));
    }
    if !matches!(*prepared.context.dims(), [clips, _, dim] if clips == b && dim == config.dim()) {
        return wrong("prepared context", &prepared.context, format!("[{b}, S, {}]", config.dim()));
    }
    match prepared.sizes {
        Some(sizes @ [pf, ph, pw]) if sizes != [f, h, w] => {
            let expected = format!("[{b}, {c}, {pf}, {ph}, {pw}] like the conditioning inputs");
            wrong("latents", latents, expected)
        }
        _ => Ok(grid),
    }
}

/// Returns frames, rows and columns of tokens, if latents of these sizes make whole tokens within the reach of the
/// position embedding.
fn grid(config: &WanConfig, sizes: [usize; 3]) -> Option<[usize; 3]> {
    let fits = |(size, patch): (usize, usize)| {
        size > 0 && size.is_multiple_of(patch) && size / patch <= config.rope_max_seq_len
    };
    let ([f, h, w], [pt, ph, pw]) = (sizes, config.patch_size);
    sizes.into_iter().zip(config.patch_size).all(fits).then_some([f / pt, h / ph, w / pw])
}

/// Describes the sizes that latents may have.
fn sizes(config: &WanConfig) -> String {
    let ([pt, ph, pw], reach) = (config.patch_size, config.rope_max_seq_len);
    format!("F, H, W multiples of {pt}, {ph}, {pw} and at most {reach} tokens along each")
}

/// Returns `given`, if it is there exactly when it is needed.
fn wanted<'a>(what: &'static str, needed: bool, given: Option<&'a Tensor>) -> Result<Option<&'a Tensor>> {
    match given {
        None if needed => Err(Error::Missing { what }),
        Some(_) if !needed => Err(Error::Unused { what }),
        _ => Ok(given),
    }
}

fn wrong<T>(what: &'static str, tensor: &Tensor, expected: String) -> Result<T> {
    Err(Error::Shape { what, found: tensor.dims().to_vec(), expected })
}
