//! Language models and connectors ask for exactly the tensors that the released checkpoints have, in all layouts.

use kinora_checkpoint::Weights;
use kinora_test_support::fixture;
use kinora_text_encoder::causal_lm::gemma;
use kinora_text_encoder::{CausalLm, CausalLmConfig, Connectors, ConnectorsConfig, ltx};
use std::collections::BTreeMap;

type Shapes = BTreeMap<String, Vec<usize>>;

/// The configuration and the tensors of a released model, with names by column, from a list made by
/// `scripts/fixtures/ltx_text.py`.
fn released(list: &str, column: usize) -> (String, Shapes) {
    let text = std::fs::read_to_string(fixture("keys").join(list)).unwrap();
    let (config, lines) = text.split_once('\n').unwrap();
    let mut shapes = Shapes::new();
    for line in lines.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let shape: Vec<usize> = serde_json::from_str(fields.last().unwrap()).unwrap();
        let counted = fields[column].split_once("{0..").map(|(start, rest)| (start, rest.split_once('}').unwrap()));
        match counted {
            None => drop(shapes.insert(fields[column].to_string(), shape)),
            Some((start, (count, rest))) => {
                let count: usize = count.parse().unwrap();
                shapes.extend((0..count).map(|i| (format!("{start}{i}{rest}"), shape.clone())));
            }
        }
    }
    (config.trim_start_matches("# ").to_string(), shapes)
}

/// Source names by canonical name, of the first of the maps that knows all of them.
fn canonical(maps: &[kinora_checkpoint::KeyMap], names: &[String]) -> BTreeMap<String, String> {
    let names = || names.iter().map(String::as_str);
    let found = maps.iter().find_map(|map| map.canonical_names(names()).ok());
    found.unwrap_or_else(|| panic!("{:?}", maps[0].canonical_names(names()).unwrap_err().to_string()))
}

/// The name of a list, and what makes the configuration of its model.
type Listed<C> = (&'static str, fn() -> C);

const GEMMAS: [Listed<CausalLmConfig>; 2] =
    [("gemma3_12b.txt", CausalLmConfig::gemma3_12b), ("gemma4_12b.txt", CausalLmConfig::gemma4_12b)];

#[test]
fn language_models_ask_for_the_released_tensors() {
    for (list, of_release) in GEMMAS {
        let (json, shapes) = released(list, 0);
        let config = CausalLmConfig::from_gemma_json(json.as_bytes()).unwrap();
        assert_eq!(config, of_release(), "{list}");
        let weights = Weights::recorder();
        CausalLm::new(&config, &weights).unwrap();
        assert_eq!(weights.asked(), shapes, "{list}");
        let listed: Vec<_> = shapes.into_iter().collect();
        assert_eq!(CausalLmConfig::of_released_gemma(&listed), config, "{list}");
    }
}

#[test]
fn language_models_have_the_same_names_in_all_checkpoints_of_transformers() {
    let more = ["lm_head.weight", "tokenizer_json", "text_embedding_projection.video_aggregate_embed.bias"];
    for (list, _) in GEMMAS {
        let (_, shapes) = released(list, 0);
        for (prefix, others) in [
            ("", &[][..]),
            ("model.", &more[..]),
            ("language_model.model.", &["language_model.lm_head.weight", "vision_tower.post_layernorm.bias"]),
            ("model.language_model.", &["model.embed_vision.embedding_projection.weight", "lm_head.weight"]),
            ("text_encoders.gemma.transformer.model.", &[]),
        ] {
            let own = shapes.keys().map(|name| format!("{prefix}{name}"));
            let names: Vec<String> = own.chain(others.iter().map(|name| (*name).to_string())).collect();
            let found = canonical(&gemma::key_maps(), &names);
            let expected: BTreeMap<String, String> =
                shapes.keys().map(|name| (name.clone(), format!("{prefix}{name}"))).collect();
            assert_eq!(found, expected, "{list} below `{prefix}`");
        }
    }
}

/// Norms of Gemma 3 have another canonical name in files of llama.cpp, which added 1 to their weights.
#[test]
fn language_models_have_the_same_names_in_files_of_llama_cpp() {
    let parts = [
        ("embed_tokens", "token_embd"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("norm", "output_norm"),
    ];
    let llama_cpp = |name: &str| {
        if let Some(layer) = name.strip_suffix(".layer_scalar") {
            return layer.replace("layers.", "blk.") + ".layer_output_scale.weight";
        }
        let own = name.trim_end_matches(".weight");
        let layer = own.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
        let part = |own: &str| parts.iter().find(|(part, _)| *part == own).unwrap().1;
        match layer {
            Some((index, own)) => format!("blk.{index}.{}.weight", part(own)),
            None => format!("{}.weight", part(own)),
        }
    };
    for (list, of_release) in GEMMAS {
        let (_, shapes) = released(list, 0);
        let names: Vec<String> =
            shapes.keys().map(|name| llama_cpp(name)).chain(["rope_freqs.weight".into()]).collect();
        let found = canonical(&gemma::key_maps(), &names);
        let plus_one = of_release().norm_offset;
        let renamed = |name: &String| match name.strip_suffix("norm.weight") {
            Some(start) if plus_one => format!("{start}norm.scale"),
            _ => name.clone(),
        };
        let expected: BTreeMap<String, String> = shapes.keys().map(|name| (renamed(name), llama_cpp(name))).collect();
        assert_eq!(found, expected, "{list}");
    }
}

const CONNECTORS: [Listed<ConnectorsConfig>; 2] =
    [("ltx20_connectors.txt", ConnectorsConfig::ltx20), ("ltx23_connectors.txt", ConnectorsConfig::ltx23)];

#[test]
fn connectors_ask_for_the_released_tensors() {
    for (list, of_release) in CONNECTORS {
        let (json, shapes) = released(list, 1);
        let config = ConnectorsConfig::from_json(json.as_bytes()).unwrap();
        assert_eq!(config, of_release(), "{list}");
        let weights = Weights::recorder();
        Connectors::new(&config, &weights).unwrap();
        assert_eq!(weights.asked(), shapes, "{list}");
        let listed: Vec<_> = shapes.into_iter().collect();
        assert_eq!(ConnectorsConfig::of_released(&listed), config, "{list}");
    }
}

#[test]
fn connectors_have_the_same_names_in_all_layouts() {
    for (list, _) in CONNECTORS {
        let (diffusers, original) = (released(list, 0).1, released(list, 1).1);
        let names: Vec<String> = diffusers.keys().cloned().collect();
        let found = canonical(&ltx::key_maps(), &names);
        assert!(found.keys().eq(original.keys()), "{list}: {found:?}");
        assert!(found.iter().all(|(canonical, source)| original[canonical] == diffusers[source]), "{list}");
        // In one file with the transformer, or beside it.
        let whole = |name: &String| format!("model.diffusion_model.{name}");
        let beside = |name: &String| if name.starts_with("text_") { name.clone() } else { whole(name) };
        let layouts: [&dyn Fn(&String) -> String; 3] = [&String::clone, &whole, &beside];
        for layout in layouts {
            let names: Vec<String> = original.keys().map(layout).collect();
            let found = canonical(&ltx::key_maps(), &names);
            let expected: BTreeMap<String, String> = original.keys().map(|name| (name.clone(), layout(name))).collect();
            assert_eq!(found, expected, "{list}");
        }
    }
}
