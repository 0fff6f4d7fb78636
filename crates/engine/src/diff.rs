//! Rows that differ between two states of a table.
//!
//! Where both sides come in key order they are merged like two sorted lists, and memory stays small. Otherwise rows are
//! compared as a multiset of row hashes, in as many passes over the data as keep each pass small.

use crate::Result;
use crate::api::*;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::Place;
use crate::progress::Work;
use crate::resolve::StoreSpec;
use crate::session::same_table;
use crate::source::{LiveSource, Rows, TableSource};
use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, new_null_array};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use keepfast_model::{RowHasher, TableName, TableSchema, convert, encode_keys};
use keepfast_store::{CutOptions, OpenCut};
use keepfast_vault::VaultError;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows that one pass over unordered tables keeps hashes of.
const ROWS_A_PASS: u64 = 8_000_000;

/// One side of a comparison, and the cut to give back.
pub(crate) struct Side {
    pub name: String,
    pub source: Arc<dyn TableSource>,
    pub cut: Option<Arc<dyn OpenCut>>,
}

impl Side {
    pub async fn release(&self) -> Result<()> {
        match &self.cut {
            Some(cut) => Ok(cut.release().await?),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Rows that differ between two states.
    pub fn diff<'a>(&'a self, request: &'a DiffRequest) -> LocalBoxFuture<'a, Result<DiffReport>> {
        async move {
            let left = self.side(&request.left, request.table.as_ref(), None).await?;
            let right = match self.side(&request.right, request.table.as_ref(), Some(&left)).await {
                Ok(right) => right,
                Err(e) => {
                    left.release().await?;
                    return Err(e);
                }
            };
            let result = self.diff_sides(&left, &right, request.limit).await;
            left.release().await?;
            right.release().await?;
            self.options.progress.finish();
            result
        }
        .boxed_local()
    }

    /// A point (`name@seq`, `URL#name`, `name`) or a live table. A bare name means the table where there is one of
    /// that name and no `@`, else the backup.
    async fn side(&self, text: &str, table: Option<&TableName>, other: Option<&Side>) -> Result<Side> {
        let looks_like_point = text.contains('@') || text.contains('#') || text.contains('/');
        if !looks_like_point
            && let Ok(name) = text.parse::<TableName>()
            && let Some(side) = self.live_side(&name).await?
        {
            return Ok(side);
        }
        let place = Place::parse(text)?;
        let found = match self.find_backup(text).await {
            Ok(found) => found,
            Err(EngineError::Vault(VaultError::NoBackup { .. } | VaultError::NotAVault { .. }))
                if !looks_like_point =>
            {
                return Err(EngineError::Unknown { what: "table or backup", name: text.to_owned() });
            }
            Err(e) => return Err(e),
        };
        let as_of = place.point.map_or(AsOf::Latest, AsOf::Point);
        let (id, point) = self.find_point(&found, &as_of).await?;
        let chosen = match (table, point.tables.as_slice()) {
            (Some(name), tables) => crate::places::table_of(&id, tables, name)?,
            (None, [only]) => only,
            (None, tables) => {
                let same = other.and_then(|o| tables.iter().find(|t| t.name.to_string() == o.name));
                same.ok_or_else(|| EngineError::Usage {
                    what: format!("'{text}'"),
                    reason: format!(
                        "restore point {id} holds several tables ({}); name one with --table",
                        tables.iter().map(|t| t.name.to_string()).collect::<Vec<_>>().join(", ")
                    ),
                })?
            }
        };
        let source =
            crate::point::PointSource::open(found.vault.clone(), chosen, self.options.threads).await?;
        Ok(Side { name: id.to_string(), source: Arc::new(source), cut: None })
    }

    /// A live table, if there is one of that name.
    pub(crate) async fn live_side(&self, name: &TableName) -> Result<Option<Side>> {
        let spec = name.store.clone().map_or(StoreSpec::Embedded, StoreSpec::Named);
        let store = self.options.stores.open(&spec).await?;
        let wanted = TableName { store: None, ..name.clone() };
        let Some(real) = store.list_tables(None).await?.into_iter().find(|t| same_table(t, &wanted)) else {
            return Ok(None);
        };
        let cut = store.open_cut(std::slice::from_ref(&real), &CutOptions { allow_fuzzy: true }).await?;
        let source =
            LiveSource::open(cut.clone(), &real, self.options.threads, store.capabilities().key_order)
                .await?;
        Ok(Some(Side { name: real.to_string(), source: Arc::new(source), cut: Some(cut) }))
    }

    /// Compares two sides row by row.
    pub(crate) async fn diff_sides(&self, left: &Side, right: &Side, limit: usize) -> Result<DiffReport> {
        let common = Arc::new(Common::of(left.source.schema(), right.source.schema())?);
        let mut report =
            DiffReport { left: left.name.clone(), right: right.name.clone(), ..DiffReport::default() };
        let rows: u64 =
            [left, right].iter().flat_map(|s| (0..s.source.partitions()).map(|p| s.source.rows(p))).sum();
        self.options.progress.stage("compare", Some(Work::Rows(rows)));
        let one_shard = |s: &Side| (0..s.source.partitions()).all(|p| s.source.shard(p) == s.source.shard(0));
        let ordered = |s: &Side| s.source.partitions() == 0 || (s.source.key_order() && one_shard(s));
        if !common.schema.is_bag() && ordered(left) && ordered(right) {
            self.diff_ordered(left, right, &common, limit, &mut report).await?;
        } else {
            self.diff_multiset(left, right, &common, limit, &mut report).await?;
        }
        Ok(report)
    }

    async fn diff_ordered(
        &self,
        left: &Side,
        right: &Side,
        common: &Arc<Common>,
        limit: usize,
        report: &mut DiffReport,
    ) -> Result<()> {
        let mut a = Cursor::new(self.read_all(left, common, true), common.clone()).await?;
        let mut b = Cursor::new(self.read_all(right, common, false), common.clone()).await?;
        loop {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let order = match (a.key(), b.key()) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(x), Some(y)) => x.cmp(y),
            };
            match order {
                std::cmp::Ordering::Less => {
                    report.only_left += 1;
                    if report.rows.len() < limit {
                        report.rows.push(common.one_sided("only_left", &a.row(), true)?);
                    }
                    a.advance().await?;
                }
                std::cmp::Ordering::Greater => {
                    report.only_right += 1;
                    if report.rows.len() < limit {
                        report.rows.push(common.one_sided("only_right", &b.row(), false)?);
                    }
                    b.advance().await?;
                }
                std::cmp::Ordering::Equal => {
                    if a.hash() == b.hash() {
                        report.same += 1;
                    } else {
                        report.changed += 1;
                        if report.rows.len() < limit {
                            report.rows.push(common.changed(&a.row(), &b.row())?);
                        }
                    }
                    a.advance().await?;
                    b.advance().await?;
                }
            }
        }
    }

