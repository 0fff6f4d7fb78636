//! Tables of a MySQL dump as rows: real input for tests.
//!
//! Reads `CREATE TABLE` and `INSERT … VALUES` as `mysqldump` and the published sample databases write them; everything
//! else (views, triggers, procedures, settings) is stepped over. Text in version comments (`/*!50705 … */`) counts, as
//! on a new server. The files are read whole, so this is not for large dumps. Invariant: every row of an INSERT is a
//! row of its table, with exact values, or there is an error with its line.

mod define;
mod scan;

use crate::error::{FilesError, shown};
use crate::import::{Growing, Target};
use arrow::array::RecordBatch;
use keepfast_model::{ColumnType, TableSchema};
use scan::{Dump, Token};
use std::path::Path;
use std::sync::Arc;

/// One table of a dump.
#[derive(Clone, Debug)]
pub struct DumpedTable {
    /// Its name, without the database.
    pub name: String,
    /// Columns and primary key. `ENUM` and `SET` are VARCHAR, `YEAR` is SMALLINT, spatial types are BLOB, `DATETIME` has no
    /// zone and `TIMESTAMP` is a moment in UTC.
    pub schema: TableSchema,
    /// Its rows as physical batches.
    pub batches: Vec<RecordBatch>,
}

/// Reads the tables that one file defines and the rows that both insert, in the order of their definitions.
///
/// # Errors
/// [`FilesError::Io`]; [`FilesError::Malformed`] with the line where the SQL is not understood;
/// [`FilesError::Value`] and [`FilesError::Null`] for rows that are not of their table.
pub fn open_sql_dump(schema_sql: &Path, data_sql: &Path) -> Result<Vec<DumpedTable>, FilesError> {
    let mut tables = vec![];
    for path in [schema_sql, data_sql] {
        let bytes = std::fs::read(path).map_err(|e| FilesError::io("read", path, e))?;
        Dump { path, bytes: &bytes, at: 0 }.read(&mut tables)?;
    }
    tables.into_iter().map(|t| t.finish(data_sql)).collect()
}

/// A table while its rows are read.
struct Table {
    name: String,
    target: Arc<Target>,
    rows: Growing,
    batches: Vec<RecordBatch>,
}

impl Table {
    fn finish(mut self, path: &Path) -> Result<DumpedTable, FilesError> {
        self.batches.extend(self.rows.finish(path)?);
        Ok(DumpedTable { name: self.name, schema: self.target.schema.clone(), batches: self.batches })
    }
}

impl Dump<'_> {
    fn read(&mut self, tables: &mut Vec<Table>) -> Result<(), FilesError> {
        loop {
            match self.next()? {
                Token::End => return Ok(()),
                Token::Word(word) => match word.to_ascii_uppercase().as_str() {
                    "DELIMITER" => self.skip_delimited(),
                    "CREATE" if self.eat_word("TABLE")? => self.create_table(tables)?,
                    "INSERT" | "REPLACE" => self.insert(tables)?,
                    _ => self.skip_past(b';')?,
                },
                _ => {}
            }
        }
    }

    fn insert(&mut self, tables: &mut [Table]) -> Result<(), FilesError> {
        self.eat_word("IGNORE")?;
        self.eat_word("INTO")?;
        let name = self.name()?;
        let Some(table) = tables.iter_mut().find(|t| t.name.eq_ignore_ascii_case(&name)) else {
            return Err(self.error(format!("table '{}' was not created before", shown(&name))));
        };
        let place = self.place(self.at);
        let before = self.at;
        let (order, lacking) = if self.eat(b'(')? {
            self.at = before;
            let names = self.names()?;
            table.target.match_columns(names.iter().map(String::as_str), &place)?
        } else {
            ((0..table.target.schema.columns.len()).collect(), vec![])
        };
        if !self.eat_word("VALUES")? {
            let found = self.next()?;
            return self.expected("VALUES", &found);
        }
        loop {
            self.expect(b'(')?;
            let start = self.at;
            for (i, at) in order.iter().enumerate() {
                if i > 0 {
                    self.expect(b',')?;
                }
                let value = self.value(&table.target.schema.columns[*at].column_type)?;
                let place = || self.place(start);
                match value {
                    None => table.rows.push_null(*at, place)?,
                    Some(text) => table.rows.push_text(*at, &text, place)?,
                }
            }
            for at in &lacking {
                table.rows.push_null(*at, || self.place(start))?;
            }
            self.expect(b')')?;
            if table.rows.end_row(self.at - start) {
                table.batches.extend(table.rows.finish(self.path)?);
            }
            match self.next()? {
                Token::Symbol(b',') => {}
                Token::Symbol(b';') | Token::End => return Ok(()),
                found => return self.expected("',' or ';'", &found),
            }
        }
    }

    /// One value as the text that its column reads; none for NULL.
    fn value(&mut self, column_type: &ColumnType) -> Result<Option<String>, FilesError> {
        let token = self.next()?;
        let bytes = match token {
            Token::Word(word) if word.eq_ignore_ascii_case("NULL") => return Ok(None),
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") => return Ok(Some("1".into())),
            Token::Word(word) if word.eq_ignore_ascii_case("FALSE") => return Ok(Some("0".into())),
            // Such as `_binary 'abc'`.
            Token::Word(word) if word.starts_with('_') => return self.value(column_type),
            Token::Symbol(b'-') => match self.next()? {
                Token::Number(number) => return Ok(Some(format!("-{number}"))),
                found => return self.expected("a number", &found),
            },
            Token::Number(number) => return Ok(Some(number.to_owned())),
            Token::Text(bytes) | Token::Bytes(bytes) => bytes,
            found => return self.expected("a value", &found),
        };
        use ColumnType::*;
        if matches!(column_type, Binary { .. } | Varbinary { .. } | Blob) {
            let mut text = String::with_capacity(2 + bytes.len() * 2);
            crate::text::write_bytes(&bytes, &mut text);
            return Ok(Some(text));
        }
        String::from_utf8(bytes).map(Some).map_err(|_| self.error("a string is not UTF-8".into()))
    }
}
