//! Names of files as words of a shell, as text in JSON, and beside one another.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The most bytes of a file's name.
const LONGEST: usize = 255;

/// Returns a path or another word as any POSIX shell takes it: as it is, in quotes, or, where it has bytes that no
/// terminal shows, as the output of `printf`.
pub fn shell_word(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:=@%,".contains(c);
    match word.to_str() {
        Some(text) if text.chars().any(is_hidden) => printed(word),
        Some(text) if text.starts_with('-') => shell_word(format!("./{text}")),
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.into(),
        Some(text) => format!("'{}'", text.replace('\'', r"'\''")),
        None => printed(word),
    }
}

/// `"$(printf '…')"`, with octal escapes for everything but plain letters.
fn printed(word: &OsStr) -> String {
    let mut text = String::from("\"$(printf '");
    for byte in word.as_encoded_bytes() {
        let _ = match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'.' | b'-' | b'_' => write!(text, "{}", *byte as char),
            _ => write!(text, "\\{byte:03o}"),
        };
    }
    text + "')\""
}

/// Whether a character changes how a line is shown without being seen itself: control characters, marks of writing
/// direction, characters without width, and line separators. The joiners in words and emoji count too.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns a path as text for JSON, from which [`path_of_text`] makes the same path: bytes that are not UTF-8 are
/// written as `\xE9`, and so is a backslash that stands before an `x`.
pub fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text += &if cfg!(unix) { chunk.valid().replace("\\x", "\\x5Cx") } else { chunk.valid().into() };
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

/// Returns the path that [`path_text`] made this text of.
pub fn path_of_text(text: &str) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let (mut bytes, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("\\x") {
            bytes.extend(before.as_bytes());
            let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.extend_from_slice(byte.as_ref().map_or(b"\\x", std::slice::from_ref));
            rest = if byte.is_some() { &after[2..] } else { after };
        }
        bytes.extend(rest.as_bytes());
        OsString::from_vec(bytes).into()
    }
    #[cfg(not(unix))]
    PathBuf::from(text)
}

/// Returns `path` with `suffix` added to its name. A name that would be too long for a file system is shortened, always
/// in the same way and to one that no other name becomes.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let mut whole = name.to_os_string();
    if name.len() + suffix.len() > LONGEST {
        let text = name.to_string_lossy();
        let room = LONGEST.saturating_sub(suffix.len() + 17);
        whole = format!("{}~{:016x}", &text[..text.floor_char_boundary(room)], hash(name)).into();
    }
    whole.push(suffix);
    path.with_file_name(whole)
}

/// FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>.
pub(crate) fn hash(name: &OsStr) -> u64 {
    name.as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_every_word_back() {
        let words =
            ["a.mp4", "it's", "a b", "$HOME `x` \"y\"", "", "-v", "~", "tab\there", "\u{202e}evil", "é", "a\\x41"];
        for word in words {
            let script = format!("printf %s {}", shell_word(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
            let expected = if word.starts_with('-') { format!("./{word}") } else { word.to_string() };
            assert_eq!(String::from_utf8(output.stdout).expect("UTF-8"), expected, "{script}");
        }
        assert_eq!(shell_word("plain/é-1.mp4"), "plain/é-1.mp4");
    }

    #[cfg(unix)]
    #[test]
    fn names_of_any_bytes_survive() {
        use std::os::unix::ffi::OsStrExt;
        for bytes in
            [&b"caf\xe9.png"[..], b"\xff\xfe", b"a\\x41", b"a\\", b"a\\xZZ", b"\\x5Cx", "é/\u{fffd}".as_bytes()]
        {
            let path = Path::new(OsStr::from_bytes(bytes));
            let text = path_text(path);
            assert_eq!(path_of_text(&text), path, "{text}");
            let script = format!("printf %s {}", shell_word(path));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
            assert_eq!(output.stdout, bytes, "{script}");
        }
        assert_eq!(path_text(Path::new(OsStr::from_bytes(b"caf\xe9.png"))), "caf\\xE9.png");
        assert_eq!(path_text(Path::new("C:\\dir\\é")), "C:\\dir\\é");
    }

    #[test]
    fn long_names_stay_apart_and_fit() {
        let long = |last: &str| PathBuf::from(format!("folder/{}{last}.mp4", "é".repeat(124)));
        let (a, b) = (beside(&long("a"), ".latents.safetensors"), beside(&long("b"), ".latents.safetensors"));
        assert!(a != b && a.file_name().is_some_and(|name| name.len() <= 255), "{}", a.display());
        assert_eq!(beside(Path::new("f/a.mp4"), ".project"), Path::new("f/a.mp4.project"));
    }
}
