//! What a user may type: verbs, their arguments, and the options that every verb takes.
//!
//! Everything here is checked before anything is opened; what is refused here ends with exit code 2. Value types
//! (names, moments, sizes) are read by the crates that own them, so that SQL and the command line agree.

mod choices;
mod vaults;

pub use choices::{CertifyArg, IfExistsArg, LevelArg, ModeArg, ShellArg, WorkersArg};
pub use vaults::{CopyArgs, CopyEncryption, KeyOwnerArgs, KeyVerb, NewKeyArgs, VaultVerb};

use crate::values::{Memory, PointSelector, RetainFor};
use clap::builder::Styles;
use clap::{ArgAction, Args, Parser, Subcommand};
use keepfast_engine::api;
use keepfast_files::Format;
use keepfast_model::{LockMode, TableName};
use std::path::PathBuf;

/// Backs up tables, brings them back, and proves that they came back.
#[derive(Debug, Parser)]
#[command(
    name = "keepfast",
    bin_name = "keepfast",
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110,
    styles = Styles::plain(),
    after_help = "BACKUP is a name (in DIR/vault), URL#name, or a vault's URL. A restore point is name@number.\n\
                  Exit: 0 done, 1 failed, 2 wrong use, 3 difference or damage found, 4 interrupted.\n\
                  `keepfast demo` shows all of it on sample data."
)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that every verb takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Global {
    /// Data folder: the embedded tables and the default vault
    #[arg(long, global = true, value_name = "DIR", env = "KEEPFAST_DATA", default_value = "keepfast-data")]
    pub data: PathBuf,
    /// Configuration; keepfast.toml of this folder or of the data folder where none is given
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Log to standard error; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Threads that compute, or worker processes at once; all cores where none is given
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// A file that holds a passphrase of encrypted vaults and stores, beside what KEEPFAST_PASSPHRASE holds
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Vec<PathBuf>,
    /// A file with age identities that open encrypted vaults and stores
    #[arg(long, global = true, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
    /// Memory for sorting and joining; more spills to disk
    #[arg(long, global = true, value_name = "SIZE", default_value = "512MiB")]
    pub memory: Memory,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show on sample data what Keepfast does
    Demo(DemoArgs),
    /// Make a restore point of tables
    Backup(BackupArgs),
    /// Bring tables back from a restore point
    Restore(RestoreArgs),
    /// Put back the tables that a restore replaced
    Undo(UndoArgs),
    /// Prove a backup, or name what is damaged or differs
    Verify(VerifyArgs),
    /// Show rows that differ between two points, or a point and a live table
    Diff(DiffArgs),
    /// List backups, or the restore points of one
    List(ListArgs),
    /// Show one restore point in full
    Show(ShowArgs),
    /// Run one query over live tables and backups
    Query(QueryArgs),
    /// Run statements, or open an interactive shell
    Sql(SqlArgs),
    /// Write a new base from a base and its changes, without the store
    Compact(CompactArgs),
    /// Remove restore points that a policy does not keep, and give back what nothing needs
    Prune(PruneArgs),
    /// Make a backup and all its restore points invisible
    Drop(DropArgs),
    /// Keep a backup or a restore point from being dropped or pruned
    Hold(HoldArgs),
    /// End a hold
    Release(ReleaseArgs),
    /// Make, show, copy or recover a vault
    #[command(subcommand)]
    Vault(VaultVerb),
    /// Say who can open a vault, or drop keys for good
    #[command(subcommand)]
    Key(KeyVerb),
    /// Load CSV, JSON lines or Parquet files into a table
    Import(ImportArgs),
    /// Write a table to a CSV, JSON lines or Parquet file
    Export(ExportArgs),
    /// Run one task from standard input
    Worker,
    /// Explain an error code
    Explain(ExplainArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Work in this new folder and keep it; otherwise nothing is left behind
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Rows of the sample table
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    pub rows: u64,
}

/// Which part of the tables.
#[derive(Debug, Default, Args)]
pub struct SelectionArgs {
    /// Only rows that meet this SQL condition
    #[arg(long = "where", value_name = "SQL")]
    pub filter: Option<String>,
    /// Only these columns
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub columns: Option<Vec<String>>,
}

/// `backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Tables: table, database.table or store.database.table
    #[arg(value_name = "TABLE", required_unless_present = "database")]
    pub tables: Vec<TableName>,
    /// All tables of a database
    #[arg(long, value_name = "DB", conflicts_with = "tables")]
    pub database: Option<String>,
    /// Backups to write: names, URL#name, or URLs of vaults
    #[arg(long, value_name = "BACKUP", required = true, num_args = 1..)]
    pub to: Vec<String>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Full, incremental, or what fits
    #[arg(long, value_enum, default_value_t)]
    pub mode: ModeArg,
    /// The tables as they were before this time (UTC where no zone is given), as the store's log tells it
    #[arg(long, value_name = "TIME", value_parser = crate::values::moment, conflicts_with = "before_transaction")]
    pub until: Option<jiff::Timestamp>,
    /// The tables as they were before this transaction (a GTID), as the store's log tells it
    #[arg(long, value_name = "GTID")]
    pub before_transaction: Option<String>,
    /// How much content the store's own checksums must cover
    #[arg(long, value_enum, default_value_t)]
    pub certify: CertifyArg,
    /// Encrypt: none, columns:a,b or full; none given means as before
    #[arg(long, value_name = "HOW")]
    pub encrypt: Option<String>,
    /// Rows a segment aims at, a power of two; for a table's first base
    #[arg(long, value_name = "N", value_parser = crate::values::segment_rows)]
    pub segment_rows: Option<u32>,
    /// Parity against damage: 16+2 (of 16 segments and 2 parity files, any 2 can be lost), 10% or none; for a table's first base
    #[arg(long, value_name = "K+M")]
    pub parity: Option<keepfast_model::ParityChoice>,
    /// How many of several targets must stand: `all`, or a number
    #[arg(long, value_name = "N")]
    pub require: Option<api::Require>,
    /// Lock what the point needs for so long, where the bucket has object lock: 30d, 12h, 1y; none ends it
    #[arg(long, value_name = "TIME")]
    pub retain_for: Option<RetainFor>,
    /// How firmly it is locked: compliance, which nobody can end early, or governance
    #[arg(long, value_name = "MODE")]
    pub retain_mode: Option<LockMode>,
    /// Show the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where tasks run: `threads`, `processes`, or the path of a program that starts workers
    #[arg(long, value_name = "WHERE", default_value = "threads")]
    pub workers: WorkersArg,
}

