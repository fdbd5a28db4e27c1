//! [`App`]: everything that requests and workers share.

use crate::api::kling::view::Links;
use crate::config::{Config, Tier};
use crate::desk::Desk;
use crate::disk;
use crate::error::{Error, Result};
use crate::hooks::tell::Teller;
use crate::outgoing::Client;
use crate::protocol::{ModelFacts, Stage};
use crate::secrets;
use crate::slots::Slots;
use crate::store::jobs::{self, Job, Status};
use crate::store::keys::Grants;
use crate::store::{Store, outbox};
use serde::Serialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, OnceCell, broadcast, watch};

/// Changes that a slow reader may be behind before it gets everything anew.
const CHANGES: usize = 1024;

/// A handle to everything; copies share it.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// The state that is shared.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The store.
    pub store: Store,
    /// Plans, in a process of its own.
    pub desk: Desk,
    /// Looks at files and makes pictures of them, in another one: that may take longer.
    pub files: Desk,
    /// Tells the operator.
    pub log: fn(&str),
    /// Bytes that the machine had for clips when the server started, where the system tells.
    pub capacity: Option<u64>,
    /// Signs links and secrets of this server.
    pub secret: [u8; 32],
    /// Connects to addresses that clients give.
    pub outgoing: Client,
    /// Woken when a clip may be made.
    pub work: Notify,
    /// Changes, as they happen.
    pub changes: broadcast::Sender<Change>,
    /// `true` when the server ends.
    pub ending: watch::Sender<bool>,
    /// The keys, as they were a moment ago.
    pub keys: watch::Sender<Grants>,
    /// Uploads on their way.
    pub slots: Arc<Slots>,
    /// Pictures that are fetched.
    pub fetches: Arc<Slots>,
    live: Mutex<HashMap<String, Live>>,
    /// How often a clip was computed and did not fit on the disk.
    full: Mutex<HashMap<String, u32>>,
    /// Facts about models, by their names.
    pub models: tokio::sync::Mutex<HashMap<String, ModelFacts>>,
}

/// What pages are told of a change. The first one that tells it makes the text, for all.
#[derive(Debug, Default)]
pub struct Told {
    /// The clip.
    pub clip: OnceCell<Option<String>>,
    /// The account, by the ids of keys.
    pub me: tokio::sync::Mutex<HashMap<Option<String>, String>>,
}

/// A change, of which pages and workers hear.
#[derive(Debug, Clone)]
pub enum Change {
    /// The clip is another one in the store.
    Clip {
        /// Its owner.
        owner: String,
        /// Its id.
        id: String,
        /// What pages are told.
        told: Arc<Told>,
    },
    /// The clip is gone.
    Gone {
        /// Its owner.
        owner: String,
        /// Its id.
        id: String,
        /// What pages are told.
        told: Arc<Told>,
    },
    /// The clip got further.
    Progress {
        /// Its owner.
        owner: String,
        /// Its id.
        id: String,
    },
}

/// How far a clip is, as its worker said last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Live {
    /// Percent; it never falls within an attempt.
    pub progress: u8,
    /// The part of the run.
    pub stage: Stage,
    /// Steps or frames that are done.
    pub done: usize,
    /// All of them.
    pub total: usize,
    /// Seconds until it is made, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
    /// The number of the newest preview; 0 is none.
    pub preview: u64,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Opens the data directory, and puts clips that an earlier server left back into the queue.
    ///
    /// # Errors
    /// A directory that cannot be made, and the store's errors.
    pub async fn open(config: Config, [desk, files]: [Desk; 2], log: fn(&str)) -> Result<Self> {
        for folder in ["clips", "files", "state", "uploads"].map(|name| config.data.join(name)) {
            disk::make_folder(folder.clone()).await.map_err(|source| Error::Io { path: folder, source })?;
        }
        let store = Store::open(&config.data.join("kinora.db"))?;
        let secret = store.write(|transaction| secrets::own(transaction)).await?;
        let (now, base) = (now(), config.public_url.clone().unwrap_or_else(|| own_address(&config)));
        let links = Links { secret, base };
        let teller = Teller { webhooks: config.webhooks.clone(), links, log, told: Mutex::default() };
        store.on_change(Box::new(move |transaction, changed| teller.tell(transaction, changed, self::now())));
        let named: Vec<String> = config.webhooks.iter().map(|webhook| webhook.url.clone()).collect();
        store
            .write(move |transaction| {
                // First, so that receivers are told of what is recovered.
                named.iter().try_for_each(|url| outbox::open(transaction, url, url))?;
                outbox::recover(transaction, now)?;
                jobs::recover(transaction, now)
            })
            .await?;
        store.write(|transaction| crate::store::idempotency::recover(transaction)).await?;
        Ok(Self(Arc::new(Shared {
            outgoing: Client::new(&config.outgoing),
            config,
            store,
            desk,
            files,
            log,
            capacity: kinora::available_memory(),
            secret,
            work: Notify::new(),
            changes: broadcast::channel(CHANGES).0,
            ending: watch::channel(false).0,
            keys: watch::channel(Grants::default()).0,
            slots: Arc::default(),
            fetches: Arc::default(),
            live: Mutex::default(),
            full: Mutex::default(),
            models: tokio::sync::Mutex::default(),
        })))
    }
}

