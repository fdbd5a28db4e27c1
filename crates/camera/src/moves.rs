//! [`CameraMove`] and [`CameraPreset`]: the moves that users ask for by name, and how far each of them goes.

use super::pose::{Lens, Pose, panned, product, rolled, tilted};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

const RANGE: RangeInclusive<f64> = -10.0..=10.0;
/// Seconds after which a move at 10 has gone its full distance: the length of 81 frames at 16 frames per second.
const SECONDS: f64 = 5.0;
/// Distance of a move at 10, in scene units: the 80 steps of 1/54 in the examples of Wan-Fun Camera.
const TRAVEL: f64 = 1.5;
/// Angle of a turn at 10, in degrees: the 60° of `ComfyUI`'s `WanCameraEmbedding`.
const TURN: f64 = 60.0;

/// A move along six axes, each from -10 to 10; an axis at 0 does not move.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CameraMove {
    /// The camera moves left (negative) or right, looking ahead; 10 is 1.5 scene units in 5 s.
    pub horizontal: f64,
    /// The camera moves down (negative) or up, looking ahead; 10 is 1.5 scene units in 5 s.
    pub vertical: f64,
    /// The camera turns left (negative) or right; 10 is 60° in 5 s.
    pub pan: f64,
    /// The camera turns down (negative) or up; 10 is 60° in 5 s.
    pub tilt: f64,
    /// The camera turns about its view counterclockwise (negative) or clockwise, as it sees; 10 is 60° in 5 s.
    pub roll: f64,
    /// The focal length shrinks (negative) or grows; 10 doubles it in 5 s.
    pub zoom: f64,
}

impl CameraMove {
    /// Returns the name and value of each axis, in the order of the struct.
    pub(super) fn axes(&self) -> [(&'static str, f64); 6] {
        let Self { horizontal, vertical, pan, tilt, roll, zoom } = *self;
        [
            ("horizontal", horizontal),
            ("vertical", vertical),
            ("pan", pan),
            ("tilt", tilt),
            ("roll", roll),
            ("zoom", zoom),
        ]
    }

    fn axis_mut(&mut self, name: &str) -> Option<&mut f64> {
        match name {
            "horizontal" => Some(&mut self.horizontal),
            "vertical" => Some(&mut self.vertical),
            "pan" => Some(&mut self.pan),
            "tilt" => Some(&mut self.tilt),
            "roll" => Some(&mut self.roll),
            "zoom" => Some(&mut self.zoom),
            _ => None,
        }
    }

    /// Returns the move if every axis is between -10 and 10.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] with the first axis that is not.
    pub fn checked(&self) -> Result<&Self> {
        self.axes().into_iter().try_for_each(|(axis, value)| in_range(axis, value))?;
        Ok(self)
    }

    pub(super) fn motion(&self) -> Motion {
        let share = |value: f64| value / RANGE.end();
        Motion {
            right: share(self.horizontal) * TRAVEL,
            up: share(self.vertical) * TRAVEL,
            forward: 0.0,
            pan: share(self.pan) * TURN,
            tilt: share(self.tilt) * TURN,
            roll: share(self.roll) * TURN,
            octaves: share(self.zoom),
        }
    }
}

fn in_range(axis: &str, value: f64) -> Result<()> {
    let (least, most) = (*RANGE.start(), *RANGE.end());
    if RANGE.contains(&value) { Ok(()) } else { Err(Error::OutOfRange { axis: axis.into(), value, least, most }) }
}

/// Writes the axes that are not 0 in the form in which they are parsed: `pan=5,zoom=-3`.
impl fmt::Display for CameraMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes = self.axes();
        let moving = axes.iter().filter(|(_, value)| *value != 0.0);
        let texts: Vec<String> = moving.map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(if texts.is_empty() { "pan=0".into() } else { texts.join(",") }.as_str())
    }
}

