//! Tables as a program handles them: open or create, append rows, read them back.
//!
//! A handle opened for writing collects rows and commits them as one version when it is closed, and before it reads:
//! so it reads its own writes. A created table stands beside the one that has its name until the commit, which puts it
//! in its place and keeps the old one under another name.

mod canonical;
mod value;

pub use value::{Value, array_of, value_at};

use crate::change::Change;
use crate::load::ColumnarLoad;
use crate::store::ColumnarStore;
use crate::table::Table;
use crate::{Result, rows};
use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use keepfast_model::{KeyRange, RunId, TableName, TableSchema, convert};
use keepfast_store::load::LoadTable;
use keepfast_store::{Load, LoadMode, LoadOptions, OnDuplicate, StoreError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows that wait to be made into a batch.
const PENDING_ROWS: usize = 4_096;

/// What a handle may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Read.
    #[default]
    Read,
    /// Read and append.
    Write,
}

/// What is known of a table: enough to make another one like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<ColumnInfo>,
    /// Names of the key columns; empty for a table without key.
    pub key: Vec<String>,
    /// Rows.
    pub rows: u64,
    /// Stored bytes.
    pub bytes: u64,
    /// Columns and key in full.
    pub schema: TableSchema,
}

/// One column of [`Info`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type, as SQL writes it.
    #[serde(rename = "type")]
    pub column_type: String,
    /// Whether NULL is allowed.
    pub nullable: bool,
}

/// A table at hand. Dropped without [`TableHandle::close`], rows that were not committed are gone.
#[derive(Debug)]
pub struct TableHandle {
    store: ColumnarStore,
    name: TableName,
    mode: Mode,
    schema: Arc<TableSchema>,
    state: State,
    pending: Vec<Vec<Value>>,
}

#[derive(Debug)]
enum State {
    /// The table exists; a change is open once something was appended.
    Existing { table: Table, change: Option<Box<Change>> },
    /// The table is being made.
    New { load: ColumnarLoad, change: Box<Change> },
    /// A commit failed half way.
    Broken,
}

/// Opens an existing table.
///
/// # Errors
/// `NoTable`.
pub async fn open_table(store: &ColumnarStore, name: &TableName, mode: Mode) -> Result<TableHandle> {
    let table = store.table(name).await?;
    let schema = table.head().await?.schema().clone();
    Ok(TableHandle {
        store: store.clone(),
        name: table.name().clone(),
        mode,
        schema,
        state: State::Existing { table, change: None },
        pending: vec![],
    })
}

/// Makes a table with the columns and key of `info`. One that exists is replaced when the handle commits.
///
/// # Errors
/// `Model` for columns that contradict each other.
pub async fn create_table(store: &ColumnarStore, name: &TableName, info: &Info) -> Result<TableHandle> {
    let seq = store.catalog().await?.seq;
    let options = LoadOptions {
        run: RunId(crate::names::random_hex()),
        tables: vec![LoadTable {
            target: name.clone(),
            schema: info.schema.clone(),
            dependents: vec![],
            mode: LoadMode::Replace,
            segment_rows: None,
            replaced_tag: (seq + 1).to_string(),
            shard_rule: None,
        }],
    };
    let load = ColumnarLoad::begin(store, options).await?;
    let change = Box::new(load.begin_part(name)?);
    Ok(TableHandle {
        store: store.clone(),
        name: crate::catalog::own(name),
        mode: Mode::Write,
        schema: Arc::new(info.schema.clone()),
        state: State::New { load, change },
        pending: vec![],
    })
}

