//! LoRAs: runs of tiny models against the latents of diffusers with the same LoRA (`scripts/fixtures/lora.py`), recipes that
//! have them, and what is said and refused.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the measured numbers are worth seeing")]

#[path = "lora/few_steps.rs"]
mod few_steps;
#[path = "lora/formats.rs"]
mod formats;

use candle_core::{DType, Tensor};
use kinora::{Choice, Error, LoadOptions, Lora, Output, Pipeline, Recipe, Request};
use kinora_tests::{Golden, bits, fixture, generate, max_error, tensors};
use std::path::{Path, PathBuf};

/// Largest difference of the final latents, relative to the latents' scale, f32.
const WHOLE_RUN: f64 = 1e-4;
/// The file with the latents.
const GOLDEN: &str = "lora/golden.safetensors";

fn options(model: &Path, loras: Vec<Lora>) -> LoadOptions {
    LoadOptions::default()
        .model(vec![model.to_string_lossy().into_owned()])
        .loras(loras)
        .dtype(Choice::Is(DType::F32))
        .device("cpu")
        .threads(2)
        .exact(true)
}

/// The LoRA of a fixture: `[high=]name[:strength]`.
fn lora(words: &str) -> Lora {
    let mut lora: Lora = words.parse().expect("words of --lora");
    lora.file = fixture("lora").join(lora.file.with_extension("safetensors"));
    lora
}

fn loaded(case: &str, loras: &[&str]) -> kinora::Result<Pipeline> {
    Pipeline::load(&options(&fixture(case), loras.iter().map(|words| lora(words)).collect()))
}

/// The request of a case's second golden run.
fn request(case: &str, scratch: &Path) -> Request {
    let golden = Golden::read(case, "golden_b.safetensors");
    let mut request = golden.request(scratch);
    if case.contains("a14b") {
        request.sampling.guidance_scale_2 = Some(golden.metadata["guidance_scale_2"].parse().expect("a number"));
    }
    request
}

/// The last latents of that run with these LoRAs, and what was said.
fn latents(case: &str, loras: &[&str]) -> (Tensor, Vec<String>) {
    let scratch = tempfile::tempdir().expect("a directory");
    let pipeline = loaded(case, loras).unwrap_or_else(|error| panic!("{loras:?}: {error}"));
    let (report, steps) = generate(&pipeline, &request(case, scratch.path())).expect("a clip");
    (steps.last().expect("a step").clone(), report.notices)
}

#[test]
fn every_naming_and_kind_matches_diffusers() {
    let (golden, metadata) = kinora_checkpoint::load_safetensors(&fixture(GOLDEN)).expect("a golden file");
    assert_eq!(golden.len(), 5);
    for (name, expected) in &golden {
        let (case, words) = metadata[name].split_once(' ').expect("a case and LoRAs");
        let (found, notices) = latents(case, &words.split(' ').collect::<Vec<_>>());
        let error = max_error(&found, expected);
        println!("{name}: {error:.1e}");
        assert!(error <= WHOLE_RUN, "{name}: {error:.2e}");
        let lacking = notices.iter().any(|notice| notice.contains("2 keys are for parts that this model lacks"));
        assert_eq!(lacking, name == "differences", "{notices:?}");
    }
}

#[test]
fn a_strength_of_zero_has_the_bits_of_no_lora() {
    let (without, _) = latents("wan21_t2v", &[]);
    let (zero, notices) = latents("wan21_t2v", &["peft:0", "flat:-0"]);
    assert_eq!(bits(&without), bits(&zero));
    assert_eq!(notices.iter().filter(|notice| notice.contains("has strength 0")).count(), 2, "{notices:?}");
    let (changed, _) = latents("wan21_t2v", &["peft:0.001"]);
    assert_ne!(bits(&without), bits(&changed));
}

