//! Synthetic clips, and ffprobe and ffmpeg as the outside readers of what was written.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use kinora_media::{ClipSpec, Fps, Frame, WriteOptions, Written, create};
use std::path::Path;
use std::process::Command;

pub fn spec(width: usize, height: usize, fps: u32) -> ClipSpec {
    ClipSpec { width, height, fps: Fps::new(fps, 1).unwrap() }
}

/// Whether ffprobe and ffmpeg are there. Without them the test is skipped, unless `KINORA_REQUIRE_FFPROBE=1` is set.
pub fn have_ffmpeg() -> bool {
    let runs = |name: &str| Command::new(name).arg("-version").output().is_ok_and(|output| output.status.success());
    let there = runs("ffprobe") && runs("ffmpeg");
    if !there {
        let required = std::env::var("KINORA_REQUIRE_FFPROBE").is_ok_and(|value| value == "1");
        assert!(!required, "ffprobe and ffmpeg are required and not on PATH");
        eprintln!("skipped: ffprobe and ffmpeg are not on PATH");
    }
    there
}

/// A disc that bounces and a bar that turns before moving stripes, edges a pixel wide, and a little grain: what the
/// embedded model's clips look like.
pub fn shapes(spec: &ClipSpec, index: usize) -> Frame {
    let (width, height) = (spec.width as f32, spec.height as f32);
    let time = index as f32 / 16.0;
    let centre = (width * (0.3 + 0.4 * (time * 1.7).sin().abs()), height * (0.75 - 0.5 * (time * 2.3).sin().abs()));
    let radius = height * 0.2;
    let (sin, cos) = (time * 1.3).sin_cos();
    let mut noise = 0x9e37_79b9_u32.wrapping_mul(index as u32 + 1) | 1;
    let mut pixels = Vec::new();
    for y in 0..spec.height {
        for x in 0..spec.width {
            let (x, y) = (x as f32, y as f32);
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let grain = (noise >> 8) as f32 / (1 << 24) as f32 * 0.02 - 0.01;
            let stripe = 0.5 + 0.5 * ((x + y * 0.5 + time * 20.0) * 0.15).sin();
            let disc = (radius + 0.5 - (x - centre.0).hypot(y - centre.1)).clamp(0.0, 1.0);
            let (u, v) = (x - width * 0.7, y - height * 0.35);
            let bar = (height * 0.06 - (u * cos + v * sin).abs()).clamp(0.0, 1.0)
                * (height * 0.25 - (v * cos - u * sin).abs()).clamp(0.0, 1.0);
            let mix = |low: f32, high: f32, disc_colour: f32, bar_colour: f32| {
                let base = low + (high - low) * stripe;
                let base = base + (disc_colour - base) * disc;
                base + (bar_colour - base) * bar + grain
            };
            pixels.push([mix(0.1, 0.3, 0.9, 0.95), mix(0.2, 0.4, 0.1, 0.85), mix(0.5, 0.8, 0.1, 0.2)]);
        }
    }
    let data = (0..3).flat_map(|c| pixels.iter().map(move |rgb| rgb[c])).collect();
    Frame::new(spec.width, spec.height, data).unwrap()
}

/// The same value everywhere in each plane.
pub fn flat(spec: &ClipSpec, rgb: [f32; 3]) -> Frame {
    let data = rgb.iter().flat_map(|&x| vec![x; spec.width * spec.height]).collect();
    Frame::new(spec.width, spec.height, data).unwrap()
}

pub fn write_shapes(path: &Path, spec: &ClipSpec, frames: usize, options: &WriteOptions) -> Written {
    let mut writer = create(path, spec, options).unwrap();
    for index in 0..frames {
        writer.push(&shapes(spec, index)).unwrap();
    }
    writer.finish().unwrap()
}

/// What ffprobe says of the first video stream, `key=value` lines.
pub struct Probe(String);

impl Probe {
    pub fn of(path: &Path) -> Self {
        let args = ["-v", "error", "-count_frames", "-select_streams", "v:0", "-show_streams", "-show_format"];
        Self(run("ffprobe", &args, path, &[]))
    }

    pub fn get(&self, key: &str) -> &str {
        let value = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {key} in\n{}", self.0))
    }
}

/// The pictures as ffmpeg decodes them, in the given pixel format, one after another.
pub fn decode(path: &Path, pixels: &str) -> Vec<u8> {
    let args = ["-v", "error", "-i"];
    let rest = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pixels, "-"];
    let output = Command::new("ffmpeg").args(args).arg(path).args(rest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// PSNR in dB of decoded luma against the raw frames, on a scale where black is 0 and white is 1: the error of codec,
/// conversion and 8 bits together. The clip's size must be even.
pub fn luma_psnr(path: &Path, spec: &ClipSpec, frames: &[Frame]) -> f64 {
    let decoded = decode(path, "yuv420p");
    let area = spec.width * spec.height;
    assert_eq!(decoded.len(), frames.len() * area * 3 / 2);
    let mut squares = 0.0;
    for (picture, Frame { data, .. }) in decoded.chunks(area * 3 / 2).zip(frames) {
        for (pixel, &code) in picture[..area].iter().enumerate() {
            let [r, g, b] = [0, 1, 2].map(|c| f64::from(data[c * area + pixel]).clamp(0.0, 1.0));
            let error = (f64::from(code) - 16.0) / 219.0 - (0.2126 * r + 0.7152 * g + 0.0722 * b);
            squares += error * error;
        }
    }
    -10.0 * (squares / (frames.len() * area) as f64).log10()
}

pub fn bits_per_pixel(written: &Written) -> f64 {
    written.bytes as f64 * 8.0 / (written.frames as f64 * written.width as f64 * written.height as f64)
}

fn run(program: &str, args: &[&str], path: &Path, rest: &[&str]) -> String {
    let output = Command::new(program).args(args).arg(path).args(rest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns an animated PNG of two frames, 2×1.
pub fn animated_png() -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0; 6]).unwrap();
    writer.write_image_data(&[255; 6]).unwrap();
    writer.finish().unwrap();
    file
}
