//! A camera's move in words, for models that are told it in the prompt.

use super::{CameraMove, CameraPreset};
use crate::given::Camera;

/// The words for an axis: forward and backward, English and Chinese.
type Words = [(&'static str, &'static str); 2];

/// Those of pan, tilt and zoom are the ones that the embedded model learned.
const AXES: [Words; 6] = [
    [("moves right", "镜头向右平移"), ("moves left", "镜头向左平移")],
    [("rises", "镜头上升"), ("sinks", "镜头下降")],
    [("pans right", "镜头右移"), ("pans left", "镜头左移")],
    [("tilts up", "镜头上移"), ("tilts down", "镜头下移")],
    [("rolls clockwise", "镜头顺时针旋转"), ("rolls counterclockwise", "镜头逆时针旋转")],
    [("zooms in", "镜头推进"), ("zooms out", "镜头拉远")],
];

/// `prompt` with the camera's move at its end, in its language; a path cannot be said.
pub(crate) fn with_phrase(prompt: &str, camera: &Camera) -> String {
    let chinese = prompt.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    let phrases = match camera {
        Camera::Move(camera) => of_move(camera, chinese),
        Camera::Preset(preset) => of_preset(*preset, chinese),
        Camera::Path(_) => Vec::new(),
    };
    if phrases.is_empty() {
        return prompt.to_string();
    }
    let prompt = prompt.trim_end().trim_end_matches(['.', '。', ',', '，']);
    if chinese {
        format!("{prompt}，{}", phrases.join("，"))
    } else {
        format!("{prompt}, the camera {}", phrases.join(" and "))
    }
}

fn of_move(camera: &CameraMove, chinese: bool) -> Vec<&'static str> {
    let said = camera.values().into_iter().zip(AXES).filter(|(value, _)| *value != 0.0);
    said.map(|(value, words)| words[usize::from(value < 0.0)]).map(|(en, zh)| if chinese { zh } else { en }).collect()
}

fn of_preset(preset: CameraPreset, chinese: bool) -> Vec<&'static str> {
    let (english, chinese_words) = match preset {
        CameraPreset::DownBack => ("sinks and moves back", "镜头下降并后退"),
        CameraPreset::ForwardUp => ("moves forward and tilts up", "镜头前进并上移"),
        CameraPreset::LeftTurnForward => ("turns left and moves forward", "镜头左转并前进"),
        CameraPreset::RightTurnForward => ("turns right and moves forward", "镜头右转并前进"),
    };
    vec![if chinese { chinese_words } else { english }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_said_in_the_language_of_the_prompt() {
        let camera = |text: &str| Camera::Move(text.parse().expect("a move"));
        let said = with_phrase("a red ball on a blue background.", &camera("pan=-5,zoom=2"));
        assert_eq!(said, "a red ball on a blue background, the camera pans left and zooms in");
        assert_eq!(with_phrase("一个红色球，蓝色背景。", &camera("tilt=3")), "一个红色球，蓝色背景，镜头上移");
        assert_eq!(with_phrase("a ball", &camera("pan=0")), "a ball");
        assert_eq!(with_phrase("a ball", &Camera::Path("p.txt".into())), "a ball");
        let preset = Camera::Preset(CameraPreset::ForwardUp);
        assert_eq!(with_phrase("a ball", &preset), "a ball, the camera moves forward and tilts up");
    }
}
