//! A disk that is full at any moment of a run.

use super::{Task, extend, generate, has_small_disks, story, succeeded, tensors};
use kinora_tests::Run;

/// KiB of the disks.
const SIZES: &[u64] = &[4, 8, 12, 20, 32, 48, 68, 72, 80, 100, 130, 170];

impl Task {
    /// Runs the command with files of it on a disk of each of the sizes; `moved` are their names here and there.
    fn survives_full_disks(&self, moved: &[(&'static str, &'static str)], more: &[&'static str]) {
        let own = self.arguments.iter().copied().chain(more.iter().copied());
        let arguments: Vec<&str> =
            own.map(|word| moved.iter().find(|(name, _)| *name == word).map_or(word, |(_, there)| there)).collect();
        let arguments = arguments.as_slice();
        let before = self.sandbox.files();
        let clean = || {
            for name in self.sandbox.files().difference(&before) {
                let path = self.sandbox.path(name);
                let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            }
        };
        std::fs::create_dir_all(self.sandbox.path("small")).expect("a folder");
        let on_disk = |size: u64| {
            let inner = format!(
                "mount -t tmpfs -o size={size}k tmpfs small; \"$0\" \"$@\"; status=$?; \
                 ls -A small >listing; cp small/*.safetensors got 2>/dev/null; exit $status"
            );
            let script = format!("exec unshare -rm sh -c '{inner}' \"$0\" \"$@\"");
            std::fs::create_dir_all(self.sandbox.path("got")).expect("a folder");
            let run = Run::of(&self.sandbox.shell(&script, arguments).output().expect("a shell"));
            let listing = std::fs::read_to_string(self.sandbox.path("listing")).expect("a listing");
            (run, listing)
        };
        // What a disk with room holds.
        let (run, _) = on_disk(64 << 10);
        succeeded(run);
        let result = self.results[0];
        let places = [self.sandbox.path(result), self.sandbox.path("got").join(result)];
        let expected = places.iter().find(|path| path.exists()).map(|path| tensors(path)).expect("a clip");
        let mut failures = 0;
        for size in SIZES {
            clean();
            std::fs::create_dir_all(self.sandbox.path("small")).expect("a folder");
            let (run, listing) = on_disk(*size);
            assert!(!listing.contains(".kinora-"), "{size}: {listing}");
            for found in places.iter().filter(|path| path.exists()) {
                assert!(super::same(&tensors(found), &expected), "{size}: half a clip has its name");
            }
            if run.status == Some(0) {
                continue;
            }
            failures += 1;
            let text = run.failure();
            assert!(text.contains("space") && run.status == Some(1), "{size}: {text}");
            for line in self.sandbox.files() {
                assert!(!line.contains(".kinora-"), "{size}: {line}");
            }
        }
        assert!(failures > 0, "no disk was too small");
        clean();
    }
}

#[test]
fn a_clip_meets_full_disks() {
    let task = generate();
    if has_small_disks(&task.sandbox) {
        task.survives_full_disks(&[("clip.safetensors", "small/clip.safetensors")], &[]);
        // Latents of more frames than fit in a page.
        task.survives_full_disks(&[("l.safetensors", "small/l.safetensors"), ("9", "33")], &[]);
        task.survives_full_disks(&[("run", "small/run")], &[]);
    }
}

#[test]
fn a_story_meets_full_disks() {
    let task = story();
    if has_small_disks(&task.sandbox) {
        task.survives_full_disks(&[("clip.safetensors", "small/clip.safetensors")], &[]);
        task.survives_full_disks(&[], &["--project", "small/project"]);
    }
}

#[test]
fn an_extended_clip_meets_full_disks() {
    let task = extend();
    if has_small_disks(&task.sandbox) {
        task.survives_full_disks(&[("clip.safetensors", "small/clip.safetensors")], &[]);
        task.survives_full_disks(&[], &["--project", "small/project"]);
    }
}
