//! A moment over all servers without a lock on any of them.
//!
//! Where each log stands is recorded first, and snapshots begin later, each when it does. When all is scanned, one moment is found in the
//! logs ([`closing::settle`]), and the logs up to there are put over what was scanned: of each key the last change counts, so that it does
//! not matter which of them a snapshot has seen. That needs snapshots that have all that stands before the recorded places. A server
//! writes a transaction into its log before its engine commits it; so a snapshot could lack what its log has already.
//!
//! - MariaDB begins a consistent snapshot between commits, and says where in the log that is.
//! - MySQL begins a new file of its log only when all that stands in the older ones is committed: the place is where such a file begins.
//! - Neither holds for `XA COMMIT`. Branches that are listed as in doubt behind the place are waited for; of one that goes on for longer
//!   the log must have the decision later on, or the cut is given up.

use crate::barrier;
use crate::binlog::changes::{self, LogRead, ServerLog, Unlocked};
use crate::binlog::closing::{self, Closed, End, no_log, place};
use crate::binlog::dump::{FIRST, Place};
use crate::binlog::event::Xid;
use crate::binlog::walk::{Ledger, Order, Step, Targets, Walk, Wanted};
use crate::binlog::{Fault, marker, server};
use crate::connection::{Connection, TextRow};
use crate::error::failed;
use crate::options::Transactions;
use crate::pool::Pool;
use crate::prove::count;
use crate::store::{Logical, Server, Shared};
use crate::wire::WireError;
use jiff::Timestamp;
use keepfast_model::cut::Exactness;
use keepfast_model::{Cut, ShardPosition, SourceProof, TableName};
use keepfast_store::Result;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// Attempts to begin the snapshot that counts between two decisions of XA branches.
const ATTEMPTS: u32 = 20;
/// How long branches that are in doubt are waited for before the snapshots begin.
const DECIDED: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);
const OPEN: &str = "begin snapshots without a lock";

/// What was recorded before the snapshots began, and the moment once it is known.
#[derive(Debug)]
pub(crate) struct Lockless {
    from: Vec<ServerLog>,
    unlocked: BTreeMap<usize, Unlocked>,
    /// By server, a snapshot whose place in the log is known, to count rows in; not with MySQL.
    counting: Vec<Arc<Pool>>,
    moment: OnceCell<Moment>,
}

/// The moment.
#[derive(Debug)]
pub(crate) struct Moment {
    pub cut: Cut,
    pub logs: Vec<ServerLog>,
    /// What is in it and behind its places.
    pub closed: Closed,
    /// What happened from the recorded places to its own.
    pub changed: LogRead,
}

/// Opens snapshots on these servers.
pub(crate) async fn open(
    shared: &Shared,
    servers: &[usize],
    tables: &BTreeMap<TableName, Logical>,
) -> Result<(Lockless, Vec<(usize, Vec<Connection>)>)> {
    for (name, logical) in tables {
        let refuse = |why: &str| {
            Err(shared.unsupported(format!(
                "read table '{}' without a lock: {why}; `lock = \"barrier\"` reads it",
                name.table
            )))
        };
        if logical.schema.is_bag() {
            return refuse("it has no key by which the log could settle its rows");
        }
        if let Some(why) = logical.shards.iter().find_map(|shard| changes::unlogged(&shard.table.create)) {
            return refuse(why);
        }
    }
    let mut all = vec![];
    let (mut from, mut unlocked) = (vec![], BTreeMap::new());
    let mut counting: Vec<Arc<Pool>> = shared.servers.iter().map(|_| Arc::default()).collect();
    for at in servers {
        let server = &shared.servers[*at];
        let fail = |e| failed(OPEN, &server.address, e);
        let mut control = server.connect().await?;
        let (_, filtered) =
            server::position(&mut control).await.map_err(fail)?.ok_or_else(|| no_log(server))?;
        let (start, mariadb) = committed(server, &mut control).await?;
        control.run("ROLLBACK").await.map_err(fail)?;
        let settings = server::settings(&mut control).await.map_err(fail)?;
        let refusal = server::refusal(&mut control, &settings, filtered).await.map_err(fail)?;
        if let Some(Fault::Gone(why) | Fault::Altered(why)) = refusal {
            return Err(shared.unsupported(format!("read {} without a lock: {why}", server.address)));
        }
        let log = ServerLog::record(shared, *at, (start.clone(), filtered), tables, (None, None)).await?;
        if log.recorded.is_none() {
            return Err(shared.unsupported(format!(
                "read {} without a lock: the account may not read its binary log (REPLICATION SLAVE)",
                server.address
            )));
        }
        let listed = decided(server, &mut control).await?;
        let mut sessions = barrier::sessions(shared, server).await?;
        let begun = async {
            barrier::begin(&mut sessions).await?;
            barrier::marked(&mut sessions).await
        };
        begun.await.map_err(fail)?;
        let counted = match mariadb {
            true => counted(shared, server, (&mut control, &start)).await?,
            false => None,
        };
        let counted = counted.map(|(session, place)| {
            counting[*at] = Arc::new(Pool::new(server.address.to_string(), vec![session]));
            place
        });
        unlocked.insert(*at, Unlocked { listed, counted, ..Unlocked::default() });
        from.push(log);
        all.push((*at, sessions));
    }
    Ok((Lockless { from, unlocked, counting, moment: OnceCell::new() }, all))
}

