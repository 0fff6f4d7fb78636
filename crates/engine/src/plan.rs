//! What a backup will do: which tables, whole or by their changes, in which partitions, and how much that is.

use crate::Result;
use crate::api::*;
use crate::certify::check_cover;
use crate::condition::Condition;
use crate::encryption;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::Place;
use crate::resolve::StoreSpec;
use crate::session::same_table;
use crate::task::select;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use keepfast_format::target_rows_for;
use keepfast_model::{
    BackupName, ByteCount, Encryption, Parity, ParityChoice, Partition, ShardPosition, TableId, TableName,
    TablePoint, TableSchema, WriteMode,
};
use keepfast_sql::Address;
use keepfast_store::{CutOptions, OpenCut, Past, PlanOptions, Store, TableAtCut};
use keepfast_vault::{Point, Secrecy, Vault, VaultError};
use std::sync::Arc;

/// Stored bytes of a row group's worth of rows, as a first guess: most tables shrink to about a third.
const GUESSED_RATIO: f64 = 0.35;
/// Bytes read a second and thread, as a first guess.
const GUESSED_SPEED: f64 = 20e6;
/// Seconds of any backup: opening, planning, committing.
const FIXED_SECONDS: f64 = 0.1;
/// A chain of changes longer than this starts a new base.
const LONGEST_CHAIN: usize = 64;

/// Changes of more bytes than this, and than the table has, are not worth reading; those of a table without a key are
/// counted in memory.
const CHANGES_MAX: u64 = 64 << 20;

/// Tables of one store at one cut, on their way into vaults.
pub(crate) struct Source {
    pub spec: StoreSpec,
    pub store: Arc<dyn Store>,
    pub tables: Vec<TableName>,
}

/// Where a backup goes.
#[derive(Debug, PartialEq)]
pub(crate) enum Destination {
    /// Into a vault.
    Vault(Place),
    /// Into a store, as a direct copy.
    Store(String),
}

impl Destination {
    pub(crate) fn place(&self) -> Option<&Place> {
        match self {
            Self::Vault(place) => Some(place),
            Self::Store(_) => None,
        }
    }
}

/// A table as one vault will get it.
pub(crate) struct TableWork {
    pub name: TableName,
    pub id: TableId,
    pub at: TableAtCut,
    pub kept: TableSchema,
    pub previous: Option<TablePoint>,
    pub mode: WriteMode,
    pub why: String,
    pub partitions: Vec<Partition>,
    /// The positions that it stands on, where they are not those of the newest point.
    pub since: Option<Vec<ShardPosition>>,
    /// Bytes that an incremental backup is expected to read, where the store can tell.
    pub changes_expected: Option<ByteCount>,
    pub target_rows: u32,
    /// How its files are encrypted.
    pub encryption: Encryption,
    pub parity: Option<Parity>,
}

impl Engine {
    /// The store and the tables that a request names, as the store writes them.
    pub(crate) async fn find_tables(&self, tables: &TableSet) -> Result<Source> {
        let spec = match tables {
            TableSet::Tables(names) => {
                let mut stores: Vec<Option<&String>> = names.iter().map(|n| n.store.as_ref()).collect();
                stores.dedup();
                match stores.as_slice() {
                    [] => {
                        return Err(EngineError::Usage {
                            what: "tables".into(),
                            reason: "none is named".into(),
                        });
                    }
                    [store] => store.map_or(StoreSpec::Embedded, |s| StoreSpec::Named(s.clone())),
                    _ => {
                        return Err(EngineError::Unsupported {
                            what: "one backup of tables of several stores".into(),
                            reason: "a cut covers one store".into(),
                        });
                    }
                }
            }
            TableSet::Database(name) => match name.split_once('.') {
                Some((store, _)) => StoreSpec::Named(store.to_owned()),
                None => StoreSpec::Embedded,
            },
            TableSet::All => StoreSpec::Embedded,
        };
        let store = self.options.stores.open(&spec).await?;
        let mut found = vec![];
        match tables {
            TableSet::Tables(names) => {
                let listed = store.list_tables(None).await?;
                for name in names {
                    let real = listed
                        .iter()
                        .find(|t| t.table == name.table && t.database == name.database)
                        .or_else(|| {
                            listed.iter().find(|t| {
                                same_table(&TableName { store: name.store.clone(), ..(*t).clone() }, name)
                            })
                        })
                        .ok_or_else(|| keepfast_store::StoreError::NoTable {
                            table: name.to_string(),
                            store: store.to_string(),
                        })?;
                    found.push(real.clone());
                }
            }
            TableSet::Database(name) => {
                let database = name.rsplit('.').next().unwrap_or(name);
                found = store.list_tables(Some(database)).await?;
                found.retain(|t| !is_replaced(t));
                if found.is_empty() {
                    return Err(EngineError::Unknown { what: "table in database", name: name.clone() });
                }
            }
            TableSet::All => found = store.list_tables(None).await?,
        }
        found.sort();
        found.dedup();
        Ok(Source { spec, store, tables: found })
    }

