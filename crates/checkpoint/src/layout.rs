//! [`Layout`]: how a model is stored at a path, detected from its files: a diffusers folder, a folder of original files, one
//! component, or a single file.

use crate::file::TensorFile;
use crate::index::is_plain_name;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The way in which a model is stored at a path.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Layout {
    /// A folder with `model_index.json`.
    Diffusers(DiffusersFolder),
    /// A folder with one component: `config.json` and its weights.
    Component(Component),
    /// Any other folder with weights: components in subfolders, loose files, or both (the original Wan releases).
    Folder(Folder),
    /// One safetensors file (or the index of its shards).
    Safetensors(PathBuf),
    /// One `PyTorch` file.
    Pth(PathBuf),
}

/// A folder with `model_index.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffusersFolder {
    /// The folder.
    pub path: PathBuf,
    /// The pipeline's class, such as `WanPipeline`.
    pub class_name: String,
    /// The components by name. One whose files are missing has no config and no weights.
    pub components: BTreeMap<String, Component>,
    /// The other entries of the index, such as `boundary_ratio`.
    pub settings: Map<String, Value>,
}

/// A folder with weights, but without an index of its components.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// The components by the name of their subfolder; the component in the folder itself is called "".
    pub components: BTreeMap<String, Component>,
    /// The weight files in the folder that belong to no component.
    pub files: Vec<PathBuf>,
}

/// One part of a model: its configuration and its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// The class named by the configuration or the index, such as `AutoencoderKLWan`.
    pub class_name: Option<String>,
    /// The folder.
    pub path: PathBuf,
    /// Its configuration file.
    pub config: Option<PathBuf>,
    /// Its weights for [`crate::Weights::open`]: one file or the index of the shards. Empty if it has none.
    pub weights: Vec<PathBuf>,
}

const CONFIGS: [&str; 4] =
    ["config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json"];
/// The file names that diffusers and transformers write, in the order of preference.
const STEMS: [&str; 3] = ["diffusion_pytorch_model", "model", "pytorch_model"];
const WEIGHT_ENDINGS: [&str; 4] = [".safetensors.index.json", ".safetensors", ".bin", ".pth"];

impl Layout {
    /// Detects the layout at `path`. Only directory entries and JSON files are read, and the header of a single file.
    ///
    /// # Errors
    /// A path that does not exist, an unsupported format (GGUF), JSON that is not valid, or a folder in which nothing is
    /// recognised.
    pub fn detect(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        if metadata.is_dir() { Self::detect_folder(path) } else { Self::detect_file(path) }
    }

    fn detect_file(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "model_index.json" {
            return Self::detect_folder(path.parent().unwrap_or(Path::new(".")));
        }
        if name.ends_with(".safetensors.index.json") {
            return Ok(Self::Safetensors(path.to_path_buf()));
        }
        let path = path.to_path_buf();
        Ok(if TensorFile::open(&path)?.is_pth() { Self::Pth(path) } else { Self::Safetensors(path) })
    }

    fn detect_folder(path: &Path) -> Result<Self> {
        if path.join("model_index.json").is_file() {
            return DiffusersFolder::read(path).map(Self::Diffusers);
        }
        let mut components = BTreeMap::new();
        for folder in sub_folders(path)? {
            let component = Component::read(&folder, None)?;
            if component.config.is_some() && !component.weights.is_empty() {
                components.insert(file_name(&folder), component);
            }
        }
        let own = Component::read(path, None)?;
        let files = weight_files(path)?;
        let loose: Vec<PathBuf> = if own.config.is_some() { own.loose(files)? } else { files };
        match (own.config.is_some() && !own.weights.is_empty(), components.is_empty(), loose.is_empty()) {
            (true, true, true) => return Ok(Self::Component(own)),
            (false, true, true) => {
                let problem = "no model_index.json, no config.json with weights and no weight files".to_string();
                return Err(Error::UnknownLayout { path: path.to_path_buf(), problem });
            }
            (true, ..) => {
                components.insert(String::new(), own);
            }
            (false, ..) => {}
        }
        Ok(Self::Folder(Folder { path: path.to_path_buf(), components, files: loose }))
    }
}

