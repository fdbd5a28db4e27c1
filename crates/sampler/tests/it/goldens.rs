//! Whole runs against diffusers' schedulers, latents after every step.

use kinora_sampler::{Sampler, SamplerKind, Schedule, Streams};

use crate::support::{Fixture, denoise, finish, fixture, relative_l2, values, video};

/// f32 latents, and diffusers' coefficients in f32 as well.
const TOLERANCE: f64 = 1e-6;

const STEPS: [usize; 5] = [1, 2, 3, 4, 10];
const SHIFTS: [f64; 3] = [1.0, 3.0, 5.0];

/// Runs from the first recorded latents and compares those after each step that was recorded.
fn assert_follows(fixture: &Fixture, name: &str, kind: SamplerKind, schedule: Schedule) {
    let recorded = &fixture[name]; // [steps + 1, ...]
    let start = recorded.narrow(0, 0, 1).unwrap();
    let mut sampler = Sampler::new(kind, schedule, Streams::single("video", start), 1234).unwrap();
    for step in 1..recorded.dims()[0] {
        sampler.step(&mut denoise).unwrap();
        let error = relative_l2(video(&sampler), &recorded.narrow(0, step, 1).unwrap());
        assert!(error <= TOLERANCE, "{name}: off by {error:.1e} after step {step}");
    }
}

fn recorded_sigmas(fixture: &Fixture, name: &str) -> Schedule {
    let sigmas: Vec<f64> = values(&fixture[&format!("{name}.sigmas")]).into_iter().map(f64::from).collect();
    Schedule::from_sigmas(&sigmas).unwrap()
}

#[test]
fn unipc_is_that_of_diffusers() {
    let fixture = fixture("samplers.safetensors");
    for (steps, shift) in STEPS.into_iter().flat_map(|steps| SHIFTS.map(|shift| (steps, shift))) {
        for (name, kind) in [("bh1", SamplerKind::UniPcBh1), ("bh2", SamplerKind::UniPc)] {
            let schedule = Schedule::flow(steps, shift).unwrap();
            assert_follows(&fixture, &format!("{name}.{steps}.{shift}"), kind, schedule);
        }
    }
}

#[test]
fn euler_is_flow_match_euler_of_diffusers() {
    let fixture = fixture("samplers.safetensors");
    for (steps, shift) in STEPS.into_iter().flat_map(|steps| SHIFTS.map(|shift| (steps, shift))) {
        let schedule = Schedule::flow_match_euler(steps, shift).unwrap();
        assert_follows(&fixture, &format!("euler.{steps}.{shift}"), SamplerKind::Euler, schedule);
    }
}

#[test]
fn dpm_pp_2m_is_that_of_diffusers() {
    let fixture = fixture("samplers.safetensors");
    for (steps, shift) in STEPS.into_iter().flat_map(|steps| SHIFTS.map(|shift| (steps, shift))) {
        let name = format!("dpm.{steps}.{shift}");
        let schedule = Schedule::flow_dpm(steps, shift).unwrap();
        assert_eq!(schedule.sigmas(), recorded_sigmas(&fixture, &name).sigmas(), "{name}");
        assert_follows(&fixture, &name, SamplerKind::DpmPp2m, schedule);
    }
}

/// diffusers with one generator for the first noise and that of every step.
#[test]
fn lcm_is_flow_match_lcm_of_diffusers() {
    let fixture = fixture("samplers.safetensors");
    assert_follows(&fixture, "lcm.4.5", SamplerKind::Lcm, recorded_sigmas(&fixture, "lcm.4.5"));
}

/// Where diffusers gives NaN (bh1, last step), the result is the estimate of x0.
#[test]
fn the_last_step_gives_the_estimate_of_x0() {
    let start = Streams::single("video", fixture("samplers.safetensors")["euler.4.3"].narrow(0, 0, 1).unwrap());
    for kind in SamplerKind::ALL {
        let mut sampler = Sampler::new(kind, Schedule::flow(3, 3.0).unwrap(), start.clone(), 1).unwrap();
        let mut last = None;
        while !sampler.is_done() {
            sampler.step(&mut |x, info| denoise(x, info).inspect(|denoised| last = Some(denoised.clone()))).unwrap();
        }
        assert_eq!(values(video(&sampler)), values(last.unwrap().get("video").unwrap()), "{kind}");
    }
}

/// Log-SNR is infinite at sigma 1; explicit lists may start there and still give what a millionth below gives.
#[test]
fn a_list_may_start_at_exactly_one() {
    let start = Streams::single("video", fixture("samplers.safetensors")["euler.4.3"].narrow(0, 0, 1).unwrap());
    for kind in SamplerKind::ALL {
        let run = |first: f64| {
            let schedule = Schedule::from_sigmas(&[first, 0.9, 0.7, 0.4]).unwrap();
            let mut sampler = Sampler::new(kind, schedule, start.clone(), 1).unwrap();
            finish(&mut sampler);
            video(&sampler).clone()
        };
        let error = relative_l2(&run(1.0), &run(1.0 - 1e-6));
        assert!(error <= 1e-5, "{kind}: {error:.1e}");
    }
}