    /// What a backup would do.
    pub fn plan_backup<'a>(&'a self, request: &'a BackupRequest) -> LocalBoxFuture<'a, Result<BackupPlan>> {
        async move {
            let (destinations, source) = self.check_backup(request).await?;
            // Copies into stores read the same tables once more.
            let place = destinations.iter().find_map(Destination::place);
            let (cut, base) = self.take_cut(request, place, &source).await?;
            let planned = self.plan_at(request, place, &source, &cut, base.as_ref()).await;
            cut.release().await?;
            let works = planned?;
            let speed = match place {
                Some(place) => self.earlier_speed(place, &source).await?,
                None => None,
            };
            let tables: Vec<TablePlan> = works
                .iter()
                .map(|w| {
                    let ratio = w
                        .previous
                        .as_ref()
                        .map_or(GUESSED_RATIO, |p| p.bytes.0 as f64 / w.at.bytes_expected.0.max(1) as f64);
                    let (read, written) = match w.mode {
                        // Of what is read, one half is as it was and one half as it is.
                        WriteMode::Incremental => {
                            let expected = w.changes_expected.unwrap_or_default();
                            (expected, expected.0 as f64 / 2.0)
                        }
                        _ => (w.at.bytes_expected, w.at.bytes_expected.0 as f64),
                    };
                    TablePlan {
                        table: w.name.clone(),
                        mode: w.mode,
                        why: w.why.clone(),
                        rows: w.at.rows_expected,
                        partitions: w.partitions.len() as u32,
                        bytes_read: read,
                        bytes_written: ByteCount((written * ratio) as u64),
                        segment_rows: w.target_rows,
                    }
                })
                .collect();
            let bytes_read: ByteCount = tables.iter().map(|t| t.bytes_read).sum();
            let bytes_written: ByteCount = tables.iter().map(|t| t.bytes_written).sum();
            let seconds = match speed {
                Some(speed) => FIXED_SECONDS + bytes_written.0 as f64 / speed,
                None => bytes_read.0 as f64 / (GUESSED_SPEED * self.options.threads.max(1) as f64),
            };
            Ok(BackupPlan {
                targets: request.to.iter().map(|to| Address::new(to).to_string()).collect(),
                tasks: tables.iter().map(|t| t.partitions).sum(),
                bytes_read,
                bytes_written,
                seconds,
                tables,
            })
        }
        .boxed_local()
    }

    /// Bytes written a second by the newest points that wrote whole tables; none where there are none.
    pub(crate) async fn earlier_speed(&self, place: &Place, source: &Source) -> Result<Option<f64>> {
        let vault = match self.open_vault(place.vault.as_deref()).await {
            Ok(vault) => vault,
            Err(EngineError::Vault(VaultError::NotAVault { .. })) => return Ok(None),
            Err(e) => return Err(e),
        };
        let log = vault.log().await?;
        let (mut bytes, mut ms) = (0, 0);
        let backup = backup_name(place, source)?;
        let points = log.points(&backup).rev();
        for point in points.filter(|p| p.tables.iter().all(|t| t.mode == WriteMode::Full)).take(3) {
            bytes += point.tables.iter().map(|t| t.bytes.0).sum::<u64>();
            ms += point.elapsed_ms;
        }
        Ok((bytes > 0 && ms > 0).then(|| bytes as f64 * 1000.0 / ms as f64))
    }

