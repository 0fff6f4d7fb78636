//! INSERT, REPLACE, UPDATE, DELETE and DROP TABLE on one table each.

use crate::clauses::folded;
use crate::error::{SqlError, without_secrets};
use crate::parser::{Cursor, same};
use crate::statement::{Assignment, Delete, DropTable, Insert, OnConflict, Update};
use keepfast_model::TableName;
use sqlparser::ast::{Expr, Ident, SetExpr, Value};
use sqlparser::tokenizer::Token;
use std::collections::HashSet;

const ONE_TABLE: &str = "name one table, and reach others in a subquery";
const RETURNING: (&str, &str) = ("RETURNING", "query the rows before or after");
const LIMIT: &str = "say which rows with WHERE, such as WHERE id IN (SELECT … LIMIT n)";

impl Cursor<'_> {
    /// `INSERT …`, `REPLACE …`
    pub(crate) fn insert(&mut self) -> Result<Insert, SqlError> {
        let mut on_conflict = OnConflict::Fail;
        if self.accept(&["REPLACE"]) {
            on_conflict = OnConflict::Replace;
        } else {
            self.accept(&["INSERT"]);
            if self.accept(&["OR", "REPLACE"]) {
                on_conflict = OnConflict::Replace;
            } else if self.accept(&["OR", "IGNORE"]) || self.accept(&["IGNORE"]) {
                on_conflict = OnConflict::Nothing { key: vec![] };
            } else if self.sees(&["OR"]) {
                return Err(self.unsupported("INSERT OR …", "write OR REPLACE or OR IGNORE"));
            }
        }
        if self.sees(&["OVERWRITE"]) {
            return Err(self.unsupported("INSERT OVERWRITE", "write DELETE FROM t, then INSERT"));
        }
        if !self.accept(&["INTO"]) {
            return Err(self.expected("INTO"));
        }
        let table = self.table_name()?;
        let alias = if self.accept(&["AS"]) { Some(self.name("an alias")?) } else { None };
        let columns = match self.peek().token {
            Token::LParen if !self.sees_query() => self.column_list()?,
            _ => vec![],
        };
        for (words, instead) in [
            (&["DEFAULT", "VALUES"][..], "write VALUES (DEFAULT, …)"),
            (&["SET"], "write (columns) VALUES (values)"),
            (&["PARTITION"], "leave it out"),
            (&["OVERRIDING"], "leave it out"),
        ] {
            if self.sees(words) {
                return Err(self.unsupported(format!("INSERT … {}", words.join(" ")), instead));
            }
        }
        if !self.sees_query() {
            return Err(self.expected("VALUES or a query"));
        }
        let at = self.at();
        let (source, source_sql) = self.query()?;
        if let SetExpr::Values(values) = source.body.as_ref() {
            let width = match (columns.len(), values.rows.first()) {
                (0, Some(first)) => first.len(),
                (n, _) => n,
            };
            if let Some((n, row)) = values.rows.iter().enumerate().find(|(_, row)| row.len() != width) {
                return Err(SqlError::Syntax {
                    expected: format!("{width} values in each row"),
                    found: format!("{} in row {}", row.len(), n + 1),
                    at,
                });
            }
        }
        self.conflict(&mut on_conflict, &table, alias.as_deref())?;
        self.refuse_tail()?;
        Ok(Insert { table, alias, columns, source, source_sql, on_conflict })
    }

    /// `ON CONFLICT [(key)] DO NOTHING | DO UPDATE SET …`
    fn conflict(
        &mut self,
        on_conflict: &mut OnConflict,
        table: &TableName,
        alias: Option<&str>,
    ) -> Result<(), SqlError> {
        if self.sees(&["ON", "DUPLICATE"]) {
            let instead = "write ON CONFLICT (key) DO UPDATE SET a = excluded.a";
            return Err(self.unsupported("ON DUPLICATE KEY UPDATE", instead));
        }
        let at = self.at();
        if !self.accept(&["ON", "CONFLICT"]) {
            return Ok(());
        }
        if *on_conflict != OnConflict::Fail {
            return Err(SqlError::doubled("rule for existing keys", "ON CONFLICT", at));
        }
        if self.sees(&["ON"]) {
            return Err(self.unsupported("ON CONSTRAINT", "name the key's columns"));
        }
        let key = if self.peek().token == Token::LParen { self.column_list()? } else { vec![] };
        if self.sees(&["WHERE"]) {
            return Err(self.unsupported("WHERE behind the key", "leave it out"));
        }
        if self.accept(&["DO", "NOTHING"]) {
            *on_conflict = OnConflict::Nothing { key };
            return Ok(());
        }
        if !self.accept(&["DO", "UPDATE", "SET"]) {
            return Err(self.expected("DO NOTHING or DO UPDATE SET after ON CONFLICT"));
        }
        let set = self.assignments(table, alias)?;
        if self.sees(&["WHERE"]) {
            return Err(self.unsupported("WHERE behind DO UPDATE", "use CASE in the values"));
        }
        *on_conflict = OnConflict::Update { key, set };
        Ok(())
    }

    /// `a = expression [, …]`, no column twice.
    fn assignments(&mut self, table: &TableName, alias: Option<&str>) -> Result<Vec<Assignment>, SqlError> {
        let mut set: Vec<Assignment> = vec![];
        let mut seen = HashSet::new();
        loop {
            if self.peek().token == Token::LParen {
                return Err(self.unsupported("setting several columns at once", "write a = …, b = …"));
            }
            let at = self.at();
            let mut parts = self.dotted("a column's name", usize::MAX)?;
            let column = parts.pop().unwrap_or_default();
            let full = [table.store.as_deref(), Some(&table.database), Some(&table.table)];
            let full: Vec<&str> = full.into_iter().flatten().collect();
            let is_own = full.len() >= parts.len()
                && full[full.len() - parts.len()..].iter().zip(&parts).all(|(a, b)| same(a, b));
            let is_alias = matches!((parts.as_slice(), alias), ([part], Some(alias)) if same(part, alias));
            if !is_own && !is_alias {
                return Err(SqlError::Unsupported {
                    what: format!("setting a column of '{}'", without_secrets(&parts.join("."))),
                    instead: ONE_TABLE.into(),
                    at,
                });
            }
            if !seen.insert(column.to_lowercase()) {
                return Err(SqlError::doubled("column", &column, at));
            }
            self.expect_token(&Token::Eq, &format!("'=' after the column '{}'", without_secrets(&column)))?;
            let value = if self.accept(&["DEFAULT"]) { None } else { Some(self.expression()?) };
            set.push(Assignment { column, value });
            if !self.accept_token(&Token::Comma) {
                return Ok(set);
            }
        }
    }

    /// `UPDATE t [AS alias] SET … [WHERE …]`
    pub(crate) fn update(&mut self) -> Result<Update, SqlError> {
        self.accept(&["UPDATE"]);
        for word in ["OR", "IGNORE", "LOW_PRIORITY", "ONLY"] {
            // A table may bear such a name: then SET or an alias follows, not another name.
            if self.sees(&[word]) && !self.sees(&[word, "SET"]) && !self.sees(&[word, "AS"]) {
                return Err(self.unsupported(format!("UPDATE {word}"), "leave it out"));
            }
        }
        let (table, alias) = self.target(&["SET"])?;
        if !self.accept(&["SET"]) {
            return Err(match self.peek().token {
                Token::Comma => self.unsupported("UPDATE of several tables", ONE_TABLE),
                _ if self.sees_join() => self.unsupported("UPDATE of several tables", ONE_TABLE),
                _ => self.expected("SET after the table's name"),
            });
        }
        let set = self.assignments(&table, alias.as_deref())?;
        if self.sees(&["FROM"]) {
            return Err(self.unsupported("UPDATE … FROM", ONE_TABLE));
        }
        let selection = if self.accept(&["WHERE"]) { Some(self.expression()?) } else { None };
        self.refuse_tail()?;
        Ok(Update { table, alias, set, selection })
    }

    /// `DELETE FROM t [AS alias] [WHERE …]`
    pub(crate) fn delete(&mut self) -> Result<Delete, SqlError> {
        self.accept(&["DELETE"]);
        if !self.accept(&["FROM"]) {
            return Err(self.expected("FROM after DELETE"));
        }
        let (table, alias) = self.target(&["WHERE"])?;
        if self.sees(&["USING"]) || self.peek().token == Token::Comma || self.sees_join() {
            return Err(self.unsupported("DELETE from several tables", ONE_TABLE));
        }
        let selection = if self.accept(&["WHERE"]) { Some(self.expression()?) } else { None };
        self.refuse_tail()?;
        Ok(Delete { table, alias, selection })
    }

    /// `t [[AS] alias]`; an alias is none of the words that follow.
    fn target(&mut self, next: &[&str]) -> Result<(TableName, Option<String>), SqlError> {
        let table = self.table_name()?;
        if self.accept(&["AS"]) {
            return Ok((table, Some(self.name("an alias")?)));
        }
        let follows = |word: &str| {
            let words =
                ["USING", "RETURNING", "JOIN", "INNER", "LEFT", "RIGHT", "CROSS", "FULL", "NATURAL", "FROM"];
            let more = ["ORDER", "LIMIT", "PARTITION"];
            next.iter().chain(&words).chain(&more).any(|w| w.eq_ignore_ascii_case(word))
        };
        let alias = match &self.peek().token {
            Token::Word(word) if word.quote_style.is_some() || !follows(&word.value) => {
                Some(self.name("an alias")?)
            }
            _ => None,
        };
        Ok((table, alias))
    }

    fn sees_join(&self) -> bool {
        ["JOIN", "INNER", "LEFT", "RIGHT", "CROSS", "FULL", "NATURAL"].iter().any(|w| self.sees(&[w]))
    }

    /// Refuses the clauses that other systems know behind a change of data.
    fn refuse_tail(&self) -> Result<(), SqlError> {
        if self.sees(&["RETURNING"]) {
            return Err(self.unsupported(RETURNING.0, RETURNING.1));
        }
        for word in ["ORDER", "LIMIT"] {
            if self.sees(&[word]) {
                return Err(self.unsupported(format!("{word} behind a change of data"), LIMIT));
            }
        }
        Ok(())
    }

    /// `[IF EXISTS] t [, …]`, behind DROP TABLE.
    pub(crate) fn drop_table(&mut self) -> Result<DropTable, SqlError> {
        let if_exists = self.accept(&["IF", "EXISTS"]);
        let mut names: Vec<TableName> = vec![];
        let mut seen = HashSet::new();
        loop {
            let at = self.at();
            let name = self.table_name()?;
            if !seen.insert(folded(&name)) {
                return Err(SqlError::doubled("table", &name.to_string(), at));
            }
            names.push(name);
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        for word in ["CASCADE", "RESTRICT", "PURGE"] {
            if self.sees(&[word]) {
                return Err(self.unsupported(format!("DROP TABLE … {word}"), "leave it out"));
            }
        }
        Ok(DropTable { names, if_exists })
    }
}

impl Insert {
    /// Puts `default(i)` in the place of every `DEFAULT` that stands as the `i`th value of a row of `VALUES`, and
    /// says whether there was one. `i` counts from 0 in the order of [`Insert::columns`], or of the table's columns
    /// where none are listed. `source_sql` stays as it was.
    pub fn fill_defaults(&mut self, mut default: impl FnMut(usize) -> Option<Expr>) -> bool {
        let SetExpr::Values(values) = self.source.body.as_mut() else { return false };
        let mut found = false;
        for row in &mut values.rows {
            for (i, value) in row.iter_mut().enumerate() {
                if matches!(value, Expr::Identifier(Ident { value, quote_style: None, .. }) if value.eq_ignore_ascii_case("DEFAULT"))
                {
                    found = true;
                    *value = default(i).unwrap_or_else(|| Expr::Value(Value::Null.into()));
                }
            }
        }
        found
    }
}
