//! [`inspect`]: what a directory or file is, what it holds and what is missing, from headers alone.

use crate::Result;
use crate::families::{FAMILIES, Role, family_of};
use crate::model::source::{EMBEDDED, Model, problems};
use kinora_checkpoint::{Layout, TensorFile, TensorInfo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// `embedded`, `diffusers directory`, `directory of single files` or `single file`.
    pub layout: &'static str,
    /// The model family, if the parts belong to one.
    pub family: Option<String>,
    /// The known variant, or the name that is used for an unknown one.
    pub variant: Option<String>,
    /// The parts that have weights.
    pub parts: Vec<PartInspection>,
    /// Why it cannot be used as a model as it is; empty when it can.
    pub problems: Vec<String>,
}

/// One part with weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartInspection {
    /// Name of the component or file.
    pub name: String,
    /// The family that it belongs to.
    pub family: Option<&'static str>,
    /// `transformer`, `VAE`, `text encoder`, or nothing that is known.
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

/// Looks at a model directory, a checkpoint file, or the embedded model (`embedded`).
///
/// # Errors
/// Nothing there, or files whose headers cannot be read.
pub fn inspect(path: &Path) -> Result<Inspection> {
    if path == Path::new(EMBEDDED) && !path.exists() {
        let model = Model::find(&[EMBEDDED.to_string()])?;
        let named =
            [("transformer", &model.transformers[0]), ("vae", &model.vae), ("text_encoder", &model.text_encoder)];
        let parts = named.iter().map(|(name, part)| Ok(inspected(name, part.infos()?))).collect::<Result<Vec<_>>>()?;
        return Ok(finished("embedded", parts, path));
    }
    let layout = Layout::detect(path)?;
    let (name, weights): (_, Vec<(String, PathBuf)>) = match layout {
        Layout::Diffusers(folder) => ("diffusers directory", named_weights(folder.components)),
        Layout::Component(component) => ("component directory", named_weights([(String::new(), component)].into())),
        Layout::Folder(folder) => {
            let mut weights = named_weights(folder.components);
            weights.extend(folder.files.into_iter().map(|file| (file_name(&file), file)));
            ("directory of single files", weights)
        }
        Layout::Safetensors(file) | Layout::Pth(file) => ("single file", vec![(file_name(&file), file)]),
        _ => ("unknown", Vec::new()),
    };
    let mut parts = Vec::new();
    for (part, file) in weights {
        let files = TensorFile::open_all(&file)?;
        parts.push(inspected(&part, files.iter().flat_map(TensorFile::infos).collect()));
    }
    Ok(finished(name, parts, path))
}

fn named_weights(components: BTreeMap<String, kinora_checkpoint::Component>) -> Vec<(String, PathBuf)> {
    let weights = |(name, component): (String, kinora_checkpoint::Component)| {
        component.weights.into_iter().map(move |file| (name.clone(), file))
    };
    components.into_iter().flat_map(weights).collect()
}

fn inspected(name: &str, infos: Vec<TensorInfo>) -> PartInspection {
    let mut dtypes = BTreeMap::new();
    let (mut parameters, mut bytes) = (0, 0);
    for info in &infos {
        let count = info.shape.iter().product::<usize>() as u64;
        *dtypes.entry(format!("{:?}", info.dtype)).or_default() += count;
        parameters += count;
        bytes += info.bytes as u64;
    }
    let known = FAMILIES.iter().find_map(|family| Some((family.name(), family.role(&infos)?)));
    let (family, role) = known.map(|(family, role)| (family, role.name())).unzip();
    let tensors = infos.into_iter().map(|info| (info.name, format!("{:?}", info.dtype), info.shape)).collect();
    PartInspection { name: name.to_string(), family, role, parameters, bytes, dtypes, tensors }
}

/// Adds what only the whole model shows: whether it would load.
fn finished(layout: &'static str, parts: Vec<PartInspection>, path: &Path) -> Inspection {
    let found = Model::find(&[path.to_string_lossy().into_owned()]).and_then(|model| {
        let family = family_of(&model)?;
        family.limits(&model)?;
        family.check(&model)?;
        Ok(model)
    });
    let (family, variant, problems) = match found {
        Ok(model) => (Some(model.manifest.family.clone()), Some(model.manifest.name), Vec::new()),
        Err(error) => {
            let role = |part: &PartInspection| Role::ALL.into_iter().find(|role| Some(role.name()) == part.role);
            let roles: Option<Vec<Role>> = parts.iter().map(role).collect();
            let several = roles.map(|roles| problems(path, &roles)).filter(|several| !several.is_empty());
            let family = parts.iter().find_map(|part| part.family).map(str::to_string);
            (family, None, several.unwrap_or_else(|| vec![error.to_string()]))
        }
    };
    Inspection { layout, family, variant, parts, problems }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
