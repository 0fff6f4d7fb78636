//! One moment of several servers whose snapshots were begun behind one barrier: closed over XA transactions.
//!
//! At the barrier a transaction may be committed on one server and only prepared on another. Every transaction whose branches were
//! all prepared before the barrier, and that was committed in the end, is taken into the moment: nothing in it can follow from what was
//! committed after the barrier, because its statements ran before. One of which a branch was prepared later is left out on all
//! servers: nobody commits before all is prepared, so it was committed nowhere. Rows of a branch stand in the log where it was prepared.

use super::dump::{FIRST, Place};
use super::event::Xid;
use super::marker::{self, Before};
use super::sink::Kept;
use super::walk::{Ledger, Order, Step, Targets, Walk, Wanted};
use super::{LogError, changes, server};
use crate::address::Address;
use crate::barrier::Held;
use crate::connection::Connection;
use crate::error::failed;
use crate::options::Marker;
use crate::store::{Logical, Server, Shared};
use keepfast_model::TableName;
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
    /// Transactions that are in it though they were committed later, by server and where their first events end.
    pub groups: BTreeMap<usize, HashSet<Place>>,
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

/// Where the moment is in one server's log.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub server: usize,
    pub place: Place,
    /// Where the log stood shortly before.
    pub near: Option<Place>,
}

/// Where the barrier was in the logs; a server without one is none.
pub(crate) fn ends(held: &Held) -> Vec<End> {
    let end = |at: &crate::barrier::Server| {
        Some(End { server: at.server, place: at.position.clone()?, near: at.before.clone() })
    };
    held.servers.iter().filter_map(end).collect()
}

/// Branches whose rows are to be added to what was committed before the ends of the logs.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub branches: BTreeMap<usize, HashSet<Xid>>,
    /// Branches that were in doubt at the ends.
    pub doubt: BTreeMap<usize, HashSet<Xid>>,
    pub torn: Option<String>,
}

/// Follows what was in doubt at the barrier until it is decided.
pub(crate) async fn decide(shared: &Shared, held: &Held) -> Result<Decided> {
    let mut closed = Decided::default();
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
        closed.torn = Some(doubtful(undecided.len()));
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
        let (mut none, mut ledger) = (Targets::new(HashMap::new(), false), Ledger::default());
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
        if !branches.is_empty() {
            closed.branches.insert(at.server, branches);
        }
    }
    Ok(closed)
}

const WHAT: &str = "follow XA branches in doubt";

/// One server's log while it is looked for where the moment can be.
struct Side {
    server: usize,
    connection: Connection,
    near: Place,
    /// The end, and how many of the steps are before it.
    end: Place,
    before: usize,
    steps: Vec<Order>,
    read_to: Place,
    listed: HashSet<Xid>,
}

impl Side {
    /// Branches that were in doubt at the end; those of which no step was read are in doubt as long as they are listed.
    fn doubt(&self) -> HashSet<Xid> {
        let (before, behind) = self.steps.split_at(self.before);
        let late: HashSet<&Xid> =
            behind.iter().filter(|order| order.step == Step::Prepared).map(|order| &order.xid).collect();
        let mut doubt: HashSet<Xid> = self.listed.iter().filter(|xid| !late.contains(xid)).cloned().collect();
        let decided =
            behind.iter().filter(|order| order.step != Step::Prepared && !late.contains(&order.xid));
        doubt.extend(decided.map(|order| order.xid.clone()));
        for order in before {
            match order.step {
                Step::Prepared => doubt.insert(order.xid.clone()),
                _ => doubt.remove(&order.xid),
            };
        }
        doubt
    }

    async fn list(&mut self, shared: &Shared) -> Result<()> {
        let address = &shared.servers[self.server].address;
        let listed = server::in_doubt(&mut self.connection).await;
        self.listed = listed.map_err(|e| failed(WHAT, address, e))?.into_iter().collect();
        Ok(())
    }

    /// Reads the steps up to where the log stands now.
    async fn read(&mut self, shared: &Shared) -> Result<()> {
        let server = &shared.servers[self.server];
        let to = place(&mut self.connection, server).await?;
        if to == self.read_to {
            return Ok(());
        }
        let (mut none, mut ledger) = (Targets::new(HashMap::new(), false), Ledger::default());
        let mut walk = Walk::new(&mut none, &mut ledger, Wanted::Orders);
        let read = walk.run(server, &self.read_to, &to, None).await;
        read.map_err(|e| log_failed(WHAT, &server.address, e))?;
        self.steps.append(&mut walk.orders);
        self.read_to = to;
        Ok(())
    }
}

/// Where a server's log stands.
pub(crate) async fn place(connection: &mut Connection, server: &Server) -> Result<Place> {
    let found = server::position(connection).await;
    let found = found.map_err(|e| failed("read where its binary log stands", &server.address, e))?;
    Ok(found.ok_or_else(|| no_log(server))?.0)
}