#[test]
fn experts_are_named_or_said() {
    let case = "wan22_a14b_t2v";
    let plan = |loras: &[&str]| {
        let scratch = tempfile::tempdir().expect("a directory");
        loaded(case, loras).and_then(|pipeline| pipeline.plan(&request(case, scratch.path()))).map(|plan| plan.notices)
    };
    let notices = plan(&["low_noise"]).expect("a plan");
    let both = "changes both transformers, for high and for low noise; its name says `low`: `low=FILE` may be meant";
    assert!(notices.iter().any(|notice| notice.ends_with(both)), "{notices:?}");
    let notices = plan(&["high=high_noise", "low=high_noise"]).expect("a plan");
    assert!(notices.iter().any(|notice| notice.ends_with("is given for high and for low noise")), "{notices:?}");
    assert!(plan(&["high=high_noise", "low=low_noise"]).expect("a plan").iter().all(|n| !n.contains("LoRA")));
    let (named, _) = latents(case, &["high=high_noise", "low=low_noise"]);
    let (swapped, _) = latents(case, &["low=high_noise", "high=low_noise"]);
    assert!(max_error(&swapped, &named) > 1e-2);
    let error = loaded("wan21_t2v", &["low=peft"]).err().expect("an error");
    assert_eq!(error.to_string(), "`low=` of a LoRA is one of two transformers, and the model has one");
}

#[test]
fn recipes_have_loras_and_their_hashes() {
    let scratch = tempfile::tempdir().expect("a directory");
    let clip = scratch.path().join("clip.mp4");
    let own = scratch.path().join("own.safetensors");
    std::fs::copy(fixture("lora/flat.safetensors"), &own).expect("a copy");
    let given = Lora { file: own.clone(), strength: 0.7, expert: None, sha256: None };
    let model = fixture("wan21_t2v");
    let pipeline = Pipeline::load(&options(&model, vec![given])).expect("a pipeline");
    let mut request = request("wan21_t2v", scratch.path());
    request.output = Output::new(clip.clone());
    let (_, steps) = generate(&pipeline, &request).expect("a clip");
    let recipe = Recipe::read(&clip).expect("a recipe");
    let [recorded] = recipe.loras.as_slice() else { panic!("{:?}", recipe.loras) };
    assert_eq!((&recorded.file, recorded.strength), (&own, 0.7));
    assert_eq!(recorded.sha256.as_ref().map(String::len), Some(64));
    let again = Pipeline::load(&options(&model, recipe.loras.clone())).expect("a pipeline");
    request.output.clip = scratch.path().join("again.mp4");
    let (_, repeated) = generate(&again, &request).expect("a clip");
    assert_eq!(bits(&steps[2]), bits(&repeated[2]));
    // A result may not replace what it is made from.
    request.output.clip.clone_from(&own);
    assert!(generate(&again, &request).is_err());
    std::fs::copy(fixture("lora/peft.safetensors"), &own).expect("a copy");
    match Pipeline::load(&options(&model, recipe.loras.clone())) {
        Err(Error::BadFile { reason, .. }) => {
            assert!(reason.contains("another LoRA than the recorded one"), "{reason}");
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn models_and_loras_are_told_apart() {
    let model = fixture("wan21_t2v/transformer/diffusion_pytorch_model.safetensors");
    let lora = Lora { file: model, strength: 1.0, expert: None, sha256: None };
    let error = Pipeline::load(&options(&fixture("wan21_t2v"), vec![lora])).err().expect("an error");
    assert!(error.to_string().contains("it is no LoRA"), "{error}");
    let error = Pipeline::load(&options(&fixture("lora/peft.safetensors"), Vec::new())).err().expect("an error");
    assert!(error.to_string().contains("it is a LoRA, not a model"), "{error}");
    let described = kinora::inspect_lora(&fixture("lora/lycoris.safetensors")).expect("a LoRA").expect("a LoRA");
    let kinds: Vec<_> = described.kinds.into_iter().collect();
    assert_eq!(kinds, [("DoRA", 8), ("LoHa", 4), ("LoKr", 8)]);
    assert_eq!(kinora::inspect_lora(&fixture(GOLDEN)).expect("no LoRA"), None);
}

/// bf16 models round each changed weight once.
#[test]
fn bf16_stays_near_the_f32_numbers() {
    let scratch = tempfile::tempdir().expect("a directory");
    let loras = vec![lora("differences")];
    let options = options(&fixture("wan21_t2v"), loras).dtype(Choice::Is(DType::BF16));
    let pipeline = Pipeline::load(&options).expect("a pipeline");
    let (_, steps) = generate(&pipeline, &request("wan21_t2v", scratch.path())).expect("a clip");
    let error = kinora_tests::relative_l2(&steps[2], &tensors(&fixture(GOLDEN))["differences"]);
    assert!(error <= 3e-2, "{error:.2e}");
}

/// The folder of files that a run of another generator made, if there is one.
fn formats() -> Option<PathBuf> {
    std::env::var_os("KINORA_FORMATS").map(PathBuf::from)
}
