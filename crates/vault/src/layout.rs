//! Where every object of a vault stands; see section 1 of `docs/format.md`.

use keepfast_format::{ManifestKind, ParityShard, SegmentEntry};
use keepfast_model::{BackupName, Hash256, LogSeq, RunId, Selection, TableId, TableName};

/// The object that makes a place a vault.
pub const MARKER: &str = "keepfast.json";
/// Its copy, where a table has parity.
pub const MARKER_COPY: &str = "keepfast-copy.json";
/// Folder of log records.
pub const LOG: &str = "log";
/// Folder of the records' copies.
pub const LOG_COPY: &str = "log-copy";
/// Folder of checkpoints of the log.
pub const CHECKPOINTS: &str = "checkpoints";
/// Folder of key files.
pub const KEYS: &str = "keys";
/// Folder of the copies of key files that somebody must open.
pub const KEYS_COPY: &str = "keys-copy";
/// Folder of manifests.
pub const MANIFESTS: &str = "manifests";
/// Folder of the copies of manifests of tables with parity.
pub const MANIFESTS_COPY: &str = "manifests-copy";
/// Folder of tables.
pub const TABLES: &str = "tables";
/// Folder of runs' temporary objects.
pub const STAGING: &str = "staging";

/// The largest number of a record; one more is still a number.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// A log record.
pub fn log_record(seq: LogSeq) -> String {
    format!("{LOG}/{seq:020}.json", seq = seq.0)
}

/// A log record's copy.
pub fn log_copy(seq: LogSeq) -> String {
    format!("{LOG_COPY}/{seq:020}.json", seq = seq.0)
}

/// The number of a record or copy that has this path; none for anything else.
pub fn record_number(path: &str) -> Option<LogSeq> {
    number(path.rsplit('/').next()?.strip_suffix(".json")?)
}

/// A record's number from its twenty digits.
fn number(digits: &str) -> Option<LogSeq> {
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|n| (1..=NUMBER_MAX).contains(n)).map(LogSeq)
}

/// A checkpoint of the log up to a record, with the hash of its stored bytes.
pub fn checkpoint(seq: LogSeq, stored: Hash256) -> String {
    format!("{CHECKPOINTS}/{seq:020}-{stored}.zst", seq = seq.0)
}

/// What the name of a checkpoint states; none for anything else.
pub fn checkpoint_of(path: &str) -> Option<(LogSeq, Hash256)> {
    let (seq, stored) = path.rsplit('/').next()?.strip_suffix(".zst")?.split_once('-')?;
    let found = (number(seq)?, Hash256::from_hex(stored)?);
    (checkpoint(found.0, found.1) == path).then_some(found)
}

/// A key file.
pub fn key_file(generation: u64) -> String {
    format!("{KEYS}/{generation}.json")
}

/// The copy of a key file that somebody must open.
pub fn key_file_copy(generation: u64) -> String {
    format!("{KEYS_COPY}/{generation}.json")
}

/// The generation of a key file or copy that has this path; none for anything else.
pub fn generation(path: &str) -> Option<u64> {
    let (KEYS | KEYS_COPY, name) = path.split_once('/')? else { return None };
    name.strip_suffix(".json")?.parse().ok().filter(|n| *n < NUMBER_MAX)
}

/// A manifest.
pub fn manifest(id: Hash256) -> String {
    format!("{MANIFESTS}/{id}")
}

/// A manifest's copy.
pub fn manifest_copy(id: Hash256) -> String {
    format!("{MANIFESTS_COPY}/{id}")
}

/// A table's folder.
pub fn table(table: &TableId) -> String {
    format!("{TABLES}/{table}")
}

/// A segment.
pub fn segment(table: &TableId, entry: &SegmentEntry) -> String {
    format!("{TABLES}/{table}/segments/{}", entry.file_name())
}

/// A change segment.
pub fn change_segment(table: &TableId, entry: &SegmentEntry) -> String {
    format!("{TABLES}/{table}/changes/{}", entry.file_name())
}

/// The id of the table that an object belongs to; none for what is no table's.
pub fn table_of(path: &str) -> Option<&str> {
    path.strip_prefix(TABLES)?.strip_prefix('/')?.split_once('/').map(|(table, _)| table)
}

/// Whether the path is that of a manifest or its copy, a segment, a change segment or a parity file: what points name, and
/// nothing else.
pub fn is_content(path: &str) -> bool {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [folder, id] => [MANIFESTS, MANIFESTS_COPY].contains(folder) && hex(id, 64),
        [folder, table, "segments" | "changes", file] => {
            let file = file.strip_suffix(".parquet").and_then(|name| name.split_once('-'));
            *folder == TABLES
                && hex(table, 32)
                && file.is_some_and(|(id, stored)| hex(id, 64) && hex(stored, 64))
        }
        [folder, table, "parity", file] => {
            *folder == TABLES
                && hex(table, 32)
                && file.split_once('-').is_some_and(|(n, stored)| n.parse::<u32>().is_ok() && hex(stored, 64))
        }
        _ => false,
    }
}

