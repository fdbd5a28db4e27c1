//! The program `ffmpeg` as the second reader: a stub that fails in every way, and the real one.

#![cfg(all(unix, not(feature = "ffmpeg")))]
#![allow(clippy::print_stderr, reason = "measured differences are reported")]

#[path = "support/clips.rs"]
mod clips;
mod support;

use clips::{difference_of, ffmpeg, frames_of, read};
use kinora_media::{MediaError, Readers};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{have_ffmpeg, spec};

/// The stub in `tests/fixtures/media/stub`, which does what the clip says.
fn stub() -> Readers {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/media/stub");
    Readers { ffmpeg: Some(folder.join("ffmpeg")) }
}

/// A clip for the stub: a stream of 4×2 pixels with three frames, and what `more` says instead.
fn clip(dir: &Path, more: &str) -> PathBuf {
    let stream = r#"{"index":1,"codec_type":"video","codec_name":"vp9","width":4,"height":2,"pix_fmt":"yuv420p","time_base":"1/1000","r_frame_rate":"8/1"}"#;
    let script = format!(
        r#"stream='{stream}'
describe() {{ printf '{{"program_version":{{"version":"9.9-stub"}},"streams":[%s]}}' "$stream"; }}
packets() {{ printf '0,K_\n125,__\n250,__\n'; }}
header() {{ printf 'YUV4MPEG2 W4 H2 F8:1 Ip C420jpeg\n'; }}
frame() {{ printf 'FRAME\n\20\20\20\20\353\353\353\353\200\200\200\200'; }}
frames() {{ header; frame; frame; frame; }}
{more}
"#
    );
    let path = dir.join("clip");
    fs::write(&path, script).unwrap();
    path
}

fn all(path: &Path) -> kinora_media::Result<usize> {
    Ok(frames_of(stub().open(path)?)?.1.len())
}

#[test]
fn the_program_gives_frames_and_one_notice() {
    let dir = tempfile::tempdir().unwrap();
    let path = clip(dir.path(), "");
    let reader = stub().open(&path).unwrap();
    assert_eq!((reader.frames(), reader.notes()), (Some(3), vec!["read by ffmpeg 9.9-stub".to_owned()]));
    let (spec, frames) = frames_of(reader).unwrap();
    assert_eq!((spec.width, spec.height, spec.fps.to_string(), frames.len()), (4, 2, "8".into(), 3));
    assert_eq!((frames[2].data[0], frames[2].data[4]), (0.0, 1.0));
    // Not asked, it is not used.
    let error = kinora_media::open(&path).err().unwrap();
    assert!(matches!(error, MediaError::Unsupported { .. }) && error.hint().unwrap().contains("on PATH"), "{error}");
}

#[test]
fn a_program_that_fails_is_an_error_and_no_short_clip() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("frames() { header; frame; echo bad >&2; exit 3; }", "after 1 frames, it ended with exit status: 3: bad"),
        ("frames() { header; frame; kill -9 $$; }", "after 1 frames, it ended with signal: 9"),
        ("frames() { header; frame; frame; }", "it gives 2 of 3 frames"),
        ("frames() { header; frame; frame; frame; printf 'FRAME\\nxx'; }", "after 3 frames, its pictures break off"),
        ("frames() { header; frame; printf 'junk'; }", "after 1 frames, what it writes are no pictures"),
        ("frames() { header; }", "it gives 0 of 3 frames"),
        ("frames() { echo hello; }", "what it writes are no pictures"),
        ("frames() { exec yes; }", "what it writes are no pictures"),
        ("frames() { yes | tr -d '\\n'; }", "what it writes are no pictures"),
        ("frames() { :; }", "its pictures break off"),
        ("frames() { exit 1; }", "it ended with exit status: 1"),
        ("header() { printf 'YUV4MPEG2 W99999999 H99999999 C420jpeg\\n'; }", "99999999×99999999 for frames of 4×2"),
        ("header() { printf 'YUV4MPEG2 W99999999999999999999 H2\\n'; }", "no pictures"),
        ("frames() { printf '\\033[2J\\342\\200\\256' >&2; exit 1; }", "exit status: 1: \\u{1b}[2J\\u{202e}"),
        ("packets() { printf '0,K_\\n'; echo early end >&2; }", "ffprobe says: early end"),
        ("packets() { exit 2; }", "it ended with exit status: 2"),
        ("describe() { exec yes; }", "description of it is too long"),
        ("describe() { echo no >&2; exit 1; }", "exit status: 1: no"),
        ("describe() { :; }", "nothing that can be understood"),
        ("describe() { echo '{}'; }", "nothing that can be understood"),
        ("describe() { echo '{\"streams\":[{\"codec_type\":\"audio\"}]}'; }", "it has no video track"),
        ("stream=$(echo \"$stream\" | sed s/yuv420p/gbrp/)", "its pixels are `gbrp`"),
        ("stream=$(echo \"$stream\" | sed 's/\"width\":4/\"width\":99999/')", "not from 1×1 to 8192×8192"),
    ];
    for (more, why) in cases {
        // Those that do not end by themselves are killed.
        let error = all(&clip(dir.path(), more)).unwrap_err();
        assert!(error.to_string().contains(why), "{more}: {error}");
        assert!(error.hint().unwrap().contains("ffmpeg -i "), "{more}: {error}");
    }
    let long = "frames() { header; head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1; }";
    let error = all(&clip(dir.path(), long)).unwrap_err().to_string();
    assert!(error.len() < 600, "{} bytes", error.len());
    // What it complains about does not stop it where nobody listens.
    let noisy = "frames() { header; head -c 1000000 /dev/zero | tr '\\0' '\\n' >&2; frame; frame; frame; }";
    assert_eq!(all(&clip(dir.path(), noisy)).unwrap(), 3);
    let missing = Readers { ffmpeg: Some(dir.path().join("none/ffmpeg")) };
    let error = missing.open(&clip(dir.path(), "")).err().unwrap().to_string();
    assert!(error.contains("none/ffprobe` does not start"), "{error}");
}

