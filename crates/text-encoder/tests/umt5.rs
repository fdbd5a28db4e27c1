//! UMT5 against transformers: hidden states, names, and refusals.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{TensorFile, Weights};
use kinora_test_support::{fixture, relative_l2};
use kinora_text_encoder::umt5::canonical_from_transformers;
use kinora_text_encoder::{Error, Umt5, Umt5Config};
use std::collections::BTreeMap;

fn config() -> Umt5Config {
    Umt5Config::from_json(&std::fs::read(fixture("text/umt5_odd/config.json")).unwrap()).unwrap()
}

fn odd(dtype: DType) -> Umt5 {
    let file = fixture("text/umt5_odd/model.safetensors");
    let weights = Weights::open(&[file], &[&canonical_from_transformers()], &Device::Cpu, dtype).unwrap();
    let encoder = Umt5::new(&config(), &weights).unwrap();
    weights.finish().unwrap();
    encoder
}

/// The golden file's ids `[B, S]`, real lengths and hidden states `[B, S, C]`.
fn golden(name: &str) -> (Vec<Vec<u32>>, Vec<usize>, Tensor) {
    let file = TensorFile::open(&fixture("text/umt5_odd/golden.safetensors")).unwrap();
    let lengths = serde_json::from_str(&file.metadata()["lengths"]).unwrap();
    let hidden = file.tensor(name).unwrap().to_dtype(DType::F32).unwrap();
    (file.tensor("ids").unwrap().to_vec2().unwrap(), lengths, hidden)
}

#[test]
fn padded_batch_agrees_with_transformers() {
    for (dtype, name, tolerance) in [(DType::F32, "f32", 1e-5), (DType::BF16, "bf16", 2e-2)] {
        let (ids, lengths, expected) = golden(name);
        let shape = (ids.len(), ids[0].len());
        let ids = Tensor::from_vec(ids.concat(), shape, &Device::Cpu).unwrap();
        let hidden = odd(dtype).forward(&ids, &lengths).unwrap();
        assert_eq!(hidden.dtype(), dtype);
        for (row, &length) in lengths.iter().enumerate() {
            let real = |t: &Tensor| t.get(row).unwrap().narrow(0, 0, length).unwrap();
            let error = relative_l2(&real(&hidden), &real(&expected));
            assert!(error <= tolerance, "{name}, row {row}: relative L2 {error:.2e}");
        }
    }
}

#[test]
fn context_computes_no_padding_and_equals_the_padded_oracle() {
    let (ids, lengths, expected) = golden("f32");
    let encoder = odd(DType::F32);
    let text_len = ids[0].len();
    for (row, &length) in lengths.iter().enumerate() {
        let context = encoder.context(&ids[row][..length], text_len).unwrap();
        assert_eq!(context.dims(), [1, text_len, config().d_model]);
        let real = context.get(0).unwrap().narrow(0, 0, length).unwrap();
        let error = relative_l2(&real, &expected.get(row).unwrap().narrow(0, 0, length).unwrap());
        assert!(error <= 1e-5, "row {row}: relative L2 {error:.2e}");
        if length < text_len {
            let rest = context.narrow(1, length, text_len - length).unwrap();
            assert!(rest.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|value| value.to_bits() == 0));
        }
    }
}

#[test]
fn xxl_asks_for_exactly_the_released_tensors() {
    let listing = std::fs::read_to_string(fixture("keys/umt5_xxl.txt")).unwrap();
    let (config, lines) = listing.split_once('\n').unwrap();
    let config = Umt5Config::from_json(config.trim_start_matches("# ").as_bytes()).unwrap();
    let shapes: BTreeMap<&str, Vec<usize>> = lines
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, shape)| (name, serde_json::from_str(shape).unwrap()))
        .collect();
    let names = canonical_from_transformers().canonical_names(shapes.keys().copied()).unwrap();
    let expected: BTreeMap<String, Vec<usize>> =
        names.iter().map(|(canonical, source)| (canonical.clone(), shapes[source.as_str()].clone())).collect();

    let weights = Weights::recorder();
    Umt5::new(&config, &weights).unwrap();
    assert_eq!(weights.asked(), expected);
    assert_eq!(expected.len(), shapes.len() - 1, "the embedding table has two names");
}

#[test]
fn either_name_of_the_embedding_table_is_enough() {
    let map = canonical_from_transformers();
    for names in
        [&["shared.weight"][..], &["encoder.embed_tokens.weight"], &["shared.weight", "encoder.embed_tokens.weight"]]
    {
        let found = map.canonical_names(names.iter().copied()).unwrap();
        assert_eq!(found.into_keys().collect::<Vec<_>>(), ["token_embedding.weight"]);
    }
}

#[test]
fn impossible_configurations_are_refused() {
    let good = std::fs::read_to_string(fixture("text/umt5_odd/config.json")).unwrap();
    let swaps = [
        ("\"gated-gelu\"", "\"relu\"", "relu"),
        ("\"num_heads\": 5", "\"num_heads\": 0", "none may be 0"),
        ("\"num_heads\": 5", "\"num_heads\": 9223372036854775807", "out of range"),
        ("\"relative_attention_num_buckets\": 20", "\"relative_attention_num_buckets\": 3", "buckets 3"),
        ("\"relative_attention_max_distance\": 40", "\"relative_attention_max_distance\": 5", "max_distance 5"),
        ("\"d_ff\": 44", "\"d_ff\": -1", "-1"),
        ("{", "[", "expected"),
    ];
    for (from, to, reason) in swaps {
        let json = good.replace(from, to);
        assert_ne!(json, good, "`{from}` is not in the configuration");
        let error = Umt5Config::from_json(json.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Config { .. }) && error.to_string().contains(reason), "{to}: {error}");
    }
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let encoder = odd(DType::F32);
    let error = |ids: &[u32], text_len| encoder.context(ids, text_len).unwrap_err();
    assert!(matches!(error(&[5, 97], 4), Error::TokenId { id: 97, vocab_size: 97 }));
    assert!(matches!(error(&[], 4), Error::Length { tokens: 0, text_len: 4 }));
    assert!(matches!(error(&[1; 5], 4), Error::Length { tokens: 5, text_len: 4 }));
    let ids = Tensor::zeros((2, 4), DType::U32, &Device::Cpu).unwrap();
    assert!(matches!(encoder.forward(&ids, &[4, 5]).unwrap_err(), Error::Length { tokens: 5, text_len: 4 }));
    assert!(matches!(encoder.forward(&ids, &[4]).unwrap_err(), Error::Length { .. }));
}