/// A file that a manifest of this kind lists.
pub fn file(kind: ManifestKind, table: &TableId, entry: &SegmentEntry) -> String {
    match kind {
        ManifestKind::Segments => segment(table, entry),
        ManifestKind::Changes => change_segment(table, entry),
    }
}

/// The hash that the name of a file or a checkpoint states of its bytes; none for anything else.
pub fn stored_hash(path: &str) -> Option<Hash256> {
    if let Some((_, stored)) = checkpoint_of(path) {
        return Some(stored);
    }
    table_of(path).filter(|_| is_content(path))?;
    let name = path.rsplit('/').next()?;
    Hash256::from_hex(name.strip_suffix(".parquet").unwrap_or(name).split_once('-')?.1)
}

/// A parity file, where it is its group's of this number.
pub fn parity(table: &TableId, number: usize, shard: &ParityShard) -> String {
    format!("{TABLES}/{table}/parity/{}", shard.file_name(number))
}

/// A table's Delta log.
pub fn delta_log(table: &TableId) -> String {
    format!("{TABLES}/{table}/_delta_log")
}

/// Whether the path is in the Delta log of a table.
pub fn is_delta(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some(TABLES) && parts.nth(1) == Some("_delta_log")
}

/// A run's folder.
pub fn staging(run: &RunId) -> String {
    format!("{STAGING}/{run}")
}

/// A finished task's result.
pub fn task(run: &RunId, task: u32) -> String {
    format!("{STAGING}/{run}/task-{task}.json")
}

/// What a run is about.
pub fn plan(run: &RunId) -> String {
    format!("{STAGING}/{run}/plan.json")
}

/// The number of a task whose result has this path.
pub fn task_number(path: &str) -> Option<u32> {
    path.rsplit('/').next()?.strip_prefix("task-")?.strip_suffix(".json")?.parse().ok()
}

/// The id of a table in a vault: one part of one store table in one backup.
pub fn table_id(backup: &BackupName, store: &str, name: &TableName, selection: &Selection) -> TableId {
    let selection = serde_json::to_vec(selection).expect("names and texts have a JSON form");
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"keepfast table 1");
    for part in [backup.as_str(), store, &name.database, &name.table] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    hasher.update(&selection);
    TableId(hasher.finalize().as_bytes()[..16].iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_numbers_are_read_from_whole_names_only() {
        assert_eq!(record_number(&log_record(LogSeq(12))), Some(LogSeq(12)));
        assert_eq!(record_number(&log_copy(LogSeq(NUMBER_MAX))), Some(LogSeq(NUMBER_MAX)));
        for path in
            ["log/12.json", "log/00000000000000000000.json", "log/0000000000000000001x.json", "log/", ""]
        {
            assert_eq!(record_number(path), None, "{path}");
        }
        assert_eq!(record_number("log/09999999999999999999.json"), None);
    }

    #[test]
    fn only_what_points_name_is_content() {
        let (id, table) = ("ab".repeat(32), "cd".repeat(16));
        for path in [
            format!("manifests/{id}"),
            format!("tables/{table}/segments/{id}-{id}.parquet"),
            format!("tables/{table}/changes/{id}-{id}.parquet"),
        ] {
            assert!(is_content(&path), "{path}");
            let of_name = Hash256::from_hex(&id).filter(|_| path.starts_with("tables/"));
            assert_eq!(stored_hash(&path), of_name, "{path}");
        }
        for path in [
            "keepfast.json".to_owned(),
            "manifests/x".to_owned(),
            format!("manifests/{id}.tmp-1"),
            format!("tables/{table}/_delta_log/{id}-{id}.parquet"),
            format!("tables/{table}/segments/{id}.parquet"),
            format!("tables/{id}/segments/{id}-{id}.parquet"),
            format!("staging/{table}/segments/{id}-{id}.parquet"),
        ] {
            assert!(!is_content(&path), "{path}");
        }
        assert_eq!(table_of(&format!("tables/{table}/segments/x")), Some(table.as_str()));
        assert_eq!(table_of(&format!("manifests/{id}")), None);
    }

    #[test]
    fn a_table_has_another_id_in_another_backup_store_or_selection() {
        let (a, b): (BackupName, BackupName) = ("a".parse().expect("valid"), "b".parse().expect("valid"));
        let all = Selection::default();
        let some = Selection { filter: Some("x > 1".into()), columns: None };
        let name = TableName::bare("t");
        let ids = [
            table_id(&a, "columnar", &name, &all),
            table_id(&b, "columnar", &name, &all),
            table_id(&a, "mysql", &name, &all),
            table_id(&a, "columnar", &name, &some),
            table_id(&a, "columnar", &TableName::bare("u"), &all),
        ];
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(id.0.len(), 32);
            assert!(!ids[..i].contains(id));
        }
        assert_eq!(ids[0], table_id(&a, "columnar", &name, &all));
    }
}
