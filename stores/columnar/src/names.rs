//! Names of the store's objects. Every object but catalog entries and holds starts with its writer's id, so that what
//! an unfinished writer left behind can be told from what others wrote.

use keepfast_model::{Hash256, TableId};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The random id of one attempt to write; 32 hex digits. Never used twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct WriterId(pub String);

impl WriterId {
    pub(crate) fn random() -> Self {
        Self(random_hex())
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 32 random hex digits.
pub(crate) fn random_hex() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

pub(crate) const CATALOG: &str = "catalog";
pub(crate) const DATA: &str = "data";
pub(crate) const HOLDS: &str = "holds";
pub(crate) const LOADS: &str = "loads";
pub(crate) const CONDEMNED: &str = "condemned";
pub(crate) const KEYS: &str = "keys";
/// Second copies of key files.
pub(crate) const KEYS_COPY: &str = "keys-copy";

pub(crate) fn catalog(seq: u64) -> String {
    format!("{CATALOG}/{seq:020}.json")
}

pub(crate) fn key_file(generation: u64) -> String {
    format!("{KEYS}/{generation:020}.json")
}

pub(crate) fn key_file_copy(generation: u64) -> String {
    format!("{KEYS_COPY}/{generation:020}.json")
}

/// The generation of a key file, whichever copy it is.
pub(crate) fn parse_key_file(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}

pub(crate) fn hold(id: &str) -> String {
    format!("{HOLDS}/{id}.json")
}

/// What makes a load one that is remembered.
pub(crate) fn load(id: &str) -> String {
    format!("{LOADS}/{id}/load.json")
}

/// The load whose first object this is.
pub(crate) fn parse_load(path: &str) -> Option<&str> {
    path.strip_prefix("loads/")?.strip_suffix("/load.json")
}

pub(crate) fn notes(load: &str) -> String {
    format!("{LOADS}/{load}/notes")
}

pub(crate) fn note(load: &str, name: &str) -> String {
    format!("{LOADS}/{load}/notes/{name}.json")
}

pub(crate) fn intents(load: &str) -> String {
    format!("{LOADS}/{load}/publications")
}

/// What a load meant to publish with one catalog entry.
pub(crate) fn intent(load: &str, seq: u64, writer: &WriterId) -> String {
    format!("{LOADS}/{load}/publications/{}", version_file(seq, writer))
}

pub(crate) fn table(table: &TableId) -> String {
    format!("{DATA}/{table}")
}

/// The table in whose folder an object is.
pub(crate) fn parse_table(path: &str) -> Option<TableId> {
    let (id, _) = path.strip_prefix("data/")?.split_once('/')?;
    Some(TableId(id.to_owned()))
}

/// The file of a version: its number and its writer.
pub(crate) fn version_file(version: u64, writer: &WriterId) -> String {
    format!("{version:020}-{writer}.json")
}

pub(crate) fn version(table: &TableId, file: &str) -> String {
    format!("{DATA}/{table}/versions/{file}")
}

pub(crate) fn page(table: &TableId, name: &str) -> String {
    format!("{DATA}/{table}/pages/{name}")
}

pub(crate) fn segment(table: &TableId, file: &str) -> String {
    format!("{DATA}/{table}/segments/{file}")
}

/// The number and the writer in a version's file name.
pub(crate) fn parse_version_file(file: &str) -> Option<(u64, WriterId)> {
    let (number, writer) = file.strip_suffix(".json")?.split_once('-')?;
    if number.len() != 20 || !is_writer(writer) {
        return None;
    }
    Some((number.parse().ok()?, WriterId(writer.to_owned())))
}

/// The writer of an object in `pages/` or `segments/`: its first 32 characters.
pub(crate) fn writer_of(file: &str) -> Option<WriterId> {
    let writer = file.get(..32)?;
    is_writer(writer).then(|| WriterId(writer.to_owned()))
}

fn is_writer(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Ids of one writer's segments: the writer in the first half, a counter in the second.
///
/// The vault's segments are named by their rows, so that equal rows are stored once. Here every segment is named by
/// who wrote it: a name is never written twice, so nobody can reuse an object that another is about to remove.
#[derive(Debug)]
pub(crate) struct SegmentIds {
    writer: u128,
    next: AtomicU64,
}

impl SegmentIds {
    pub(crate) fn new(writer: &WriterId) -> Self {
        Self { writer: u128::from_str_radix(&writer.0, 16).unwrap_or(0), next: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> Hash256 {
        let mut id = [0; 32];
        id[..16].copy_from_slice(&self.writer.to_be_bytes());
        id[24..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Hash256(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_tells_its_writer() {
        let writer = WriterId::random();
        let ids = SegmentIds::new(&writer);
        ids.next();
        assert_eq!(writer_of(&format!("{}-00.parquet", ids.next())), Some(writer.clone()));
        assert_eq!(parse_version_file(&version_file(7, &writer)), Some((7, writer)));
        assert_eq!(parse_version_file("7.json"), None);
        assert_eq!(writer_of("x"), None);
        assert_eq!(writer_of(&"ä".repeat(32)), None);
    }
}
