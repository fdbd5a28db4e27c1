//! Linear layers over weights in the forms in which files store them.

use crate::agree;
use candle_core::{DType, Device};
use kinora_formats::{Blocks, Format, Matrix, Scales};
use kinora_kernels::{self as kernels, Epilogue, LinearWeight, reference};
use kinora_test_support::stored::{dequantised, in_blocks, matrix, scaled};
use kinora_test_support::{random, relative_l2};

/// Rows, inputs, outputs: whole blocks of 256 and of 32 only, fewer and more than tiles and panels have.
const SHAPES: [[usize; 3]; 6] = [[1, 256, 41], [7, 512, 33], [30, 32, 40], [13, 288, 31], [600, 768, 65], [0, 256, 3]];

#[test]
fn blocks_are_multiplied_as_whole_numbers() {
    for blocks in Blocks::ALL {
        for [rows, inputs, outputs] in SHAPES.into_iter().filter(|[_, inputs, _]| inputs % blocks.values() == 0) {
            let matrix = in_blocks(blocks, [outputs, inputs]);
            let (x, bias) = (random((1, rows, inputs), 1), random(outputs, 2));
            let weight = LinearWeight::stored(matrix.clone(), &Device::Cpu, false).unwrap().unwrap();
            agree(
                &format!("{blocks:?}"),
                &[&x, &bias],
                |t| kernels::linear(&t[0], &weight, Some(&t[1]), Epilogue::GeluTanh),
                |t| Ok(reference::linear_blocks(&t[0], &matrix, Some(&t[1]), Epilogue::GeluTanh)?.unwrap()),
            );
            if rows > 1 {
                // Errors of inputs are evenly spread up to half a unit, of which the largest of 256 normal numbers, about three
                // times the usual one, is 127.
                let exact = reference::linear(&x, &dequantised(&matrix), None, Epilogue::None).unwrap();
                let found = kernels::linear(&x, &weight, None, Epilogue::None).unwrap();
                let error = relative_l2(&found, &exact);
                assert!(error < 1.6 * 3.0 / 127.0 / 12f64.sqrt(), "{blocks:?}: {error}");
            }
        }
    }
}

#[test]
fn stored_weights_are_multiplied_in_f32() {
    let check = |name: &str, matrix: Matrix| {
        let (outputs, inputs) = (matrix.rows(), matrix.columns());
        let (x, bias) = (random((1, 37, inputs), 1), random(outputs, 2));
        let (wide, weight) = (dequantised(&matrix), LinearWeight::stored(matrix, &Device::Cpu, true).unwrap().unwrap());
        agree(
            name,
            &[&x, &bias],
            |t| kernels::linear(&t[0], &weight, Some(&t[1]), Epilogue::None),
            |t| reference::linear(&t[0], &wide.to_dtype(t[0].dtype())?, Some(&t[1]), Epilogue::None),
        );
    };
    for blocks in Blocks::ALL {
        check(blocks.name(), in_blocks(blocks, [70, 1280]));
    }
    for (name, matrix) in scaled([45, 1088]) {
        check(&name, matrix);
    }
}

#[test]
fn half_precision_weights_stay_as_they_are() {
    let wide = random((40, 96), 5).to_dtype(DType::BF16).unwrap();
    let bits = wide.flatten_all().unwrap().to_vec1::<half::bf16>().unwrap();
    let bytes = bits.into_iter().flat_map(half::bf16::to_le_bytes).collect();
    let matrix = matrix(Format::Bf16, [40, 96], bytes, Scales::None, 1);
    let stored = LinearWeight::stored(matrix, &Device::Cpu, true).unwrap().unwrap();
    let x = random((1, 9, 96), 6);
    let [found, expected] = [stored, LinearWeight::new(&wide).unwrap()]
        .map(|weight| kernels::linear(&x, &weight, None, Epilogue::None).unwrap());
    assert!(relative_l2(&found, &expected) < 1e-6);
}
