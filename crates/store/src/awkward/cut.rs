//! Cuts of the awkward store: at a version, in a session that may die, or without a snapshot.

use super::emit;
use super::options::{Duplicates, Snapshots};
use super::state::{Shared, State};
use super::table::{Event, Table};
use crate::{BatchStream, OpenCut, PlanOptions, ProofRequest, Result, ScanOptions, StoreError, TableAtCut};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use keepfast_model::certificate::{RangeProof, SourceProof};
use keepfast_model::{
    ByteCount, Cut, Digest, Exactness, KeyBytes, KeyRange, Partition, Position, ShardPosition, TableName,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Last numbers of the logs of each table's shards.
type Logs = BTreeMap<usize, Vec<u64>>;

/// The moment of a cut, which may still be open.
#[derive(Debug)]
struct Moment {
    version: u64,
    logs: Logs,
    /// Whether the change log has fixed the moment after the scan.
    closed: bool,
    batches_given: u32,
    /// Why it can no longer be read.
    lost: Option<String>,
}

/// A cut, shared by all who attached to it.
#[derive(Debug)]
pub(super) struct AwkwardCut {
    id: u64,
    shared: Arc<Shared>,
    snapshots: Snapshots,
    tables: BTreeMap<TableName, usize>,
    /// Where the logs stood when it was opened.
    opened: Logs,
    moment: Mutex<Moment>,
}

/// What a partition's token says: a piece of a shard, and a range of it in scan order.
#[derive(Clone, Serialize, Deserialize)]
struct Token {
    piece: u32,
    start: Option<KeyBytes>,
    end: Option<KeyBytes>,
}

impl Token {
    fn covers(&self, order: &[u8]) -> bool {
        self.start.as_ref().is_none_or(|s| order >= s.0.as_slice())
            && self.end.as_ref().is_none_or(|e| order < e.0.as_slice())
    }
}

impl AwkwardCut {
    pub fn new(
        id: u64,
        shared: &Arc<Shared>,
        state: &State,
        snapshots: Snapshots,
        tables: BTreeMap<TableName, usize>,
    ) -> Self {
        let opened = logs(state, &tables);
        let moment = Moment {
            version: state.version,
            logs: opened.clone(),
            closed: false,
            batches_given: 0,
            lost: None,
        };
        Self { id, shared: shared.clone(), snapshots, tables, opened, moment: Mutex::new(moment) }
    }

    fn moment(&self) -> MutexGuard<'_, Moment> {
        self.moment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, table: &TableName) -> Result<usize> {
        self.tables.get(table).copied().ok_or_else(|| self.shared.no_table(table))
    }

    /// The version to read.
    ///
    /// # Errors
    /// `CutLost`.
    fn version(&self) -> Result<u64> {
        let moment = self.moment();
        match &moment.lost {
            Some(reason) => Err(self.shared.cut_lost(reason)),
            None => Ok(moment.version),
        }
    }

    /// Counts one batch against the session's life.
    fn batch_given(&self) -> Result<()> {
        let mut moment = self.moment();
        if let Snapshots::Session { dies_after: Some(most) } = self.snapshots {
            if moment.batches_given >= most && moment.lost.is_none() {
                moment.lost = Some(format!("the session died after {most} batches"));
            }
            moment.batches_given += 1;
        }
        match &moment.lost {
            Some(reason) => Err(self.shared.cut_lost(reason)),
            None => Ok(()),
        }
    }

    /// Makes it unreadable; the first reason stays.
    pub fn lose(&self, reason: &str) {
        self.moment().lost.get_or_insert_with(|| reason.to_owned());
    }

    /// Fixes the moment of a cut that is closed from the log.
    fn fix(&self, state: &State) {
        let mut moment = self.moment();
        if self.needs_closing() && !moment.closed {
            moment.closed = true;
            moment.version = state.version;
            moment.logs = logs(state, &self.tables);
        }
    }

    fn check_duplicates(&self, name: &TableName, table: &Table, version: u64) -> Result<()> {
        if self.shared.options.duplicates != Duplicates::Reported {
            return Ok(());
        }
        match table.duplicate(version) {
            None => Ok(()),
            Some((key, first, second)) => Err(StoreError::DuplicateKey {
                table: name.to_string(),
                key: key.to_string(),
                first: first.0,
                second: second.0,
            }),
        }
    }

    /// Changes of a table after these numbers of its shards' logs, up to the moment.
    fn changes_after(
        &self,
        name: &TableName,
        table: &Table,
        after: &[u64],
        closing: bool,
    ) -> Result<BatchStream> {
        let version = self.version()?;
        let schema = table.schema_at(version);
        let mut batches = vec![];
        for (shard, after) in table.shards.iter().zip(after) {
            let position = format!("log.{}:{after}", table.incarnation);
            if *after < shard.purged || *after > shard.last {
                return Err(StoreError::ChangesGone {
                    table: name.to_string(),
                    position,
                    reason: format!(
                        "the log of shard {} reaches from {} to {}",
                        shard.id, shard.purged, shard.last
                    ),
                });
            }
            let entries: Vec<_> =
                shard.log.iter().filter(|e| e.seq > *after && e.version <= version).cloned().collect();
            let altered = entries.iter().find_map(|e| match &e.event {
                Event::Altered(Some(reason)) => Some(reason.clone()),
                Event::Altered(None) if closing => Some("it was altered while it was scanned".to_owned()),
                _ => None,
            });
            if let Some(reason) = altered {
                return Err(StoreError::SchemaChanged { table: name.to_string(), position, reason });
            }
            for entries in entries.chunks(500) {
                batches.push(emit::changes(schema, table, &shard.id, entries)?);
            }
        }
        Ok(stream::iter(batches.into_iter().filter(|b| b.num_rows() > 0).map(Ok)).boxed())
    }

    /// The next rows of a scan in order, after this place: at most `most`, with the place of the last.
    fn next_rows(
        &self,
        index: usize,
        token: &Token,
        after: Option<&Place>,
        options: &ScanOptions,
    ) -> Result<Option<(arrow::array::RecordBatch, Place)>> {
        let state = self.shared.state();
        let now = matches!(self.snapshots, Snapshots::None { .. });
        let version = if now { state.version } else { self.version()? };
        let schema = state.tables[index].schema_at(self.version()?).clone();
        let table = &state.tables[index];
        let bag = schema.is_bag();
        // Looked up at each step: the piece may have split since the plan.
        let leaves = table.leaves(token.piece);
        let mut rows: Vec<Place> = table
            .visible(version)
            .filter(|(_, r)| leaves.contains(&r.piece) && token.covers(&r.order))
            .map(|(i, r)| Place { order: r.order.clone(), row: i })
            .filter(|p| after.is_none_or(|a| if bag { p > a } else { p.order > a.order }))
            .collect();
        rows.sort_unstable();
        rows.truncate(options.batch_rows.max(1));
        let Some(last) = rows.last().cloned() else { return Ok(None) };
        let rows: Vec<_> =
            rows.iter().map(|p| (table.rows[p.row].row.clone(), table.rows[p.row].schema.clone())).collect();
        Ok(Some((emit::rows(&schema, &rows, options.columns.as_deref(), table.exact)?, last)))
    }
}

