//! [`Part`]: a network in the files that were given; [`chosen`]: those of which a model is made, where several files have one,
//! or each has a piece of it.

use crate::model::component::Files;
use crate::model::family_files::FamilyFiles;
use crate::model::role::Role;
use crate::{Error, Result};
use kinora_checkpoint::TensorInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A network in the files.
pub(crate) struct Part {
    pub role: Role,
    pub files: Files,
    pub expert: Option<usize>,
    /// Its tensors, with names as the model has them.
    pub tensors: Vec<TensorInfo>,
    /// Whether it was given beside a whole model.
    pub beside: bool,
}

/// The parts that a model is made of. What was given beside a folder, or as a file of its own beside one with everything, is
/// taken before that; of a network that comes in pieces, each piece is.
///
/// # Errors
/// [`Error::NotAModel`]: a piece that is given twice.
pub(crate) fn chosen(family: &dyn FamilyFiles, parts: Vec<Part>) -> Result<Vec<Part>> {
    let own: BTreeSet<PathBuf> =
        parts.iter().filter(|part| part.files.are_its_own()).map(|part| part.files.path()).collect();
    let (mut pieces, mut parts): (Vec<Part>, Vec<Part>) =
        parts.into_iter().partition(|part| family.within().iter().any(|within| within.role == Some(part.role)));
    let roles = |of: fn(&Part) -> bool| parts.iter().filter(|part| of(part)).map(|part| part.role).collect();
    let (given, alone): (BTreeSet<Role>, BTreeSet<Role>) =
        (roles(|part| part.beside), roles(|part| part.files.are_its_own()));
    parts.retain(|part| {
        let (beside, is_own) = (part.beside, part.files.are_its_own());
        (beside || !given.contains(&part.role)) && (is_own || !alone.contains(&part.role))
    });
    // What is inside the file of a network that is taken comes before what is in one with everything.
    pieces.sort_by_key(|part| (!part.beside, !part.files.are_its_own(), !own.contains(&part.files.path())));
    let mut networks: BTreeMap<Role, (Part, BTreeSet<usize>)> = BTreeMap::new();
    for part in pieces {
        let indices = indices(family, &part);
        let Some((network, known)) = networks.get_mut(&part.role) else {
            networks.insert(part.role, (part, indices));
            continue;
        };
        if indices.is_disjoint(known) {
            known.extend(indices);
            network.add(part);
        } else if part.files.are_its_own() && part.beside == network.beside {
            let reason = "the same part of the model is given twice".into();
            return Err(Error::NotAModel { path: part.files.path(), reason });
        }
    }
    parts.extend(networks.into_values().map(|(network, _)| network));
    Ok(parts)
}

/// Whether a network that files of others hold in pieces is there with all of them; files of its own are all of it.
pub(crate) fn is_whole(family: &dyn FamilyFiles, part: &Part) -> bool {
    let pieces = family.within().iter().filter(|within| within.role == Some(part.role)).count();
    part.files.are_its_own() || indices(family, part).len() == pieces
}

/// The pieces of its network that the part has, by their places in the family's list.
fn indices(family: &dyn FamilyFiles, part: &Part) -> BTreeSet<usize> {
    let pieces = family.within().iter().enumerate().filter(|(_, within)| within.role == Some(part.role));
    let are_there =
        pieces.filter(|(_, within)| part.tensors.iter().any(|tensor| within.start_of(&tensor.name).is_some()));
    are_there.map(|(index, _)| index).collect()
}

impl Part {
    /// Adds another piece of the same network.
    fn add(&mut self, other: Self) {
        if self.files.blobs == other.files.blobs {
            self.files.share.below.extend(other.files.share.below);
        } else {
            self.files.more.push(other.files);
        }
        self.tensors.extend(other.tensors);
    }
}
