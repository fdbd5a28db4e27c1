//! Every naming and every kind of change, computed a second time by plain loops.

use super::*;
use kinora_checkpoint::{Expert, Weights};
use std::collections::HashMap;
use std::sync::Arc;

const Q: &str = "blocks.1.self_attn.q.weight";

#[test]
fn every_naming_of_a_pair_is_the_same_change() {
    let original = random((6, 4), 1);
    let (down, up) = pair(2);
    let expected = plus(&original, &product(&values(&up), &values(&down), 2), 0.7);
    let suffixes = [
        [".lora_down.weight", ".lora_up.weight"],
        [".lora_A.weight", ".lora_B.weight"],
        [".lora_A.default.weight", ".lora_B.default.weight"],
        [".lora_A", ".lora_B"],
        [".lora.down.weight", ".lora.up.weight"],
        ["_lora.down.weight", "_lora.up.weight"],
        [".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"],
    ];
    let stems = [
        "blocks.1.self_attn.q",
        "blocks.1.attn1.to_q",
        "diffusion_model.blocks.1.self_attn.q",
        "model.diffusion_model.blocks.1.self_attn.q",
        "transformer.blocks.1.attn1.to_q",
        "pipe.dit.blocks.1.self_attn.q",
        "unet.blocks.1.self_attn.q",
        "base_model.model.blocks.1.self_attn.q",
        "lora_unet_blocks_1_self_attn_q",
        "lora_unet_blocks_1_attn1_to_q",
        "lora_unet__blocks_1_self_attn_q",
        "lora_unet_blocks_1.self_attn.q",
        "lycoris_blocks_1_self_attn_q",
        "diffusion_model._orig_mod.blocks.1.self_attn.q",
    ];
    for stem in stems {
        for [first, second] in suffixes {
            let tensors = [(format!("{stem}{first}"), down.clone()), (format!("{stem}{second}"), up.clone())];
            let changes = changes(&tensors, &[], 0.7).unwrap_or_else(|error| panic!("{stem}{first}: {error}"));
            assert_eq!(changes.names().collect::<Vec<_>>(), [Q], "{stem}{first}");
            close(&applied(&changes, Q, &original), &expected, stem);
        }
    }
}

#[test]
fn alpha_of_every_form_is_divided_by_the_rank() {
    let original = random((6, 4), 1);
    let (down, up) = pair(2);
    let delta = product(&values(&up), &values(&down), 2);
    let one = |dtype| number(3.0).to_dtype(dtype).unwrap();
    let forms = [
        one(DType::F32),
        one(DType::F16),
        one(DType::BF16),
        one(DType::I64),
        one(DType::F64),
        Tensor::new(&[3.0f32], &Device::Cpu).unwrap(),
    ];
    for alpha in forms {
        let tensors = named(&[
            ("lora_unet_blocks_10_self_attn_q.lora_down.weight", down.clone()),
            ("lora_unet_blocks_10_self_attn_q.lora_up.weight", up.clone()),
            ("lora_unet_blocks_10_self_attn_q.alpha", alpha),
        ]);
        let changes = changes(&tensors, &[], 1.0).unwrap();
        let name = "blocks.10.self_attn.q.weight";
        assert_eq!(changes.names().collect::<Vec<_>>(), [name]);
        close(&applied(&changes, name, &original), &plus(&original, &delta, 1.5), "alpha");
        let (down, up) = changes.of(name)[0].low_rank().unwrap().unwrap();
        close(&plus(&original, &product(&values(&up), &values(&down), 2), 1.0), &plus(&original, &delta, 1.5), "side");
    }
}