/// Where a scan stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    order: Vec<u8>,
    row: usize,
}

impl Drop for AwkwardCut {
    fn drop(&mut self) {
        self.shared.forget_cut(self.id);
    }
}

fn logs(state: &State, tables: &BTreeMap<TableName, usize>) -> Logs {
    tables.values().map(|i| (*i, state.tables[*i].shards.iter().map(|s| s.last).collect())).collect()
}

/// A handle on a cut. Scans keep the cut alive as well.
#[derive(Clone, Debug)]
pub(super) struct Handle(pub Arc<AwkwardCut>);

#[async_trait]
impl OpenCut for Handle {
    fn cut(&self) -> Cut {
        let cut = &self.0;
        let state = cut.shared.state();
        let moment = cut.moment();
        let exactness = match cut.snapshots {
            Snapshots::None { closed_by_log } if !closed_by_log || !moment.closed => Exactness::Fuzzy,
            _ => Exactness::Exact,
        };
        let mut positions = vec![];
        for (index, logs) in moment.logs.iter().filter(|_| !cut.shared.options.no_log) {
            let table = &state.tables[*index];
            positions.extend(table.shards.iter().zip(logs).map(|(shard, last)| ShardPosition {
                shard: shard.id.clone(),
                position: Position::File { file: format!("log.{}", table.incarnation), offset: *last },
            }));
        }
        Cut { at: cut.shared.time(moment.version), exactness, positions }
    }

