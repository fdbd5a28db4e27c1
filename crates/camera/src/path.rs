//! [`CameraPath`]: camera poses from a text file in the format of `RealEstate10K`, which `CameraCtrl`, `VideoX-Fun` and
//! `DiffSynth` read too (<https://google.github.io/realestate10k/download.html>).

use super::pose::{Lens, Pose};
use super::rays::Trajectory;
use crate::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// The numbers of a line: time, fx, fy, cx, cy, two unused ones, and the rows of a 3 × 4 world-to-camera matrix.
const COLUMNS: usize = 19;
/// Focal lengths above this many frame widths must be pixels, not fractions.
const LONGEST_LENS: f64 = 50.0;

/// The poses of a camera, evenly spaced in time.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraPath {
    file: PathBuf,
    poses: Vec<Pose>,
}

impl CameraPath {
    /// Reads a pose file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::BadFile`] with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.into(), source };
        let bad = |reason| Error::BadFile { path: path.into(), reason };
        // Reading a pipe waits for a writer, who may never come.
        if std::fs::metadata(path).map_err(io)?.is_file() {
            let bytes = std::fs::read(path).map_err(io)?;
            let text = String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8 text".into()))?;
            return Ok(Self { file: path.into(), poses: parse(&text).map_err(bad)? });
        }
        Err(bad("it is not a regular file".into()))
    }

    /// Returns the text of a pose file with these poses.
    pub fn text(poses: &[Pose]) -> String {
        let mut text = String::new();
        for pose in poses {
            let (Lens { fx, fy, cx, cy }, [a, b, c, _]) = (pose.lens, pose.w2c());
            let numbers = [0.0, fx, fy, cx, cy, 0.0, 0.0].into_iter().chain([a, b, c].into_iter().flatten());
            text.extend(numbers.map(|number| format!("{number} ")));
            text.push('\n');
        }
        text
    }

    /// Returns the poses of the file; there is at least one.
    pub fn poses(&self) -> &[Pose] {
        &self.poses
    }

    /// Returns the path spread over `frames` frames, in the coordinates of the first. A path with another number of poses
    /// is resampled: rotations take the shortest way at constant speed, positions and lenses are interpolated linearly.
    ///
    /// # Errors
    /// [`Error::NoPoses`] for 0 frames.
    pub fn trajectory(&self, frames: usize) -> Result<Trajectory> {
        let last = self.poses.len() - 1;
        let step = if frames > 1 { last as f64 / (frames - 1) as f64 } else { 0.0 };
        let pose = |frame: usize| {
            let at = if last + 1 == frames { frame as f64 } else { (frame as f64 * step).min(last as f64) };
            let before = at.floor() as usize;
            match at.fract() {
                0.0 => self.poses[before],
                part => self.poses[before].towards(&self.poses[(before + 1).min(last)], part),
            }
        };
        Trajectory::new(&(0..frames).map(pose).collect::<Vec<_>>())
    }
}

impl fmt::Display for CameraPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.display().fmt(f)
    }
}

/// Parses at least one pose. The first line may be an address or begin with `#`; empty lines are skipped.
fn parse(text: &str) -> std::result::Result<Vec<Pose>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut columns = None;
    let mut poses = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let title = index == 0 && (line.contains("://") || line.trim_start().starts_with('#'));
        if title || line.trim().is_empty() {
            continue;
        }
        let at = |fault| format!("line {}: {fault}", index + 1);
        let numbers = numbers(line).map_err(at)?;
        let first = *columns.get_or_insert(numbers.len());
        if first != numbers.len() {
            return Err(at(format!("it has {} numbers, the lines before have {first}", numbers.len())));
        }
        poses.push(pose(&numbers).map_err(at)?);
    }
    if poses.is_empty() { Err("it has no poses".into()) } else { Ok(poses) }
}

fn numbers(line: &str) -> std::result::Result<Vec<f64>, String> {
    let number = |word: &str| match word.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("`{word}` is not a number")),
    };
    line.split_whitespace().map(number).collect()
}

