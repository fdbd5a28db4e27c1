//! The manifests of every downloadable variant, compiled in.

/// Manifests compiled into the library, by rising size.
pub(crate) const KNOWN: &[&str] = &[
    include_str!("../../../../models/wan2.1-t2v-1.3b.toml"),
    include_str!("../../../../models/wan2.1-vace-1.3b.toml"),
    include_str!("../../../../models/wan2.1-fun-camera-1.3b.toml"),
    include_str!("../../../../models/wan2.2-ti2v-5b.toml"),
    include_str!("../../../../models/wan2.1-t2v-14b.toml"),
    include_str!("../../../../models/wan2.1-i2v-14b-480p.toml"),
    include_str!("../../../../models/wan2.1-i2v-14b-720p.toml"),
    include_str!("../../../../models/wan2.1-flf2v-14b.toml"),
    include_str!("../../../../models/wan2.1-vace-14b.toml"),
    include_str!("../../../../models/wan2.1-fun-camera-14b.toml"),
    include_str!("../../../../models/wan2.2-t2v-a14b.toml"),
    include_str!("../../../../models/wan2.2-i2v-a14b.toml"),
    include_str!("../../../../models/wan2.2-fun-camera-a14b.toml"),
];
