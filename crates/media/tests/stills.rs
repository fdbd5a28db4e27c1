//! Clips that are no videos: animations, numbered pictures, directories of them, single ones.

#[path = "support/fixtures.rs"]
mod fixtures;
mod support;

use fixtures::{Tensors, fixture, largest_difference};
use kinora_media::{ClipSpec, Frame, MediaError, Picture, WriteOptions, create, open, read_image};
use std::fs;
use std::path::Path;
use support::{animated_png, shapes, spec, write_shapes};

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
    fs::create_dir(dir.path().join("f3.png.d")).unwrap();
    let notes = open(dir.path()).unwrap().notes();
    assert_eq!(notes, ["4 of its files or folders are no pictures and not read, such as `clip.mp4`"]);
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
    let error = open(&pattern).err().unwrap();
    assert!(matches!(error, MediaError::UnequalSize { got: (3, 2), expected: (2, 2), .. }), "{error}");
    assert!(error.to_string().contains("f_0006.png") && error.hint().is_some(), "{error}");
    assert!(matches!(open(dir.path().join("none/f_%04d.png")), Err(MediaError::Io { .. })));
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

/// A picture that is not read is refused by its name, not as a video.
#[test]
fn refused_pictures_are_named() {
    let error = open(fixture("refused.avif")).err().unwrap();
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
    assert_eq!(notes("alpha.png", &fs::read(fixture("alpha.png")).unwrap()), "its transparent parts lie over white");
    assert!(notes("animated.png", &animated_png()).contains("only the first frame"));
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

/// Every marker of an end is missing, or none of the data: players show such pictures whole.
#[test]
fn jpegs_without_their_end_are_read_if_no_data_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("endless.jpg");
    for name in ["photo.jpg", "exif_6.jpg", "grey.jpg", "cmyk.jpg"] {
        let whole = fs::read(fixture(name)).unwrap();
        let end = whole.len() - 2;
        for bytes in [&whole[..end], &whole[..=end], &[&whole[..end], &[0; 100]].concat()] {
            fs::write(&path, bytes).unwrap();
            assert!(read_image(&path).unwrap() == read_image(fixture(name)).unwrap(), "{name}");
        }
        for missing in [5, 20, 50] {
            fs::write(&path, &whole[..end - missing]).unwrap();
            assert!(matches!(read_image(&path), Err(MediaError::Damaged { .. })), "{name} without {missing}");
        }
    }
}

/// A TIFF of 2×1 samples with these entries: tag, type (3 is 16 bits, 4 is 32), number, value.
fn tiff(samples: &[u8], more: &[[u32; 4]], tail: &[u8]) -> Vec<u8> {
    let mut entries =
        vec![[256, 3, 1, 2], [257, 3, 1, 1], [259, 3, 1, 1], [273, 4, 1, 8], [277, 3, 1, 1], [278, 3, 1, 1]];
    entries.push([279, 4, 1, samples.len() as u32]);
    entries.extend(more);
    entries.sort_unstable();
    let directory = 8 + samples.len();
    let mut file =
        [b"II*\0", &(directory as u32).to_le_bytes()[..], samples, &(entries.len() as u16).to_le_bytes()].concat();
    for [tag, kind, count, value] in entries {
        let value = if tag == 320 { directory + 2 + 12 * (7 + more.len()) + 4 } else { value as usize };
        file.extend([&(tag as u16).to_le_bytes()[..], &(kind as u16).to_le_bytes(), &count.to_le_bytes()].concat());
        file.extend((value as u32).to_le_bytes());
    }
    [&file[..], &[0; 4], tail].concat()
}

#[test]
fn tiffs_with_a_palette_are_read_and_others_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tif");
    let mut map = vec![[0; 2]; 3 * 256];
    for (at, value) in [(7, 10), (256 + 7, 20), (512 + 7, 30), (200, 40), (456, 50), (712, 60)] {
        map[at] = [0xff, value];
    }
    fs::write(&path, tiff(&[7, 200], &[[258, 3, 1, 8], [262, 3, 1, 3], [320, 3, 768, 0]], &map.concat())).unwrap();
    assert_eq!(read_image(&path).unwrap().rgb, [10, 20, 30, 40, 50, 60]);
    assert_eq!(read(&path).1.len(), 1);
    let lab = tiff(&[7, 200], &[[258, 3, 1, 8], [262, 3, 1, 8]], &[]);
    let float = tiff(&[0; 8], &[[258, 3, 1, 32], [262, 3, 1, 1], [339, 3, 1, 3]], &[]);
    for (bytes, words) in [(lab, "TIFF with"), (float, "TIFF with samples of 32 bits is not supported")] {
        fs::write(&path, bytes).unwrap();
        let error = read_image(&path).unwrap_err();
        assert!(matches!(error, MediaError::PictureFormat { .. }) && error.to_string().contains(words), "{error}");
        assert_eq!(error.to_string().matches("not support").count(), 1, "{error}");
    }
}

/// Browsers show frames without a delay, or with one of 0.01 s, for 0.1 s.
#[test]
fn delays_of_animations_are_those_of_browsers_and_uneven_ones_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let gif = fs::read(fixture("kept.gif")).unwrap();
    let controls: Vec<usize> = (0..gif.len() - 4).filter(|&at| gif[at..].starts_with(b"\x21\xf9\x04")).collect();
    let with = |name: &str, bytes: &[u8], places: &[usize], delays: [u8; 2]| {
        let mut bytes = bytes.to_vec();
        for &at in places {
            bytes[at..at + 2].copy_from_slice(&delays);
        }
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        open(&path).unwrap()
    };
    let delays: Vec<usize> = controls.iter().map(|at| at + 4).collect();
    for delay in [0, 1] {
        let clip = with("fast.gif", &gif, &delays, [delay, 0]);
        assert_eq!((clip.spec().fps.to_string(), clip.notes().len()), ("10".into(), 0));
    }
    assert!(with("uneven.gif", &gif, &delays[..1], [100, 0]).notes()[0].contains("taken at an even"));
    let webp = fs::read(fixture("half.webp")).unwrap();
    let first = webp.windows(4).position(|four| four == b"ANMF").unwrap() + 20;
    assert!(with("even.webp", &webp, &[], [0, 0]).notes().is_empty());
    assert!(with("uneven.webp", &webp, &[first], [0, 4]).notes()[0].contains("taken at an even"));
}

/// Nobody writes to the pipe: opening it would wait for ever.
#[cfg(unix)]
#[test]
fn pipes_are_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["pipe.mp4", "pipe.safetensors", "pipe"] {
        let path = dir.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        for error in [open(&path).err().unwrap(), kinora_media::read_recipe(&path).unwrap_err()] {
            assert!(matches!(error, MediaError::NotRegular { .. }) && error.hint().is_some(), "{error}");
        }
        assert!(read_image(&path).unwrap_err().to_string().contains("not a regular file"));
    }
}

#[test]
fn a_video_is_no_picture_and_called_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it's.png");
    for start in [&fs::read(fixture("h264/main.mp4")).unwrap()[..], b"\x1a\x45\xdf\xa3 a file of Matroska"] {
        fs::write(&path, start).unwrap();
        let error = read_image(&path).unwrap_err();
        assert!(error.to_string().ends_with("it is a video"), "{error}");
        assert!(error.hint().unwrap().contains(r"it'\''s.png' -frames:v 1 picture.png"), "{error}");
    }
}