#[test]
fn what_the_program_says_of_the_clip_is_refused_or_said() {
    let dir = tempfile::tempdir().unwrap();
    let tagged = |tags: &str| clip(dir.path(), &format!("stream=\"${{stream%?}},\"'{tags}}}'"));
    let notes = |tags: &str| stub().open(&tagged(tags)).unwrap().notes()[1..].join("; ");
    assert!(notes(r#""sample_aspect_ratio":"4:3""#).starts_with("its pixels are 4:3"));
    assert!(notes(r#""color_primaries":"bt2020""#).contains("BT.2020"));
    assert_eq!(notes(r#""tags":{"alpha_mode":"1"}"#), "its transparency is not read");
    assert_eq!(notes(r#""x":0},{"codec_type":"audio""#), "its sound is not read");
    assert_eq!(notes(r#""x":0},{"index":0,"codec_type":"video","disposition":{"attached_pic":1}"#), "");
    let uneven = clip(dir.path(), "packets() { printf '0,K_\\n125,__\\n1250,__\\n'; }");
    assert!(stub().open(&uneven).unwrap().notes()[1].contains("taken at an even 1.6"));
    let refused = |tags: &str| stub().open(&tagged(tags)).err().unwrap();
    for (curve, name) in [("smpte2084", "PQ"), ("arib-std-b67", "HLG")] {
        let error = refused(&format!(r#""color_transfer":"{curve}""#));
        assert!(matches!(error, MediaError::HighDynamicRange { curve, .. } if curve == name), "{error}");
    }
    let error = refused(r#""side_data_list":[{"dv_profile":5}]"#);
    assert!(matches!(error, MediaError::HighDynamicRange { .. }), "{error}");
    let error = refused(r#""field_order":"tt""#);
    assert!(matches!(error, MediaError::Interlaced { .. }) && error.hint().unwrap().contains("bwdif"), "{error}");
    let by_stream = clip(dir.path(), "header() { printf 'YUV4MPEG2 W4 H2 It\\n'; }");
    assert!(matches!(stub().open(&by_stream), Err(MediaError::Interlaced { .. })));
    let version =
        r#"describe() { printf '{"program_version":{"version":"1\\u001b[31m\\u202e"},"streams":[%s]}' "$stream"; }"#;
    assert_eq!(stub().open(&clip(dir.path(), version)).unwrap().notes(), [r"read by ffmpeg 1\u{1b}[31m\u{202e}"]);
}

#[test]
fn a_program_that_hangs_ends_with_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let path = clip(
        dir.path(),
        &format!("frames() {{ header; frame; echo $$ > {}; frame; exec sleep 1000; }}", pid.display()),
    );
    let mut reader = stub().open(&path).unwrap();
    assert!(reader.next_frame().unwrap().is_some() && reader.next_frame().unwrap().is_some());
    drop(reader);
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!Command::new("kill").args(["-0", pid.trim()]).output().unwrap().status.success());
}

/// What is damaged is not made up by another reader.
#[test]
fn damaged_clips_are_not_handed_on() {
    let dir = tempfile::tempdir().unwrap();
    let whole = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/media/h264/main.mp4");
    let bytes = fs::read(whole).unwrap();
    let path = dir.path().join("cut.mp4");
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    assert!(matches!(stub().open(&path), Err(MediaError::Damaged { .. })));
}

/// The real program, found as the command finds it.
fn real() -> Option<Readers> {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join("ffmpeg")).find(|program| program.is_file());
    have_ffmpeg().then(|| Readers { ffmpeg: found })
}

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
        let error = read(&path).unwrap_err();
        assert!(matches!(error, MediaError::Unsupported { .. }), "{name}: {error}");
        assert!(error.to_string().contains(why), "{name}: {error}");
        let reader = real.open(&path).unwrap();
        assert!(reader.notes()[0].starts_with("read by ffmpeg "), "{name}");
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
        let error = real.open(&ffmpeg(dir.path(), name, &spec, 8, fields)).err().unwrap();
        assert!(matches!(error, MediaError::Interlaced { .. }), "{name}: {error}");
    }
    for (trc, curve) in [("arib-std-b67", "HLG"), ("smpte2084", "PQ")] {
        let args =
            format!("-c:v libx264 -pix_fmt yuv420p10le -color_trc {trc} -colorspace bt2020nc -color_primaries bt2020");
        for name in ["hdr.mp4", "hdr.mkv"] {
            let error = real.open(&ffmpeg(dir.path(), name, &spec, 2, &args)).err().unwrap();
            assert!(error.to_string().ends_with(&format!("they are HDR ({curve})")), "{name}: {error}");
        }
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
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("in more than one piece"), "{error}");
    let (frames, largest, _) = difference_of(real.open(&path).unwrap(), &path, ["", ""]);
    assert!(frames == 24 && largest <= 0.6, "{frames} frames, {largest}");
}
