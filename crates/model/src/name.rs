//! Names that people type: tables, backups and restore points.

use crate::error::ModelError;
use crate::ids::LogSeq;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The database of an embedded table whose name states none.
pub const DEFAULT_DATABASE: &str = "main";

/// A table's name: `table`, `database.table` or `store.database.table`. Parts keep the case they were given in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The store, declared in the configuration; none means the embedded Table Store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The database; `main` where none was stated.
    pub database: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// A table of the embedded store's default database.
    pub fn bare(table: impl Into<String>) -> Self {
        Self { store: None, database: DEFAULT_DATABASE.to_owned(), table: table.into() }
    }

    /// A name of one, two or three parts.
    ///
    /// # Errors
    /// [`ModelError::Name`] for no or more than three parts, an empty part, or a control character.
    pub fn from_parts(parts: &[String]) -> Result<Self, ModelError> {
        let refuse = |reason: &str| ModelError::Name {
            what: "table name",
            text: parts.join("."),
            reason: reason.to_owned(),
        };
        for part in parts {
            if part.is_empty() {
                return Err(refuse("a part of it is empty"));
            }
            if part.chars().any(char::is_control) {
                return Err(refuse("it holds a control character"));
            }
            if part.len() > 255 {
                return Err(refuse("a part of it is longer than 255 bytes"));
            }
        }
        match parts {
            [t] => Ok(Self::bare(t.clone())),
            [d, t] => Ok(Self { store: None, database: d.clone(), table: t.clone() }),
            [s, d, t] => Ok(Self { store: Some(s.clone()), database: d.clone(), table: t.clone() }),
            _ => Err(refuse("a name has one to three parts")),
        }
    }

    /// The same database and store with another table.
    pub fn sibling(&self, table: impl Into<String>) -> Self {
        Self { table: table.into(), ..self.clone() }
    }
}

impl FromStr for TableName {
    type Err = ModelError;
    /// Reads `a`, `a.b` or `a.b.c`; a part may stand in double quotes (doubled inside), and then hold dots.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refuse = |reason: &str| ModelError::Name {
            what: "table name",
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let mut parts = vec![];
        let mut part = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if part.is_empty() => loop {
                    match chars.next() {
                        Some('"') if chars.peek() == Some(&'"') => {
                            chars.next();
                            part.push('"');
                        }
                        Some('"') => {
                            if !matches!(chars.peek(), None | Some('.')) {
                                return Err(refuse("text follows a closing quote"));
                            }
                            break;
                        }
                        Some(c) => part.push(c),
                        None => return Err(refuse("a quote is not closed")),
                    }
                },
                '.' => parts.push(std::mem::take(&mut part)),
                c => part.push(c),
            }
        }
        parts.push(part);
        Self::from_parts(&parts)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut part = |text: &str, dot: bool| {
            if text.contains(['.', '"']) {
                write!(f, "\"{}\"", text.replace('"', "\"\""))?;
            } else {
                f.write_str(text)?;
            }
            if dot { f.write_str(".") } else { Ok(()) }
        };
        if let Some(store) = &self.store {
            part(store, true)?;
        }
        if self.store.is_some() || self.database != DEFAULT_DATABASE {
            part(&self.database, true)?;
        }
        part(&self.table, false)
    }
}

/// The name of a backup: letters, digits, `_`, `-` and `.`, 1 to 128 of them, not starting with `.` or `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupName(String);

impl BackupName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupName {
    type Err = ModelError;
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refuse = |reason: &str| {
            Err(ModelError::Name { what: "backup name", text: text.to_owned(), reason: reason.to_owned() })
        };
        if text.is_empty() || text.len() > 128 {
            return refuse("it must have 1 to 128 characters");
        }
        if text.starts_with(['.', '-']) {
            return refuse("it must not start with '.' or '-'");
        }
        match text.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
            Some(c) => refuse(&format!("it holds {c:?}")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for BackupName {
    type Error = ModelError;
    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}

impl From<BackupName> for String {
    fn from(name: BackupName) -> String {
        name.0
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A restore point's id, shown as `name@seq`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PointId {
    /// The backup it belongs to.
    pub backup: BackupName,
    /// Its number: that of its log record in the vault.
    pub seq: LogSeq,
}

impl FromStr for PointId {
    type Err = ModelError;
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refuse = || ModelError::Name {
            what: "restore point",
            text: text.to_owned(),
            reason: "it has the form name@number".to_owned(),
        };
        let (backup, seq) = text.rsplit_once('@').ok_or_else(refuse)?;
        let seq = seq.parse().map_err(|_| refuse())?;
        Ok(Self { backup: backup.parse()?, seq: LogSeq(seq) })
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.backup, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_round_trip_through_text() {
        for text in ["t", "d.t", "s.d.t", "\"a.b\".t", "\"q\"\"q\""] {
            let name: TableName = text.parse().unwrap();
            assert_eq!(name.to_string().parse::<TableName>().unwrap(), name);
        }
        assert_eq!("main.t".parse::<TableName>().unwrap(), TableName::bare("t"));
        for text in ["", ".", "a.", "a.b.c.d", "\"a", "\"a\"b", "a\n"] {
            assert!(text.parse::<TableName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn backup_names_and_points_refuse_what_paths_could_abuse() {
        for text in ["", "../x", "a/b", "-x", ".x", "a b", "a@1"] {
            assert!(text.parse::<BackupName>().is_err(), "{text:?}");
        }
        assert_eq!("b@12".parse::<PointId>().unwrap().to_string(), "b@12");
        assert!("b".parse::<PointId>().is_err());
    }
}
