//! Keepfast's statements as an AST: `BACKUP`, `RESTORE`, `VERIFY` and their kin, the definitions and changes of
//! embedded tables, and any query.
//!
//! [`parse`] reads a text of several statements. What is ours is parsed here, on top of sqlparser's tokens;
//! expressions and queries are sqlparser's own trees, read with the dialect that DataFusion uses by default.
//! Invariant: a statement is kept in full or refused by name and place; nothing that was typed is silently dropped,
//! and no text makes the parser panic. The grammar is in `docs/sql.md`; start reading at [`statement`].
//!
//! Names keep the case they were typed in, with or without quotes; whoever looks a table or a column up compares
//! without regard to case. A quoted name may hold any character and is never a keyword.

mod clauses;
mod create_table;
mod error;
mod moment;
mod options;
mod parser;
mod queries;
mod source;
mod statement;
mod types;
mod writes;

pub use error::{SqlError, TextPosition};
pub use moment::parse_moment;
pub use options::{
    BackupMode, BackupOptions, CertifyLevel, Encryption, IfExists, OptionValueError, RestoreOptions,
    VerifyLevel,
};
pub use parser::{parse, parse_expression, parse_one};
pub use source::is_complete;
pub use statement::{
    Address, AsOf, Assignment, Backup, CreateTable, DatabaseName, Delete, DropTable, Expression, Insert,
    Located, OnConflict, Query, QueryPlan, Restore, RestoreScope, RestoreTable, Scope, Statement, Update,
    Verify,
};
pub use types::parse_column_type;

/// The version of sqlparser whose trees [`Expression`] and [`Query`] hold.
pub use sqlparser;
