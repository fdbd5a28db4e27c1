//! [`Pose`]: the position, orientation and lens of a camera at one moment, and the arithmetic of rotations.

pub(super) type Matrix = [[f64; 3]; 3];
pub(super) type Vector = [f64; 3];

/// Width / height of the frame that a [`Lens`] refers to: 1280×720, as in the readers of `RealEstate10K`.
const LENS_ASPECT: f64 = 1280.0 / 720.0;
/// How far the rows of a rotation may be from orthonormal: the numbers of pose files have few digits.
const ORTHONORMAL: f64 = 1e-3;

/// Focal lengths and principal point, as fractions of the width (x) and height (y) of a 16:9 frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lens {
    /// Focal length as a fraction of the frame's width.
    pub fx: f64,
    /// Focal length as a fraction of the frame's height.
    pub fy: f64,
    /// Horizontal position of the principal point: 0 at the left edge, 1 at the right.
    pub cx: f64,
    /// Vertical position of the principal point: 0 at the top edge, 1 at the bottom.
    pub cy: f64,
}

impl Default for Lens {
    /// Returns the lens of Wan-Fun Camera's own examples, 86° wide
    /// (<https://github.com/aigc-apps/VideoX-Fun/blob/b5d95a8d5e7f92200fbc470f31ccacb2b1dd1a46/asset/Pan_Left.txt>).
    fn default() -> Self {
        Self { fx: 0.532_139_961, fy: 0.946_026_558, cx: 0.5, cy: 0.5 }
    }
}

impl Lens {
    /// Returns the focal lengths and the principal point in pixels of a frame of `width` × `height`: the 16:9 frame of
    /// the lens is scaled to cover it.
    pub(super) fn in_pixels(self, width: usize, height: usize) -> Self {
        let (width, height) = (width as f64, height as f64);
        let (fx, fy) = if LENS_ASPECT > width / height {
            (height * LENS_ASPECT * self.fx, self.fy * height)
        } else {
            (self.fx * width, width / LENS_ASPECT * self.fy)
        };
        Self { fx, fy, cx: self.cx * width, cy: self.cy * height }
    }
}

/// A camera at one moment. Camera and world coordinates are right-handed: x right, y down, z forward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// The rows of the rotation from camera to world.
    pub rotation: [[f64; 3]; 3],
    /// The camera's position in the world, in scene units.
    pub center: [f64; 3],
    /// The camera's field of view.
    pub lens: Lens,
}

impl Pose {
    /// Returns the pose of a 3 × 4 world-to-camera matrix `[A | t]`, given by its rows.
    pub fn from_w2c(w2c: &[[f64; 4]; 3], lens: Lens) -> Self {
        let rotation = inverse(&w2c.map(|[a, b, c, _]| [a, b, c]));
        let center = apply(&rotation, w2c.map(|row| -row[3]));
        Self { rotation, center, lens }
    }

    /// Returns the rows of the 4 × 4 camera-to-world matrix.
    pub fn c2w(&self) -> [[f64; 4]; 4] {
        extend(&self.rotation, self.center)
    }

    /// Returns the rows of the 4 × 4 world-to-camera matrix.
    pub fn w2c(&self) -> [[f64; 4]; 4] {
        let inverse = inverse(&self.rotation);
        extend(&inverse, apply(&inverse, self.center).map(|x| -x))
    }

    /// Returns the same camera in the coordinates of `origin`.
    pub(super) fn relative_to(&self, origin: &Self) -> Self {
        let into = inverse(&origin.rotation);
        let offset = [0, 1, 2].map(|axis| self.center[axis] - origin.center[axis]);
        Self { rotation: product(&into, &self.rotation), center: apply(&into, offset), lens: self.lens }
    }

