//! Checks signs by projecting points, and rays and packing against `DiffSynth` (`scripts/fixtures/camera.py`).
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]
#![allow(clippy::float_cmp, reason = "the compared numbers are exact")]

use super::pose::{Lens, Pose};
use super::{Camera, CameraPath, CameraPreset};
use candle_core::{DType, Device, Tensor};
use kinora_test_support::{fixture, relative_l2, tensors};
use std::collections::BTreeMap;

/// Bound of the relative L2 error of f32 rays: about 15 roundings of 6e-8 each on either side; at most 1e-7 was
/// measured.
const RAYS: f64 = 1e-6;

fn golden() -> BTreeMap<String, Tensor> {
    tensors(&fixture("camera/golden.safetensors"))
}

/// Returns the position of a point of the world in the image, as fractions of a 16:9 frame.
fn seen(pose: &Pose, [x, y, z]: [f64; 3]) -> [f64; 2] {
    let to_camera = |row: [f64; 4]| row[0] * x + row[1] * y + row[2] * z + row[3];
    let [right, down, ahead] = [0, 1, 2].map(|row| to_camera(pose.w2c()[row]));
    assert!(ahead > 0.0, "the point is behind the camera");
    let Lens { fx, fy, cx, cy } = pose.lens;
    [fx * right / ahead + cx, fy * down / ahead + cy]
}

/// Returns the last pose of a clip of one second.
fn last(camera: &str) -> Pose {
    let camera: Camera = camera.parse().expect("a camera");
    let trajectory = camera.trajectory(17, 16.0).expect("a trajectory");
    let [first, .., last] = trajectory.poses() else { panic!("17 poses") };
    assert_eq!(seen(first, [0.0, 0.0, 4.0]), [0.5, 0.5], "the first pose is the identity");
    *last
}

/// Returns the direction in which a point moves through the image: -1 is left or up, 1 right or down.
fn way(camera: &str, point: [f64; 3]) -> [i8; 2] {
    let (from, to) = (seen(&last("pan=0"), point), seen(&last(camera), point));
    [0, 1].map(|axis| match to[axis] - from[axis] {
        moved if moved.abs() < 1e-9 => 0,
        moved => moved.signum() as i8,
    })
}

const AHEAD: [f64; 3] = [0.0, 0.0, 4.0];
const RIGHT: [f64; 3] = [1.0, 0.0, 4.0];
const ABOVE: [f64; 3] = [0.0, -1.0, 4.0];

#[test]
fn the_image_moves_against_the_camera() {
    for (axis, point, positive) in [
        ("horizontal", AHEAD, [-1, 0]),
        ("vertical", AHEAD, [0, 1]),
        ("pan", AHEAD, [-1, 0]),
        ("tilt", AHEAD, [0, 1]),
        ("roll", AHEAD, [0, 0]),
        ("zoom", AHEAD, [0, 0]),
        // Points on the right of a camera that rolls clockwise move up and, on their circle, inwards.
        ("roll", RIGHT, [-1, -1]),
        ("zoom", RIGHT, [1, 0]),
        ("zoom", ABOVE, [0, -1]),
    ] {
        assert_eq!(way(&format!("{axis}=10"), point), positive, "{axis} at {point:?}");
        let negative = match (axis, point) {
            ("roll", RIGHT) => [-1, 1],
            _ => positive.map(|way| -way),
        };
        assert_eq!(way(&format!("{axis}=-10"), point), negative, "{axis} backwards at {point:?}");
    }
}

/// Only translations show depth: near points move through the image faster. Turns and zooms move all points alike.
#[test]
fn moves_have_parallax_and_turns_have_none() {
    for (camera, parallax) in [
        ("horizontal=5", true),
        ("vertical=5", true),
        ("pan=5", false),
        ("tilt=5", false),
        ("roll=5", false),
        ("zoom=5", false),
    ] {
        let [near, far] = [1.0, 10.0].map(|depth| seen(&last(camera), [0.1 * depth, 0.2 * depth, depth]));
        let apart = (near[0] - far[0]).hypot(near[1] - far[1]);
        assert_eq!(apart > 1e-9, parallax, "{camera}: {apart:e}");
    }
}

#[test]
fn presets_go_where_their_names_say() {
    // The direction in which the middle moves, and whether objects grow, as they do when the camera moves forward.
    for (preset, middle, grows) in [
        (CameraPreset::DownBack, [0, -1], false),
        (CameraPreset::ForwardUp, [0, 1], true),
        (CameraPreset::LeftTurnForward, [1, 0], true),
        (CameraPreset::RightTurnForward, [-1, 0], true),
    ] {
        assert_eq!(way(preset.name(), AHEAD), middle, "{preset}");
        let pose = last(preset.name());
        let size = |pose: &Pose| seen(pose, [0.0, 0.1, 4.0])[1] - seen(pose, [0.0, -0.1, 4.0])[1];
        assert_eq!(size(&pose) > size(&last("pan=0")), grows, "{preset}");
    }
}

