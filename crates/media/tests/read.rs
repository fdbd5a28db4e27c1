//! Clips read back: our own, those of x264 by way of the ffmpeg program, and files that are no clips at all.

#![allow(clippy::print_stderr, reason = "measured differences are reported")]

#[path = "support/clips.rs"]
mod clips;
mod support;

use clips::{TAGGED, difference, ffmpeg, psnr, read, smooth};
use kinora_media::{ClipSpec, Fps, Frame, MediaError, WriteOptions, create, open};
use std::process::Command;
use support::{have_ffmpeg, spec};

#[test]
fn our_own_clips_come_back() {
    let dir = tempfile::tempdir().unwrap();
    for (width, height, fps) in [(144, 80, (16, 1)), (130, 74, (24000, 1001)), (64, 64, (25, 2)), (48, 32, (1, 2))] {
        let spec = ClipSpec { width, height, fps: Fps::new(fps.0, fps.1).unwrap() };
        let path = dir.path().join(format!("{width}.mp4"));
        let mut writer = create(&path, &spec, &WriteOptions::default()).unwrap();
        let frames: Vec<Frame> = (0..37).map(|index| smooth(&spec, index)).collect();
        for frame in &frames {
            writer.push(frame).unwrap();
        }
        writer.finish().unwrap();
        let (got, back) = read(&path).unwrap();
        assert_eq!(got, spec);
        assert_eq!(back.len(), frames.len());
        let worst = frames.iter().zip(&back).map(|(a, b)| psnr(a, b)).fold(f64::INFINITY, f64::min);
        eprintln!("{width}x{height} at {}: {worst:.2} dB", spec.fps);
        assert!(worst >= 35.0, "{worst:.2} dB");
    }
}

#[test]
fn odd_sizes_come_back_even() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, path) = (spec(107, 81, 8), dir.path().join("clip.mp4"));
    let mut writer = create(&path, &spec, &WriteOptions::default()).unwrap();
    writer.push(&smooth(&spec, 0)).unwrap();
    writer.finish().unwrap();
    let (got, back) = read(&path).unwrap();
    assert_eq!((got.width, got.height, got.fps, back.len()), (108, 82, spec.fps, 1));
}

#[test]
fn raw_frames_come_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ClipSpec { width: 5, height: 3, fps: Fps::new(30000, 1001).unwrap() };
    let path = dir.path().join("clip.safetensors");
    let mut writer = create(&path, &spec, &WriteOptions::default()).unwrap();
    let frames: Vec<Frame> = (0..7).map(|index| smooth(&spec, index)).collect();
    for frame in &frames {
        writer.push(frame).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(read(&path).unwrap(), (spec, frames));
}

/// x264's usual settings and its extremes; a frame in the wrong place would differ by tens of codes.
#[test]
fn clips_of_x264_are_what_ffmpeg_decodes() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("baseline", 20, "-profile:v baseline"),
        ("main", 20, "-profile:v main -bf 0"),
        ("high", 130, "-preset veryslow -bf 0 -g 250"),
        ("slices", 30, "-bf 0 -x264-params slices=4:aud=1:nal-hrd=vbr:vbv-maxrate=2000:vbv-bufsize=2000"),
        ("matrices", 20, "-bf 0 -x264-params cqm=jvt:cabac=0:keyint=4:constrained-intra=1"),
        ("headers", 20, "-bf 0 -x264-params repeat-headers=1:intra-refresh=1"),
        ("one", 1, ""),
        ("bframes", 60, "-bf 8 -b_strategy 0 -x264-params b-pyramid=strict:ref=6:keyint=20"),
        ("temporal", 40, "-bf 3 -x264-params direct=temporal:cabac=0:no-8x8dct=1:open-gop=1"),
    ];
    for (name, count, args) in cases {
        let spec = ClipSpec { width: 178, height: 98, fps: Fps::new(24000, 1001).unwrap() };
        let args = format!("-c:v libx264 {args} {TAGGED}");
        let path = ffmpeg(dir.path(), &format!("{name}.mp4"), &spec, count, &args);
        let (frames, largest, mean) = difference(&path, "");
        eprintln!("{name}: {frames} frames, largest difference {largest:.1}, mean {mean:.3}");
        assert_eq!((frames, open(&path).unwrap().spec()), (count, spec), "{name}");
        assert!(largest <= 0.6, "{name}: {largest:.1}");
    }
}

