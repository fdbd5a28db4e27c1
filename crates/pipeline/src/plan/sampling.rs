//! [`Denoising`]: the settings of denoising with nothing left open. A setting is the request's own, else that of its preset,
//! else that of its mode, else that of the model's files, else the manifest's default.

use super::within::within;
use crate::families::capabilities::{Levels, Limits, Pass};
use crate::model::manifest::Manifest;
use crate::model::preset::Preset;
use crate::plan::guidance::Combination;
use crate::request::Request;
use crate::request::attention::AttentionChoice;
use crate::request::cache::CacheChoice;
use crate::request::sampling::{EVERYWHERE, Sampling};
use crate::step_cache::CacheRule;
use crate::{Error, Result};
use kinora_dit::Sparse;
use kinora_sampler::{SamplerKind, Schedule};

/// Share of a given clip that is replaced unless the request says it.
const USUAL_STRENGTH: f64 = 0.8;
/// The most denoising steps.
const MOST_STEPS: usize = 1000;

/// The settings of denoising, checked.
pub(super) struct Denoising {
    /// All of them, as recipes keep them.
    pub sampling: Sampling,
    pub sampler: SamplerKind,
    /// Without the steps that the strength of a changed clip leaves out.
    pub schedule: Schedule,
    /// Guidance of the (first, second) expert.
    pub guidance_scale: [f64; 2],
    pub combination: Combination,
    pub cfg_zero_star: bool,
    pub zero_init: usize,
    pub guidance_interval: Option<[f64; 2]>,
    pub cache: Option<CacheRule>,
    pub attention: AttentionChoice,
}

impl Denoising {
    /// The settings of `request` for a clip of `grid` frames, rows and columns of tokens; the frames count references too.
    pub(super) fn new(
        request: &Request,
        manifest: &Manifest,
        limits: &Limits,
        grid: [usize; 3],
        notices: &mut Vec<String>,
    ) -> Result<Self> {
        let preset = preset(request, manifest)?;
        let asked = asked(request, preset.as_ref(), manifest);
        let settings = asked.clone().or(&manifest.defaults.sampling);
        let sampler = sampler(&asked, manifest, limits)?;
        let shift = shift(&asked, manifest, limits, grid)?;
        let whole = schedule(&asked, &settings, manifest, limits.levels, sampler, shift)?;
        let schedule = match (&request.inputs.video, request.inputs.strength.unwrap_or(USUAL_STRENGTH)) {
            (Some(_), strength) => weakened(&whole, strength)?,
            (None, _) => whole.clone(),
        };
        notices.extend(almost_no_noise(&asked));
        let guidance_scale = guidance(&asked, &settings, limits)?;
        let combination = Combination::new(&asked, &settings, guidance_scale[0], limits)?;
        let cfg_zero_star = settings.cfg_zero_star.unwrap_or(false);
        let zero_init = zero_init(&settings, schedule.steps())?;
        let guidance_interval = settings.guidance_interval.filter(|interval| *interval != EVERYWHERE);
        let guidance_interval = guidance_interval.map(interval).transpose()?;
        let rule = |setting| CacheRule::new(setting, manifest, sampler, schedule.steps());
        let cache = settings.cache.and_then(CacheChoice::setting).map(rule).transpose()?;
        let attention = attention(&settings, request, grid, notices);
        let experts = if limits.boundary_timestep.is_some() { 2 } else { 1 };
        let passes = combination.passes(&guidance_scale[..experts]);
        let guided = passes.contains(&Pass::Negative);
        match &preset {
            Some(preset) => notices.extend(preset.notices(schedule.steps(), guided)),
            None => few_steps(schedule.steps(), manifest, notices)?,
        }
        if !guided {
            let interval = guidance_interval.is_some() && passes.len() == 1;
            no_guidance(request, cfg_zero_star || zero_init > 0, interval, notices);
        }
        let zero_init = if guided { zero_init } else { 0 };
        let sampling = Sampling {
            steps: Some(whole.steps()),
            sampler: Some(sampler),
            shift: (!settings.is_listed()).then_some(shift),
            guidance_scale: Some(guidance_scale[0]),
            guidance_scale_2: (experts == 2).then_some(guidance_scale[1]),
            cfg_zero_star: Some(cfg_zero_star),
            zero_init: Some(zero_init),
            guidance_interval,
            cache: cache.as_ref().map(|rule| rule.setting().into()),
            attention: Some(attention).filter(|attention| *attention != AttentionChoice::Dense),
            ..settings
        };
        Ok(Self {
            sampling: combination.recorded(sampling, limits.capabilities.sound),
            sampler,
            schedule,
            guidance_scale,
            combination,
            cfg_zero_star,
            zero_init,
            guidance_interval,
            cache,
            attention,
        })
    }
}

