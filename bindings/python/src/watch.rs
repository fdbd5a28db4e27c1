//! Work of the library that Python waits for: on a thread of its own, so that the calling one may hear of signals and of what happens.

use kinora::{Event, Stage};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How often signals are looked for.
const POLL: Duration = Duration::from_millis(50);

/// How far the work is.
#[derive(Debug, Clone, Copy)]
struct Progress {
    stage: &'static str,
    done: u64,
    total: u64,
}

enum Message {
    Progress(Progress),
    Frame(Vec<u8>),
}

/// The work's side: it tells how far it is, and hands over frames.
pub struct Watch<'a> {
    messages: mpsc::Sender<Message>,
    /// Whether to go on, for each progress that was told; `None` where nobody wants to know of it.
    answers: Option<Receiver<bool>>,
    stop: &'a AtomicBool,
    now: Progress,
    steps: u64,
    frames: u64,
}

/// A sink's side: it hands over frames from another thread.
#[derive(Clone)]
pub struct FrameSender(mpsc::Sender<Message>);

impl FrameSender {
    /// Hands over the pixels of a frame, RGB.
    pub fn send(&self, rgb: Vec<u8>) {
        // Who is no longer there needs no frames.
        let _ = self.0.send(Message::Frame(rgb));
    }
}

impl Watch<'_> {
    pub fn frame_sender(&self) -> FrameSender {
        FrameSender(self.messages.clone())
    }

    /// Tells of an event of the library; breaks where the work should stop.
    pub fn event(&mut self, event: &Event) -> ControlFlow<()> {
        let Progress { stage, done, total } = self.now;
        match event {
            Event::Planned(planned) => {
                (self.steps, self.frames) = (planned.plan.steps() as u64, planned.plan.frames as u64);
                self.go_on()
            }
            Event::Stage(stage) => match stage {
                Stage::Text => self.tell("text", 0, 0),
                Stage::Encode => self.tell("encode", 0, 0),
                Stage::Denoise => self.tell("denoise", 0, self.steps),
                Stage::Decode => self.tell("decode", 0, self.frames),
            },
            Event::Step { done, total, .. } | Event::Steps { done, total, .. } => {
                self.tell("denoise", *done as u64, *total as u64)
            }
            Event::Frames { done, total } => self.tell(stage, *done as u64, *total as u64),
            Event::NetworkCall => self.tell(stage, done, total),
            _ => self.go_on(),
        }
    }

    /// Tells how far a stage is; breaks where the work should stop.
    pub fn tell(&mut self, stage: &'static str, done: u64, total: u64) -> ControlFlow<()> {
        self.now = Progress { stage, done, total };
        if let Some(answers) = &self.answers
            && self.go_on().is_continue()
            && self.messages.send(Message::Progress(self.now)).is_ok()
            && answers.recv() != Ok(true)
        {
            return ControlFlow::Break(());
        }
        self.go_on()
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The outcome of watched work.
pub struct Watched<T> {
    pub result: kinora::Result<T>,
    /// The frames that it handed over, `[H, W, 3]` each.
    pub frames: Vec<Py<PyBytes>>,
    /// The exception that stopped it.
    pub exception: Option<PyErr>,
}

impl<T> Watched<T> {
    /// The result and the frames.
    ///
    /// # Errors
    /// The exception, with what the library says of a stop; else the library's error.
    pub fn into_parts(self, py: Python<'_>) -> PyResult<(T, Vec<Py<PyBytes>>)> {
        match (self.exception, self.result) {
            (None, Ok(result)) => Ok((result, self.frames)),
            (None, Err(error)) => Err(crate::errors::raised(&error)),
            (Some(exception), result) => {
                if let Some(hint) = result.err().filter(keeps).and_then(|error| crate::errors::hint(&error)) {
                    exception.add_note(py, hint)?;
                }
                Err(exception)
            }
        }
    }
}

/// Whether something is left from which one can go on.
fn keeps(error: &kinora::Error) -> bool {
    !matches!(error, kinora::Error::Stopped { resumable: None })
}

/// Does `work` while other threads of Python run. `progress` is called on this thread, as `progress(stage, done, total, seconds)`; the
/// work stops where it returns False or raises, and where a signal's handler raises, as that of Ctrl-C does.
///
/// # Panics
/// Where `work` does; `PyO3` makes an exception of it.
pub fn watched<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&mut Watch) -> kinora::Result<T> + Send,
) -> Watched<T> {
    let (start, stop) = (Instant::now(), AtomicBool::new(false));
    let (messages, received) = channel();
    let (answer, answers) = sync_channel(1);
    let answers = progress.is_some().then_some(answers);
    let now = Progress { stage: "text", done: 0, total: 0 };
    let mut watch = Watch { messages, answers, stop: &stop, now, steps: 0, frames: 0 };
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let result = work(&mut watch);
            drop(watch);
            result
        });
        let mut listener = Listener { py, progress, answer, start, frames: Vec::new(), exception: None };
        listener.listen(&Mutex::new(received), &stop);
        let result = py.detach(|| worker.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Watched { result, frames: listener.frames, exception: listener.exception }
    })
}

/// Python's side.
struct Listener<'a, 'py> {
    py: Python<'py>,
    progress: Option<&'a Bound<'py, PyAny>>,
    answer: SyncSender<bool>,
    start: Instant,
    frames: Vec<Py<PyBytes>>,
    exception: Option<PyErr>,
}

impl Listener<'_, '_> {
    /// Listens until the work is done.
    fn listen(&mut self, messages: &Mutex<Receiver<Message>>, stop: &AtomicBool) {
        loop {
            let wait = || messages.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(POLL);
            let next = self.py.detach(wait);
            let heard = match next {
                Ok(Message::Frame(rgb)) => {
                    self.frames.push(PyBytes::new(self.py, &rgb).unbind());
                    Ok(())
                }
                Ok(Message::Progress(progress)) => self.call(progress, stop),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(exception) = heard.and_then(|()| self.py.check_signals()) {
                self.exception.get_or_insert(exception);
                stop.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Calls `progress` and answers the work.
    fn call(&self, Progress { stage, done, total }: Progress, stop: &AtomicBool) -> PyResult<()> {
        let seconds = self.start.elapsed().as_secs_f64();
        let returned = match self.progress {
            Some(progress) if !stop.load(Ordering::SeqCst) => progress.call1((stage, done, total, seconds)),
            _ => Ok(self.py.None().into_bound(self.py)),
        };
        let stops = returned.as_ref().map_or(true, |value| value.extract::<bool>().is_ok_and(|go_on| !go_on));
        if stops {
            stop.store(true, Ordering::SeqCst);
        }
        // The work may be over.
        let _ = self.answer.send(!stops);
        returned.map(drop)
    }
}
