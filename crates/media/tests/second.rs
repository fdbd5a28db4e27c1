//! The program `ffmpeg` as the second reader: a stub that fails in every way, and the real one; or, in builds with them, its
//! libraries.

#![cfg(unix)]
#![allow(clippy::print_stderr, reason = "measured differences are reported")]

#[path = "support/clips.rs"]
mod clips;
mod support;

use clips::{difference_of, ffmpeg, frames_of, read};
use kinora_media::{MediaError, Readers};
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{have_ffmpeg, spec};

/// What a stub in the program's place does; builds with the libraries do not ask it.
#[cfg(not(feature = "ffmpeg"))]
#[path = "second/stub.rs"]
mod stub;

/// The real program, found as the command finds it; builds with the libraries do not use it.
fn real() -> Option<Readers> {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join("ffmpeg")).find(|program| program.is_file());
    have_ffmpeg().then_some(Readers { ffmpeg: found })
}

const BY: &str = if cfg!(feature = "ffmpeg") { "read by FFmpeg's libraries " } else { "read by ffmpeg " };

/// Colours of BT.601, which is what is assumed of a small clip without tags.
fn tag(is_full: bool) -> String {
    let range = if is_full { "pc" } else { "tv" };
    format!("-vf scale=out_color_matrix=bt601:out_range={range} -colorspace smpte170m -color_range {range}")
}

/// A filter for `ffmpeg`, which assumes nothing.
const UNTAGGED: &str = "setparams=colorspace=smpte170m:range=tv,";

/// What the embedded reader does not support, with its reason, is read by the program as the program decodes it.
#[test]
fn other_codings_are_what_ffmpeg_decodes() {
    let Some(real) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("hevc.mp4", "-c:v libx265 -x265-params log-level=none -tag:v hvc1 -pix_fmt yuv420p", "its video is hvc1"),
        ("hevc10.mkv", "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p10le", "Matroska"),
        ("444.mp4", "-c:v libx264 -pix_fmt yuv444p", "4:4:4, not 4:2:0"),
        ("422.mp4", "-c:v libx264 -pix_fmt yuv422p10le", "4:2:2, not 4:2:0"),
        ("10bit.mp4", "-c:v libx264 -pix_fmt yuv420p10le", "10 bits"),
        ("lossless.mp4", "-c:v libx264 -qp 0 -pix_fmt yuv444p", "4:4:4, not 4:2:0"),
        ("full.mkv", "-c:v libx264 -pix_fmt yuv420p -color_range pc", "Matroska"),
        ("mpeg4.mp4", "-c:v mpeg4", "its video is mp4v"),
        ("prores.mov", "-c:v prores_ks -profile:v 3 -pix_fmt yuv422p10le", "its video is apch"),
        ("vp9.webm", "-c:v libvpx-vp9 -pix_fmt yuv420p -lag-in-frames 16 -auto-alt-ref 1", "Matroska"),
        ("vp8.webm", "-c:v libvpx -pix_fmt yuv420p -lag-in-frames 16 -auto-alt-ref 1", "Matroska"),
        ("av1.mp4", "-c:v libaom-av1 -cpu-used 8 -row-mt 1 -pix_fmt yuv420p", "its video is av01"),
        ("clip.mkv", "-c:v libx264 -bf 3 -pix_fmt yuv420p", "Matroska"),
        ("grey.mkv", "-c:v ffv1 -pix_fmt gray", "Matroska"),
        ("packed.avi", "-c:v rawvideo -pix_fmt uyvy422", "AVI"),
        ("xvid.avi", "-c:v mpeg4 -bf 2", "AVI"),
        ("clip.ts", "-c:v libx264 -bf 3 -pix_fmt yuv420p", "transport stream"),
        ("clip.h264", "-c:v libx264 -bf 3 -pix_fmt yuv420p", "Annex B"),
        ("clip.hevc", "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p", "Annex B"),
    ];
    for (name, args, why) in cases {
        let spec = spec(96, 64, 25);
        let path = ffmpeg(dir.path(), name, &spec, 10, &format!("{args} {}", tag(args.contains("pc"))));
        if !cfg!(feature = "ffmpeg") {
            let error = read(&path).unwrap_err();
            assert!(matches!(error, MediaError::Unsupported { .. }), "{name}: {error}");
            assert!(error.to_string().contains(why), "{name}: {error}");
        }
        let reader = real.open(&path).unwrap();
        assert!(reader.notes()[0].starts_with(BY), "{name}");
        assert_eq!((reader.notes().len(), reader.spec()), (1, spec), "{name}: {:?}", reader.notes());
        let (frames, largest, mean) = match name {
            "grey.mkv" => (frames_of(reader).unwrap().1.len(), 0.0, 0.0),
            // These formats have no room for the matrix.
            "packed.avi" | "xvid.avi" | "vp8.webm" | "mpeg4.mp4" | "prores.mov" => {
                difference_of(reader, &path, [UNTAGGED, ""])
            }
            _ => difference_of(reader, &path, ["", ""]),
        };
        eprintln!("{name}: {frames} frames, largest difference {largest:.1}, mean {mean:.3}");
        // Rounding to 8 bits, and of chroma at more than 8.
        assert!(frames == 10 && largest <= 1.1, "{name}: {frames} frames, {largest:.1}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one case after another, each of a few lines")]
