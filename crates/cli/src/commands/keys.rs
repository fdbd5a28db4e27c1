//! `kinora keys` and `kinora hooks`: the secrets of a server, read and changed in its store, also while it runs.

use super::serve::{error, in_runtime, read};
use crate::args::{HooksArgs, HooksCommand, KeysArgs, KeysCommand, StoreArgs};
use crate::report;
use kinora::{Error, Result};
use kinora_serve::store::keys::{self, Key};
use kinora_serve::{Config, Store, secrets};
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// Makes, lists, renews and ends keys.
pub fn keys(args: &KeysArgs) -> Result<()> {
    let (config, store) = open(&args.store, matches!(args.command, KeysCommand::Add { .. }))?;
    in_runtime(keys_of(&config, &store, &args.command))
}

async fn keys_of(config: &Config, store: &Store, command: &KeysCommand) -> Result<()> {
    let now = now();
    match command {
        KeysCommand::Add { name, owner, tier, days } => {
            let tier = tier.clone().unwrap_or(config.default_tier.clone());
            config.tier(&tier).map_err(error)?;
            let expires = days.map(|days| now + i64::from(days) * DAY);
            let (owner, name) = (owner.clone().unwrap_or_else(|| name.clone()), name.clone());
            let made = store.write(move |store| keys::create(store, &owner, &name, &tier, expires, now)).await;
            let (text, key) = made.map_err(error)?;
            report::line(&text);
            signing(store, key.clone()).await?;
            report::say(&format!("{}, of {}, tier {}: it is not shown again", key.id, key.owner, key.tier));
        }
        KeysCommand::List => {
            for key in store.read(|store| keys::list(store, None)).await.map_err(error)? {
                let state = match (key.revoked_at, key.expires_at) {
                    (Some(_), _) => "revoked",
                    (None, Some(at)) if at <= now => "expired",
                    _ => "valid",
                };
                report::line(&format!(
                    "{}  {}…  {}  {}  of {}  tier {}  {state}",
                    key.id, key.prefix, key.access_key, key.name, key.owner, key.tier
                ));
            }
        }
        KeysCommand::Rotate { id } => {
            let own = id.clone();
            let renewed = store.write(move |store| {
                keys::renew_secret(store, &own)?;
                keys::get(store, &own)
            });
            signing(store, renewed.await.map_err(error)?).await?;
            report::say(&format!("{id} signs with this secret from now on, and with the one before no more"));
        }
        KeysCommand::Revoke { id } => {
            let own = id.clone();
            store.write(move |store| keys::revoke(store, &own, now)).await.map_err(error)?;
            report::say(&format!("{id} is revoked"));
        }
    }
    Ok(())
}

/// Prints what the key signs tokens with.
async fn signing(store: &Store, key: Key) -> Result<()> {
    let own = store.write(|store| secrets::own(store)).await.map_err(error)?;
    report::line(&format!("access key  {}", key.access_key));
    report::line(&format!("secret key  {}", secrets::of_access_key(&own, &key)));
    Ok(())
}

/// Shows and renews the secrets that sign webhooks.
pub fn hooks(args: &HooksArgs) -> Result<()> {
    let (_, store) = open(&args.store, false)?;
    let now = now();
    in_runtime(async {
        let owner = args.owner.clone();
        if let HooksCommand::Rotate { hours } = args.command {
            let until = now + i64::from(hours) * HOUR;
            let own = owner.clone();
            let renewed = store.write(move |store| secrets::rotate_hooks(store, own.as_deref(), until));
            renewed.await.map_err(error)?;
        }
        let all = store.write(move |store| secrets::of_hooks(store, owner.as_deref(), now)).await.map_err(error)?;
        for (number, secret) in all.iter().enumerate() {
            report::line(&secret.text());
            if number > 0 {
                report::say("the second one is that before, which signs, too, for a time");
            }
        }
        Ok(())
    })
}

/// The store of the data directory. Only a first key makes one: what another command would find in a new one is nobody's.
fn open(args: &StoreArgs, may_make: bool) -> Result<(Config, Store)> {
    let mut config = read(args.config.as_deref())?;
    config.data = args.data.clone().unwrap_or(config.data);
    let path = config.data.join("kinora.db");
    if !may_make && !path.exists() {
        let what = format!("no server has its data in {}", config.data.display());
        let hint = "name its directory with --data, or its configuration with --config";
        return Err(Error::request(what, hint));
    }
    std::fs::create_dir_all(&config.data).map_err(|source| Error::Io { path: config.data.clone(), source })?;
    let store = Store::open(&path).map_err(error)?;
    Ok((config, store))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
