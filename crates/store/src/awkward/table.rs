//! One table: every version of every row, the pieces of its shards, and a change log for each shard.
//!
//! Invariant: rows and log agree. Replaying a shard's log between two versions on the rows of the first gives the rows
//! of the second.

use super::incoming::{Incoming, batch_of};
use super::options::{Awkwardness, Duplicates};
use crate::row::{Row, bytes};
use crate::{Result, StoreError};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use keepfast_model::{ChangeOp, ColumnId, KeyBytes, ShardId, TableSchema, TableShape};
use std::collections::HashMap;
use std::sync::Arc;

/// One version of a row.
#[derive(Debug)]
pub(super) struct Stored {
    /// The first version of the store that sees it.
    pub born: u64,
    /// The first that no longer does.
    pub died: u64,
    pub shard: usize,
    pub piece: u32,
    /// The encoded key; the row's canonical bytes in a bag.
    pub key: Vec<u8>,
    /// Where it stands in a scan.
    pub order: Vec<u8>,
    pub row: Row,
    pub schema: Arc<TableSchema>,
    pub hash: u128,
    pub bytes: u64,
}

/// A range of a shard's rows in scan order. A piece that has split is read through its halves.
#[derive(Debug)]
pub(super) struct Piece {
    pub shard: usize,
    pub start: Option<Vec<u8>>,
    pub end: Option<Vec<u8>>,
    pub halves: Option<(u32, u32)>,
}

/// What happened to a row.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Put(Row),
    Patch(Row, Vec<ColumnId>),
    /// The row's key, and how much of it is gone.
    Delete(ChangeOp, Row),
    Count(Row, i64),
    /// The definition changed; why that needs a new base, if it does.
    Altered(Option<String>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub seq: u64,
    pub version: u64,
    pub epoch: i32,
    pub schema: Arc<TableSchema>,
    pub event: Event,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub id: ShardId,
    pub log: Vec<Entry>,
    /// The last number given; entries up to `purged` are gone.
    pub last: u64,
    pub purged: u64,
}

#[derive(Debug)]
pub(super) struct Table {
    /// Tells it from another table of the same name.
    pub incarnation: u64,
    /// Schemas by the first version that has them, oldest first.
    pub schemas: Vec<(u64, Arc<TableSchema>)>,
    pub shards: Vec<Shard>,
    pub pieces: Vec<Piece>,
    pub rows: Vec<Stored>,
    pub changed: u64,
    /// Whether a row ever had a value in the hidden exact column.
    pub exact: bool,
    live: HashMap<Vec<u8>, Vec<usize>>,
    pub(super) options: Awkwardness,
    /// For errors.
    name: String,
}

impl Table {
    pub fn new(
        name: &str,
        incarnation: u64,
        version: u64,
        schema: &TableSchema,
        options: &Awkwardness,
    ) -> Self {
        let shards = options.shards.max(1);
        Self {
            incarnation,
            schemas: vec![(version, Arc::new(schema.clone()))],
            shards: (0..shards)
                .map(|i| Shard {
                    id: ShardId(format!("{name}.{incarnation}/{i}")),
                    log: vec![],
                    last: 0,
                    purged: 0,
                })
                .collect(),
            pieces: (0..shards).map(|shard| Piece { shard, start: None, end: None, halves: None }).collect(),
            rows: vec![],
            changed: version,
            exact: false,
            live: HashMap::new(),
            options: options.clone(),
            name: name.to_owned(),
        }
    }

    /// The schema that a version sees.
    pub fn schema_at(&self, version: u64) -> &Arc<TableSchema> {
        let at = self.schemas.iter().rposition(|(since, _)| *since <= version).unwrap_or(0);
        &self.schemas[at].1
    }

    pub fn schema(&self) -> &Arc<TableSchema> {
        self.schema_at(u64::MAX)
    }

    fn epoch(&self) -> i32 {
        self.schemas.len() as i32 - 1
    }

    /// Whether scans follow encoded keys.
    pub fn key_order(&self) -> bool {
        !self.schema().is_bag() && !self.options.collated
    }

    /// The rows that a version sees.
    pub fn visible(&self, version: u64) -> impl Iterator<Item = (usize, &Stored)> {
        self.rows.iter().enumerate().filter(move |(_, r)| r.born <= version && version < r.died)
    }

