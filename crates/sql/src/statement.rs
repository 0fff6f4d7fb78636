//! What can be said: one type per statement. Plain values; reading a table's schema, resolving an address and
//! planning are the engine's part.

use crate::error::TextPosition;
use crate::options::{BackupOptions, RestoreOptions, VerifyLevel};
use jiff::Timestamp;
use keepfast_model::{LogSeq, TableName, TableSchema};
use sqlparser::ast;
use std::fmt;

/// A statement with its text and where that text began.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The statement's own text, without the `;` and without comments around it.
    pub text: String,
    /// Where the text begins in the input.
    pub at: TextPosition,
    /// What it says.
    pub statement: Statement,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Statement {
    /// `BACKUP TABLE … TO …`
    Backup(Backup),
    /// `RESTORE … FROM …`
    Restore(Restore),
    /// `UNDO RESTORE 'id'`: puts the table back that a restore replaced.
    UndoRestore {
        /// The restore's id, as the restore printed it.
        id: String,
    },
    /// `VERIFY BACKUP …`
    Verify(Verify),
    /// `SHOW BACKUPS`
    ShowBackups,
    /// `SHOW RESTORE POINTS FROM 'name'`
    ShowRestorePoints {
        /// The backup.
        from: Address,
    },
    /// `DESCRIBE BACKUP 'name'`
    DescribeBackup {
        /// The backup.
        name: Address,
    },
    /// `DROP BACKUP 'name'`
    DropBackup {
        /// The backup.
        name: Address,
    },
    /// `SHOW TABLES`
    ShowTables,
    /// `DESCRIBE t`
    DescribeTable {
        /// The table.
        table: TableName,
    },
    /// `EXPLAIN BACKUP …` and `EXPLAIN RESTORE …`: the plan, and nothing is done. Holds only these two.
    Explain(Box<Statement>),
    /// `CREATE TABLE …`
    CreateTable(CreateTable),
    /// `INSERT`, `REPLACE`
    Insert(Insert),
    /// `UPDATE`
    Update(Update),
    /// `DELETE`
    Delete(Delete),
    /// `DROP TABLE`
    DropTable(DropTable),
    /// `SELECT`, `WITH`, `VALUES`, and `EXPLAIN` of them.
    Query(Query),
}

/// A backup's name, `URL#name` or a URL, as typed. Shown without the password or the signature a URL may hold.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(String);

impl Address {
    /// The address from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text with everything it holds. Never log it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::without_secrets(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:?})", crate::error::without_secrets(&self.0))
    }
}

/// All tables of one database: `DATABASE d` or `DATABASE store.d`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DatabaseName {
    /// The store; none means the embedded Table Store.
    pub store: Option<String>,
    /// The database.
    pub database: String,
}

/// A scalar SQL expression: its tree and its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// The tree.
    pub ast: ast::Expr,
    /// The text in normal form (one spacing, upper-case keywords); it parses back to `ast`.
    pub sql: String,
}

/// Which tables a backup takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These, each once.
    Tables(Vec<TableName>),
    /// Every table of a database.
    Database(DatabaseName),
}

/// `BACKUP TABLE t [, …] | DATABASE d [COLUMNS (…)] [WHERE …] TO '…' [, …] [WITH (…)]`
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// What is backed up.
    pub scope: Scope,
    /// Chosen columns as typed; none means all.
    pub columns: Option<Vec<String>>,
    /// Which rows; none means all.
    pub filter: Option<Expression>,
    /// Where to: at least one backup, vault or store.
    pub targets: Vec<Address>,
    /// How.
    pub options: BackupOptions,
}

/// Which tables a restore brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreScope {
    /// These, each once.
    Tables(Vec<RestoreTable>),
    /// Every table of a database that the point holds.
    Database(DatabaseName),
    /// Every table that the point holds.
    All,
}

/// A table of a point, and the name that it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreTable {
    /// Its name in the point.
    pub table: TableName,
    /// Its new name; none means its own.
    pub rename: Option<TableName>,
}

/// Which restore point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The state at this moment.
    Timestamp(Timestamp),
    /// The point with this number.
    Point(LogSeq),
}

