//! LoRAs that are refused, and how that reads.

use super::*;
use kinora_checkpoint::{TensorFile, Weights};

const STEM: &str = "diffusion_model.blocks.3.self_attn.q";

/// A good pair, and these tensors below [`STEM`].
fn beside(others: &[(&str, Tensor)]) -> Tensors {
    let (down, up) = pair(2);
    let mut tensors = vec![(format!("{STEM}.lora_A.weight"), down), (format!("{STEM}.lora_B.weight"), up)];
    for (suffix, tensor) in others {
        let key = format!("{STEM}.{suffix}");
        tensors.retain(|(name, _)| *name != key);
        tensors.push((key, tensor.clone()));
    }
    tensors
}

/// The message about these tensors, behind the file's name.
fn refusal(tensors: &[(String, Tensor)]) -> String {
    let error = changes(tensors, &[], 1.0).err().expect("an error");
    assert!(error.hint().is_some(), "{error} has no hint");
    let text = error.to_string();
    text.split_once("style.safetensors: ").map_or(text.clone(), |(_, behind)| behind.to_string())
}

#[test]
fn keys_that_do_not_belong_together_are_named() {
    let (down, up) = pair(2);
    let one = |suffix: &str, tensor: &Tensor| vec![(format!("{STEM}.{suffix}"), tensor.clone())];
    assert_eq!(
        refusal(&one("lora_A.weight", &down)),
        format!("key `{STEM}.lora_A.weight` needs `{STEM}.lora_B.weight` beside it, which is missing")
    );
    assert_eq!(
        refusal(&one("lora_up.weight", &up)),
        format!("key `{STEM}.lora_up.weight` needs `{STEM}.lora_down.weight` beside it, which is missing")
    );
    assert_eq!(
        refusal(&one("hada_w1_a", &up)),
        format!("key `{STEM}.hada_w1_a` needs `{STEM}.hada_w1_b` beside it, which is missing")
    );
    assert_eq!(
        refusal(&one("lokr_w1", &up)),
        format!("key `{STEM}.lokr_w1` needs `{STEM}.lokr_w2` beside it, which is missing")
    );
    for alone in ["alpha", "dora_scale", "lora_B.bias", "lora_mid.weight"] {
        let message = refusal(&one(alone, &number(1.0)));
        assert!(message.starts_with(&format!("key `{STEM}.{alone}` needs `{STEM}.lora_")), "{message}");
    }
    assert_eq!(
        refusal(&beside(&[("lora_B.weight", random((6, 3), 1))])),
        format!("the ranks of `{STEM}.lora_A.weight` [2, 4] and `{STEM}.lora_B.weight` [6, 3] differ")
    );
    assert_eq!(refusal(&beside(&[("mystery", down.clone())])), format!("key `{STEM}.mystery` is of no known kind"));
    assert_eq!(
        refusal(&beside(&[("lora_down.weight", down.clone())])),
        format!("keys `{STEM}.lora_A.weight` and `{STEM}.lora_down.weight` are both for `blocks.3.self_attn.q`")
    );
    let mut twice = beside(&[]);
    twice.push(("lora_unet_blocks_3_self_attn_q.lora_down.weight".to_string(), down));
    twice.push(("lora_unet_blocks_3_self_attn_q.lora_up.weight".to_string(), up));
    assert!(refusal(&twice).contains("are both for `blocks.3.self_attn.q.weight`"));
}

#[test]
fn modules_and_shapes_of_other_models_are_named() {
    let (down, up) = pair(2);
    let unknown = |module: &str| {
        let key = |suffix: &str| format!("{module}.{suffix}");
        refusal(&[(key("lora_down.weight"), down.clone()), (key("lora_up.weight"), up.clone())])
    };
    assert_eq!(
        unknown("diffusion_model.blocks.99.self_attn.q"),
        "key `diffusion_model.blocks.99.self_attn.q.lora_down.weight` is for a module `blocks.99.self_attn.q` that the \
         model does not have; did you mean `blocks.9.self_attn.q`?"
    );
    assert!(unknown("lora_unet_blocks_3_self_atn_q").ends_with("; did you mean `blocks_3_self_attn_q`?"));
    assert!(unknown("lora_unet_blocks_1_0_self_attn_q").contains("that the model does not have"));
    assert!(unknown("blocks.3").contains("changes `blocks.3.weight`, which the model does not have"));
    assert!(unknown("lora_te_blocks_3").contains("belongs to a LoRA of a text encoder"));
    assert_eq!(
        refusal(&beside(&[("lora_A.weight", random((2, 5), 1))])),
        format!(
            "key `{STEM}.lora_A.weight` makes a change of shape [6, 5], but `blocks.3.self_attn.q.weight` has [6, 4]"
        )
    );
    for (suffix, shape) in [("diff", vec![4, 6]), ("diff_b", vec![4]), ("dora_scale", vec![4, 1])] {
        let message = refusal(&beside(&[(suffix, random(shape.clone(), 1))]));
        assert!(message.contains(&format!("`{STEM}.{suffix}` makes a change of shape {shape:?}")), "{message}");
    }
    let key = |suffix: &str| format!("patch_embedding.{suffix}");
    let turned =
        [(key("lora_down.weight"), random((2, 2, 2, 2, 1), 1)), (key("lora_up.weight"), random((6, 2, 1, 1, 1), 2))];
    assert!(refusal(&turned).contains("[6, 2, 2, 2, 1], but `patch_embedding.weight` has [6, 2, 1, 2, 2]"));
}

