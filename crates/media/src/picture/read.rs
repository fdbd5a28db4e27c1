//! Reading picture files: PNG, JPEG, WebP, GIF, BMP and TIFF with the `image` crate. Other formats are recognised by their
//! first bytes and refused by name.

use super::{Picture, tiff, whole};
use crate::container::is_video;
use crate::error::{MediaError, Result};
use crate::stored::{Stored, Stream};
use image::error::{UnsupportedError, UnsupportedErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

/// The longest side that is read.
pub(crate) const MAX_SIDE: usize = 8192;
/// The most memory for decoding, in bytes: twice 8192×8192 with 4 values of 16 bits.
const MAX_BYTES: u64 = 1 << 30;
/// The longest file that is read: 8192×8192 with 4 values of 16 bits, uncompressed, and a margin for metadata.
const MAX_FILE: u64 = 640 << 20;

/// The supported formats, whether they are in this build, and the features that bring them.
const FORMATS: [(ImageFormat, bool, &str); 6] = [
    (ImageFormat::Png, true, "png"),
    (ImageFormat::Bmp, true, "bmp"),
    (ImageFormat::Jpeg, cfg!(feature = "jpeg"), "jpeg"),
    (ImageFormat::WebP, cfg!(feature = "webp"), "webp"),
    (ImageFormat::Gif, cfg!(feature = "gif"), "gif"),
    (ImageFormat::Tiff, cfg!(feature = "tiff"), "tiff"),
];

/// Reads a picture as [`read_image`](crate::read_image) does, and returns whether a part of it is transparent.
pub(crate) fn read_over_white(stored: &Stored) -> Result<(Picture, bool)> {
    let (bytes, path) = (content(stored)?, stored.path.as_path());
    let format = format(&bytes, path)?;
    let cut_short = || MediaError::Damaged { path: path.to_path_buf(), what: "it is cut short".into() };
    let image = match format {
        _ if !whole::is_cut_short(&bytes, format) => decode(&bytes, format, path)?,
        ImageFormat::Jpeg => endless(&bytes, path)?.ok_or_else(cut_short)?,
        _ => return Err(cut_short()),
    };
    flatten(if format == ImageFormat::Bmp { seen(image) } else { image })
}

/// Decodes a JPEG without the marker of its end; returns `None` if data is missing too. Then what follows the data is taken
/// for a part of it: two different ends give two pictures.
fn endless(bytes: &[u8], path: &Path) -> Result<Option<DynamicImage>> {
    if !whole::has_single_scan(bytes) {
        return Ok(None);
    }
    let data = bytes.strip_suffix(b"\xff").unwrap_or(bytes);
    let [first, second] = [0x00, 0x55].map(|byte| {
        let ended = [data, &[byte; 64], b"\xff\xd9"].concat();
        decode(&ended, ImageFormat::Jpeg, path)
    });
    let (first, second) = (first?, second?);
    Ok((first == second).then_some(first))
}

/// Returns the size in which the picture of a file is shown, by its header; only of a TIFF the whole is read.
///
/// # Errors
/// As of [`read_image`](crate::read_image).
pub fn picture_size(path: &Path) -> Result<(usize, usize)> {
    let stored = Stored::file(path);
    match format(&stored.start()?, path)? {
        // A palette shows only in a whole file.
        ImageFormat::Tiff => read_over_white(&stored).map(|(picture, _)| (picture.width, picture.height)),
        format => shown_size(BufReader::new(stored.open()?), format).map_err(|error| failed(error, path)),
    }
}

fn shown_size(file: BufReader<Stream>, format: ImageFormat) -> ImageResult<(usize, usize)> {
    let mut decoder = ImageReader::with_format(file, format).into_decoder()?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let is_turned = matches!(
        decoder.orientation()?,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    Ok(if is_turned { (height, width) } else { (width, height) })
}

/// Returns what is stored, of bounded length.
pub(super) fn content(stored: &Stored) -> Result<Cow<'_, [u8]>> {
    let (failed, path) = (|error| stored.failed(error), stored.path.as_path());
    let too_large = |len: u64| {
        let what = format!("{} MiB, at most {} MiB", len >> 20, MAX_FILE >> 20);
        Err(MediaError::PictureTooLarge { path: path.to_path_buf(), what })
    };
    if let Some(bytes) = stored.bytes() {
        return if bytes.len() as u64 > MAX_FILE { too_large(bytes.len() as u64) } else { Ok(bytes.into()) };
    }
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(MediaError::NotAPicture { path: path.to_path_buf(), what: "it is not a regular file" });
    }
    if metadata.len() > MAX_FILE {
        return too_large(metadata.len());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes.into())
}

/// Returns the format of a file that begins with `bytes`, if it is supported.
pub(super) fn format(bytes: &[u8], path: &Path) -> Result<ImageFormat> {
    let path = || path.to_path_buf();
    if bytes.is_empty() {
        return Err(MediaError::Damaged { path: path(), what: "it is empty".into() });
    }
    if let Some(format) = refused(bytes) {
        return Err(MediaError::PictureFormat { path: path(), format: format.into() });
    }
    if let Some(format) = readable(bytes)? {
        return Ok(format);
    }
    match image::guess_format(bytes) {
        Ok(format) => Err(MediaError::PictureFormat { path: path(), format: format!("{format:?}") }),
        Err(_) if is_video(bytes) => Err(MediaError::NotAPicture { path: path(), what: "it is a video" }),
        Err(_) => {
            Err(MediaError::NotAPicture { path: path(), what: "its first bytes are not those of a known format" })
        }
    }
}

