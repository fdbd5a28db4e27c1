//! Several latent streams in one run.

use candle_core::{DType, Device, Tensor};
use kinora_sampler::{Error, NoiseSource, Sampler, SamplerKind, SamplerState, Schedule, StepInfo, Streams};

use crate::support::{bits, denoise, finish, not_finite};

const STEPS: usize = 4;
const SEED: u64 = 3;

fn sampler(kind: SamplerKind, x: Streams) -> Sampler {
    Sampler::new(kind, Schedule::flow(STEPS, 3.0).unwrap(), x, SEED).unwrap()
}

/// Returns noise for video and audio, drawn in this order.
fn noise() -> Streams {
    let mut source = NoiseSource::new(SEED);
    let video = source.randn_tensor((1, 2, 3, 3, 5), &Device::Cpu).unwrap();
    let audio = source.randn_tensor((1, 2, 7), &Device::Cpu).unwrap();
    Streams::new([("video", video), ("audio", audio)]).unwrap()
}

fn assert_same(found: &Streams, expected: &Streams, what: SamplerKind) {
    assert_eq!(found.names(), expected.names(), "{what}");
    for ((name, found), (_, expected)) in found.iter().zip(expected.iter()) {
        assert_eq!(bits(found), bits(expected), "{what}: {name}");
    }
}

#[test]
fn every_stream_gets_what_it_gets_alone() {
    for kind in SamplerKind::ALL.into_iter().filter(|kind| *kind != SamplerKind::Lcm) {
        let mut together = sampler(kind, noise());
        finish(&mut together);
        for (name, x) in noise().iter() {
            let mut alone = sampler(kind, Streams::single(name, x.clone()));
            finish(&mut alone);
            assert_eq!(bits(together.x().get(name).unwrap()), bits(alone.x().get(name).unwrap()), "{kind}: {name}");
        }
    }
}

/// The estimate of x0 is 0, so that after a step the latents are `sigma` times the fresh noise.
#[test]
fn lcm_draws_fresh_noise_stream_after_stream() {
    let mut sampler = sampler(SamplerKind::Lcm, noise());
    let mut source = NoiseSource::new(SEED);
    let mut draw = || noise().map(|_, x| source.randn_tensor(x.shape(), &Device::Cpu)).unwrap();
    draw(); // the noise of the start
    for _ in 1..STEPS {
        sampler.step(&mut |x: &Streams, _: StepInfo| x.map(|_, x| Ok::<_, Error>(x.zeros_like()?))).unwrap();
        let sigma = sampler.schedule().sigmas()[sampler.step_index()];
        let expected = draw().map(|_, fresh| fresh * sigma).unwrap();
        for ((name, found), (_, expected)) in sampler.x().iter().zip(expected.iter()) {
            let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
            assert!(difference.to_scalar::<f32>().unwrap() < 1e-6, "{name}");
        }
    }
}

#[test]
fn several_streams_are_saved_by_name_and_restored_with_the_same_bits() {
    for kind in SamplerKind::ALL {
        let mut straight = sampler(kind, noise());
        finish(&mut straight);
        let mut stopped = sampler(kind, noise());
        for _ in 0..3 {
            stopped.step(&mut denoise).unwrap();
        }
        let (mut tensors, state) = stopped.save();
        assert!(tensors.iter().any(|(name, _)| name == "audio.x"));
        tensors.reverse();
        let state: SamplerState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        let mut resumed = Sampler::restore(state, tensors).unwrap();
        finish(&mut resumed);
        assert_same(resumed.x(), straight.x(), kind);
    }
}

#[test]
fn a_state_without_names_has_one_stream_of_video() {
    let schedule = r#"{"sigmas": [1.0, 0.0], "timesteps": [1000]}"#;
    let state = format!(r#"{{"kind": "euler", "index": 0, "seed": 1, "schedule": {schedule}}}"#);
    let state: SamplerState = serde_json::from_str(&state).unwrap();
    assert_eq!(state.streams, ["video"]);
    for streams in [vec![], vec!["a".to_owned(); 2]] {
        let restored = Sampler::restore(SamplerState { streams, ..state.clone() }, Vec::new());
        assert!(matches!(restored, Err(Error::StreamNames { .. })));
    }
}

#[test]
fn streams_that_do_not_belong_are_refused_by_name() {
    let x = noise();
    let message = |result: Result<(), Error>| result.unwrap_err().to_string();
    let step = |change: &dyn Fn(&Streams) -> Result<Streams, Error>| {
        message(sampler(SamplerKind::Heun, noise()).step(&mut |x: &Streams, _: StepInfo| change(x)))
    };
    assert_eq!(
        step(&|x| Ok(Streams::single("video", x.get("video")?.clone()))),
        r#"the estimate of x0 has the streams ["video"], expected ["video", "audio"]"#
    );
    assert_eq!(
        step(&|x| x.map(|name, x| if name == "audio" { Ok(x.flatten_all()?) } else { Ok(x.clone()) })),
        "the estimate of x0 (stream `audio`) has shape [14], expected [1, 2, 7]"
    );
    assert_eq!(
        step(&|x| {
            let damaged = not_finite(x)?;
            Streams::new([("video", x.get("video")?.clone()), ("audio", damaged.get("audio")?.clone())])
        }),
        "NaN or infinity in the result of step 1 of 4 (sigma 1.0000) (stream `audio`)"
    );
    assert_eq!(message(x.get("sound").map(drop)), r#"there is no latent stream `sound`, only ["video", "audio"]"#);
    let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
    let twice = Streams::new([("video", one.clone()), ("video", one)]);
    assert_eq!(message(twice.map(drop)), r#"latent streams need distinct names, at least one; got ["video", "video"]"#);
    assert!(Streams::new(Vec::<(String, Tensor)>::new()).is_err());
}
