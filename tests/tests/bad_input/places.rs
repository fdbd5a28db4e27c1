//! Places that cannot be written to, and disks that are full.

use kinora_tests::Run;
use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;

#[test]
fn places_that_cannot_be_written() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write("file", "");
    std::fs::create_dir(sandbox.path("folder.mp4.safetensors")).expect("a folder");
    for clip in ["nowhere/clip.mp4", "file/clip.mp4", "clip.avi", "clip", "/dev/full", "nowhere/frames/%d.png", "file/"]
    {
        t.generate(&sandbox, &["-o", clip]);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/full", sandbox.path("full.mp4")).expect("a link");
        t.generate(&sandbox, &["-o", "full.mp4"]);
    }
    for latents in ["nowhere/latents.safetensors", "file/latents.safetensors", "folder.mp4.safetensors"] {
        t.generate(&sandbox, &["--save-latents", latents]);
    }
    t.generate(&sandbox, &["--resume", "file"]);
    t.generate(&sandbox, &["--resume", "file/run"]);
    sandbox.write_tensor("raw.safetensors", "video", &[1, 3, 32, 32], 0.5);
    t.kinora(&sandbox, &["encode", "raw.safetensors", "--model", "model", "-o", "nowhere/latents.safetensors"]);
    insta::assert_snapshot!(t.0);
}

/// No file may grow: that comes out before the first step.
#[cfg(unix)]
#[test]
fn files_that_may_not_grow() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    let before = sandbox.files();
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    for more in [&["-o", "clip.mp4"][..], &["--resume", "run", "-o", "clip.safetensors"]] {
        let run = sandbox.shell(script, &Sandbox::generate_arguments(more)).output().expect("a shell");
        t.keep(&format!("generate … {}", more.join(" ")), &Run::of(&run));
        assert_eq!(sandbox.files(), before);
    }
    insta::assert_snapshot!(t.0);
}

/// The disk fills up while the clip is written. Only where a user may mount a small disk.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    std::fs::create_dir(sandbox.path("small")).expect("a folder");
    let on_small_disk = |command: &str, arguments: &[&str]| {
        let inner = format!("mount -t tmpfs -o size=100k tmpfs small && {command}");
        let script = format!("unshare -rm sh -c '{inner}' \"$0\" \"$@\"");
        Run::of(&sandbox.shell(&script, arguments).output().expect("a shell"))
    };
    if on_small_disk("true", &[]).status != Some(0) {
        return;
    }
    let more = ["-o", "small/clip.safetensors", "--frames", "17", "--save-latents", "latents.safetensors"];
    t.keep("a clip", &on_small_disk("exec \"$0\" \"$@\"", &Sandbox::generate_arguments(&more)));
    assert!(sandbox.path("latents.safetensors").is_file());
    insta::assert_snapshot!(t.0);
}
