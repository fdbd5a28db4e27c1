//! [`KeyMap`]: the names of one layout as a table of whole-path rules, `source -> canonical`.
//!
//! A rule is a path of dot-separated segments; a segment `{x}` stands for exactly one segment, `{x..}` at the end for
//! all that are left. Exactly one rule must match each name of the checkpoint. Rules are never chained, and a name that no
//! rule matches is an error, not a skipped tensor.
//!
//! Tools put segments of their own before every name, and wrappers in the middle. Both are found by rule: wrappers are left
//! out, and what all names begin with is left out if the rest are names of the layout.

use crate::error::did_you_mean;
use crate::pattern::{Captures, Pattern};
use crate::similar::most_similar;
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Segments of modules that wrap others, such as compiled ones and those of several GPUs.
const WRAPPERS: [&str; 4] = ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
/// The most segments that a prefix is looked for in.
const MOST_WRAPPED: usize = 8;
/// Prefixes that tools put before every name of a model, for layouts that have no rules and no anchors.
const PREFIXES: [&str; 7] =
    ["model.diffusion_model.", "diffusion_model.", "first_stage_model.", "model.", "vae.", "net.", "pipe.dit."];

/// The names of one layout.
#[derive(Clone, Debug)]
pub struct KeyMap {
    layout: String,
    rules: Option<Vec<Rule>>,
    anchors: Vec<String>,
    dropped: Vec<Pattern>,
    duplicates: Vec<(String, String)>,
}

/// Maps canonical names to source names.
type Names = BTreeMap<String, String>;

/// The names of a checkpoint in one layout.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    /// Source names by canonical name.
    pub(crate) names: Names,
    /// Source names of the tensors that should be the same as another, by canonical name.
    pub(crate) duplicates: Names,
}

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
        let (anchors, dropped, duplicates) = (Vec::new(), Vec::new(), Vec::new());
        Self { layout: layout.to_string(), rules: None, anchors, dropped, duplicates }
    }

    /// Adds names that every checkpoint of an identity map's layout has: what stands before one of them is a prefix.
    #[must_use]
    pub fn anchored(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        self.anchors.extend(names.into_iter().map(str::to_string));
        self
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
    /// Names that no rule matches, one that two rules match, or two names that lead to the same canonical name.
    pub fn canonical_names<'a>(&self, sources: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, String>> {
        Ok(self.pick(&Sources::new(sources))?.names)
    }

    /// Returns the layout's name of the tensor with the canonical name `canonical`, if it has one.
    pub(crate) fn source_of(&self, canonical: &str) -> Option<String> {
        let Some(rules) = &self.rules else { return Some(canonical.to_string()) };
        let source = |rule: &Rule| rule.source.fill(&rule.canonical.captures(canonical)?);
        rules.iter().find_map(source)
    }

    fn pick(&self, sources: &Sources) -> Result<Picked> {
        let prefix = self.prefix_of(sources);
        let mut picked = Picked::default();
        let mut unknown = Vec::new();
        for (name, source) in &sources.plain {
            let own = &name[prefix.len()..];
            if self.dropped.iter().any(|pattern| pattern.captures(own).is_some()) {
                continue;
            }
            let Some(canonical) = self.canonical_name(own)? else {
                unknown.push((own.to_string(), (*source).to_string()));
                continue;
            };
            let has = |other: &str| sources.plain.contains_key(format!("{prefix}{other}").as_str());
            let is_duplicate = self.duplicates.iter().any(|(duplicate, other)| duplicate == own && has(other));
            let names = if is_duplicate { &mut picked.duplicates } else { &mut picked.names };
            if let Some(first) = names.insert(canonical.clone(), (*source).to_string()) {
                let (first, second) = (format!("`{first}`"), format!("`{source}`"));
                return Err(Error::MappedTwice { name: canonical, layout: self.layout.clone(), first, second });
            }
        }
        match (unknown.first(), &sources.twice) {
            (None, None) => Ok(picked),
            (None, Some((first, second))) => {
                let (name, first, second) = (first.clone(), format!("`{first}`"), format!("`{second}`"));
                Err(Error::MappedTwice { name, layout: self.layout.clone(), first, second })
            }
            (Some((own, _)), _) => {
                let none_known = unknown.len() > 1 && unknown.len() == sources.plain.len();
                let common = if none_known { sources.common() } else { String::new() };
                let remark = if common.is_empty() {
                    did_you_mean(self.similar_source(own, sources, &prefix).as_ref())
                } else {
                    format!("; all names begin with `{common}`")
                };
                let names = unknown.into_iter().map(|(_, source)| source).collect();
                Err(Error::Unmapped { names, layout: self.layout.clone(), remark })
            }
        }
    }

    /// Returns what every name begins with and no name of the layout has; "" if there is nothing.
    fn prefix_of(&self, sources: &Sources) -> String {
        let Some(rules) = &self.rules else { return self.anchored_prefix(sources) };
        let common = sources.common();
        let ends = common.match_indices('.').take(MOST_WRAPPED);
        let candidates = std::iter::once("").chain(ends.map(|(at, _)| &common[..=at]));
        let known = |prefix: &str| {
            let own = sources.plain.keys().map(|name| &name[prefix.len()..]);
            own.filter(|name| self.knows(rules, name)).count()
        };
        // The shortest of those with which most names are known: the rules' own first segments are no prefix.
        let (mut most, mut best) = (0, "");
        for prefix in candidates {
            let known = known(prefix);
            if known > most {
                (most, best) = (known, prefix);
            }
        }
        best.to_string()
    }

    /// What stands before the first anchor that is there, or one of the usual prefixes.
    fn anchored_prefix(&self, sources: &Sources) -> String {
        let everywhere = |prefix: &str| {
            let rest = |name: &Cow<str>| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
            !sources.plain.is_empty() && sources.plain.keys().all(rest)
        };
        let before = |anchor: &String| {
            let mut names = sources.plain.keys();
            names.find_map(|name| name.strip_suffix(anchor.as_str()).filter(|p| p.is_empty() || p.ends_with('.')))
        };
        if let Some(prefix) = self.anchors.iter().find_map(before) {
            return if everywhere(prefix) { prefix.to_string() } else { String::new() };
        }
        let usual = PREFIXES.into_iter().filter(|prefix| everywhere(prefix));
        usual.max_by_key(|prefix| prefix.len()).unwrap_or_default().to_string()
    }

    /// Returns the canonical name of `name`, or `None` if no rule knows it.
    fn canonical_name(&self, name: &str) -> Result<Option<String>> {
        let Some(rules) = &self.rules else { return Ok(Some(name.to_string())) };
        let mut matches = rules.iter().filter_map(|rule| Some((rule, rule.source.captures(name)?)));
        let Some((rule, captures)) = matches.next() else { return Ok(None) };
        if let Some((other, _)) = matches.next() {
            let (first, second) = (rule.to_string(), other.to_string());
            return Err(Error::MappedTwice { name: name.to_string(), layout: self.layout.clone(), first, second });
        }
        let unknown = || Error::Rule { layout: self.layout.clone(), rule: rule.to_string() };
        rule.canonical.fill(&captures).ok_or_else(unknown).map(Some)
    }

    fn knows(&self, rules: &[Rule], name: &str) -> bool {
        rules.iter().map(|rule| &rule.source).chain(&self.dropped).any(|pattern| pattern.captures(name).is_some())
    }

    /// Returns the closest name of the layout. Placeholders stand for numbers, or for what they stand for in a name that is
    /// known: a name that exists nowhere helps nobody.
    fn similar_source(&self, name: &str, sources: &Sources, prefix: &str) -> Option<String> {
        let rules = self.rules.as_deref().unwrap_or_default();
        let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
        for other in sources.plain.keys() {
            let captures = rules.iter().find_map(|rule| rule.source.captures(&other[prefix.len()..]));
            seen.extend(captures.unwrap_or_else(Captures::new));
        }
        let segments: Vec<&str> = name.split('.').collect();
        let fits = |placeholder: &str, text: &str| seen.contains(&(placeholder, text));
        let filled: Vec<String> = rules.iter().filter_map(|rule| rule.source.filled_like(&segments, fits)).collect();
        most_similar(name, filled.iter().map(String::as_str))
    }
}

