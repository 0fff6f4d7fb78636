//! Statements that make tables: the server's own where there is one, with another name.

use crate::names::{full, name_at, quoted};
use keepfast_model::{Column, ColumnType, TableSchema};
use serde::{Deserialize, Serialize};

/// How a table is made: first without indexes and foreign keys that are better made after the rows, then these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// What stands behind the name in `CREATE TABLE name`.
    body: String,
    /// Indexes, as `ALTER TABLE` adds them.
    pub later: Vec<String>,
    /// Foreign keys.
    pub foreign: Vec<ForeignKey>,
}

/// A foreign key of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForeignKey {
    pub name: String,
    pub columns: Vec<String>,
    /// The database of the table that it refers to; none is that of its own table.
    pub database: Option<String>,
    pub table: String,
    /// Columns there.
    pub refers: Vec<String>,
    /// What happens with its rows when those are changed or deleted, in the server's words.
    pub actions: String,
}

impl ForeignKey {
    /// From a line of the server's own statement; none where the line is another one.
    fn of_line(line: &str) -> Option<Self> {
        let (name, rest) = name_at(line.strip_prefix("CONSTRAINT ")?)?;
        let (columns, rest) = names_at(rest.strip_prefix(" FOREIGN KEY ")?)?;
        let (first, rest) = name_at(rest.strip_prefix(" REFERENCES ")?)?;
        let (database, table, rest) = match rest.strip_prefix('.') {
            Some(rest) => name_at(rest).map(|(table, rest)| (Some(first), table, rest))?,
            None => (None, first, rest),
        };
        let (refers, rest) = names_at(rest.strip_prefix(' ')?)?;
        Some(Self { name, columns, database, table, refers, actions: rest.trim().to_owned() })
    }

    /// As `ALTER TABLE … ADD` takes it, with another name and another table that it refers to.
    pub fn adding(&self, name: &str, database: &str, table: &str) -> String {
        format!(
            "CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}) {}",
            quoted(name),
            list(&self.columns),
            full(database, table),
            list(&self.refers),
            self.actions
        )
    }

