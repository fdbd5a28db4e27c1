//! Linear layers over weights in the forms in which files store them.

use crate::linear::{EPILOGUES, linear_operands, quantised_rows};
use crate::{DTYPES, agree, with_gpu};
use candle_core::{DType, Device, Tensor};
use kinora_formats::{Blocks, Format, Matrix, Scales};
use kinora_kernels::{self as kernels, Epilogue, LinearWeight, reference};
use kinora_test_support::stored::{dequantised, eight_bits, in_blocks, per_row, scaled};
use kinora_test_support::values;

fn stored(matrix: &Matrix, gpu: &Device, exact: bool) -> LinearWeight {
    LinearWeight::stored(matrix.clone(), gpu, exact).unwrap().expect("a kernel")
}

/// Every form in which a matrix can be stored, of sizes that are not those of tiles.
fn forms() -> Vec<(String, Matrix)> {
    let blocks = Blocks::ALL.map(|blocks| (blocks.name().to_string(), in_blocks(blocks, [40, 768])));
    blocks.into_iter().chain(scaled([40, 832])).collect()
}

/// A product with the unit matrix has one term that is not 0: it is the value itself.
#[test]
fn values_have_the_bits_of_the_cpu() {
    with_gpu(|gpu| {
        for (name, matrix) in forms() {
            let weight = stored(&matrix, gpu, true);
            for (dtype, _) in DTYPES {
                let unit = Tensor::eye(matrix.columns(), dtype, &Device::Cpu).unwrap().to_device(gpu).unwrap();
                let found = kernels::linear(&unit, &weight, None, Epilogue::None).unwrap();
                let found = found.to_device(&Device::Cpu).unwrap().t().unwrap();
                let expected = dequantised(&matrix).to_dtype(dtype).unwrap();
                // 0 and -0 are equal: a sum of both is 0.
                assert!(values(&found) == values(&expected), "{name} {dtype:?}");
            }
        }
    });
}

/// Outputs of two panels and a part of a third in f32, of one and a part of a second in 16 bits.
#[test]
fn panels_make_one_result() {
    with_gpu(|gpu| {
        let size @ [_, inputs, outputs] = [3, 5120, 2056];
        let of_bytes = eight_bits(Format::F8E5m2, [outputs, inputs], Scales::Whole(0.25), 1);
        for matrix in [in_blocks(Blocks::Q4K, [outputs, inputs]), of_bytes] {
            let (weight, wide) = (stored(&matrix, gpu, false), dequantised(&matrix));
            let operands = linear_operands(size);
            let operands: Vec<&Tensor> = operands.iter().collect();
            for (name, epilogue) in EPILOGUES {
                for bias in [true, false] {
                    agree(
                        gpu,
                        &format!("{name}, {}, bias: {bias}", matrix.format()),
                        &DTYPES,
                        &operands,
                        |t| kernels::linear(&t[0], &weight, bias.then_some(&t[2]), epilogue(t)),
                        |t| reference::linear(&t[0], &wide, bias.then_some(&t[2]), epilogue(t)),
                    );
                }
            }
        }
    });
}

/// Numbers of eight bits with one scale for all, or per output, are multiplied as they are: the only other error is that of
/// quantising the inputs.
#[test]
fn eight_bits_are_multiplied_as_such_unless_exactly() {
    with_gpu(|gpu| {
        let size @ [_, inputs, outputs] = [40, 1536, 256];
        for (format, whole, form) in [(Format::F8E4m3, false, "E4m3"), (Format::I8, true, "Int8")] {
            for scales in [Scales::None, Scales::Whole(0.25), per_row(outputs)] {
                let matrix = eight_bits(format, [outputs, inputs], scales, 1);
                let (weight, wide) = (stored(&matrix, gpu, false), dequantised(&matrix));
                assert_eq!(weight.form(), form);
                assert_ne!(stored(&matrix, gpu, true).form(), form);
                let operands = linear_operands(size);
                let operands: Vec<&Tensor> = operands.iter().collect();
                for (name, epilogue) in EPILOGUES {
                    agree(
                        gpu,
                        &format!("{name}, {form} as stored"),
                        &[(DType::BF16, 1e-2), (DType::F16, 1e-2)],
                        &operands,
                        |t| kernels::linear(&t[0], &weight, Some(&t[2]), epilogue(t)),
                        |t| reference::linear(&quantised_rows(&t[0], whole)?, &wide, Some(&t[2]), epilogue(t)),
                    );
                }
            }
        }
        // Products of eight bits take multiples of 16, and know no other scales and no rotation.
        let others =
            scaled([32, 64]).into_iter().filter(|(name, _)| name.contains("of 64") || name.contains("rotated"));
        let odd = [("odd".to_string(), eight_bits(Format::I8, [24, 64], Scales::None, 1))];
        for (name, matrix) in odd.into_iter().chain(others) {
            let form = stored(&matrix, gpu, false).form();
            assert!(form != "E4m3" && form != "Int8", "{name}: {form}");
        }
    });
}

#[test]
fn sizes_without_a_kernel_are_left_to_dense_weights() {
    with_gpu(|gpu| {
        for shape in [[36, 64], [40, 36]] {
            let matrix = eight_bits(Format::F8E4m3, shape, Scales::None, 1);
            assert!(LinearWeight::stored(matrix, gpu, true).unwrap().is_none(), "{shape:?}");
        }
    });
}
