//! [`Inputs`]: the conditioning inputs of a clip beside its prompt: pictures, clips and a camera.

use crate::error::Settings;
use crate::families::capabilities::{Capabilities, ImageInput, LastImageInput};
use crate::model::manifest::Manifest;
use crate::request::builders::builders;
use crate::request::path_text;
use crate::{Error, Result};
use kinora_camera::Camera;
use kinora_media::{Fit, Source};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Display};
use std::path::Path;
use std::str::FromStr;

/// The pictures, clips and the camera that a clip is made from, beside its prompt. Everything is optional, and most models
/// accept only a part of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Inputs {
    /// The picture that the clip begins with.
    #[serde(skip_serializing_if = "Option::is_none", with = "path_text")]
    pub image: Option<Source>,
    /// The picture that the clip ends with.
    #[serde(skip_serializing_if = "Option::is_none", with = "path_text")]
    pub last_image: Option<Source>,
    /// The way in which pictures and clips of another shape get the clip's shape.
    #[serde(skip_serializing_if = "is_crop", serialize_with = "as_text", deserialize_with = "from_text")]
    pub fit: Fit,
    /// A clip to change: the new one starts from its latents, noised.
    #[serde(skip_serializing_if = "Option::is_none", with = "path_text")]
    pub video: Option<Source>,
    /// The part of `video` that is replaced, above 0 (nothing) to 1 (everything).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// A clip that controls the new one: depth, pose or edges, or frames of which `mask` says what is replaced.
    #[serde(skip_serializing_if = "Option::is_none", with = "path_text")]
    pub control: Option<Source>,
    /// A clip or picture: what is white there is generated, what is black is kept from `control`.
    #[serde(skip_serializing_if = "Option::is_none", with = "path_text")]
    pub mask: Option<Source>,
    /// Pictures of what should be seen in the clip.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "path_text")]
    pub references: Vec<Source>,
    /// The margins that are added around `control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expand: Option<Expand>,
    /// The strength with which `control` is followed; 1 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_scale: Option<f64>,
    /// The camera's move.
    #[serde(skip_serializing_if = "Option::is_none", with = "path_text")]
    pub camera: Option<Camera>,
    /// Say the camera's move in the prompt, instead of giving it to the network; `None` is what the model was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera_in_prompt: Option<bool>,
}

/// The margins that are added on each side of a clip, in parts of its own width and height.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Expand {
    /// Parts of the width.
    pub left: f64,
    /// Parts of the width.
    pub right: f64,
    /// Parts of the height.
    pub top: f64,
    /// Parts of the height.
    pub bottom: f64,
}

builders! {
    Inputs {
        image: Source => Some,
        last_image: Source => Some,
        fit: Fit,
        video: Source => Some,
        strength: Option<f64>,
        control: Source => Some,
        mask: Source => Some,
        references: Vec<Source>,
        expand: Option<Expand>,
        control_scale: Option<f64>,
        camera: Option<Camera>,
        camera_in_prompt: Option<bool>,
    }
}

