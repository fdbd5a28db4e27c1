//! What the network gains on a moving drawing whose truth is known, and how much more than the Lanczos kernel it flickers there. With
//! photographs it flickers less: docs/upscaling.md has the figures, `scripts/upscaler/measure.py` made them.

#![allow(clippy::print_stderr, reason = "measured differences are reported")]

use candle_core::{DType, Device};
use kinora_media::{Frame, resized};
use kinora_upscaler::{SCALE, Span};

const SIZE: [usize; 2] = [192, 128];
const FRAMES: usize = 6;
/// Points per side of a pixel at which the scene is drawn.
const POINTS: usize = 4;

/// Discs, a lattice and ripples, which move by fractions of a pixel from frame to frame.
fn scene(t: usize) -> Frame {
    let [width, height] = SIZE;
    let colour = |x: f64, y: f64| {
        let (x, y) = (x - 0.7 * t as f64, y - 0.4 * t as f64);
        let is_disc = (x.rem_euclid(48.0) - 24.0).hypot(y.rem_euclid(40.0) - 20.0) < 12.0;
        let is_line = x.rem_euclid(32.0) < 6.0 || (x + 2.0 * y).rem_euclid(58.0) < 10.0;
        let ripples = 0.5 + 0.25 * (0.003 * (x * x + y * y)).cos();
        [if is_disc { 0.9 } else { 0.3 }, if is_line { 0.1 } else { ripples }, ripples]
    };
    let mut data = vec![0f32; 3 * width * height];
    for y in 0..height {
        for x in 0..width {
            for point in 0..POINTS * POINTS {
                let at = |pixel: usize, point: usize| pixel as f64 + (point as f64 + 0.5) / POINTS as f64;
                for (plane, value) in colour(at(x, point % POINTS), at(y, point / POINTS)).into_iter().enumerate() {
                    data[(plane * height + y) * width + x] += (value / (POINTS * POINTS) as f64) as f32;
                }
            }
        }
    }
    Frame::new(width, height, data).unwrap()
}

fn clipped(mut frame: Frame) -> Frame {
    frame.data.iter_mut().for_each(|x| *x = x.clamp(0.0, 1.0));
    frame
}

/// PSNR in dB, and flicker: the mean of what changes from one frame to the next and does not in the truth, in 255ths.
fn measured(made: &[Frame], truth: &[Frame]) -> [f64; 2] {
    let errors: Vec<Vec<f64>> =
        made.iter().zip(truth).map(|(made, truth)| difference(&made.data, &truth.data)).collect();
    let count = (errors.len() * errors[0].len()) as f64;
    let square = errors.iter().flatten().map(|error| error * error).sum::<f64>() / count;
    let steps =
        errors.windows(2).flat_map(|pair| pair[1].iter().zip(&pair[0]).map(|(now, before)| (now - before).abs()));
    [-10.0 * square.log10(), 255.0 * steps.sum::<f64>() / (count - errors[0].len() as f64)]
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
}

#[test]
fn is_closer_to_the_truth_than_lanczos_and_flickers_little_more() {
    let span = Span::embedded(&Device::Cpu, DType::F32).unwrap();
    let [width, height] = SIZE;
    let truth: Vec<Frame> = (0..FRAMES).map(scene).collect();
    // Hard edges at all angles are the worst case for flicker.
    for (factor, closer, more) in [(2, 1.5, 1.3), (4, 0.5, 1.1)] {
        let small = truth.iter().map(|frame| clipped(resized(frame, width / factor, height / factor).unwrap()));
        let small: Vec<Frame> = small.collect();
        let full = |frame: &Frame| clipped(resized(frame, width, height).unwrap());
        let network = |frame: &Frame| {
            let data = span.enlarge(&frame.data, frame.width, frame.height).unwrap();
            full(&Frame::new(SCALE * frame.width, SCALE * frame.height, data).unwrap())
        };
        let lanczos = measured(&small.iter().map(full).collect::<Vec<_>>(), &truth);
        let network = measured(&small.iter().map(network).collect::<Vec<_>>(), &truth);
        eprintln!("{factor}x: PSNR and flicker of lanczos {lanczos:.2?}, of span {network:.2?}");
        assert!(network[0] > lanczos[0] + closer, "{factor}x: PSNR {network:?}, {lanczos:?}");
        assert!(network[1] < more * lanczos[1], "{factor}x: flicker {network:?}, {lanczos:?}");
    }
}