/// A place in the log before which the engine has all that the log has, but for XA branches; and whether the server is MariaDB. There,
/// the session has a snapshot of that place.
pub(crate) async fn committed(server: &Server, control: &mut Connection) -> Result<(Place, bool)> {
    let fail = |e| failed(OPEN, &server.address, e);
    let version = control.rows("SELECT VERSION()").await.map_err(fail)?;
    let version = version.first().and_then(|row| row.first()?.as_deref());
    if version.is_some_and(|v| String::from_utf8_lossy(v).contains("MariaDB")) {
        barrier::begin(std::slice::from_mut(control)).await.map_err(fail)?;
        let said = control.rows(SNAPSHOT).await.map_err(fail)?;
        return Ok((said_place(&said).ok_or_else(|| no_log(server))?, true));
    }
    control.run("FLUSH BINARY LOGS").await.map_err(fail)?;
    let (place, _) = server::position(control).await.map_err(fail)?.ok_or_else(|| no_log(server))?;
    Ok((Place { offset: FIRST, ..place }, false))
}

/// Where MariaDB says that the session's snapshot is.
const SNAPSHOT: &str = "SHOW STATUS LIKE 'binlog_snapshot_%'";

fn said_place(said: &[TextRow]) -> Option<Place> {
    let word = |row: usize| Some(String::from_utf8_lossy(said.get(row)?.get(1)?.as_deref()?).into_owned());
    Some(Place { file: word(0)?, offset: word(1)?.parse().ok()? })
}

/// Waits until branches that are listed as in doubt are decided, and so for those that the log has decided and the engine has not; says
/// which go on for long. Some of them may be in no log, because they only read.
async fn decided(server: &Server, control: &mut Connection) -> Result<HashSet<Xid>> {
    let fail = |e| failed(OPEN, &server.address, e);
    let mut listed: HashSet<Xid> = server::in_doubt(control).await.map_err(fail)?.into_iter().collect();
    let started = Instant::now();
    while !listed.is_empty() && started.elapsed() < DECIDED {
        tokio::time::sleep(PAUSE).await;
        let now: HashSet<Xid> = server::in_doubt(control).await.map_err(fail)?.into_iter().collect();
        listed.retain(|xid| now.contains(xid));
    }
    Ok(listed)
}

/// What was decided of XA branches between two places.
async fn steps(server: &Server, from: &Place, to: &Place) -> Result<Vec<Order>> {
    if from == to {
        return Ok(vec![]);
    }
    let (mut none, mut ledger) = (Targets::new(HashMap::new(), false), Ledger::default());
    let mut walk = Walk::new(&mut none, &mut ledger, Wanted::Orders);
    let read = walk.run(server, from, to, None).await;
    read.map_err(|e| closing::log_failed(OPEN, &server.address, e))?;
    Ok(walk.orders)
}

/// A snapshot with its place in the log, which MariaDB says; none where branches were always being decided.
async fn counted(
    shared: &Shared,
    server: &Server,
    (control, start): (&mut Connection, &Place),
) -> Result<Option<(Connection, Place)>> {
    let fail = |e| failed(OPEN, &server.address, e);
    let Some(mut session) = barrier::sessions(shared, server).await?.pop() else { return Ok(None) };
    for _ in 0..ATTEMPTS {
        session.run("ROLLBACK").await.map_err(fail)?;
        let begun = async {
            session.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
            barrier::begin(std::slice::from_mut(&mut session)).await?;
            let said = session.rows(SNAPSHOT).await?;
            let listed = server::in_doubt(control).await?;
            Ok::<_, WireError>((said, listed))
        };
        let (said, listed) = begun.await.map_err(fail)?;
        let Some(place) = said_place(&said).filter(|place| place.has_reached(start)) else { return Ok(None) };
        // The log has their decision, and the snapshot may not.
        let steps = steps(server, start, &place).await?;
        let between = |order: &Order| order.step == Step::Committed && listed.contains(&order.xid);
        if !steps.iter().any(between) {
            session.run(crate::pool::MARK).await.map_err(fail)?;
            return Ok(Some((session, place)));
        }
    }
    Ok(None)
}

