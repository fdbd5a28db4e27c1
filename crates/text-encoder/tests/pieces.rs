//! Tokenizers in the files of text encoders, against `SentencePiece` (scripts/fixtures/text.py).

use kinora_checkpoint::TensorFile;
use kinora_test_support::gguf::Gguf;
use kinora_text_encoder::{Tokenizer, has_tokenizer, tokenizer_json, tokenizer_json_of_pieces};

fn fixture(name: &str) -> std::path::PathBuf {
    kinora_test_support::fixture("text/pieces").join(name)
}

fn tokenizer(file: TensorFile) -> Tokenizer {
    let files = [file];
    assert!(has_tokenizer(&files));
    Tokenizer::from_bytes(&tokenizer_json(&files).expect("a tokenizer")).expect("a tokenizer.json")
}

#[test]
fn ids_are_those_of_sentencepiece() {
    let cases: Vec<(String, Vec<u32>)> =
        serde_json::from_slice(&std::fs::read(fixture("ids.json")).expect("a fixture")).expect("pairs");
    assert!(cases.len() > 10);
    let file = TensorFile::open(&fixture("spiece.safetensors")).expect("a file");
    let name =
        file.infos().into_iter().map(|info| info.name).find(|name| name.ends_with("spiece_model")).expect("a model");
    let bytes = file.tensor(&name).and_then(|tensor| Ok(tensor.flatten_all()?.to_vec1::<u8>()?)).expect("bytes");
    let alone = tokenizer_json_of_pieces("spiece.model".as_ref(), &bytes).expect("a tokenizer");
    let alone = Tokenizer::from_bytes(&alone).expect("a tokenizer.json");
    let opened = ["spiece.safetensors", "pieces.gguf"]
        .map(|name| (name, tokenizer(TensorFile::open(&fixture(name)).expect("a file"))));
    for (name, tokenizer) in opened.into_iter().chain([("spiece.model", alone)]) {
        for (text, ids) in &cases {
            assert_eq!(tokenizer.encode(text, 512).expect("tokens").ids, *ids, "{name}: {text:?}");
        }
    }
}

#[test]
fn vocabularies_that_cannot_be_used_say_why() {
    let refusal = |file: Gguf| {
        let file = TensorFile::from_static("a.gguf", file.bytes().leak()).expect("a file");
        tokenizer_json(&[file]).expect_err("an error").to_string()
    };
    let start = "the tokenizer is not usable: the one in `a.gguf`";
    let tokens = |names: &[&str]| Gguf::default().texts("tokenizer.ggml.tokens", names);
    let scored = |names: &[&str], scores: &[f32]| tokens(names).reals("tokenizer.ggml.scores", scores);
    let other = tokens(&["a"]).text("tokenizer.ggml.model", "gpt2");
    assert_eq!(refusal(other), format!("{start} is of the kind `gpt2`, only `t5` is read"));
    assert_eq!(refusal(scored(&["a", "b"], &[0.0])), format!("{start} has 2 pieces, 1 scores and 0 kinds"));
    let kinds = |file: Gguf, kinds: &[i32]| file.numbers("tokenizer.ggml.token_type", kinds);
    let plain = kinds(scored(&["a"], &[0.0]), &[1]);
    assert_eq!(refusal(plain), format!("{start} has no piece for unknown text"));
    let endless = kinds(scored(&["<unk>"], &[0.0]), &[2]);
    assert_eq!(refusal(endless), format!("{start} has no piece that ends texts"));
    let far = kinds(scored(&["<unk>"], &[0.0]), &[2]).number("tokenizer.ggml.eos_token_id", 7);
    assert_eq!(refusal(far), format!("{start} ends texts with a piece that it does not have"));
    let nan = kinds(scored(&["<unk>", "</s>"], &[0.0, f32::NAN]), &[2, 3]);
    assert_eq!(refusal(nan), format!("{start} has a score that is NaN or infinite, of `</s>`"));
    let none = refusal(Gguf::default());
    assert_eq!(none, "the tokenizer is not usable: the text encoder's files have none");
}

/// Damage anywhere in a model leads to a result.
#[test]
fn mutated_models_never_panic() {
    let seed = std::fs::read(fixture("spiece.safetensors")).expect("a fixture");
    let header = 8 + u64::from_le_bytes(seed[..8].try_into().expect("8 bytes")) as usize;
    let mut state = 5u64;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let mut read = 0;
    for _ in 0..1000 {
        let mut bytes = seed.clone();
        for _ in 0..=random(3) {
            let at = header + random(bytes.len() - header);
            bytes[at] = random(256) as u8;
        }
        let file = TensorFile::from_static("a.safetensors", bytes.leak()).expect("a sound header");
        let Ok(json) = tokenizer_json(&[file]) else { continue };
        read += usize::from(Tokenizer::from_bytes(&json).and_then(|tokenizer| tokenizer.encode("a cat", 512)).is_ok());
    }
    assert!(read > 100, "{read} of the models can be used");
}
