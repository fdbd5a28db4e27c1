//! [`inspect`]: the layout, the components and the problems of a directory or file, from headers alone.

use crate::families::{self, checked};
use crate::model::Model;
use crate::model::component::infos;
use crate::model::family_files::Families;
use crate::model::find::{ComponentFiles, Found, Layout};
use crate::model::role::Role;
use crate::model::single_files::Recognised;
use crate::{Error, Result};
use kinora_checkpoint::TensorInfo;
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
    /// `transformer`, `VAE`, `text encoder` or `image encoder`, if a family knows it.
    pub role: Option<&'static str>,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of the tensors.
    pub bytes: u64,
    /// Parameters per dtype.
    pub dtypes: BTreeMap<String, u64>,
    /// Every tensor: name, dtype, shape.
    pub tensors: Vec<(String, String, Vec<usize>)>,
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
    for component in &found.components {
        match infos(&component.weights) {
            Ok(_) if component.weights.is_empty() => {}
            Ok(tensors) => parts.push(inspected(&component.name, tensors, &families)),
            // The component's problem is reported with the others.
            Err(_) if component.problem.is_some() => {}
            Err(error) => errors.push(error),
        }
    }
    if parts.is_empty() && !errors.is_empty() {
        return Err(errors.swap_remove(0));
    }
    let several = problems(&found, &families);
    let model = Model::of(found, &families).and_then(|model| {
        let (_, limits, notices) = checked(&model)?;
        Ok((model, limits, notices))
    });
    let mut inspection =
        Inspection { layout, family: None, variant: None, parts, problems: several, notes: Vec::new(), hint: None };
    match model {
        Ok((model, limits, notices)) => {
            let scheduler = limits.scheduler.and_then(|scheduler| scheduler.sampler.err());
            inspection.notes.extend(scheduler.map(|reason| format!("a run needs --sampler: {reason}")));
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
        let lacking = Recognised::of(found, families).map(|files| files.lacking).unwrap_or_default();
        problems.extend(lacking.iter().map(|what| format!("it has no {what}")));
    }
    problems
}

fn inspected(name: &str, tensors: Vec<TensorInfo>, families: Families) -> PartInspection {
    let mut dtypes = BTreeMap::new();
    let (mut parameters, mut bytes) = (0, 0);
    for tensor in &tensors {
        let count = tensor.shape.iter().product::<usize>() as u64;
        *dtypes.entry(format!("{:?}", tensor.dtype)).or_default() += count;
        parameters += count;
        bytes += tensor.bytes as u64;
    }
    let known = families.iter().find_map(|family| Some((family.name(), family.role(&tensors)?.name())));
    let (family, role) = known.unzip();
    let tensors =
        tensors.into_iter().map(|tensor| (tensor.name, format!("{:?}", tensor.dtype), tensor.shape)).collect();
    PartInspection { name: name.to_string(), family, role, parameters, bytes, dtypes, tensors }
}
