//! [`KeyMap`]: the names of one layout as a table of whole-path rules, `source -> canonical`.
//!
//! A rule is a path of dot-separated segments; a segment `{x}` stands for exactly one segment, `{x..}` at the end for
//! all that are left. Exactly one rule must match each name of the checkpoint. Rules are never chained, and a name that no
//! rule matches is an error, not a skipped tensor.

use crate::similar::most_similar;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Prefixes that tools put before every name of a model, whatever its layout.
const PREFIXES: [&str; 6] =
    ["model.diffusion_model.", "diffusion_model.", "first_stage_model.", "model.", "module.", "vae."];

/// The names of one layout.
#[derive(Clone, Debug)]
pub struct KeyMap {
    layout: String,
    rules: Option<Vec<Rule>>,
    dropped: Vec<Pattern>,
    duplicates: Vec<(String, String)>,
}

/// Maps canonical names to source names.
pub(crate) type Names = BTreeMap<String, String>;

impl KeyMap {
    /// Returns the map of the layout called `layout`, from pairs of patterns `(source, canonical)`.
    pub fn new<S: AsRef<str>, C: AsRef<str>>(layout: &str, rules: impl IntoIterator<Item = (S, C)>) -> Self {
        let rules = rules.into_iter().map(|(source, canonical)| Rule {
            source: Pattern::new(source.as_ref()),
            canonical: Pattern::new(canonical.as_ref()),
        });
        Self { rules: Some(rules.collect()), ..Self::identity(layout) }
    }

    /// Returns the map of a layout whose names are the canonical ones; it accepts every name.
    pub fn identity(layout: &str) -> Self {
        Self { layout: layout.to_string(), rules: None, dropped: Vec::new(), duplicates: Vec::new() }
    }

    /// Adds source names (patterns) that the layout has and no module needs.
    #[must_use]
    pub fn dropping<S: AsRef<str>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.dropped.extend(patterns.into_iter().map(|pattern| Pattern::new(pattern.as_ref())));
        self
    }

    /// Adds a source name that is dropped if `other` is present too, because both hold the same tensor.
    #[must_use]
    pub fn dropping_duplicate(mut self, name: &str, other: &str) -> Self {
        self.duplicates.push((name.to_string(), other.to_string()));
        self
    }

    /// Returns the layout's name.
    pub fn layout(&self) -> &str {
        &self.layout
    }

    /// Returns the source name of every canonical name, for all of `sources`.
    ///
    /// # Errors
    /// A name that no rule matches, that two rules match, or two names that lead to the same canonical name.
    pub fn canonical_names<'a>(&self, sources: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, String>> {
        let sources: BTreeSet<&str> = sources.into_iter().collect();
        let prefix = self.prefix_of(&sources);
        let mut names = Names::new();
        for source in &sources {
            let Some(canonical) = self.canonical_name(source, prefix, &sources)? else { continue };
            if let Some(first) = names.insert(canonical.clone(), (*source).to_string()) {
                let (first, second) = (format!("`{first}`"), format!("`{source}`"));
                return Err(Error::MappedTwice { name: canonical, layout: self.layout.clone(), first, second });
            }
        }
        Ok(names)
    }

    /// Returns the longest prefix that every name has, or "" if there is none or if the rules match the names as they are.
    fn prefix_of(&self, sources: &BTreeSet<&str>) -> &'static str {
        let everywhere = |prefix: &&str| {
            !sources.is_empty()
                && sources.iter().all(|name| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()))
        };
        let plain = self.rules.is_some() && sources.iter().all(|name| self.knows(name));
        if plain {
            ""
        } else {
            PREFIXES.into_iter().filter(everywhere).max_by_key(|prefix| prefix.len()).unwrap_or_default()
        }
    }

    /// Returns the canonical name of `source`, or `None` if it is to be dropped.
    fn canonical_name(&self, source: &str, prefix: &str, all: &BTreeSet<&str>) -> Result<Option<String>> {
        let name = &source[prefix.len()..];
        let is_duplicate = |(duplicate, other): &(String, String)| {
            duplicate == name && all.contains(format!("{prefix}{other}").as_str())
        };
        if self.dropped.iter().any(|pattern| pattern.captures(name).is_some())
            || self.duplicates.iter().any(is_duplicate)
        {
            return Ok(None);
        }
        let Some(rules) = &self.rules else { return Ok(Some(name.to_string())) };
        let mut matches = rules.iter().filter_map(|rule| Some((rule, rule.source.captures(name)?)));
        let Some((rule, captures)) = matches.next() else {
            let (layout, similar) = (self.layout.clone(), self.similar_source(name));
            return Err(Error::Unmapped { name: source.to_string(), layout, similar });
        };
        if let Some((other, _)) = matches.next() {
            let (first, second) = (rule.to_string(), other.to_string());
            return Err(Error::MappedTwice { name: source.to_string(), layout: self.layout.clone(), first, second });
        }
        let unknown = || Error::Rule { layout: self.layout.clone(), rule: rule.to_string() };
        rule.canonical.fill(&captures).ok_or_else(unknown).map(Some)
    }

    fn knows(&self, name: &str) -> bool {
        let Some(rules) = &self.rules else { return true };
        rules.iter().map(|rule| &rule.source).chain(&self.dropped).any(|pattern| pattern.captures(name).is_some())
    }

    /// Returns the closest source name, with the placeholders filled with the segments of `name` at the same positions.
    fn similar_source(&self, name: &str) -> Option<String> {
        let segments: Vec<&str> = name.split('.').collect();
        let filled: Vec<String> = self.rules.iter().flatten().map(|rule| rule.source.filled_like(&segments)).collect();
        most_similar(name, filled.iter().map(String::as_str))
    }
}

