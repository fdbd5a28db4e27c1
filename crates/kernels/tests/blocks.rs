//! The choice of blocks of keys, by means of queries and keys.

use candle_core::{DType, Device, Tensor};
use kinora_kernels::{BLOCK, BlockMask, Choice, choose_blocks};
use kinora_test_support::random;

const BLOCKS: usize = 8;

/// Queries and keys of one head that are the same within a block; the score of a query for a key is `score(block, block)`.
fn heads(score: impl Fn(usize, usize) -> f32, last: usize) -> [Tensor; 2] {
    let tokens = (BLOCKS - 1) * BLOCK + last;
    // The keys are unit vectors, and a query is a row of scores.
    let q = (0..tokens).flat_map(|query| (0..BLOCKS).map(|key| score(query / BLOCK, key)).collect::<Vec<_>>());
    let k = (0..tokens).flat_map(|key| (0..BLOCKS).map(move |place| if place == key / BLOCK { 1.0 } else { 0.0 }));
    let tensor = |values: Vec<f32>| Tensor::from_vec(values, (1, tokens, 1, BLOCKS), &Device::Cpu).unwrap();
    [tensor(q.collect()), tensor(k.collect())]
}

fn lists(mask: &BlockMask) -> Vec<Vec<u32>> {
    (0..BLOCKS).map(|block| mask.list(0, block).to_vec()).collect()
}

const ALL: Choice = Choice { mass: 1.1, keep: 1.0, always: [0, 0] };

#[test]
fn the_fewest_blocks_that_hold_the_mass() {
    // Every block of queries prefers the block after the next by far, then the one after that.
    let ahead = |query: usize, key: usize| (key + BLOCKS - query) % BLOCKS;
    let score = |query, key| match ahead(query, key) {
        2 => 10f32.ln() + 3f32.ln(),
        3 => 10f32.ln(),
        _ => 0.0,
    };
    let [q, k] = heads(score, BLOCK);
    // Shares are 30, 10 and 6 times 1 of 46; the block's own place is always kept, with a share of 1.
    for (mass, kept) in [(0.0, 0), (0.66, 1), (0.68, 2), (0.88, 2), (0.9, 3)] {
        let mask = choose_blocks(&q, &k, 1.0, &Choice { mass, ..ALL }).unwrap();
        for (query, list) in lists(&mask).into_iter().enumerate() {
            assert_eq!(list.len(), 1 + kept, "mass {mass}");
            let has = |step: usize| list.contains(&(((query + step) % BLOCKS) as u32));
            assert!(has(0) && (kept < 1 || has(2)) && (kept < 2 || has(3)), "mass {mass}: {list:?}");
        }
    }
}

#[test]
fn no_more_than_asked_for_but_what_is_always_kept() {
    let [q, k] = heads(|query, key| if key == (query + 3) % BLOCKS { 1.0 } else { 0.0 }, 5);
    for keep in [0.0, 0.12, 0.25, 0.49, 0.5, 1.0] {
        let mask = choose_blocks(&q, &k, 1.0, &Choice { keep, ..ALL }).unwrap();
        let most = ((BLOCKS as f64 * keep) as usize).max(1);
        assert!(lists(&mask).iter().enumerate().all(|(block, list)| list.contains(&(block as u32))));
        assert!(lists(&mask).iter().all(|list| list.len() == most), "{keep}: {mask:?}");
    }
    let always = Choice { keep: 0.3, mass: 0.0, always: [2, 1] };
    let mask = choose_blocks(&q, &k, 1.0, &always).unwrap();
    assert_eq!(mask.list(0, 4), [0, 1, 4, 7]);
    assert_eq!(mask.list(0, 7), [0, 1, 7]);
}

/// A last block of few keys counts as few.
#[test]
fn a_short_block_has_a_small_share() {
    let [q, k] = heads(|_, key| if key == BLOCKS - 1 { 1.0 } else { 0.0 }, 1);
    let mask = choose_blocks(&q, &k, 1.0, &Choice { keep: 0.25, ..ALL }).unwrap();
    assert_eq!(mask.list(0, 3), [0, 3], "e keys are fewer than {BLOCK}");
    let mask = choose_blocks(&q, &k, 6.0, &Choice { keep: 0.25, ..ALL }).unwrap();
    assert_eq!(mask.list(0, 3), [3, 7], "e⁶ times as much each");
}

#[test]
fn the_same_choice_for_any_number_of_threads() {
    let shape = (2, 7 * BLOCK + 9, 3, 40);
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let [q, k] = [1, 2].map(|seed| random(shape, seed).to_dtype(dtype).unwrap());
        let choice = Choice { mass: 0.6, keep: 0.6, always: [1, 0] };
        let [one, two] = [1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| choose_blocks(&q, &k, 3.0, &choice)).unwrap()
        });
        assert_eq!(one, two);
        assert!(one.share() < 0.6);
    }
}

#[test]
fn whether_anything_is_left_out() {
    let leaves_out = |keep, always, blocks: usize| Choice { mass: 0.9, keep, always }.leaves_out(blocks * BLOCK - 3);
    assert!(leaves_out(0.3, [1, 1], 4));
    assert!(!leaves_out(0.3, [1, 1], 2));
    assert!(!leaves_out(0.3, [2, 2], 4));
    assert!(leaves_out(0.3, [1, 1], 3), "the middle one is not needed at the ends");
    assert!(leaves_out(1.0, [0, 0], 3), "the mass may be reached earlier");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let random = |tokens, dim| random((1, tokens, 2, dim), 1);
    for (q, k) in [(random(5, 8), random(6, 8)), (random(5, 8), random(5, 4)), (random(0, 8), random(0, 8))] {
        assert!(choose_blocks(&q, &k, 1.0, &ALL).is_err());
    }
    let half = random(5, 8).to_dtype(DType::F16).unwrap();
    assert!(choose_blocks(&random(5, 8), &half, 1.0, &ALL).is_err());
}
