//! Files of poses, as the RealEstate10K data set has them (<https://google.github.io/realestate10k/download.html>).

use super::rays::{Intrinsics, Matrix, Pose};

/// Numbers of a line: a time, four intrinsics, two that are not used, and a 3×4 matrix from the world to the camera.
const NUMBERS: usize = 19;
/// How far a rotation's rows may be from unit length and from right angles.
const SKEWED: f64 = 1e-2;

/// Reads one pose per line, in the axes of the first. A first line that is an address, empty lines and those that begin
/// with `#` do not count. The reason why not names the line.
pub(super) fn parse(text: &str) -> Result<Vec<Pose>, String> {
    let counts = |(index, line): &(usize, &str)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && !(*index == 0 && line.contains("://"))
    };
    let lines = text.lines().enumerate().filter(counts);
    let absolute = lines.map(|(index, line)| pose(line).map_err(|reason| format!("line {}: {reason}", index + 1)));
    let absolute = absolute.collect::<Result<Vec<_>, _>>()?;
    let first = absolute.first().ok_or("it has no poses")?.clone();
    let back = first.rotation.transposed();
    let relative = absolute.into_iter().enumerate().map(|(index, pose)| {
        if index == 0 {
            return Pose { rotation: Matrix::IDENTITY, centre: [0.0; 3], ..pose };
        }
        let way = [0, 1, 2].map(|i| pose.centre[i] - first.centre[i]);
        Pose { rotation: back.product(&pose.rotation), centre: back.times(way), ..pose }
    });
    Ok(relative.collect())
}

fn pose(line: &str) -> Result<Pose, String> {
    let numbers: Vec<f64> = line
        .split_whitespace()
        .map(|word| word.parse().ok().filter(|number: &f64| number.is_finite()).ok_or(format!("`{word}` is no number")))
        .collect::<Result<_, _>>()?;
    let count = numbers.len();
    let n: [f64; NUMBERS] = numbers.try_into().map_err(|_| format!("it has {count} numbers, not {NUMBERS}"))?;
    let intrinsics = Intrinsics { fx: n[1], fy: n[2], cx: n[3], cy: n[4] };
    if intrinsics.fx <= 0.0 || intrinsics.fy <= 0.0 {
        return Err("its focal lengths are not above 0".into());
    }
    let to_camera = Matrix([[n[7], n[8], n[9]], [n[11], n[12], n[13]], [n[15], n[16], n[17]]]);
    let square = to_camera.product(&to_camera.transposed());
    let skewed = (0..3).any(|i| (0..3).any(|j| (square.0[i][j] - f64::from(u8::from(i == j))).abs() > SKEWED));
    if skewed {
        return Err("its matrix is no rotation".into());
    }
    let rotation = to_camera.transposed();
    let centre = rotation.times([-n[10], -n[14], -n[18]]);
    Ok(Pose { rotation, centre, intrinsics })
}

/// As many poses as the clip has frames, between those that are given.
pub(super) fn resampled(poses: &[Pose], frames: usize) -> Vec<Pose> {
    if poses.len() == frames {
        return poses.to_vec();
    }
    let last = poses.len() - 1;
    let at = |frame: usize| {
        let position = if frames > 1 { frame as f64 * last as f64 / (frames - 1) as f64 } else { 0.0 };
        let before = (position as usize).min(last);
        between(&poses[before], &poses[(before + 1).min(last)], position - before as f64)
    };
    (0..frames).map(at).collect()
}

fn between(a: &Pose, b: &Pose, part: f64) -> Pose {
    let mix = |a: f64, b: f64| a + (b - a) * part;
    let (x, y) = (a.intrinsics, b.intrinsics);
    Pose {
        rotation: turned_towards(&a.rotation, &b.rotation, part),
        centre: [0, 1, 2].map(|i| mix(a.centre[i], b.centre[i])),
        intrinsics: Intrinsics { fx: mix(x.fx, y.fx), fy: mix(x.fy, y.fy), cx: mix(x.cx, y.cx), cy: mix(x.cy, y.cy) },
    }
}

/// A `part` of the turn from `a` to `b`, about its axis (Rodrigues' formula).
fn turned_towards(a: &Matrix, b: &Matrix, part: f64) -> Matrix {
    let turn = a.transposed().product(b).0;
    let angle = ((turn[0][0] + turn[1][1] + turn[2][2] - 1.0) / 2.0).clamp(-1.0, 1.0).acos();
    let axis = [turn[2][1] - turn[1][2], turn[0][2] - turn[2][0], turn[1][0] - turn[0][1]];
    let length = axis.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length < 1e-12 {
        return if part < 0.5 { *a } else { *b };
    }
    let [x, y, z] = axis.map(|value| value / length);
    let (s, c) = (angle * part).sin_cos();
    let t = 1.0 - c;
    let rotation = Matrix([
        [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
        [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
        [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
    ]);
    a.product(&rotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "0 0.53 0.95 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0";

    #[test]
    fn lines_that_are_no_poses_are_named() {
        for (bad, reason) in [
            ("", "it has no poses"),
            ("1 2 3", "line 1: it has 3 numbers, not 19"),
            ("x", "line 1: `x` is no number"),
            (&LINE.replace("0.53", "0"), "line 1: its focal lengths are not above 0"),
            (&LINE.replace("0 0 1 0 0 0 0 1", "0 0 2 0 0 0 0 1"), "line 1: its matrix is no rotation"),
            (&format!("https://x\n# a note\n{LINE}\n1 2"), "line 4: it has 2 numbers, not 19"),
        ] {
            assert_eq!(parse(bad).err().as_deref(), Some(reason));
        }
        assert_eq!(parse(&format!("https://x\n\n{LINE}\n{LINE}\n")).map(|poses| poses.len()), Ok(2));
    }

    #[test]
    fn poses_between_two_are_half_way() {
        let pose = |pan: f64, x: f64| Pose {
            rotation: Matrix::turned(pan, 0.0, 0.0),
            centre: [x, 0.0, 0.0],
            intrinsics: Intrinsics::default(),
        };
        let all = resampled(&[pose(0.0, 0.0), pose(0.8, 2.0)], 3);
        let expected = pose(0.4, 1.0);
        let error = (0..3).flat_map(|i| (0..3).map(move |j| (i, j)));
        let error = error.map(|(i, j)| (all[1].rotation.0[i][j] - expected.rotation.0[i][j]).abs()).fold(0.0, f64::max);
        assert!(error < 1e-12 && (all[1].centre[0] - 1.0).abs() < 1e-12);
        assert_eq!((all.len(), all[2].centre[0]), (3, 2.0));
    }
}
