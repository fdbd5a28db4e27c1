//! [`Config`]: what the operator allows, as TOML with a default for every key.
//!
//! `config.example.toml` in this crate's folder has all of them.

mod limit;
mod outgoing;
mod prices;
mod tiers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::Terms;
use crate::zone::Zone;

pub use limit::Limit;
pub use outgoing::{Network, Outgoing, Webhook, host_of, refusal};
pub use prices::{Mode, Price, Prices};
pub use tiers::{Retention, Tier};

/// The owner of what is asked for without any key, which only this machine itself can do.
pub const LOCAL: &str = "local";

/// What the operator allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address that the server listens on.
    pub host: IpAddr,
    /// The port that the server listens on; 0 lets the system choose one.
    pub port: u16,
    /// The number of connections; those above it are told to try again.
    pub connections: u32,
    /// The directory of the store, of clips and of uploads. A relative one is below the working directory.
    pub data: PathBuf,
    /// The address under which clients reach the server, such as `https://clips.example.org`; links begin with it.
    pub public_url: Option<String>,
    /// Names with which clients may ask for the server, besides those of this machine and of `public_url`.
    pub extra_hosts: BTreeSet<String>,
    /// The zone whose days credits are counted in.
    pub time_zone: Zone,
    /// The models that can be asked for: their names at the API, and what `--model` takes for them.
    pub models: BTreeMap<String, String>,
    /// The name of the model that is used when none is asked for.
    pub default_model: String,
    /// The models that Kling's names stand for; those of its names that are not here stand for the default one.
    pub kling_models: BTreeMap<String, String>,
    /// The number of worker processes, each of which makes one clip at a time.
    pub workers: u32,
    /// The number of clips that may wait, of all owners together.
    pub queue: Limit,
    /// The tier of requests from this machine itself, when there is no key.
    pub local_tier: String,
    /// The tier of new keys for which none is named.
    pub default_tier: String,
    /// The tiers by name.
    pub tiers: BTreeMap<String, Tier>,
    /// What clips cost.
    pub prices: Prices,
    /// How long clips and uploads are kept.
    pub retention: Retention,
    /// What the server may connect to for its clients.
    pub outgoing: Outgoing,
    /// Receivers that are told of finished clips.
    pub webhooks: Vec<Webhook>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 7788,
            connections: 4096,
            data: PathBuf::from("kinora-data"),
            public_url: None,
            extra_hosts: BTreeSet::new(),
            time_zone: Zone::default(),
            models: BTreeMap::from([("embedded".into(), "embedded".into())]),
            default_model: "embedded".into(),
            kling_models: BTreeMap::new(),
            workers: 1,
            queue: Limit::of(1000),
            local_tier: LOCAL.into(),
            default_tier: "free".into(),
            tiers: tiers::defaults(),
            prices: Prices::default(),
            retention: Retention::default(),
            outgoing: Outgoing::default(),
            webhooks: Vec::new(),
        }
    }
}

impl Config {
    /// A file with every key, its default and what it means.
    pub const EXAMPLE: &str = include_str!("../../config.example.toml");

    /// Reads a configuration from TOML. Keys that are not there have their default; a table of tiers or models
    /// replaces the default one.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for text that is no TOML, for unknown keys and wrong types, and [`Error::Invalid`] for values
    /// that are not possible.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Reads a configuration file. See [`Self::parse`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be read, and the errors of [`Self::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Self::parse(&text)
    }

    /// Checks that the values are possible and fit together.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the first key that is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, problem: String| Err(Error::Invalid { what: format!("`{what}`"), problem });
        for (key, name) in [("local_tier", &self.local_tier), ("default_tier", &self.default_tier)] {
            if !self.tiers.contains_key(name) {
                return wrong(key, format!("is `{name}`, which is not among the tiers: {}", names(&self.tiers)));
            }
        }
        if !self.models.contains_key(&self.default_model) {
            let known = names(&self.models);
            return wrong(
                "default_model",
                format!("is `{}`, which is not among the models: {known}", self.default_model),
            );
        }
        if let Some((name, model)) = self.kling_models.iter().find(|(_, model)| !self.models.contains_key(*model)) {
            let known = names(&self.models);
            return wrong(
                "kling_models",
                format!("has `{model}` for `{name}`, which is not among the models: {known}"),
            );
        }
        for webhook in &self.webhooks {
            self.outgoing.check(&webhook.url).or_else(|what| wrong("webhooks", format!("have a wrong one: {what}")))?;
        }
        if let Some(name) = self.tiers.keys().chain(self.models.keys()).find(|name| !is_name(name)) {
            return wrong(name, "must be 1 to 64 letters, digits, `-`, `_` or `.` to be a name".into());
        }
        if !(1..=1_000_000).contains(&self.connections) {
            return wrong("connections", format!("is {}, and must be from 1 to 1000000", self.connections));
        }
        if self.workers == 0 {
            return wrong("workers", "is 0, so no clip would ever be made".into());
        }
        if let Some(host) = self.extra_hosts.iter().find(|host| !is_host(host)) {
            return wrong("extra_hosts", format!("has `{host}`, which is not a name with or without a port"));
        }
        if let Some(url) = self.public_url.as_ref().filter(|url| !is_origin(url)) {
            let like = "is neither `https://` nor `http://` with a host and nothing after it";
            return wrong("public_url", format!("is `{url}`, which {like}"));
        }
        for (name, tier) in &self.tiers {
            tier.check(name)?;
        }
        self.retention.check()?;
        self.prices.check()
    }

    /// Returns the tier of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the names of all tiers.
    pub fn tier(&self, name: &str) -> Result<&Tier> {
        self.tiers.get(name).ok_or_else(|| Error::Invalid {
            what: "the tier".into(),
            problem: format!("is `{name}`, which is not among {}", names(&self.tiers)),
        })
    }

    /// Returns what the store needs to know of a tier to accept a clip at `now`, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a tier that is not known.
    pub fn terms(&self, tier: &str, now: i64) -> Result<Terms> {
        let tier = self.tier(tier)?;
        Ok(Terms {
            day: self.time_zone.day(now),
            credits: tier.credits.get().map(u64::cast_signed),
            active: tier
                .running
                .get()
                .zip(tier.waiting.get())
                .map(|(running, waiting)| running.saturating_add(waiting)),
            queue: self.queue.get(),
            storage: tier.storage.get(),
        })
    }
}

fn names<V>(map: &BTreeMap<String, V>) -> String {
    map.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter))
}

/// A host in small letters, with or without a port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"-.".contains(&letter);
    let name_is_good = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => (1..=253).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.'),
    };
    name_is_good && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_origin(url: &str) -> bool {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    host.is_some_and(is_host)
}

#[cfg(test)]
mod tests;
