//! A small vault in memory, and points to put into it.
#![allow(dead_code)]

pub mod schedule;
pub mod spawn;
pub mod ten_points;

use bytes::Bytes;
use futures::stream::StreamExt;
use jiff::Timestamp;
use keepfast_format::{EncodedSegment, Manifest, ManifestKind, Protection, SegmentEntry, WriterProfile};
use keepfast_model::*;
use keepfast_objects::Target;
#[allow(unused_imports, reason = "each test file uses its own share")]
pub use keepfast_objects::faulty::{Fault, Faulty, Kind, Process, Script};
use keepfast_vault::testing::environment;
#[allow(unused_imports, reason = "each test file uses its own share")]
pub use keepfast_vault::testing::{Jumping, Ticking};
use keepfast_vault::{CreateOptions, Environment, NewObject, Vault, VaultError};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::sync::Arc;

pub struct World {
    pub clock: Arc<Ticking>,
    pub environment: Environment,
}

pub fn world(seed: u64) -> World {
    let clock = Arc::new(Ticking::at(1_800_000_000));
    World { environment: environment(clock.clone(), seed), clock }
}

impl World {
    pub fn options(&self) -> CreateOptions {
        CreateOptions { environment: self.environment.clone(), ..CreateOptions::default() }
    }
}

pub fn memory(store: Arc<dyn ObjectStore>) -> Target {
    Target::new(store, Path::default(), "memory:vault")
}

pub fn backup(name: &str) -> BackupName {
    name.parse().unwrap()
}

pub fn schema() -> TableSchema {
    TableSchema::of(
        vec![
            ("id".into(), ColumnType::Int32, false),
            ("name".into(), ColumnType::Varchar { length: None }, true),
        ],
        &["id"],
    )
    .unwrap()
}

/// Something with the frame of a Parquet file, different for every text.
pub fn segment(text: &str, rows: u64) -> EncodedSegment {
    let mut bytes = b"PAR1".to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(b"footer\x06\0\0\0PAR1");
    let entry = SegmentEntry {
        id: Hash256::of(text.as_bytes()),
        stored: Hash256::of(&bytes),
        bytes: ByteCount(bytes.len() as u64),
        shard: ShardId("0".into()),
        rows,
        digest: Digest { rows, sum: 7 },
        min: None,
        max: None,
        epoch: 0,
        key: None,
        seq_min: None,
        seq_max: None,
    };
    EncodedSegment { entry, bytes: bytes.into() }
}

/// One table to back up: its name, the texts of its base segments and of its change segments.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: &'static str,
    pub base: Vec<String>,
    pub changes: Vec<String>,
    pub parity: Option<Parity>,
}

pub fn sample(name: &'static str, base: &[&str], changes: &[&str]) -> Sample {
    let own = |texts: &[&str]| texts.iter().map(|t| format!("{name} {t}")).collect();
    Sample { name, base: own(base), changes: own(changes), parity: None }
}

/// How files of a table are written, as its keys say.
pub async fn protection_of(vault: &Vault, id: &TableId) -> Result<Protection, VaultError> {
    let keyring = vault.keyring().await?;
    let key = keyring.as_ref().and_then(|keyring| keyring.table(id));
    vault.protection(id, &key.map(|key| key.encryption.clone()).unwrap_or_default()).await
}

