//! The places that outlive processes, and the processes that work on them.

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use futures::TryStreamExt;
use keepfast_columnar::{ColumnarStore, Options};
use keepfast_engine::api::*;
use keepfast_engine::{
    Cancel, Engine, EngineError, EngineOptions, NoProgress, ProcessId, Processes, StoreResolver, StoreSpec,
    Surroundings, Targets,
};
use keepfast_keys::{Cost, Credentials, NewRecipient, Passphrase};
use keepfast_model::{
    BackupName, ColumnType, Digest, KeyRange, LogSeq, RowHasher, Selection, TableName, TableSchema,
};
use keepfast_objects::faulty::{Process, Script};
use keepfast_objects::{ObjectsError, Target};
use keepfast_store::{Store, StoreError};
use keepfast_vault::testing::{Ticking, environment};
use keepfast_vault::{Environment, Vault};
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

pub type Rows = BTreeMap<i64, String>;

/// What processes leave and find.
pub struct World {
    pub store: Arc<InMemory>,
    pub vault: Arc<InMemory>,
    pub copy: Arc<InMemory>,
    pub clock: Arc<Ticking>,
    data: TempDir,
    started: Arc<AtomicU32>,
    /// How backups encrypt where nothing else is said; none means as before.
    pub encrypt: Option<&'static str>,
}

/// Those who may open the vault. Every process knows all passphrases; who really opens it is looked at apart.
pub const RECIPIENTS: [&str; 3] = ["passphrase", "ops", "safe"];

pub fn phrase(recipient: usize) -> String {
    format!("the passphrase of {}", RECIPIENTS[recipient])
}

pub fn recipient(of: usize) -> NewRecipient {
    NewRecipient::Passphrase(Passphrase::new(phrase(of)), Cost::TRIVIAL)
}

fn all_credentials() -> Credentials {
    (0..RECIPIENTS.len())
        .fold(Credentials::none(), |all, of| all.with_passphrase(Passphrase::new(phrase(of))))
}

/// One process and what it has in its hands.
pub struct Running {
    pub process: Process,
    pub engine: Engine,
    pub store: ColumnarStore,
    pub copy: Target,
    pub vault: Target,
    environment: Environment,
    data: std::path::PathBuf,
    place: Target,
    pub encrypt: Option<&'static str>,
}

#[derive(Debug)]
struct Only(ColumnarStore);

#[async_trait]
impl StoreResolver for Only {
    async fn open(&self, _: &StoreSpec) -> Result<Arc<dyn Store>, EngineError> {
        Ok(Arc::new(self.0.clone()))
    }

    fn is_store_url(&self, _: &str) -> bool {
        false
    }
}

#[derive(Debug)]
struct Here(Target);

impl Targets for Here {
    fn open(&self, _: &str) -> Result<Target, ObjectsError> {
        Ok(self.0.clone())
    }
}

/// The newest process runs; all before it are gone.
#[derive(Debug)]
pub struct Newest {
    this: u32,
}

impl Processes for Newest {
    fn this(&self) -> ProcessId {
        ProcessId { host: "simulated".into(), process: self.this }
    }

    fn may_run(&self, process: &ProcessId) -> bool {
        *process == self.this()
    }
}

fn place(store: &Arc<InMemory>, name: &str) -> Target {
    Target::new(store.clone(), Path::default(), format!("memory:{name}"))
}

pub fn schema() -> TableSchema {
    let columns = vec![("id".into(), ColumnType::Int64, false), ("v".into(), ColumnType::Text, true)];
    TableSchema::of(columns, &["id"]).unwrap()
}

fn batch(rows: &[(i64, String)]) -> RecordBatch {
    let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let values = StringArray::from_iter_values(rows.iter().map(|r| r.1.as_str()));
    RecordBatch::try_new(schema().physical(), vec![Arc::new(ids), Arc::new(values)]).unwrap()
}

/// The digest that a table of these rows has.
pub fn digest(rows: &Rows) -> Digest {
    let rows: Vec<(i64, String)> = rows.iter().map(|(id, v)| (*id, v.clone())).collect();
    RowHasher::new(&schema()).digest(&batch(&rows)).unwrap()
}

impl World {
    pub fn new() -> Self {
        Self {
            store: Arc::default(),
            vault: Arc::default(),
            copy: Arc::default(),
            clock: Arc::new(Ticking::at(jiff::Timestamp::now().as_second())),
            data: TempDir::new().unwrap(),
            started: Arc::default(),
            encrypt: None,
        }
    }

    /// A world whose backups encrypt so.
    pub fn encrypting(encrypt: &'static str) -> Self {
        Self { encrypt: Some(encrypt), ..Self::new() }
    }