impl Inputs {
    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        *self == Self { fit: self.fit, ..Self::default() }
    }

    /// Whether the camera's move becomes words of the prompt, of a model with these capabilities.
    pub(crate) fn says_camera(&self, capabilities: Capabilities) -> bool {
        self.camera.is_some() && self.camera_in_prompt.unwrap_or(!capabilities.camera)
    }

    /// The same with whole paths, so that the clip can be made again from another directory.
    pub(crate) fn with_whole_paths(&self) -> Self {
        let camera = self.camera.as_ref().map(|camera| match camera {
            Camera::Path(path) => Camera::Path(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            other => other.clone(),
        });
        Self {
            image: self.image.as_ref().map(Source::absolute),
            last_image: self.last_image.as_ref().map(Source::absolute),
            video: self.video.as_ref().map(Source::absolute),
            control: self.control.as_ref().map(Source::absolute),
            mask: self.mask.as_ref().map(Source::absolute),
            references: self.references.iter().map(Source::absolute).collect(),
            camera,
            ..self.clone()
        }
    }

    /// Every file that is read, and what it is for.
    pub(crate) fn files(&self) -> Vec<(&'static str, &Path)> {
        let camera = self.camera.iter().filter_map(|camera| match camera {
            Camera::Path(path) => Some(("the camera's path", path.as_path())),
            _ => None,
        });
        let single = [
            ("the image", &self.image),
            ("the last image", &self.last_image),
            ("the video", &self.video),
            ("the control clip", &self.control),
            ("the mask", &self.mask),
        ];
        let single = single.into_iter().filter_map(|(name, source)| Some((name, source.as_ref()?.path()?)));
        let references = self.references.iter().filter_map(|source| Some(("a reference image", source.path()?)));
        single.chain(references).chain(camera).collect()
    }

    /// Checks that the inputs go together and that `model`, with these capabilities, accepts them; `continues` says that
    /// the clip continues another one.
    pub(crate) fn check(&self, capabilities: Capabilities, model: &str, continues: bool) -> Result<()> {
        self.check_images(capabilities, model, continues)?;
        self.check_control(capabilities, model)?;
        self.check_video(capabilities, model)?;
        self.check_camera(capabilities, model)
    }

    fn check_images(&self, capabilities: Capabilities, model: &str, continues: bool) -> Result<()> {
        let Capabilities { image, last_image, .. } = capabilities;
        let (first, last) = (self.image.is_some() || continues, self.last_image.is_some());
        if (first || last) && image == ImageInput::No {
            let what = format!("{model} takes no images");
            return Err(Error::request(what, who_takes("image")));
        }
        if first && last && last_image == LastImageInput::No {
            let what = format!("{model} takes a first frame, but no last one");
            return Err(Error::request(what, who_takes("last-image")));
        }
        if last && !first && last_image != LastImageInput::Alone {
            let what = format!("{model} needs the first frame too, not the last one alone");
            return Err(Error::request(what, "give the picture that it begins with as well").about(&["image"]));
        }
        if !first && !last && image == ImageInput::Required {
            let what = format!("{model} makes clips from an image, and none is given");
            return Err(Error::request(what, "give the picture that it begins with").about(&["image"]));
        }
        if last_image == LastImageInput::Required && !(first && last) {
            let what = format!("{model} needs a first and a last frame");
            return Err(Error::request(what, "give both").about(&["image", "last_image"]));
        }
        Ok(())
    }

    fn check_video(&self, capabilities: Capabilities, model: &str) -> Result<()> {
        if self.strength.is_some() && self.video.is_none() {
            let what = "a strength is given without a clip to change";
            return Err(Error::request(what, "give the clip, too, or no strength").about(&["video", "strength"]));
        }
        if let Some(strength) = self.strength
            && !(strength > 0.0 && strength <= 1.0)
        {
            let what = format!("a strength of {strength} is not possible");
            let hint = "give above 0 (nothing changes) to 1 (nothing is kept); 0.8 is usual";
            return Err(Error::request(what, hint).about(&["strength"]));
        }
        if self.video.is_some() && !capabilities.video {
            let what = format!("{model} does not start from a clip");
            return Err(Error::request(what, "every text-to-video model changes clips").about(&["video"]));
        }
        Ok(())
    }

    fn check_camera(&self, capabilities: Capabilities, model: &str) -> Result<()> {
        if let Some(Camera::Path(_)) = &self.camera
            && self.says_camera(capabilities)
        {
            let what = format!("{model} has no camera control, and a path cannot be said in a prompt");
            let hint = format!("{}; or give a move or a preset", who_takes("camera"));
            return Err(Error::request(what, hint).about(&["camera", "camera_preset"]));
        }
        if self.camera_in_prompt == Some(false) && self.camera.is_some() && !capabilities.camera {
            let what = format!("{model} has no camera control");
            let hint = format!("{}; or let the prompt say it", who_takes("camera"));
            return Err(Error::request(what, hint).about(&["camera_in_prompt"]));
        }
        Ok(())
    }

    fn check_control(&self, capabilities: Capabilities, model: &str) -> Result<()> {
        let given: [(&str, bool, Settings); 5] = [
            ("a control clip", self.control.is_some(), &["control"]),
            ("a mask", self.mask.is_some(), &["mask"]),
            ("a reference image", !self.references.is_empty(), &["references"]),
            ("a margin", self.expand.is_some(), &["expand"]),
            ("a control scale", self.control_scale.is_some(), &["control_scale"]),
        ];
        if let Some((name, _, setting)) = given.iter().find(|(_, given, _)| *given)
            && !capabilities.control
        {
            let what = format!("{name} is given, and {model} has no control");
            return Err(Error::request(what, who_takes("control")).about(setting));
        }
        if let Some((name, _, _)) =
            given.iter().find(|(_, given, setting)| *given && matches!(**setting, ["mask" | "expand"]))
            && self.control.is_none()
        {
            let what = format!("{name} is given without a control clip");
            return Err(Error::request(what, "give the clip that it speaks of").about(&["control"]));
        }
        if self.video.is_some() && !self.references.is_empty() {
            let what = "a clip to change and a reference image are both given";
            let hint = "a control clip with references changes a clip too";
            return Err(Error::request(what, hint).about(&["control", "references"]));
        }
        if self.video.is_some() && self.control.is_some() {
            let what = "a clip to change and a control clip are both given";
            let hint = "a control clip with a mask says what to keep; a clip to change is noised first";
            return Err(Error::request(what, hint).about(&["control", "mask", "video"]));
        }
        match self.control_scale {
            Some(scale) if !(0.0..=10.0).contains(&scale) => {
                let what = format!("a control scale of {scale} is outside 0 to 10");
                Err(Error::request(what, "1 is usual").about(&["control_scale"]))
            }
            _ => Ok(()),
        }
    }
}

