//! What every format has in common: whole files or none, errors before work, recipes; and what each one holds.

mod support;

use image::AnimationDecoder;
use kinora_media::{ClipSpec, Fps, Frame, MediaError, WriteOptions, create, read_recipe};
use std::fs;
use std::io::BufReader;
use std::path::Path;
use support::{flat, shapes, spec, write_shapes};

const RECIPE: &str = r#"{"prompt":"<b> & 红球","seed":7}"#;
const NAMES: [&str; 7] =
    ["clip.mp4", "clip.gif", "clip.webp", "clip.y4m", "clip.safetensors", "clip.png", "frame_%03d.png"];

fn with_recipe() -> WriteOptions {
    WriteOptions { recipe: Some(RECIPE.into()), ..WriteOptions::default() }
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_left_of_a_writer_that_is_dropped_or_finished_empty() {
    for name in NAMES.into_iter().chain(["frames/"]) {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(64, 48, 16);
        let mut writer = create(dir.path().join(name), &spec, &with_recipe()).unwrap();
        writer.push(&shapes(&spec, 0)).unwrap();
        let entry = dir.path().join(name);
        assert!(name.ends_with('/') || !entry.exists(), "{name} is there before it is whole");
        drop(writer);
        assert!(names_in(dir.path()).is_empty(), "{name}: {:?}", names_in(dir.path()));
        let error = create(dir.path().join(name), &spec, &with_recipe()).unwrap().finish().unwrap_err();
        assert!(matches!(error, MediaError::NoFrames { .. }), "{error}");
        assert!(names_in(dir.path()).is_empty(), "{name}: {:?}", names_in(dir.path()));
    }
}

#[test]
fn an_existing_file_stays_until_the_new_one_is_whole() {
    for name in ["clip.mp4", "clip.gif", "clip.webp", "clip.safetensors"] {
        let dir = tempfile::tempdir().unwrap();
        let (path, spec) = (dir.path().join(name), spec(64, 48, 16));
        fs::write(&path, "old").unwrap();
        let mut writer = create(&path, &spec, &with_recipe()).unwrap();
        writer.push(&shapes(&spec, 0)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        writer.finish().unwrap();
        assert_eq!(read_recipe(&path).unwrap().as_deref(), Some(RECIPE), "{name}");
        assert_eq!(names_in(dir.path()), [name]);
    }
}

#[test]
fn bad_frames_are_refused() {
    for name in NAMES {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(64, 48, 16);
        let mut writer = create(dir.path().join(name), &spec, &WriteOptions::default()).unwrap();
        let mut frame = shapes(&spec, 0);
        frame.data[100] = f32::NAN;
        assert!(matches!(writer.push(&frame), Err(MediaError::NotFinite { index: 0 })), "{name}");
        let small = Frame::new(32, 48, vec![0.0; 3 * 32 * 48]).unwrap();
        assert!(matches!(writer.push(&small), Err(MediaError::FrameSize { index: 0, .. })), "{name}");
        let short = Frame { data: vec![0.0; 5], ..frame };
        assert!(matches!(writer.push(&short), Err(MediaError::FrameData { got: 5, .. })), "{name}");
    }
}

#[test]
fn paths_that_cannot_be_written_are_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(64, 48, 16);
    let refused = |path: &Path| {
        let error = create(path, &spec, &WriteOptions::default()).err().unwrap_or_else(|| panic!("{}", path.display()));
        assert!(error.hint().is_some(), "{error}");
        error
    };
    fs::write(dir.path().join("file"), "").unwrap();
    fs::create_dir(dir.path().join("dir.mp4")).unwrap();
    for name in NAMES {
        let error = refused(&dir.path().join("missing/further").join(name));
        assert!(matches!(error, MediaError::MissingDirectory { .. }), "{error}");
        let error = refused(&dir.path().join("file").join(name));
        assert!(matches!(error, MediaError::NotWritable { .. }), "{error}");
        #[cfg(target_os = "linux")]
        assert!(matches!(refused(&Path::new("/proc").join(name)), MediaError::NotWritable { .. }));
    }
    for name in ["clip", "clip.avi", "clip.mp4.", ".mp4"] {
        assert!(matches!(refused(&dir.path().join(name)), MediaError::UnknownFormat { .. }), "{name}");
    }
    #[cfg(target_os = "linux")]
    assert!(matches!(refused(Path::new("/dev/null")), MediaError::UnknownFormat { .. }));
}

#[cfg(unix)]
#[test]
fn devices_and_links_to_them_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(64, 48, 16);
    let link = dir.path().join("clip.mp4");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let error = create(&link, &spec, &WriteOptions::default()).err().unwrap();
    assert!(matches!(error, MediaError::NotAFile { .. }), "{error}");
    // A link to a file stays a link; the file behind it is replaced.
    let (link, file) = (dir.path().join("link.gif"), dir.path().join("file.gif"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    write_shapes(&link, &spec, 1, &WriteOptions::default());
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(fs::read(&file).unwrap().starts_with(b"GIF89a"));
}

#[test]
fn absurd_sizes_and_recipes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fps = Fps::new(16, 1).unwrap();
    for name in NAMES {
        for (width, height) in [(0, 16), (16, 0), (usize::MAX, usize::MAX), (1 << 20, 1 << 20)] {
            let error = create(dir.path().join(name), &ClipSpec { width, height, fps }, &with_recipe()).err().unwrap();
            assert!(matches!(error, MediaError::Size { .. }), "{name} {width}x{height}: {error}");
        }
        let recipe = Some("x".repeat((1 << 20) + 1));
        let error = create(dir.path().join(name), &spec(64, 48, 16), &WriteOptions { recipe, ..with_recipe() });
        assert!(matches!(error.err().unwrap(), MediaError::RecipeTooLong { .. }), "{name}");
    }
}

#[test]
fn long_recipes_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = RECIPE.repeat(3000);
    for name in ["clip.mp4", "clip.gif", "clip.webp", "clip.safetensors", "clip.png"] {
        let path = dir.path().join(name);
        let options = WriteOptions { recipe: Some(recipe.clone()), ..WriteOptions::default() };
        write_shapes(&path, &spec(64, 48, 16), 1, &options);
        assert!(read_recipe(&path).unwrap().as_ref() == Some(&recipe), "{name}");
        write_shapes(&path, &spec(64, 48, 16), 1, &WriteOptions::default());
        assert_eq!(read_recipe(&path).unwrap(), None, "{name}");
    }
}