#[test]
fn alpha_of_peft_is_in_the_header_or_beside_the_file() {
    let original = random((6, 4), 1);
    let (down, up) = pair(2);
    let delta = product(&values(&up), &values(&down), 2);
    let tensors = named(&[
        ("transformer.blocks.1.attn1.to_q.lora_A.weight", down),
        ("transformer.blocks.1.attn1.to_q.lora_B.weight", up),
    ]);
    let scaled = |config: &str| {
        let changes = changes(&tensors, &[("lora_adapter_metadata", config)], 1.0)?;
        Ok::<_, Error>(applied(&changes, Q, &original))
    };
    let plain = r#"{"transformer.r": 2, "transformer.lora_alpha": 5}"#;
    close(&scaled(plain).unwrap(), &plus(&original, &delta, 2.5), "alpha");
    let rooted = r#"{"transformer.lora_alpha": 5, "transformer.use_rslora": true}"#;
    close(&scaled(rooted).unwrap(), &plus(&original, &delta, 5.0 / 2f32.sqrt()), "rslora");
    let pattern =
        r#"{"transformer.lora_alpha": 5, "transformer.alpha_pattern": {"blocks.0.attn1.to_q": 1, "attn1.to_q": 8}}"#;
    close(&scaled(pattern).unwrap(), &plus(&original, &delta, 4.0), "pattern");
    close(&scaled(r#"{"lora_alpha": 6}"#).unwrap(), &plus(&original, &delta, 3.0), "no prefix");
    for wrong in ["{", r#"{"transformer.lora_alpha": "x"}"#, r#"{"transformer.alpha_pattern": {"(a|b)": 1}}"#] {
        let error = scaled(wrong).unwrap_err();
        assert!(error.to_string().contains("lora_adapter_metadata"), "{error}");
    }
    let (folder, _) = file(&tensors, &[]);
    std::fs::write(folder.path().join("adapter_config.json"), r#"{"lora_alpha": 4, "r": 2}"#).unwrap();
    let file = LoraFile::open(&folder.path().join("style.safetensors")).unwrap();
    assert_eq!(file.description().alpha_from, Some("adapter_config.json"));
    let changes = file.changes(&target(), 1.0).unwrap();
    close(&applied(&changes, Q, &original), &plus(&original, &delta, 2.0), "beside");
}

#[test]
fn differences_are_added_to_what_they_name() {
    let cases = [
        ("diffusion_model.blocks.1.self_attn.q.diff", Q, vec![6, 4]),
        ("diffusion_model.blocks.1.self_attn.q.diff_b", "blocks.1.self_attn.q.bias", vec![6]),
        ("diffusion_model.blocks.1.norm3.diff", "blocks.1.norm3.weight", vec![4]),
        ("transformer.blocks.1.norm2.diff", "blocks.1.norm3.weight", vec![4]),
        ("lora_unet_blocks_1_norm3.w_norm", "blocks.1.norm3.weight", vec![4]),
        ("lora_unet_blocks_1_self_attn_q.b_norm", "blocks.1.self_attn.q.bias", vec![6]),
        ("diffusion_model.blocks.1.diff_m", "blocks.1.modulation", vec![1, 3, 4]),
        ("diffusion_model.blocks.1.modulation.diff", "blocks.1.modulation", vec![1, 3, 4]),
        ("transformer.blocks.1.scale_shift_table.diff", "blocks.1.modulation", vec![1, 3, 4]),
        ("diffusion_model.patch_embedding.diff", "patch_embedding.weight", vec![6, 2, 1, 2, 2]),
    ];
    for (key, name, shape) in cases {
        let (original, diff) = (random(shape.clone(), 1), random(shape.clone(), 2));
        let stored = if name.ends_with("modulation") { diff.reshape((3, 4)).unwrap() } else { diff.clone() };
        let changes = changes(&named(&[(key, stored)]), &[], 0.5).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(changes.names().collect::<Vec<_>>(), [name], "{key}");
        assert!(changes.of(name)[0].low_rank().unwrap().is_none());
        close(&applied(&changes, name, &original), &plus(&original, &values(&diff), 0.5), key);
    }
}

#[test]
fn a_bias_of_a_pair_is_scaled_like_it() {
    let (down, up) = pair(2);
    let (original, bias) = (random(6, 1), random(6, 4));
    let tensors = named(&[
        ("blocks.1.self_attn.q.lora_A.weight", down),
        ("blocks.1.self_attn.q.lora_B.weight", up),
        ("blocks.1.self_attn.q.lora_B.bias", bias.clone()),
        ("blocks.1.self_attn.q.alpha", number(4.0)),
    ]);
    let changes = changes(&tensors, &[], 0.5).unwrap();
    let found = applied(&changes, "blocks.1.self_attn.q.bias", &original);
    close(&found, &plus(&original, &values(&bias), 1.0), "bias");
}

#[test]
fn convolutions_have_pairs_too_and_cores_between_them() {
    let original = random((6, 2, 1, 2, 2), 1);
    let (down, up, core) = (random((3, 2, 1, 2, 2), 2), random((6, 3, 1, 1, 1), 3), random((3, 3, 1, 2, 2), 4));
    let key = |suffix: &str| format!("diffusion_model.patch_embedding.{suffix}");
    let tensors = [(key("lora_down.weight"), down.clone()), (key("lora_up.weight"), up.clone())];
    let changed = changes(&tensors, &[], 1.0).unwrap();
    let expected = plus(&original, &product(&values(&up), &values(&down), 3), 1.0);
    close(&applied(&changed, "patch_embedding.weight", &original), &expected, "conv");

    let down = random((3, 2, 1, 1, 1), 5);
    let tensors = [
        (key("lora_down.weight"), down.clone()),
        (key("lora_up.weight"), up.clone()),
        (key("lora_mid.weight"), core.clone()),
    ];
    let changed = changes(&tensors, &[], 1.0).unwrap();
    let (up, core, down) = (values(&up), values(&core), values(&down));
    let mut delta = vec![0.0; 6 * 2 * 4];
    for (at, value) in delta.iter_mut().enumerate() {
        let (o, i, k) = (at / 8, at / 4 % 2, at % 4);
        for p in 0..3 {
            for q in 0..3 {
                *value += up[o * 3 + p] * core[(p * 3 + q) * 4 + k] * down[q * 2 + i];
            }
        }
    }
    close(&applied(&changed, "patch_embedding.weight", &original), &plus(&original, &delta, 1.0), "core");
}

#[test]
fn loha_is_the_product_of_two_products() {
    let original = random((6, 4), 1);
    let [a, b, c, d] = [((6, 3), 2), ((3, 4), 3), ((6, 3), 4), ((3, 4), 5)].map(|(shape, seed)| random(shape, seed));
    let key = |name: &str| format!("lora_unet_blocks_1_self_attn_q.{name}");
    let tensors = [
        (key("hada_w1_a"), a.clone()),
        (key("hada_w1_b"), b.clone()),
        (key("hada_w2_a"), c.clone()),
        (key("hada_w2_b"), d.clone()),
        (key("alpha"), number(2.0)),
    ];
    let changes = changes(&tensors, &[], 0.5).unwrap();
    let (first, second) = (product(&values(&a), &values(&b), 3), product(&values(&c), &values(&d), 3));
    let delta: Vec<f32> = first.iter().zip(&second).map(|(x, y)| x * y).collect();
    close(&applied(&changes, Q, &original), &plus(&original, &delta, 1.0 / 3.0), "LoHa");
}

#[test]
fn loha_of_a_convolution_has_cores() {
    let original = random((6, 2, 1, 2, 2), 1);
    let factor = |seed| [random((3, 3, 1, 2, 2), seed), random((3, 6), seed + 1), random((3, 2), seed + 2)];
    let ([t1, a1, b1], [t2, a2, b2]) = (factor(2), factor(5));
    let key = |name: &str| format!("lycoris_patch_embedding.{name}");
    let tensors = [
        (key("hada_t1"), t1.clone()),
        (key("hada_w1_a"), a1.clone()),
        (key("hada_w1_b"), b1.clone()),
        (key("hada_t2"), t2.clone()),
        (key("hada_w2_a"), a2.clone()),
        (key("hada_w2_b"), b2.clone()),
    ];
    let changes = changes(&tensors, &[], 1.0).unwrap();
    let rebuilt = |t: &Tensor, a: &Tensor, b: &Tensor, at: usize| {
        let (t, a, b, o, i, k) = (values(t), values(a), values(b), at / 8, at / 4 % 2, at % 4);
        let terms = (0..9).map(|pq| t[pq * 4 + k] * a[pq / 3 * 6 + o] * b[pq % 3 * 2 + i]);
        terms.sum::<f32>()
    };
    let delta: Vec<f32> = (0..48).map(|at| rebuilt(&t1, &a1, &b1, at) * rebuilt(&t2, &a2, &b2, at)).collect();
    close(&applied(&changes, "patch_embedding.weight", &original), &plus(&original, &delta, 1.0), "LoHa");
}

#[test]
fn lokr_is_a_kronecker_product_and_whole_factors_are_not_scaled() {
    let original = random((6, 4), 1);
    let (w1, w2, a, b) = (random((2, 2), 2), random((3, 2), 3), random((3, 1), 4), random((1, 2), 5));
    let kron = |w2: &[f32]| {
        let w1 = values(&w1);
        (0..24)
            .map(|at| (at / 4, at % 4))
            .map(|(o, i)| w1[o / 3 * 2 + i / 2] * w2[o % 3 * 2 + i % 2])
            .collect::<Vec<_>>()
    };
    let key = |name: &str| format!("diffusion_model.blocks.1.self_attn.q.{name}");
    let whole = [(key("lokr_w1"), w1.clone()), (key("lokr_w2"), w2.clone()), (key("alpha"), number(1e10))];
    let changed = changes(&whole, &[], 1.0).unwrap();
    close(&applied(&changed, Q, &original), &plus(&original, &kron(&values(&w2)), 1.0), "whole");
    let parts = [
        (key("lokr_w1"), w1.clone()),
        (key("lokr_w2_a"), a.clone()),
        (key("lokr_w2_b"), b.clone()),
        (key("alpha"), number(3.0)),
    ];
    let changed = changes(&parts, &[], 1.0).unwrap();
    let small = product(&values(&a), &values(&b), 1);
    close(&applied(&changed, Q, &original), &plus(&original, &kron(&small), 3.0), "parts");
}

#[test]
fn dora_gives_the_changed_weight_its_norms() {
    let original = random((6, 4), 1);
    let (down, up) = pair(2);
    let changed: Vec<f32> = plus(&original, &product(&values(&up), &values(&down), 2), 0.5);
    for (name, shape) in [("dora_scale", vec![6, 1]), ("lora_magnitude_vector", vec![6]), ("dora_scale", vec![1, 4])] {
        let (norms, per_input) = (random(shape.clone(), 7), shape == [1, 4]);
        let tensors = named(&[
            ("blocks.1.self_attn.q.lora_A.weight", down.clone()),
            ("blocks.1.self_attn.q.lora_B.weight", up.clone()),
            ("blocks.1.self_attn.q.alpha", number(1.0)),
            (&format!("blocks.1.self_attn.q.{name}"), norms.clone()),
        ]);
        let changes = changes(&tensors, &[], 0.25).unwrap();
        assert!(changes.of(Q)[0].low_rank().unwrap().is_none());
        let line = |at: usize| if per_input { at % 4 } else { at / 4 };
        let norm =
            |of: usize| (0..24).filter(|at| line(*at) == of).map(|at| changed[at] * changed[at]).sum::<f32>().sqrt();
        let base = values(&original);
        let expected = |at: usize| {
            let normed = values(&norms)[line(at)] * changed[at] / norm(line(at));
            base[at] + 0.25 * (normed - base[at])
        };
        close(&applied(&changes, Q, &original), &(0..24).map(expected).collect::<Vec<_>>(), name);
    }
}

#[test]
fn several_files_add_up_in_any_order_and_a_strength_of_zero_is_none() {
    let original = random((6, 4), 1);
    let lora = |seed: u64, strength: f32| {
        let (down, up) = pair(seed);
        let key = |suffix: &str| format!("blocks.1.self_attn.q.{suffix}");
        let mut tensors = vec![(key("lora_A.weight"), down), (key("lora_B.weight"), up)];
        if seed == 2 {
            tensors.push((key("dora_scale"), random((6, 1), 9)));
        }
        changes(&tensors, &[], strength).unwrap()
    };
    let (mut forward, mut back) = (lora(2, 1.0), lora(4, 0.5));
    forward.merge(lora(4, 0.5));
    back.merge(lora(2, 1.0));
    close(&applied(&forward, Q, &original), &applied(&back, Q, &original), "order");
    assert!(lora(2, 0.0).is_empty() && lora(2, -0.0).is_empty());
}

#[test]
fn weights_with_changes_are_rounded_once() {
    let original = random((6, 4), 1).to_dtype(DType::BF16).unwrap();
    let (down, up) = pair(2);
    let tensors = named(&[("blocks.1.self_attn.q.lora_A", down), ("blocks.1.self_attn.q.lora_B", up)]);
    let changes = Arc::new(changes(&tensors, &[], 0.01).unwrap());
    let exact = changes.apply(Q, &original.to_dtype(DType::F32).unwrap(), DType::F32).unwrap();
    let other = ("blocks.0.modulation".to_string(), random(4, 5));
    let model = HashMap::from([(Q.to_string(), original), other.clone()]);
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let weights = Weights::from_tensors(model.clone(), &Device::Cpu, dtype).with_changes(changes.clone());
        let found = weights.pp("blocks").pp(1).get_stored("self_attn.q.weight", (6, 4)).unwrap();
        assert_eq!(found.dtype(), dtype, "the model's dtype");
        assert_eq!(values(&found), values(&exact.to_dtype(dtype).unwrap()), "{dtype:?}");
        assert_eq!(values(&weights.get("blocks.0.modulation", 4).unwrap()), values(&other.1.to_dtype(dtype).unwrap()));
        assert!(weights.finish().is_ok());
        assert_eq!(weights.bytes(), (24 + 4) * dtype.size_in_bytes());
    }
    let without = HashMap::from([other]);
    let weights = Weights::from_tensors(without, &Device::Cpu, DType::F32).with_changes(changes.clone());
    weights.get("blocks.0.modulation", 4).unwrap();
    let error = weights.finish().unwrap_err();
    assert_eq!(error.to_string(), format!("a LoRA changes `{Q}`, which the model does not use"));
    let recorder = Weights::recorder_of(DType::BF16).with_changes(changes);
    assert_eq!(recorder.get_stored(Q, (6, 4)).unwrap().dtype(), DType::BF16);
}

#[test]
fn files_for_two_experts_change_each_its_own() {
    let (down, up) = pair(2);
    let expert = |prefix: &str, block: usize| {
        let key = |suffix: &str| format!("{prefix}.blocks.{block}.attn1.to_q.{suffix}");
        [(key("lora_A.weight"), down.clone()), (key("lora_B.weight"), up.clone())]
    };
    let names = |tensors: &[(String, Tensor)], of: Option<Expert>| {
        let changes = file(tensors, &[]).1.unwrap().changes(&target().of_expert(of), 1.0)?;
        Ok::<_, Error>(changes.names().map(str::to_string).collect::<Vec<_>>())
    };
    let both: Vec<_> = [expert("transformer", 1), expert("transformer_2", 2)].concat();
    assert_eq!(names(&both, Some(Expert::High)).unwrap(), ["blocks.1.self_attn.q.weight"]);
    assert_eq!(names(&both, Some(Expert::Low)).unwrap(), ["blocks.2.self_attn.q.weight"]);
    let error = names(&both, None).unwrap_err();
    assert!(error.to_string().contains("`transformer_2.blocks.2.attn1.to_q.lora_A.weight`"), "{error}");
    for of in [None, Some(Expert::High), Some(Expert::Low)] {
        assert_eq!(names(&expert("transformer", 3), of).unwrap(), ["blocks.3.self_attn.q.weight"]);
    }
}

#[test]
fn what_this_variant_lacks_is_counted_and_the_rest_applied() {
    let (down, up) = pair(2);
    let mut tensors = named(&[
        ("blocks.1.self_attn.q.lora_A.weight", down.clone()),
        ("blocks.1.self_attn.q.lora_B.weight", up.clone()),
        ("img_emb.proj.0.diff", random(7, 3)),
    ]);
    for stem in ["blocks.0.cross_attn.k_img", "lora_unet_blocks_1_cross_attn_k_img", "blocks.2.attn2.add_k_proj"] {
        tensors.push((format!("{stem}.lora_down.weight"), down.clone()));
        tensors.push((format!("{stem}.lora_up.weight"), up.clone()));
    }
    let changes = changes(&tensors, &[], 1.0).unwrap();
    assert_eq!(changes.names().collect::<Vec<_>>(), [Q]);
    let [remark] = changes.remarks() else { panic!("{:?}", changes.remarks()) };
    assert!(remark.contains("7 keys are for parts that this model lacks, such as `"), "{remark}");
}

#[test]
fn descriptions_say_what_is_inside() {
    let (down, up) = pair(2);
    let tensors = named(&[
        ("lora_unet_blocks_1_self_attn_q.lora_down.weight", down),
        ("lora_unet_blocks_1_self_attn_q.lora_up.weight", up),
        ("lora_unet_blocks_1_self_attn_q.alpha", number(8.0)),
        ("lora_unet_blocks_2_norm3.diff", random(4, 3)),
    ]);
    let metadata = [("modelspec.trigger_phrase", "k1nora"), ("ss_tag_frequency", "{}")];
    let (_folder, file) = file(&tensors, &metadata);
    let file = file.unwrap();
    let description = file.description();
    assert!(description.flattened && description.prefixes == ["lora_unet_"], "{description:?}");
    assert_eq!(description.parts, BTreeMap::from([("transformer", 2)]));
    assert_eq!(description.kinds, BTreeMap::from([("differences", 1), ("pairs", 1)]));
    assert_eq!(description.ranks, BTreeMap::from([(2, 1)]));
    assert_eq!(description.alphas, BTreeMap::from([("8".to_string(), 1)]));
    assert_eq!(description.metadata.len(), 1);
    assert!(description.remarks.is_empty() && file.check_values().unwrap().is_empty());
}
