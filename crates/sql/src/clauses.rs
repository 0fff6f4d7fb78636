//! Keepfast's own statements: BACKUP, RESTORE, VERIFY, SHOW, DESCRIBE, DROP BACKUP, UNDO.
//!
//! Clauses behind the table list may stand in any order, each once.

use crate::error::SqlError;
use crate::moment::parse_moment;
use crate::options::VerifyLevel;
use crate::parser::{Cursor, is_keyword};
use crate::statement::{
    Address, AsOf, Backup, DatabaseName, Expression, Restore, RestoreScope, RestoreTable, Scope, Statement,
    Verify,
};
use keepfast_model::{LogSeq, TableName};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;
use std::collections::HashSet;

const BACKUP_NAME: &str = "a backup's name or URL in single quotes";

impl Cursor<'_> {
    /// `BACKUP …`
    pub(crate) fn backup(&mut self) -> Result<Backup, SqlError> {
        self.accept(&["BACKUP"]);
        let (scope, list) = if self.accept(&["DATABASE"]) {
            (Scope::Database(self.database()?), "the database")
        } else if self.accept(&["TABLE"]) || self.accept(&["TABLES"]) {
            let mut tables: Vec<TableName> = vec![];
            let mut seen = HashSet::new();
            loop {
                let at = self.at();
                let table = self.table_name()?;
                if !seen.insert(folded(&table)) {
                    return Err(SqlError::doubled("table", &table.to_string(), at));
                }
                tables.push(table);
                if !self.accept_token(&Token::Comma) {
                    break;
                }
            }
            (Scope::Tables(tables), "the table list")
        } else {
            return Err(self.expected("TABLE or DATABASE after BACKUP"));
        };
        let (mut columns, mut filter, mut targets, mut options) = (None, None, None, None);
        loop {
            let at = self.at();
            if self.accept(&["COLUMNS"]) {
                once(&mut columns, "clause", "COLUMNS", at, self.column_list()?)?;
            } else if self.accept(&["WHERE"]) {
                once(&mut filter, "clause", "WHERE", at, self.filter()?)?;
            } else if self.accept(&["TO"]) {
                once(&mut targets, "clause", "TO", at, self.addresses()?)?;
            } else if self.accept(&["WITH"]) {
                once(&mut options, "clause", "WITH", at, self.backup_options()?)?;
            } else if self.is_done() && targets.is_some() {
                break;
            } else if targets.is_some() {
                return Err(self.expected("COLUMNS, WHERE, WITH or the end of the statement"));
            } else {
                return Err(self.expected(format!("TO after {list}")));
            }
        }
        Ok(Backup {
            scope,
            columns,
            filter,
            targets: targets.unwrap_or_default(),
            options: options.unwrap_or_default(),
        })
    }

    /// `RESTORE …`
    pub(crate) fn restore(&mut self) -> Result<Restore, SqlError> {
        self.accept(&["RESTORE"]);
        let (scope, list) = if self.accept(&["DATABASE"]) {
            (RestoreScope::Database(self.database()?), "the database")
        } else if self.accept(&["ALL"]) {
            self.accept(&["TABLES"]);
            (RestoreScope::All, "ALL")
        } else if self.accept(&["TABLE"]) || self.accept(&["TABLES"]) {
            (RestoreScope::Tables(self.restore_tables()?), "the table list")
        } else {
            return Err(self.expected("TABLE, DATABASE or ALL after RESTORE"));
        };
        let (mut from, mut as_of, mut columns, mut filter) = (None, None, None, None);
        let (mut into, mut options) = (None, None);
        loop {
            let at = self.at();
            if self.accept(&["FROM"]) {
                once(&mut from, "clause", "FROM", at, self.address(BACKUP_NAME)?)?;
            } else if self.sees(&["AS", "OF"]) || self.sees(&["POINT"]) {
                once(&mut as_of, "clause", "AS OF", at, self.as_of()?)?;
            } else if self.accept(&["COLUMNS"]) {
                once(&mut columns, "clause", "COLUMNS", at, self.column_list()?)?;
            } else if self.accept(&["WHERE"]) {
                once(&mut filter, "clause", "WHERE", at, self.filter()?)?;
            } else if self.accept(&["INTO"]) {
                once(&mut into, "clause", "INTO", at, self.address("a store's URL in single quotes")?)?;
            } else if self.accept(&["WITH"]) {
                once(&mut options, "clause", "WITH", at, self.restore_options()?)?;
            } else if self.is_done() && from.is_some() {
                break;
            } else if from.is_some() {
                return Err(
                    self.expected("AS OF, POINT, COLUMNS, WHERE, INTO, WITH or the end of the statement")
                );
            } else {
                return Err(self.expected(format!("FROM after {list}")));
            }
        }
        let from = from.ok_or_else(|| self.expected(format!("FROM after {list}")))?;
        Ok(Restore { scope, from, as_of, columns, filter, into, options: options.unwrap_or_default() })
    }

    /// `t [AS new] [, …]`; neither a table nor a new name stands twice.
    fn restore_tables(&mut self) -> Result<Vec<RestoreTable>, SqlError> {
        let mut tables: Vec<RestoreTable> = vec![];
        let (mut seen, mut targets) = (HashSet::new(), HashSet::new());
        loop {
            let at = self.at();
            let table = self.table_name()?;
            if !seen.insert(folded(&table)) {
                return Err(SqlError::doubled("table", &table.to_string(), at));
            }
            let renamed = !self.sees_as_of() && self.accept(&["AS"]);
            let rename = if renamed { Some(self.table_name()?) } else { None };
            let new = RestoreTable { table, rename };
            if !targets.insert(folded(target(&new))) {
                return Err(SqlError::doubled("new name", &target(&new).to_string(), at));
            }
            tables.push(new);
            if !self.accept_token(&Token::Comma) {
                return Ok(tables);
            }
        }
    }

    /// Whether the clause `AS OF` begins here, and not a new name `of`.
    fn sees_as_of(&self) -> bool {
        let behind = &self.parser.peek_nth_token_ref(2).token;
        self.sees(&["AS", "OF"]) && *behind != Token::Comma && !is_keyword(behind, Keyword::FROM)
    }

    /// `d` or `store.d`
    fn database(&mut self) -> Result<DatabaseName, SqlError> {
        let at = self.at();
        let mut parts = self.dotted("a database's name", 2)?;
        // The same rules for parts as in a table's name.
        TableName::from_parts(&parts).map_err(|source| SqlError::name(source, at))?;
        let database = parts.pop().unwrap_or_default();
        Ok(DatabaseName { store: parts.pop(), database })
    }

    fn address(&mut self, expected: &str) -> Result<Address, SqlError> {
        let at = self.at();
        let text = self.string(expected)?;
        if text.trim().is_empty() {
            return Err(SqlError::Syntax {
                expected: expected.to_owned(),
                found: "an empty string".to_owned(),
                at,
            });
        }
        Ok(Address::new(text))
    }

    fn addresses(&mut self) -> Result<Vec<Address>, SqlError> {
        let mut list = vec![];
        loop {
            let at = self.at();
            let address = self.address(BACKUP_NAME)?;
            if list.contains(&address) {
                return Err(SqlError::doubled("target", &address.to_string(), at));
            }
            list.push(address);
            if !self.accept_token(&Token::Comma) {
                return Ok(list);
            }
        }
    }

    /// The condition of WHERE. It ends before `TO '…'`, which sqlparser would take for `INTERVAL '1' DAY TO …`.
    fn filter(&mut self) -> Result<Expression, SqlError> {
        let is_target = |c: &Self| {
            c.sees(&["TO"]) && matches!(c.parser.peek_nth_token_ref(1).token, Token::SingleQuotedString(_))
        };
        let mut condition = self.until(is_target);
        let filter = condition.expression()?;
        // What stands behind the condition is a clause of this statement.
        self.give_back(&condition);
        Ok(filter)
    }

    /// `AS OF TIMESTAMP '…' | AS OF POINT n | POINT n`
    fn as_of(&mut self) -> Result<AsOf, SqlError> {
        let as_of = self.accept(&["AS", "OF"]);
        if self.accept(&["POINT"]) {
            return self.point().map(AsOf::Point);
        }
        if as_of && self.accept(&["TIMESTAMP"]) {
            let at = self.at();
            let text = self.string("a moment in single quotes")?;
            return parse_moment(&text)
                .map(AsOf::Timestamp)
                .map_err(|source| SqlError::Moment { at, source });
        }
        Err(self.expected("TIMESTAMP or POINT after AS OF"))
    }

    fn point(&mut self) -> Result<LogSeq, SqlError> {
        self.number("a point's number").map(LogSeq)
    }

    /// `VERIFY BACKUP …`
    pub(crate) fn verify(&mut self) -> Result<Verify, SqlError> {
        if !self.accept(&["VERIFY", "BACKUP"]) {
            self.parser.advance_token();
            return Err(self.expected("BACKUP after VERIFY"));
        }
        let backup = self.address(BACKUP_NAME)?;
        let (mut point, mut level, mut against) = (None, None, None);
        loop {
            let at = self.at();
            if self.accept(&["POINT"]) {
                once(&mut point, "clause", "POINT", at, self.point()?)?;
            } else if self.accept(&["LEVEL"]) {
                let value = self
                    .word(0)
                    .and_then(|word| word.parse::<VerifyLevel>().ok())
                    .ok_or_else(|| self.expected(VerifyLevel::VALID))?;
                self.parser.advance_token();
                once(&mut level, "clause", "LEVEL", at, value)?;
            } else if self.accept(&["AGAINST"]) {
                once(&mut against, "clause", "AGAINST", at, self.table_name()?)?;
            } else if self.is_done() {
                return Ok(Verify { backup, point, level, against });
            } else {
                return Err(self.expected("POINT, LEVEL, AGAINST or the end of the statement"));
            }
        }
    }

    /// `UNDO RESTORE 'id'`
    pub(crate) fn undo(&mut self) -> Result<Statement, SqlError> {
        if !self.accept(&["UNDO", "RESTORE"]) {
            self.parser.advance_token();
            return Err(self.expected("RESTORE after UNDO"));
        }
        let id = self.string("a restore's id in single quotes")?;
        Ok(Statement::UndoRestore { id })
    }

    /// `SHOW …`
    pub(crate) fn show(&mut self) -> Result<Statement, SqlError> {
        if self.accept(&["SHOW", "BACKUPS"]) {
            return Ok(Statement::ShowBackups);
        }
        if self.accept(&["SHOW", "TABLES"]) {
            return Ok(Statement::ShowTables);
        }
        if self.accept(&["SHOW", "RESTORE", "POINTS"]) {
            if !self.accept(&["FROM"]) {
                return Err(self.expected("FROM after SHOW RESTORE POINTS"));
            }
            return Ok(Statement::ShowRestorePoints { from: self.address(BACKUP_NAME)? });
        }
        self.accept(&["SHOW"]);
        Err(self.expected("BACKUPS, RESTORE POINTS or TABLES after SHOW"))
    }

    /// `DESCRIBE BACKUP 'name'`, `DESCRIBE t`
    pub(crate) fn describe(&mut self) -> Result<Statement, SqlError> {
        self.parser.advance_token();
        if self.sees_backup_and_string() {
            self.accept(&["BACKUP"]);
            return Ok(Statement::DescribeBackup { name: self.address(BACKUP_NAME)? });
        }
        self.accept(&["TABLE"]);
        Ok(Statement::DescribeTable { table: self.table_name()? })
    }

    /// `DROP BACKUP 'name'`, `DROP TABLE …`
    pub(crate) fn drop(&mut self) -> Result<Statement, SqlError> {
        self.accept(&["DROP"]);
        if self.accept(&["BACKUP"]) {
            return Ok(Statement::DropBackup { name: self.address(BACKUP_NAME)? });
        }
        if self.accept(&["TABLE"]) {
            return self.drop_table().map(Statement::DropTable);
        }
        Err(self.expected("TABLE or BACKUP after DROP"))
    }

    /// Whether the word BACKUP begins a backup's name here, and is not a table's own.
    fn sees_backup_and_string(&self) -> bool {
        self.sees(&["BACKUP"])
            && matches!(self.parser.peek_nth_token_ref(1).token, Token::SingleQuotedString(_))
    }
}

/// Sets a clause that may stand once.
pub(crate) fn once<T>(
    slot: &mut Option<T>,
    what: &'static str,
    name: &str,
    at: crate::error::TextPosition,
    value: T,
) -> Result<(), SqlError> {
    if slot.is_some() {
        return Err(SqlError::doubled(what, name, at));
    }
    *slot = Some(value);
    Ok(())
}

/// What is equal for two names that mean the same table.
pub(crate) fn folded(name: &TableName) -> (Option<String>, String, String) {
    (name.store.clone(), name.database.to_lowercase(), name.table.to_lowercase())
}

/// The name that a table gets.
fn target(table: &RestoreTable) -> &TableName {
    table.rename.as_ref().unwrap_or(&table.table)
}
