//! Requests and reports: what callers ask of the engine and what they get back.
//!
//! Reports are plain data; their serialised form is the documented `--json` shape of each verb.

use keepfast_model::point::Dependent;
use keepfast_model::{
    BackupName, ByteCount, Certificate, Cut, Digest, ParityChoice, PointId, Position, Selection, TableName,
    TableSchema, WriteMode,
};
use serde::{Deserialize, Serialize};

/// Which tables a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableSet {
    /// These.
    Tables(Vec<TableName>),
    /// All of a database.
    Database(String),
    /// All of a restore point (restore only).
    All,
}

/// Full, incremental, or what fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Incremental where it is exact and worth it, else full.
    #[default]
    Auto,
    /// A new base.
    Full,
    /// Changes only; an error where that is not possible.
    Incremental,
}

/// How much of the content the store's own checksums must cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certify {
    /// Sampled, rotating ranges; everything where the store has it for free.
    #[default]
    Sample,
    /// Everything.
    Full,
}

/// Asks for a restore point.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// The tables.
    pub tables: TableSet,
    /// Backups to write, each a bare name, `URL#name` or a vault's URL. Each has its own result.
    pub to: Vec<String>,
    /// Which part of the tables.
    pub selection: Selection,
    /// Full, incremental, or what fits.
    pub mode: Mode,
    /// An earlier moment than now, of which the changes since the newest point before it are read; never a full backup.
    pub until: Option<Until>,
    /// How much content the store's own checksums must cover.
    pub certify: Certify,
    /// `none`, `columns:a,b` or `full`; none given means as before.
    pub encrypt: Option<String>,
    /// Rows a segment aims at, a power of two; only for a table's first base.
    pub segment_rows: Option<u32>,
    /// Parity of segments; fixed at a table's first base, none given means as before.
    pub parity: Option<ParityChoice>,
    /// How many of the targets must stand for the backup to have succeeded; none given means the default.
    pub require: Option<Require>,
    /// How long what the point needs stays locked; what is not said is the default, and without one as before.
    pub retain: RetainTerms,
}

/// What holds for backups that do not say otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackupDefaults {
    /// How many of several targets must stand; of fewer targets all.
    pub require: Require,
    /// How long what points need stays locked.
    pub retain: RetainTerms,
}

impl BackupRequest {
    /// Whether it fails where it cannot follow changes.
    pub(crate) fn only_changes(&self) -> bool {
        self.mode == Mode::Incremental || self.until.is_some()
    }

    /// How many of its targets must stand.
    pub(crate) fn required(&self, defaults: &BackupDefaults) -> usize {
        let targets = self.to.len();
        match self.require {
            Some(require) => require.of(targets),
            None => defaults.require.of(targets).min(targets),
        }
    }
}

/// How many targets of a backup must stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Every one.
    #[default]
    All,
    /// At least so many.
    AtLeast(usize),
}

impl Require {
    /// How many of `targets` that is.
    pub fn of(self, targets: usize) -> usize {
        match self {
            Self::All => targets,
            Self::AtLeast(n) => n,
        }
    }
}

impl std::str::FromStr for Require {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(Self::All);
        }
        let n = text.parse().ok().filter(|n| *n > 0);
        n.map(Self::AtLeast).ok_or_else(|| "it is all, or how many targets must stand, from 1".to_owned())
    }
}

/// A backup before it runs: a value that can be shown.
#[derive(Clone, Debug, Serialize)]
pub struct BackupPlan {
    /// The backup's name, once for each vault.
    pub targets: Vec<String>,
    /// Its tables.
    pub tables: Vec<TablePlan>,
    /// Tasks over all tables.
    pub tasks: u32,
    /// Bytes expected to be read.
    pub bytes_read: ByteCount,
    /// Bytes expected to be written to each vault.
    pub bytes_written: ByteCount,
    /// Seconds expected, from the speed of earlier points or a first guess.
    pub seconds: f64,
}

/// What a plan does with one table.
#[derive(Clone, Debug, Serialize)]
pub struct TablePlan {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// Base or changes.
    pub mode: WriteMode,
    /// Why that mode.
    pub why: String,
    /// Rows expected.
    pub rows: u64,
    /// Partitions, each one task.
    pub partitions: u32,
    /// Bytes expected to be read.
    pub bytes_read: ByteCount,
    /// Bytes expected to be written.
    pub bytes_written: ByteCount,
    /// Rows a segment aims at.
    pub segment_rows: u32,
}

