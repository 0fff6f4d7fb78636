//! What a server says of its log.

use super::dump::{Dump, FIRST, Origin, Place};
use super::event::Xid;
use super::{Fault, LogError};
use crate::connection::{Connection, TextRow};
use crate::store::Server;
use crate::wire::WireError;
use std::collections::BTreeMap;

fn word(row: &TextRow, at: usize) -> String {
    row.get(at)
        .and_then(|v| v.as_deref())
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .unwrap_or_default()
}

/// Where the log stands, and which databases alone it has; none where there is no log. The statement has another name
/// since MySQL 8.4.
pub(crate) async fn position(connection: &mut Connection) -> Result<Option<(Place, bool)>, WireError> {
    let rows = match connection.rows("SHOW MASTER STATUS").await {
        Err(e) if e.code() == Some(1064) => connection.rows("SHOW BINARY LOG STATUS").await?,
        other => other?,
    };
    let Some(row) = rows.first() else { return Ok(None) };
    let filtered = !word(row, 2).is_empty() || !word(row, 3).is_empty();
    let offset = word(row, 1).parse().map_err(|_| WireError::Malformed("a place in the log is none"))?;
    Ok(Some((Place { file: word(row, 0), offset }, filtered)))
}

/// The branches that are prepared and not decided.
pub(crate) async fn in_doubt(connection: &mut Connection) -> Result<Vec<Xid>, WireError> {
    let rows = connection.rows("XA RECOVER").await?;
    let xid = |row: &TextRow| {
        let names = row.get(3)?.as_deref()?;
        Xid::split(word(row, 0).parse().ok()?, word(row, 1).parse().ok()?, names)
    };
    let all: Option<Vec<Xid>> = rows.iter().map(xid).collect();
    all.ok_or(WireError::Malformed("a branch in doubt has no name"))
}

/// Files of the log with their sizes, the oldest first.
pub(crate) async fn files(connection: &mut Connection) -> Result<Vec<(String, u64)>, WireError> {
    let rows = connection.rows("SHOW BINARY LOGS").await?;
    Ok(rows.iter().map(|row| (word(row, 0), word(row, 1).parse().unwrap_or(0))).collect())
}

/// Who began a file of the log.
pub(crate) async fn origin(server: &Server, file: &str) -> Result<Option<Origin>, LogError> {
    let first = Place { file: file.to_owned(), offset: FIRST };
    let mut dump = Dump::open(server, &first, &first).await?;
    while dump.next().await?.is_some() && dump.origin().is_none() {}
    Ok(dump.origin())
}

/// Settings of a server by name, in lower case.
pub(crate) async fn settings(connection: &mut Connection) -> Result<BTreeMap<String, String>, WireError> {
    let rows = connection
        .rows(
            "SHOW GLOBAL VARIABLES WHERE variable_name IN ('server_uuid', 'server_id', 'binlog_format', 'binlog_row_image', \
             'binlog_row_value_options', 'log_slave_updates', 'log_replica_updates', 'lower_case_table_names')",
        )
        .await?;
    Ok(rows.iter().map(|row| (word(row, 0).to_lowercase(), word(row, 1))).collect())
}

/// Who the server is, as long as it is not set up anew.
pub(crate) fn identity(settings: &BTreeMap<String, String>) -> String {
    let of = |name: &str| settings.get(name).cloned().unwrap_or_default();
    format!("{}/{}", of("server_uuid"), of("server_id"))
}

/// Why changes cannot be read from this server's log, with what to set; none where they can.
pub(crate) async fn refusal(
    connection: &mut Connection,
    settings: &BTreeMap<String, String>,
    filtered: bool,
) -> Result<Option<Fault>, WireError> {
    let gone = |reason: String| Ok(Some(Fault::Gone(reason)));
    for (name, wanted) in
        [("binlog_format", "ROW"), ("binlog_row_image", "FULL"), ("binlog_row_value_options", "")]
    {
        if let Some(found) = settings.get(name).filter(|found| !found.eq_ignore_ascii_case(wanted)) {
            return gone(format!("{name} is {found}; SET GLOBAL {name} = '{wanted}'"));
        }
    }
    if filtered {
        return gone("the server logs some databases only (binlog_do_db, binlog_ignore_db)".into());
    }
    let passes_on = ["log_slave_updates", "log_replica_updates"];
    if !passes_on.iter().any(|name| settings.get(*name).is_some_and(|v| v == "ON" || v == "1")) {
        let replica = match connection.rows("SHOW REPLICA STATUS").await {
            Err(e) if e.code() == Some(1064) => connection.rows("SHOW ALL SLAVES STATUS").await,
            other => other,
        };
        let replica = match replica {
            Err(e) if e.code() == Some(1227) => {
                return gone(format!(
                    "whether it is a replica cannot be told, and it does not log what one receives: {e}"
                ));
            }
            other => other?,
        };
        if !replica.is_empty() {
            return gone("it is a replica that does not log what it receives (log_slave_updates)".into());
        }
    }
    Ok(None)
}
