//! A stub in the place of `ffmpeg` and `ffprobe`, which fails in every way.

use crate::clips::frames_of;
use kinora_media::{MediaError, Readers};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    assert!(
        matches!(error, MediaError::Unsupported { .. }) && error.hint().unwrap().contains("are installed"),
        "{error}"
    );
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
    let error = missing.open(clip(dir.path(), "")).err().unwrap().to_string();
    assert!(error.contains("none/ffprobe` does not start"), "{error}");
}

#[test]
fn what_the_program_says_of_the_clip_is_refused_or_said() {
    let dir = tempfile::tempdir().unwrap();
    let tagged = |tags: &str| clip(dir.path(), &format!("stream=\"${{stream%?}},\"'{tags}}}'"));
    let notes = |tags: &str| stub().open(tagged(tags)).unwrap().notes()[1..].join("; ");
    assert!(notes(r#""sample_aspect_ratio":"4:3""#).starts_with("its pixels are 4:3"));
    assert!(notes(r#""color_primaries":"bt2020""#).contains("BT.2020"));
    assert_eq!(notes(r#""tags":{"alpha_mode":"1"}"#), "its transparency is not read");
    assert_eq!(notes(r#""x":0},{"codec_type":"audio""#), "its sound is not read");
    assert_eq!(notes(r#""x":0},{"index":0,"codec_type":"video","disposition":{"attached_pic":1}"#), "");
    let uneven = clip(dir.path(), "packets() { printf '0,K_\\n125,__\\n1250,__\\n'; }");
    assert!(stub().open(&uneven).unwrap().notes()[1].contains("taken at an even 1.6"));
    let refused = |tags: &str| stub().open(tagged(tags)).err().unwrap();
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
    assert_eq!(stub().open(clip(dir.path(), version)).unwrap().notes(), [r"read by ffmpeg 1\u{1b}[31m\u{202e}"]);
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