/// `restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Tables, as they were named when backed up
    #[arg(value_name = "TABLE", required_unless_present_any = ["all", "database"])]
    pub tables: Vec<TableName>,
    /// All tables of the restore point
    #[arg(long, conflicts_with_all = ["tables", "database"])]
    pub all: bool,
    /// All tables of a database of the restore point
    #[arg(long, value_name = "DB", conflicts_with = "tables")]
    pub database: Option<String>,
    /// The backup
    #[arg(long, value_name = "BACKUP")]
    pub from: String,
    /// A time (UTC where no zone is given) or a restore point
    #[arg(long, value_name = "TIME_OR_POINT")]
    pub as_of: Option<PointSelector>,
    /// By which rule rows go into shards, where it is another one than the store declares
    #[arg(long, value_name = "SQL")]
    pub shard_rule: Option<String>,
    /// Another name for the table, or the URL of a store
    #[arg(long, value_name = "TABLE_OR_URL")]
    pub into: Option<String>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Leave out segments that are damaged, and name the keys that are missing; exit code 3 where there are any
    #[arg(long)]
    pub skip_damaged: bool,
    /// Let columns whose keys were dropped be NULL, and name them; exit code 3 where there are any
    #[arg(long)]
    pub skip_shredded: bool,
    /// What happens with a table that exists
    #[arg(long, value_enum, default_value_t)]
    pub if_exists: IfExistsArg,
    /// Rows a segment of the restored table aims at, a power of two
    #[arg(long, value_name = "N", value_parser = crate::values::segment_rows)]
    pub segment_rows: Option<u32>,
    /// Show the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where tasks run: `threads`, `processes`, or the path of a program that starts workers
    #[arg(long, value_name = "WHERE", default_value = "threads")]
    pub workers: WorkersArg,
}

