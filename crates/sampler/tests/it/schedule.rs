//! Schedules against diffusers, and explicit lists.

use kinora_sampler::{Error, Schedule};

use crate::support::{fixture, values};

const STEPS: [usize; 12] = [1, 2, 3, 4, 5, 8, 10, 16, 25, 30, 40, 50];

fn exact(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

fn assert_equal_to_diffusers(name: &str, make: fn(usize, f64) -> Result<Schedule, Error>) {
    let fixture = fixture("schedules.safetensors");
    for shift in [1.0, 3.0, 5.0, 12.0] {
        let (mut sigmas, mut timesteps) = (vec![], vec![]);
        for steps in STEPS {
            let schedule = make(steps, shift).unwrap();
            assert_eq!(schedule.steps(), steps);
            sigmas.extend_from_slice(schedule.sigmas());
            timesteps.extend_from_slice(schedule.timesteps());
        }
        assert_eq!(sigmas, exact(values(&fixture[&format!("{name}.{shift}.sigmas")])), "{name}, shift {shift}");
        assert_eq!(timesteps, exact(values(&fixture[&format!("{name}.{shift}.timesteps")])), "{name}, shift {shift}");
    }
}

#[test]
fn flow_is_the_schedule_of_unipc_in_diffusers() {
    assert_equal_to_diffusers("flow", Schedule::flow);
    assert_eq!(Schedule::flow(4, 3.0).unwrap().timesteps(), [999.0, 900.0, 750.0, 500.0]);
}

#[test]
fn flow_match_euler_is_the_schedule_of_diffusers() {
    assert_equal_to_diffusers("flow_match_euler", Schedule::flow_match_euler);
}

/// Sigmas are compared where the sampler is, with the numbers recorded there.
#[test]
fn flow_dpm_feeds_the_timesteps_of_diffusers() {
    assert_eq!(Schedule::flow_dpm(4, 3.0).unwrap().timesteps(), [999.0, 899.0, 749.0, 499.0]);
    assert_eq!(Schedule::flow_dpm(7, 5.0).unwrap().timesteps(), [999.0, 967.0, 925.0, 869.0, 789.0, 666.0, 454.0]);
}

#[test]
fn timesteps_of_distilled_models_are_fed_as_given() {
    let schedule = Schedule::from_timesteps(&[1000.0, 937.5, 833.3, 625.0]).unwrap();
    assert_eq!(schedule.timesteps(), [1000.0, 937.5, f64::from(833.3f32), 625.0]);
    let sigmas = [1.0, 0.9375, f64::from(833.3f32 / 1000.0), 0.625, 0.0];
    assert_eq!(schedule.sigmas(), sigmas);
}

#[test]
fn a_list_of_sigmas_may_end_with_zero() {
    let schedule = Schedule::from_sigmas(&[1.0, 0.75, 0.5]).unwrap();
    assert_eq!(schedule.sigmas(), [1.0, 0.75, 0.5, 0.0]);
    assert_eq!(schedule.timesteps(), [1000.0, 750.0, 500.0]);
    assert_eq!(Schedule::from_sigmas(&[1.0, 0.75, 0.5, 0.0]).unwrap(), schedule);
}

#[test]
fn a_schedule_survives_json() {
    for schedule in [Schedule::flow(50, 12.0).unwrap(), Schedule::from_timesteps(&[999.9, 833.3, 0.1]).unwrap()] {
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
    }
}
