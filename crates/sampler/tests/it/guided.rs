//! Guidance of estimates, even schedules and held latents against runs of diffusers' LTX2 pipelines
//! (scripts/fixtures/guided.py): whole runs with the recorded velocities.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use kinora_sampler::{
    DynamicShift, Error, Estimates, Guidance, Held, NoiseSource, Sampler, SamplerKind, SamplerState, Schedule,
    StepInfo, Streams, guided, x0_from_velocity,
};
use kinora_test_support::max_error;
use serde::Deserialize;

use crate::support::{Fixture, bits, denoise, finish, fixture, relative_l2, values};

const TOLERANCE: f64 = 1e-6;
const STREAMS: [&str; 2] = ["video", "audio"];
const SHIFT: DynamicShift = DynamicShift { tokens: [1024, 4096], log: [0.95, 2.05] };
const TERMINAL: f64 = 0.1;

/// One recorded run; scales are cfg, stg, modality and rescale.
#[derive(Deserialize)]
struct Run {
    steps: usize,
    seed: u64,
    tokens: usize,
    /// Tokens of a given picture, at the start of the video.
    held: usize,
    /// Sigmas without a shift.
    listed: Option<Vec<f64>>,
    video: [f64; 4],
    audio: [f64; 4],
}

impl Run {
    fn schedule(&self) -> Schedule {
        let schedule = match &self.listed {
            Some(sigmas) => Schedule::from_sigmas(sigmas),
            None => Schedule::even(self.steps, SHIFT.shift(self.tokens), Some(TERMINAL)),
        };
        schedule.unwrap()
    }

    fn guidance(&self, stream: &str) -> Guidance {
        let [cfg, stg, modality, rescale] = if stream == "video" { self.video } else { self.audio };
        Guidance { cfg, stg, modality, rescale }
    }

    /// The tokens of the picture, in the packed layout [1, L, C].
    fn held(&self) -> Held {
        if self.held == 0 {
            return Held::NOTHING;
        }
        let mask: Vec<f32> = (0..self.tokens).map(|token| f32::from(u8::from(token < self.held))).collect();
        Held::NOTHING.and("video", &Tensor::from_vec(mask, (1, self.tokens, 1), &Device::Cpu).unwrap()).unwrap()
    }
}

fn recorded() -> (Fixture, BTreeMap<String, Run>) {
    let path = kinora_test_support::fixture("sampler/guided.safetensors");
    let (tensors, metadata) = kinora_test_support::tensors_and_metadata(&path);
    (tensors, serde_json::from_str(&metadata["runs"]).unwrap())
}

fn streams(tensors: &Fixture, name: &str) -> Streams {
    Streams::new(STREAMS.map(|stream| (stream, tensors[&format!("{name}.{stream}")].clone()))).unwrap()
}

/// The estimates of x0 that the recorded velocities of a step imply.
fn estimate(tensors: &Fixture, name: &str, run: &Run, x: &Streams, info: StepInfo) -> Result<Streams, Error> {
    x.map(|stream, x| {
        let of = |pass: &str| {
            let velocity = tensors.get(&format!("{name}.step{}.{pass}.{stream}", info.index));
            velocity.map(|velocity| x0_from_velocity(x, velocity, info.sigma)).transpose()
        };
        let (cond, uncond, perturbed, isolated) = (of("cond")?, of("uncond")?, of("perturbed")?, of("isolated")?);
        let estimates = Estimates {
            cond: cond.as_ref().unwrap(),
            uncond: uncond.as_ref(),
            perturbed: perturbed.as_ref(),
            isolated: isolated.as_ref(),
        };
        guided(&estimates, &run.guidance(stream))
    })
}

#[test]
fn runs_of_two_streams_are_those_of_diffusers() {
    let (tensors, runs) = recorded();
    assert_eq!(runs.len(), 6);
    for (name, run) in &runs {
        let x = streams(&tensors, &format!("{name}.start"));
        let mut sampler = Sampler::new(SamplerKind::Euler, run.schedule(), x, run.seed).unwrap();
        sampler = sampler.holding(run.held()).unwrap();
        for step in 0..run.steps {
            sampler.step(&mut |x: &Streams, info| estimate(&tensors, name, run, x, info)).unwrap();
            for (stream, expected) in streams(&tensors, &format!("{name}.step{step}.latents")).iter() {
                let error = relative_l2(sampler.x().get(stream).unwrap(), expected);
                assert!(error <= TOLERANCE, "{name}: {stream} is off by {error:.1e} after step {step}");
            }
        }
        let picture = |x: &Streams| bits(&x.get("video").unwrap().narrow(1, 0, run.held).unwrap());
        assert_eq!(picture(sampler.x()), picture(&streams(&tensors, &format!("{name}.start"))), "{name}");
    }
}

