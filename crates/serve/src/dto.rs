//! [`ClipRequest`]: what a clip is asked with at every edge and in the store. It has ids in the places of files: no path ever
//! comes from outside.

use kinora::{
    Camera, CameraPath, Expand, Fit, Inputs, Mode, Output, Placement, Pose, Request, Resolution, Sampling, Shot, Size,
    Source, Story, parse_aspect,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// One clip to make. What is left out is the model's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClipRequest {
    /// The name of a model that the server offers; the first one if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the clip should show.
    pub prompt: String,
    /// What it should not show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Width in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Height in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// Such as `16:9`, instead of width and height.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aspect: Option<String>,
    /// `480p`, `720p` or `1080p`: the area that the aspect keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
    /// Length in seconds; excludes `frames`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Length in frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// Frames per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// `fast` or `quality`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Settings of a distilled model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Settings of denoising, by the keys that recipes have.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(schema_with = "sampling_schema")]
    pub sampling: Sampling,
    /// Seed of the noise; chosen when the job is accepted if it is left out. A number, or its digits as a text: JavaScript's
    /// numbers end at 2⁵³.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "number_or_digits")]
    #[schemars(with = "Option<Seed>")]
    pub seed: Option<u64>,
    /// The first frame: a picture, or a clip whose last frame is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The last frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_image: Option<String>,
    /// A clip to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<String>,
    /// The part of `video` that is replaced, above 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// A clip that controls the new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// What of `control` is replaced: white.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Pictures of what should be seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// How pictures of another shape are fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<String>,
    /// A move along axes such as `pan=5,zoom=-3`, or a preset such as `forward-up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// Poses of the camera, evenly spaced over the clip; excludes `camera`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub camera_path: Vec<CameraPose>,
    /// Say the camera's move in the prompt, instead of giving it to the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera_in_prompt: Option<bool>,
    /// Margins that are added around `control`, in parts of its size, such as `left=0.25,right=0.25`, or one number for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expand: Option<String>,
    /// The strength with which `control` is followed; 1 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_scale: Option<f64>,
    /// `720p` or `1080p`: enlarge the frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upscale: Option<String>,
    /// `lanczos` (the kernel, quick) or `span` (a small network, sharper): what enlarges the frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upscaler: Option<String>,
    /// The clip that this one goes on from; `seconds` are added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend: Option<String>,
    /// The shots of a story; then each has its own prompt, length, first frame and camera.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shots: Vec<ShotRequest>,
}

/// A shot of a story.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShotRequest {
    /// What it should show.
    pub prompt: String,
    /// Its length in seconds; the model's own if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How it follows the one before.
    pub join: Join,
    /// What it should not show; that of the story if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// The picture that it begins with, after a cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How the camera moves, such as `pan=5,zoom=-3`, or a preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// Its seed; else it follows from the story's.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "number_or_digits")]
    #[schemars(with = "Option<Seed>")]
    pub seed: Option<u64>,
}

/// How a shot follows the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Without a visible join.
    #[default]
    Continue,
    /// With a new beginning.
    Cut,
}

/// Where the camera is, and where it looks, along the axes of the first pose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CameraPose {
    /// Scene units to the right.
    #[schemars(range(min = -FARTHEST, max = FARTHEST))]
    pub horizontal: f64,
    /// Scene units up.
    #[schemars(range(min = -FARTHEST, max = FARTHEST))]
    pub vertical: f64,
    /// Scene units forward.
    #[schemars(range(min = -FARTHEST, max = FARTHEST))]
    pub forward: f64,
    /// Degrees to the right.
    #[schemars(range(min = -FARTHEST, max = FARTHEST))]
    pub pan: f64,
    /// Degrees up.
    #[schemars(range(min = -FARTHEST, max = FARTHEST))]
    pub tilt: f64,
    /// Degrees clockwise, as the camera sees.
    #[schemars(range(min = -FARTHEST, max = FARTHEST))]
    pub roll: f64,
    /// Factor of the focal length.
    #[schemars(range(min = SHORTEST_LENS, max = LONGEST_LENS))]
    pub zoom: f64,
}

