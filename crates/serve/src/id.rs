//! Names of clips, uploads and keys: a prefix and a ULID in small letters, which sorts by time.
//!
//! A ULID is 48 bits of milliseconds since 1970 and 80 random bits, written in 26 letters of Crockford's base32
//! (<https://github.com/ulid/spec>). Names of one process always grow: within a millisecond, or when the clock was set
//! back, the next one is the last one plus a random number.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// The prefix of clips.
pub const CLIP: &str = "video_";
/// The prefix of uploads.
pub const UPLOAD: &str = "file_";
/// The prefix of keys' rows. It is not the key.
pub const KEY: &str = "key_";
/// The prefix of access keys, which sign requests and are no secret.
pub const ACCESS_KEY: &str = "ak_";
/// The prefix of events in the outbox.
pub const EVENT: &str = "evt_";

const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 26;
const RANDOM_BITS: u32 = 80;

static LAST: Mutex<u128> = Mutex::new(0);

/// Returns a new name at the time `now`, in milliseconds since 1970.
///
/// # Errors
///
/// [`Error::Random`] when the system gives no random bytes, and [`Error::Invalid`] for a time before 1970 or after the
/// year 10889.
pub fn new(prefix: &str, now: i64) -> Result<String> {
    let time = u128::try_from(now).ok().filter(|time| time >> 48 == 0);
    let time = time.ok_or_else(|| Error::Invalid { what: "the time".into(), problem: format!("is {now} ms") })?;
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    let random = u128::from_be_bytes(bytes);
    let fresh = (time << RANDOM_BITS) | (random >> (128 - RANDOM_BITS));
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    // A step of up to 2^32 leaves no neighbour to be guessed.
    let value = if fresh > *last { fresh } else { *last + 1 + (random & 0xffff_ffff) };
    *last = value;
    Ok(format!("{prefix}{}", letters(value)))
}

/// Returns the first name of that time, in milliseconds since 1970: names from before are smaller.
pub fn first(prefix: &str, at: i64) -> String {
    let time = u128::try_from(at).unwrap_or(0).min((1 << 48) - 1);
    format!("{prefix}{}", letters(time << RANDOM_BITS))
}

/// Whether `text` is the prefix and 26 letters of a ULID, so that it can be a name of that kind.
pub fn is(prefix: &str, text: &str) -> bool {
    let ulid = text.strip_prefix(prefix).map(str::as_bytes);
    // 26 letters are 130 bits: the first letter has only three.
    ulid.is_some_and(|ulid| {
        ulid.len() == LENGTH && ulid[0] <= b'7' && ulid.iter().all(|letter| LETTERS.contains(letter))
    })
}

fn letters(value: u128) -> String {
    let shifts = (0..LENGTH as u32).rev();
    shifts.map(|place| char::from(LETTERS[(value >> (5 * place)) as usize & 31])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification: 1469918176385 ms is `01ARYZ6S41`.
    #[test]
    fn the_first_ten_letters_are_the_time() {
        assert_eq!(first(CLIP, 1_469_918_176_385), "video_01aryz6s410000000000000000");
        assert!(first(CLIP, -1) < first(CLIP, i64::MAX) && is(CLIP, &first(CLIP, i64::MAX)));
        assert_eq!(&letters(1_469_918_176_385 << RANDOM_BITS)[..10], "01aryz6s41");
        assert_eq!(letters(u128::MAX), "7zzzzzzzzzzzzzzzzzzzzzzzzz");
    }

    #[test]
    fn names_grow_even_if_the_clock_does_not() {
        let times = [4_000_000_000_000, 4_000_000_000_000, 3_999_999_999_999, 1, 4_000_000_000_001];
        let names: Vec<_> = times.iter().cycle().take(5000).map(|now| new(CLIP, *now).expect("a name")).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        assert!(names.iter().all(|name| is(CLIP, name) && !is(UPLOAD, name)));
    }

    #[test]
    fn impossible_times_are_refused() {
        assert!(new(CLIP, -1).is_err() && new(CLIP, 1 << 48).is_err());
    }

    #[test]
    fn other_texts_are_no_names() {
        let good = "video_01aryz6s4100000000000000zz";
        assert!(is(CLIP, good));
        for bad in ["", "video_", "video_01aryz6s4100000000000000z", "video_81aryz6s4100000000000000zz"] {
            assert!(!is(CLIP, bad), "{bad}");
        }
        for (letter, to) in [("r", "u"), ("r", "R"), ("r", "/"), ("zz", "é")] {
            assert!(!is(CLIP, &good.replace(letter, to)), "{to}");
        }
    }
}
