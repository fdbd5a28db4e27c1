//! What went wrong, in words that name no path of the server.

use crate::dto::FieldError;
use crate::protocol::Problem;
use kinora::Error;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        Self { code: "invalid_value".into(), field: Some(error.field), message: error.message }
    }
}

/// The field of a request that sets what an error of the library names ([`Error::settings`]), where there is one.
fn field_of(setting: &str) -> Option<String> {
    match setting {
        "duration" => Some("seconds".into()),
        "steps" | "shift" | "sampler" | "sigmas" | "timesteps" | "guidance_scale" | "guidance_scale_2" | "cache" => {
            Some(format!("sampling.{setting}"))
        }
        "resume" | "save_latents" | "threads" | "loras" | "fit" => None,
        "camera_preset" => Some("camera".into()),
        field => Some(field.into()),
    }
}

/// The fields of a request, by words in the library's messages that name no setting; the first one that is found counts.
const FIELDS: [(&str, &str); 18] = [
    ("a shot of", "seconds"),
    ("negative prompt", "negative_prompt"),
    ("prompt", "prompt"),
    ("guidance", "sampling.guidance_scale"),
    ("steps", "sampling.steps"),
    ("shift", "sampling.shift"),
    ("frames per second", "fps"),
    ("last frame", "last_image"),
    ("last image", "last_image"),
    ("strength", "strength"),
    ("control", "control"),
    ("mask", "mask"),
    ("camera", "camera"),
    ("seconds", "seconds"),
    ("frames", "frames"),
    ("preset", "preset"),
    ("image", "image"),
    ("aspect", "aspect"),
];

/// The words for the files of an order.
pub(super) struct Words(Vec<(String, String)>);

impl Words {
    /// Files are named by their ids.
    pub(super) fn new(files: &BTreeMap<String, PathBuf>) -> Self {
        let text = |path: &Path| path.display().to_string();
        let mut all: Vec<_> = files.iter().map(|(id, path)| (text(path), id.clone())).collect();
        all.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self(all)
    }

    /// The problem of a run.
    pub(super) fn of(&self, error: &Error) -> Problem {
        let message = self.plain(&error.to_string());
        let (code, has_field) = match error {
            error if error.is_full_disk() => ("storage_full", false),
            Error::Request { .. } => ("invalid_value", true),
            Error::BadFile { .. } | Error::Media(_) => ("invalid_file", true),
            Error::Component { .. } | Error::NotAModel { .. } | Error::NotHere { .. } | Error::UnknownModel { .. } => {
                ("model_unavailable", false)
            }
            Error::AfterLatents { source, .. } => return self.of(source),
            _ => ("generation_failed", false),
        };
        let lower = message.to_lowercase();
        let named = error.settings().iter().find_map(|setting| field_of(setting));
        let field = named.or_else(|| {
            let said = FIELDS.iter().find(|(words, _)| lower.contains(words));
            said.map(|(_, field)| (*field).to_string())
        });
        Problem { code: code.into(), field: field.filter(|_| has_field), message }
    }

    /// The problem of a model that does not load.
    pub(super) fn of_model(&self, error: &Error) -> Problem {
        Problem {
            code: "model_unavailable".into(),
            field: Some("model".into()),
            message: self.plain(&error.to_string()),
        }
    }

    /// The message with ids for paths, and without other paths.
    pub(super) fn plain(&self, message: &str) -> String {
        let mut message = message.to_string();
        for (path, id) in &self.0 {
            message = message.replace(path, id);
        }
        let words = message.split(' ').map(|word| {
            let bare = word.trim_start_matches(['`', '(', '"', '\'']);
            let before = &word[..word.len() - bare.len()];
            let is_path = bare.starts_with('/') || bare.get(1..3) == Some(":\\");
            let after = &bare[bare.trim_end_matches(|letter: char| "`)\"',.:;".contains(letter)).len()..];
            if is_path {
                format!("{before}a file of the server{}", after.trim_start_matches(char::is_alphanumeric))
            } else {
                word.to_string()
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn messages_name_no_path() {
        let words = Words::new(&BTreeMap::from([("file_1".to_string(), PathBuf::from("/data/files/file_1.png"))]));
        assert_eq!(words.plain("cannot use `/data/files/file_1.png`: it is empty"), "cannot use `file_1`: it is empty");
        assert_eq!(words.plain("see `/srv/models/x/vae.safetensors`: no"), "see `a file of the server`: no");
        for text in ["it does not know: ã.", "只猫, 跑. …", "\u{90}\u{11f60}x`"] {
            assert_eq!(words.plain(text), text, "letters of several bytes");
        }
    }

    #[test]
    fn problems_name_their_field() {
        let words = Words::new(&BTreeMap::new());
        let error = Error::request("guidance scale 900 is outside 0 to 100", String::new());
        assert_eq!(words.of(&error).field.as_deref(), Some("sampling.guidance_scale"));
        let full = Error::Io { path: "/x".into(), source: ErrorKind::StorageFull.into() };
        assert_eq!((words.of(&full).code.as_str(), words.of(&full).field), ("storage_full", None));
    }
}
