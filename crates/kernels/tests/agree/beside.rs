//! Linear layers with low-rank changes beside their weights.

use candle_core::{DType, Device, Result, Tensor};
use kinora_formats::{Blocks, Format, Matrix};
use kinora_kernels::{self as kernels, Epilogue, Layer, LinearWeight, Prologue, Side, reference};
use kinora_test_support::stored::{in_blocks, scaled};
use kinora_test_support::{random, relative_l2};

/// Rows, inputs, outputs: fewer and more than tiles, panels and blocks have.
const SHAPES: [[usize; 3]; 4] = [[1, 256, 5], [7, 256, 33], [0, 256, 3], [600, 512, 545]];
/// Ranks of the changes: none, one, and as many as a panel's inputs and more.
const RANKS: [&[usize]; 4] = [&[], &[1], &[32], &[5, 70]];

/// A name, and a weight for products with inputs of a dtype.
type Storage = (String, LinearWeight);

fn storages([outputs, inputs]: [usize; 2]) -> Vec<Storage> {
    let dense = random((outputs, inputs), 2);
    let stored = |matrix: Matrix, exact| LinearWeight::stored(matrix, &Device::Cpu, exact).unwrap().unwrap();
    let mut all = vec![
        ("f32".to_owned(), LinearWeight::new(&dense).unwrap()),
        ("bf16".to_owned(), LinearWeight::for_own_dtype(&dense.to_dtype(DType::BF16).unwrap()).unwrap()),
        ("int8".to_owned(), LinearWeight::int8(&dense).unwrap()),
    ];
    for exact in [false, true] {
        all.push((format!("Q4_K, exact {exact}"), stored(in_blocks(Blocks::Q4K, [outputs, inputs]), exact)));
    }
    let bytes = scaled([outputs, inputs]).into_iter().filter(|(_, matrix)| matrix.format() == Format::F8E4m3);
    all.extend(bytes.map(|(name, matrix)| (name, stored(matrix, false))));
    all
}

/// `x · downᵀ · upᵀ` in f64, rounded to f32.
fn made_of(x: &Tensor, down: &Tensor, up: &Tensor) -> Result<Tensor> {
    let [x, down, up] = [x, down, up].map(|x| x.to_dtype(DType::F64));
    x?.squeeze(0)?.matmul(&down?.t()?)?.matmul(&up?.t()?)?.unsqueeze(0)?.to_dtype(DType::F32)
}

/// What an epilogue makes of products, in f32.
type Apply<'a> = Box<dyn Fn(Tensor) -> Result<Tensor> + 'a>;

/// Every epilogue over the operands `other [1, M, N]` and `gate [1, 1, N]`, and what it makes of the products, in f32.
fn epilogues<'a>(other: &'a Tensor, gate: &'a Tensor) -> [(Epilogue<'a>, Apply<'a>); 6] {
    [
        (Epilogue::None, Box::new(Ok)),
        (Epilogue::GeluTanh, Box::new(|y| reference::gelu_tanh(&y))),
        (Epilogue::Silu, Box::new(|y| reference::silu(&y))),
        (Epilogue::Product(other), Box::new(move |y| y.mul(&other.to_dtype(DType::F32)?))),
        (Epilogue::Residual(other), Box::new(move |y| y.add(&other.to_dtype(DType::F32)?))),
        (
            Epilogue::GatedResidual { x: other, gate },
            Box::new(move |y| y.broadcast_mul(&gate.to_dtype(DType::F32)?)?.add(&other.to_dtype(DType::F32)?)),
        ),
    ]
}

#[test]
fn what_is_beside_a_layer_is_added() {
    for ([rows, inputs, outputs], dtype) in
        SHAPES.into_iter().flat_map(|shape| [(shape, DType::F32), (shape, DType::BF16)])
    {
        let random = |shape: &[usize], seed| random(shape, seed).to_dtype(dtype).unwrap();
        let (x, bias) = (random(&[1, rows, inputs], 1), random(&[outputs], 3));
        let (other, gate) = (random(&[1, rows, outputs], 4), random(&[1, 1, outputs], 5));
        for ((name, weight), ranks) in
            storages([outputs, inputs]).iter().flat_map(|each| RANKS.map(|ranks| (each, ranks)))
        {
            let mut sides: Vec<Side> = Vec::new();
            let alone = kernels::linear(&x, weight, Some(&bias), Epilogue::None).unwrap();
            let mut expected = alone.to_dtype(DType::F32).unwrap();
            for (seed, &rank) in (10..).step_by(2).zip(ranks) {
                let (down, up) = (random(&[rank, inputs], seed), random(&[outputs, rank], seed + 1));
                expected = (expected + made_of(&x, &down, &up).unwrap()).unwrap();
                sides.push([down, up].map(|side| LinearWeight::new(&side).unwrap()));
            }
            let layer = Layer { weight, bias: Some(&bias), sides: &sides };
            for (epilogue, apply) in epilogues(&other, &gate) {
                let found = kernels::linear_after(&x, Prologue::None, layer, epilogue).unwrap();
                assert_eq!((found.dims(), found.dtype()), (&[1, rows, outputs][..], dtype));
                if rows == 0 {
                    continue;
                }
                let error = relative_l2(&found, &apply(expected.clone()).unwrap());
                // Of f32, sums in another order of two products, one after the other; of bf16, roundings of the products alone, of
                // the sides' rows, and of the result.
                let most = if dtype == DType::F32 { 2e-6 } else { 3.0 / 256.0 };
                assert!(error < most, "{name}, {dtype:?}, ranks {ranks:?}: {error}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_a_layer_is_refused() {
    let weight = LinearWeight::new(&random((4, 6), 1)).unwrap();
    for [down, up] in [[(2, 5), (4, 2)], [(2, 6), (3, 2)], [(2, 6), (4, 3)]] {
        let sides = [[down, up].map(|shape| LinearWeight::new(&random(shape, 2)).unwrap())];
        let layer = Layer { weight: &weight, bias: None, sides: &sides };
        let error = kernels::linear_after(&random((1, 3, 6), 3), Prologue::None, layer, Epilogue::None).unwrap_err();
        assert!(error.to_string().contains("do not fit"), "{error}");
    }
}
