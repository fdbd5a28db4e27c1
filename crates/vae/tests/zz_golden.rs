use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_test_support::{relative_l2, tensors};
use kinora_vae::ltx::*;
use kinora_vae::{LatentFormat, Parts, VideoVae};
use std::path::Path;

#[test]
fn golden() {
    for case in ["ltx20_t2av", "ltx23_t2av", "ltx23_i2av", "ltx23_two_stages", "ltx25_t2av"] {
        let folder = Path::new("/tmp/ltx_golden").join(case);
        let config = Config::from_json(&std::fs::read_to_string(folder.join("vae/config.json")).unwrap()).unwrap();
        let map = canonical_from_diffusers(&config);
        let weights = Weights::open(
            &[folder.join("vae/diffusion_pytorch_model.safetensors")], &[&map], &Device::Cpu, DType::F32).unwrap();
        let vae = LtxVae::new(&config, &weights, Parts::Both).unwrap();
        let golden = tensors(&folder.join("golden.safetensors"));
        let z = &golden["vae_decode0.in"];
        let format: &LatentFormat = vae.latent_format();
        let video = vae.decode(&format.normalise(z).unwrap()).unwrap();
        let video = ((video * 0.5).unwrap() + 0.5).unwrap().permute((0, 2, 1, 3, 4)).unwrap();
        println!("{case}: {:?} {:.2e}", video.dims(), relative_l2(&video, &golden["video"]));
        for key in golden.keys().filter(|k| k.contains("upsampled") || k.contains("stage1") || k.contains("noise")) {
            println!("   {key} {:?}", golden[key].dims());
        }
        for (up, input, output) in [("latent_upsampler", "stage1.latents", "upsampled"), ("temporal_upsampler", "upsampled_in_time.in", "upsampled_in_time")] {
            let dir = folder.join(up);
            if !dir.exists() { continue }
            let config = UpsamplerConfig::from_json(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
            let weights = Weights::open(&[dir.join("diffusion_pytorch_model.safetensors")], &[&upsampler_names()], &Device::Cpu, DType::F32).unwrap();
            let net = LatentUpsampler::new(&config, &weights).unwrap();
            let x: &Tensor = golden.get(input).unwrap_or(z);
            println!("   {up} {:.2e}", relative_l2(&net.forward(x).unwrap(), &golden[output]));
        }
    }
}