#[test]
fn a_longer_clip_goes_on_at_the_same_speed() {
    let camera: Camera = "horizontal=10,pan=-4,zoom=2".parse().expect("a camera");
    let [short, long] = [17, 81].map(|frames| camera.trajectory(frames, 16.0).expect("a trajectory"));
    assert_eq!(short.poses(), &long.poses()[..17]);
    assert!((long.poses()[80].center[0] - 1.5).abs() < 1e-12);
}

#[test]
fn cameras_are_read_and_written() {
    for text in ["pan=5,zoom=-3", "down-back", "right-turn-forward"] {
        assert_eq!(text.parse::<Camera>().map(|camera| camera.to_string()), Ok(text.into()));
    }
    let error = "up".parse::<Camera>().expect_err("it is nothing");
    assert!(error.contains("down-back") && error.contains("pan=5,zoom=-3"), "{error}");
    let path = Camera::Path(fixture("camera/path.txt"));
    assert!(path.to_string().ends_with("path.txt") && path.in_prompt("a ball.") == "a ball.");
    let far: Camera = Camera::Move(super::CameraMove { pan: 11.0, ..super::CameraMove::default() });
    assert!(far.trajectory(5, 8.0).is_err_and(|error| error.to_string().contains("pan is 11")));
}

#[test]
fn rays_of_a_pose_file_match_diffsynth() {
    let golden = golden();
    let trajectory = Camera::Path(fixture("camera/path.txt")).trajectory(9, 16.0).expect("a trajectory");
    for (width, height) in [(13, 7), (7, 12)] {
        let ours = trajectory.plucker(width, height).expect("rays");
        let expected = &golden[&format!("plucker.{width}x{height}")];
        for (part, start) in [("moments", 0), ("directions", 3)] {
            let [ours, expected] = [&ours, expected].map(|rays| rays.narrow(1, start, 3).expect("three of six"));
            let error = relative_l2(&ours, &expected);
            println!("{width}x{height} {part}: {error:.2e}");
            assert!(error <= RAYS, "{width}x{height} {part}: {error:.2e}");
        }
    }
}

#[test]
fn packing_matches_diffsynth() {
    let golden = golden();
    let path = CameraPath::read(&fixture("camera/path.txt")).expect("a path");
    let trajectory = path.trajectory(9).expect("a trajectory");
    let packed = trajectory.packed(13, 7, 4, (DType::F32, &Device::Cpu)).expect("rays");
    assert_eq!(packed.dims(), [1, 24, 3, 7, 13]);
    let expected = &golden["packed.13x7"];
    // Channel by channel: a wrong order would leave an error of about 1.
    for channel in 0..24 {
        let [ours, expected] = [&packed, expected].map(|rays| rays.narrow(1, channel, 1).expect("a channel"));
        let error = relative_l2(&ours, &expected);
        assert!(error <= 10.0 * RAYS, "channel {channel}: {error:.2e}");
    }
    assert!(relative_l2(&packed, expected) <= RAYS);
}

/// `DiffSynth`'s directions move the image as ours do. Its `In` and `Out` are translations; the others change the third
/// column of the matrix instead of the fourth, so they are shears without parallax and not poses.
#[test]
fn the_directions_of_diffsynth_agree() {
    let golden = golden();
    let travel = 8.0 / 54.0; // nine frames
    for (direction, axis) in
        [("Left", "horizontal=-1"), ("Right", "horizontal=1"), ("Up", "vertical=1"), ("Down", "vertical=-1")]
    {
        let pose = last_of(&golden[&format!("direction.{direction}")]);
        assert!(pose.fault().is_some_and(|fault| fault.contains("not a rotation")), "{direction}");
        assert_eq!(pose.center.map(f64::abs), [0.0; 3], "{direction} has no parallax");
        let (from, to) = (seen(&last("pan=0"), AHEAD), seen(&pose, AHEAD));
        let ours = way(axis, AHEAD);
        let moved = [0, 1]
            .map(|axis| if (to[axis] - from[axis]).abs() < 1e-9 { 0 } else { (to[axis] - from[axis]).signum() as i8 });
        assert_eq!(moved, ours, "{direction}");
    }
    for (direction, z) in [("In", travel), ("Out", -travel)] {
        let pose = last_of(&golden[&format!("direction.{direction}")]);
        assert_eq!(pose.fault(), None, "{direction}");
        let off = pose.center[0].hypot(pose.center[1]).hypot(pose.center[2] - z);
        assert!(off < 1e-9, "{direction}: {:?}", pose.center);
    }
}

/// Reads the pose from the 19 numbers of `generate_camera_coordinates`.
fn last_of(numbers: &Tensor) -> Pose {
    let numbers = numbers.to_vec1::<f64>().expect("numbers");
    let row = |row: usize| [0, 1, 2, 3].map(|column| numbers[7 + 4 * row + column]);
    Pose::from_w2c(&[row(0), row(1), row(2)], Lens::default())
}