/// The preset of `request`, or, where it names no mode either, that of the model.
fn preset(request: &Request, manifest: &Manifest) -> Result<Option<Preset>> {
    let own = manifest.preset.as_deref().filter(|_| request.mode.is_none());
    let name = request.preset.as_deref().or(own).filter(|name| *name != Preset::NONE);
    name.map(Preset::named).transpose()
}

/// The settings of `request`, of its preset and of its mode.
fn asked(request: &Request, preset: Option<&Preset>, manifest: &Manifest) -> Sampling {
    let own = request.sampling.clone();
    let own = match preset {
        Some(preset) => own.or(&preset.sampling),
        None => own,
    };
    match request.mode {
        Some(mode) => own.or(manifest.modes.of(mode)),
        None => own,
    }
}

/// Returns the shift of a clip of `grid` frames, rows and columns of tokens.
fn shift(asked: &Sampling, manifest: &Manifest, limits: &Limits, grid: [usize; 3]) -> Result<f64> {
    let own = limits.shift.map(|shift| shift.of(grid.iter().product()));
    let own = own.or(manifest.defaults.sampling.shift);
    within("shift", asked.shift.or(own).ok_or_else(|| missing("shift"))?, 0.01, 100.0)
}

/// Returns a notice of timesteps that look like sigmas.
fn almost_no_noise(asked: &Sampling) -> Option<String> {
    let timesteps = asked.timesteps.as_ref()?;
    let notice = "all timesteps are 1 or less of 1000, which is almost no noise: sigmas are levels up to 1";
    timesteps.iter().all(|timestep| *timestep <= 1.0).then(|| notice.to_string())
}

fn missing(name: &str) -> Error {
    Error::request(format!("the model has no default of `{name}`"), "add it to `defaults` of its manifest")
}

/// Returns the last steps of `schedule`, a share of `strength` of them, as in diffusers.
fn weakened(schedule: &Schedule, strength: f64) -> Result<Schedule> {
    let steps = schedule.steps();
    let left = ((steps as f64 * strength) as usize).min(steps);
    if left == 0 {
        let what = format!("a strength of {strength} leaves none of {steps} steps");
        return Err(Error::request(what, "give a larger strength, or more steps").about(&["strength", "steps"]));
    }
    Ok(schedule.after(steps - left)?)
}

fn sampler(asked: &Sampling, manifest: &Manifest, limits: &Limits) -> Result<SamplerKind> {
    let own = limits.scheduler.as_ref().map(|scheduler| scheduler.sampler.as_ref());
    let default = || manifest.defaults.sampling.sampler.ok_or_else(|| missing("sampler"));
    match (asked.sampler, own) {
        (Some(kind), _) | (None, Some(Ok(&kind))) => Ok(kind),
        (None, None) => default(),
        (None, Some(Err(reason))) => {
            let what = format!(
                "`scheduler/scheduler_config.json` asks for a scheduler that no sampler here computes: {reason}"
            );
            Err(Error::request(what, format!("choose one, such as {}", default()?)).about(&["sampler"]))
        }
    }
}

fn schedule(
    asked: &Sampling,
    settings: &Sampling,
    manifest: &Manifest,
    levels: Levels,
    sampler: SamplerKind,
    shift: f64,
) -> Result<Schedule> {
    if asked.is_listed() && (asked.steps.is_some() || asked.shift.is_some()) {
        let what = "lists of sigmas and of timesteps exclude steps and shift";
        return Err(Error::request(what, "the list says both already").about(&["steps", "shift"]));
    }
    match (&settings.sigmas, &settings.timesteps) {
        (Some(_), Some(_)) => {
            let what = "sigmas and timesteps are both given";
            return Err(Error::request(what, "give one of the two").about(&["sigmas", "timesteps"]));
        }
        (Some(sigmas), None) => return Ok(Schedule::from_sigmas(sigmas)?),
        (None, Some(timesteps)) => return Ok(Schedule::from_timesteps(timesteps)?),
        (None, None) => {}
    }
    let steps = settings.steps.ok_or_else(|| missing("steps"))?;
    if steps == 0 || steps > MOST_STEPS {
        let hint = format!("the model's default is {}", usual_steps(manifest)?);
        return Err(Error::request(format!("{steps} steps are outside 1 to {MOST_STEPS}"), hint).about(&["steps"]));
    }
    Ok(match (levels, sampler) {
        (Levels::Even(terminal), _) => Schedule::even(steps, shift, terminal)?,
        (_, SamplerKind::Euler | SamplerKind::Heun | SamplerKind::Lcm) => Schedule::flow_match_euler(steps, shift)?,
        (_, SamplerKind::DpmPp2m) => Schedule::flow_dpm(steps, shift)?,
        (_, SamplerKind::UniPc | SamplerKind::UniPcBh1) => Schedule::flow(steps, shift)?,
    })
}

