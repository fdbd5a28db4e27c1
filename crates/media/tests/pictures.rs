//! Pictures read as they are to be seen, fitted as Pillow resizes, written as PNG; files that are none, refused.

#![allow(clippy::print_stderr, reason = "measured differences are reported")]

#[path = "support/fixtures.rs"]
mod fixtures;

use fixtures::{Tensors, fixture, largest_difference};
use kinora_media::{Filter, Fit, Frame, MediaError, Picture, contact_sheet, read_image};
use std::path::PathBuf;

const ANIMATIONS: [&str; 5] = ["kept.gif", "cleared.gif", "mixed.gif", "frames.webp", "half.webp"];

fn flat(width: usize, height: usize, rgb: [u8; 3]) -> Picture {
    Picture::new(width, height, rgb.repeat(width * height)).unwrap()
}

/// EXIF orientations 1 to 8, alpha, grey, palettes, 1 and 16 bits, CMYK. Lossless files are equal; decoders of JPEG and
/// lossy WebP may round differently.
#[test]
fn pictures_are_what_pillow_sees() {
    let seen = Tensors::open("pictures.safetensors");
    let names = seen.names();
    assert!(names.len() > 30);
    for name in names.iter().filter(|name| !ANIMATIONS.contains(&name.as_str())) {
        let (got, expected) = (read_image(fixture(name)).unwrap(), seen.picture(name));
        let lossy = name.contains(".jpg") || name.starts_with("lossy");
        let largest = largest_difference(&got, &expected);
        if lossy {
            eprintln!("{name}: differs by {largest}");
        }
        assert!(largest <= if lossy { 4 } else { 0 }, "{name} differs by {largest}");
    }
    for name in ANIMATIONS {
        assert!(largest_difference(&read_image(fixture(name)).unwrap(), &seen.pictures(name)[0]) <= 1, "{name}");
    }
}

#[test]
fn resizing_is_pillows_bit_for_bit() {
    let tensors = Tensors::open("resize.safetensors");
    let source = tensors.picture("source");
    let mut cases = 0;
    for name in tensors.names().iter().filter(|name| !name.starts_with("plane") && *name != "source") {
        let expected = tensors.picture(name);
        let (fit, filter) = match name.split('.').next() {
            Some("lanczos") => (Fit::Stretch, Filter::Lanczos),
            Some("bicubic") => (Fit::Stretch, Filter::Bicubic),
            Some("crop") => (Fit::Crop, Filter::Lanczos),
            Some("pad") => (Fit::Pad, Filter::Lanczos),
            _ => panic!("{name}"),
        };
        assert!(source.fitted(expected.width, expected.height, fit, filter).unwrap() == expected, "{name}");
        cases += 1;
    }
    assert_eq!(cases, 22);
    let same = source.fitted(source.width, source.height, Fit::Crop, Filter::Bicubic).unwrap();
    assert!(same == source);
}

/// A line of pixels would be scaled to millions of columns if more were computed than is kept.
#[test]
fn extreme_shapes_are_fitted() {
    for (width, height) in [(8192, 1), (1, 8192), (1, 1)] {
        let picture = flat(width, height, [10, 200, 30]);
        for fit in [Fit::Crop, Fit::Stretch] {
            assert!(picture.fitted(640, 352, fit, Filter::Lanczos).unwrap() == flat(640, 352, [10, 200, 30]));
        }
        let padded = picture.fitted(64, 32, Fit::Pad, Filter::Lanczos).unwrap();
        assert!(padded.rgb.chunks(3).any(|pixel| pixel == [10, 200, 30]), "{width}x{height}");
    }
    let picture = flat(4, 4, [0; 3]);
    for (width, height) in [(0, 5), (5, 0), (usize::MAX, 2), (1 << 20, 1)] {
        let error = picture.fitted(width, height, Fit::Crop, Filter::Lanczos).unwrap_err();
        assert!(matches!(error, MediaError::PictureSize { .. }) && error.hint().is_some(), "{error}");
    }
    let short = Picture { width: 4, height: 4, rgb: vec![0; 5] };
    assert!(matches!(short.fitted(2, 2, Fit::Pad, Filter::Lanczos), Err(MediaError::FrameData { got: 5, .. })));
    assert!(short.png_bytes().is_err() && short.thumbnail(2).is_err());
    assert!(contact_sheet(std::slice::from_ref(&short), 1, 0).is_err());
}

