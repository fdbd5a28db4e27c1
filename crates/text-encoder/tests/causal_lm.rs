//! Gemma 3 and Gemma 4 against transformers: all hidden states of texts that are padded on the left, and refusals.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Error as CheckpointError, TensorFile, Weights};
use kinora_test_support::{fixture, relative_l2};
use kinora_text_encoder::causal_lm::gemma::key_maps;
use kinora_text_encoder::causal_lm::{LayerKind, Text};
use kinora_text_encoder::{CausalLm, CausalLmConfig, Error};
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    fixture("ltx_text").join(name)
}

fn config(name: &str) -> CausalLmConfig {
    CausalLmConfig::from_gemma_json(&std::fs::read(folder(name).join("config.json")).unwrap()).unwrap()
}

fn weights(file: &Path, dtype: DType) -> Weights {
    let maps = key_maps();
    Weights::open(&[file.to_path_buf()], &maps.each_ref(), &Device::Cpu, dtype).unwrap().with_exact(true)
}

fn model(name: &str, file: &str, dtype: DType) -> CausalLm {
    let weights = weights(&folder(name).join(file), dtype);
    let model = CausalLm::new(&config(name), &weights).unwrap();
    weights.finish().unwrap();
    model
}

/// A text's tokens, the rows of padding before them, and all their hidden states `[S, C · states]`.
type Golden = (Vec<u32>, usize, Tensor);

fn golden(name: &str) -> Vec<Golden> {
    let file = TensorFile::open(&folder(name).join("golden.safetensors")).unwrap();
    let width: usize = file.metadata()["width"].parse().unwrap();
    let text = |i: usize| {
        let ids = file.tensor(&format!("ids{i}")).unwrap().to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
        let padding = width - ids.len();
        (ids, padding, file.tensor(&format!("states{i}")).unwrap())
    };
    (0..3).map(text).collect()
}

/// All hidden states of every text, `[S, C · states]`.
fn states(model: &CausalLm, texts: &[Golden]) -> Vec<Tensor> {
    let given: Vec<Text> = texts.iter().map(|(ids, padding, _)| Text { ids, padding: *padding }).collect();
    let mut found = vec![Vec::new(); texts.len()];
    let all = model.config().layers.len();
    model
        .states(&given, all, |state, text, hidden| {
            assert_eq!(state, found[text].len(), "states come in order");
            found[text].push(hidden.to_dtype(DType::F32)?);
            Ok(())
        })
        .unwrap();
    found.into_iter().map(|states| Tensor::stack(&states, 2).unwrap().flatten_from(1).unwrap()).collect()
}

#[test]
fn hidden_states_of_padded_texts_are_those_of_transformers() {
    for (name, file) in
        [("gemma3_odd", "model.safetensors"), ("gemma3_odd", "model.gguf"), ("gemma4_odd", "model.safetensors")]
    {
        let (model, texts) = (model(name, file, DType::F32), golden(name));
        for (found, (ids, _, expected)) in states(&model, &texts).iter().zip(&texts) {
            let error = relative_l2(found, expected);
            assert!(error <= 1e-5, "{name}/{file}, {} tokens: relative L2 {error:.2e}", ids.len());
        }
    }
}

#[test]
fn half_precision_is_close() {
    for name in ["gemma3_odd", "gemma4_odd"] {
        let (model, texts) = (model(name, "model.safetensors", DType::BF16), golden(name));
        for (found, (ids, _, expected)) in states(&model, &texts).iter().zip(&texts) {
            let error = relative_l2(found, expected);
            assert!(error <= 3e-2, "{name}, {} tokens: relative L2 {error:.2e}", ids.len());
        }
    }
}

/// Blocks of eight bits stay as they are stored; their inputs are quantised, too, unless exact products are asked for.
#[test]
fn quantised_weights_stay_so() {
    let file = folder("gemma3_odd").join("model.gguf");
    let weights = weights(&file, DType::F32).with_exact(false);
    let config = config("gemma3_odd");
    let model = CausalLm::new(&config, &weights).unwrap();
    // Q8_0: 34 bytes for 32 values; norms are f32.
    let matrices = 32 * 2 * (96 + 48) + 3 * 32 * 64;
    assert_eq!(config.weight_bytes(&weights), matrices / 32 * 34 + (4 * 32 + 2 * 24 + 32) * 4);
    let texts = golden("gemma3_odd");
    for (found, (_, _, expected)) in states(&model, &texts).iter().zip(&texts) {
        let error = relative_l2(found, expected);
        assert!((1e-5..=3e-2).contains(&error), "relative L2 {error:.2e}");
    }
}

