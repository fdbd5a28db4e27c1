//! [`LoraDescription`]: what a LoRA file holds, for people.

use super::file::LoraFile;
use super::key::Part;
use super::module::Piece;
use serde::Serialize;
use std::collections::BTreeMap;

/// Fields of a header that say how a LoRA is meant to be used; the longest text that is shown of one, in letters.
const SHOWN: [&str; 14] = [
    "modelspec.title",
    "modelspec.author",
    "modelspec.description",
    "modelspec.usage_hint",
    "modelspec.trigger_phrase",
    "modelspec.architecture",
    "ss_output_name",
    "ss_base_model_version",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "trigger_words",
    "recommended_strength",
    "name",
];
const LONGEST: usize = 200;

/// The contents of a LoRA file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoraDescription {
    /// The texts that its keys begin with; an empty one means names without a prefix.
    pub prefixes: Vec<String>,
    /// The texts that its keys end in.
    pub suffixes: Vec<&'static str>,
    /// Whether modules are written with underscores for dots.
    pub flattened: bool,
    /// The number of modules, by part: `transformer`, `transformer_2`.
    pub parts: BTreeMap<&'static str, usize>,
    /// The number of changes, by kind: `pairs`, `differences`, `LoHa`, `LoKr`, `DoRA`.
    pub kinds: BTreeMap<&'static str, usize>,
    /// The number of changes, by rank.
    pub ranks: BTreeMap<usize, usize>,
    /// The number of changes, by alpha; those without one are under `none`.
    pub alphas: BTreeMap<String, usize>,
    /// Where alpha comes from, if not from keys: `lora_adapter_metadata` or `adapter_config.json`.
    pub alpha_from: Option<&'static str>,
    /// Fields of the header that say how the file is meant to be used.
    pub metadata: BTreeMap<String, String>,
    /// Sentences that a user should know.
    pub remarks: Vec<String>,
}

impl LoraFile {
    /// Returns what the file holds.
    pub fn description(&self) -> LoraDescription {
        let (mut parts, mut kinds, mut ranks, mut alphas) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for module in &self.modules {
            let part = if module.part == Part::Second { "transformer_2" } else { "transformer" };
            *parts.entry(part).or_default() += 1;
            for piece in &module.pieces {
                let kind = if piece.magnitude.is_some() { "DoRA" } else { piece.delta.kind() };
                *kinds.entry(kind).or_default() += 1;
                let Some(rank) = piece.delta.rank() else { continue };
                *ranks.entry(rank).or_default() += 1;
                let alpha = piece.alpha.map_or_else(|| "none".to_string(), |alpha| alpha.to_string());
                *alphas.entry(alpha).or_default() += 1;
            }
        }
        let shown = |(name, value): (&String, &String)| {
            let is_shown = SHOWN.contains(&name.as_str()) && !value.is_empty();
            is_shown.then(|| (name.clone(), value.chars().take(LONGEST).collect()))
        };
        LoraDescription {
            prefixes: self.naming.prefixes.iter().cloned().collect(),
            suffixes: self.naming.suffixes.iter().copied().collect(),
            flattened: self.naming.flat,
            parts,
            kinds,
            ranks,
            alphas,
            alpha_from: self.alpha_from,
            metadata: self.file.metadata().iter().filter_map(shown).collect(),
            remarks: self.remarks(),
        }
    }

    /// Sentences that a user should read before a run.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let name = self.path().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let says = |text: &str| text.to_lowercase().contains("lightning");
        let is_lightning = says(&name) || self.file.metadata().values().any(|value| says(value));
        let pieces = || self.modules.iter().flat_map(|module| &module.pieces);
        let is_pair = |piece: &&Piece| piece.delta.rank().is_some();
        if is_lightning && pieces().filter(is_pair).all(|piece| piece.alpha.is_none()) && pieces().any(|p| is_pair(&p))
        {
            remarks.push(format!(
                "{}: it has no alpha; the first Lightning files were made with alpha 8 at rank 64 and need a \
                 strength of 0.125",
                self.path().display()
            ));
        }
        remarks
    }
}
