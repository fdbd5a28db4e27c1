//! The single-byte encodings that text is mistaken for; mappings of <https://www.unicode.org/Public/MAPPINGS/>.

/// A single-byte encoding whose lower half is ASCII.
pub(super) struct Codepage {
    /// Bytes 0x80 to 0xFF, 16 a row; `?` stands for the Latin-1 character, also where the encoding defines nothing.
    upper: [&'static str; 8],
    /// Whether it is decoded as browsers do: it defines every byte, and 0x1A is the replacement character.
    pub sloppy: bool,
    /// Whether a space of its text may have been a no-break space.
    pub restores_spaces: bool,
}

impl Codepage {
    /// The bytes of `text`, if the encoding has all of its characters.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.encode_char(c)).collect()
    }

    /// The character of one byte.
    pub fn decode(&self, byte: u8) -> char {
        let latin_1 = char::from(byte);
        match byte {
            0x1a if self.sloppy => char::REPLACEMENT_CHARACTER,
            0..0x80 => latin_1,
            _ => self.upper().nth(usize::from(byte - 0x80)).map_or(latin_1, |(_, c)| c),
        }
    }

    /// The characters of bytes 0x80 to 0xFF with their bytes.
    pub fn upper(&self) -> impl Iterator<Item = (u8, char)> {
        let latin_1 = |byte: u8, c| (byte, if c == '?' { char::from(byte) } else { c });
        (0x80..=0xff).zip(self.upper.iter().flat_map(|row| row.chars())).map(move |(byte, c)| latin_1(byte, c))
    }

    fn encode_char(&self, c: char) -> Option<u8> {
        match c {
            '\u{1a}' if self.sloppy => None,
            char::REPLACEMENT_CHARACTER if self.sloppy => Some(0x1a),
            c if c.is_ascii() => u8::try_from(c).ok(),
            c => self.upper().find(|&(_, other)| other == c).map(|(byte, _)| byte),
        }
    }
}

/// The encodings in the order they are tried.
pub(super) static CODEPAGES: [&Codepage; 10] = [
    &LATIN_1,
    &WINDOWS_1252,
    &WINDOWS_1251,
    &WINDOWS_1250,
    &WINDOWS_1253,
    &WINDOWS_1254,
    &WINDOWS_1257,
    &ISO_8859_2,
    &MAC_ROMAN,
    &CP437,
];

/// The code pages whose characters are searched for when only a part of a text is broken.
pub(super) static LATIN_1_LIKE: [&Codepage; 7] =
    [&LATIN_1, &WINDOWS_1252, &WINDOWS_1250, &WINDOWS_1251, &WINDOWS_1253, &WINDOWS_1254, &WINDOWS_1257];

const SAME: &str = "????????????????";

static LATIN_1: Codepage = Codepage { upper: [SAME; 8], sloppy: false, restores_spaces: true };

/// Western European.
pub(super) static WINDOWS_1252: Codepage = Codepage {
    upper: ["€?‚ƒ„…†‡ˆ‰Š‹Œ?Ž?", "?‘’“”•–—˜™š›œ?žŸ", SAME, SAME, SAME, SAME, SAME, SAME],
    sloppy: true,
    restores_spaces: true,
};

static WINDOWS_1251: Codepage = Codepage {
    upper: [
        "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏ",
        "ђ‘’“”•–—?™љ›њќћџ",
        "?ЎўЈ?Ґ??Ё?Є????Ї",
        "??Ііґ???ё№є?јЅѕї",
        "АБВГДЕЖЗИЙКЛМНОП",
        "РСТУФХЦЧШЩЪЫЬЭЮЯ",
        "абвгдежзийклмноп",
        "рстуфхцчшщъыьэюя",
    ],
    sloppy: true,
    restores_spaces: true,
};

static WINDOWS_1250: Codepage = Codepage {
    upper: [
        "€?‚?„…†‡?‰Š‹ŚŤŽŹ",
        "?‘’“”•–—?™š›śťžź",
        "?ˇ˘Ł?Ą????Ş????Ż",
        "??˛ł?????ąş?Ľ˝ľż",
        "Ŕ??Ă?ĹĆ?Č?Ę?Ě??Ď",
        "ĐŃŇ??Ő??ŘŮ?Ű??Ţ?",
        "ŕ??ă?ĺć?č?ę?ě??ď",
        "đńň??ő??řů?ű??ţ˙",
    ],
    sloppy: true,
    restores_spaces: true,
};

static WINDOWS_1253: Codepage = Codepage {
    upper: [
        "€?‚ƒ„…†‡?‰?‹????",
        "?‘’“”•–—?™?›????",
        "?΅Ά????????????―",
        "????΄???ΈΉΊ?Ό?ΎΏ",
        "ΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟ",
        "ΠΡ?ΣΤΥΦΧΨΩΪΫάέήί",
        "ΰαβγδεζηθικλμνξο",
        "πρςστυφχψωϊϋόύώ?",
    ],
    sloppy: true,
    restores_spaces: true,
};

static WINDOWS_1254: Codepage = Codepage {
    upper: ["€?‚ƒ„…†‡ˆ‰Š‹Œ???", "?‘’“”•–—˜™š›œ??Ÿ", SAME, SAME, SAME, "Ğ????????????İŞ?", SAME, "ğ????????????ış?"],
    sloppy: true,
    restores_spaces: true,
};

static WINDOWS_1257: Codepage = Codepage {
    upper: [
        "€?‚?„…†‡?‰?‹?¨ˇ¸",
        "?‘’“”•–—?™?›?¯˛?",
        "????????Ø?Ŗ????Æ",
        "????????ø?ŗ????æ",
        "ĄĮĀĆ??ĘĒČ?ŹĖĢĶĪĻ",
        "ŠŃŅ?Ō???ŲŁŚŪ?ŻŽ?",
        "ąįāć??ęēč?źėģķīļ",
        "šńņ?ō???ųłśū?żž˙",
    ],
    sloppy: true,
    restores_spaces: true,
};

static ISO_8859_2: Codepage = Codepage {
    upper: [
        SAME,
        SAME,
        "?Ą˘Ł?ĽŚ??ŠŞŤŹ?ŽŻ",
        "?ą˛ł?ľśˇ?šşťź˝žż",
        "Ŕ??Ă?ĹĆ?Č?Ę?Ě??Ď",
        "ĐŃŇ??Ő??ŘŮ?Ű??Ţ?",
        "ŕ??ă?ĺć?č?ę?ě??ď",
        "đńň??ő??řů?ű??ţ˙",
    ],
    sloppy: false,
    restores_spaces: true,
};

static MAC_ROMAN: Codepage = Codepage {
    upper: [
        "ÄÅÇÉÑÖÜáàâäãåçéè",
        "êëíìîïñóòôöõúùûü",
        "†°??§•¶ß®?™´¨≠ÆØ",
        "∞?≤≥¥?∂∑∏π∫ªºΩæø",
        "¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ",
        "–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ",
        "‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ",
        "\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
    ],
    sloppy: false,
    restores_spaces: false,
};

static CP437: Codepage = Codepage {
    upper: [
        "ÇüéâäàåçêëèïîìÄÅ",
        "ÉæÆôöòûùÿÖÜ¢£¥₧ƒ",
        "áíóúñÑªº¿⌐¬½¼¡«»",
        "░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
        "└┴┬├─┼╞╟╚╔╩╦╠═╬╧",
        "╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀",
        "αßΓπΣσµτΦΘΩδ∞φε∩",
        "≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
    ],
    sloppy: false,
    restores_spaces: true,
};
