//! Frames cropped and made larger on their way to a file.

#![allow(clippy::print_stderr, reason = "measured differences and times are reported")]

#[path = "support/fixtures.rs"]
mod fixtures;
mod support;

use fixtures::Tensors;
use kinora_media::{
    ClipWriter, Cropped, Frame, Lanczos, MediaError, Upscale, UpscaleTarget, Upscaled, WriteOptions, create, open,
};
use std::time::Instant;
use support::{shapes, spec};

#[test]
fn lanczos_agrees_with_pillow() {
    let tensors = Tensors::open("resize.safetensors");
    let (width, height, plane) = tensors.plane("plane");
    let frame = Frame::new(width, height, [plane.clone(), vec![0.5; plane.len()], plane].concat()).unwrap();
    let (new_width, new_height, expected) = tensors.plane("plane.lanczos.74x58");
    let got = Lanczos::new("2x".parse().unwrap()).frame(&frame).unwrap();
    assert_eq!((got.width, got.height), (new_width, new_height));
    let largest =
        |got: &[f32], expected: &[f32]| got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let error = largest(&got.data[..expected.len()], &expected);
    eprintln!("largest difference {error:.1e}");
    assert!(error <= 1e-5, "{error}");
    assert!(largest(&got.data[2 * expected.len()..], &expected) <= 1e-5);
    assert!(got.data[expected.len()..2 * expected.len()].iter().all(|x| (x - 0.5).abs() < 1e-6));
}

#[test]
fn targets_are_read_shown_and_keep_proportions() {
    let size = |target: &str, width, height| target.parse::<UpscaleTarget>().unwrap().size(width, height);
    for target in ["2x", "4x", "720p", "1080p", "1440p", "2160p"] {
        assert_eq!(target.parse::<UpscaleTarget>().unwrap().to_string(), target);
    }
    for other in ["", "3x", "0x", "x", "1080", "p", "-2x", "1081p", "2X"] {
        let error = other.parse::<UpscaleTarget>().unwrap_err();
        assert!(error.contains("720p"), "{error}");
    }
    assert_eq!(size("2x", 832, 480), (1664, 960));
    assert_eq!(size("4x", 7, 5), (28, 20));
    assert_eq!(size("720p", 832, 480), (1248, 720));
    assert_eq!(size("1080p", 480, 832), (1080, 1872));
    assert_eq!(size("1080p", 854, 480), (1922, 1080));
    assert_eq!(size("1440p", 512, 512), (1440, 1440));
    assert_eq!(size("720p", 1280, 1088), (1280, 1088), "nothing is made smaller");
}

#[test]
fn writers_crop_and_upscale() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.safetensors");
    let (source, options) = (spec(40, 24, 8), WriteOptions::default());
    let mut lanczos = Lanczos::new(UpscaleTarget::Times(2));
    assert_eq!(lanczos.size(36, 20), (72, 40));
    let inner = create(&path, &spec(72, 40, 8), &options).unwrap();
    let upscaled = Box::new(Upscaled::new(inner, Box::new(lanczos)));
    let mut writer: Box<dyn ClipWriter> = Box::new(Cropped::new(upscaled, 36, 20));
    let frame = shapes(&source, 0);
    writer.push(&frame).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!((written.width, written.height, written.frames), (72, 40, 1));
    let mut middle = Vec::new();
    for (at, &value) in frame.data.iter().enumerate() {
        let (x, y) = (at % 40, at / 40 % 24);
        if (2..38).contains(&x) && (2..22).contains(&y) {
            middle.push(value);
        }
    }
    let expected = lanczos.frame(&Frame::new(36, 20, middle).unwrap()).unwrap();
    assert_eq!(open(&path).unwrap().next_frame().unwrap().unwrap(), expected);
}

#[test]
fn frames_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inner = || create(dir.path().join("clip.webp"), &spec(40, 24, 8), &WriteOptions::default()).unwrap();
    let small = Frame::new(40, 23, vec![0.0; 3 * 40 * 23]).unwrap();
    let error = Cropped::new(inner(), 40, 24).push(&small).unwrap_err();
    assert!(matches!(error, MediaError::FrameSize { index: 0, got: (40, 23), expected: (40, 24) }), "{error}");
    let short = Frame { data: vec![0.0; 5], ..small.clone() };
    let mut lanczos = Lanczos::new(UpscaleTarget::Times(4));
    for error in [Cropped::new(inner(), 4, 4).push(&short).unwrap_err(), lanczos.frame(&short).unwrap_err()] {
        assert!(matches!(error, MediaError::FrameData { got: 5, .. }), "{error}");
    }
    let mut upscaled = Upscaled::new(inner(), Box::new(lanczos));
    assert!(matches!(upscaled.push(&small), Err(MediaError::FrameSize { got: (160, 92), .. })));
    let empty = Frame::new(0, 0, Vec::new()).unwrap();
    assert!(matches!(lanczos.frame(&empty), Err(MediaError::PictureSize { .. })));
    let wide = Frame::new(10_000, 1, vec![0.0; 30_000]).unwrap();
    assert!(matches!(lanczos.frame(&wide), Err(MediaError::PictureSize { .. })));
}

/// A frame at 1080p takes less than writing it does; the bound only catches a loss of all speed.
#[test]
fn upscaling_to_1080p_is_quick() {
    let frame = shapes(&spec(960, 540, 16), 0);
    let mut lanczos = Lanczos::new("1080p".parse().unwrap());
    let start = Instant::now();
    for _ in 0..5 {
        assert_eq!(lanczos.frame(&frame).unwrap().height, 1080);
    }
    let each = start.elapsed() / 5;
    eprintln!("{each:?} a frame");
    assert!(each.as_secs() < 2, "{each:?}");
}
