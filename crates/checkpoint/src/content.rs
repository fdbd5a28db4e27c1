//! [`Content`]: what a file is by its first bytes, where it is not what its name promises.

use std::fmt::{Display, Formatter};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The bytes of a file that [`Content::of`] looks at; more do no harm.
pub(crate) const LOOKED_AT: usize = 512;
/// The longest part of a text that a message shows, in letters.
const SHOWN: usize = 60;

/// A kind of file that is not read, or not where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// No bytes at all.
    Empty,
    /// The small text that Git keeps in the place of a large file.
    LfsPointer,
    /// HTML.
    WebPage,
    /// XML, as object stores answer.
    Xml,
    /// A JSON object or list.
    Json,
    /// UTF-16, with its mark.
    Utf16,
    /// Any other text: its first line, or the start of it.
    Text(String),
    /// llama.cpp's format.
    Gguf,
    /// A ZIP archive.
    Zip,
    /// A gzip stream.
    Gzip,
    /// A Python pickle that is not in an archive.
    Pickle,
    /// A file of `torch.save` from before version 1.6.
    OldPyTorch,
    /// A `SentencePiece` model.
    SentencePiece,
    /// The notes of macOS beside a file of another system, in `._NAME`.
    AppleDouble,
    /// Safetensors.
    Safetensors,
}

impl Content {
    /// Returns what the file `path` is, as [`Content::of`] tells.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_file(path: &Path) -> std::io::Result<Option<Self>> {
        let mut start = Vec::new();
        File::open(path)?.take(LOOKED_AT as u64).read_to_end(&mut start)?;
        Ok(Self::of(&start))
    }

    /// Returns what the file with these first bytes is, as far as it is one of these.
    pub fn of(start: &[u8]) -> Option<Self> {
        let start = &start[..start.len().min(LOOKED_AT)];
        Some(match start {
            [] => Self::Empty,
            [b'G', b'G', b'U', b'F', ..] => Self::Gguf,
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            // Other formats might begin like the length of a header.
            [_, _, _, _, _, 0, 0, 0, b'{', ..] => Self::Safetensors,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0, 5, 0x16, 7, ..] => Self::AppleDouble,
            // The pickled magic number.
            [0x80, 2, 0x8a, 10, ..] => Self::OldPyTorch,
            // The version of the protocol.
            [0x80, 2..=5, ..] => Self::Pickle,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Self::Utf16,
            // A message in a message: the first piece, which has a text of its own.
            [10, _, 10, _, b'<', ..] => Self::SentencePiece,
            _ => return Self::of_text(start),
        })
    }

    fn of_text(start: &[u8]) -> Option<Self> {
        let text = match std::str::from_utf8(start) {
            Ok(text) => text,
            // The last letter may be cut.
            Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).ok()?,
            Err(_) => return None,
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) {
            return None;
        }
        let text = text.trim_start();
        let small = text.to_ascii_lowercase();
        Some(if text.starts_with("version https://git-lfs") {
            Self::LfsPointer
        } else if small.starts_with("<!doctype html") || small.starts_with("<html") || small.contains("<head") {
            Self::WebPage
        } else if text.starts_with('<') {
            Self::Xml
        } else if text.starts_with(['{', '[']) {
            Self::Json
        } else {
            let line = text.lines().next().unwrap_or_default();
            let plain = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
            Self::Text(line.chars().take(SHOWN).map(plain).collect())
        })
    }

    /// Returns what the user can do about such a file.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "the download did not get further: download it again",
            Self::LfsPointer => "`git lfs pull` in its folder fetches the file itself",
            Self::WebPage | Self::Xml | Self::Text(_) => {
                "the answer of a server was saved in the file's place: check the address and whether it needs a login"
            }
            Self::Json => "it is a message of a server, or another file of the model: take the file of this name again",
            Self::Utf16 => "save it as UTF-8",
            Self::OldPyTorch | Self::Pickle => "use a .safetensors file or a diffusers folder of the same model",
            Self::Zip | Self::Gzip => "unpack it first",
            Self::SentencePiece => {
                "tokenizers are read from tokenizer.json, which the model's diffusers folder has in `tokenizer`"
            }
            Self::AppleDouble => "the file itself has the same name without `._` in front: give that one",
            Self::Safetensors | Self::Gguf => "weights lie in this file's place: download it again",
        }
    }
}

impl Display for Content {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::LfsPointer => "a Git LFS pointer",
            Self::WebPage => "a web page",
            Self::Xml => "XML",
            Self::Json => "JSON",
            Self::Utf16 => "UTF-16 text",
            Self::Text(line) => return write!(f, "a text (`{line}`)"),
            Self::Gguf => "GGUF",
            Self::Zip => "a ZIP archive",
            Self::Gzip => "packed with gzip",
            Self::Pickle => "a Python pickle",
            Self::OldPyTorch => "a PyTorch file from before version 1.6",
            Self::SentencePiece => "a SentencePiece model",
            Self::AppleDouble => "macOS's notes on another file",
            Self::Safetensors => "a safetensors file",
        })
    }
}
