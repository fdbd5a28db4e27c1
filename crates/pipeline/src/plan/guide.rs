//! [`Guide`]: the size and length that follow from the request's pictures and clips.

use crate::Result;
use crate::request::inputs::Inputs;
use kinora_media::Readers;

/// Size and length of the picture or clip that a clip is made from, for what the request leaves open.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Guide {
    /// Width / height.
    pub ratio: Option<f64>,
    /// Pixel frames.
    pub frames: Option<usize>,
    /// Frames per second.
    pub fps: Option<f64>,
}

impl Guide {
    /// Opens the clip, or reads the picture, that the inputs name.
    pub(crate) fn probe(inputs: &Inputs, readers: &Readers) -> Result<Self> {
        if let Some(source) = inputs.video.as_ref().or(inputs.control.as_ref()) {
            let clip = readers.open(source)?;
            let spec = clip.spec();
            let expand = inputs.expand.unwrap_or_default();
            let width = spec.width as f64 * (1.0 + expand.left + expand.right);
            let height = spec.height as f64 * (1.0 + expand.top + expand.bottom);
            let still = clip.frames() == Some(1);
            let fps = (!still).then(|| spec.fps.as_f64());
            return Ok(Self { ratio: Some(width / height), frames: clip.frames().filter(|_| !still), fps });
        }
        let picture = inputs.image.as_ref().or(inputs.last_image.as_ref());
        let picture = picture.map(kinora_media::read_image).transpose()?;
        Ok(Self { ratio: picture.map(|picture| picture.width as f64 / picture.height as f64), ..Self::default() })
    }
}