/// A backup in one vault.
#[derive(Clone, Debug, Serialize)]
pub struct BackupReport {
    /// The backup.
    pub backup: BackupName,
    /// The restore point, shown as `name@seq`.
    #[serde(serialize_with = "as_text")]
    pub point: PointId,
    /// The vault, without secrets.
    pub vault: String,
    /// The cut.
    pub cut: Cut,
    /// The tables.
    pub tables: Vec<BackupTableReport>,
    /// Seconds from start to commit.
    pub seconds: f64,
}

/// One table of a backup.
#[derive(Clone, Debug, Serialize)]
pub struct BackupTableReport {
    /// The table.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// How it was written.
    pub mode: WriteMode,
    /// Why that mode.
    pub why: String,
    /// Rows at the cut.
    pub rows: u64,
    /// Their digest.
    #[serde(serialize_with = "as_text")]
    pub digest: Digest,
    /// Segments that the point needs.
    pub segments: u32,
    /// Segments written now.
    pub segments_new: u32,
    /// Bytes that the point needs.
    pub bytes: ByteCount,
    /// Bytes written now.
    pub bytes_new: ByteCount,
    /// Proof of completeness.
    pub certificate: Certificate,
}

/// A direct copy into another store.
#[derive(Clone, Debug, Serialize)]
pub struct CopyReport {
    /// The store, without secrets.
    pub store: String,
    /// The moment of the copy.
    pub cut: Cut,
    /// Its tables.
    pub tables: Vec<CopyTableReport>,
    /// Seconds from start to publication.
    pub seconds: f64,
}

/// A table of a direct copy.
#[derive(Clone, Debug, Serialize)]
pub struct CopyTableReport {
    /// Its name in the target.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// Its rows.
    pub rows: u64,
    /// Their digest, as they were read back before the publication.
    #[serde(serialize_with = "as_text")]
    pub digest: Digest,
    /// Proof that the source was read completely.
    pub certificate: Certificate,
    /// The name under which a table of that name is kept.
    pub replaced: Option<TableName>,
}

/// What became of each target of a backup.
#[derive(Debug, Default)]
pub struct BackupOutcome {
    /// Points made.
    pub reports: Vec<BackupReport>,
    /// Direct copies made.
    pub copies: Vec<CopyReport>,
    /// Targets that failed, each with its error; the others stand.
    pub failed: Vec<(String, crate::EngineError)>,
    /// How many had to stand.
    pub required: usize,
}

impl BackupOutcome {
    /// Whether as many targets stand as were required.
    pub fn holds(&self) -> bool {
        self.reports.len() + self.copies.len() >= self.required
    }

    /// What stands, in words: points with their vaults, and stores that hold a copy.
    pub fn standing(&self) -> String {
        let points = self.reports.iter().map(|r| format!("{} in {}", r.point, r.vault));
        let copies = self.copies.iter().map(|c| format!("a copy in {}", c.store));
        match points.chain(copies).collect::<Vec<_>>() {
            none if none.is_empty() => "nothing".to_owned(),
            some => some.join(", "),
        }
    }
}

/// What happens with an existing table of a restore's target name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfExists {
    /// It is kept under another name, and can be brought back.
    #[default]
    Replace,
    /// The restore is refused.
    Fail,
    /// Restored rows are put over its rows of equal key.
    Merge,
}

pub use crate::retain::RetainTerms;
pub use crate::retention::{Amount, HoldReport, KeptPoint, PruneReport, PruneRequest, RemovedPoint};
pub use keepfast_store::Until;
pub use keepfast_vault::AsOf;

/// Asks for tables back.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The tables, as they were named when backed up; each with a new name or none.
    pub tables: TableSet,
    /// New names, in the order of [`TableSet::Tables`].
    pub rename: Vec<Option<TableName>>,
    /// The backup: a bare name, `name@seq`, `URL#name` or a vault's URL.
    pub from: String,
    /// Which point.
    pub as_of: AsOf,
    /// A store's URL to restore into; none means the embedded store.
    pub into: Option<String>,
    /// Which part of the tables.
    pub selection: Selection,
    /// What happens with existing tables.
    pub if_exists: IfExists,
    /// By which rule rows go into shards, where it is another one than the store declares.
    pub shard_rule: Option<String>,
    /// Rows a segment of the restored table aims at.
    pub segment_rows: Option<u32>,
    /// Whether damaged segments are left out and named, instead of failing the restore.
    pub skip_damaged: bool,
    /// Whether columns whose keys were dropped are NULL and named, instead of failing the restore.
    pub skip_shredded: bool,
}