/// Returns the names of a checkpoint by the first of the maps that matches all of them.
///
/// An identity map accepts everything, so it is used only if no table of rules matches most of the names: a diffusers
/// checkpoint with one unknown tensor is reported as that, not as a thousand missing tensors.
pub(crate) fn pick_names(maps: &[&KeyMap], sources: &BTreeSet<&str>) -> Result<Names> {
    let identity = KeyMap::identity("original");
    let mut best: Option<(usize, Error)> = None;
    for map in maps.iter().filter(|map| map.rules.is_some()) {
        match map.canonical_names(sources.iter().copied()) {
            Ok(names) => return Ok(names),
            Err(error) => {
                let prefix = map.prefix_of(sources).len();
                let known = sources.iter().filter(|name| map.knows(&name[prefix..])).count();
                if best.as_ref().is_none_or(|(most, _)| known > *most) {
                    best = Some((known, error));
                }
            }
        }
    }
    let fallback = maps.iter().copied().find(|map| map.rules.is_none());
    match (best, fallback.or(maps.is_empty().then_some(&identity))) {
        (Some((known, error)), Some(_)) if 2 * known > sources.len() => Err(error),
        (_, Some(map)) => map.canonical_names(sources.iter().copied()),
        (Some((_, error)), None) => Err(error),
        (None, None) => identity.canonical_names(sources.iter().copied()),
    }
}

#[derive(Clone, Debug)]
struct Rule {
    source: Pattern,
    canonical: Pattern,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` -> `{}`", self.source.text(), self.canonical.text())
    }
}

#[derive(Clone, Debug)]
struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One(String),
    Rest(String),
}

type Captures<'a> = BTreeMap<&'a str, &'a str>;

impl Pattern {
    fn new(text: &str) -> Self {
        let segment = |text: &str| match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            None => Segment::Literal(text.to_string()),
            Some(name) => match name.strip_suffix("..") {
                None => Segment::One(name.to_string()),
                Some(name) => Segment::Rest(name.to_string()),
            },
        };
        // The dots of `{x..}` are not separators.
        let segments = text.replace("..}", "\u{0}}");
        Self { segments: segments.split('.').map(|text| segment(&text.replace('\u{0}', ".."))).collect() }
    }

    fn text(&self) -> String {
        let text = |segment: &Segment| match segment {
            Segment::Literal(text) => text.clone(),
            Segment::One(name) => format!("{{{name}}}"),
            Segment::Rest(name) => format!("{{{name}..}}"),
        };
        self.segments.iter().map(text).collect::<Vec<_>>().join(".")
    }

    /// Returns the parts of `name` that the placeholders match, if the whole name matches.
    fn captures<'a>(&'a self, name: &'a str) -> Option<Captures<'a>> {
        let mut captures = Captures::new();
        let mut rest = Some(name);
        for segment in &self.segments {
            let left = rest?;
            let (first, others) = left.split_once('.').map_or((left, None), |(first, others)| (first, Some(others)));
            rest = others;
            match segment {
                Segment::Literal(text) if text == first => {}
                Segment::Literal(_) => return None,
                Segment::One(name) => {
                    captures.insert(name, first);
                }
                Segment::Rest(name) => {
                    captures.insert(name, left);
                    rest = None;
                }
            }
        }
        rest.is_none().then_some(captures)
    }

    fn fill(&self, captures: &Captures) -> Option<String> {
        let fill = |segment: &Segment| match segment {
            Segment::Literal(text) => Some(text.clone()),
            Segment::One(name) | Segment::Rest(name) => captures.get(name.as_str()).map(|text| (*text).to_string()),
        };
        Some(self.segments.iter().map(fill).collect::<Option<Vec<_>>>()?.join("."))
    }

    fn filled_like(&self, segments: &[&str]) -> String {
        let fill = |(i, segment): (usize, &Segment)| match segment {
            Segment::Literal(text) => text.clone(),
            Segment::One(_) | Segment::Rest(_) => segments.get(i).copied().unwrap_or_default().to_string(),
        };
        self.segments.iter().enumerate().map(fill).collect::<Vec<_>>().join(".")
    }
}
