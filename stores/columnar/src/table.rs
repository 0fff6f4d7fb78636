//! A table, and one version of it as a snapshot for reading.

use crate::build::all_segments;
use crate::catalog::CatalogTable;
use crate::change::Change;
use crate::scan;
use crate::shared::Shared;
use crate::version::VersionFile;
use crate::{Result, fault, names};
use keepfast_format::SegmentEntry;
use keepfast_model::{ByteCount, ColumnId, Digest, KeyRange, TableId, TableName, TableSchema};
use keepfast_store::{BatchStream, StoreError};
use std::sync::Arc;

/// A visible table. It follows its id: a table that is renamed stays the same, one that takes its name is another.
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: TableName,
    pub(crate) id: TableId,
}

impl Table {
    /// Its name when it was opened.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// Its id in the store.
    pub fn id(&self) -> &TableId {
        &self.id
    }

    /// Its newest version, read now.
    ///
    /// # Errors
    /// `NoTable` when it is no longer visible.
    pub async fn head(&self) -> Result<TableVersion> {
        let head = self.shared.head().await?;
        let entry = head.by_id(&self.id).ok_or_else(|| self.shared.no_table(&self.name))?;
        TableVersion::open(self.shared.clone(), entry).await
    }

    /// One of its kept versions; none where retention has removed it or it never was.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub async fn version(&self, number: u64) -> Result<Option<TableVersion>> {
        let head = self.head().await?;
        head.ancestor(number).await
    }

    /// Numbers of the versions that are kept, ascending.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub async fn versions(&self) -> Result<Vec<u64>> {
        let mut numbers = vec![];
        let mut at = Some(self.head().await?);
        while let Some(version) = at {
            numbers.push(version.number());
            at = version.parent().await?;
        }
        numbers.reverse();
        Ok(numbers)
    }

    /// Starts a change on the newest version.
    ///
    /// # Errors
    /// As [`Self::head`].
    pub async fn begin(&self) -> Result<Change> {
        let head = self.shared.head().await?;
        let entry = head.by_id(&self.id).ok_or_else(|| self.shared.no_table(&self.name))?;
        let base = TableVersion::open(self.shared.clone(), entry).await?;
        Ok(Change::new(base, head.seq))
    }
}

/// One immutable version of a table.
#[derive(Clone, Debug)]
pub struct TableVersion {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: TableName,
    pub(crate) file_name: String,
    pub(crate) file: Arc<VersionFile>,
    pub(crate) schema: Arc<TableSchema>,
}

impl TableVersion {
    pub(crate) async fn open(shared: Arc<Shared>, entry: &CatalogTable) -> Result<Self> {
        let file = shared.version(&entry.id, &entry.file).await?;
        Self::of(shared, entry.name.clone(), entry.file.clone(), file)
    }

    pub(crate) fn of(
        shared: Arc<Shared>,
        name: TableName,
        file_name: String,
        file: Arc<VersionFile>,
    ) -> Result<Self> {
        let stated = names::parse_version_file(&file_name).map(|(number, _)| number);
        if stated != Some(file.version) {
            let object = shared.place.full(&names::version(&file.table, &file_name));
            return Err(fault::damaged(object, format!("it says that it is version {}", file.version)));
        }
        let schema = Arc::new(file.schema.clone());
        Ok(Self { shared, name, file_name, file, schema })
    }

    /// The table's name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The table's id.
    pub fn table(&self) -> &TableId {
        &self.file.table
    }

    /// Its number, from 1.
    pub fn number(&self) -> u64 {
        self.file.version
    }

    /// Columns and key.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.file.digest.rows
    }

    /// Count and checksum of the rows, kept from the rows as they were given.
    pub fn digest(&self) -> Digest {
        self.file.digest
    }

    /// Stored bytes of its segments.
    pub fn bytes(&self) -> ByteCount {
        self.file.bytes
    }

    /// The version as it is stored.
    pub fn file(&self) -> &VersionFile {
        &self.file
    }

    /// All its segments, in key order.
    ///
    /// # Errors
    /// `Damaged` with the page.
    pub async fn segments(&self) -> Result<Vec<SegmentEntry>> {
        all_segments(&self.shared, &self.file).await
    }

    /// The version it was made from; none for the first one, or where retention has removed it.
    ///
    /// # Errors
    /// When it exists and cannot be read.
    pub async fn parent(&self) -> Result<Option<Self>> {
        let Some(parent) = &self.file.parent else { return Ok(None) };
        let Some(file) = self.shared.find_version(&self.file.table, parent).await? else { return Ok(None) };
        Self::of(self.shared.clone(), self.name.clone(), parent.clone(), file).map(Some)
    }

    /// The version of this number that this one came from.
    pub(crate) async fn ancestor(&self, number: u64) -> Result<Option<Self>> {
        if number > self.number() {
            return Ok(None);
        }
        if number == self.number() {
            return Ok(Some(self.clone()));
        }
        // Usually one object has the number; writers that lost a race leave others, and then the parents decide.
        let folder = format!("{}/versions", names::table(&self.file.table));
        let files: Vec<String> = self
            .shared
            .place
            .list(&folder)
            .await?
            .iter()
            .filter_map(|o| Some(o.path.rsplit('/').next()?.to_owned()))
            .collect();
        let of = |wanted: u64| {
            files.iter().filter(move |f| names::parse_version_file(f).is_some_and(|(n, _)| n == wanted))
        };
        let mut start = number;
        while start < self.number() && of(start).count() > 1 {
            start += 1;
        }
        let mut at = if start == self.number() {
            self.clone()
        } else {
            let Some(file) = of(start).next() else { return Ok(None) };
            let Some(version) = self.shared.find_version(&self.file.table, file).await? else {
                return Ok(None);
            };
            Self::of(self.shared.clone(), self.name.clone(), file.clone(), version)?
        };
        while at.number() > number {
            let Some(parent) = at.parent().await? else { return Ok(None) };
            at = parent;
        }
        Ok(Some(at))
    }

    /// Reads rows of a range in key order (of a bag: all, in the order of its segments).
    ///
    /// # Errors
    /// In the stream: `Damaged` with the object.
    pub fn scan(&self, range: KeyRange, columns: Option<Vec<ColumnId>>, batch_rows: usize) -> BatchStream {
        scan::range(self.clone(), range, columns, batch_rows)
    }

    pub(crate) fn conflict(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Conflict { table: self.name.to_string(), reason: reason.into() }
    }
}
