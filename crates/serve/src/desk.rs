//! [`Desk`]: the worker that plans clips and looks at files. It makes no clips, so that its answers come at once.

use crate::child::{Child, Program};
use crate::dto::ClipRequest;
use crate::protocol::{ClipPlan, FileFacts, ModelFacts, Order, Problem, Report};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Orders that wait.
const WAITING: usize = 256;
/// How long an answer may take; a process that takes longer is ended.
const ANSWER: Duration = Duration::from_mins(1);

/// How often an order is given that ended the process.
const TRIES: usize = 2;

/// A handle to the desk; copies share it.
#[derive(Clone)]
pub struct Desk(mpsc::Sender<(Order, oneshot::Sender<Option<Report>>)>);

impl Desk {
    /// Starts the desk; its process starts with its first order, and again after one that ended it.
    pub fn start(program: Program) -> Self {
        let (sender, mut orders) = mpsc::channel::<(Order, oneshot::Sender<Option<Report>>)>(WAITING);
        tokio::spawn(async move {
            let mut child: Option<Child> = None;
            while let Some((order, answer)) = orders.recv().await {
                let mut report = None;
                if answer.is_closed() {
                    continue; // nobody waits for it any more
                }
                // A process may have been ended by something else than the order; one that ends it twice is to blame.
                for _ in 0..TRIES {
                    let asked = ask(&mut child, &program, &order);
                    report = tokio::time::timeout(ANSWER, asked).await.ok().flatten();
                    if report.is_some() {
                        break;
                    }
                    child = None;
                }
                let _ = answer.send(report); // whoever asked may be gone
            }
        });
        Self(sender)
    }

    async fn order(&self, order: Order) -> Result<Report, Problem> {
        let (sender, answer) = oneshot::channel();
        let is_file = matches!(order, Order::Probe { .. } | Order::Pictures { .. });
        let none = || if is_file { bad_file() } else { no_answer() };
        self.0.send((order, sender)).await.map_err(|_| none())?;
        answer.await.ok().flatten().ok_or_else(none)
    }

    /// The plan of a request.
    ///
    /// # Errors
    /// What is wrong with the request or the model.
    pub async fn plan(
        &self,
        model: Vec<String>,
        request: ClipRequest,
        files: BTreeMap<String, PathBuf>,
    ) -> Result<ClipPlan, Problem> {
        match self.order(Order::Plan { id: 0, model, request: Box::new(request), files }).await? {
            Report::Planned { plan, .. } => plan.map(|plan| *plan),
            _ => Err(no_answer()),
        }
    }

    /// Returns the facts about a model.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn model(&self, model: Vec<String>) -> Result<ModelFacts, Problem> {
        match self.order(Order::Model { id: 0, model }).await? {
            Report::Model { model, .. } => model.map(|model| *model),
            _ => Err(no_answer()),
        }
    }

    /// Returns the facts about a file.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn probe(&self, file: PathBuf) -> Result<FileFacts, Problem> {
        match self.order(Order::Probe { id: 0, file }).await? {
            Report::Probed { file, .. } => file,
            _ => Err(no_answer()),
        }
    }

    /// Makes the pictures of a clip.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn pictures(&self, clip: PathBuf, folder: PathBuf) -> Result<(), Problem> {
        match self.order(Order::Pictures { id: 0, clip, folder }).await? {
            Report::Pictured { problem: None, .. } => Ok(()),
            Report::Pictured { problem: Some(problem), .. } => Err(problem),
            _ => Err(no_answer()),
        }
    }
}

/// Sends an order, and waits for its answer; `None` if the process ended.
async fn ask(child: &mut Option<Child>, program: &Program, order: &Order) -> Option<Report> {
    if child.is_none() {
        *child = Child::start(program).await.ok();
    }
    let child = child.as_mut()?;
    child.send(order).await.ok()?;
    child.report().await
}

fn no_answer() -> Problem {
    let message = "the process that plans clips gives no answer: try again".to_string();
    Problem { code: "no_answer".into(), field: None, message }
}

fn bad_file() -> Problem {
    let message = "the file cannot be read: the process that looked at it ended".to_string();
    Problem { code: "invalid_file".into(), field: None, message }
}