/// `RESTORE TABLE t [AS new] [, …] | DATABASE d | ALL FROM '…' [AS OF …] [COLUMNS (…)] [WHERE …] [INTO '…'] [WITH (…)]`
#[derive(Clone, Debug, PartialEq)]
pub struct Restore {
    /// What comes back.
    pub scope: RestoreScope,
    /// The backup.
    pub from: Address,
    /// Which state; none means the newest point.
    pub as_of: Option<AsOf>,
    /// Chosen columns as typed; none means all.
    pub columns: Option<Vec<String>>,
    /// Which rows; none means all.
    pub filter: Option<Expression>,
    /// The store to restore into; none means where the tables came from.
    pub into: Option<Address>,
    /// How.
    pub options: RestoreOptions,
}

/// `VERIFY BACKUP 'name' [POINT n] [LEVEL …] [AGAINST t]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// The backup.
    pub backup: Address,
    /// The point; none means all points at level checksum, and the newest at the others.
    pub point: Option<LogSeq>,
    /// How deep; none means checksum, or compare with a table given.
    pub level: Option<VerifyLevel>,
    /// The live table to compare with; none means the table that was backed up.
    pub against: Option<TableName>,
}

/// `CREATE TABLE`
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// The table.
    pub name: TableName,
    /// Columns with ids counted from 1, and the key. Valid by [`TableSchema::check`].
    pub schema: TableSchema,
    /// Whether an existing table of this name is left alone without an error.
    pub if_not_exists: bool,
}

/// What an INSERT does with a row whose key exists.
#[derive(Clone, Debug, PartialEq)]
pub enum OnConflict {
    /// It fails as a whole.
    Fail,
    /// It leaves the existing row (`INSERT IGNORE`, `INSERT OR IGNORE`, `ON CONFLICT DO NOTHING`).
    Nothing {
        /// The key columns as typed; empty where none were.
        key: Vec<String>,
    },
    /// The new row takes the place of the old one in full (`REPLACE INTO`, `INSERT OR REPLACE`).
    Replace,
    /// It changes columns of the existing row (`ON CONFLICT (…) DO UPDATE SET …`). Expressions see the existing row
    /// under the table's name or alias and the new one as `excluded`.
    Update {
        /// The key columns as typed; empty where none were.
        key: Vec<String>,
        /// What is set.
        set: Vec<Assignment>,
    },
}

/// `INSERT INTO t [AS alias] [(…)] query [ON CONFLICT …]`
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// The table.
    pub table: TableName,
    /// Another name of it in `ON CONFLICT … SET`.
    pub alias: Option<String>,
    /// The columns that the source fills, in its order; empty means all in table order.
    pub columns: Vec<String>,
    /// The rows; often `VALUES`. `DEFAULT` in `VALUES` stands there as an unquoted identifier: see
    /// [`Insert::fill_defaults`].
    pub source: Box<ast::Query>,
    /// The source as text.
    pub source_sql: String,
    /// What happens with a key that exists.
    pub on_conflict: OnConflict,
}

/// `column = value` in a SET list.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The column as typed.
    pub column: String,
    /// The value; none means the column's default (`= DEFAULT`).
    pub value: Option<Expression>,
}

/// `UPDATE t [AS alias] SET … [WHERE …]`
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The table.
    pub table: TableName,
    /// Another name of it in the expressions.
    pub alias: Option<String>,
    /// What is set, no column twice. All expressions see the old row.
    pub set: Vec<Assignment>,
    /// Which rows; none means all.
    pub selection: Option<Expression>,
}

/// `DELETE FROM t [AS alias] [WHERE …]`
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// The table.
    pub table: TableName,
    /// Another name of it in the expression.
    pub alias: Option<String>,
    /// Which rows; none means all.
    pub selection: Option<Expression>,
}

/// `DROP TABLE [IF EXISTS] t [, …]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropTable {
    /// The tables, each once.
    pub names: Vec<TableName>,
    /// Whether a missing table is no error.
    pub if_exists: bool,
}

/// A query, or what is asked about its plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The query. It only reads.
    pub query: Box<ast::Query>,
    /// The query as text, without `EXPLAIN`.
    pub sql: String,
    /// Set when the plan is asked for and not the rows.
    pub plan: Option<QueryPlan>,
}

/// `EXPLAIN [ANALYZE] [VERBOSE] [FORMAT f]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryPlan {
    /// Whether the query runs and is measured.
    pub analyze: bool,
    /// Whether every step of planning is shown.
    pub verbose: bool,
    /// The form: `indent`, `tree`, `pgjson` or `graphviz`, in lower case; none means the default.
    pub format: Option<String>,
}
