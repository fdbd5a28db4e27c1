//! Pictures and clips from memory: what a file gives, its bytes give too, errors among it.

#[path = "support/fixtures.rs"]
mod fixtures;
mod support;

use fixtures::fixture;
use kinora_media::{ClipReader, Fps, Picture, Readers, Source, WriteOptions, create, open, read_image, read_recipe};
use support::{shapes, spec};

/// Everything that a reader says and gives, or its error without the name of the file.
fn all(opened: kinora_media::Result<Box<dyn ClipReader>>, name: &str) -> Result<String, String> {
    let text = |error: kinora_media::MediaError| error.to_string().replace(name, "<name>");
    let mut clip = opened.map_err(text)?;
    let mut said = format!("{:?} {:?} {:?}", clip.spec(), clip.frames(), clip.notes());
    while let Some(frame) = clip.next_frame().map_err(text)? {
        let hash = frame.data.iter().fold(0_u32, |sum, x| sum.rotate_left(5) ^ x.to_bits());
        said.push_str(&hash.to_string());
    }
    Ok(said)
}

#[test]
fn bytes_are_read_as_files_are() {
    let (mut read, mut refused) = (0, 0);
    let entries = ["", "h264"].map(|folder| std::fs::read_dir(fixture(folder)).unwrap());
    for entry in entries.into_iter().flatten() {
        let path = entry.unwrap().path();
        // Raw frames are told by the name of a file, which bytes do not have.
        if !path.is_file() || path.extension().is_some_and(|extension| extension == "safetensors") {
            continue;
        }
        let name = path.display().to_string();
        let bytes = std::fs::read(&path).unwrap();
        for len in [bytes.len(), bytes.len() / 2, 0] {
            let cut = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(cut.path(), &bytes[..len]).unwrap();
            let source = Source::from(bytes[..len].to_vec()).named("<bytes>");
            let shown = cut.path().display().to_string();
            let (from_file, from_memory) = (all(open(cut.path()), &shown), all(open(&source), "<bytes>"));
            assert_eq!(from_memory, from_file, "{name}, {len} bytes");
            let picture = |source: Source| read_image(source).map_err(|error| error.to_string().len());
            assert_eq!(picture(source).is_ok(), picture(cut.path().into()).is_ok(), "{name}, {len} bytes");
            *(if from_file.is_ok() { &mut read } else { &mut refused }) += 1;
        }
    }
    assert!(read > 20 && refused > 20, "{read} read, {refused} refused");
}

#[test]
fn what_is_written_is_read_from_memory_too() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["clip.mp4", "clip.gif", "clip.webp", "clip.safetensors", "picture.png"] {
        let path = folder.path().join(name);
        let frames = if name.ends_with("png") { 1 } else { 5 };
        let options = WriteOptions { recipe: Some(r#"{"seed":7}"#.into()), ..WriteOptions::default() };
        let mut writer = create(&path, &spec(64, 48, 12), &options).unwrap();
        (0..frames).for_each(|index| writer.push(&shapes(&spec(64, 48, 12), index)).unwrap());
        writer.finish().unwrap();
        let bytes = Source::from(std::fs::read(&path).unwrap());
        assert_eq!(all(open(&bytes), "").unwrap(), all(open(&path), "").unwrap(), "{name}");
        assert_eq!(read_recipe(&bytes).unwrap(), read_recipe(&path).unwrap(), "{name}");
        assert!(read_recipe(&bytes).unwrap().is_some(), "{name}");
    }
}

#[test]
fn frames_and_pictures_are_clips() {
    let pictures: Vec<_> = (0..3).map(|index| Picture::from_frame(&shapes(&spec(32, 16, 8), index))).collect();
    let source = Source::frames(pictures.clone(), Fps::new(24, 1).unwrap()).unwrap();
    let mut clip = open(&source).unwrap();
    assert_eq!((clip.spec(), clip.frames()), (spec(32, 16, 24), Some(3)));
    for picture in &pictures {
        assert!(clip.next_frame().unwrap().unwrap() == picture.to_frame());
    }
    assert!(clip.next_frame().unwrap().is_none());
    assert!(read_image(&source).unwrap_err().to_string().contains("several frames"));
    assert_eq!(read_recipe(&source).unwrap(), None);
    assert_eq!(read_recipe(source.with_recipe("{}".into())).unwrap().as_deref(), Some("{}"));
    let picture = Source::from(pictures[0].clone());
    assert!(read_image(&picture).unwrap() == pictures[0]);
    assert_eq!(open(&picture).unwrap().frames(), Some(1));
}

/// A program that reads files alone gets one, which is gone afterwards.
#[test]
fn bytes_go_to_ffmpeg_in_a_file_of_their_own() {
    if !support::have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x48:r=8:d=1", "-pix_fmt", "yuv420p", "-c:v", "ffv1"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    let program = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("ffmpeg"))
        .find(|program| program.is_file());
    let readers = Readers { ffmpeg: program };
    let bytes = Source::from(std::fs::read(&path).unwrap());
    assert_eq!(all(readers.open(&bytes), "clip").unwrap(), all(readers.open(&path), "clip").unwrap());
}
