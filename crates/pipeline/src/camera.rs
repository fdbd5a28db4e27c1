//! Camera moves: what is asked for, the poses that it means, and the rays that camera-controlled models are given.
//!
//! A pose is where the camera is in every frame: x to the right, y down, z ahead, in the first frame's own axes.
//! `docs/camera.md` has a picture, and what ±10 of an axis is.

mod path;
mod phrase;
mod rays;

use crate::given::Camera;
use crate::{Error, Result};
pub(crate) use phrase::with_phrase;
pub(crate) use rays::Trajectory;
use rays::{Intrinsics, Matrix, Pose};
use std::fmt::{self, Display};
use std::str::FromStr;

/// Scene units that 10 of a translation moves over the clip; diffsynth's directions move 80/54 over 81 frames.
const UNITS: f64 = 1.5;
/// Degrees that 10 of pan, tilt and roll turn over the clip.
const PAN: f64 = 45.0;
const TILT: f64 = 30.0;
const ROLL: f64 = 45.0;
/// Doublings of the focal length that 10 of zoom makes over the clip.
const DOUBLINGS: f64 = 1.0;
/// The largest value of an axis.
const LARGEST: f64 = 10.0;

/// A move along or about the camera's axes, each from -10 to 10, evenly over the clip.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CameraMove {
    /// The camera goes to the right, or with negative values to the left.
    pub horizontal: f64,
    /// It goes up, or down.
    pub vertical: f64,
    /// It turns to the right, or to the left.
    pub pan: f64,
    /// It turns up, or down.
    pub tilt: f64,
    /// It rolls clockwise as seen from behind it, or counterclockwise.
    pub roll: f64,
    /// Its focal length grows, or shrinks.
    pub zoom: f64,
}

/// A move with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameraPreset {
    /// Sinks and goes back.
    DownBack,
    /// Goes forward and turns up.
    ForwardUp,
    /// Turns to the left and goes forward.
    LeftTurnForward,
    /// Turns to the right and goes forward.
    RightTurnForward,
}

/// What a camera does over a whole clip: scene units, radians, doublings of the focal length.
#[derive(Debug, Clone, Copy, Default)]
struct Motion {
    right: f64,
    down: f64,
    ahead: f64,
    pan: f64,
    tilt: f64,
    roll: f64,
    zoom: f64,
}

impl CameraMove {
    const AXES: [&'static str; 6] = ["horizontal", "vertical", "pan", "tilt", "roll", "zoom"];

    fn values(&self) -> [f64; 6] {
        [self.horizontal, self.vertical, self.pan, self.tilt, self.roll, self.zoom]
    }

    fn motion(&self) -> Motion {
        let part = |value: f64, all: f64| value / LARGEST * all;
        Motion {
            right: part(self.horizontal, UNITS),
            down: part(-self.vertical, UNITS),
            ahead: 0.0,
            pan: part(self.pan, PAN.to_radians()),
            tilt: part(self.tilt, TILT.to_radians()),
            roll: part(self.roll, ROLL.to_radians()),
            zoom: part(self.zoom, DOUBLINGS),
        }
    }
}

impl FromStr for CameraMove {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut camera = Self::default();
        for part in text.split(',') {
            let (axis, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not AXIS=VALUE"))?;
            let place = match axis.trim() {
                "horizontal" => &mut camera.horizontal,
                "vertical" => &mut camera.vertical,
                "pan" => &mut camera.pan,
                "tilt" => &mut camera.tilt,
                "roll" => &mut camera.roll,
                "zoom" => &mut camera.zoom,
                other => return Err(format!("`{other}` is no axis; there are {}", Self::AXES.join(", "))),
            };
            *place = match value.trim().parse::<f64>() {
                Ok(value) if value.abs() <= LARGEST => value,
                Ok(value) => return Err(format!("{axis} {value} is outside -{LARGEST} to {LARGEST}")),
                Err(_) => return Err(format!("`{value}` of {axis} is no number")),
            };
        }
        Ok(camera)
    }
}

impl Display for CameraMove {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let set = Self::AXES.into_iter().zip(self.values()).filter(|(_, value)| *value != 0.0);
        let parts: Vec<String> = set.map(|(axis, value)| format!("{axis}={value}")).collect();
        f.write_str(if parts.is_empty() { "pan=0".to_string() } else { parts.join(",") }.as_str())
    }
}

impl CameraPreset {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::DownBack, Self::ForwardUp, Self::LeftTurnForward, Self::RightTurnForward];

    fn motion(self) -> Motion {
        let still = Motion::default();
        match self {
            Self::DownBack => Motion { down: UNITS / 2.0, ahead: -UNITS, ..still },
            Self::ForwardUp => Motion { ahead: UNITS, tilt: TILT.to_radians(), ..still },
            Self::LeftTurnForward => Motion { ahead: UNITS, pan: -PAN.to_radians(), ..still },
            Self::RightTurnForward => Motion { ahead: UNITS, pan: PAN.to_radians(), ..still },
        }
    }
}

impl Display for CameraPreset {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::DownBack => "down-back",
            Self::ForwardUp => "forward-up",
            Self::LeftTurnForward => "left-turn-forward",
            Self::RightTurnForward => "right-turn-forward",
        })
    }
}

