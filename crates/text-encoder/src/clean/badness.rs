//! The heuristic that detects broken text by neighbouring characters that hardly ever occur together on purpose.
//!
//! The classes and rules are those of ftfy 6.3.1 (Apache-2.0),
//! <https://github.com/rspeer/python-ftfy/blob/v6.3.1/ftfy/badness.py>.

use regex::Regex;
use std::sync::LazyLock;

/// Whether `text` looks as if it was decoded with the wrong encoding.
pub(super) fn is_bad(text: &str) -> bool {
    static RULES: LazyLock<Regex> = LazyLock::new(|| Regex::new(&rules().join("|")).expect("the rules are valid"));
    RULES.is_match(text)
}

// Characters that occur in broken text, by what they are used for in sound text; contents of regex character classes.
const COMMON: &str = "\u{a0}\u{ad}·´–—―…’";
const CONTROLS: &str = "\u{80}-\u{9f}";
const BAD: &str = "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº";
const LAW: &str = "¶§";
const CURRENCY: &str = "¢£¥₧€";
const START: &str = "¡«¿©΄΅‘‚“„•‹\u{f8ff}";
const END: &str = "®»˝”›™";
const NUMERIC: &str = "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№";
const KAOMOJI: &str = "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°";
const UPPER_ACCENTED: &str = "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
const LOWER_ACCENTED: &str = "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ";
const UPPER_COMMON: &str = "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я";
const LOWER_COMMON: &str = "α-ωάέήίΰа-џ";
const BOX: &str = "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓";

/// Patterns of which any one makes a text bad.
fn rules() -> Vec<String> {
    let accented = format!("{LOWER_ACCENTED}{UPPER_ACCENTED}");
    let signs = format!("{CURRENCY}{NUMERIC}");
    let quotes = format!("{START}{END}");
    let any = format!("{accented}{BOX}{quotes}{signs}{LAW}");
    let arabic = format!("[ØÙ][{COMMON}{CURRENCY}{BAD}{NUMERIC}{START}ŸŠ®°µ»]");
    let space = r"[\s\x1c-\x1f]";

    let mut rules = vec![
        format!("[{CONTROLS}]"),
        format!("[{any}{BAD}][{BAD}]"),
        format!("[a-zA-Z][{LOWER_COMMON}{UPPER_COMMON}][{BAD}]"),
        format!("[{BAD}][{any}]"),
        format!("[{LOWER_ACCENTED}{LOWER_COMMON}{BOX}{END}{signs}][{UPPER_ACCENTED}]"),
        format!("[{BOX}{END}{signs}][{LOWER_ACCENTED}]"),
        format!("[{LOWER_ACCENTED}{BOX}{END}][{CURRENCY}]"),
        format!("{space}[{UPPER_ACCENTED}][{CURRENCY}]"),
        format!("[{UPPER_ACCENTED}{BOX}][{NUMERIC}{LAW}]"),
        format!("[{accented}{BOX}{CURRENCY}{END}][{START}][{NUMERIC}]"),
        format!("[{accented}{signs}{BOX}{LAW}][{END}][{START}]"),
        format!("[{signs}{BOX}][{START}]"),
        format!("[a-z][{UPPER_ACCENTED}][{START}{CURRENCY}]"),
        format!("[{BOX}][{KAOMOJI}]"),
        format!("[{accented}{signs}{quotes}{LAW}][{BOX}]"),
        format!("[{BOX}][{END}]"),
        format!(r"[{accented}][{quotes}][\p{{L}}\p{{N}}_]"),
        format!("[{UPPER_ACCENTED}]°"),
        // Windows-1252
        format!("[ÂÃÎÐ][€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»{quotes}–—´]"),
        format!("{arabic}{arabic}"),
        format!("[a-z.,?!{END}]Â[ {quotes}]"),
        format!("[a-z]{space}?[ÃÂ] "),
        // Windows-1251 and 1253
        format!("[ВГРС][{CONTROLS}{BAD}{quotes}{CURRENCY}°µ][ВГРС]"),
        format!("[ΒΓΞΟ][{CONTROLS}{BAD}{quotes}{CURRENCY}°][ΒΓΞΟ]"),
    ];
    rules.extend(SEQUENCES.map(str::to_string));
    rules
}

/// Single sequences: Windows-1252, then Mac Roman, Windows-1251, 1253, 1257.
const SEQUENCES: [&str; 13] = [
    "[Œœ][^A-Za-z]",
    "×[²³]",
    "à[²µ¹¼½¾]",
    "Ã[\u{a0}¡]",
    "^[ÃÂ] ",
    "√[±∂†≠®™´≤≥¥µø]",
    "≈[°¢]",
    "‚Ä[ìîïòôúùû†°¢π]",
    "‚[âó][àä°ê]",
    "вЂ",
    "ГўВЂВ.[A-Za-z ]",
    "β€[™\u{a0}Ά\u{ad}®°]",
    "ā€",
];
