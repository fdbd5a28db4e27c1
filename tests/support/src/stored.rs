//! Matrices in the forms in which files store them.

use candle_core::{Device, Tensor};
use kinora_formats::{BlockScales, Blocks, Format, Matrix, Parts, Scales};

/// Bytes of no order, the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A matrix whose rows are not padded.
pub fn matrix(format: Format, [rows, columns]: [usize; 2], bytes: Vec<u8>, scales: Scales, rotation: usize) -> Matrix {
    Matrix::new(Parts { format, rows, columns, stride: columns, bytes, scales, rotation }).expect("parts that fit")
}

/// A matrix of such blocks with any levels and scales around 0.01.
pub fn in_blocks(blocks: Blocks, [rows, columns]: [usize; 2]) -> Matrix {
    let mut bytes = noise(rows * columns / blocks.values() * blocks.bytes(), columns as u64);
    for (i, block) in bytes.chunks_exact_mut(blocks.bytes()).enumerate() {
        blocks.set_scales(block, 0.01 + 0.001 * (i % 7) as f32);
    }
    matrix(Format::Blocks(blocks), [rows, columns], bytes, Scales::None, 1)
}

/// Eight-bit numbers, none of them NaN or infinite in any format.
pub fn eight_bits(format: Format, shape: [usize; 2], scales: Scales, rotation: usize) -> Matrix {
    let bytes = noise(shape[0] * shape[1], 3).into_iter().map(|byte| byte & 0xbb).collect();
    matrix(format, shape, bytes, scales, rotation)
}

/// A scale for each of so many rows.
pub fn per_row(rows: usize) -> Scales {
    Scales::Rows((0..rows).map(|row| 0.01 + 0.003 * row as f32).collect())
}

/// Matrices of eight and four bits with every kind of scales, and rotated; `columns` is a multiple of 64.
pub fn scaled(shape: [usize; 2]) -> Vec<(String, Matrix)> {
    let [rows, columns] = shape;
    let mut all = Vec::new();
    for format in [Format::F8E4m3, Format::F8E5m2, Format::I8] {
        let values = (0..rows * columns / 64).map(|i| 0.01 * (1 + i % 5) as f32).collect();
        let of_blocks = Scales::Blocks { size: 64, values: BlockScales::F32(values) };
        for (name, scales, rotation) in [
            ("without scales", Scales::None, 1),
            ("with one scale", Scales::Whole(0.25), 1),
            ("with scales of rows", per_row(rows), 1),
            ("with scales of 64", of_blocks, 1),
            ("rotated", per_row(rows), 64),
        ] {
            all.push((format!("{format} {name}"), eight_bits(format, shape, scales, rotation)));
        }
    }
    let values = noise(rows * columns / 16, 5).into_iter().map(|byte| byte & 0x3b).collect();
    let scales = Scales::Blocks { size: 16, values: BlockScales::E4m3(values, 0.5) };
    all.push(("nvfp4".to_string(), matrix(Format::F4, shape, noise(rows * columns / 2, 4), scales, 1)));
    let values = noise(rows * columns / 32, 6).into_iter().map(|byte| 120 + byte % 16).collect();
    let scales = Scales::Blocks { size: 32, values: BlockScales::E8m0(values) };
    all.push(("mxfp8".to_string(), eight_bits(Format::F8E4m3, shape, scales, 1)));
    all
}

/// The values, in f32 on the CPU.
pub fn dequantised(matrix: &Matrix) -> Tensor {
    let mut values = vec![0f32; matrix.rows() * matrix.columns()];
    for (row, out) in values.chunks_exact_mut(matrix.columns()).enumerate() {
        matrix.dequantise(row, 0, out);
    }
    Tensor::from_vec(values, (matrix.rows(), matrix.columns()), &Device::Cpu).expect("as many values")
}
