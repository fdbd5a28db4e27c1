//! [`Model`]: which files make a model, wherever they come from.
//!
//! Three places: the model compiled into the library, a directory in diffusers' layout (or in the layout of the
//! original Wan release), or single files as people collect them.

use crate::families::family::Family;
use crate::families::{FAMILIES, Role};
use crate::model::embedded;
use crate::model::manifest::{Caches, Manifest};
use crate::model::scheduler::Scheduler;
use crate::{Error, Result};
use candle_core::{DType, Device};
use kinora_checkpoint::{KeyMap, Layout, TensorFile, TensorInfo, Weights};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The name of the model that is compiled in.
pub(crate) const EMBEDDED: &str = "embedded";

/// The files of a model, and what is known about it.
pub(crate) struct Model {
    /// What the caller asked for.
    pub argument: Vec<String>,
    /// Where it is, for messages.
    pub place: PathBuf,
    pub manifest: Manifest,
    /// One, or the high-noise and the low-noise expert.
    pub transformers: Vec<Part>,
    pub vae: Part,
    pub text_encoder: Part,
    /// Of models that look at pictures.
    pub image_encoder: Option<Part>,
    /// `preprocessor_config.json` of the image encoder, where there is one.
    pub image_processor: Option<Value>,
    pub tokenizer: Blob,
    /// Noise level (of 1) below which the second expert works.
    pub boundary: Option<f64>,
    /// Whether latent frames can be given without noise.
    pub clean_frames: bool,
    /// Sampler and shift, where the model's own files say them.
    pub scheduler: Option<Scheduler>,
}

/// One network: its configuration, if there is a file of it, and its weights; no files mean random weights.
pub(crate) struct Part {
    pub config: Option<Value>,
    pub weights: Vec<Blob>,
}

/// Makes every word one token, for models that have no files: only the number of tokens matters to them.
const WORDS: &[u8] =
    br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [], "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
    "model": {"type": "WordLevel", "vocab": {"<pad>": 0, "</s>": 1, "<unk>": 2}, "unk_token": "<unk>"}}"#;

/// A file on disk or in the program.
#[derive(Debug, Clone)]
pub(crate) enum Blob {
    File(PathBuf),
    Static(&'static str, &'static [u8]),
}

/// A directory, on disk or in the program.
enum Root {
    Directory(PathBuf),
    Embedded,
}

impl Model {
    /// Finds the model that `argument` names: a known name, a directory, or single files.
    pub(crate) fn find(argument: &[String]) -> Result<Self> {
        let mut model = match argument {
            [name] if name == EMBEDDED => Self::directory(&Root::Embedded)?,
            [one] if Path::new(one).is_dir() => Self::any_directory(Path::new(one))?,
            [one] if !Path::new(one).exists() => Self::known(one)?,
            files => {
                let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
                let first = files.first().cloned().unwrap_or_default();
                Self::single_files(files, &first)?
            }
        };
        model.argument = argument.to_vec();
        Ok(model)
    }

    fn known(name: &str) -> Result<Self> {
        let manifest = known_manifest(name)?;
        let cached =
            manifest.repository.as_deref().and_then(crate::hub::cached).ok_or_else(|| Error::UnknownModel {
                name: format!("{name}` on this machine, only its manifest: `{}", manifest.title),
                hint: format!("`kinora pull {name}` downloads it; or give the directory where it is"),
            })?;
        let mut model = Self::directory(&Root::Directory(cached))?;
        model.manifest = manifest;
        Ok(model)
    }

    /// Bytes of weights that are compiled into the program.
    pub(crate) fn bytes_in_program(&self) -> u64 {
        let parts = self.transformers.iter().chain([&self.vae, &self.text_encoder]).chain(&self.image_encoder);
        let bytes = |blob: &Blob| match blob {
            Blob::File(_) => 0,
            Blob::Static(_, bytes) => bytes.len() as u64,
        };
        parts.flat_map(|part| &part.weights).map(bytes).sum()
    }

