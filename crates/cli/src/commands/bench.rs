//! `kinora bench`.

use crate::args::{BenchArgs, Format};
use crate::report;
use kinora::bench::{BenchOptions, BenchReport, Cpu, Measurement, OperatorShare, Rates, bench};
use kinora::{Error, Result};

/// Measures and prints a table.
pub fn run(args: &BenchArgs) -> Result<()> {
    let options = BenchOptions {
        load: args.loras.over(args.model.load_options(), None),
        random: args.random.clone(),
        size: args.size.as_deref().map(parse_size).transpose()?,
        parts: args.what.parts(),
        text_layers: args.text_layers,
        dit_layers: args.dit_layers,
        blocks: args.blocks,
        attention: args.attention,
        runs: args.runs.into(),
    };
    // An earlier result that cannot be read is an error before the measurements, not after them.
    let earlier = args.compare.as_deref().map(BenchReport::read).transpose()?;
    let mut found = bench(&options, |part| report::say(&format!("measuring {part} …")))?;
    if let Some(earlier) = &earlier {
        found.compare(earlier);
        if earlier.threads != found.threads {
            report::note(&format!("the earlier result used {} threads, this one {}", earlier.threads, found.threads));
        }
    }
    match args.format {
        Format::Md => markdown(&found, earlier.is_some()),
        Format::Csv => csv(&found),
        Format::Json => report::pretty_json(&found),
    }
    Ok(())
}

fn parse_size(text: &str) -> Result<[usize; 3]> {
    let numbers: Option<Vec<usize>> = text.split('x').map(|number| number.parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| {
        Error::request(format!("`{text}` is not a size"), "write WIDTHxHEIGHTxFRAMES, such as 832x480x81")
    })
}

fn markdown(found: &BenchReport, compared: bool) {
    let (title, rule) = if compared { (" earlier / now |", "---|") } else { ("", "") };
    report::line(&format!("| part | work | s (median) | min to max | per second | GFLOP/s | peak memory |{title}"));
    report::line(&format!("|---|---|---|---|---|---|---|{rule}"));
    for row in &found.parts {
        let speedup =
            if compared { format!(" {} |", optional(row.speedup, |s| format!("{s:.2}×"))) } else { String::new() };
        report::line(&format!(
            "| {} | {} | {:.3} | {:.3} to {:.3} | {:.3} {} | {:.1} | {}{} |{speedup}",
            row.part,
            row.work,
            row.seconds,
            row.fastest,
            row.slowest,
            row.per_second,
            unit(row),
            row.gflops,
            optional(row.peak_memory, report::bytes),
            if row.peak_memory_so_far { " so far" } else { "" },
        ));
    }
    report::line("");
    report::line("| part | operator | calls | s | share | GFLOP/s | of peak |");
    report::line("|---|---|---|---|---|---|---|");
    for row in &found.parts {
        for OperatorShare { operator, calls, seconds, share, gflops, of_peak } in &row.operators {
            report::line(&format!(
                "| {} | {operator} | {calls} | {seconds:.3} | {:.1} % | {} | {} |",
                row.part,
                100.0 * share,
                optional(*gflops, |gflops| format!("{gflops:.1}")),
                optional(*of_peak, |share| format!("{:.0} %", 100.0 * share)),
            ));
        }
    }
    if let Some(peak) = found.peak {
        let more = |peak: Option<f64>, unit| peak.map_or_else(String::new, |peak| format!(", {peak:.0} {unit}"));
        let (bf16, int8) = (more(peak.bf16, "bf16 GFLOP/s"), more(peak.int8, "int8 Gop/s"));
        let threads = found.threads;
        report::line("");
        report::line(&format!(
            "Peak of this machine with {threads} threads, measured: {:.0} f32 GFLOP/s{bf16}{int8}.",
            peak.f32
        ));
    }
    if let Some(cpu) = &found.cpu {
        kernels(cpu);
    }
}

/// Prints what the CPU computes with, how fast, and which options would make it slower.
fn kernels(cpu: &Cpu) {
    let words = cpu.instructions.each_ref().map(|(arithmetic, words)| format!("{arithmetic}: {words}"));
    report::line(&format!("Kernels of level {}: {}.", cpu.level, words.join("; ")));
    report::line("");
    report::line("| 10⁹ operations per second | f32 | bf16 | int8 |");
    report::line("|---|---|---|---|");
    for (operator, Rates { f32, bf16, int8 }) in [("linear", cpu.linear), ("attention", cpu.attention)] {
        report::line(&format!("| {operator} | {f32:.0} | {bf16:.0} | {int8:.0} |"));
    }
    let slower = |option, rate: fn(Rates) -> f64| {
        let operators = [("linear layers", cpu.linear), ("attention", cpu.attention)];
        let slow = operators.into_iter().filter(move |(_, rates)| rate(*rates) < NOISE * rates.f32);
        slow.map(move |(operator, rates)| {
            let times = rates.f32 / rate(rates);
            format!("Here {option} makes {operator} slower: f32 is {times:.2}× as fast.")
        })
    };
    for line in slower("--dtype bf16", |rates| rates.bf16).chain(slower("--quant int8", |rates| rates.int8)) {
        report::line(&line);
    }
}

/// Rates that differ by less are taken for equal.
const NOISE: f64 = 0.95;

fn unit(row: &Measurement) -> &'static str {
    match row.part.as_str() {
        "dit" => "steps",
        "text" => "prompts",
        _ => "frames",
    }
}

fn optional<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".into(), show)
}

/// Prints one line per part, with an empty operator, and one per operator.
fn csv(found: &BenchReport) {
    report::line(
        "part,operator,work,calls,seconds,fastest,slowest,per_second,gflops,share,of_peak,peak_memory,speedup",
    );
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for row in &found.parts {
        let memory = row.peak_memory.map_or_else(String::new, |bytes| bytes.to_string());
        report::line(&format!(
            "{},,\"{}\",,{},{},{},{},{},1,,{memory},{}",
            row.part,
            row.work,
            row.seconds,
            row.fastest,
            row.slowest,
            row.per_second,
            row.gflops,
            number(row.speedup)
        ));
        for OperatorShare { operator, calls, seconds, share, gflops, of_peak } in &row.operators {
            let (gflops, of_peak) = (number(*gflops), number(*of_peak));
            report::line(&format!("{},{operator},,{calls},,{seconds},,,{gflops},{share},{of_peak},,", row.part));
        }
    }
}
