//! [`Trajectory`]: one pose per frame, and the Plücker coordinates of the rays through its pixels
//! (<https://arxiv.org/abs/2404.02101>, section 3.1).

use super::pose::{Pose, apply, cross};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

/// The Plücker coordinates of a ray: x, y and z of its moment (origin × direction), then of its direction.
pub const RAY_CHANNELS: usize = 6;

/// One pose per pixel frame, relative to the first, which is the identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    poses: Vec<Pose>,
}

impl Trajectory {
    /// Returns the trajectory through `poses`, in the coordinates of the first.
    ///
    /// # Errors
    /// [`Error::NoPoses`], or [`Error::BadPose`] for a matrix that is not a rotation and for NaN or infinite numbers.
    pub fn new(poses: &[Pose]) -> Result<Self> {
        for (index, pose) in poses.iter().enumerate() {
            if let Some(fault) = pose.fault() {
                return Err(Error::BadPose { frame: index, reason: fault });
            }
        }
        let first = *poses.first().ok_or(Error::NoPoses)?;
        let (rotation, center) = ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0; 3]);
        let identity = Pose { rotation, center, ..first };
        let others = poses[1..].iter().map(|pose| pose.relative_to(&first));
        Ok(Self { poses: std::iter::once(identity).chain(others).collect() })
    }

    /// Returns the poses, one per pixel frame; there is at least one.
    pub fn poses(&self) -> &[Pose] {
        &self.poses
    }

    /// Returns the rays of all pixels of all frames, `[F, 6, H, W]`, f32 on the CPU: the moment and the direction of
    /// the ray through each pixel's centre, in the coordinates of the first frame. The tensor is large (776 MB for 81
    /// frames of 832×480); [`Trajectory::packed_frames`] never holds more than one latent frame.
    ///
    /// # Errors
    /// [`Error::EmptyFrame`].
    pub fn plucker(&self, width: usize, height: usize) -> Result<Tensor> {
        check_size(width, height)?;
        let mut values = vec![0.0; self.poses.len() * RAY_CHANNELS * height * width]; // [F, 6, H, W]
        for (pose, planes) in self.poses.iter().zip(values.chunks_exact_mut(RAY_CHANNELS * height * width)) {
            draw(pose, [width, height], planes, [0, 1]);
        }
        Ok(Tensor::from_vec(values, (self.poses.len(), RAY_CHANNELS, height, width), &Device::Cpu)?)
    }

    /// Returns the rays packed for a causal VAE with the temporal factor k, one latent frame at a time, each as
    /// `[1, 6·k, 1, H, W]`, f32 on the CPU. The first latent frame holds the first pixel frame k times, every other
    /// latent frame the k pixel frames that it encodes. Channel c·k + i is coordinate c of the i-th pixel frame.
    ///
    /// # Errors
    /// [`Error::EmptyFrame`]; [`Error::Packing`] if the number of poses is not a multiple of k, plus 1.
    pub fn packed_frames(
        &self,
        width: usize,
        height: usize,
        temporal_factor: usize,
    ) -> Result<impl ExactSizeIterator<Item = Result<Tensor>>> {
        check_size(width, height)?;
        let (k, last) = (temporal_factor, self.poses.len() - 1);
        if k == 0 || last % k != 0 {
            return Err(Error::Packing { poses: last + 1, temporal_factor });
        }
        let latent_frames = last / k + 1;
        Ok((0..latent_frames).map(move |frame| {
            let mut planes = vec![0.0; RAY_CHANNELS * k * height * width]; // [6, k, H, W]
            for which in 0..k {
                let pixel_frame = if frame == 0 { 0 } else { (frame - 1) * k + which + 1 };
                draw(&self.poses[pixel_frame], [width, height], &mut planes, [which, k]);
            }
            Ok(Tensor::from_vec(planes, (1, RAY_CHANNELS * k, 1, height, width), &Device::Cpu)?)
        }))
    }

    /// Returns all of [`Trajectory::packed_frames`] as `[1, 6·k, F, H, W]` (F latent frames) in `dtype` on `device`.
    /// Apart from the result, it holds one latent frame at a time.
    ///
    /// # Errors
    /// The errors of [`Trajectory::packed_frames`], or of a tensor operation.
    pub fn packed(
        &self,
        width: usize,
        height: usize,
        temporal_factor: usize,
        (dtype, device): (DType, &Device),
    ) -> Result<Tensor> {
        let frames = self.packed_frames(width, height, temporal_factor)?;
        let packed = Tensor::zeros((1, RAY_CHANNELS * temporal_factor, frames.len(), height, width), dtype, device)?;
        for (index, frame) in frames.enumerate() {
            packed.slice_set(&frame?.to_dtype(dtype)?.to_device(device)?, 2, index)?;
        }
        Ok(packed)
    }
}