/// The largest number of a pose, in scene units or degrees.
const FARTHEST: f64 = 1000.0;
/// The smallest and the largest zoom of a pose.
const SHORTEST_LENS: f64 = 0.1;
const LONGEST_LENS: f64 = 20.0;
/// The most poses of a path.
const MOST_POSES: usize = 1000;
/// The name for the file of the camera's path, among those of ids.
pub const CAMERA_PATH: &str = "camera_path";

impl Default for CameraPose {
    fn default() -> Self {
        let Placement { horizontal, vertical, forward, pan, tilt, roll, zoom } = Placement::default();
        Self { horizontal, vertical, forward, pan, tilt, roll, zoom }
    }
}

/// A field that cannot be what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name.
    pub field: String,
    /// A sentence.
    pub message: String,
}

impl ClipRequest {
    /// The ids of all files that the request needs.
    pub fn files(&self) -> BTreeSet<&str> {
        let single = [&self.image, &self.last_image, &self.video, &self.control, &self.mask, &self.extend];
        let shots = self.shots.iter().filter_map(|shot| shot.image.as_ref());
        single.into_iter().flatten().chain(&self.references).chain(shots).map(String::as_str).collect()
    }

    /// The ids of those that stand for pictures: of a clip, its last frame is meant.
    pub fn pictures(&self) -> BTreeSet<&str> {
        let shots = self.shots.iter().filter_map(|shot| shot.image.as_ref());
        let single = [&self.image, &self.last_image].into_iter().flatten();
        single.chain(&self.references).chain(shots).map(String::as_str).collect()
    }

    /// The prompt, or those of all shots.
    pub fn prompts(&self) -> String {
        let shots = self.shots.iter().map(|shot| shot.prompt.as_str()).filter(|_| self.prompt.is_empty());
        Some(self.prompt.as_str())
            .filter(|prompt| !prompt.is_empty())
            .into_iter()
            .chain(shots)
            .collect::<Vec<_>>()
            .join(" / ")
    }

    /// The length that is asked for, in seconds: that of the clip, or of all shots, if each has one.
    pub fn asked_seconds(&self) -> Option<f64> {
        if self.shots.is_empty() { self.seconds } else { self.shots.iter().map(|shot| shot.seconds).sum() }
    }

    /// The text of the file of the camera's path, if there is one.
    ///
    /// # Errors
    /// Poses that no camera has, or too many.
    pub fn camera_file(&self) -> Result<Option<String>, FieldError> {
        let wrong = |what: String| error(CAMERA_PATH, what);
        if self.camera_path.is_empty() {
            return Ok(None);
        }
        if self.camera.is_some() || !self.shots.is_empty() {
            return Err(wrong("a camera's path goes with neither a move nor shots".into()));
        }
        if self.camera_path.len() > MOST_POSES {
            return Err(wrong(format!("a path has at most {MOST_POSES} poses")));
        }
        let mut poses = Vec::new();
        for (number, pose) in (1..).zip(&self.camera_path) {
            let CameraPose { horizontal, vertical, forward, pan, tilt, roll, zoom } = *pose;
            let far = [horizontal, vertical, forward, pan, tilt, roll].into_iter().find(|value| value.abs() > FARTHEST);
            if let Some(far) = far {
                return Err(wrong(format!("pose {number} has {far}, which is outside ±{FARTHEST}")));
            }
            if !(SHORTEST_LENS..=LONGEST_LENS).contains(&zoom) {
                return Err(wrong(format!(
                    "pose {number} zooms by {zoom}, which is outside {SHORTEST_LENS} to {LONGEST_LENS}"
                )));
            }
            poses.push(Pose::from(Placement { horizontal, vertical, forward, pan, tilt, roll, zoom }));
        }
        Ok(Some(CameraPath::text(&poses)))
    }