    async fn diff_multiset(
        &self,
        left: &Side,
        right: &Side,
        common: &Arc<Common>,
        limit: usize,
        report: &mut DiffReport,
    ) -> Result<()> {
        let mut rows = 0;
        let mut stream = self.read_all(left, common, true);
        while let Some(batch) = stream.try_next().await? {
            rows += batch.num_rows() as u64;
        }
        let passes = (rows / ROWS_A_PASS + 1) as u128;
        let hasher = RowHasher::new(&common.schema);
        for pass in 0..passes {
            let mut counts: HashMap<u128, i64> = HashMap::new();
            let mut stream = self.read_all(left, common, true);
            while let Some(batch) = stream.try_next().await? {
                for hash in hasher.hash(&batch)?.rows.into_iter().filter(|h| h % passes == pass) {
                    *counts.entry(hash).or_default() += 1;
                }
            }
            let mut stream = self.read_all(right, common, false);
            while let Some(batch) = stream.try_next().await? {
                for (row, hash) in
                    hasher.hash(&batch)?.rows.into_iter().enumerate().filter(|(_, h)| h % passes == pass)
                {
                    let count = counts.entry(hash).or_default();
                    if *count > 0 {
                        *count -= 1;
                        report.same += 1;
                    } else {
                        report.only_right += 1;
                        if report.rows.len() < limit {
                            report.rows.push(common.one_sided("only_right", &batch.slice(row, 1), false)?);
                        }
                    }
                }
            }
            counts.retain(|_, n| *n > 0);
            if counts.is_empty() {
                continue;
            }
            let mut stream = self.read_all(left, common, true);
            while let Some(batch) = stream.try_next().await? {
                for (row, hash) in hasher.hash(&batch)?.rows.into_iter().enumerate() {
                    if let Some(count) = counts.get_mut(&hash).filter(|n| **n > 0) {
                        *count -= 1;
                        report.only_left += 1;
                        if report.rows.len() < limit {
                            report.rows.push(common.one_sided("only_left", &batch.slice(row, 1), true)?);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// All rows of a side in the common columns, partition after partition, two partitions ahead.
    fn read_all(&self, side: &Side, common: &Arc<Common>, left: bool) -> Rows {
        let (source, common, engine) = (side.source.clone(), common.clone(), self.clone());
        futures::stream::iter(0..source.partitions())
            .map(move |partition| {
                let (source, common, engine) = (source.clone(), common.clone(), engine.clone());
                async move {
                    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<RecordBatch>>(4);
                    // Decoding runs beside the comparison; a dropped receiver ends it.
                    tokio::spawn(async move {
                        let forward = async {
                            let mut rows = source.open(partition, None).await?;
                            while let Some(batch) = rows.try_next().await? {
                                engine
                                    .options
                                    .progress
                                    .advance(batch.get_array_memory_size() as u64, batch.num_rows() as u64);
                                let batch = common.align(&batch, left)?;
                                if sender.send(Ok(batch)).await.is_err() {
                                    break;
                                }
                            }
                            Ok::<_, EngineError>(())
                        };
                        if let Err(e) = forward.await {
                            let _ = sender.send(Err(e)).await;
                        }
                    });
                    futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|b| (b, r)) })
                }
            })
            .buffered(2)
            .flatten()
            .boxed()
    }
}

/// The columns that both sides are compared in. A column that one side lacks is NULL there.
#[derive(Debug)]
struct Common {
    schema: TableSchema,
    left: Vec<Option<usize>>,
    right: Vec<Option<usize>>,
}

impl Common {
    fn of(left: &TableSchema, right: &TableSchema) -> Result<Self> {
        let mut columns = left.columns.clone();
        for c in &right.columns {
            match left.position(&c.name) {
                Some(at) if left.columns[at].column_type.physical() != c.column_type.physical() => {
                    return Err(EngineError::Unsupported {
                        what: format!("comparing column '{}'", c.name),
                        reason: format!(
                            "it is {} on one side and {} on the other",
                            left.columns[at].column_type.sql(),
                            c.column_type.sql()
                        ),
                    });
                }
                Some(_) => {}
                None => columns.push(c.clone()),
            }
        }
        // Ids of two tables need not agree; here only names do.
        let key_names: Vec<String> = left.key_names().into_iter().map(str::to_lowercase).collect();
        let same_key = right.key_names().into_iter().map(str::to_lowercase).eq(key_names.iter().cloned());
        for (c, id) in columns.iter_mut().zip(1..) {
            c.id = keepfast_model::ColumnId(id);
            c.nullable = true;
        }
        let mut schema = TableSchema { columns, key: vec![], shape: left.shape };
        if same_key {
            schema.key =
                key_names.iter().filter_map(|n| schema.position(n)).map(|at| schema.columns[at].id).collect();
        }
        let find = |side: &TableSchema| schema.columns.iter().map(|c| side.position(&c.name)).collect();
        let (left, right) = (find(left), find(right));
        Ok(Self { schema, left, right })
    }

    fn align(&self, batch: &RecordBatch, left: bool) -> Result<RecordBatch> {
        let places = if left { &self.left } else { &self.right };
        let physical = self.schema.physical();
        let columns: Vec<ArrayRef> = places
            .iter()
            .zip(physical.fields())
            .map(|(at, field)| match at {
                Some(at) => batch.column(*at).clone(),
                None => new_null_array(field.data_type(), batch.num_rows()),
            })
            .collect();
        let fields: Vec<_> = physical
            .fields()
            .iter()
            .zip(&columns)
            .map(|(f, c)| f.as_ref().clone().with_data_type(c.data_type().clone()))
            .collect();
        Ok(RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)?)
    }

    fn texts(&self, row: &RecordBatch) -> Result<Vec<Option<String>>> {
        let native = convert::to_native(&self.schema, row)?;
        let options = FormatOptions::default();
        native
            .columns()
            .iter()
            .map(|c| {
                if c.is_null(0) {
                    return Ok(None);
                }
                Ok(Some(ArrayFormatter::try_new(c.as_ref(), &options)?.value(0).try_to_string()?))
            })
            .collect()
    }

    fn key_text(&self, texts: &[Option<String>]) -> String {
        let key = self.schema.key_positions();
        let shown: Vec<usize> = if key.is_empty() { (0..texts.len()).collect() } else { key };
        shown
            .into_iter()
            .map(|i| format!("{} = {}", self.schema.columns[i].name, texts[i].as_deref().unwrap_or("NULL")))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn one_sided(&self, kind: &'static str, row: &RecordBatch, left: bool) -> Result<RowDifference> {
        let texts = self.texts(row)?;
        let key = self.key_text(&texts);
        let at_key = self.schema.key_positions();
        let columns = texts
            .into_iter()
            .enumerate()
            .filter(|(i, _)| !at_key.contains(i) && !at_key.is_empty())
            .map(|(i, text)| {
                let column = self.schema.columns[i].name.clone();
                if left {
                    ColumnDifference { column, left: text, right: None }
                } else {
                    ColumnDifference { column, left: None, right: text }
                }
            })
            .collect();
        Ok(RowDifference { kind, key, columns })
    }

    fn changed(&self, left: &RecordBatch, right: &RecordBatch) -> Result<RowDifference> {
        let hashes = |row: &RecordBatch| -> Result<Vec<u128>> {
            (0..row.num_columns())
                .map(|i| {
                    let one = TableSchema {
                        columns: vec![self.schema.columns[i].clone()],
                        key: vec![],
                        shape: self.schema.shape,
                    };
                    Ok(RowHasher::new(&one).hash(&row.project(&[i])?)?.rows[0])
                })
                .collect()
        };
        let (a, b) = (hashes(left)?, hashes(right)?);
        let (left, right) = (self.texts(left)?, self.texts(right)?);
        let key = self.key_text(&left);
        let columns = left
            .into_iter()
            .zip(right)
            .enumerate()
            .filter(|(i, _)| a[*i] != b[*i])
            .map(|(i, (left, right))| ColumnDifference {
                column: self.schema.columns[i].name.clone(),
                left,
                right,
            })
            .collect();
        Ok(RowDifference { kind: "changed", key, columns })
    }
}

/// A place in a key-ordered stream of rows.
struct Cursor {
    rows: Rows,
    common: Arc<Common>,
    hasher: RowHasher,
    batch: Option<RecordBatch>,
    keys: Option<BinaryArray>,
    hashes: Vec<u128>,
    at: usize,
}

impl Cursor {
    async fn new(rows: Rows, common: Arc<Common>) -> Result<Self> {
        let hasher = RowHasher::new(&common.schema);
        let mut cursor = Self { rows, common, hasher, batch: None, keys: None, hashes: vec![], at: 0 };
        cursor.next_batch().await?;
        Ok(cursor)
    }

    async fn next_batch(&mut self) -> Result<()> {
        loop {
            self.at = 0;
            match self.rows.try_next().await? {
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => {
                    self.keys = Some(encode_keys(&self.common.schema, &batch)?);
                    self.hashes = self.hasher.hash(&batch)?.rows;
                    self.batch = Some(batch);
                    return Ok(());
                }
                None => {
                    self.batch = None;
                    self.keys = None;
                    return Ok(());
                }
            }
        }
    }

    fn key(&self) -> Option<&[u8]> {
        self.keys.as_ref().map(|k| k.value(self.at))
    }

    fn hash(&self) -> u128 {
        self.hashes[self.at]
    }

    fn row(&self) -> RecordBatch {
        match &self.batch {
            Some(batch) => batch.slice(self.at, 1),
            None => RecordBatch::new_empty(self.common.schema.physical()),
        }
    }

    async fn advance(&mut self) -> Result<()> {
        self.at += 1;
        if self.at >= self.hashes.len() { self.next_batch().await } else { Ok(()) }
    }
}
