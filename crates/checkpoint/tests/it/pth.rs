//! Files that torch wrote (scripts/fixtures/checkpoint.py), and damaged ones.

use crate::fixture;
use candle_core::{DType, Device};
use kinora_checkpoint::{Format, TensorFile, Weights};

#[test]
fn tensors_are_those_that_torch_wrote() {
    let expected = TensorFile::open(&fixture("plain.safetensors")).unwrap();
    assert_eq!(expected.metadata()["made"], "by torch");
    for (name, extra) in [("plain.pth", 1), ("wrapped.pth", 0)] {
        let file = TensorFile::open(&fixture(name)).unwrap();
        assert_eq!(file.infos().len(), 11 + extra);
        for info in file.infos() {
            let (found, expected) = (file.tensor(&info.name).unwrap(), expected.tensor(&info.name).unwrap());
            assert_eq!(found.dims(), expected.dims(), "{}", info.name);
            assert_eq!(found.dtype(), expected.dtype(), "{}", info.name);
            let flat = |tensor: &candle_core::Tensor| {
                tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            assert_eq!(flat(&found), flat(&expected), "{}", info.name);
        }
    }
}

#[test]
fn newer_protocols_and_eighths_are_read_as_torch_reads_them() {
    let plain = TensorFile::open(&fixture("plain.safetensors")).unwrap();
    let eighths = TensorFile::open(&fixture("eighths.safetensors")).unwrap();
    for name in ["protocol4.pth", "protocol5.pth"] {
        let file = TensorFile::open(&fixture(name)).unwrap();
        let choice = "it holds `generator_ema` and `generator`, and `generator_ema` is read";
        assert!(file.choice().unwrap().ends_with(choice), "{:?}", file.choice());
        assert_eq!(file.infos().len(), 13);
        assert_eq!(file.tensor("transposed").unwrap().dims(), plain.tensor("transposed").unwrap().dims());
        let formats =
            ["e4m3", "e5m2"].map(|name| file.infos().into_iter().find(|info| info.name == name).unwrap().format);
        assert_eq!(formats, [Format::F8E4m3, Format::F8E5m2]);
        let weights = Weights::from_files(vec![file], &[], &Device::Cpu, DType::F32).unwrap();
        for (name, shape) in [("e4m3", &[3, 4][..]), ("e5m2", &[5])] {
            let flat = |tensor: candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(weights.get(name, shape).unwrap()), flat(eighths.tensor(name).unwrap()), "{name}");
        }
    }
}

#[test]
fn weights_from_pth() {
    let weights = Weights::open(&[fixture("wrapped.pth")], &[], &Device::Cpu, DType::F32).unwrap();
    assert_eq!(weights.pp("block").pp(0).get("weight", (5, 7)).unwrap().dtype(), DType::F32);
    assert_eq!(weights.get("transposed", (2, 3, 4)).unwrap().dims(), [2, 3, 4]);
    let integers = Weights::open(&[fixture("integers.pth")], &[], &Device::Cpu, DType::F32).unwrap();
    assert_eq!(
        integers.get("steps", 3).unwrap_err().to_string(),
        "tensor `steps` is stored as I64, which cannot be used as a weight"
    );
}

#[test]
fn refusals_say_why() {
    let refusal = |name: &str| {
        let error = TensorFile::open(&fixture(name)).err().unwrap();
        assert!(error.hint().is_some());
        error.to_string().split_once(".pth: ").unwrap().1.to_string()
    };
    assert_eq!(refusal("legacy.pth"), "it is a PyTorch file from before version 1.6, not tensors");
    assert_eq!(refusal("module.pth"), "it holds no state dict (a dictionary of tensors), which is not read yet");
    assert_eq!(refusal("mixed.pth"), "`step` is not a tensor, which is not read yet");
    assert_eq!(
        refusal("expanded.pth"),
        "tensor `weight`: shape [1099511627776, 2] with strides [0, 1] does not fit into its storage"
    );
}

