//! Peak memory of encoding prompts for LTX-2, with random weights of the released sizes: predicted and measured.
//!
//! `cargo run --release -p kinora-text-encoder --example ltx_memory -- 2.0|2.3|2.5 dense|blocks TOKENS [TOKENS]` (Linux)
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device};
use kinora_checkpoint::{Blocks, Weights};
use kinora_kernels::LargeBlocks;
use kinora_text_encoder::causal_lm::Text;
use kinora_text_encoder::{CausalLm, CausalLmConfig, Connectors, ConnectorsConfig};
use mimalloc::MiMalloc;
use std::error::Error;
use std::time::Instant;

/// As in the binary, whose memory this is about.
#[global_allocator]
static ALLOCATOR: LargeBlocks<MiMalloc> = LargeBlocks(MiMalloc);

/// Rows of a context.
const ROWS: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: ltx_memory 2.0|2.3|2.5 dense|blocks TOKENS [TOKENS]";
    let [version, form, lengths @ ..] = arguments.as_slice() else { return Err(usage.into()) };
    let lengths: Vec<usize> = lengths.iter().map(|length| length.parse()).collect::<Result<_, _>>()?;
    let (language, connectors) = match version.as_str() {
        "2.0" => (CausalLmConfig::gemma3_12b(), ConnectorsConfig::ltx20()),
        "2.3" => (CausalLmConfig::gemma3_12b(), ConnectorsConfig::ltx23()),
        "2.5" => (CausalLmConfig::gemma4_12b(), ConnectorsConfig::ltx23()),
        _ => return Err(usage.into()),
    };
    let dtype = DType::BF16;
    let blocks = (form == "blocks").then_some(Blocks::Q4K);
    let weights = |seed| Weights::random_in_blocks(seed, &Device::Cpu, dtype, blocks);
    let (of_language, of_connectors) = (weights(1), weights(2));
    let model = CausalLm::new(&language, &of_language)?;
    let joined = Connectors::new(&connectors, &of_connectors)?;
    let before = peak_mib()?;

    let mib = |bytes: usize| bytes >> 20;
    let features = connectors.feature_bytes(&lengths, dtype);
    let states = language.weight_bytes(&of_language) + language.working_bytes(&lengths, dtype) + features;
    println!("predicted MiB: {} for hidden states, {} for contexts", mib(states), {
        mib(connectors.weight_bytes(&of_connectors) + connectors.working_bytes(&lengths, ROWS, dtype))
    });

    let start = Instant::now();
    let ids: Vec<Vec<u32>> = lengths.iter().map(|length| (0..*length as u32).map(|id| 2 + 7 * id).collect()).collect();
    let texts: Vec<Text> = ids.iter().map(|ids| Text { ids, padding: ROWS - ids.len() }).collect();
    let mut features: Vec<_> = texts.iter().map(|_| joined.features()).collect();
    model.states(&texts, language.layers.len(), |_, text, hidden| Ok(features[text].push(hidden)?))?;
    let (after, seconds) = (peak_mib()?, start.elapsed().as_secs_f64());
    println!("hidden states: {} MiB in {seconds:.1} s", after - before);
    joined.contexts(features, ROWS)?;
    println!("contexts: {} MiB in {:.1} s", peak_mib()? - before, start.elapsed().as_secs_f64() - seconds);
    Ok(())
}

/// The most memory that this process ever had resident.
fn peak_mib() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<usize>()? / 1024)
}
