//! Tokenizers against transformers, on the small tokenizer of the tiny checkpoints and on UMT5's own; damaged ones.
//!
//! UMT5's `tokenizer.json` is not part of the repository: `KINORA_UMT5_TOKENIZER` is its path. Without it that test is skipped,
//! unless `KINORA_REQUIRE_TOKENIZER=1` is set.

use kinora_test_support::fixture;
use kinora_text_encoder::{Error, Tokenizer, clean_prompt, panic_is_contained};
use serde::Deserialize;
use std::io::Write;

#[derive(Deserialize)]
struct Case {
    text: String,
    dropped: usize,
    ids: Vec<u32>,
}

fn agree(tokenizer: &Tokenizer, expected: &str, max_len: usize) {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(fixture(expected)).unwrap()).unwrap();
    assert!(cases.iter().any(|case| case.dropped > 0) && cases.iter().any(|case| case.text.is_empty()));
    for Case { text, dropped, ids } in cases {
        let tokens = tokenizer.encode(&clean_prompt(&text), max_len).unwrap();
        assert_eq!((tokens.ids, tokens.dropped), (ids, dropped), "{text:?}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test that is skipped says so")]
fn umt5_tokenizer_gives_the_ids_of_transformers() {
    let Some(path) = std::env::var_os("KINORA_UMT5_TOKENIZER") else {
        let required = std::env::var("KINORA_REQUIRE_TOKENIZER").is_ok_and(|value| value == "1");
        assert!(!required, "UMT5's tokenizer is required, and KINORA_UMT5_TOKENIZER does not name its tokenizer.json");
        writeln!(std::io::stderr(), "skipped: KINORA_UMT5_TOKENIZER does not name UMT5's tokenizer.json").unwrap();
        return;
    };
    agree(&Tokenizer::from_file(path).unwrap(), "text/umt5_ids.json", 512);
}

#[test]
fn small_tokenizer_gives_the_ids_of_transformers() {
    agree(&Tokenizer::from_bytes(&small()).unwrap(), "text/small_ids.json", 12);
}

#[test]
fn a_long_text_loses_its_end_and_no_special_token() {
    let tokenizer = Tokenizer::from_bytes(&small()).unwrap();
    let whole = tokenizer.encode("a cat walks on the grass", 512).unwrap();
    assert_eq!(whole.dropped, 0);
    let (last, words) = whole.ids.split_last().unwrap();
    for max_len in 1..whole.ids.len() {
        let tokens = tokenizer.encode("a cat walks on the grass", max_len).unwrap();
        assert_eq!(tokens.ids, [&words[..max_len - 1], &[*last]].concat());
        assert_eq!(tokens.dropped, whole.ids.len() - max_len);
    }
    assert!(matches!(tokenizer.encode("a", 0).unwrap_err(), Error::NoRoom { max_len: 0, special: 1 }));
}

#[test]
fn damaged_tokenizers_are_errors() {
    let good = String::from_utf8(small()).unwrap();
    let with_model = |json: &str| format!(r#"{{"version":"1.0","added_tokens":[],"model":{json}}}"#);
    let sound = with_model(r#"{"type":"Unigram","unk_id":0,"vocab":[["a",0.0]]}"#);
    assert!(Tokenizer::from_bytes(sound.as_bytes()).is_ok());
    let damaged = [
        String::new(),
        "{}".into(),
        "null".into(),
        "[".repeat(100_000),
        good[..good.len() / 2].to_string(),
        good.replace("Unigram", "Octogram"),
        with_model("null"),
        with_model(r#"{"type":"Unigram","unk_id":7,"vocab":[["a",0.0]]}"#),
        with_model(r#"{"type":"Unigram","unk_id":0,"vocab":[]}"#),
        with_model(r#"{"type":"Unigram","vocab":[["",-1.0]]}"#),
        with_model(r#"{"type":"BPE","vocab":{"a":0},"merges":["a b"]}"#),
        with_model(r#"{"type":"BPE","vocab":{"a":0},"merges":["abc"]}"#),
        with_model(r#"{"type":"WordPiece","vocab":{"a":0}}"#),
        good.replace(r#""ids": ["#, r#""ids": ["x","#),
    ];
    for json in damaged {
        let used = Tokenizer::from_bytes(json.as_bytes()).and_then(|tokenizer| tokenizer.encode("a cät 猫", 8));
        let start: String = json.chars().take(300).collect();
        assert!(matches!(used.unwrap_err(), Error::Tokenizer { .. }), "{start}");
        assert!(!panic_is_contained());
    }
}

#[test]
fn a_panic_of_the_library_is_an_error() {
    let error = Tokenizer::from_bytes(br#"{"version":"1.0","decoder":{"type" 1}}"#).err().unwrap();
    assert!(error.to_string().contains("the tokenizers library panicked"), "{error}");
    assert!(!panic_is_contained());
}

#[test]
fn damage_anywhere_never_panics() {
    let good = small();
    // A fixed walk over the file: every few bytes one is replaced by something that JSON means something by.
    for (step, byte) in b"0\"}]{[,:x\\9-".iter().cycle().zip((0..good.len()).step_by(97)).map(|(byte, at)| (at, *byte))
    {
        let mut json = good.clone();
        json[step] = byte;
        if let Ok(tokenizer) = Tokenizer::from_bytes(&json) {
            let _ = tokenizer.encode("the quick brown fox 0123 猫 \u{0}", 8);
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Tokenizer::from_file("no/such/tokenizer.json").err().unwrap();
    assert!(
        matches!(&error, Error::TokenizerFile { .. }) && error.to_string().contains("no/such/tokenizer.json"),
        "{error}"
    );
}

fn small() -> Vec<u8> {
    std::fs::read(fixture("wan21_t2v/tokenizer/tokenizer.json")).unwrap()
}