    /// The same world, from here on another one.
    pub fn fork(&self) -> Self {
        let data = TempDir::new().unwrap();
        let (from, to) = (self.data.path().join("restores"), data.path().join("restores"));
        if from.exists() {
            std::fs::create_dir(&to).unwrap();
            for file in std::fs::read_dir(from).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        Self {
            store: Arc::new(self.store.fork()),
            vault: Arc::new(self.vault.fork()),
            copy: Arc::new(self.copy.fork()),
            clock: self.clock.clone(),
            data,
            started: self.started.clone(),
            encrypt: self.encrypt,
        }
    }

    /// Starts a process that goes wrong as the script says; those before it are gone.
    pub fn start(&self, script: Script) -> Running {
        self.start_as(script, Cancel::default(), |newest| newest)
    }

    /// Starts a process that can be asked to stop, and that is known as `who` wraps it.
    pub fn start_as<P: Processes + 'static>(
        &self,
        script: Script,
        cancel: Cancel,
        who: impl FnOnce(Newest) -> P,
    ) -> Running {
        let this = self.started.fetch_add(1, Ordering::SeqCst);
        let process = Process::new(script);
        let options = Options { threads: 1, target_rows: 64, ..Options::default() };
        let place_of_store = process.wrap(&place(&self.store, "store"));
        let store = ColumnarStore::with_options(place_of_store.clone(), options);
        let vault = process.wrap(&place(&self.vault, "vault"));
        let environment = Environment {
            credentials: all_credentials(),
            ..environment(self.clock.clone(), u64::from(this))
        };
        let surroundings = Surroundings {
            targets: Arc::new(Here(vault.clone())),
            vault: environment.clone(),
            processes: Arc::new(who(Newest { this })),
        };
        let engine = Engine::new(EngineOptions {
            data: self.data.path().to_owned(),
            stores: Arc::new(Only(store.clone())),
            threads: 1,
            memory: 16 << 20,
            worker: None,
            progress: Arc::new(NoProgress),
            cancel,
            surroundings,
            defaults: BackupDefaults::default(),
        });
        let copy = process.wrap(&place(&self.copy, "copy"));
        let data = self.data.path().to_owned();
        let encrypt = self.encrypt;
        Running { process, engine, store, copy, vault, environment, data, place: place_of_store, encrypt }
    }

    /// Tables of which the store holds anything, visible or not.
    pub async fn table_folders(&self) -> usize {
        let found = self.sound().store_target().list("data").await.unwrap();
        let tables: std::collections::BTreeSet<_> =
            found.iter().filter_map(|o| o.path.split('/').nth(1)).collect();
        tables.len()
    }

    /// A process that nothing happens to.
    pub fn sound(&self) -> Running {
        self.start(Script::none())
    }
}

impl Running {
    pub async fn open_vault(&self) -> Result<Vault, EngineError> {
        Ok(Vault::open_with(self.vault.clone(), self.environment.clone()).await?)
    }

    pub async fn open_copy(&self) -> Result<Vault, EngineError> {
        Ok(Vault::open_with(self.copy.clone(), self.environment.clone()).await?)
    }

    pub fn store_target(&self) -> &Target {
        &self.place
    }

    /// Loads that the store remembers.
    pub async fn store_loads(&self) -> usize {
        self.store.unfinished_loads().await.unwrap().len()
    }

