//! Models of which parts are given beside a directory.

use super::tests::{Folder, diffusers_folder};
use super::*;
use crate::model::Model;
use crate::model::family_files::tests::Made;
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::save_safetensors;
use std::collections::BTreeMap;

const FAMILIES: &[&dyn FamilyFiles] = &[&Made("a"), &Made("b")];

/// A whole model of family `a` with two experts, and loose files.
fn folder() -> Folder {
    let folder = diffusers_folder(&[
        ("transformer/model.safetensors", "a.transformer"),
        ("transformer_2/model.safetensors", "a.transformer"),
        ("vae/model.safetensors", "a.vae"),
        ("text_encoder/model.safetensors", "a.text_encoder"),
        ("x/w_high_noise.safetensors", "a.transformer"),
        ("x/w_low_noise.safetensors", "a.transformer"),
        ("x/text.safetensors", "a.text_encoder"),
        ("x/b.safetensors", "b.vae"),
        ("x/c.safetensors", "c"),
        ("x/tokenizer.json", "{}"),
        ("part/config.json", "{}"),
        ("part/model.safetensors", "a.vae"),
    ]);
    std::fs::write(folder.path("manifest.toml"), MANIFEST).expect("a file");
    folder
}

/// One line per component, in the order of roles, then the tokenizer; or the reason why it is no model.
fn model(folder: &Folder, names: &[&str]) -> std::result::Result<Vec<String>, String> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.argument(name)).collect();
    let found = find(&paths, FAMILIES, &|_| Err(None)).map_err(|error| folder.plain(&error))?;
    let model = Model::of(found, FAMILIES, &|_| Err(None)).map_err(|error| folder.plain(&error))?;
    let components = model.components.values().flatten();
    let blobs = components.flat_map(|component| &component.weights.blobs).chain(model.tokenizer.blobs());
    Ok(blobs.map(|blob| folder.relative(blob.path())).chain(model.said).collect())
}

#[test]
fn files_beside_a_directory_replace_its_parts() {
    let folder = folder();
    let own = ["transformer/model.safetensors", "transformer_2/model.safetensors", "vae/model.safetensors"];
    let (text, words) = ("text_encoder/model.safetensors", "tokenizer/tokenizer.json");
    assert_eq!(model(&folder, &[""]).expect("a model"), [own[0], own[1], own[2], text, words]);
    let found = model(&folder, &["", "x/text.safetensors", "part", "x/tokenizer.json"]).expect("a model");
    assert_eq!(found, [own[0], own[1], "part/model.safetensors", "x/text.safetensors", "x/tokenizer.json"]);
    let found = model(&folder, &["", "low=x/w_high_noise.safetensors"]).expect("a model");
    assert_eq!(found, [own[0], "x/w_high_noise.safetensors", own[2], text, words], "said, not guessed");
    let found = model(&folder, &["", "high=part/../x/w_low_noise.safetensors", "low=transformer"]).expect("a model");
    assert_eq!(found[..2], ["part/../x/w_low_noise.safetensors", "transformer/model.safetensors"]);
    let guessed = model(&folder, &["x/w_low_noise.safetensors", "", "x/w_high_noise.safetensors"]).expect("a model");
    assert_eq!(guessed[..2], ["x/w_high_noise.safetensors", "x/w_low_noise.safetensors"]);
    assert!(guessed[5].starts_with("by its name `"), "{}", guessed[5]);
    let same =
        model(&folder, &["", "high=x/w_low_noise.safetensors", "low=x/w_low_noise.safetensors"]).expect("a model");
    assert!(same[5].ends_with("is both experts, for high and for low noise"), "{}", same[5]);
}

#[test]
fn a_part_that_cannot_be_used_does_not_matter_where_it_is_replaced() {
    let folder = folder();
    std::fs::remove_file(folder.path("text_encoder/model.safetensors")).expect("it was there");
    assert!(model(&folder, &[""]).unwrap_err().ends_with("text_encoder has no weights"));
    assert!(model(&folder, &["", "x/text.safetensors"]).is_ok());
}

#[test]
fn what_is_given_beside_a_directory_has_to_fit_it() {
    let folder = folder();
    let refusal = |names: &[&str]| model(&folder, names).expect_err("an error");
    assert_eq!(
        refusal(&["", "x/b.safetensors"]),
        "`x/b.safetensors` is not a usable model: it is no part of a model of the family `a`"
    );
    assert!(refusal(&["", "x/c.safetensors"]).contains("it is no part of a model of the family `a`"));
    assert!(refusal(&["", "x/text.safetensors", "x/text.safetensors"]).contains("is given twice"));
    assert!(refusal(&["", "text_encoder/../x/missing.safetensors"]).contains("missing.safetensors"));
    let lone = refusal(&["", "transformer/model.safetensors"]);
    assert!(lone.contains("it has two experts: give `"), "{lone}");
    assert!(refusal(&["", "transformer/.."]).contains("are two models"));
}

/// Facts about a variant that is not among the known ones.
pub(super) const MANIFEST: &str = r#"
name = "made"
family = "a"
title = "Made"
licence = "none"
text_len = 4
[parameters]
transformer = 1
text_encoder = 1
vae = 1
[defaults]
width = 16
height = 16
frames = 1
fps = 8
steps = 2
fewest_steps = 1
sampler = "unipc"
shift = 3.0
guidance_scale = 5.0
"#;

