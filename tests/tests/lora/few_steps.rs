//! LoRAs for few steps: taken by themselves where their headers say so, found in a folder, and the settings that they bring.

use super::{lora, options, request};
use candle_core::Tensor;
use kinora::{Lora, Mode, Pipeline, Planned, Request};
use kinora_tests::fixture;
use std::collections::BTreeMap;
use std::path::Path;

/// The fixture's LoRA under another name, whose header has `title`.
fn written(folder: &Path, name: &str, title: Option<&str>) -> Lora {
    let (tensors, mut metadata) =
        kinora_checkpoint::load_safetensors(&fixture("lora/peft.safetensors")).expect("a LoRA");
    metadata.extend(title.map(|title| ("modelspec.title".to_string(), title.to_string())));
    let tensors: Vec<_> = tensors.into_iter().collect();
    let file = folder.join(name);
    kinora_checkpoint::save_safetensors(&file, &tensors, &metadata).expect("a LoRA");
    Lora { file, strength: 1.0, expert: None, sha256: None }
}

fn planned(options: &kinora::LoadOptions, request: &Request) -> Planned {
    Pipeline::load(options).expect("a pipeline").plan(request).expect("a plan")
}

fn says(planned: &Planned, words: &str) -> bool {
    planned.notices.iter().any(|notice| notice.contains(words))
}

#[test]
fn a_header_brings_its_preset() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = fixture("wan21_t2v");
    let plain = request("wan21_t2v", folder.path()).sampling(kinora::Sampling::default());
    let with = |lora: &Lora, request: &Request| planned(&options(&model, vec![lora.clone()]), request);
    let usual = with(&lora("peft"), &plain);
    assert!(usual.plan.steps() > 4 && usual.plan.guided());
    let declared = written(folder.path(), "style.safetensors", Some("Wan2.2-Lightning T2V"));
    let few = with(&declared, &plain);
    assert_eq!((few.plan.steps(), few.plan.guided()), (4, false), "{:?}", few.notices);
    assert!(says(&few, "the preset lightning-4 is used, unless you say another, or none"), "{:?}", few.notices);
    let none = with(&declared, &plain.clone().preset("none"));
    assert_eq!((none.plan.steps(), none.plan.guided()), (usual.plan.steps(), true));
    let own = plain.clone().sampling(kinora::Sampling::default().steps(6));
    let own = with(&declared, &own);
    assert_eq!((own.plan.steps(), own.plan.guided()), (6, false));
    let off = with(&Lora { strength: 0.0, ..declared }, &plain);
    assert_eq!(off.plan.steps(), usual.plan.steps(), "a LoRA of strength 0 brings nothing");

    let named = written(folder.path(), "wan_lightx2v_x.safetensors", None);
    let by_name = with(&named, &plain);
    assert_eq!(by_name.plan.steps(), usual.plan.steps(), "a name alone changes nothing");
    assert!(says(&by_name, "take the preset lightx2v-4 or the mode fast"), "{:?}", by_name.notices);
    let fast = with(&named, &plain.mode(Mode::Fast));
    assert_eq!((fast.plan.steps(), fast.plan.guided()), (4, false), "{:?}", fast.notices);
}

#[test]
fn the_fast_mode_finds_a_lora_that_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    let fast = |case: &str| {
        let options = options(&fixture(case), Vec::new()).lora_folder(folder.path().to_path_buf()).few_steps(true);
        let sampling = kinora::Sampling::default();
        planned(&options, &request(case, folder.path()).mode(Mode::Fast).sampling(sampling))
    };
    let without = fast("wan21_t2v");
    assert!(!says(&without, "of the folder of LoRAs"), "{:?}", without.notices);
    let other = [("blocks.0.self_attn.q.lora_A.weight", [2, 5]), ("blocks.0.self_attn.q.lora_B.weight", [5, 2])];
    let other = other.map(|(name, shape)| {
        (name.to_string(), Tensor::ones(&shape, candle_core::DType::F32, &candle_core::Device::Cpu).expect("ones"))
    });
    kinora_checkpoint::save_safetensors(&folder.path().join("a_lightx2v.safetensors"), &other, &BTreeMap::new())
        .expect("a LoRA of another model");
    std::fs::write(folder.path().join("b_lightx2v.safetensors"), "broken").expect("a file");
    written(folder.path(), "style.safetensors", None);
    written(folder.path(), "z_lightx2v.safetensors", None);
    let found = fast("wan21_t2v");
    assert!(says(&found, "z_lightx2v.safetensors` of the folder of LoRAs"), "{:?}", found.notices);
    assert_eq!(found.plan.steps(), 4);
    for noise in ["high", "low"] {
        let from = fixture(&format!("lora/{noise}_noise.safetensors"));
        std::fs::copy(from, folder.path().join(format!("c_lightx2v_{noise}_noise.safetensors"))).expect("a copy");
    }
    let pair = fast("wan22_a14b_t2v");
    let words = "c_lightx2v_high_noise.safetensors` and the LoRA";
    assert!(says(&pair, words), "{:?}", pair.notices);
}
