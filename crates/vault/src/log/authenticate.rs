//! Whether records were written by somebody who had the vault's keys, and what of them is secret.
//!
//! From the record on that names the first key file with recipients, every record carries the code of the newest key that
//! authenticates, as the records before it know it. So a rotation is authenticated by the key that it replaces, and nothing can be
//! put in, left out or changed by somebody without a key: each code covers the hash of the record before.

use super::Log;
use super::line::{Auth, LogLine};
use crate::error::VaultError;
use keepfast_keys::Random;
use keepfast_keys::{KeyError, Keyring, hex, open, seal};
use keepfast_model::{
    BackupPoint, Digest, Encryption, Hash256, Record, Selection, TablePoint, TableSchema, TableShape,
    point::Dependent,
};
use serde::{Deserialize, Serialize};

/// The key that authenticates a record, by what the records before it say: the newest that came up to generation `known`; in
/// the record that names the first key file, that file's own.
pub(crate) fn auth_generation(keyring: &Keyring, known: Option<u64>, records: &[Record]) -> Option<u64> {
    let newest = |limit: u64| (1..=limit).rev().find(|g| keyring.auth_of(*g).is_some());
    known.and_then(newest).or_else(|| {
        records.iter().find_map(|r| match r {
            Record::Keys { generation, .. } => newest(*generation),
            _ => None,
        })
    })
}

/// Checks a line's code. `known` is the newest generation that the lines before it name.
pub(crate) fn check(
    keyring: &Keyring,
    path: &str,
    known: Option<u64>,
    line: &LogLine,
) -> Result<(), VaultError> {
    let Some(expected) = auth_generation(keyring, known, &line.records) else { return Ok(()) };
    let refuse = |reason: &str| Err(VaultError::damaged(path, reason));
    match &line.auth {
        None => refuse("it is not authenticated: it was not written by somebody with the vault's keys"),
        Some(auth) if auth.generation != expected => {
            refuse("it is authenticated with another key than the records before it ask for")
        }
        Some(auth) => {
            let key = keyring.auth_of(expected).expect("this generation was found in the keyring");
            match key.is_mac(&line.body.0, &auth.mac) {
                true => Ok(()),
                false => refuse("its authentication code is not that of somebody with the vault's keys"),
            }
        }
    }
}

/// The code of a record about to be written.
pub(crate) fn code(keyring: &Keyring, generation: u64, body: Hash256) -> Option<Auth> {
    Some(Auth { generation, mac: keyring.auth_of(generation)?.mac(&body.0) })
}

/// What of a table of a point is secret.
#[derive(Serialize, Deserialize)]
struct Secret {
    selection: Selection,
    schema: TableSchema,
    digest: Digest,
    dependents: Vec<Dependent>,
    profile: Hash256,
    key_ids: String,
}

/// Refuses points whose files are under other keys than their tables have: whoever shredded a table, or changed how it is encrypted,
/// while they were written would leave a point that nobody can read, or that does not say what lies in clear.
pub(crate) fn check_keys(keyring: Option<&Keyring>, log: &Log, records: &[Record]) -> Result<(), VaultError> {
    for record in records {
        let Record::Point(point) = record else { continue };
        for table in &point.tables {
            let fits = match &table.encryption {
                Encryption::None => table.key_ids.is_empty(),
                encryption => keyring
                    .and_then(|k| k.table(&table.id))
                    .is_some_and(|key| key.serves(encryption) && key.ids() == table.key_ids),
            };
            if table.sealed.is_some() || !(fits || is_carried_over(log, point, table)) {
                return Err(VaultError::TableKeysChanged { table: table.name.to_string() });
            }
        }
    }
    Ok(())
}

/// Whether a table stands in an earlier point just so: nothing was written for it.
fn is_carried_over(log: &Log, point: &BackupPoint, table: &TablePoint) -> bool {
    let what = |t: &TablePoint| {
        (t.id.clone(), t.base.clone(), t.changes.clone(), t.encryption.clone(), t.key_ids.clone())
    };
    let what_it_is = what(table);
    let earlier = |t: &TablePoint| t.sealed.is_none() && what(t) == what_it_is;
    log.points(&point.backup).any(|p| p.tables.iter().any(earlier))
}

/// The records as they are stored: what is secret of encrypted tables is sealed.
pub(crate) fn close(
    keyring: Option<&Keyring>,
    records: &[Record],
    random: &dyn Random,
) -> Result<Vec<Record>, VaultError> {
    let mut closed = records.to_vec();
    for record in &mut closed {
        let Record::Point(point) = record else { continue };
        let run = point.run.0.clone();
        let BackupPoint { tables, .. } = point.as_mut();
        for table in tables.iter_mut().filter(|t| t.encryption != Encryption::None) {
            let key = keyring
                .and_then(|k| k.table(&table.id))
                .ok_or_else(|| KeyError::Shredded { what: format!("table '{}'", table.name) })?;
            let secret = Secret {
                selection: std::mem::take(&mut table.selection),
                schema: std::mem::replace(&mut table.schema, no_schema()),
                digest: table.digest,
                dependents: std::mem::take(&mut table.dependents),
                profile: std::mem::replace(&mut table.profile, Hash256([0; 32])),
                key_ids: std::mem::take(&mut table.key_ids),
            };
            table.digest.sum = 0;
            let json =
                serde_json::to_vec(&secret).map_err(|e| VaultError::Record { reason: e.to_string() })?;
            table.sealed = Some(hex::encode(&seal(key.table(), &context(table, &run), &json, random)?));
        }
    }
    Ok(closed)
}

/// Opens what is sealed in a line, as far as there are keys; tables whose keys were dropped stay sealed.
pub(crate) fn reveal(keyring: &Keyring, path: &str, line: &mut LogLine) -> Result<(), VaultError> {
    for record in &mut line.records {
        let Record::Point(point) = record else { continue };
        let run = point.run.0.clone();
        for table in &mut point.tables {
            let (Some(sealed), Some(key)) = (&table.sealed, keyring.table(&table.id)) else { continue };
            let opened = hex::decode(sealed).and_then(|s| open(key.table(), &context(table, &run), &s).ok());
            // Another key of the same table came after the first was dropped.
            let Some(opened) = opened else { continue };
            let secret: Secret = serde_json::from_slice(&opened).map_err(|e| {
                VaultError::damaged(path, format!("table '{}': line {}", table.name, e.line()))
            })?;
            table.selection = secret.selection;
            table.schema = secret.schema;
            table.digest = secret.digest;
            table.dependents = secret.dependents;
            table.profile = secret.profile;
            table.key_ids = secret.key_ids;
            table.sealed = None;
        }
    }
    Ok(())
}

/// What stands for a schema that is sealed.
fn no_schema() -> TableSchema {
    TableSchema { columns: vec![], key: vec![], shape: TableShape::Rows }
}

fn context(table: &TablePoint, run: &str) -> Vec<u8> {
    format!("keepfast point 1\0{}\0{run}", table.id).into_bytes()
}
