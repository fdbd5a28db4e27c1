//! The files of a run by their identity: no result may replace a file that the run reads, or another result.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// A file and its role, such as `the clip`.
pub(crate) type Named<'a> = (&'static str, &'a Path);

/// The files of a model on disk, and the folders that hold nothing else.
#[derive(Debug, Default)]
pub(crate) struct ModelFiles {
    pub files: Vec<PathBuf>,
    pub folders: Vec<PathBuf>,
}

/// Refuses results of which one would replace another, one of `inputs`, or a file of the `model`. Links lead to the file
/// that they stand for; an input may be a folder or a pattern of pictures.
///
/// # Errors
/// [`Error::Request`] with the first such file.
pub(crate) fn check_results(results: &[Named], inputs: &[Named], model: &ModelFiles) -> Result<()> {
    let read: Vec<(&'static str, PathBuf)> = inputs
        .iter()
        .flat_map(|(name, path)| files_of(path).into_iter().map(|file| (*name, file)))
        .chain(model.files.iter().map(|file| ("a file of the model", file.clone())))
        .collect();
    for (index, (name, path)) in results.iter().enumerate() {
        let earlier = results[..index].iter().map(|(other, file)| (*other, *file));
        let all = || earlier.clone().chain(read.iter().map(|(other, file)| (*other, file.as_path())));
        let own = identity(path);
        if let Some((other, _)) = all().find(|(_, file)| identity(file) == own) {
            let what = format!("{name} and {other} are the same file, `{}`", path.display());
            return Err(Error::request(what, "give each a name of its own"));
        }
        let Some(pictures) = Pictures::written_to(path) else { continue };
        if let Some((other, file)) = all().find(|(_, file)| pictures.would_replace(file)) {
            let what = format!("{name} has a picture that would replace {other}, `{}`", file.display());
            return Err(Error::request(what, "give each a name of its own"));
        }
        let folders = inputs.iter().filter_map(|(other, input)| Some((*other, folder_of_frames(input)?)));
        let of_model = model.folders.iter().map(|folder| ("the model", folder.clone()));
        let own = identity(&pictures.folder);
        if let Some((other, folder)) = folders.chain(of_model).find(|(_, folder)| identity(folder) == own) {
            let what = format!("the pictures of {name} would go into the folder of {other}, `{}`", folder.display());
            return Err(Error::request(what, "name another folder"));
        }
    }
    Ok(())
}

/// The files that are read where `path` is given: those in a folder, the numbered ones of a pattern, or the one file.
pub(crate) fn files_of(path: &Path) -> Vec<PathBuf> {
    let pattern = Pictures::parse(path).filter(|_| !path.exists());
    let Some(folder) = folder_of_frames(path) else { return vec![path.to_path_buf()] };
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|file| file.is_file());
    let mut files: Vec<PathBuf> =
        files.filter(|file| pattern.as_ref().is_none_or(|pattern| pattern.has_name_of(file))).collect();
    files.sort_unstable();
    files
}

/// One file, whatever its name: two paths of the same file have equal identities.
#[derive(PartialEq, Eq)]
enum Identity {
    #[cfg(unix)]
    Inode(u64, u64),
    Path(PathBuf),
}

fn identity(path: &Path) -> Identity {
    #[cfg(unix)]
    if let Ok(data) = std::fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        return Identity::Inode(data.dev(), data.ino());
    }
    let folder = kinora_files::folder_of(path);
    let folder = folder.canonicalize().unwrap_or_else(|_| without_detours(folder));
    Identity::Path(path.canonicalize().unwrap_or_else(|_| folder.join(path.file_name().unwrap_or_default())))
}

/// Returns the absolute path without `.` and `..`, also of a folder that does not exist yet.
fn without_detours(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).components() {
        if component == std::path::Component::ParentDir {
            plain.pop();
        } else {
            plain.push(component);
        }
    }
    plain
}

/// The folder of an input that is a folder or a pattern of pictures.
fn folder_of_frames(input: &Path) -> Option<PathBuf> {
    if input.is_dir() {
        return Some(input.to_path_buf());
    }
    Pictures::parse(input).filter(|_| !input.exists()).map(|pattern| pattern.folder)
}

/// Pictures with numbers in their names.
struct Pictures {
    folder: PathBuf,
    before: String,
    after: String,
}

impl Pictures {
    /// A name with `%d` or `%04d` in it.
    fn parse(path: &Path) -> Option<Self> {
        let (before, rest) = path.file_name()?.to_str()?.split_once('%')?;
        let (digits, after) = rest.split_once('d')?;
        let plain = digits.chars().all(|digit| digit.is_ascii_digit());
        let folder = kinora_files::folder_of(path).to_path_buf();
        plain.then(|| Self { folder, before: before.into(), after: after.into() })
    }

    /// The pictures that a clip becomes, by the rules of [`kinora_media::create`].
    fn written_to(path: &Path) -> Option<Self> {
        if path.is_dir() || path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
            return Some(Self { folder: path.to_path_buf(), before: "frame_".into(), after: ".png".into() });
        }
        let extension = path.extension()?.to_str()?;
        if !extension.eq_ignore_ascii_case("png") {
            return None;
        }
        Self::parse(path).or_else(|| {
            let before = format!("{}_", path.file_stem()?.to_str()?);
            let folder = kinora_files::folder_of(path).to_path_buf();
            Some(Self { folder, before, after: format!(".{extension}") })
        })
    }

    fn has_name_of(&self, file: &Path) -> bool {
        let name = file.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(&self.before)?.strip_suffix(&self.after));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
    }

    fn would_replace(&self, file: &Path) -> bool {
        self.has_name_of(file) && identity(kinora_files::folder_of(file)) == identity(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_the_name_of_the_clip() {
        let pictures = |path: &str| Pictures::written_to(Path::new(path)).map(|p| (p.folder, p.before, p.after));
        let expected = |folder: &str, before: &str| Some((folder.into(), before.into(), ".png".into()));
        assert_eq!(pictures("a/f%03d.png"), expected("a", "f"));
        assert_eq!(pictures("clip.png"), expected(".", "clip_"));
        assert_eq!(pictures("new/"), expected("new/", "frame_"));
        assert_eq!(pictures("clip.mp4"), None);
        let frames = Pictures::parse(Path::new("f_%d.png")).expect("a pattern");
        assert!(frames.has_name_of(Path::new("f_12.png")) && !frames.has_name_of(Path::new("f_x.png")));
    }
}