fn check_size(width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 { Err(Error::EmptyFrame { width, height }) } else { Ok(()) }
}

/// Writes the rays of one frame: coordinate c goes to plane `c * every + which` of `[planes, H, W]`.
fn draw(pose: &Pose, [width, height]: [usize; 2], planes: &mut [f32], [which, every]: [usize; 2]) {
    let lens = pose.lens.in_pixels(width, height);
    let area = width * height;
    for row in 0..height {
        let y = (row as f64 + 0.5 - lens.cy) / lens.fy;
        for column in 0..width {
            let x = (column as f64 + 0.5 - lens.cx) / lens.fx;
            let length = (x * x + y * y + 1.0).sqrt();
            let direction = apply(&pose.rotation, [x / length, y / length, 1.0 / length]);
            let moment = cross(pose.center, direction);
            for (coordinate, value) in moment.into_iter().chain(direction).enumerate() {
                planes[(coordinate * every + which) * area + row * width + column] = value as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Camera;
    use candle_core::{DType, Device, Tensor};

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|x| x.to_vec1()).expect("numbers")
    }

    #[test]
    fn all_frames_at_once_are_the_frames_one_by_one() {
        let camera: Camera = "pan=5,horizontal=-3,zoom=2".parse().expect("a camera");
        let trajectory = camera.trajectory(7, 8.0).expect("a trajectory");
        for dtype in [DType::F32, DType::BF16] {
            let packed = trajectory.packed(5, 3, 3, (dtype, &Device::Cpu)).expect("rays");
            assert_eq!(packed.dims(), [1, 18, 3, 3, 5]);
            for (index, frame) in trajectory.packed_frames(5, 3, 3).expect("rays").enumerate() {
                let frame = frame.and_then(|frame| Ok(frame.to_dtype(dtype)?.to_dtype(DType::F32)?)).expect("a frame");
                let same = packed.narrow(2, index, 1).and_then(|x| x.to_dtype(DType::F32)).expect("a frame");
                assert_eq!(flat(&frame), flat(&same), "{dtype:?} {index}");
            }
        }
    }

    #[test]
    fn counts_and_sizes_that_do_not_fit_are_errors() {
        let camera: Camera = "pan=5".parse().expect("a camera");
        let trajectory = camera.trajectory(6, 8.0).expect("a trajectory");
        for factor in [0, 4, 6, 7] {
            let error = trajectory.packed(4, 4, factor, (DType::F32, &Device::Cpu)).expect_err("it does not fit");
            assert!(error.to_string().contains(&format!("6 camera poses do not fit latent frames of {factor}")));
        }
        assert!(trajectory.plucker(0, 4).is_err() && trajectory.packed_frames(4, 0, 5).is_err());
        assert!(trajectory.packed_frames(4, 4, 5).is_ok_and(|frames| frames.len() == 2));
        for (frames, fps) in [(0, 8.0), (5, 0.0), (5, f64::NAN), (5, f64::INFINITY)] {
            assert!(camera.trajectory(frames, fps).is_err(), "{frames} {fps}");
        }
    }
}
