//! Linear layers of every storage.

use crate::{DTYPES, agree};
use candle_core::{DType, Device, Tensor};
use kinora_kernels::{self as kernels, Epilogue, LinearWeight, reference};
use kinora_test_support::{random, relative_l2, values};

/// Rows, inputs, outputs: fewer and more than tiles, panels, blocks and parts of the inputs have.
const LINEARS: [[usize; 3]; 9] = [
    [1, 1, 1],
    [1, 17, 5],
    [6, 64, 96],
    [513, 130, 257],
    [1000, 48, 300],
    [1, 1100, 40],
    [7, 1030, 1],
    [31, 512, 544],
    [0, 8, 3],
];

/// Makes an epilogue of test tensors.
type Make = for<'a> fn(&'a [Tensor]) -> Epilogue<'a>;

#[test]
fn linear() {
    for [rows, inputs, outputs] in LINEARS {
        let (x, weight, bias) = (random((1, rows, inputs), 1), random((outputs, inputs), 2), random(outputs, 3));
        let (other, gate) = (random((1, rows, outputs), 4), random((1, 1, outputs), 5));
        let gates = random((1, rows, outputs), 6);
        let epilogues: [(&str, Make); 7] = [
            ("linear", |_| Epilogue::None),
            ("linear, gelu", |_| Epilogue::GeluTanh),
            ("linear, silu", |_| Epilogue::Silu),
            ("linear, product", |t| Epilogue::Product(&t[3])),
            ("linear, residual", |t| Epilogue::Residual(&t[3])),
            ("linear, gated", |t| Epilogue::GatedResidual { x: &t[3], gate: &t[4] }),
            ("linear, gated per token", |t| Epilogue::GatedResidual { x: &t[3], gate: &t[5] }),
        ];
        for (name, epilogue) in epilogues {
            agree(
                name,
                &[&x, &weight, &bias, &other, &gate, &gates],
                |t| kernels::linear(&t[0], &LinearWeight::new(&t[1])?, Some(&t[2]), epilogue(t)),
                |t| reference::linear(&t[0], &t[1], Some(&t[2]), epilogue(t)),
            );
            agree(
                &format!("{name}, own dtype"),
                &[&x, &weight, &bias, &other, &gate, &gates],
                |t| kernels::linear(&t[0], &LinearWeight::for_own_dtype(&t[1])?, Some(&t[2]), epilogue(t)),
                |t| reference::linear(&t[0], &t[1], Some(&t[2]), epilogue(t)),
            );
        }
        agree(
            "linear without bias",
            &[&x, &weight],
            |t| kernels::linear(&t[0], &LinearWeight::new(&t[1])?, None, Epilogue::None),
            |t| reference::linear(&t[0], &t[1], None, Epilogue::None),
        );
    }
}

/// Weights of 16 bits are widened exactly, so an f32 model computes the same bits as with f32 weights.
#[test]
fn linear_of_half_precision_weights() {
    let (x, weight) = (random((50, 700), 1), random((90, 700), 2));
    for dtype in [DType::BF16, DType::F16] {
        let half = weight.to_dtype(dtype).unwrap();
        let [found, expected] = [half.clone(), half.to_dtype(DType::F32).unwrap()].map(|weight| {
            values(&kernels::linear(&x, &LinearWeight::new(&weight).unwrap(), None, Epilogue::None).unwrap())
        });
        assert_eq!(found, expected, "{dtype:?}");
    }
}

/// Small whole numbers are bf16, and their sums exact: in every order, and whatever dtype the inputs come in.
#[test]
fn linear_of_whole_numbers_is_exact() {
    for [rows, inputs, outputs] in LINEARS {
        let whole = |shape: (usize, usize), seed| (random(shape, seed) * 3.0).unwrap().round().unwrap();
        let (x, weight) = (whole((rows, inputs), 1), whole((outputs, inputs), 2));
        let expected = values(&reference::linear(&x, &weight, None, Epilogue::None).unwrap());
        let packed = LinearWeight::for_own_dtype(&weight.to_dtype(DType::BF16).unwrap()).unwrap();
        let found = kernels::linear(&x, &packed, None, Epilogue::None).unwrap();
        assert_eq!(values(&found), expected, "[{rows}, {inputs}] by [{inputs}, {outputs}]");
    }
}

