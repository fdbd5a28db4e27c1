//! Shows pictures in a terminal: kitty's graphics (<https://sw.kovidgoyal.net/kitty/graphics-protocol/>), iTerm2's
//! inline images (<https://iterm2.com/documentation-images.html>), and sixel
//! (<https://vt100.net/docs/vt3xx-gp/chapter14.html>).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinora::Picture;
use std::fmt::Write;

/// The most bytes of base64 in one of kitty's escape sequences.
const KITTY_CHUNK: usize = 4096;
/// Levels of red, green and blue in the sixel palette.
const LEVELS: usize = 6;

/// A protocol for pictures in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The escape sequences of kitty, which Ghostty and `WezTerm` know too.
    Kitty,
    /// The inline images of iTerm2.
    Iterm,
    /// DEC's sixels.
    Sixel,
}

impl Protocol {
    /// Returns the protocol that the terminal of these environment variables knows, if any.
    pub fn detect(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let term = variable("TERM").unwrap_or_default();
        let program = variable("TERM_PROGRAM").unwrap_or_default();
        if variable("KITTY_WINDOW_ID").is_some()
            || term.contains("kitty")
            || ["ghostty", "WezTerm"].contains(&program.as_str())
        {
            Some(Self::Kitty)
        } else if program == "iTerm.app" || program == "vscode" {
            Some(Self::Iterm)
        } else if term.contains("sixel") || term.starts_with("foot") || term.starts_with("mlterm") {
            Some(Self::Sixel)
        } else {
            None
        }
    }

    /// Returns the text that shows `picture`.
    pub fn show(self, picture: &Picture) -> kinora::Result<String> {
        Ok(match self {
            Self::Kitty => kitty(&STANDARD.encode(picture.png_bytes()?)),
            Self::Iterm => {
                let png = picture.png_bytes()?;
                format!("\x1b]1337;File=inline=1;size={}:{}\x07\n", png.len(), STANDARD.encode(&png))
            }
            Self::Sixel => sixel(picture),
        })
    }
}

fn kitty(base64: &str) -> String {
    let chunks: Vec<&str> = (0..base64.len())
        .step_by(KITTY_CHUNK)
        .map(|start| &base64[start..base64.len().min(start + KITTY_CHUNK)])
        .collect();
    let mut text = String::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let more = u8::from(index + 1 < chunks.len());
        let first = if index == 0 { "a=T,f=100," } else { "" };
        let _ = write!(text, "\x1b_G{first}m={more};{chunk}\x1b\\");
    }
    text.push('\n');
    text
}

/// Encodes bands of six rows, each with one line for every colour in it.
fn sixel(picture: &Picture) -> String {
    let mut text = String::from("\x1bPq");
    let percent = |level: usize| level * 100 / (LEVELS - 1);
    for colour in 0..LEVELS.pow(3) {
        let [r, g, b] = [colour / LEVELS / LEVELS, colour / LEVELS % LEVELS, colour % LEVELS].map(percent);
        let _ = write!(text, "#{colour};2;{r};{g};{b}");
    }
    let level = |value: u8| (usize::from(value) * (LEVELS - 1) + 127) / 255;
    let colour = |x: usize, y: usize| {
        let at = 3 * (y * picture.width + x);
        picture.rgb[at..at + 3].iter().fold(0, |colour, value| colour * LEVELS + level(*value))
    };
    for top in (0..picture.height).step_by(6) {
        let rows = top..picture.height.min(top + 6);
        let mut lines = std::collections::BTreeMap::<usize, Vec<u8>>::new();
        for (bit, y) in rows.enumerate() {
            for x in 0..picture.width {
                lines.entry(colour(x, y)).or_insert_with(|| vec![0; picture.width])[x] |= 1 << bit;
            }
        }
        for (colour, bits) in lines {
            let _ = write!(text, "#{colour}{}$", run_lengths(&bits));
        }
        text.push('-');
    }
    text.push_str("\x1b\\\n");
    text
}

fn run_lengths(bits: &[u8]) -> String {
    let mut text = String::new();
    for run in bits.chunk_by(|a, b| a == b) {
        let sign = char::from(63 + run[0]);
        let _ = if run.len() > 3 {
            write!(text, "!{}{sign}", run.len())
        } else {
            write!(text, "{}", String::from(sign).repeat(run.len()))
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(set: &[(&str, &str)]) -> Option<Protocol> {
        Protocol::detect(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn terminals_are_known_by_their_variables() {
        assert_eq!(detect(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        assert_eq!(detect(&[("TERM_PROGRAM", "iTerm.app")]), Some(Protocol::Iterm));
        assert_eq!(detect(&[("TERM", "foot")]), Some(Protocol::Sixel));
        assert_eq!(detect(&[("TERM", "xterm-256color")]), None);
    }

    #[test]
    fn long_pictures_come_in_chunks() {
        let text = kitty(&"A".repeat(5000));
        let expected = format!("\x1b_Ga=T,f=100,m=1;{}\x1b\\\x1b_Gm=0;{}\x1b\\\n", "A".repeat(4096), "A".repeat(904));
        assert_eq!(text, expected);
    }

    #[test]
    fn sixels_are_columns_of_six() {
        let picture =
            Picture { width: 5, height: 2, rgb: [[255, 255, 255], [0, 0, 0]].map(|row| row.repeat(5)).concat() };
        let text = sixel(&picture);
        assert!(text.starts_with("\x1bPq#0;2;0;0;0#1;2;0;0;20"), "{text}");
        assert!(text.ends_with("#0!5A$#215!5@$-\x1b\\\n"), "{text}");
    }
}
