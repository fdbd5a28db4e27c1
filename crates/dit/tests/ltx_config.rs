//! Both kinds of configuration of LTX-2.x: what is read, what is refused.

use kinora_dit::ltx::{LtxConfig, TextModulation};
use serde_json::{Value, json};

fn diffusers(json: &Value) -> Result<LtxConfig, String> {
    LtxConfig::from_diffusers_config(json.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn original(transformer: &Value) -> Result<LtxConfig, String> {
    let json = json!({"transformer": transformer, "vae": {"latent_channels": 128}});
    LtxConfig::from_original_config(json.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn with(base: &Value, field: &str, value: &Value) -> Value {
    let mut base = base.clone();
    base[field] = value.clone();
    base
}

#[test]
fn absent_fields_have_the_libraries_defaults() {
    let config = diffusers(&json!({"rope_type": "split"})).unwrap();
    assert_eq!((config.video.dim(), config.audio.dim(), config.num_layers), (4096, 2048, 48));
    assert_eq!((config.text_dim, config.gated_attention), (Some(3840), false));
    assert_eq!((config.text_modulation, config.cross_timestep), (TextModulation::None, false));
    let ours = original(&json!({"frequencies_precision": "float64"})).unwrap();
    assert_eq!(ours, LtxConfig { gate_multiplier: 0.001, ..config });
}

/// Fields of the connectors and of training are beside those of the transformer.
#[test]
fn fields_of_others_are_left_to_them() {
    let base = json!({"frequencies_precision": "float64", "av_ca_timestep_scale_multiplier": 1000.0});
    let more = json!({
        "frequencies_precision": "float64", "av_ca_timestep_scale_multiplier": 1000.0, "_class_name": "AVTransformer3DModel",
        "connector_num_layers": 2, "norm_num_groups": 32, "dropout": 0, "num_vector_embeds": null, "qk_norm": "rms_norm"
    });
    assert_eq!(original(&more).unwrap(), original(&base).unwrap());
}

/// A model whose text is modulated by a table alone has keys and values that are the same on every step.
#[test]
fn the_text_may_be_modulated_without_timesteps() {
    let theirs = json!({"rope_type": "split", "gated_attn": true, "audio_gated_attn": true, "cross_attn_mod": true,
        "audio_cross_attn_mod": true, "use_prompt_embeddings": false, "use_prompt_adaln_single": false});
    let ours = json!({"frequencies_precision": "float64", "apply_gated_attention": true, "cross_attention_adaln": true,
        "caption_proj_before_connector": true, "use_prompt_adaln_single": false, "av_ca_timestep_scale_multiplier": 1000});
    let config = diffusers(&theirs).unwrap();
    assert_eq!(original(&ours).unwrap(), config);
    assert_eq!((config.text_modulation, config.text_dim), (TextModulation::Queries, None));
}

#[test]
fn unsupported_features_of_diffusers_are_errors() {
    let base = json!({"rope_type": "split"});
    for (field, value, shown) in [
        ("_class_name", json!("LTXVideoTransformer3DModel"), "\"LTXVideoTransformer3DModel\""),
        ("patch_size", json!(2), "2"),
        ("audio_patch_size_t", json!(4), "4"),
        ("vae_scale_factors", json!([8, 16, 16]), "[8,16,16]"),
        ("qk_norm", json!("rms_norm"), "\"rms_norm\""),
        ("attention_bias", json!(false), "false"),
        ("rope_theta", json!(1e6), "1000000.0"),
        ("rope_double_precision", json!(false), "false"),
        ("rope_type", json!("interleaved"), "`interleaved`"),
        ("audio_gated_attn", json!(true), "true"),
        ("audio_cross_attn_mod", json!(true), "true"),
        ("out_channels", json!(64), "64"),
        ("audio_out_channels", json!(64), "64"),
        ("cross_attention_dim", json!(3840), "3840"),
        ("audio_cross_attention_dim", json!(1024), "1024"),
        ("timestep_scale_multiplier", json!(1), "1"),
        ("pose_channels", json!(3), "3"),
    ] {
        let message = diffusers(&with(&base, field, &value)).unwrap_err();
        assert_eq!(message, format!("the transformer's `{field}` is {shown}, which is not supported"));
    }
    // Without the field, diffusers takes the other kind of rotation.
    assert!(diffusers(&json!({})).unwrap_err().contains("`rope_type` is `interleaved`"));
}

#[test]
fn unsupported_features_of_the_original_are_errors() {
    let base = json!({"frequencies_precision": "float64"});
    for (field, value, shown) in [
        ("positional_embedding_max_pos", json!([20, 1024, 1024]), "[20,1024,1024]"),
        ("use_middle_indices_grid", json!(false), "false"),
        ("use_audio_video_cross_attention", json!(false), "false"),
        ("rope_type", json!("interleaved"), "`interleaved`"),
        ("frequencies_precision", json!(false), "false"),
        ("dropout", json!(0.1), "0.1"),
        ("out_channels", json!(3), "3"),
        ("cross_attention_dim", json!(2048), "2048"),
    ] {
        let message = original(&with(&base, field, &value)).unwrap_err();
        assert_eq!(message, format!("the transformer's `{field}` is {shown}, which is not supported"));
    }
    let message = LtxConfig::from_original_config(b"{\"vae\": {}}").unwrap_err().to_string();
    let start = "the transformer's configuration cannot be told from its tensors";
    assert_eq!(message, format!("{start}: the file's configuration has no `transformer`"));
}

#[test]
fn nonsense_is_an_error() {
    let base = json!({"rope_type": "split"});
    for (field, value, problem) in [
        ("num_layers", json!(0), "is 0, expected 1 to 1048576"),
        ("caption_channels", json!(1 << 21), "is 2097152, expected 1 to 1048576"),
        ("attention_head_dim", json!(127), "is 127, expected an even number"),
        ("audio_attention_head_dim", json!(63), "is 63, expected an even number"),
        ("num_attention_heads", json!(1 << 20), "is 1048576 of 128 each, expected at most 1048576 in all modulations"),
        ("audio_num_attention_heads", json!(16), "is 16, expected the 32 of video"),
        ("norm_eps", json!(0.0), "is 0, expected a positive number"),
        ("cross_attn_timestep_scale_multiplier", json!(-1), "is -0.001, expected a positive number"),
    ] {
        let message = diffusers(&with(&base, field, &value)).unwrap_err();
        assert_eq!(message, format!("the transformer's `{field}` {problem}"));
    }
    assert!(diffusers(&json!([1])).unwrap_err().starts_with("the transformer's config.json cannot be read: "));
}