impl FromStr for CameraMove {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut axes = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is not an axis and its value, such as pan=5"))?;
            let (name, text) = (name.trim(), value.trim());
            let names = axes.axes().map(|(name, _)| name).join(", ");
            let axis = axes.axis_mut(name).ok_or_else(|| format!("`{name}` is not a camera axis, only {names}"))?;
            let value = text.parse().map_err(|_| format!("{name} is `{text}`, which is not a number"))?;
            in_range(name, value).map_err(|error| error.to_string())?;
            if seen.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            *axis = value;
            seen.push(name);
        }
        Ok(axes)
    }
}

/// Named moves along the viewing direction, which no axis of [`CameraMove`] covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CameraPreset {
    /// The camera moves down (0.75 scene units in 5 s) and back (1.5).
    DownBack,
    /// The camera moves forward (1.5 scene units in 5 s) and tilts up (30°).
    ForwardUp,
    /// The camera turns left (30° in 5 s) and moves forward (1.5 scene units).
    LeftTurnForward,
    /// The camera turns right (30° in 5 s) and moves forward (1.5 scene units).
    RightTurnForward,
}

impl CameraPreset {
    /// All presets, in the order in which they are listed to users.
    pub const ALL: [Self; 4] = [Self::DownBack, Self::ForwardUp, Self::LeftTurnForward, Self::RightTurnForward];

    /// Returns the preset's name on the command line and in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::DownBack => "down-back",
            Self::ForwardUp => "forward-up",
            Self::LeftTurnForward => "left-turn-forward",
            Self::RightTurnForward => "right-turn-forward",
        }
    }

    pub(super) fn motion(self) -> Motion {
        let forward = Motion { forward: TRAVEL, ..Motion::default() };
        match self {
            Self::DownBack => Motion { up: -TRAVEL / 2.0, forward: -TRAVEL, ..Motion::default() },
            Self::ForwardUp => Motion { tilt: TURN / 2.0, ..forward },
            Self::LeftTurnForward => Motion { pan: -TURN / 2.0, ..forward },
            Self::RightTurnForward => Motion { pan: TURN / 2.0, ..forward },
        }
    }
}

impl fmt::Display for CameraPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Parses a preset's name, also with underscores: hosted services write `down_back`.
impl FromStr for CameraPreset {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let name = text.trim().replace('_', "-");
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is not one of {names}")
        })
    }
}

/// How far a camera has moved and turned after [`SECONDS`], along the axes of the first frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Motion {
    right: f64,
    up: f64,
    forward: f64,
    /// Degrees, as are `tilt` and `roll`.
    pan: f64,
    tilt: f64,
    roll: f64,
    /// How many times the focal length has doubled.
    octaves: f64,
}

/// Where a camera is, and where it looks, along the axes of the first frame of its path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Scene units to the right.
    pub horizontal: f64,
    /// Scene units up.
    pub vertical: f64,
    /// Scene units forward.
    pub forward: f64,
    /// Degrees to the right.
    pub pan: f64,
    /// Degrees up.
    pub tilt: f64,
    /// Degrees clockwise, as the camera sees.
    pub roll: f64,
    /// Factor of the focal length.
    pub zoom: f64,
}

impl Default for Placement {
    fn default() -> Self {
        Self { horizontal: 0.0, vertical: 0.0, forward: 0.0, pan: 0.0, tilt: 0.0, roll: 0.0, zoom: 1.0 }
    }
}

impl From<Placement> for Pose {
    fn from(placement: Placement) -> Self {
        let Placement { horizontal, vertical, forward, pan, tilt, roll, zoom } = placement;
        let octaves = zoom.log2();
        Motion { right: horizontal, up: vertical, forward, pan, tilt, roll, octaves }.pose(SECONDS)
    }
}