    fn token(&self) -> Option<serde_json::Value> {
        match self.0.snapshots {
            Snapshots::Session { .. } => None,
            _ => Some(serde_json::json!({ "cut": self.0.id })),
        }
    }

    fn needs_closing(&self) -> bool {
        self.0.needs_closing()
    }

    async fn closing_changes(&self, table: &TableName) -> Result<Option<BatchStream>> {
        let cut = &self.0;
        let index = cut.index(table)?;
        if !cut.needs_closing() {
            return Ok(None);
        }
        let state = cut.shared.state();
        cut.fix(&state);
        let opened = cut.opened.get(&index).map_or(&[][..], Vec::as_slice);
        cut.changes_after(table, &state.tables[index], opened, true).map(Some)
    }

    async fn table(&self, table: &TableName) -> Result<TableAtCut> {
        let index = self.0.index(table)?;
        let version = self.0.version()?;
        let state = self.0.shared.state();
        let held = &state.tables[index];
        Ok(TableAtCut {
            schema: held.schema_at(version).as_ref().clone(),
            rows_expected: held.visible(version).count() as u64,
            bytes_expected: held.visible(version).map(|(_, r)| ByteCount(r.bytes)).sum(),
            dependents: vec![],
        })
    }

    async fn plan(&self, table: &TableName, options: &PlanOptions) -> Result<Vec<Partition>> {
        let index = self.0.index(table)?;
        let version = self.0.version()?;
        let mut state = self.0.shared.state();
        let held = &state.tables[index];
        self.0.check_duplicates(table, held, version)?;
        let whole = (0..held.shards.len() as u32).flat_map(|root| held.leaves(root)).collect::<Vec<_>>();
        let wanted = (options.partitions.max(1) as usize).div_ceil(whole.len().max(1));
        let mut plan = vec![];
        for piece in whole {
            let place = &held.pieces[piece as usize];
            let mut rows: Vec<_> =
                held.visible(version).filter(|(_, r)| r.piece == piece).map(|(_, r)| r).collect();
            rows.sort_by(|a, b| a.order.cmp(&b.order));
            let inside = |b: &Vec<u8>| {
                place.start.as_ref().is_none_or(|s| b > s) && place.end.as_ref().is_none_or(|e| b < e)
            };
            let mut bounds: Vec<Vec<u8>> = if held.key_order() && !options.bounds.is_empty() {
                options.bounds.iter().filter(|b| !b.is_empty() && inside(b)).cloned().collect()
            } else {
                (1..wanted)
                    .filter_map(|i| rows.get(i * rows.len() / wanted))
                    .map(|r| r.order.clone())
                    .filter(|b| inside(b))
                    .collect()
            };
            bounds.sort();
            bounds.dedup();
            let starts = [place.start.clone()].into_iter().chain(bounds.iter().cloned().map(Some));
            let ends = bounds.iter().cloned().map(Some).chain([place.end.clone()]);
            for (start, end) in starts.zip(ends) {
                let token = Token { piece, start: start.map(KeyBytes), end: end.map(KeyBytes) };
                let covered = rows.iter().filter(|r| token.covers(&r.order));
                let range = if held.key_order() {
                    KeyRange { start: token.start.clone(), end: token.end.clone() }
                } else {
                    KeyRange::default()
                };
                plan.push(Partition {
                    table: table.clone(),
                    index: plan.len() as u32,
                    shard: held.shards[place.shard].id.clone(),
                    range,
                    rows_expected: covered.clone().count() as u64,
                    bytes_expected: covered.map(|r| ByteCount(r.bytes)).sum(),
                    token: serde_json::json!(token),
                });
            }
        }
        if self.0.shared.options.splitting {
            state.tables[index].split();
        }
        Ok(plan)
    }

    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream> {
        let index = self.0.index(&partition.table)?;
        let token: Token =
            serde_json::from_value(partition.token.clone()).map_err(|e| StoreError::Damaged {
                object: format!("token of partition {} of '{}'", partition.index, partition.table),
                reason: e.to_string(),
            })?;
        self.0.version()?;
        if self.0.moment().closed {
            return Err(self.0.shared.cut_lost("it was closed before this scan"));
        }
        let (cut, options) = (self.0.clone(), options.clone());
        let rows = stream::try_unfold(None::<Place>, move |after| {
            let next = cut.next_rows(index, &token, after.as_ref(), &options);
            let given = match next {
                Ok(Some((batch, last))) => cut.batch_given().map(|()| Some((batch, Some(last)))),
                Ok(None) => cut.version().map(|_| None),
                Err(e) => Err(e),
            };
            async move { given }
        });
        Ok(rows.boxed())
    }

