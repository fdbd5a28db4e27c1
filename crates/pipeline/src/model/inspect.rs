//! [`inspect`]: the layout, the components and the problems of a directory or file, from headers alone.

use crate::Result;
use crate::families::{self, family_of};
use crate::model::Model;
use crate::model::component::infos;
use crate::model::family_files::Families;
use crate::model::find::{Found, Layout, TOKENIZER};
use crate::model::role::Role;
use crate::model::single_files::Recognised;
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

/// Looks at a model directory, a checkpoint file, a known model on this machine, or the embedded model (`embedded`).
///
/// # Errors
/// Nothing there, or files whose headers cannot be read.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let families = families::files();
    let found = families::find_files(&[path])?;
    let layout = found.layout.name();
    let mut parts = Vec::new();
    for component in &found.components {
        match infos(&component.weights) {
            Ok(_) if component.weights.is_empty() => {}
            Ok(tensors) => parts.push(inspected(&component.name, tensors, &families)),
            // The component's problem is reported with the others.
            Err(_) if component.problem.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    let several = problems(&found, &families);
    let model = Model::of(found, &families).and_then(|model| {
        let family = family_of(&model)?;
        family.limits(&model)?;
        family.check(&model)?;
        Ok(model)
    });
    let (family, variant, problems) = match model {
        Ok(model) => (Some(model.manifest.family), Some(model.manifest.name), Vec::new()),
        Err(error) => {
            let family = parts.iter().find_map(|part| part.family).map(str::to_string);
            (family, None, if several.is_empty() { vec![error.to_string()] } else { several })
        }
    };
    Ok(Inspection { layout, family, variant, parts, problems })
}

/// The reasons why the files are not a usable model, as far as single files show them.
fn problems(found: &Found, families: Families) -> Vec<String> {
    let Layout::Diffusers { root, .. } = &found.layout else {
        let lacking = Recognised::of(found, families).map(|files| files.lacking).unwrap_or_default();
        let shards = found.components.iter().filter_map(|component| component.problem.as_ref());
        return shards.map(ToString::to_string).chain(lacking.iter().map(|what| format!("it has no {what}"))).collect();
    };
    let loaded = found.components.iter().filter(|component| Role::of_folder(&component.name).is_some());
    let components = loaded.filter_map(|component| component.problem.as_ref()).map(ToString::to_string);
    let tokenizer = found.tokenizer.is_none().then(|| root.not_a_model(format!("{TOKENIZER} is missing")).to_string());
    components.chain(tokenizer).collect()
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
