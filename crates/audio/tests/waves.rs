//! Mel spectrograms and resampling against torchaudio. `scripts/fixtures/audio.py` made the numbers.

use candle_core::{DType, Device, Tensor};
use kinora_audio::{MelSpectrogram, resample};
use kinora_test_support::{fixture, relative_l2, tensors};
use std::collections::BTreeMap;

const F32: f64 = 1e-5;

#[test]
fn mel_spectrograms_are_torchaudio_s() {
    let golden = golden();
    let mel = MelSpectrogram::new(16_000, 1024, 160, 64, &Device::Cpu).unwrap();
    let found = mel.forward(&golden["mel.wave"].unsqueeze(0).unwrap()).unwrap();
    assert_close(&found.squeeze(0).unwrap(), &golden["mel.mel"], "mel");
}

#[test]
fn resampled_waveforms_are_torchaudio_s() {
    let golden = golden();
    for rate in [8000, 24_000, 44_100, 48_000] {
        let found = resample(&golden[&format!("wave.{rate}")].unsqueeze(0).unwrap(), rate, 16_000).unwrap();
        assert_close(&found.squeeze(0).unwrap(), &golden[&format!("resampled.{rate}")], &rate.to_string());
    }
}

#[test]
fn odd_waveforms_are_errors_or_stay() {
    let wave = |samples: usize| Tensor::zeros((1, 2, samples), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(resample(&wave(7), 16_000, 16_000).unwrap().dims(), [1, 2, 7]);
    assert_eq!(resample(&wave(0), 8_000, 16_000).unwrap().dims(), [1, 2, 0]);
    assert_eq!(resample(&wave(1), 48_000, 16_000).unwrap().dims(), [1, 2, 1]);
    assert!(resample(&wave(7), 0, 16_000).unwrap_err().to_string().contains("sound at 0 samples a second"));
    let mel = MelSpectrogram::new(16_000, 64, 16, 8, &Device::Cpu).unwrap();
    assert_eq!(mel.forward(&wave(33)).unwrap().dims(), [1, 2, 3, 8]);
    let message = mel.forward(&wave(32)).unwrap_err().to_string();
    assert_eq!(message, "the shape of the waveform is [1, 2, 32], must be [B, C, more than 32 samples]");
}

fn golden() -> BTreeMap<String, Tensor> {
    tensors(&fixture("audio/waves.safetensors"))
}

fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    let error = relative_l2(found, expected);
    assert!(error <= F32, "{what}: relative L2 error {error:.2e}, may be {F32:.1e}");
}
