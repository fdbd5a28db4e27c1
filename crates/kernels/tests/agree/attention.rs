//! Attention over odd shapes, biases and views.

use crate::agree;
use candle_core::{Device, Tensor};
use kinora_kernels::{self as kernels, reference};
use kinora_test_support::{random, relative_l2};

#[test]
fn attention() {
    for [batch, queries, keys, heads, dim] in [
        [1, 1, 1, 1, 1],
        [2, 5, 7, 3, 8],
        [1, 130, 300, 2, 12],
        [1, 257, 513, 1, 64],
        [3, 16, 1, 2, 6],
        [1, 33, 100, 4, 128],
        [2, 127, 129, 3, 32],
        [1, 260, 31, 1, 160],
        [2, 3, 40, 2, 384],
    ] {
        let q = random((batch, queries, heads, dim), 1);
        let (k, v) = (random((batch, keys, heads, dim), 2), random((batch, keys, heads, dim), 3));
        let scale = 1.0 / (dim as f64).sqrt();
        agree(
            "attention",
            &[&q, &k, &v],
            |t| kernels::attention(&t[0], &t[1], &t[2], scale, None),
            |t| reference::attention(&t[0], &t[1], &t[2], scale, None),
        );
        for bias in [(1, heads, queries, keys), (batch, heads, queries, keys), (batch, 1, 1, keys), (1, heads, 1, keys)]
        {
            let bias = random(bias, 4);
            agree(
                "attention with bias",
                &[&q, &k, &v, &bias],
                |t| kernels::attention(&t[0], &t[1], &t[2], scale, Some(&t[3])),
                |t| reference::attention(&t[0], &t[1], &t[2], scale, Some(&t[3])),
            );
        }
    }
}

#[test]
fn attention_by_distance() {
    for [batch, queries, keys, heads, dim] in [[1, 1, 1, 1, 4], [2, 7, 5, 3, 8], [1, 130, 300, 2, 16]] {
        let q = random((batch, queries, heads, dim), 1);
        let (k, v) = (random((batch, keys, heads, dim), 2), random((batch, keys, heads, dim), 3));
        let relative = random((heads, queries + keys - 1), 4);
        agree(
            "attention by distance",
            &[&q, &k, &v, &relative],
            |t| kernels::attention_relative(&t[0], &t[1], &t[2], 0.3, &t[3], None),
            |t| reference::attention_relative(&t[0], &t[1], &t[2], 0.3, &t[3], None),
        );
        agree(
            "attention by distance with bias",
            &[&q, &k, &v, &relative, &random((batch, 1, 1, keys), 5)],
            |t| kernels::attention_relative(&t[0], &t[1], &t[2], 0.3, &t[3], Some(&t[4])),
            |t| reference::attention_relative(&t[0], &t[1], &t[2], 0.3, &t[3], Some(&t[4])),
        );
    }
}

#[test]
fn attention_of_nothing_is_nothing() {
    for (q, keys) in [((1, 0, 2, 4), 3), ((0, 3, 2, 4), 3), ((1, 3, 0, 4), 3), ((1, 3, 2, 0), 5)] {
        let (batch, _, heads, dim) = q;
        let (q, k) = (random(q, 1), random((batch, keys, heads, dim), 2));
        assert_eq!(kernels::attention(&q, &k, &k, 1.0, None).unwrap().dims(), q.dims());
    }
}

/// Queries, keys and values as parts of one tensor, heads before tokens, and a head whose elements are no neighbours.
#[test]
fn attention_of_views() {
    for [axis, first, second] in [[3, 1, 2], [0, 2, 1], [0, 3, 1]] {
        let x = random((2, 70, 5, 24), 1);
        let part = |t: &Tensor, i: usize| t.narrow(3, 8 * i, 8)?.narrow(axis, 0, 2)?.transpose(first, second);
        agree(
            "attention of views",
            &[&x],
            |t| kernels::attention(&part(&t[0], 0)?, &part(&t[0], 1)?, &part(&t[0], 2)?, 0.4, None),
            |t| reference::attention(&part(&t[0], 0)?, &part(&t[0], 1)?, &part(&t[0], 2)?, 0.4, None),
        );
    }
}

/// Keys that a bias of minus infinity, or of the least f32, takes out; also whole blocks of them.
#[test]
fn attention_with_masked_keys() {
    let (queries, keys, heads, dim) = (20, 600, 2, 8);
    let q = random((1, queries, heads, dim), 1);
    let (k, v) = (random((1, keys, heads, dim), 2), random((1, keys, heads, dim), 3));
    for masked in [f32::NEG_INFINITY, f32::MIN] {
        for open in [0..3, 290..300, 599..600] {
            let row = (0..keys).map(|key| if open.contains(&key) { 0.0 } else { masked });
            let bias = Tensor::from_iter(row, &Device::Cpu).unwrap();
            let bias = bias.broadcast_as((1, heads, queries, keys)).unwrap();
            let found = kernels::attention(&q, &k, &v, 0.3, Some(&bias)).unwrap();
            let (k, v) = (k.narrow(1, open.start, open.len()).unwrap(), v.narrow(1, open.start, open.len()).unwrap());
            let expected = reference::attention(&q, &k, &v, 0.3, None).unwrap();
            assert!(relative_l2(&found, &expected) <= 1e-6, "{masked} but {open:?}");
        }
    }
}