impl Motion {
    /// Returns the pose after `seconds`. Positions and angles are linear in time, as is the logarithm of the focal
    /// length. The camera pans about the vertical axis of the first frame, as on a tripod.
    pub fn pose(&self, seconds: f64) -> Pose {
        let part = seconds / SECONDS;
        let angle = |degrees: f64| (degrees * part).to_radians();
        let lens = Lens::default();
        let zoom = (self.octaves * part).exp2();
        Pose {
            rotation: product(&product(&panned(angle(self.pan)), &tilted(angle(self.tilt))), &rolled(angle(self.roll))),
            center: [self.right * part, -self.up * part, self.forward * part],
            lens: Lens { fx: lens.fx * zoom, fy: lens.fy * zoom, ..lens },
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the compared numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn moves_are_read_and_written() {
        for text in ["pan=5,zoom=-3", "horizontal=-10,vertical=10,pan=1.5,tilt=-0.25,roll=2,zoom=9", "pan=0"] {
            assert_eq!(text.parse::<CameraMove>().map(|axes| axes.to_string()), Ok(text.to_string()));
        }
        assert_eq!(
            " zoom = -3 , pan=5 ".parse::<CameraMove>().map(|axes| axes.to_string()),
            Ok("pan=5,zoom=-3".into())
        );
    }

    #[test]
    fn wrong_moves_say_which_axis() {
        for (text, part) in [
            ("", "`` is not an axis and its value"),
            ("pan", "`pan` is not an axis and its value"),
            ("pan=5,", "`` is not an axis"),
            ("pam=5", "`pam` is not a camera axis, only horizontal, vertical, pan, tilt, roll, zoom"),
            ("pan=5,tilt=fast", "tilt is `fast`, which is not a number"),
            ("pan=12", "pan is 12, outside -10 to 10"),
            ("roll=NaN", "roll is NaN, outside"),
            ("zoom=-inf", "zoom is -inf, outside"),
            ("pan=1,pan=2", "pan is given twice"),
        ] {
            let error = text.parse::<CameraMove>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = CameraMove { roll: 10.5, ..CameraMove::default() }.checked().expect_err("outside").to_string();
        assert_eq!(error, "roll is 10.5, outside -10 to 10");
    }

    #[test]
    fn moves_and_presets_travel_in_json() {
        let axes: CameraMove = serde_json::from_str(r#"{"pan": 5, "zoom": -3}"#).expect("a move");
        assert_eq!(axes.to_string(), "pan=5,zoom=-3");
        let back = serde_json::to_string(&axes).expect("text");
        assert_eq!(serde_json::from_str::<CameraMove>(&back).expect("a move"), axes);
        assert!(serde_json::from_str::<CameraMove>(r#"{"dolly": 5}"#).is_err());
        for preset in CameraPreset::ALL {
            assert_eq!(serde_json::to_string(&preset).expect("text"), format!("\"{preset}\""));
        }
    }

    #[test]
    fn presets_are_read_and_written() {
        for preset in CameraPreset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
            assert_eq!(preset.name().replace('-', "_").parse(), Ok(preset));
        }
        assert!("up".parse::<CameraPreset>().is_err_and(|error| error.contains("one of down-back, forward-up")));
    }

    #[test]
    fn ten_is_what_the_documentation_says_after_five_seconds() {
        let after = |text: &str| text.parse::<CameraMove>().expect("a move").motion().pose(5.0);
        assert_eq!(after("horizontal=10,vertical=10").center, [1.5, -1.5, 0.0]);
        let cos = |text: &str, axis: usize| after(text).rotation[axis][axis];
        for (text, axis) in [("pan=10", 0), ("tilt=-10", 1), ("roll=10", 1)] {
            assert!((cos(text, axis) - 0.5).abs() < 1e-12, "{text}: not 60°");
        }
        let [near, far] = ["zoom=10", "zoom=-10"].map(|text| after(text).lens.fx / Lens::default().fx);
        assert!((near - 2.0).abs() < 1e-12 && (far - 0.5).abs() < 1e-12, "{near} {far}");
        assert_eq!(after("pan=0"), after("zoom=0"));
    }
}
