//! The finder on small made-up directories.

use super::*;
use crate::model::Model;
use crate::model::family_files::tests::Made;
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::save_safetensors;
use std::collections::BTreeMap;
use tempfile::TempDir;

const FAMILIES: &[&dyn FamilyFiles] = &[&Made("a"), &Made("b")];
const INDEX: &str = r#"{"_class_name": "a", "scheduler": ["diffusers", "Scheduler"], "image_encoder": [null, null],
    "transformer": ["diffusers", "Transformer"], "transformer_2": ["diffusers", "Transformer"]}"#;

pub(super) struct Folder(TempDir);

impl Folder {
    /// A folder with files: text where a name says JSON, else weights with one tensor, `{family}.{role}` or any other.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        for (name, content) in files {
            let path = folder.path(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            if path.extension().is_some_and(|extension| extension == "json") {
                std::fs::write(path, content).expect("a file");
            } else {
                let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu).expect("a tensor");
                save_safetensors(&path, &[((*content).to_string(), tensor)], &BTreeMap::new()).expect("a file");
            }
        }
        folder
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.0.path().to_path_buf() } else { self.0.path().join(name) }
    }

    /// An argument that names this file, as an expert or not.
    pub(super) fn argument(&self, name: &str) -> PathBuf {
        match name.split_once('=') {
            Some((expert, name)) => format!("{expert}={}", self.path(name).display()).into(),
            None => self.path(name),
        }
    }

    fn find(&self, names: &[&str]) -> Result<Found> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        find(&paths, FAMILIES, &|_| Err(None))
    }

    /// One line per component: its name, and its weights or its problem.
    fn found(&self, names: &[&str]) -> Vec<String> {
        let found = self.find(names).expect("files");
        let line = |component: &ComponentFiles| {
            let weights: Vec<String> = component.weights.blobs.iter().map(|blob| self.relative(blob.path())).collect();
            let problem = component.problem.as_ref().map(|problem| format!(": {}", self.plain(problem)));
            format!("{} = {}{}", component.name, weights.join(" "), problem.unwrap_or_default())
        };
        found.components.iter().map(line).collect()
    }

    /// The reason why the files are not a model.
    fn refusal(&self, names: &[&str]) -> String {
        let model = self.find(names).and_then(|found| Model::of(found, FAMILIES, &|_| Err(None)));
        self.plain(&model.err().expect("no model"))
    }

    pub(super) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.0.path()).expect("below the folder").to_string_lossy().into_owned()
    }

    pub(super) fn plain(&self, error: &Error) -> String {
        let folder = self.0.path().to_string_lossy().into_owned();
        error.to_string().replace(&format!("{folder}/"), "").replace(&folder, "FOLDER")
    }
}

/// A whole diffusers directory of family `a`, with `more`.
pub(super) fn diffusers_folder(more: &[(&str, &str)]) -> Folder {
    let whole = [
        ("model_index.json", INDEX),
        ("tokenizer/tokenizer.json", "{}"),
        ("scheduler/scheduler_config.json", "{}"),
        ("transformer/config.json", "{}"),
        ("transformer_2/config.json", "{}"),
        ("vae/config.json", "{}"),
        ("text_encoder/config.json", "{}"),
    ];
    Folder::of(&[&whole[..], more].concat())
}

#[test]
fn diffusers_directories() {
    let index = r#"{"weight_map": {"a.transformer": "diffusion_pytorch_model-00001-of-00001.safetensors"}}"#;
    let folder = diffusers_folder(&[
        ("transformer/diffusion_pytorch_model.safetensors.index.json", index),
        ("transformer/diffusion_pytorch_model-00001-of-00001.safetensors", "a.transformer"),
        ("transformer/diffusion_pytorch_model.fp16.safetensors", "a.transformer"),
        ("transformer_2/model-00001-of-00002.safetensors", "a.transformer"),
        ("transformer_2/model-00002-of-00002.safetensors", "rest"),
        ("vae/diffusion_pytorch_model.fp16.safetensors", "a.vae"),
        ("vae/config.json", "{}"),
        ("text_encoder/pytorch_model.bin", "a.text_encoder"),
        ("image_encoder/model.safetensors", "a.image_encoder"),
    ]);
    let expected = [
        "text_encoder = text_encoder/pytorch_model.bin",
        "transformer = transformer/diffusion_pytorch_model.safetensors.index.json",
        "transformer_2 = transformer_2/model-00001-of-00002.safetensors transformer_2/model-00002-of-00002.safetensors",
        "vae = vae/diffusion_pytorch_model.fp16.safetensors",
    ];
    assert_eq!(folder.found(&[""]), expected);
    assert_eq!(folder.found(&["model_index.json"]), expected);
    assert!(folder.find(&[""]).expect("files").tokenizer.is_some());
}