/// A restore before it runs.
#[derive(Clone, Debug, Serialize)]
pub struct RestorePlan {
    /// The point it reads.
    #[serde(serialize_with = "as_text")]
    pub point: PointId,
    /// The tables.
    pub tables: Vec<RestoreTablePlan>,
    /// Bytes expected to be read.
    pub bytes_read: ByteCount,
    /// Seconds expected.
    pub seconds: f64,
}

/// What a restore does with one table.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreTablePlan {
    /// Name in the backup.
    #[serde(serialize_with = "as_text")]
    pub from: TableName,
    /// Name in the store.
    #[serde(serialize_with = "as_text")]
    pub to: TableName,
    /// Whether a table of that name exists, and what becomes of it.
    pub existing: Option<String>,
    /// Rows of the point (before a condition).
    pub rows: u64,
    /// Columns that will be NULL because their keys were dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shredded: Vec<String>,
    /// Segments to read.
    pub segments: u32,
    /// Bytes to read.
    pub bytes: ByteCount,
}

/// A restore that was published.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreReport {
    /// Names it for `undo`.
    pub restore: String,
    /// The point it came from.
    #[serde(serialize_with = "as_text")]
    pub point: PointId,
    /// The tables.
    pub tables: Vec<RestoreTableReport>,
    /// Seconds from start to publication.
    pub seconds: f64,
    /// Seconds of it that verification took.
    pub verify_seconds: f64,
}

/// What was forgotten for good.
#[derive(Clone, Debug)]
pub struct ShredReport {
    /// The backup.
    pub backup: BackupName,
    /// Other places of the same vault that this data folder knows of. What stands there still has the keys.
    pub copies: Vec<String>,
}

/// One restored table.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreTableReport {
    /// Its name now.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// Rows restored.
    pub rows: u64,
    /// Digest of the restored rows, read back from the store.
    #[serde(serialize_with = "as_text")]
    pub digest: Digest,
    /// Where the replaced table is kept.
    pub replaced: Option<TableName>,
    /// Rows that were left out because their segments are damaged, as `n rows from key to key`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Columns that are NULL because their keys were dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shredded: Vec<String>,
}

/// How deep to verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every stored byte, record and key file of all points.
    #[default]
    Checksum,
    /// Digests computed anew from the rows of the vault and of the live table.
    Compare,
    /// Row by row, naming keys and columns.
    Content,
}

/// Asks for proof.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The backup.
    pub backup: String,
    /// Which point, for `compare` and `content`.
    pub as_of: AsOf,
    /// How deep.
    pub level: Level,
    /// The live table to compare with; none means the table of the same name.
    pub against: Option<TableName>,
    /// The expected head of the log: `seq:hash`.
    pub expect: Option<String>,
    /// Whether damage is healed where it can be (level checksum).
    pub repair: bool,
    /// The location of another copy of the vault, to heal from.
    pub repair_from: Option<String>,
    /// Whether a log that does not hold the remembered head is taken as it is from now on.
    pub accept_head: bool,
    /// Differences listed at most.
    pub limit: usize,
}

/// What verification found.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// The backup.
    pub backup: BackupName,
    /// The vault, without secrets.
    pub vault: String,
    /// How deep.
    pub level: Level,
    /// Whether everything agreed.
    pub ok: bool,
    /// Objects and bytes that were read.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: ByteCount,
    /// Points that were looked at.
    pub points: u64,
    /// Objects that are damaged, after what was healed.
    pub damage: Vec<DamageReport>,
    /// Objects that were damaged and are healed.
    pub healed: Vec<HealedReport>,
    /// Tables whose digests were computed anew.
    pub tables: Vec<TableComparison>,
    /// The log's head, as `seq:hash`; give it to `--expect` later.
    pub head: String,
    /// Seconds.
    pub seconds: f64,
}

