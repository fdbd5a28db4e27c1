//! The sound of a clip on its way to the writer.

use super::Pipeline;
use super::event::Event;
use super::latents_file::LatentsFile;
use super::observer::Observer;
use crate::{Error, Result};
use kinora_media::{ClipWriter, SoundTrack};

/// Gives the sound to the writer, before the first frame; returns a sentence if it is not kept, which the observer gets as well.
///
/// # Errors
/// A stop, and what the writer says.
pub(crate) fn hand_over(
    writer: &mut dyn ClipWriter,
    sound: Option<&SoundTrack>,
    observer: &mut Observer,
) -> Result<Option<String>> {
    let Some(sound) = sound else { return Ok(None) };
    observer.tell(Event::Sound(sound))?;
    let said = writer.sound(sound)?;
    if let Some(said) = &said {
        observer.tell(Event::Notice(said))?;
    }
    Ok(said)
}

impl Pipeline {
    /// The sound that the model makes of latents, if they have any.
    pub(super) fn sound_of(&self, latents: &LatentsFile) -> Result<Option<SoundTrack>> {
        if self.limits.sound.is_none() || !latents.has_others() {
            return Ok(None);
        }
        let streams = latents.all()?.map(|_, latents| latents.to_device(self.device()).map_err(Error::from))?;
        Ok(self.family.sound(&self.model, &self.placement, &streams)?.map(SoundTrack::from))
    }
}
