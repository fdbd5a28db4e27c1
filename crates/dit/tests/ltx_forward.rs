//! The LTX-2.x transformer against diffusers: every network call of the tiny checkpoints.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

mod ltx_support;

use candle_core::{DType, Device, Tensor};
use kinora_dit::Reuse;
use kinora_dit::ltx::{Contexts, Geometry, LtxModel, Skips, StreamInput};
use kinora_test_support::{relative_l2, values};
use ltx_support::{CASES, Call, Golden, KEEP_ALL, model};

const F32_TOLERANCE: f64 = 1e-5;
const BF16_TOLERANCE: f64 = 2e-2;

fn worst(found: &[Tensor; 2], expected: &[Tensor; 2]) -> f64 {
    let error = |i: usize| {
        assert_eq!(found[i].dims(), expected[i].dims());
        relative_l2(&found[i], &expected[i])
    };
    error(0).max(error(1))
}

/// All elements of both predictions.
fn both([video, audio]: &[Tensor; 2]) -> Vec<f32> {
    [values(video), values(audio)].concat()
}

#[test]
fn every_call_is_diffusers() {
    for case in CASES {
        let calls = Golden::new(case).calls();
        for (dtype, tolerance) in [(DType::F32, F32_TOLERANCE), (DType::BF16, BF16_TOLERANCE)] {
            let (model, mut largest) = (model(case, dtype), 0f64);
            for call in &calls {
                let out = call.run(&model, &call.prepare(&model, KEEP_ALL));
                assert!(out.iter().all(|out| out.dtype() == dtype));
                let error = worst(&out, &call.out);
                assert!(error > 0.0 && error <= tolerance, "{case} {} {dtype:?}: {error:e}", call.name);
                largest = largest.max(error);
            }
            println!("{case}, {} calls, {dtype:?}: {largest:.1e}", calls.len());
        }
    }
}

/// The calls hold every kind of pass.
#[test]
fn calls_leave_out_what_guidance_leaves_out() {
    for case in ["ltx20_t2av", "ltx23_t2av", "ltx25_t2av"] {
        let calls = Golden::new(case).calls();
        let some = |kind: &dyn Fn(&Call) -> bool| assert!(calls.iter().any(kind), "{case}");
        some(&|call| call.skips().is_none());
        some(&|call| !call.skipped.is_empty());
        some(&|call| call.apart);
        some(&|call| call.tokens.is_some());
    }
    let guided = Golden::new("ltx23_t2av").calls();
    let of_runs =
        |kind: &dyn Fn(&&Call) -> bool| guided.iter().filter(|c| c.name.starts_with("call")).filter(kind).count();
    assert_eq!((of_runs(&|call| call.skipped == [1]), of_runs(&|call| call.apart)), (3, 3));
}

/// What is left out changes what is predicted.
#[test]
fn passes_of_guidance_differ() {
    for case in ["ltx20_t2av", "ltx23_t2av"] {
        let (model, call) = (model(case, DType::F32), Golden::new(case).call("more0"));
        let prepared = call.prepare(&model, KEEP_ALL);
        let plain = call.run(&model, &prepared);
        for (skipped, apart) in [(vec![0], false), (vec![1], false), (vec![0, 1], false), (vec![], true)] {
            let other = Call { skipped, apart, ..call.clone() }.run(&model, &prepared);
            assert!(worst(&other, &plain) > 1e-4, "{case}");
        }
    }
}

/// Keys and values of the text are the same, whether they are kept, for all steps or for the passes of one, or computed.
#[test]
fn the_kv_cache_changes_no_number() {
    for (case, kept) in [("ltx20_t2av", 2), ("ltx23_t2av", 0), ("ltx25_t2av", 0)] {
        let (model, golden) = (model(case, DType::F32), Golden::new(case));
        // Two steps of several passes each, the second with the contexts that the first had.
        let first = golden.call("more0");
        let second = Call { timesteps: first.timesteps.each_ref().map(|t| (t * 0.5).unwrap()), ..first.clone() };
        let passes = [&first, &second].map(|step| {
            [step.clone(), Call { skipped: vec![1], ..step.clone() }, Call { apart: true, ..step.clone() }]
        });
        // 2 blocks, keys and values, 2 clips of 7 rows, 32 and 16 channels, f32.
        let all = 2 * 2 * 2 * 7 * (32 + 16) * 4;
        let run = |bytes: usize, blocks: usize| {
            let prepared = first.prepare(&model, bytes);
            assert_eq!(prepared.cached_blocks(), blocks, "{case}");
            passes.each_ref().map(|step| step.each_ref().map(|pass| both(&pass.run(&model, &prepared))))
        };
        let expected = run(0, 0);
        assert_eq!(run(all, kept), expected, "{case}");
        assert_eq!(run(all - 1, 0), expected, "{case}");
        assert_ne!(expected[0], expected[1]);
    }
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    for case in CASES {
        let (model, golden) = (model(case, DType::F32), Golden::new(case));
        for call in golden.calls() {
            let [one, two] = [1, 2].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| both(&call.run(&model, &call.prepare(&model, KEEP_ALL))))
            });
            assert_eq!(one, two, "{case} {}", call.name);
        }
    }
}