    /// The story that it asks for, where `path` finds the file of an id; `None` for a clip in one piece.
    ///
    /// # Errors
    /// Fields that a story has in its shots, and words that are not understood.
    pub fn story(&self, mut path: impl FnMut(&str) -> Option<PathBuf>) -> Result<Option<Story>, FieldError> {
        let mut source = |field: &str, id: &Option<String>| {
            let found = file(&mut path, field, id.as_ref())?;
            Ok::<_, FieldError>(found.map(Source::from))
        };
        let after = source("extend", &self.extend)?;
        if self.shots.is_empty() {
            // A continuation is a story of one shot.
            let shot = Shot {
                prompt: self.prompt.clone(),
                seconds: self.seconds,
                camera: self.camera.clone(),
                ..Shot::default()
            };
            return Ok(after.map(|after| Story { after: Some(after), shots: vec![shot] }));
        }
        let (is_long, has_image) = (self.seconds.is_some() || self.frames.is_some(), self.image.is_some());
        for (is_given, field) in [
            (is_long, "seconds"),
            (has_image, "image"),
            (self.camera.is_some(), "camera"),
            (!self.prompt.is_empty(), "prompt"),
        ] {
            if is_given {
                return Err(error(field, format!("the shots of a story have their own `{field}`")));
            }
        }
        let mut shots = Vec::new();
        for shot in &self.shots {
            let words =
                shot.camera.as_deref().map(camera).transpose().map_err(|wrong| error("shots", wrong.message))?;
            shots.push(Shot {
                prompt: shot.prompt.clone(),
                seconds: shot.seconds,
                join: if shot.join == Join::Cut { kinora::Join::Cut } else { kinora::Join::Continue },
                negative_prompt: shot.negative_prompt.clone(),
                image: source("shots", &shot.image)?,
                camera: words.map(|words| words.to_string()),
                seed: shot.seed,
            });
        }
        Ok(Some(Story { after, shots }))
    }

    /// The library's request, where `path` finds the file of an id; its results are not named.
    ///
    /// # Errors
    /// Words that are not understood, and fields that exclude each other.
    pub fn request(&self, mut path: impl FnMut(&str) -> Option<PathBuf>) -> Result<Request, FieldError> {
        let mut source = |field: &str, id: &Option<String>| {
            let found = file(&mut path, field, id.as_ref())?;
            Ok::<_, FieldError>(found.map(Source::from))
        };
        let (image, last_image) = (source("image", &self.image)?, source("last_image", &self.last_image)?);
        let (video, control) = (source("video", &self.video)?, source("control", &self.control)?);
        let mask = source("mask", &self.mask)?;
        let references = self.references.iter().filter_map(|id| source("references", &Some(id.clone())).transpose());
        let references = references.collect::<Result<Vec<_>, _>>()?;
        let camera = match self.camera_file()? {
            Some(_) => file(&mut path, CAMERA_PATH, Some(&CAMERA_PATH.to_string()))?.map(Camera::Path),
            None => self.camera.as_deref().map(camera).transpose()?,
        };
        let fit = parsed::<Fit>("fit", self.fit.as_deref())?.unwrap_or_default();
        let inputs = Inputs::default().fit(fit).references(references).strength(self.strength);
        let inputs = inputs.expand(parsed::<Expand>("expand", self.expand.as_deref())?);
        let mut inputs =
            inputs.control_scale(self.control_scale).camera(camera).camera_in_prompt(self.camera_in_prompt);
        (inputs.image, inputs.last_image) = (image, last_image);
        (inputs.video, inputs.control, inputs.mask) = (video, control, mask);
        let request = Request::new(&self.prompt).size(self.size()?).frames(self.frames).duration(self.seconds);
        let request = request.fps(self.fps).mode(parsed::<Mode>("mode", self.mode.as_deref())?);
        let mut request = request.sampling(self.sampling.clone()).seed(self.seed).inputs(inputs);
        request.negative_prompt.clone_from(&self.negative_prompt);
        request.preset.clone_from(&self.preset);
        Ok(request)
    }

