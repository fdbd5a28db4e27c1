//! [`FamilyFiles`]: the files that a model family knows as its own; [`recognise`]: the family that single files belong to.

use crate::model::role::Role;
use crate::{Error, Result};
use kinora_checkpoint::{TensorInfo, refuse_unread};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files of one model family.
pub(crate) trait FamilyFiles: Sync {
    /// The family's name in manifests.
    fn name(&self) -> &'static str;

    /// Whether a diffusers pipeline of this class belongs to the family.
    fn owns_pipeline(&self, class_name: &str) -> bool;

    /// The role of a file with these tensors, if it belongs to the family.
    fn role(&self, tensors: &[TensorInfo]) -> Option<Role>;

    /// The roles of the components that a model with this transformer needs. A transformer is known by its tensors, or
    /// by its configuration where there are only random weights; what every model of the family needs is told without
    /// either.
    fn needs(&self, transformer: &[TensorInfo], config: Option<&Value>) -> Vec<Role>;

    /// The roles of components that a model may have beside those that it needs.
    fn may_have(&self) -> &'static [Role] {
        &[]
    }

    /// The pieces of networks that the family's releases keep in files of other networks.
    fn within(&self) -> &'static [Within] {
        &[]
    }

    /// The places of the tokenizer in the family's original releases: paths from the release's directory.
    fn tokenizers(&self) -> &'static [&'static str];

    /// The name of the known variant that a transformer with these tensors belongs to; `experts` is their number.
    fn variant(&self, transformer: &[TensorInfo], experts: usize) -> Option<&'static str>;
}

/// A piece of a network that may be in the file of another one, or in a file of its own.
pub(crate) struct Within {
    /// The segments below which names of its tensors are, in any of the layouts.
    pub segments: &'static [&'static str],
    /// The role of the network; of what no run needs there is none.
    pub role: Option<Role>,
}

impl Within {
    /// What the name of a tensor of the piece begins with, the piece's own segment and the dot behind it included.
    pub(crate) fn start_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let mut start = 0;
        for segment in name.split('.') {
            let end = start + segment.len() + 1;
            if end <= name.len() && self.segments.contains(&segment) {
                return Some(&name[..end]);
            }
            start = end;
        }
        None
    }
}

/// The families that files are asked of.
pub(crate) type Families<'a> = &'a [&'static dyn FamilyFiles];

/// A file's path, for messages, and its tensors.
pub(crate) type FileTensors = (PathBuf, Vec<TensorInfo>);

/// The one family that knows all of `files`, a transformer among them, and the files' roles. Files without a transformer
/// are those of the first family that knows all of them.
///
/// # Errors
/// [`Error::NotAModel`]: a file that no family knows, files of different families, or files that several know.
pub(crate) fn recognise(
    families: Families,
    files: &[FileTensors],
    place: &Path,
) -> Result<(&'static dyn FamilyFiles, Vec<Role>)> {
    let bad = |path: &Path, reason: String| Err(Error::NotAModel { path: path.to_path_buf(), reason });
    let roles = |family: &'static dyn FamilyFiles| {
        let roles: Option<Vec<Role>> = files.iter().map(|(_, tensors)| family.role(tensors)).collect();
        Some((family, roles?))
    };
    let mut known: Vec<_> = families.iter().filter_map(|family| roles(*family)).collect();
    if known.iter().any(|(_, roles)| roles.contains(&Role::Transformer)) {
        known.retain(|(_, roles)| roles.contains(&Role::Transformer));
    } else {
        known.truncate(1);
    }
    match known.as_slice() {
        [_] => Ok(known.remove(0)),
        [] => {
            let mut claims = Vec::new();
            for (path, tensors) in files {
                let names = names(families.iter().filter(|family| family.role(tensors).is_some()));
                if names.is_empty() {
                    refuse_unread(path, tensors.iter().map(|tensor| tensor.name.as_str()))?;
                    return bad(path, "it is no part of a known model family".into());
                }
                claims.push(format!("`{}` ({names})", path.display()));
            }
            bad(place, format!("its files belong to different families: {}", claims.join(", ")))
        }
        several => {
            let names = names(several.iter().map(|(family, _)| family));
            let files: Vec<String> = files.iter().map(|(path, _)| format!("`{}`", path.display())).collect();
            bad(place, format!("its files fit more than one family ({names}): {}", files.join(", ")))
        }
    }
}