#[test]
fn problems_of_diffusers_directories() {
    let folder = diffusers_folder(&[
        ("transformer/diffusion_pytorch_model.safetensors.index.json", r#"{"weight_map": {"x": "../x"}}"#),
        ("transformer_2/model-00002-of-00002.safetensors", "rest"),
        ("vae/model.bf16.safetensors", "a.vae"),
        ("vae/model.fp16.safetensors", "a.vae"),
    ]);
    let expected = [
        "text_encoder = : `FOLDER` is not a usable model: text_encoder has no weights",
        "transformer = transformer/diffusion_pytorch_model.safetensors.index.json: \
         transformer/diffusion_pytorch_model.safetensors.index.json: shard name `../x` leads out of the model's folder",
        "transformer_2 = transformer_2/model-00002-of-00002.safetensors: \
         transformer_2: shard `model-00001-of-00002.safetensors` is missing",
        "vae = : `FOLDER` is not a usable model: \
         vae has more than one set of weights: `model.bf16.safetensors`, `model.fp16.safetensors`",
    ];
    assert_eq!(folder.found(&[""]), expected);

    let lacking = Folder::of(&[("model_index.json", INDEX), ("vae/model.safetensors", "a.vae")]);
    assert_eq!(
        lacking.found(&[""])[3],
        "vae = vae/model.safetensors: `FOLDER` is not a usable model: vae/config.json is missing"
    );
    let hostile = Folder::of(&[("model_index.json", r#"{"../vae": ["diffusers", "Vae"]}"#)]);
    let problem = hostile.plain(&hostile.find(&[""]).err().expect("an error"));
    assert_eq!(problem, "cannot use `model_index.json`: component name `../vae` leads out of the model's folder");
    let other = Folder::of(&[("model_index.json", r#"{"_class_name": "c"}"#)]);
    assert_eq!(other.refusal(&[""]), "`FOLDER` is not a usable model: its pipeline `c` is not supported");
}

#[test]
fn directories_of_original_releases() {
    let index = r#"{"weight_map": {"a.transformer": "one.safetensors", "x": "two.safetensors"}}"#;
    let folder = Folder::of(&[
        ("model.safetensors.index.json", index),
        ("one.safetensors", "a.transformer"),
        ("two.safetensors", "x"),
        ("text-00001-of-00002.pth", "a.text_encoder"),
        ("text-00002-of-00002.pth", "x"),
        ("vae.safetensors", "a.vae"),
        ("image/config.json", "{}"),
        ("image/odd name.safetensors", "a.image_encoder"),
        ("assets/notes.json", "{}"),
        ("loose/x.safetensors", "x"),
        ("words/tokenizer.json", "{}"),
    ]);
    let expected = [
        "model.safetensors.index.json = model.safetensors.index.json",
        "vae.safetensors = vae.safetensors",
        "text-00001-of-00002.pth = text-00001-of-00002.pth text-00002-of-00002.pth",
        "image = image/odd name.safetensors",
    ];
    assert_eq!(folder.found(&[""]), expected);
    let found = folder.find(&[""]).expect("files");
    assert_eq!(
        (found.layout.name(), found.tokenizer),
        ("directory of single files", Some(Blob::File(folder.path("words/tokenizer.json"))))
    );
    assert_eq!(folder.find(&["image"]).expect("files").layout.name(), "component directory");
    let empty = Folder::of(&[("assets/notes.json", "{}")]);
    assert_eq!(
        empty.plain(&empty.find(&[""]).err().expect("nothing")),
        "cannot use `FOLDER`: it has no model_index.json and no weight files"
    );
}

#[test]
fn single_files_and_their_shards() {
    let folder = Folder::of(&[
        ("t-00001-of-00002.safetensors", "b.transformer"),
        ("t-00002-of-00002.safetensors", "x"),
        ("text.ckpt", "b.text_encoder"),
        ("vae.safetensors", "b.vae"),
        ("tokenizer.json", "{}"),
        ("a.safetensors", "a.transformer"),
        ("c.safetensors", "c"),
        ("high_noise/sees.safetensors", "sees"),
    ]);
    let (one, two, text, vae) =
        ("t-00001-of-00002.safetensors", "t-00002-of-00002.safetensors", "text.ckpt", "vae.safetensors");
    let all = [two, text, "tokenizer.json", one, vae];
    let lines = [
        "text.ckpt = text.ckpt".to_string(),
        "vae.safetensors = vae.safetensors".to_string(),
        format!("{two} = {two} {one}"),
    ];
    assert_eq!(folder.found(&all), lines);
    // The known variants are those of other families.
    assert_eq!(folder.refusal(&all), format!("`{two}` is not a usable model: its variant is not known"));
    assert_eq!(folder.found(&[one]), [format!("{one} = {one}")], "a single shard can be inspected");
    assert_eq!(folder.refusal(&[one, vae]), "FOLDER: shard `t-00002-of-00002.safetensors` is missing");
    let rest = "; the files need to be all parts";
    assert_eq!(
        folder.refusal(&[vae]),
        format!("`{vae}` is not a usable model: it has no transformer, no text encoder, no tokenizer.json{rest}")
    );
    assert_eq!(
        folder.refusal(&[one, two, vae, vae]),
        "`vae.safetensors` is not a usable model: the same part of the model is given twice"
    );
    assert_eq!(
        folder.refusal(&["a.safetensors", vae]),
        "`a.safetensors` is not a usable model: its files belong to different families: `a.safetensors` (a), `vae.safetensors` (b)"
    );
    assert_eq!(
        folder.refusal(&[vae, "c.safetensors"]),
        "`c.safetensors` is not a usable model: it is no part of a known model family"
    );
}

#[test]
fn tokenizers_are_known_by_their_content_or_their_folder() {
    let tokenizer = r#"{"version": "1.0", "added_tokens": [], "model": {"type": "Unigram"}}"#;
    let folder = Folder::of(&[
        ("a.safetensors", "a.transformer"),
        ("words.json", tokenizer),
        ("notes.json", "{}"),
        ("tokens/tokenizer.json", "{}"),
        ("pieces/spiece.model", "x"),
    ]);
    let tokenizer =
        |names: &[&str]| folder.find(names).expect("files").tokenizer.map(|blob| folder.relative(blob.path()));
    assert_eq!(tokenizer(&["a.safetensors", "words.json"]).as_deref(), Some("words.json"));
    assert_eq!(tokenizer(&["a.safetensors", "tokens"]).as_deref(), Some("tokens/tokenizer.json"));
    assert_eq!(tokenizer(&[""]).as_deref(), Some("words.json"));
    assert_eq!(tokenizer(&["a.safetensors", "notes.json"]), None);
    assert_eq!(tokenizer(&["a.safetensors", "pieces"]).as_deref(), Some("pieces/spiece.model"));
}

#[test]
fn files_with_a_dot_in_front_are_left_out() {
    let folder = Folder::of(&[
        ("._a.safetensors", "a.transformer"),
        ("a.safetensors", "a.transformer"),
        (".hidden/config.json", "{}"),
        (".hidden/b.safetensors", "a.vae"),
    ]);
    assert_eq!(folder.found(&[""]), ["a.safetensors = a.safetensors"]);
}

#[test]
fn two_transformers_have_to_be_told_apart() {
    let all = [("tokenizer.json", "{}"), ("vae.pth", "a.vae"), ("text.pth", "a.text_encoder")];
    let folder = Folder::of(&[&all[..], &[("x.pth", "a.transformer"), ("y.pth", "a.transformer")]].concat());
    assert_eq!(
        folder.refusal(&[""]),
        "`FOLDER` is not a usable model: it has two transformers, `x.pth` and `y.pth`: name one"
    );
}

#[cfg(unix)]
#[test]
fn links_that_lead_nowhere_are_named() {
    let folder = diffusers_folder(&[("transformer/model.safetensors", "a.transformer")]);
    std::os::unix::fs::symlink("../../blobs/0f", folder.path("vae/model.safetensors")).expect("a link");
    assert_eq!(
        folder.found(&[""])[3],
        "vae = : vae/model.safetensors is a link to `../../blobs/0f`, which is not there"
    );
}

#[test]
fn names_that_nothing_has() {
    let error = find(&["no-such-model"], FAMILIES, &|_| Err(None)).err().expect("an error");
    assert!(matches!(error, Error::UnknownModel { .. }), "{error}");
    let known = Manifest::known().into_iter().find(|manifest| manifest.repository.is_some()).expect("one");
    let error = find(&[&known.name], FAMILIES, &|_| Err(None)).err().expect("an error");
    assert!(error.hint().expect("a hint").contains("download it"), "{error}");
    let folder = diffusers_folder(&[]);
    let cached = |repository: &str| {
        if Some(repository) == known.repository.as_deref() { Ok(folder.path("")) } else { Err(None) }
    };
    let found = find(&[&known.name], FAMILIES, &cached).expect("a directory");
    assert_eq!(found.manifest.expect("its own").name, known.name);
}
