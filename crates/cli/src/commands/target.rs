//! [`Target`]: where a clip goes, and what is printed of it.

use crate::args::{OutputArgs, Print};
use crate::report;
use kinora::{Claim, Error, Report, Result};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The place of a clip: a file that is named, one with the usual name that is this process's alone while this lives, or a file of
/// its own that goes to standard output.
pub struct Target {
    clip: PathBuf,
    _claim: Option<Claim>,
    /// The folder of the file that goes to standard output.
    piped: Option<Folder>,
}

/// A new folder, which goes when it is dropped unless something is left in it, such as the latents of a clip that could not be
/// decoded.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

impl Target {
    /// The place that the options name, or one with the `usual` name or a number behind it.
    ///
    /// # Errors
    /// A file that is there and may not be replaced, or a standard output that cannot take the clip.
    pub fn of(args: &OutputArgs, usual: impl FnOnce() -> PathBuf) -> Result<Self> {
        let Some(named) = &args.output else {
            let claim = Claim::unused(&usual());
            return Ok(Self { clip: claim.path().to_path_buf(), _claim: Some(claim), piped: None });
        };
        Self::named(args, named)
    }

    /// The place `named`.
    ///
    /// # Errors
    /// As of [`Target::of`].
    pub fn named(args: &OutputArgs, named: &Path) -> Result<Self> {
        let Some(extension) = piped(named) else {
            check_unused(args, [named])?;
            return Ok(Self { clip: named.into(), _claim: None, piped: None });
        };
        check_stdout(args)?;
        let error = |source| Error::Io { path: std::env::temp_dir(), source };
        let folder = Folder(tempfile::Builder::new().prefix("kinora-").tempdir().map_err(error)?.keep());
        Ok(Self { clip: folder.0.join(format!("clip.{extension}")), _claim: None, piped: Some(folder) })
    }

    /// The file that the clip is written to.
    pub fn clip(&self) -> &Path {
        &self.clip
    }

    /// Prints the result of a run, or the clip itself.
    pub fn print(&self, report: &Report, args: &OutputArgs) -> Result<()> {
        if args.verbose {
            details(report);
        }
        if self.piped.is_some() {
            if let Err(error) = File::open(&self.clip).and_then(report::copy)
                // A reader that has seen enough is no failure.
                && error.kind() != ErrorKind::BrokenPipe
            {
                let hint = format!("the clip is kept in {}", self.clip.display());
                return Err(Error::request(format!("cannot write to standard output: {error}"), hint));
            }
            let _ = fs::remove_file(&self.clip);
            if !args.is_quiet() {
                report::say(&summary(report, "standard output"));
            }
            return Ok(());
        }
        match args.printed() {
            Print::Json => report::json(report),
            Print::Path => report::line(&report.clip.display().to_string()),
            Print::Summary => report::line(&summary(report, &report.clip.display().to_string())),
        }
        Ok(())
    }
}

/// The extension of a clip that goes to standard output: `-` is an MP4, `gif:-` a GIF.
fn piped(named: &Path) -> Option<&str> {
    match named.to_str()? {
        "-" => Some("mp4"),
        name => name.strip_suffix(":-").filter(|extension| extension.chars().all(char::is_alphanumeric)),
    }
}

/// Whether a clip goes to standard output.
pub fn is_piped(args: &OutputArgs) -> bool {
    args.output.as_deref().is_some_and(|named| piped(named).is_some())
}

fn check_stdout(args: &OutputArgs) -> Result<()> {
    let problem = if args.printed() != Print::Summary {
        "the clip and what is printed of it cannot both go to standard output"
    } else if report::is_terminal() {
        "a clip is nothing to print on a terminal"
    } else {
        return Ok(());
    };
    let hint = "-o FILE names a file; `kinora … -o - | ffplay -` sends the clip to another program";
    Err(Error::request(problem, hint))
}

/// Refuses files that are there, if none is to be replaced.
///
/// # Errors
/// [`Error::Request`] with the first one.
pub fn check_unused<'a>(args: &OutputArgs, files: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let is_there = |path: &&Path| {
        let folder = if path.to_string_lossy().contains('%') { path.parent().unwrap_or(path) } else { path };
        folder.read_dir().map_or_else(|_| path.exists(), |mut entries| entries.next().is_some())
    };
    match files.into_iter().find(|path| args.no_overwrite && is_there(path)) {
        None => Ok(()),
        Some(path) => {
            let what = format!("`{}` is there already", path.display());
            Err(Error::request(what, "--overwrite replaces it; without -o, a name that is free is taken"))
        }
    }
}

fn summary(report: &Report, place: &str) -> String {
    let reused = report
        .predictions
        .filter(|predictions| predictions.reused > 0)
        .map_or_else(String::new, |p| format!(", {} of {} predictions reused", p.reused, p.reused + p.computed));
    let Report { width, height, frames, bytes, seconds, .. } = report;
    let (bytes, total) = (report::bytes(*bytes), report::seconds(seconds.total));
    format!("{place}  {width}×{height}, {frames} frames, {bytes}, {total}{reused}")
}

/// Says what every stage took.
fn details(report: &Report) {
    let kinora::Seconds { text, denoise, decode, .. } = report.seconds;
    let [text, decode, all] = [text, decode, denoise].map(report::seconds);
    let each =
        report.predictions.filter(|predictions| predictions.computed > 0).map_or_else(String::new, |predictions| {
            format!(" ({} predictions of {:.2} s)", predictions.computed, denoise / predictions.computed as f64)
        });
    report::say(&format!("text {text}, denoising {all}{each}, decoding {decode}"));
    if let Some(peak) = report.peak_memory {
        let planned =
            report.planned_memory.map_or_else(String::new, |planned| format!(", planned {}", report::bytes(planned)));
        report::say(&format!("memory: at most {}{planned}", report::bytes(peak)));
    }
}
