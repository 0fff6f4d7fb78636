//! The store: its tables by name, and the trait by which the engine sees it.

use crate::build::{self, Parts};
use crate::catalog::{Catalog, CatalogTable, folded, own};
use crate::cut::ColumnarCut;
use crate::load::ColumnarLoad;
use crate::names::{self, SegmentIds, WriterId};
use crate::place::Place;
use crate::shared::Shared;
use crate::sink::{SHARD, Target};
use crate::table::{Table, TableVersion};
use crate::vacuum::Retention;
use crate::{Result, fault};
use async_trait::async_trait;
use keepfast_keys::{Credentials, Random, SystemRandom};
use keepfast_model::{ShardId, TableId, TableName, TableSchema};
use keepfast_objects::open_target;
use keepfast_store::{
    Capabilities, CutKind, CutOptions, Edit, Load, LoadOptions, OpenCut, PublishKind, Store, StoreError,
    TableInfo, UndoToken, UnfinishedLoad,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a store is used by this process. Nothing of it is stored, but for `target_rows` of tables made with it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that decode and encode at once.
    pub threads: usize,
    /// Bytes of rows that one change sorts in memory; more goes to temporary files.
    pub sort_memory: usize,
    /// Rows that segments of new tables aim at; a power of two.
    pub target_rows: u32,
    /// How long a cut is held when nobody releases it.
    pub hold_for: Duration,
    /// What opens the store, where it has keys.
    pub credentials: Credentials,
    /// Whether it is known to have keys: one without is then another one in its place.
    pub sealed: bool,
    /// Where random bytes of keys come from.
    pub random: Arc<dyn Random>,
    /// What writers leave of the past, after their commits.
    pub retention: Retention,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            sort_memory: 128 << 20,
            target_rows: 16_384,
            hold_for: Duration::from_secs(7 * 24 * 3600),
            credentials: Credentials::none(),
            sealed: false,
            random: Arc::new(SystemRandom),
            retention: Retention::default(),
        }
    }
}

/// An embedded Table Store. Cheap to clone; several processes may use one place at the same time.
#[derive(Clone, Debug)]
pub struct ColumnarStore {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Display for ColumnarStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shared.place.target.url)
    }
}

impl ColumnarStore {
    /// The store in a place, which need not exist before the first write.
    pub fn open(target: keepfast_objects::Target) -> Self {
        Self::with_options(target, Options::default())
    }

    /// As [`Self::open`].
    pub fn with_options(target: keepfast_objects::Target, options: Options) -> Self {
        let place = Place::new(target, options.random.clone());
        Self { shared: Arc::new(Shared::new(place, options)) }
    }

    /// The store at a location: a folder, or a URL of an object store.
    ///
    /// # Errors
    /// `Unavailable` when the location names no place.
    pub fn at(location: &str) -> Result<Self> {
        Ok(Self::open(open_target(location).map_err(fault::objects)?))
    }

    /// What opens it, where it has keys.
    pub fn credentials(&self) -> &Credentials {
        &self.shared.options.credentials
    }

