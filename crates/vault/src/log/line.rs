//! One object of the log: its stored form, and what is checked when it is read.

use crate::error::VaultError;
use crate::marker::{FORMAT, check_sealed_format};
use crate::seal;
use bytes::Bytes;
use jiff::Timestamp;
use keepfast_model::{Hash256, LogSeq, Record, VaultId};
use serde::{Deserialize, Serialize};

/// What the first record names as the one before it.
pub(crate) const NO_PREVIOUS: Hash256 = Hash256([0; 32]);

/// Who wrote a record: the code of somebody with the vault's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// The generation of keys that brought the key.
    pub generation: u64,
    /// Keyed BLAKE3 of [`LogLine::body`], as hex digits.
    pub mac: String,
}

/// One line of the log as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its number.
    pub seq: LogSeq,
    /// BLAKE3 of the stored bytes of the line before.
    pub prev: Hash256,
    /// When it was written, by the clock of who wrote it.
    pub at: Timestamp,
    /// What happened.
    pub records: Vec<Record>,
    /// The code of who wrote it; none in a vault without keys.
    pub auth: Option<Auth>,
    /// BLAKE3 of its stored bytes up to the code.
    pub body: Hash256,
    /// BLAKE3 of its stored bytes.
    pub stored: Hash256,
    /// Its stored size.
    pub bytes: u64,
}

/// A line about to be written.
#[derive(Serialize)]
pub(crate) struct NewLine<'a> {
    pub format: u32,
    pub vault: &'a VaultId,
    pub seq: LogSeq,
    pub prev: Hash256,
    pub at: Timestamp,
    pub records: &'a [Record],
    pub auth: Option<Auth>,
}

impl NewLine<'_> {
    /// What its code is of.
    pub(crate) fn body(&self) -> Result<Hash256, VaultError> {
        let json = serde_json::to_vec(self).map_err(|e| VaultError::Record { reason: e.to_string() })?;
        Ok(body(&json))
    }

    pub(crate) fn encode(&self) -> Result<Bytes, VaultError> {
        seal::seal(self).map_err(|e| VaultError::Record { reason: e.to_string() })
    }
}

#[derive(Deserialize)]
struct Stored {
    vault: VaultId,
    seq: LogSeq,
    prev: Hash256,
    at: Timestamp,
    records: Vec<Record>,
    #[serde(default)]
    auth: Option<Auth>,
}

/// BLAKE3 of everything before the last member `auth`. Inside a text its quotes would be escaped.
fn body(bytes: &[u8]) -> Hash256 {
    const AUTH: &[u8] = b",\"auth\":";
    let end = bytes.windows(AUTH.len()).rposition(|w| w == AUTH).unwrap_or(bytes.len());
    Hash256::of(&bytes[..end])
}

impl LogLine {
    /// Generations of keys that it names, each with the hash of its file.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (u64, Hash256)> {
        self.records.iter().filter_map(|record| match record {
            Record::Keys { generation, stored } => Some((*generation, *stored)),
            _ => None,
        })
    }

    /// Reads stored bytes that should be record `seq` of `vault`.
    pub(crate) fn decode(path: &str, vault: &VaultId, seq: LogSeq, bytes: &[u8]) -> Result<Self, VaultError> {
        check_sealed_format(path, bytes)?;
        let stored: Stored = match serde_json::from_slice(bytes) {
            Ok(stored) => stored,
            Err(e) => {
                return Err(
                    unknown_record(path, bytes).unwrap_or_else(|| VaultError::damaged(path, e.to_string()))
                );
            }
        };
        if stored.vault != *vault {
            return Err(VaultError::damaged(path, format!("it belongs to vault {}", stored.vault)));
        }
        if stored.seq != seq {
            return Err(VaultError::damaged(path, format!("it is record {}", stored.seq)));
        }
        Ok(Self {
            seq,
            prev: stored.prev,
            at: stored.at,
            records: stored.records,
            auth: stored.auth,
            body: body(bytes),
            stored: Hash256::of(bytes),
            bytes: bytes.len() as u64,
        })
    }
}

/// The vault that a whole record belongs to, whatever else it says.
pub(crate) fn vault_of(bytes: &[u8]) -> Option<VaultId> {
    #[derive(Deserialize)]
    struct Owner {
        vault: VaultId,
    }
    seal::check(bytes).ok()?;
    serde_json::from_slice(bytes).ok().map(|Owner { vault }| vault)
}

/// Whether a line that cannot be read holds a kind of record that this program does not know.
fn unknown_record(path: &str, bytes: &[u8]) -> Option<VaultError> {
    const KNOWN: [&str; 6] = ["point", "prune", "drop", "hold", "release", "keys"];
    #[derive(Deserialize)]
    struct Kinds {
        records: Vec<Kind>,
    }
    #[derive(Deserialize)]
    struct Kind {
        record: String,
    }
    let kinds: Kinds = serde_json::from_slice(bytes).ok()?;
    let unknown = kinds.records.into_iter().find(|k| !KNOWN.contains(&k.record.as_str()))?;
    let found = format!("a record of kind '{}' (format {FORMAT})", unknown.record);
    Some(VaultError::NewerFormat { path: path.to_owned(), found })
}