    pub(crate) async fn check_backup(&self, request: &BackupRequest) -> Result<(Vec<Destination>, Source)> {
        if request.to.is_empty() {
            return Err(EngineError::Usage { what: "TO".into(), reason: "no backup is named".into() });
        }
        let mut destinations = vec![];
        for to in &request.to {
            let destination = if self.options.stores.is_store_url(to) {
                Destination::Store(to.clone())
            } else {
                Destination::Vault(Place::parse(to)?)
            };
            if destination.place().is_some_and(|place| place.point.is_some()) {
                return Err(EngineError::Usage {
                    what: format!("'{}'", Address::new(to)),
                    reason: "a backup's name has no '@'".into(),
                });
            }
            if destinations.contains(&destination) {
                return Err(EngineError::Usage {
                    what: format!("'{}'", Address::new(to)),
                    reason: "it stands twice".into(),
                });
            }
            destinations.push(destination);
        }
        if let Some(until) = &request.until {
            let reason = if request.mode == Mode::Full {
                Some("only changes up to an earlier moment can be read, so that it is never a full backup")
            } else if matches!(until, Until::Time(time) if *time > Timestamp::now()) {
                Some("this moment is not over")
            } else if destinations.iter().any(|destination| destination.place().is_none()) {
                Some(
                    "a copy is made of the tables as they are now; back up into a vault, and restore from it into the other store",
                )
            } else {
                None
            };
            if let Some(reason) = reason {
                return Err(EngineError::Usage { what: until.to_string(), reason: reason.into() });
            }
        }
        check_segment_rows(request.segment_rows)?;
        request.retain.over(self.options.defaults.retain)?;
        if request.required(&self.options.defaults) > destinations.len() {
            return Err(EngineError::Usage {
                what: "require".into(),
                reason: format!("more targets must stand than the {} that are named", destinations.len()),
            });
        }
        let source = self.find_tables(&request.tables).await?;
        Ok((destinations, source))
    }

    /// The moment of a backup; with the point that an earlier one stands on.
    pub(crate) async fn take_cut(
        &self,
        request: &BackupRequest,
        place: Option<&Place>,
        source: &Source,
    ) -> Result<(Arc<dyn OpenCut>, Option<Point>)> {
        let Some(until) = &request.until else {
            let cut = source.store.open_cut(&source.tables, &CutOptions { allow_fuzzy: true }).await?;
            return Ok((cut, None));
        };
        let nowhere = Place::default();
        let place = place.unwrap_or(&nowhere);
        let vault = self.open_vault(place.vault.as_deref()).await?;
        let backup = backup_name(place, source)?;
        let ids: Vec<TableId> = (source.tables.iter())
            .map(|name| Vault::table_id(&backup, source.store.kind(), name, &request.selection))
            .collect();
        let log = vault.log().await?;
        let holds = |point: &&Point| ids.iter().all(|id| point.tables.iter().any(|table| table.id == *id));
        let mut earlier: Vec<&Point> = log.points(&backup).filter(holds).collect();
        if let Until::Time(time) = until {
            earlier.retain(|point| point.cut.at <= *time);
        }
        earlier.sort_by_key(|point| std::cmp::Reverse((point.cut.at, point.seq())));
        for base in earlier {
            let past = Past { until: until.clone(), at: base.cut.at, since: base.cut.positions.clone() };
            if let Some(cut) = source.store.open_past_cut(&source.tables, &past).await? {
                return Ok((cut, Some(base.clone())));
            }
        }
        Err(EngineError::NotIncremental {
            table: source.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            reason: format!("backup '{backup}' has no point of it before {until}"),
        })
    }