    /// The foreign keys in a server's own statement.
    pub fn all_of(statement: &str) -> Vec<Self> {
        statement.lines().filter_map(|line| Self::of_line(line.trim().trim_end_matches(','))).collect()
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// Names in parentheses, and what follows them.
fn names_at(text: &str) -> Option<(Vec<String>, &str)> {
    let mut rest = text.strip_prefix('(')?;
    let mut names = vec![];
    loop {
        let (name, after) = name_at(rest)?;
        names.push(name);
        match after.strip_prefix(')') {
            Some(after) => return Some((names, after)),
            None => rest = after.strip_prefix(',')?.trim_start(),
        }
    }
}

impl Definition {
    /// From the server's own statement; an error for what this version does not make again.
    pub fn of_statement(statement: &str) -> Result<Self, String> {
        let wrong = || "its statement is not of the form CREATE TABLE `name` (…)".to_owned();
        let rest = statement.strip_prefix("CREATE TABLE ").ok_or_else(wrong)?;
        let (_, body) = name_at(rest).ok_or_else(wrong)?;
        let mut lines: Vec<String> = body.lines().map(str::to_owned).collect();
        let close = lines.iter().position(|line| line.starts_with(')')).ok_or_else(wrong)?;
        if lines.first().map(|line| line.trim()) != Some("(") {
            return Err(wrong());
        }
        // Partitions stand there too, and their commas stay.
        let tail = lines.split_off(close);
        let counted =
            lines.iter().find(|line| line.contains(" AUTO_INCREMENT")).and_then(|line| name_in(line));
        let (mut kept, mut later, mut foreign) = (vec![], vec![], vec![]);
        for line in lines.drain(1..) {
            let part = line.trim().trim_end_matches(',');
            if let Some(key) = ForeignKey::of_line(part) {
                foreign.push(key);
                continue;
            }
            // A column that counts must be the first of an index from the beginning.
            let counts = counted.is_some()
                && name_in(part.split_once('(').map_or("", |(_, columns)| columns)) == counted;
            match part.strip_prefix("CONSTRAINT ").and_then(|rest| rest.split_once(" CHECK ")) {
                // Names of checks are unique in a database; the replaced table keeps its own.
                Some((_, check)) => kept.push(format!("CHECK {check}")),
                None if part.starts_with("KEY ") && !counts => later.push(part.to_owned()),
                None => kept.push(part.to_owned()),
            }
        }
        Ok(Self { body: format!("({}\n{}", kept.join(",\n"), tail.join("\n")), later, foreign })
    }

    /// For a table that came from elsewhere.
    pub fn of_schema(schema: &TableSchema) -> Self {
        let mut parts: Vec<String> = schema
            .columns
            .iter()
            .map(|column| {
                let null = if column.nullable { "NULL" } else { "NOT NULL" };
                let keyed = schema.key.contains(&column.id);
                format!("{} {} {null}", quoted(&column.name), sql_type(column, keyed))
            })
            .collect();
        if !schema.key.is_empty() {
            let names: Vec<String> = schema.key_names().into_iter().map(quoted).collect();
            parts.push(format!("PRIMARY KEY ({})", names.join(", ")));
        }
        let body =
            format!("({}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin", parts.join(", "));
        Self { body, later: vec![], foreign: vec![] }
    }

    /// The statement for a table of this full name.
    pub fn create(&self, name: &str) -> String {
        format!("CREATE TABLE {name} {}", self.body)
    }
}

/// The first name in backquotes.
pub(crate) fn name_in(text: &str) -> Option<String> {
    name_at(&text[text.find('`')?..]).map(|(name, _)| name)
}

/// Characters that a text may have in a key.
const KEYED: u32 = 255;

fn sql_type(column: &Column, keyed: bool) -> String {
    let text = |length: Option<u32>| match length {
        Some(n) if n <= 16_000 => format!("VARCHAR({n})"),
        _ if keyed => format!("VARCHAR({KEYED})"),
        _ => "LONGTEXT".into(),
    };
    match &column.column_type {
        ColumnType::Boolean => "TINYINT(1)".into(),
        ColumnType::Varchar { length } => text(*length),
        ColumnType::Text => text(None),
        ColumnType::Char { length } if *length > 255 => text(Some(*length)),
        ColumnType::Binary { length } if *length <= 255 => format!("BINARY({length})"),
        ColumnType::Varbinary { length: Some(n) } if *n <= 60_000 => format!("VARBINARY({n})"),
        ColumnType::Binary { .. } | ColumnType::Varbinary { .. } | ColumnType::Blob if keyed => {
            format!("VARBINARY({KEYED})")
        }
        ColumnType::Binary { .. } | ColumnType::Varbinary { .. } | ColumnType::Blob => "LONGBLOB".into(),
        ColumnType::Time => "TIME(6)".into(),
        ColumnType::Timestamp { .. } => "DATETIME(6)".into(),
        ColumnType::Uuid => "CHAR(36)".into(),
        ColumnType::Json | ColumnType::List(_) => "LONGTEXT".into(),
        other => other.sql(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_taken_apart_and_made_again_with_another_name() {
        let statement = "CREATE TABLE `or``ders` (\n  `id` int(11) NOT NULL AUTO_INCREMENT,\n  `n` int DEFAULT 5,\n  \
            PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`n`),\n  KEY `by_n` (`n`,`id`),\n  CONSTRAINT `c` CHECK (`n` > 0)\n) \
            ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4";
        let made = Definition::of_statement(statement).unwrap();
        assert_eq!(made.later, ["KEY `by_n` (`n`,`id`)"]);
        let create = made.create("`d`.`x`");
        assert!(
            create.starts_with("CREATE TABLE `d`.`x` (`id` int(11) NOT NULL AUTO_INCREMENT,\n"),
            "{create}"
        );
        assert!(
            create.contains("UNIQUE KEY `u`") && create.contains(",\nCHECK (`n` > 0)\n) ENGINE"),
            "{create}"
        );
        for wrong in ["CREATE VIEW v", "CREATE TABLE `a", "CREATE TABLE `a` (\n  `b` int"] {
            assert!(Definition::of_statement(wrong).is_err(), "{wrong}");
        }
        let foreign = "CREATE TABLE `a` (\n  `b` int,\n  CONSTRAINT `f` FOREIGN KEY (`b`, `b``2`) REFERENCES `o`.`c` (`d`, `e`) \
            ON DELETE CASCADE,\n  CONSTRAINT `g` FOREIGN KEY (`b`) REFERENCES `a` (`b`)\n) ENGINE=InnoDB";
        let made = Definition::of_statement(foreign).unwrap();
        assert!(!made.create("`x`").contains("FOREIGN"), "{made:?}");
        assert_eq!(made.foreign, ForeignKey::all_of(foreign));
        assert_eq!(made.foreign[1].database, None);
        assert_eq!(
            made.foreign[0].adding("n", "p", "q"),
            "CONSTRAINT `n` FOREIGN KEY (`b`, `b``2`) REFERENCES `p`.`q` (`d`, `e`) ON DELETE CASCADE"
        );
    }

    #[test]
    fn an_index_of_the_column_that_counts_is_made_at_once() {
        let statement = "CREATE TABLE `t` (\n  `a` int NOT NULL,\n  `c` int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`a`),\n  \
            KEY `k` (`c`)\n) ENGINE=InnoDB";
        assert!(Definition::of_statement(statement).unwrap().later.is_empty());
    }
}
