//! `kinora generate` and `kinora rerun`.

use super::target::{Target, check_unused, is_piped};
use crate::args::{GenerateArgs, OutputArgs, PreviewArgs, RerunArgs, prompt};
use crate::progress::Progress;
use kinora::{Error, Output, Pipeline, Recipe, Request, Result};
use std::path::{Path, PathBuf};

/// Makes `--count` clips.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let prompt = prompt(&args.prompt)?;
    let pipeline = Pipeline::load(&args.loras.over(args.model.load_options(), args.denoising.sampling.mode))?;
    let mut request = args.request(&prompt).output(output_of(args, 0));
    check_all(&pipeline, args, &request)?;
    for index in 0..args.count {
        request.output = output_of(args, index);
        // A continued run keeps the random seed that is recorded in its directory.
        let plan = pipeline.plan(&request)?.plan;
        request.seed = Some(plan.seed);
        let usual = || numbered(format!("kinora-{}.mp4", plan.seed).as_ref(), index, args.count);
        let target = match &args.output.output {
            Some(clip) => Target::named(&args.output, &numbered(clip, index, args.count))?,
            None => Target::of(&args.output, usual)?,
        };
        request.output.clip = target.clip().into();
        make(&pipeline, &request, &target, &args.output, Some(&args.preview))?;
        request.seed = Some(plan.seed.wrapping_add(1));
    }
    Ok(())
}

/// Where clip number `index` and what belongs to it go; a clip that nobody named gets its name later.
fn output_of(args: &GenerateArgs, index: u64) -> Output {
    let several = args.count > 1;
    let latents = args.save_latents.as_ref().map(|path| numbered(path, index, args.count));
    let resume = args.resume.as_ref().map(|dir| if several { dir.join(index.to_string()) } else { dir.clone() });
    let clip = args.output.output.as_ref().map(|clip| numbered(clip, index, args.count));
    let audio = args.output.audio_out.as_ref().map(|path| numbered(path, index, args.count));
    let mut output = output(&args.output);
    (output.latents, output.resume, output.audio) = (latents, resume, audio);
    output.preview.clone_from(&args.preview.preview);
    output.clip = clip.unwrap_or(output.clip);
    output
}

/// Checks, before the first of several clips is made, that all of them have a seed and can be written.
fn check_all(pipeline: &Pipeline, args: &GenerateArgs, request: &Request) -> Result<()> {
    let outputs = (0..args.count).map(|index| output_of(args, index)).collect::<Vec<_>>();
    let named = args.output.output.is_some() && !is_piped(&args.output);
    let files = outputs.iter().flat_map(|output| {
        let clip = named.then_some(output.clip.as_path());
        let beside = [&output.latents, &output.preview, &output.audio].into_iter().filter_map(Option::as_deref);
        clip.into_iter().chain(beside)
    });
    check_unused(&args.output, files)?;
    if args.count == 1 {
        return Ok(());
    }
    if is_piped(&args.output) {
        let hint = "leave --count out, or give -o a file: its name gets a number";
        return Err(Error::request("several clips cannot go to standard output", hint));
    }
    if let Some(seed) = request.seed.filter(|seed| seed.checked_add(args.count - 1).is_none()) {
        return Err(Error::request(
            format!("--seed {seed} with --count {} goes past the largest seed, {}", args.count, u64::MAX),
            "choose a smaller seed",
        ));
    }
    pipeline.check_outputs(request, &outputs)
}

/// Makes a clip again from its recipe.
pub fn rerun(args: &RerunArgs) -> Result<()> {
    let recipe = Recipe::read(&args.clip)?;
    let mut request = args.denoising.apply(recipe.request()?);
    let seed = *request.seed.get_or_insert_with(kinora::random_seed);
    let target = Target::of(&args.output, || format!("kinora-{seed}-again.mp4").into())?;
    let reads = vec![args.clip.clone()];
    request.output = output_over(&args.output, request.output).clip(target.clip()).reads(reads);
    let options = args.loras.over(args.model.load_options_of(&recipe)?, args.denoising.sampling.mode);
    if let Some(story) = &recipe.story {
        return super::story::film(&options, story, request, (&target, &args.output), None, Vec::new());
    }
    let pipeline = Pipeline::load(&options)?;
    make(&pipeline, &request, &target, &args.output, None)
}

/// Returns the settings of [`Output`] that all commands share.
pub fn output(args: &OutputArgs) -> Output {
    let output = Output::default().metadata(!args.no_metadata).quality(args.quality);
    let mut output = output.tile(args.tile.map(usize::from)).upscale(args.upscale).upscaler(args.upscaler);
    output.encoder.clone_from(&args.encoder);
    output.audio.clone_from(&args.audio_out);
    output
}

/// [`output`], encoded as in `recorded` where no option says how.
pub fn output_over(args: &OutputArgs, recorded: Output) -> Output {
    let mut own = output(args);
    own.quality = own.quality.or(recorded.quality);
    own.encoder = own.encoder.or(recorded.encoder);
    own.upscale = own.upscale.or(recorded.upscale);
    own.upscaler = own.upscaler.or(recorded.upscaler);
    own
}

fn make(
    pipeline: &Pipeline,
    request: &Request,
    target: &Target,
    args: &OutputArgs,
    preview: Option<&PreviewArgs>,
) -> Result<()> {
    let mut progress = Progress::new(args.is_quiet());
    if let Some(preview) = preview {
        progress = progress.with_preview(preview, pipeline);
    }
    let report = pipeline.generate(request, |event| progress.handle(&event))?;
    drop(progress);
    target.print(&report, args)
}

/// Numbers the path if several clips are made: `clip.mp4` becomes `clip-2.mp4`, `frames/` becomes `frames-2/`.
fn numbered(path: &Path, index: u64, count: u64) -> PathBuf {
    if count == 1 {
        return path.to_path_buf();
    }
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{}", index + 1));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    let numbered = path.with_file_name(name);
    let is_folder =
        path.as_os_str().as_encoded_bytes().last().is_some_and(|last| std::path::is_separator(*last as char));
    if is_folder { numbered.join("") } else { numbered }
}