    async fn changes(&self, table: &TableName, from: &[ShardPosition]) -> Result<BatchStream> {
        let cut = &self.0;
        let index = cut.index(table)?;
        if cut.shared.options.no_log {
            return Err(cut.shared.unsupported("give changes: it has no change log"));
        }
        let state = cut.shared.state();
        let held = &state.tables[index];
        let file = format!("log.{}", held.incarnation);
        let after: Option<Vec<u64>> = held
            .shards
            .iter()
            .map(|shard| {
                let position = &from.iter().find(|p| p.shard == shard.id)?.position;
                match position {
                    Position::File { file: given, offset } if *given == file => Some(*offset),
                    _ => None,
                }
            })
            .collect();
        let Some(after) = after else {
            let position = from.first().map_or_else(|| "nowhere".into(), |p| p.position.to_string());
            return Err(StoreError::ChangesGone {
                table: table.to_string(),
                position,
                reason: "it is no position of this table's shards".into(),
            });
        };
        cut.fix(&state);
        let version = cut.version()?;
        cut.check_duplicates(table, held, version)?;
        cut.changes_after(table, held, &after, false)
    }

    async fn prove(&self, table: &TableName, request: &ProofRequest) -> Result<Option<SourceProof>> {
        let index = self.0.index(table)?;
        if self.0.shared.options.unproven {
            return Ok(None);
        }
        let version = self.0.version()?;
        let state = self.0.shared.state();
        let held = &state.tables[index];
        let ranges = if request.full { vec![KeyRange::default()] } else { request.ranges.clone() };
        let ranges = ranges
            .into_iter()
            .map(|range| {
                let mut digest = Digest::default();
                held.visible(version)
                    .filter(|(_, r)| range.contains(&r.key))
                    .for_each(|(_, r)| digest.add_row(r.hash));
                RangeProof { range, digest }
            })
            .collect();
        Ok(Some(SourceProof {
            rows: held.visible(version).count() as u64,
            ranges,
            method: "row hashes kept when the rows were written".into(),
        }))
    }

    async fn release(&self) -> Result<()> {
        self.0.lose("it was released");
        self.0.shared.forget_cut(self.0.id);
        Ok(())
    }
}

impl AwkwardCut {
    fn needs_closing(&self) -> bool {
        self.snapshots == Snapshots::None { closed_by_log: true }
    }
}
