//! The order of convergence on Gaussian data, where the exact denoiser and the exact path are closed form.
//!
//! For x0 ~ N(m, c²) and x = (1-s)·x0 + s·n, `E[x0 | x] = m + (1-s)·c²/v · (x - (1-s)·m)` with the variance
//! `v = (1-s)²·c² + s²`, and the flow keeps `(x - (1-s)·m) / sqrt(v)` constant.

use candle_core::{Device, Tensor};
use kinora_sampler::{Error, NoiseSource, Sampler, SamplerKind, Schedule, StepInfo, Streams};

const MEAN: f64 = 0.7;
const VARIANCE: f64 = 0.25;

fn variance(sigma: f64) -> f64 {
    (1.0 - sigma).powi(2) * VARIANCE + sigma * sigma
}

fn denoise(x: &Streams, info: StepInfo) -> Result<Streams, Error> {
    let alpha = 1.0 - info.sigma;
    let gain = alpha * VARIANCE / variance(info.sigma);
    x.map(|_, x| Ok((x * gain)?.affine(1.0, MEAN - gain * alpha * MEAN)?))
}

/// The root mean square error at sigma 0.
fn error(kind: SamplerKind, schedule: Schedule) -> f64 {
    let start = schedule.sigmas()[0];
    let constant = NoiseSource::new(11).randn(64);
    let x = constant.iter().map(|&z| ((1.0 - start) * MEAN + variance(start).sqrt() * f64::from(z)) as f32).collect();
    let x = Streams::single("values", Tensor::from_vec(x, 64, &Device::Cpu).unwrap());
    let mut sampler = Sampler::new(kind, schedule, x, 0).unwrap();
    while !sampler.is_done() {
        sampler.step(&mut denoise).unwrap();
    }
    let exact = |z: f32| MEAN + VARIANCE.sqrt() * f64::from(z);
    let found = sampler.x().get("values").unwrap().to_vec1::<f32>().unwrap();
    let square: f64 = found.iter().zip(constant).map(|(&x, z)| (f64::from(x) - exact(z)).powi(2)).sum();
    (square / 64.0).sqrt()
}

/// The slope of error over steps from `few` to `4 * few` steps, as a power.
fn order(kind: SamplerKind, few: usize, schedule: impl Fn(usize) -> Schedule) -> f64 {
    let (coarse, fine) = (error(kind, schedule(few)), error(kind, schedule(4 * few)));
    (coarse / fine).log2() / 2.0
}

fn flow(steps: usize) -> Schedule {
    Schedule::flow(steps, 1.0).unwrap()
}

/// Even steps in log-SNR, where the multistep solvers reach their full order soonest, to an end so near to 0 that the
/// last, first-order step does not show.
fn log_snr_steps(steps: usize) -> Schedule {
    let (first, last) = (-3.0, 7.0);
    let log_snr = |i: usize| first + (last - first) * i as f64 / (steps - 1) as f64;
    let sigmas: Vec<f64> = (0..steps).map(|i| 1.0 / (1.0 + log_snr(i).exp())).collect();
    Schedule::from_sigmas(&sigmas).unwrap()
}

#[test]
fn euler_is_of_first_order() {
    let order = order(SamplerKind::Euler, 16, flow);
    assert!((0.9..1.1).contains(&order), "{order}");
}

#[test]
fn heun_is_of_second_order() {
    let order = order(SamplerKind::Heun, 16, flow);
    assert!((1.9..2.1).contains(&order), "{order}");
}

#[test]
fn dpm_pp_2m_is_of_second_order() {
    let order_in_log_snr = order(SamplerKind::DpmPp2m, 32, log_snr_steps);
    assert!((1.9..2.1).contains(&order_in_log_snr), "{order_in_log_snr}");
    // The steps next to sigma 1 and 0 are long in log-SNR whatever their number, so flow steps come to it slowly.
    let order_in_flow = order(SamplerKind::DpmPp2m, 64, flow);
    assert!(order_in_flow > 1.6, "{order_in_flow}");
}

/// A predictor of order 2 with its corrector is of order 3.
#[test]
fn unipc_is_of_third_order() {
    for kind in [SamplerKind::UniPc, SamplerKind::UniPcBh1] {
        let order_in_log_snr = order(kind, 32, log_snr_steps);
        assert!((2.8..3.3).contains(&order_in_log_snr), "{kind}: {order_in_log_snr}");
    }
    let order_in_flow = order(SamplerKind::UniPc, 64, flow);
    assert!(order_in_flow > 2.0, "{order_in_flow}");
}
