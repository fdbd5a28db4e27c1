//! `kinora generate` and `kinora rerun`.

use crate::args::{GenerateArgs, OutputArgs, PreviewArgs, RerunArgs};
use crate::progress::Progress;
use crate::report;
use kinora::{Output, Pipeline, Recipe, Report, Request, Result, unused_name};
use std::path::{Path, PathBuf};

/// Makes `--count` clips.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let mut request = args.request();
    let pipeline = Pipeline::load(&args.model.load_options())?;
    for index in 0..args.count {
        request.output = Output {
            latents: args.save_latents.as_ref().map(|path| numbered(path, index, args.count)),
            preview: args.preview.preview.clone(),
            resume: args
                .resume
                .as_ref()
                .map(|dir| if args.count > 1 { dir.join(index.to_string()) } else { dir.clone() }),
            ..output(&args.output)
        };
        // A continued run keeps the random seed that is recorded in its directory.
        let plan = pipeline.plan(&request)?.plan;
        request.seed = Some(plan.seed);
        request.output.clip = match &args.output.output {
            Some(clip) => numbered(clip, index, args.count),
            None => unused_name(&numbered(format!("kinora-{}.mp4", plan.seed).as_ref(), index, args.count)),
        };
        make(&pipeline, &request, args.output.json, Some(&args.preview))?;
        request.seed = Some(plan.seed.wrapping_add(1));
    }
    Ok(())
}

/// Makes a clip again from its recipe.
pub fn rerun(args: &RerunArgs) -> Result<()> {
    let recipe = Recipe::read(&args.clip)?;
    let mut request = args.denoising.apply(recipe.request()?);
    let seed = request.seed.unwrap_or(recipe.seed);
    let default = || unused_name(format!("kinora-{seed}-again.mp4").as_ref());
    let clip = args.output.output.clone().unwrap_or_else(default);
    let reads = vec![args.clip.clone()];
    request.output = Output { clip, reads, ..output_over(&args.output, request.output) };
    let options = args.model.load_options_of(&recipe)?;
    if let Some(story) = &recipe.story {
        return super::story::film(&options, story, request, args.output.json, None);
    }
    let pipeline = Pipeline::load(&options)?;
    make(&pipeline, &request, args.output.json, None)
}

/// Returns the settings of [`Output`] that all commands share.
pub fn output(args: &OutputArgs) -> Output {
    Output {
        metadata: !args.no_metadata,
        quality: args.quality,
        encoder: args.encoder.clone(),
        tile: args.tile.map(usize::from),
        upscale: args.upscale,
        ..Output::default()
    }
}

/// [`output`], encoded as in `recorded` where no option says how.
pub fn output_over(args: &OutputArgs, recorded: Output) -> Output {
    let own = output(args);
    Output {
        quality: own.quality.or(recorded.quality),
        encoder: own.encoder.clone().or(recorded.encoder),
        upscale: own.upscale.or(recorded.upscale),
        ..own
    }
}

fn make(pipeline: &Pipeline, request: &Request, json: bool, preview: Option<&PreviewArgs>) -> Result<()> {
    let mut progress = Progress::new(json);
    if let Some(preview) = preview {
        progress = progress.with_preview(preview, pipeline);
    }
    let report = pipeline.generate(request, |event| progress.handle(&event))?;
    drop(progress);
    print(&report, json);
    Ok(())
}

/// Prints the result of a run.
pub fn print(report: &Report, json: bool) {
    if json {
        report::json(report);
        return;
    }
    let reused = report
        .predictions
        .filter(|predictions| predictions.reused > 0)
        .map_or_else(String::new, |p| format!(", {} of {} predictions reused", p.reused, p.reused + p.computed));
    report::line(&format!(
        "{}  {}×{}, {} frames, {}, {}{reused}",
        report.clip.display(),
        report.width,
        report.height,
        report.frames,
        report::bytes(report.bytes),
        report::seconds(report.seconds.total)
    ));
}

/// Numbers the path if several clips are made: `clip.mp4` becomes `clip-2.mp4`, `frames/` becomes `frames-2/`.
fn numbered(path: &Path, index: u64, count: u64) -> PathBuf {
    if count == 1 {
        return path.to_path_buf();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    let numbered = path.with_file_name(format!("{stem}-{}{extension}", index + 1));
    let is_folder = path.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
    if is_folder { numbered.join("") } else { numbered }
}
