//! Safetensors headers that are wrong in every way the format can be wrong.

use crate::{open_bytes, refusal, safetensors};
use kinora_checkpoint::TensorFile;

const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
const TWO: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},"__metadata__":{"k":"v"}}"#;

#[test]
fn valid_headers_are_read() {
    let file = open_bytes(&safetensors(TWO, 14)).unwrap();
    assert_eq!(file.metadata()["k"], "v");
    let infos = file.infos();
    assert_eq!(infos.iter().map(|info| (info.name.as_str(), info.bytes)).collect::<Vec<_>>(), [("a", 8), ("b", 6)]);
    assert!(open_bytes(&safetensors("{}", 0)).unwrap().infos().is_empty());
    // Data that is not aligned to its elements.
    let odd = format!("{ONE}   ");
    assert_eq!(open_bytes(&safetensors(&odd, 16)).unwrap().tensor("a").unwrap().dims(), [2, 2]);
}

#[test]
fn truncated_and_oversized_files() {
    let bytes = safetensors(ONE, 16);
    assert_eq!(refusal(&[]), "it is empty, not tensors");
    assert_eq!(refusal(&bytes[..5]), "the file is cut short: 5 bytes are too few for a safetensors file");
    assert_eq!(
        refusal(&bytes[..30]),
        "the file is cut short: its header is 57 bytes long, but only 22 bytes are there"
    );
    assert_eq!(
        refusal(&bytes[..bytes.len() - 1]),
        "tensor `a`: its data at 0..16 does not lie in the file, which has 15 bytes of data"
    );
    assert_eq!(refusal(&safetensors(ONE, 17)), "1 bytes after the last tensor belong to none");
    let absurd = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert_eq!(refusal(&absurd), "not a safetensors file: its header would be 18446744073709551615 bytes long");
}

#[test]
fn overlaps_and_gaps() {
    let pair = |from: usize, to: usize, data| {
        let header = format!(
            r#"{{"a":{{"dtype":"U8","shape":[8],"data_offsets":[0,8]}},"b":{{"dtype":"U8","shape":[8],"data_offsets":[{from},{to}]}}}}"#
        );
        refusal(&safetensors(&header, data))
    };
    assert_eq!(pair(4, 12, 12), "tensor `b`: its data at 4..12 overlaps another tensor's");
    assert_eq!(pair(0, 8, 8), "tensor `b`: its data at 0..8 overlaps another tensor's");
    assert_eq!(pair(10, 18, 18), "tensor `b`: its data at 10..18 leaves a gap before it");
    assert_eq!(pair(12, 4, 16), "tensor `b`: its data at 12..4 does not lie in the file, which has 16 bytes of data");
}

#[test]
fn entries_that_contradict_themselves() {
    let entry = |dtype: &str, shape: &str, end: usize| {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#);
        refusal(&safetensors(&header, end))
    };
    assert_eq!(entry("F32", "[3]", 16), "tensor `a`: shape [3] of F32 needs 12 bytes, but has 16");
    assert_eq!(entry("Q8", "[16]", 16), "tensor `a`: unknown dtype `Q8`");
    assert_eq!(entry("F4", "[3]", 2), "tensor `a`: its shape [3] of F4 has no size in bytes");
    let huge = "[4294967296,4294967296,4]";
    assert!(entry("F32", huge, 0).ends_with("of F32 has no size in bytes"));
    assert!(entry("F32", "[0,4294967296,4294967296,4]", 0).ends_with("of F32 has no size in bytes"));
    assert!(entry("F32", "[-1]", 4).contains("invalid value: integer `-1`"));
    assert!(entry("F32", "[1e30]", 4).contains("the safetensors header is not valid"));
}

#[test]
fn duplicate_names_and_bad_json() {
    let twice =
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert!(refusal(&safetensors(twice, 2)).starts_with("the safetensors header is not valid: `a` appears twice"));
    for header in ["", "[]", "{", "null", r#"{"a":1}"#, r#"{"a":{"dtype":"F32"}}"#, "{}{}", "{\"\u{0}"] {
        assert!(refusal(&safetensors(header, 0)).starts_with("the safetensors header is not valid"), "{header}");
    }
    let not_utf8 = [&8u64.to_le_bytes()[..], b"{\"\xff\xff\":1}"].concat();
    assert!(refusal(&not_utf8).starts_with("the safetensors header is not valid"));
    let deep = "{\"a\":".repeat(100_000);
    assert!(refusal(&safetensors(&deep, 0)).starts_with("the safetensors header is not valid"));
}

#[test]
fn other_formats_are_told_apart() {
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{:064}\nsize 123456\n", 0);
    for (bytes, what) in [
        (pointer.as_bytes(), "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n  <HTML lang=en>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "XML"),
        (b"\xef\xbb\xbf{\"error\": \"no\"}", "JSON"),
        (b"Entry not found", "a text (`Entry not found`)"),
        ("Für später\nnoch was".as_bytes(), "a text (`F?r sp?ter`)"),
        (b"\x1f\x8b\x08\0", "packed with gzip"),
        (b"\x80\x05\x95\x10", "a Python pickle"),
        (b"\x80\x02\x8a\x0al\xfc", "a PyTorch file from before version 1.6"),
        (b"\x0a\x0e\x0a\x05<pad>\x15\0", "a SentencePiece model"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "macOS's notes on another file"),
        (b"\xff\xfe{\0}\0", "UTF-16 text"),
    ] {
        assert_eq!(refusal(bytes), format!("it is {what}, not tensors"));
    }
    // Lengths of headers that begin as other formats do.
    for first in [[0x80, 2], [0x1f, 0x8b], [b'{', b' ']] {
        let length = usize::from(u16::from_le_bytes(first));
        let header = format!("{{{}}}", " ".repeat(length - 2));
        assert!(open_bytes(&safetensors(&header, 0)).unwrap().infos().is_empty());
    }
    let missing = TensorFile::open("no/such/file.safetensors".as_ref()).err().unwrap();
    assert_eq!(missing.hint().unwrap(), "check the path");
    assert!(TensorFile::open(std::env::temp_dir().as_path()).is_err());
}

#[test]
fn a_name_without_end_is_refused() {
    let named = |length: usize| {
        safetensors(&format!(r#"{{"{}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#, "a".repeat(length)), 4)
    };
    assert!(open_bytes(&named(1024)).is_ok());
    assert_eq!(refusal(&named(70_000)), "a tensor's name has 70000 bytes, at most 1024 are read");
}

/// Whatever single or double damage a header takes, the answer is a result, and what is accepted can be read.
#[test]
fn mutated_headers_never_panic() {
    let seeds = [safetensors(ONE, 16), safetensors(TWO, 14)];
    let mut state = 1u64;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for round in 0..6000 {
        let mut bytes = seeds[round % 2].clone();
        for _ in 0..=random(2) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] = b"0123456789,[]{}\":-e."[random(20)],
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, b"0193,"[random(5)]),
                _ => {
                    let end = (at + random(20)).min(bytes.len());
                    bytes.extend_from_within(at..end);
                }
            }
        }
        let Ok(file) = TensorFile::from_static("file.safetensors", bytes.leak()) else { continue };
        for info in file.infos() {
            // A dtype that candle lacks is an error, not a panic.
            if let Ok(tensor) = file.tensor(&info.name) {
                assert_eq!(tensor.dims(), info.shape);
            }
        }
    }
}
