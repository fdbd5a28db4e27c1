//! [`Store`]: the file with clips, uploads, keys and accounts.
//!
//! One thread owns the connection that writes; readers have connections of their own and never wait for it. What
//! [`Store::write`] has returned is on the disk: a crash, or power that fails, does not undo it.
//!
//! The functions of the tables ([`jobs`], [`assets`], [`keys`], [`ledger`], [`idempotency`], [`outbox`], [`settings`])
//! take a connection or a transaction, so that a caller makes one transaction of several. Whatever changes the state of a
//! clip, who listens is told within the same transaction ([`Store::on_change`]), and can write events that others are told
//! of:
//!
//! ```
//! # use kinora_serve::store::{Store, jobs, outbox};
//! # async fn example(store: Store, id: String, done: jobs::Done, now: i64) -> kinora_serve::Result<()> {
//! store.on_change(Box::new(move |write, changed| {
//!     for job in changed.iter().filter(|job| job.status.is_finished()) {
//!         let (url, lane) = ("https://example.org/hook", job.owner.as_str());
//!         outbox::add(write, &job.id, &outbox::New { event: "video.completed", url, lane, signer: None, replaces: false }, |_| "{}".into(), now)?;
//!     }
//!     Ok(())
//! }));
//! assert!(store.write(move |write| jobs::succeed(write, &id, 1, &done, now)).await?);
//! # Ok(()) }
//! ```

pub mod assets;
pub mod idempotency;
pub mod jobs;
pub mod keys;
pub mod ledger;
mod open;
pub mod outbox;
pub mod settings;
mod terms;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Semaphore, oneshot};

use crate::error::{Error, Result};

pub use jobs::{Job, Status};
pub use ledger::Terms;
pub use open::in_memory;

/// Connections that read at the same time.
const READERS: usize = 4;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// Is told of clips whose state a transaction has changed, within that transaction. Its error undoes all of it.
pub type Listener = Box<dyn Fn(&Transaction<'_>, &[Job]) -> Result<()> + Send + Sync>;

/// A handle to the store. Copies share its connections.
///
/// Several stores, also of several processes, may have the same file open. It must lie on a local disk.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// `None` only while it is dropped.
    writer: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    permits: Arc<Semaphore>,
    readers: Mutex<Vec<Connection>>,
    listener: Arc<OnceLock<Listener>>,
}

impl Store {
    /// Opens the store in the file `path`, whose directory exists, and creates the file if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Newer`] and [`Error::NotAStore`] for files of others, [`Error::Io`] and [`Error::Database`] when it
    /// cannot be opened, and [`Error::Ledger`] when the accounts do not add up.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = open::writer(path)?;
        ledger::check(&connection)?;
        let (writer, work) = mpsc::channel::<Work>();
        let start = thread::Builder::new().name("store".into()).spawn(move || serve(connection, &work));
        let thread = Some(start.map_err(|source| Error::Io { path: path.into(), source })?);
        let permits = Arc::new(Semaphore::new(READERS));
        let (path, writer, readers, listener) = (path.into(), Some(writer), Mutex::default(), Arc::default());
        let inner = Inner { path, writer, thread, permits, readers, listener };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Tells `listener` of clips whose state changes, before each commit. There is one; a second one is not heard. Changes
    /// of which nobody was told, such as those of a program without a listener, are told of with the next transaction.
    pub fn on_change(&self, listener: Listener) {
        let _ = self.inner.listener.set(listener);
    }

    /// Runs `f` in a transaction that writes, and commits it if `f` returns `Ok`. Transactions run one after the other,
    /// in the order in which they are asked for. `f` runs to its end even if nobody waits for its result any more.
    ///
    /// # Errors
    ///
    /// The error of `f`, after which nothing has changed; [`Error::Database`] when the transaction cannot begin or end;
    /// and [`Error::NoAnswer`] when `f` panics, after which nothing has changed either.
    pub async fn write<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, answer) = oneshot::channel();
        let listener = Arc::clone(&self.inner.listener);
        let work: Work = Box::new(move |connection| {
            let _ = sender.send(in_transaction(connection, f, listener.get()));
        });
        let writer = self.inner.writer.as_ref().ok_or(Error::NoAnswer)?;
        writer.send(work).map_err(|_| Error::NoAnswer)?;
        answer.await.map_err(|_| Error::NoAnswer)?
    }

    /// Runs `f` on a thread for blocking work, with a connection that only reads. It sees one state of the store from
    /// its beginning to its end, in which everything is that was written before.
    ///
    /// # Errors
    ///
    /// The error of `f`, [`Error::Database`] when no connection can be had, and [`Error::NoAnswer`] when `f` panics.
    ///
    /// # Panics
    ///
    /// Outside a runtime of tokio.
    pub async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let permit = Arc::clone(&inner.permits).acquire_owned().await.map_err(|_| Error::NoAnswer)?;
        let work = move || {
            let pooled = inner.readers().pop();
            let mut connection = pooled.map_or_else(|| open::reader(&inner.path), Ok)?;
            let transaction = connection.transaction()?;
            let result = f(&transaction);
            transaction.finish()?;
            inner.readers().push(connection);
            drop(permit);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::NoAnswer)?
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

impl Inner {
    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    /// Ends the thread that writes, after what it was asked to do: the file is closed when the last handle is gone.
    fn drop(&mut self) {
        self.writer = None;
        let own = |thread: &JoinHandle<()>| thread.thread().id() == thread::current().id();
        if let Some(thread) = self.thread.take().filter(|thread| !own(thread)) {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.inner.path).finish()
    }
}

fn serve(mut connection: Connection, work: &mpsc::Receiver<Work>) {
    while let Ok(work) = work.recv() {
        // A transaction that panics is rolled back when it is dropped; whoever waits for it gets no answer. The
        // connection is as before.
        let run = std::panic::AssertUnwindSafe(|| work(&mut connection));
        let _ = std::panic::catch_unwind(run);
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    f: impl FnOnce(&Transaction<'_>) -> Result<T>,
    listener: Option<&Listener>,
) -> Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = f(&transaction)?;
    if let Some(listener) = listener {
        let changed = jobs::take_changed(&transaction)?;
        if !changed.is_empty() {
            listener(&transaction, &changed)?;
        }
    }
    transaction.commit()?;
    Ok(value)
}
