//! What is refused, and how it is said.

use candle_core::{DType, Device, Tensor};
use kinora_sampler::{Error, MAX_STEPS, Sampler, SamplerKind, SamplerState, Schedule, Streams};

use crate::support::{denoise, finish, not_finite};

fn message<T>(result: Result<T, Error>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn sampler_names_go_both_ways() {
    for kind in SamplerKind::ALL {
        assert_eq!(kind.to_string().parse::<SamplerKind>().unwrap(), kind);
    }
}

#[test]
fn an_unknown_sampler_is_answered_with_the_nearest() {
    for (name, similar) in [("dpmpp2m", "dpm++2m"), ("UniPC", "unipc"), ("unipc-bh2", "unipc-bh1"), ("eular", "euler")]
    {
        let error = name.parse::<SamplerKind>().unwrap_err();
        assert_eq!(error.to_string(), format!("unknown sampler `{name}`; did you mean `{similar}`?"));
        assert_eq!(error.hint().unwrap(), "samplers are euler, heun, dpm++2m, unipc, unipc-bh1, lcm");
    }
    assert_eq!(message("zzz".parse::<SamplerKind>()), "unknown sampler `zzz`");
}

#[test]
fn bad_schedules_are_refused_with_their_values() {
    assert!(matches!(Schedule::flow(0, 3.0), Err(Error::Steps { steps: 0 })));
    assert!(matches!(Schedule::flow(MAX_STEPS + 1, 3.0), Err(Error::Steps { .. })));
    assert!(matches!(Schedule::from_sigmas(&[]), Err(Error::Steps { steps: 0 })));
    assert!(matches!(Schedule::from_timesteps(&[]), Err(Error::Steps { steps: 0 })));
    for shift in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(Schedule::flow(4, shift), Err(Error::Shift { .. })));
        assert!(matches!(Schedule::flow_match_euler(4, shift), Err(Error::Shift { .. })));
    }
    for shift in [1e-300, 1e300] {
        assert!(Schedule::flow(4, shift).is_err());
        assert!(Schedule::flow_match_euler(4, shift).is_err());
    }
    assert_eq!(message(Schedule::from_sigmas(&[1.0, 0.5, 0.7])), "sigma 2 is 0.7, not below 0.5, the one before it");
    assert_eq!(message(Schedule::from_sigmas(&[1.5, 0.5])), "sigma 0 is 1.5; noise levels are in (0, 1]");
    assert!(matches!(Schedule::from_sigmas(&[1.0, 0.0, 0.0]), Err(Error::SigmaRange { index: 1, .. })));
    assert!(matches!(Schedule::from_sigmas(&[f64::NAN]), Err(Error::SigmaRange { index: 0, .. })));
    assert!(matches!(Schedule::from_timesteps(&[1001.0, 500.0]), Err(Error::TimestepRange { index: 0, .. })));
    assert!(matches!(Schedule::from_timesteps(&[500.0, f64::NAN]), Err(Error::TimestepRange { index: 1, .. })));
    assert!(matches!(Schedule::from_timesteps(&[500.0, 500.0]), Err(Error::SigmaOrder { index: 1, .. })));
    assert!(Schedule::from_sigmas(&[2.0]).unwrap_err().hint().is_some());
}

#[test]
fn a_damaged_state_is_refused_while_it_is_read() {
    for (kind, sigmas, timesteps) in [
        ("unipc", "[1.0, 0.5, 0.0]", "[1000]"),
        ("unipc", "[]", "[]"),
        ("unipc", "[0.5, 1.0, 0.0]", "[500, 1000]"),
        ("unipc", "[1.0, 0.5]", "[1000]"),
        ("unipc", "[1.0, 0.0]", "[1e9]"),
        ("unipcc", "[1.0, 0.0]", "[1000]"),
    ] {
        let schedule = format!(r#"{{"sigmas": {sigmas}, "timesteps": {timesteps}}}"#);
        let state = format!(r#"{{"kind": "{kind}", "index": 0, "seed": 1, "schedule": {schedule}}}"#);
        assert!(serde_json::from_str::<SamplerState>(&state).is_err(), "{state}");
    }
}

fn sampler(kind: SamplerKind) -> Sampler {
    let x = Tensor::ones((1, 2, 3), DType::F32, &Device::Cpu).unwrap();
    Sampler::new(kind, Schedule::flow(2, 1.0).unwrap(), Streams::single("video", x), 0).unwrap()
}

#[test]
fn a_step_after_the_last_is_an_error() {
    let mut sampler = sampler(SamplerKind::Euler);
    finish(&mut sampler);
    assert!(matches!(sampler.step(&mut denoise), Err(Error::Done { steps: 2 })));
}

#[test]
fn an_estimate_of_another_shape_is_an_error() {
    let stepped = sampler(SamplerKind::Heun).step(&mut |x: &Streams, _| x.map(|_, x| Ok::<_, Error>(x.flatten_all()?)));
    assert_eq!(message(stepped), "the estimate of x0 has shape [6], expected [1, 2, 3]");
}

#[test]
fn nan_stops_at_its_step() {
    for kind in SamplerKind::ALL {
        let mut sampler = sampler(kind);
        sampler.step(&mut denoise).unwrap();
        let stepped = sampler.step(&mut |x: &Streams, _| not_finite(x));
        assert_eq!(message(stepped), "NaN or infinity in the result of step 2 of 2 (sigma 0.5005)", "{kind}");
    }
}

#[test]
fn the_callers_own_error_comes_through() {
    #[derive(Debug)]
    enum Own {
        Cancelled,
        Sampler,
    }
    impl From<Error> for Own {
        fn from(_: Error) -> Self {
            Own::Sampler
        }
    }
    let mut sampler = sampler(SamplerKind::UniPc);
    assert!(matches!(sampler.step(&mut |_: &Streams, _| Err(Own::Cancelled)), Err(Own::Cancelled)));
    assert!(matches!(sampler.step(&mut |x: &Streams, _| Ok::<_, Own>(not_finite(x)?)), Err(Own::Sampler)));
}
