//! The keys and values of a GGUF header. Numbers and texts are kept; of lists it is kept where they lie.

use super::cursor::{Cursor, Read};
use crate::data::Data;
use std::collections::BTreeMap;
use std::ops::Range;

/// The most keys that are read.
const MOST_KEYS: usize = 1 << 16;
/// The deepest list in lists.
const DEEPEST: usize = 4;
/// The least bytes of a key with its value.
const LEAST_BYTES: usize = 8 + 4 + 1;

/// The value of a key.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Whole(i128),
    Real(f64),
    Text(String),
    List(List),
}

/// The place of a list in the file.
#[derive(Clone, Debug)]
pub(crate) struct List {
    kind: u32,
    count: usize,
    bytes: Range<usize>,
}

/// The values by their keys.
pub(crate) type Metadata = BTreeMap<String, Value>;

/// Reads the number of keys, then the keys and their values.
pub(super) fn read_metadata(cursor: &mut Cursor) -> Read<Metadata> {
    let count = cursor.count(LEAST_BYTES, "keys")?;
    if count > MOST_KEYS {
        return Err(format!("it has {count} keys of metadata, at most {MOST_KEYS} are read"));
    }
    let mut metadata = Metadata::new();
    for _ in 0..count {
        let key = cursor.text()?;
        let kind = cursor.u32()?;
        let value = read_value(cursor, kind).map_err(|problem| format!("`{key}`: {problem}"))?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("the key `{key}` appears twice"));
        }
    }
    Ok(metadata)
}

fn read_value(cursor: &mut Cursor, kind: u32) -> Read<Value> {
    Ok(match kind {
        8 => Value::Text(cursor.text()?),
        9 => {
            let (kind, count) = list_head(cursor)?;
            let start = cursor.at();
            skip_items(cursor, kind, count, 1)?;
            Value::List(List { kind, count, bytes: start..cursor.at() })
        }
        _ => read_number(cursor, kind)?,
    })
}

/// Reads a number of one of the types with a size of their own; a truth value is 0 or 1.
fn read_number(cursor: &mut Cursor, kind: u32) -> Read<Value> {
    Ok(match kind {
        0 => Value::Whole(cursor.bytes::<1>()?[0].into()),
        1 => Value::Whole(i8::from_le_bytes(cursor.bytes()?).into()),
        2 => Value::Whole(u16::from_le_bytes(cursor.bytes()?).into()),
        3 => Value::Whole(i16::from_le_bytes(cursor.bytes()?).into()),
        4 => Value::Whole(u32::from_le_bytes(cursor.bytes()?).into()),
        5 => Value::Whole(i32::from_le_bytes(cursor.bytes()?).into()),
        6 => Value::Real(f32::from_le_bytes(cursor.bytes()?).into()),
        7 => match cursor.bytes::<1>()?[0] {
            truth @ 0..=1 => Value::Whole(truth.into()),
            other => return Err(format!("{other} is no truth value")),
        },
        10 => Value::Whole(u64::from_le_bytes(cursor.bytes()?).into()),
        11 => Value::Whole(i64::from_le_bytes(cursor.bytes()?).into()),
        12 => Value::Real(f64::from_le_bytes(cursor.bytes()?)),
        other => return Err(format!("{other} is no type of a value")),
    })
}

/// The type of a list's items and their number, for which there is room.
fn list_head(cursor: &mut Cursor) -> Read<(u32, usize)> {
    let kind = cursor.u32()?;
    let least = match kind {
        8 => 8,
        9 => 12,
        other => size_of(other)?,
    };
    Ok((kind, cursor.count(least, "items of a list")?))
}

/// The bytes of a number of this type.
fn size_of(kind: u32) -> Read<usize> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        other => Err(format!("{other} is no type of a value")),
    }
}

fn skip_items(cursor: &mut Cursor, kind: u32, count: usize, depth: usize) -> Read<()> {
    match kind {
        8 => (0..count).try_for_each(|_| cursor.skip_text()),
        9 if depth == DEEPEST => Err(format!("lists lie in lists, more than {DEEPEST} deep")),
        9 => (0..count).try_for_each(|_| {
            let (kind, count) = list_head(cursor)?;
            skip_items(cursor, kind, count, depth + 1)
        }),
        // Each has its size, and there is room for all.
        _ => cursor.skip(count * size_of(kind)?),
    }
}

impl Value {
    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn size(&self) -> Option<usize> {
        if let Self::Whole(number) = self { usize::try_from(*number).ok() } else { None }
    }

    /// The value as people read it; none for a list.
    pub(crate) fn shown(&self) -> Option<String> {
        match self {
            Self::Whole(number) => Some(number.to_string()),
            Self::Real(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::List(_) => None,
        }
    }
}

impl List {
    /// The items of a list of texts.
    pub(crate) fn texts(&self, data: &Data) -> Read<Vec<String>> {
        if self.kind != 8 {
            return Err("is not a list of texts".to_string());
        }
        let mut cursor = Cursor::new(data, self.bytes.start);
        (0..self.count).map(|_| cursor.text()).collect()
    }

    /// The items of a list of numbers.
    pub(crate) fn numbers(&self, data: &Data) -> Read<Vec<f64>> {
        let mut cursor = Cursor::new(data, self.bytes.start);
        let number = |_| match read_number(&mut cursor, self.kind) {
            Ok(Value::Real(number)) => Ok(number),
            Ok(Value::Whole(number)) => Ok(number as f64),
            _ => Err("is not a list of numbers".to_string()),
        };
        (0..self.count).map(number).collect()
    }

    /// The items of a list of sizes.
    pub(crate) fn sizes(&self, data: &Data) -> Option<Vec<usize>> {
        let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0 && number < 9e15).then_some(number as usize);
        self.numbers(data).ok()?.into_iter().map(whole).collect()
    }
}
