//! Errors of reading and writing media, with the values that caused them and a hint for the user.

use kinora_files::shell_word;
use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = MediaError> = std::result::Result<T, E>;

/// The reason why a clip or a picture could not be written or read, or a recipe could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The extension of the file name is not one of a format that this crate writes.
    #[error("cannot tell the format of `{}` from its name", path.display())]
    UnknownFormat {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The directory that should hold the file does not exist.
    #[error("directory `{}` does not exist", directory.display())]
    MissingDirectory {
        /// The missing directory.
        directory: PathBuf,
    },
    /// The path exists and is a directory, a device or a pipe.
    #[error("`{}` exists and is not a regular file", path.display())]
    NotAFile {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The operating system refused to create or replace the file.
    #[error("cannot write `{}`: {source}", path.display())]
    NotWritable {
        /// The file that was to be written.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The disk (or the quota on it) is full.
    #[error("no space left to write `{}`", path.display())]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
    },
    /// Any other failure of reading or writing.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// The action, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A frame's width and height differ from the clip's.
    #[error("frame {index} is {}×{}, the clip is {}×{}", got.0, got.1, expected.0, expected.1)]
    FrameSize {
        /// The number of the frame, from 0.
        index: u64,
        /// The width and height of the frame.
        got: (usize, usize),
        /// The width and height of the clip.
        expected: (usize, usize),
    },
    /// A frame's data does not have 3 * width * height values.
    #[error("a {width}×{height} frame has {} values, not {got}", 3 * width * height)]
    FrameData {
        /// The width of the frame.
        width: usize,
        /// The height of the frame.
        height: usize,
        /// The number of values.
        got: usize,
    },
    /// A writer of somebody else's did not take a frame.
    #[error("the frames were not taken: {0}")]
    Sink(Box<dyn std::error::Error + Send + Sync>),
    /// What enlarges frames failed.
    #[error("the frames cannot be enlarged: {0}")]
    Upscale(Box<dyn std::error::Error + Send + Sync>),
    /// A frame holds NaN or infinity.
    #[error("frame {index} holds a value that is not a finite number")]
    NotFinite {
        /// The number of the frame, from 0.
        index: u64,
    },
    /// The sample rate, the number of channels or that of samples cannot be those of sound.
    #[error("{values} samples in {channels} channels, {rate} per second, are no sound")]
    Sound {
        /// The number of samples per second.
        rate: u32,
        /// The number of channels.
        channels: usize,
        /// The number of samples of all channels together.
        values: usize,
    },
    /// The sound holds NaN or infinity.
    #[error("sample {index} of the sound is not a finite number")]
    SoundNotFinite {
        /// The number of the sample within its channel, from 0.
        index: u64,
    },
    /// The frames per second lie outside the supported range.
    #[error("{given} is not a usable number of frames per second")]
    Fps {
        /// The given value.
        given: String,
    },
    /// The chosen format does not support this width or height.
    #[error("{format} cannot hold frames of {width}×{height}: {limit}")]
    Size {
        /// The name of the format.
        format: &'static str,
        /// The width of the clip.
        width: usize,
        /// The height of the clip.
        height: usize,
        /// The limit in words.
        limit: &'static str,
    },
    /// The format cannot hold so much data in one file.
    #[error("`{}` grew beyond the 4 GiB that {format} can hold", path.display())]
    TooLong {
        /// The name of the format.
        format: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// [`finish`](crate::ClipWriter::finish) was called before any frame was added.
    #[error("no frames were written to `{}`", path.display())]
    NoFrames {
        /// The file.
        path: PathBuf,
    },
    /// An encoder of that name is not in this build.
    #[error("there is no encoder `{name}` in this build")]
    UnknownEncoder {
        /// The name as it was given.
        name: String,
        /// The names of the encoders in this build.
        available: Vec<String>,
    },
    /// The format is not in this build.
    #[error("{format} is not in this build, whose feature `{feature}` is off")]
    NotInBuild {
        /// The name of the format.
        format: String,
        /// The feature that would bring it.
        feature: &'static str,
    },
    /// The quality number is outside the encoder's scale.
    #[error("quality {given} is outside the scale of {encoder}, 0 (best) to {worst} (smallest)")]
    Quality {
        /// The given value.
        given: u8,
        /// The encoder's name.
        encoder: String,
        /// The largest number on its scale.
        worst: u8,
    },
    /// The encoder or the muxer reported a failure.
    #[error("{encoder} failed to {action}: {message}")]
    Encoder {
        /// The name of the encoder or the container.
        encoder: String,
        /// The action, as a verb.
        action: &'static str,
        /// The reported failure.
        message: String,
    },
    /// The recipe is too long to be kept in the file.
    #[error("the recipe is {bytes} bytes long, at most {limit} can be kept in a file")]
    RecipeTooLong {
        /// The length of the recipe, or the length that the file claims for it.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The recipe holds a NUL character, which ends a text in several formats.
    #[error("the recipe holds a NUL character")]
    RecipeNul,
    /// The file is damaged or cut short.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        what: String,
    },
    /// The format or the coding of the picture is not supported.
    #[error("cannot read the picture `{}`: {format} is not supported", path.display())]
    PictureFormat {
        /// The file.
        path: PathBuf,
        /// The name of the format, or the unsupported part of it.
        format: String,
    },
    /// The file is not a picture.
    #[error("`{}` is not a picture: {what}", path.display())]
    NotAPicture {
        /// The file.
        path: PathBuf,
        /// The reason.
        what: &'static str,
    },
    /// No picture is in the directory or matches the pattern.
    #[error("there are no pictures at `{}`", path.display())]
    NoPictures {
        /// The directory or the pattern.
        path: PathBuf,
    },
    /// The picture is larger than the supported limit.
    #[error("the picture `{}` is too large: {what}", path.display())]
    PictureTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size and the limit.
        what: String,
    },
    /// A picture cannot have this size.
    #[error("a picture cannot be {width}×{height}: each side must be 1 to {limit}")]
    PictureSize {
        /// The width that was asked for.
        width: usize,
        /// The height that was asked for.
        height: usize,
        /// The longest side.
        limit: usize,
    },
    /// The contact sheet has no pictures or no columns.
    #[error("{pictures} pictures in {columns} columns do not make a contact sheet")]
    ContactSheet {
        /// The number of pictures.
        pictures: usize,
        /// The number of columns.
        columns: usize,
    },
    /// This build does not support the file's format or coding.
    #[error("cannot read frames from `{}`: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The unsupported part, or the reason.
        what: String,
    },
    /// A frame's data is there, but does not decode.
    #[error("`{}` is damaged: frame {frame} cannot be decoded ({what})", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// The number of the frame, from 0.
        frame: u64,
        /// The decoder's reason.
        what: String,
    },
    /// Every frame is made of two fields, which were taken one after the other.
    #[error("cannot read frames from `{}`: it is interlaced", path.display())]
    Interlaced {
        /// The file.
        path: PathBuf,
    },
    /// The program `ffmpeg` failed, or gave fewer frames than there are.
    #[error("ffmpeg cannot read `{}`: {what}", path.display())]
    Ffmpeg {
        /// The file.
        path: PathBuf,
        /// The failure, with the first line that the program printed.
        what: String,
    },
    /// A picture has another size than the first one of its clip.
    #[error("`{}` is {}×{}, the pictures before it are {}×{}", path.display(), got.0, got.1, expected.0, expected.1)]
    UnequalSize {
        /// The picture.
        path: PathBuf,
        /// Its width and height.
        got: (usize, usize),
        /// The width and height of the first picture.
        expected: (usize, usize),
    },
    /// The file of a clip is a pipe or a device.
    #[error("`{}` is not a regular file", path.display())]
    NotRegular {
        /// The path as it was given.
        path: PathBuf,
    },
    /// A recipe names a picture or a clip that was in memory when its clip was made.
    #[error("`memory:sha256:{hash}` was a picture or a clip in memory, of which the recipe has the hash alone")]
    Lost {
        /// The SHA-256 of what is missing.
        hash: String,
    },
    /// The brightness of the frames is coded for displays of a high dynamic range, which would look washed out.
    #[error("cannot read frames from `{}`: they are HDR ({curve})", path.display())]
    HighDynamicRange {
        /// The file.
        path: PathBuf,
        /// The name of the curve: PQ or HLG.
        curve: &'static str,
    },
}