fn few_steps(steps: usize, manifest: &Manifest, notices: &mut Vec<String>) -> Result<()> {
    if steps < manifest.defaults.fewest_steps {
        let (name, usual) = (&manifest.name, usual_steps(manifest)?);
        let steps = if steps == 1 { "1 step is".into() } else { format!("{steps} steps are") };
        notices.push(format!("{steps} few: {name} needs about {usual} unless its weights are distilled"));
    }
    Ok(())
}

fn usual_steps(manifest: &Manifest) -> Result<usize> {
    manifest.defaults.sampling.steps.ok_or_else(|| missing("steps"))
}

fn guidance(asked: &Sampling, settings: &Sampling, limits: &Limits) -> Result<[f64; 2]> {
    if asked.guidance_scale_2.is_some() && limits.boundary_timestep.is_none() {
        let what = "a second guidance scale needs a model with two experts";
        let known: Vec<Manifest> = Manifest::known().into_iter().filter(|known| known.boundary.is_some()).collect();
        let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
        let hint = format!("these have two: {}; leave it out here", names.join(", "));
        return Err(Error::request(what, hint).about(&["guidance_scale_2"]));
    }
    let first = settings.guidance_scale.ok_or_else(|| missing("guidance_scale"))?;
    let second = settings.guidance_scale_2.unwrap_or(first);
    Ok([within("guidance scale", first, 0.0, 100.0)?, within("second guidance scale", second, 0.0, 100.0)?])
}

/// With CFG-Zero*, the first step is zeroed as in the paper, unless the number of zeroed steps is given.
fn zero_init(settings: &Sampling, steps: usize) -> Result<usize> {
    let zeroed = settings.zero_init.unwrap_or(usize::from(settings.cfg_zero_star == Some(true)));
    if zeroed < steps || zeroed == 0 {
        return Ok(zeroed);
    }
    let what = format!("{zeroed} of {steps} steps cannot be zeroed: nothing would be left to predict");
    Err(Error::request(what, "1 is usual, 0 turns it off"))
}

fn interval([low, high]: [f64; 2]) -> Result<[f64; 2]> {
    if (0.0..=1.0).contains(&low) && low < high && high <= 1.0 {
        return Ok([low, high]);
    }
    let what = format!("a guidance interval from {low} to {high} is not possible");
    Err(Error::request(what, "noise levels rise from 0 (clip) to 1 (noise), such as 0.2,0.9"))
}

/// Sparse attention in a clip so small that it would leave nothing out is dense.
fn attention(settings: &Sampling, request: &Request, grid: [usize; 3], notices: &mut Vec<String>) -> AttentionChoice {
    let choice = settings.attention.unwrap_or(AttentionChoice::Dense);
    let references = request.inputs.references.len();
    if choice.keep().is_some_and(|keep| !Sparse { keep, references, dense: false }.leaves_out(grid)) {
        let tokens: usize = grid.iter().product();
        notices.push(format!("attention is dense: in a clip of {tokens} tokens, sparse attention leaves nothing out"));
        return AttentionChoice::Dense;
    }
    choice
}