#[test]
fn fits_are_read_and_shown() {
    for fit in [Fit::Crop, Fit::Pad, Fit::Stretch] {
        assert_eq!(fit.to_string().parse(), Ok(fit));
    }
    assert_eq!(Fit::default(), Fit::Crop);
    assert_eq!("zoom".parse::<Fit>().unwrap_err(), "`zoom` is not crop, pad or stretch");
}

#[test]
fn frames_and_pictures_are_each_other() {
    let picture = Tensors::open("resize.safetensors").picture("source");
    let frame = picture.to_frame();
    assert_eq!(frame.data.len(), 3 * 29 * 37);
    assert_eq!(frame.data[2 * 29 * 37 + 5].to_bits(), (f32::from(picture.rgb[3 * 5 + 2]) / 255.0).to_bits());
    assert!(Picture::from_frame(&frame) == picture);
    let frame = Frame::new(2, 1, vec![-1.0, 0.5, 0.2, 1.0, 2.0, f32::NAN]).unwrap();
    assert_eq!(Picture::from_frame(&frame).rgb, [0, 51, 255, 128, 255, 0]);
    let odd = Frame { width: 9, height: 9, data: vec![0.0; 7] };
    assert!(Picture::from_frame(&odd).png_bytes().is_err());
}

#[test]
fn pngs_thumbnails_and_sheets() {
    let dir = tempfile::tempdir().unwrap();
    let (path, source) = (dir.path().join("a.png"), Tensors::open("resize.safetensors").picture("source"));
    std::fs::write(&path, "old").unwrap();
    source.write_png(&path).unwrap();
    assert!(read_image(&path).unwrap() == source);
    assert_eq!(std::fs::read(&path).unwrap(), source.png_bytes().unwrap());
    assert!(matches!(source.write_png(dir.path().join("x/a.png")), Err(MediaError::MissingDirectory { .. })));

    let small = source.thumbnail(19).unwrap();
    assert_eq!((small.width, small.height), (19, 15));
    assert!(source.thumbnail(37).unwrap() == source);
    assert!(matches!(source.thumbnail(0), Err(MediaError::PictureSize { .. })));

    let colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255]];
    let pictures = [flat(4, 2, colours[0]), flat(2, 2, colours[1]), flat(4, 4, colours[2])];
    let sheet = contact_sheet(&pictures, 2, 3).unwrap();
    assert_eq!((sheet.width, sheet.height), (11, 11));
    let at = |x: usize, y: usize| <[u8; 3]>::try_from(&sheet.rgb[3 * (y * 11 + x)..][..3]).unwrap();
    assert_eq!([at(0, 1), at(3, 2), at(8, 1), at(9, 2), at(0, 7), at(3, 10)], {
        let [red, green, blue] = colours;
        [red, red, green, green, blue, blue]
    });
    assert_eq!([at(0, 0), at(0, 3), at(5, 1), at(7, 1), at(10, 1), at(7, 7)], [[0; 3]; 6]);
    assert!(contact_sheet(&pictures, 9, 1).unwrap().width == 14);
    for error in [contact_sheet(&[], 3, 1).unwrap_err(), contact_sheet(&pictures, 0, 1).unwrap_err()] {
        assert!(matches!(error, MediaError::ContactSheet { .. }) && error.hint().is_some());
    }
    assert!(matches!(contact_sheet(&pictures, 2, usize::MAX), Err(MediaError::PictureSize { .. })));
}

