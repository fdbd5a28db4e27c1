//! What Kinora knows of the models that can be downloaded, as the text of TOML files; `README.md` says what they are for.

/// The manifest of every variant that can be downloaded, by rising size.
pub const MANIFESTS: &[&str] = &[
    include_str!("wan2.1-t2v-1.3b.toml"),
    include_str!("wan2.1-vace-1.3b.toml"),
    include_str!("wan2.1-fun-camera-1.3b.toml"),
    include_str!("wan2.2-ti2v-5b.toml"),
    include_str!("wan2.1-t2v-14b.toml"),
    include_str!("wan2.1-i2v-14b-480p.toml"),
    include_str!("wan2.1-i2v-14b-720p.toml"),
    include_str!("wan2.1-flf2v-14b.toml"),
    include_str!("wan2.1-vace-14b.toml"),
    include_str!("wan2.1-fun-camera-14b.toml"),
    include_str!("wan2.2-t2v-a14b.toml"),
    include_str!("wan2.2-i2v-a14b.toml"),
    include_str!("wan2.2-fun-camera-a14b.toml"),
    include_str!("ltx-2-19b.toml"),
    include_str!("ltx-2.3-22b.toml"),
    include_str!("ltx-2.3-22b-distilled.toml"),
    include_str!("ltx-2.5-22b.toml"),
    include_str!("ltx-2.5-22b-distilled.toml"),
];

/// The settings with which distilled models and LoRAs were made to run.
pub const PRESETS: &[&str] = &[
    include_str!("presets/lightning-4.toml"),
    include_str!("presets/lightx2v-4.toml"),
    include_str!("presets/self-forcing-4.toml"),
    include_str!("presets/causvid-9.toml"),
    include_str!("presets/fastwan-3.toml"),
    include_str!("presets/accvid-10.toml"),
];

/// The linear maps from the channels of latents to colours, one table for each autoencoder.
pub const LATENT_RGB: &str = include_str!("latent_rgb.toml");
