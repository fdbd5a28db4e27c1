//! `kinora show`.

use crate::args::ShowArgs;
use crate::report;
use kinora::{Recipe, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Prints the recipe stored in a clip.
pub fn run(args: &ShowArgs) -> Result<()> {
    let recipe = Recipe::read(&args.clip)?;
    if args.json {
        report::json(&recipe);
        return Ok(());
    }
    let text = serde_json::to_string(&recipe).expect("a recipe is plain data");
    let Fields(fields) = serde_json::from_str(&text).expect("a recipe is an object");
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        report::line(&format!("{name:width$}  {text}"));
    }
    Ok(())
}

/// The fields of a JSON object in their order in the text; [`Value`] would sort them.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
