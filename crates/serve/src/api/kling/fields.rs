//! Bodies of Kling's requests: fields → [`Asked`]. A field without a counterpart is an error that names it, unless its value asks
//! for nothing.

use super::camera::camera;
use crate::config::Config;
use crate::dto::ClipRequest;
use crate::fault::{Answer, Fault, echo};
use serde_json::{Map, Value};

/// The longest prompt, in characters.
pub const MOST_PROMPT: usize = 2500;
/// The longest name that clients give a task, in characters.
pub const MOST_NAME: usize = 200;
/// The length of a clip, and of what is added to one, in seconds, if nothing is said.
const SECONDS: f64 = 5.0;
/// The shape of a clip from a prompt alone, if nothing is said.
const ASPECT: &str = "16:9";
/// The mode of a clip of its own, if nothing is said: Kling's `std`. One that goes on has that of its source.
const MODE: &str = "fast";
/// The adherence to the prompt at which the model's own guidance scale is used.
pub const OWN_GUIDANCE: f64 = 0.5;

/// The kinds of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A clip from a prompt.
    Text,
    /// A clip from pictures.
    Image,
    /// A clip that goes on.
    Extend,
}

impl Task {
    /// The address of all tasks of the kind, and the pattern of those of each.
    pub const fn paths(self) -> [&'static str; 2] {
        match self {
            Self::Text => ["/v1/videos/text2video", "/v1/videos/text2video/{task}"],
            Self::Image => ["/v1/videos/image2video", "/v1/videos/image2video/{task}"],
            Self::Extend => ["/v1/videos/video-extend", "/v1/videos/video-extend/{task}"],
        }
    }

    /// The word in its addresses.
    pub fn word(self) -> &'static str {
        let [path, _] = self.paths();
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// What is asked for.
#[derive(Debug, Default, PartialEq)]
pub struct Asked {
    /// The request, without pictures.
    pub request: ClipRequest,
    /// The first and the last picture: addresses, or base64.
    pub pictures: [Option<String>; 2],
    /// The clip that goes on.
    pub video: Option<String>,
    /// How closely the prompt is followed, from 0 to 1.
    pub adherence: Option<f64>,
    /// The client's name for the task.
    pub external_id: Option<String>,
    /// Who is told of it.
    pub callback_url: Option<String>,
}

impl Asked {
    /// Puts the fields of a body together.
    ///
    /// # Errors
    /// A field that this task does not have, a value that it cannot have, and one that is missing.
    pub fn read(config: &Config, task: Task, fields: Map<String, Value>) -> Answer<Self> {
        let mut asked = Self::default();
        asked.request.seconds = Some(SECONDS);
        asked.request.mode = (task != Task::Extend).then(|| MODE.into());
        for (name, value) in fields {
            // A field that is null or empty is not given.
            if !value.is_null() && value.as_str() != Some("") {
                asked.take(config, task, &name, &value)?;
            }
        }
        let missing = |name: &str| Err(Fault::invalid(name, format!("`{name}` is missing")));
        match task {
            Task::Text if asked.request.prompt.is_empty() => missing("prompt"),
            Task::Image if asked.pictures == [None, None] => missing("image"),
            Task::Extend if asked.video.is_none() => missing("video_id"),
            Task::Text => {
                asked.request.aspect.get_or_insert_with(|| ASPECT.into());
                Ok(asked)
            }
            Task::Image | Task::Extend => Ok(asked),
        }
    }

