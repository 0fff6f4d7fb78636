//! A cut closed over transactions that an application commits on one server after the other, and marks with an id of its own.
//!
//! Ids stand in a column of the rows that a transaction writes, or in a table of intents. Of an id that was committed anywhere before
//! the ends of the logs, whatever was committed behind them is rolled forward; and so is what wrote the same rows before it, with all
//! that its ids name. What the transactions read is not followed.
//!
//! An id is whole when it was seen on as many servers as it says (an intent), or on both of two (a column). A table of intents is read
//! as a whole, so that nothing escapes. Of a column only the logs of the last [`APART`] tell, so that its ids are whole only where the
//! application commits the parts of a transaction within that time, which its setting says.

use super::closing::{End, log_failed, place};
use super::dump::Place;
use super::walk::{Groups, Ledger, Marked, NOWHERE, Targets, Walk, Wanted};
use crate::catalog;
use crate::connection::Connection;
use crate::error::failed;
use crate::names::{full, quoted};
use crate::options::Marker;
use crate::store::Shared;
use crate::wire::WireError;
use keepfast_store::{Result, StoreError};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

/// How far apart an application commits the parts of a transaction at most, where a column has the ids.
const APART: Duration = Duration::from_secs(1);
/// How long parts are waited for that the other servers have.
const FOLLOW: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// Rows of intents on a server at most.
const INTENTS: usize = 1 << 20;
/// Columns of a table of intents.
const ID: &str = "id";
const SERVERS: &str = "servers";
const WHAT: &str = "follow marked transactions";

/// What is known shortly before the moment.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Where the logs stood: their ids are read from there.
    pub near: BTreeMap<usize, Place>,
    /// Where they stood later: an id that shows behind it first is to be whole.
    pub edge: BTreeMap<usize, Place>,
    /// Ids that tables of intents have, with the number of servers that each is of.
    intents: BTreeMap<usize, Vec<(Vec<u8>, u64)>>,
}

/// Gets ready, for a moment that comes next.
pub(crate) async fn before(shared: &Shared, marker: &Marker, servers: &[usize]) -> Result<Before> {
    let mut before = Before::default();
    let mut connections: Vec<(usize, Connection)> = vec![];
    for at in servers {
        connections.push((*at, shared.servers[*at].connect().await?));
    }
    match marker {
        Marker::Column(_) => {
            before.near = places(shared, &mut connections).await?;
            tokio::time::sleep(APART).await;
            before.edge = places(shared, &mut connections).await?;
            tokio::time::sleep(APART).await;
        }
        Marker::Intents { database, table } => {
            for (at, connection) in &mut connections {
                let address = &shared.servers[*at].address;
                // What the log has before it can be read in the table.
                let (near, _) = crate::lockless::committed(&shared.servers[*at], connection).await?;
                before.near.insert(*at, near);
                let sql = format!(
                    "SELECT {id}, CAST({servers} AS UNSIGNED) FROM {} WHERE {id} IS NOT NULL AND {servers} IS NOT NULL LIMIT {}",
                    full(database, table),
                    INTENTS + 1,
                    id = quoted(ID),
                    servers = quoted(SERVERS),
                );
                let read = read_intents(connection, &sql).await;
                let read = read.map_err(|e| failed("read the table of intents", address, e))?;
                if read.len() > INTENTS {
                    return Err(shared.unsupported(format!(
                        "read the intents `{database}`.`{table}` of {address}: they are more than {INTENTS}; delete those that are over"
                    )));
                }
                before.intents.insert(*at, read);
            }
        }
    }
    Ok(before)
}

async fn places(shared: &Shared, connections: &mut [(usize, Connection)]) -> Result<BTreeMap<usize, Place>> {
    let mut places = BTreeMap::new();
    for (at, connection) in connections {
        places.insert(*at, place(connection, &shared.servers[*at]).await?);
    }
    Ok(places)
}

/// Ids in the form in which the log has them, that of the binary protocol.
async fn read_intents(connection: &mut Connection, sql: &str) -> Result<Vec<(Vec<u8>, u64)>, WireError> {
    let mut rows = connection.stream(sql).await?;
    let mut all = vec![];
    while let Some(row) = rows.next().await? {
        let row = row.split_first().and_then(|(_, row)| row.split_last_chunk());
        let (id, servers) = row.ok_or(WireError::Malformed("a row ends early"))?;
        all.push((id.to_vec(), u64::from_le_bytes(*servers)));
    }
    Ok(all)
}

