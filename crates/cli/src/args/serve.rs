//! The options of `kinora serve`, `kinora worker`, `kinora keys` and `kinora hooks`.

use super::ComputeArgs;
use clap::{Args, Subcommand};
use std::net::IpAddr;
use std::path::PathBuf;

/// `kinora serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The address to listen on. Any other than this machine's own needs keys [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<IpAddr>,
    /// The port [default: 7788].
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// The directory of the queue, clips and uploads [default: kinora-data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A model that clients may ask for, by its name or as NAME=WORDS, where WORDS are what --model takes elsewhere; the first
    /// is the default. Repeat it for more [default: embedded].
    #[arg(long, value_name = "NAME[=WORDS]")]
    pub model: Vec<String>,
    /// A configuration in TOML: tiers, prices, limits; options replace its values.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How models run.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// `kinora worker`.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// How models run.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Where a server's store is.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// The server's directory [default: kinora-data].
    #[arg(long, value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
    /// The server's configuration.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

/// `kinora keys`.
#[derive(Debug, Clone, Args)]
pub struct KeysArgs {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The action.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// `kinora hooks`.
#[derive(Debug, Clone, Args)]
pub struct HooksArgs {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose secret: that of an owner's callbacks, or, without one, of the configuration's receivers for all owners.
    #[arg(long, value_name = "OWNER", global = true)]
    pub owner: Option<String>,
    /// The action.
    #[command(subcommand)]
    pub command: HooksCommand,
}

/// The actions on secrets of webhooks.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum HooksCommand {
    /// Print the secret.
    Secret,
    /// Make another secret, and print it. For a time, events have the signatures of both.
    Rotate {
        /// Hours for which the secret before signs, too.
        #[arg(long, value_name = "N", default_value_t = 24)]
        hours: u32,
    },
}

/// The actions on keys.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a key, and print it: it is shown once. The access key and its secret sign tokens, for Kling's interface.
    Add {
        /// The name of the key.
        name: String,
        /// Whose clips it sees; keys of one owner see the same [default: NAME].
        #[arg(long, value_name = "OWNER")]
        owner: Option<String>,
        /// The tier, of those in the configuration.
        #[arg(long, value_name = "TIER")]
        tier: Option<String>,
        /// Days until it expires [default: never].
        #[arg(long, value_name = "N")]
        days: Option<u32>,
    },
    /// List all keys, without their secrets.
    List,
    /// Give the access key of a key another secret, and print it; the key itself stays.
    Rotate {
        /// Its id, such as `key_01…`.
        id: String,
    },
    /// End a key at once.
    Revoke {
        /// Its id, such as `key_01…`.
        id: String,
    },
}