    /// What each table needs, at a cut; `base` is the point that it stands on where that is not the newest.
    pub(crate) async fn plan_at(
        &self,
        request: &BackupRequest,
        place: Option<&Place>,
        source: &Source,
        cut: &Arc<dyn OpenCut>,
        base: Option<&Point>,
    ) -> Result<Vec<TableWork>> {
        let nowhere = Place::default();
        let backup = backup_name(place.unwrap_or(&nowhere), source)?;
        // A plan must not make a vault; without one there is nothing earlier.
        let vault = match place {
            None => None,
            Some(place) => match self.open_vault(place.vault.as_deref()).await {
                Ok(vault) => Some(vault),
                Err(EngineError::Vault(VaultError::NotAVault { .. })) => None,
                Err(e) => return Err(e),
            },
        };
        let secrecy = match &vault {
            Some(vault) => vault.secrecy().await?,
            None => Secrecy::Plain,
        };
        let mut works = vec![];
        for name in &source.tables {
            let at = cut.table(name).await?;
            let (kept, _) = select(&at.schema, &request.selection)?;
            if let Some(filter) = &request.selection.filter {
                Condition::compile(self, &at.schema, filter)?;
            }
            let id = Vault::table_id(&backup, source.store.kind(), name, &request.selection);
            let newest = match (base, &vault) {
                (Some(base), _) => base.tables.iter().find(|t| t.id == id).cloned(),
                (None, Some(vault)) => self.newest_of(vault, &backup, &id).await?,
                (None, None) => None,
            };
            let encryption =
                encryption::resolve(request.encrypt.as_deref(), name, &kept, newest.as_ref(), secrecy)?;
            let previous = match (newest, &vault) {
                (Some(newest), Some(vault)) => usable(vault, newest).await?,
                _ => None,
            };
            let (mode, why) = choose_mode(request, source, &at, &kept, previous.as_ref());
            let target_rows = previous
                .as_ref()
                .map(|p| p.target_rows)
                .or(request.segment_rows)
                .unwrap_or_else(|| target_rows_for(at.rows_expected, segments_of(source)));
            let parity = parity_of(name, request.parity, previous.as_ref())?;
            let mut work = TableWork {
                name: name.clone(),
                id,
                at,
                kept,
                previous,
                mode,
                why,
                partitions: vec![],
                since: base.map(|base| base.cut.positions.clone()),
                changes_expected: None,
                target_rows,
                encryption,
                parity,
            };
            match (mode, &vault, &work.previous) {
                (WriteMode::Full, ..) => {
                    work.partitions = self.partitions(cut, &work, vault.as_ref()).await?
                }
                (_, Some(vault), Some(previous)) => {
                    let from = self.positions_of(vault, previous, &work).await?;
                    // Whether there are changes at all shows when they are read.
                    work.changes_expected = cut.changes_expected(&work.name, &from).await.ok().flatten();
                    let (table, bag) = (work.at.bytes_expected, work.at.schema.is_bag());
                    if request.mode == Mode::Auto
                        && !request.only_changes()
                        && let Some(changes) = work.changes_expected
                        && let Some(why) = too_many_changes(changes, table, bag)
                    {
                        (work.mode, work.why) = (WriteMode::Full, why.to_owned());
                        work.partitions = self.partitions(cut, &work, Some(vault)).await?;
                    }
                }
                _ => {}
            }
            works.push(work);
        }
        if request.only_changes()
            && let Some(work) = works.iter().find(|w| w.mode != WriteMode::Incremental)
        {
            return Err(EngineError::NotIncremental {
                table: work.name.to_string(),
                reason: work.why.clone(),
            });
        }
        Ok(works)
    }

    pub(crate) async fn partitions(
        &self,
        cut: &Arc<dyn OpenCut>,
        work: &TableWork,
        vault: Option<&Vault>,
    ) -> Result<Vec<Partition>> {
        let mut bounds = vec![];
        if let (Some(vault), Some(previous)) = (vault, &work.previous) {
            for reference in &previous.base {
                bounds.extend(
                    vault
                        .read_manifest(reference)
                        .await?
                        .segments
                        .into_iter()
                        .filter_map(|e| e.min)
                        .map(|m| m.0),
                );
            }
            bounds.sort();
        }
        let wanted = self.tasks_for(work.at.bytes_expected);
        let partitions = cut.plan(&work.name, &PlanOptions { partitions: wanted, bounds }).await?;
        check_cover(&work.name, work.at.schema.is_bag(), &partitions)?;
        Ok(partitions)
    }

    /// The newest state of a table in a backup.
    pub(crate) async fn newest_of(
        &self,
        vault: &Vault,
        backup: &BackupName,
        id: &TableId,
    ) -> Result<Option<TablePoint>> {
        let log = vault.log().await?;
        Ok(log.points(backup).rev().find_map(|p| p.tables.iter().find(|t| t.id == *id).cloned()))
    }
}