fn write(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn other_formats_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let brands = |brands: &str| [&(8 + brands.len() as u32).to_be_bytes()[..], b"ftyp", brands.as_bytes()].concat();
    let mut cases = vec![
        (write(&dir, "a.jpg", &brands("heic\0\0\0\0mif1heic")), "HEIC"),
        (write(&dir, "b.heic", &brands("mif1\0\0\0\0mif1heic")), "HEIC"),
        (write(&dir, "c.heif", &brands("mif1\0\0\0\0mif1tmap")), "HEIF"),
        (write(&dir, "d.avif", &brands("mif1\0\0\0\0mif1avif")), "AVIF"),
        (write(&dir, "e.jxl", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14"), "JPEG XL"),
        (write(&dir, "f.png", b"\xff\x0a\xfa\x7f"), "JPEG XL"),
        (write(&dir, "g.hdr", b"#?RADIANCE\n"), "Hdr"),
    ];
    cases.push((fixture("refused.avif"), "AVIF"));
    for (path, name) in cases {
        let error = read_image(&path).unwrap_err();
        assert!(matches!(error, MediaError::PictureFormat { .. }), "{}: {error}", path.display());
        assert!(error.to_string().contains(&format!("{name} is not supported")), "{error}");
        assert!(error.hint().unwrap().contains("PNG or JPEG"));
    }
    for (name, bytes) in [("a.png", &b"this is a text"[..]), ("b.jpg", b"\0"), ("c.mp4", b"\0\0\0\x10ftypisom\0\0\0\0")]
    {
        let error = read_image(write(&dir, name, bytes)).unwrap_err();
        assert!(matches!(error, MediaError::NotAPicture { .. }) && error.hint().is_some(), "{error}");
    }
    assert!(matches!(read_image(dir.path()), Err(MediaError::NotAPicture { .. })));
    assert!(matches!(read_image(dir.path().join("missing.png")), Err(MediaError::Io { .. })));
    assert!(matches!(read_image(write(&dir, "empty.png", b"")), Err(MediaError::Damaged { .. })));
}

/// A header that promises 60000x60000 pixels: refused before any of them is paid for.
#[test]
fn bombs_are_refused_by_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let side = 60000_u32;
    let mut png = std::fs::read(fixture("rgb.png")).unwrap();
    png[16..20].copy_from_slice(&side.to_be_bytes());
    png[20..24].copy_from_slice(&side.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    let mut gif = std::fs::read(fixture("kept.gif")).unwrap();
    gif[6..10].fill(0xea);
    let mut bmp = std::fs::read(fixture("rgb.bmp")).unwrap();
    bmp[18..22].copy_from_slice(&side.to_le_bytes());
    bmp[22..26].copy_from_slice(&side.to_le_bytes());
    let mut jpeg = std::fs::read(fixture("exif_1.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xea);
    let mut tiff = std::fs::read(fixture("rgb.tif")).unwrap();
    // Width, height and rows per strip, in an entry of any type with one value.
    for tag in [256_u16, 257, 278] {
        let is_entry = |bytes: &[u8]| bytes[..2] == tag.to_le_bytes() && bytes[3..] == [0, 1, 0, 0, 0];
        let at = tiff.windows(8).position(is_entry).unwrap();
        tiff[at + 2] = 4;
        tiff[at + 8..at + 12].copy_from_slice(&side.to_le_bytes());
    }
    let mut webp = std::fs::read(fixture("frames.webp")).unwrap();
    webp[24..30].copy_from_slice(&[0x5f, 0xea, 0, 0x5f, 0xea, 0]);
    for (name, bytes) in [("png", png), ("gif", gif), ("bmp", bmp), ("jpg", jpeg), ("tif", tiff), ("webp", webp)] {
        let path = write(&dir, &format!("bomb.{name}"), &bytes);
        for error in [read_image(&path).unwrap_err(), kinora_media::open(&path).err().unwrap()] {
            let text = error.to_string();
            assert!(matches!(error, MediaError::PictureTooLarge { .. }) && error.hint().is_some(), "{name}: {error}");
            assert!(text.contains("60000×60000") || text.contains("60138×60138"), "{text}");
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[test]
fn truncated_pictures_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let names =
        ["rgb.png", "alpha16.png", "exif_1.jpg", "progressive.jpg", "rgb.webp", "lossy.webp", "rgb.bmp", "rgb.tif"];
    for name in names.into_iter().chain(["palette.gif"]) {
        let bytes = std::fs::read(fixture(name)).unwrap();
        // Of a PNG the last 12 bytes, and of a GIF the last two and the end code, come after the picture.
        for len in 0..bytes.len() - if name.ends_with("png") { 16 } else { 4 } {
            let result = read_image(write(&dir, "cut", &bytes[..len]));
            let error = result.err().unwrap_or_else(|| panic!("{len} of {} bytes of {name} are read", bytes.len()));
            assert!(error.hint().is_some(), "{name}: {error}");
        }
    }
}