impl Lockless {
    /// The moment, where it is known.
    pub fn known(&self) -> Option<&Moment> {
        self.moment.get()
    }

    /// Where the logs stood before the snapshots.
    pub fn from(&self) -> Vec<ShardPosition> {
        self.from.iter().flat_map(ServerLog::positions).collect()
    }

    /// The moment, which the first call fixes.
    pub async fn moment(
        &self,
        shared: &Arc<Shared>,
        tables: &BTreeMap<TableName, Logical>,
    ) -> Result<&Moment> {
        self.moment.get_or_try_init(|| self.close(shared, tables)).await
    }

    async fn close(&self, shared: &Arc<Shared>, tables: &BTreeMap<TableName, Logical>) -> Result<Moment> {
        let servers: Vec<usize> = self.from.iter().map(|log| log.server).collect();
        let several = servers.len() > 1;
        let marks = match &shared.transactions {
            Transactions::Marked(marker) if several => {
                Some((marker, marker::before(shared, marker, &servers).await?))
            }
            _ => None,
        };
        let mut connections = vec![];
        for at in &servers {
            connections.push(shared.servers[*at].connect().await?);
        }
        let mut near = vec![];
        for (connection, at) in connections.iter_mut().zip(&servers) {
            near.push(place(connection, &shared.servers[*at]).await?);
        }
        let read = async {
            let mut places = vec![];
            for (connection, at) in connections.iter_mut().zip(&servers) {
                places.push(place(connection, &shared.servers[*at]).await?);
            }
            Ok(places)
        };
        let places = crate::hook::paused(shared.pause.as_ref(), read).await?;
        let at = Timestamp::now() - shared.behind;
        let ends = servers.iter().zip(places).zip(near);
        let mut ends: Vec<End> =
            ends.map(|((server, place), near)| End { server: *server, place, near: Some(near) }).collect();
        let mut decided = closing::settle(shared, &mut ends).await?;
        let mut unlocked = self.unlocked.clone();
        for (server, doubt) in std::mem::take(&mut decided.doubt) {
            unlocked.entry(server).or_default().doubt = doubt;
        }
        let marks = marks.as_ref().map(|(marker, before)| (*marker, before));
        let closed = closing::close_over(shared, tables, &ends, decided, marks).await?;
        let mut logs = vec![];
        for (end, from) in ends.iter().zip(&self.from) {
            let of = (closed.branches.get(&end.server), closed.groups.get(&end.server));
            let at = (end.place.clone(), from.filtered);
            logs.push(ServerLog::record(shared, end.server, at, tables, of).await?);
        }
        let changed = changes::read(shared, tables, &logs, &self.from(), &unlocked).await?;
        let positions = logs.iter().flat_map(ServerLog::positions).collect();
        let whole = closed.torn.is_none() && shared.behind.is_zero() && shared.whole();
        let exactness = match several && !whole {
            false => Exactness::Exact,
            // The places were read within this time.
            true => Exactness::Bounded { ms: apart(at, shared) },
        };
        if let Some(why) = closed.torn.as_deref().filter(|_| several) {
            tracing::warn!(why, "transactions on several servers may be torn at this cut");
        }
        Ok(Moment { cut: Cut { at, exactness, positions }, logs, closed, changed })
    }

    /// Whether the rows of a table can be counted by its servers.
    pub fn counts(&self, logical: &Logical) -> bool {
        let known = |at: &usize| self.unlocked.get(at).is_some_and(|server| server.counted.is_some());
        logical.shards.iter().all(|shard| known(&shard.server))
    }

    /// The server's own count, where its place in the log is known.
    pub async fn prove(
        &self,
        shared: &Shared,
        moment: &Moment,
        (table, logical): (&TableName, &Logical),
        closing: i64,
    ) -> Result<Option<SourceProof>> {
        if !self.counts(logical) {
            return Ok(None);
        }
        let Some(Ok(kept)) = moment.changed.tables.get(table) else { return Ok(None) };
        let counted = count(shared, &self.counting, logical).await?;
        let grown: i64 = kept.iter().map(|kept| kept.grown(&moment.changed.uncounted)).sum();
        Ok(Some(SourceProof {
            rows: counted.saturating_add_signed(grown + closing),
            ranges: vec![],
            method: "COUNT(*) of each shard in a snapshot whose place in the binary log the server says, with the rows more that the \
                     log has from there to the cut; no content, because snapshots without a lock are of several moments"
                .into(),
        }))
    }

    /// Ends what it holds.
    pub fn release(&self) {
        self.counting.iter().for_each(|pool| pool.close());
    }
}

fn apart(at: Timestamp, shared: &Shared) -> u64 {
    let apart = Timestamp::now().duration_since(at).unsigned_abs() + shared.behind;
    u64::try_from(apart.as_millis()).unwrap_or(u64::MAX).max(1)
}