/// Adds a notice of the settings that have no effect because guidance is off.
fn no_guidance(request: &Request, cfg_zero_star: bool, interval: bool, notices: &mut Vec<String>) {
    let settings = [
        ("the negative prompt", request.negative_prompt.as_ref().is_some_and(|text| !text.trim().is_empty())),
        ("CFG-Zero*", cfg_zero_star),
        ("the guidance interval", interval),
    ];
    let unused: Vec<&str> = settings.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if !unused.is_empty() {
        let verb = if unused.len() == 1 { "does" } else { "do" };
        notices.push(format!("guidance is off (scale 1): {} {verb} nothing", unused.join(" and ")));
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;
    use crate::families::capabilities::{GuidanceKind, Shift};
    use crate::request::Mode;
    use crate::request::output::Output;
    use crate::{LoadOptions, Pipeline};
    use kinora_sampler::{DynamicShift, Guidance};

    /// The embedded model, as if it had two experts.
    fn pipeline() -> Pipeline {
        let options = LoadOptions { device: "cpu".into(), ..LoadOptions::default() };
        let mut pipeline = Pipeline::load(&options).expect("the embedded model");
        pipeline.limits.boundary_timestep = Some(500.0);
        pipeline
    }

    /// The embedded model, as if it made sound and guided estimates.
    fn pipeline_of_estimates() -> Pipeline {
        let mut pipeline = pipeline();
        let limits = &mut pipeline.limits;
        limits.boundary_timestep = None;
        (limits.guidance, limits.capabilities.sound) = (GuidanceKind::Estimates, true);
        pipeline
    }

    fn request(sampling: Sampling) -> Request {
        Request { prompt: "a red ball".into(), sampling, ..Request::default() }
    }

    #[test]
    fn every_setting_reaches_the_recipe_and_comes_back() {
        let shared = Sampling {
            sampler: Some(SamplerKind::Euler),
            guidance_scale: Some(4.0),
            guidance_scale_2: Some(2.0),
            cfg_zero_star: Some(true),
            zero_init: Some(2),
            guidance_interval: Some([0.1, 0.9]),
            cache: Some("easycache:0.1".parse().expect("a cache")),
            attention: Some("sparse:0.4".parse().expect("a share")),
            ..Sampling::default()
        };
        let counted = Sampling { steps: Some(9), shift: Some(2.5), ..shared.clone() };
        let sigmas = Sampling { sigmas: Some(vec![1.0, 0.9375, 0.8333, 0.625]), ..shared.clone() };
        let timesteps = Sampling { timesteps: Some(vec![1000.0, 937.5, 833.3, 625.0]), ..shared };
        let scales = Sampling {
            steps: Some(3),
            shift: Some(2.0),
            sampler: Some(SamplerKind::Euler),
            guidance_scale: Some(3.0),
            stg_scale: Some(1.0),
            modality_scale: Some(2.5),
            guidance_rescale: Some(0.7),
            audio_guidance_scale: Some(7.0),
            audio_stg_scale: Some(0.5),
            audio_modality_scale: Some(2.0),
            audio_guidance_rescale: Some(0.0),
            ..Sampling::default()
        };
        let mut seen = Vec::new();
        for (settings, pipeline) in [
            (counted, pipeline()),
            (sigmas, pipeline()),
            (timesteps, pipeline()),
            (scales.complete(), pipeline_of_estimates()),
        ] {
            let keys = serde_json::to_value(&settings).expect("plain data");
            seen.extend(keys.as_object().expect("a table").keys().cloned());
            // Long enough for sparse attention.
            let request = Request { frames: Some(81), ..request(settings.clone()) };
            let plan = pipeline.plan(&request).expect("a plan").plan;
            let recipe = pipeline.recipe(&plan, &Output::default());
            let read: crate::Recipe = serde_json::from_str(&recipe.to_text()).expect("a recipe");
            assert_eq!(read.request().expect("a request").sampling, settings);
        }
        assert!(Sampling::KEYS.iter().all(|key| seen.iter().any(|seen| seen == key)), "{seen:?}");
    }

    #[test]
    fn scales_of_estimates_are_refused_where_there_are_none() {
        let plain: [fn(Sampling) -> Sampling; 7] = [
            |all| all.stg_scale(1.0),
            |all| all.modality_scale(1.0),
            |all| all.guidance_rescale(0.0),
            |all| all.audio_guidance_scale(3.0),
            |all| all.audio_stg_scale(1.0),
            |all| all.audio_modality_scale(1.0),
            |all| all.audio_guidance_rescale(0.0),
        ];
        let (velocities, sounding, mut silent) = (pipeline(), pipeline_of_estimates(), pipeline_of_estimates());
        silent.limits.capabilities.sound = false;
        for (index, set) in plain.into_iter().enumerate() {
            let request = request(set(Sampling::default()));
            let error = velocities.plan(&request).map(drop).expect_err("it guides velocities");
            assert!(error.to_string().contains("does nothing here") && error.settings().len() == 1, "{error}");
            assert!(error.hint().is_some());
            assert!(sounding.plan(&request).is_ok());
            assert_eq!(silent.plan(&request).is_ok(), index < 3);
        }
        let zero_star = request(Sampling::default().cfg_zero_star(true));
        assert!(velocities.plan(&zero_star).is_ok() && sounding.plan(&zero_star).is_err());
        let beyond = request(Sampling::default().guidance_rescale(1.5));
        assert!(sounding.plan(&beyond).is_err());
    }

    #[test]
    fn the_sound_is_guided_like_the_picture_unless_it_says_otherwise() {
        let plan = |sampling| pipeline_of_estimates().plan(&request(sampling)).expect("a plan").plan;
        let own = plan(Sampling::default().guidance_scale(3.0).stg_scale(1.0).audio_stg_scale(0.0));
        let video = Guidance { cfg: 3.0, stg: 1.0, ..Guidance::OFF };
        assert_eq!(own.combination, Combination::Estimates([video, Guidance { stg: 0.0, ..video }]));
        assert_eq!(own.passes(), [Pass::Prompt, Pass::Negative, Pass::Perturbed]);
        let interval = plan(Sampling::default().guidance_scale(3.0).guidance_interval([0.2, 0.9]));
        assert_eq!(interval.passes_at(0, 1.0), [Pass::Prompt]);
        assert_eq!(interval.passes_at(0, 0.5), [Pass::Prompt, Pass::Negative]);
        assert!(!plan(Sampling::default().guidance_scale(1.0).modality_scale(3.0)).guided());
    }

    #[test]
    fn levels_of_a_clip_follow_its_size_and_the_shift_that_is_asked_for() {
        let mut pipeline = pipeline();
        let shift = DynamicShift { tokens: [1024, 4096], log: [0.95, 2.05] };
        (pipeline.limits.shift, pipeline.limits.levels) = (Some(Shift::Dynamic(shift)), Levels::Even(Some(0.1)));
        let plan = |frames, sampling| {
            let request = Request { frames: Some(frames), ..request(sampling) };
            pipeline.plan(&request).expect("a plan").plan
        };
        let even = |shift| Schedule::even(7, shift, Some(0.1)).expect("a schedule");
        let [patch_frames, patch_height, patch_width] = pipeline.limits.patch;
        for frames in [5, 81] {
            let plan = plan(frames, Sampling::default().steps(7).sampler(SamplerKind::Euler));
            let [_, f, h, w] = plan.latent_shape;
            let tokens = (f / patch_frames) * (h / patch_height) * (w / patch_width);
            assert_eq!(plan.schedule, even(shift.shift(tokens)));
            assert_eq!(plan.sampling.shift, Some(shift.shift(tokens)));
        }
        assert_eq!(plan(5, Sampling::default().steps(7).shift(2.0)).schedule, even(2.0));
        let listed = plan(5, Sampling::default().sigmas(vec![1.0, 0.5]));
        assert_eq!(listed.schedule.sigmas(), [1.0, 0.5, 0.0], "no shift and no end");
    }

    #[test]
    fn a_setting_is_the_requests_then_the_modes_then_the_defaults() {
        let mut pipeline = pipeline();
        let manifest = &mut pipeline.model.manifest;
        manifest.modes.fast = Sampling { steps: Some(5), shift: Some(2.0), ..Sampling::default() };
        manifest.defaults.sampling.cache = Some("easycache:0.2".parse().expect("a cache"));
        let defaults = pipeline.model.manifest.defaults.sampling.clone();
        let settings = |own: Sampling, mode| {
            let request = Request { mode, ..request(own) };
            pipeline.plan(&request).expect("a plan").plan.sampling
        };
        let plain = settings(Sampling::default(), None);
        assert_eq!((plain.steps, plain.shift, plain.sampler), (defaults.steps, defaults.shift, defaults.sampler));
        assert_eq!(plain.cache, defaults.cache);
        let fast = settings(Sampling::default(), Some(Mode::Fast));
        assert_eq!((fast.steps, fast.shift, fast.sampler), (Some(5), Some(2.0), defaults.sampler));
        let own = Sampling { steps: Some(7), cache: Some(CacheChoice::Off), ..Sampling::default() };
        let own = settings(own, Some(Mode::Fast));
        assert_eq!((own.steps, own.shift, own.cache), (Some(7), Some(2.0), None));
        let listed = Sampling { sigmas: Some(vec![1.0, 0.5]), ..Sampling::default() };
        let listed = settings(listed, Some(Mode::Fast));
        assert_eq!((listed.steps, listed.shift), (Some(2), None), "the mode's steps and shift are not those of a list");
    }
}