#[test]
fn a_stopped_run_of_two_streams_goes_on_with_the_same_bits() {
    let (tensors, runs) = recorded();
    for name in ["four", "image"] {
        let run = &runs[name];
        let start = streams(&tensors, &format!("{name}.start"));
        let finish = |mut sampler: Sampler| {
            while !sampler.is_done() {
                sampler.step(&mut |x: &Streams, info| estimate(&tensors, name, run, x, info)).unwrap();
            }
            STREAMS.map(|stream| bits(sampler.x().get(stream).unwrap()))
        };
        let sampler = || Sampler::new(SamplerKind::Euler, run.schedule(), start.clone(), run.seed).unwrap();
        let straight = finish(sampler().holding(run.held()).unwrap());
        let mut stopped = sampler().holding(run.held()).unwrap();
        stopped.step(&mut |x: &Streams, info| estimate(&tensors, name, run, x, info)).unwrap();
        let (saved, state) = stopped.save();
        let state: SamplerState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        let resumed = Sampler::restore(state, saved).unwrap().holding(run.held()).unwrap();
        assert_eq!(finish(resumed), straight, "{name}");
    }
}

#[test]
fn noise_of_two_streams_is_drawn_by_one_generator() {
    let (tensors, runs) = recorded();
    let mut drawn = 0;
    for (name, run) in &runs {
        let mut source = NoiseSource::new(run.seed);
        for stream in STREAMS {
            let Some(expected) = tensors.get(&format!("{name}.noise.{stream}")) else { continue };
            let error = max_error(&source.randn_tensor(expected.shape(), &Device::Cpu).unwrap(), expected);
            assert!(error <= 2e-6, "{name}: {stream} is off by {error:.1e}");
            drawn += 1;
        }
    }
    assert_eq!(drawn, 10);
}

#[test]
fn schedules_have_the_numbers_of_diffusers() {
    let exact = |tensor: &Tensor| values(tensor).into_iter().map(f64::from).collect::<Vec<_>>();
    let (tensors, runs) = recorded();
    for (name, run) in &runs {
        let schedule = run.schedule();
        assert_eq!(schedule.sigmas(), exact(&tensors[&format!("{name}.sigmas")]), "{name}");
        assert_eq!(schedule.timesteps(), exact(&tensors[&format!("{name}.timesteps")]), "{name}");
    }
    let fixture = fixture("even.safetensors");
    let mut compared = 0;
    for (key, expected) in &fixture {
        let Some((of, "sigmas")) = key.rsplit_once('.') else { continue };
        let (tokens, steps) = of.split_once('.').unwrap();
        let shift = SHIFT.shift(tokens.parse().unwrap());
        let schedule = Schedule::even(steps.parse().unwrap(), shift, Some(TERMINAL)).unwrap();
        assert_eq!(schedule.sigmas(), exact(expected), "{of}");
        assert_eq!(schedule.timesteps(), exact(&fixture[&format!("{of}.timesteps")]), "{of}");
        compared += 1;
    }
    assert_eq!(compared, 56);
}

#[test]
fn even_levels_without_a_shift_or_an_end_are_plain() {
    assert_eq!(Schedule::even(4, 1.0, None).unwrap().sigmas(), [1.0, 0.75, 0.5, 0.25, 0.0]);
    assert_eq!(Schedule::even(1, 7.0, Some(0.1)).unwrap().sigmas(), [1.0, 0.0]);
    for terminal in [0.0, 1.0, -0.1, f64::NAN] {
        assert!(matches!(Schedule::even(4, 1.0, Some(terminal)), Err(Error::Terminal { .. })));
    }
    assert!(matches!(Schedule::even(0, 1.0, None), Err(Error::Steps { .. })));
    assert!(matches!(Schedule::even(4, f64::NAN, None), Err(Error::Shift { .. })));
}

fn one(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap().unsqueeze(0).unwrap()
}

