//! `kinora bench`.

use crate::args::{BenchArgs, Format, What};
use crate::report;
use kinora::bench::{BenchOptions, Measurement, bench};
use kinora::{Error, Result};

/// Measures and prints a table.
pub fn run(args: &BenchArgs) -> Result<()> {
    let wanted = |part| args.what == part || args.what == What::All;
    let options = BenchOptions {
        load: args.model.load_options(),
        random: args.random.clone(),
        size: args.size.as_deref().map(parse_size).transpose()?,
        text: wanted(What::Text),
        dit: wanted(What::Dit),
        vae: wanted(What::Vae),
        runs: args.runs.into(),
    };
    let rows = bench(&options, |part| eprintln!("measuring {part} …"))?;
    match args.format {
        Format::Md => markdown(&rows),
        Format::Csv => csv(&rows),
        Format::Json => report::line(&serde_json::to_string_pretty(&rows).expect("plain data")),
    }
    Ok(())
}

fn parse_size(text: &str) -> Result<[usize; 3]> {
    let numbers: Option<Vec<usize>> = text.split('x').map(|number| number.parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| Error::Request {
        what: format!("`{text}` is not a size"),
        hint: "write WIDTHxHEIGHTxFRAMES, such as 832x480x81".into(),
    })
}

fn markdown(rows: &[Measurement]) {
    report::line("| part | work | s (median) | min to max | per second | GFLOP/s | peak memory |");
    report::line("|---|---|---|---|---|---|---|");
    for row in rows {
        let unit = match row.part {
            "dit" => "steps",
            "vae" => "frames",
            _ => "prompts",
        };
        report::line(&format!(
            "| {} | {} | {:.3} | {:.3} to {:.3} | {:.3} {unit} | {} | {} |",
            row.part,
            row.work,
            row.seconds,
            row.fastest,
            row.slowest,
            row.per_second,
            row.gflops.map_or_else(|| "-".into(), |gflops| format!("{gflops:.1}")),
            row.peak_memory.map_or_else(|| "-".into(), report::bytes),
        ));
    }
}

fn csv(rows: &[Measurement]) {
    report::line("part,work,seconds,fastest,slowest,per_second,gflops,peak_memory");
    for row in rows {
        let gflops = row.gflops.map_or_else(String::new, |gflops| gflops.to_string());
        let memory = row.peak_memory.map_or_else(String::new, |bytes| bytes.to_string());
        let (work, seconds) = (&row.work, row.seconds);
        let (fastest, slowest, rate) = (row.fastest, row.slowest, row.per_second);
        report::line(&format!("{},\"{work}\",{seconds},{fastest},{slowest},{rate},{gflops},{memory}", row.part));
    }
}
