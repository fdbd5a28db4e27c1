//! Attention to chosen blocks of keys, and their choice.

use crate::{DTYPES, agree, with_gpu};
use candle_core::DType;
use kinora_kernels::{self as kernels, BLOCK, BlockMask, Choice, reference};
use kinora_test_support::random;

/// Items, queries, keys, heads, width.
const SIZES: [[usize; 5]; 6] = [
    [1, 1, 1, 1, 32],
    [2, 70, 129, 3, 32],
    [1, 300, 520, 2, 64],
    [2, 200, 300, 2, 128],
    [1, 129, 1000, 3, 80],
    [1, 140, 250, 1, 48],
];

#[test]
fn attention_to_blocks() {
    with_gpu(|gpu| {
        for [b, l, s, n, d] in SIZES {
            let (q, k, v) = (random((b, l, n, d), 1), random((b, s, n, d), 2), random((b, s, n, d), 3));
            let scale = 3.0 * (d as f64).sqrt().recip();
            let (blocks, last) = (l.div_ceil(BLOCK), s.div_ceil(BLOCK) as u32 - 1);
            // One block each, all, the short one alone, and lists that differ.
            let lists: [fn(usize, u32) -> Vec<u32>; 4] = [
                |at, last| vec![at as u32 % (last + 1)],
                |_, last| (0..=last).collect(),
                |_, last| vec![last],
                |at, last| {
                    (0..=last)
                        .filter(|key| (at as u32 + key).is_multiple_of(3) || *key == at as u32 % (last + 1))
                        .collect()
                },
            ];
            for list in lists {
                let lists: Vec<_> = (0..b * n * blocks).map(|at| list(at, last)).collect();
                let mask = BlockMask::new(b * n, [l, s], &lists).unwrap();
                agree(
                    gpu,
                    &format!("attention to {:.0} % of {s} keys, width {d}", 100.0 * mask.share()),
                    &DTYPES,
                    &[&q, &k, &v],
                    |t| kernels::attention_blocks(&t[0], &t[1], &t[2], scale, &mask),
                    |t| reference::attention_blocks(&t[0], &t[1], &t[2], scale, &mask),
                );
            }
        }
    });
}

/// Means are summed in another order, which moves no score by so much that blocks would change places.
#[test]
fn choice_of_blocks() {
    with_gpu(|gpu| {
        let shape = (2, 9 * BLOCK + 40, 2, 64);
        let choice = Choice { mass: 0.8, keep: 0.5, always: [1, 1] };
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let [q, k] = [1, 2].map(|seed| random(shape, seed).to_dtype(dtype).unwrap());
            let expected = kernels::choose_blocks(&q, &k, 4.0, &choice).unwrap();
            let [there_q, there_k] = [&q, &k].map(|x| x.to_device(gpu).unwrap());
            let found = kernels::choose_blocks(&there_q, &there_k, 4.0, &choice).unwrap();
            assert_eq!(found, expected, "{dtype:?}");
            assert!(found.share() <= 0.5);
        }
    });
}
