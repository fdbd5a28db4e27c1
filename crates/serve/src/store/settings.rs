//! Named values that the server keeps, such as its secrets.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result};

/// Returns the value of a setting.
///
/// # Errors
///
/// [`Error::Database`].
pub fn get(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// Sets the value of a setting.
///
/// # Errors
///
/// [`Error::Database`].
pub fn set(connection: &Connection, name: &str, value: &[u8]) -> Result<()> {
    let sql = "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(params![name, value])?;
    Ok(())
}

/// Returns the secret of that name, 32 random bytes that are made when it is asked for the first time.
///
/// # Errors
///
/// [`Error::Random`], [`Error::Invalid`] when the setting is something else, and [`Error::Database`].
pub fn secret(connection: &Connection, name: &str) -> Result<[u8; 32]> {
    if let Some(value) = get(connection, name)? {
        let problem = || Error::Invalid { what: format!("the setting `{name}`"), problem: "is no secret".into() };
        return value.try_into().map_err(|_| problem());
    }
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).map_err(Error::Random)?;
    set(connection, name, &fresh)?;
    Ok(fresh)
}
