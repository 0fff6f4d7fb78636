//! A cut at a moment that is over: where it was in each server's log, and what the logs have between an earlier cut and there.
//!
//! Nothing can be scanned at such a moment, and nothing counted; the rows of an earlier cut with these changes are those of the moment.
//! Of several servers it is made one as that of a cut without a lock is: [`closing::settle`] moves the ends of the logs forward until
//! what is committed on one server is prepared on all, and what was in doubt there is followed.

use crate::binlog::changes::{self, ServerLog};
use crate::binlog::closing::{self, Closed, End, place};
use crate::binlog::dump::{Dump, Place};
use crate::binlog::event::{self, kind};
use crate::binlog::marker::Before;
use crate::binlog::{LogError, server};
use crate::connection::Connection;
use crate::error::failed;
use crate::options::Transactions;
use crate::store::{Logical, Server, Shared};
use jiff::{SignedDuration, Timestamp};
use keepfast_model::cut::Exactness;
use keepfast_model::{Cut, Position, TableName};
use keepfast_store::{Past, Result, StoreError, Until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WHAT: &str = "look for a moment in the binary log";
/// Whole seconds are all that some logs have.
const TICK: Duration = Duration::from_secs(1);
/// Transactions with a marker that began so soon behind the earlier cut may have a part before it.
const EDGE: SignedDuration = SignedDuration::from_secs(2);

/// The moment.
#[derive(Debug)]
pub(crate) struct Moment {
    pub cut: Cut,
    pub logs: Vec<ServerLog>,
    /// What is in it and behind its places.
    pub closed: Closed,
}

/// Where a moment is in one server's log.
#[derive(Debug)]
struct Found {
    /// Behind the last transaction before it.
    end: Place,
    /// The time of the transaction that was named; none where it is not in the log.
    named: Option<Timestamp>,
    /// Behind the first transactions.
    edge: Place,
}

/// Looks for the moment in the logs of these servers; none where it is not behind the earlier cut.
pub(crate) async fn find(
    shared: &Arc<Shared>,
    tables: &BTreeMap<TableName, Logical>,
    servers: &[usize],
    past: &Past,
) -> Result<Option<Moment>> {
    let mut starts = vec![];
    for at in servers {
        let server = &shared.servers[*at];
        let name = server.place();
        let known = past.since.iter().find(|p| p.shard.0 == name).map(|p| &p.position);
        let Some(Position::File { file, offset }) = known else {
            return Err(gone(
                tables,
                format!("the earlier cut has no place in the log of {}", server.address),
            ));
        };
        starts.push((*at, Place { file: file.clone(), offset: *offset }));
    }
    let (time, who) = match &past.until {
        Until::Time(time) => (*time, None),
        Until::Before(transaction) => match named(shared, tables, &starts, transaction).await? {
            Some((at, found, time)) => (time, Some((at, found.end))),
            None => return Ok(None),
        },
    };
    let mut before = Before::default();
    let (mut ends, mut skews, mut filters) = (vec![], vec![], BTreeMap::new());
    for (at, start) in &starts {
        let server = &shared.servers[*at];
        let mut connection = server.connect().await?;
        let ahead = skew(server, &mut connection).await?;
        // The rows of the earlier cut have what this server committed before it, maybe after that time by its own clock.
        if matches!(past.until, Until::Time(_)) && past.at + ahead > time {
            return Ok(None);
        }
        skews.push(ahead);
        let (now, filtered) = server::position(&mut connection)
            .await
            .map_err(|e| failed(WHAT, &server.address, e))?
            .ok_or_else(|| gone(tables, format!("{} has no binary log (log_bin)", server.address)))?;
        filters.insert(*at, filtered);
        let found = look(server, (start, &now), |_, seen| seen >= time).await;
        let found = found.map_err(|e| lost(tables, server, e))?;
        let mut end = match &who {
            Some((named, end)) if named == at => end.clone(),
            _ => found.end,
        };
        // Transactions that the earlier cut has, though they stand behind its place.
        for group in changes::groups(&past.since, &server.place()) {
            if group.has_reached(&end) {
                end = group_end(server, &group, &now).await.map_err(|e| lost(tables, server, e))?;
            }
        }
        before.near.insert(*at, start.clone());
        before.edge.insert(*at, found.edge);
        ends.push(End { server: *at, place: end, near: Some(start.clone()) });
    }
    let decided = closing::settle(shared, &mut ends).await?;
    let several = servers.len() > 1;
    let marks = match &shared.transactions {
        Transactions::Marked(marker) if several => Some((marker, &before)),
        _ => None,
    };
    let closed = closing::close_over(shared, tables, &ends, decided, marks).await?;
    let mut logs = vec![];
    for end in &ends {
        let of = (closed.branches.get(&end.server), closed.groups.get(&end.server));
        let filtered = filters.get(&end.server).copied().unwrap_or(false);
        logs.push(ServerLog::record(shared, end.server, (end.place.clone(), filtered), tables, of).await?);
    }
    let whole =
        shared.transactions != Transactions::Unknown && closed.torn.is_none() && shared.behind.is_zero();
    let exactness = match several && !whole {
        false => Exactness::Exact,
        true => {
            let (least, most) = (skews.iter().min(), skews.iter().max());
            let spread = most.zip(least).map_or(SignedDuration::ZERO, |(most, least)| *most - *least);
            let apart = spread.unsigned_abs() + TICK;
            Exactness::Bounded { ms: u64::try_from(apart.as_millis()).unwrap_or(u64::MAX) }
        }
    };
    if let Some(why) = closed.torn.as_deref().filter(|_| several) {
        tracing::warn!(why, "transactions on several servers may be torn at this moment");
    }
    let positions = logs.iter().flat_map(ServerLog::positions).collect();
    Ok(Some(Moment { cut: Cut { at: time, exactness, positions }, logs, closed }))
}

/// The server and the place of a transaction, and its time.
async fn named(
    shared: &Shared,
    tables: &BTreeMap<TableName, Logical>,
    starts: &[(usize, Place)],
    transaction: &str,
) -> Result<Option<(usize, Found, Timestamp)>> {
    for (at, start) in starts {
        let server = &shared.servers[*at];
        let now = place(&mut server.connect().await?, server).await?;
        let found = look(server, (start, &now), |name, _| name == Some(transaction)).await;
        let found = found.map_err(|e| lost(tables, server, e))?;
        if let Some(time) = found.named {
            return Ok(Some((*at, found, time)));
        }
    }
    Ok(None)
}

/// Walks to the first transaction that is the one wanted, by its name and its time.
async fn look(
    server: &Server,
    (from, to): (&Place, &Place),
    wanted: impl Fn(Option<&str>, Timestamp) -> bool,
) -> Result<Found, LogError> {
    let mut found = Found { end: from.clone(), named: None, edge: from.clone() };
    if from == to {
        return Ok(found);
    }
    let mut first: Option<Timestamp> = None;
    let mut dump = Dump::open(server, from, to).await?;
    let mut at = from.clone();
    while let Some((head, body, end)) = dump.next().await? {
        let group =
            matches!(head.kind, kind::GTID | kind::ANONYMOUS_GTID | kind::TAGGED_GTID | kind::MARIADB_GTID);
        if group {
            let (name, time) = event::named(&head, body)?;
            if wanted(name.as_deref(), time) {
                return Ok(Found { end: at, named: Some(time), ..found });
            }
            if time < *first.get_or_insert(time) + EDGE {
                found.edge = at.clone();
            }
        }
        // The first event of a file says nothing of where it was read from.
        if end.has_reached(&at) {
            at = end.clone();
        }
    }
    Ok(Found { end: to.clone(), ..found })
}

/// Where a transaction ends, of which it is known where its first event does.
async fn group_end(server: &Server, first: &Place, now: &Place) -> Result<Place, LogError> {
    let mut walked = look(server, (first, now), |_, _| true).await?;
    if walked.named.is_none() {
        walked.end = now.clone();
    }
    Ok(walked.end)
}

/// How far a server's clock is before ours.
async fn skew(server: &Server, connection: &mut Connection) -> Result<SignedDuration> {
    let fail = |e| failed("ask for the time", &server.address, e);
    let started = Instant::now();
    let said =
        connection.rows("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000 AS UNSIGNED)").await.map_err(fail)?;
    let said =
        said.first().and_then(|row| row.first()?.as_deref().map(String::from_utf8_lossy)?.parse().ok());
    let said = said.unwrap_or_else(|| Timestamp::now().as_millisecond());
    Ok(SignedDuration::from_millis(said - Timestamp::now().as_millisecond())
        + SignedDuration::from_millis(started.elapsed().as_millis() as i64 / 2))
}

/// The log from the earlier cut on is not to be had.
fn lost(tables: &BTreeMap<TableName, Logical>, server: &Server, e: LogError) -> StoreError {
    match e {
        LogError::Gone(reason) => gone(tables, format!("{}: {reason}", server.address)),
        // What the server says of a place that it does not have.
        LogError::Wire(e) if e.code() == Some(1236) => gone(tables, format!("{}: {e}", server.address)),
        e => closing::log_failed(WHAT, &server.address, e),
    }
}

fn gone(tables: &BTreeMap<TableName, Logical>, reason: String) -> StoreError {
    let table = tables.keys().map(|name| name.table.clone()).collect::<Vec<_>>().join(", ");
    StoreError::ChangesGone { table, position: String::new(), reason }
}
