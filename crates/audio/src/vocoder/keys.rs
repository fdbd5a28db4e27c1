//! Parameter names of vocoders in the layouts that exist. Canonical ones are the original release's, without the segment `vocoder` that all of
//! them begin with in files that hold more than the vocoder.

use kinora_checkpoint::KeyMap;

/// Returns the layouts of vocoders' files: the original's names, and diffusers', of one generator and of two. Names of one generator behind
/// the segment `vocoder` would be those of the first of two, so the layouts of one come first.
pub fn key_maps() -> Vec<KeyMap> {
    let generators: [&[&str]; 2] = [&[""], &["vocoder.", "bwe_generator."]];
    generators.into_iter().flat_map(|generators| [original(generators), diffusers(generators)]).collect()
}

fn original(generators: &[&str]) -> KeyMap {
    map("original vocoder", generators, ["conv_pre", "conv_post", "ups", "resblocks", "act_post"], "downsample.lowpass")
}

fn diffusers(generators: &[&str]) -> KeyMap {
    map("diffusers vocoder", generators, ["conv_in", "conv_out", "upsamplers", "resnets", "act_out"], "downsample")
}

/// Returns the layout that calls the parts of generators `names` and the second filter of an activation `downsample`.
fn map(layout: &str, generators: &[&str], names: [&str; 5], downsample: &str) -> KeyMap {
    let [before, after, ups, blocks, act] = names;
    let mut rules = Vec::new();
    for generator in generators {
        let mut add = |source: String, canonical: String| {
            rules.push((format!("{generator}{source}"), format!("{generator}{canonical}")));
        };
        add(format!("{before}.{{p}}"), "conv_pre.{p}".to_string());
        add(format!("{after}.{{p}}"), "conv_post.{p}".to_string());
        add(format!("{ups}.{{i}}.{{p}}"), "ups.{i}.{p}".to_string());
        for convs in ["convs1", "convs2"] {
            add(format!("{blocks}.{{i}}.{convs}.{{j}}.{{p}}"), format!("resblocks.{{i}}.{convs}.{{j}}.{{p}}"));
        }
        let blocks = ["acts1", "acts2"]
            .map(|acts| [format!("{blocks}.{{i}}.{acts}.{{j}}"), format!("resblocks.{{i}}.{acts}.{{j}}")]);
        for [source, canonical] in blocks.into_iter().chain([[act.to_string(), "act_post".to_string()]]) {
            add(format!("{source}.act.{{p}}"), format!("{canonical}.act.{{p}}"));
            add(format!("{source}.upsample.filter"), format!("{canonical}.upsample.filter"));
            add(format!("{source}.{downsample}.filter"), format!("{canonical}.downsample.lowpass.filter"));
        }
    }
    if generators.len() > 1 {
        for name in ["mel_stft.mel_basis", "mel_stft.stft_fn.forward_basis"] {
            rules.push((name.to_string(), name.to_string()));
        }
    }
    // The inverse transform is not used.
    KeyMap::new(layout, rules).dropping(["mel_stft.stft_fn.inverse_basis"])
}
