//! The parts of the ZIP format that locate the members of a `PyTorch` file, which are uncompressed and can be mapped.
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>

use std::collections::BTreeMap;
use std::ops::Range;

/// The archive's members and their byte ranges.
pub(crate) type Members = BTreeMap<String, Range<usize>>;

const END: &[u8] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
const LOCATOR64: &[u8] = b"PK\x06\x07";
const LOCATOR64_LENGTH: usize = 20;
const END64: &[u8] = b"PK\x06\x06";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// The value of a 32-bit field whose real value is in the ZIP64 extra field.
const IN_EXTRA: u64 = 0xffff_ffff;

/// Reads the central directory.
pub(crate) fn members(bytes: &[u8]) -> Result<Members, String> {
    let (count, mut at) = directory(bytes).ok_or("the archive's directory is missing: the file is cut short")?;
    let mut members = Members::new();
    for _ in 0..count {
        let (member, next) = central_entry(bytes, at).ok_or("the archive's directory is damaged")?;
        at = next;
        if member.method != 0 {
            return Err(format!("`{}` is compressed", member.name));
        }
        let range = member.range(bytes).ok_or_else(|| format!("`{}` lies outside the file", member.name))?;
        if let Some(name) = members.insert(member.name.clone(), range).map(|_| member.name) {
            return Err(format!("`{name}` appears in the archive twice"));
        }
    }
    Ok(members)
}

/// Returns the number of members and the offset of the first entry.
fn directory(bytes: &[u8]) -> Option<(u64, usize)> {
    // The end record is followed by a comment of at most 65535 bytes.
    let last = bytes.len().checked_sub(END_LENGTH)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let end = (first..=last).rev().find(|at| bytes[*at..].starts_with(END))?;
    if let Some(locator) = end.checked_sub(LOCATOR64_LENGTH).filter(|at| bytes[*at..].starts_with(LOCATOR64)) {
        let end = usize::try_from(number(bytes, locator + 8, 8)?).ok()?;
        if !bytes.get(end..)?.starts_with(END64) {
            return None;
        }
        return Some((
            number(bytes, end.checked_add(32)?, 8)?,
            number(bytes, end.checked_add(48)?, 8)?.try_into().ok()?,
        ));
    }
    Some((number(bytes, end + 10, 2)?, number(bytes, end + 16, 4)? as usize))
}

struct Member {
    name: String,
    method: u64,
    size: u64,
    local: u64,
}

/// Returns the entry at `at` and the offset of the next one.
fn central_entry(bytes: &[u8], at: usize) -> Option<(Member, usize)> {
    if !bytes.get(at..)?.starts_with(CENTRAL) {
        return None;
    }
    let field = |offset: usize, length: usize| number(bytes, at + offset, length);
    let (name_length, extra_length) = (field(28, 2)? as usize, field(30, 2)? as usize);
    let name = bytes.get(at + 46..at + 46 + name_length)?;
    let extra = bytes.get(at + 46 + name_length..at + 46 + name_length + extra_length)?;
    let (compressed, size, local) = (field(20, 4)?, field(24, 4)?, field(42, 4)?);
    // The ZIP64 field holds, in this order, the ones of these three that do not fit into 32 bits.
    let mut wide = zip64_field(extra).unwrap_or_default().chunks_exact(8);
    let mut widen = |value: u64| if value == IN_EXTRA { number(wide.next()?, 0, 8) } else { Some(value) };
    let size = widen(size)?;
    widen(compressed)?;
    let local = widen(local)?;
    let member = Member { name: String::from_utf8(name.to_vec()).ok()?, method: field(10, 2)?, size, local };
    Some((member, at + 46 + name_length + extra_length + field(32, 2)? as usize))
}

fn zip64_field(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (id, length) = (number(extra, 0, 2)?, number(extra, 2, 2)? as usize);
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            return Some(field);
        }
        extra = &extra[4 + length..];
    }
}

impl Member {
    /// Returns the byte range of the member, after its local header.
    fn range(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let local = usize::try_from(self.local).ok()?;
        if !bytes.get(local..)?.starts_with(LOCAL) {
            return None;
        }
        let names = number(bytes, local + 26, 2)? + number(bytes, local + 28, 2)?;
        let start = local + 30 + names as usize;
        let end = start.checked_add(usize::try_from(self.size).ok()?)?;
        (end <= bytes.len()).then_some(start..end)
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}