impl TableHandle {
    /// Columns and key.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// What is known of the table, its own writes included.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn get_info(&mut self) -> Result<Info> {
        let version = self.table().await?.head().await?;
        let schema = version.schema();
        Ok(Info {
            name: version.name().to_string(),
            columns: schema
                .columns
                .iter()
                .map(|c| ColumnInfo {
                    name: c.name.clone(),
                    column_type: c.column_type.sql(),
                    nullable: c.nullable,
                })
                .collect(),
            key: schema.key_names().into_iter().map(str::to_owned).collect(),
            rows: version.rows(),
            bytes: version.bytes().0,
            schema: schema.as_ref().clone(),
        })
    }

    /// Appends one row: a value for each column, in order.
    ///
    /// # Errors
    /// `Row` for another number of values; `Model` with column, row and value when one does not fit, at the latest at
    /// the commit.
    pub async fn append_row(&mut self, values: Vec<Value>) -> Result<()> {
        self.may_write()?;
        if values.len() != self.schema.columns.len() {
            return Err(StoreError::Row {
                table: self.name.to_string(),
                reason: format!(
                    "it has {} values, the table {} columns",
                    values.len(),
                    self.schema.columns.len()
                ),
            });
        }
        self.pending.push(values);
        if self.pending.len() >= PENDING_ROWS { self.flush_rows().await } else { Ok(()) }
    }

    /// Appends rows of a batch: the table's columns in order, in native, physical or a nearby form.
    ///
    /// # Errors
    /// `Model` with column, row and value when one does not fit; `Row` at the commit for a key that exists.
    pub async fn append_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        self.may_write()?;
        self.flush_rows().await?;
        self.append(convert::to_physical(&self.schema, batch)?).await
    }

    /// Rows in key order (of a bag: in the order they are stored), as native batches. Commits first.
    ///
    /// # Errors
    /// As [`Self::commit`]; in the stream: `Damaged` with the object.
    pub async fn iter_batches(&mut self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let version = self.table().await?.head().await?;
        let schema = version.schema().clone();
        let batches = version.scan(KeyRange::default(), None, rows::BATCH_ROWS);
        Ok(batches.map(move |b| Ok(convert::to_native(&schema, &b?)?)).boxed())
    }

    /// As [`Self::iter_batches`], row by row.
    ///
    /// # Errors
    /// As [`Self::iter_batches`].
    pub async fn iter_rows(&mut self) -> Result<BoxStream<'static, Result<Vec<Value>>>> {
        let batches = self.iter_batches().await?;
        Ok(batches
            .map_ok(|batch| {
                stream::iter((0..batch.num_rows()).map(move |row| {
                    batch.columns().iter().map(|column| value_at(column.as_ref(), row)).collect()
                }))
            })
            .try_flatten()
            .boxed())
    }

    /// The content as canonical bytes, in pieces of about 1 MiB. Commits first.
    ///
    /// # Errors
    /// As [`Self::iter_batches`].
    pub async fn iter_data(&mut self) -> Result<BoxStream<'static, Result<Bytes>>> {
        let version = self.table().await?.head().await?;
        Ok(canonical::content(version))
    }

    /// The content as canonical bytes: equal content gives equal bytes. Commits first.
    ///
    /// # Errors
    /// As [`Self::iter_batches`].
    pub async fn read_data(&mut self) -> Result<Vec<u8>> {
        let mut pieces = self.iter_data().await?;
        let mut all = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// Makes appended rows visible as one new version; nothing to do where there are none.
    ///
    /// # Errors
    /// `Row` for a key that exists; `Conflict`. Nothing of this commit is visible then, and the rows are gone.
    pub async fn commit(&mut self) -> Result<()> {
        self.flush_rows().await?;
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Existing { table, change } => {
                let done = match change {
                    Some(change) => change.commit().await.map(drop),
                    None => Ok(()),
                };
                self.state = State::Existing { table, change: None };
                done
            }
            State::New { load, change } => {
                let part = load.end_part(&self.name, 0, *change).await?;
                load.finish(vec![(self.name.clone(), vec![part])]).await?;
                load.publish().await?;
                let table = self.store.table(&self.name).await?;
                self.state = State::Existing { table, change: None };
                Ok(())
            }
            State::Broken => Err(self.broken()),
        }
    }

    /// Commits, and ends the handle.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn close(mut self) -> Result<()> {
        self.commit().await
    }

    /// The table with everything that was appended.
    async fn table(&mut self) -> Result<&Table> {
        let open = match &self.state {
            State::Existing { change, .. } => change.is_some() || !self.pending.is_empty(),
            State::New { .. } | State::Broken => true,
        };
        if open {
            self.commit().await?;
        }
        match &self.state {
            State::Existing { table, .. } => Ok(table),
            State::New { .. } | State::Broken => Err(self.broken()),
        }
    }

    async fn flush_rows(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut columns: Vec<Vec<Value>> =
            vec![Vec::with_capacity(self.pending.len()); self.schema.columns.len()];
        for row in self.pending.drain(..) {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let columns = self
            .schema
            .columns
            .iter()
            .zip(columns)
            .map(|(column, cells)| {
                let array = array_of(&column.name, &cells)?;
                let array = value::typed(array, &column.column_type.physical())?;
                Ok(convert::column_to_physical(column, &array)?)
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let rows = columns.first().map_or(0, |c| c.len());
        let batch = rows::assemble(&self.schema.physical(), columns, rows)?;
        self.append(batch).await
    }

    async fn append(&mut self, batch: RecordBatch) -> Result<()> {
        let change = match &mut self.state {
            State::Existing { table, change } => {
                if change.is_none() {
                    *change = Some(Box::new(table.begin().await?));
                }
                change.as_mut()
            }
            State::New { change, .. } => Some(change),
            State::Broken => None,
        };
        match change {
            Some(change) => change.insert(batch, OnDuplicate::Refuse).await.map(drop),
            None => Err(self.broken()),
        }
    }

    fn may_write(&self) -> Result<()> {
        match self.mode {
            Mode::Write => Ok(()),
            Mode::Read => Err(StoreError::Unsupported {
                store: self.store.to_string(),
                what: format!("append to table '{}', which was opened for reading", self.name),
            }),
        }
    }

    fn broken(&self) -> StoreError {
        StoreError::Unsupported {
            store: self.store.to_string(),
            what: format!("go on with table '{}' after a commit that failed", self.name),
        }
    }
}
