//! The parts of the ZIP format that locate the members of a `PyTorch` file, which are uncompressed and are read where they lie.
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>

use crate::data::Data;
use std::collections::BTreeMap;
use std::ops::Range;

/// The archive's members and their byte ranges.
pub(crate) type Members = BTreeMap<String, Range<usize>>;

const END: &[u8] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
const LOCATOR64: &[u8] = b"PK\x06\x07";
const LOCATOR64_LENGTH: usize = 20;
const END64: &[u8] = b"PK\x06\x06";
const END64_LENGTH: usize = 56;
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LENGTH: usize = 30;
/// The value of a 32-bit field whose real value is in the ZIP64 extra field.
const IN_EXTRA: u64 = 0xffff_ffff;

/// The longest directory that is read, in bytes.
const LONGEST_DIRECTORY: usize = 1 << 26;

/// Reads the central directory.
pub(crate) fn members(data: &Data) -> Result<Members, String> {
    let directory = directory(data).ok_or("the archive's directory is missing: the file is cut short")?;
    let (count, range) = directory;
    if range.len() > LONGEST_DIRECTORY {
        return Err(format!("the archive's directory is {} bytes long", range.len()));
    }
    let bytes = data.get(range).ok_or("the archive's directory lies outside the file")?;
    let (mut members, mut at) = (Members::new(), 0);
    for _ in 0..count {
        let (member, next) = central_entry(&bytes, at).ok_or("the archive's directory is damaged")?;
        at = next;
        if member.method != 0 {
            return Err(format!("`{}` is compressed", member.name));
        }
        let range = member.range(data).ok_or_else(|| format!("`{}` lies outside the file", member.name))?;
        if let Some(name) = members.insert(member.name.clone(), range).map(|_| member.name) {
            return Err(format!("`{name}` appears in the archive twice"));
        }
    }
    Ok(members)
}

/// Returns the number of members and the place of the directory.
fn directory(data: &Data) -> Option<(u64, Range<usize>)> {
    // The end record is followed by a comment of at most 65535 bytes.
    let first = data.len().saturating_sub(END_LENGTH + usize::from(u16::MAX));
    let tail = data.get(first..data.len())?;
    let end = (0..=tail.len().checked_sub(END_LENGTH)?).rev().find(|at| tail[*at..].starts_with(END))?;
    // The locator, where there is one, stands right before it.
    let locator = (first + end).checked_sub(LOCATOR64_LENGTH).and_then(|at| data.get(at..first + end));
    let place = |size: u64, start: u64| {
        let start = usize::try_from(start).ok()?;
        Some(start..start.checked_add(usize::try_from(size).ok()?)?)
    };
    if let Some(locator) = locator.filter(|locator| locator.starts_with(LOCATOR64)) {
        let start = usize::try_from(number(&locator, 8, 8)?).ok()?;
        let record = data.get(start..start.checked_add(END64_LENGTH)?)?;
        let range = place(number(&record, 40, 8)?, number(&record, 48, 8)?)?;
        return record.starts_with(END64).then_some((number(&record, 32, 8)?, range));
    }
    let record = &tail[end..];
    Some((number(record, 10, 2)?, place(number(record, 12, 4)?, number(record, 16, 4)?)?))
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
    fn range(&self, data: &Data) -> Option<Range<usize>> {
        let local = usize::try_from(self.local).ok()?;
        let header = data.get(local..local.checked_add(LOCAL_LENGTH)?)?;
        if !header.starts_with(LOCAL) {
            return None;
        }
        let names = number(&header, 26, 2)? + number(&header, 28, 2)?;
        let start = local + LOCAL_LENGTH + names as usize;
        let end = start.checked_add(usize::try_from(self.size).ok()?)?;
        (end <= data.len()).then_some(start..end)
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}
