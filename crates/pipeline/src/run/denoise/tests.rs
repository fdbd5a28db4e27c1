//! Runs of a model of two latent streams, with a network that is a formula.

use super::*;
use crate::families::capabilities::{GuidanceKind, SoundLatents};
use crate::plan::guidance::Combination;
use crate::request::Request;
use crate::request::cache::CacheChoice;
use crate::request::output::Output;
use crate::request::sampling::Sampling;
use crate::{LoadOptions, Pipeline};
use candle_core::Tensor;
use kinora_checkpoint::save_safetensors;
use kinora_sampler::{Held, SamplerKind, Schedule};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

const STEPS: usize = 4;

/// Steps and their passes, in order.
type Passes = Vec<(usize, Pass)>;

/// The embedded model, as if it made sound and guided estimates.
fn pipeline() -> Pipeline {
    let options = LoadOptions { device: "cpu".into(), ..LoadOptions::default() };
    let mut pipeline = Pipeline::load(&options).expect("the embedded model");
    let limits = &mut pipeline.limits;
    (limits.guidance, limits.capabilities.sound) = (GuidanceKind::Estimates, true);
    limits.sound = Some(SoundLatents { channels: 2, bins: 4, rate: 25.0 });
    pipeline
}

fn plan(pipeline: &Pipeline, sampling: Sampling) -> Plan {
    let sampling = sampling.steps(STEPS).sampler(SamplerKind::Euler).guidance_interval([0.0, 0.99]);
    let request = Request { sampling, seed: Some(3), ..Request::new("a red ball").frames(9) };
    pipeline.plan(&request).expect("a plan").plan
}

fn guided() -> Sampling {
    Sampling::default().guidance_scale(3.0).stg_scale(1.0).modality_scale(2.0).audio_guidance_scale(5.0)
}

/// The velocity of a pass is a multiple of the latents. The first latent frame is held.
struct Formula {
    passes: Rc<RefCell<Vec<(usize, Pass)>>>,
}

fn velocity(x: &Tensor, pass: Pass) -> candle_core::Result<Tensor> {
    x * (0.3 + 0.1 * f64::from(pass as u8))
}

impl Predictor for Formula {
    fn start(&self, noise: Streams) -> Result<Streams> {
        Ok(noise)
    }

    fn held(&self) -> Result<Held> {
        let mask = Tensor::new(&[1f32, 0.0, 0.0], &Device::Cpu)?.reshape((1, 1, 3, 1, 1))?;
        Ok(Held::NOTHING.and("video", &mask)?)
    }

    fn predict(&mut self, x: &Streams, step: StepInfo, pass: Pass, _reuse: &mut dyn Reuse) -> Result<Streams> {
        self.passes.borrow_mut().push((step.index, pass));
        x.map(|_, x| Ok(velocity(x, pass)?))
    }

    fn shown(&self, denoised: &Streams) -> Result<Streams> {
        Ok(denoised.clone())
    }

    fn clip(&self, x: &Streams) -> Result<Streams> {
        Ok(x.clone())
    }
}

