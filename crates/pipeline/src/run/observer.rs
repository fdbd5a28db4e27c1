//! [`Observer`]: the caller's event handler, on its way through the stages of a run.

use super::event::Event;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Hands events to the caller's handler, and turns its [`ControlFlow::Break`] into the error that ends the run.
pub(crate) struct Observer<'a> {
    handler: &'a mut (dyn FnMut(Event) -> ControlFlow<()> + Send),
    kept: Kept,
}

/// The directory, if any, from which a stopped run can be continued.
#[derive(Debug, Clone)]
enum Kept {
    Nothing,
    Run(PathBuf),
    Story(PathBuf),
}

impl<'a> Observer<'a> {
    /// An observer of a run that keeps nothing.
    pub(crate) fn new(handler: &'a mut (dyn FnMut(Event) -> ControlFlow<()> + Send)) -> Self {
        Self { handler, kept: Kept::Nothing }
    }

    /// From now on a stop says that the run continues from `directory`.
    pub(crate) fn keeps_run(&mut self, directory: PathBuf) {
        self.kept = Kept::Run(directory);
    }

    /// From now on a stop says that the story continues from `project`.
    pub(crate) fn keeps_story(&mut self, project: PathBuf) {
        self.kept = Kept::Story(project);
    }

    /// Tells the caller of `event`.
    ///
    /// # Errors
    /// [`Error::Stopped`] or [`Error::StoryStopped`] if the caller asks to stop.
    pub(crate) fn tell(&mut self, event: Event) -> Result<()> {
        match ((self.handler)(event), &self.kept) {
            (ControlFlow::Continue(()), _) => Ok(()),
            (ControlFlow::Break(()), Kept::Nothing) => Err(Error::Stopped { resumable: None }),
            (ControlFlow::Break(()), Kept::Run(directory)) => {
                Err(Error::Stopped { resumable: Some(directory.clone()) })
            }
            (ControlFlow::Break(()), Kept::Story(project)) => Err(Error::StoryStopped { project: project.clone() }),
        }
    }

    /// Tells the caller of each notice.
    ///
    /// # Errors
    /// As [`Observer::tell`].
    pub(crate) fn notices(&mut self, notices: &[String]) -> Result<()> {
        notices.iter().try_for_each(|notice| self.tell(Event::Notice(notice)))
    }

    /// Tells the caller of an event after which nothing is left to stop.
    pub(crate) fn tell_last(&mut self, event: Event) {
        let _ = (self.handler)(event);
    }
}
