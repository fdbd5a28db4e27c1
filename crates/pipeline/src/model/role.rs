//! [`Role`]: the components that models are made of, in one table.

/// The role of a component in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Transformer,
    Vae,
    TextEncoder,
    ImageEncoder,
    /// Between the text encoder and the transformer.
    Connectors,
    AudioVae,
    Vocoder,
    LatentUpsampler,
}

/// What there is to know about a role.
struct Row {
    role: Role,
    /// The name for people.
    name: &'static str,
    /// The folders in a diffusers directory: a second one holds a second expert. The first is the role's key in manifests.
    folders: &'static [&'static str],
    /// Whether every model has a component of the role.
    always: bool,
}

const TABLE: [Row; 8] = [
    row(Role::Transformer, "transformer", &["transformer", "transformer_2"]).of_every_model(),
    row(Role::Vae, "VAE", &["vae"]).of_every_model(),
    row(Role::TextEncoder, "text encoder", &["text_encoder"]).of_every_model(),
    row(Role::ImageEncoder, "image encoder", &["image_encoder"]),
    row(Role::Connectors, "text connectors", &["connectors"]),
    row(Role::AudioVae, "audio VAE", &["audio_vae"]),
    row(Role::Vocoder, "vocoder", &["vocoder"]),
    row(Role::LatentUpsampler, "latent upsampler", &["latent_upsampler"]),
];

const fn row(role: Role, name: &'static str, folders: &'static [&'static str]) -> Row {
    Row { role, name, folders, always: false }
}

impl Row {
    const fn of_every_model(self) -> Self {
        Self { always: true, ..self }
    }
}

impl Role {
    /// How many roles there are.
    pub(crate) const COUNT: usize = TABLE.len();

    /// The keys of all roles in manifests, in the table's order.
    pub(crate) const KEYS: [&'static str; Self::COUNT] = {
        let mut keys = [""; Self::COUNT];
        let mut index = 0;
        while index < Self::COUNT {
            keys[index] = TABLE[index].folders[0];
            index += 1;
        }
        keys
    };

    /// Every role, in the table's order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.role)
    }

    /// The role of the component in a diffusers directory's folder `folder`.
    pub(crate) fn of_folder(folder: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.folders.contains(&folder)).map(|row| row.role)
    }

    /// The name for people.
    pub(crate) fn name(self) -> &'static str {
        self.row().name
    }

    /// The key in manifests.
    pub(crate) fn key(self) -> &'static str {
        Self::KEYS[self as usize]
    }

    /// The folders in a diffusers directory; a model has at most one component per folder.
    pub(crate) fn folders(self) -> &'static [&'static str] {
        self.row().folders
    }

    /// Whether every model has a component of the role.
    pub(crate) fn is_in_every_model(self) -> bool {
        self.row().always
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_roles() {
        for (index, role) in Role::all().enumerate() {
            assert_eq!((role.row().role, role as usize), (role, index));
            assert!(role.folders().iter().all(|folder| Role::of_folder(folder) == Some(role)));
        }
        assert_eq!(Role::all().count(), Role::COUNT);
        assert_eq!(Role::of_folder("scheduler"), None);
    }
}
