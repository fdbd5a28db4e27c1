//! The whole text stage against diffusers: prompts to contexts.

use candle_core::{DType, Device};
use kinora_checkpoint::{TensorFile, Weights};
use kinora_test_support::fixture;
use kinora_text_encoder::umt5::canonical_from_transformers;
use kinora_text_encoder::{Error, TextEncoder, TextStage, Tokenizer, Umt5, Umt5Config};
use std::path::PathBuf;

fn model(name: &str) -> PathBuf {
    fixture("wan21_t2v").join(name)
}

fn encoder(config: &Umt5Config) -> Umt5 {
    let files = [model("text_encoder/model.safetensors")];
    let weights = Weights::open(&files, &[&canonical_from_transformers()], &Device::Cpu, DType::F32).unwrap();
    let encoder = Umt5::new(config, &weights).unwrap();
    weights.finish().unwrap();
    encoder
}

fn config() -> Umt5Config {
    Umt5Config::from_json(&std::fs::read(model("text_encoder/config.json")).unwrap()).unwrap()
}

fn stage(text_len: usize) -> TextStage {
    let tokenizer = Tokenizer::from_file(model("tokenizer/tokenizer.json")).unwrap();
    TextStage::new(tokenizer, encoder(&config()), text_len).unwrap()
}

#[test]
fn contexts_are_those_of_diffusers() {
    let golden = ["golden.safetensors", "golden_b.safetensors"];
    for file in golden.map(|name| TensorFile::open(&model(name)).unwrap()) {
        for (what, call) in [("prompt", "context.prompt"), ("negative_prompt", "context.negative")] {
            let prompt = &file.metadata()[what];
            let expected = file.tensor(call).unwrap();
            let (_, text_len, _) = expected.dims3().unwrap();
            let context = stage(text_len).encode(prompt).unwrap();
            assert_eq!(context.tensor.dims(), expected.dims());
            assert!(!context.truncated());
            let norm = |t: &candle_core::Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            let error = (norm(&(&context.tensor - &expected).unwrap()) / norm(&expected)).sqrt();
            assert!(error <= 1e-5, "{prompt:?}: relative L2 {error:.2e}");
        }
    }
}

#[test]
fn a_truncated_prompt_says_how_much_was_lost() {
    let context = stage(6).encode("a cat walks on the grass").unwrap();
    assert_eq!((context.tensor.dims(), context.tokens, context.dropped), (&[1, 6, config().d_model][..], 6, 3));
    assert!(context.truncated());
}

#[test]
fn a_tokenizer_that_ends_texts_otherwise_is_refused() {
    let tokenizer = Tokenizer::from_file(model("tokenizer/tokenizer.json")).unwrap();
    let other = Umt5Config { eos_token_id: 2, ..config() };
    let error = TextStage::new(tokenizer, encoder(&other), 8).err().unwrap();
    assert!(matches!(error, Error::EndOfText { found: Some(1), expected: 2 }), "{error}");
}
