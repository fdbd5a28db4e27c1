//! Attention to chosen blocks of keys is dense attention with the others masked.

use crate::agree;
use candle_core::{Result, Tensor};
use kinora_kernels::{self as kernels, BLOCK, BlockMask, reference};
use kinora_test_support::{random, relative_l2, values};

/// Lists of every block of queries of every head: those blocks of keys that `keep` says.
fn mask([batch, queries, keys, heads]: [usize; 4], keep: impl Fn(usize, usize, usize) -> bool) -> Result<BlockMask> {
    let items = (0..batch * heads).flat_map(|item| (0..queries.div_ceil(BLOCK)).map(move |block| (item, block)));
    let list =
        |(item, block)| (0..keys.div_ceil(BLOCK) as u32).filter(|&key| keep(item, block, key as usize)).collect();
    BlockMask::new(batch * heads, [queries, keys], &items.map(list).collect::<Vec<_>>())
}

/// Sparse lists that differ between heads and blocks of queries, and do not all have the first block.
fn some(item: usize, block: usize, key: usize) -> bool {
    (3 * item + 5 * block + 7 * key).is_multiple_of(4) || key == (item + block) % 2
}

const SHAPES: [[usize; 5]; 7] = [
    [1, 1, 1, 1, 1],
    [1, 128, 128, 2, 32],
    [1, 129, 257, 2, 12],
    [2, 300, 600, 3, 64],
    [1, 700, 523, 1, 128],
    [1, 130, 1000, 2, 160],
    [1, 257, 2, 3, 8],
];

fn inputs([batch, queries, keys, heads, dim]: [usize; 5]) -> [Tensor; 3] {
    let keys = (batch, keys, heads, dim);
    [random((batch, queries, heads, dim), 1), random(keys, 2), random(keys, 3)]
}

#[test]
fn chosen_blocks() {
    for shape @ [batch, queries, keys, heads, dim] in SHAPES {
        let [q, k, v] = inputs(shape);
        let mask = mask([batch, queries, keys, heads], |item, block, key| some(item, block, key) || keys <= BLOCK);
        let (mask, scale) = (mask.unwrap(), 1.0 / (dim as f64).sqrt());
        agree(
            "attention to blocks",
            &[&q, &k, &v],
            |t| kernels::attention_blocks(&t[0], &t[1], &t[2], scale, &mask),
            |t| reference::attention_blocks(&t[0], &t[1], &t[2], scale, &mask),
        );
    }
}

/// The reference itself, against attention to the keys of one block alone.
#[test]
fn one_block_is_attention_to_its_keys() {
    let [q, k, v] = inputs([1, 200, 300, 2, 24]);
    for (block, len) in [(0, 128), (1, 128), (2, 44)] {
        let mask = mask([1, 200, 300, 2], |_, _, key| key == block).unwrap();
        let part = |x: &Tensor| x.narrow(1, block * BLOCK, len).unwrap();
        let expected = reference::attention(&q, &part(&k), &part(&v), 0.2, None).unwrap();
        for attend in [reference::attention_blocks, kernels::attention_blocks] {
            assert!(relative_l2(&attend(&q, &k, &v, 0.2, &mask).unwrap(), &expected) <= 1e-6, "block {block}");
        }
    }
}

/// With all blocks, the numbers are those of attention without a mask, to the last bit.
#[test]
fn all_blocks_are_dense_attention() {
    for shape @ [batch, queries, keys, heads, dim] in SHAPES {
        let [q, k, v] = inputs(shape);
        let mask = mask([batch, queries, keys, heads], |_, _, _| true).unwrap();
        for dtype in [candle_core::DType::F32, candle_core::DType::BF16, candle_core::DType::F16] {
            let [q, k, v] = [&q, &k, &v].map(|x| x.to_dtype(dtype).unwrap());
            let scale = 1.0 / (dim as f64).sqrt();
            let dense = kernels::attention(&q, &k, &v, scale, None).unwrap();
            assert_eq!(values(&kernels::attention_blocks(&q, &k, &v, scale, &mask).unwrap()), values(&dense));
            let dense = kernels::attention_int8(&q, &k, &v, scale, None).unwrap();
            assert_eq!(values(&kernels::attention_int8_blocks(&q, &k, &v, scale, &mask).unwrap()), values(&dense));
        }
    }
}

/// Attention of bytes to chosen blocks, against the same attention with a bias that takes out the others.
#[test]
fn chosen_blocks_of_bytes() {
    for shape @ [batch, queries, keys, heads, dim] in SHAPES {
        let [q, k, v] = inputs(shape);
        let keep = |item, block, key| some(item, block, key) || keys <= BLOCK;
        let mask = mask([batch, queries, keys, heads], keep).unwrap();
        let pairs = (0..batch * heads).flat_map(|item| (0..queries).map(move |query| (item, query)));
        let bias = pairs.flat_map(|(item, query)| {
            let open = move |key| keep(item, query / BLOCK, key / BLOCK);
            (0..keys).map(move |key| if open(key) { 0.0 } else { f32::NEG_INFINITY })
        });
        let bias = Tensor::from_iter(bias, q.device()).unwrap().reshape((batch, heads, queries, keys)).unwrap();
        let scale = 1.0 / (dim as f64).sqrt();
        let dense = kernels::attention_int8(&q, &k, &v, scale, Some(&bias)).unwrap();
        let [one, two] = [1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| kernels::attention_int8_blocks(&q, &k, &v, scale, &mask)).unwrap()
        });
        assert_eq!(values(&one), values(&two), "one and two threads differ");
        let error = relative_l2(&one, &dense);
        assert!(error <= 1e-6, "{shape:?}: relative L2 error {error:e}");
    }
}

#[test]
fn masks_that_do_not_fit_are_errors() {
    let lists = |lists: &[&[u32]]| lists.iter().map(|list| list.to_vec()).collect::<Vec<_>>();
    for wrong in
        [lists(&[&[0]]), lists(&[&[0], &[]]), lists(&[&[0], &[1, 0]]), lists(&[&[0], &[1, 1]]), lists(&[&[0], &[2]])]
    {
        assert!(BlockMask::new(2, [10, 200], &wrong).is_err(), "{wrong:?}");
    }
    let mask = BlockMask::new(2, [10, 200], &lists(&[&[0], &[0, 1]])).unwrap();
    assert!((mask.share() - 0.75).abs() < 1e-12);
    for [batch, queries, keys, heads] in [[1, 11, 200, 2], [1, 10, 201, 2], [2, 10, 200, 2]] {
        let [q, k, v] = inputs([batch, queries, keys, heads, 8]);
        assert!(kernels::attention_blocks(&q, &k, &v, 1.0, &mask).is_err());
        assert!(kernels::attention_int8_blocks(&q, &k, &v, 1.0, &mask).is_err());
    }
}
