//! The documents of the interfaces, `/openapi.json` and `/kling/openapi.json`. Routes are declared once, for the router and for the document, and its schemas
//! are those of the types that requests are read into and answers are written from: neither can say something else.

use crate::app::App;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use axum::{Extension, Router};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Makes the schema of a type.
pub type Of = fn(&mut SchemaGenerator) -> Schema;

/// One operation of an interface.
pub struct Route {
    method: &'static str,
    path: &'static str,
    about: &'static str,
    handler: MethodRouter<App>,
    /// Values that a part of the path can have.
    words: &'static [&'static str],
    query: Option<Of>,
    /// Types of bodies, with their schemas.
    takes: Vec<(&'static str, Of)>,
    /// Statuses, with the types of bodies.
    gives: Vec<(u16, Vec<&'static str>, Option<Of>)>,
    is_open: bool,
}

/// The schema of a type.
pub fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

macro_rules! methods {
    ($($name:ident)*) => {
        impl Route {$(
            #[doc = concat!("A route of `", stringify!($name), "`.")]
            pub fn $name<H: Handler<T, App>, T: 'static>(path: &'static str, about: &'static str, handler: H) -> Self {
                let (words, takes, gives) = (&[][..], Vec::new(), Vec::new());
                let handler = routing::$name(handler);
                Self { method: stringify!($name), path, about, handler, words, query: None, takes, gives, is_open: false }
            }
        )*}
    };
}
methods!(get post delete patch);

impl Route {
    /// Its handler can take this value.
    pub fn knows<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        Self { handler: self.handler.layer(Extension(value)), ..self }
    }

    /// It is asked with this query.
    pub fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(of::<T>), ..self }
    }

    /// The last part of its path is one of these words.
    pub fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// It takes a body of JSON.
    pub fn takes<T: JsonSchema>(self) -> Self {
        self.takes_as("application/json", of::<T>)
    }

    /// It takes a body of that type.
    pub fn takes_as(mut self, kind: &'static str, schema: Of) -> Self {
        self.takes.push((kind, schema));
        self
    }

    /// It answers with JSON.
    pub fn gives<T: JsonSchema>(mut self, status: u16) -> Self {
        self.gives.push((status, vec!["application/json"], Some(of::<T>)));
        self
    }

    /// It answers with something else than JSON, or with nothing.
    pub fn gives_as(mut self, status: u16, kinds: &[&'static str]) -> Self {
        self.gives.push((status, kinds.to_vec(), None));
        self
    }

    /// Anyone may ask, without a key.
    pub fn open(self) -> Self {
        Self { is_open: true, ..self }
    }

    fn operation(&self, generator: &mut SchemaGenerator, refusal: Of) -> Value {
        let mut parameters = self.within();
        parameters.extend(self.asked(generator));
        let mut answers = Map::new();
        for (status, kinds, schema) in &self.gives {
            let schema = schema.map_or(json!({}), |schema| schema(generator).into());
            let content: Map<_, _> = kinds.iter().map(|kind| ((*kind).into(), json!({"schema": schema}))).collect();
            answers.insert(status.to_string(), with_content("An answer.", content));
        }
        let fault = json!({"application/json": {"schema": refusal(generator)}});
        answers.insert("default".into(), json!({"description": "It is refused.", "content": fault}));
        let mut operation = json!({"summary": self.about, "parameters": parameters, "responses": answers});
        if !self.takes.is_empty() {
            let body = |(kind, schema): &(&str, Of)| ((*kind).into(), json!({"schema": schema(generator)}));
            let content: Map<_, _> = self.takes.iter().map(body).collect();
            operation["requestBody"] = json!({"required": true, "content": content});
        }
        if self.is_open {
            operation["security"] = json!([]);
        }
        operation
    }

    /// The parts of the path that are not fixed.
    fn within(&self) -> Vec<Value> {
        let parts = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parts: Vec<&str> = parts.collect();
        let last = parts.len();
        let parameter = |(index, name): (usize, &&str)| {
            let mut schema = json!({"type": "string", "minLength": 1});
            if index + 1 == last && !self.words.is_empty() {
                schema["enum"] = json!(self.words);
            }
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        };
        parts.iter().enumerate().map(parameter).collect()
    }

    /// The fields of the query.
    fn asked(&self, generator: &mut SchemaGenerator) -> Vec<Value> {
        let Some(of) = self.query else { return Vec::new() };
        let schema = of(generator);
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|place| place.rsplit('/').next());
        let fields = name
            .and_then(|name| generator.definitions().get(name))
            .map_or(Value::Null, |known| known["properties"].clone());
        let field = |(name, schema): (&String, &Value)| {
            let mut schema = schema.clone();
            // Nothing is said by leaving it out.
            if let Some(Value::Array(kinds)) = schema.get_mut("type") {
                kinds.retain(|kind| kind != "null");
            }
            json!({"name": name, "in": "query", "required": false, "schema": schema})
        };
        fields.as_object().into_iter().flatten().map(field).collect()
    }
}

fn with_content(about: &str, content: Map<String, Value>) -> Value {
    let mut answer = Map::from_iter([("description".to_string(), about.into())]);
    if !content.is_empty() {
        answer.insert("content".into(), content.into());
    }
    answer.into()
}

/// What every refusal says.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "faults are written by hand; a test compares")]
struct Problem {
    error: ProblemText,
}

/// An error.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "faults are written by hand; a test compares")]
struct ProblemText {
    /// A sentence.
    message: String,
    /// The kind, such as `invalid_request_error`.
    #[serde(rename = "type")]
    kind: String,
    /// The field that is to blame.
    param: Option<String>,
    /// The word by which programs tell errors apart.
    code: String,
}

/// The router of some routes.
pub fn router<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Router<App> {
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler.clone()))
}

/// What a document says beside its routes.
pub struct About {
    /// The name of the interface.
    pub title: &'static str,
    /// What it is.
    pub description: &'static str,
    /// What its requests are signed with.
    pub key: &'static str,
    /// The body of every refusal.
    pub refusal: Of,
}

/// About the server's own interface and OpenAI's.
pub const OWN: About = About {
    title: "Kinora",
    description: "Clips, by the server's own interface and by OpenAI's. Requests that are not known are refused in the same shape. Kling's \
                  interface has a document of its own, `/kling/openapi.json`.",
    key: "A key, `kin_…`, or a token that an access key has signed; not needed where there are no keys.",
    refusal: of::<Problem>,
};

/// The document of the routes.
pub fn document<'a>(about: &About, routes: impl IntoIterator<Item = &'a Route>) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in routes {
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        operations[route.method] = route.operation(&mut generator, about.refusal);
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": about.description,
        },
        "security": [{"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": about.key}},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use std::collections::BTreeSet;

    #[test]
    fn faults_are_what_the_document_says() {
        let fault = Fault::invalid("prompt", "it is empty").json();
        let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
        let schema = schemars::schema_for!(Problem);
        assert_eq!(keys(&fault), keys(&schema.as_value()["properties"]));
        assert_eq!(keys(&fault["error"]), keys(&schema.as_value()["$defs"]["ProblemText"]["properties"]));
    }
}
