//! [`LoraFile`]: a LoRA file, its keys put together module by module.

use super::error::LoraError;
use super::key::{Key, Part, Slot};
use super::module::{Module, Slots};
use super::scale::Peft;
use super::stored::Stored;
use crate::file::TensorFile;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A LoRA file. Opening reads its header, and the numbers called alpha; the rest is read when it is applied.
pub struct LoraFile {
    pub(super) file: Arc<TensorFile>,
    pub(super) modules: Vec<Module>,
    /// The prefixes and suffixes that its keys have.
    pub(super) naming: Naming,
    /// The file or field that alpha comes from, where keys do not say it.
    pub(super) alpha_from: Option<&'static str>,
}

/// How the keys of a file are written.
#[derive(Default)]
pub(super) struct Naming {
    pub(super) prefixes: BTreeSet<String>,
    pub(super) suffixes: BTreeSet<&'static str>,
    /// Whether modules are written with underscores for dots.
    pub(super) flat: bool,
}

impl LoraFile {
    /// Opens a LoRA, a safetensors or .pth file, and puts its keys together.
    ///
    /// # Errors
    /// A file that cannot be read or is no LoRA, and keys that are not understood or do not belong together.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(TensorFile::open(path)?)
    }

    /// Does the same as [`LoraFile::open`] with a file that is open already.
    ///
    /// # Errors
    /// A file that is no LoRA, and keys that are not understood or do not belong together.
    pub fn of(file: TensorFile) -> Result<Self> {
        let file = Arc::new(file);
        let mut groups: BTreeMap<(Part, String, bool), Slots> = BTreeMap::new();
        let mut naming = Naming::default();
        let infos = file.infos();
        if !infos.iter().any(|info| Key::of(&info.name).is_some()) {
            return Err(LoraError::None { path: file.path().to_path_buf(), tensors: infos.len() }.into());
        }
        let is_peft = infos.iter().any(|info| info.name.contains(".lora_A"));
        let peft = Peft::of(&file, is_peft)?;
        for info in &infos {
            let key = understood(&file, &info.name)?;
            if info.shape.contains(&0) {
                let (subject, problem) = (format!("key `{}`", info.name), format!("has shape {:?}", info.shape));
                return Err(LoraError::Value { path: file.path().to_path_buf(), subject, problem }.into());
            }
            naming.prefixes.insert(key.prefix.to_string());
            naming.suffixes.insert(key.suffix);
            naming.flat |= key.flat && !key.module.contains('.');
            let stored = Stored { file: file.clone(), key: info.name.clone(), shape: info.shape.clone() };
            let group = (key.part, key.module.to_string(), key.flat);
            let slots = groups.entry(group).or_insert_with(|| Slots {
                name: key.module.to_string(),
                part: key.part,
                flat: key.flat,
                stem: key.stem.to_string(),
                tensors: BTreeMap::new(),
                peft: peft.as_ref(),
            });
            if let Some((first, _)) = slots.tensors.insert(key.slot, (stored, key.counterpart())) {
                let (first, second, tensor) = (first.key, info.name.clone(), key.module.to_string());
                return Err(LoraError::Twice { path: file.path().to_path_buf(), first, second, tensor }.into());
            }
        }
        let modules = groups.into_values().map(Slots::module).collect::<Result<Vec<_>>>()?;
        let alpha_from = peft.as_ref().map(|peft| peft.source);
        Ok(Self { file, modules, naming, alpha_from })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the fields of the file's header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    /// Returns whether the file has keys of a second transformer (`transformer_2`, the expert for low noise), and whether it
    /// has others.
    pub fn experts(&self) -> [bool; 2] {
        [Part::First, Part::Second].map(|part| self.modules.iter().any(|module| module.part == part))
    }

    /// Reads all values, and returns what a user should know of them.
    ///
    /// # Errors
    /// NaN and infinite values.
    pub fn check_values(&self) -> Result<Vec<String>> {
        let mut has_effect = false;
        for piece in self.modules.iter().flat_map(|module| &module.pieces) {
            let mut is_zero = piece.factor == 0.0;
            for stored in piece.delta.factors().iter().flat_map(|factor| factor.stored()) {
                is_zero |= stored.read()?.abs()?.max_all()?.to_scalar::<f32>()? == 0.0;
            }
            if let Some(magnitude) = &piece.magnitude {
                magnitude.read()?;
                is_zero = false;
            }
            has_effect |= !is_zero;
        }
        let path = self.path().display();
        let none = || format!("{path} changes nothing: all its changes are zero");
        Ok(if has_effect { Vec::new() } else { vec![none()] })
    }
}

/// Takes a key apart.
fn understood<'a>(file: &TensorFile, name: &'a str) -> Result<Key<'a>> {
    let (path, key) = (|| file.path().to_path_buf(), name.to_string());
    match Key::of(name) {
        None => Err(Error::from(LoraError::Suffix { path: path(), key })),
        Some(Key { slot: Slot::Refused(what), .. }) => Err(LoraError::Refused { path: path(), key, what }.into()),
        Some(Key { part: Part::Text, .. }) => {
            Err(LoraError::Refused { path: path(), key, what: "a LoRA of a text encoder" }.into())
        }
        Some(key) => Ok(key),
    }
}
