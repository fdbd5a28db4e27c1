//! GGUF files: gguf-py's (scripts/fixtures/formats.py), made ones, and damaged ones.

use candle_core::{DType, Device};
use kinora_checkpoint::{Error, Format, TensorFile, Weights};
use kinora_test_support::gguf::{Gguf, text};

fn formats(name: &str) -> std::path::PathBuf {
    kinora_test_support::fixture("formats").join(name)
}

fn open(file: Gguf) -> Result<TensorFile, Error> {
    TensorFile::from_static("a.gguf", file.bytes().leak())
}

/// The message that opening the file leads to, behind the file's name.
fn refusal(file: Gguf) -> String {
    let error = open(file).err().expect("an error");
    assert!(error.hint().is_some(), "{error} has no hint");
    error.to_string().split_once("a.gguf: ").expect("the file is named").1.to_string()
}

#[test]
fn values_of_every_kind_are_those_that_were_written() {
    let file = TensorFile::open(&formats("types.gguf")).unwrap();
    assert_eq!(file.format(), "GGUF");
    for (key, value) in [
        ("general.architecture", "kinds"),
        ("kinds.u8", "200"),
        ("kinds.i8", "-100"),
        ("kinds.u16", "60000"),
        ("kinds.i16", "-30000"),
        ("kinds.u32", "4000000000"),
        ("kinds.i32", "-2000000000"),
        ("kinds.f32", "0.5"),
        ("kinds.bool", "1"),
        ("kinds.string", "Größe"),
        ("kinds.u64", "9223372036854775808"),
        ("kinds.i64", "-4611686018427387904"),
        ("kinds.f64", "0.1"),
    ] {
        assert_eq!(file.metadata().get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(file.texts("kinds.texts").unwrap().unwrap(), ["", "▁a", "日本"]);
    assert_eq!(file.numbers("kinds.numbers").unwrap().unwrap(), [1.0, -2.0, 3.0]);
    assert_eq!(file.numbers("kinds.reals").unwrap().unwrap(), [0.5, -1.25]);
    assert_eq!(file.texts("kinds.none").unwrap(), None);
    let error = file.texts("kinds.numbers").unwrap_err().to_string();
    assert!(error.ends_with("`kinds.numbers` is not a list of texts"), "{error}");
    let error = file.numbers("kinds.texts").unwrap_err().to_string();
    assert!(error.ends_with("`kinds.texts` is not a list of numbers"), "{error}");
}

#[test]
fn shapes_are_in_the_order_of_the_model() {
    let file = TensorFile::open(&formats("types.gguf")).unwrap();
    let info = |name: &str| file.infos().into_iter().find(|info| info.name == name).unwrap();
    assert_eq!((info("five").shape, info("five").format), (vec![3, 2, 1, 2, 1], Format::F32));
    assert_eq!((info("Q4_K").shape, info("Q4_K").bytes), (vec![2, 256], 288));
    assert_eq!(info("Q4_K").format.to_string(), "Q4_K");
    let five: Vec<f32> = file.tensor("five").unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(five, (0..12).map(|i| i as f32).collect::<Vec<_>>());
}

#[test]
fn lost_ones_and_merged_dimensions_come_back() {
    let file = Gguf::default()
        .counting("modulation", &[6, 4])
        .counting("patch_embedding.weight", &[6, 1, 2, 2])
        .counting("patch_embedding.bias", &[3])
        .counting("stored.weight", &[2, 6])
        .numbers("comfy.gguf.orig_shape.stored.weight", &[3, 1, 4]);
    let weights = Weights::from_files(vec![open(file).unwrap()], &[], &Device::Cpu, DType::F32).unwrap();
    assert_eq!(weights.get("modulation", (1, 6, 4)).unwrap().dims(), [1, 6, 4]);
    let patch = weights.get("patch_embedding.weight", (3, 2, 1, 2, 2)).unwrap();
    assert_eq!(patch.flatten_all().unwrap().to_vec1::<f32>().unwrap()[22..], [23.0, 24.0]);
    assert_eq!(weights.get("stored.weight", (3, 1, 4)).unwrap().dims(), [3, 1, 4]);
    let error = weights.get("modulation", (6, 1, 4)).unwrap_err();
    assert_eq!(error.to_string(), "tensor `modulation` has shape [6, 4], the model needs [6, 1, 4]");
    let wrong = Gguf::default().counting("a", &[2, 6]).numbers("comfy.gguf.orig_shape.a", &[3, 5]);
    assert_eq!(refusal(wrong), "tensor `a`: its true shape [3, 5] in the metadata is not that of [2, 6]");
}

#[test]
fn an_unfinished_conversion_says_what_to_run() {
    let file = || Gguf::default().counting("patch_embedding.bias", &[3]).counting("a", &[2]);
    let error = open(file()).err().unwrap();
    let message = "a.gguf: it is an unfinished conversion, without `patch_embedding.weight`, which is not read yet";
    assert_eq!(error.to_string(), message);
    assert!(error.hint().unwrap().contains("fix_5d_tensors"));
    assert!(open(file().counting("patch_embedding.weight", &[3, 1, 1, 2, 2])).is_ok());
}

#[test]
fn refusals_name_the_tensor_and_what_is_wrong() {
    let version = Gguf::of_version;
    assert_eq!(refusal(version(1)), "it is of version 1 of GGUF, which is not read yet");
    assert_eq!(refusal(version(99)), "it is of version 99 of GGUF, which is not read yet");
    assert_eq!(refusal(version(0x0300_0000)), "it is a GGUF file with big-endian numbers, which is not read yet");
    assert!(open(version(2).counting("a", &[2])).is_ok());
    let typed = |kind| Gguf::default().described("blocks.0.q.weight", &[2, 256], kind, 0);
    assert_eq!(refusal(typed(16)), "tensor `blocks.0.q.weight` has the type IQ2_XXS, which is not read yet");
    assert_eq!(
        refusal(typed(77)),
        "tensor `blocks.0.q.weight` has the type 77 of later versions, which is not read yet"
    );
    let blocks = Gguf::default().tensor("a", &[8, 16], 8, &[0; 136]);
    assert_eq!(refusal(blocks), "tensor `a`: its rows of 16 values are no whole number of Q8_0's blocks of 32");
    let six = Gguf::default().described("a", &[1; 6], 0, 0);
    assert_eq!(refusal(six), "tensor `a`: it has 6 dimensions, at most 5 are read");
    let twice = Gguf::default().counting("a", &[2]).counting("a", &[2]);
    assert_eq!(refusal(twice), "tensor `a`: appears twice");
    let keys = Gguf::default().number("a", 1).number("a", 1);
    assert_eq!(refusal(keys), "the key `a` appears twice");
    let offset = |offset| Gguf::default().counting("a", &[16]).described("b", &[2], 0, offset);
    assert_eq!(refusal(offset(4)), "tensor `b`: its offset 4 is not a multiple of the alignment 32");
    assert_eq!(refusal(offset(32)), "tensor `b`: its data overlaps that of `a`");
    let beyond = "tensor `b`: its 8 bytes at 64 do not lie in the file, which has 64 bytes of data";
    assert_eq!(refusal(offset(64)), beyond);
    assert!(refusal(offset(1 << 63)).starts_with("tensor `b`: its 8 bytes at 9223372036854775808 do not lie"));
    let huge = Gguf::default().described("a", &[1 << 40, 1 << 40], 0, 0);
    assert_eq!(refusal(huge), "tensor `a`: its shape [1099511627776, 1099511627776] of F32 has no size in bytes");
    let adapter = Gguf::default().text("general.type", "adapter").counting("a.lora_a", &[2]);
    assert_eq!(refusal(adapter), "it is a LoRA or another adapter of llama.cpp, which is not read yet");
    let rotated = Gguf::default().text("x.convrot", "{}").counting("a", &[2]);
    assert_eq!(refusal(rotated), "its values mean what `x.convrot` says, which is not read yet");
    let aligned = Gguf::default().number("general.alignment", 24).counting("a", &[2]);
    assert_eq!(refusal(aligned), "`general.alignment` is not a power of two");
    assert_eq!(refusal(Gguf::default().raw("a", 13, &[])), "`a`: 13 is no type of a value");
    assert_eq!(refusal(Gguf::default().raw("a", 7, &[2])), "`a`: 2 is no truth value");
}

/// No header's word is taken for a size before it was compared with the file's.
#[test]
fn counts_beyond_the_file_are_refused() {
    let patched = |at: usize, value: u64| {
        let mut bytes = Gguf::default().text("key", "value").counting("a", &[2]).bytes();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        TensorFile::from_static("a.gguf", bytes.leak()).err().expect("an error").to_string()
    };
    let many = "for which it is too short";
    assert_eq!(patched(8, 1 << 60), format!("a.gguf: it says that it has 1152921504606846976 tensors, {many}"));
    assert_eq!(patched(16, 1 << 60), format!("a.gguf: it says that it has 1152921504606846976 keys, {many}"));
    assert!(patched(24, u64::MAX).ends_with(&format!("bytes of a text, {many}")));
    let list = |kind: u32, count: u64| {
        let value = [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
        refusal(Gguf::default().raw("a", 9, &value))
    };
    for kind in [0, 5, 8, 9, 12] {
        assert_eq!(list(kind, 1 << 61), format!("`a`: it says that it has {} items of a list, {many}", 1u64 << 61));
    }
    let nested: Vec<u8> = (0..9).flat_map(|_| [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()).collect();
    assert_eq!(refusal(Gguf::default().raw("a", 9, &nested)), "`a`: lists lie in lists, more than 4 deep");
}

#[test]
fn other_alignments_are_those_of_the_file() {
    let file = Gguf::aligned(128).counting("a", &[3]).counting("b", &[2]);
    let file = open(file).unwrap();
    assert_eq!(file.tensor("b").unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0]);
}

fn shard(number: u16, tensor: &str) -> Gguf {
    let split = Gguf::default().raw("split.no", 2, &number.to_le_bytes()).raw("split.count", 2, &2u16.to_le_bytes());
    split.counting(tensor, &[2])
}

#[test]
fn shards_bring_their_siblings() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (first, second) = (path("m-00001-of-00002.gguf"), path("m-00002-of-00002.gguf"));
    std::fs::write(&second, shard(1, "b").bytes()).unwrap();
    let error = TensorFile::open_all(std::slice::from_ref(&second)).err().unwrap();
    assert!(error.to_string().ends_with("shard `m-00001-of-00002.gguf` is missing"), "{error}");
    std::fs::write(&first, shard(0, "a").bytes()).unwrap();
    for given in [vec![first.clone()], vec![second.clone()], vec![second.clone(), first.clone()]] {
        let weights = Weights::open(&given, &[], &Device::Cpu, DType::F32).unwrap();
        assert!(weights.get("a", 2).is_ok() && weights.get("b", 2).is_ok());
    }
    std::fs::write(&first, shard(1, "a").bytes()).unwrap();
    let error = TensorFile::open_all(std::slice::from_ref(&second)).err().unwrap().to_string();
    assert!(error.ends_with("m-00001-of-00002.gguf: it does not say that it is file 1 of 2"), "{error}");
    let renamed = path("mine.gguf");
    std::fs::copy(&second, &renamed).unwrap();
    let error = TensorFile::open_all(&[renamed]).err().unwrap();
    assert!(error.to_string().contains("its name does not end in `-00002-of-00002.gguf`"), "{error}");
}

/// Damage anywhere in the header leads to a result, soon.
#[test]
fn mutated_headers_never_panic() {
    let seed = std::fs::read(formats("types.gguf")).unwrap();
    let header = 2000;
    let mut state = 3u64;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let start = std::time::Instant::now();
    let mut opened = 0;
    for _ in 0..5000 {
        let mut bytes = seed.clone();
        for _ in 0..=random(3) {
            let at = 4 + random(header.min(bytes.len()) - 4);
            match random(6) {
                0 => bytes.truncate(at),
                1 if at + 8 <= bytes.len() => bytes[at..at + 8].fill(0xff),
                2 if at + 8 <= bytes.len() => bytes[at..at + 8].copy_from_slice(&(1u64 << random(64)).to_le_bytes()),
                3 => bytes.insert(at, random(256) as u8),
                _ => bytes[at] = random(256) as u8,
            }
            if bytes.len() < 16 {
                break;
            }
        }
        let Ok(file) = TensorFile::from_static("a.gguf", bytes.leak()) else { continue };
        opened += 1;
        for key in ["kinds.texts", "kinds.numbers", "kinds.reals"] {
            let _ = (file.texts(key), file.numbers(key));
        }
        file.infos().iter().for_each(|info| drop(file.tensor(&info.name)));
    }
    assert!(opened > 100, "{opened} of the files could be opened");
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn texts_of_a_header_are_utf_8() {
    let bytes = [&text("ab")[..8], &[0xff, 0xfe]].concat();
    assert_eq!(refusal(Gguf::default().raw("a", 8, &bytes)), "`a`: a text in its header is not UTF-8");
}