/// A point's table, where a new one can stand on it: its keys are still those of the table.
async fn usable(vault: &Vault, newest: TablePoint) -> Result<Option<TablePoint>> {
    if newest.sealed.is_some() {
        // Closed for want of a key is an error; closed because its key was dropped means to begin anew.
        vault.keyring().await?;
        return Ok(None);
    }
    match vault.protection(&newest.id, &newest.encryption).await {
        Ok(protection) => Ok((protection.key_ids() == newest.key_ids).then_some(newest)),
        // A column's key was dropped, and the next backup gives it another one.
        Err(VaultError::TableKeysChanged { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Segments that a table aims at. Small ones keep full backups small that follow one another; where the store has a log of changes, backups
/// follow that instead, and larger segments cost less.
fn segments_of(source: &Source) -> u64 {
    let store = source.store.capabilities();
    if store.changes && !store.segments { 400 } else { 2_000 }
}

/// Parity of a table: what its first base had.
fn parity_of(
    name: &TableName,
    asked: Option<ParityChoice>,
    previous: Option<&TablePoint>,
) -> Result<Option<Parity>> {
    let asked: Option<Option<Parity>> = asked.map(Into::into);
    match (previous, asked) {
        (None, asked) => Ok(asked.flatten()),
        (Some(previous), Some(asked)) if asked != previous.parity => Err(EngineError::Unsupported {
            what: format!("another parity of table '{name}'"),
            reason: match previous.parity {
                Some(parity) => format!("it is {parity} since its first base; use another backup name"),
                None => "it has none since its first base; use another backup name".into(),
            },
        }),
        (Some(previous), _) => Ok(previous.parity),
    }
}

/// Refuses a number of rows that segments cannot aim at.
pub(crate) fn check_segment_rows(rows: Option<u32>) -> Result<()> {
    match rows {
        Some(rows) if !rows.is_power_of_two() || !(16..=1 << 24).contains(&rows) => Err(EngineError::Usage {
            what: "segment rows".into(),
            reason: format!("{rows} is not a power of two between 16 and 16777216"),
        }),
        _ => Ok(()),
    }
}

/// Whether it is a table that a restore replaced and keeps.
pub(crate) fn is_replaced(name: &TableName) -> bool {
    name.table.contains("__replaced_")
}

pub(crate) fn backup_name(place: &Place, source: &Source) -> Result<BackupName> {
    match (&place.backup, source.tables.first()) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(table)) => Ok(table.table.parse()?),
        (None, None) => Err(EngineError::Usage {
            what: "backup".into(),
            reason: "it has neither a name nor a table".into(),
        }),
    }
}

/// Whether two schemas have the same columns of the same types with the same ids.
pub(crate) fn same_columns(a: &TableSchema, b: &TableSchema) -> bool {
    a.key == b.key
        && a.columns.len() == b.columns.len()
        && a.columns
            .iter()
            .zip(&b.columns)
            .all(|(x, y)| x.id == y.id && x.column_type == y.column_type && x.name == y.name)
}

pub(crate) fn choose_mode(
    request: &BackupRequest,
    source: &Source,
    at: &TableAtCut,
    kept: &TableSchema,
    previous: Option<&TablePoint>,
) -> (WriteMode, String) {
    let full = |why: &str| (WriteMode::Full, why.to_owned());
    if request.mode == Mode::Full {
        return full("asked for");
    }
    let Some(previous) = previous else { return full("the first backup of this table and selection") };
    if !source.store.capabilities().changes {
        return full("the store has no change log");
    }
    if previous.schema.key != at.schema.key && request.selection.columns.is_none() {
        return full("the key changed");
    }
    if kept.is_bag() && !request.selection.is_all() {
        return full("a table without a key, or without its key columns, follows changes only as a whole");
    }
    let may_be_full = request.mode == Mode::Auto && !request.only_changes();
    if previous.changes.len() >= LONGEST_CHAIN && may_be_full {
        return full("the chain of changes is long");
    }
    let base: u64 = previous.base.iter().map(|m| m.bytes.0).sum();
    let changes: u64 = previous.changes.iter().map(|m| m.manifest.rows).sum();
    if may_be_full && base > 0 && changes > previous.digest.rows / 2 && changes > 10_000 {
        return full("changes since the base are more than half of it");
    }
    (WriteMode::Incremental, "changes since the last point".to_owned())
}

/// Why changes of that size are not followed; none where they are.
fn too_many_changes(changes: ByteCount, table: ByteCount, bag: bool) -> Option<&'static str> {
    if changes.0 <= CHANGES_MAX {
        return None;
    }
    if bag {
        return Some("changes of a table without a key are counted in memory, and there are many");
    }
    (changes > table).then_some("there is more to read in its changes than in the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_followed_unless_a_new_base_is_less_to_read_or_they_would_fill_memory() {
        let mib = |n: u64| ByteCount(n << 20);
        assert_eq!(too_many_changes(mib(60), mib(1), false), None, "small enough for any table");
        assert_eq!(too_many_changes(mib(500), mib(600), false), None);
        assert!(too_many_changes(mib(700), mib(600), false).is_some());
        assert_eq!(too_many_changes(mib(60), mib(600), true), None);
        assert!(too_many_changes(mib(65), mib(600), true).is_some());
    }
}
