//! Connections to the store's file: how they are set up, and the version of its tables.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::{Error, Result};

/// Steps from no tables to the newest ones: each leads from the version that is its place to the next.
const STEPS: [&str; 3] = [include_str!("schema.sql"), include_str!("schema-2.sql"), include_str!("schema-3.sql")];
/// The newest version of the tables.
pub(super) const VERSION: i64 = STEPS.len() as i64;
/// `kino` as a number: it marks the file as a store.
const APPLICATION: i64 = 0x6b69_6e6f;
/// How long a connection waits for another one to end its writing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Statements that a connection keeps prepared.
const PREPARED: usize = 64;

/// Opens the file, creates it if it is not there, and brings its tables up to date.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    create_private(path)?;
    let open = || {
        let mut connection = connect(path)?;
        prepare(&mut connection, path)?;
        Ok(connection)
    };
    open().map_err(|error| match error {
        Error::Database(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Error::NotAStore { path: path.into() }
        }
        error => error,
    })
}

/// Opens a connection that cannot write. The tables are there.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Returns a store of its own in memory, whose connection is the only one: for tests and tools.
///
/// # Errors
///
/// [`Error::Database`] when SQLite refuses.
pub fn in_memory() -> Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    set_up(&connection)?;
    prepare(&mut connection, Path::new(":memory:"))?;
    Ok(connection)
}

/// The store has hashes of keys and the server's secret: others must not read it. SQLite's further files get the same
/// permissions.
fn create_private(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|source| Error::Io { path: path.into(), source })
}

fn connect(path: &Path) -> Result<Connection> {
    // No addresses (`file:`) as names, and one thread at a time for each connection.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    set_up(&connection)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // What is deleted is overwritten.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(())
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    check(connection, path)?;
    keep_a_log(connection)?;
    // Another process may be creating the tables at this moment: look again when nobody else writes.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = check(&transaction, path)?;
    if found < VERSION {
        for step in STEPS.iter().skip(found as usize) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Returns the version of the file's tables, 0 for an empty file.
fn check(connection: &Connection, path: &Path) -> Result<i64> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = number("application_id")?;
    let found = number("user_version")?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION {
        let is_empty = (application, found, tables) == (0, 0, 0);
        return if is_empty { Ok(0) } else { Err(Error::NotAStore { path: path.into() }) };
    }
    if found > VERSION {
        return Err(Error::Newer { path: path.into(), found, known: VERSION });
    }
    Ok(found)
}

/// Switches to a write-ahead log, with which readers and the writer do not wait for each other.
fn keep_a_log(connection: &Connection) -> Result<()> {
    let start = Instant::now();
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            // The switch does not wait for others by itself.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            answer => {
                answer?;
                return Ok(());
            }
        }
    }
}
