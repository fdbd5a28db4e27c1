//! A key of a LoRA file: prefix, module and suffix.

use crate::key_map::unwrapped;
use std::borrow::Cow;

/// The part that a tensor of a LoRA file has in its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Down,
    Up,
    /// The core of a Tucker decomposition, between down and up.
    Middle,
    /// A difference of the bias, which is scaled like the pair.
    UpBias,
    Alpha,
    /// The norms of DoRA.
    Magnitude,
    Diff,
    DiffBias,
    DiffModulation,
    Hadamard(Half, Letter),
    Kronecker(Half, Letter),
    Refused(&'static str),
}

/// The first or the second factor of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Half {
    One,
    Two,
}

/// A factor of a factor, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Letter {
    Whole,
    A,
    B,
    /// The core of a Tucker decomposition.
    T,
}

/// The transformer that a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The only one, or the first of two.
    First,
    /// `transformer_2`, the expert for low noise.
    Second,
    Text,
}

/// A prefix, whether the dots of the module behind it may be underscores, and the part that it names.
const PREFIXES: [(&str, bool, Part); 16] = [
    ("lora_unet__", true, Part::First),
    ("lora_unet_", true, Part::First),
    ("lycoris_", true, Part::First),
    ("model.diffusion_model.", false, Part::First),
    ("diffusion_model.", false, Part::First),
    ("transformer.", false, Part::First),
    ("transformer_2.", false, Part::Second),
    ("pipe.dit.", false, Part::First),
    ("base_model.model.", false, Part::First),
    ("unet.", false, Part::First),
    ("text_encoders.", false, Part::Text),
    ("text_encoder.", false, Part::Text),
    ("lora_te_", true, Part::Text),
    ("lora_te1_", true, Part::Text),
    ("lora_te2_", true, Part::Text),
    ("lora_te3_", true, Part::Text),
];
/// The most prefixes that are stripped: tools put theirs before those of others.
const MOST_PREFIXES: usize = 3;

/// Endings of keys. Those whose second field is true are found in no model.
const SUFFIXES: [(&str, bool, Slot); 60] = {
    use Half::{One, Two};
    use Letter::{A, B, T, Whole};
    use Slot::{
        Alpha, Diff, DiffBias, DiffModulation, Down, Hadamard, Kronecker, Magnitude, Middle, Refused, Up, UpBias,
    };
    [
        (".lora_down.weight", true, Down),
        (".lora_up.weight", true, Up),
        (".lora_A.weight", true, Down),
        (".lora_B.weight", true, Up),
        (".lora_A.default.weight", true, Down),
        (".lora_B.default.weight", true, Up),
        (".lora_A", true, Down),
        (".lora_B", true, Up),
        (".lora.down.weight", true, Down),
        (".lora.up.weight", true, Up),
        ("_lora.down.weight", true, Down),
        ("_lora.up.weight", true, Up),
        (".lora_linear_layer.down.weight", true, Down),
        (".lora_linear_layer.up.weight", true, Up),
        (".lora_mid.weight", true, Middle),
        (".lora_B.bias", true, UpBias),
        (".lora_B.default.bias", true, UpBias),
        (".lora_up.bias", true, UpBias),
        (".alpha", false, Alpha),
        (".dora_scale", true, Magnitude),
        (".lora_magnitude_vector", true, Magnitude),
        (".lora_magnitude_vector.weight", true, Magnitude),
        (".lora_magnitude_vector.default.weight", true, Magnitude),
        (".diff", false, Diff),
        (".diff_b", false, DiffBias),
        (".diff_m", false, DiffModulation),
        (".w_norm", false, Diff),
        (".b_norm", false, DiffBias),
        (".hada_w1_a", true, Hadamard(One, A)),
        (".hada_w1_b", true, Hadamard(One, B)),
        (".hada_w2_a", true, Hadamard(Two, A)),
        (".hada_w2_b", true, Hadamard(Two, B)),
        (".hada_t1", true, Hadamard(One, T)),
        (".hada_t2", true, Hadamard(Two, T)),
        (".lokr_w1", true, Kronecker(One, Whole)),
        (".lokr_w1_a", true, Kronecker(One, A)),
        (".lokr_w1_b", true, Kronecker(One, B)),
        (".lokr_w2", true, Kronecker(Two, Whole)),
        (".lokr_w2_a", true, Kronecker(Two, A)),
        (".lokr_w2_b", true, Kronecker(Two, B)),
        (".lokr_t2", true, Kronecker(Two, T)),
        (".a1", false, Refused(GLORA)),
        (".a2", false, Refused(GLORA)),
        (".b1", false, Refused(GLORA)),
        (".b2", false, Refused(GLORA)),
        (".a1.weight", false, Refused(GLORA)),
        (".a2.weight", false, Refused(GLORA)),
        (".b1.weight", false, Refused(GLORA)),
        (".b2.weight", false, Refused(GLORA)),
        (".oft_blocks", true, Refused(OFT)),
        (".oft_diag", true, Refused(OFT)),
        (".oft_R.weight", true, Refused(OFT)),
        (".oft_R.default.weight", true, Refused(OFT)),
        (".boft_R", true, Refused(OFT)),
        (".boft_s", true, Refused(OFT)),
        (".lora_embedding_A", true, Refused(EMBEDDING)),
        (".lora_embedding_B", true, Refused(EMBEDDING)),
        (".set_weight", false, Refused("weights that replace the model's (set_weight)")),
        (".reshape_weight", false, Refused("weights of another shape (reshape_weight)")),
        (".lora_linear_layer.alpha", true, Alpha),
    ]
};
const GLORA: &str = "GLoRA";
const OFT: &str = "OFT or BOFT";
const EMBEDDING: &str = "a LoRA of an embedding";

