//! Circles of imports: files of one crate that need each other, directly or by way of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A path in the code, such as `["crate", "plan", "Plan"]`.
type Segments = Vec<String>;
/// The place of a module in its crate; empty for the crate's root.
type Module = Vec<String>;

/// The modules of one crate, with the imports that each file writes down.
pub struct Crate {
    modules: BTreeMap<Module, File>,
}

struct File {
    path: PathBuf,
    /// Paths that are re-exported: they stand for the module that defines them.
    exports: Vec<Segments>,
    /// Paths that the file's own code uses.
    imports: Vec<Segments>,
}

impl Crate {
    /// Reads the sources, by path, of the crate whose `src` folder is `src`. Test modules are left out.
    pub fn read(src: &Path, sources: &BTreeMap<PathBuf, String>) -> Self {
        let of_crate = sources.iter().filter(|(path, _)| path.starts_with(src) && !path.starts_with(src.join("bin")));
        let modules = of_crate.map(|(path, text)| {
            let below = path.strip_prefix(src).expect("below src").with_extension("");
            let mut module: Module = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if ["mod", "lib"].contains(&module.last().expect("a name").as_str()) {
                module.pop();
            }
            (module, File::read(path, &code(text)))
        });
        Self { modules: modules.collect() }
    }

    /// Every circle of more than one file, the largest first.
    pub fn circles(&self) -> Vec<BTreeSet<&Path>> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> =
            self.modules.keys().map(|from| (from, self.reach(from))).collect();
        let mutual = |a: &Module| -> BTreeSet<&Path> {
            let others = reach[a].iter().filter(|b| reach[*b].contains(a));
            others.map(|b| self.modules[*b].path.as_path()).collect()
        };
        let circles: BTreeSet<BTreeSet<&Path>> =
            self.modules.keys().map(mutual).filter(|circle| circle.len() > 1).collect();
        let mut circles: Vec<_> = circles.into_iter().collect();
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
        circles
    }

    /// The modules that `from` needs, directly or by way of others.
    fn reach(&self, from: &Module) -> BTreeSet<&Module> {
        let (mut found, mut waiting) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = waiting.pop() {
            let imports = self.modules.get(&module).into_iter().flat_map(|file| &file.imports);
            for path in imports {
                let target = self.resolve(&module, path, 0).and_then(|target| self.modules.get_key_value(&target));
                // The root only gathers what others define.
                if let Some((target, _)) = target.filter(|(target, _)| **target != module && !target.is_empty())
                    && found.insert(target)
                {
                    waiting.push(target.clone());
                }
            }
        }
        found
    }

    /// The module that defines what `path`, written in `module`, stands for.
    fn resolve(&self, module: &Module, path: &Segments, depth: usize) -> Option<Module> {
        let (mut target, mut rest) = self.start(module, path)?;
        while let Some(name) = rest.first() {
            target.push(name.clone());
            if !self.modules.contains_key(&target) {
                target.pop();
                break;
            }
            rest = &rest[1..];
        }
        let exports = &self.modules.get(&target)?.exports;
        let export = rest.first().and_then(|name| exports.iter().find(|export| export.last() == Some(name)));
        match export {
            Some(export) if depth < 5 => self.resolve(&target, export, depth + 1).or(Some(target)),
            _ => Some(target),
        }
    }

    /// The module that a path begins at, and the segments after it.
    fn start<'a>(&self, module: &Module, path: &'a [String]) -> Option<(Module, &'a [String])> {
        let first = path.first()?.as_str();
        if first == "crate" {
            return Some((Module::new(), &path[1..]));
        }
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        if ups > 0 {
            return Some((module[..module.len().checked_sub(ups)?].to_vec(), &path[ups..]));
        }
        if first == "self" {
            return Some((module.clone(), &path[1..]));
        }
        let child = [module.as_slice(), &[first.to_string()]].concat();
        self.modules.contains_key(&child).then(|| (module.clone(), path))
    }
}

impl File {
    fn read(path: &Path, code: &str) -> Self {
        let (mut exports, mut imports) = (Vec::new(), Vec::new());
        for (start, _) in code.match_indices("use ") {
            let before = code[..start].trim_end_matches(' ');
            let line = before.rsplit(['\n', ';', '{', '}']).next().unwrap_or_default().trim();
            if !line.is_empty() && !line.starts_with("pub") {
                continue; // a word of a text
            }
            let (paths, _) = tree(&code[start + 4..]);
            if line.starts_with("pub") { exports.extend(paths) } else { imports.extend(paths) }
        }
        for root in ["crate::", "super::"] {
            let starts = code.match_indices(root).map(|(start, _)| start);
            // Not in the middle of a path, such as the second part of `super::super::a`.
            let starts =
                starts.filter(|start| !code[..*start].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)));
            imports.extend(starts.map(|start| segments(&code[start..])));
        }
        Self { path: path.to_path_buf(), exports, imports }
    }
}

/// The paths of a tree of imports, such as `a::{b, c::d}`, and the text after it.
fn tree(text: &str) -> (Vec<Segments>, &str) {
    let (mut prefix, mut rest) = (Segments::new(), text.trim_start());
    loop {
        if let Some(mut inner) = rest.strip_prefix('{') {
            let mut all = Vec::new();
            loop {
                inner = inner.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                if inner.is_empty() || inner.starts_with('}') {
                    return (all, inner.get(1..).unwrap_or_default());
                }
                let (paths, after) = tree(inner);
                all.extend(paths.into_iter().map(|path| [prefix.clone(), path].concat()));
                inner = if after.len() < inner.len() { after } else { &inner[1..] };
            }
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            return (vec![prefix], rest.strip_prefix('*').unwrap_or(rest));
        }
        prefix.push(rest[..end].to_string());
        rest = rest[end..].trim_start();
        let Some(after) = rest.strip_prefix("::") else {
            let renamed = rest.strip_prefix("as ").map(|after| after.trim_start_matches(|c: char| c.is_alphanumeric()));
            return (vec![prefix], renamed.unwrap_or(rest));
        };
        rest = after.trim_start();
    }
}

/// The path at the beginning of `text`.
fn segments(text: &str) -> Segments {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    text[..end].split("::").filter(|segment| !segment.is_empty()).map(str::to_string).collect()
}

/// `text` without comments and without its test module.
fn code(text: &str) -> String {
    let own = text.split("\nmod tests {").next().unwrap_or_default();
    own.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}