/// Refuses a file that holds several components: their names begin with different words.
///
/// # Errors
/// [`kinora_checkpoint::Error::NotRead`] with the components.
pub(crate) fn require_one_role(family: &dyn FamilyFiles, path: &Path, tensors: &[TensorInfo]) -> Result<()> {
    let mut groups: BTreeMap<&str, Vec<TensorInfo>> = BTreeMap::new();
    for tensor in tensors {
        let first = tensor.name.split('.').next().unwrap_or_default();
        groups.entry(first).or_default().push(tensor.clone());
    }
    let roles: BTreeSet<Role> = groups.values().filter_map(|group| family.role(group)).collect();
    if roles.len() < 2 {
        return Ok(());
    }
    let roles: Vec<&str> = roles.into_iter().map(Role::name).collect();
    let what = format!("it holds several models ({})", roles.join(", "));
    let hint = "give files with one of them each, or a diffusers folder";
    Err(kinora_checkpoint::Error::NotRead { path: path.to_path_buf(), what, hint }.into())
}

fn names<'a>(families: impl Iterator<Item = &'a &'static dyn FamilyFiles>) -> String {
    families.map(|family| family.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kinora_checkpoint::Format;

    /// A family whose files say in their tensors' names what they are: `{family}.transformer`.
    pub(crate) struct Made(pub &'static str);

    impl FamilyFiles for Made {
        fn name(&self) -> &'static str {
            self.0
        }

        fn owns_pipeline(&self, class_name: &str) -> bool {
            class_name == self.0
        }

        fn role(&self, tensors: &[TensorInfo]) -> Option<Role> {
            let owned = |tensor: &TensorInfo| tensor.name.strip_prefix(self.0).map(str::to_string);
            let name = tensors.iter().find_map(owned)?;
            Role::all().find(|role| name.strip_prefix('.') == Some(role.key()))
        }

        fn within(&self) -> &'static [Within] {
            const {
                &[
                    Within { segments: &["left"], role: Some(Role::Connectors) },
                    Within { segments: &["right"], role: Some(Role::Connectors) },
                    Within { segments: &["spare"], role: None },
                ]
            }
        }

        fn needs(&self, transformer: &[TensorInfo], _config: Option<&Value>) -> Vec<Role> {
            let sees = transformer.iter().any(|tensor| tensor.name == "sees").then_some(Role::ImageEncoder);
            [Role::Transformer, Role::Vae, Role::TextEncoder].into_iter().chain(sees).collect()
        }

        fn tokenizers(&self) -> &'static [&'static str] {
            &["words/tokenizer.json"]
        }

        fn variant(&self, transformer: &[TensorInfo], experts: usize) -> Option<&'static str> {
            let large = transformer.iter().any(|tensor| tensor.name == "large");
            match experts {
                2 => large.then_some("two"),
                _ => Some("one"),
            }
        }
    }

    pub(crate) fn tensors(names: &[&str]) -> Vec<TensorInfo> {
        let info = |name: &&str| TensorInfo { name: (*name).into(), format: Format::F32, shape: vec![1], bytes: 4 };
        names.iter().map(info).collect()
    }

    #[test]
    fn a_piece_is_below_one_of_its_segments() {
        let within = Within { segments: &["between", "between_2"], role: None };
        assert_eq!(within.start_of("model.between.0.weight"), Some("model.between."));
        assert_eq!(within.start_of("between_2.weight"), Some("between_2."));
        for name in ["between", "model.between", "model.between_3.weight", "inbetween.weight"] {
            assert_eq!(within.start_of(name), None, "{name}");
        }
    }

    #[test]
    fn the_family_that_knows_all_files_has_them() {
        let families: Families = &[&Made("a"), &Made("b")];
        let named = |files: &[&[&str]]| {
            let file = |(index, names): (usize, &&[&str])| (PathBuf::from(format!("{index}")), tensors(names));
            let files: Vec<FileTensors> = files.iter().enumerate().map(file).collect();
            let found = recognise(families, &files, Path::new("m"));
            found.map(|(family, roles)| (family.name(), roles)).map_err(|error| error.to_string())
        };
        let (shared, of_b) = (["a.vae", "b.vae"], ["b.transformer"]);
        assert_eq!(named(&[&shared, &of_b]), Ok(("b", vec![Role::Vae, Role::Transformer])));
        assert_eq!(named(&[&of_b, &shared]), Ok(("b", vec![Role::Transformer, Role::Vae])));
        assert_eq!(named(&[&shared]), Ok(("a", vec![Role::Vae])), "without a transformer the first one has it");
        assert_eq!(named(&[&["b.vae"]]), Ok(("b", vec![Role::Vae])));

        let not = |reason: &str| Err(format!("`m` is not a usable model: {reason}"));
        assert_eq!(
            named(&[&["a.text_encoder"], &shared, &of_b]),
            not("its files belong to different families: `0` (a), `1` (a, b), `2` (b)")
        );
        assert_eq!(
            named(&[&["a.transformer", "b.transformer"], &shared]),
            not("its files fit more than one family (a, b): `0`, `1`")
        );
        let unknown = "`1` is not a usable model: it is no part of a known model family";
        assert_eq!(named(&[&of_b, &["c.vae"]]), Err(unknown.into()));
    }
}