    /// Returns why the numbers do not describe a camera, or `None` if they do.
    pub(super) fn fault(&self) -> Option<String> {
        let Lens { fx, fy, cx, cy } = self.lens;
        let mut numbers = self.rotation.into_iter().flatten().chain(self.center).chain([fx, fy, cx, cy]);
        if numbers.any(|x| !x.is_finite()) {
            return Some("it has NaN or infinite numbers".into());
        }
        if !(fx > 0.0 && fy > 0.0) {
            return Some(format!("its focal lengths are {fx} and {fy}, which must be above 0"));
        }
        let square = product(&self.rotation, &transposed(&self.rotation));
        let off = |(row, column): (usize, usize)| (square[row][column] - f64::from(u8::from(row == column))).abs();
        let worst = (0..9).map(|at| off((at / 3, at % 3))).fold(0.0, f64::max);
        if worst > ORTHONORMAL || determinant(&self.rotation) < 0.0 {
            return Some(format!("its matrix is not a rotation (off by {worst:.2e})"));
        }
        None
    }

    /// Returns the pose at `part` of the way to `next` (0 to 1): the rotation takes the shortest way, everything else
    /// is interpolated linearly.
    pub(super) fn towards(&self, next: &Self, part: f64) -> Self {
        let mix = |a: f64, b: f64| a + (b - a) * part;
        let (a, b) = (self.lens, next.lens);
        Self {
            rotation: slerp(&self.rotation, &next.rotation, part),
            center: [0, 1, 2].map(|axis| mix(self.center[axis], next.center[axis])),
            lens: Lens { fx: mix(a.fx, b.fx), fy: mix(a.fy, b.fy), cx: mix(a.cx, b.cx), cy: mix(a.cy, b.cy) },
        }
    }
}

fn extend(rotation: &Matrix, last: Vector) -> [[f64; 4]; 4] {
    let row = |row: usize| [rotation[row][0], rotation[row][1], rotation[row][2], last[row]];
    [row(0), row(1), row(2), [0.0, 0.0, 0.0, 1.0]]
}

pub(super) fn apply(matrix: &Matrix, vector: Vector) -> Vector {
    matrix.map(|row| dot(row, vector))
}

pub(super) fn cross([a, b, c]: Vector, [x, y, z]: Vector) -> Vector {
    [b * z - c * y, c * x - a * z, a * y - b * x]
}

pub(super) fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let columns = transposed(b);
    a.map(|row| columns.map(|column| dot(row, column)))
}

fn dot([a, b, c]: Vector, [x, y, z]: Vector) -> f64 {
    a * x + b * y + c * z
}

fn transposed(m: &Matrix) -> Matrix {
    [0, 1, 2].map(|column| [m[0][column], m[1][column], m[2][column]])
}

fn determinant(&[a, b, c]: &Matrix) -> f64 {
    dot(a, cross(b, c))
}

/// Returns the general inverse, not the transpose: the digits of a file describe a rotation only approximately.
fn inverse(m: &Matrix) -> Matrix {
    let [a, b, c] = *m;
    let scale = 1.0 / determinant(m);
    transposed(&[cross(b, c), cross(c, a), cross(a, b)].map(|row| row.map(|x| x * scale)))
}

/// Rotation about x; a positive angle looks up.
pub(super) fn tilted(angle: f64) -> Matrix {
    let (sin, cos) = angle.sin_cos();
    [[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]]
}

/// Rotation about y; a positive angle looks right.
pub(super) fn panned(angle: f64) -> Matrix {
    let (sin, cos) = angle.sin_cos();
    [[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]]
}

