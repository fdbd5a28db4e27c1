//! Clips that are no videos: animations, numbered pictures, directories of them, single ones.

#[path = "support/fixtures.rs"]
mod fixtures;
mod support;

use fixtures::{Tensors, fixture, largest_difference};
use kinora_media::{ClipSpec, Frame, MediaError, Picture, WriteOptions, create, open, read_image};
use std::fs;
use std::path::Path;
use support::{shapes, spec, write_shapes};

fn read(path: &Path) -> (ClipSpec, Vec<Frame>) {
    let mut clip = open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let frames: Vec<Frame> = std::iter::from_fn(|| clip.next_frame().unwrap()).collect();
    assert_eq!(clip.frames(), Some(frames.len()), "{}", path.display());
    assert!(clip.next_frame().unwrap().is_none());
    (clip.spec(), frames)
}

/// Frames that paint a part, keep, clear or restore what was there, and blend by halves. The WebP decoder cuts fractions off
/// where it blends.
#[test]
fn animations_are_what_pillow_sees() {
    let seen = Tensors::open("pictures.safetensors");
    for (name, tolerance) in
        [("kept.gif", 0), ("cleared.gif", 0), ("mixed.gif", 0), ("frames.webp", 1), ("half.webp", 1)]
    {
        let (spec, frames) = read(&fixture(name));
        let expected = seen.pictures(name);
        assert_eq!((spec.width, spec.height, frames.len()), (20, 14, expected.len()), "{name}");
        assert!((spec.fps.as_f64() - 25.0).abs() < 1e-9, "{name}: {}", spec.fps);
        for (index, (frame, expected)) in frames.iter().zip(&expected).enumerate() {
            let largest = largest_difference(&Picture::from_frame(frame), expected);
            assert!(largest <= tolerance, "{name}, frame {index}: {largest}");
        }
    }
}

#[test]
fn our_own_animations_and_sequences_come_back() {
    let dir = tempfile::tempdir().unwrap();
    for (name, fps) in [("a.webp", 16), ("b.webp", 30), ("c.gif", 16), ("d_%03d.png", 16), ("frames/", 16)] {
        let (path, spec) = (dir.path().join(name), spec(48, 32, fps));
        if name.ends_with('/') {
            fs::create_dir(&path).unwrap();
        }
        write_shapes(&path, &spec, 12, &WriteOptions::default());
        let (got, frames) = read(&path);
        assert_eq!((got, frames.len()), (spec, 12), "{name}");
        for (index, frame) in frames.iter().enumerate() {
            let (got, sent) = (Picture::from_frame(frame), Picture::from_frame(&shapes(&spec, index)));
            let mean = got.rgb.iter().zip(&sent.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>() as f64
                / sent.rgb.len() as f64;
            assert!(mean <= if name.ends_with("gif") { 3.0 } else { 0.0 }, "{name}, frame {index}: {mean}");
        }
    }
}

#[test]
fn single_pictures_are_clips_of_one_frame() {
    let seen = Tensors::open("pictures.safetensors");
    for name in ["rgb.png", "alpha.webp", "rgb.bmp", "alpha.tif", "palette.gif", "exif.png"] {
        let (spec, frames) = read(&fixture(name));
        assert_eq!((frames.len(), spec.fps.num(), spec.fps.den()), (1, 16, 1), "{name}");
        assert!(Picture::from_frame(&frames[0]) == seen.picture(name), "{name}");
    }
}

#[test]
fn directories_are_read_by_the_numbers_in_names() {
    let dir = tempfile::tempdir().unwrap();
    for (value, name) in [(0, "f1.png"), (1, "f2.png"), (2, "f10.PNG"), (3, "g.png")] {
        Picture::new(2, 2, vec![value; 12]).unwrap().write_png(dir.path().join(name)).unwrap();
    }
    for other in [".hidden.png", "notes.txt", "clip.mp4", "noextension"] {
        fs::write(dir.path().join(other), "no picture").unwrap();
    }
    let values: Vec<u8> = read(dir.path()).1.iter().map(|frame| Picture::from_frame(frame).rgb[0]).collect();
    assert_eq!(values, [0, 1, 2, 3]);
}

#[test]
fn sequences_that_are_not_whole_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pattern = dir.path().join("f_%04d.png");
    let picture = |number: usize, width: usize| {
        let path = dir.path().join(format!("f_{number:04}.png"));
        Picture::new(width, 2, vec![9; 6 * width]).unwrap().write_png(path).unwrap();
    };
    let error = open(&pattern).err().unwrap();
    assert!(matches!(error, MediaError::NoPictures { .. }) && error.hint().is_some(), "{error}");
    assert!(matches!(open(dir.path()), Err(MediaError::NoPictures { .. })));
    // From any number on, but without a gap.
    (3..6).for_each(|number| picture(number, 2));
    assert_eq!(read(&pattern).1.len(), 3);
    picture(7, 2);
    let error = open(&pattern).err().unwrap();
    assert!(matches!(error, MediaError::Damaged { .. }) && error.to_string().contains("f_0006.png"), "{error}");
    picture(6, 3);
    let mut clip = open(&pattern).unwrap();
    let error = std::iter::from_fn(|| clip.next_frame().transpose()).find_map(Result::err).unwrap();
    assert!(matches!(error, MediaError::FrameSize { index: 3, got: (3, 2), expected: (2, 2) }), "{error}");
    assert!(matches!(open(&dir.path().join("none/f_%04d.png")), Err(MediaError::Io { .. })));
}

