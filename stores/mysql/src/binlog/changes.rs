//! What happened to a cut's tables since an earlier cut: each server's log is read once, for all of them.

use super::charset::{Charset, of_collation};
use super::closing::{End, look_back};
use super::dump::{Origin, Place};
use super::event::Xid;
use super::sink::{Kept, Sink};
use super::walk::{Groups, Ledger, Targets, Walk, Wanted};
use super::{Fault, LogError, server};
use crate::catalog::PhysicalTable;
use crate::connection::Connection;
use crate::error::failed;
use crate::store::{Logical, Shared};
use crate::wire::WireError;
use flate2::Crc;
use keepfast_model::{Position, ShardId, ShardPosition, TableName};
use keepfast_store::{Result, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What a cut records of a server's log, besides its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// Who the server is.
    server: String,
    /// When the file was begun, and by which number of a server.
    begun: u32,
    by: u32,
    /// A checksum of the shards and columns that each table has there.
    tables: BTreeMap<String, String>,
    /// XA branches that are in the cut and were decided after its place.
    #[serde(default)]
    closed: BTreeSet<String>,
    /// Transactions that are in the cut though they stand behind its place, by where their first events end.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    groups: BTreeSet<String>,
}

/// A server's log at a cut.
#[derive(Clone, Debug)]
pub(crate) struct ServerLog {
    pub server: usize,
    pub name: String,
    pub place: Place,
    pub filtered: bool,
    /// None where the account may not read it.
    pub recorded: Option<Recorded>,
}

const RECORD: &str = "/log";

impl ServerLog {
    /// Where a server's log stands, with what tells later whether it is still that log.
    pub async fn record(
        shared: &Shared,
        at: usize,
        (place, filtered): (Place, bool),
        tables: &BTreeMap<TableName, Logical>,
        (closed, groups): (Option<&HashSet<Xid>>, Option<&HashSet<Place>>),
    ) -> Result<Self> {
        let server = &shared.servers[at];
        let settings = server::settings(&mut server.connect().await?).await;
        let settings = settings.map_err(|e| failed("read the settings", &server.address, e))?;
        let recorded = match server::origin(server, &place.file).await {
            Ok(Some(origin)) => Some(Recorded {
                server: server::identity(&settings),
                begun: origin.seconds,
                by: origin.server,
                tables: tables
                    .iter()
                    .filter_map(|(name, logical)| Some((name.to_string(), fingerprint(logical, at)?)))
                    .collect(),
                closed: closed.into_iter().flatten().map(named).collect(),
                groups: groups.into_iter().flatten().map(Place::to_string).collect(),
            }),
            Ok(None) => None,
            Err(e) => {
                // A backup needs no log; the next one will be a full one.
                tracing::warn!(server = %server.address, error = %e, "its binary log cannot be read");
                None
            }
        };
        Ok(Self { server: at, name: server.place(), place, filtered, recorded })
    }

    /// As a cut's positions.
    pub fn positions(&self) -> Vec<ShardPosition> {
        let Place { file, offset } = self.place.clone();
        let place =
            ShardPosition { shard: ShardId(self.name.clone()), position: Position::File { file, offset } };
        let record = self.recorded.as_ref().and_then(|recorded| serde_json::to_string(recorded).ok());
        let record = record.map(|text| ShardPosition {
            shard: ShardId(format!("{}{RECORD}", self.name)),
            position: Position::Token(text),
        });
        std::iter::once(place).chain(record).collect()
    }
}

/// A branch as text.
fn named(xid: &Xid) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    format!("{}:{}:{}", xid.format, hex(&xid.gtrid), hex(&xid.bqual))
}

/// The shards of a table on a server, and their columns; none where it has none there.
fn fingerprint(logical: &Logical, server: usize) -> Option<String> {
    let mut shards: Vec<String> = logical
        .shards
        .iter()
        .filter(|shard| shard.server == server)
        .map(|shard| {
            let table = &shard.table;
            format!("{:?} {:?} {:?} {:?}", table.database, table.name, table.columns, table.key)
        })
        .collect();
    shards.sort();
    let mut crc = Crc::new();
    shards.iter().for_each(|shard| crc.update(shard.as_bytes()));
    (!shards.is_empty()).then(|| format!("{:08x}", crc.sum()))
}

/// Changes of all tables since some positions.
#[derive(Debug)]
pub(crate) struct LogRead {
    pub tables: BTreeMap<TableName, Result<Vec<Kept>, Fault>>,
    pub excluded: Arc<HashSet<u64>>,
    /// Those, and the ones that rows were counted behind.
    pub uncounted: HashSet<u64>,
}