impl Shared {
    /// Says that the clip changed.
    pub fn changed(&self, owner: &str, id: &str) {
        // Nobody may be listening.
        let told = Arc::default();
        let _ = self.changes.send(Change::Clip { owner: owner.to_string(), id: id.to_string(), told });
    }

    /// Says that the clip is gone.
    pub fn gone(&self, owner: &str, id: &str) {
        let told = Arc::default();
        let _ = self.changes.send(Change::Gone { owner: owner.to_string(), id: id.to_string(), told });
    }

    /// How far a running clip is.
    pub fn live(&self, id: &str) -> Option<Live> {
        lock(&self.live).get(id).cloned()
    }

    /// Keeps how far a clip is; `None` forgets it.
    pub fn set_live(&self, owner: &str, id: &str, live: Option<Live>) {
        match live {
            Some(live) => {
                lock(&self.live).insert(id.to_string(), live);
                let _ = self.changes.send(Change::Progress { owner: owner.to_string(), id: id.to_string() });
            }
            None => {
                lock(&self.live).remove(id);
            }
        }
    }

    /// Notes that a clip was computed and did not fit on the disk; returns how often that was.
    pub fn was_full(&self, id: &str) -> u32 {
        let mut full = lock(&self.full);
        let times = full.entry(id.to_string()).or_default();
        *times += 1;
        *times
    }

    /// Forgets how often that was.
    pub fn forget_full(&self, id: &str) {
        lock(&self.full).remove(id);
    }

    /// The folder of a clip's files.
    pub fn clip_folder(&self, id: &str) -> PathBuf {
        self.config.data.join("clips").join(id)
    }

    /// The clip that an attempt writes.
    pub fn clip_file(&self, id: &str, attempt: i64) -> PathBuf {
        self.clip_folder(id).join(format!("{attempt}.mp4"))
    }

    /// The preview of a clip that is being made.
    pub fn preview_file(&self, id: &str) -> PathBuf {
        self.clip_folder(id).join("preview.webp")
    }

    /// The directory that keeps the state of a clip between attempts.
    pub fn state_folder(&self, id: &str) -> PathBuf {
        self.config.data.join("state").join(id)
    }

    /// The file of an upload.
    pub fn upload_file(&self, id: &str) -> PathBuf {
        self.config.data.join("files").join(id)
    }

    /// The arguments of the model `name`, or of the default one.
    pub fn model(&self, name: Option<&str>) -> Option<(String, Vec<String>)> {
        let name = name.unwrap_or(&self.config.default_model);
        let words = self.config.models.get(name)?;
        Some((name.to_string(), words.split_whitespace().map(str::to_string).collect()))
    }

    /// The tier of that name, or the default one.
    pub fn tier(&self, name: &str) -> &Tier {
        let fallback = || self.config.tiers.get(&self.config.default_tier);
        self.config.tiers.get(name).or_else(fallback).expect("a configuration that was checked has its default tier")
    }
}

/// The address under which this machine reaches the server.
pub fn own_address(config: &Config) -> String {
    let host = match config.host {
        host if host.is_unspecified() && host.is_ipv4() => "127.0.0.1".to_string(),
        IpAddr::V6(host) if host.is_unspecified() => "[::1]".to_string(),
        IpAddr::V6(host) => format!("[{host}]"),
        IpAddr::V4(host) => host.to_string(),
    };
    format!("http://{host}:{}", config.port)
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Whether the clip's file can be had.
pub fn is_there(job: &Job) -> bool {
    job.status == Status::Succeeded && job.deleted_at.is_none()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A map is whole after every change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
