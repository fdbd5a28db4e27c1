//! The server: its routes, its workers, and its end.

use crate::api::media;
use crate::app::{App, now, own_address};
use crate::child::Program;
use crate::config::Config;
use crate::desk::Desk;
use crate::error::{Error, Result};
use crate::store::{assets, idempotency, jobs, keys, outbox};
use crate::{disk, hooks, listen, over, pool, routes};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;

/// How often what has expired is removed.
const TIDY: Duration = Duration::from_mins(10);
/// How long events that were delivered or given up are kept after the end of their clip, in milliseconds: a week.
const EVENTS: i64 = 7 * 86_400_000;
/// How long answers under way may take when the server ends.
const LAST: Duration = Duration::from_secs(25);
/// Rows of a kind that are tidied at a time.
const AT_ONCE: u32 = 100;

/// A server that listens.
pub struct Server {
    app: App,
    /// Locked while it runs: one server has a data directory.
    _lock: File,
    listener: TcpListener,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Opens the data directory, listens, and starts the workers, which are `program`. What the operator should know goes to `log`.
    ///
    /// # Errors
    /// An address or a directory that is in use, an address that needs keys when there are none; the store's errors.
    pub async fn start(config: Config, program: Program, log: fn(&str)) -> Result<Self> {
        config.check()?;
        std::fs::create_dir_all(&config.data).map_err(|source| Error::Io { path: config.data.clone(), source })?;
        let mut config = config;
        config.data = std::path::absolute(&config.data).unwrap_or(config.data);
        let address = SocketAddr::new(config.host, config.port);
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        // Port 0 is any: the one that was given is ours.
        config.port = listener.local_addr().map_err(|source| Error::Listen { address, source })?.port();
        let lock = lock(&config.data)?;
        let desks = [(); 2].map(|()| Desk::start(program.clone()));
        let app = App::open(config, desks, log).await?;
        let is_public = !app.config.host.is_loopback() || app.config.public_url.is_some();
        if is_public && !app.store.read(keys::any).await? {
            return Err(Error::NeedsKeys { address });
        }
        sweep(&app).await?;
        let workers = (0..app.config.workers)
            .map(|number| tokio::spawn(pool::run(app.clone(), format!("worker-{number}"), program.clone())))
            .collect();
        tokio::spawn(tidy(app.clone()));
        tokio::spawn(hooks::run(app.clone()));
        tokio::spawn(over::watch(app.clone()));
        listen::allow_files();
        Ok(Self { app, _lock: lock, listener, workers })
    }

    /// The address under which it listens.
    pub fn url(&self) -> String {
        own_address(&self.app.config)
    }

    /// Answers until `end`; then no more requests are taken, and workers save the state of their clips and end.
    ///
    /// # Errors
    /// The system's.
    pub async fn run(self, end: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        let app = self.app;
        let router = routes::router(app.clone());
        let served = tokio::spawn(listen::serve(self.listener, router, app.config.connections, app.ending.subscribe()));
        end.await;
        app.ending.send_replace(true);
        // A download that stands still is no reason to go on.
        let _ = tokio::time::timeout(LAST, served).await;
        for worker in self.workers {
            let _ = worker.await;
        }
        Ok(())
    }
}

/// Locks the data directory.
fn lock(data: &Path) -> Result<File> {
    let path = data.join("server.lock");
    let error = |source| Error::Io { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(error)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::InUseByServer { path: data.into() }),
        // Not every file system has locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Removes files of ours that no row names: what a killed server left.
async fn sweep(app: &App) -> Result<()> {
    let data = app.config.data.clone();
    let known = app.store.read(|connection| {
        let mut ids = BTreeSet::new();
        for sql in ["SELECT id FROM jobs WHERE deleted_at IS NULL AND status != 'expired'", "SELECT id FROM assets"] {
            let mut statement = connection.prepare(sql)?;
            for id in statement.query_map([], |row| row.get::<_, String>(0))? {
                ids.insert(id?);
            }
        }
        let sql = "SELECT id FROM jobs WHERE finished_at IS NULL";
        let mut statement = connection.prepare(sql)?;
        let unfinished = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<BTreeSet<String>>>()?;
        Ok((ids, unfinished))
    });
    let (ids, unfinished) = known.await?;
    disk::sweep(data, ids, unfinished).await;
    Ok(())
}

/// Removes what has expired, until the server ends.
async fn tidy(app: App) {
    let mut ending = app.ending.subscribe();
    loop {
        let before = app.config.retention.uploads_before(now());
        let expired = app.store.write(move |transaction| {
            idempotency::sweep(transaction, now())?;
            outbox::sweep(transaction, now() - EVENTS)?;
            let uploads = before.map(|before| assets::sweep(transaction, before, AT_ONCE)).transpose()?;
            Ok((jobs::expire(transaction, now(), AT_ONCE)?, uploads.unwrap_or_default()))
        });
        if let Ok((clips, uploads)) = expired.await {
            for job in clips {
                media::remove(&app, &job.id).await;
                app.changed(&job.owner, &job.id);
            }
            disk::remove(uploads.iter().map(|asset| app.upload_file(&asset.id))).await;
        }
        tokio::select! {
            () = tokio::time::sleep(TIDY) => {}
            _ = ending.changed() => return,
        }
    }
}