pub(crate) fn no_log(server: &Server) -> StoreError {
    StoreError::Unsupported {
        store: server.address.to_string(),
        what: "give a cut without a lock: the server has no binary log (log_bin)".into(),
    }
}

/// Moves ends forward until every transaction that is committed before the end of one log is prepared before those of all others.
/// Steps of each log are in order; an end is the count of steps before it. The ends move no farther than to what happened before
/// the last of them, because nobody commits before all is prepared.
fn consistent(steps: &[&[Order]], ends: &mut [usize]) {
    let mut committed = HashSet::new();
    let mut seen = vec![0; ends.len()];
    loop {
        for ((steps, end), seen) in steps.iter().zip(ends.iter()).zip(&mut seen) {
            let new = steps[*seen..*end].iter().filter(|order| order.step == Step::Committed);
            committed.extend(new.map(|order| order.xid.global()));
            *seen = *end;
        }
        let mut moved = false;
        for (steps, end) in steps.iter().zip(ends.iter_mut()) {
            let of = |order: &Order| order.step == Step::Prepared && committed.contains(&order.xid.global());
            if let Some(last) = steps[*end..].iter().rposition(of) {
                *end += last + 1;
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

/// Finds a moment of logs that were read one after the other: `near` is where all of them stood before, the ends where each stood since.
/// The ends are moved forward, and what is in doubt there is followed. No server waits meanwhile.
pub(crate) async fn settle(shared: &Shared, ends: &mut [End]) -> Result<Decided> {
    let mut sides = vec![];
    for end in ends.iter() {
        let connection = shared.servers[end.server].connect().await?;
        let near = end.near.clone().unwrap_or_else(|| end.place.clone());
        let (place, read_to) = (end.place.clone(), near.clone());
        let (steps, listed) = (vec![], HashSet::new());
        sides.push(Side {
            server: end.server,
            connection,
            near,
            end: place,
            before: 0,
            steps,
            read_to,
            listed,
        });
    }
    for side in &mut sides {
        side.list(shared).await?;
    }
    for side in &mut sides {
        side.read(shared).await?;
        side.before = side.steps.partition_point(|order| side.end.has_reached(&order.end));
    }
    let mut at: Vec<usize> = sides.iter().map(|side| side.before).collect();
    consistent(&sides.iter().map(|side| side.steps.as_slice()).collect::<Vec<_>>(), &mut at);
    for (side, at) in sides.iter_mut().zip(at) {
        if at > side.before {
            (side.before, side.end) = (at, side.steps[at - 1].end.clone());
        }
    }
    let mut decided = Decided::default();
    let started = Instant::now();
    let undecided = loop {
        let asked: HashSet<_> = sides.iter().flat_map(Side::doubt).map(|xid| xid.global()).collect();
        // Who is listed now and has no step yet will have one, or has it in what is read next.
        for side in &mut sides {
            side.list(shared).await?;
        }
        for side in &mut sides {
            side.read(shared).await?;
        }
        let late: HashSet<_> = late(&sides).collect();
        let open = |side: &Side| {
            let over: HashSet<&Xid> = (side.steps.iter())
                .filter(|order| order.step != Step::Prepared)
                .map(|order| &order.xid)
                .collect();
            let doubt = side.doubt().into_iter().chain(side.listed.iter().cloned());
            let open = doubt.filter(|xid| !over.contains(xid)).map(|xid| xid.global());
            open.filter(|global| asked.contains(global) && !late.contains(global)).collect::<HashSet<_>>()
        };
        let open: HashSet<_> = sides.iter().flat_map(open).collect();
        if sides.len() < 2 || open.is_empty() || started.elapsed() > FOLLOW {
            break open;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let late: HashSet<_> = late(&sides).collect();
    let mut undone = HashSet::new();
    for side in &sides {
        let steps = side.steps.iter().filter(|order| order.step == Step::Undone);
        undone.extend(steps.map(|order| order.xid.global()));
    }
    for (side, end) in sides.iter().zip(ends.iter_mut()) {
        let doubt = side.doubt();
        let steps = side.steps[side.before..].iter().filter(|order| order.step == Step::Committed);
        let committed = steps.map(|order| &order.xid).filter(|xid| doubt.contains(xid));
        let mut branches = HashSet::new();
        for xid in committed {
            let global = xid.global();
            if undone.contains(&global) {
                decided.torn =
                    Some("an XA transaction was committed on one server and undone on another".into());
            } else if sides.len() > 1 && !late.contains(&global) && !undecided.contains(&global) {
                branches.insert(xid.clone());
            }
        }
        if !branches.is_empty() {
            decided.branches.insert(side.server, branches);
        }
        decided.doubt.insert(side.server, doubt);
        end.place = side.end.clone();
        end.near = Some(side.near.clone());
    }
    if sides.len() > 1 && !undecided.is_empty() {
        decided.torn = Some(doubtful(undecided.len()));
    }
    Ok(decided)
}

fn doubtful(transactions: usize) -> String {
    format!(
        "{transactions} XA transactions were still in doubt after {} s; XA RECOVER shows them",
        FOLLOW.as_secs()
    )
}

/// Transactions of which a branch was prepared behind an end.
fn late(sides: &[Side]) -> impl Iterator<Item = (u32, Vec<u8>)> {
    let behind = sides.iter().flat_map(|side| &side.steps[side.before..]);
    behind.filter(|order| order.step == Step::Prepared).map(|order| order.xid.global())
}

/// Closes a moment over what was decided, and over transactions with ids where there are marks of them.
pub(crate) async fn close_over(
    shared: &Shared,
    tables: &BTreeMap<TableName, Logical>,
    ends: &[End],
    mut decided: Decided,
    marks: Option<(&Marker, &Before)>,
) -> Result<Closed> {
    let mut targets = BTreeMap::new();
    // Where nothing is to be rolled forward, nothing is read.
    if !decided.branches.is_empty() || marks.is_some() {
        for end in ends {
            targets.insert(end.server, changes::targets_of(shared, tables, end.server).await?);
        }
    }
    let mut ledger = Ledger { sinks: changes::sinks(tables, true), ..Ledger::default() };
    roll_forward(shared, ends, &mut decided, &mut targets, &mut ledger).await?;
    let groups = match marks {
        Some(with) => marker::close(shared, with, ends, &mut targets, &mut ledger, &mut decided.torn).await?,
        None => BTreeMap::new(),
    };
    Ok(Closed { groups, ..finish(shared, decided, ledger)? })
}

/// Reads the rows of branches that were prepared before the ends and are in the moment.
async fn roll_forward(
    shared: &Shared,
    ends: &[End],
    decided: &mut Decided,
    targets: &mut BTreeMap<usize, Targets>,
    ledger: &mut Ledger,
) -> Result<()> {
    for end in ends {
        let (Some(branches), Some(targets)) =
            (decided.branches.get(&end.server), targets.get_mut(&end.server))
        else {
            continue;
        };
        let address = &shared.servers[end.server].address;
        let found = look_back(shared, end, branches, targets, ledger).await;
        if found.map_err(|e| log_failed(WHAT, address, e))?.len() < branches.len() {
            decided.torn =
                Some(format!("{address} has purged the log in which an XA branch in doubt was prepared"));
        }
    }
    Ok(())
}

/// What was read, by table.
fn finish(shared: &Shared, decided: Decided, ledger: Ledger) -> Result<Closed> {
    let mut closed = Closed { branches: decided.branches, torn: decided.torn, ..Closed::default() };
    for sink in ledger.sinks {
        match sink
            .finish()
            .map_err(|e| StoreError::Damaged { object: shared.to_string(), reason: e.to_string() })?
        {
            Ok(kept) => closed.tables.push(kept),
            Err(fault) => {
                return Err(StoreError::Unsupported {
                    store: shared.to_string(),
                    what: format!("close the cut over transactions of several servers: {fault:?}"),
                });
            }
        }
    }
    closed.excluded = Arc::new(ledger.excluded);
    Ok(closed)
}

/// Reads the rows of branches that were prepared before a place and not decided there. Gives back those that it found, with their
/// transactions' numbers where they have rows of ours.
pub(crate) async fn look_back(
    shared: &Shared,
    end: &End,
    branches: &HashSet<Xid>,
    targets: &mut Targets,
    ledger: &mut Ledger,
) -> Result<HashMap<Xid, Option<u64>>, LogError> {
    let (mut missing, mut found) = (branches.clone(), HashMap::new());
    let (limit, near) = (&end.place, end.near.as_ref());
    let server = &shared.servers[end.server];
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
        for (xid, number) in walk.prepared {
            missing.remove(&xid);
            found.insert(xid, number);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(offset: u64, step: Step, name: &str) -> Order {
        let xid = Xid { format: 1, gtrid: name.as_bytes().to_vec(), bqual: vec![] };
        Order { end: Place { file: "b.1".into(), offset }, step, xid }
    }

    #[test]
    fn ends_move_to_where_all_that_is_committed_is_prepared_everywhere() {
        use Step::{Committed, Prepared};
        let one = [
            order(1, Prepared, "a"),
            order(2, Prepared, "b"),
            order(3, Committed, "b"),
            order(4, Committed, "a"),
        ];
        // Read later: "a" is committed there already.
        let two = [
            order(1, Prepared, "a"),
            order(2, Committed, "a"),
            order(3, Prepared, "b"),
            order(4, Prepared, "c"),
        ];
        let steps: [&[Order]; 2] = [&one, &two];
        let ends_of = |mut ends: [usize; 2]| {
            consistent(&steps, &mut ends);
            ends
        };
        assert_eq!(ends_of([0, 1]), [0, 1], "what is prepared on one server alone is in doubt");
        assert_eq!(ends_of([0, 2]), [1, 2]);
        assert_eq!(ends_of([3, 2]), [3, 3], "what one server committed must be prepared on the other");
        assert_eq!(ends_of([4, 1]), [4, 3]);
        assert_eq!(ends_of([4, 4]), [4, 4]);
    }
}