/// The names of a checkpoint.
struct Sources<'a> {
    /// Names as they are in the file, by names without the segments of wrappers.
    plain: BTreeMap<Cow<'a, str>, &'a str>,
    /// Two names that differ by wrappers only.
    twice: Option<(String, String)>,
}

impl<'a> Sources<'a> {
    fn new(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sources = Self { plain: BTreeMap::new(), twice: None };
        for name in names {
            if let Some(first) = sources.plain.insert(unwrapped(name), name).filter(|first| *first != name) {
                sources.twice = Some((first.to_string(), name.to_string()));
            }
        }
        sources
    }

    /// The segments that all names begin with, with a dot behind each; every name goes on.
    fn common(&self) -> String {
        let (Some((first, _)), Some((last, _))) = (self.plain.first_key_value(), self.plain.last_key_value()) else {
            return String::new();
        };
        // Between the first and the last of sorted names all have what both begin with.
        let shared = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        let end = first.as_bytes()[..shared].iter().rposition(|byte| *byte == b'.');
        end.map(|end| first[..=end].to_string()).unwrap_or_default()
    }
}

/// Returns the name of a tensor without the segments of modules that wrap others, such as compiled ones.
pub fn unwrapped(name: &str) -> Cow<'_, str> {
    let mut segments: Vec<&str> = name.split('.').collect();
    let (last, all) = (segments.pop().unwrap_or_default(), segments.len());
    segments.retain(|segment| !WRAPPERS.contains(segment));
    if segments.len() == all {
        return Cow::Borrowed(name);
    }
    segments.push(last);
    Cow::Owned(segments.join("."))
}

/// Returns the names of a checkpoint by the first of the maps that matches all of them.
///
/// An identity map accepts everything, so it is used only if no table of rules matches most of the names: a diffusers
/// checkpoint with one unknown tensor is reported as that, not as a thousand missing tensors.
pub(crate) fn pick_names(maps: &[&KeyMap], sources: &BTreeSet<&str>) -> Result<Picked> {
    let sources = Sources::new(sources.iter().copied());
    let identity = KeyMap::identity("original");
    let mut best: Option<(usize, Error)> = None;
    for map in maps {
        let Some(rules) = &map.rules else { continue };
        match map.pick(&sources) {
            Ok(picked) => return Ok(picked),
            Err(error) => {
                let prefix = map.prefix_of(&sources).len();
                let known = sources.plain.keys().filter(|name| map.knows(rules, &name[prefix..])).count();
                if best.as_ref().is_none_or(|(most, _)| known > *most) {
                    best = Some((known, error));
                }
            }
        }
    }
    let fallback = maps.iter().copied().find(|map| map.rules.is_none());
    match (best, fallback.or(maps.is_empty().then_some(&identity))) {
        (Some((known, error)), Some(_)) if 2 * known > sources.plain.len() => Err(error),
        (_, Some(map)) => map.pick(&sources),
        (Some((_, error)), None) => Err(error),
        (None, None) => identity.pick(&sources),
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