/// One damaged object.
#[derive(Clone, Debug, Serialize)]
pub struct DamageReport {
    /// Full path.
    pub object: String,
    /// What is wrong.
    pub what: String,
    /// Tables it belongs to.
    pub tables: Vec<String>,
    /// Points that need it, as `name@seq`.
    pub points: Vec<String>,
    /// After a repair: why it could not be healed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_healed: Option<String>,
    /// After a repair: rows that are lost with it, as `table: n rows from key to key`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// One object that was damaged and is again what was written.
#[derive(Clone, Debug, Serialize)]
pub struct HealedReport {
    /// Full path.
    pub object: String,
    /// What was wrong.
    pub what: String,
    /// Where its bytes came from: its copy, parity, or another vault.
    pub by: String,
}

/// Two states of a table side by side.
#[derive(Clone, Debug, Serialize)]
pub struct TableComparison {
    /// The table in the backup.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// What it was compared with.
    pub against: String,
    /// Digest that the point records.
    #[serde(serialize_with = "as_text")]
    pub recorded: Digest,
    /// Digest of the vault's rows, computed now.
    #[serde(serialize_with = "as_text")]
    pub vault: Digest,
    /// Digest of the live rows, computed now.
    pub live: Option<Digest>,
    /// Whether all agree.
    pub equal: bool,
    /// Rows that differ (level content).
    pub differences: Option<DiffReport>,
}

/// Asks which rows differ.
#[derive(Clone, Debug)]
pub struct DiffRequest {
    /// A point (`name@seq`, `name`) or a live table.
    pub left: String,
    /// The same.
    pub right: String,
    /// The table, where a point holds several.
    pub table: Option<TableName>,
    /// Differences listed at most; all are counted.
    pub limit: usize,
}

/// Rows that differ between two states.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiffReport {
    /// The left state.
    pub left: String,
    /// The right state.
    pub right: String,
    /// Rows that only the left has.
    pub only_left: u64,
    /// Rows that only the right has.
    pub only_right: u64,
    /// Rows of equal key with other values.
    pub changed: u64,
    /// Rows that are equal.
    pub same: u64,
    /// The first of them, in key order.
    pub rows: Vec<RowDifference>,
}

impl DiffReport {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.only_left == 0 && self.only_right == 0 && self.changed == 0
    }
}

/// One row that differs.
#[derive(Clone, Debug, Serialize)]
pub struct RowDifference {
    /// `only_left`, `only_right` or `changed`.
    pub kind: &'static str,
    /// The key as `column = value, …`; the whole row in a bag.
    pub key: String,
    /// The columns that differ.
    pub columns: Vec<ColumnDifference>,
}

/// One value that differs.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnDifference {
    /// The column.
    pub column: String,
    /// As the left has it; none is NULL or no row.
    pub left: Option<String>,
    /// As the right has it; none is NULL or no row.
    pub right: Option<String>,
}

/// A backup in a list.
#[derive(Clone, Debug, Serialize)]
pub struct BackupSummary {
    /// Its name.
    pub backup: BackupName,
    /// The vault, without secrets.
    pub vault: String,
    /// Points that are visible.
    pub points: u64,
    /// The newest.
    pub newest: PointSummary,
}

/// A restore point in a list.
#[derive(Clone, Debug, Serialize)]
pub struct PointSummary {
    /// `name@seq`.
    #[serde(serialize_with = "as_text")]
    pub point: PointId,
    /// The cut.
    pub cut: Cut,
    /// Full, incremental or synthetic; the largest of its tables.
    pub mode: WriteMode,
    /// Its tables.
    pub tables: Vec<String>,
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes it needs.
    pub bytes: ByteCount,
    /// Bytes it added.
    pub bytes_new: ByteCount,
    /// The weakest proof among its tables.
    pub proof: keepfast_model::ProofKind,
    /// Whether a hold protects it.
    pub held: bool,
}

/// A restore point in full.
#[derive(Clone, Debug, Serialize)]
pub struct PointReport {
    /// Its line in a list.
    #[serde(flatten)]
    pub summary: PointSummary,
    /// The store's kind.
    pub store: String,
    /// The program that wrote it.
    pub program: String,
    /// Holds in force that keep it.
    pub holds: Vec<HoldReport>,
    /// Its tables in full.
    pub details: Vec<TableDetail>,
}

/// One table of a point, in full.
#[derive(Clone, Debug, Serialize)]
pub struct TableDetail {
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub table: TableName,
    /// Its id, and so its folder, in the vault.
    pub id: String,
    /// Which part of the store's table.
    pub selection: Selection,
    /// Columns and key.
    pub schema: TableSchema,
    /// How it was written.
    pub mode: WriteMode,
    /// Rows.
    pub rows: u64,
    /// Their digest.
    #[serde(serialize_with = "as_text")]
    pub digest: Digest,
    /// Segments of its base.
    pub segments: u32,
    /// Change segments on top.
    pub change_segments: u32,
    /// Bytes it needs.
    pub bytes: ByteCount,
    /// Proof of completeness.
    pub certificate: Certificate,
    /// Where its change log stood.
    pub positions: Vec<Position>,
    /// What comes back with it.
    pub dependents: Vec<Dependent>,
}

/// Serialises through `Display`.
pub(crate) fn as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    s: S,
) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}
