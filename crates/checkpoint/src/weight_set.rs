//! [`WeightSet`]: which files of a folder are one network's weights, told from their names alone.
//!
//! diffusers and transformers write `{stem}.safetensors`, or shards `{stem}-00001-of-00003.safetensors` beside
//! `{stem}.safetensors.index.json`. A variant such as `fp16` stands in any place that their releases have put it:
//! `{stem}.fp16.safetensors`, `{stem}.fp16-00001-of-00003.safetensors`, `{stem}-00001-of-00003.fp16.safetensors`,
//! `{stem}.safetensors.index.fp16.json`, `{stem}.safetensors.fp16.index.json`.

/// Stems that diffusers and transformers write, the preferred one first.
const STEMS: [&str; 3] = ["diffusion_pytorch_model", "model", "pytorch_model"];
/// Endings of files with tensors, the preferred one first.
const ENDINGS: [&str; 4] = [".safetensors", ".gguf", ".bin", ".pth"];

/// The files of one network's weights, by their names in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightSet {
    /// The index of the shards.
    pub index: Option<String>,
    /// The one file, or the shards that are there. Only the index knows shards with names of their own.
    pub files: Vec<String>,
    name: Name,
}

impl WeightSet {
    /// The sets that the files of a folder make: single files and indices in the order of `names`, then shards without an
    /// index. Names of anything else are left out.
    pub fn all(names: &[&str]) -> Vec<Self> {
        let parsed = || names.iter().filter_map(|file| Some(((*file).to_string(), Name::parse(file)?)));
        let mut sets: Vec<Self> = Vec::new();
        for (file, name) in parsed() {
            match name.kind {
                Kind::Index => sets.push(Self { index: Some(file), files: Vec::new(), name }),
                Kind::Whole => sets.push(Self { index: None, files: vec![file], name }),
                Kind::Shard { .. } => {}
            }
        }
        for (file, name) in parsed().filter(|(_, name)| matches!(name.kind, Kind::Shard { .. })) {
            match sets.iter_mut().find(|set| set.name.takes(&name)) {
                Some(set) => set.files.push(file),
                None => sets.push(Self { index: None, files: vec![file], name }),
            }
        }
        sets
    }

    /// The weights of the network whose folder has files of these names: the set with a usual name, or else the only
    /// variant, or else the only set that there is. More than one are equally likely, and none is the answer.
    pub fn of_component(names: &[&str]) -> Vec<Self> {
        let sets = Self::all(names);
        if let Some(usual) = sets.iter().filter(|set| set.name.stem().is_some()).min_by_key(|set| set.name.rank()) {
            return vec![usual.clone()];
        }
        let (variants, others): (Vec<Self>, Vec<Self>) = sets.into_iter().partition(|set| set.name.is_variant());
        let mut likely = if variants.is_empty() { others } else { variants };
        let best = likely.iter().map(|set| set.name.ending).min();
        likely.retain(|set| Some(set.name.ending) == best);
        if likely.iter().filter(|set| set.index.is_some()).count() == 1 {
            likely.retain(|set| set.index.is_some());
        }
        likely
    }

    /// The files that are to be opened, for [`crate::Weights::open`]: the index, or all files.
    pub fn opened(&self) -> &[String] {
        self.index.as_ref().map_or(&self.files, std::slice::from_ref)
    }

    /// The first shard that the names of the others promise, but that is not there. An index says for itself which there
    /// should be.
    pub fn missing_shard(&self) -> Option<String> {
        let Kind::Shard { count, .. } = self.name.kind else { return None };
        let numbers = |file: &String| match Name::parse(file)?.kind {
            Kind::Shard { number, .. } => Some(number),
            _ => None,
        };
        let there: Vec<usize> = self.files.iter().filter_map(numbers).collect();
        let missing = (1..=count).find(|number| !there.contains(number))?;
        let (start, rest) = self.files.first()?.rsplit_once("-of-")?;
        let (start, number) = start.rsplit_once('-')?;
        Some(format!("{start}-{missing:0width$}-of-{rest}", width = number.len()))
    }
}

/// The parts of a file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// The stem, and the variant behind a dot.
    key: String,
    /// The position in [`ENDINGS`].
    ending: usize,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Index,
    /// Shard `number` of `count`, from 1.
    Shard {
        number: usize,
        count: usize,
    },
}

impl Name {
    fn parse(file: &str) -> Option<Self> {
        if let Some(start) = file.strip_suffix(".json") {
            let (base, middle) = start.rsplit_once(ENDINGS[0])?;
            let variant = middle.strip_prefix(".index").or_else(|| middle.strip_suffix(".index"))?;
            let is_variant = variant.is_empty() || (variant.starts_with('.') && !variant[1..].contains('.'));
            return is_variant.then(|| Self { key: format!("{base}{variant}"), ending: 0, kind: Kind::Index });
        }
        let mut endings = ENDINGS.iter().enumerate();
        let (ending, base) = endings.find_map(|(ending, text)| Some((ending, file.strip_suffix(text)?)))?;
        let (key, kind) = shard(base).unwrap_or_else(|| (base.to_string(), Kind::Whole));
        Some(Self { key, ending, kind })
    }

    /// The position of the stem in [`STEMS`], of a name without a variant.
    fn stem(&self) -> Option<usize> {
        STEMS.iter().position(|stem| *stem == self.key)
    }

    fn is_variant(&self) -> bool {
        STEMS.iter().any(|stem| self.key.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Sorts usual names, the preferred one first.
    fn rank(&self) -> (usize, bool, Option<usize>, bool) {
        (self.ending, matches!(self.kind, Kind::Shard { .. }), self.stem(), self.kind != Kind::Index)
    }

    /// Whether the shard `other` belongs to the set that begins with this index or shard.
    fn takes(&self, other: &Self) -> bool {
        let counts = match (&self.kind, &other.kind) {
            (Kind::Index, Kind::Shard { .. }) => true,
            (Kind::Shard { count: a, .. }, Kind::Shard { count: b, .. }) => a == b,
            _ => false,
        };
        counts && self.key == other.key && self.ending == other.ending
    }
}

/// Splits `{stem}-00001-of-00003`, with a variant before or after the numbers.
fn shard(base: &str) -> Option<(String, Kind)> {
    let (start, end) = base.rsplit_once("-of-")?;
    let (stem, number) = start.rsplit_once('-')?;
    let (count, variant) = end.split_at(end.find('.').unwrap_or(end.len()));
    let number_of = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let kind = Kind::Shard { number: number_of(number)?, count: number_of(count)? };
    Some((format!("{stem}{variant}"), kind))
}
