//! How a table of a backup is encrypted: fixed at its first point, inherited afterwards.

use crate::Result;
use crate::error::EngineError;
use keepfast_model::{ColumnId, Encryption, TableName, TablePoint, TableSchema};
use keepfast_vault::Secrecy;

/// The way that a request, the table's newest point and the vault ask for.
///
/// What is left out is as it was; for a new table, everything is encrypted where the vault has keys, and nothing where it has none.
///
/// # Errors
/// [`EngineError::EncryptionFixed`] where the table has another one already; [`EngineError::Usage`] for what cannot be read.
pub(crate) fn resolve(
    asked: Option<&str>,
    table: &TableName,
    kept: &TableSchema,
    previous: Option<&TablePoint>,
    vault: Secrecy,
) -> Result<Encryption> {
    let asked = asked.map(|text| parse(text, kept)).transpose()?;
    match (asked, previous.map(|p| &p.encryption)) {
        (None, Some(fixed)) => Ok(fixed.clone()),
        (Some(asked), Some(fixed)) if asked != *fixed => Err(EngineError::EncryptionFixed {
            table: table.to_string(),
            fixed: fixed.mode(),
            asked: asked.mode(),
        }),
        (Some(asked), _) => Ok(asked),
        (None, None) if vault == Secrecy::Plain => Ok(Encryption::None),
        (None, None) => Ok(Encryption::Full),
    }
}

/// Reads `none`, `full` or `columns:a,b`.
fn parse(text: &str, schema: &TableSchema) -> Result<Encryption> {
    let refuse = |reason: String| EngineError::Usage { what: format!("encryption '{text}'"), reason };
    match text.split_once(':') {
        None if text == "none" => Ok(Encryption::None),
        None if text == "full" => Ok(Encryption::Full),
        Some(("columns", names)) => {
            let mut columns: Vec<ColumnId> = vec![];
            for name in names.split(',').map(str::trim) {
                let column = schema.columns.iter().find(|c| c.name == name);
                let column = column.ok_or_else(|| refuse(format!("there is no column '{name}'")))?;
                columns.push(column.id);
            }
            columns.sort_unstable();
            columns.dedup();
            Ok(Encryption::Columns { columns })
        }
        _ => Err(refuse("it is none, full, or columns: and names, as in columns:name,email".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepfast_model::ColumnType;

    fn schema() -> TableSchema {
        let columns = ["id", "name", "email"].map(|name| (name.to_owned(), ColumnType::Text, name != "id"));
        TableSchema::of(columns.to_vec(), &["id"]).unwrap()
    }

    #[test]
    fn what_is_left_out_is_full_in_a_vault_with_keys_and_none_in_one_without() {
        let resolved = |asked, vault| resolve(asked, &TableName::bare("t"), &schema(), None, vault).unwrap();
        assert_eq!(resolved(None, Secrecy::Plain), Encryption::None);
        assert_eq!(resolved(None, Secrecy::Open), Encryption::Full);
        assert_eq!(resolved(None, Secrecy::Locked), Encryption::Full);
        assert_eq!(resolved(Some("none"), Secrecy::Open), Encryption::None);
        let columns = Encryption::Columns { columns: vec![ColumnId(2), ColumnId(3)] };
        assert_eq!(resolved(Some("columns:email, name,email"), Secrecy::Plain), columns);
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_says_what_can() {
        for text in ["some", "columns", "columns:", "columns:id,nme", "full:id", ""] {
            let error = parse(text, &schema()).unwrap_err();
            assert!(matches!(error, EngineError::Usage { .. }), "{text}: {error}");
        }
    }
}
