//! Reading recipes from damaged and malicious files gives a result or an error, never a panic, a hang or a large allocation.

use super::*;
use crate::{ClipSpec, Fps, Frame, WriteOptions, create};
use std::fs;
use std::io::Cursor;

const RECIPE: &str = r#"{"seed":7}"#;

/// One small clip of each format.
fn samples() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let spec = ClipSpec { width: 16, height: 16, fps: Fps::new(8, 1).unwrap() };
    let options = WriteOptions { recipe: Some(RECIPE.into()), ..WriteOptions::default() };
    ["clip.mp4", "clip.png", "clip.gif", "clip.webp", "clip.safetensors"]
        .map(|name| {
            let path = dir.path().join(name);
            let mut writer = create(&path, &spec, &options).unwrap();
            writer.push(&Frame::new(16, 16, vec![0.5; 3 * 16 * 16]).unwrap()).unwrap();
            writer.finish().unwrap();
            fs::read(path).unwrap()
        })
        .to_vec()
}

fn read(bytes: &[u8]) -> Result<Option<String>> {
    read_from(Cursor::new(bytes), Path::new("hostile"))
}

#[test]
fn truncated_files_have_no_recipe_or_an_error() {
    for sample in samples() {
        for len in 0..sample.len() {
            if let Ok(Some(recipe)) = read(&sample[..len]) {
                assert_eq!(recipe, RECIPE);
            }
        }
    }
}

#[test]
fn mutated_files_never_panic() {
    let mut state = 0x1234_5678_u32;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize % below
    };
    for sample in samples() {
        for _ in 0..20_000 {
            let mut bytes = sample.clone();
            for _ in 0..=random(4) {
                // Half of the changes hit a 4-byte number, where sizes are.
                let at = random(bytes.len() - 4);
                match random(4) {
                    0 => bytes[at] = random(256) as u8,
                    1 => bytes[at..at + 4].fill(0xff),
                    2 => bytes[at..at + 4].copy_from_slice(&[0, 0, 0, random(32) as u8]),
                    _ => bytes.truncate(at + 4),
                }
                if bytes.len() < 8 {
                    break;
                }
            }
            let _ = read(&bytes);
        }
    }
}

#[test]
fn sizes_that_lie_are_errors() {
    let boxed = |size: u32, kind: &[u8; 4], payload: &[u8]| {
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.extend(payload);
        bytes
    };
    let ftyp = boxed(16, b"ftyp", b"isom\0\0\0\0");
    let cases = [
        ("size smaller than the header", boxed(7, b"moov", &[])),
        ("size beyond the file", boxed(u32::MAX, b"moov", &[0; 8])),
        ("64-bit size near the end of numbers", boxed(1, b"moov", &u64::MAX.to_be_bytes())),
        ("64-bit size smaller than its header", boxed(1, b"moov", &9_u64.to_be_bytes())),
        ("child beyond its parent", boxed(24, b"moov", &boxed(64, b"udta", &[0; 64]))),
        ("no index", boxed(8, b"free", &[])),
    ];
    for (name, bytes) in cases {
        let result = read(&[ftyp.clone(), bytes].concat());
        assert!(matches!(result, Err(MediaError::Damaged { .. })), "{name}: {result:?}");
    }
    let deep = (0..20_000).fold(Vec::new(), |inner, _| boxed(8, b"free", &inner));
    assert!(read(&[ftyp, deep].concat()).is_err());
}

#[test]
fn a_recipe_of_many_megabytes_is_not_read() {
    let text = vec![b'x'; 3 << 20];
    let nested = [b"data", b"\xa9cmt", b"ilst", b"meta", b"udta", b"moov"].iter().fold(text, |inner, kind| {
        let version: &[u8] = if *kind == b"meta" || *kind == b"data" { &[0; 8] } else { &[] };
        // `meta` has 4 bytes of version, `data` 8 of type and locale.
        let version = if *kind == b"meta" { &version[..4] } else { version };
        let mut bytes = ((8 + version.len() + inner.len()) as u32).to_be_bytes().to_vec();
        bytes.extend(*kind);
        bytes.extend(version);
        bytes.extend(inner);
        bytes
    });
    let file = [&[0, 0, 0, 16][..], b"ftypisom\0\0\0\0", &nested].concat();
    let result = read(&file);
    assert!(matches!(result, Err(MediaError::RecipeTooLong { .. })), "{result:?}");
}

#[test]
fn files_of_other_kinds_have_no_recipe() {
    for bytes in [&b""[..], b"x", b"just some text that is no clip at all", &[0; 100]] {
        assert_eq!(read(bytes).unwrap(), None);
    }
    assert!(matches!(read_recipe("missing/clip.mp4"), Err(MediaError::Io { .. })));
}
