//! OpenAI's interface for videos, `/v1/videos`: what its clients send, and what they read.

use super::media::{self, Part, job, json};
use super::uploads::Brought;
use crate::app::App;
use crate::create::{self, Origin, Shown};
use crate::decode::{Fields, unknown};
use crate::dto::ClipRequest;
use crate::fault::{Answer, Fault};
use crate::guard::Caller;
use crate::idempotent::{self, Key};
use crate::sent::{Asked, Named};
use crate::store::jobs::{self, Api, Filter, Job, Kind, Order};
use crate::view::{Video, Views};
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json as value};
use sha2::Digest;

/// How often clients should ask for a clip that is not finished, in milliseconds.
const POLL: &str = "500";

/// Names of fields that other servers of this interface have, and ours; `sampling.` leads into the settings of denoising.
const SPELLINGS: [(&str, &str); 28] = [
    ("negative_prompt", "negative_prompt"),
    ("width", "width"),
    ("height", "height"),
    ("fps", "fps"),
    ("num_frames", "frames"),
    ("frames", "frames"),
    ("num_inference_steps", "sampling.steps"),
    ("steps", "sampling.steps"),
    ("guidance_scale", "sampling.guidance_scale"),
    ("guidance_scale_2", "sampling.guidance_scale_2"),
    ("cfg_scale", "sampling.guidance_scale"),
    ("flow_shift", "sampling.shift"),
    ("shift", "sampling.shift"),
    ("sampler", "sampling.sampler"),
    ("cache", "sampling.cache"),
    ("seed", "seed"),
    ("aspect", "aspect"),
    ("aspect_ratio", "aspect"),
    ("resolution", "resolution"),
    ("mode", "mode"),
    ("preset", "preset"),
    ("strength", "strength"),
    ("camera", "camera"),
    ("camera_in_prompt", "camera_in_prompt"),
    ("expand", "expand"),
    ("control_scale", "control_scale"),
    ("upscale", "upscale"),
    ("upscaler", "upscaler"),
];
/// Fields whose values are ids of files, or files.
const FILES: [(&str, &str); 8] = [
    ("input_reference", "image"),
    ("image", "image"),
    ("image_reference", "image"),
    ("start_image", "image"),
    ("last_image", "last_image"),
    ("end_image", "last_image"),
    ("control", "control"),
    ("mask", "mask"),
];
/// Where other servers keep their own fields.
const NESTS: [&str; 3] = ["nvext", "extra_body", "extra_params"];
/// Fields that some clients send and that change nothing here.
const WITHOUT_MEANING: [&str; 3] = ["user", "metadata", "response_format"];

/// Puts the fields of a body together.
///
/// # Errors
/// A field that is not known, or a value that it cannot have.
async fn request_of(fields: &mut Fields, brought: &Brought) -> Answer<ClipRequest> {
    let mut values = std::mem::take(&mut fields.values);
    for nest in NESTS {
        match values.remove(nest) {
            Some(Value::Object(inner)) => values.extend(inner),
            Some(Value::String(text)) => {
                let inner = serde_json::from_str::<Map<String, Value>>(&text);
                values.extend(inner.map_err(|_| Fault::invalid(nest, format!("`{nest}` is no JSON object")))?);
            }
            None | Some(Value::Null) => {}
            Some(_) => return Err(Fault::invalid(nest, format!("`{nest}` is no JSON object"))),
        }
    }
    let mut out = Map::new();
    let mut sampling = Map::new();
    for (name, value) in values {
        if WITHOUT_MEANING.contains(&name.as_str()) || value.is_null() {
            continue;
        }
        let known = SPELLINGS.iter().find(|(own, _)| *own == name).map(|(_, target)| *target);
        match (name.as_str(), known) {
            ("prompt" | "model", _) => drop(out.insert(name, value)),
            ("seconds" | "duration", _) => drop(out.insert("seconds".into(), coerced(value))),
            ("size", _) => size(&value, &mut out)?,
            (_, Some(target)) => match target.strip_prefix("sampling.") {
                Some(setting) => drop(sampling.insert(setting.into(), coerced(value))),
                None => drop(out.insert(target.into(), coerced(value))),
            },
            (file, None) if FILES.iter().any(|(own, _)| *own == file) => {
                let target = FILES.iter().find(|(own, _)| *own == file).map_or("image", |(_, target)| *target);
                out.insert(target.into(), reference(fields, brought, file, &value).await?.into());
            }
            ("video", _) => drop(out.insert("video".into(), reference(fields, brought, "video", &value).await?.into())),
            _ => return Err(unknown(&name)),
        }
    }
    for (name, upload) in std::mem::take(&mut fields.files) {
        let target = FILES.iter().find(|(own, _)| *own == name).map(|(_, target)| *target);
        let target = target.or((name == "video").then_some("video"));
        let target = target.ok_or_else(|| Fault::invalid(&name, format!("`{name}` takes no file")))?;
        out.insert(target.into(), brought.keep(upload).await?.id.into());
    }
    if !sampling.is_empty() {
        out.insert("sampling".into(), sampling.into());
    }
    serde_json::from_value(out.into()).map_err(|error| {
        let text = error.to_string();
        Fault::invalid(text.split('`').nth(1).unwrap_or_default(), text.clone())
    })
}