/// Writes everything of a point but the record.
pub async fn write_point(
    vault: &Vault,
    to: &BackupName,
    run: &str,
    samples: &[Sample],
) -> Result<(BackupPoint, Vec<NewObject>), VaultError> {
    let (schema, mut tables, mut written) = (schema(), vec![], vec![]);
    let profile = WriterProfile::choose(&schema, &[], 8_192);
    for sample in samples {
        let name = TableName::bare(sample.name);
        let id = Vault::table_id(to, "columnar", &name, &Selection::default());
        let protection = protection_of(vault, &id).await?;
        let mut manifests = vec![];
        for (kind, texts) in
            [(ManifestKind::Segments, &sample.base), (ManifestKind::Changes, &sample.changes)]
        {
            let mut entries = vec![];
            for text in texts {
                let mut s = segment(text, 10);
                if kind == ManifestKind::Changes {
                    (s.entry.seq_min, s.entry.seq_max) = (Some(1), Some(10));
                }
                match kind {
                    ManifestKind::Segments => vault.put_segment(&id, &s).await?,
                    ManifestKind::Changes => vault.put_change_segment(&id, &s).await?,
                };
                written.push(match kind {
                    ManifestKind::Segments => Vault::segment_object(&id, &s.entry),
                    ManifestKind::Changes => Vault::change_object(&id, &s.entry),
                });
                entries.push(s.entry);
            }
            let mut references = vec![];
            if kind == ManifestKind::Segments || !entries.is_empty() {
                let pages = Manifest::pages(kind, &id, &schema, &profile, entries);
                let listed = vault.put_manifests(pages, protection.encryption(), sample.parity, &[]).await?;
                written.extend(listed.objects);
                references = listed.references;
            }
            manifests.push(references);
        }
        let changes = manifests.pop().unwrap();
        let base = manifests.pop().unwrap();
        let rows = base.iter().map(|m| m.rows).sum();
        tables.push(TablePoint {
            id: id.clone(),
            name,
            selection: Selection::default(),
            schema: schema.clone(),
            mode: WriteMode::Full,
            digest: Digest { rows, sum: 7 },
            bytes: base.iter().map(|m| m.bytes).sum(),
            segments_new: 0,
            bytes_new: ByteCount(0),
            certificate: Certificate {
                kind: ProofKind::Own,
                rows,
                partitions: 1,
                content_percent: 0,
                method: "counted".into(),
                at: Timestamp::UNIX_EPOCH,
            },
            base,
            changes: changes
                .into_iter()
                .map(|manifest| ChangeManifestRef { manifest, written_by: None })
                .collect(),
            encryption: protection.encryption().clone(),
            key_ids: protection.key_ids().to_owned(),
            sealed: None,
            dependents: vec![],
            target_rows: 8_192,
            profile: profile.id(),
            parity: sample.parity,
        });
    }
    let point = BackupPoint {
        backup: to.clone(),
        run: RunId(run.into()),
        store: "columnar".into(),
        cut: Cut {
            at: "2027-01-01T00:00:00Z".parse().unwrap(),
            exactness: Exactness::Exact,
            positions: vec![],
        },
        tables,
        elapsed_ms: 1,
        program: "keepfast test".into(),
        lock: None,
    };
    Ok((point, written))
}

/// A whole backup.
pub async fn back_up(
    vault: &Vault,
    to: &BackupName,
    run: &str,
    samples: &[Sample],
) -> Result<LogSeq, VaultError> {
    let (point, written) = write_point(vault, to, run, samples).await?;
    vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await
}

/// All objects of a store, by name.
pub async fn objects(store: &dyn ObjectStore) -> std::collections::BTreeMap<String, Bytes> {
    use object_store::ObjectStoreExt;
    let mut all = std::collections::BTreeMap::new();
    let mut listing = store.list(None);
    while let Some(meta) = listing.next().await {
        let location = meta.unwrap().location;
        all.insert(location.to_string(), store.get(&location).await.unwrap().bytes().await.unwrap());
    }
    all
}

/// Replaces or removes an object behind the vault's back.
pub async fn tamper(store: &dyn ObjectStore, name: &str, bytes: Option<Bytes>) {
    use object_store::ObjectStoreExt;
    let path = Path::parse(name).unwrap();
    match bytes {
        Some(bytes) => drop(store.put(&path, bytes.into()).await.unwrap()),
        None => store.delete(&path).await.unwrap(),
    }
}

/// The JSON of a sealed object without its seal, and back.
pub fn unseal(bytes: &[u8]) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    value.as_object_mut().unwrap().remove("sum");
    value
}

pub fn seal(value: &serde_json::Value) -> Bytes {
    let mut json = serde_json::to_vec(value).unwrap();
    json.pop();
    let sum = Hash256::of(&json);
    json.extend_from_slice(format!(",\"sum\":\"{sum}\"}}\n").as_bytes());
    json.into()
}

/// An independent copy of a store in memory.
pub fn fork(store: &InMemory) -> Arc<InMemory> {
    Arc::new(store.fork())
}
