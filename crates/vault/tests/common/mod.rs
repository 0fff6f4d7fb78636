//! A small vault, a clock and random bytes that repeat, and a store that fails on purpose.
#![allow(dead_code)]

pub mod spawn;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use keepfast_format::{EncodedSegment, Manifest, ManifestKind, SegmentEntry, WriterProfile};
use keepfast_model::*;
use keepfast_objects::Target;
use keepfast_vault::{Clock, CreateOptions, Environment, NewObject, Random, Vault, VaultError};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// One second later every time.
#[derive(Debug)]
pub struct Ticking(pub AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.fetch_add(1, Ordering::SeqCst)).unwrap()
    }
}

impl Ticking {
    pub fn pass(&self, time: SignedDuration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

/// The same bytes for the same seed.
#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Random for Seeded {
    fn fill(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        for piece in buffer.chunks_mut(32) {
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            piece.copy_from_slice(&Hash256::of(&n.to_le_bytes()).0[..piece.len()]);
        }
        Ok(())
    }
}

pub struct World {
    pub clock: Arc<Ticking>,
    pub environment: Environment,
}

pub fn world(seed: u64) -> World {
    let clock = Arc::new(Ticking(AtomicI64::new(1_800_000_000)));
    let environment = Environment {
        clock: clock.clone(),
        random: Arc::new(Seeded(AtomicU64::new(seed << 32))),
        parallel: 4,
    };
    World { clock, environment }
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
}

pub fn sample(name: &'static str, base: &[&str], changes: &[&str]) -> Sample {
    let own = |texts: &[&str]| texts.iter().map(|t| format!("{name} {t}")).collect();
    Sample { name, base: own(base), changes: own(changes) }
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
                for page in Manifest::pages(kind, &id, &schema, &profile, entries) {
                    let (reference, _) = vault.put_manifest(&page).await?;
                    written.push(Vault::manifest_object(&reference));
                    references.push(reference);
                }
            }
            manifests.push(references);
        }
        let changes = manifests.pop().unwrap();
        let base = manifests.pop().unwrap();
        let rows = base.iter().map(|m| m.rows).sum();
        tables.push(TablePoint {
            id,
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
            encryption: point::Encryption::None,
            dependents: vec![],
            target_rows: 8_192,
            profile: profile.id(),
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

/// How a store goes wrong at its nth operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It and everything after it fails, without effect.
    DiesBefore,
    /// It takes effect, then it and everything after it fails.
    DiesAfter,
    /// It takes effect and its answer is lost; later ones work.
    LosesAnswer,
    /// As above, and the client tries once more by itself.
    LosesAnswerAndRetries,
}

/// Fails at its nth operation.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    at: u64,
    fault: Fault,
    count: Mutex<u64>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn ObjectStore>, at: u64, fault: Fault) -> Arc<Self> {
        Arc::new(Self { inner, at, fault, count: Mutex::new(0) })
    }

    pub fn operations(&self) -> u64 {
        *self.count.lock().unwrap()
    }

    fn next(&self) -> Step {
        let mut count = self.count.lock().unwrap();
        let n = *count;
        *count += 1;
        match (n.cmp(&self.at), self.fault) {
            (std::cmp::Ordering::Less, _) => Step::Works,
            (std::cmp::Ordering::Equal, Fault::DiesBefore) => Step::Fails,
            (std::cmp::Ordering::Equal, Fault::LosesAnswerAndRetries) => Step::Twice,
            (std::cmp::Ordering::Equal, _) => Step::WorksSilently,
            (_, Fault::DiesBefore | Fault::DiesAfter) => Step::Fails,
            (_, _) => Step::Works,
        }
    }
}

enum Step {
    Works,
    WorksSilently,
    Twice,
    Fails,
}

fn lost() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "the connection is gone".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        match self.next() {
            Step::Fails => Err(lost()),
            Step::Works => self.inner.put_opts(at, payload, opts).await,
            Step::WorksSilently => {
                let _ = self.inner.put_opts(at, payload, opts).await;
                Err(lost())
            }
            Step::Twice => {
                let _ = self.inner.put_opts(at, payload.clone(), opts.clone()).await;
                self.inner.put_opts(at, payload, opts).await
            }
        }
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        match self.next() {
            Step::Fails | Step::WorksSilently => Err(lost()),
            _ => self.inner.get_opts(at, options).await,
        }
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        match self.next() {
            Step::Fails | Step::WorksSilently => futures::stream::once(async { Err(lost()) }).boxed(),
            _ => self.inner.delete_stream(locations),
        }
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.next() {
            Step::Fails | Step::WorksSilently => futures::stream::once(async { Err(lost()) }).boxed(),
            _ => self.inner.list(prefix),
        }
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An independent copy of a store in memory.
pub fn fork(store: &InMemory) -> Arc<InMemory> {
    Arc::new(store.fork())
}
