//! MP4 files as ffprobe and ffmpeg see them, for every software encoder of the build.

#![allow(clippy::print_stderr, reason = "measured quality is reported")]

mod support;

use kinora_media::{ClipSpec, Fps, Frame, MediaError, WriteOptions, create, encoders, read_recipe};
use std::time::Instant;
use support::{Probe, bits_per_pixel, decode, flat, have_ffmpeg, luma_psnr, shapes, spec, write_shapes};

const RECIPE: &str = r#"{"prompt":"a \"red\" ball — 红球","seed":7,"steps":[1,2]}"#;

fn software_encoders() -> Vec<String> {
    let software = ["openh264", "libx264", "libx265", "libsvtav1", "libaom-av1"];
    encoders().into_iter().filter(|name| software.contains(&name.as_str())).collect()
}

fn with(encoder: &str) -> WriteOptions {
    WriteOptions { recipe: Some(RECIPE.into()), encoder: Some(encoder.into()), quality: None }
}

#[test]
fn clips_keep_frames_size_speed_colour_quality_and_recipe() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for encoder in software_encoders() {
        for (width, height, frames, fps) in [(144, 80, 17, 16), (640, 360, 49, 24)] {
            let spec = spec(width, height, fps);
            let path = dir.path().join(format!("{encoder}_{width}.mp4"));
            let start = Instant::now();
            let written = write_shapes(&path, &spec, frames, &with(&encoder));
            let seconds = start.elapsed().as_secs_f64();
            assert_eq!((written.frames, written.width, written.height), (frames as u64, width, height));
            assert_eq!(written.bytes, path.metadata().unwrap().len());
            assert!(written.notes.is_empty(), "{:?}", written.notes);
            check_tags(&Probe::of(&path), frames, width, height, &fps.to_string());
            assert_eq!(read_recipe(&path).unwrap().as_deref(), Some(RECIPE), "{encoder}");
            let raw: Vec<Frame> = (0..frames).map(|index| shapes(&spec, index)).collect();
            let (psnr, bits) = (luma_psnr(&path, &spec, &raw), bits_per_pixel(&written));
            eprintln!("{encoder} {width}x{height}x{frames}: {psnr:.2} dB, {bits:.3} bits per pixel, {seconds:.2} s");
            assert!(psnr >= 38.0, "{encoder} {width}x{height}: {psnr:.2} dB");
        }
    }
}

fn check_tags(probe: &Probe, frames: usize, width: usize, height: usize, fps: &str) {
    let expected = [
        ("nb_read_frames", frames.to_string()),
        ("nb_frames", frames.to_string()),
        ("width", width.to_string()),
        ("height", height.to_string()),
        ("pix_fmt", "yuv420p".into()),
        ("color_range", "tv".into()),
        ("color_space", "bt709".into()),
        ("color_primaries", "bt709".into()),
        ("color_transfer", "bt709".into()),
        ("r_frame_rate", format!("{fps}/1")),
        ("avg_frame_rate", format!("{fps}/1")),
        ("start_time", "0.000000".into()),
        ("TAG:comment", RECIPE.into()),
    ];
    for (key, value) in expected {
        assert_eq!(probe.get(key), value, "{key}");
    }
    let (duration, seconds) = (probe.get("duration").parse::<f64>().unwrap(), fps.parse::<f64>().unwrap());
    assert!((duration - frames as f64 / seconds).abs() < 1e-3, "duration {duration}");
}

#[test]
fn odd_sizes_are_rounded_up_and_said() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for encoder in software_encoders() {
        let spec = spec(107, 81, 8);
        let path = dir.path().join(format!("{encoder}.mp4"));
        let written = write_shapes(&path, &spec, 3, &with(&encoder));
        assert_eq!((written.width, written.height), (108, 82));
        assert!(written.notes[0].contains("107×81 is stored as 108×82"), "{:?}", written.notes);
        let probe = Probe::of(&path);
        assert_eq!((probe.get("width"), probe.get("height"), probe.get("nb_read_frames")), ("108", "82", "3"));
    }
}

#[test]
fn one_frame_and_the_largest_frame() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for encoder in software_encoders() {
        for (width, height) in [(64, 64), (4096, 2304)] {
            let spec = spec(width, height, 24);
            let path = dir.path().join(format!("{encoder}_{width}.mp4"));
            let written = write_shapes(&path, &spec, 1, &with(&encoder));
            assert_eq!(written.frames, 1);
            check_tags(&Probe::of(&path), 1, width, height, "24");
        }
    }
    let probe = Probe::of(&dir.path().join("openh264_4096.mp4"));
    assert_eq!((probe.get("level"), probe.get("profile")), ("51", "Constrained Baseline"));
}

#[test]
fn colours_survive_the_way_through_yuv() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for encoder in software_encoders() {
        for (index, rgb) in [[0.9, 0.1, 0.1], [0.1, 0.8, 0.3], [0.2, 0.2, 0.9], [1.0, 1.0, 1.0]].into_iter().enumerate()
        {
            let spec = spec(64, 64, 8);
            let path = dir.path().join(format!("{encoder}_{index}.mp4"));
            let mut writer = create(&path, &spec, &with(&encoder)).unwrap();
            writer.push(&flat(&spec, rgb)).unwrap();
            writer.finish().unwrap();
            // The tags alone tell ffmpeg which matrix and range to undo.
            let centre = decode(&path, "rgb24")[(32 * 64 + 32) * 3..][..3].to_vec();
            for (got, wanted) in centre.iter().zip(rgb) {
                let error = f32::from(*got) - wanted * 255.0;
                assert!(error.abs() <= 3.0, "{encoder}: {centre:?} for {rgb:?}");
            }
        }
    }
}

