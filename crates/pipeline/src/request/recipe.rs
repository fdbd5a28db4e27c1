//! [`Recipe`]: the settings from which a clip can be made again, stored in the clip's metadata.

use crate::request::inputs::Inputs;
use crate::request::lora::Lora;
use crate::request::output::Output;
use crate::request::path_text;
use crate::request::sampling::Sampling;
use crate::request::story::Story;
use crate::request::{Request, Size};
use crate::{Error, Result};
use candle_core::DType;
use kinora_checkpoint::Quant;
use kinora_media::Source;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::str::FromStr;

/// The settings of one clip, as stored in its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Version of Kinora.
    pub kinora: String,
    /// The words of `--model`, with absolute paths.
    pub model: Vec<String>,
    /// The LoRAs, with absolute paths and hashes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<Lora>,
    /// The prompt as written.
    pub prompt: String,
    /// The negative prompt.
    pub negative_prompt: String,
    /// Seed of the noise.
    pub seed: u64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Pixel frames.
    pub frames: usize,
    /// Frames per second.
    pub fps: f64,
    /// All settings of denoising, also those that the request left to the model. `steps` is there beside `sigmas` or
    /// `timesteps` too; settings that are off may be missing.
    #[serde(flatten)]
    pub sampling: Sampling,
    /// Conditioning inputs. Recipes call them `given`.
    #[serde(rename = "given", default, skip_serializing_if = "Inputs::is_empty")]
    pub inputs: Inputs,
    /// The shots of a story; the other settings are those of its first shot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub story: Option<Story>,
    /// The file whose noise replaced the seeded one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "path_text")]
    pub init_latents: Option<PathBuf>,
    /// The dtype of the networks.
    pub dtype: String,
    /// Quantisation of the networks' large matrices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quant: Option<String>,
    /// Inputs of linear layers over quantised weights were not quantised.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Constant quality of the video encoder, unless it was the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<u8>,
    /// The video encoder, unless it was the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// The enlargement of the frames after decoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upscale: Option<String>,
    /// What enlarged them, unless it was the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upscaler: Option<String>,
}

impl Recipe {
    /// Reads the recipe of a clip that Kinora wrote.
    ///
    /// # Errors
    /// A file without a recipe, or with one that this version does not understand.
    pub fn read(clip: impl Into<Source>) -> Result<Self> {
        let clip = clip.into();
        let hint = "only clips that Kinora wrote with their recipe can be shown and made again";
        let bad = |reason: String| Error::bad_file(clip.label(), reason, hint);
        let text = kinora_media::read_recipe(&clip)?
            .ok_or_else(|| bad("it carries no recipe: Kinora did not make it, or was told to leave it out".into()))?;
        if !is_own(&text) {
            let of_whom = whose(&text).map_or_else(String::new, |whose| format!(", but {whose}"));
            return Err(bad(format!("it carries no recipe of Kinora{of_whom}")));
        }
        serde_json::from_str(&text).map_err(|error| bad(format!("its recipe does not parse: {error}")))
    }

    /// Returns the JSON that clips and latents store.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }

    /// Returns the JSON that the clip of `output` stores, with its names in the places of paths.
    pub(crate) fn text_for(&self, output: &Output) -> String {
        if output.names.is_empty() {
            return self.to_text();
        }
        let mut value = serde_json::to_value(self).expect("plain data");
        rename(&mut value, &output.names);
        value.to_string()
    }

    /// Returns the request that makes the clip again.
    ///
    /// # Errors
    /// An enlargement that this version does not know.
    pub fn request(&self) -> Result<Request> {
        Ok(Request {
            prompt: self.prompt.clone(),
            negative_prompt: Some(self.negative_prompt.clone()),
            size: Size::Pixels { width: Some(self.width), height: Some(self.height) },
            frames: Some(self.frames),
            duration: None,
            fps: Some(self.fps),
            preset: None,
            mode: None,
            sampling: self.sampling.as_requested(),
            seed: Some(self.seed),
            inputs: self.inputs.clone(),
            init_latents: self.init_latents.clone(),
            output: Output {
                quality: self.quality,
                encoder: self.encoder.clone(),
                upscale: self.upscale.as_deref().map(|text| word("upscale", text)).transpose()?,
                upscaler: self.upscaler.as_deref().map(|text| word("upscaler", text)).transpose()?,
                ..Output::default()
            },
        })
    }