/// Rotation about z; a positive angle turns the camera clockwise about its viewing direction.
pub(super) fn rolled(angle: f64) -> Matrix {
    let (sin, cos) = angle.sin_cos();
    [[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]
}

/// Spherical linear interpolation over unit quaternions (Shoemake 1985).
fn slerp(from: &Matrix, to: &Matrix, part: f64) -> Matrix {
    let (a, mut b) = (quaternion(from), quaternion(to));
    let mut cos: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    if cos < 0.0 {
        (b, cos) = (b.map(|x| -x), -cos);
    }
    let angle = cos.min(1.0).acos();
    // At smaller angles the sines lose digits, and linear interpolation is as exact.
    let (weight_a, weight_b) = if angle < 1e-4 {
        (1.0 - part, part)
    } else {
        (((1.0 - part) * angle).sin() / angle.sin(), (part * angle).sin() / angle.sin())
    };
    rotation([0, 1, 2, 3].map(|at| weight_a * a[at] + weight_b * b[at]))
}

/// Returns the unit quaternion (w, x, y, z) of a rotation (Shepperd 1978); it never divides by a small component.
fn quaternion(m: &Matrix) -> [f64; 4] {
    let [[a, b, c], [d, e, f], [g, h, i]] = *m;
    unit(if a + e + i > 0.0 {
        [1.0 + a + e + i, h - f, c - g, d - b]
    } else if a >= e && a >= i {
        [h - f, 1.0 + a - e - i, b + d, c + g]
    } else if e >= i {
        [c - g, b + d, 1.0 + e - a - i, f + h]
    } else {
        [d - b, c + g, f + h, 1.0 + i - a - e]
    })
}

fn rotation(quaternion: [f64; 4]) -> Matrix {
    let [w, x, y, z] = unit(quaternion);
    [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
}

fn unit(quaternion: [f64; 4]) -> [f64; 4] {
    let length = quaternion.iter().map(|x| x * x).sum::<f64>().sqrt();
    quaternion.map(|x| x / length)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the compared numbers are exact")]
mod tests {
    use super::*;

    fn distance(a: &Matrix, b: &Matrix) -> f64 {
        a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn half_of_a_rotation_twice_is_the_rotation() {
        let start = product(&panned(0.3), &tilted(-1.1));
        // All four branches of the quaternion, small angles and half turns.
        for step in [tilted(0.7), tilted(3.1), panned(3.1), rolled(3.1), rolled(1e-5), panned(-2.0), rolled(0.0)] {
            let end = product(&start, &step);
            let half = slerp(&start, &end, 0.5);
            let by_half = product(&inverse(&start), &half);
            assert!(distance(&product(&by_half, &by_half), &step) < 1e-9, "{step:?}");
            assert!(distance(&slerp(&start, &end, 0.0), &start) < 1e-12);
            assert!(distance(&slerp(&start, &end, 1.0), &end) < 1e-12);
        }
    }

    #[test]
    fn slerp_turns_at_constant_speed() {
        for step in 0..=8 {
            let part = f64::from(step) / 8.0;
            assert!(distance(&slerp(&panned(0.0), &panned(2.0), part), &panned(2.0 * part)) < 1e-12, "{part}");
        }
    }

    #[test]
    fn w2c_and_c2w_undo_each_other() {
        let rotation = product(&product(&panned(0.5), &tilted(0.2)), &rolled(-0.4));
        let pose = Pose { rotation, center: [1.0, -2.0, 0.5], lens: Lens::default() };
        let [a, b, c, last] = pose.w2c();
        let back = Pose::from_w2c(&[a, b, c], pose.lens);
        let same = pose.c2w().iter().flatten().zip(back.c2w().iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(same && last == [0.0, 0.0, 0.0, 1.0], "{back:?}");
        assert_eq!(pose.fault(), None);
    }

    #[test]
    fn a_mirror_and_a_shear_are_no_cameras() {
        let pose = Pose { rotation: rolled(0.0), center: [0.0; 3], lens: Lens::default() };
        let mirror = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let shear = [[1.0, 0.0, 0.1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        for rotation in [mirror, shear, [[0.0; 3]; 3]] {
            assert!(Pose { rotation, ..pose }.fault().is_some_and(|fault| fault.contains("not a rotation")));
        }
        assert!(Pose { center: [f64::NAN; 3], ..pose }.fault().is_some_and(|fault| fault.contains("NaN")));
        let lens = Lens { fx: 0.0, ..pose.lens };
        assert!(Pose { lens, ..pose }.fault().is_some_and(|fault| fault.contains("focal")));
    }
}