    fn take(&mut self, config: &Config, task: Task, name: &str, value: &Value) -> Answer<()> {
        let request = &mut self.request;
        match (name, task) {
            ("prompt", _) => request.prompt = text(name, value, MOST_PROMPT)?,
            ("negative_prompt", _) => request.negative_prompt = Some(text(name, value, MOST_PROMPT)?),
            ("cfg_scale", _) => self.adherence = Some(number(name, value, |scale| (0.0..=1.0).contains(&scale))?),
            ("duration", _) => request.seconds = Some(number(name, value, |seconds| seconds > 0.0)?),
            ("external_task_id", _) => self.external_id = Some(text(name, value, MOST_NAME)?),
            ("callback_url", _) => {
                let url = text(name, value, usize::MAX)?;
                config.outgoing.check(&url).map_err(|what| Fault::invalid(name, format!("`{name}`: {what}")))?;
                self.callback_url = Some(url);
            }
            ("video_id", Task::Extend) => self.video = Some(text(name, value, MOST_NAME)?),
            ("image", Task::Image) => self.pictures[0] = Some(text(name, value, usize::MAX)?),
            ("image_tail", Task::Image) => self.pictures[1] = Some(text(name, value, usize::MAX)?),
            ("model_name", Task::Text | Task::Image) => request.model = model(config, value)?,
            ("mode", Task::Text | Task::Image) => request.mode = Some(mode(value)?.into()),
            ("aspect_ratio", Task::Text | Task::Image) => request.aspect = Some(text(name, value, MOST_NAME)?),
            ("camera_control", Task::Text | Task::Image) => request.camera = camera(value)?,
            _ if asks_for_nothing(value) => {}
            _ => return Err(Fault::invalid(name, format!("`{}` is not supported by {}", echo(name), task.word()))),
        }
        Ok(())
    }
}

/// Whether a value of a field that is not known switches everything off, such as `"off"` or `{"enabled": false}`.
fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "off",
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(asks_for_nothing),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn text(name: &str, value: &Value, most: usize) -> Answer<String> {
    let text = value.as_str().ok_or_else(|| Fault::invalid(name, format!("`{name}` is a text")))?;
    if text.chars().nth(most).is_some() {
        return Err(Fault::invalid(name, format!("`{name}` has at most {most} characters")));
    }
    Ok(text.to_string())
}

/// A number, or its digits as a text.
pub fn number(name: &str, value: &Value, is_possible: impl Fn(f64) -> bool) -> Answer<f64> {
    let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    let possible = number.filter(|number| number.is_finite() && is_possible(*number));
    possible.ok_or_else(|| Fault::invalid(name, format!("`{name}` cannot be {}", echo(value))))
}

fn mode(value: &Value) -> Answer<&'static str> {
    match value.as_str() {
        Some("std") => Ok(MODE),
        Some("pro") => Ok("quality"),
        _ => Err(Fault::invalid("mode", format!("`mode` is `std` or `pro`, and not {}", echo(value)))),
    }
}