/// What is known of a server whose rows were read without a lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unlocked {
    /// Branches that were listed as in doubt behind the earlier place.
    pub listed: HashSet<Xid>,
    /// Those of the later place.
    pub doubt: HashSet<Xid>,
    /// Where its rows were counted.
    pub counted: Option<Place>,
}

/// Why the log does not have all changes of a table's rows; none where it has.
pub(crate) fn unlogged(create: &str) -> Option<&'static str> {
    let create = create.to_uppercase();
    if create.contains("WITH SYSTEM VERSIONING") {
        return Some("the log does not have the old rows of a system-versioned table");
    }
    let cascades = create.lines().filter(|line| line.contains("FOREIGN KEY")).any(|line| {
        let rest = line.rsplit(')').next().unwrap_or_default();
        ["CASCADE", "SET NULL", "SET DEFAULT"].iter().any(|action| rest.contains(action))
    });
    cascades.then_some("rows that a foreign key changes in cascade are not in the log")
}

/// As [`targets`], of a server that is asked for its settings first.
pub(crate) async fn targets_of(
    shared: &Shared,
    tables: &BTreeMap<TableName, Logical>,
    at: usize,
) -> Result<Targets> {
    let server = &shared.servers[at];
    let mut connection = server.connect().await?;
    let read = async {
        let folds = folds(&server::settings(&mut connection).await?);
        targets(&mut connection, folds, tables, at).await
    };
    read.await.map_err(|e| failed("read the settings", &server.address, e))
}

/// The shards that tables have on one server, for a walk of its log.
pub(crate) async fn targets(
    connection: &mut Connection,
    fold: bool,
    tables: &BTreeMap<TableName, Logical>,
    at: usize,
) -> Result<Targets, WireError> {
    let mut charsets = HashMap::new();
    let shards = tables.values().flat_map(|logical| &logical.shards).filter(|shard| shard.server == at);
    let collations: BTreeSet<&str> =
        shards.flat_map(|shard| &shard.table.columns).filter_map(|c| c.collation.as_deref()).collect();
    let names: BTreeSet<&str> = collations.into_iter().map(of_collation).chain(["utf8mb4"]).collect();
    for name in names {
        if let Some(charset) = Charset::read(connection, name).await? {
            charsets.insert(name.to_owned(), charset);
        }
    }
    let mut targets = Targets::new(charsets, fold);
    let here = |logical: &Logical| {
        logical.shards.iter().any(|s| s.server == at && s.table.create.contains("FOREIGN KEY"))
    };
    let bound = tables.values().any(here);
    for (sink, logical) in tables.values().enumerate() {
        for (number, shard) in logical.shards.iter().enumerate().filter(|(_, shard)| shard.server == at) {
            let table = &shard.table;
            targets.add(&table.database, &table.name, table.columns.clone(), sink, number);
            if !bound && apart(table) {
                let of = |name: &String| table.columns.iter().position(|c| c.name == *name);
                targets.key(table.key.iter().filter_map(of).collect());
            }
        }
    }
    Ok(targets)
}

/// Whether rows of other keys do not depend on each other, and the bytes of a key tell it.
fn apart(table: &PhysicalTable) -> bool {
    let uniques = table.create.lines().filter(|line| line.trim_start().starts_with("UNIQUE ")).count();
    let own = usize::from(table.index.as_deref().is_some_and(|index| index != "PRIMARY"));
    let texts = table.columns.iter().filter(|c| table.key.contains(&c.name)).any(|c| c.collation.is_some());
    !table.key.is_empty() && uniques <= own && !texts
}

/// Sinks for tables, in their order.
pub(crate) fn sinks(tables: &BTreeMap<TableName, Logical>, counts: bool) -> Vec<Sink> {
    let sink = |logical: &Logical| {
        let shards = logical.shards.iter().map(|shard| shard.id.0.clone()).collect();
        Sink::new(&logical.schema, shards, counts)
    };
    tables.values().map(sink).collect()
}

/// Whether a server keeps names in lower case.
pub(crate) fn folds(settings: &BTreeMap<String, String>) -> bool {
    settings.get("lower_case_table_names").is_some_and(|how| how != "0")
}

