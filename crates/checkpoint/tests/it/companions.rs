//! Weights whose values follow from several tensors: what they are, and what is refused.

use candle_core::{DType, Device};
use kinora_checkpoint::{StoredMatrix, TensorFile, Weights};
use kinora_test_support::values;

/// A tensor: its name, dtype, shape and bytes.
type Raw<'a> = (&'a str, &'a str, &'a [usize], Vec<u8>);

/// 1, 2, -1.5 and 0.5 as e4m3.
const FOUR: [u8; 4] = [0x38, 0x40, 0xbc, 0x30];

fn file(tensors: &[Raw], metadata: &str) -> Result<TensorFile, kinora_checkpoint::Error> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), serde_json::json!({"_quantization_metadata": metadata}));
    }
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert((*name).into(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = crate::safetensors(&header, 0);
    bytes.extend_from_slice(&data);
    crate::open_bytes(&bytes)
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Opens these tensors as weights.
fn weights(tensors: &[Raw], metadata: &str) -> Result<Weights, String> {
    let files = vec![file(tensors, metadata).map_err(|error| error.to_string())?];
    Weights::from_files(files, &[], &Device::Cpu, DType::F32).map_err(|error| {
        assert!(error.hint().is_some(), "{error} has no hint");
        error.to_string()
    })
}

/// The values of `a.weight [2, 2]`, and whether it stays as it is stored.
fn read(tensors: &[Raw], metadata: &str) -> Result<(Vec<f32>, bool), String> {
    let weights = weights(tensors, metadata)?.pp("a");
    let stays = weights.matrix("weight", [2, 2]).map_err(|error| error.to_string())?;
    let dense = values(&weights.get("weight", (2, 2)).map_err(|error| error.to_string())?);
    if let Some(StoredMatrix::Matrix(matrix)) = &stays {
        let mut own = vec![0f32; 4];
        own.chunks_exact_mut(2).enumerate().for_each(|(row, out)| matrix.dequantise(row, 0, out));
        assert_eq!(own, dense);
    }
    weights.finish().map_err(|error| error.to_string())?;
    Ok((dense, stays.is_some()))
}

fn weight(dtype: &'static str) -> Raw<'static> {
    ("a.weight", dtype, &[2, 2], FOUR.to_vec())
}

#[test]
fn scales_of_every_shape_and_spelling() {
    let of = |scale: Raw| read(&[weight("F8_E4M3"), scale], "");
    for name in ["a.scale_weight", "a.weight_scale"] {
        for shape in [&[][..], &[1]] {
            let whole = of((name, "F32", shape, floats(&[0.5])));
            assert_eq!(whole, Ok((vec![0.5, 1.0, -0.75, 0.25], true)));
        }
        for shape in [&[2][..], &[2, 1]] {
            let rows = of((name, "F32", shape, floats(&[2.0, 4.0])));
            assert_eq!(rows, Ok((vec![2.0, 4.0, -6.0, 2.0], true)));
        }
        let blocks = of((name, "F32", &[2, 2, 1], floats(&[1.0, 2.0, 3.0, 4.0])));
        assert_eq!(blocks, Ok((vec![1.0, 4.0, -4.5, 2.0], true)));
    }
    // Signed bytes, as some tools write them without a word.
    let whole = read(&[weight("I8"), ("a.weight_scale", "F32", &[], floats(&[0.5]))], "");
    assert_eq!(whole, Ok((vec![28.0, 32.0, -34.0, 24.0], true)));
    // The scale of activations changes no weight, and a marker nothing at all.
    let scale = ("a.scale_weight", "F32", &[][..], floats(&[1.0]));
    let marked = [
        weight("F8_E4M3"),
        scale,
        ("a.scale_input", "F32", &[], floats(&[9.0])),
        ("scaled_fp8", "F8_E4M3", &[0], vec![]),
    ];
    assert_eq!(read(&marked, ""), Ok((vec![1.0, 2.0, -1.5, 0.5], true)));
    assert_eq!(read(&[weight("F8_E4M3")], ""), Ok((vec![1.0, 2.0, -1.5, 0.5], true)));
}

#[test]
fn formats_are_named_in_tensors_and_headers() {
    let scale = || ("a.weight_scale", "F32", &[][..], floats(&[0.5]));
    let named = |json: &str| read(&[weight("U8"), scale(), ("a.comfy_quant", "U8", &[json.len()], json.into())], "");
    assert_eq!(named(r#"{"format": "float8_e4m3fn"}"#), Ok((vec![0.5, 1.0, -0.75, 0.25], true)));
    assert_eq!(named(r#"{"params": {"format": "float8_e4m3fn"}}"#), Ok((vec![0.5, 1.0, -0.75, 0.25], true)));
    for layer in ["a", "model.a"] {
        let header = format!(r#"{{"format_version": "1.0", "layers": {{"{layer}": {{"format": "float8_e4m3fn"}}}}}}"#);
        assert_eq!(read(&[weight("U8"), scale()], &header).is_ok(), layer == "a", "{layer}");
    }
}

#[test]
fn what_is_not_known_for_sure_is_refused() {
    let scale = |value: f32| ("a.weight_scale", "F32", &[][..], floats(&[value]));
    let named = |json: &str| read(&[weight("U8"), scale(0.5), ("a.comfy_quant", "U8", &[json.len()], json.into())], "");
    let refusals = [
        (
            read(&[weight("F8_E4M3"), ("scaled_fp8", "F8_E4M3", &[0], vec![])], ""),
            "`a.weight` is an fp8 matrix of a file with scales",
        ),
        (
            read(&[weight("F8_E4M3"), ("b.scale_weight", "F32", &[], floats(&[1.0]))], ""),
            "`b.scale_weight` belongs to `b.weight`",
        ),
        (
            read(&[weight("F8_E4M3"), ("a.scale_weight", "F32", &[3], floats(&[1.0; 3]))], ""),
            "`a.weight` [2, 2] has scales of shape [3]",
        ),
        (read(&[weight("F8_E4M3"), scale(f32::NAN)], ""), "`a.weight` has a scale that is NaN or infinite"),
        (
            read(&[weight("F8_E4M3"), scale(1.0), ("a.scale_weight", "F32", &[], floats(&[1.0]))], ""),
            "`a.weight` has two scales",
        ),
        (
            read(&[weight("F8_E4M3"), ("a.weight_scale_inv", "F32", &[], floats(&[1.0]))], ""),
            "`a.weight_scale_inv` is a scale that is not read",
        ),
        (read(&[("a.weight", "F32", &[2, 2], floats(&[1.0; 4])), scale(1.0)], ""), "nothing says what it is for"),
        (named(r#"{"format": "unheard_of_w3a3"}"#), "`a.weight` has the format `unheard_of_w3a3`"),
        (named(r#"{"format": "float8_e4m3fn""#), "`a.weight` has a format that is not JSON"),
        (named(r#"{"format": "float8_e4m3fn", "zero_point": 3}"#), "the setting `zero_point`"),
        (named(r#"{"format": "int8_tensorwise"}"#), "is stored as U8, which is not `int8_tensorwise`"),
        (named(r#"{"format": "nvfp4"}"#), "`a.weight` has no scale `a.weight_scale_2`"),
        (read(&[weight("U8"), scale(1.0)], "{"), "`_quantization_metadata` is not JSON"),
    ];
    for (found, expected) in refusals {
        let message = found.expect_err(expected);
        assert!(message.contains(expected), "{message}\n{expected}");
    }
}

/// Changed bytes of the JSON, the scales' shapes and the dtypes end in values or in an error.
#[test]
fn mutated_companions_are_read_or_refused() {
    let json =
        r#"{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 4, "params": {"group_size": 64}}"#;
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut read_well, mut refused) = (0, 0);
    for _ in 0..2000 {
        let mut text = json.as_bytes().to_vec();
        for _ in 0..next(3) {
            let at = next(text.len());
            text[at] = *b"\"{}[]:,0123456789abctrue-. \0\xff".get(next(31)).unwrap_or(&0);
        }
        let shape = [&[][..], &[1], &[4], &[4, 1], &[4, 2, 1], &[0], &[2, 2]][next(7)];
        let count: usize = shape.iter().product();
        let dtype = ["I8", "U8", "F8_E4M3", "F8_E5M2"][next(4)];
        let tensors = [
            ("a.weight", dtype, &[4, 4][..], (0..16).map(|i| i * 7).collect()),
            ("a.weight_scale", "F32", shape, floats(&vec![0.5; count])),
            ("a.comfy_quant", "U8", &[text.len()], text),
        ];
        let found = weights(&tensors, "")
            .and_then(|weights| weights.pp("a").get("weight", (4, 4)).map_err(|error| error.to_string()));
        match found {
            Ok(_) => read_well += 1,
            Err(message) => {
                assert!(!message.is_empty());
                refused += 1;
            }
        }
    }
    assert!(read_well > 50 && refused > 500, "{read_well} read, {refused} refused");
}