#[test]
fn linear_of_views() {
    let (x, weight) = (random((20, 6, 3), 1), random((30, 9), 2));
    let views = |t: &[Tensor]| {
        Ok::<_, candle_core::Error>((t[0].transpose(0, 1)?.narrow(1, 2, 15)?, t[1].t()?.narrow(0, 3, 3)?.t()?))
    };
    agree(
        "linear of views",
        &[&x, &weight],
        |t| views(t).and_then(|(x, weight)| kernels::linear(&x, &LinearWeight::new(&weight)?, None, Epilogue::None)),
        |t| views(t).and_then(|(x, weight)| reference::linear(&x, &weight, None, Epilogue::None)),
    );
}

/// Eight-bit products are sums of whole numbers: the same to the last bit, with outlying channels and without.
#[test]
fn linear_int8() {
    for [rows, inputs, outputs] in LINEARS {
        for channels in [vec![], vec![inputs / 2], vec![0, inputs / 3, inputs - 1]] {
            let factor: Vec<f32> = (0..inputs).map(|i| if channels.contains(&i) { 30.0 } else { 1.0 }).collect();
            let factor = Tensor::from_vec(factor, inputs, &Device::Cpu).unwrap();
            let x = random((1, rows, inputs), 1).broadcast_mul(&factor).unwrap();
            let (weight, bias, other) =
                (random((outputs, inputs), 2), random(outputs, 3), random((1, rows, outputs), 4));
            for (dtype, _) in DTYPES {
                let [x, weight, other] = [&x, &weight, &other].map(|x| x.to_dtype(dtype).unwrap());
                let packed = LinearWeight::int8(&weight).unwrap();
                let [x_wide, other_wide] = [&x, &other].map(|x| x.to_dtype(DType::F32).unwrap());
                for (epilogue, wide) in
                    [(Epilogue::None, Epilogue::None), (Epilogue::Residual(&other), Epilogue::Residual(&other_wide))]
                {
                    let found = kernels::linear(&x, &packed, Some(&bias), epilogue).unwrap();
                    let expected = reference::linear_int8(&x_wide, &weight, Some(&bias), wide).unwrap();
                    let expected = values(&expected.to_dtype(dtype).unwrap());
                    assert_eq!(values(&found), expected, "{rows}x{inputs}x{outputs} {dtype:?} {channels:?}");
                }
            }
        }
    }
}

/// Eight bits keep what they can: half a unit of 127 of the largest element, for weights and inputs, also when a few
/// channels are thirty times as large as the others.
#[test]
fn linear_int8_is_near_the_exact_product() {
    let (inputs, outputs) = (1024, 200);
    let (x, weight) = (random((100, inputs), 1), random((outputs, inputs), 2));
    let loud: Vec<f32> = (0..inputs).map(|i| if i % 205 == 3 { 30.0 } else { 1.0 }).collect();
    let loud = x.broadcast_mul(&Tensor::from_vec(loud, inputs, &Device::Cpu).unwrap()).unwrap();
    // Of uniform numbers, the largest is √3 times the root of the mean square.
    let bound = 2f64.sqrt() * 3f64.sqrt() / 127.0 / 12f64.sqrt() * 1.05;
    for x in [x, loud] {
        let found = kernels::linear(&x, &LinearWeight::int8(&weight).unwrap(), None, Epilogue::None).unwrap();
        let error = relative_l2(&found, &reference::linear(&x, &weight, None, Epilogue::None).unwrap());
        assert!(error <= bound, "relative L2 error {error:e}, expected {bound:e}");
    }
}

#[test]
fn linear_int8_of_zeros_and_of_nan() {
    let weight = LinearWeight::int8(&random((3, 8), 2)).unwrap();
    let row = |first: f32| [first, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let x = [row(0.0), row(f32::NAN), row(f32::INFINITY), row(1e-44)].concat();
    let x = Tensor::from_vec(x, (4, 8), &Device::Cpu).unwrap();
    let y = values(&kernels::linear(&x, &weight, None, Epilogue::None).unwrap());
    assert_eq!(y[..3], [0.0; 3]);
    assert!(y[3..9].iter().all(|y| y.is_nan()), "{y:?}");
    assert_eq!(y[9..], [0.0; 3]);
}

/// The placeholder of absent weights takes no memory, and computes.
#[test]
fn linear_of_a_placeholder() {
    let weight = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap().broadcast_as((40, 30)).unwrap();
    let y = kernels::linear(&random((5, 30), 1), &LinearWeight::new(&weight).unwrap(), None, Epilogue::None);
    assert_eq!(values(&y.unwrap()), vec![0.0; 200]);
}