/// Reads what happened between an earlier cut and the places of this one.
pub(crate) async fn read(
    shared: &Shared,
    tables: &BTreeMap<TableName, Logical>,
    logs: &[ServerLog],
    from: &[ShardPosition],
    unlocked: &BTreeMap<usize, Unlocked>,
) -> Result<LogRead> {
    let counts = unlocked.values().any(|at| at.counted.is_some());
    let mut ledger = Ledger { sinks: sinks(tables, counts), ..Ledger::default() };
    let mut earlier = sinks(tables, counts);
    let mut uncounted = HashSet::new();
    let before: BTreeMap<&str, &Position> = from.iter().map(|p| (p.shard.0.as_str(), &p.position)).collect();
    for (sink, (name, logical)) in ledger.sinks.iter_mut().zip(tables) {
        sink.fault = fault_of(shared, (name, logical), logs, &before);
    }
    for log in logs {
        let address = &shared.servers[log.server].address;
        let of: Vec<usize> = (tables.values().enumerate())
            .filter(|(_, logical)| logical.shards.iter().any(|shard| shard.server == log.server))
            .map(|(at, _)| at)
            .collect();
        // Whoever has no record here has a fault already.
        let Some((place, recorded)) = found(&before, &log.name) else { continue };
        if of.iter().all(|at| ledger.sinks[*at].fault.is_some()) {
            continue;
        }
        let between = between(
            shared,
            (log, tables),
            (&place, &recorded, unlocked.get(&log.server)),
            &mut ledger,
            (&mut earlier, &mut uncounted),
        );
        let fault = match between.await {
            Ok(None) => continue,
            Ok(Some(fault)) => fault,
            Err(LogError::Gone(reason)) => Fault::Gone(reason),
            Err(LogError::Server(e)) => return Err(e),
            // What the server says of a place that it does not have.
            Err(LogError::Wire(e)) if e.code() == Some(1236) => Fault::Gone(e.to_string()),
            Err(LogError::Wire(e)) => return Err(failed("read the binary log", address, e)),
            Err(e @ LogError::Kept(_)) => {
                return Err(StoreError::Unavailable {
                    what: "keep changes for a while".into(),
                    object: std::env::temp_dir().display().to_string(),
                    source: e.into(),
                });
            }
        };
        for at in of {
            ledger.sinks[at].fault.get_or_insert_with(|| match &fault {
                Fault::Gone(reason) => Fault::Gone(format!("{address}: {reason}")),
                Fault::Altered(reason) => Fault::Altered(reason.clone()),
            });
        }
    }
    let kept_failed = |e: LogError| StoreError::Unavailable {
        what: "keep changes for a while".into(),
        object: std::env::temp_dir().display().to_string(),
        source: e.into(),
    };
    let mut read = BTreeMap::new();
    for ((name, before), between) in tables.keys().zip(earlier).zip(ledger.sinks) {
        let both = match (before.finish().map_err(kept_failed)?, between.finish().map_err(kept_failed)?) {
            (Ok(before), Ok(between)) => Ok(vec![before, between]),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
        };
        read.insert(name.clone(), both);
    }
    uncounted.extend(&ledger.excluded);
    Ok(LogRead { tables: read, excluded: Arc::new(ledger.excluded), uncounted })
}

/// Transactions that an earlier cut has though they stand behind its place on a server, by where their first events end.
pub(crate) fn groups(since: &[ShardPosition], name: &str) -> Vec<Place> {
    let before = since.iter().map(|p| (p.shard.0.as_str(), &p.position)).collect();
    let recorded = found(&before, name).map(|(_, recorded)| recorded.groups).unwrap_or_default();
    recorded.iter().filter_map(|text| Place::parse(text)).collect()
}

/// What was recorded of a server.
fn found(before: &BTreeMap<&str, &Position>, name: &str) -> Option<(Place, Recorded)> {
    let Some(Position::File { file, offset }) = before.get(name) else { return None };
    let Some(Position::Token(text)) = before.get(format!("{name}{RECORD}").as_str()) else { return None };
    let recorded = serde_json::from_str(text).ok()?;
    Some((Place { file: file.clone(), offset: *offset }, recorded))
}

