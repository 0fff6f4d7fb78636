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
    BackupPoint, Digest, Encryption, Hash256, LogSeq, Record, Selection, TableName, TablePoint, TableSchema,
    TableShape, point::Dependent,
};
use serde::{Deserialize, Serialize};

const ZSTD_LEVEL: i32 = 3;
/// Bytes of what is secret of a table: of most, and at most.
const SECRET_USUAL: usize = 32 << 10;
const SECRET_MAX: usize = 16 << 20;
/// Fewer lines are not worth a thread.
const LINES_A_THREAD: usize = 32;

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
            let failed = |reason: String| VaultError::Record { reason };
            let json = serde_json::to_vec(&secret).map_err(|e| failed(e.to_string()))?;
            if json.len() > SECRET_MAX {
                return Err(failed(format!(
                    "what is secret of table '{}' takes {} bytes",
                    table.name,
                    json.len()
                )));
            }
            // Sealed bytes cannot be compressed any more, and a checkpoint holds them of every point.
            let packed = zstd::bulk::compress(&json, ZSTD_LEVEL).map_err(|e| failed(e.to_string()))?;
            table.sealed = Some(hex::encode(&seal(key.table(), &context(table, &run), &packed, random)?));
        }
    }
    Ok(closed)
}

/// Opens what is sealed in these lines, on all cores, as far as there are keys; tables whose keys were dropped stay sealed.
/// Gives the lines that are damaged, each with the reason.
pub(crate) fn reveal(keyring: &Keyring, lines: &mut [LogLine]) -> Vec<(LogSeq, String)> {
    let reveal_all = |lines: &mut [LogLine]| {
        let mut unpacker = Unpacker::default();
        let mut damaged = vec![];
        for line in lines {
            if let Err((table, reason)) = reveal_line(keyring, line, &mut unpacker) {
                damaged.push((line.seq, format!("table '{table}': {reason}")));
            }
        }
        damaged
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = lines.len().div_ceil(threads);
    if share < LINES_A_THREAD {
        return reveal_all(lines);
    }
    std::thread::scope(|scope| {
        let revealing: Vec<_> =
            lines.chunks_mut(share).map(|lines| scope.spawn(|| reveal_all(lines))).collect();
        let all = revealing.into_iter().map(|thread| thread.join());
        all.flat_map(|damaged| damaged.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The table that is damaged, and how.
fn reveal_line(
    keyring: &Keyring,
    line: &mut LogLine,
    unpacker: &mut Unpacker,
) -> Result<(), (TableName, String)> {
    for record in &mut line.records {
        let Record::Point(point) = record else { continue };
        let run = point.run.0.clone();
        for table in &mut point.tables {
            let (Some(sealed), Some(key)) = (&table.sealed, keyring.table(&table.id)) else { continue };
            let opened = hex::decode(sealed).and_then(|s| open(key.table(), &context(table, &run), &s).ok());
            // Another key of the same table came after the first was dropped.
            let Some(opened) = opened else { continue };
            let secret = unpacker.unpack(&opened).map_err(|reason| (table.name.clone(), reason))?;
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

/// Unpacks what is secret of tables, with one context and one buffer for many.
#[derive(Default)]
struct Unpacker {
    context: Option<zstd::bulk::Decompressor<'static>>,
    buffer: Vec<u8>,
}

impl Unpacker {
    /// Packed or, as vaults of earlier programs have it, plain.
    fn unpack(&mut self, opened: &[u8]) -> Result<Secret, String> {
        let text = match opened.first() {
            Some(b'{') => opened,
            _ => self.decompress(opened)?,
        };
        // The error's own text may show what is secret.
        serde_json::from_slice(text).map_err(|e| format!("line {}", e.line()))
    }

    fn decompress(&mut self, packed: &[u8]) -> Result<&[u8], String> {
        let context = match self.context.take() {
            Some(context) => context,
            None => zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?,
        };
        let context = self.context.insert(context);
        loop {
            self.buffer.clear();
            self.buffer.reserve(SECRET_USUAL);
            let room = self.buffer.capacity();
            match context.decompress_to_buffer(packed, &mut self.buffer) {
                Ok(_) => return Ok(&self.buffer),
                // It says no more than that it failed: there may have been too little room.
                Err(_) if room < SECRET_MAX => self.buffer.reserve(room * 4),
                Err(e) => return Err(e.to_string()),
            }
        }
    }
}

/// What stands for a schema that is sealed.
fn no_schema() -> TableSchema {
    TableSchema { columns: vec![], key: vec![], shape: TableShape::Rows }
}

fn context(table: &TablePoint, run: &str) -> Vec<u8> {
    format!("keepfast point 1\0{}\0{run}", table.id).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(filter: String) -> Secret {
        Secret {
            selection: Selection { filter: Some(filter), ..Selection::default() },
            schema: no_schema(),
            digest: Digest::default(),
            dependents: vec![],
            profile: Hash256([0; 32]),
            key_ids: String::new(),
        }
    }

    #[test]
    fn what_is_secret_comes_out_of_any_size_packed_or_plain_and_no_more_is_made_of_it() {
        let mut unpacker = Unpacker::default();
        for length in [1, SECRET_USUAL, 10 * SECRET_USUAL, SECRET_MAX / 2, 2] {
            let json = serde_json::to_vec(&secret("x".repeat(length))).expect("text");
            for stored in [json.clone(), zstd::bulk::compress(&json, ZSTD_LEVEL).expect("bytes")] {
                let found = unpacker.unpack(&stored).expect("it is whole");
                assert_eq!(found.selection.filter.map(|f| f.len()), Some(length));
            }
        }
        let bomb = zstd::bulk::compress(&vec![b' '; 40 * SECRET_MAX], 1).expect("bytes");
        assert!(unpacker.unpack(&bomb).is_err());
        assert!(unpacker.buffer.capacity() <= 8 * SECRET_MAX, "{}", unpacker.buffer.capacity());
        assert!(unpacker.unpack(b"neither").is_err());
    }
}