/// The model that a name stands for; `None` is the default one.
fn model(config: &Config, value: &Value) -> Answer<Option<String>> {
    let name = text("model_name", value, MOST_NAME)?;
    if config.models.contains_key(&name) {
        return Ok(Some(name));
    }
    if let Some(model) = config.kling_models.get(&name) {
        return Ok(Some(model.clone()));
    }
    if name.starts_with("kling-") {
        return Ok(None);
    }
    let known: Vec<&str> = config.models.keys().map(String::as_str).collect();
    let (name, known) = (echo(name), known.join(", "));
    let what = format!("there is no model `{name}`; there is {known}, and names that begin with kling-");
    Err(Fault { param: Some("model_name".into()), ..Fault::not_found("model_not_found", what) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(task: Task, body: &Value) -> Answer<Asked> {
        let mut config = Config::default();
        config.models.insert("large".into(), "x".into());
        config.kling_models.insert("kling-v2-master".into(), "large".into());
        Asked::read(&config, task, body.as_object().expect("an object").clone())
    }

    #[test]
    fn fields_have_their_counterparts() {
        let asked = read(
            Task::Text,
            &json!({
                "model_name": "kling-v2-master", "prompt": "waves", "negative_prompt": "boats", "cfg_scale": 0.7, "mode": "pro",
                "duration": "10", "aspect_ratio": "9:16", "callback_url": "https://a.org/x", "external_task_id": "a-1",
                "camera_control": {"type": "forward_up"}, "sound": "off", "watermark_info": {"enabled": false}, "seed": null,
            }),
        );
        let asked = asked.expect("a request");
        let request = ClipRequest {
            model: Some("large".into()),
            prompt: "waves".into(),
            negative_prompt: Some("boats".into()),
            mode: Some("quality".into()),
            seconds: Some(10.0),
            aspect: Some("9:16".into()),
            camera: Some("forward-up".into()),
            ..ClipRequest::default()
        };
        assert_eq!(asked.request, request);
        assert_eq!((asked.adherence, asked.external_id.as_deref()), (Some(0.7), Some("a-1")));
        assert_eq!(asked.callback_url.as_deref(), Some("https://a.org/x"));
        let plain = read(Task::Text, &json!({"prompt": "waves", "model_name": "kling-v9", "duration": 5})).expect("it");
        assert_eq!((plain.request.aspect.as_deref(), &plain.request.model), (Some("16:9"), &None));
        let image = read(Task::Image, &json!({"image_tail": "AAAA", "model_name": "embedded"})).expect("a request");
        assert_eq!((image.request.aspect.as_deref(), &image.pictures), (None, &[None, Some("AAAA".into())]));
        let extend = read(Task::Extend, &json!({"video_id": "video_1"})).expect("a request");
        assert_eq!((extend.video.as_deref(), extend.request.seconds), (Some("video_1"), Some(5.0)));
        let modes = [plain.request.mode, image.request.mode, extend.request.mode];
        assert_eq!(
            modes,
            [Some("fast".into()), Some("fast".into()), None],
            "std is what Kling takes if nothing is said"
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let wrong = |task, body: &Value| {
            let fault = read(task, body).expect_err("a refusal");
            (fault.status.as_u16(), fault.param.unwrap_or_default())
        };
        for (name, value) in [
            ("sound", json!("on")),
            ("watermark_info", json!({"enabled": true})),
            ("static_mask", json!("AAAA")),
            ("dynamic_masks", json!([{"mask": "AAAA", "trajectories": []}])),
            ("image", json!("AAAA")),
            ("video_id", json!("video_1")),
            ("voice_list", json!([{"voice_id": "1"}])),
            ("mode", json!("4k")),
            ("duration", json!("long")),
            ("duration", json!(0)),
            ("duration", json!("inf")),
            ("cfg_scale", json!(1.5)),
            ("negative_prompt", json!("x".repeat(2501))),
            ("external_task_id", json!(7)),
            ("callback_url", json!("http://127.0.0.1/")),
            ("callback_url", json!("hook")),
            ("camera_control", json!({"type": "spin"})),
        ] {
            let body = json!({"prompt": "waves", name: value});
            assert_eq!(wrong(Task::Text, &body), (400, name.to_string()), "{body}");
        }
        assert_eq!(wrong(Task::Text, &json!({"prompt": "x", "model_name": "sora-2"})), (404, "model_name".into()));
        assert_eq!(wrong(Task::Text, &json!({"prompt": ""})), (400, "prompt".into()));
        assert_eq!(wrong(Task::Image, &json!({"prompt": "x"})), (400, "image".into()));
        assert_eq!(wrong(Task::Extend, &json!({"prompt": "x"})), (400, "video_id".into()));
        assert_eq!(wrong(Task::Extend, &json!({"video_id": "v", "mode": "std"})), (400, "mode".into()));
        read(Task::Text, &json!({"prompt": "x".repeat(2500)})).expect("a long prompt");
        let long = "ü".repeat(1 << 20);
        for (name, value) in [("mode", json!(long)), ("cfg_scale", json!(long)), (&long, json!(1))] {
            let fault = read(Task::Text, &json!({"prompt": "x", name: value})).expect_err("a refusal");
            assert!(fault.message.len() < 300, "{} bytes", fault.message.len());
        }
    }
}