/// Forms have text for everything: what is a number or a truth becomes one.
fn coerced(value: Value) -> Value {
    match value {
        Value::String(text) => match serde_json::from_str::<Value>(&text) {
            Ok(number @ (Value::Number(_) | Value::Bool(_))) => number,
            _ => Value::String(text),
        },
        other => other,
    }
}

/// `1280x720`.
fn size(value: &Value, out: &mut Map<String, Value>) -> Answer<()> {
    let text = value.as_str().unwrap_or_default();
    let sides = text.split_once(['x', '×']).and_then(|(w, h)| Some((w.parse::<u32>().ok()?, h.parse::<u32>().ok()?)));
    let (width, height) =
        sides.ok_or_else(|| Fault::invalid("size", format!("`{text}` is not a size such as 832x480")))?;
    out.insert("width".into(), width.into());
    out.insert("height".into(), height.into());
    Ok(())
}

/// The id of a file that is given by its id, or as a `data:` URL.
async fn reference(fields: &mut Fields, brought: &Brought, field: &str, value: &Value) -> Answer<String> {
    // In a form, some clients write an object as text.
    let object = value.as_str().filter(|text| text.starts_with('{')).and_then(|text| serde_json::from_str(text).ok());
    let value = object.as_ref().unwrap_or(value);
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    if let Some(id) = value.as_str().filter(|text| !text.starts_with("data:")).or(text("file_id")).or(text("id")) {
        return Ok(id.to_string());
    }
    match value.as_str().or(text("image_url")).or(text("url")) {
        Some(url) => Ok(brought.keep_url(fields, field, url).await?.id),
        None => Err(Fault::invalid(field, format!("`{field}` is a file, its id, or a `data:` URL"))),
    }
}

/// The body of a remix.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "it is read by hand, from JSON or a form")]
pub struct Remix {
    prompt: String,
}

/// The schema of a body: the fields of [`ClipRequest`], by the names that clients of this interface have for them.
pub fn form(generator: &mut SchemaGenerator) -> Schema {
    let request = ClipRequest::json_schema(generator);
    let fields = &request.as_value()["properties"];
    let mut known = Map::new();
    for (name, target) in SPELLINGS {
        let schema = match target.strip_prefix("sampling.") {
            Some(setting) => &fields["sampling"]["properties"][setting],
            None => &fields[target],
        };
        known.insert(name.into(), schema.clone());
    }
    let file =
        value!({"description": "A file, the id of an upload or a clip, or an object with `image_url`, a data URL."});
    known.extend(FILES.iter().map(|(name, _)| *name).chain(["video"]).map(|name| (name.into(), file.clone())));
    known.extend(WITHOUT_MEANING.map(|name| (name.into(), value!({"description": "It changes nothing."}))));
    known.extend(NESTS.map(|name| (name.into(), value!({"description": "More fields, as an object or its text."}))));
    for name in ["prompt", "model"] {
        known.insert(name.into(), fields[name].clone());
    }
    let seconds = value!({"description": "Length in seconds.", "type": ["number", "string"]});
    known.extend(["seconds", "duration"].map(|name| (name.into(), seconds.clone())));
    let size = "Width and height, such as `832x480`.";
    known.insert("size".into(), value!({"description": size, "type": "string", "pattern": "^[0-9]{1,5}x[0-9]{1,5}$"}));
    let example = value!({"prompt": "a red ball bounces", "size": "32x48", "num_frames": 5, "num_inference_steps": 2, "seed": "7"});
    json_schema!({"type": "object", "properties": known, "required": ["prompt"], "additionalProperties": false, "examples": [example]})
}