    /// Returns the request for what follows the clip: with its settings and its camera, but neither its other inputs nor its length
    /// and its seed. The prompt is that of its last shot.
    ///
    /// # Errors
    /// As of [`Recipe::request`].
    pub fn continuation(&self) -> Result<Request> {
        let request = self.request()?;
        let last = self.story.as_ref().and_then(|story| story.shots.last());
        Ok(Request {
            prompt: last.map_or(request.prompt, |shot| shot.prompt.clone()),
            inputs: Inputs { camera: request.inputs.camera, ..Inputs::default() },
            frames: None,
            seed: None,
            init_latents: None,
            ..request
        })
    }

    /// Returns the dtype of the networks.
    ///
    /// # Errors
    /// A dtype that this version does not know.
    pub fn dtype(&self) -> Result<DType> {
        let unknown =
            |_| Error::request(format!("the recipe's dtype `{}` is not known", self.dtype), "f32, bf16 and f16 are");
        self.dtype.parse().map_err(unknown)
    }

    /// Returns the quantisation of the networks' large matrices.
    ///
    /// # Errors
    /// A quantisation that this version does not know.
    pub fn quant(&self) -> Result<Option<Quant>> {
        let unknown = |name: &String| {
            Error::request(format!("the recipe's quantisation `{name}` is not known"), "int8 and fp8 are")
        };
        self.quant.as_ref().map(|name| name.parse().map_err(|()| unknown(name))).transpose()
    }

    /// Returns a sentence about the first setting in which two recipes differ, with both values. Neither the version counts
    /// nor the encoding of the clip.
    pub fn difference(&self, other: &Self) -> Option<String> {
        // A setting that is left out equals one that is off.
        let complete = |recipe: &Self| Self { sampling: recipe.sampling.clone().complete(), ..recipe.clone() };
        let (mut mine, mut theirs) =
            (serde_json::to_value(complete(self)).ok()?, serde_json::to_value(complete(other)).ok()?);
        for recipe in [&mut mine, &mut theirs] {
            let settings = recipe.as_object_mut()?;
            settings
                .retain(|name, _| !["kinora", "quality", "encoder", "upscale", "upscaler"].contains(&name.as_str()));
        }
        difference("", &theirs, &mine)
    }
}

/// Puts names in the places of paths.
fn rename(value: &mut Value, names: &[(PathBuf, String)]) {
    match value {
        Value::String(text) => {
            if let Some((_, name)) = names.iter().find(|(path, _)| path.as_os_str() == text.as_str()) {
                text.clone_from(name);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, names)),
        Value::Object(fields) => fields.values_mut().for_each(|value| rename(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The first value in which `theirs` and `mine` differ, in words; `name` is what the values are.
fn difference(name: &str, theirs: &Value, mine: &Value) -> Option<String> {
    if theirs == mine {
        return None;
    }
    match (theirs, mine) {
        // A story is compared by its shots, before what follows from them.
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort_by_key(|name| *name != "story");
            names.into_iter().find_map(|own| {
                let value = |object: &Map<String, Value>| object.get(own).cloned().unwrap_or_default();
                difference(&inner(name, own), &value(a), &value(b))
            })
        }
        (Value::Array(a), Value::Array(b)) if name == "shot" && a.len() != b.len() => {
            Some(format!("the story has {} shots, here it has {}", a.len(), b.len()))
        }
        (Value::Array(a), Value::Array(b)) if name == "shot" => {
            a.iter().zip(b).enumerate().find_map(|(index, (a, b))| difference(&format!("shot {}", index + 1), a, b))
        }
        _ => Some(format!("{name} is {}, here it is {}", shown(theirs), shown(mine))),
    }
}

/// The name of the value `own` of `outer`.
fn inner(outer: &str, own: &str) -> String {
    match (outer, own) {
        ("story", "after") => "the clip that is continued".to_string(),
        (outer, own) if outer.starts_with("shot ") => format!("{} of {outer}", own.replace('_', " ")),
        _ => own.to_string(),
    }
}

/// A value in words; of an object only that it is set.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_string(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(_) => "set".to_string(),
        value => value.to_string(),
    }
}

/// Whether a clip's comment is a recipe of ours: a JSON object that names the version.
fn is_own(comment: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(comment).is_ok_and(|object| object.contains_key("kinora"))
}

/// What a comment is that other programs for clips and pictures write.
fn whose(comment: &str) -> Option<&'static str> {
    let object = serde_json::from_str::<Map<String, Value>>(comment).unwrap_or_default();
    let is_node = |value: &Value| value.get("class_type").is_some();
    let nodes = object.contains_key("nodes") || object.values().any(is_node);
    if nodes || object.contains_key("workflow") || comment.contains("\"class_type\"") {
        return Some("a graph of ComfyUI");
    }
    let is_a1111 = comment.contains("Steps: ") && comment.contains("Sampler: ");
    is_a1111.then_some("the parameters of AUTOMATIC1111's web UI")
}

