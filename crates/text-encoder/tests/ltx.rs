//! The text side of LTX-2 against diffusers: prompts to hidden states to contexts.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{TensorFile, Weights};
use kinora_test_support::{fixture, relative_l2};
use kinora_text_encoder::causal_lm::{Text, gemma};
use kinora_text_encoder::ltx::{Features, is_of_connectors, key_maps};
use kinora_text_encoder::{CausalLm, CausalLmConfig, Connectors, ConnectorsConfig, Error, LtxText, Tokenizer};
use std::path::PathBuf;

/// A pipeline's golden numbers, and the folders of its language model and connectors.
const CASES: [(&str, &str, &str); 3] =
    [("ltx20_t2av", "gemma3", "ltx20"), ("ltx23_t2av", "gemma3", "ltx23"), ("ltx25_t2av", "gemma4", "ltx23")];

fn file(name: &str) -> PathBuf {
    fixture("ltx_text").join(name)
}

fn json(folder: &str) -> Vec<u8> {
    std::fs::read(file(folder).join("config.json")).unwrap()
}

fn language(folder: &str, dtype: DType) -> CausalLm {
    let (path, maps) = (file(folder).join("model.safetensors"), gemma::key_maps());
    let weights = Weights::open(&[path], &maps.each_ref(), &Device::Cpu, dtype).unwrap();
    let model = CausalLm::new(&CausalLmConfig::from_gemma_json(&json(folder)).unwrap(), &weights).unwrap();
    weights.finish().unwrap();
    model
}

fn connectors(folder: &str, dtype: DType) -> Connectors {
    let path = file(folder).join("diffusion_pytorch_model.safetensors");
    let weights = Weights::open(&[path], &key_maps().each_ref(), &Device::Cpu, dtype).unwrap();
    let connectors = Connectors::new(&ConnectorsConfig::from_json(&json(folder)).unwrap(), &weights).unwrap();
    weights.finish().unwrap();
    connectors
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_file(file("tokenizer.json")).unwrap()
}

fn golden(case: &str) -> (TensorFile, Vec<String>, usize) {
    let golden = TensorFile::open(&file(&format!("{case}.safetensors"))).unwrap();
    let prompts = serde_json::from_str(&golden.metadata()["prompts"]).unwrap();
    let text_len = golden.metadata()["text_len"].parse().unwrap();
    (golden, prompts, text_len)
}

#[test]
fn hidden_states_are_those_of_the_pipeline() {
    for (case, model, _) in CASES {
        let ((golden, prompts, text_len), model) = (golden(case), language(model, DType::F32));
        for (i, prompt) in prompts.iter().enumerate() {
            let ids = tokenizer().encode(prompt, text_len).unwrap().ids;
            let mut states = Vec::new();
            let text = Text { ids: &ids, padding: text_len - ids.len() };
            let each = |_: usize, _: usize, hidden: &Tensor| {
                states.push(hidden.clone());
                Ok(())
            };
            model.states(&[text], model.config().layers.len(), each).unwrap();
            let found = Tensor::stack(&states, 2).unwrap().flatten_from(1).unwrap();
            let error = relative_l2(&found, &golden.tensor(&format!("states{i}")).unwrap());
            assert!(error <= 1e-5, "{case}, {prompt:?}: relative L2 {error:.2e}");
        }
    }
}

#[test]
fn connectors_make_the_contexts_of_the_pipeline() {
    for (case, _, folder) in CASES {
        let ((golden, prompts, text_len), connectors) = (golden(case), connectors(folder, DType::F32));
        let features = (0..prompts.len()).map(|i| {
            let states = golden.tensor(&format!("states{i}")).unwrap();
            let states = states.reshape((states.dim(0).unwrap(), (), connectors.config().states)).unwrap();
            let mut features = connectors.features();
            for state in 0..connectors.config().states {
                features.push(&states.narrow(2, state, 1).unwrap().squeeze(2).unwrap()).unwrap();
            }
            features
        });
        let contexts = connectors.contexts(features.collect(), text_len).unwrap();
        for (i, found) in contexts.iter().enumerate() {
            for (name, found) in [("video", &found.video), ("audio", &found.audio)] {
                let expected = golden.tensor(name).unwrap().narrow(0, i, 1).unwrap();
                let error = relative_l2(found, &expected);
                assert!(error <= 1e-5, "{case}, {name}, text {i}: relative L2 {error:.2e}");
            }
        }
    }
}

#[test]
fn prompts_become_the_contexts_of_the_pipeline() {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 5e-2)] {
        for (case, model, folder) in CASES {
            let (golden, prompts, text_len) = golden(case);
            let stage = LtxText::new(tokenizer(), language(model, dtype), connectors(folder, dtype), text_len).unwrap();
            // Blanks around a prompt are no part of it.
            let given: Vec<String> = prompts.iter().map(|prompt| format!(" \n{prompt}\u{1f} ")).collect();
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            let mut steps = Vec::new();
            let found = stage.encode(&given, |done, all| {
                steps.push((done, all));
                Ok(())
            });
            assert_eq!(steps, (1..=5).map(|done| (done, 5)).collect::<Vec<_>>());
            for (i, found) in found.unwrap().into_iter().enumerate() {
                assert_eq!(found.tokens, golden.tensor(&format!("states{i}")).unwrap().dim(0).unwrap());
                assert_eq!(found.dropped, 0);
                for (name, found) in [("video", &found.contexts.video), ("audio", &found.contexts.audio)] {
                    assert_eq!(found.dtype(), dtype);
                    let expected = golden.tensor(name).unwrap().narrow(0, i, 1).unwrap();
                    let error = relative_l2(found, &expected);
                    assert!(error <= tolerance, "{case}, {name}, text {i}, {dtype:?}: relative L2 {error:.2e}");
                }
            }
        }
    }
}

