//! Statements that make tables: the server's own where there is one, with another name.

use crate::names::quoted;
use keepfast_model::{Column, ColumnType, TableSchema};

/// How a table is made: first without indexes that are better made after the rows, then these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// What stands behind the name in `CREATE TABLE name`.
    body: String,
    /// Indexes, as `ALTER TABLE` adds them.
    pub later: Vec<String>,
}

impl Definition {
    /// From the server's own statement; an error for what this version does not make again.
    pub fn of_statement(statement: &str) -> Result<Self, String> {
        let wrong = || "its statement is not of the form CREATE TABLE `name` (…)".to_owned();
        let rest = statement.strip_prefix("CREATE TABLE `").ok_or_else(wrong)?;
        let mut end = None;
        let mut at = 0;
        // A backquote in the name stands twice.
        while let Some(next) = rest[at..].find('`') {
            at += next + 1;
            if rest[at..].starts_with('`') {
                at += 1;
            } else {
                end = Some(at);
                break;
            }
        }
        let body = &rest[end.ok_or_else(wrong)?..];
        let mut lines: Vec<String> = body.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
        let close = lines.iter().position(|line| line.starts_with(')')).ok_or_else(wrong)?;
        if lines.first().map(|line| line.trim()) != Some("(") {
            return Err(wrong());
        }
        let tail = lines.split_off(close);
        let counted =
            lines.iter().find(|line| line.contains(" AUTO_INCREMENT")).and_then(|line| name_in(line));
        let (mut kept, mut later) = (vec![], vec![]);
        for line in lines.drain(1..) {
            let part = line.trim();
            if part.starts_with("CONSTRAINT ") && part.contains(" FOREIGN KEY ") {
                return Err("it has foreign keys, which this version does not make again".into());
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
        Ok(Self { body: format!("({}\n{}", kept.join(",\n"), tail.join("\n")), later })
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
        Self { body, later: vec![] }
    }

    /// The statement for a table of this full name.
    pub fn create(&self, name: &str) -> String {
        format!("CREATE TABLE {name} {}", self.body)
    }
}

/// The first name in backquotes.
fn name_in(text: &str) -> Option<String> {
    let rest = &text[text.find('`')? + 1..];
    Some(rest[..rest.find('`')?].to_owned())
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
        let foreign = "CREATE TABLE `a` (\n  `b` int,\n  CONSTRAINT `f` FOREIGN KEY (`b`) REFERENCES `c` (`d`)\n) ENGINE=InnoDB";
        assert!(Definition::of_statement(foreign).unwrap_err().contains("foreign keys"));
    }

    #[test]
    fn an_index_of_the_column_that_counts_is_made_at_once() {
        let statement = "CREATE TABLE `t` (\n  `a` int NOT NULL,\n  `c` int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`a`),\n  \
            KEY `k` (`c`)\n) ENGINE=InnoDB";
        assert!(Definition::of_statement(statement).unwrap().later.is_empty());
    }
}
