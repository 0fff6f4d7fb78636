//! A key file: who can open a vault, and its keys, wrapped. Plain data with a JSON form; `docs/format.md`, section 8.

use crate::recipient::Recipient;
use keepfast_model::{ColumnId, Encryption, TableId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a wrapped key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Authenticates log records from its generation on.
    Auth,
    /// Keys the identities of encrypted tables.
    Dedup,
    /// Seals what runs leave in the staging area.
    Staging,
    /// Wraps data keys of a table's files, and seals its manifests.
    Table,
    /// Wraps data keys of a secret column.
    Column,
}

/// One key, sealed with the vault key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// What it is for.
    pub kind: KeyKind,
    /// Its random id.
    pub id: String,
    /// The table, for keys of tables and columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableId>,
    /// The column, for keys of columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<ColumnId>,
    /// The generation that brought it, for keys that authenticate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// How the table is encrypted, for keys of tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// The key, sealed; hex.
    pub wrapped: String,
}

/// One generation of a vault's keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFile {
    /// Its number, from 1.
    pub generation: u64,
    /// Keys identities of tables without encryption; 64 hex digits, never rotated.
    pub dedup_secret: String,
    /// Who can open it; none in a vault without encryption.
    pub recipients: Vec<Recipient>,
    /// Wrapped keys.
    pub keys: Vec<WrappedKey>,
    /// Whether its recipients were named when a vault was copied, and are those of the copy alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub copy: bool,
    /// Keyed hash of all the other members under the vault key; none where there is no vault key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

impl KeyFile {
    /// The first file of a vault without encryption.
    pub fn plain(generation: u64, dedup_secret: String) -> Self {
        Self { generation, dedup_secret, recipients: vec![], keys: vec![], copy: false, mac: None }
    }

    /// Whether somebody must open it.
    pub fn is_encrypted(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// What is the same of it in every copy of a vault: all but who can open it. Its code binds those to it.
    pub fn shared(&self) -> Vec<u8> {
        let without = Self { recipients: vec![], copy: false, mac: None, ..self.clone() };
        let mut shared = b"keepfast shared keys 1\0".to_vec();
        shared.extend(serde_json::to_vec(&without).expect("names, numbers and texts have a JSON form"));
        shared
    }

    /// What its code is of.
    pub(crate) fn message(&self) -> Vec<u8> {
        let without = Self { mac: None, ..self.clone() };
        serde_json::to_vec(&without).expect("names, numbers and texts have a JSON form")
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({}, {} recipients, …)", self.generation, self.recipients.len())
    }
}