    /// The enlargement of the frames.
    ///
    /// # Errors
    /// A word that is not understood, or no size to enlarge them to.
    pub fn output(&self) -> Result<Output, FieldError> {
        let (upscale, upscaler) =
            (parsed("upscale", self.upscale.as_deref())?, parsed("upscaler", self.upscaler.as_deref())?);
        if upscaler.is_some() && upscale.is_none() {
            return Err(error("upscaler", "there is no size to enlarge the frames to: add upscale".into()));
        }
        Ok(Output::default().upscale(upscale).upscaler(upscaler))
    }

    fn size(&self) -> Result<Size, FieldError> {
        let ratio = self.aspect.as_deref().map(parse_aspect).transpose().map_err(|what| error("aspect", what))?;
        let resolution = parsed::<Resolution>("resolution", self.resolution.as_deref())?;
        match (self.width, self.height, ratio, resolution) {
            (None, None, None, None) => Ok(Size::Default),
            (width, height, None, None) => Ok(Size::Pixels { width, height }),
            (None, None, ratio, resolution) => Ok(Size::Aspect { ratio, resolution }),
            _ => Err(error("aspect", "width and height, or an aspect and a resolution, not both".into())),
        }
    }
}

fn error(field: &str, message: String) -> FieldError {
    FieldError { field: field.to_string(), message }
}

fn parsed<T: std::str::FromStr>(field: &str, text: Option<&str>) -> Result<Option<T>, FieldError>
where
    T::Err: std::fmt::Display,
{
    text.map(|text| text.parse().map_err(|what: T::Err| error(field, what.to_string()))).transpose()
}

/// A move or a preset; a pose file is a path, and none is taken.
fn camera(text: &str) -> Result<Camera, FieldError> {
    let wrong = |what: String| error("camera", what);
    if text.contains('=') {
        return text.parse().map(Camera::Move).map_err(|what| wrong(what.clone()));
    }
    text.parse().map(Camera::Preset).map_err(|what| wrong(what.clone()))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The file of an id, where `path` finds it; none where there is no id.
fn file(
    path: &mut impl FnMut(&str) -> Option<PathBuf>,
    field: &str,
    id: Option<&String>,
) -> Result<Option<PathBuf>, FieldError> {
    let found = |id: &String| path(id).ok_or_else(|| error(field, format!("there is no file `{id}`")));
    id.map(found).transpose()
}

/// A seed.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Seed {
    Number(u64),
    Digits(#[schemars(regex(pattern = "^[0-9]{1,19}$"))] String),
}

/// The settings of denoising, as the library declares them.
fn sampling_schema(_: &mut SchemaGenerator) -> Schema {
    let field = |(key, kind, about): &(&str, &str, &str)| {
        let mut schema = match *kind {
            "usize" => json!({"type": "integer", "minimum": 0}),
            "f64" => json!({"type": "number"}),
            "bool" => json!({"type": "boolean"}),
            "Vec<f64>" => json!({"type": "array", "items": {"type": "number"}}),
            "[f64; 2]" => json!({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
            _ => json!({"type": "string"}),
        };
        schema["description"] = about.trim().into();
        ((*key).to_string(), schema)
    };
    let fields: Map<String, Value> = Sampling::SETTINGS.iter().map(field).collect();
    let about = "Settings of denoising.";
    json_schema!({"description": about, "type": "object", "properties": fields, "additionalProperties": false})
}

fn number_or_digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<Seed>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Seed::Number(number)) => Ok(Some(number)),
        Some(Seed::Digits(digits)) => digits.parse().map(Some).map_err(serde::de::Error::custom),
    }
}
