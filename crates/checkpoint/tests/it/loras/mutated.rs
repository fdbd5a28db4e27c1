//! Thousands of broken LoRAs: each is an error or a change, none a panic, and together they take little time.

use super::*;
use std::time::{Duration, Instant};

/// A linear congruential generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn every_kind() -> Tensors {
    let key = |i: usize, suffix: &str| format!("diffusion_model.blocks.{i}.self_attn.q.{suffix}");
    vec![
        (key(0, "lora_down.weight"), random((2, 4), 1)),
        (key(0, "lora_up.weight"), random((6, 2), 2)),
        (key(0, "alpha"), number(1.0)),
        (key(0, "dora_scale"), random((6, 1), 3)),
        (key(0, "diff_b"), random(6, 4)),
        (key(1, "hada_w1_a"), random((6, 2), 5)),
        (key(1, "hada_w1_b"), random((2, 4), 6)),
        (key(1, "hada_w2_a"), random((6, 2), 7)),
        (key(1, "hada_w2_b"), random((2, 4), 8)),
        (key(2, "lokr_w1"), random((2, 2), 9)),
        (key(2, "lokr_w2_a"), random((3, 1), 10)),
        (key(2, "lokr_w2_b"), random((1, 2), 11)),
        ("diffusion_model.blocks.3.diff_m".to_string(), random((1, 3, 4), 12)),
        ("diffusion_model.patch_embedding.lora_down.weight".to_string(), random((2, 2, 1, 1, 1), 13)),
        ("diffusion_model.patch_embedding.lora_mid.weight".to_string(), random((2, 2, 1, 2, 2), 14)),
        ("diffusion_model.patch_embedding.lora_up.weight".to_string(), random((6, 2, 1, 1, 1), 15)),
    ]
}

/// Opens a file and applies all that it changes.
fn use_up(path: &std::path::Path) -> Result<usize, Error> {
    let file = LoraFile::open(path)?;
    file.description();
    file.check_values()?;
    let target = target();
    let changes = file.changes(&target, 1.0)?;
    for name in changes.names() {
        let shape = shapes().into_iter().find(|(own, _)| own == name).expect("a tensor of the model").1;
        changes.apply(name, &random(shape, 1), DType::F32)?;
    }
    Ok(changes.names().count())
}

#[test]
fn mutated_keys_and_shapes_are_errors_or_changes() {
    let (mut dice, start) = (Dice(29), Instant::now());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("style.safetensors");
    let (mut used, mut refused) = (0, 0);
    for _ in 0..1000 {
        let mut tensors = every_kind();
        for _ in 0..=dice.below(2) {
            let at = dice.below(tensors.len());
            let other = tensors[dice.below(tensors.len())].clone();
            match dice.below(6) {
                0 => drop(tensors.remove(at)),
                1 => tensors[at].1 = other.1,
                2 => tensors[at].1 = random(vec![1 + dice.below(6); dice.below(4)], 3),
                3 => {
                    let key = &mut tensors[at].0;
                    let cut = dice.below(key.len());
                    key.truncate(cut);
                }
                4 => {
                    let (from, to) = (dice.below(tensors[at].0.len()), dice.below(tensors[at].0.len()));
                    let key = tensors[at].0.clone();
                    tensors[at].0 = format!("{}{}", &key[..from], &key[to..]);
                }
                _ => tensors[at].0 = other.0.replace('.', "_"),
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        tensors.retain(|(key, _)| !key.is_empty() && seen.insert(key.clone()));
        let tensors: std::collections::HashMap<String, Tensor> = tensors.into_iter().collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        match use_up(&path) {
            Ok(_) => used += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.to_string().contains('\n'));
                refused += 1;
            }
        }
    }
    assert!(used > 20 && refused > 300, "{used} used, {refused} refused");
    assert!(start.elapsed() < Duration::from_secs(50), "{:?}", start.elapsed());
}

#[test]
fn mutated_bytes_are_errors_or_changes() {
    let (mut dice, start) = (Dice(31), Instant::now());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("style.safetensors");
    let metadata = BTreeMap::from([("lora_adapter_metadata".to_string(), r#"{"transformer.lora_alpha": 5}"#.into())]);
    save_safetensors(&path, &every_kind(), &metadata).unwrap();
    let good = std::fs::read(&path).unwrap();
    assert_eq!(use_up(&path).unwrap(), 6);
    for _ in 0..1000 {
        let mut bytes = good.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.below(256) as u8;
        }
        if dice.below(8) == 0 {
            bytes.truncate(dice.below(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        let _ = use_up(&path);
    }
    assert!(start.elapsed() < Duration::from_secs(50), "{:?}", start.elapsed());
}
