//! Both kinds of config.json: what is read, what is refused.

use kinora_dit::wan::{WanConfig, WanModel};
use serde_json::{Value, json};

fn diffusers(json: &Value) -> Result<WanConfig, String> {
    WanConfig::from_diffusers_config(json.to_string().as_bytes()).map_err(|error| error.to_string())
}

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

#[test]
fn what_is_not_supported_is_named() {
    for (json, message) in [
        (json!({"image_dim": 1280}), "`image_dim` is 1280"),
        (json!({"added_kv_proj_dim": 5120}), "`added_kv_proj_dim` is 5120"),
        (json!({"pos_embed_seq_len": 514}), "`pos_embed_seq_len` is 514"),
        (json!({"vace_layers": [0, 5]}), "`vace_layers` is [0,5]"),
        (json!({"motion_encoder_dim": 512}), "`motion_encoder_dim` is 512"),
        (json!({"_class_name": "WanVACETransformer3DModel"}), "`_class_name` is `WanVACETransformer3DModel`"),
        (json!({"qk_norm": "rms_norm"}), "`qk_norm` is `rms_norm`"),
        (json!({"qk_norm": null}), "`qk_norm` is `null`"),
    ] {
        assert_eq!(diffusers(&json).unwrap_err(), format!("the transformer's {message}, which is not supported"));
    }
    for (json, message) in [
        (json!({"model_type": "i2v"}), "`model_type` is i2v"),
        (json!({"model_type": "vace"}), "`model_type` is vace"),
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
