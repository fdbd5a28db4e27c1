//! The schemas of what Kling's interface takes. [`Asked::read`](super::fields::Asked::read) takes fields by hand, as numbers or
//! their digits, and anything that switches nothing on: a test compares.

use super::camera::{AXES, PRESETS};
use super::errors::Refusal;
use super::fields::{MOST_NAME, MOST_PROMPT, Task};
use crate::decode::MOST_FIELDS;
use crate::openapi::{self, About};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// About Kling's interface.
pub const ABOUT: About = About {
    title: "Kinora, by Kling's interface",
    description: "Tasks that make clips. Statuses, numbers of errors and names of fields are Kling's.",
    key: "A JSON Web Token, HS256, with `iss` the access key, `exp` and `nbf`; or a key, `kin_…`. Not needed where there are no keys.",
    refusal: openapi::of::<Refusal>,
};

/// The body of a task from a prompt.
pub fn text(generator: &mut SchemaGenerator) -> Schema {
    body(Task::Text, generator)
}

/// The body of a task from pictures.
pub fn image(generator: &mut SchemaGenerator) -> Schema {
    body(Task::Image, generator)
}

/// The body of a task that goes on from a clip.
pub fn extend(generator: &mut SchemaGenerator) -> Schema {
    body(Task::Extend, generator)
}

/// A value that asks for nothing: the only one for fields without a counterpart here.
struct Nothing;

impl JsonSchema for Nothing {
    fn schema_name() -> Cow<'static, str> {
        "Nothing".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let own = generator.subschema_for::<Self>();
        json_schema!({
            "description": "A value that switches nothing on.",
            "anyOf": [
                {"enum": [null, false, "", "off"]},
                {"type": "array", "maxItems": 0},
                {"type": "object", "additionalProperties": own},
            ],
        })
    }
}

fn body(task: Task, generator: &mut SchemaGenerator) -> Schema {
    let needed: &[&str] = match task {
        Task::Text => &["prompt"],
        Task::Image => &[],
        Task::Extend => &["video_id"],
    };
    let property = |(name, about, schema): (&str, &str, Value)| {
        // A field that is null or empty is not given.
        let schema = if needed.contains(&name) { schema } else { json!({"anyOf": [schema, {"enum": [null, ""]}]}) };
        let mut schema = schema;
        schema["description"] = about.into();
        (name.to_string(), schema)
    };
    let properties: Map<String, Value> = fields(task).into_iter().map(property).collect();
    let mut schema = json_schema!({
        "type": "object",
        "properties": properties,
        "required": needed,
        "additionalProperties": generator.subschema_for::<Nothing>(),
        "maxProperties": MOST_FIELDS,
    });
    if task == Task::Image {
        schema.insert("anyOf".into(), json!([{"required": ["image"]}, {"required": ["image_tail"]}]));
    }
    if task == Task::Text {
        let example =
            json!({"model_name": "kling-v1", "prompt": "a red ball bounces", "mode": "std", "duration": "0.3"});
        schema.insert("examples".into(), json!([example]));
    }
    schema
}

/// The fields of a task's body: their names, what they are, and their schemas.
fn fields(task: Task) -> Vec<(&'static str, &'static str, Value)> {
    let text = |most: usize| json!({"type": "string", "maxLength": most, "minLength": 1});
    let number = |schema: Value| json!({"anyOf": [schema, {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"}]});
    let added = if task == Task::Extend { "Seconds that are added." } else { "Seconds." };
    let mut fields = vec![
        ("prompt", "What is to be seen.", text(MOST_PROMPT)),
        ("negative_prompt", "What is not to be seen.", text(MOST_PROMPT)),
        (
            "cfg_scale",
            "How closely the prompt is followed.",
            number(json!({"type": "number", "minimum": 0, "maximum": 1})),
        ),
        ("duration", added, number(json!({"type": "number", "exclusiveMinimum": 0}))),
        ("external_task_id", "The client's own name for the task.", text(MOST_NAME)),
        (
            "callback_url",
            "The address that is told of every change of its status.",
            json!({"type": "string", "pattern": "^https?://"}),
        ),
    ];
    if task == Task::Extend {
        fields.push(("video_id", "The clip that goes on.", text(MOST_NAME)));
        return fields;
    }
    fields.extend([
        ("model_name", "A model of the server, or a name that begins with `kling-`.", text(MOST_NAME)),
        ("mode", "`std` is the fast mode, `pro` that of quality.", json!({"enum": ["std", "pro"]})),
        ("aspect_ratio", "Such as `16:9`.", text(MOST_NAME)),
        ("camera_control", "A move of the camera.", camera()),
    ]);
    if task == Task::Image {
        let picture = json!({"type": "string", "minLength": 1});
        fields.push((
            "image",
            "The first frame: base64, or an address where the server fetches pictures.",
            picture.clone(),
        ));
        fields.push(("image_tail", "The last frame, in the same way.", picture));
    }
    fields
}

fn camera() -> Value {
    let amount = json!({"type": ["number", "null"], "minimum": -10, "maximum": 10});
    let axes: Map<String, Value> = AXES.iter().map(|(name, ..)| ((*name).to_string(), amount.clone())).collect();
    let config = json!({"type": ["object", "null"], "properties": axes, "additionalProperties": false});
    let kinds: Vec<Value> = ["simple"].into_iter().chain(PRESETS).map(Value::from).chain([Value::Null]).collect();
    json!({
        "type": "object",
        "properties": {"type": {"enum": kinds}, "config": config},
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kling::fields::Asked;
    use crate::config::Config;
    use std::collections::BTreeSet;

    const TASKS: [Task; 3] = [Task::Text, Task::Image, Task::Extend];

    /// A value that the field takes.
    fn example(name: &str) -> Value {
        match name {
            "mode" => json!("std"),
            "cfg_scale" => json!(0.5),
            "duration" => json!("5"),
            "camera_control" => json!({"type": "simple", "config": {"pan": 1}}),
            "callback_url" => json!("https://example.org/told"),
            "model_name" => json!("kling-v1"),
            _ => json!("x"),
        }
    }

    #[test]
    fn the_document_has_the_fields_that_are_taken() {
        let names: BTreeSet<&str> = TASKS.into_iter().flat_map(fields).map(|(name, ..)| name).collect();
        assert_eq!(names.len(), 13, "{names:?}");
        for task in TASKS {
            let known: Vec<&str> = fields(task).into_iter().map(|(name, ..)| name).collect();
            for name in &names {
                let mut body = Map::new();
                for needed in [["prompt", "image"].as_slice(), &["video_id"]][usize::from(task == Task::Extend)] {
                    body.insert((*needed).into(), json!("x"));
                }
                if task == Task::Text {
                    body.remove("image");
                }
                body.insert((*name).into(), example(name));
                let asked = Asked::read(&Config::default(), task, body);
                assert_eq!(asked.is_ok(), known.contains(name), "{task:?} {name}: {asked:?}");
            }
        }
    }
}