#[test]
fn animations_cut_short_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut");
    for name in ["kept.gif", "frames.webp"] {
        let bytes = fs::read(fixture(name)).unwrap();
        for len in 20..bytes.len() - 2 {
            fs::write(&path, &bytes[..len]).unwrap();
            let Err(error) = open(&path).and_then(|mut clip| {
                while clip.next_frame()?.is_some() {}
                Ok(())
            }) else {
                panic!("{len} of {} bytes of {name} are read", bytes.len())
            };
            assert!(error.hint().is_some(), "{name}, {len}: {error}");
        }
    }
}

/// Without `FFmpeg`, a picture that is not read is refused by its name, not as a video.
#[test]
fn refused_pictures_are_named() {
    if cfg!(feature = "ffmpeg") {
        return;
    }
    let error = open(&fixture("refused.avif")).err().unwrap();
    assert!(matches!(error, MediaError::PictureFormat { .. }) && error.to_string().contains("AVIF"), "{error}");
}

#[test]
fn a_name_with_a_percent_sign_may_be_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("50%d.png");
    Picture::new(2, 1, vec![9; 6]).unwrap().write_png(&path).unwrap();
    assert_eq!(read(&path).1.len(), 1);
    let mut writer = create(dir.path().join("x.webp"), &spec(2, 2, 16), &WriteOptions::default()).unwrap();
    writer.push(&Frame::new(2, 2, vec![0.5; 12]).unwrap()).unwrap();
    writer.finish().unwrap();
    assert_eq!(read(&dir.path().join("x.webp")).1.len(), 1);
}

/// PNG chunks carry a checksum that is not looked at here: the chunk is not critical.
#[test]
fn what_is_left_out_of_pictures_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let notes = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        open(&path).unwrap().notes().join("; ")
    };
    let png = fs::read(fixture("rgb.png")).unwrap();
    assert_eq!(notes("plain.png", &png), "");
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0; 6]).unwrap();
    writer.write_image_data(&[255; 6]).unwrap();
    writer.finish().unwrap();
    assert!(notes("animated.png", &file).contains("only the first frame"));
    let mut tiff = fs::read(fixture("rgb.tif")).unwrap();
    assert_eq!(notes("plain.tif", &tiff), "");
    let first = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    let entries = usize::from(u16::from_le_bytes(tiff[first..first + 2].try_into().unwrap()));
    let (end, page) = (first + 2 + 12 * entries, u32::try_from(tiff.len()).unwrap());
    let directory = tiff[first..end + 4].to_vec();
    tiff[end..end + 4].copy_from_slice(&page.to_le_bytes());
    tiff.extend(directory);
    assert!(notes("pages.tif", &tiff).contains("only the first page"));
}

/// A BMP of 32 bits whose fourth bytes are all 0 is shown without transparency.
#[test]
fn bitmaps_without_any_alpha_are_opaque() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v4.bmp");
    let mut pixels = image::RgbaImage::from_pixel(3, 2, image::Rgba([220, 60, 30, 0]));
    pixels.save(&path).unwrap();
    assert_eq!(read_image(&path).unwrap().rgb[..3], [220, 60, 30]);
    pixels.put_pixel(0, 0, image::Rgba([220, 60, 30, 255]));
    pixels.save(&path).unwrap();
    assert_eq!(read_image(&path).unwrap().rgb[3..6], [255; 3]);
}

#[test]
fn no_picture_of_a_directory_is_left_out_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, name: std::ffi::OsString| fs::copy(fixture(from), dir.path().join(name)).unwrap();
    copy("rgb.png", "f_1.png".into());
    copy("rgb.png", "f_2.jfif".into());
    #[cfg(unix)]
    copy("rgb.png", std::os::unix::ffi::OsStringExt::from_vec(b"f_3\xe9.png".to_vec()));
    assert_eq!(open(dir.path()).unwrap().frames(), Some(if cfg!(unix) { 3 } else { 2 }));
    copy("refused.avif", "f_4.avif".into());
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("f_4.avif") && error.contains("AVIF"), "{error}");
}