#[test]
fn each_scale_leads_away_from_its_own_estimate() {
    let [cond, uncond, perturbed, isolated] =
        [[1.0, 2.0, 4.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]].map(|values| one(&values));
    let all = Estimates { cond: &cond, uncond: Some(&uncond), perturbed: Some(&perturbed), isolated: Some(&isolated) };
    let guided_by = |guidance| values(&guided(&all, &guidance).unwrap());
    assert_eq!(guided_by(Guidance::OFF), [1.0, 2.0, 4.0]);
    assert_eq!(guided_by(Guidance { cfg: 3.0, ..Guidance::OFF }), [3.0, 6.0, 12.0]);
    assert_eq!(guided_by(Guidance { stg: 0.5, ..Guidance::OFF }), [1.0, 2.5, 5.5]);
    assert_eq!(guided_by(Guidance { modality: 2.0, ..Guidance::OFF }), [0.0, 2.0, 6.0]);
    let alone = Estimates { uncond: None, perturbed: None, isolated: None, ..all };
    let strong = Guidance { cfg: 9.0, stg: 9.0, modality: 9.0, rescale: 0.0 };
    assert_eq!(values(&guided(&alone, &strong).unwrap()), [1.0, 2.0, 4.0], "what is missing adds nothing");
}

/// Every sample has its own deviation.
#[test]
fn rescaling_gives_the_deviation_of_the_prompts_estimate() {
    let cond = Tensor::cat(&[one(&[1.0, 2.0, 4.0]), one(&[5.0, 0.0, -5.0])], 0).unwrap();
    let uncond = cond.zeros_like().unwrap();
    let estimates = Estimates { cond: &cond, uncond: Some(&uncond), perturbed: None, isolated: None };
    let of = |rescale| values(&guided(&estimates, &Guidance { cfg: 5.0, rescale, ..Guidance::OFF }).unwrap());
    for (share, factor) in [(1.0, 1.0), (0.5, 3.0), (0.25, 4.0)] {
        for (found, cond) in of(share).into_iter().zip(values(&cond)) {
            assert!((found - factor * cond).abs() < 1e-5, "{share}: {found} is not {factor} times {cond}");
        }
    }
}

#[test]
fn estimates_of_another_shape_are_refused_by_name() {
    let (cond, other) = (one(&[1.0, 2.0]), one(&[1.0]));
    let estimates = Estimates { cond: &cond, uncond: None, perturbed: Some(&other), isolated: None };
    let error = guided(&estimates, &Guidance::OFF).unwrap_err();
    assert_eq!(error.to_string(), "the perturbed estimate has shape [1, 1], expected [1, 2]");
}

/// The second of three frames, with every sampler.
#[test]
fn what_is_held_keeps_its_bits_and_the_rest_does_not_notice() {
    let noise = NoiseSource::new(5).randn_tensor((1, 2, 3, 2, 2), &Device::Cpu).unwrap();
    let mask = Tensor::new(&[0f32, 1.0, 0.0], &Device::Cpu).unwrap().reshape((1, 1, 3, 1, 1)).unwrap();
    for kind in SamplerKind::ALL {
        let sampler = || {
            let x = Streams::single("video", noise.clone());
            Sampler::new(kind, Schedule::flow(5, 3.0).unwrap(), x, 5).unwrap()
        };
        let (mut free, mut holding) =
            (sampler(), sampler().holding(Held::NOTHING.and("video", &mask).unwrap()).unwrap());
        finish(&mut free);
        while !holding.is_done() {
            holding.step(&mut denoise).unwrap();
            let frame = |x: &Tensor| bits(&x.narrow(2, 1, 1).unwrap());
            assert_eq!(frame(holding.x().first()), frame(&noise), "{kind}");
        }
        for frame in [0, 2] {
            let of = |sampler: &Sampler| bits(&sampler.x().first().narrow(2, frame, 1).unwrap());
            assert_eq!(of(&free), of(&holding), "{kind}: frame {frame}");
        }
    }
}

#[test]
fn masks_of_other_latents_are_refused() {
    let x = Tensor::zeros((1, 2, 3), DType::F32, &Device::Cpu).unwrap();
    let sampler = || {
        let x = Streams::new([("video", x.clone()), ("audio", x.clone())]).unwrap();
        Sampler::new(SamplerKind::Euler, Schedule::flow(2, 1.0).unwrap(), x, 0).unwrap()
    };
    let held = |name: &str, shape: &[usize]| {
        let mask = Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
        sampler().holding(Held::NOTHING.and(name, &mask).unwrap()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(held("audio", &[1, 1, 3]), Ok(()));
    assert_eq!(held("sound", &[1]), Err(r#"there is no latent stream `sound`, only ["video", "audio"]"#.to_string()));
    let refused = "the mask of what is held (stream `audio`) has shape [1, 2, 4], expected [1, 2, 3]";
    assert_eq!(held("audio", &[1, 2, 4]), Err(refused.to_string()));
}