/// Why a table's changes cannot be given, as far as it shows without reading a log.
fn fault_of(
    shared: &Shared,
    (name, logical): (&TableName, &Logical),
    logs: &[ServerLog],
    before: &BTreeMap<&str, &Position>,
) -> Option<Fault> {
    let gone = |reason: String| Some(Fault::Gone(reason));
    let altered = |reason: &str| Some(Fault::Altered(reason.to_owned()));
    let name = name.to_string();
    for shard in &logical.shards {
        if let Some(reason) = unlogged(&shard.table.create) {
            return gone(format!("'{}': {reason}", shard.id.0));
        }
    }
    let servers: BTreeSet<usize> = logical.shards.iter().map(|shard| shard.server).collect();
    for at in &servers {
        let address = &shared.servers[*at].address;
        let Some(log) = logs.iter().find(|log| log.server == *at) else {
            return gone(format!("{address} has no binary log (log_bin)"));
        };
        let Some((_, recorded)) = found(before, &log.name) else {
            return gone(format!(
                "the earlier cut has no place in the log of {address}, or may not have read it (REPLICATION SLAVE)"
            ));
        };
        match recorded.tables.get(&name) {
            None => return gone("it was not part of the earlier cut there".into()),
            Some(found) if Some(found) != fingerprint(logical, *at).as_ref() => {
                return altered("its shards on that server, or their columns, are others");
            }
            Some(_) => {}
        }
    }
    let elsewhere = |key: &&str| {
        let server = key.strip_suffix(RECORD)?;
        let (_, recorded) = found(before, server)?;
        let known = servers.iter().any(|at| shared.servers[*at].place() == server);
        (!known && recorded.tables.contains_key(&name)).then_some(())
    };
    before.keys().find_map(elsewhere).and_then(|()| altered("it had shards on other servers"))
}

/// Reads one server's log between two cuts.
async fn between(
    shared: &Shared,
    (log, tables): (&ServerLog, &BTreeMap<TableName, Logical>),
    (place, recorded, unlocked): (&Place, &Recorded, Option<&Unlocked>),
    ledger: &mut Ledger,
    (earlier, uncounted): (&mut Vec<Sink>, &mut HashSet<u64>),
) -> Result<Option<Fault>, LogError> {
    let server = &shared.servers[log.server];
    let mut connection = server.connect().await?;
    let settings = server::settings(&mut connection).await?;
    if server::identity(&settings) != recorded.server {
        return Ok(Some(Fault::Gone("it is another server than then".into())));
    }
    if let Some(fault) = server::refusal(&mut connection, &settings, log.filtered).await? {
        return Ok(Some(fault));
    }
    let files = server::files(&mut connection).await?;
    match files.iter().find(|(file, _)| *file == place.file) {
        None => return Ok(Some(Fault::Gone(format!("'{}' was purged", place.file)))),
        Some((_, size)) if *size < place.offset => {
            return Ok(Some(Fault::Gone(format!("'{}' ends before {}", place.file, place.offset))));
        }
        Some(_) => {}
    }
    if !place.order(&log.place).is_some_and(std::cmp::Ordering::is_le) {
        return Ok(Some(Fault::Gone(format!("its log stands at {}, before {place}", log.place))));
    }
    let mut targets = targets(&mut connection, folds(&settings), tables, log.server).await?;
    drop(connection);
    let origin = Origin { seconds: recorded.begun, server: recorded.by };
    let mut walk = Walk::new(&mut targets, ledger, Wanted::All);
    walk.groups = Some(Groups::But(recorded.groups.iter().filter_map(|text| Place::parse(text)).collect()));
    if let Some(unlocked) = unlocked {
        (walk.watch, walk.counted) = (unlocked.listed.clone(), unlocked.counted.clone());
    }
    walk.run(server, place, &log.place, Some(origin)).await?;
    let lost = walk.watch.iter().find(|xid| !unlocked.is_some_and(|known| known.doubt.contains(xid)));
    if lost.is_some() {
        return Ok(Some(Fault::Gone(
            "an XA branch was being decided when its snapshots began; start the backup again".into(),
        )));
    }
    let early = std::mem::take(&mut walk.early);
    let undecided: Vec<u64> = walk.prepared.values().flatten().copied().collect();
    let decided = std::mem::take(&mut walk.committed).into_iter();
    let decided: HashSet<Xid> = decided.filter(|xid| !recorded.closed.contains(&named(xid))).collect();
    ledger.excluded.extend(undecided);
    if decided.is_empty() {
        return Ok(None);
    }
    // They were prepared before the earlier cut and committed after it.
    std::mem::swap(&mut ledger.sinks, earlier);
    let end = End { server: log.server, place: place.clone(), near: None };
    let found = look_back(shared, &end, &decided, &mut targets, ledger).await;
    std::mem::swap(&mut ledger.sinks, earlier);
    let found = found?;
    uncounted.extend(early.iter().filter_map(|xid| found.get(xid).copied().flatten()));
    Ok((found.len() < decided.len()).then(|| {
        Fault::Gone("an XA branch was prepared in a log that is purged, and committed since".into())
    }))
}
