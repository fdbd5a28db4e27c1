//! [`Running`]: a program whose output is read while it works. No shell is asked, and no program outlives its reader.

use crate::read::shown;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The containers that are read. Others are texts, playlists that name further files, or devices.
const CONTAINERS: &str = "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,avi,mpegts,mpeg,mpegvideo,h264,hevc,obu,av1,ivf,flv,live_flv,asf,\
    ogg,mxf,nut,rm,dv,vc1,m4v,y4m,yuv4mpegpipe";

/// Errors alone are printed, and only files are opened.
pub(crate) const QUIET: [&str; 6] =
    ["-v", "error", "-protocol_whitelist", "file,pipe", "-format_whitelist", CONTAINERS];

/// The most bytes of a program's complaint that are shown.
const LONGEST: u64 = 300;

/// The time that a program has for ending after it has closed its output.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program at work. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    complaint: Receiver<String>,
}

impl Running {
    /// Starts the program at an absolute path.
    pub(crate) fn start(program: &Path, args: &[&OsStr]) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C stops the run, which then ends the program: on its own, the program would give half of its frames.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let failed = |error: io::Error| format!("`{}` does not start: {error}", program.display());
        let mut child = command.spawn().map_err(failed)?;
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let (say, complaint) = channel();
        let mut running = Self { child, output: BufReader::with_capacity(1 << 16, output), complaint };
        // Its other lines are read too, so that it does not wait for room to write them.
        let listen = thread::Builder::new().spawn(move || {
            let mut errors = BufReader::new(errors);
            let _ = say.send(first_line(&mut errors));
            let _ = io::copy(&mut errors, &mut io::sink());
        });
        listen.map(drop).map_err(|error| {
            running.end();
            failed(error)
        })?;
        Ok(running)
    }

    /// Returns the program's output.
    pub(crate) fn output(&mut self) -> &mut BufReader<ChildStdout> {
        &mut self.output
    }

    /// Waits for the end of the program, which must have closed its output, and returns the first line of what it
    /// complained about, which is empty if it did not.
    ///
    /// # Errors
    /// The program has failed: how it ended, and that line.
    pub(crate) fn finish(&mut self) -> Result<String, String> {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if begin.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(2)),
                Ok(None) => return Err("it does not end".into()),
                Err(error) => return Err(error.to_string()),
            }
        };
        let said = self.complaint.recv_timeout(PATIENCE).unwrap_or_default();
        match (status.success(), said.as_str()) {
            (true, _) => Ok(said),
            (false, "") => Err(format!("it ended with {status}")),
            (false, _) => Err(format!("it ended with {status}: {said}")),
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads the first line that is not empty, as text that a terminal shows as it is.
fn first_line(stream: &mut impl BufRead) -> String {
    loop {
        let mut line = Vec::new();
        match stream.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(length) if length > 0 => {}
            _ => return String::new(),
        }
        let line = shown(String::from_utf8_lossy(&line).trim());
        if !line.is_empty() {
            return line;
        }
    }
}
