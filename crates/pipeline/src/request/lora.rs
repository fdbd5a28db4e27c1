//! [`Lora`]: a LoRA file, how strongly it changes the model, and which transformer.

use crate::request::path_text;
use kinora_checkpoint::Expert;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;

/// A LoRA file, how strongly it changes the model, and which transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// The file.
    #[serde(with = "path_text")]
    pub file: PathBuf,
    /// What its changes are multiplied by; 1 is as they were trained, 0 is none.
    pub strength: f32,
    /// The one of two transformers that it is for; `None` is both, or the one that the file's keys name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert: Option<Expert>,
    /// The SHA-256 that the file must have, in hexadecimal digits; recipes have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl FromStr for Lora {
    type Err = String;

    /// Parses `[high=|low=]FILE[:STRENGTH]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (expert, rest) = match Expert::ALL.map(|expert| (expert, text.strip_prefix(&format!("{expert}=")))) {
            [(expert, Some(rest)), _] | [_, (expert, Some(rest))] => (Some(expert), rest),
            _ => (None, text),
        };
        let number = rest.rsplit_once(':').and_then(|(file, number)| Some((file, number.trim().parse::<f32>().ok()?)));
        let (file, strength) = number.unwrap_or((rest, 1.0));
        if file.is_empty() {
            return Err(format!("`{text}` names no file: write FILE or FILE:STRENGTH"));
        }
        if !strength.is_finite() {
            return Err(format!("strength {strength} is no number: write one such as 0.7"));
        }
        Ok(Self { file: file.into(), strength, expert, sha256: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_a_file_a_strength_and_an_expert() {
        let parsed = |text: &str| {
            let Lora { file, strength, expert, .. } = text.parse().expect(text);
            (file.to_string_lossy().into_owned(), strength, expert)
        };
        assert_eq!(parsed("style.safetensors"), ("style.safetensors".into(), 1.0, None));
        assert_eq!(parsed("style.safetensors:0.7"), ("style.safetensors".into(), 0.7, None));
        assert_eq!(parsed("low=a=b:c.pth:-1"), ("a=b:c.pth".into(), -1.0, Some(Expert::Low)));
        assert_eq!(parsed("high=style:x"), ("style:x".into(), 1.0, Some(Expert::High)));
        for wrong in ["", ":0.5", "high=", "style:nan", "style:inf"] {
            assert!(wrong.parse::<Lora>().is_err(), "{wrong}");
        }
    }
}