async fn answer(app: &App, caller: &Caller, job: &Job) -> Answer {
    let video = Views::of(app, &caller.owner).await?.video(job);
    let mut response = json(StatusCode::OK, &video);
    if !job.status.is_finished() {
        response.headers_mut().insert("openai-poll-after-ms", HeaderValue::from_static(POLL));
    }
    Ok(response)
}

/// Accepts one clip, once.
async fn accept(brought: Brought, key: Key, request: ClipRequest, origin: Origin) -> Answer {
    let (app, caller) = (&brought.app.clone(), &brought.caller.clone());
    let shown: Shown = |views, created| (StatusCode::OK, value!(created.first().map(|job| views.video(job))));
    let (shared, by) = (app.clone(), caller.clone());
    let work = move |ticket| async move {
        let created = create::create(&shared, &by, &request, &origin, 1, (ticket, shown)).await?;
        brought.stay();
        Ok(created)
    };
    let mut response = idempotent::once(app, &caller.owner, key, work).await?;
    response.headers_mut().insert("openai-poll-after-ms", HeaderValue::from_static(POLL));
    Ok(response)
}

/// `POST /v1/videos`.
pub async fn create(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    let headers = request.headers().clone();
    let mut fields = Fields::read(&app, &caller, request).await?;
    let key = Key::of(&headers, "POST /v1/videos", fields.hash);
    let brought = Brought::new(&app, &caller);
    let asked = request_of(&mut fields, &brought).await?;
    accept(brought, key, asked, Origin::new(Api::OpenAi)).await
}

/// `POST /v1/videos/{id}/remix`: the same settings with another prompt.
pub async fn remix(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<String>,
    request: Request,
) -> Answer {
    let headers = request.headers().clone();
    let mut fields = Fields::read(&app, &caller, request).await?;
    let hash = Digest::finalize(sha2::Sha256::default().chain_update(&id).chain_update(fields.hash)).into();
    let key = Key::of(&headers, "POST /v1/videos/remix", hash);
    let earlier = job(&app, &caller.owner, &id).await?;
    // Where the earlier clip is a story, there is no other check of it: a story has no prompt of its own.
    let Some(Value::String(prompt)) = fields.values.remove("prompt") else {
        return Err(Fault::invalid("prompt", "`prompt` is the text that the clip is made of this time"));
    };
    for name in WITHOUT_MEANING {
        fields.values.remove(name);
    }
    fields.used_up()?;
    let kept: ClipRequest = serde_json::from_value(earlier.request.clone())
        .map_err(|_| Fault::conflict("wrong_state", "the settings of that clip are not there any more"))?;
    let asked = ClipRequest { prompt, seed: earlier.seed.or(kept.seed), ..kept };
    let origin = Origin { kind: Kind::Remix, parent: Some(id), ..Origin::new(Api::OpenAi) };
    accept(Brought::new(&app, &caller), key, asked, origin).await
}

/// `POST /v1/videos/extensions` and `POST /v1/videos/edits`: a clip that goes on, or one that is changed.
pub async fn from_clip(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    let is_extension = request.uri().path().ends_with("extensions");
    let headers = request.headers().clone();
    let mut fields = Fields::read(&app, &caller, request).await?;
    let route = if is_extension { "POST /v1/videos/extensions" } else { "POST /v1/videos/edits" };
    let key = Key::of(&headers, route, fields.hash);
    let brought = Brought::new(&app, &caller);
    let mut asked = request_of(&mut fields, &brought).await?;
    let clip = asked.video.clone().ok_or_else(|| Fault::invalid("video", "`video` is a clip, or the id of one"))?;
    let parent = Some(clip.clone()).filter(|clip| crate::id::is(crate::id::CLIP, clip));
    let kind = if is_extension {
        (asked.video, asked.extend) = (None, Some(clip));
        Kind::Extend
    } else {
        Kind::Edit
    };
    accept(brought, key, asked, Origin { kind, parent, ..Origin::new(Api::OpenAi) }).await
}