/// The latents of a run, the predictions that it took, and the passes that its steps made.
fn run(
    plan: &Plan,
    noise: Option<Streams>,
    run_dir: Option<&RunDir>,
    stop_after: usize,
) -> (Result<(Streams, Predictions)>, Passes) {
    let passes = Rc::new(RefCell::new(Vec::new()));
    let predictor = Box::new(Formula { passes: passes.clone() });
    let denoiser = Denoiser { plan, device: &Device::Cpu, predictor, dtype: DType::F32, noise };
    let mut handler = |event: Event| match event {
        Event::Step { done, .. } if done == stop_after => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let result = denoiser.run(run_dir, &mut Observer::new(&mut handler));
    let passes = passes.borrow().clone();
    (result, passes)
}

fn values(streams: &Streams, name: &str) -> Vec<f32> {
    streams.get(name).and_then(|x| Ok(x.flatten_all()?.to_vec1()?)).expect("f32")
}

#[test]
fn streams_are_guided_apart_and_steps_make_the_passes_that_they_need() {
    let plan = plan(&pipeline(), guided());
    let Combination::Estimates(scales) = plan.combination else { panic!("{:?}", plan.combination) };
    let (result, passes) = run(&plan, None, None, 0);
    let (clip, predictions) = result.expect("a clip");
    let all = [Pass::Prompt, Pass::Negative, Pass::Perturbed, Pass::Isolated];
    let expected: Vec<_> = (1..STEPS).flat_map(|step| all.map(|pass| (step, pass))).collect();
    assert_eq!(passes, [vec![(0, Pass::Prompt)], expected].concat(), "the first step lies outside the interval");
    assert_eq!((predictions.computed, predictions.skipped), (4 * STEPS - 3, 3));

    // The same by hand: every estimate is a multiple of the latents, and so is every step.
    let sigmas = plan.schedule.sigmas();
    let mut source = NoiseSource::new(3);
    for (stream, scales) in plan.streams.iter().zip(scales) {
        let noise = source.randn_tensor(&stream.shape[..], &Device::Cpu).expect("noise");
        let mut factor = 1.0;
        for step in 0..STEPS {
            let estimate = |pass: Pass| 1.0 - sigmas[step] * (0.3 + 0.1 * f64::from(pass as u8));
            let cond = estimate(Pass::Prompt);
            let mut denoised = cond;
            if step > 0 {
                denoised += (scales.cfg - 1.0) * (cond - estimate(Pass::Negative));
                denoised += scales.stg * (cond - estimate(Pass::Perturbed));
                denoised += (scales.modality - 1.0) * (cond - estimate(Pass::Isolated));
            }
            factor *= denoised + (1.0 - denoised) * sigmas[step + 1] / sigmas[step];
        }
        let (noise, found) =
            (noise.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("f32"), values(&clip, stream.name));
        let [held, plain] = [1.0, factor].map(|factor| noise.iter().map(move |x| f64::from(*x) * factor));
        let size: usize = stream.shape[stream.shape.len() - 2..].iter().product();
        for (index, ((held, plain), found)) in held.zip(plain).zip(found).enumerate() {
            let first = stream.name == "video" && (index / size).is_multiple_of(stream.shape[2]);
            let expected = if first { held } else { plain };
            assert!((f64::from(found) - expected).abs() < 1e-5, "{}: {found} is not {expected}", stream.name);
        }
    }
}

#[test]
fn a_stopped_run_of_two_streams_goes_on_with_the_same_bits() {
    let pipeline = pipeline();
    for cache in [None, Some("easycache:0.5".parse::<CacheChoice>().expect("a cache"))] {
        let plan = plan(&pipeline, guided().cache(cache));
        let (straight, _) = run(&plan, None, None, 0);
        let (straight, _) = straight.expect("a clip");
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = pipeline.recipe(&plan, &Output::default());
        let run_dir = RunDir::open(&folder.path().join("run"), &recipe, &pipeline.model.files()).expect("a directory");
        let (stopped, _) = run(&plan, None, Some(&run_dir), 2);
        assert!(stopped.is_err_and(|error| error.is_stop()));
        let (resumed, passes) = run(&plan, None, Some(&run_dir), 0);
        assert!(passes.iter().all(|(step, _)| *step >= 2), "{passes:?}");
        let (resumed, _) = resumed.expect("a clip");
        for name in ["video", "audio"] {
            assert_eq!(values(&resumed, name), values(&straight, name), "{name}");
        }
    }
}

#[test]
fn given_noise_has_a_tensor_for_each_stream() {
    let plan = plan(&pipeline(), Sampling::default());
    let seeded = seeded_noise(&plan.streams, plan.seed, &Device::Cpu).expect("noise");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("noise.safetensors");
    let [video, audio] = ["video", "audio"].map(|name| seeded.get(name).expect("a stream").clone());
    let write = |tensors: &[(&str, &Tensor)]| {
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| ((*name).to_string(), (*tensor).clone())).collect();
        save_safetensors(&path, &tensors, &BTreeMap::new()).expect("it is written");
    };
    write(&[("noise", &video), ("noise_audio", &audio)]);
    let noise = read_noise(&path, &plan.streams).expect("it is whole");
    let given = run(&plan, Some(noise), None, 0).0.expect("a clip").0;
    let drawn = run(&plan, None, None, 0).0.expect("a clip").0;
    assert_eq!(values(&given, "audio"), values(&drawn, "audio"));
    write(&[("noise", &video)]);
    let error = read_noise(&path, &plan.streams).expect_err("the sound has none");
    assert!(error.to_string().contains("no tensor `noise_audio`"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("noise_NAME")));
}

#[test]
fn a_list_of_levels_is_taken_as_it_is() {
    let distilled = guided().sigmas(vec![1.0, 0.725, 0.421_875]);
    let request = Request { sampling: distilled, ..Request::new("a red ball") };
    let plan = pipeline().plan(&request).expect("a plan").plan;
    assert_eq!(plan.schedule, Schedule::from_sigmas(&[1.0, 0.725, 0.421_875]).expect("a schedule"));
}
