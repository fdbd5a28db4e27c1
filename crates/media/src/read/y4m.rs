//! YUV4MPEG2, a stream of uncompressed pictures: a line that describes them, then for each a line and its planes
//! (<https://wiki.multimedia.cx/index.php/YUV4MPEG2>; depths above 8 bits are `FFmpeg`'s extension, in little-endian order).

use crate::read::colour::Yuv;
use std::io::{self, BufRead, Read};

/// The longest line that is read.
const LONGEST: u64 = 1024;

/// The description of a stream.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// The number of bits per sample.
    pub(crate) depth: u32,
    /// The columns and rows of luma per chroma sample, as powers of 2; `None` without chroma.
    pub(crate) chroma_shift: Option<[u32; 2]>,
    pub(crate) interlaced: bool,
    /// Whether samples use all codes, if the stream says so.
    pub(crate) full_range: Option<bool>,
}

impl Header {
    /// Reads the first line.
    ///
    /// # Errors
    /// `UnexpectedEof` where the stream is empty, `InvalidData` for another line or a kind that is not supported.
    pub(crate) fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let line = line(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Self::parse(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        if fields.next() != Some("YUV4MPEG2") {
            return None;
        }
        let mut found =
            Self { width: 0, height: 0, depth: 8, chroma_shift: Some([1, 1]), interlaced: false, full_range: None };
        for field in fields {
            match field.split_at_checked(1)? {
                ("W", width) => found.width = width.parse().ok()?,
                ("H", height) => found.height = height.parse().ok()?,
                ("I", order) => found.interlaced = matches!(order, "t" | "b" | "m"),
                ("C", coding) => (found.chroma_shift, found.depth) = chroma(coding)?,
                ("X", "COLORRANGE=FULL") => found.full_range = Some(true),
                ("X", "COLORRANGE=LIMITED") => found.full_range = Some(false),
                _ => {}
            }
        }
        (found.width > 0 && found.height > 0).then_some(found)
    }

    /// Reads the next picture, or returns `None` at the end of the stream. Chroma of a stream without one is grey.
    pub(crate) fn read_picture(&self, stream: &mut impl BufRead) -> io::Result<Option<[Vec<u16>; 3]>> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let Some(line) = line(stream)? else { return Ok(None) };
        if line != "FRAME" && !line.starts_with("FRAME ") {
            return Err(broken());
        }
        let luma = self.read_plane(stream, (self.width, self.height))?;
        let Some(shift) = self.chroma_shift else {
            let grey = vec![1 << (self.depth - 1); luma.len()];
            return Ok(Some([luma, grey.clone(), grey]));
        };
        let size = Yuv::chroma_size(self.width, self.height, shift);
        Ok(Some([luma, self.read_plane(stream, size)?, self.read_plane(stream, size)?]))
    }

    fn read_plane(&self, stream: &mut impl Read, (width, height): (usize, usize)) -> io::Result<Vec<u16>> {
        let bytes = if self.depth > 8 { 2 } else { 1 };
        let mut plane = vec![0; bytes * width * height];
        stream.read_exact(&mut plane)?;
        Ok(match bytes {
            1 => plane.into_iter().map(u16::from).collect(),
            _ => plane.as_chunks::<2>().0.iter().map(|&code| u16::from_le_bytes(code)).collect(),
        })
    }
}

/// Reads a line without its end, or returns `None` at the end of the stream.
fn line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    stream.by_ref().take(LONGEST).read_until(b'\n', &mut bytes)?;
    match (bytes.pop(), String::from_utf8(bytes)) {
        (None, _) => Ok(None),
        (Some(b'\n'), Ok(line)) => Ok(Some(line)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Returns the subsampling of chroma and the depth that a `C` field names, such as `420jpeg`, `422p10` or `mono`.
fn chroma(coding: &str) -> Option<(Option<[u32; 2]>, u32)> {
    if let Some(depth) = coding.strip_prefix("mono") {
        let depth = if depth.is_empty() { 8 } else { depth.parse().ok()? };
        return (8..=16).contains(&depth).then_some((None, depth));
    }
    let (sampling, rest) = coding.split_at_checked(3)?;
    let shift = match sampling {
        "420" => [1, 1],
        "422" => [1, 0],
        "444" => [0, 0],
        "411" => [2, 0],
        _ => return None,
    };
    let depth = match rest {
        "" | "jpeg" | "mpeg2" | "paldv" => 8,
        _ => rest.strip_prefix('p')?.parse().ok()?,
    };
    (8..=16).contains(&depth).then_some((Some(shift), depth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_parsed_or_refused() {
        let header = |line: &str| Header::read(&mut format!("{line}\n").as_bytes()).ok();
        let found = header("YUV4MPEG2 W96 H64 F24:1 Ip A1:1 C420p10 XYSCSS=420P10 XCOLORRANGE=LIMITED").unwrap();
        assert_eq!((found.width, found.height, found.depth, found.chroma_shift), (96, 64, 10, Some([1, 1])));
        assert_eq!((found.interlaced, found.full_range), (false, Some(false)));
        let of =
            |coding: &str| header(&format!("YUV4MPEG2 W2 H2 C{coding}")).map(|found| (found.chroma_shift, found.depth));
        assert_eq!(of("420jpeg"), Some((Some([1, 1]), 8)));
        assert_eq!(of("422p16"), Some((Some([1, 0]), 16)));
        assert_eq!(of("411"), Some((Some([2, 0]), 8)));
        assert_eq!(of("mono12"), Some((None, 12)));
        for bad in ["444alpha", "420p17", "420p0", "999", "mono7", "é", "42"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        for bad in ["YUV4MPEG W2 H2", "YUV4MPEG2 W2", "YUV4MPEG2 W-1 H2", "YUV4MPEG2 W99999999999999999999 H2", ""] {
            assert_eq!(header(bad), None, "{bad}");
        }
        assert!(header("YUV4MPEG2 W2 H2 It").unwrap().interlaced);
        assert!(Header::read(&mut &[b'x'; 5000][..]).is_err());
    }

    #[test]
    fn pictures_are_read_whole_or_not_at_all() {
        let header = Header::parse("YUV4MPEG2 W3 H1 C420p10").unwrap();
        let stream = b"FRAME\n\x01\x02\x03\x00\x04\x00\x05\x00\x06\x00\x07\x00\x08\x00\x09\x00\x0a\x00\x0b\x00";
        let mut whole = &stream[..20];
        assert_eq!(header.read_picture(&mut whole).unwrap().unwrap()[..2], [vec![0x201, 3, 4], vec![5, 6]]);
        assert_eq!(header.read_picture(&mut whole).unwrap(), None);
        assert!(header.read_picture(&mut &stream[..19]).is_err());
        assert!(header.read_picture(&mut &b"frame\n"[..]).is_err());
        let grey = Header::parse("YUV4MPEG2 W1 H1 Cmono").unwrap();
        assert_eq!(grey.read_picture(&mut &b"FRAME Ip\n\x07"[..]).unwrap().unwrap(), [vec![7], vec![128], vec![128]]);
    }
}
