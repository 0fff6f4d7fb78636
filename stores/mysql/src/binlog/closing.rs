//! One moment of several servers whose snapshots were begun behind one barrier: closed over XA transactions.
//!
//! At the barrier a transaction may be committed on one server and only prepared on another. Every transaction whose branches were
//! all prepared before the barrier, and that was committed in the end, is taken into the moment: nothing in it can follow from what was
//! committed after the barrier, because its statements ran before. One of which a branch was prepared later is left out on all
//! servers: nobody commits before all is prepared, so it was committed nowhere. Rows of a branch stand in the log where it was prepared.

use super::dump::{FIRST, Place};
use super::event::Xid;
use super::sink::Kept;
use super::walk::{Ledger, Targets, Walk, Wanted};
use super::{LogError, server};
use crate::address::Address;
use crate::barrier::Held;
use crate::error::failed;
use crate::store::Shared;
use keepfast_store::{Result, StoreError};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long branches in doubt are followed.
const FOLLOW: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// What makes the snapshots one moment.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    /// Branches that are in the moment and not in the snapshot, by server.
    pub branches: BTreeMap<usize, HashSet<Xid>>,
    /// Their changes, by the table's place among the cut's.
    pub tables: Vec<Kept>,
    pub excluded: Arc<HashSet<u64>>,
    /// Why it is no one moment, though all XA transactions were to be whole.
    pub torn: Option<String>,
}

/// Error of a log as one of a store, where no table is to blame.
pub(crate) fn log_failed(what: &str, address: &Address, e: LogError) -> StoreError {
    match e {
        LogError::Wire(e) => failed(what, address, e),
        LogError::Server(e) => e,
        other => {
            StoreError::Unavailable { what: what.into(), object: address.to_string(), source: other.into() }
        }
    }
}

