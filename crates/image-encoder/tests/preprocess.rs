//! Preprocessing against transformers' `CLIPImageProcessor` with Pillow. `scripts/fixtures/clip_vision.py` made the numbers.

use candle_core::Device;
use kinora_image_encoder::{ClipPreprocess, Error};
use kinora_test_support::{bits, fixture, tensors_and_metadata};

const CASES: [&str; 6] = ["wide", "tall", "padded", "enclosed", "exact", "bytes"];

#[test]
fn pixels_have_the_bits_of_transformers() {
    let (cases, metadata) = tensors_and_metadata(&fixture("clip/preprocess.safetensors"));
    for case in CASES {
        let preprocess = ClipPreprocess::from_json(metadata[case].as_bytes()).unwrap();
        let picture = &cases[&format!("{case}.resized")];
        let (height, width, _) = picture.dims3().unwrap();
        let [w, h]: [usize; 2] = serde_json::from_str(&metadata[&format!("{case}.size")]).unwrap();
        assert_eq!(preprocess.resized(w, h), (width, height), "{case}");

        let rgb: Vec<u8> = picture.flatten_all().unwrap().to_vec1().unwrap();
        let pixels = preprocess.pixels(&rgb, width, height, &Device::Cpu).unwrap();
        let expected = &cases[&format!("{case}.pixels")];
        assert_eq!(pixels.dims(), expected.dims(), "{case}");
        assert!(bits(&pixels) == bits(expected), "{case}: pixels differ");
    }
}

#[test]
fn sizes_are_those_of_transformers() {
    let rows = std::fs::read(fixture("clip/sizes.json")).unwrap();
    let rows: Vec<[usize; 5]> = serde_json::from_slice(&rows).unwrap();
    assert!(rows.iter().any(|row| row[0] == 224) && rows.iter().any(|row| row[0] != 224));
    for [edge, width, height, new_width, new_height] in rows {
        for json in [format!(r#"{{"size": {{"shortest_edge": {edge}}}}}"#), format!(r#"{{"size": {edge}}}"#)] {
            let preprocess = ClipPreprocess::from_json(json.as_bytes()).unwrap();
            assert_eq!(preprocess.resized(width, height), (new_width, new_height), "{width}x{height} to {edge}");
        }
    }
}

#[test]
fn the_default_is_that_of_transformers() {
    let explicit = br#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true,
        "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "CLIPImageProcessor", "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 224}}"#;
    assert_eq!(ClipPreprocess::from_json(explicit).unwrap(), ClipPreprocess::default());
    assert_eq!(ClipPreprocess::from_json(br#"{"crop_size": 224, "size": null}"#).unwrap(), ClipPreprocess::default());
}

#[test]
fn impossible_configurations_are_refused() {
    let cases = [
        (r#"{"resample": 2}"#, "`resample` is 2"),
        (r#"{"size": 0}"#, "`size` is 0"),
        (r#"{"size": {"longest_edge": 224}}"#, "`size` is"),
        (r#"{"crop_size": {"height": 9}}"#, "`crop_size` is"),
        (r#"{"crop_size": 100000}"#, "`crop_size` is 100000"),
        (r#"{"image_std": [1, 0, 1]}"#, "`image_std` is"),
        (r#"{"image_mean": [1e300, 0, 1]}"#, "`image_mean` is"),
        (r#"{"size": "large"}"#, "cannot be read"),
        ("", "cannot be read"),
    ];
    for (json, expected) in cases {
        let message = ClipPreprocess::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{json}: {message}");
    }
    ClipPreprocess::from_json(br#"{"resample": 2, "do_resize": false}"#).unwrap();
}

#[test]
fn bytes_that_are_no_picture_are_refused() {
    let preprocess = ClipPreprocess::default();
    assert_eq!(preprocess.resized(0, 5), (0, 5));
    for (bytes, width, height) in [(11, 2, 2), (13, 2, 2), (0, 0, 0), (0, 0, 7), (0, usize::MAX, usize::MAX)] {
        let error = preprocess.pixels(&vec![0; bytes], width, height, &Device::Cpu).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }
}