    /// Whether `name` is that of a known variant whose files are not here.
    pub(crate) fn is_known_only(name: &str) -> bool {
        !Path::new(name).exists()
            && known_manifest(name).is_ok_and(|manifest| {
                manifest.repository.as_deref().is_none_or(|repository| crate::hub::cached(repository).is_none())
            })
    }

    /// The architecture of a known variant, with random weights.
    pub(crate) fn random(name: &str) -> Result<Self> {
        let manifest = known_manifest(name)?;
        let part = |config: Option<Value>| Part { config, weights: Vec::new() };
        let experts = if manifest.boundary.is_some() { 2 } else { 1 };
        let sees = manifest.transformer.as_ref().is_some_and(|config| config["image_dim"].is_u64());
        Ok(Self {
            argument: vec![name.to_string()],
            place: name.into(),
            transformers: (0..experts).map(|_| part(manifest.transformer.clone())).collect(),
            vae: part(None),
            text_encoder: part(None),
            image_encoder: sees.then(|| part(None)),
            image_processor: None,
            clean_frames: manifest.clean_frames,
            tokenizer: Blob::Static("tokenizer.json", WORDS),
            boundary: manifest.boundary,
            scheduler: None,
            manifest,
        })
    }

    fn any_directory(path: &Path) -> Result<Self> {
        if path.join("model_index.json").exists() {
            return Self::directory(&Root::Directory(path.to_path_buf()));
        }
        let (mut files, components) = match Layout::detect(path)? {
            Layout::Component(component) => (Vec::new(), vec![component]),
            Layout::Folder(folder) => (folder.files, folder.components.into_values().collect()),
            _ => (Vec::new(), Vec::new()),
        };
        files.extend(components.into_iter().flat_map(|component| component.weights));
        files.extend(tokenizer_in(path));
        Self::single_files(files, path)
    }

    fn directory(root: &Root) -> Result<Self> {
        let index = root.json("model_index.json")?.ok_or_else(|| root.not_a_model("model_index.json is missing"))?;
        let class_name = index["_class_name"].as_str().unwrap_or_default();
        let family = FAMILIES
            .iter()
            .find(|family| family.owns_pipeline(class_name))
            .ok_or_else(|| root.not_a_model(&format!("its pipeline `{class_name}` is not supported")))?;
        let mut transformers = vec![root.part("transformer")?];
        if index["transformer_2"][0].is_string() {
            transformers.push(root.part("transformer_2")?);
        }
        let manifest = match root.text("manifest.toml")? {
            Some(text) => Manifest::parse(&text, &root.path("manifest.toml"))?,
            None => manifest_of(*family, &transformers, &root.path(""))?,
        };
        let scheduler = root.json("scheduler/scheduler_config.json")?;
        let sees = index["image_encoder"][0].is_string();
        let tokenizer = root.file("tokenizer/tokenizer.json");
        Ok(Self {
            argument: Vec::new(),
            place: root.path(""),
            transformers,
            vae: root.part("vae")?,
            text_encoder: root.part("text_encoder")?,
            image_encoder: sees.then(|| root.part("image_encoder")).transpose()?,
            image_processor: root.json("image_processor/preprocessor_config.json")?,
            clean_frames: index["expand_timesteps"] == true || manifest.clean_frames,
            tokenizer: tokenizer.ok_or_else(|| root.not_a_model("tokenizer/tokenizer.json is missing"))?,
            boundary: index["boundary_ratio"].as_f64(),
            manifest,
            scheduler: scheduler.as_ref().map(Scheduler::from_config),
        })
    }

