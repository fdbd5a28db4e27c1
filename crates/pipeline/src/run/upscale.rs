//! Decoded frames made larger on their way to the file, by the kernel or the network that the request names.

use super::Pipeline;
use crate::Result;
use crate::request::output::Output;
use crate::request::upscaler::Upscaler;
use kinora_media::{Frame, Lanczos, MediaError, Upscale, UpscaleTarget, resized};
use kinora_upscaler::{SCALE, Span};

impl Pipeline {
    /// What enlarges the frames of `output`, if anything does; a network is read.
    pub(crate) fn upscale(&self, output: &Output) -> Result<Option<Box<dyn Upscale>>> {
        Ok(match output.enlargement()? {
            None => None,
            Some((target, Upscaler::Lanczos)) => Some(Box::new(Lanczos::new(target))),
            Some((target, Upscaler::Span)) => {
                let span = Span::embedded(self.device(), self.placement.pixel_dtype())?;
                Some(Box::new(Network { span, target }))
            }
        })
    }
}

/// A network that has a scale of its own, and the Lanczos kernel for the rest of the way.
struct Network {
    span: Span,
    target: UpscaleTarget,
}

impl Upscale for Network {
    fn size(&self, width: usize, height: usize) -> (usize, usize) {
        self.target.size(width, height)
    }

    fn frame(&mut self, frame: &Frame) -> std::result::Result<Frame, MediaError> {
        let (width, height) = (frame.width, frame.height);
        let (new_width, new_height) = self.size(width, height);
        if (new_width, new_height) == (width, height) {
            return Ok(frame.clone());
        }
        let data = self.span.enlarge(&frame.data, width, height).map_err(|error| MediaError::Upscale(error.into()))?;
        let enlarged = Frame::new(SCALE * width, SCALE * height, data)?;
        if (new_width, new_height) == (enlarged.width, enlarged.height) {
            return Ok(enlarged);
        }
        resized(&enlarged, new_width, new_height)
    }
}
