//! [`Child`]: a worker process, with lines in both directions.

use crate::protocol::{Order, Report};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

/// How long a process may take to start.
const START: Duration = Duration::from_mins(1);

/// The program of workers, and its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The variable that names the folder in which it keeps what it has learned; `None` leaves that as it is.
    pub cache: Option<(&'static str, PathBuf)>,
}

/// A worker process. It is killed when this is dropped.
pub struct Child {
    process: tokio::process::Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts the process, and waits until it reads orders.
    ///
    /// # Errors
    /// A program that does not start, or does not answer.
    pub async fn start(program: &Program) -> io::Result<Self> {
        let mut process = Command::new(&program.path)
            .args(&program.arguments)
            .envs(program.cache.clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a pipe of the worker is missing");
        let orders = process.stdin.take().ok_or_else(missing)?;
        let reports = BufReader::new(process.stdout.take().ok_or_else(missing)?).lines();
        let mut child = Self { process, orders, reports };
        match tokio::time::timeout(START, child.report()).await {
            Ok(Some(Report::Ready { .. })) => Ok(child),
            Ok(_) => Err(io::Error::other("the worker ended before it was ready")),
            Err(_) => Err(io::Error::other("the worker did not start in time")),
        }
    }

    /// Sends an order.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn send(&mut self, order: &Order) -> io::Result<()> {
        let mut line = serde_json::to_string(order).map_err(io::Error::other)?;
        line.push('\n');
        self.orders.write_all(line.as_bytes()).await?;
        self.orders.flush().await
    }

    /// The next report; `None` when the process is gone. It may be cancelled and called again.
    pub async fn report(&mut self) -> Option<Report> {
        loop {
            let line = match self.reports.next_line().await {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue, // no text, so no report
                line => line.ok()??,
            };
            // What a library prints is no report.
            if let Ok(report) = serde_json::from_str(&line) {
                return Some(report);
            }
        }
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Ends the process at once, and waits until it is gone: nothing of it holds the device then.
    pub async fn kill(&mut self) {
        let _ = self.process.kill().await;
    }
}
