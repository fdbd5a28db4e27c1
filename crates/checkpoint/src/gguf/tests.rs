//! The values of blocks, against gguf-py's (scripts/fixtures/formats.py).

use super::*;
use crate::TensorFile;
use kinora_formats::Format;

#[test]
fn blocks_have_the_bits_of_gguf_py() {
    let folder = kinora_test_support::fixture("formats");
    let path = folder.join("types.gguf");
    let data = Data::open(&path).unwrap();
    let gguf = read_gguf(&path, &data).unwrap();
    let expected = TensorFile::open(&folder.join("types.safetensors")).unwrap();
    let mut seen = 0;
    for info in expected.infos() {
        let entry = &gguf.entries[&info.name];
        assert_eq!((entry.format.to_string(), &entry.shape), (info.name.clone(), &info.shape));
        let bytes = data.get(entry.range.clone()).unwrap();
        let mut values = vec![0f32; entry.elements()];
        match entry.format {
            Format::Blocks(blocks) => blocks.dequantise(&bytes, &mut values),
            Format::F32 => read(&bytes, &mut values, f32::from_le_bytes),
            Format::F16 => read(&bytes, &mut values, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
            _ => read(&bytes, &mut values, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
        }
        let expected: Vec<f32> = expected.tensor(&info.name).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        // Zeros have no sign that matters.
        let bits = |values: &[f32]| values.iter().map(|value| (value + 0.0).to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(&expected), "{}", info.name);
        seen += 1;
    }
    assert_eq!(seen, 15);
}

fn read<const N: usize>(bytes: &[u8], to: &mut [f32], value: fn([u8; N]) -> f32) {
    for (to, bytes) in to.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *to = value(*bytes);
    }
}