#[test]
fn a_prompt_that_is_too_long_says_how_much_was_lost() {
    let stage =
        |text_len| LtxText::new(tokenizer(), language("gemma3", DType::F32), connectors("ltx23", DType::F32), text_len);
    let prompt = "The quick brown fox jumps over the lazy dog ".repeat(4);
    let found = stage(32).unwrap().encode(&[&prompt], |_, _| Ok(())).unwrap();
    assert_eq!(found[0].tokens, 32);
    assert!(found[0].dropped > 0);
    assert_eq!(found[0].contexts.video.dims(), [1, 32, 32]);
    let whole = stage(64).unwrap().tokenizer().encode(prompt.trim(), 1000).unwrap();
    assert_eq!(found[0].dropped, whole.ids.len() - 32);
    let error = stage(40).err().unwrap();
    assert!(error.to_string().contains("40 rows is no multiple of 16 registers"), "{error}");
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let language = language("gemma3", DType::F32);
    let config = connectors("ltx23", DType::F32).config().clone();
    let check = |config: &ConnectorsConfig| LtxText::check(&tokenizer(), language.config(), config, 64);
    check(&config).unwrap();
    let error = check(&ConnectorsConfig { states: 6, ..config.clone() }).unwrap_err();
    assert!(
        error.to_string().contains("[32, 5] channels and hidden states do not fit connectors of [32, 6]"),
        "{error}"
    );
    let other = Tokenizer::from_file(fixture("wan21_t2v/tokenizer/tokenizer.json")).unwrap();
    let error = LtxText::check(&other, language.config(), &config, 64).unwrap_err();
    assert!(matches!(error, Error::StartOfText { expected: 2, .. }), "{error}");
    let connectors = connectors("ltx20", DType::F32);
    assert!(matches!(connectors.contexts(vec![connectors.features()], 64).unwrap_err(), Error::Config { .. }));
}

#[test]
fn configurations_that_cannot_be_computed_are_refused() {
    let good = String::from_utf8(json("ltx23")).unwrap();
    assert_eq!(ConnectorsConfig::from_json(good.as_bytes()).unwrap().features, Features::PerModality);
    assert_eq!(ConnectorsConfig::from_json(&json("ltx20")).unwrap().features, Features::Shared);
    let swaps = [
        ("\"split\"", "\"interleaved\"", "interleaved"),
        ("\"proj_bias\": true", "\"proj_bias\": false", "`proj_bias` false"),
        ("\"video_hidden_dim\": 32", "\"video_hidden_dim\": 64", "to 64 channels does not fit a connector of 32"),
        ("\"audio_connector_attention_head_dim\": 8", "\"audio_connector_attention_head_dim\": 7", "2 heads of 7"),
        ("\"text_proj_in_factor\": 5", "\"text_proj_in_factor\": 0", "`text_proj_in_factor` is 0"),
        ("\"rope_theta\": 10000.0", "\"rope_theta\": 0.0", "`rope_theta` is 0"),
    ];
    for (from, to, reason) in swaps {
        let json = good.replacen(from, to, 1);
        assert_ne!(json, good, "`{from}` is not in the configuration");
        let error = ConnectorsConfig::from_json(json.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(reason), "{to}: {error}");
    }
}

#[test]
fn only_one_part_of_the_weights_is_held() {
    // Weights, biases and norms of the video's blocks, with gates and without; on a CPU, the largest matrix is there twice.
    let (block, gates, largest) = (12 * 32 * 32 + 11 * 32, 2 * 32 + 2, 4 * 32 * 32);
    for (folder, floats) in [("ltx20", block + largest), ("ltx23", block + gates + largest)] {
        let path = file(folder).join("diffusion_pytorch_model.safetensors");
        let weights = Weights::open(&[path], &key_maps().each_ref(), &Device::Cpu, DType::F32).unwrap();
        let config = ConnectorsConfig::from_json(&json(folder)).unwrap();
        Connectors::new(&config, &weights).unwrap();
        assert_eq!(config.weight_bytes(&weights), 4 * floats, "{folder}");
    }
}

/// Files of the original release hold the transformer, too, and the language model may have the projections.
#[test]
fn tensors_of_the_connectors_are_told_from_others() {
    for name in [
        "model.diffusion_model.video_embeddings_connector.learnable_registers",
        "text_embedding_projection.aggregate_embed.weight",
        "audio_text_proj_in.bias",
    ] {
        assert!(is_of_connectors(name), "{name}");
    }
    for name in ["model.diffusion_model.transformer_blocks.0.attn1.to_q.weight", "model.layers.0.mlp.up_proj.weight"] {
        assert!(!is_of_connectors(name), "{name}");
    }
}
