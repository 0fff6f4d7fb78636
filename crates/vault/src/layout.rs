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
/// Folder of key files.
pub const KEYS: &str = "keys";
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
    let digits = path.rsplit('/').next()?.strip_suffix(".json")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|n| (1..=NUMBER_MAX).contains(n)).map(LogSeq)
}

/// A key file.
pub fn key_file(generation: u64) -> String {
    format!("{KEYS}/{generation}.json")
}

/// A key file's copy.
pub fn key_copy(generation: u64) -> String {
    format!("{KEYS}-copy/{generation}.json")
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

/// A file that a manifest of this kind lists.
pub fn file(kind: ManifestKind, table: &TableId, entry: &SegmentEntry) -> String {
    match kind {
        ManifestKind::Segments => segment(table, entry),
        ManifestKind::Changes => change_segment(table, entry),
    }
}

/// A parity file, where it is its group's of this number.
pub fn parity(table: &TableId, number: usize, shard: &ParityShard) -> String {
    format!("{TABLES}/{table}/parity/{}", shard.file_name(number))
}

/// A table's Delta log.
pub fn delta_log(table: &TableId) -> String {
    format!("{TABLES}/{table}/_delta_log")
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