    /// `place` is where they are, for messages.
    fn single_files(files: Vec<PathBuf>, place: &Path) -> Result<Self> {
        let bad = |path: &Path, reason: &str| Error::NotAModel { path: path.to_path_buf(), reason: reason.to_string() };
        let (mut transformers, mut tokenizer) = (Vec::new(), None);
        let (mut vae, mut text_encoder, mut image_encoder) = (None, None, None);
        let mut found: Option<&'static dyn Family> = None;
        for path in files {
            if path.file_name().is_some_and(|name| name == "tokenizer.json") {
                tokenizer = Some(Blob::File(path));
                continue;
            }
            let part = Part { config: None, weights: vec![Blob::File(path.clone())] };
            let infos = part.infos()?;
            let known = FAMILIES.iter().find_map(|family| Some((*family, family.role(&infos)?)));
            let (family, role) = known.ok_or_else(|| bad(&path, "it is no part of a known model family"))?;
            found = Some(family);
            let taken = match role {
                Role::Transformer => {
                    transformers.push((path.clone(), part));
                    false
                }
                Role::Vae => vae.replace(part).is_some(),
                Role::TextEncoder => text_encoder.replace(part).is_some(),
                Role::ImageEncoder => image_encoder.replace(part).is_some(),
            };
            if taken {
                return Err(bad(&path, "the same part of the model is given twice"));
            }
        }
        let sees = match (found, transformers.first()) {
            (Some(family), Some((_, part))) => family.needs_image_encoder(&part.infos()?),
            _ => false,
        };
        let has = [
            (Role::Transformer, !transformers.is_empty()),
            (Role::Vae, vae.is_some()),
            (Role::TextEncoder, text_encoder.is_some()),
            (Role::ImageEncoder, image_encoder.is_some()),
        ];
        let roles: Vec<Role> = has.into_iter().filter(|(_, has)| *has).map(|(role, _)| role).collect();
        let lacking = lacking(&roles, tokenizer.is_some(), sees);
        let (Some(family), Some(vae), Some(text_encoder), Some(tokenizer), true) =
            (found, vae, text_encoder, tokenizer, lacking.is_empty())
        else {
            let reason = format!("it has no {}; the files after --model need to be all parts", lacking.join(", no "));
            return Err(bad(place, &reason));
        };
        if let [(path, part)] = transformers.as_slice()
            && is_lone_expert(path, family, &part.infos()?)
        {
            return Err(bad(path, "by its name it is one of two experts: give both files after --model"));
        }
        let transformers = experts(transformers)?;
        let manifest = manifest_of(family, &transformers, place)?;
        Ok(Self {
            argument: Vec::new(),
            boundary: if transformers.len() == 2 { manifest.boundary } else { None },
            clean_frames: manifest.clean_frames,
            manifest,
            transformers,
            vae,
            text_encoder,
            image_encoder: image_encoder.filter(|_| sees),
            image_processor: None,
            tokenizer,
            scheduler: None,
            place: place.to_path_buf(),
        })
    }
}

impl Part {
    /// Names, dtypes and shapes in the files.
    pub(crate) fn infos(&self) -> Result<Vec<TensorInfo>> {
        Ok(self.files()?.iter().flat_map(TensorFile::infos).collect())
    }

    /// The weights under canonical names, by the one of `key_maps` that knows all of them.
    pub(crate) fn weights(
        &self,
        key_maps: &[&KeyMap],
        device: &Device,
        dtype: DType,
    ) -> kinora_checkpoint::Result<Weights> {
        if self.weights.is_empty() {
            return Ok(Weights::random(0, device, dtype));
        }
        Weights::from_files(self.files()?, key_maps, device, dtype)
    }

    /// The same without data: only names, shapes and dtypes.
    pub(crate) fn headers(&self, key_maps: &[&KeyMap], dtype: DType) -> kinora_checkpoint::Result<Weights> {
        if self.weights.is_empty() {
            return Ok(Weights::recorder_of(dtype));
        }
        Weights::headers_only(self.files()?, key_maps, dtype)
    }

    fn files(&self) -> kinora_checkpoint::Result<Vec<TensorFile>> {
        let files = self.weights.iter().map(Blob::tensor_files).collect::<kinora_checkpoint::Result<Vec<_>>>()?;
        Ok(files.into_iter().flatten().collect())
    }
}

impl Blob {
    /// All bytes.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path).map_err(|source| Error::Io { path: path.clone(), source }),
            Self::Static(_, bytes) => Ok(bytes.to_vec()),
        }
    }

    fn tensor_files(&self) -> kinora_checkpoint::Result<Vec<TensorFile>> {
        match self {
            Self::File(path) => TensorFile::open_all(path),
            Self::Static(name, bytes) => Ok(vec![TensorFile::from_static(name, bytes)?]),
        }
    }
}

