//! Sharded checkpoints: `*.safetensors.index.json` maps each tensor to a file in the same folder.

use crate::data::read_file;
use crate::file::TensorFile;
use crate::gguf::Shard;
use crate::json::read_json;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The most files that one checkpoint is split into.
const MOST_SHARDS: usize = 1 << 10;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl TensorFile {
    /// Opens the files of one checkpoint. An index of shards stands for the shards, and one of several files brings the others.
    ///
    /// # Errors
    /// A file or an index that cannot be read or is not valid, and shards that are missing.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>> {
        open_files(paths)
    }
}

/// Opens the files; an index is replaced by the shards that it names, and one of several files, by its header or its name,
/// brings the others.
pub(crate) fn open_files(paths: &[PathBuf]) -> Result<Vec<TensorFile>> {
    let mut files: Vec<TensorFile> = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        // Brought by another one, and not given twice.
        let is_brought = |file: &TensorFile| shard(file).is_some() && file.path() == path;
        if path.extension().is_some_and(|extension| extension == "json") {
            files.extend(open_shards(path)?);
        } else if !files.iter().any(is_brought) || paths[..index].contains(path) {
            let file = TensorFile::open(path)?;
            match shard(&file) {
                Some(shard) => files.extend(with_siblings(path, shard)?),
                None => files.push(file),
            }
        }
    }
    Ok(files)
}

/// The place of the file among several: what its header says, and of safetensors its name, which ends in
/// `-00001-of-00003.safetensors`.
fn shard(file: &TensorFile) -> Option<Shard> {
    let by_name = || {
        let (start, count) = file.path().file_stem()?.to_str()?.rsplit_once("-of-")?;
        let (_, number) = start.rsplit_once('-')?;
        let [number, count] = [number, count].map(|text| text.parse::<usize>().ok().filter(|_| text.len() == 5));
        let (number, count) = (number?.checked_sub(1)?, count?);
        (number < count).then_some(Shard { number, count })
    };
    file.shard().or_else(|| by_name().filter(|_| is_safetensors(file.path())))
}

fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

/// Returns all files of which the one at `path` is one, in their order; names end in `-00001-of-00003.gguf`.
fn with_siblings(path: &Path, own: Shard) -> Result<Vec<TensorFile>> {
    let invalid = |path: &Path, problem: String| Err(Error::Invalid { path: path.to_path_buf(), problem });
    let extension = if is_safetensors(path) { "safetensors" } else { "gguf" };
    let ending = |number: usize| format!("-{:05}-of-{:05}.{extension}", number + 1, own.count);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(stem) = name.strip_suffix(&ending(own.number)) else {
        let what = format!("it is one of {} files, and its name does not end in `{}`", own.count, ending(own.number));
        return Err(Error::NotRead {
            path: path.to_path_buf(),
            what,
            hint: "give the files the names with which they were downloaded",
        });
    };
    if own.count > MOST_SHARDS {
        return invalid(path, format!("it is one of {} files, at most {MOST_SHARDS} are read", own.count));
    }
    let mut files = Vec::new();
    for number in 0..own.count {
        let sibling = path.with_file_name(format!("{stem}{}", ending(number)));
        if !sibling.is_file() {
            let shard = sibling.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Error::ShardMissing { index: path.to_path_buf(), shard });
        }
        let opened = TensorFile::open(&sibling)?;
        if shard(&opened) != Some(Shard { number, ..own }) {
            return invalid(&sibling, format!("it does not say that it is file {} of {}", number + 1, own.count));
        }
        files.push(opened);
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
