//! [`Role`]: the components that models are made of, in one table.

/// The role of a component in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Transformer,
    Vae,
    TextEncoder,
    ImageEncoder,
}

/// A role, its name for people, and its folders in a diffusers directory: a second one holds a second expert.
type Row = (Role, &'static str, &'static [&'static str]);

const TABLE: [Row; 4] = [
    (Role::Transformer, "transformer", &["transformer", "transformer_2"]),
    (Role::Vae, "VAE", &["vae"]),
    (Role::TextEncoder, "text encoder", &["text_encoder"]),
    (Role::ImageEncoder, "image encoder", &["image_encoder"]),
];

impl Role {
    /// Every role, in the table's order.
    #[cfg_attr(not(feature = "hub"), allow(dead_code, reason = "downloads alone go through all of them"))]
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(role, ..)| *role)
    }

    /// The role of the component in a diffusers directory's folder `folder`.
    pub(crate) fn of_folder(folder: &str) -> Option<Self> {
        TABLE.iter().find(|(.., folders)| folders.contains(&folder)).map(|(role, ..)| *role)
    }

    /// The name for people.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// The folders in a diffusers directory; a model has at most one component per folder.
    pub(crate) fn folders(self) -> &'static [&'static str] {
        self.row().2
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
        for role in Role::all() {
            assert_eq!(role.row().0, role);
            assert!(role.folders().iter().all(|folder| Role::of_folder(folder) == Some(role)));
        }
        assert_eq!(Role::of_folder("scheduler"), None);
    }
}
