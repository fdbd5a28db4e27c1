//! The shape of the house: which crate may depend on which, what every file has, how long it may be.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/packages.rs"]
mod packages;
#[path = "tidy/words.rs"]
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each crate may depend on; everything points down.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("models", &[]),
    ("embedded-vae", &[]),
    ("embedded", &["embedded-vae"]),
    ("formats", &[]),
    ("kernels", &["formats"]),
    ("files", &[]),
    ("checkpoint", &["files", "formats"]),
    ("camera", &[]),
    ("hub", &["files"]),
    ("sampler", &[]),
    ("media", &["files"]),
    ("nn", &["formats", "kernels", "checkpoint"]),
    ("text-encoder", &["kernels", "checkpoint", "nn"]),
    ("image-encoder", &["kernels", "checkpoint", "nn"]),
    ("vae", &["kernels", "checkpoint", "nn"]),
    ("audio", &["kernels", "checkpoint", "nn"]),
    ("dit", &["kernels", "checkpoint", "nn"]),
    ("upscaler", &["kernels", "checkpoint", "nn", "span"]),
    (
        "pipeline",
        &[
            "embedded",
            "files",
            "kernels",
            "checkpoint",
            "nn",
            "text-encoder",
            "image-encoder",
            "vae",
            "audio",
            "dit",
            "upscaler",
            "camera",
            "hub",
            "sampler",
            "media",
            "models",
        ],
    ),
    ("serve", &["media", "pipeline"]),
    ("cli", &["files", "pipeline", "serve"]),
];

/// Crates that may contain `unsafe`, and where.
const UNSAFE: &[&str] =
    &["crates/kernels/", "crates/media/", "crates/cli/src/cuda/library.rs", "tests/tests/memory.rs"];

/// Files that may be longer than [`LONGEST`], with the reason.
const LONG: &[&str] = &[];
const LONGEST: usize = 450;
/// Files that may import each other.
const LARGEST_CIRCLE: usize = 3;

#[test]
fn dependencies_only_point_down() {
    for (name, allowed) in MAY_DEPEND {
        let manifest: toml::Table =
            read(&root().join(folder(name)).join("Cargo.toml")).parse().expect("Cargo.toml parses");
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table).into_iter();
        for dependency in dependencies.flat_map(|table| table.keys()).filter(|name| name.starts_with("kinora")) {
            let short = dependency.strip_prefix("kinora-").unwrap_or("pipeline");
            assert!(allowed.contains(&short), "{name} must not depend on {short}");
        }
    }
    let crates = std::fs::read_dir(root().join("crates")).expect("crates/").count();
    let known = MAY_DEPEND.iter().filter(|(name, _)| folder(name).starts_with("crates"));
    assert_eq!(crates, known.count(), "a crate is not in the table of this test");
}

/// docs/dependencies.md has a reason for every crate that the workspace takes from elsewhere, and for no other.
#[test]
fn dependencies_have_a_reason() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("a manifest");
    let named = manifest["workspace"]["dependencies"].as_table().expect("a table").iter();
    let foreign = named.filter(|(_, value)| value.get("path").is_none()).map(|(name, _)| name.as_str());
    let document = read(&root().join("docs/dependencies.md"));
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let reasons: BTreeSet<&str> = rows.flat_map(|row| row.split(", ")).map(|name| name.trim_matches('`')).collect();
    assert_eq!(foreign.collect::<BTreeSet<_>>(), reasons);
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
    }
}

#[test]
fn files_stay_readable() {
    for (path, text) in sources() {
        let exempt = LONG.iter().any(|long| path.ends_with(long));
        let lines = text.lines().count();
        assert!(exempt || lines <= LONGEST, "{} has {lines} lines, more than {LONGEST}", path.display());
    }
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    for (path, text) in sources() {
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.filter(|line| line.contains("unsafe ")).count();
        let allowed = UNSAFE.iter().any(|place| name.starts_with(place)) || name.ends_with("tidy.rs");
        assert!(found == 0 || allowed, "{name} contains unsafe code");
    }
}

#[test]
fn nothing_is_left_lying() {
    let marks = ["todo!(", "unimplemented!(", "FIX\u{4d}E", "#[ign\u{6f}re", "dbg!("];
    for (path, text) in sources() {
        for mark in marks {
            let here = text.contains(mark) && !path.ends_with("tidy.rs");
            assert!(!here, "{} contains {mark}", path.display());
        }
    }
}

#[test]
fn only_its_folder_and_manifests_name_a_family() {
    for folder in ["crates/pipeline/src", "crates/cli/src"] {
        let mut found = BTreeMap::new();
        collect(&root().join(folder), &mut found);
        for (path, text) in found.iter().filter(|(path, _)| !words::is_exempt(path)) {
            let lines = words::family_words(text);
            assert!(lines.is_empty(), "{} names a family: {lines:?}", path.display());
        }
    }
}

#[test]
fn imports_do_not_run_in_circles() {
    let sources = sources();
    let crates = MAY_DEPEND.iter().map(|(name, _)| folder(name));
    for path in crates.chain([Path::new("bindings/python").to_path_buf()]) {
        let (name, src) = (path.display(), root().join(&path).join("src"));
        let parsed = circles::Crate::read(&src, &sources);
        let circles = parsed.circles();
        let largest = circles.first().map_or(0, BTreeSet::len);
        assert!(largest <= LARGEST_CIRCLE, "{name}: {largest} files import each other: {:#?}", circles[0]);
    }
}

/// Where the crate of that short name is.
fn folder(name: &str) -> PathBuf {
    match name {
        "models" => "models".into(),
        "embedded" => "models/embedded".into(),
        "embedded-vae" => "models/embedded/vae".into(),
        name => Path::new("crates").join(name),
    }
}

fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for folder in ["bindings", "crates", "models", "tests", "benches"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "only {} source files were found", found.len());
    found
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            collect(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.insert(entry.clone(), read(&entry));
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_path_buf()
}
