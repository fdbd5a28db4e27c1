//! Signed links and sessions: who has one may read what it names until it expires.

use axum::http::Uri;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// How long a session lasts, in milliseconds.
pub const SESSION: i64 = 30 * 86_400_000;

/// HMAC-SHA-256 of `parts`, each with its length before it. The first one says what it is for.
pub fn mac(secret: &[u8; 32], parts: &[&str]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

fn sign(secret: &[u8; 32], parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(mac(secret, parts))
}

fn is_signed(secret: &[u8; 32], parts: &[&str], signature: &str) -> bool {
    bool::from(sign(secret, parts).as_bytes().ct_eq(signature.as_bytes()))
}

/// The query of a link to `path` that lets its bearer read as `owner` until `expires`, in milliseconds since 1970.
pub fn query(secret: &[u8; 32], path: &str, owner: &str, expires: i64) -> String {
    let (owner, expires) = (URL_SAFE_NO_PAD.encode(owner), expires.to_string());
    let signature = sign(secret, &["link", path, &owner, &expires]);
    format!("owner={owner}&expires={expires}&signature={signature}")
}

/// The owner as whom a signed link reads; `None` if it is not signed, or has expired.
pub fn owner_of(secret: &[u8; 32], uri: &Uri, now: i64) -> Option<String> {
    let pairs: Vec<(&str, &str)> = uri.query()?.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let value = |name: &str| pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
    let (owner, expires, signature) = (value("owner")?, value("expires")?, value("signature")?);
    let is_valid = is_signed(secret, &["link", uri.path(), owner, expires], signature);
    let in_time = expires.parse::<i64>().is_ok_and(|at| now < at);
    let owner = String::from_utf8(URL_SAFE_NO_PAD.decode(owner).ok()?).ok()?;
    (is_valid && in_time).then_some(owner)
}

/// The value of a session's cookie for the key with that id.
pub fn session(secret: &[u8; 32], key: &str, now: i64) -> String {
    let expires = (now + SESSION).to_string();
    let signature = sign(secret, &["session", key, &expires]);
    format!("{key}.{expires}.{signature}")
}

/// The id of the key that a session's cookie stands for, and when the session is over; `None` if it is not ours, or over.
pub fn session_key(secret: &[u8; 32], cookie: &str, now: i64) -> Option<(String, i64)> {
    let mut parts = cookie.split('.');
    let (key, expires, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let is_valid = parts.next().is_none() && is_signed(secret, &["session", key, expires], signature);
    let until = expires.parse::<i64>().ok().filter(|at| is_valid && now < *at)?;
    Some((key.to_string(), until))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    #[test]
    fn links_are_for_one_path_one_owner_and_a_time() {
        let query = query(&SECRET, "/v1/videos/a/content", "anna", 100);
        let read =
            |path: &str, query: &str, now| owner_of(&SECRET, &format!("{path}?{query}").parse().expect("a path"), now);
        assert_eq!(read("/v1/videos/a/content", &query, 99).as_deref(), Some("anna"));
        assert_eq!(read("/v1/videos/a/content", &query, 100), None, "it has expired");
        assert_eq!(read("/v1/videos/b/content", &query, 99), None);
        assert_eq!(read("/v1/videos/a/content", &query.replace("expires=100", "expires=900"), 99), None);
        let other = query.replace(&URL_SAFE_NO_PAD.encode("anna"), &URL_SAFE_NO_PAD.encode("otto"));
        assert_eq!(read("/v1/videos/a/content", &other, 99), None);
        assert_eq!(owner_of(&[8; 32], &format!("/v1/videos/a/content?{query}").parse().expect("a path"), 99), None);
    }

    #[test]
    fn sessions_end() {
        let cookie = session(&SECRET, "key_1", 5);
        assert_eq!(session_key(&SECRET, &cookie, 5 + SESSION - 1), Some(("key_1".into(), 5 + SESSION)));
        assert_eq!(session_key(&SECRET, &cookie, 5 + SESSION), None);
        assert_eq!(session_key(&SECRET, &cookie.replace("key_1", "key_2"), 6), None);
        assert_eq!(session_key(&SECRET, "a.b", 6), None);
    }
}
