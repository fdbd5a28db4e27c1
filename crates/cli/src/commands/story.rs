//! `kinora extend` and `kinora story`.

use super::generate::{clip_or, output, output_over, print};
use crate::args::{ExtendArgs, Prompt, StoryArgs};
use crate::progress::Progress;
use kinora::{Error, LoadOptions, Output, Pipeline, Recipe, Report, Request, Result, Shot, Story};
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
    let made = recipe.as_ref().map(Recipe::request).transpose()?;
    let options = match &recipe {
        Some(recipe) if args.model.model.is_none() => args.model.load_options_of(recipe)?,
        _ => args.model.load_options(),
    };
    let last = recipe.as_ref().and_then(|recipe| recipe.story.as_ref()?.shots.last());
    let own_prompt = last.map(|shot| shot.prompt.clone()).or(made.as_ref().map(|request| request.prompt.clone()));
    let given = args.prompt.as_deref().map(Prompt::of).transpose()?;
    notes.extend(given.as_ref().and_then(|prompt| prompt.note.clone()));
    let prompt = given.map(|prompt| prompt.text).or(own_prompt).ok_or_else(|| Error::Request {
        what: format!("`{}` has no recorded prompt", args.clip.display()),
        hint: "write what happens next: `kinora extend CLIP PROMPT`".into(),
    })?;
    let earlier = made.map(|request| Request {
        // The inputs and the length of the clip do not apply to its continuation.
        inputs: kinora::Inputs { camera: request.inputs.camera, ..kinora::Inputs::default() },
        frames: None,
        duration: None,
        seed: None,
        init_latents: None,
        ..request
    });
    let earlier = earlier.unwrap_or_default();
    // Another model has settings of its own.
    let earlier = match &args.model.model {
        None => earlier,
        Some(_) => Request { output: earlier.output, negative_prompt: earlier.negative_prompt, ..Request::default() },
    };
    let mut request = args.denoising.apply(earlier);
    request.negative_prompt = args.negative_prompt.clone().or(request.negative_prompt);
    let shot = Shot { prompt, seconds: Some(args.seconds), camera: args.camera.clone(), ..Shot::default() };
    let story = Story { after: Some(args.clip.clone()), shots: vec![shot; usize::from(args.times)] };
    let (clip, _claim) = clip_or(&args.output, || extended(&args.clip));
    request.output = Output { clip, ..output_over(&args.output, request.output) };
    film(&options, &story, request, args.output.json, args.project.as_deref(), notes)
}

/// Makes the clip of a story.
pub fn run(args: &StoryArgs) -> Result<()> {
    let story = Story::read(&args.story)?;
    let shape = &args.shape;
    let (clip, _claim) = clip_or(&args.output, || args.story.with_extension("mp4"));
    let request = args.denoising.apply(Request {
        output: Output { clip, reads: vec![args.story.clone()], ..output(&args.output) },
        negative_prompt: args.negative_prompt.clone(),
        size: shape.size(),
        frames: shape.frames,
        duration: shape.duration,
        fps: shape.fps,
        ..Request::default()
    });
    film(&args.model.load_options(), &story, request, args.output.json, args.project.as_deref(), Vec::new())
}

/// Films `story`. The project directory is deleted after the clip is written, unless `project` names it.
pub fn film(
    options: &LoadOptions,
    story: &Story,
    mut request: Request,
    json: bool,
    project: Option<&Path>,
    notes: Vec<String>,
) -> Result<()> {
    let project_path = project.map_or_else(|| project_of(&request.output.clip), Path::to_path_buf);
    // A random seed is drawn once per project.
    request.seed = request.seed.or(kinora::story_seed(&project_path));
    let pipeline = Pipeline::load(options)?;
    let mut progress = Progress::new(json);
    for note in &notes {
        progress.note(note);
    }
    let mut report: Report = pipeline.film(story, &request, &project_path, |event| progress.handle(&event))?;
    drop(progress);
    report.notices.extend(notes);
    if project.is_none() {
        kinora::discard_project(&project_path);
    }
    print(&report, json);
    Ok(())
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