#[test]
fn one_timestep_for_all_tokens_is_one_per_clip() {
    for case in ["ltx20_t2av", "ltx23_t2av"] {
        let (model, call) = (model(case, DType::F32), Golden::new(case).call("more0"));
        let prepared = call.prepare(&model, KEEP_ALL);
        let shape = (2, call.geometry.video_tokens());
        let tokens = call.timesteps[0].unsqueeze(1).unwrap().broadcast_as(shape).unwrap().contiguous().unwrap();
        let per_token = Call { tokens: Some(tokens), ..call.clone() };
        assert_eq!(both(&per_token.run(&model, &prepared)), both(&call.run(&model, &prepared)));
    }
}

/// Latents of sound may be given, too.
#[test]
fn tokens_of_sound_have_timesteps_of_their_own() {
    let (model, call) = (model("ltx23_t2av", DType::F32), Golden::new("ltx23_t2av").call("more0"));
    let prepared = call.prepare(&model, KEEP_ALL);
    let predict = |tokens: Option<&Tensor>| {
        let [video, audio] = call.inputs();
        both(&model.forward(video, StreamInput { token_timesteps: tokens, ..audio }, &prepared).unwrap())
    };
    let shape = (2, call.geometry.audio);
    let same = call.timesteps[1].unsqueeze(1).unwrap().broadcast_as(shape).unwrap().contiguous().unwrap();
    assert_eq!(predict(Some(&same)), predict(None));
    assert_ne!(predict(Some(&(same * 0.5).unwrap())), predict(None));
}

#[test]
fn a_clip_in_a_batch_is_the_clip_alone() {
    for case in ["ltx20_t2av", "ltx23_t2av", "ltx25_t2av"] {
        let (model, golden) = (model(case, DType::F32), Golden::new(case));
        for name in ["more0", "more1", "more2", "more3"] {
            for clip in 0..2 {
                let call = golden.call(name).clip(clip);
                let error = worst(&call.run(&model, &call.prepare(&model, KEEP_ALL)), &call.out);
                assert!(error <= F32_TOLERANCE, "{case} {name} clip {clip}: {error:e}");
            }
        }
    }
}

/// Keeps the shapes of what a step cache sees.
#[derive(Default)]
struct Looks(Vec<Vec<usize>>);

impl Reuse for Looks {
    fn before_blocks(&mut self, tokens: &Tensor, time: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        self.0.extend([tokens.dims().to_vec(), time.dims().to_vec()]);
        Ok(None)
    }

    fn after_first_block(&mut self, before: &Tensor, after: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        assert_eq!(before.dims(), after.dims());
        Ok(None)
    }

    fn after_last_block(&mut self, tokens: &Tensor) -> kinora_dit::Result<()> {
        self.0.push(tokens.dims().to_vec());
        Ok(())
    }
}

