//! Statements for tests of this crate.

use crate::address::Address;
use crate::connection::Connection;

/// Runs statements on the server of a URL, one after the other.
///
/// # Errors
/// The first one that the server refuses, with its words.
pub async fn run(url: &str, statements: &[&str]) -> Result<(), String> {
    let located = Address::parse(url).map_err(|e| e.to_string())?;
    let password = located.password.unwrap_or_default();
    let mut connection = Connection::open(&located.address, &password).await.map_err(|e| e.to_string())?;
    for sql in statements {
        connection.run(sql).await.map_err(|e| format!("{e}: {sql}"))?;
    }
    Ok(())
}

/// The rows of a statement as text.
///
/// # Errors
/// As [`run`].
pub async fn rows(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let located = Address::parse(url).map_err(|e| e.to_string())?;
    let password = located.password.unwrap_or_default();
    let mut connection = Connection::open(&located.address, &password).await.map_err(|e| e.to_string())?;
    let rows = connection.rows(sql).await.map_err(|e| format!("{e}: {sql}"))?;
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    Ok(rows.into_iter().map(|row| row.into_iter().map(|v| v.map(text)).collect()).collect())
}

/// Reads the answers of statements and drops them; says how many bytes they had.
///
/// # Errors
/// As [`run`].
pub async fn drain(url: &str, statements: &[&str], binary: bool) -> Result<u64, String> {
    let located = Address::parse(url).map_err(|e| e.to_string())?;
    let password = located.password.unwrap_or_default();
    let mut connection = Connection::open(&located.address, &password).await.map_err(|e| e.to_string())?;
    let mut bytes = 0;
    for sql in statements {
        let drained = connection.drain(sql, binary).await;
        bytes += drained.map_err(|e| format!("{e}: {sql}"))?;
    }
    Ok(bytes)
}

/// A session that stays open, for transactions of several statements.
#[derive(Debug)]
pub struct Session(Connection);

impl Session {
    /// Opens a session on the server of a URL.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn open(url: &str) -> Result<Self, String> {
        let located = Address::parse(url).map_err(|e| e.to_string())?;
        let password = located.password.unwrap_or_default();
        Connection::open(&located.address, &password).await.map(Self).map_err(|e| e.to_string())
    }

    /// Runs statements one after the other.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn run(&mut self, statements: &[&str]) -> Result<(), String> {
        for sql in statements {
            self.0.run(sql).await.map_err(|e| format!("{e}: {sql}"))?;
        }
        Ok(())
    }
}

/// How a table is cut into about `wanted` ranges of `least` rows at least: what stands behind its name in the SELECT of each, and the rows that
/// are expected of it.
///
/// # Errors
/// As [`run`].
pub async fn pieces(
    url: &str,
    (database, table): (&str, &str),
    wanted: u32,
    least: u64,
) -> Result<Vec<(String, u64)>, String> {
    let located = Address::parse(url).map_err(|e| e.to_string())?;
    let password = located.password.unwrap_or_default();
    let mut connection = Connection::open(&located.address, &password).await.map_err(|e| e.to_string())?;
    let described =
        crate::catalog::describe(&mut connection, database, table).await.map_err(|e| e.to_string())?;
    let described = described.ok_or_else(|| format!("there is no table {database}.{table}"))?;
    let pieces = crate::plan::pieces_of(&mut connection, &described, wanted, least).await;
    Ok(pieces.map_err(|e| e.to_string())?.iter().map(|piece| (piece.condition(), piece.rows)).collect())
}
