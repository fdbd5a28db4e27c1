//! The predictions of a step become one estimate of x0.

use crate::families::capabilities::Pass;
use crate::plan::Plan;
use crate::plan::guidance::Combination;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use kinora_sampler::{
    Estimates, Guidance, StepInfo, Streams, cfg, cfg_zero_star, check_finite, guided, x0_from_velocity,
};

/// The estimate of x0 for the latents `x`, f32, from the velocities that the passes of a step gave.
pub(super) fn combined(plan: &Plan, x: &Streams, info: StepInfo, velocities: &[(Pass, Streams)]) -> Result<Streams> {
    match &plan.combination {
        Combination::Velocities => {
            let scale = plan.guidance_scale[plan.expert(info.timestep)];
            let velocity = match velocities {
                [(_, cond), (_, uncond)] if plan.cfg_zero_star => {
                    cond.zip(uncond, |_, cond, uncond| cfg_zero_star(cond, uncond, scale))?
                }
                [(_, cond), (_, uncond)] => cond.zip(uncond, |_, cond, uncond| cfg(cond, uncond, scale))?,
                [(_, cond), ..] => cond.clone(),
                [] => unreachable!("a step has a prediction"),
            };
            estimate(plan, x, &velocity, info)
        }
        Combination::Estimates(scales) => {
            let estimate = |(pass, velocity): &(Pass, Streams)| Ok((*pass, estimate(plan, x, velocity, info)?));
            guided_streams(&velocities.iter().map(estimate).collect::<Result<Vec<_>>>()?, scales)
        }
    }
}

/// The estimate that velocities imply for the latents `x`.
fn estimate(plan: &Plan, x: &Streams, velocity: &Streams, info: StepInfo) -> Result<Streams> {
    x.zip(velocity, |_, x, velocity| {
        let velocity = velocity.to_dtype(DType::F32)?;
        check_finite(&velocity, || {
            let (step, steps) = (info.index + 1, plan.steps());
            format!("the network's output at step {step} of {steps} (timestep {})", info.timestep)
        })?;
        Ok::<_, Error>(x0_from_velocity(x, &velocity, info.sigma)?)
    })
}

/// The estimates of a step as one, by the scales of the first stream and of the others. The prompt's come first.
fn guided_streams(estimates: &[(Pass, Streams)], [first, others]: &[Guidance; 2]) -> Result<Streams> {
    let of = |pass: Pass, name: &str| -> Result<Option<&Tensor>> {
        let found = estimates.iter().find(|(of, _)| *of == pass);
        Ok(found.map(|(_, streams)| streams.get(name)).transpose()?)
    };
    let mut scales = std::iter::once(first).chain(std::iter::repeat(others));
    estimates[0].1.map(|name, cond| {
        let (uncond, perturbed) = (of(Pass::Negative, name)?, of(Pass::Perturbed, name)?);
        let estimates = Estimates { cond, uncond, perturbed, isolated: of(Pass::Isolated, name)? };
        Ok(guided(&estimates, scales.next().expect("others repeat"))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn streams(video: f32, audio: f32) -> Streams {
        let tensor = |value: f32| Tensor::new(&[[value, -value]], &Device::Cpu).expect("a tensor");
        Streams::new([("video", tensor(video)), ("audio", tensor(audio))]).expect("two names")
    }

    #[test]
    fn each_stream_is_guided_by_its_own_scales() {
        let estimates = [
            (Pass::Prompt, streams(1.0, 2.0)),
            (Pass::Negative, streams(0.5, 0.0)),
            (Pass::Isolated, streams(0.0, 1.0)),
        ];
        let scales =
            [Guidance { cfg: 3.0, stg: 9.0, ..Guidance::OFF }, Guidance { cfg: 2.0, modality: 4.0, ..Guidance::OFF }];
        let found = guided_streams(&estimates, &scales).expect("they fit");
        for ((name, found), (_, expected)) in found.iter().zip(streams(2.0, 7.0).iter()) {
            let values = |tensor: &Tensor| tensor.flatten_all().and_then(|all| all.to_vec1::<f32>()).expect("f32");
            assert_eq!(values(found), values(expected), "{name}");
        }
    }
}
