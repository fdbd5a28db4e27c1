//! [`Probe`]: what the program `ffprobe` says of the video in a file.

use crate::clip::Fps;
use crate::read::colour::{Colour, LEFT};
use crate::read::facts::Facts;
use crate::read::refused::Refused;
use crate::read::turn::Turn;
use crate::read::usual_matrix;
use serde_json::Value;
use std::num::NonZeroU32;

/// The longest side that is read.
const MAX_SIDE: usize = 8192;

/// The video in a file.
pub(crate) struct Probe {
    /// The version of the program.
    pub(crate) version: String,
    /// The number of the track.
    pub(crate) track: u64,
    /// The width and height before turning.
    pub(crate) stored: (usize, usize),
    pub(crate) turn: Turn,
    pub(crate) colour: Colour,
    pub(crate) centred: [bool; 2],
    /// The pixel format that holds the stored samples as they are, in `FFmpeg`'s name, and whether it is another than the
    /// file's.
    pub(crate) pixels: (String, bool),
    pub(crate) facts: Facts,
    /// The number and the channels of the sound track, if there is one.
    pub(crate) sound: Option<(u64, usize)>,
    /// The time at which the first picture is shown, in seconds.
    pub(crate) start: f64,
    /// The frames per second that all times are multiples of.
    pub(crate) rate: Option<Fps>,
    /// The unit of times in seconds.
    pub(crate) unit: (u32, NonZeroU32),
    /// Whether each packet is one picture.
    pub(crate) is_picture_by_packet: bool,
}

/// The codings whose packets are pictures, one each. Others have pictures that are not shown, or shown twice.
const PICTURE_BY_PACKET: [&str; 10] =
    ["h264", "hevc", "av1", "vp9", "prores", "dnxhd", "ffv1", "mjpeg", "mpeg1video", "mpeg2video"];

impl Probe {
    /// Parses what `ffprobe -show_program_version -show_streams -of json` prints.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refused> {
        let unclear = || Refused::Unsupported("ffprobe says nothing that can be understood".into());
        let found: Value = serde_json::from_slice(json).map_err(|_| unclear())?;
        let streams = found["streams"].as_array().ok_or_else(unclear)?;
        let of_kind = |kind: &'static str| streams.iter().filter(move |stream| stream["codec_type"] == kind);
        let is_cover = |stream: &&Value| stream["disposition"]["attached_pic"] == 1;
        let tracks = of_kind("video").filter(|stream| !is_cover(stream)).count();
        let best = of_kind("video").min_by_key(|stream| (is_cover(stream), stream["disposition"]["default"] != 1));
        let stream = best.ok_or_else(|| Refused::Unsupported("it has no video track".into()))?;
        let side =
            |key: &str| stream["side_data_list"].as_array()?.iter().map(|side| &side[key]).find(|v| !v.is_null());
        let stored = [&stream["width"], &stream["height"]].map(|side| side.as_u64().unwrap_or(0) as usize);
        let [width, height] = stored;
        if width.min(height) == 0 || width.max(height) > MAX_SIDE {
            return Err(Refused::Unsupported(format!(
                "its frames of {width}×{height} are not from 1×1 to {MAX_SIDE}×{MAX_SIDE}"
            )));
        }
        let name = stream["pix_fmt"].as_str().unwrap_or("unknown");
        let pixels =
            planar(name).ok_or_else(|| Refused::Unsupported(format!("its pixels are `{}`", name.escape_debug())))?;
        let transfer = if side("dv_profile") == Some(&Value::from(5)) { Some(16) } else { transfer(stream) };
        let sound = of_kind("audio").min_by_key(|stream| stream["disposition"]["default"] != 1);
        let sound = sound.and_then(|sound| Some((sound["index"].as_u64()?, sound["channels"].as_u64()? as usize)));
        let start =
            stream["start_time"].as_str().and_then(|time| time.parse().ok()).filter(|time: &f64| time.is_finite());
        let field_order = stream["field_order"].as_str();
        let matrix = side("displaymatrix").and_then(Value::as_str).map_or(Some(Turn::NONE), turn);
        Ok(Self {
            version: found["program_version"]["version"].as_str().unwrap_or("of an unknown version").into(),
            track: stream["index"].as_u64().ok_or_else(unclear)?,
            stored: (width, height),
            turn: matrix.ok_or_else(|| Refused::Unsupported("it is shown at an angle".into()))?,
            colour: colour(stream, name, height)?,
            centred: centred(stream["chroma_location"].as_str().unwrap_or_default()),
            pixels: (pixels.clone(), pixels != name),
            facts: Facts {
                transfer,
                primaries: primaries(stream),
                aspect: ratio(&stream["sample_aspect_ratio"], ':'),
                interlaced: matches!(field_order, Some("tt" | "bb" | "tb" | "bt")),
                has_alpha: name.starts_with("yuva") || stream["tags"]["alpha_mode"] == "1",
                has_sound: sound.is_none() && of_kind("audio").next().is_some(),
                tracks,
            },
            sound,
            start: start.unwrap_or(0.0),
            rate: ["r_frame_rate", "avg_frame_rate"].into_iter().find_map(|key| {
                let [num, den] = ratio(&stream[key], '/')?;
                Fps::new(num, den).ok()
            }),
            unit: ratio(&stream["time_base"], '/')
                .and_then(|[num, den]| Some((num, NonZeroU32::new(den)?)))
                .unwrap_or((1, NonZeroU32::MIN)),
            is_picture_by_packet: stream["codec_name"].as_str().is_some_and(|name| PICTURE_BY_PACKET.contains(&name)),
        })
    }
}

