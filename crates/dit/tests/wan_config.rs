//! Both kinds of config.json: what is read, what is refused.

use kinora_dit::wan::{WanConfig, WanModel};
use serde_json::{Value, json};

fn diffusers(json: &Value) -> Result<WanConfig, String> {
    WanConfig::from_diffusers_config(json.to_string().as_bytes()).map_err(|error| error.to_string())
}

const VACE: &str = "WanVACETransformer3DModel";

fn original(json: &Value) -> Result<WanConfig, String> {
    WanConfig::from_original_config(json.to_string().as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn absent_fields_have_the_library_s_defaults() {
    let config = diffusers(&json!({})).unwrap();
    assert_eq!((config.num_heads, config.head_dim, config.dim()), (40, 128, 5120));
    assert_eq!((config.num_layers, config.ffn_dim, config.text_len), (40, 13824, 512));
    assert_eq!(diffusers(&json!({"in_channels": 36, "out_channels": null})).unwrap().out_channels, 36);
    assert_eq!(diffusers(&json!({"in_channels": 36})).unwrap().out_channels, 16);
    let config = original(&json!({})).unwrap();
    assert_eq!((config.dim(), config.num_heads, config.num_layers, config.ffn_dim), (2048, 16, 32, 8192));
}

#[test]
fn both_kinds_of_file_say_the_same() {
    // https://huggingface.co/Wan-AI/Wan2.2-TI2V-5B/blob/main/config.json
    let original = original(&json!({
        "_class_name": "WanModel", "_diffusers_version": "0.33.0", "dim": 3072, "eps": 1e-6, "ffn_dim": 14336,
        "freq_dim": 256, "in_dim": 48, "model_type": "ti2v", "num_heads": 24, "num_layers": 30, "out_dim": 48,
        "text_len": 512
    }));
    let diffusers = diffusers(&json!({
        "_class_name": "WanTransformer3DModel", "_diffusers_version": "0.35.0.dev0", "added_kv_proj_dim": null,
        "attention_head_dim": 128, "cross_attn_norm": true, "eps": 1e-6, "ffn_dim": 14336, "freq_dim": 256,
        "image_dim": null, "in_channels": 48, "num_attention_heads": 24, "num_layers": 30, "out_channels": 48,
        "patch_size": [1, 2, 2], "pos_embed_seq_len": null, "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024, "text_dim": 4096
    }));
    assert_eq!(original.unwrap(), diffusers.unwrap());
}

/// The original files of released relatives, as far as they differ from the text-to-video models'.
#[test]
fn conditioned_models_are_read_from_both_kinds_of_file() {
    let large = json!({"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40});
    let small = json!({"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30});
    let with = |base: &Value, more: Value| {
        let mut all = base.as_object().unwrap().clone();
        all.extend(more.as_object().unwrap().clone());
        original(&Value::Object(all)).unwrap()
    };
    let i2v = json!({"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120});
    assert_eq!(with(&large, json!({"model_type": "i2v", "in_dim": 36})), diffusers(&i2v).unwrap());
    let flf2v = json!({"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120, "pos_embed_seq_len": 514});
    assert_eq!(with(&large, json!({"model_type": "flf2v", "in_dim": 36})), diffusers(&flf2v).unwrap());
    let every_other: Vec<usize> = (0..30).step_by(2).collect();
    let vace = json!({
        "_class_name": VACE, "ffn_dim": 8960, "num_attention_heads": 12, "num_layers": 30, "vace_layers": every_other
    });
    for layers in [json!(every_other), Value::Null] {
        let found = with(&small, json!({"model_type": "vace", "vace_layers": layers, "vace_in_dim": 96}));
        assert_eq!(found, diffusers(&vace).unwrap());
    }
    let camera = json!({
        "in_channels": 32, "image_dim": 1280, "added_kv_proj_dim": 1536, "ffn_dim": 8960, "num_attention_heads": 12,
        "num_layers": 30, "camera": true
    });
    let adapter = json!({"model_type": "i2v", "in_dim": 32, "add_control_adapter": true, "in_dim_control_adapter": 24});
    assert_eq!(with(&small, adapter), diffusers(&camera).unwrap());
}

#[test]
fn absent_fields_of_controlled_models_have_defaults_too() {
    let config = diffusers(&json!({"_class_name": VACE})).unwrap();
    assert_eq!((config.vace_layers, config.vace_in_channels), (vec![0, 5, 10, 15, 20, 25, 30, 35], Some(96)));
    let config = original(&json!({"model_type": "vace"})).unwrap();
    assert_eq!((config.vace_layers, config.vace_in_channels), ((0..32).step_by(2).collect(), Some(16)));
}

#[test]
fn what_is_not_supported_is_named() {
    for (json, message) in [
        (json!({"image_dim": 1280}), "`image_dim` is 1280"),
        (json!({"added_kv_proj_dim": 5120}), "`added_kv_proj_dim` is 5120"),
        (json!({"image_dim": 1280, "added_kv_proj_dim": 1280}), "`added_kv_proj_dim` is 1280"),
        (json!({"vace_layers": [0, 5]}), "`vace_layers` is [0,5]"),
        (json!({"motion_encoder_dim": 512}), "`motion_encoder_dim` is 512"),
        (json!({"_class_name": "WanAnimateTransformer3DModel"}), "`_class_name` is `WanAnimateTransformer3DModel`"),
        (json!({"qk_norm": "rms_norm"}), "`qk_norm` is `rms_norm`"),
        (json!({"qk_norm": null}), "`qk_norm` is `null`"),
    ] {
        assert_eq!(diffusers(&json).unwrap_err(), format!("the transformer's {message}, which is not supported"));
    }
    for (json, message) in [
        (json!({"model_type": "s2v"}), "`model_type` is s2v"),
        (json!({"model_type": "i2v", "in_dim_control_adapter": 6}), "`in_dim_control_adapter` is 6"),
        (json!({"model_type": "i2v", "add_ref_conv": true}), "`add_ref_conv` is true"),
        (json!({"qk_norm": false}), "`qk_norm` is false"),
        (json!({"window_size": [21, 21]}), "`window_size` is [21, 21]"),
        (json!({"vace_layers": 8}), "`vace_layers` is 8"),
    ] {
        assert_eq!(original(&json).unwrap_err(), format!("the transformer's {message}, which is not supported"));
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    for (json, message) in [
        (json!({"num_layers": 0}), "`num_layers` is 0, expected 1 to 1048576"),
        (json!({"ffn_dim": 1_099_511_627_776_u64}), "`ffn_dim` is 1099511627776, expected 1 to 1048576"),
        (json!({"patch_size": [1, 0, 2]}), "`patch_size` is 0, expected 1 to 64"),
        (json!({"attention_head_dim": 7}), "`attention_head_dim` is 7, expected an even number"),
        (json!({"freq_dim": 255}), "`freq_dim` is 255, expected an even number"),
        (json!({"eps": -1.0}), "`eps` is -1, expected 0 to 1"),
        (
            json!({"num_attention_heads": 65536, "attention_head_dim": 65536}),
            "`num_attention_heads` is 65536 of 65536 each, expected at most 1048576 in all",
        ),
        (json!({"in_channels": 8}), "`in_channels` is 8, expected the 16 of `out_channels` at least"),
        (json!({"image_dim": 0, "added_kv_proj_dim": 5120}), "`image_dim` is 0, expected 1 to 1048576"),
        (json!({"pos_embed_seq_len": 514}), "`pos_embed_seq_len` is 514, without an `image_dim`"),
        (
            json!({"camera": true, "patch_size": [2, 2, 2]}),
            "`patch_size` is [2, 2, 2], but a model with a camera adapter takes single frames",
        ),
        (json!({"_class_name": VACE, "vace_layers": []}), "`vace_layers` is [], beside `vace_in_channels` Some(96)"),
        (
            json!({"_class_name": VACE, "num_layers": 2}),
            "`vace_layers` is [0, 5, 10, 15, 20, 25, 30, 35], expected 0 and later ones of the 2 layers, in ascending order",
        ),
        (
            json!({"_class_name": VACE, "vace_layers": [1, 2]}),
            "`vace_layers` is [1, 2], expected 0 and later ones of the 40 layers, in ascending order",
        ),
        (
            json!({"_class_name": VACE, "vace_layers": [0, 2, 2]}),
            "`vace_layers` is [0, 2, 2], expected 0 and later ones of the 40 layers, in ascending order",
        ),
    ] {
        assert_eq!(diffusers(&json).unwrap_err(), format!("the transformer's {message}"));
    }
    for (json, message) in [
        (json!({"dim": 100, "num_heads": 12}), "`dim` is 100, which 12 heads cannot share"),
        (json!({"dim": 0, "num_heads": 0}), "`dim` is 0, which 0 heads cannot share"),
        (json!({"num_heads": 0}), "`dim` is 2048, which 0 heads cannot share"),
    ] {
        assert_eq!(original(&json).unwrap_err(), format!("the transformer's {message}"));
    }
    for text in ["", "[]", "{\"num_layers\": -1}", "{\"patch_size\": [1, 2]}", "{\"eps\": \"small\"}"] {
        let error = WanConfig::from_diffusers_config(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("the transformer's config.json cannot be read: "), "{error}");
    }
}

#[test]
fn a_config_made_by_hand_is_checked_too() {
    let config = WanConfig { head_dim: 3, ..diffusers(&json!({})).unwrap() };
    let error = WanModel::new(&config, &kinora_checkpoint::Weights::recorder()).err().unwrap().to_string();
    assert_eq!(error, "the transformer's `attention_head_dim` is 3, expected an even number");
}