/// Follows what was in doubt at the barrier until it is decided, and reads the rows that the snapshots lack.
pub(crate) async fn close(
    shared: &Shared,
    held: &Held,
    mut targets: BTreeMap<usize, Targets>,
    mut ledger: Ledger,
) -> Result<Closed> {
    let mut closed = Closed::default();
    let mut asked = HashSet::new();
    for at in &held.servers {
        match &at.in_doubt {
            Some(branches) => asked.extend(branches.iter().map(Xid::global)),
            None => {
                closed.torn =
                    Some(format!("{} does not tell its XA branches", shared.servers[at.server].address))
            }
        }
    }
    if asked.is_empty() {
        return Ok(closed);
    }
    let failed_to = |what: &'static str, at: usize| move |e| failed(what, &shared.servers[at].address, e);
    const WHAT: &str = "follow XA branches in doubt";
    let mut connections = BTreeMap::new();
    for at in &held.servers {
        connections.insert(at.server, shared.servers[at.server].connect().await?);
    }
    let started = Instant::now();
    let undecided = loop {
        let mut listed = HashSet::new();
        for (at, connection) in &mut connections {
            let branches = server::in_doubt(connection).await.map_err(failed_to(WHAT, *at))?;
            listed.extend(branches.iter().map(Xid::global).filter(|global| asked.contains(global)));
        }
        if listed.is_empty() || started.elapsed() > FOLLOW {
            break listed;
        }
        tokio::time::sleep(PAUSE).await;
    };
    if !undecided.is_empty() {
        closed.torn = Some(format!(
            "{} XA transactions were still in doubt after {} s; XA RECOVER shows them",
            undecided.len(),
            FOLLOW.as_secs()
        ));
    }
    let (mut committed, mut undone, mut late) = (HashMap::new(), HashSet::new(), HashSet::new());
    for at in &held.servers {
        let Some(from) = &at.position else {
            closed.torn = Some(format!("{} has no binary log", shared.servers[at.server].address));
            continue;
        };
        let connection = connections.get_mut(&at.server).expect("every server was connected");
        let end = server::position(connection).await.map_err(failed_to(WHAT, at.server))?;
        let Some((end, _)) = end.filter(|(end, _)| end != from) else { continue };
        let mut none = Targets::new(HashMap::new(), false);
        let mut walk = Walk::new(&mut none, &mut ledger, Wanted::Decisions(asked.clone()));
        let server = &shared.servers[at.server];
        walk.run(server, from, &end, None).await.map_err(|e| log_failed(WHAT, &server.address, e))?;
        late.extend(walk.seen.iter().map(Xid::global));
        undone.extend(walk.undone.iter().map(Xid::global));
        let seen = std::mem::take(&mut walk.seen);
        committed.insert(
            at.server,
            walk.committed.into_iter().filter(|xid| !seen.contains(xid)).collect::<Vec<_>>(),
        );
    }
    for at in &held.servers {
        let branches = committed.remove(&at.server).unwrap_or_default().into_iter();
        let branches: HashSet<Xid> = branches
            .filter(|xid| {
                let global = xid.global();
                if undone.contains(&global) {
                    closed.torn =
                        Some("an XA transaction was committed on one server and undone on another".into());
                }
                !late.contains(&global) && !undone.contains(&global) && !undecided.contains(&global)
            })
            .collect();
        let (Some(from), Some(targets)) = (&at.position, targets.get_mut(&at.server)) else { continue };
        if branches.is_empty() {
            continue;
        }
        let address = &shared.servers[at.server].address;
        let missing =
            look_back(shared, at.server, from, at.before.as_ref(), &branches, targets, &mut ledger).await;
        if !missing.map_err(|e| log_failed(WHAT, address, e))?.is_empty() {
            closed.torn =
                Some(format!("{address} has purged the log in which an XA branch in doubt was prepared"));
        }
        closed.branches.insert(at.server, branches);
    }
    for sink in ledger.sinks {
        match sink
            .finish()
            .map_err(|e| StoreError::Damaged { object: shared.to_string(), reason: e.to_string() })?
        {
            Ok(kept) => closed.tables.push(kept),
            Err(fault) => {
                return Err(StoreError::Unsupported {
                    store: shared.to_string(),
                    what: format!("close the cut over XA transactions: {fault:?}"),
                });
            }
        }
    }
    closed.excluded = Arc::new(ledger.excluded);
    Ok(closed)
}

/// Reads the rows of branches that were prepared before a place and not decided there. Gives back those that no file has.
pub(crate) async fn look_back(
    shared: &Shared,
    at: usize,
    limit: &Place,
    near: Option<&Place>,
    branches: &HashSet<Xid>,
    targets: &mut Targets,
    ledger: &mut Ledger,
) -> Result<HashSet<Xid>, LogError> {
    let mut missing = branches.clone();
    let server = &shared.servers[at];
    let mut connection = server.connect().await?;
    let files = server::files(&mut connection).await?;
    let mut ranges: Vec<(Place, Place)> = vec![];
    // Mostly they were prepared just now.
    ranges.extend(
        near.filter(|near| near.file == limit.file && *near != limit)
            .map(|near| (near.clone(), limit.clone())),
    );
    let last = files.iter().position(|(file, _)| *file == limit.file).unwrap_or(0);
    for (file, _) in files[..files.len().min(last + 1)].iter().rev() {
        let from = Place { file: file.clone(), offset: FIRST };
        let to = ranges.iter().rev().find(|(from, _)| from.file != *file).map(|(from, _)| from.clone());
        ranges.push((from, to.unwrap_or_else(|| limit.clone())));
    }
    for (from, to) in ranges {
        if missing.is_empty() {
            break;
        }
        let mut walk = Walk::new(targets, ledger, Wanted::Prepared(missing.clone()));
        walk.run(server, &from, &to, None).await?;
        for xid in walk.prepared.keys() {
            missing.remove(xid);
        }
    }
    Ok(missing)
}