    /// The catalog as it is now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn catalog(&self) -> Result<Arc<Catalog>> {
        self.shared.head().await
    }

    /// The visible tables, sorted.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn tables(&self) -> Result<Vec<TableName>> {
        Ok(self.catalog().await?.tables.iter().map(|t| t.name.clone()).collect())
    }

    /// The table of this name, in any case.
    ///
    /// # Errors
    /// `NoTable`.
    pub async fn table(&self, name: &TableName) -> Result<Table> {
        let head = self.shared.head().await?;
        let entry = head.table(name).ok_or_else(|| self.shared.no_table(name))?;
        Ok(Table { shared: self.shared.clone(), name: entry.name.clone(), id: entry.id.clone() })
    }

    /// Makes an empty table. False when it exists and `if_not_exists` is set.
    ///
    /// # Errors
    /// `TableExists`; `Model` for a schema that contradicts itself.
    pub async fn create_table(
        &self,
        name: &TableName,
        schema: &TableSchema,
        if_not_exists: bool,
    ) -> Result<bool> {
        schema.check(&name.to_string())?;
        let taken = |head: &Catalog| match head.table(name) {
            Some(_) if if_not_exists => Ok(true),
            Some(_) => Err(self.exists(name)),
            None => Ok(false),
        };
        if taken(self.shared.head().await?.as_ref())? {
            return Ok(false);
        }
        let target = self.new_table(name, schema, self.shared.options.target_rows);
        let nothing = build::nothing(&target.table, schema, target.target_rows);
        let parts = Parts {
            pieces: vec![],
            profile: None,
            added: Default::default(),
            removed: Default::default(),
            op: "create".into(),
        };
        let first = build::build(&target, &nothing, None, parts).await?;
        self.commit(&target.writer, |head| {
            if taken(head)? {
                return Ok(None);
            }
            self.shared.check_sealed(target.sealed, head, &name.to_string())?;
            let mut next = head.next(&target.writer, format!("create {}", own(name)));
            next.add(CatalogTable {
                name: own(name),
                id: target.table.clone(),
                version: first.file.version,
                file: first.file_name.clone(),
                replaced: None,
            });
            Ok(Some(next))
        })
        .await
    }

    /// Makes a table invisible; its rows are removed by a later vacuum. False when there is none and `if_exists` is set.
    ///
    /// # Errors
    /// `NoTable`.
    pub async fn drop_table(&self, name: &TableName, if_exists: bool) -> Result<bool> {
        let writer = WriterId::random();
        self.commit(&writer, |head| match head.table(name) {
            None if if_exists => Ok(None),
            None => Err(self.shared.no_table(name)),
            Some(table) => {
                let id = table.id.clone();
                let mut next = head.next(&writer, format!("drop {}", table.name));
                next.remove(&id);
                Ok(Some(next))
            }
        })
        .await
    }

    /// Gives a table another name.
    ///
    /// # Errors
    /// `NoTable`, `TableExists`.
    pub async fn rename(&self, from: &TableName, to: &TableName) -> Result<()> {
        let writer = WriterId::random();
        self.commit(&writer, |head| {
            let table = head.table(from).ok_or_else(|| self.shared.no_table(from))?;
            let id = table.id.clone();
            if folded(from) != folded(to) && head.table(to).is_some() {
                return Err(self.exists(to));
            }
            let mut next = head.next(&writer, format!("rename {} to {}", table.name, own(to)));
            if let Some(mut table) =
                next.tables.iter().position(|t| t.id == id).map(|at| next.tables.remove(at))
            {
                table.name = own(to);
                next.add(table);
            }
            Ok(Some(next))
        })
        .await?;
        Ok(())
    }

    /// Joins small segments of a table. False where nothing was worth it.
    ///
    /// # Errors
    /// `Conflict` when writers come first again and again.
    pub async fn compact(&self, name: &TableName) -> Result<bool> {
        let table = self.table(name).await?;
        for _ in 0..10 {
            let head = self.shared.head().await?;
            let entry = head.by_id(&table.id).ok_or_else(|| self.shared.no_table(name))?;
            let on = TableVersion::open(self.shared.clone(), entry).await?;
            let target = self.target_of(&on);
            let Some(ready) = crate::compact::compact(&target, &on.file, &on.file_name).await? else {
                return Ok(false);
            };
            let mut moved = false;
            let done = self
                .commit(&target.writer, |head| {
                    let mut next = head.next(&target.writer, format!("compact {}", on.name));
                    match next.by_id_mut(&table.id) {
                        Some(entry) if entry.file == on.file_name => {
                            entry.version = ready.file.version;
                            entry.file = ready.file_name.clone();
                            Ok(Some(next))
                        }
                        _ => {
                            moved = true;
                            Ok(None)
                        }
                    }
                })
                .await?;
            if done {
                return Ok(true);
            }
        }
        Err(StoreError::Conflict {
            table: name.to_string(),
            reason: "other writers were always first".into(),
        })
    }

    /// What a writer of a new table needs.
    pub(crate) fn new_table(&self, name: &TableName, schema: &TableSchema, target_rows: u32) -> Target {
        let writer = WriterId::random();
        Target {
            shared: self.shared.clone(),
            name: own(name),
            table: TableId(names::random_hex()),
            schema: Arc::new(schema.clone()),
            epoch: 0,
            target_rows,
            ids: Arc::new(SegmentIds::new(&writer)),
            sealed: self.shared.place.keys().is_some(),
            writer,
        }
    }

    /// What a new writer of an existing table needs.
    pub(crate) fn target_of(&self, version: &TableVersion) -> Target {
        let writer = WriterId::random();
        Target {
            shared: self.shared.clone(),
            name: version.name.clone(),
            table: version.table().clone(),
            schema: version.schema.clone(),
            epoch: version.file.epoch,
            target_rows: version.file.target_rows,
            ids: Arc::new(SegmentIds::new(&writer)),
            sealed: self.shared.place.keys().is_some(),
            writer,
        }
    }

    /// Commits what `change` makes of the newest catalog entry, again and again until no other writer comes first.
    /// False when it wants nothing changed.
    pub(crate) async fn commit(
        &self,
        _writer: &WriterId,
        mut change: impl FnMut(&Arc<Catalog>) -> Result<Option<Catalog>>,
    ) -> Result<bool> {
        let turn = self.shared.turn.acquire().await;
        loop {
            let head = self.shared.head().await?;
            let Some(next) = change(&head)? else { return Ok(false) };
            if let Some(done) = self.shared.try_commit(&head, next).await? {
                drop(turn);
                self.tend(&head, &done).await;
                return Ok(true);
            }
        }
    }

    pub(crate) fn exists(&self, name: &TableName) -> StoreError {
        StoreError::TableExists { table: name.to_string(), store: self.shared.url() }
    }
}