impl Root {
    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Directory(path) if name.is_empty() => path.clone(),
            Self::Directory(path) => path.join(name),
            Self::Embedded => Path::new("(embedded)").join(name),
        }
    }

    fn file(&self, name: &str) -> Option<Blob> {
        match self {
            Self::Directory(path) => Some(path.join(name)).filter(|path| path.is_file()).map(Blob::File),
            Self::Embedded => embedded::file(name),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(blob) = self.file(name) else { return Ok(None) };
        let bad = |_| self.bad_file(name, "it is not UTF-8 text".into());
        String::from_utf8(blob.read()?).map(Some).map_err(bad)
    }

    fn json(&self, name: &str) -> Result<Option<Value>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| self.bad_file(name, format!("it is not JSON: {error}")))
    }

    /// The network in the directory `name`.
    fn part(&self, name: &str) -> Result<Part> {
        let config = self.json(&format!("{name}/config.json"))?;
        let config = config.ok_or_else(|| self.not_a_model(&format!("{name}/config.json is missing")))?;
        let stems = ["diffusion_pytorch_model", "model"];
        let endings = ["safetensors.index.json", "safetensors"];
        let candidates = stems.iter().flat_map(|stem| endings.map(|ending| format!("{name}/{stem}.{ending}")));
        let weights = candidates.filter_map(|path| self.file(&path)).take(1).collect::<Vec<_>>();
        if weights.is_empty() {
            return Err(self.not_a_model(&format!("{name} has no .safetensors weights")));
        }
        Ok(Part { config: Some(config), weights })
    }

    fn bad_file(&self, name: &str, reason: String) -> Error {
        Error::BadFile { path: self.path(name), reason, hint: "the file is damaged: download it again" }
    }

    fn not_a_model(&self, reason: &str) -> Error {
        Error::NotAModel { path: self.path(""), reason: reason.to_string() }
    }
}

fn known_manifest(name: &str) -> Result<Manifest> {
    let known = Manifest::known();
    let names: Vec<&str> = known.iter().map(|manifest| manifest.name.as_str()).collect();
    let hint = format!("there is no such file or directory; known names: {EMBEDDED}, {}", names.join(", "));
    let found = known.iter().find(|manifest| manifest.name == name).cloned();
    found.ok_or_else(|| Error::UnknownModel { name: name.to_string(), hint })
}

/// The manifest of the known variant that the transformers belong to; an unknown size gets the family's smallest
/// variant's defaults under its own name.
fn manifest_of(family: &dyn Family, transformers: &[Part], place: &Path) -> Result<Manifest> {
    let variant = family.variant(&transformers[0].infos()?, transformers.len());
    let mut known = Manifest::known().into_iter().filter(|manifest| manifest.family == family.name());
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let nearest = match variant {
        Some(variant) => known.find(|manifest| manifest.name == variant),
        None => known.next().map(|manifest| Manifest {
            name,
            repository: None,
            transformer: None,
            caches: Caches::default(),
            ..manifest
        }),
    };
    nearest.ok_or_else(|| Error::NotAModel { path: place.to_path_buf(), reason: "its variant is not known".into() })
}

/// Everything that keeps what lies at `path` from being a model, as far as its files show one by one; `roles` are those
/// of its single files.
pub(crate) fn problems(path: &Path, roles: &[Role]) -> Vec<String> {
    if path.join("model_index.json").exists() {
        let root = Root::Directory(path.to_path_buf());
        let parts = ["transformer", "vae", "text_encoder"].iter().filter_map(|name| root.part(name).err());
        let tokenizer = root.file("tokenizer/tokenizer.json").is_none();
        let missing = tokenizer.then(|| root.not_a_model("tokenizer/tokenizer.json is missing"));
        return parts.chain(missing).map(|error| error.to_string()).collect();
    }
    lacking(roles, tokenizer_in(path).is_some(), false).iter().map(|what| format!("it has no {what}")).collect()
}