#[test]
fn states_up_to_one_are_computed() {
    let (model, texts) = (model("gemma4_odd", "model.safetensors", DType::F32), golden("gemma4_odd"));
    let (ids, padding, expected) = &texts[0];
    let mut seen = Vec::new();
    let each = |state: usize, text: usize, hidden: &Tensor| {
        assert_eq!(text, 0);
        seen.push((state, hidden.clone()));
        Ok(())
    };
    model.states(&[Text { ids, padding: *padding }], 2, each).unwrap();
    assert_eq!(seen.iter().map(|(state, _)| *state).collect::<Vec<_>>(), [0, 1, 2]);
    let expected = expected.reshape((ids.len(), (), 5)).unwrap().narrow(2, 2, 1).unwrap().squeeze(2).unwrap();
    assert!(relative_l2(&seen[2].1, &expected) <= 1e-5);
}

#[test]
fn configurations_are_read_in_old_and_new_forms() {
    use LayerKind::{Full, Sliding};
    let old = config("gemma3_odd");
    assert_eq!(old.layers, [Sliding, Sliding, Full, Sliding]);
    assert_eq!((old.full.rope.theta, old.full.rope.factor, old.sliding.rope.factor), (1e6, 8.0, 1.0));
    assert_eq!((old.sliding.window, old.full.window, old.vocab_size), (Some(5), None, 50));
    let new = config("gemma3");
    assert_eq!((new.sliding.window, new.full.rope.factor, new.norm_offset), (Some(8), 1.0, true));
    let (layers, heads) = (config("gemma4"), config("gemma4_odd"));
    assert_eq!((layers.full.head_dim, layers.full.kv_heads, layers.sliding.head_dim), (32, 1, 16));
    assert_eq!((heads.full.head_dim, heads.full.kv_heads, heads.sliding.kv_heads), (16, 1, 2));
    assert_eq!((layers.placeholders, layers.padding, heads.placeholders), (vec![4, 5, 6], 0, vec![]));
    assert_eq!((heads.full.rope.turning, heads.full.keys_are_values), (0.25, true));
    let published = r#"{"model_type": "gemma3", "text_config": {"hidden_size": 3840, "intermediate_size": 15360,
        "model_type": "gemma3_text", "num_attention_heads": 16, "num_hidden_layers": 48, "num_key_value_heads": 8,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}}"#;
    assert_eq!(CausalLmConfig::from_gemma_json(published.as_bytes()).unwrap(), CausalLmConfig::gemma3_12b());
}

#[test]
fn other_models_are_refused() {
    let good = std::fs::read_to_string(folder("gemma4_odd").join("config.json")).unwrap();
    let swaps = [
        ("gemma4_unified_text", "llama", "`model_type` is `llama`"),
        ("\"vision\"", "\"all\"", "use_bidirectional_attention"),
        ("\"rms_norm_eps\"", "\"num_kv_shared_layers\": 2, \"rms_norm_eps\"", "num_kv_shared_layers"),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "cannot share 3"),
        ("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5", "has 4 layers"),
        ("\"sliding_window\": 5", "\"sliding_window\": 0", "`sliding_window` is 0"),
        ("\"head_dim\": 6", "\"head_dim\": 7", "`head_dim` is 7"),
        ("\"full_attention\"", "\"chunked_attention\"", "chunked_attention"),
        ("\"hidden_size\": 20", "\"hidden_size\": 0", "`hidden_size` is 0"),
        ("{", "[", "expected"),
    ];
    for (from, to, reason) in swaps {
        let json = good.replacen(from, to, 1);
        assert_ne!(json, good, "`{from}` is not in the configuration");
        let error = CausalLmConfig::from_gemma_json(json.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Config { .. }) && error.to_string().contains(reason), "{to}: {error}");
    }
}

#[test]
fn files_are_checked_before_anything_is_computed() {
    let weights = weights(&folder("gemma3_odd").join("model.safetensors"), DType::F32);
    let deeper = CausalLmConfig { layers: vec![LayerKind::Full; 5], ..config("gemma3_odd") };
    let error = CausalLm::new(&deeper, &weights).err().unwrap();
    let Error::Checkpoint(CheckpointError::Missing { name, .. }) = &error else { panic!("{error}") };
    assert!(name.starts_with("layers.4."), "{name}");
    let wider = CausalLmConfig { intermediate_size: 65, ..config("gemma3_odd") };
    let error = CausalLm::new(&wider, &weights).err().unwrap();
    assert!(matches!(error, Error::Checkpoint(CheckpointError::Shape { .. })), "{error}");
    let shallow = CausalLmConfig { layers: vec![LayerKind::Full; 3], ..config("gemma3_odd") };
    let weights = self::weights(&folder("gemma3_odd").join("model.safetensors"), DType::F32);
    CausalLm::new(&shallow, &weights).unwrap();
    assert!(matches!(weights.finish().unwrap_err(), CheckpointError::Unused { .. }));
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let model = model("gemma4_odd", "model.safetensors", DType::F32);
    let error = |ids: &[u32], last| model.states(&[Text { ids, padding: 0 }], last, |_, _, _| Ok(())).unwrap_err();
    assert!(matches!(error(&[5, 50], 4), Error::TokenId { id: 50, vocab_size: 50 }));
    assert!(matches!(error(&[], 4), Error::NoTokens));
    assert!(matches!(error(&[5], 5), Error::Config { .. }));
}