#[test]
fn kinds_that_are_not_made_are_named() {
    for (suffix, what) in [
        ("a1.weight", "GLoRA"),
        ("oft_blocks", "OFT or BOFT"),
        ("set_weight", "weights that replace the model's (set_weight)"),
        ("reshape_weight", "weights of another shape (reshape_weight)"),
    ] {
        let message = refusal(&beside(&[(suffix, number(1.0))]));
        assert_eq!(message, format!("key `{STEM}.{suffix}` belongs to {what}, which is not read"));
    }
}

#[test]
fn numbers_that_are_none_are_named() {
    for value in [f32::NAN, f32::INFINITY] {
        let message = refusal(&beside(&[("alpha", number(value))]));
        assert!(message.starts_with(&format!("key `{STEM}.alpha` is ")), "{message}");
        let down = Tensor::full(value, (2, 4), &Device::Cpu).unwrap();
        let (_folder, file) = file(&beside(&[("lora_A.weight", down)]), &[]);
        let file = file.unwrap();
        let expected = format!("tensor `{STEM}.lora_A.weight` contains NaN or infinite values");
        assert_eq!(file.check_values().unwrap_err().to_string(), expected);
        let changes = file.changes(&target(), 1.0).unwrap();
        let error = changes.apply("blocks.3.self_attn.q.weight", &random((6, 4), 1), DType::F32).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(file.changes(&target(), value).is_err_and(|error| error.to_string().contains("strength")));
    }
    let message = refusal(&beside(&[("alpha", random(2, 1))]));
    assert_eq!(message, format!("key `{STEM}.alpha` has shape [2], which is no single number"));
    let (_folder, file) = file(&beside(&[]), &[]);
    let changes = file.unwrap().changes(&target(), 3e4).unwrap();
    let name = "blocks.3.self_attn.q.weight";
    let error = changes.apply(name, &random((6, 4), 1), DType::F16).unwrap_err();
    assert!(error.to_string().starts_with(&format!("`{name}` is NaN or infinite, or too large for f16")), "{error}");
}

#[test]
fn a_lora_without_effect_is_said() {
    let zeros = Tensor::zeros((6, 2), DType::F32, &Device::Cpu).unwrap();
    let (_folder, file) = file(&beside(&[("lora_B.weight", zeros)]), &[]);
    let remarks = file.unwrap().check_values().unwrap();
    assert!(remarks[0].ends_with("changes nothing: all its changes are zero"), "{remarks:?}");
}

#[test]
fn models_and_loras_are_not_taken_for_each_other() {
    let message = refusal(&named(&[("blocks.0.self_attn.q.weight", random((6, 4), 1))]));
    assert_eq!(message, "it is no LoRA: none of its 1 tensors belongs to one");
    let (folder, _) = file(&beside(&[]), &[]);
    let path = folder.path().join("style.safetensors");
    let error = Weights::from_files(vec![TensorFile::open(&path).unwrap()], &[], &Device::Cpu, DType::F32);
    let error = error.err().expect("an error");
    assert!(error.hint().unwrap().contains("as a LoRA"), "{error}");
}

#[test]
fn a_lightning_file_without_alpha_is_said() {
    let (down, up) = pair(2);
    let tensors = named(&[("blocks.3.self_attn.q.lora_A", down), ("blocks.3.self_attn.q.lora_B", up)]);
    let (_folder, file) = file(&tensors, &[("name", "Wan2.2-Lightning")]);
    assert!(file.unwrap().remarks()[0].contains("0.125"));
}