impl FromStr for CameraPreset {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let names = Self::ALL.map(|preset| preset.to_string());
        let found = Self::ALL.into_iter().find(|preset| preset.to_string() == text);
        found.ok_or_else(|| format!("`{text}` is not one of {}", names.join(", ")))
    }
}

impl Motion {
    /// Poses of `frames` frames; the first stands at the origin and looks ahead. The way is made in the camera's own
    /// directions, so a camera that turns goes along a curve.
    fn poses(&self, frames: usize) -> Vec<Pose> {
        let steps = frames.max(2) - 1;
        let mut centre = [0.0; 3];
        let mut poses = Vec::with_capacity(frames);
        for frame in 0..frames {
            let part = frame as f64 / steps as f64;
            let rotation = Matrix::turned(self.pan * part, self.tilt * part, self.roll * part);
            let intrinsics = Intrinsics::default().zoomed(self.zoom * part);
            poses.push(Pose { rotation, centre, intrinsics });
            let step = rotation.times([self.right, self.down, self.ahead].map(|way| way / steps as f64));
            centre = [centre[0] + step[0], centre[1] + step[1], centre[2] + step[2]];
        }
        poses
    }
}

/// The way of the camera over `frames` frames; it stands still where none is asked for.
pub(crate) fn trajectory(camera: Option<&Camera>, frames: usize) -> Result<Trajectory> {
    let poses = match camera {
        None => Motion::default().poses(frames),
        Some(Camera::Move(camera)) => camera.motion().poses(frames),
        Some(Camera::Preset(preset)) => preset.motion().poses(frames),
        Some(Camera::Path(file)) => {
            let text = std::fs::read_to_string(file).map_err(|source| Error::Io { path: file.clone(), source })?;
            let poses = path::parse(&text).map_err(|reason| Error::BadFile {
                path: file.clone(),
                reason,
                hint: "every line is a pose of 19 numbers: time fx fy cx cy 0 0, then a 3×4 world-to-camera matrix",
            })?;
            path::resampled(&poses, frames)
        }
    };
    Ok(Trajectory { poses })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a point ahead of the first camera (x to the right, y down, of the picture's middle) is seen in the last frame.
    fn seen(camera: &Camera, point: [f64; 3]) -> (f64, f64) {
        let trajectory = trajectory(Some(camera), 81).expect("poses");
        trajectory.poses.last().expect("81 of them").project(point)
    }

    fn moved(text: &str) -> Camera {
        Camera::Move(text.parse().expect("a move"))
    }

    #[test]
    fn what_is_ahead_leaves_to_the_other_side() {
        let ahead = [0.0, 0.0, 4.0];
        assert!(seen(&moved("horizontal=5"), ahead).0 < -0.01, "going right, things go left");
        assert!(seen(&moved("pan=5"), ahead).0 < -0.01, "turning right, things go left");
        assert!(seen(&moved("vertical=5"), ahead).1 > 0.01, "rising, things sink");
        assert!(seen(&moved("tilt=5"), ahead).1 > 0.01, "turning up, things sink");
        assert!(seen(&moved("horizontal=-5"), ahead).0 > 0.01);
        assert!(seen(&moved("tilt=-5"), ahead).1 < -0.01);
    }

    #[test]
    fn roll_and_zoom_move_what_is_aside() {
        let aside = [1.0, 0.0, 4.0];
        let (x, y) = seen(&moved("roll=5"), aside);
        assert!(y < -0.01 && x > 0.0, "rolling clockwise, what is on the right rises: {x} {y}");
        let still = seen(&moved("pan=0"), aside).0;
        assert!((seen(&moved("zoom=10"), aside).0 / still - 2.0).abs() < 1e-9);
        assert!((seen(&moved("zoom=-10"), aside).0 / still - 0.5).abs() < 1e-9);
    }

    #[test]
    fn presets_do_what_they_say() {
        let end = |preset: &str| {
            let camera = Camera::Preset(preset.parse().expect("a preset"));
            let trajectory = trajectory(Some(&camera), 81).expect("poses");
            let last = trajectory.poses.last().expect("poses").clone();
            (last.centre, last.rotation.times([0.0, 0.0, 1.0]))
        };
        let ([_, down, ahead], _) = end("down-back");
        assert!(down > 0.1 && ahead < -0.1);
        let ([_, _, ahead], [_, look_down, _]) = end("forward-up");
        assert!(ahead > 0.1 && look_down < -0.1);
        let ([right, _, ahead], [look_right, _, _]) = end("right-turn-forward");
        assert!(right > 0.1 && ahead > 0.1 && look_right > 0.1);
        let ([right, _, ahead], [look_right, _, _]) = end("left-turn-forward");
        assert!(right < -0.1 && ahead > 0.1 && look_right < -0.1);
    }

    #[test]
    fn moves_are_read_and_written() {
        let camera: CameraMove = "pan=5, zoom=-3.5".parse().expect("two axes");
        assert_eq!(camera, CameraMove { pan: 5.0, zoom: -3.5, ..CameraMove::default() });
        assert_eq!(camera.to_string(), "pan=5,zoom=-3.5");
        assert_eq!(CameraMove::default().to_string().parse(), Ok(CameraMove::default()));
        for bad in ["", "pan", "pan=11", "pan=NaN", "dolly=1", "pan=x"] {
            assert!(bad.parse::<CameraMove>().is_err(), "{bad}");
        }
        for preset in CameraPreset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        assert!("up".parse::<CameraPreset>().is_err());
    }
}
