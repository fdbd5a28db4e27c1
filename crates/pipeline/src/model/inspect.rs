//! [`inspect`]: the layout, the components and the problems of a directory or file, from headers alone.

use crate::families::{self, checked};
use crate::model::Model;
use crate::model::component::Files;
use crate::model::family_files::Families;
use crate::model::find::{ComponentFiles, Found, Layout};
use crate::model::role::Role;
use crate::model::single_files::{Recognised, networks};
use crate::{Error, Result, hub};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A place, and the files there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// `embedded`, `diffusers directory`, `component directory`, `directory of single files` or `single file`.
    pub layout: &'static str,
    /// The model family, if the parts belong to one.
    pub family: Option<String>,
    /// The known variant, or the name that is used for an unknown one.
    pub variant: Option<String>,
    /// The parts that have weights.
    pub parts: Vec<PartInspection>,
    /// The reasons why the files are not a usable model; empty if they are.
    pub problems: Vec<String>,
    /// What a user should know of a usable model.
    pub notes: Vec<String>,
    /// What to do about the problems, where that is known.
    pub hint: Option<String>,
}

/// One part with weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartInspection {
    /// Name of the component's folder or file.
    pub name: String,
    /// The first family that knows it.
    pub family: Option<&'static str>,
    /// What it is, such as `transformer`, `VAE` or `text encoder`, if a family knows it.
    pub role: Option<&'static str>,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of the tensors.
    pub bytes: u64,
    /// The format of its files: `safetensors`, `GGUF` or `PyTorch`.
    pub format: &'static str,
    /// Its tensors by their types, such as `BF16` or `Q4_K`.
    pub types: BTreeMap<String, TypeInspection>,
    /// Every tensor: name, dtype, shape.
    pub tensors: Vec<(String, String, Vec<usize>)>,
}

/// The tensors of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TypeInspection {
    /// How many there are.
    pub tensors: u64,
    /// Their parameters.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Looks at what `argument` names as `--model` does: a model directory, checkpoint files, a known model on this machine, or
/// the embedded model (`embedded`). Everything that a run would open is opened and checked.
///
/// # Errors
/// Nothing there, or nothing that can be read.
pub fn inspect(argument: &[impl AsRef<Path>]) -> Result<Inspection> {
    let families = families::files();
    let found = families::find_files(argument)?;
    let layout = found.layout.name();
    let (mut parts, mut errors) = (Vec::new(), Vec::new());
    for component in found.components.iter().chain(&found.beside) {
        match inspected(component, &families) {
            Ok(_) if component.weights.blobs.is_empty() => {}
            Ok(networks) => parts.extend(networks),
            // The component's problem is reported with the others.
            Err(_) if component.problem.is_some() => {}
            Err(error) => errors.push(error),
        }
    }
    if parts.is_empty() && !errors.is_empty() {
        return Err(errors.swap_remove(0));
    }
    let several = problems(&found, &families);
    let model = Model::of(found, &families, &hub::complete).and_then(|model| {
        let (_, limits, notices) = checked(&model)?;
        Ok((model, limits, notices))
    });
    let mut inspection =
        Inspection { layout, family: None, variant: None, parts, problems: several, notes: Vec::new(), hint: None };
    match model {
        Ok((model, limits, notices)) => {
            let scheduler = limits.scheduler.and_then(|scheduler| scheduler.sampler.err());
            inspection.notes.extend(scheduler.map(|reason| format!("a run needs to name a sampler: {reason}")));
            inspection.notes.extend(notices);
            inspection.family = Some(model.manifest.family);
            inspection.variant = Some(model.manifest.name);
        }
        Err(error) => {
            inspection.family = inspection.parts.iter().find_map(|part| part.family).map(str::to_string);
            inspection.hint = errors.iter().chain([&error]).find_map(hint);
            if errors.is_empty() && inspection.problems.is_empty() {
                errors.push(error);
            }
            inspection.problems.extend(errors.iter().map(ToString::to_string));
        }
    }
    Ok(inspection)
}

/// The hint of a problem; that of [`Error::NotAModel`] is to inspect the model.
fn hint(error: &Error) -> Option<String> {
    error.hint().filter(|_| !matches!(error, Error::NotAModel { .. }))
}

/// The reasons why the files are not a usable model, as far as single files show them.
fn problems(found: &Found, families: Families) -> Vec<String> {
    let named = |component: &&ComponentFiles| {
        let is_diffusers = matches!(found.layout, Layout::Diffusers { .. });
        !is_diffusers || Role::of_folder(&component.name).is_some()
    };
    let components = found.components.iter().filter(named).filter_map(|component| component.problem.as_ref());
    let mut problems: Vec<String> = components.map(ToString::to_string).collect();
    if matches!(found.layout, Layout::Diffusers { .. }) {
        problems.extend(found.tokenizer_problem().map(|problem| problem.to_string()));
    } else {
        let lacking = Recognised::of(found, families, &hub::complete).map(|files| files.lacking).unwrap_or_default();
        problems.extend(lacking.iter().map(|what| format!("it has no {what}")));
    }
    problems
}

/// The networks in the files of a component: several, where one file holds several.
fn inspected(component: &ComponentFiles, families: Families) -> Result<Vec<PartInspection>> {
    let networks = networks(std::slice::from_ref(component), families)?;
    networks.into_iter().map(|(files, ..)| inspected_part(&component.name, &files, families)).collect()
}

fn inspected_part(name: &str, files: &Files, families: Families) -> Result<PartInspection> {
    let (format, tensors) = (files.format()?, files.infos()?);
    let mut types: BTreeMap<String, TypeInspection> = BTreeMap::new();
    for tensor in &tensors {
        let same = types.entry(tensor.format.to_string()).or_default();
        same.tensors += 1;
        same.parameters += tensor.shape.iter().product::<usize>() as u64;
        same.bytes += tensor.bytes as u64;
    }
    let (parameters, bytes) = types.values().fold((0, 0), |sum, same| (sum.0 + same.parameters, sum.1 + same.bytes));
    let known = families.iter().find_map(|family| Some((family.name(), family.role(&tensors)?.name())));
    let (family, role) = known.unzip();
    let tensors = tensors.into_iter().map(|tensor| (tensor.name, tensor.format.to_string(), tensor.shape)).collect();
    let below: Vec<String> = files.share.below.iter().map(|start| format!("{start}*")).collect();
    let name = if below.is_empty() { name.to_string() } else { format!("{name} {}", below.join(", ")) };
    Ok(PartInspection { name, family, role, parameters, bytes, format, types, tensors })
}
