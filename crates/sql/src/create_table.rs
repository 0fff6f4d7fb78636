//! CREATE TABLE: columns and a key, and nothing that the embedded Table Store would forget.

use crate::error::SqlError;
use crate::parser::{Cursor, same};
use crate::statement::{CreateTable, Expression};
use crate::types::parse_column_type;
use keepfast_model::{Column, ColumnId, ModelError, TableSchema, TableShape};
use sqlparser::ast::{self, Expr, Visit, Visitor};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Words that end a DEFAULT expression, as they begin the next property of the column.
const PROPERTIES: [&str; 16] = [
    "AUTOINCREMENT",
    "AUTO_INCREMENT",
    "CHARACTER",
    "CHARSET",
    "CHECK",
    "COLLATE",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "GENERATED",
    "KEY",
    "ON",
    "PRIMARY",
    "REFERENCES",
    "STORED",
    "UNIQUE",
];

const NO_INDEX: &str = "the embedded Table Store has no secondary indexes; leave it out";

/// What is known of a table while its parts are read.
#[derive(Default)]
struct Draft {
    columns: Vec<Column>,
    /// Names of the columns in lower case.
    names: HashSet<String>,
    /// Names of the key columns, once it was stated.
    key: Option<Vec<String>>,
    /// Columns that were declared NULL in so many words.
    stated_null: Vec<ColumnId>,
}