/// What a model that `sees` pictures or not needs besides the parts with these roles.
fn lacking(roles: &[Role], has_tokenizer: bool, sees: bool) -> Vec<&'static str> {
    let needed = Role::ALL.into_iter().filter(|role| sees || *role != Role::ImageEncoder);
    let parts = needed.filter(|role| !roles.contains(role)).map(Role::name);
    parts.chain((!has_tokenizer).then_some("tokenizer.json")).collect()
}

/// The tokenizer in a directory of single files, or of an original release.
fn tokenizer_in(directory: &Path) -> Option<PathBuf> {
    let names = ["tokenizer.json", "google/umt5-xxl/tokenizer.json"];
    names.iter().map(|name| directory.join(name)).find(|path| path.is_file())
}

/// Whether a transformer that could be one of two experts says so in the name of its file or folder: by its shapes it
/// cannot be told from a model with one.
fn is_lone_expert(path: &Path, family: &dyn Family, tensors: &[TensorInfo]) -> bool {
    let own: PathBuf = path.components().rev().take(2).collect();
    let plain: String = own.to_string_lossy().to_lowercase().replace(['-', '_', ' ', '.'], "");
    family.variant(tensors, 2).is_some() && (plain.contains("highnoise") || plain.contains("lownoise"))
}

/// One transformer as it is, two in the order high noise, low noise, told apart by their paths.
fn experts(mut transformers: Vec<(PathBuf, Part)>) -> Result<Vec<Part>> {
    // Only what differs counts: `workflows/` above both files says nothing.
    let level = |path: &Path, other: &Path| {
        let shared = path.components().zip(other.components()).take_while(|(a, b)| a == b).count();
        let own: PathBuf = path.components().skip(shared).collect();
        let own = own.to_string_lossy().to_lowercase();
        (own.contains("high"), own.contains("low"))
    };
    let bad = |path: &Path, reason: &str| Error::NotAModel { path: path.to_path_buf(), reason: reason.to_string() };
    match transformers.as_slice() {
        [] | [_] => {}
        [(a, _), (b, _)] => match (level(a, b), level(b, a)) {
            ((true, false), (false, true)) => {}
            ((false, true), (true, false)) => transformers.swap(0, 1),
            _ => return Err(bad(a, "of two transformers one must have `high` and the other `low` in its name")),
        },
        [(path, _), ..] => return Err(bad(path, "more than two transformers are given")),
    }
    Ok(transformers.into_iter().map(|(_, part)| part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_expert_is_known_by_its_name() {
        let family = FAMILIES[0];
        let patch = |dim: usize| {
            let (name, dtype) = ("patch_embedding.weight".to_string(), DType::BF16);
            let shape = vec![dim, 16, 1, 2, 2];
            [TensorInfo { name, dtype: dtype.into(), bytes: 2 * shape.iter().product::<usize>(), shape }]
        };
        let lone = |path: &str, dim| is_lone_expert(Path::new(path), family, &patch(dim));
        assert!(lone("wan2.2_t2v_high_noise_14B_fp16.safetensors", 5120));
        assert!(lone("m/Low-Noise-Model/model.safetensors", 5120));
        assert!(!lone("low_noise/m/wan2.1_14B_lowvram.safetensors", 5120));
        assert!(!lone("high_noise.safetensors", 1536), "no model of this size has experts");
    }

    #[test]
    fn experts_are_told_apart_by_what_differs_in_their_paths() {
        let part = |path: &str| (PathBuf::from(path), Part { config: None, weights: vec![Blob::File(path.into())] });
        let order = |a: &str, b: &str| {
            let sorted = experts(vec![part(a), part(b)]).ok()?;
            let Blob::File(first) = &sorted[0].weights[0] else { return None };
            Some(first.to_string_lossy().into_owned())
        };
        let (high, low) = ("workflows/wan_high.safetensors", "workflows/wan_low.safetensors");
        assert_eq!(order(high, low).as_deref(), Some(high));
        assert_eq!(order(low, high).as_deref(), Some(high));
        let (high, low) = ("m/high_noise_model/w.safetensors", "m/low_noise_model/w.safetensors");
        assert_eq!(order(low, high).as_deref(), Some(high));
        assert_eq!(order("flow/a.safetensors", "flow/b.safetensors"), None);
    }
}
