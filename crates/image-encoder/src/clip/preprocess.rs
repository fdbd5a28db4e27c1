//! [`ClipPreprocess`]: what happens to a picture before the network, as in transformers' `CLIPImageProcessor`
//! (<https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/image_transforms.py>).

use crate::error::{within, wrong};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use serde::Deserialize;

/// Pillow's number for bicubic resampling, the only one that is supported.
const BICUBIC: u32 = 3;
/// Far above any model.
const LARGEST_SIDE: usize = 1 << 14;
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Resizing, centre crop, rescaling and normalising of a picture; what is `None` is not done.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipPreprocess {
    resize: Option<Resize>,
    crop: Option<Sides>,
    rescale: Option<f64>,
    normalise: Option<Normalise>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Resize {
    /// The shorter side becomes so long, and the other one in proportion.
    ShortestEdge(usize),
    Exact(Sides),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sides {
    height: usize,
    width: usize,
}

/// Mean and standard deviation of red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Normalise {
    mean: [f32; 3],
    std: [f32; 3],
}

impl Default for ClipPreprocess {
    /// `CLIPImageProcessor`'s own: 224 × 224 pixels.
    fn default() -> Self {
        Self {
            resize: Some(Resize::ShortestEdge(224)),
            crop: Some(Sides { height: 224, width: 224 }),
            rescale: Some(1.0 / 255.0),
            normalise: Some(Normalise { mean: MEAN, std: STD }),
        }
    }
}

impl ClipPreprocess {
    /// Reads `preprocessor_config.json`; absent fields have `CLIPImageProcessor`'s defaults.
    ///
    /// # Errors
    /// JSON of another form, sizes that make no sense, or a resampling other than bicubic.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let fields: Fields = serde_json::from_slice(json)?;
        let default = Self::default();
        let done = |flag: Option<bool>| flag.unwrap_or(true);
        let rescale = fields.rescale_factor.or(default.rescale);
        let normalise = Normalise { mean: fields.image_mean.unwrap_or(MEAN), std: fields.image_std.unwrap_or(STD) };
        let resize = fields.size.map_or(Ok(default.resize), |size| size.resize().map(Some))?;
        let crop = fields.crop_size.map_or(Ok(default.crop), |size| size.crop().map(Some))?;
        let all = Self { resize, crop, rescale, normalise: Some(normalise) };
        let config = Self {
            resize: all.resize.filter(|_| done(fields.do_resize)),
            crop: all.crop.filter(|_| done(fields.do_center_crop)),
            rescale: all.rescale.filter(|_| done(fields.do_rescale)),
            normalise: all.normalise.filter(|_| done(fields.do_normalize)),
        };
        let resample = fields.resample.unwrap_or(BICUBIC);
        if config.resize.is_some() && resample != BICUBIC {
            return wrong("resample", format!("is {resample}, only {BICUBIC} (bicubic) is supported"));
        }
        config.validate()?;
        Ok(config)
    }

    /// The size `(width, height)` to which a picture of `width` by `height` pixels is to be resized first. A side that
    /// follows in proportion is rounded down, but is never below the other one.
    pub fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        let longer = |edge: usize, long: usize, short: usize| (edge as f64 * long as f64 / short as f64) as usize;
        match self.resize {
            // An empty picture stays one, and is refused as such.
            Some(Resize::ShortestEdge(_)) | None if width == 0 || height == 0 => (width, height),
            Some(Resize::ShortestEdge(edge)) if width <= height => (edge, longer(edge, height, width)),
            Some(Resize::ShortestEdge(edge)) => (longer(edge, width, height), edge),
            Some(Resize::Exact(Sides { height, width })) => (width, height),
            None => (width, height),
        }
    }

    /// `rgb`, rows of `width` pixels of three bytes each, `height` of them, resized before → `[1, 3, h, w]` f32 on
    /// `device`, of the size that is cropped to. A picture that is smaller is surrounded by black.
    ///
    /// # Errors
    /// Bytes that are not `width · height` pixels, or none.
    pub fn pixels(&self, rgb: &[u8], width: usize, height: usize, device: &Device) -> Result<Tensor> {
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if bytes != Some(rgb.len()) || rgb.is_empty() {
            let expected = format!("{width} · {height} · 3 bytes, and more than none");
            return Err(Error::Shape { what: "the bytes of the picture", found: vec![rgb.len()], expected });
        }
        let crop = self.crop.unwrap_or(Sides { height, width });
        let (rows, columns) = (source(height, crop.height), source(width, crop.width));
        let mut pixels = Vec::with_capacity(3 * crop.height * crop.width);
        for (channel, values) in self.tables().iter().enumerate() {
            for row in &rows {
                pixels.extend(columns.iter().map(|column| {
                    let at = row.zip(*column).map(|(y, x)| rgb[(y * width + x) * 3 + channel]);
                    values[usize::from(at.unwrap_or(0))]
                }));
            }
        }
        Ok(Tensor::from_vec(pixels, (1, 3, crop.height, crop.width), device)?)
    }

    /// What each of the 256 values of a byte becomes in red, green and blue, rounded where the reference rounds.
    fn tables(&self) -> [Vec<f32>; 3] {
        [0, 1, 2].map(|channel| {
            let value = |byte: u8| {
                let x = self.rescale.map_or(f32::from(byte), |factor| (f64::from(byte) * factor) as f32);
                self.normalise.map_or(x, |Normalise { mean, std }| (x - mean[channel]) / std[channel])
            };
            (0..=u8::MAX).map(value).collect()
        })
    }

    fn validate(&self) -> Result<()> {
        match self.resize {
            Some(Resize::ShortestEdge(edge)) => within("size", edge, 1, LARGEST_SIDE)?,
            Some(Resize::Exact(sides)) => sides.validate("size")?,
            None => {}
        }
        if let Some(sides) = self.crop {
            sides.validate("crop_size")?;
        }
        if let Some(factor) = self.rescale.filter(|factor| !factor.is_finite()) {
            return wrong("rescale_factor", format!("is {factor}"));
        }
        if let Some(Normalise { mean, std }) = self.normalise {
            if mean.iter().any(|value| !value.is_finite()) {
                return wrong("image_mean", format!("is {mean:?}"));
            }
            if std.iter().any(|value| !value.is_finite() || *value <= 0.0) {
                return wrong("image_std", format!("is {std:?}, must be above 0"));
            }
        }
        Ok(())
    }
}

