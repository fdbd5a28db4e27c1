//! Parameter names: from diffusers' layout to the original's.

use super::Config;
use kinora_checkpoint::KeyMap;

/// Returns the map from the names of diffusers' `AutoencoderKLWan` to the original's, which are canonical.
pub fn canonical_from_diffusers(config: &Config) -> KeyMap {
    let mut rules = Rules::default();
    rules.add("quant_conv.{p}", "conv1.{p}");
    rules.add("post_quant_conv.{p}", "conv2.{p}");
    rules.add("{side}.conv_in.{p}", "{side}.conv1.{p}");
    rules.residual_block("{side}.mid_block.resnets.0", "{side}.middle.0");
    rules.add("{side}.mid_block.attentions.0.{p..}", "{side}.middle.1.{p..}");
    rules.residual_block("{side}.mid_block.resnets.1", "{side}.middle.2");
    rules.add("{side}.norm_out.gamma", "{side}.head.0.gamma");
    rules.add("{side}.conv_out.{p}", "{side}.head.2.{p}");
    let name = if config.is_residual {
        rules.nested_stages(config);
        "diffusers Wan 2.2 VAE"
    } else {
        rules.counted_stages(config);
        "diffusers Wan 2.1 VAE"
    };
    KeyMap::new(name, rules.0)
}

#[derive(Default)]
struct Rules(Vec<(String, String)>);

impl Rules {
    fn add(&mut self, source: &str, canonical: &str) {
        self.0.push((source.to_string(), canonical.to_string()));
    }

    fn residual_block(&mut self, source: &str, canonical: &str) {
        self.add(&format!("{source}.norm1.gamma"), &format!("{canonical}.residual.0.gamma"));
        self.add(&format!("{source}.conv1.{{p}}"), &format!("{canonical}.residual.2.{{p}}"));
        self.add(&format!("{source}.norm2.gamma"), &format!("{canonical}.residual.3.gamma"));
        self.add(&format!("{source}.conv2.{{p}}"), &format!("{canonical}.residual.6.{{p}}"));
        self.add(&format!("{source}.conv_shortcut.{{p}}"), &format!("{canonical}.shortcut.{{p}}"));
    }

    fn resample(&mut self, source: &str, canonical: &str) {
        self.add(&format!("{source}.resample.1.{{p}}"), &format!("{canonical}.resample.1.{{p}}"));
        self.add(&format!("{source}.time_conv.{{p}}"), &format!("{canonical}.time_conv.{{p}}"));
    }

    /// Wan 2.1: the original numbers the layers of all stages in one list; diffusers does so in the encoder only.
    fn counted_stages(&mut self, config: &Config) {
        self.residual_block("encoder.down_blocks.{n}", "encoder.downsamples.{n}");
        self.resample("encoder.down_blocks.{n}", "encoder.downsamples.{n}");
        let blocks = config.num_res_blocks + 1;
        for stage in 0..config.dim_mult.len() {
            let (source, first) = (format!("decoder.up_blocks.{stage}"), stage * (blocks + 1));
            for block in 0..blocks {
                let canonical = format!("decoder.upsamples.{}", first + block);
                self.residual_block(&format!("{source}.resnets.{block}"), &canonical);
            }
            self.resample(&format!("{source}.upsamplers.0"), &format!("decoder.upsamples.{}", first + blocks));
        }
    }

    /// Wan 2.2: the original has one list per stage, which the resampling ends.
    fn nested_stages(&mut self, config: &Config) {
        let (down, up) = ("encoder.downsamples.{i}.downsamples", "decoder.upsamples.{i}.upsamples");
        let last = config.num_res_blocks;
        self.residual_block("encoder.down_blocks.{i}.resnets.{j}", &format!("{down}.{{j}}"));
        self.resample("encoder.down_blocks.{i}.downsampler", &format!("{down}.{last}"));
        self.residual_block("decoder.up_blocks.{i}.resnets.{j}", &format!("{up}.{{j}}"));
        self.resample("decoder.up_blocks.{i}.upsampler", &format!("{up}.{}", last + 1));
    }
}