/// `undo`
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The id that the restore printed
    #[arg(value_name = "RESTORE_ID")]
    pub restore: String,
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// The restore point, for compare and content; the newest where none is given
    #[arg(long, value_name = "POINT")]
    pub point: Option<PointSelector>,
    /// checksum: every stored byte; compare: digests of rows, computed anew; content: row by row
    #[arg(long, value_enum)]
    pub level: Option<LevelArg>,
    /// The live table to compare with; the one of the same name where none is given
    #[arg(long, value_name = "TABLE")]
    pub against: Option<TableName>,
    /// The head of the vault's log that must be there, as an earlier verify printed it
    #[arg(long, value_name = "HEAD")]
    pub expect: Option<String>,
    /// Heal damaged objects from their copies, from parity, and from the place of --repair-from
    #[arg(long)]
    pub repair: bool,
    /// Another copy of the same vault, to heal from
    #[arg(long, value_name = "URL", requires = "repair")]
    pub repair_from: Option<String>,
    /// Take the vault's log as it is from now on, though it lacks the newest record that was seen here before
    #[arg(long)]
    pub accept_head: bool,
    /// Differing rows to list at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// `diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A restore point (name@number, or name for the newest) or a live table
    #[arg(value_name = "A")]
    pub left: String,
    /// The same
    #[arg(value_name = "B")]
    pub right: String,
    /// The table, where a point holds several
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,
    /// Differing rows to list at most; all are counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// `list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// A backup, or a vault's URL; the default vault where none is given
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// `show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The backup, or name@number
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The restore point; the newest where none is given
    #[arg(long, value_name = "POINT")]
    pub point: Option<PointSelector>,
}

/// `query`
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// One SELECT; backup('name', 'table' [, 'as of']) reads a backup
    #[arg(value_name = "SQL")]
    pub sql: String,
}

/// `sql`
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// Statements, separated by semicolons
    #[arg(short, long, value_name = "SQL", conflicts_with = "file")]
    pub command: Option<String>,
    /// A file of statements
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Open the shell also where standard input is no terminal
    #[arg(short, long, conflicts_with_all = ["command", "file"])]
    pub interactive: bool,
}

/// `compact`
#[derive(Debug, Args)]
pub struct CompactArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// Where tasks run: `threads`, `processes`, or the path of a program that starts workers
    #[arg(long, value_name = "WHERE", default_value = "threads")]
    pub workers: WorkersArg,
}

/// `prune`
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// The backup; a vault's URL, or nothing for the default vault, gives back space and removes no point
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Keep the newest N points
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Keep the last point of each of the newest N hours that have one
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,
    /// The same with days
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// The same with weeks from Monday on
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
    /// The same with months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,
    /// The same with years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,
    /// Keep points whose cut is at most so old, such as 30d, counted from the newest one
    #[arg(long, value_name = "DURATION", value_parser = keepfast_model::retention::parse_duration)]
    pub keep_within: Option<jiff::SignedDuration>,
    /// Delete condemned objects only after this long; 24h where none is given
    #[arg(long, value_name = "DURATION", value_parser = keepfast_model::retention::parse_duration)]
    pub grace: Option<jiff::SignedDuration>,
    /// Show the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `hold`
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// The restore point; the whole backup where none is given
    #[arg(long, value_name = "POINT")]
    pub point: Option<PointSelector>,
    /// When the hold ends (UTC where no zone is given); until it is released where none is given
    #[arg(long, value_name = "TIME", value_parser = crate::values::moment)]
    pub until: Option<jiff::Timestamp>,
    /// Why, as `show` tells it
    #[arg(long, value_name = "TEXT", default_value = "user")]
    pub reason: String,
}

/// `release`
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The hold's id, as `hold` and `show` print it
    #[arg(value_name = "ID")]
    pub id: String,
    /// The vault that it is in; the default vault where none is given
    #[arg(long, value_name = "URL")]
    pub vault: Option<String>,
}

/// `drop`
#[derive(Debug, Args)]
pub struct DropArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
}

/// How a file is written down.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// csv, jsonl or parquet; the file's name tells it where none is given
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// CSV: the first line does not name the columns
    #[arg(long)]
    pub no_header: bool,
    /// CSV: the character between values; a tab for .tsv, else a comma
    #[arg(long, value_name = "C", value_parser = crate::values::delimiter)]
    pub delimiter: Option<u8>,
}

/// `import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files of one table; .gz and .zst are unpacked
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The table, which is made when it does not exist
    #[arg(long, value_name = "TABLE")]
    pub into: TableName,
    /// Key columns of a new table
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub key: Vec<String>,
    #[command(flatten)]
    pub file: FileArgs,
    /// CSV: unquoted values that mean NULL, apart from nothing at all
    #[arg(long, value_name = "TEXT")]
    pub null: Vec<String>,
}

/// `export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The table
    #[arg(value_name = "TABLE")]
    pub table: TableName,
    /// The file; .gz and .zst are packed
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    #[command(flatten)]
    pub file: FileArgs,
    /// CSV: what stands for NULL
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub null: String,
    /// Replace a file of that name
    #[arg(long)]
    pub overwrite: bool,
}

/// `explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The code, such as KF0301; all codes where none is given
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
}

/// `completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: ShellArg,
}
