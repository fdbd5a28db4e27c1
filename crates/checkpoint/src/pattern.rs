//! [`Pattern`]: a path of dot-separated segments with placeholders.

use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One(String),
    Rest(String),
}

pub(crate) type Captures<'a> = BTreeMap<&'a str, &'a str>;

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
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

    pub(crate) fn text(&self) -> String {
        let text = |segment: &Segment| match segment {
            Segment::Literal(text) => text.clone(),
            Segment::One(name) => format!("{{{name}}}"),
            Segment::Rest(name) => format!("{{{name}..}}"),
        };
        self.segments.iter().map(text).collect::<Vec<_>>().join(".")
    }

    /// Returns the parts of `name` that the placeholders match, if the whole name matches.
    pub(crate) fn captures<'a>(&'a self, name: &'a str) -> Option<Captures<'a>> {
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

    pub(crate) fn fill(&self, captures: &Captures) -> Option<String> {
        let fill = |segment: &Segment| match segment {
            Segment::Literal(text) => Some(text.clone()),
            Segment::One(name) | Segment::Rest(name) => captures.get(name.as_str()).map(|text| (*text).to_string()),
        };
        Some(self.segments.iter().map(fill).collect::<Option<Vec<_>>>()?.join("."))
    }

    /// Returns the pattern with the segments of a name in the places of its placeholders, if each is a number or `fits` it.
    pub(crate) fn filled_like(&self, segments: &[&str], fits: impl Fn(&str, &str) -> bool) -> Option<String> {
        let fill = |(i, segment): (usize, &Segment)| match segment {
            Segment::Literal(text) => Some(text.clone()),
            Segment::One(name) | Segment::Rest(name) => {
                let text = *segments.get(i)?;
                let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                (is_number || fits(name, text)).then(|| text.to_string())
            }
        };
        Some(self.segments.iter().enumerate().map(fill).collect::<Option<Vec<_>>>()?.join("."))
    }
}