#[test]
fn colours_follow_the_tags() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tag = |matrix: &str, range: &str| {
        format!(
            "-c:v libx264 -qp 4 -pix_fmt yuv420p -vf scale=out_color_matrix={matrix}:out_range={range} -color_range {range}"
        )
    };
    let cases = [
        ("bt709", tag("bt709", "tv") + " -colorspace bt709", (64, 64)),
        ("bt601", tag("bt601", "tv") + " -colorspace smpte170m", (64, 64)),
        ("full", tag("bt709", "pc") + " -colorspace bt709", (64, 64)),
        (
            "box",
            tag("bt709", "tv") + " -colorspace bt709 -bsf:v h264_metadata=matrix_coefficients=2 -movflags +write_colr",
            (64, 64),
        ),
        ("small", tag("bt601", "tv"), (64, 64)),
        ("large", tag("bt709", "tv"), (64, 720)),
    ];
    for (name, args, (width, height)) in cases {
        let spec = spec(width, height, 8);
        let path = ffmpeg(dir.path(), &format!("{name}.mp4"), &spec, 2, &args);
        let (_, frames) = read(&path).unwrap();
        // The wrong matrix or range leaves less than 35 dB.
        let psnr = psnr(&smooth(&spec, 1), &frames[1]);
        eprintln!("{name}: {psnr:.2} dB");
        assert!(psnr >= 42.0, "{name}: {psnr:.2} dB");
    }
}

#[test]
fn edits_turns_and_timescales_are_followed() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(96, 64, 24);
    let whole = ffmpeg(dir.path(), "whole.mp4", &spec, 60, &format!("-c:v libx264 -bf 0 -g 24 {TAGGED}"));
    let copy = |name: &str, before: &str, after: &str| {
        let path = dir.path().join(name);
        let command = format!("-v error {before} -i {} -c copy {after} {}", whole.display(), path.display());
        assert!(Command::new("ffmpeg").args(command.split_whitespace()).status().unwrap().success());
        path
    };
    // Starts within a group of pictures: the frames before are decoded but not shown.
    let cut = copy("cut.mp4", "-ss 1.5", "");
    let (frames, largest, _) = difference(&cut, "");
    assert!((20..=24).contains(&frames) && largest <= 0.6, "{frames} frames, {largest}");
    let turned = copy("turned.mp4", "", "-metadata:s:v rotate=90");
    let size = open(&turned).unwrap().spec();
    assert_eq!((size.width, size.height), (64, 96));
    let (frames, largest, _) = difference(&turned, ",transpose=cclock");
    assert!(frames == 60 && largest <= 0.6, "{frames} frames, {largest}");
    // Times in milliseconds: frames last 41 or 42 ticks.
    let coarse = copy("coarse.mp4", "", "-video_track_timescale 1000");
    assert_eq!(open(&coarse).unwrap().spec().fps, spec.fps);
    let quick = copy("front.mp4", "", "-movflags +faststart");
    assert_eq!(difference(&quick, "").0, 60);
}

/// Beyond the largest level of H.264 that the embedded decoder knows.
#[test]
fn frames_too_large_for_the_decoder_are_refused_at_once() {
    if !have_ffmpeg() || cfg!(feature = "ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.mp4");
    let args =
        "-v error -f lavfi -i color=s=4112x2416:r=24 -frames:v 1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    assert!(Command::new("ffmpeg").args(args.split_whitespace()).arg(&path).status().unwrap().success());
    let error = open(&path).err().unwrap().to_string();
    assert!(error.contains("4112×2416 are larger than 4096×2304"), "{error}");
}

/// What the embedded reader does not follow is said or refused.
#[test]
fn what_is_not_followed_is_said() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, args: &str| {
        let path = dir.path().join(name);
        let coding = "-pix_fmt yuv420p -c:v libx264";
        let command = format!("-v error -f lavfi -i testsrc2=s=96x64:r=24:d=1 {args} {coding}");
        let mut ffmpeg = Command::new("ffmpeg");
        assert!(ffmpeg.args(command.split_whitespace()).arg(&path).status().unwrap().success(), "{name}");
        path
    };
    let notes = |name: &str, args: &str| open(make(name, args)).unwrap().notes().join("; ");
    assert_eq!(notes("plain.mp4", ""), "");
    let loud = open(make("sound.mp4", "-f lavfi -i sine=d=1 -c:a aac")).unwrap();
    assert!(loud.notes().is_empty() && loud.sound().is_some(), "{:?}", loud.notes());
    let gap = notes("gap.mp4", "-vf select='not(between(n\\,8\\,13))' -fps_mode vfr");
    assert_eq!(gap, "its frames are shown at 3.429 to 24.000 per second: they are taken at an even 17.739");
    assert!(notes("wide.mp4", "-vf setsar=2").starts_with("its pixels are 2:1 and taken as square"));
    for (name, curve) in [("arib-std-b67", "HLG"), ("smpte2084", "PQ")] {
        let args = format!("-color_trc {name} -colorspace bt2020nc -color_primaries bt2020");
        let error = open(make(&format!("{curve}.mp4"), &args)).err().unwrap();
        assert!(error.to_string().ends_with(&format!("they are HDR ({curve})")), "{error}");
        assert!(error.hint().unwrap().contains("tonemap"), "{error}");
    }
}