/// An archive as `torch.save` makes it, with this pickle and one storage of two f32.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    let storage = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
    for (name, content) in [("a/data.pkl", pickle), ("a/data/0", &storage)] {
        let (at, size, length) = (file.len() as u32, content.len() as u32, name.len() as u16);
        let sizes = [[0; 4], size.to_le_bytes(), size.to_le_bytes()].concat();
        file.extend(
            [&b"PK\x03\x04"[..], &[0; 10], &sizes, &length.to_le_bytes(), &[0; 2], name.as_bytes(), content].concat(),
        );
        let start = [&b"PK\x01\x02"[..], &[0; 12], &sizes, &length.to_le_bytes(), &[0; 12]].concat();
        directory.extend([&start[..], &at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (at, size) = (file.len() as u32, directory.len() as u32);
    file.extend(directory);
    file.extend([&b"PK\x05\x06\0\0\0\0"[..], &[2, 0, 2, 0], &size.to_le_bytes(), &at.to_le_bytes(), &[0; 2]].concat());
    file
}

/// A pickled text.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A pickled dictionary with the tensor `w`.
fn dictionary() -> Vec<u8> {
    let storage =
        [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x02tQ"].concat();
    let rest = b"K\0K\x02\x85K\x01\x85\x89}tR";
    [b"}", &text("w")[..], b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage, rest, b"s"].concat()
}

#[test]
fn of_several_sets_of_tensors_it_is_said_which_one_is_read() {
    let open = |pickle: &[u8]| TensorFile::from_static("a.pth", archive(pickle).leak());
    let wrapped = |names: &[&str]| {
        let items: Vec<u8> = names.iter().flat_map(|name| [text(name), dictionary()].concat()).collect();
        [b"\x80\x02}(", &items[..], b"u."].concat()
    };
    let several = open(&wrapped(&["model_ema", "model"])).unwrap();
    assert_eq!(several.tensor("w").unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(several.choice(), Some("a.pth: it holds `model` and `model_ema`, and `model` is read"));
    assert_eq!(open(&wrapped(&["model"])).unwrap().choice(), None);
    // Settings beside the tensors are made by a call, too.
    let settings = [&text("args")[..], b"cargparse\nNamespace\n)R"].concat();
    let beside = [b"\x80\x02}(", &settings[..], &text("state_dict"), &dictionary(), b"u."].concat();
    assert_eq!(open(&beside).unwrap().infos().len(), 1);
    let refusal = |pickle: &[u8]| open(pickle).err().unwrap().to_string();
    assert_eq!(
        refusal(&wrapped(&["discriminator", "network"])),
        "a.pth: it holds no state dict (a dictionary of tensors), but `discriminator`, `network`, which is not read yet"
    );
    assert_eq!(refusal(b"\x80\x06}."), "a.pth: it was saved with pickle protocol 6, which is not read yet");
}

#[test]
fn slices_of_pth() {
    let file = TensorFile::open(&fixture("plain.pth")).unwrap();
    let rows = file.narrow("block.0.weight", 0, 3, 2).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(rows, file.tensor("tail").unwrap().to_vec2::<f32>().unwrap());
    assert!(file.narrow("transposed", 0, 0, 1).is_err());
    assert_eq!(file.infos().iter().find(|info| info.name == "half").unwrap().format, Format::F16);
}

/// Damage anywhere in the file (directory, pickle, data) leads to a result.
#[test]
fn mutated_files_never_panic() {
    mutate(&std::fs::read(fixture("plain.pth")).unwrap(), 4000);
    mutate(&std::fs::read(fixture("protocol5.pth")).unwrap(), 3000);
}

fn mutate(seed: &[u8], times: usize) {
    const OPCODES: &[u8] = b"(.tuRQ}]bcJKX\x85\x86\x87\x8a\xff\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97012od";
    let mut state = 7u64;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for _ in 0..times {
        let mut bytes = seed.to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes.truncate(at.max(4)),
                1 => bytes[at] = OPCODES[random(OPCODES.len())],
                _ => bytes[at] = random(256) as u8,
            }
        }
        let Ok(file) = TensorFile::from_static("file.pth", bytes.leak()) else { continue };
        for info in file.infos() {
            let _ = file.tensor(&info.name);
        }
    }
}

#[test]
fn what_pickles_do_with_texts_stays_small() {
    let refusal = |pickle: &[u8]| TensorFile::from_static("a.pth", archive(pickle).leak()).err().unwrap().to_string();
    // A long text, named as module and function over and over.
    let long = [b"\x80\x04", &text(&"x".repeat(4000))[..], b"\x940", &b"h\0h\0\x930".repeat(50_000), b"}."].concat();
    assert_eq!(refusal(&long), "a.pth: data.pkl is not valid: a function's name has 8000 bytes");
    assert_eq!(refusal(b"\x80\x05\x97."), "a.pth: data.pkl is not valid: its data lie outside the pickle");
    assert_eq!(
        refusal(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff."),
        "a.pth: data.pkl is not valid: the pickle is cut short"
    );
    assert_eq!(refusal(b"\x80\x04K\x01K\x02\x93."), "a.pth: data.pkl is not valid: a function's name is not text");
}
