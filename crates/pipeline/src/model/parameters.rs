//! [`Parameters`]: the numbers of a variant's parameters, by the role of its components.

use crate::model::role::Role;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Parameters of the components of a variant; 0 of those that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters([u64; Role::COUNT]);

impl Parameters {
    /// Those of the transformer, all experts together.
    pub fn transformer(&self) -> u64 {
        self.of(Role::Transformer)
    }

    /// Those of the components with this role.
    pub(crate) fn of(&self, role: Role) -> u64 {
        self.0[role as usize]
    }

    /// The sum over all components.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut given = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let mut counts = [0; Role::COUNT];
        for role in Role::all() {
            counts[role as usize] = match given.remove(role.key()) {
                None if role.is_in_every_model() => return Err(D::Error::missing_field(role.key())),
                count => count.unwrap_or_default(),
            };
        }
        match given.first_key_value() {
            Some((unknown, _)) => Err(D::Error::unknown_field(unknown, &Role::KEYS)),
            None => Ok(Self(counts)),
        }
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Role::all().map(|role| (role.key(), self.of(role))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_not_every_model_has_may_be_left_out() {
        let parse = |text: &str| toml::from_str::<Parameters>(text).map_err(|error| error.message().to_string());
        let three = "transformer = 3\ntext_encoder = 20\nvae = 100\n";
        let parameters = parse(three).expect("the necessary ones");
        assert_eq!((parameters.transformer(), parameters.of(Role::Vocoder), parameters.total()), (3, 0, 123));
        let more = parse(&format!("{three}vocoder = 1000\naudio_vae = 5000\n")).expect("more roles");
        assert_eq!((more.of(Role::Vocoder), more.of(Role::AudioVae), more.total()), (1000, 5000, 6123));
        assert_eq!(parse("transformer = 3\nvae = 1").unwrap_err(), "missing field `text_encoder`");
        let unknown = parse(&format!("{three}voice = 1")).unwrap_err();
        assert!(unknown.contains("unknown field `voice`, expected one of `transformer`, `vae`"), "{unknown}");
        assert!(parse(&three.replace('3', "-3")).is_err());
        let most = i64::MAX;
        let huge = parse(&format!("transformer = {most}\ntext_encoder = {most}\nvae = {most}"));
        assert_eq!(huge.expect("numbers").total(), u64::MAX);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = "transformer = 1\nvae = 2\ntext_encoder = 3\nlatent_upsampler = 4\n";
        let parameters: Parameters = toml::from_str(text).expect("parameters");
        let json = serde_json::to_value(parameters).expect("plain data");
        assert_eq!(json["latent_upsampler"], 4);
        assert_eq!(json["image_encoder"], 0, "every role is there");
        assert_eq!(serde_json::from_value::<Parameters>(json).expect("parameters"), parameters);
    }
}