#[test]
fn speeds_are_exact_and_keyframes_come_every_two_seconds() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for encoder in software_encoders() {
        for (fps, ratio) in [(23.976, "24000/1001"), (12.5, "25/2"), (0.5, "1/2"), (120.0, "120/1")] {
            let fps = Fps::from_f64(fps).unwrap();
            let path = dir.path().join(format!("{encoder}_{}.mp4", fps.num()));
            write_shapes(&path, &ClipSpec { width: 64, height: 64, fps }, 9, &with(&encoder));
            assert_eq!(Probe::of(&path).get("avg_frame_rate"), ratio, "{encoder}");
        }
        let path = dir.path().join(format!("{encoder}.mp4"));
        write_shapes(&path, &spec(64, 64, 4), 20, &with(&encoder));
        assert_eq!(keyframes(&path), [0, 8, 16], "{encoder}");
    }
}

fn keyframes(path: &std::path::Path) -> Vec<usize> {
    let args = ["-v", "error", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"];
    let output = std::process::Command::new("ffprobe").args(args).arg(path).output().unwrap();
    let packets = String::from_utf8(output.stdout).unwrap();
    let mut packets: Vec<(f64, bool)> = packets
        .lines()
        .filter_map(|line| line.split_once(','))
        .map(|(time, flags)| (time.parse().unwrap(), flags.starts_with('K')))
        .collect();
    packets.sort_by(|a, b| a.0.total_cmp(&b.0));
    (0..packets.len()).filter(|&index| packets[index].1).collect()
}

/// Noise is the most that a frame can hold: every frame must come out, at every quality, and be good at the usual one.
#[test]
fn noise_is_encoded_at_every_quality() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(176, 144, 24);
    let frames = [noise(&spec, 1, f32::round), noise(&spec, 2, |x| x), noise(&spec, 3, f32::round)];
    for encoder in software_encoders() {
        let mut best = f64::INFINITY;
        for quality in [Some(0), Some(10), None, Some(51)] {
            let path = dir.path().join(format!("{encoder}_{quality:?}.mp4"));
            let mut writer = create(&path, &spec, &WriteOptions { quality, ..with(&encoder) }).unwrap();
            for frame in &frames {
                writer.push(frame).unwrap();
            }
            let written = writer.finish().unwrap();
            assert_eq!(written.frames, 3);
            if have_ffmpeg() {
                let (psnr, bits) = (luma_psnr(&path, &spec, &frames), bits_per_pixel(&written));
                eprintln!("{encoder} noise at quality {quality:?}: {psnr:.2} dB, {bits:.3} bits per pixel");
                // A CRF is not a bound: the encoders that have one spend less where nobody looks.
                assert!(quality.is_some() || encoder != "openh264" || psnr >= 38.0, "{encoder} noise: {psnr:.2} dB");
                assert!(
                    psnr <= best,
                    "{encoder} noise: {psnr:.2} dB at {quality:?} after {best:.2} dB at a better one"
                );
                best = psnr;
            }
        }
    }
}

fn noise(spec: &ClipSpec, seed: u32, shape: impl Fn(f32) -> f32) -> Frame {
    let mut state = seed;
    let mut frame = flat(spec, [0.0; 3]);
    for value in &mut frame.data {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = shape((state >> 8) as f32 / (1 << 24) as f32);
    }
    frame
}

#[test]
fn the_same_clip_is_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = ["a.mp4", "b.mp4"].map(|name| {
        let path = dir.path().join(name);
        write_shapes(&path, &spec(96, 64, 16), 5, &with("openh264"));
        std::fs::read(path).unwrap()
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn what_h264_cannot_hold_is_refused_before_the_first_frame() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    for (width, height) in [(8, 64), (64, 15), (4112, 64), (4096, 2320)] {
        let error = create(&path, &spec(width, height, 16), &with("openh264")).err().unwrap();
        assert!(matches!(error, MediaError::Size { format: "H.264", .. }), "{error}");
    }
    assert!(create(&path, &spec(2304, 4096, 16), &with("openh264")).is_ok());
    let quality = WriteOptions { quality: Some(52), ..with("openh264") };
    assert!(matches!(create(&path, &spec(64, 64, 16), &quality), Err(MediaError::Quality { given: 52, .. })));
    let error = create(&path, &spec(64, 64, 16), &with("divx")).err().unwrap();
    assert_eq!(error.to_string(), "there is no encoder `divx` in this build");
    assert!(error.hint().is_some());
}

/// Players on the web start before the whole file is there.
#[test]
fn the_index_comes_before_the_samples() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let (spec, options) = (spec(320, 240, 16), WriteOptions { quality: Some(10), ..with("openh264") });
    write_shapes(&path, &spec, 60, &options);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 1 << 20, "{} bytes are moved in one part", bytes.len());
    let place = |name: &[u8; 4]| bytes.windows(4).position(|four| four == name).unwrap();
    assert!(place(b"ftyp") < place(b"moov") && place(b"moov") < place(b"mdat"));
    let mut clip = kinora_media::open(&path).unwrap();
    let mut count = 0;
    while clip.next_frame().unwrap().is_some() {
        count += 1;
    }
    assert_eq!((count, read_recipe(&path).unwrap().as_deref()), (60, Some(RECIPE)));
}

/// Sample data must leave memory as frames come: the file grows while the clip is written.
#[test]
fn samples_go_to_disk_as_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(320, 240, 16);
    let options = WriteOptions { quality: Some(10), ..with("openh264") };
    let mut writer = create(dir.path().join("clip.mp4"), &spec, &options).unwrap();
    let size = || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    for index in 0..40 {
        writer.push(&shapes(&spec, index)).unwrap();
    }
    let size: u64 = size();
    assert!(size > 200_000, "{size} bytes after 40 frames");
}
