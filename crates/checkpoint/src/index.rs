//! Sharded checkpoints: `*.safetensors.index.json` maps each tensor to a file in the same folder.

use crate::data::read_file;
use crate::file::TensorFile;
use crate::json::read_json;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl TensorFile {
    /// Opens the file or, if it is an index of shards, the shards.
    ///
    /// # Errors
    /// A file or an index that cannot be read or is not valid.
    pub fn open_all(path: &Path) -> Result<Vec<Self>> {
        open_files(&[path.to_path_buf()])
    }
}

/// Opens the files; an index is replaced by the shards that it names.
pub(crate) fn open_files(paths: &[PathBuf]) -> Result<Vec<TensorFile>> {
    let mut files = Vec::new();
    for path in paths {
        if path.extension().is_some_and(|extension| extension == "json") {
            files.extend(open_shards(path)?);
        } else {
            files.push(TensorFile::open(path)?);
        }
    }
    Ok(files)
}

/// Returns the paths of the shards that an index names, each in the index's folder.
///
/// # Errors
/// An index that cannot be read, a shard name that is not a plain file name, or a shard that does not exist.
pub fn shard_paths(index: &Path) -> Result<Vec<PathBuf>> {
    let shards: BTreeSet<String> = read_index(index)?.weight_map.into_values().collect();
    let folder = index.parent().unwrap_or(Path::new(""));
    let mut paths = Vec::new();
    for shard in shards {
        if !is_plain_name(&shard) {
            return Err(Error::ShardOutside { index: index.to_path_buf(), shard });
        }
        let path = folder.join(&shard);
        if !path.is_file() {
            return Err(Error::ShardMissing { index: index.to_path_buf(), shard });
        }
        paths.push(path);
    }
    Ok(paths)
}

fn open_shards(index: &Path) -> Result<Vec<TensorFile>> {
    let files = shard_paths(index)?.iter().map(|path| TensorFile::open(path)).collect::<Result<Vec<_>>>()?;
    for (name, shard) in read_index(index)?.weight_map {
        let file = files.iter().find(|file| file.path().file_name().is_some_and(|f| f == shard.as_str()));
        if !file.is_some_and(|file| file.entries().contains_key(&name)) {
            let problem = format!("the index says it is in `{shard}`, but it is not");
            return Err(Error::InvalidTensor { path: index.to_path_buf(), name, problem });
        }
    }
    Ok(files)
}

fn read_index(path: &Path) -> Result<Index> {
    let index: Index = match read_json(path, &read_file(path)?) {
        Err(Error::NotJson { path, problem }) => {
            return Err(Error::Invalid { path, problem: format!("not an index of shards: {problem}") });
        }
        read => read?,
    };
    if index.weight_map.is_empty() {
        let problem = "the index names no shards".to_string();
        return Err(Error::Invalid { path: path.to_path_buf(), problem });
    }
    Ok(index)
}

/// Whether the name is that of a file or folder in the same folder: it leads nowhere else.
pub fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let plain = matches!(components.next(), Some(Component::Normal(first)) if first == name);
    plain && components.next().is_none() && !name.contains(['\\', '\0'])
}