/// Codes of BT.709 in limited range, item 3.5: white, black, and red with its colour differences.
#[test]
fn y4m_holds_the_codes_of_bt_709() {
    let dir = tempfile::tempdir().unwrap();
    let (path, spec) = (dir.path().join("clip.y4m"), spec(7, 4, 24));
    let mut writer = create(&path, &spec, &with_recipe()).unwrap();
    for colour in [[1.0; 3], [0.0; 3], [1.0, 0.0, 0.0]] {
        writer.push(&flat(&spec, colour)).unwrap();
    }
    let written = writer.finish().unwrap();
    assert_eq!((written.frames, written.width, written.height), (3, 8, 4));
    assert!(written.notes.len() == 2 && written.notes[1].contains("recipe"), "{:?}", written.notes);
    let bytes = fs::read(&path).unwrap();
    let header = b"YUV4MPEG2 W8 H4 F24:1 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED\n";
    let pictures = bytes.strip_prefix(header).unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    for (picture, [y, u, v]) in pictures.chunks(6 + 48).zip([[235, 128, 128], [16, 128, 128], [63, 102, 240]]) {
        assert_eq!(picture, [&b"FRAME\n"[..], &[y; 32], &[u; 8], &[v; 8]].concat());
    }
    assert_eq!(pictures.len(), 3 * 54);
}

#[test]
fn raw_frames_are_a_safetensors_file_with_every_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (path, spec) = (dir.path().join("clip.safetensors"), spec(7, 5, 24));
    let written = write_shapes(&path, &spec, 11, &with_recipe());
    let bytes = fs::read(&path).unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names(), ["video"]);
    let video = file.tensor("video").unwrap();
    assert_eq!((video.dtype(), video.shape()), (safetensors::Dtype::F32, &[11, 3, 5, 7][..]));
    let wanted: Vec<u8> = (0..11).flat_map(|i| shapes(&spec, i).data).flat_map(f32::to_le_bytes).collect();
    assert!(video.data() == wanted);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["fps"], "24");
}

