//! Kling's camera moves in Kinora's words, as `docs/camera.md` compares them: there, `pan` turns up and `tilt` turns right, and
//! a positive `zoom` sees more.

use super::fields::number;
use crate::fault::{Answer, Fault, echo};
use serde_json::Value;
use std::fmt::Write;

/// The name of an axis there, that of ours, and whether ours has the other sign.
pub const AXES: [(&str, &str, bool); 6] = [
    ("horizontal", "horizontal", false),
    ("vertical", "vertical", false),
    ("pan", "tilt", false),
    ("tilt", "pan", false),
    ("roll", "roll", false),
    ("zoom", "zoom", true),
];
pub const PRESETS: [&str; 4] = ["down_back", "forward_up", "left_turn_forward", "right_turn_forward"];

/// The move of a `camera_control`; `None` if it does not move.
///
/// # Errors
/// A type or an axis that is not known, a value beyond −10 to 10, a preset with amounts.
pub fn camera(control: &Value) -> Answer<Option<String>> {
    let wrong = |what: String| Err(Fault::invalid("camera_control", format!("`camera_control`: {what}")));
    let Some(fields) = control.as_object() else { return wrong("it is an object with `type` and `config`".into()) };
    if let Some(name) = fields.keys().find(|name| !["type", "config"].contains(&name.as_str())) {
        return wrong(format!("it has no `{}`", echo(name)));
    }
    let words = config(control["config"].clone())?;
    let kind = match &control["type"] {
        Value::String(kind) => kind.as_str(),
        // Without a type, there may still be amounts.
        Value::Null => "simple",
        other => return wrong(format!("its `type` cannot be {}", echo(other))),
    };
    match kind {
        "simple" => Ok(Some(words).filter(|words| !words.is_empty())),
        preset if PRESETS.contains(&preset) => {
            if words.is_empty() {
                Ok(Some(preset.replace('_', "-")))
            } else {
                wrong(format!("`{preset}` has no config"))
            }
        }
        other => wrong(format!("`{}` is not one of simple, {}", echo(other), PRESETS.join(", "))),
    }
}

/// The axes that are not 0, such as `pan=5,zoom=-3`.
fn config(config: Value) -> Answer<String> {
    let wrong = |what: String| Fault::invalid("camera_control", format!("`camera_control.config`: {what}"));
    let fields = match config {
        Value::Null => return Ok(String::new()),
        Value::Object(fields) => fields,
        _ => return Err(wrong("it is an object".into())),
    };
    let mut words = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let axis = AXES.iter().find(|(own, ..)| own == name);
        let (_, axis, is_turned) = axis.ok_or_else(|| wrong(format!("there is no axis `{}`", echo(name))))?;
        let amount = number(name, value, |amount| (-10.0..=10.0).contains(&amount));
        let amount = amount.map_err(|_| wrong(format!("`{name}` is a number from -10 to 10")))?;
        if amount != 0.0 {
            let (comma, amount) = (if words.is_empty() { "" } else { "," }, if *is_turned { -amount } else { amount });
            let _ = write!(words, "{comma}{axis}={amount}");
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn moves_are_those_of_the_document() {
        let simple = |config: Value| camera(&json!({"type": "simple", "config": config})).expect("a move");
        for (there, here) in [
            (json!({"horizontal": 5}), "horizontal=5"),
            (json!({"vertical": -2.5}), "vertical=-2.5"),
            (json!({"pan": 5, "horizontal": 0}), "tilt=5"),
            (json!({"tilt": -10}), "pan=-10"),
            (json!({"roll": 1}), "roll=1"),
            (json!({"zoom": 4}), "zoom=-4"),
        ] {
            let words = simple(there).expect("it moves");
            assert_eq!(words, here);
            assert!(matches!(words.parse(), Ok(kinora::Camera::Move(_))), "{words}");
        }
        for none in [json!(null), json!({}), json!({"pan": 0, "zoom": 0})] {
            assert_eq!(simple(none), None);
        }
        for preset in PRESETS {
            let words = camera(&json!({"type": preset})).expect("a preset").expect("it moves");
            assert!(matches!(words.parse(), Ok(kinora::Camera::Preset(_))), "{words}");
        }
    }

    #[test]
    fn what_is_no_move_is_refused() {
        for wrong in [
            json!("forward_up"),
            json!({"type": "spin"}),
            json!({"type": 5}),
            json!({"type": "simple", "config": {"dolly": 1}}),
            json!({"type": "simple", "config": {"pan": 11}}),
            json!({"type": "simple", "config": {"pan": "far"}}),
            json!({"type": "simple", "config": [1]}),
            json!({"type": "down_back", "config": {"pan": 1}}),
            json!({"type": "simple", "speed": 1}),
        ] {
            assert!(camera(&wrong).is_err(), "{wrong}");
        }
    }
}
