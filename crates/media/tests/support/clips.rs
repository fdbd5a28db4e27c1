//! Clips that the ffmpeg program makes, and what it decodes in them.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use crate::support::{flat, shapes};
use kinora_media::{ClipReader, ClipSpec, Frame};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Every frame of a clip.
pub fn read(path: &Path) -> kinora_media::Result<(ClipSpec, Vec<Frame>)> {
    frames_of(kinora_media::open(path)?)
}

/// The size and speed of a clip, and every frame.
pub fn frames_of(mut clip: Box<dyn ClipReader>) -> kinora_media::Result<(ClipSpec, Vec<Frame>)> {
    let (spec, expected) = (clip.spec(), clip.frames());
    let mut frames = Vec::new();
    while let Some(frame) = clip.next_frame()? {
        assert_eq!((frame.width, frame.height), (spec.width, spec.height));
        assert_eq!(frame.data.len(), 3 * frame.width * frame.height);
        frames.push(frame);
    }
    assert!(expected.is_none_or(|expected| expected == frames.len()), "{expected:?}, {}", frames.len());
    assert!(clip.next_frame()?.is_none());
    Ok((spec, frames))
}

/// Colours that change slowly over the picture and over time.
pub fn smooth(spec: &ClipSpec, index: usize) -> Frame {
    let mut frame = flat(spec, [0.0; 3]);
    let (w, h, time) = (spec.width, spec.height, index as f32 * 0.15);
    for (at, value) in frame.data.iter_mut().enumerate() {
        let (c, y, x) = (at / (w * h), at / w % h, at % w);
        let phase = 0.03 * x as f32 + 0.02 * y as f32 + c as f32 + time;
        *value = 0.5 + 0.4 * phase.sin();
    }
    frame
}

pub fn psnr(a: &Frame, b: &Frame) -> f64 {
    let error: f64 = a.data.iter().zip(&b.data).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    -10.0 * (error / a.data.len() as f64).log10()
}

/// Colours as this crate writes them.
pub const TAGGED: &str =
    "-pix_fmt yuv420p -vf scale=out_color_matrix=bt709:out_range=tv -colorspace bt709 -color_range tv";

/// Feeds raw RGB to the ffmpeg program: smooth colours where next to nothing is to be lost, else moving shapes.
pub fn ffmpeg(dir: &Path, name: &str, spec: &ClipSpec, frames: usize, args: &str) -> PathBuf {
    let picture = if args.contains("-qp 4") { smooth } else { shapes };
    let path = dir.join(name);
    let (size, rate) = (format!("{}x{}", spec.width, spec.height), spec.fps.to_string());
    let mut raw = Vec::new();
    for index in 0..frames {
        let frame = picture(spec, index);
        let area = spec.width * spec.height;
        raw.extend((0..3 * area).map(|at| (frame.data[at % 3 * area + at / 3].clamp(0.0, 1.0) * 255.0 + 0.5) as u8));
    }
    std::fs::write(dir.join("raw"), raw).unwrap();
    let input = ["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size, "-r", &rate, "-i", "raw"];
    let mut command = Command::new("ffmpeg");
    command.args(input).args(args.split_whitespace()).arg(&path).current_dir(dir);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    path
}

/// The pictures as the ffmpeg program decodes them, in RGB by zimg, which puts chroma where H.264 has it.
pub fn decode(path: &Path, [before, after]: [&str; 2]) -> Vec<u8> {
    let filter = format!("{before}zscale=f=bilinear:m=gbr,format=gbrp,format=rgb24{after}");
    let rest = ["-vf", &filter, "-fps_mode", "passthrough", "-f", "rawvideo", "-"];
    let mut command = Command::new("ffmpeg");
    let output = command.args(["-v", "error", "-noautorotate", "-i"]).arg(path).args(rest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The largest and the mean difference from what the ffmpeg program decodes, in 8-bit codes.
pub fn difference(path: &Path, turn: &str) -> (usize, f64, f64) {
    difference_of(kinora_media::open(path).unwrap(), path, ["", turn])
}

/// The same for the clip that a reader has of the file, with filters before and after the conversion to RGB.
pub fn difference_of(clip: Box<dyn ClipReader>, path: &Path, filters: [&str; 2]) -> (usize, f64, f64) {
    let expected = decode(path, filters);
    let (spec, frames) = frames_of(clip).unwrap();
    let area = spec.width * spec.height;
    assert_eq!(frames.len() * 3 * area, expected.len(), "{}", path.display());
    let (mut largest, mut sum) = (0.0_f64, 0.0);
    for (frame, expected) in frames.iter().zip(expected.chunks_exact(3 * area)) {
        for (at, &expected) in expected.iter().enumerate() {
            let error = f64::from((frame.data[at % 3 * area + at / 3] * 255.0 - f32::from(expected)).abs());
            largest = largest.max(error);
            sum += error;
        }
    }
    (frames.len(), largest, sum / expected.len() as f64)
}
