//! `kinora extend` and `kinora story`.

use super::generate::{output, output_over};
use super::target::Target;
use crate::args::{ExtendArgs, OutputArgs, StoryArgs, prompt};
use crate::progress::Progress;
use kinora::{Error, LoadOptions, Pipeline, Recipe, Report, Request, Result, Shot, Story};
use std::path::{Path, PathBuf};

/// Continues a clip from its end.
pub fn extend(args: &ExtendArgs) -> Result<()> {
    std::fs::metadata(&args.clip).map_err(|source| Error::Io { path: args.clip.clone(), source })?;
    let mut notes = Vec::new();
    let recipe = match Recipe::read(&args.clip) {
        Ok(recipe) => Some(recipe),
        Err(Error::BadFile { reason, .. }) => {
            notes.push(format!("`{}`: {reason}; all settings are the model's own", args.clip.display()));
            None
        }
        Err(_) => None, // it is said where the clip is opened
    };
    let made = recipe.as_ref().map(Recipe::continuation).transpose()?;
    let options = match &recipe {
        Some(recipe) if args.model.model.is_none() => args.model.load_options_of(recipe)?,
        _ => args.model.load_options(),
    };
    let options = args.loras.over(options, args.denoising.sampling.mode);
    let given = args.prompt.as_deref().map(prompt).transpose()?;
    let prompt = given.or(made.as_ref().map(|request| request.prompt.clone())).ok_or_else(|| {
        Error::request(
            format!("`{}` has no recorded prompt", args.clip.display()),
            "write what happens next: `kinora extend CLIP PROMPT`",
        )
    })?;
    let earlier = made.unwrap_or_default();
    // Another model has settings of its own.
    let earlier = if args.model.model.is_none() {
        earlier
    } else {
        let mut request = Request::default().output(earlier.output);
        request.negative_prompt = earlier.negative_prompt;
        request
    };
    let mut request = args.denoising.apply(earlier);
    request.negative_prompt = args.negative_prompt.clone().or(request.negative_prompt);
    let shot = Shot { prompt, seconds: Some(args.seconds), camera: args.camera.clone(), ..Shot::default() };
    let story = Story { after: Some((&args.clip).into()), shots: vec![shot; usize::from(args.times)] };
    let target = Target::of(&args.output, || extended(&args.clip))?;
    request.output = output_over(&args.output, request.output).clip(target.clip());
    film(&options, &story, request, (&target, &args.output), args.project.as_deref(), notes)
}

/// Makes the clip of a story.
pub fn run(args: &StoryArgs) -> Result<()> {
    let story = Story::read(&args.story)?;
    let shape = &args.shape;
    let target = Target::of(&args.output, || args.story.with_extension("mp4"))?;
    let output = output(&args.output).clip(target.clip()).reads(vec![args.story.clone()]);
    let request = Request::default().output(output).size(shape.size()).frames(shape.frames);
    let mut request = request.duration(shape.duration).fps(shape.fps);
    request.negative_prompt.clone_from(&args.negative_prompt);
    let request = args.denoising.apply(request);
    film(
        &args.loras.over(args.model.load_options(), args.denoising.sampling.mode),
        &story,
        request,
        (&target, &args.output),
        args.project.as_deref(),
        Vec::new(),
    )
}

/// Films `story`. The project directory is deleted after the clip is written, unless `project` names it.
pub fn film(
    options: &LoadOptions,
    story: &Story,
    mut request: Request,
    (target, args): (&Target, &OutputArgs),
    project: Option<&Path>,
    notes: Vec<String>,
) -> Result<()> {
    let project_path = project.map_or_else(|| project_of(&request.output.clip), Path::to_path_buf);
    // A random seed is drawn once per project.
    request.seed = request.seed.or(kinora::story_seed(&project_path));
    let pipeline = Pipeline::load(options)?;
    let mut progress = Progress::new(args.is_quiet());
    for note in &notes {
        progress.note(note);
    }
    let mut report: Report = pipeline.film(story, &request, &project_path, |event| progress.handle(&event))?;
    drop(progress);
    report.notices.extend(notes);
    if project.is_none() {
        kinora::discard_project(&project_path);
    }
    target.print(&report, args)
}

/// Returns the usual path of the continuation of `clip`.
fn extended(clip: &Path) -> PathBuf {
    let mut name = clip.file_stem().unwrap_or_default().to_os_string();
    name.push("-extended.mp4");
    clip.with_file_name(name)
}

/// Returns the directory of the intermediate results of `clip`; the extension is kept, because `a.mp4` and `a.gif` are two
/// clips.
fn project_of(clip: &Path) -> PathBuf {
    kinora_files::beside(clip, ".project")
}