/// Returns the format of a supported picture by its first bytes, at least 16 of them.
///
/// # Errors
/// A format that other builds support.
pub(crate) fn readable(start: &[u8]) -> Result<Option<ImageFormat>> {
    let Ok(format) = image::guess_format(start) else { return Ok(None) };
    match FORMATS.iter().find(|(known, ..)| *known == format) {
        Some(&(_, false, feature)) => {
            let format = format.extensions_str()[0].to_uppercase();
            Err(MediaError::NotInBuild { format, feature })
        }
        known => Ok(known.map(|_| format)),
    }
}

/// Returns the name of a picture format that is recognised but not supported, by the brands of ISO/IEC 23008-12 and of AVIF
/// and the two signatures of ISO/IEC 18181-2.
pub(crate) fn refused(bytes: &[u8]) -> Option<&'static str> {
    const JXL_BOX: &[u8] = b"\0\0\0\x0cJXL \r\n\x87\n";
    const HEIC: [&[u8; 4]; 8] = [b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"];
    if bytes.starts_with(JXL_BOX) || bytes.starts_with(b"\xff\x0a") {
        return Some("JPEG XL");
    }
    if bytes.get(4..8) != Some(b"ftyp") {
        return None;
    }
    // The box: its size, its kind, the major brand, a version, the compatible brands. A generic major brand is refined by the
    // compatible ones.
    let size = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    let brands = bytes.get(8..size.clamp(12, 64).min(bytes.len()))?.as_chunks::<4>().0;
    let any = |names: &[&[u8; 4]]| brands.iter().any(|brand| names.contains(&brand));
    let major = |names: &[&[u8; 4]]| brands.first().is_some_and(|brand| names.contains(&brand));
    let generic = major(&[b"mif1", b"msf1", b"mif2", b"miaf"]);
    if major(&[b"avif", b"avis"]) || generic && any(&[b"avif", b"avis"]) {
        return Some("AVIF");
    }
    if major(&HEIC) || generic && any(&HEIC) {
        return Some("HEIC");
    }
    generic.then_some("HEIF")
}

/// Decodes the picture and applies its orientation.
fn decode(bytes: &[u8], format: ImageFormat, path: &Path) -> Result<DynamicImage> {
    if let Some((indices, palette)) = tiff::without_palette(bytes, format) {
        return Ok(palette.colours_of(&decode(&indices, format, path)?.into_luma8()));
    }
    let failed = |error| failed(error, path);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize, path)?;
    let decode = || -> ImageResult<DynamicImage> {
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(image)
    };
    decode().map_err(failed)
}

/// Checks that the size of a stored picture is supported.
pub(crate) fn check_size(width: usize, height: usize, path: &Path) -> Result<()> {
    let path = path.to_path_buf();
    if width == 0 || height == 0 {
        return Err(MediaError::Damaged { path, what: format!("its size is {width}×{height}") });
    }
    if width.max(height) > MAX_SIDE {
        let what = format!("{width}×{height} pixels, at most {MAX_SIDE} a side");
        return Err(MediaError::PictureTooLarge { path, what });
    }
    Ok(())
}

/// Converts to 8-bit RGB, over white, and returns whether white is seen through it.
fn flatten(image: DynamicImage) -> Result<(Picture, bool)> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if !image.color().has_alpha() {
        return Ok((Picture::new(width, height, image.into_rgb8().into_raw())?, false));
    }
    let rgba = image.into_rgba8();
    let is_transparent = rgba.pixels().any(|pixel| pixel[3] < 255);
    Ok((Picture::new(width, height, over_white(&rgba))?, is_transparent))
}

/// Returns a BMP as it is shown: many programs leave the fourth byte of its pixels 0 without meaning that they are transparent.
fn seen(image: DynamicImage) -> DynamicImage {
    let invisible = image.as_rgba8().is_some_and(|pixels| pixels.pixels().all(|pixel| pixel[3] == 0));
    if invisible { DynamicImage::ImageRgb8(image.into_rgb8()) } else { image }
}

/// Blends RGBA `[H, W, 4]` with white and returns RGB `[H, W, 3]`, rounded to the nearest.
pub(crate) fn over_white(rgba: &[u8]) -> Vec<u8> {
    let pixels = rgba.as_chunks::<4>().0.iter();
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    pixels.flat_map(|&[r, g, b, alpha]| [r, g, b].map(|value| blend(value, alpha))).collect()
}

/// Returns what a decoder does not support, as the subject of a sentence.
fn kind(error: &UnsupportedError) -> String {
    let format = error.format_hint().to_string().trim_matches(['"', '`', '\'']).to_uppercase();
    let what = match error.kind() {
        UnsupportedErrorKind::Color(ExtendedColorType::Unknown(bits)) => format!("samples of {bits} bits"),
        UnsupportedErrorKind::Color(colours) => format!("colours of the kind {colours:?}"),
        UnsupportedErrorKind::GenericFeature(feature) => return format!("{format} with this feature ({feature})"),
        _ => return format,
    };
    format!("{format} with {what}")
}

fn failed(error: ImageError, path: &Path) -> MediaError {
    let path = path.to_path_buf();
    match error {
        ImageError::Limits(_) => {
            MediaError::PictureTooLarge { path, what: format!("more than {} MiB of memory", MAX_BYTES >> 20) }
        }
        ImageError::Unsupported(error) => MediaError::PictureFormat { path, format: kind(&error) },
        ImageError::IoError(_) => MediaError::Damaged { path, what: "it is cut short".into() },
        other => MediaError::Damaged { path, what: other.to_string() },
    }
}