impl MediaError {
    /// Returns what the user can do about the error, if there is something to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownFormat { .. } => {
                "use a name that ends in .mp4, .gif, .webp, .y4m, .safetensors or .png, a pattern such as frame_%04d.png, or \
                 an existing directory (or one written with a final '/') for PNG frames"
                    .into()
            }
            Self::MissingDirectory { directory } => format!("create it first: mkdir -p {}", shell_word(directory)),
            Self::NotAFile { .. } => "choose another output file".into(),
            Self::NotWritable { .. } => "check the permissions of the directory, or choose another output file".into(),
            Self::DiskFull { .. } => "free some space, or choose an output file on another disk".into(),
            Self::Fps { .. } => "use a number between 0.01 and 1000, such as 16, 24 or 23.976".into(),
            Self::Size { .. } => "choose a smaller size, or another format".into(),
            Self::TooLong { .. } => "use .mp4 for long clips".into(),
            Self::UnknownEncoder { available, .. } if available.len() > 1 => {
                format!("use one of: {}", available.join(", "))
            }
            Self::NotInBuild { feature: "h264", .. } => {
                "build with the feature `h264`, which needs a C++ compiler, or with `ffmpeg`; or choose a name that ends in .webp, \
                 .gif, .y4m, .png or .safetensors"
                    .into()
            }
            Self::NotInBuild { feature, .. } => format!("build with the feature `{feature}`, or take another format"),
            Self::UnknownEncoder { .. } => {
                "this build has one encoder only; build with the feature `ffmpeg` for libx264, libx265, AV1 and hardware \
                 encoders"
                    .into()
            }
            Self::Quality { worst, .. } => {
                format!("use a number from 0 to {worst}; smaller is better and larger files")
            }
            Self::RecipeTooLong { .. } => "write the clip without metadata".into(),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => "check the permissions of the file and its directory".into(),
                io::ErrorKind::FileTooLarge => {
                    "files are limited in size here: choose another disk or a smaller clip".into()
                }
                _ => "check the path".into(),
            },
            other => return other.hint_to_read(),
        })
    }

    /// Returns the hints of errors of reading.
    fn hint_to_read(&self) -> Option<String> {
        Some(match self {
            Self::NotFinite { .. } | Self::SoundNotFinite { .. } => {
                "the clip holds NaN or infinity: make it again".into()
            }
            Self::Sound { .. } => "give 1 to 64 channels of as many samples each, 1000 to 384000 per second".into(),
            Self::Damaged { .. } => "the file may be cut short: copy, download or write it again".into(),
            Self::Undecodable { path, .. } => {
                format!("copy, download or write it again; if players show it, convert it: {}", convert(path, ""))
            }
            Self::Unsupported { path, .. } => format!(
                "{READ}; other videos are read by the programs ffmpeg and ffprobe where they are installed, or convert this one: {}",
                convert(path, "")
            ),
            Self::Ffmpeg { path, .. } => {
                format!("copy or download it again, or convert what can be read of it: {}", convert(path, ""))
            }
            Self::NotRegular { .. } => "give a regular file: it is read more than once".into(),
            Self::Lost { .. } => "give the same picture or clip in its place again".into(),
            Self::Interlaced { path } => format!("deinterlace it first: {}", convert(path, "bwdif=mode=send_frame,")),
            Self::HighDynamicRange { path, .. } => {
                let map = "zscale=t=linear:npl=100,tonemap=hable,zscale=p=bt709:t=bt709:m=bt709:r=tv,format=yuv420p,";
                format!("map it to SDR first: {}", convert(path, map))
            }
            Self::PictureFormat { path, .. } => {
                format!("convert it to PNG or JPEG first: magick {} picture.png", shell_word(path))
            }
            Self::UnequalSize { .. } => "give all pictures of a clip one size".into(),
            Self::NotAPicture { path, what } if what.contains("video") => {
                format!("give a picture of it: ffmpeg -i {} -frames:v 1 picture.png", shell_word(path))
            }
            Self::NotAPicture { .. } => "PNG, JPEG, WebP, GIF, BMP and TIFF files are read".into(),
            Self::PictureTooLarge { path, .. } => {
                format!("make it smaller first: magick {} -resize 4096x4096 picture.png", shell_word(path))
            }
            Self::NoPictures { .. } => {
                "give a directory with pictures in it, or a pattern such as frames/%04d.png".into()
            }
            Self::FrameSize { .. } => "give every frame the size of the clip".into(),
            Self::PictureSize { .. } => "choose another size".into(),
            Self::ContactSheet { .. } => "give at least one picture and one column".into(),
            _ => return None,
        })
    }

    /// Returns the error for `source`; a full disk has an error of its own.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }

    pub(crate) fn encoder(encoder: &str, action: &'static str, message: impl Into<String>) -> Self {
        Self::Encoder { encoder: encoder.into(), action, message: message.into() }
    }
}

/// What this crate reads itself.
const READ: &str =
    "MP4 with H.264 (8-bit 4:2:0, progressive), GIF, WebP, pictures and raw frames (.safetensors) are read";

/// Returns the command that makes a clip of the file which is read, by `filters`, each with a comma after it, and with square
/// pixels.
fn convert(path: &Path, filters: &str) -> String {
    let square = "scale=trunc(iw*sar/2)*2:trunc(ih/2)*2,setsar=1";
    format!("ffmpeg -i {} -vf '{filters}{square}' -pix_fmt yuv420p -crf 12 converted.mp4", shell_word(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let full = MediaError::io("write", Path::new("clip.mp4"), io::Error::from_raw_os_error(28));
        assert_eq!(full.to_string(), "no space left to write `clip.mp4`");
        assert!(full.hint().is_some_and(|hint| hint.contains("another disk")));
        let other = MediaError::io("write", Path::new("clip.mp4"), io::Error::from_raw_os_error(5));
        assert!(matches!(other, MediaError::Io { action: "write", .. }), "{other:?}");
    }
}