/// What is known of an id.
#[derive(Debug, Default)]
struct Known {
    /// Whether it was committed before an end.
    before: bool,
    /// Whether it may have been committed before anything that was read.
    older: bool,
    servers: BTreeSet<usize>,
    /// Of how many servers it is.
    parts: u64,
    /// Transactions behind the ends that have it: the server's place in the list, and the number.
    behind: Vec<(usize, usize)>,
}

/// One server's log.
struct Log {
    end: Place,
    edge: Place,
    read_to: Place,
    connection: Connection,
    /// Transactions behind the end.
    behind: Vec<Marked>,
    by_row: HashMap<u64, Vec<usize>>,
}

/// Rolls transactions forward whose ids were committed before the ends of the logs; says which.
pub(crate) async fn close(
    shared: &Shared,
    (marker, before): (&Marker, &Before),
    ends: &[End],
    targets: &mut BTreeMap<usize, Targets>,
    ledger: &mut Ledger,
    torn: &mut Option<String>,
) -> Result<BTreeMap<usize, HashSet<Place>>> {
    let least = match marker {
        Marker::Column(_) if ends.len() > 2 => {
            torn.get_or_insert_with(|| {
                "a marker column does not say on how many of more than two servers a transaction is; a table of intents does"
                    .into()
            });
            2
        }
        _ => 2,
    };
    let mut ids: HashMap<Vec<u8>, Known> = HashMap::new();
    let mut logs = vec![];
    for (number, end) in ends.iter().enumerate() {
        let mut connection = shared.servers[end.server].connect().await?;
        mark(shared, marker, end.server, &mut connection, targets).await?;
        for (id, parts) in before.intents.get(&end.server).into_iter().flatten() {
            let known = ids.entry(id.clone()).or_default();
            known.before = true;
            known.parts = known.parts.max(*parts);
            known.servers.insert(number);
        }
        let near = before.near.get(&end.server).unwrap_or(&end.place);
        let edge = before.edge.get(&end.server).unwrap_or(near).clone();
        let (behind, by_row) = (vec![], HashMap::new());
        let mut log = Log { end: end.place.clone(), edge, read_to: near.clone(), connection, behind, by_row };
        let to = end.place.clone();
        log.read(shared, (number, end.server), &to, targets, &mut ids, torn).await?;
        logs.push(log);
    }
    let started = Instant::now();
    let chosen = loop {
        for (number, end) in ends.iter().enumerate() {
            let log = &mut logs[number];
            let to = place(&mut log.connection, &shared.servers[end.server]).await?;
            log.read(shared, (number, end.server), &to, targets, &mut ids, torn).await?;
        }
        let closure = closure(&ids, &logs, least);
        if closure.missing == 0 || started.elapsed() > FOLLOW {
            if closure.missing > 0 {
                *torn = Some(format!(
                    "{} marked transactions were not committed on all of their servers after {} s, or are on one server only",
                    closure.missing,
                    FOLLOW.as_secs()
                ));
            }
            if closure.branch {
                *torn = Some(
                    "a marked transaction wrote rows that an XA branch had written, which is in doubt".into(),
                );
            }
            break closure.chosen;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let mut rolled = BTreeMap::new();
    for ((end, log), chosen) in ends.iter().zip(&logs).zip(chosen) {
        let groups: HashSet<Place> = chosen.iter().filter_map(|at| log.behind[*at].begin.clone()).collect();
        let Some(targets) = targets.get_mut(&end.server).filter(|_| !groups.is_empty()) else { continue };
        let server = &shared.servers[end.server];
        let mut walk = Walk::new(targets, ledger, Wanted::All);
        walk.groups = Some(Groups::Only(groups.clone()));
        let read = walk.run(server, &log.end, &log.read_to, None).await;
        read.map_err(|e| log_failed(WHAT, &server.address, e))?;
        rolled.insert(end.server, groups);
    }
    Ok(rolled)
}

/// Says where the ids stand.
async fn mark(
    shared: &Shared,
    marker: &Marker,
    at: usize,
    connection: &mut Connection,
    targets: &mut BTreeMap<usize, Targets>,
) -> Result<()> {
    let Some(targets) = targets.get_mut(&at) else { return Ok(()) };
    let address = &shared.servers[at].address;
    match marker {
        Marker::Column(column) => {
            if !targets.mark_all(column) {
                return Err(shared.unsupported(format!(
                    "close a cut over marked transactions: no table of {address} has the column '{column}'"
                )));
            }
        }
        Marker::Intents { database, table } => {
            let found = catalog::describe(connection, database, table).await;
            let found = found.map_err(|e| failed("describe the table of intents", address, e))?;
            let found = found.ok_or_else(|| StoreError::NoTable {
                table: format!("{database}.{table}"),
                store: address.to_string(),
            })?;
            targets.add(database, table, found.columns, NOWHERE, 0);
            if !targets.mark(ID, SERVERS) {
                return Err(shared.unsupported(format!(
                    "close a cut over marked transactions: '{database}.{table}' of {address} has no columns '{ID}' and '{SERVERS}'"
                )));
            }
        }
    }
    Ok(())
}

impl Log {
    /// Reads on, and notes the ids.
    async fn read(
        &mut self,
        shared: &Shared,
        (number, server): (usize, usize),
        to: &Place,
        targets: &mut BTreeMap<usize, Targets>,
        ids: &mut HashMap<Vec<u8>, Known>,
        torn: &mut Option<String>,
    ) -> Result<()> {
        let Some(targets) = targets.get_mut(&server).filter(|_| *to != self.read_to) else { return Ok(()) };
        let server = &shared.servers[server];
        // Which rows were written before the end does not matter.
        let rows = self.read_to.has_reached(&self.end);
        let mut ledger = Ledger::default();
        let mut walk = Walk::new(targets, &mut ledger, Wanted::Marks(rows));
        let read = walk.run(server, &self.read_to, to, None).await;
        read.map_err(|e| log_failed(WHAT, &server.address, e))?;
        if let Some(trouble) = walk.trouble {
            *torn = Some(format!("{}: {trouble}", server.address));
        }
        let behind = rows;
        for transaction in walk.marked {
            let at = self.behind.len();
            let old = transaction.end.as_ref().is_some_and(|end| self.edge.has_reached(end));
            // The ids of a branch are made whole with it.
            for (id, parts) in transaction.ids.iter().filter(|_| !transaction.branch) {
                let known = ids.entry(id.clone()).or_default();
                known.servers.insert(number);
                known.parts = known.parts.max(parts.unwrap_or(0));
                known.older |= old;
                match behind {
                    true => known.behind.push((number, at)),
                    false => known.before = true,
                }
            }
            if behind {
                for row in &transaction.rows {
                    self.by_row.entry(*row).or_default().push(at);
                }
                self.behind.push(transaction);
            }
        }
        self.read_to = to.clone();
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Closure {
    /// By server, numbers of transactions behind its end.
    chosen: Vec<BTreeSet<usize>>,
    /// Ids that are not whole.
    missing: usize,
    /// Whether an XA branch is among them.
    branch: bool,
}

/// All that belongs to what was committed before the ends.
fn closure(ids: &HashMap<Vec<u8>, Known>, logs: &[Log], least: u64) -> Closure {
    let mut closure = Closure { chosen: vec![BTreeSet::new(); logs.len()], ..Closure::default() };
    let mut asked: HashSet<&[u8]> =
        ids.iter().filter(|(_, known)| known.before).map(|(id, _)| id.as_slice()).collect();
    let mut open: Vec<&[u8]> = asked.iter().copied().collect();
    while let Some(id) = open.pop() {
        let Some(known) = ids.get(id) else { continue };
        let whole = known.servers.len() as u64 >= known.parts.max(if known.parts == 0 { least } else { 1 });
        closure.missing += usize::from(!whole && !known.older);
        let mut wanted = known.behind.clone();
        while let Some((server, at)) = wanted.pop() {
            if !closure.chosen[server].insert(at) {
                continue;
            }
            let transaction = &logs[server].behind[at];
            closure.branch |= transaction.branch;
            let others = transaction.ids.iter().map(|(id, _)| id.as_slice());
            open.extend(others.filter(|id| asked.insert(id)));
            // What wrote the same rows before it.
            for row in &transaction.rows {
                let writers = logs[server].by_row.get(row).into_iter().flatten();
                wanted.extend(writers.take_while(|other| **other < at).map(|other| (server, *other)));
            }
        }
    }
    closure
}