/// A picture, and a track that is turned off, come before the video; of two videos one is read.
#[test]
fn the_video_among_the_tracks_is_read() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(96, 64, 24);
    let video = ffmpeg(dir.path(), "video.mp4", &spec, 12, &format!("-c:v libx264 {TAGGED}"));
    let make = |name: &str, seconds: f64, args: &str| {
        let path = dir.path().join(name);
        let input = format!("-v error -y -f lavfi -i testsrc2=s=32x32:r=24:d={seconds} -i {} {args}", video.display());
        assert!(Command::new("ffmpeg").args(input.split_whitespace()).arg(&path).status().unwrap().success());
        path
    };
    let cover = make("cover.mp4", 0.04, "-map 0:v -map 1:v -c:v:0 mjpeg -c:v:1 copy");
    let two = make(
        "two.mp4",
        1.0,
        "-map 0:v -map 1:v -c:v:0 libx264 -pix_fmt yuv420p -c:v:1 copy -disposition:v:0 default -disposition:v:1 default",
    );
    assert_eq!((read(&cover).unwrap().1.len(), read(&cover).unwrap().0), (12, spec));
    let clip = open(&two).unwrap();
    assert_eq!((clip.spec().width, clip.notes()), (32, vec!["it has 2 video tracks: one is read".to_owned()]));
    let mut bytes = std::fs::read(&two).unwrap();
    let header = bytes.windows(4).position(|four| four == b"tkhd").unwrap();
    bytes[header + 7] &= !1;
    std::fs::write(&two, bytes).unwrap();
    let clip = open(&two).unwrap();
    assert_eq!((clip.spec().width, clip.notes().len()), (96, 0));
}

#[test]
fn files_without_frames_are_errors_with_hints() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    let tensor = |shape: &str, len: u64| {
        header(&format!(r#"{{"video":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{len}]}}}}"#))
    };
    let mut cases = vec![
        file("empty.mp4", b""),
        file("text.mp4", b"this is a text, and no clip at all"),
        file("short.mp4", b"\0\0\0\x10ftypisom"),
        file("index.mp4", b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov"),
        file("huge.mp4", b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x01moov\0\0\x7f\xff\xff\xff\xff\xff"),
        file("empty.safetensors", b""),
        file("short.safetensors", &[0; 7]),
        file("long.safetensors", &u64::MAX.to_le_bytes()),
        file("json.safetensors", &header("{]")),
        file("none.safetensors", &header("{}")),
        file("zero.safetensors", &tensor("[0,3,4,4]", 0)),
        file("cut.safetensors", &tensor("[1,3,4,4]", 192)),
        file("large.safetensors", &tensor("[9223372036854775807,3,4,4]", 192)),
        file("shape.safetensors", &[tensor("[1,4,1,1]", 16), vec![0; 16]].concat()),
        file("values.safetensors", &[tensor("[1,3,1,1]", 12), vec![0xff; 12]].concat()),
    ];
    if have_ffmpeg() {
        let path = dir.path().join("sound.mp4");
        let args = "-v error -f lavfi -i sine=duration=0.2 -c:a aac";
        assert!(Command::new("ffmpeg").args(args.split_whitespace()).arg(&path).status().unwrap().success());
        cases.push(path);
    }
    for path in cases {
        let error = read(&path).unwrap_err();
        assert!(error.hint().is_some(), "{}: {error} has no hint", path.display());
    }
    assert!(matches!(open(dir.path().join("missing.mp4")), Err(MediaError::Io { .. })));
    assert!(open(dir.path()).is_err());
}
