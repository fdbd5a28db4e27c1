//! Packages for the registry: each describes itself, and holds everything that it is built from.

use crate::{MAY_DEPEND, folder, read, root, sources};
use std::path::{Component, Path, PathBuf};

/// Macros and attributes that read another file when they are compiled.
const READ: [&str; 4] = ["include_str!(\"", "include_bytes!(\"", "include!(\"", "#[path = \""];

#[test]
fn every_package_describes_itself() {
    for (name, _) in MAY_DEPEND {
        let folder = root().join(folder(name));
        let manifest: toml::Table = read(&folder.join("Cargo.toml")).parse().expect("a manifest");
        let package = manifest["package"].as_table().expect("a table");
        for key in ["description", "version", "license", "keywords", "categories", "rust-version"] {
            assert!(package.contains_key(key), "{name} has no {key}");
        }
        assert!(!package.contains_key("publish"), "{name} is not for the registry");
        assert!(folder.join("README.md").exists(), "{name} has no README.md");
    }
}

/// The registry knows packages by their versions, which are one.
#[test]
fn packages_need_each_other_in_the_version_that_they_have() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("a manifest");
    let version = &manifest["workspace"]["package"]["version"];
    let named = manifest["workspace"]["dependencies"].as_table().expect("a table").iter();
    let own: Vec<_> = named.filter(|(name, value)| value.get("path").is_some() && !name.ends_with("support")).collect();
    assert!(own.len() >= 18, "{own:?}");
    for (name, value) in own {
        assert_eq!(value.get("version"), Some(version), "{name}");
    }
}

/// A file outside of the package is not in it. Tests are not packed.
#[test]
fn no_package_reads_files_of_another() {
    let mut found = 0;
    for (path, text) in sources().iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
        let below = path.strip_prefix(root()).expect("below the root");
        let packages = MAY_DEPEND.iter().map(|(name, _)| folder(name)).filter(|folder| below.starts_with(folder));
        // Of packages within each other, the innermost.
        let Some(package) = packages.max_by_key(|folder| folder.components().count()) else { continue };
        if ["tests", "examples"].iter().any(|left_out| below.starts_with(package.join(left_out))) {
            continue;
        }
        let own = text.split("\nmod tests {").next().unwrap_or_default();
        for read in READ.iter().flat_map(|word| own.split(word).skip(1)) {
            let file = read.split('"').next().unwrap_or_default();
            let file = flat(&below.parent().expect("a folder").join(file));
            assert!(file.starts_with(&package), "{} reads {}", below.display(), file.display());
            found += 1;
        }
    }
    assert!(found >= 20, "only {found} files are read");
}

/// `path` without `..`.
fn flat(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut flat, part| {
        if part == Component::ParentDir {
            flat.pop();
        } else {
            flat.push(part);
        }
        flat
    })
}
