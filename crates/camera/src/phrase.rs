//! Camera moves in words, for models without camera control.
//!
//! The words for pan, tilt and zoom are those of the captions that the embedded model learned from
//! (`scripts/train/clips.py`). The captions' Chinese words for pan and tilt mean "moves", so they also stand for the
//! horizontal and the vertical axis. The words for the other axes are film makers' terms. Speeds are left out.

use super::{CameraMove, CameraPreset};

/// The languages in which moves can be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `the camera pans left`
    English,
    /// `镜头左移`
    Chinese,
}

/// For each axis: the words for negative and positive values in English, then in Chinese.
const WORDS: [[[&str; 2]; 2]; 6] = [
    [["trucks left", "trucks right"], ["镜头左移", "镜头右移"]],
    [["cranes down", "cranes up"], ["镜头下移", "镜头上移"]],
    [["pans left", "pans right"], ["镜头左移", "镜头右移"]],
    [["tilts down", "tilts up"], ["镜头下移", "镜头上移"]],
    [["rolls counterclockwise", "rolls clockwise"], ["镜头逆时针旋转", "镜头顺时针旋转"]],
    [["zooms out", "zooms in"], ["镜头拉远", "镜头推进"]],
];

impl Language {
    /// Returns Chinese if the text has a Han character, else English.
    pub fn of(text: &str) -> Self {
        let han = |c| matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}');
        if text.chars().any(han) { Self::Chinese } else { Self::English }
    }

    /// Appends `phrase` to `prompt`, as one sentence.
    pub(super) fn join(self, prompt: &str, phrase: &str) -> String {
        let prompt = prompt.trim_end().trim_end_matches(['.', ',', '。', '，']).trim_end();
        let comma = match self {
            _ if prompt.is_empty() => "",
            Self::English => ", ",
            Self::Chinese => "，",
        };
        format!("{prompt}{comma}{phrase}")
    }
}

impl CameraMove {
    /// Returns the move in words, such as `the camera pans left and zooms in`, or `None` if nothing moves.
    pub fn phrase(&self, language: Language) -> Option<String> {
        let moving = self.axes().into_iter().zip(WORDS).filter(|((_, value), _)| *value != 0.0);
        let mut words = Vec::new();
        for ((_, value), by_language) in moving {
            let word = by_language[language as usize][usize::from(value > 0.0)];
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let (last, first) = words.split_last()?;
        Some(match language {
            Language::Chinese => words.join("，"),
            Language::English if first.is_empty() => format!("the camera {last}"),
            Language::English => format!("the camera {} and {last}", first.join(", ")),
        })
    }
}

impl CameraPreset {
    /// Returns the move in words.
    pub fn phrase(self, language: Language) -> &'static str {
        let [english, chinese] = match self {
            Self::DownBack => ["the camera tilts down and zooms out", "镜头下移，镜头拉远"],
            Self::ForwardUp => ["the camera zooms in and tilts up", "镜头推进，镜头上移"],
            Self::LeftTurnForward => ["the camera pans left and zooms in", "镜头左移，镜头推进"],
            Self::RightTurnForward => ["the camera pans right and zooms in", "镜头右移，镜头推进"],
        };
        match language {
            Language::English => english,
            Language::Chinese => chinese,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Camera;

    fn in_prompt(camera: &str, prompt: &str) -> String {
        camera.parse::<Camera>().expect("a camera").in_prompt(prompt)
    }

    #[test]
    fn moves_follow_the_prompt_in_its_language() {
        for (camera, prompt, expected) in [
            ("pan=-5", "a red ball on a blue background.", "a red ball on a blue background, the camera pans left"),
            ("zoom=3", "一个红色球，蓝色背景。", "一个红色球，蓝色背景，镜头推进"),
            ("pan=0", "a red ball.", "a red ball."),
            ("roll=1,vertical=-2,zoom=1", "", "the camera cranes down, rolls clockwise and zooms in"),
            ("pan=1,tilt=-1", "球", "球，镜头右移，镜头下移"),
            ("horizontal=3,vertical=-1,pan=1", "球", "球，镜头右移，镜头下移"),
            ("horizontal=-3", "a ball", "a ball, the camera trucks left"),
            ("left_turn_forward", "a ball", "a ball, the camera pans left and zooms in"),
        ] {
            assert_eq!(in_prompt(camera, prompt), expected);
        }
    }

    #[test]
    fn the_embedded_model_learned_these_words() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/train/clips.py");
        let captions = std::fs::read_to_string(root).expect("the script that made the captions");
        let learned = |text: &str| captions.contains(&format!("\"{text}\""));
        for axis in [2, 3, 5] {
            for (english, chinese) in WORDS[axis][0].iter().zip(WORDS[axis][1]) {
                // One row of its table pairs them, so a swap shows.
                assert!(captions.contains(&format!("\"{english}\": \"{chinese}\"")), "{english} {chinese}");
                assert!(learned(english), "{english}");
            }
        }
        for phrase in CameraPreset::ALL.map(|preset| preset.phrase(Language::Chinese)) {
            assert!(phrase.split('，').all(learned), "{phrase}");
        }
    }
}