    /// Pieces that were never split, under this one.
    pub fn leaves(&self, piece: u32) -> Vec<u32> {
        match self.pieces.get(piece as usize).map(|p| p.halves) {
            None => vec![],
            Some(None) => vec![piece],
            Some(Some((low, high))) => [self.leaves(low), self.leaves(high)].concat(),
        }
    }

    /// A key that stands in two shards, with their names.
    pub fn duplicate(&self, version: u64) -> Option<(KeyBytes, ShardId, ShardId)> {
        if self.schema().is_bag() {
            return None;
        }
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        self.visible(version).find_map(|(_, row)| {
            seen.insert(&row.key, row.shard).map(|other| {
                (KeyBytes(row.key.clone()), self.shards[other].id.clone(), self.shards[row.shard].id.clone())
            })
        })
    }

    /// Puts rows; `replace` says whether a row of equal key may be there. Into one shard where it is given.
    pub fn put(
        &mut self,
        version: u64,
        batch: &RecordBatch,
        replace: bool,
        shard: Option<usize>,
    ) -> Result<()> {
        let incoming = self.read(batch)?;
        let bag = self.schema().is_bag();
        if !bag {
            let mut given = HashMap::new();
            for (i, new) in incoming.iter().enumerate() {
                let there = self.live.get(&new.key).is_some_and(|rows| {
                    rows.iter().any(|r| {
                        self.options.duplicates == Duplicates::Refused
                            || shard.is_none_or(|shard| self.rows[*r].shard == shard)
                    })
                });
                let twice = given.insert(&new.key, i).is_some();
                if twice || there && !replace {
                    return Err(
                        self.refuse(format!("the key {} is there already", KeyBytes(new.key.clone())))
                    );
                }
            }
        }
        for new in incoming {
            let old = match (bag, shard) {
                (true, _) => None,
                (false, None) => self.live.get(&new.key).and_then(|rows| rows.last().copied()),
                (false, Some(s)) => self
                    .live
                    .get(&new.key)
                    .and_then(|rows| rows.iter().copied().find(|r| self.rows[*r].shard == s)),
            };
            self.put_row(version, new, old, shard);
        }
        self.done(version);
        Ok(())
    }

    fn put_row(&mut self, version: u64, new: Incoming, old: Option<usize>, shard: Option<usize>) {
        let cells = self.schema().shape == TableShape::Cells;
        let Some(old) = old else {
            let event = if self.schema().is_bag() {
                Event::Count(new.row.clone(), 1)
            } else {
                Event::Put(new.row.clone())
            };
            let home = shard.unwrap_or(new.home) % self.shards.len();
            self.log(home, version, event);
            self.add(version, home, new);
            return;
        };
        let from = self.rows[old].shard;
        let moves = self.options.moving && !cells && shard.is_none();
        let to = if moves { (from + 1) % self.shards.len() } else { from };
        if to != from {
            self.log(from, version, Event::Delete(ChangeOp::DeleteRow, new.row.clone()));
            self.log(to, version, Event::Put(new.row.clone()));
        } else if self.patchable(old) && new.row.last().is_none_or(Option::is_none) && !cells {
            let schema = self.schema();
            let changed: Vec<ColumnId> = (0..schema.columns.len())
                .filter(|at| bytes(&self.rows[old].row[*at]) != bytes(&new.row[*at]))
                .map(|at| schema.columns[at].id)
                .collect();
            self.log(to, version, Event::Patch(new.row.clone(), changed));
        } else {
            self.log(to, version, Event::Put(new.row.clone()));
        }
        self.bury(version, old);
        self.add(version, to, new);
    }

    /// Whether an update of this row can be logged as a patch: masks name no hidden column, nor one of another epoch.
    fn patchable(&self, old: usize) -> bool {
        let old = &self.rows[old];
        self.options.patches
            && Arc::ptr_eq(&old.schema, self.schema())
            && old.row.last().is_none_or(Option::is_none)
    }