/// A key, taken apart.
#[derive(Debug)]
pub(super) struct Key<'a> {
    /// All prefixes, as they stand.
    pub(super) prefix: &'a str,
    pub(super) part: Part,
    /// Whether the module's dots may be underscores.
    pub(super) flat: bool,
    /// The module, without prefixes and segments of wrappers.
    pub(super) module: Cow<'a, str>,
    /// The beginning of the key, up to the suffix.
    pub(super) stem: &'a str,
    pub(super) suffix: &'static str,
    pub(super) slot: Slot,
}

impl<'a> Key<'a> {
    /// Takes a key apart; `None` if its ending is no LoRA's.
    pub(super) fn of(key: &'a str) -> Option<Self> {
        let (suffix, _, slot) = *suffix_of(key)?;
        let stem = &key[..key.len() - suffix.len()];
        let (mut rest, mut part, mut flat) = (stem, Part::First, false);
        for _ in 0..MOST_PREFIXES {
            let found = PREFIXES.iter().find_map(|entry| Some((rest.strip_prefix(entry.0)?, entry)));
            let Some((behind, (_, is_flat, of))) = found else { break };
            rest = behind;
            flat |= is_flat;
            part = part.max(*of);
        }
        let prefix = &stem[..stem.len() - rest.len()];
        Some(Self { prefix, part, flat, module: unwrapped_module(rest), stem, suffix, slot })
    }

    /// The key that completes this one: the other half of a pair.
    pub(super) fn counterpart(&self) -> String {
        let other = [("lora_A", "lora_B"), ("lora_B", "lora_A"), ("down", "up"), ("up", "down")];
        let found = other.iter().find(|(own, _)| self.suffix.contains(own));
        let suffix = found.map_or_else(|| self.suffix.to_string(), |(own, other)| self.suffix.replace(own, other));
        format!("{}{suffix}", self.stem)
    }
}

/// The module without segments of wrappers; its last segment counts, other than a tensor's.
fn unwrapped_module(name: &str) -> Cow<'_, str> {
    if !name.contains("_orig_mod") && !name.contains("module") {
        return Cow::Borrowed(name);
    }
    let with_leaf = format!("{name}.weight");
    let plain = unwrapped(&with_leaf);
    Cow::Owned(plain.strip_suffix(".weight").unwrap_or(name).to_string())
}

fn suffix_of(key: &str) -> Option<&'static (&'static str, bool, Slot)> {
    let fits = SUFFIXES.iter().filter(|(suffix, ..)| key.len() > suffix.len() && key.ends_with(suffix));
    fits.max_by_key(|(suffix, ..)| suffix.len())
}

/// Returns whether tensors of these names are those of a LoRA: one has an ending that no model's has, or all have endings
/// of LoRAs.
pub fn is_lora<'a>(names: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut some, mut all) = (false, true);
    for name in names {
        match suffix_of(name) {
            Some((_, true, _)) => return true,
            Some(_) => some = true,
            None => all = false,
        }
    }
    some && all
}

/// The name with underscores for dots.
pub(super) fn flattened(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart() {
        let parts = |key: &'static str| {
            let key = Key::of(key).unwrap_or_else(|| panic!("{key}"));
            (key.prefix, key.module.to_string(), key.flat, key.slot)
        };
        let q = || "blocks.0.self_attn.q".to_string();
        let flat = || "blocks_0_self_attn_q".to_string();
        assert_eq!(parts("blocks.0.self_attn.q.lora_A.default.weight"), ("", q(), false, Slot::Down));
        assert_eq!(
            parts("diffusion_model.blocks.0.self_attn.q.lora_up.weight"),
            ("diffusion_model.", q(), false, Slot::Up)
        );
        assert_eq!(parts("lora_unet_blocks_0_self_attn_q.alpha"), ("lora_unet_", flat(), true, Slot::Alpha));
        assert_eq!(parts("lora_unet__blocks_0_self_attn_q.lora_down.weight").0, "lora_unet__");
        assert_eq!(parts("lora_unet__blocks_0_self_attn_q.lora_down.weight").1, flat());
        assert_eq!(
            parts("base_model.model.diffusion_model.blocks.0.self_attn.q.lora_B.bias"),
            ("base_model.model.diffusion_model.", q(), false, Slot::UpBias)
        );
        assert_eq!(parts("blocks.0.attn1.to_q_lora.down.weight").1, "blocks.0.attn1.to_q");
        assert_eq!(parts("transformer._orig_mod.blocks.0.self_attn.q.lora_A").1, q());
        assert_eq!(Key::of("transformer_2.x.diff").unwrap().part, Part::Second);
        assert_eq!(Key::of("lora_te_x.alpha").unwrap().part, Part::Text);
        assert!(Key::of("blocks.0.self_attn.q.weight").is_none() && Key::of(".alpha").is_none());
        let key = Key::of("x.q.lora_linear_layer.down.weight").unwrap();
        assert_eq!(key.counterpart(), "x.q.lora_linear_layer.up.weight");
        assert_eq!(Key::of("x.lora_B.default.weight").unwrap().counterpart(), "x.lora_A.default.weight");
    }

    #[test]
    fn loras_are_told_from_models() {
        assert!(is_lora(["patch_embedding.weight", "blocks.0.self_attn.q.lora_A.weight"]));
        assert!(is_lora(["blocks.0.norm3.diff", "blocks.0.diff_m"]));
        assert!(!is_lora(["decoder.alpha", "decoder.weight"]) && !is_lora(std::iter::empty()));
    }

    #[test]
    fn suffixes_are_listed_once() {
        let names: std::collections::BTreeSet<&str> = SUFFIXES.iter().map(|(suffix, ..)| *suffix).collect();
        assert_eq!(names.len(), SUFFIXES.len());
    }
}
