//! Poses of a camera, and its rays in Plücker coordinates (<https://arxiv.org/abs/2404.02101>, section 3.2).

use candle_core::{DType, Device, Result, Tensor};

/// Components of a ray: its moment and its direction.
const COMPONENTS: usize = 6;
/// Frames of a packed latent frame.
const PACKED: usize = 4;
/// Focal lengths of poses are in parts of a picture of this shape.
const POSE_ASPECT: f64 = 1280.0 / 720.0;

/// A rotation, row by row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Matrix(pub [[f64; 3]; 3]);

/// Focal lengths and the picture's middle, in parts of its width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Intrinsics {
    pub fx: f64,
    pub fy: f64,
    pub cx: f64,
    pub cy: f64,
}

/// Where a camera is, and how it looks: camera to world, in the axes of the first one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pose {
    pub(super) rotation: Matrix,
    pub(super) centre: [f64; 3],
    pub(super) intrinsics: Intrinsics,
}

/// One pose per frame.
#[derive(Debug, Clone)]
pub(crate) struct Trajectory {
    pub(super) poses: Vec<Pose>,
}

impl Matrix {
    pub(super) const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

    /// Turned about y (to the right), then x (up), then z (clockwise), radians.
    pub(super) fn turned(pan: f64, tilt: f64, roll: f64) -> Self {
        let (sp, cp) = pan.sin_cos();
        let (st, ct) = tilt.sin_cos();
        let (sr, cr) = roll.sin_cos();
        let pan = Self([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]]);
        let tilt = Self([[1.0, 0.0, 0.0], [0.0, ct, -st], [0.0, st, ct]]);
        let roll = Self([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]]);
        pan.product(&tilt).product(&roll)
    }

    pub(super) fn product(&self, other: &Self) -> Self {
        Self([0, 1, 2].map(|i| [0, 1, 2].map(|j| (0..3).map(|k| self.0[i][k] * other.0[k][j]).sum())))
    }

    pub(super) fn transposed(&self) -> Self {
        Self([0, 1, 2].map(|i| [0, 1, 2].map(|j| self.0[j][i])))
    }

    pub(super) fn times(&self, v: [f64; 3]) -> [f64; 3] {
        self.0.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
    }
}

impl Default for Intrinsics {
    /// Those of diffsynth's directions.
    fn default() -> Self {
        Self { fx: 0.532_139_961, fy: 0.946_026_558, cx: 0.5, cy: 0.5 }
    }
}

impl Intrinsics {
    pub(super) fn zoomed(self, doublings: f64) -> Self {
        let factor = doublings.exp2();
        Self { fx: self.fx * factor, fy: self.fy * factor, ..self }
    }

    /// `[fx, fy, cx, cy]` in pixels of a picture of another shape, which shows the middle of the pose's.
    fn in_pixels(self, width: usize, height: usize) -> [f32; 4] {
        let (w, h) = (width as f64, height as f64);
        let (mut fx, mut fy) = (self.fx, self.fy);
        if POSE_ASPECT > w / h {
            fx *= h * POSE_ASPECT / w;
        } else {
            fy *= w / POSE_ASPECT / h;
        }
        [fx * w, fy * h, self.cx * w, self.cy * h].map(|value| value as f32)
    }
}

impl Pose {
    /// Where a point is seen, in focal lengths from the middle.
    #[cfg(test)]
    pub(super) fn project(&self, point: [f64; 3]) -> (f64, f64) {
        let from = [0, 1, 2].map(|i| point[i] - self.centre[i]);
        let [x, y, z] = self.rotation.transposed().times(from);
        (x / z * self.intrinsics.fx, y / z * self.intrinsics.fy)
    }

    /// Six planes of `height × width` numbers: the moment, then the direction of the ray through every pixel.
    fn rays(&self, width: usize, height: usize, mut put: impl FnMut(usize, usize, f32)) {
        let [fx, fy, cx, cy] = self.intrinsics.in_pixels(width, height);
        let rotation = self.rotation.0.map(|row| row.map(|value| value as f32));
        let centre = self.centre.map(|value| value as f32);
        for y in 0..height {
            for x in 0..width {
                let v = [(x as f32 + 0.5 - cx) / fx, (y as f32 + 0.5 - cy) / fy, 1.0];
                let norm = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
                let v = v.map(|value| value / norm);
                let d = rotation.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
                let moment = [
                    centre[1] * d[2] - centre[2] * d[1],
                    centre[2] * d[0] - centre[0] * d[2],
                    centre[0] * d[1] - centre[1] * d[0],
                ];
                for (component, value) in moment.into_iter().chain(d).enumerate() {
                    put(component, y * width + x, value);
                }
            }
        }
    }
}

impl Trajectory {
    /// The rays as a camera-controlled network takes them, f32 `[1, 24, F, H, W]`: a latent frame has those of its four
    /// frames, component by component; the first has its one frame four times.
    pub(crate) fn packed(&self, width: usize, height: usize, latent_frames: usize, dtype: DType) -> Result<Tensor> {
        let area = width * height;
        let mut frames = Vec::with_capacity(latent_frames);
        for latent in 0..latent_frames {
            let mut values = vec![0f32; COMPONENTS * PACKED * area];
            for part in 0..PACKED {
                let frame = if latent == 0 { 0 } else { PACKED * (latent - 1) + 1 + part };
                let pose = &self.poses[frame.min(self.poses.len() - 1)];
                pose.rays(width, height, |component, pixel, value| {
                    values[(component * PACKED + part) * area + pixel] = value;
                });
            }
            let shape = (1, COMPONENTS * PACKED, 1, height, width);
            frames.push(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?);
        }
        Tensor::cat(&frames, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::path::{parse, resampled};

    /// What diffsynth 2.1.12 makes of the same poses; `scripts/fixtures/camera.py`.
    #[test]
    fn rays_are_those_of_diffsynth() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/camera/");
        let poses = std::fs::read_to_string(format!("{folder}poses.txt")).expect("a fixture");
        let file = std::path::Path::new(folder).join("rays.safetensors");
        let (golden, _) = kinora_checkpoint::load_safetensors(&file).expect("a fixture");
        for (name, expected) in golden {
            let (_, _, latent_frames, height, width) = expected.dims5().expect("packed rays");
            let poses = resampled(&parse(&poses).expect("poses"), 4 * (latent_frames - 1) + 1);
            let found = Trajectory { poses }.packed(width, height, latent_frames, DType::F32).expect("rays");
            assert_eq!(found.dims(), expected.dims());
            let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            let error = norm(&(&found - &expected).unwrap()) / norm(&expected);
            assert!(error <= 1e-6, "{name}: {error:e}");
        }
    }
}