    /// Sets some columns of rows that are there; rows that are not are left out.
    pub fn patch(&mut self, version: u64, batch: &RecordBatch, columns: &[ColumnId]) -> Result<()> {
        let schema = self.schema().clone();
        let mut patched = vec![];
        for new in self.read(batch)? {
            for old in self.live.get(&new.key).cloned().unwrap_or_default() {
                if self.rows[old].row.last().is_some_and(Option::is_some) {
                    return Err(self.refuse("a row with exact values can only be put as a whole".into()));
                }
                let mut row: Row = schema
                    .columns
                    .iter()
                    .map(|c| {
                        let before = &self.rows[old];
                        before
                            .schema
                            .columns
                            .iter()
                            .position(|b| b.id == c.id)
                            .and_then(|at| before.row[at].clone())
                    })
                    .collect();
                row.push(None);
                for (at, column) in schema.columns.iter().enumerate() {
                    if columns.contains(&column.id) {
                        row[at] = new.row[at].clone();
                    }
                }
                patched.push((old, row));
            }
        }
        for (old, row) in patched {
            let batch = batch_of(&schema, [&row])?;
            let Some(new) = self.read(&batch)?.pop() else { continue };
            let shard = self.rows[old].shard;
            let event = if self.options.patches {
                Event::Patch(new.row.clone(), columns.to_vec())
            } else {
                Event::Put(new.row.clone())
            };
            self.log(shard, version, event);
            self.bury(version, old);
            self.add(version, shard, new);
        }
        self.done(version);
        Ok(())
    }

    /// Removes rows by key; all equal ones from a bag; exact cell versions from cells.
    pub fn delete(&mut self, version: u64, batch: &RecordBatch) -> Result<()> {
        let op = match self.schema().shape {
            TableShape::Rows => ChangeOp::DeleteRow,
            TableShape::Cells => ChangeOp::DeleteVersion,
        };
        for gone in self.read(batch)? {
            let rows = self.live.get(&gone.key).cloned().unwrap_or_default();
            for old in rows {
                let event = if self.schema().is_bag() {
                    Event::Count(gone.row.clone(), -1)
                } else {
                    Event::Delete(op, gone.row.clone())
                };
                self.log(self.rows[old].shard, version, event);
                self.bury(version, old);
            }
        }
        self.done(version);
        Ok(())
    }

    /// Removes cells: of each row of the batch its cells, family or column up to the timestamp, as the operation says.
    pub fn delete_cells(&mut self, version: u64, op: ChangeOp, batch: &RecordBatch) -> Result<()> {
        if self.schema().shape != TableShape::Cells {
            return Err(self.refuse(format!("{op:?} is for tables of cells")));
        }
        let named = match op {
            ChangeOp::DeleteRow => 1,
            ChangeOp::DeleteFamily => 2,
            ChangeOp::DeleteCell => 3,
            _ => return self.delete(version, batch),
        };
        for gone in self.read(batch)? {
            let timestamp =
                |row: &Row| row[3].as_ref().map(|(a, at)| a.as_primitive::<Int64Type>().value(*at));
            let old: Vec<usize> = self
                .visible(version)
                .filter(|(_, r)| (0..named).all(|at| bytes(&r.row[at]) == bytes(&gone.row[at])))
                .filter(|(_, r)| timestamp(&r.row) <= timestamp(&gone.row))
                .map(|(i, _)| i)
                .collect();
            self.log(gone.home, version, Event::Delete(op, gone.row.clone()));
            old.into_iter().for_each(|old| self.bury(version, old));
        }
        self.done(version);
        Ok(())
    }

    /// Moves rows to another shard without changing them.
    pub fn move_rows(&mut self, version: u64, batch: &RecordBatch, to: usize) -> Result<()> {
        let to = to % self.shards.len();
        for moved in self.read(batch)? {
            for old in self.live.get(&moved.key).cloned().unwrap_or_default() {
                let from = self.rows[old].shard;
                if from == to || self.schema().is_bag() {
                    continue;
                }
                let (order, row, hash) =
                    (self.rows[old].order.clone(), self.rows[old].row.clone(), self.rows[old].hash);
                self.log(from, version, Event::Delete(ChangeOp::DeleteRow, row.clone()));
                self.log(to, version, Event::Put(row.clone()));
                self.bury(version, old);
                self.add(version, to, Incoming { key: moved.key.clone(), order, row, hash, home: to });
            }
        }
        self.done(version);
        Ok(())
    }

