//! A set of rows in memory that says in words how it differs from another, and to which changes can be applied.
//!
//! This is the plain reading of what scans and change batches mean, kept simple on purpose: faster implementations are
//! tested against it.

use crate::row::{Cell, Row, bytes, canonical, column, rows_of};
use crate::{Result, StoreError};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema};
use arrow::util::display::array_value_to_string;
use keepfast_model::change::HIDDEN_COLUMNS;
use keepfast_model::{
    ChangeOp, Digest, RowHasher, ShardId, TableSchema, TableShape, encode_keys, hidden, key,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Held {
    row: Row,
    /// Equal rows of a bag. Of a keyed table 1, or more when a scan gave the key again.
    count: i64,
}

/// The rows of one table at one moment, each in its shard. Keyed rows are held by their key, rows of a bag by content.
#[derive(Clone, Debug)]
pub struct RowSet {
    schema: TableSchema,
    rows: BTreeMap<Vec<u8>, BTreeMap<String, Held>>,
    /// Number of the last change of each shard and key.
    last: BTreeMap<(String, Vec<u8>), i64>,
}

impl RowSet {
    /// No rows.
    pub fn new(schema: &TableSchema) -> Self {
        Self { schema: schema.clone(), rows: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// The rows of these physical batches, without a shard.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn of(schema: &TableSchema, batches: &[RecordBatch]) -> Result<Self> {
        let mut set = Self::new(schema);
        batches.iter().try_for_each(|b| set.add(&ShardId(String::new()), b))?;
        Ok(set)
    }

    /// The schema of its rows.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// Rows, with multiplicity.
    pub fn len(&self) -> u64 {
        self.held().map(|h| h.count.max(0) as u64).sum()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        self.rows.values().flat_map(BTreeMap::values)
    }

    /// Adds the rows of a physical batch, as the scan of a partition of this shard gives them. Keys that stand there
    /// already count twice, and [`Self::difference`] names them.
    ///
    /// # Errors
    /// `Damaged` when the batch does not have the schema's columns.
    pub fn add(&mut self, shard: &ShardId, batch: &RecordBatch) -> Result<()> {
        for (key, row) in self.read(batch)? {
            self.count(key, &shard.0, row, 1);
        }
        Ok(())
    }

    /// Puts the rows of a physical batch over those of equal key; adds them to a bag.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn upsert(&mut self, batch: &RecordBatch) -> Result<()> {
        for (key, row) in self.read(batch)? {
            if self.schema.is_bag() {
                self.count(key, "", row, 1);
            } else {
                self.rows.insert(key, BTreeMap::from([(String::new(), Held { row, count: 1 })]));
            }
        }
        Ok(())
    }

    /// Removes the rows with the keys of a physical batch; of a bag, all rows equal to one of its.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn delete(&mut self, batch: &RecordBatch) -> Result<()> {
        for (key, _) in self.read(batch)? {
            self.rows.remove(&key);
        }
        Ok(())
    }

    /// The same rows under another schema, matched by column id. Columns that are new are NULL.
    #[must_use]
    pub fn under(&self, schema: &TableSchema) -> Self {
        let from: Vec<Option<usize>> = schema
            .columns
            .iter()
            .map(|c| self.schema.columns.iter().position(|old| old.id == c.id))
            .collect();
        let exact = self.schema.columns.len();
        let mut set = Self { last: self.last.clone(), ..Self::new(schema) };
        for (key, shards) in &self.rows {
            for (shard, held) in shards {
                let mut row: Row = from.iter().map(|at| at.and_then(|at| held.row[at].clone())).collect();
                row.push(held.row[exact].clone());
                let key = if schema.is_bag() { canonical(&row) } else { key.clone() };
                set.count(key, shard, row, held.count);
            }
        }
        set
    }

    /// Applies change batches of this schema: all changes since these rows, in the order of each shard.
    ///
    /// # Errors
    /// `DuplicateKey` when a key stands in two shards afterwards; `Damaged` for changes that contradict themselves.
    pub fn apply(&mut self, batches: &[RecordBatch]) -> Result<()> {
        for batch in batches {
            self.apply_batch(batch)?;
        }
        for shards in self.rows.values_mut() {
            shards.retain(|_, held| held.count != 0);
        }
        self.rows.retain(|_, shards| !shards.is_empty());
        for (key, shards) in &self.rows {
            if let Some(held) = shards.values().find(|held| held.count < 0) {
                return Err(damaged(format!(
                    "more rows are removed than there are: {}",
                    self.show(&held.row)
                )));
            }
            let mut alive = shards.keys();
            let (Some(first), second) = (alive.next(), alive.next()) else { continue };
            if let Some(second) = second.filter(|_| !self.schema.is_bag()) {
                return Err(StoreError::DuplicateKey {
                    table: String::new(),
                    key: key::KeyBytes(key.clone()).to_string(),
                    first: first.clone(),
                    second: second.clone(),
                });
            }
        }
        Ok(())
    }

    /// How these rows differ from those expected, in words; none when they are equal bit by bit.
    pub fn difference(&self, expected: &Self) -> Option<String> {
        let mut lines = vec![];
        let mut more = 0;
        let mut say = |line: String| if lines.len() < 3 { lines.push(line) } else { more += 1 };
        for (key, wanted) in &expected.rows {
            let (Some(wanted), times) = (wanted.values().next(), count(wanted)) else { continue };
            match self.rows.get(key) {
                None => say(format!("row lost: {}", expected.show(&wanted.row))),
                Some(found) if count(found) != times => say(format!(
                    "row stands {} times, expected {times}: {}",
                    count(found),
                    expected.show(&wanted.row)
                )),
                Some(found) => {
                    if let Some(found) = found.values().find(|f| canonical(&f.row) != canonical(&wanted.row))
                    {
                        say(expected.show_change(&found.row, &wanted.row));
                    }
                }
            }
        }
        for (key, found) in &self.rows {
            if let (false, Some(found)) = (expected.rows.contains_key(key), found.values().next()) {
                say(format!("row not expected: {}", self.show(&found.row)));
            }
        }
        if lines.is_empty() {
            return None;
        }
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Some(format!("{} rows, expected {}: {}", self.len(), expected.len(), lines.join("; ")))
    }

    /// The rows as one physical batch, keyed ones in the order of their keys. The hidden exact column comes last where
    /// a row has one.
    ///
    /// # Errors
    /// `Damaged` when the rows' arrays do not fit together.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        let rows: Vec<&Row> =
            self.held().flat_map(|h| std::iter::repeat_n(&h.row, h.count.max(0) as usize)).collect();
        let physical = self.schema.physical();
        let mut fields: Vec<_> = physical.fields().iter().cloned().collect();
        if rows.iter().any(|r| r.last().is_some_and(Option::is_some)) {
            fields.push(Arc::new(Field::new(hidden::EXACT, DataType::Utf8, true)));
        }
        let mut columns = vec![];
        for (at, field) in fields.iter().enumerate() {
            let cells = rows.iter().map(|row| &row[at]);
            columns.push(
                column(field.data_type(), cells)
                    .map_err(|e| damaged(format!("column {}: {e}", field.name())))?,
            );
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .map_err(|e| damaged(e.to_string()))
    }

    /// The digest of the rows.
    ///
    /// # Errors
    /// As [`Self::to_batch`].
    pub fn digest(&self) -> Result<Digest> {
        Ok(RowHasher::new(&self.schema).digest(&self.to_batch()?)?)
    }

    fn count(&mut self, key: Vec<u8>, shard: &str, row: Row, count: i64) {
        let shards = self.rows.entry(key).or_default();
        shards.entry(shard.to_owned()).or_insert(Held { row, count: 0 }).count += count;
    }

    fn row_in(&self, key: &[u8], shard: &str) -> Option<&Row> {
        self.rows.get(key).and_then(|shards| shards.get(shard)).map(|held| &held.row)
    }

    fn set(&mut self, key: Vec<u8>, shard: &str, row: Row) {
        self.rows.entry(key).or_default().insert(shard.to_owned(), Held { row, count: 1 });
    }

    fn unset(&mut self, key: &[u8], shard: &str) {
        if let Some(shards) = self.rows.get_mut(key) {
            shards.remove(shard);
        }
    }

    fn apply_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let wanted = keepfast_model::change::change_schema(&self.schema);
        let given = batch.schema();
        let fits = given.fields().len() >= wanted.fields().len()
            && wanted
                .fields()
                .iter()
                .zip(given.fields())
                .all(|(w, g)| w.name() == g.name() && same_values(w.data_type(), g.data_type()));
        if !fits {
            return Err(damaged(format!("a change batch has the columns {given}, expected {wanted}")));
        }
        let ops = batch.column(0).as_primitive::<Int8Type>();
        let seqs = batch.column(1).as_primitive::<Int64Type>();
        let shards = batch.column(2).as_string::<i32>();
        let masks = batch.column(5).as_binary::<i32>();
        let counts = batch.column(6).as_primitive::<Int64Type>();
        if (0..5).any(|hidden| hidden != 3 && batch.column(hidden).null_count() > 0) {
            return Err(damaged("a change has no operation, number, shard or epoch".into()));
        }
        let positions = self.schema.key_positions();
        let key_columns: Vec<ArrayRef> =
            positions.iter().map(|at| batch.column(HIDDEN_COLUMNS + at).clone()).collect();
        let keys = key::encode_columns(&key_columns, batch.num_rows())?;
        let rows = rows_of(batch, HIDDEN_COLUMNS, self.schema.columns.len());
        for (i, row) in rows.into_iter().enumerate() {
            let op = ChangeOp::from_i8(ops.value(i))
                .ok_or_else(|| damaged(format!("a change has the operation {}", ops.value(i))))?;
            let cells = self.schema.shape == TableShape::Cells;
            if self.schema.is_bag() != (op == ChangeOp::Count)
                || !cells
                    && matches!(op, ChangeOp::DeleteCell | ChangeOp::DeleteVersion | ChangeOp::DeleteFamily)
            {
                return Err(damaged(format!("{op:?} is no change of this table")));
            }
            let shard = shards.value(i);
            if op == ChangeOp::Count {
                let count = if counts.is_valid(i) { counts.value(i) } else { 0 };
                self.count(canonical(&row), shard, row, count);
                continue;
            }
            let key = keys.value(i).to_vec();
            let seq = seqs.value(i);
            if let Some(last) =
                self.last.insert((shard.to_owned(), key.clone()), seq).filter(|last| *last >= seq)
            {
                return Err(damaged(format!(
                    "changes of shard {shard} are not in order: {seq} after {last}"
                )));
            }
            match op {
                ChangeOp::PutRow => self.set(key, shard, row),
                ChangeOp::Patch => {
                    if masks.is_null(i) {
                        return Err(damaged("a patch has no mask".into()));
                    }
                    let mask = masks.value(i);
                    let mut patched =
                        self.row_in(&key, shard).cloned().unwrap_or_else(|| vec![None; row.len()]);
                    for (at, cell) in row.into_iter().enumerate() {
                        let named = mask.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
                        if named || positions.contains(&at) {
                            patched[at] = cell;
                        }
                    }
                    self.set(key, shard, patched);
                }
                ChangeOp::DeleteVersion => self.unset(&key, shard),
                ChangeOp::DeleteRow if !cells => self.unset(&key, shard),
                ChangeOp::DeleteRow | ChangeOp::DeleteCell | ChangeOp::DeleteFamily => {
                    for shards in self.rows.values_mut() {
                        if shards.get(shard).is_some_and(|cell| covers(op, &row, &cell.row)) {
                            shards.remove(shard);
                        }
                    }
                }
                ChangeOp::Count => {}
            }
        }
        Ok(())
    }

    /// Keys and rows of a physical batch; the key of a bag's row is its canonical bytes.
    fn read(&self, batch: &RecordBatch) -> Result<Vec<(Vec<u8>, Row)>> {
        let physical = self.schema.physical();
        let declared = physical.fields().len();
        let given = batch.schema();
        if batch.num_columns() != declared && batch.num_columns() != declared + 1 {
            return Err(damaged(format!("a batch has {} columns, expected {declared}", batch.num_columns())));
        }
        for (wanted, found) in physical.fields().iter().zip(given.fields()) {
            if wanted.name() != found.name() || !same_values(wanted.data_type(), found.data_type()) {
                return Err(damaged(format!(
                    "a batch has column {} {}, expected {} {}",
                    found.name(),
                    found.data_type(),
                    wanted.name(),
                    wanted.data_type()
                )));
            }
        }
        if batch.num_columns() > declared && given.field(declared).name() != hidden::EXACT {
            return Err(damaged(format!("a batch has the extra column {}", given.field(declared).name())));
        }
        let rows = rows_of(batch, 0, declared);
        if self.schema.is_bag() {
            return Ok(rows.into_iter().map(|row| (canonical(&row), row)).collect());
        }
        let keys = encode_keys(&self.schema, batch)?;
        Ok(rows.into_iter().enumerate().map(|(i, row)| (keys.value(i).to_vec(), row)).collect())
    }

    fn show(&self, row: &Row) -> String {
        let columns: Vec<&str> =
            self.schema.columns.iter().map(|c| c.name.as_str()).chain([hidden::EXACT]).collect();
        let keys = self.schema.key_positions();
        let rest = (0..row.len()).filter(|i| !keys.contains(i)).take(4);
        let shown: Vec<usize> = keys.iter().copied().chain(rest).filter(|i| row[*i].is_some()).collect();
        shown.iter().map(|i| format!("{}={}", columns[*i], text(&row[*i]))).collect::<Vec<_>>().join(" ")
    }

    fn show_change(&self, found: &Row, wanted: &Row) -> String {
        let keys = self.schema.key_positions();
        let key: Vec<String> =
            keys.iter().map(|i| format!("{}={}", self.schema.columns[*i].name, text(&wanted[*i]))).collect();
        let changed: Vec<String> = (0..wanted.len())
            .filter(|i| bytes(&found[*i]) != bytes(&wanted[*i]))
            .take(3)
            .map(|i| {
                let name = self.schema.columns.get(i).map_or(hidden::EXACT, |c| c.name.as_str());
                let (mut is, mut was) = (text(&found[i]), text(&wanted[i]));
                if is == was {
                    is = hex(&found[i]);
                    was = hex(&wanted[i]);
                }
                format!("{name} is {is}, expected {was}")
            })
            .collect();
        format!("row {}: {}", key.join(" "), changed.join(", "))
    }
}

