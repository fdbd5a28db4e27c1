//! `kinora extend` and `kinora story`.

use super::generate::{output, print};
use crate::args::{ExtendArgs, OutputArgs, StoryArgs};
use crate::progress::Progress;
use kinora::{LoadOptions, Output, Pipeline, Recipe, Report, Request, Result, Shot, Story};
use std::path::{Path, PathBuf};

/// Goes on where a clip ends.
pub fn extend(args: &ExtendArgs) -> Result<()> {
    // A clip of another program has no recipe: then everything is the model's own.
    let recipe = Recipe::read(&args.clip).ok();
    let made = recipe.as_ref().map(Recipe::request).transpose()?;
    let mut options = args.model.load_options();
    if let (Some(recipe), None) = (&recipe, &args.model.model) {
        options = LoadOptions {
            model: recipe.model.clone(),
            dtype: options.dtype.map_or_else(|| recipe.dtype().map(Some), |dtype| Ok(Some(dtype)))?,
            quant: options.quant.map_or_else(|| recipe.quant(), |quant| Ok(Some(quant)))?,
            ..options
        };
    }
    let own_prompt = made.as_ref().map(|request| request.prompt.clone());
    let prompt = args.prompt.clone().or(own_prompt).ok_or_else(|| kinora::Error::Request {
        what: "the clip does not say its prompt".into(),
        hint: "say what happens next: kinora extend CLIP PROMPT".into(),
    })?;
    let earlier = made.map(|request| Request {
        // What the clip began with, and its length, say nothing of what follows.
        given: kinora::Given { camera: request.given.camera, ..kinora::Given::default() },
        frames: None,
        duration: None,
        seed: None,
        init_latents: None,
        ..request
    });
    let mut request = args.sampling.apply(earlier.unwrap_or_default());
    request.negative_prompt = args.negative_prompt.clone().or(request.negative_prompt);
    let shot = Shot { prompt, seconds: Some(args.seconds), camera: args.camera.clone(), ..Shot::default() };
    let story = Story { after: Some(args.clip.clone()), shots: vec![shot; usize::from(args.times)] };
    let clip = args.output.output.clone().unwrap_or_else(|| beside(&args.clip, "-extended.mp4"));
    film(&options, &story, request, clip, &args.output, args.project.as_deref())
}

/// Makes the clip of a story.
pub fn run(args: &StoryArgs) -> Result<()> {
    let story = Story::read(&args.story)?;
    let shape = &args.shape;
    let request = args.sampling.apply(Request {
        negative_prompt: args.negative_prompt.clone(),
        size: shape.size(),
        frames: shape.frames,
        duration: shape.duration,
        fps: shape.fps,
        ..Request::default()
    });
    let clip = args.output.output.clone().unwrap_or_else(|| args.story.with_extension("mp4"));
    film(&args.model.load_options(), &story, request, clip, &args.output, args.project.as_deref())
}

/// Films `story`; a project that nobody named is only kept until the clip is there.
pub fn film(
    options: &LoadOptions,
    story: &Story,
    mut request: Request,
    clip: PathBuf,
    args: &OutputArgs,
    project: Option<&Path>,
) -> Result<()> {
    let project_path = project.map_or_else(|| beside(&clip, ".project"), Path::to_path_buf);
    request.output = Output { clip, ..output(args) };
    // What was random the first time stays.
    request.seed = request.seed.or(kinora::story_seed(&project_path));
    let pipeline = Pipeline::load(options)?;
    let mut progress = Progress::new(args.json);
    let report: Report = pipeline.film(story, &request, &project_path, |event| progress.handle(&event))?;
    drop(progress);
    if project.is_none() {
        kinora::discard_project(&project_path);
    }
    print(&report, args.json);
    Ok(())
}

/// `clip.mp4` with another ending.
fn beside(clip: &Path, ending: &str) -> PathBuf {
    let stem = clip.file_stem().unwrap_or_default().to_string_lossy();
    clip.with_file_name(format!("{stem}{ending}"))
}
