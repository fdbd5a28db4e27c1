//! Files that Pillow wrote, and tensors of what it makes of them (scripts/fixtures/pictures.py).

#![allow(dead_code, reason = "each test file uses its own part of this")]

use kinora_media::Picture;
use safetensors::{Dtype, SafeTensors};
use std::path::PathBuf;

/// A file of `tests/fixtures/media`.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/media").join(name)
}

/// A safetensors file of `tests/fixtures/media`.
pub struct Tensors(Vec<u8>);

impl Tensors {
    pub fn open(name: &str) -> Self {
        Self(std::fs::read(fixture(name)).unwrap())
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            SafeTensors::deserialize(&self.0).unwrap().names().into_iter().map(Into::into).collect();
        names.sort();
        names
    }

    /// u8 `[H, W, 3]` or `[F, H, W, 3]`, as pictures.
    pub fn pictures(&self, name: &str) -> Vec<Picture> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::U8);
        let &[.., height, width, 3] = tensor.shape() else { panic!("{name}: {:?}", tensor.shape()) };
        let pictures = tensor.data().chunks_exact(3 * width * height);
        pictures.map(|rgb| Picture::new(width, height, rgb.to_vec()).unwrap()).collect()
    }

    pub fn picture(&self, name: &str) -> Picture {
        self.pictures(name).remove(0)
    }

    /// f32 `[H, W]`: width, height, values.
    pub fn plane(&self, name: &str) -> (usize, usize, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        let (&[height, width], Dtype::F32) = (tensor.shape(), tensor.dtype()) else { panic!("{name}") };
        let values = tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        (width, height, values)
    }
}

/// The largest difference of two pictures of one size, in codes.
pub fn largest_difference(a: &Picture, b: &Picture) -> u8 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}
