//! What `kinora --version` says.

use std::sync::LazyLock;

/// The version, the commit, the features that the program is built with, and what it computes with on this machine.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let commit = match env!("KINORA_COMMIT") {
            "" => String::new(),
            commit => format!(" ({commit})"),
        };
        let features = [
            ("embedded", cfg!(feature = "embedded")),
            ("hub", cfg!(feature = "hub")),
            ("ffmpeg", cfg!(feature = "ffmpeg")),
            ("cuda", cfg!(feature = "cuda")),
            ("metal", cfg!(feature = "metal")),
        ];
        let features: Vec<&str> = features.into_iter().filter_map(|(name, on)| on.then_some(name)).collect();
        let (os, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        format!(
            "{}{commit}\nfeatures: {}\nmachine: {machine}, {os}, CPU level {}",
            env!("CARGO_PKG_VERSION"),
            features.join(", "),
            kinora::cpu_level()
        )
    });
    &TEXT
}