/// Writes a file with these tensors, a patch embedding of the size of Wan 2.1 1.3 B among them.
fn transformer(folder: &Folder, name: &str, prefix: &str, others: &[&str]) {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("a tensor");
    let patch = (format!("{prefix}patch_embedding.weight"), zeros(&[1536, 16, 1, 2, 2]));
    let query = (format!("{prefix}blocks.0.self_attn.q.weight"), zeros(&[1]));
    let others = others.iter().map(|name| ((*name).to_string(), zeros(&[1])));
    let tensors: Vec<_> = [patch, query].into_iter().chain(others).collect();
    save_safetensors(&folder.path(name), &tensors, &BTreeMap::new()).expect("a file");
}

/// The model of Wan that these files are, with what the repository of `lender` lends.
fn wan(folder: &Folder, names: &[&str], lender: &str) -> std::result::Result<Vec<String>, String> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.argument(name)).collect();
    let cached = |repository: &str| {
        let known = Manifest::known().into_iter().find(|manifest| manifest.name == lender);
        let lends = known.is_some_and(|manifest| manifest.repository.as_deref() == Some(repository));
        if lends { Ok(folder.path("hub")) } else { Err(None) }
    };
    let families = crate::families::files();
    let found = find(&paths, &families, &cached).map_err(|error| folder.plain(&error))?;
    let model = Model::of(found, &families, &cached).map_err(|error| folder.plain(&error))?;
    let files = model.components.values().flatten().map(|component| &component.weights);
    let named = files
        .map(|files| format!("{}{}", folder.relative(&files.path()), files.share.below.concat()))
        .collect::<Vec<_>>();
    Ok(named.into_iter().chain([model.manifest.name]).chain(model.said).collect())
}

#[test]
fn what_single_files_lack_is_lent_by_a_model_in_the_hub_cache() {
    let index =
        r#"{"_class_name": "WanPipeline", "vae": ["a", "b"], "text_encoder": ["a", "b"], "transformer": ["a", "b"]}"#;
    let folder = Folder::of(&[
        ("hub/model_index.json", index),
        ("hub/tokenizer/tokenizer.json", "{}"),
        ("hub/vae/config.json", "{}"),
        ("hub/vae/model.safetensors", "decoder.conv1.weight"),
        ("hub/text_encoder/config.json", "{}"),
        ("hub/text_encoder/model.safetensors", "token_embedding.weight"),
        ("hub/transformer/config.json", "{}"),
        ("text.safetensors", "token_embedding.weight"),
    ]);
    transformer(&folder, "t.safetensors", "net.", &[]);
    let (own, vae, text) = ("t.safetensors", "hub/vae/model.safetensors", "hub/text_encoder/model.safetensors");
    let said = |names: &str, lender: &str| format!("{names} of `{lender}` in the hub cache");
    let all = "the VAE, the text encoder and the tokenizer are those";
    for lender in ["wan2.1-t2v-1.3b", "wan2.1-t2v-14b"] {
        let found = wan(&folder, &[own], lender).expect("a model");
        assert_eq!(found, [own, vae, text, "wan2.1-t2v-1.3b", &said(all, lender)], "{lender}");
    }
    let found = wan(&folder, &[own, "text.safetensors"], "wan2.1-t2v-1.3b").expect("a model");
    let some = said("the VAE and the tokenizer are those", "wan2.1-t2v-1.3b");
    assert_eq!(found, [own, vae, "text.safetensors", "wan2.1-t2v-1.3b", &some]);
    let refused = wan(&folder, &[own], "wan2.2-ti2v-5b").expect_err("its VAE is another");
    assert_eq!(
        refused,
        "`t.safetensors` is not a usable model: it has no VAE, no text encoder, no tokenizer.json; the files need to be \
         all parts, or the others from a download of `wan2.1-t2v-1.3b`"
    );
}

#[test]
fn a_file_that_holds_everything_is_all_parts_that_no_other_file_is() {
    let folder = Folder::of(&[("vae.safetensors", "decoder.conv1.weight"), ("tokenizer.json", "{}")]);
    let text = ["token_embedding", "norm"].map(|name| format!("text_encoders.umt5xxl.transformer.{name}.weight"));
    let vae = ["first_stage_model.decoder.conv1.weight", "first_stage_model.conv1.weight"];
    let extras = ["text_encoders.umt5xxl.logit_scale", "text_encoders.spiece_model"];
    let others = [&text.each_ref().map(String::as_str)[..], &vae, &extras].concat();
    transformer(&folder, "all.safetensors", "model.diffusion_model.", &others);
    let all = ["model.diffusion_model.", "first_stage_model.", "text_encoders.umt5xxl.transformer."]
        .map(|part| format!("all.safetensors{part}"));
    let name = "wan2.1-t2v-1.3b".to_string();
    let found = wan(&folder, &["all.safetensors", "tokenizer.json"], "").expect("a model");
    assert_eq!(found, [&all[0], &all[1], &all[2], &name].map(String::clone));
    let found = wan(&folder, &["all.safetensors", "vae.safetensors"], "").expect("the tokenizer is in the file");
    assert_eq!(found, [&all[0], &"vae.safetensors".to_string(), &all[2], &name].map(String::clone));
}