impl Cursor<'_> {
    /// `CREATE TABLE [IF NOT EXISTS] t (…)`
    pub(crate) fn create_table(&mut self) -> Result<CreateTable, SqlError> {
        self.accept(&["CREATE"]);
        if !self.accept(&["TABLE"]) {
            return Err(self.other_create());
        }
        let if_not_exists = self.accept(&["IF", "NOT", "EXISTS"]);
        let at = self.at();
        let name = self.table_name()?;
        if self.sees(&["AS"]) || self.sees_query() {
            return Err(self.unsupported("CREATE TABLE … AS", "create the table, then INSERT INTO … SELECT"));
        }
        if self.sees(&["LIKE"]) {
            return Err(self.unsupported("CREATE TABLE … LIKE", "list the columns"));
        }
        self.expect_token(&Token::LParen, "'(' and the columns")?;
        let mut draft = Draft::default();
        loop {
            self.table_part(&mut draft)?;
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen, "',' or ')' after a column")?;
        if !self.is_done() {
            return Err(self.table_option());
        }
        let schema = draft.finish(&name.to_string(), at)?;
        Ok(CreateTable { name, schema, if_not_exists })
    }

    /// CREATE of something else, or in some other way.
    fn other_create(&self) -> SqlError {
        let first = self.word(0).unwrap_or_default().to_ascii_uppercase();
        let instead = match first.as_str() {
            "OR" => "write DROP TABLE IF EXISTS t, then CREATE TABLE",
            "TEMP" | "TEMPORARY" | "UNLOGGED" | "GLOBAL" | "LOCAL" => {
                "every table is kept; leave the word out"
            }
            "EXTERNAL" => "use keepfast import",
            "INDEX" | "UNIQUE" => NO_INDEX,
            "VIEW" | "MATERIALIZED" | "RECURSIVE" => "write the query where it is needed",
            "DATABASE" | "SCHEMA" => "a database is there once it holds a table: write database.table",
            "FUNCTION" | "TRIGGER" | "SEQUENCE" | "USER" | "ROLE" | "TYPE" | "EXTENSION" | "PROCEDURE" => {
                "the embedded Table Store has tables only"
            }
            _ => return self.expected("TABLE after CREATE"),
        };
        self.unsupported(format!("CREATE {first}"), instead)
    }

    /// What stands behind the closing bracket.
    fn table_option(&self) -> SqlError {
        let Some(word) = self.word(0).map(str::to_ascii_uppercase) else {
            return self.expected("the end of the statement");
        };
        let instead = match word.as_str() {
            "PARTITION" | "PARTITIONED" | "CLUSTER" | "CLUSTERED" | "DISTRIBUTED" => {
                "the embedded Table Store places rows itself; leave it out"
            }
            "COMMENT" | "ENGINE" | "DEFAULT" | "CHARSET" | "CHARACTER" | "COLLATE" | "AUTO_INCREMENT"
            | "ROW_FORMAT" | "WITH" | "WITHOUT" | "OPTIONS" | "TABLESPACE" | "STORED" | "LOCATION"
            | "INHERITS" | "STRICT" => "the embedded Table Store would not keep it; leave it out",
            "AS" | "SELECT" => "create the table, then INSERT INTO … SELECT",
            _ => return self.expected("the end of the statement"),
        };
        self.unsupported(format!("{word} behind the columns"), instead)
    }

    /// A column or a constraint of the table.
    fn table_part(&mut self, draft: &mut Draft) -> Result<(), SqlError> {
        if self.sees(&["CONSTRAINT"]) {
            self.accept(&["CONSTRAINT"]);
            if !self.sees(&["PRIMARY", "KEY"]) && self.refused_constraint().is_none() {
                self.name("a constraint's name")?;
            }
            if !self.sees(&["PRIMARY", "KEY"]) {
                return Err(self.refused_constraint().unwrap_or_else(|| self.expected("PRIMARY KEY")));
            }
        }
        if self.sees(&["PRIMARY", "KEY"]) {
            return self.table_key(draft);
        }
        if let Some(error) = self.refused_constraint() {
            return Err(error);
        }
        self.column(draft)
    }

    /// The error for a constraint or an index, if one begins here.
    fn refused_constraint(&self) -> Option<SqlError> {
        let opens = |n: usize| self.parser.peek_nth_token_ref(n).token == Token::LParen;
        // `key TEXT` and `key DECIMAL(10,2)` are columns, `KEY (a)` and `KEY by_name (a)` are indexes.
        let names_index = |n: usize| {
            let is_type = self.word(n).is_some_and(|word| parse_column_type(word).is_ok());
            opens(n) || (!is_type && opens(n + 1)) || self.sees_at(n, "USING") || self.sees_at(n + 1, "USING")
        };
        let word = self.word(0)?.to_ascii_uppercase();
        let (what, instead) = match word.as_str() {
            "UNIQUE" => ("UNIQUE", "only the primary key is unique; make it the key, or leave it out"),
            "FOREIGN" if self.sees_at(1, "KEY") => ("FOREIGN KEY", "leave it out, and check with a query"),
            "CHECK" if opens(1) => ("CHECK", "leave it out, and check with a query"),
            "EXCLUDE" if opens(1) || self.sees_at(1, "USING") => ("EXCLUDE", "leave it out"),
            "PERIOD" if self.sees_at(1, "FOR") => ("PERIOD FOR", "leave it out"),
            "LIKE" => ("LIKE", "list the columns"),
            "INDEX" | "KEY" if names_index(1) => ("an index", NO_INDEX),
            "FULLTEXT" | "SPATIAL" if self.sees_at(1, "KEY") || self.sees_at(1, "INDEX") => {
                ("an index", NO_INDEX)
            }
            _ => return None,
        };
        Some(self.unsupported(what, instead))
    }

    fn sees_at(&self, n: usize, word: &str) -> bool {
        self.word(n).is_some_and(|found| found.eq_ignore_ascii_case(word))
    }

    /// `PRIMARY KEY (a, b)`
    fn table_key(&mut self, draft: &mut Draft) -> Result<(), SqlError> {
        let at = self.at();
        self.accept(&["PRIMARY", "KEY"]);
        self.expect_token(&Token::LParen, "'(' and the key's columns")?;
        let mut names: Vec<String> = vec![];
        loop {
            let at = self.at();
            let name = self.name("a key column's name")?;
            if names.iter().any(|n| same(n, &name)) {
                return Err(SqlError::doubled("key column", &name, at));
            }
            names.push(name);
            if self.peek().token == Token::LParen {
                return Err(self.unsupported("a key on a part of a column", "name the whole column"));
            }
            if self.sees(&["ASC"]) || self.sees(&["DESC"]) {
                return Err(
                    self.unsupported("an order in the key", "keys are in ascending order; leave it out")
                );
            }
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen, "',' or ')' after a key column")?;
        if draft.key.replace(names).is_some() {
            return Err(SqlError::doubled("clause", "PRIMARY KEY", at));
        }
        if !matches!(self.peek().token, Token::Comma | Token::RParen) {
            return Err(self.expected("',' or ')' after the key"));
        }
        Ok(())
    }

    /// `name type [property …]`
    fn column(&mut self, draft: &mut Draft) -> Result<(), SqlError> {
        let at = self.at();
        let name = self.name("a column's name")?;
        if !draft.names.insert(name.to_lowercase()) {
            return Err(SqlError::doubled("column", &name, at));
        }
        let declared = self.column_type()?;
        // An input that long has no 2^31 columns; `check` refuses ids that are too large.
        let id = ColumnId(u32::try_from(draft.columns.len()).map_or(u32::MAX, |n| n.saturating_add(1)));
        let mut column = Column {
            id,
            name,
            column_type: declared.column_type,
            nullable: true,
            default: None,
            origin: declared.origin,
        };
        let mut null_stated = None;
        while !matches!(self.peek().token, Token::Comma | Token::RParen | Token::EOF) {
            self.property(&mut column, &mut null_stated, draft)?;
        }
        match null_stated {
            Some(true) => draft.stated_null.push(id),
            Some(false) => column.nullable = false,
            None => {}
        }
        draft.columns.push(column);
        Ok(())
    }

    /// One property of a column.
    fn property(
        &mut self,
        column: &mut Column,
        null_stated: &mut Option<bool>,
        draft: &mut Draft,
    ) -> Result<(), SqlError> {
        let at = self.at();
        let doubled = |name: &str| SqlError::doubled("property", name, at);
        if self.accept(&["NOT", "NULL"]) {
            return if null_stated.replace(false).is_some() { Err(doubled("NULL")) } else { Ok(()) };
        }
        if self.accept(&["NULL"]) {
            return if null_stated.replace(true).is_some() { Err(doubled("NULL")) } else { Ok(()) };
        }
        if self.accept(&["DEFAULT"]) {
            let default = self.default_value()?.sql;
            return if column.default.replace(default).is_some() { Err(doubled("DEFAULT")) } else { Ok(()) };
        }
        if self.accept(&["PRIMARY", "KEY"]) {
            if self.sees(&["ASC"]) || self.sees(&["DESC"]) {
                return Err(
                    self.unsupported("an order in the key", "keys are in ascending order; leave it out")
                );
            }
            return match draft.key.replace(vec![column.name.clone()]) {
                Some(_) => Err(SqlError::doubled("clause", "PRIMARY KEY", at)),
                None => Ok(()),
            };
        }
        if self.sees(&["CONSTRAINT"]) {
            self.accept(&["CONSTRAINT"]);
            self.name("a constraint's name")?;
            if self.sees(&["NOT", "NULL"]) || self.sees(&["PRIMARY", "KEY"]) {
                return Ok(());
            }
        }
        Err(self.refused_property())
    }

    fn refused_property(&self) -> SqlError {
        let word = self.word(0).unwrap_or_default().to_ascii_uppercase();
        let not_kept = "the embedded Table Store would not keep it; leave it out";
        let (what, instead) = match word.as_str() {
            "UNIQUE" => ("UNIQUE", "only the primary key is unique; make it the key, or leave it out"),
            "KEY" => ("KEY", "write PRIMARY KEY"),
            "REFERENCES" => ("REFERENCES", "leave it out, and check with a query"),
            "CHECK" => ("CHECK", "leave it out, and check with a query"),
            "AUTO_INCREMENT" | "AUTOINCREMENT" | "IDENTITY" => {
                (word.as_str(), "give the numbers in each INSERT")
            }
            "GENERATED" | "AS" => ("a generated column", "compute it in the query"),
            "COMMENT" | "COLLATE" | "CHARACTER" | "CHARSET" | "INVISIBLE" | "STORED" | "VIRTUAL"
            | "COMPRESSION" | "ENCODE" | "OPTIONS" | "TAG" => (word.as_str(), not_kept),
            "ON" => ("ON UPDATE", not_kept),
            "ASC" | "DESC" => (word.as_str(), not_kept),
            _ => return self.expected("NOT NULL, NULL, DEFAULT, PRIMARY KEY, ',' or ')' after the type"),
        };
        self.unsupported(what, instead)
    }

    /// The expression of DEFAULT. It sees no column and no table.
    fn default_value(&mut self) -> Result<Expression, SqlError> {
        let at = self.at();
        let mut first = true;
        let mut value = self.until(|c| {
            let ends = matches!(c.peek().token, Token::Comma | Token::RParen);
            if std::mem::take(&mut first) || ends {
                return ends;
            }
            let previous = &c.parser.get_current_token().token;
            let after = |keyword| crate::parser::is_keyword(previous, keyword);
            let null = (c.sees(&["NOT", "NULL"]) && !after(Keyword::IS))
                || (c.sees(&["NULL"]) && !after(Keyword::IS) && !after(Keyword::NOT));
            null || c.word(0).is_some_and(|w| PROPERTIES.iter().any(|p| p.eq_ignore_ascii_case(w)))
        });
        if value.is_done() {
            return Err(self.expected("an expression after DEFAULT"));
        }
        let default = value.expression()?;
        if !value.is_done() {
            return Err(value.expected("the end of the expression after DEFAULT"));
        }
        if let ControlFlow::Break((what, instead)) = default.ast.visit(&mut Constant) {
            return Err(SqlError::Unsupported { what: what.into(), instead: instead.into(), at });
        }
        Ok(default)
    }
}