/// Returns the name of the planar format with the same samples as the format of this name, without transparency; `None` for
/// one that is not YUV.
fn planar(name: &str) -> Option<String> {
    const PACKED: [(&str, &str); 8] = [
        ("nv12", "yuv420p"),
        ("nv21", "yuv420p"),
        ("nv16", "yuv422p"),
        ("yuyv422", "yuv422p"),
        ("uyvy422", "yuv422p"),
        ("p010", "yuv420p10le"),
        ("p210", "yuv422p10le"),
        ("y210", "yuv422p10le"),
    ];
    let base = name.strip_suffix("le").or_else(|| name.strip_suffix("be")).unwrap_or(name);
    if let Some((_, planar)) = PACKED.iter().find(|(packed, _)| *packed == base) {
        return Some((*planar).into());
    }
    let (kind, depth) = if let Some(depth) = base.strip_prefix("gray") {
        ("gray".to_owned(), depth)
    } else {
        let (coding, depth) = base.split_once('p')?;
        let kind = coding.strip_prefix("yuva").map_or_else(|| coding.to_owned(), |sampling| format!("yuv{sampling}"));
        let sampling = kind.strip_prefix("yuvj").or_else(|| kind.strip_prefix("yuv"))?;
        (["420", "422", "444", "411"].contains(&sampling).then(|| format!("{kind}p"))?, depth)
    };
    match depth {
        "" => Some(kind),
        "9" | "10" | "12" | "14" | "16" => Some(format!("{kind}{depth}le")),
        _ => None,
    }
}

fn ratio(value: &Value, separator: char) -> Option<[u32; 2]> {
    let (num, den) = value.as_str()?.split_once(separator)?;
    Some([num.parse().ok().filter(|&num| num > 0)?, den.parse().ok().filter(|&den| den > 0)?])
}

fn transfer(stream: &Value) -> Option<u8> {
    match stream["color_transfer"].as_str()? {
        "smpte2084" => Some(16),
        "arib-std-b67" => Some(18),
        _ => None,
    }
}

fn primaries(stream: &Value) -> Option<u8> {
    match stream["color_primaries"].as_str()? {
        "bt2020" => Some(9),
        "smpte431" => Some(11),
        "smpte432" => Some(12),
        _ => None,
    }
}

fn colour(stream: &Value, pixels: &str, height: usize) -> Result<Colour, Refused> {
    let is_grey = pixels.starts_with("gray");
    let name = stream["color_space"].as_str().unwrap_or("unknown");
    let matrix = match name {
        "unknown" | "unspecified" => usual_matrix(height),
        "bt709" => 1,
        "fcc" => 4,
        "bt470bg" | "smpte170m" => 6,
        "smpte240m" => 7,
        "bt2020nc" => 9,
        _ if is_grey => 1,
        _ => return Err(Refused::Unsupported(format!("its colours have the matrix `{}`", name.escape_debug()))),
    };
    let full_range = match stream["color_range"].as_str() {
        Some("pc" | "full" | "jpeg") => true,
        Some("tv" | "limited" | "mpeg") => false,
        _ => is_grey || pixels.starts_with("yuvj"),
    };
    Colour::new(matrix, full_range).ok_or_else(|| Refused::Unsupported(format!("its colours have matrix {matrix}")))
}

/// Returns whether chroma samples are in the middle of their columns and rows.
fn centred(location: &str) -> [bool; 2] {
    match location {
        "center" => [true, true],
        "topleft" => [false, false],
        "top" => [true, false],
        _ => LEFT,
    }
}

/// Returns the turn of a display matrix as `ffprobe` prints it: three lines of a number with a colon and three values.
fn turn(text: &str) -> Option<Turn> {
    let mut numbers = text.split_whitespace().filter(|word| !word.ends_with(':')).map(|word| word.parse().ok());
    let mut matrix = [0; 9];
    for number in &mut matrix {
        *number = numbers.next()??;
    }
    Turn::from_matrix(matrix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixel_formats_become_planar_ones_with_the_same_samples() {
        for (name, expected) in [
            ("yuv420p", Some("yuv420p")),
            ("yuvj422p", Some("yuvj422p")),
            ("yuv444p12be", Some("yuv444p12le")),
            ("yuva444p10le", Some("yuv444p10le")),
            ("yuva420p", Some("yuv420p")),
            ("gray", Some("gray")),
            ("gray10le", Some("gray10le")),
            ("p010le", Some("yuv420p10le")),
            ("nv12", Some("yuv420p")),
            ("yuv440p", None),
            ("gbrp", None),
            ("bgr0", None),
            ("pal8", None),
            ("grayf32le", None),
            ("ya8", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(planar(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn display_matrices_are_turns() {
        let text = "\n00000000:            0      -65536           0\n00000001:        65536           0           0\n00000002:            0           0  1073741824\n";
        assert_eq!(turn(text), Turn::from_matrix([0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30]));
        assert_eq!(turn("00000000: 1 2"), None);
    }
}