    /// Splits every piece of every shard in the middle of what it holds.
    pub fn split(&mut self) {
        for piece in 0..self.pieces.len() as u32 {
            if self.pieces[piece as usize].halves.is_some() {
                continue;
            }
            let mut orders: Vec<&[u8]> =
                self.rows.iter().filter(|r| r.piece == piece).map(|r| r.order.as_slice()).collect();
            orders.sort_unstable();
            orders.dedup();
            let Some(middle) = orders.get(orders.len() / 2).filter(|_| orders.len() > 1).map(|m| m.to_vec())
            else {
                continue;
            };
            let low = self.pieces.len() as u32;
            let Piece { shard, start, end, .. } = &self.pieces[piece as usize];
            let halves = [
                Piece { shard: *shard, start: start.clone(), end: Some(middle.clone()), halves: None },
                Piece { shard: *shard, start: Some(middle.clone()), end: end.clone(), halves: None },
            ];
            self.pieces.extend(halves);
            self.pieces[piece as usize].halves = Some((low, low + 1));
            for row in self.rows.iter_mut().filter(|r| r.piece == piece) {
                row.piece = if row.order < middle { low } else { low + 1 };
            }
        }
    }

    /// Forgets all of the change log so far.
    pub fn purge(&mut self) {
        for shard in &mut self.shards {
            shard.purged = shard.last;
            shard.log.clear();
        }
    }

    /// Gives the table another definition; rows keep what columns of equal id hold.
    pub fn alter(&mut self, version: u64, schema: TableSchema) -> Result<()> {
        schema.check(&self.name)?;
        let old = self.schema().clone();
        let kept = schema.columns.get(..old.columns.len()).is_some_and(|kept| kept == old.columns.as_slice());
        let added = schema.columns.iter().skip(old.columns.len());
        let breaks = if schema.key != old.key || schema.shape != old.shape {
            Some("its key changed".to_owned())
        } else if !kept {
            Some("columns were changed or removed".to_owned())
        } else {
            added
                .into_iter()
                .find(|c| !c.nullable || c.default.is_some())
                .map(|c| format!("column '{}' was added and is not NULL in old rows", c.name))
        };
        self.schemas.push((version, Arc::new(schema)));
        for shard in 0..self.shards.len() {
            self.log(shard, version, Event::Altered(breaks.clone()));
        }
        self.done(version);
        Ok(())
    }

    pub(super) fn refuse(&self, reason: String) -> StoreError {
        StoreError::Row { table: self.name.clone(), reason }
    }

    fn add(&mut self, version: u64, shard: usize, new: Incoming) {
        let piece = (0..self.pieces.len())
            .find(|p| {
                let p = &self.pieces[*p];
                p.shard == shard
                    && p.halves.is_none()
                    && p.start.as_ref().is_none_or(|s| *s <= new.order)
                    && p.end.as_ref().is_none_or(|e| new.order < *e)
            })
            .unwrap_or(0) as u32;
        self.exact |= new.row.last().is_some_and(Option::is_some);
        self.live.entry(new.key.clone()).or_default().push(self.rows.len());
        let size = new.row.iter().map(|c| bytes(c).map_or(1, |b| b.len() as u64)).sum();
        self.rows.push(Stored {
            born: version,
            died: u64::MAX,
            shard,
            piece,
            key: new.key,
            order: new.order,
            row: new.row,
            schema: self.schema().clone(),
            hash: new.hash,
            bytes: size,
        });
    }

    fn bury(&mut self, version: u64, row: usize) {
        self.rows[row].died = version;
        if let Some(rows) = self.live.get_mut(&self.rows[row].key) {
            rows.retain(|r| *r != row);
        }
    }

    fn log(&mut self, shard: usize, version: u64, event: Event) {
        let (epoch, schema) = (self.epoch(), self.schema().clone());
        let shard = &mut self.shards[shard];
        shard.last += 1;
        shard.log.push(Entry { seq: shard.last, version, epoch, schema, event });
    }

    /// Ends a write: forgets what the log no longer keeps.
    fn done(&mut self, version: u64) {
        self.changed = version;
        let Some(keeps) = self.options.log_keeps else { return };
        for shard in &mut self.shards {
            let gone = shard.log.len().saturating_sub(keeps);
            if let Some(last) = shard.log.drain(..gone).next_back() {
                shard.purged = last.seq;
            }
        }
    }
}
