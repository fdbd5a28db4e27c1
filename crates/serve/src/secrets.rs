//! Secrets that are derived, not kept: those of access keys, with which clients sign tokens, and those of webhooks, with which
//! the server signs events. Each is an HMAC under the server's own secret over whose it is and its version, so that it can be
//! shown again, and the next version replaces it.

use crate::error::Result;
use crate::link::mac;
use crate::store::keys::Key;
use crate::store::settings;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// What the secrets of access keys begin with.
const ACCESS: &str = "sk_";
/// What the secrets of webhooks begin with, as Standard Webhooks have it.
const HOOKS: &str = "whsec_";

/// The server's own secret.
///
/// # Errors
/// The store's.
pub fn own(connection: &Connection) -> Result<[u8; 32]> {
    settings::secret(connection, "links")
}

/// The secret with which the access key signs tokens.
pub fn of_access_key(own: &[u8; 32], key: &Key) -> String {
    let bytes = mac(own, &["access key", &key.access_key, &key.version.to_string()]);
    format!("{ACCESS}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The version of the secret of webhooks that is in force.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    version: u32,
    /// Until when the one before signs, too, in milliseconds since 1970.
    before_until: i64,
}

/// A secret of webhooks.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSecret(pub [u8; 32]);

impl HookSecret {
    /// The secret as receivers are given it.
    pub fn text(&self) -> String {
        format!("{HOOKS}{}", STANDARD.encode(self.0))
    }
}

/// The secrets that sign events of an owner, or those of the server's own receivers; the newest first.
///
/// # Errors
/// The store's.
pub fn of_hooks(connection: &Connection, owner: Option<&str>, now: i64) -> Result<Vec<HookSecret>> {
    let own = own(connection)?;
    let Version { version, before_until } = version(connection, owner)?;
    let older = (now < before_until).then(|| version.saturating_sub(1));
    let secret = |version: u32| {
        let number = version.to_string();
        HookSecret(match owner {
            Some(owner) => mac(&own, &["hooks of", owner, &number]),
            None => mac(&own, &["hooks", &number]),
        })
    };
    Ok(std::iter::once(version).chain(older).map(secret).collect())
}

/// Makes the next secret the one that signs; the one before signs, too, until `before_until`, in milliseconds since 1970.
///
/// # Errors
/// The store's.
pub fn rotate_hooks(connection: &Connection, owner: Option<&str>, before_until: i64) -> Result<()> {
    let next = Version { version: version(connection, owner)?.version + 1, before_until };
    settings::set(connection, &setting(owner), &serde_json::to_vec(&next).unwrap_or_default())
}

fn version(connection: &Connection, owner: Option<&str>) -> Result<Version> {
    let kept = settings::get(connection, &setting(owner))?;
    Ok(kept.and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default())
}

fn setting(owner: Option<&str>) -> String {
    owner.map_or_else(|| "hooks".into(), |owner| format!("hooks of {owner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_webhooks_are_their_owners_and_overlap_when_they_are_replaced() {
        let store = crate::store::in_memory().expect("a store");
        let texts = |owner: Option<&str>, now| {
            let secrets = of_hooks(&store, owner, now).expect("secrets");
            secrets.iter().map(HookSecret::text).collect::<Vec<_>>()
        };
        let first = texts(Some("anna"), 0);
        assert!(first.len() == 1 && first[0].starts_with("whsec_") && first[0].len() == 50, "{first:?}");
        assert_eq!(texts(Some("anna"), 5), first);
        assert!(texts(Some("otto"), 0) != first && texts(None, 0) != first);
        rotate_hooks(&store, Some("anna"), 100).expect("another one");
        let second = texts(Some("anna"), 99);
        assert_eq!((second.len(), &second[1]), (2, &first[0]));
        assert_eq!(texts(Some("anna"), 100), second[..1]);
        assert_eq!(texts(Some("otto"), 99).len(), 1);
    }
}
