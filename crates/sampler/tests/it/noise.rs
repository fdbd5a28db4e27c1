//! Noise against `torch.rand` and `torch.randn`.

use candle_core::Device;
use kinora_sampler::NoiseSource;

use crate::support::{Fixture, fixture, values};

const SEEDS: [u64; 4] = [0, 42, (1 << 32) + 7, (1 << 63) + 12345];

/// torch's own code paths (scalar, AVX2) differ by 1.4e-6.
const NORMAL_TOLERANCE: f32 = 2e-6;

fn expected(fixture: &Fixture, seed: u64, name: &str) -> Vec<f32> {
    values(&fixture[&format!("{seed}.{name}")])
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= NORMAL_TOLERANCE, "off by {worst}");
}

#[test]
fn uniforms_are_those_of_torch_bit_for_bit() {
    let fixture = fixture("noise.safetensors");
    for seed in SEEDS {
        assert_eq!(NoiseSource::new(seed).uniform(33), expected(&fixture, seed, "uniform"), "seed {seed}");
    }
}

#[test]
fn normals_are_those_of_torch_at_lengths_around_the_block() {
    let fixture = fixture("noise.safetensors");
    for seed in SEEDS {
        for n in [1, 8, 15, 16, 17, 33] {
            assert_close(&NoiseSource::new(seed).randn(n), &expected(&fixture, seed, &format!("randn{n}")));
        }
    }
}

#[test]
fn a_wan_latent_starts_as_in_torch() {
    let fixture = fixture("noise.safetensors");
    for seed in [42, (1 << 32) + 7] {
        let noise = NoiseSource::new(seed).randn_tensor((1, 16, 5, 8, 10), &Device::Cpu).unwrap();
        assert_eq!(noise.dims(), [1, 16, 5, 8, 10]);
        assert_close(&values(&noise), &expected(&fixture, seed, "latent"));
    }
}

#[test]
fn the_stream_goes_on_over_calls_like_one_generator() {
    let fixture = fixture("noise.safetensors");
    for seed in SEEDS {
        let mut source = NoiseSource::new(seed);
        let mut stream = source.randn(5);
        stream.extend(source.randn(40));
        stream.extend(source.randn(4));
        stream.extend(source.uniform(6));
        stream.extend(source.randn(1000));
        assert_close(&stream, &expected(&fixture, seed, "stream"));
    }
}

#[test]
fn skipping_is_drawing() {
    for len in [0, 3, 15, 16, 17, 32, 1000] {
        let (mut drawn, mut skipped) = (NoiseSource::new(9), NoiseSource::new(9));
        drawn.randn(len);
        skipped.skip_randn(len);
        assert_eq!(drawn.randn(7), skipped.randn(7), "after {len}");
        assert_eq!(drawn.randn(21), skipped.randn(21), "after {len}");
    }
}

/// The tolerance above would let a platform's own logarithm through; the same seed must give the same clip everywhere.
#[test]
fn normals_have_the_same_bits_on_every_platform() {
    let mut source = NoiseSource::new(2024);
    let normals = [source.randn(100_003), source.randn(15)].concat();
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = normals.iter().flat_map(|x| x.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, fnv);
    assert_eq!(hash, 0x826a_4dca_8405_4c35, "{hash:#018x}");
}