/// Whether a delete of cells takes this cell: the same row, family and column as far as the delete names them, and a
/// timestamp up to the delete's (any, where it has none).
fn covers(op: ChangeOp, delete: &Row, cell: &Row) -> bool {
    let named = match op {
        ChangeOp::DeleteRow => 1,
        ChangeOp::DeleteFamily => 2,
        _ => 3,
    };
    let timestamp =
        |row: &Row| row[3].as_ref().map(|(array, at)| array.as_primitive::<Int64Type>().value(*at));
    (0..named).all(|i| bytes(&delete[i]) == bytes(&cell[i]))
        && timestamp(delete).is_none_or(|upto| timestamp(cell).is_some_and(|t| t <= upto))
}

fn count(shards: &BTreeMap<String, Held>) -> i64 {
    shards.values().map(|held| held.count).sum()
}

fn text(cell: &Cell) -> String {
    let Some((array, at)) = cell else { return "NULL".into() };
    let text = array_value_to_string(array, *at).unwrap_or_else(|e| e.to_string());
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str(&format!("… ({} bytes)", text.len()));
    }
    format!("{short:?}")
}

fn hex(cell: &Cell) -> String {
    match bytes(cell) {
        None => "NULL".into(),
        Some(bytes) => {
            let hash = keepfast_model::Hash256::of(&bytes).to_string();
            format!(
                "0x{} ({} bytes, hash {})",
                key::KeyBytes(bytes[..bytes.len().min(24)].to_vec()),
                bytes.len(),
                &hash[..8]
            )
        }
    }
}

fn same_values(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) => same_values(a.data_type(), b.data_type()),
        _ => a == b,
    }
}

fn damaged(reason: String) -> StoreError {
    StoreError::Damaged { object: "rows given by the store".into(), reason }
}
