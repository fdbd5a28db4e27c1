//! [`Words`]: the tokenizer of a model, a file of its own or a part of the text encoder's.

use crate::Result;
use crate::model::component::{Blob, Files};
use kinora_checkpoint::Content;

/// Where a tokenizer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Words {
    /// A `tokenizer.json`, or a `SentencePiece` model.
    File(Blob),
    /// In the files of the text encoder.
    InWeights(Files),
}

impl Words {
    /// The tokenizer in the text encoder's files, if there is one.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(crate) fn in_weights(files: &Files) -> Result<Option<Self>> {
        let has = kinora_text_encoder::has_tokenizer(&files.open_whole()?);
        Ok(has.then(|| Self::InWeights(files.clone())))
    }

    /// The content of a `tokenizer.json`.
    ///
    /// # Errors
    /// A file that cannot be read, or is something else.
    pub(crate) fn json(&self) -> Result<Vec<u8>> {
        match self {
            Self::InWeights(files) => Ok(kinora_text_encoder::tokenizer_json(&files.open_whole()?)?),
            Self::File(blob) => {
                let (path, json) = (blob.path().to_path_buf(), blob.read()?);
                match Content::of(&json) {
                    None | Some(Content::Json) => Ok(json),
                    Some(Content::SentencePiece) => Ok(kinora_text_encoder::tokenizer_json_of_pieces(&path, &json)?),
                    Some(content) => {
                        Err(kinora_checkpoint::Error::Content { path, content, wanted: "a tokenizer" }.into())
                    }
                }
            }
        }
    }

    /// The files.
    pub(crate) fn blobs(&self) -> &[Blob] {
        match self {
            Self::File(blob) => std::slice::from_ref(blob),
            Self::InWeights(files) => &files.blobs,
        }
    }
}