impl DiffusersFolder {
    fn read(path: &Path) -> Result<Self> {
        let index = path.join("model_index.json");
        let (mut class_name, mut components, mut settings) = (String::new(), BTreeMap::new(), Map::new());
        for (name, value) in read_object(&index)? {
            if let ("_class_name", Value::String(class)) = (name.as_str(), &value) {
                class_name.clone_from(class);
                continue;
            }
            match value.as_array().map(Vec::as_slice) {
                Some([Value::String(_), Value::String(class)]) => {
                    if !is_plain_name(&name) {
                        let problem = format!("component name `{name}` leads out of the model's folder");
                        return Err(Error::Invalid { path: index, problem });
                    }
                    let component = Component::read(&path.join(&name), Some(class.clone()))?;
                    components.insert(name, component);
                }
                // A component that this model does not have.
                Some([Value::Null, Value::Null]) => {}
                _ => {
                    settings.insert(name, value);
                }
            }
        }
        Ok(Self { path: path.to_path_buf(), class_name, components, settings })
    }
}

impl Component {
    fn read(path: &Path, class_name: Option<String>) -> Result<Self> {
        let config = CONFIGS.iter().map(|name| path.join(name)).find(|path| path.is_file());
        let class_name = match (class_name, &config) {
            (None, Some(config)) => class_of(&read_object(config)?),
            (class_name, _) => class_name,
        };
        let weights = if path.is_dir() { find_weights(path)? } else { Vec::new() };
        Ok(Self { class_name, path: path.to_path_buf(), config, weights })
    }

    /// Returns the files that are neither the component's weights nor their shards.
    fn loose(&self, files: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
        let mut own = self.weights.clone();
        for path in &self.weights {
            if path.extension().is_some_and(|extension| extension == "json") {
                own.extend(crate::shard_paths(path)?);
            }
        }
        Ok(files.into_iter().filter(|path| !own.contains(path)).collect())
    }
}

fn class_of(config: &Map<String, Value>) -> Option<String> {
    let named = config.get("_class_name").or_else(|| config.get("architectures")?.get(0));
    named.and_then(Value::as_str).map(str::to_string)
}

/// Returns the weights under one of their usual names, or else the only weight file in the folder.
fn find_weights(folder: &Path) -> Result<Vec<PathBuf>> {
    for ending in WEIGHT_ENDINGS {
        let usual = STEMS.iter().map(|stem| folder.join(format!("{stem}{ending}"))).find(|path| path.is_file());
        if let Some(path) = usual {
            return Ok(vec![path]);
        }
    }
    let files = weight_files(folder)?;
    let indices: Vec<PathBuf> =
        files.iter().filter(|path| path.extension().is_some_and(|e| e == "json")).cloned().collect();
    Ok(match (indices.len(), files.len()) {
        (1, _) => indices,
        (_, 1) => files,
        _ => Vec::new(),
    })
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_weights = |path: &PathBuf| {
        let name = file_name(path);
        path.is_file() && (WEIGHT_ENDINGS.iter().any(|ending| name.ends_with(ending)))
    };
    Ok(children(folder)?.into_iter().filter(is_weights).collect())
}

fn sub_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(children(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// Returns the entries of a folder, sorted, so that results do not depend on the file system.
fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let error = |source| Error::Io { path: folder.to_path_buf(), source };
    let entries = std::fs::read_dir(folder).map_err(error)?;
    let mut paths = entries.map(|entry| Ok(entry.map_err(error)?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    let problem = |e| Error::Invalid { path: path.to_path_buf(), problem: format!("not valid JSON: {e}") };
    serde_json::from_slice(&text).map_err(problem)
}
