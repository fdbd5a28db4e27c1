//! Whole files or none, with ordinary permissions, and nothing of the user's overwritten.

use kinora_files::{AtomicFile, HiddenFolder, check_writable, copy, rename, sync_folder, write};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_when_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    fs::write(&path, "old").unwrap();
    let mut file = AtomicFile::create(&path).unwrap();
    file.probe_space().unwrap();
    file.write_all(b"0123456789").unwrap();
    file.write_all_at(2, b"__").unwrap();
    file.write_all(b"!").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(file.temporary_path().extension().unwrap(), "mp4");
    assert_eq!(file.commit().unwrap(), 11);
    assert_eq!(fs::read(&path).unwrap(), b"01__456789!");
    assert_eq!(names(folder.path()), ["clip.mp4"]);
}

#[test]
fn a_file_that_is_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = AtomicFile::create(&folder.path().join("clip.mp4")).unwrap();
    file.write_all(b"half").unwrap();
    drop(file);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn no_file_but_the_target_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["run.part", "run.tmp", ".run.json"] {
        fs::write(folder.path().join(name), "the user's").unwrap();
    }
    let path = folder.path().join("run.json");
    write(&path, "{}").unwrap();
    copy(&path, &folder.path().join("copy.json")).unwrap();
    rename(&path, &folder.path().join("renamed.json")).unwrap();
    for name in ["run.part", "run.tmp", ".run.json"] {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), "the user's");
    }
    for name in ["copy.json", "renamed.json"] {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), "{}");
    }
    assert_eq!(names(folder.path()).len(), 5);
}

#[test]
fn long_names_and_names_without_extension_fit() {
    let folder = tempfile::tempdir().unwrap();
    let longer = AtomicFile::create(&folder.path().join("n".repeat(256)));
    assert_eq!(longer.err().map(|error| error.kind()), Some(ErrorKind::InvalidFilename));
    let extension = folder.path().join(format!("a.{}", "e".repeat(253)));
    write(&extension, "x").unwrap();
    fs::remove_file(extension).unwrap();
    for name in ["n".repeat(255), "é".repeat(127), "plain".into(), ".hidden".into()] {
        write(&folder.path().join(&name), "x").unwrap();
    }
    assert_eq!(names(folder.path()).len(), 4);
}

#[test]
fn places_that_cannot_be_written_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let kind = |path: &Path| check_writable(path).unwrap_err().kind();
    assert_eq!(kind(folder.path()), ErrorKind::IsADirectory);
    assert_eq!(kind(&folder.path().join("no/file")), ErrorKind::NotFound);
    let file = folder.path().join("file");
    check_writable(&file).unwrap();
    assert!(!file.exists());
    fs::write(&file, "").unwrap();
    assert_eq!(kind(&file.join("below")), ErrorKind::NotADirectory);
    #[cfg(unix)]
    assert_eq!(kind(Path::new("/dev/null")), ErrorKind::InvalidInput);
}

#[test]
fn hidden_files_get_their_names_together() {
    let folder = tempfile::tempdir().unwrap();
    let hidden = HiddenFolder::create_in(folder.path()).unwrap();
    hidden.probe_space().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(hidden.path(name), name).unwrap();
    }
    for name in ["a", "b"] {
        hidden.persist(name, &folder.path().join(name)).unwrap();
    }
    sync_folder(folder.path());
    drop(hidden);
    assert_eq!(names(folder.path()), ["a", "b"]);
    assert!(HiddenFolder::create_in(&folder.path().join("missing")).is_err());
}

#[cfg(unix)]
#[test]
fn a_new_file_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    write(&ours, "x").unwrap();
    fs::write(&plain, "x").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[cfg(unix)]
#[test]
fn a_link_stays_and_its_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    write(&link, "new").unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
}

#[test]
fn bytes_are_inserted_before_long_tails() {
    let folder = tempfile::tempdir().unwrap();
    let tail: Vec<u8> = (0..3_000_001_u32).map(|at| (at % 251) as u8).collect();
    let mut file = AtomicFile::create(&folder.path().join("file")).unwrap();
    file.write_all(b"head").unwrap();
    file.write_all(&tail).unwrap();
    file.insert_at(4, b"between").unwrap();
    file.write_all(b"end").unwrap();
    file.commit().unwrap();
    let read = fs::read(folder.path().join("file")).unwrap();
    assert!(read == [&b"headbetween"[..], &tail, b"end"].concat());
}

#[test]
fn writers_of_one_folder_do_not_take_each_others_files() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                for file in 0..500 {
                    let path = folder.join(format!("{writer}.txt"));
                    write(&path, file.to_string()).unwrap_or_else(|error| panic!("{file}: {error}"));
                }
            });
        }
    });
    assert_eq!(names(folder.path()).len(), 4);
}
