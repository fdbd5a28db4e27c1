//! Stopping after any step and going on with the same bits.

use candle_core::Device;
use kinora_sampler::{Error, NoiseSource, Sampler, SamplerKind, SamplerState, Schedule, Streams};

use crate::support::{bits, denoise, finish, not_finite, video};

const STEPS: usize = 5;
const SEED: u64 = 3;

fn sampler(kind: SamplerKind) -> Sampler {
    let noise = NoiseSource::new(SEED).randn_tensor((1, 2, 3, 3, 5), &Device::Cpu).unwrap();
    Sampler::new(kind, Schedule::flow(STEPS, 3.0).unwrap(), Streams::single("video", noise), SEED).unwrap()
}

fn restored(sampler: &Sampler) -> Result<Sampler, Error> {
    let (mut tensors, state) = sampler.save();
    tensors.reverse(); // a file gives them in any order
    let state: SamplerState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    Sampler::restore(state, tensors)
}

#[test]
fn a_restored_sampler_goes_on_bit_for_bit_from_every_step() {
    for kind in SamplerKind::ALL {
        let mut straight = sampler(kind);
        finish(&mut straight);
        let mut stopped = sampler(kind);
        for step in 0..=STEPS {
            let mut resumed = restored(&stopped).unwrap();
            assert_eq!(resumed.step_index(), step);
            finish(&mut resumed);
            assert_eq!(bits(video(&resumed)), bits(video(&straight)), "{kind} stopped after step {step}");
            if !stopped.is_done() {
                stopped.step(&mut denoise).unwrap();
            }
        }
    }
}

#[test]
fn a_failed_evaluation_leaves_the_sampler_where_it_stood() {
    for kind in SamplerKind::ALL {
        let (mut smooth, mut bumpy) = (sampler(kind), sampler(kind));
        finish(&mut smooth);
        let (mut calls, mut failures) = (0, 0);
        while !bumpy.is_done() {
            let before = bumpy.step_index();
            let stepped = bumpy.step(&mut |x: &Streams, info| {
                calls += 1;
                if calls % 3 == 0 { not_finite(&denoise(x, info)?) } else { denoise(x, info) }
            });
            if stepped.is_err() {
                failures += 1;
                assert_eq!(bumpy.step_index(), before);
            }
        }
        assert!(failures > 0);
        assert_eq!(bits(video(&bumpy)), bits(video(&smooth)), "{kind}");
    }
}

#[test]
fn lcm_noise_depends_on_the_seed() {
    let (mut a, noise) = (sampler(SamplerKind::Lcm), sampler(SamplerKind::Lcm).x().clone());
    let mut b = Sampler::new(SamplerKind::Lcm, Schedule::flow(STEPS, 3.0).unwrap(), noise, SEED + 1).unwrap();
    finish(&mut a);
    finish(&mut b);
    assert_ne!(bits(video(&a)), bits(video(&b)));
}

#[test]
fn a_state_must_have_just_its_tensors() {
    let mut sampler = sampler(SamplerKind::UniPc);
    for _ in 0..3 {
        sampler.step(&mut denoise).unwrap();
    }
    let (tensors, state) = sampler.save();
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["denoised.0", "denoised.1", "last_x", "x"]);

    let missing = tensors[1..].to_vec();
    assert!(matches!(Sampler::restore(state.clone(), missing), Err(Error::StateTensors { index: 3, .. })));
    let mut twice = tensors.clone();
    twice[1] = tensors[0].clone();
    assert!(matches!(Sampler::restore(state.clone(), twice), Err(Error::StateTensors { .. })));
    let mut misshapen = tensors.clone();
    misshapen[2].1 = misshapen[2].1.flatten_all().unwrap();
    assert!(matches!(Sampler::restore(state.clone(), misshapen), Err(Error::Shape { .. })));
    let beyond = SamplerState { index: STEPS + 1, ..state };
    assert!(matches!(Sampler::restore(beyond, tensors), Err(Error::StateIndex { index: 6, steps: 5 })));
}