/// The value of the setting `name` that the recipe has as a word.
fn word<T: FromStr<Err = String>>(name: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|reason| Error::request(format!("the recipe's {name}: {reason}"), "it may be of a newer version"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::cache::CacheChoice;

    /// Recipes as version 0.1.0 wrote them before its settings were declared in one place.
    const COUNTED: &str = r#"{"kinora":"0.1.0","model":["embedded"],"prompt":"a red ball","negative_prompt":"","seed":1,"width":32,"height":48,"frames":5,"fps":16.0,"steps":2,"sampler":"unipc","shift":3.0,"guidance_scale":5.0,"cfg_zero_star":false,"zero_init":0,"dtype":"f32"}"#;
    const LISTED: &str = r#"{"kinora":"0.1.0","model":["embedded"],"prompt":"a red ball","negative_prompt":"blue","seed":1,"width":32,"height":48,"frames":5,"fps":16.0,"steps":4,"sampler":"lcm","timesteps":[1000.0,937.5,833.3,625.0],"guidance_scale":5.0,"guidance_scale_2":4.0,"cfg_zero_star":true,"zero_init":2,"guidance_interval":[0.3,0.95],"cache":"first-block:0.05","given":{"image":"/ball.png"},"dtype":"bf16","quant":"int8","quality":20,"upscale":"2x","upscaler":"span"}"#;

    fn read(text: &str) -> Recipe {
        serde_json::from_str(text).expect("a recipe")
    }

    #[test]
    fn recipes_of_older_files_keep_their_keys() {
        for text in [COUNTED, LISTED] {
            assert_eq!(read(text).to_text(), text);
        }
        let settings = read(COUNTED).request().expect("a request").sampling;
        assert_eq!((settings.steps, settings.shift), (Some(2), Some(3.0)));
        let settings = read(LISTED).request().expect("a request").sampling;
        assert_eq!((settings.steps, settings.shift), (None, None), "the list says both");
        assert_eq!(settings.timesteps, Some(vec![1000.0, 937.5, 833.3, 625.0]));
        assert_eq!((settings.zero_init, settings.guidance_interval), (Some(2), Some([0.3, 0.95])));
    }

    /// Otherwise a model's own settings would come in when the clip is made again.
    #[test]
    fn a_recipe_that_leaves_a_setting_out_asks_for_it_off() {
        let oldest = COUNTED.replace(r#""cfg_zero_star":false,"zero_init":0,"#, "");
        let settings = read(&oldest).request().expect("a request").sampling;
        assert_eq!((settings.cfg_zero_star, settings.zero_init), (Some(false), Some(0)));
        assert_eq!(settings.cache, Some(CacheChoice::Off));
        assert_eq!(read(&oldest).difference(&read(COUNTED)), None);
        let other = read(&COUNTED.replace(r#""steps":2"#, r#""steps":3"#));
        assert_eq!(other.difference(&read(COUNTED)).as_deref(), Some("steps is 2, here it is 3"));
    }
}