#[test]
fn a_step_cache_sees_both_streams_as_one() {
    let (model, call) = (model("ltx23_t2av", DType::F32), Golden::new("ltx23_t2av").call("more0"));
    let (prepared, mut looks) = (call.prepare(&model, KEEP_ALL), Looks::default());
    let seen = call.run_with(&model, &prepared, None, &mut looks);
    assert_eq!(both(&seen), both(&call.run(&model, &prepared)));
    let tokens = vec![2, call.geometry.video_tokens() * 32 + call.geometry.audio * 16];
    assert_eq!(looks.0, [tokens.clone(), vec![2, 1, 32], tokens]);
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn small() -> Geometry {
    Geometry { video: [2, 1, 3], audio: 5, frame_rate: 24.0 }
}

fn contexts(video: &[usize], audio: &[usize]) -> Contexts {
    Contexts { video: zeros(video), audio: zeros(audio) }
}

#[test]
fn wrong_contexts_and_sizes_are_errors_that_say_so() {
    let model = model("ltx23_t2av", DType::F32);
    let error = |contexts: Contexts, geometry: Geometry| {
        model.prepare(&contexts, &geometry, 0).map(drop).unwrap_err().to_string()
    };
    for video in [&[1, 3, 31][..], &[3, 32], &[1, 0, 32], &[0, 3, 32]] {
        let expected = format!("context of video: shape {video:?}, expected [B, S, 32]");
        assert_eq!(error(contexts(video, &[1, 3, 16]), small()), expected);
    }
    for audio in [&[1, 3, 32][..], &[2, 3, 16], &[1, 0, 16]] {
        let expected = format!("context of sound: shape {audio:?}, expected [1, S, 16]");
        assert_eq!(error(contexts(&[1, 3, 32], audio), small()), expected);
    }
    let good = || contexts(&[1, 3, 32], &[1, 4, 16]);
    for (geometry, found) in
        [(Geometry { video: [2, 0, 3], ..small() }, "[2, 0, 3, 5]"), (Geometry { audio: 0, ..small() }, "[2, 1, 3, 0]")]
    {
        let what = "clip of frames, rows, columns and sound";
        assert_eq!(error(good(), geometry), format!("{what}: shape {found}, expected at least one latent along each"));
    }
    for rate in [0.0, -24.0, f64::NAN, f64::INFINITY] {
        let geometry = Geometry { frame_rate: rate, ..small() };
        assert_eq!(error(good(), geometry), format!("the frame rate is {rate}, expected a positive number"));
    }
}

/// Inputs of one clip of [`small`], with the shapes of latents, timesteps and tokens' timesteps of both streams.
fn pass(model: &LtxModel, video: [&[usize]; 3], audio: [&[usize]; 3], skips: Skips) -> String {
    let prepared = model.prepare(&contexts(&[1, 3, 32], &[1, 4, 16]), &small(), 0).unwrap();
    let [video, audio] = [video, audio].map(|shapes| shapes.map(zeros));
    let stream = |[latents, timestep, tokens]: &[Tensor; 3]| {
        let token_timesteps = (tokens.rank() > 0).then(|| tokens.clone());
        (latents.clone(), timestep.clone(), token_timesteps)
    };
    let (video, audio) = (stream(&video), stream(&audio));
    let inputs = [&video, &audio].map(|(latents, timestep, tokens)| StreamInput {
        latents,
        timestep,
        token_timesteps: tokens.as_ref(),
    });
    let result = model.forward_with(inputs, &prepared, skips, None, &mut kinora_dit::ComputeAll);
    result.map_or_else(|error| error.to_string(), |_| "no error".to_string())
}

const VIDEO: [&[usize]; 3] = [&[1, 8, 2, 1, 3], &[1], &[]];
const AUDIO: [&[usize]; 3] = [&[1, 2, 5, 4], &[1], &[]];

#[test]
fn wrong_inputs_are_errors_that_say_so() {
    let model = model("ltx23_t2av", DType::F32);
    let none = Skips::default();
    assert_eq!(pass(&model, VIDEO, AUDIO, none), "no error");
    assert_eq!(pass(&model, [VIDEO[0], &[1], &[1, 6]], [AUDIO[0], &[1], &[1, 5]], none), "no error");
    for latents in [&[1, 8, 2, 3, 1][..], &[1, 7, 2, 1, 3], &[2, 8, 2, 1, 3], &[1, 6, 8]] {
        let expected = format!("latents of video: shape {latents:?}, expected [1, 8, 2, 1, 3] as prepared");
        assert_eq!(pass(&model, [latents, &[1], &[]], AUDIO, none), expected);
    }
    for latents in [&[1, 2, 4, 4][..], &[1, 2, 5, 3], &[2, 2, 5, 4], &[1, 5, 8]] {
        let expected =
            format!("latents of sound: shape {latents:?}, expected [1, C, 5, M] as prepared, with C · M = 8");
        assert_eq!(pass(&model, VIDEO, [latents, &[1], &[]], none), expected);
    }
    for timestep in [&[2][..], &[1, 6], &[]] {
        let expected = format!("timestep of video: shape {timestep:?}, expected [1]");
        assert_eq!(pass(&model, [VIDEO[0], timestep, &[]], AUDIO, none), expected);
    }
    let message = pass(&model, [VIDEO[0], &[1], &[1, 5]], AUDIO, none);
    assert_eq!(message, "timesteps of video's tokens: shape [1, 5], expected [1, 6]");
    let message = pass(&model, VIDEO, [AUDIO[0], &[2], &[]], none);
    assert_eq!(message, "timestep of sound: shape [2], expected [1]");
    let message = pass(&model, VIDEO, [AUDIO[0], &[1], &[5]], none);
    assert_eq!(message, "timesteps of sound's tokens: shape [5], expected [1, 5]");
    let message = pass(&model, VIDEO, AUDIO, Skips { self_attention: &[1, 2], between_streams: false });
    assert_eq!(message, "there is no block 2 to leave attentions out of, the transformer has 2, from 0 on");
}

#[test]
fn a_context_prepared_by_another_model_is_an_error() {
    let mut config = ltx_support::config("ltx23_t2av");
    config.video.head_dim = 18;
    let weights = kinora_checkpoint::Weights::random(1, &Device::Cpu, DType::F32);
    let wider = LtxModel::new(&config, &weights).unwrap();
    let prepared = wider.prepare(&contexts(&[1, 3, 36], &[1, 4, 16]), &small(), 0).unwrap();
    let (video, audio, timestep) = (zeros(VIDEO[0]), zeros(AUDIO[0]), zeros(&[1]));
    let [video, audio] =
        [&video, &audio].map(|latents| StreamInput { latents, timestep: &timestep, token_timesteps: None });
    let error = model("ltx23_t2av", DType::F32).forward(video, audio, &prepared).unwrap_err().to_string();
    assert_eq!(error, "prepared context: shape [1, 3, 36], expected [1, S, 32]");
}
