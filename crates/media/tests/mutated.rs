//! Clips and pictures that were damaged or made to harm: frames or an error with a hint, never a panic, a hang or much memory.

#![allow(clippy::print_stderr, reason = "what could be read is reported")]

#[path = "support/fixtures.rs"]
mod fixtures;
mod support;

use fixtures::{Tensors, fixture};
use kinora_media::{MediaError, Sound, WriteOptions, create, open, read_image, read_recipe};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use support::{animated_png, shapes, spec, write_shapes};

/// Mutants of all files together.
const MUTANTS: usize = 3000;

/// No mutant of a few kilobytes works for so long, on any machine.
const HANG: Duration = Duration::from_mins(2);

/// Numbers by xorshift; each mutant has its own seed.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % limit.max(1)
    }
}

/// Names whose neighbourhood holds numbers that other parts of a file depend on.
const FIELDS: [&[u8]; 29] = [
    b"Opus",
    b"dOps",
    b"mp4a",
    b"esds",
    b"soun",
    b"audio",
    b"stsz",
    b"stco",
    b"stsc",
    b"stts",
    b"ctts",
    b"elst",
    b"tkhd",
    b"mvhd",
    b"mdhd",
    b"avcC",
    b"avc1",
    b"moov",
    b"mdat",
    b"trun",
    b"tfhd",
    b"trex",
    b"IHDR",
    b"acTL",
    b"VP8 ",
    b"ANMF",
    b"II*",
    b"\x21\xf9",
    b"\xff\xc0",
];

fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    const NUMBERS: [u32; 8] = [0, 1, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x0100_0000, 0xffff];
    let mut bytes = bytes.to_vec();
    let len = bytes.len();
    match random.below(8) {
        0 => bytes.truncate(random.below(len)),
        1 | 2 => (0..=random.below(20)).for_each(|_| bytes[random.below(len)] ^= 1 << random.below(8)),
        3 => (0..=random.below(8)).for_each(|_| bytes[random.below(len.min(600))] = random.below(256) as u8),
        4 | 5 => {
            let places = |name: &[u8]| bytes.windows(name.len()).position(|part| part == name);
            let places: Vec<usize> = FIELDS.iter().filter_map(|name| places(name)).collect();
            let near = places.get(random.below(places.len())).copied().unwrap_or_default();
            let at = (near + random.below(44)).saturating_sub(4).min(len - 4);
            let number = NUMBERS[random.below(NUMBERS.len())];
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        6 => {
            let at = random.below(len);
            bytes.drain(at..(at + 1 + random.below(200)).min(len));
        }
        _ => {
            let (at, more) =
                (random.below(len), (0..=random.below(300)).map(|_| random.below(256) as u8).collect::<Vec<_>>());
            bytes.splice(at..at, more);
        }
    }
    bytes
}

/// Files of every kind that is read, by name.
fn originals(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let streams = ["main", "pyramid", "front", "live", "fragments", "cut", "sound", "uneven", "turned", "references"];
    let streams = streams.into_iter().map(|name| format!("h264/{name}.mp4"));
    let mut files: BTreeMap<_, _> =
        streams.map(|name| (name.clone(), std::fs::read(fixture(&name)).unwrap())).collect();
    for name in Tensors::open("pictures.safetensors").names() {
        files.insert(name.clone(), std::fs::read(fixture(&name)).unwrap());
    }
    let options = WriteOptions {
        recipe: Some(r#"{"seed":7}"#.into()),
        encoder: Some("openh264".into()),
        ..WriteOptions::default()
    };
    for name in ["ours.mp4", "ours.gif", "ours.webp", "ours.safetensors"] {
        write_shapes(&dir.join(name), &spec(48, 32, 8), 6, &options);
        files.insert(name.into(), std::fs::read(dir.join(name)).unwrap());
    }
    for name in ["heard.mp4", "heard.safetensors"] {
        let spec = spec(16, 16, 8);
        let mut writer = create(dir.join(name), &spec, &options).unwrap();
        let sound = (0..16_000).map(|at| (at as f32 * 0.05).sin() * 0.5).collect();
        writer.sound(&Sound::new(8000, 2, sound).unwrap().into()).unwrap();
        (0..6).for_each(|index| writer.push(&shapes(&spec, index)).unwrap());
        writer.finish().unwrap();
        files.insert(name.into(), std::fs::read(dir.join(name)).unwrap());
    }
    files.insert("animated.png".into(), animated_png());
    files
}

/// Reads a file in every way; returns the number of frames.
fn read(path: &Path) -> Result<usize, MediaError> {
    let hinted = |error: MediaError| {
        assert!(!error.to_string().is_empty() && error.hint().is_some(), "{error} has no hint");
        error
    };
    let _ = read_image(path).map_err(hinted);
    let _ = read_recipe(path).map_err(hinted);
    let mut clip = open(path).map_err(hinted)?;
    if let Some(sound) = clip.sound() {
        // Decoded, and on its way to another clip.
        let samples = sound.decoded().map_err(hinted);
        assert!(samples.is_err() || sound.rate() > 0);
        let (copy, size) = (path.with_file_name("copy.mp4"), spec(16, 16, 8));
        let mut writer = create(&copy, &size, &WriteOptions::default()).unwrap();
        if writer.sound(&sound).map_err(hinted).is_ok() {
            let _ = writer.push(&shapes(&size, 0)).and_then(|()| writer.finish()).map_err(hinted);
        }
    }
    let (expected, mut count) = (clip.frames(), 0);
    while clip.next_frame().map_err(hinted)?.is_some() {
        count += 1;
    }
    assert!(expected.is_none_or(|expected| expected == count), "{count} of {expected:?} frames");
    Ok(count)
}

#[test]
fn mutated_files_are_frames_or_errors_with_hints() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = originals(dir.path()).into_iter().collect();
    let (tell, told) = channel();
    let worker = thread::spawn(move || {
        let mut whole = 0;
        for number in 0..MUTANTS {
            // Every second one is an MP4.
            let (name, bytes) = match number % 2 {
                0 => files.iter().filter(|(name, _)| name.contains(".mp4")).cycle().nth(number / 2).unwrap(),
                _ => &files[number / 2 % files.len()],
            };
            let mut random = Random(0x9e37_79b9 ^ (number as u32 + 1).wrapping_mul(0x85eb_ca6b));
            let mutant = mutated(bytes, &mut random);
            let ending = if name.contains(".safetensors") { "safetensors" } else { "mp4" };
            let path = dir.path().join(format!("mutant.{ending}"));
            std::fs::write(&path, mutant).unwrap();
            tell.send(format!("mutant {number} of {name}")).unwrap();
            whole += usize::from(read(&path).is_ok());
        }
        whole
    });
    let mut last = String::new();
    loop {
        match told.recv_timeout(HANG) {
            Ok(name) => last = name,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{last} hangs"),
        }
    }
    let whole = worker.join().unwrap_or_else(|_| panic!("{last} panics"));
    eprintln!("{whole} of {MUTANTS} mutants could be read");
    assert!(whole > MUTANTS / 20 && whole < MUTANTS);
}