fn what_ffmpeg_reads_is_turned_cut_and_refused_as_the_rest() {
    let Some(real) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(96, 64, 24);
    let copy = |from: &Path, name: &str, before: &str, after: &str| {
        let path = dir.path().join(name);
        let command = format!("-v error -y {before} -i {} -c copy {after} {}", from.display(), path.display());
        assert!(Command::new("ffmpeg").args(command.split_whitespace()).status().unwrap().success());
        path
    };
    let hevc = "-c:v libx265 -x265-params log-level=none:keyint=12 -tag:v hvc1 -pix_fmt yuv420p";
    let whole = ffmpeg(dir.path(), "whole.mp4", &spec, 48, &format!("{hevc} {}", tag(false)));
    let turned = copy(&whole, "turned.mp4", "", "-metadata:s:v rotate=90");
    let reader = real.open(&turned).unwrap();
    assert_eq!((reader.spec().width, reader.spec().height), (64, 96));
    let (frames, largest, _) = difference_of(reader, &turned, ["", ",transpose=cclock"]);
    assert!(frames == 48 && largest <= 0.6, "{frames} frames, {largest}");
    let cut = copy(&whole, "cut.mp4", "-ss 1.2", "");
    let (frames, largest, _) = difference_of(real.open(&cut).unwrap(), &cut, ["", ""]);
    assert!((16..=20).contains(&frames) && largest <= 0.6, "{frames} frames, {largest}");
    // Times that no even speed has, of which several round to one tick.
    let uneven = "-vf settb=1/90000,setpts='N*3000+if(eq(mod(N\\,5)\\,0)\\,2200\\,0)' -fps_mode passthrough -enc_time_base 1/90000";
    let uneven = ffmpeg(dir.path(), "uneven.mp4", &spec, 48, &format!("{hevc} {uneven}"));
    let reader = real.open(&uneven).unwrap();
    assert!(reader.notes()[1].contains("at an even"), "{:?}", reader.notes());
    assert_eq!(frames_of(reader).unwrap().1.len(), 48);
    let fields = "-c:v libx264 -pix_fmt yuv420p -flags +ildct+ilme -x264-params tff=1";
    for name in ["fields.mp4", "fields.mkv"] {
        let error = real.open(ffmpeg(dir.path(), name, &spec, 8, fields)).err().unwrap();
        assert!(matches!(error, MediaError::Interlaced { .. }), "{name}: {error}");
    }
    for (trc, curve) in [("arib-std-b67", "HLG"), ("smpte2084", "PQ")] {
        let args =
            format!("-c:v libx264 -pix_fmt yuv420p10le -color_trc {trc} -colorspace bt2020nc -color_primaries bt2020");
        for name in ["hdr.mp4", "hdr.mkv"] {
            let error = real.open(ffmpeg(dir.path(), name, &spec, 2, &args)).err().unwrap();
            assert!(error.to_string().ends_with(&format!("they are HDR ({curve})")), "{name}: {error}");
        }
    }
    let loud = ffmpeg(
        dir.path(),
        "loud.mkv",
        &spec,
        12,
        "-f lavfi -i sine=d=0.5 -c:v libx264 -pix_fmt yuv420p -vf setsar=2 -c:a aac",
    );
    let loud = real.open(&loud).unwrap();
    let notes = loud.notes();
    assert!(notes[1].starts_with("its pixels are 2:1") && notes.len() == 2 && loud.sound().is_some(), "{notes:?}");
    if cfg!(feature = "ffmpeg") {
        return; // the rest is about the program
    }
    let text = dir.path().join("text.mp4");
    fs::write(&text, "this is a text, and no clip at all").unwrap();
    let error = real.open(&text).err().unwrap();
    assert!(error.to_string().contains("it is no MP4 file, and ffprobe cannot read it"), "{error}");
    // A playlist names other files.
    fs::write(&text, "ffconcat version 1.0\nfile whole.mp4\n").unwrap();
    assert!(real.open(&text).is_err());
    let short = dir.path().join("short.mkv");
    let bytes = fs::read(copy(&whole, "whole.mkv", "", "")).unwrap();
    fs::write(&short, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let error = real.open(&short).err().unwrap();
    assert!(matches!(error, MediaError::Ffmpeg { .. }) && error.to_string().contains("ended prematurely"), "{error}");
}

/// A second entry in the edit list of an MP4 whose index lies at its end.
#[test]
fn clips_of_several_pieces_are_read_by_ffmpeg() {
    let Some(real) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(96, 64, 24);
    let path =
        ffmpeg(dir.path(), "clip.mp4", &spec, 48, &format!("-c:v libx264 -bf 0 -g 8 -pix_fmt yuv420p {}", tag(false)));
    let mut bytes = fs::read(&path).unwrap();
    let place = |bytes: &[u8], name: &[u8]| bytes.windows(4).position(|four| four == name).unwrap();
    let list = place(&bytes, b"elst");
    let entry = |duration: u32, time: u32| [duration.to_be_bytes(), time.to_be_bytes(), [0, 1, 0, 0]].concat();
    bytes[list + 11] = 2;
    // Half a second from the start, half a second from the second second: 12 frames of 512 ticks each.
    let both = [entry(500, 0), entry(500, 24 * 512)].concat();
    bytes.splice(list + 12..list + 24, both);
    for name in [b"elst", b"edts", b"trak", b"moov"] {
        let at = place(&bytes, name) - 4;
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) + 12;
        bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }
    fs::write(&path, bytes).unwrap();
    if !cfg!(feature = "ffmpeg") {
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("in more than one piece"), "{error}");
    }
    let (frames, largest, _) = difference_of(real.open(&path).unwrap(), &path, ["", ""]);
    assert!(frames == 24 && largest <= 0.6, "{frames} frames, {largest}");
}