/// Reads the pose of one line. `VideoX-Fun`'s own files leave out the time, so their lines have one number fewer.
fn pose(numbers: &[f64]) -> std::result::Result<Pose, String> {
    let numbers = match numbers.len() {
        COLUMNS => &numbers[1..],
        count if count + 1 == COLUMNS => numbers,
        count => return Err(format!("it has {count} numbers, not {COLUMNS} (or {} without the time)", COLUMNS - 1)),
    };
    let &[fx, fy, cx, cy, _, _, ref matrix @ ..] = numbers else { return Err("it is too short".into()) };
    if fx > LONGEST_LENS || fy > LONGEST_LENS {
        return Err(format!("focal lengths of {fx} and {fy} seem to be pixels, not fractions of the frame"));
    }
    let row = |row: usize| [0, 1, 2, 3].map(|column| matrix[row * 4 + column]);
    let pose = Pose::from_w2c(&[row(0), row(1), row(2)], Lens { fx, fy, cx, cy });
    pose.fault().map_or(Ok(pose), Err)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the compared numbers are exact")]
mod tests {
    use super::*;
    use crate::Placement;

    const IDENTITY: &str = "1 0 0 0 0 1 0 0 0 0 1 0";

    fn line(matrix: &str) -> String {
        format!("0 0.5 0.9 0.5 0.5 0 0 {matrix}")
    }

    fn path(lines: &[String]) -> CameraPath {
        CameraPath { file: "poses.txt".into(), poses: parse(&lines.join("\n")).expect("poses") }
    }

    #[test]
    fn titles_empty_lines_and_a_missing_time_are_read() {
        let pose = line(IDENTITY);
        let short = pose.strip_prefix("0 ").expect("a time");
        for text in [
            format!("https://www.example.com/watch?v=1\n{pose}\n{pose}\n"),
            format!("\n{short}\n{short}\n"),
            format!("# a comment\r\n{pose}\r\n\r\n{pose}"),
            format!("\u{feff}{pose}\n{pose}"),
            format!("{}\n{pose}", pose.replace(' ', "\t")),
        ] {
            let poses = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(poses.len(), 2, "{text}");
            assert_eq!(poses[1].lens, Lens { fx: 0.5, fy: 0.9, cx: 0.5, cy: 0.5 });
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        let pose = line(IDENTITY);
        for (text, part) in [
            (String::new(), "it has no poses"),
            ("https://example.com\n".into(), "it has no poses"),
            (format!("\n{pose}\n1 2 3"), "line 3: it has 3 numbers, the lines before have 19"),
            ("1 2 3".into(), "line 1: it has 3 numbers, not 19 (or 18 without the time)"),
            (format!("{pose} 0"), "line 1: it has 20 numbers"),
            (
                format!("{pose}\n{}", pose.split_once(' ').expect("words").1),
                "line 2: it has 18 numbers, the lines before",
            ),
            (format!("{pose}\n# later"), "line 2: `#` is not a number"),
            (pose.replace("0.9", "0,9"), "line 1: `0,9` is not a number"),
            (pose.replace("0.9", "nan"), "line 1: `nan` is not a number"),
            (pose.replace("0.9", "-0.9"), "line 1: its focal lengths are 0.5 and -0.9"),
            (pose.replace("0.9", "681"), "line 1: focal lengths of 0.5 and 681 seem to be pixels"),
            (line("1 0 0 0 0 1 0 0 0 0 -1 0"), "line 1: its matrix is not a rotation"),
            (line("0 0 0 0 0 0 0 0 0 0 0 0"), "line 1: it has NaN"),
            (line("1 0 0.1 0 0 1 0 0 0 0 1 0"), "line 1: its matrix is not a rotation"),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_errors() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(matches!(CameraPath::read(&here.join("no such file")), Err(Error::Io { .. })));
        let error = CameraPath::read(&here.join("Cargo.toml")).expect_err("no poses");
        assert!(error.to_string().contains("line 1: `[package]` is not a number"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("world-to-camera")));
    }

    #[test]
    fn other_numbers_of_frames_are_resampled() {
        // A quarter turn to the right while the camera moves 4 to the right (x of w2c is -4 in the turned frame's z).
        let path = path(&[line(IDENTITY), line("0 0 -1 0 0 1 0 0 1 0 0 -4").replacen("0.5", "1.5", 1)]);
        let trajectory = path.trajectory(5).expect("a trajectory");
        for (index, pose) in trajectory.poses().iter().enumerate() {
            let part = index as f64 / 4.0;
            let (sin, cos) = (part * std::f64::consts::FRAC_PI_2).sin_cos();
            let expected = [[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]];
            let off = pose.rotation.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-12, "{pose:?}");
            assert!((pose.center[0] - 4.0 * part).abs() < 1e-12, "{pose:?}");
            assert!((pose.lens.fx - 0.5 - part).abs() < 1e-12, "{pose:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let placement =
            Placement { horizontal: 0.5, vertical: 1.0, forward: -2.0, pan: 30.0, tilt: -10.0, roll: 5.0, zoom: 2.0 };
        let poses = [Placement::default(), placement].map(Pose::from);
        assert_eq!(poses[1].center, [0.5, -1.0, -2.0], "up is against y");
        assert!((poses[1].lens.fx - 2.0 * poses[0].lens.fx).abs() < 1e-12);
        let read = parse(&CameraPath::text(&poses)).expect("its own text");
        let numbers =
            |pose: &Pose| pose.c2w().into_iter().flatten().chain([pose.lens.fx, pose.lens.cy]).collect::<Vec<_>>();
        for (read, pose) in read.iter().zip(&poses) {
            assert!(numbers(read).iter().zip(numbers(pose)).all(|(a, b)| (a - b).abs() < 1e-12), "{read:?}");
        }
    }

    #[test]
    fn equal_and_single_counts_keep_the_poses() {
        let moved = |x: f64| line(&format!("1 0 0 {x} 0 1 0 0 0 0 1 0"));
        let path = path(&[moved(0.0), moved(-0.1), moved(-0.3), moved(-0.7)]);
        let centers = |frames: usize| -> Vec<f64> {
            path.trajectory(frames).expect("poses").poses().iter().map(|pose| pose.center[0]).collect()
        };
        assert_eq!(centers(4), [0.0, 0.1, 0.3, 0.7]);
        assert_eq!(centers(2), [0.0, 0.7]);
        assert_eq!(centers(1), [0.0]);
        let single = CameraPath { poses: path.poses[..1].to_vec(), ..path.clone() };
        assert_eq!(single.trajectory(9).expect("poses").poses(), [path.poses[0]; 9]);
    }
}