    /// Restores that can be undone, by their names, sorted.
    pub fn restores(&self) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.data.join("restores")) else { return vec![] };
        let names = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter_map(|n| Some(n.strip_suffix(".json")?.to_owned())).collect();
        names.sort();
        names
    }

    pub async fn create(&self, table: &str) -> Result<(), EngineError> {
        self.store.create_table(&TableName::bare(table), &schema(), true).await?;
        Ok(())
    }

    /// Puts rows over those of equal keys and removes others, in one change.
    pub async fn write(&self, table: &str, put: &[(i64, String)], remove: &[i64]) -> Result<(), EngineError> {
        let mut change = self.store.table(&TableName::bare(table)).await?.begin().await?;
        if !put.is_empty() {
            change.upsert(batch(put)).await?;
        }
        if !remove.is_empty() {
            let remove: Vec<_> = remove.iter().map(|id| (*id, String::new())).collect();
            change.delete_keys(batch(&remove)).await?;
        }
        change.commit().await?;
        Ok(())
    }

    /// The rows of a live table; none where there is no such table.
    pub async fn live(&self, table: &str) -> Option<Rows> {
        let table = match self.store.table(&TableName::bare(table)).await {
            Ok(table) => table,
            Err(StoreError::NoTable { .. }) => return None,
            Err(e) => panic!("{e}"),
        };
        let version = table.head().await.unwrap();
        let batches: Vec<RecordBatch> =
            version.scan(KeyRange::default(), None, 1000).try_collect().await.unwrap();
        let mut rows = Rows::new();
        for batch in batches {
            let (ids, values) =
                (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
            rows.extend((0..ids.len()).map(|i| (ids.value(i), values.value(i).to_owned())));
        }
        Some(rows)
    }

    pub async fn tables(&self) -> Vec<String> {
        self.store.tables().await.unwrap().iter().map(|t| t.table.clone()).collect()
    }

    /// Whether a passphrase alone opens the vault; also where it has no keys.
    pub async fn opens(&self, credentials: Credentials) -> bool {
        let environment = Environment { credentials, ..self.environment.clone() };
        match Vault::open_with(self.vault.clone(), environment).await {
            Ok(vault) => vault.log().await.is_ok(),
            Err(keepfast_vault::VaultError::NotAVault { .. }) => true,
            Err(e) => panic!("{e}"),
        }
    }

    pub async fn backup(&self, to: &str, tables: &[&str], mode: Mode) -> Result<BackupReport, EngineError> {
        self.backup_encrypted(to, tables, mode, self.encrypt).await
    }

    pub async fn backup_encrypted(
        &self,
        to: &str,
        tables: &[&str],
        mode: Mode,
        encrypt: Option<&str>,
    ) -> Result<BackupReport, EngineError> {
        let request = BackupRequest {
            tables: TableSet::Tables(tables.iter().map(|t| TableName::bare(*t)).collect()),
            to: vec![to.into()],
            selection: Selection::default(),
            mode,
            until: None,
            certify: Certify::Full,
            encrypt: encrypt.map(str::to_owned),
            segment_rows: Some(64),
            parity: None,
            require: None,
            retain: RetainTerms::default(),
        };
        Ok(self.engine.backup(&request).await?.reports.remove(0))
    }

    /// Brings all tables of a point back, under their names or with something behind them.
    pub async fn restore(
        &self,
        from: &str,
        tables: &[&str],
        suffix: &str,
    ) -> Result<RestoreReport, EngineError> {
        self.engine.restore(&self.restore_request(from, tables, suffix)).await
    }

    pub fn restore_request(&self, from: &str, tables: &[&str], suffix: &str) -> RestoreRequest {
        let rename = |t: &&str| (!suffix.is_empty()).then(|| TableName::bare(format!("{t}{suffix}")));
        RestoreRequest {
            tables: TableSet::Tables(tables.iter().map(|t| TableName::bare(*t)).collect()),
            rename: tables.iter().map(rename).collect(),
            from: from.into(),
            as_of: AsOf::Latest,
            into: None,
            selection: Selection::default(),
            if_exists: IfExists::Replace,
            shard_rule: None,
            segment_rows: None,
            skip_damaged: false,
            skip_shredded: false,
        }
    }

    /// Visible points, and what each table of them holds as it is recorded.
    pub async fn points(&self) -> Vec<(BackupName, LogSeq, BTreeMap<String, Digest>)> {
        let vault = match self.open_vault().await {
            Ok(vault) => vault,
            Err(EngineError::Vault(keepfast_vault::VaultError::NotAVault { .. })) => return vec![],
            Err(e) => panic!("{e}"),
        };
        let log = vault.log().await.unwrap();
        log.all_points()
            .map(|p| {
                let tables = p.tables.iter().map(|t| (t.name.table.clone(), t.digest)).collect();
                (p.backup.clone(), p.seq(), tables)
            })
            .collect()
    }

    /// Reads every stored byte of all points; says what is damaged.
    pub async fn damage(&self) -> Vec<String> {
        let vault = match self.open_vault().await {
            Ok(vault) => vault,
            Err(EngineError::Vault(keepfast_vault::VaultError::NotAVault { .. })) => return vec![],
            Err(e) => return vec![e.to_string()],
        };
        match vault.check(&Default::default(), &()).await {
            Ok(report) => report.damage.iter().map(ToString::to_string).collect(),
            Err(e) => vec![e.to_string()],
        }
    }

    /// The digests of a point's tables, computed anew from its rows.
    pub async fn content(
        &self,
        backup: &BackupName,
        seq: LogSeq,
    ) -> Result<BTreeMap<String, Digest>, EngineError> {
        let request = VerifyRequest {
            backup: backup.to_string(),
            as_of: AsOf::Point(seq),
            level: Level::Compare,
            against: None,
            expect: None,
            limit: 0,
            repair: false,
            repair_from: None,
            accept_head: false,
        };
        let report = self.engine.verify(&request).await?;
        Ok(report.tables.iter().map(|t| (t.table.table.clone(), t.vault)).collect())
    }
}