#[async_trait]
impl Store for ColumnarStore {
    fn kind(&self) -> &'static str {
        "columnar"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cut: CutKind::Replayable,
            changes: true,
            source_proof: true,
            key_order: true,
            publish: Some(PublishKind::Atomic),
            merge: true,
            // A vault's plain segments cannot stand beside sealed ones.
            segments: self.shared.place.keys().is_none(),
        }
    }

    async fn list_tables(&self, database: Option<&str>) -> Result<Vec<TableName>> {
        let wanted = database.map(str::to_lowercase);
        let mut tables = self.tables().await?;
        tables.retain(|t| wanted.as_ref().is_none_or(|d| t.database.to_lowercase() == *d));
        Ok(tables)
    }

    async fn describe(&self, table: &TableName) -> Result<TableInfo> {
        let version = self.table(table).await?.head().await?;
        Ok(TableInfo {
            name: TableName { store: table.store.clone(), ..version.name.clone() },
            schema: version.schema.as_ref().clone(),
            shards: vec![ShardId(SHARD.into())],
            rows: version.rows(),
            bytes: version.bytes(),
            dependents: vec![],
        })
    }

    async fn open_cut(&self, tables: &[TableName], _options: &CutOptions) -> Result<Arc<dyn OpenCut>> {
        Ok(Arc::new(ColumnarCut::open(self, tables).await?))
    }

    async fn attach_cut(&self, token: &serde_json::Value) -> Result<Arc<dyn OpenCut>> {
        Ok(Arc::new(ColumnarCut::attach(self, token).await?))
    }

    async fn begin_load(&self, options: LoadOptions) -> Result<Arc<dyn Load>> {
        Ok(Arc::new(ColumnarLoad::begin(self, options).await?))
    }

    async fn attach_load(&self, token: &serde_json::Value) -> Result<Arc<dyn Load>> {
        Ok(Arc::new(ColumnarLoad::attach(self, token).await?))
    }

    async fn unfinished_loads(&self) -> Result<Vec<UnfinishedLoad>> {
        crate::resume::unfinished(self).await
    }

    async fn undo(&self, token: &UndoToken) -> Result<()> {
        crate::undo::undo(self, token).await
    }

    fn edit(&self) -> Option<&dyn Edit> {
        Some(self)
    }

    async fn sweep(&self) -> Result<Vec<String>> {
        self.sweep_all().await
    }
}