impl Draft {
    fn finish(mut self, table: &str, at: crate::error::TextPosition) -> Result<TableSchema, SqlError> {
        let refuse =
            |reason: String| SqlError::definition(ModelError::Schema { table: table.to_owned(), reason }, at);
        let mut key = vec![];
        for name in self.key.unwrap_or_default() {
            let column = self
                .columns
                .iter_mut()
                .find(|c| same(&c.name, &name))
                .ok_or_else(|| refuse(format!("the key names column '{name}', which does not exist")))?;
            if self.stated_null.contains(&column.id) {
                return Err(refuse(format!("key column '{}' is declared NULL", column.name)));
            }
            column.nullable = false;
            key.push(column.id);
        }
        let schema = TableSchema { columns: self.columns, key, shape: TableShape::Rows };
        schema.check(table).map_err(|source| SqlError::definition(source, at))?;
        Ok(schema)
    }
}

/// Breaks at what a default cannot see.
struct Constant;

impl Visitor for Constant {
    type Break = (&'static str, &'static str);

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Self::Break> {
        ControlFlow::Break(("a query in DEFAULT", "write a constant or a function"))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break((
                "a column in DEFAULT",
                "write a constant or a function; text stands in single quotes",
            )),
            _ => ControlFlow::Continue(()),
        }
    }
}