/// `GET /v1/videos/{id}`.
pub async fn get(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named<String>) -> Answer {
    let job = job(&app, &caller.owner, &id).await?;
    answer(&app, &caller, &job).await
}

/// The query of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// The id of the last clip of the page before.
    after: Option<String>,
    /// The number of clips.
    limit: Option<u32>,
    /// `asc` or `desc`, which is the default.
    order: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Videos {
    /// `list`.
    object: &'static str,
    data: Vec<Video>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

/// `GET /v1/videos`.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(listing): Asked<Listing>,
) -> Answer {
    let order = match listing.order.as_deref() {
        None | Some("desc") => Order::Descending,
        Some("asc") => Order::Ascending,
        Some(other) => return Err(Fault::invalid("order", format!("`{other}` is neither asc nor desc"))),
    };
    let (owner, limit) = (caller.owner.clone(), listing.limit.unwrap_or(20).clamp(1, 100));
    let page = app
        .store
        .read(move |connection| {
            jobs::list(connection, &owner, &Filter::default(), listing.after.as_deref(), limit, order)
        })
        .await?;
    let views = Views::of(&app, &caller.owner).await?;
    let data = page.jobs.iter().map(|job| views.video(job)).collect();
    let ends = [page.jobs.first(), page.jobs.last()].map(|job| job.map(|job| job.id.clone()));
    let [first_id, last_id] = ends;
    Ok(json(StatusCode::OK, &Videos { object: "list", data, first_id, last_id, has_more: page.more }))
}

/// `DELETE /v1/videos/{id}`: one that is being made is stopped first.
pub async fn delete(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named<String>) -> Answer {
    super::own::delete_job(&app, &caller.owner, &id).await?;
    Ok(json(StatusCode::OK, &DeletedVideo { id, object: "video.deleted", deleted: true }))
}

/// A clip that is gone.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletedVideo {
    id: String,
    /// `video.deleted`.
    object: &'static str,
    deleted: bool,
}

/// The query of a content.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// `video`, `thumbnail` or `spritesheet`.
    variant: Option<String>,
    /// Whose clip it is, in a link that anyone may use.
    #[serde(rename = "owner")]
    _owner: Option<String>,
    /// Until when the link may be used, in milliseconds since 1970.
    #[serde(rename = "expires")]
    _expires: Option<String>,
    /// The link's signature.
    #[serde(rename = "signature")]
    _signature: Option<String>,
}

/// `GET /v1/videos/{id}/content`.
pub async fn content(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<String>,
    Asked(query): Asked<Content>,
    request: Request,
) -> Answer {
    let part = match query.variant.as_deref() {
        None | Some("video") => Part::Video,
        Some("thumbnail") => Part::Thumbnail,
        Some("spritesheet") => Part::Sheet,
        Some(other) => {
            return Err(Fault::invalid("variant", format!("`{other}` is not one of video, thumbnail, spritesheet")));
        }
    };
    let job = job(&app, &caller.owner, &id).await?;
    media::serve(&app, &job, part, false, request).await
}

/// `GET /v1/models`.
pub async fn models(State(app): State<App>, _: HeaderMap) -> Answer {
    let model = |id: &String| Model { id: id.clone(), object: "model", created: 0, owned_by: "kinora" };
    let data = app.config.models.keys().map(model).collect();
    Ok(json(StatusCode::OK, &ModelList { object: "list", data }))
}

/// The models that are offered.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelList {
    /// `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// A model.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OpenAiModel")]
struct Model {
    id: String,
    /// `model`.
    object: &'static str,
    created: i64,
    owned_by: &'static str,
}

/// Characters are not known here.
pub async fn characters() -> Fault {
    Fault::not_found("not_supported", "characters are not supported")
}