/// The known models that take what `word` names, as a hint.
pub(crate) fn who_takes(word: &str) -> String {
    let known = Manifest::embedded().into_iter().chain(Manifest::known());
    let names: Vec<String> = known
        .filter(|manifest| manifest.takes.iter().any(|takes| takes == word))
        .map(|manifest| manifest.name)
        .collect();
    format!("these do: {}", names.join(", "))
}

impl FromStr for Expand {
    type Err = String;

    /// `left=0.25,right=0.25`, or one number for every side.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| match text.trim().parse::<f64>() {
            Ok(value) if (0.0..=4.0).contains(&value) => Ok(value),
            Ok(value) => Err(format!("{value} is outside 0 to 4 times the clip's size")),
            Err(_) => Err(format!("`{text}` is no number")),
        };
        let mut expand = Self::default();
        if text.contains('=') {
            for part in text.split(',') {
                let (side, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not SIDE=PART"))?;
                *match side.trim() {
                    "left" => &mut expand.left,
                    "right" => &mut expand.right,
                    "top" => &mut expand.top,
                    "bottom" => &mut expand.bottom,
                    other => return Err(format!("`{other}` is not one of left, right, top, bottom")),
                } = number(value)?;
            }
        } else {
            let all = number(text)?;
            expand = Self { left: all, right: all, top: all, bottom: all };
        }
        if expand == Self::default() { Err("nothing is added on any side".into()) } else { Ok(expand) }
    }
}

impl Display for Expand {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { left, right, top, bottom } = self;
        write!(f, "left={left},right={right},top={top},bottom={bottom}")
    }
}

impl Serialize for Expand {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        as_text(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Expand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        from_text(deserializer)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_crop(fit: &Fit) -> bool {
    *fit == Fit::default()
}

/// Serialises by `Display`.
fn as_text<T: Display, S: Serializer>(value: &T, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Deserialises by `FromStr`.
fn from_text<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_read_and_written() {
        let expand: Expand = "left=0.25, top=1".parse().expect("sides");
        assert_eq!(expand, Expand { left: 0.25, top: 1.0, ..Expand::default() });
        assert_eq!(expand.to_string().parse(), Ok(expand));
        assert_eq!("0.5".parse(), Ok(Expand { left: 0.5, right: 0.5, top: 0.5, bottom: 0.5 }));
        for bad in ["", "0", "left=-1", "left=9", "up=1", "left", "left=x"] {
            assert!(bad.parse::<Expand>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_given_survives_a_recipe() {
        let given = Inputs {
            image: Some("a.png".into()),
            fit: Fit::Pad,
            strength: Some(0.5),
            references: vec!["b.png".into()],
            expand: "0.5".parse().ok(),
            camera: Some(Camera::Preset("forward-up".parse().expect("a preset"))),
            ..Inputs::default()
        };
        let text = serde_json::to_string(&given).expect("plain data");
        assert_eq!(serde_json::from_str::<Inputs>(&text).expect("its own text"), given);
        assert_eq!(serde_json::to_string(&Inputs::default()).expect("plain data"), "{}");
    }
}