#[test]
fn png_sequences_hold_every_frame() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(33, 17, 16);
    let cases = [
        ("frames/", "frames/frame_0002.png"),
        ("p_%02d.png", "p_02.png"),
        ("clip.png", "clip_0002.png"),
        (".", "frame_0002.png"),
    ];
    for (name, third) in cases {
        let written = write_shapes(&dir.path().join(name), &spec, 3, &with_recipe());
        let third = dir.path().join(third);
        let picture = image::open(&third).unwrap().to_rgb8();
        assert_eq!(picture.into_raw(), interleaved(&shapes(&spec, 2)), "{name}");
        assert_eq!(read_recipe(&third).unwrap().as_deref(), Some(RECIPE));
        assert_eq!((written.frames, written.width, written.height), (3, 33, 17));
        assert_eq!(written.notes.len(), usize::from(name == "clip.png"), "{:?}", written.notes);
    }
    let written = write_shapes(&dir.path().join("one.png"), &spec, 1, &with_recipe());
    assert_eq!((written.path, written.notes.len()), (dir.path().join("one.png"), 0));
    let written = write_shapes(&dir.path().join("frames/"), &spec, 2, &with_recipe());
    assert!(written.notes[0].contains("older frames remain from"), "{:?}", written.notes);
    assert_eq!(names_in(&dir.path().join("frames")), ["frame_0000.png", "frame_0001.png", "frame_0002.png"]);
}

#[test]
fn gifs_hold_every_frame_at_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let (path, spec) = (dir.path().join("clip.gif"), spec(64, 48, 16));
    let written = write_shapes(&path, &spec, 16, &with_recipe());
    assert!(written.notes[0].contains("256 colours"), "{:?}", written.notes);
    let reader = BufReader::new(fs::File::open(&path).unwrap());
    let frames = image::codecs::gif::GifDecoder::new(reader).unwrap().into_frames().collect_frames().unwrap();
    let delays: Vec<u32> = frames.iter().map(|frame| frame.delay().numer_denom_ms().0).collect();
    assert_eq!((delays.len(), delays.iter().sum::<u32>()), (16, 1000), "{delays:?}");
    let wanted = interleaved(&shapes(&spec, 9));
    let got = image::DynamicImage::ImageRgba8(frames[9].buffer().clone()).to_rgb8().into_raw();
    let squares: f64 = wanted.iter().zip(&got).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    let psnr = 10.0 * (255.0 * 255.0 * wanted.len() as f64 / squares).log10();
    assert!(psnr > 30.0, "{psnr:.1} dB");
}

#[test]
fn webps_hold_every_frame_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (path, spec) = (dir.path().join("clip.webp"), spec(65, 47, 16));
    let written = write_shapes(&path, &spec, 9, &with_recipe());
    assert_eq!(written.bytes, fs::metadata(&path).unwrap().len());
    let reader = BufReader::new(fs::File::open(&path).unwrap());
    let frames = image::codecs::webp::WebPDecoder::new(reader).unwrap().into_frames().collect_frames().unwrap();
    assert_eq!(frames.len(), 9);
    let delays: Vec<u32> = frames.iter().map(|frame| frame.delay().numer_denom_ms().0).collect();
    assert_eq!(delays, [63, 62, 63, 62, 63, 62, 63, 62, 63]);
    for (index, frame) in frames.iter().enumerate() {
        let got = image::DynamicImage::ImageRgba8(frame.buffer().clone()).to_rgb8().into_raw();
        assert!(got == interleaved(&shapes(&spec, index)), "frame {index}");
    }
}

#[cfg(unix)]
#[test]
fn clips_are_readable_like_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plain"), "").unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
    for name in ["clip.mp4", "clip.gif", "clip.png"] {
        let mut writer = create(dir.path().join(name), &spec(16, 16, 8), &WriteOptions::default()).unwrap();
        writer.push(&flat(&spec(16, 16, 8), [0.5; 3])).unwrap();
        writer.finish().unwrap();
        assert_eq!(mode(name), mode("plain"), "{name}");
    }
}

fn interleaved(frame: &Frame) -> Vec<u8> {
    let area = frame.width * frame.height;
    (0..area)
        .flat_map(|i| [0, 1, 2].map(|c| (frame.data[c * area + i].clamp(0.0, 1.0) * 255.0).round() as u8))
        .collect()
}