impl Sides {
    fn validate(self, field: &'static str) -> Result<()> {
        within(field, self.height, 1, LARGEST_SIDE)?;
        within(field, self.width, 1, LARGEST_SIDE)
    }
}

/// Where each of the middle `to` places of a side of `from` pixels is found; none outside of it.
fn source(from: usize, to: usize) -> Vec<Option<usize>> {
    let start = (from as isize - to as isize).div_euclid(2);
    let inside = |at: isize| usize::try_from(at).ok().filter(|at| *at < from);
    (0..to as isize).map(|at| inside(start + at)).collect()
}

/// `preprocessor_config.json`; what is null is as if it were absent.
#[derive(Deserialize)]
struct Fields {
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<u32>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

/// A size in one of the ways that versions of transformers wrote it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    One(usize),
    Named { shortest_edge: Option<usize>, longest_edge: Option<usize>, height: Option<usize>, width: Option<usize> },
}

impl Size {
    fn resize(self) -> Result<Resize> {
        match self {
            Self::One(edge) | Self::Named { shortest_edge: Some(edge), longest_edge: None, .. } => {
                Ok(Resize::ShortestEdge(edge))
            }
            Self::Named { shortest_edge: None, longest_edge: None, height: Some(height), width: Some(width) } => {
                Ok(Resize::Exact(Sides { height, width }))
            }
            Self::Named { .. } => {
                wrong("size", format!("is {self:?}, only a shortest edge, or height and width, are supported"))
            }
        }
    }

    fn crop(self) -> Result<Sides> {
        match self {
            Self::One(side) => Ok(Sides { height: side, width: side }),
            Self::Named { height: Some(height), width: Some(width), .. } => Ok(Sides { height, width }),
            Self::Named { .. } => wrong("crop_size", format!("is {self:?}, must have height and width")),
        }
    }
}
