//! `CREATE TABLE` of a dump as a schema.

use super::Table;
use super::scan::{Dump, Token};
use crate::error::{FilesError, shown};
use crate::import::{Growing, Target};
use crate::options::ImportOptions;
use keepfast_model::{ColumnType, TableSchema};
use std::sync::Arc;

impl Dump<'_> {
    pub(super) fn create_table(&mut self, tables: &mut Vec<Table>) -> Result<(), FilesError> {
        let start = self.at;
        if self.eat_word("IF")? {
            self.eat_word("NOT")?;
            self.eat_word("EXISTS")?;
        }
        let name = self.name()?;
        self.expect(b'(')?;
        let mut columns: Vec<(String, ColumnType, bool)> = vec![];
        let mut key: Vec<String> = vec![];
        // An item that a version comment ends leaves its comma inside the comment.
        while !self.eat(b')')? {
            let before = self.at;
            let token = self.next()?;
            let word = if let Token::Word(word) = token { word.to_ascii_uppercase() } else { String::new() };
            match word.as_str() {
                "CONSTRAINT" | "PRIMARY" => {
                    if word == "CONSTRAINT" && !self.eat_word("PRIMARY")? {
                        self.name()?;
                    }
                    if word == "PRIMARY" || self.eat_word("PRIMARY")? {
                        self.eat_word("KEY")?;
                        key = self.names()?;
                    }
                }
                "KEY" | "INDEX" | "UNIQUE" | "FULLTEXT" | "SPATIAL" | "FOREIGN" | "CHECK" => {}
                _ => {
                    self.at = before;
                    let column = self.name()?;
                    let (column_type, rest) = self.column_type()?;
                    let has = |words: &[&str]| rest.windows(words.len()).any(|w| w == words);
                    if has(&["PRIMARY", "KEY"]) {
                        key = vec![column.clone()];
                    }
                    columns.push((column, column_type, !has(&["NOT", "NULL"])));
                }
            }
            self.skip_item()?;
        }
        self.skip_past(b';')?;
        for (column, _, nullable) in &mut columns {
            *nullable &= !key.iter().any(|k| k.eq_ignore_ascii_case(column));
        }
        let spelled = |k: &String| columns.iter().map(|c| c.0.as_str()).find(|c| c.eq_ignore_ascii_case(k));
        let key: Vec<String> = key.iter().map(|k| spelled(k).unwrap_or(k).to_owned()).collect();
        let schema = TableSchema::of(columns, &key.iter().map(String::as_str).collect::<Vec<_>>());
        let schema =
            schema.map_err(|e| FilesError::Malformed { place: self.place(start), reason: e.to_string() })?;
        let target = Arc::new(Target::new(schema, ImportOptions::default()));
        tables.push(Table { name, rows: Growing::new(target.clone()), target, batches: vec![] });
        Ok(())
    }

    /// Names in parentheses; lengths of key prefixes are left out.
    pub(super) fn names(&mut self) -> Result<Vec<String>, FilesError> {
        let mut names = vec![];
        self.expect(b'(')?;
        loop {
            names.push(self.name()?);
            if self.eat(b'(')? {
                self.skip_past(b')')?;
            }
            if self.eat(b')')? {
                return Ok(names);
            }
            self.expect(b',')?;
        }
    }

    /// Steps to the end of an item of a table's definition, past its comma.
    fn skip_item(&mut self) -> Result<(), FilesError> {
        let mut depth = 0u32;
        loop {
            let before = self.at;
            match self.next()? {
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') if depth == 0 => {
                    self.at = before;
                    return Ok(());
                }
                Token::Symbol(b')') => depth -= 1,
                Token::Symbol(b',') if depth == 0 => return Ok(()),
                Token::End => return self.expected("')'", &Token::End),
                _ => {}
            }
        }
    }

    /// A column's type, and the words that follow it, in upper case.
    fn column_type(&mut self) -> Result<(ColumnType, Vec<String>), FilesError> {
        use ColumnType::*;
        let start = self.at;
        let name = self.name()?.to_ascii_uppercase();
        let mut arguments: Vec<u32> = vec![];
        if self.eat(b'(')? {
            loop {
                match self.next()? {
                    Token::Number(n) => arguments.extend(n.parse::<u32>().ok()),
                    Token::Symbol(b')') => break,
                    Token::End => return self.expected("')'", &Token::End),
                    _ => {}
                }
            }
        }
        let mut words = vec![];
        let end = self.at;
        while let Token::Word(word) = self.next()? {
            words.push(word.to_ascii_uppercase());
        }
        self.at = end;
        let unsigned = words.iter().any(|w| w == "UNSIGNED");
        let length = arguments.first().copied();
        let integer = |signed, without| if unsigned { without } else { signed };
        let column_type = match name.as_str() {
            "BOOLEAN" | "BOOL" => Boolean,
            "TINYINT" => integer(Int8, UInt8),
            "SMALLINT" => integer(Int16, UInt16),
            "MEDIUMINT" | "INT" | "INTEGER" => integer(Int32, UInt32),
            "BIGINT" => integer(Int64, UInt64),
            "YEAR" => Int16,
            "FLOAT" => Float32,
            "DOUBLE" | "REAL" => Float64,
            "DECIMAL" | "NUMERIC" | "DEC" => {
                let (precision, scale) = (length.unwrap_or(10), arguments.get(1).copied().unwrap_or(0));
                if !(1..=38).contains(&precision) || scale > precision {
                    return Err(self.error(format!("DECIMAL({precision},{scale}) has too many digits")));
                }
                // Both are at most 38.
                Decimal { precision: precision as u8, scale: scale as u8 }
            }
            "CHAR" => Char { length: length.unwrap_or(1) },
            "VARCHAR" => Varchar { length },
            "ENUM" | "SET" => Varchar { length: None },
            "TEXT" | "TINYTEXT" | "MEDIUMTEXT" | "LONGTEXT" => Text,
            "BINARY" => Binary { length: length.unwrap_or(1) },
            "VARBINARY" => Varbinary { length },
            "BLOB" | "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB" | "GEOMETRY" | "POINT" | "LINESTRING"
            | "POLYGON" => Blob,
            "DATE" => Date,
            "TIME" => Time,
            "DATETIME" => Timestamp { zone: false },
            "TIMESTAMP" => Timestamp { zone: true },
            "JSON" => Json,
            _ => {
                let reason = format!("columns of type {} are not read", shown(&name));
                return Err(FilesError::Malformed { place: self.place(start), reason });
            }
        };
        Ok((column_type, words))
    }
}
