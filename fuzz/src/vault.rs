//! What opening a vault reads: its marker, its key file, its log.

use crate::{edit, form, keys, seed};
use bytes::Bytes;
use jiff::Timestamp;
use keepfast_format::{Manifest, ManifestKind, WriterProfile};
use keepfast_model::{
    BackupName, BackupPoint, ByteCount, Certificate, Cut, Digest, Exactness, Hash256, LogSeq, ProofKind,
    Record, RunId, Selection, TableName, TablePoint, WriteMode,
};
use keepfast_objects::Target;
use keepfast_store::sample;
use keepfast_vault::{AsOf, Clock, CreateOptions, Environment, Random, Vault, VaultError, layout};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::io;
use std::sync::{Arc, LazyLock};

/// A clock that stands, and random bytes that repeat: the same vault in every process.
#[derive(Debug)]
pub(crate) struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

impl Random for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(7);
        Ok(())
    }
}

fn environment() -> Environment {
    Environment { clock: Arc::new(Fixed), random: Arc::new(Fixed), parallel: 4, ..Environment::default() }
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O"));

/// A vault with one record of every kind.
static VAULT: LazyLock<InMemory> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        let made = Arc::new(InMemory::new());
        let options = CreateOptions { environment: environment(), ..CreateOptions::default() };
        let vault = Vault::create(place(made.clone()), &options).await.expect("an empty place");
        for record in records(&vault).await {
            vault.commit(vec![record], &[], &()).await.expect("a record that is right");
        }
        made.fork()
    })
});

fn place(store: Arc<InMemory>) -> Target {
    Target::new(store, Path::default(), "memory:vault")
}

async fn records(vault: &Vault) -> Vec<Record> {
    let backup: BackupName = "b".parse().expect("a name");
    let hold = |id: &str| Record::Hold {
        id: id.into(),
        backup: backup.clone(),
        point: Some(LogSeq(1)),
        until: None,
        reason: "user".into(),
    };
    vec![
        Record::Point(Box::new(point(vault, &backup).await)),
        hold("one"),
        hold("two"),
        Record::Release { id: "one".into() },
        Record::Prune {
            points: vec![LogSeq(9)],
            condemned: vec!["tables/x/segments/y.parquet".into()],
            delete_after: Timestamp::UNIX_EPOCH,
        },
        Record::Drop { backup: backup.clone() },
    ]
}

async fn point(vault: &Vault, backup: &BackupName) -> BackupPoint {
    let (name, schema) = (TableName::bare("t"), sample::plain());
    let id = Vault::table_id(backup, "columnar", &name, &Selection::default());
    let profile = WriterProfile::choose(&schema, &[], 8_192);
    let page = Manifest::pages(ManifestKind::Segments, &id, &schema, &profile, vec![]).remove(0);
    let (base, _) = vault.put_manifest(&page, &Default::default()).await.expect("a place in memory");
    let certificate = Certificate {
        kind: ProofKind::Own,
        rows: 0,
        partitions: 1,
        content_percent: 0,
        method: "counted".into(),
        at: Timestamp::UNIX_EPOCH,
    };
    let table = TablePoint {
        id,
        name,
        selection: Selection::default(),
        schema,
        mode: WriteMode::Full,
        base: vec![base],
        changes: vec![],
        digest: Digest::default(),
        bytes: ByteCount(0),
        segments_new: 0,
        bytes_new: ByteCount(0),
        certificate,
        encryption: Default::default(),
        key_ids: String::new(),
        sealed: None,
        parity: None,
        dependents: vec![],
        target_rows: 8_192,
        profile: profile.id(),
    };
    BackupPoint {
        backup: backup.clone(),
        run: RunId("run".into()),
        store: "columnar".into(),
        cut: Cut { at: Timestamp::UNIX_EPOCH, exactness: Exactness::Exact, positions: vec![] },
        tables: vec![table],
        elapsed_ms: 1,
        program: "keepfast".into(),
        lock: None,
    }
}

/// The bytes of an object of the vault.
fn object(name: &str) -> Vec<u8> {
    let vault = &*VAULT;
    let bytes = async { vault.get(&Path::from(name)).await?.bytes().await };
    RUNTIME.block_on(bytes).expect("an object that was made").to_vec()
}

/// The bytes that an input means for an object.
fn stored(name: &str, form: u8, rest: &[u8]) -> Bytes {
    match form % 3 {
        0 => rest.to_vec(),
        1 => sealed(rest),
        _ => sealed(&edit::edited(unsealed(&object(name)), rest)),
    }
    .into()
}

/// JSON with its seal; see section 1 of `docs/format.md`.
fn sealed(json: &[u8]) -> Vec<u8> {
    let json = json.strip_suffix(b"}").unwrap_or(json);
    let sum = Hash256::of(json);
    [json, format!(",\"sum\":\"{sum}\"}}\n").as_bytes()].concat()
}

/// A sealed object without its seal.
fn unsealed(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.len() - ",\"sum\":\"\"}\n".len() - 64;
    [&bytes[..end], b"}"].concat()
}

/// Opens the vault with other bytes in place of one object, and asks the log everything.
fn open_with(name: &str, bytes: Bytes, remove: &[String]) {
    let store = Arc::new(VAULT.fork());
    let outcome = RUNTIME.block_on(async {
        for gone in remove {
            store.delete(&Path::from(gone.as_str())).await.expect("a place in memory");
        }
        store.put(&Path::from(name), bytes.into()).await.expect("a place in memory");
        let vault = Vault::open_with(place(store.clone()), environment()).await?;
        let log = vault.log().await?;
        for point in log.all_points() {
            assert_eq!(log.resolve(&point.id().backup, AsOf::Point(point.seq()))?.id(), point.id());
            let _ = (format!("{point:?}"), point.tables.len(), log.latest(&point.id().backup).is_some());
        }
        let _ = (
            log.backups(),
            log.holds().count(),
            log.is_condemned("tables/x"),
            log.lines().count(),
            log.head(),
        );
        Ok::<_, VaultError>(())
    });
    if let Err(e) = outcome {
        assert!(!e.to_string().is_empty());
    }
}

pub(crate) fn keys(data: &[u8]) {
    let Some((form, rest)) = form(data) else { return };
    if form & 0x40 != 0 {
        return keys::open(form, rest);
    }
    let name = if form & 0x80 == 0 { layout::key_file(1) } else { layout::MARKER.to_owned() };
    open_with(&name, stored(&name, form & 0x3f, rest), &[]);
}

pub(crate) fn key_seeds() -> Vec<Vec<u8>> {
    let (key, marker) = (object(&layout::key_file(1)), object(layout::MARKER));
    let mut seeds = vec![seed(2, &[]), seed(0x82, &[]), seed(0, &key), seed(0x80, &marker)];
    seeds.extend([seed(1, &unsealed(&key)), seed(0x81, &unsealed(&marker))]);
    seeds.extend(keys::seeds().iter().map(|(form, json)| seed(0x40 | form, json)));
    seeds
}

/// The number of records of the vault.
const RECORDS: u64 = 6;

pub(crate) fn log(data: &[u8]) {
    let Some((form, rest)) = form(data) else { return };
    if form & 0x0f == 0x0f {
        return checkpoint(form >> 4, rest);
    }
    let seq = LogSeq(1 + u64::from(form >> 4) % RECORDS);
    // The records after it would name another hash; its copy would stand in for it.
    let mut remove = vec![layout::log_copy(seq)];
    for later in seq.0 + 1..=RECORDS {
        remove.extend([layout::log_record(LogSeq(later)), layout::log_copy(LogSeq(later))]);
    }
    let name = layout::log_record(seq);
    open_with(&name, stored(&name, form & 0x0f, rest), &remove);
}

/// Records of the log together, as an object that stands beside it: its bytes as they are, or its records edited, each with its
/// seal made right where the form wants it.
fn checkpoint(form: u8, rest: &[u8]) {
    static RECORDS_IN_ORDER: LazyLock<Vec<Vec<u8>>> =
        LazyLock::new(|| (1..=RECORDS).map(|seq| object(&layout::log_record(LogSeq(seq)))).collect());
    let bytes = match form % 4 {
        0 => rest.to_vec(),
        1 => zstd::bulk::compress(rest, 1).unwrap_or_default(),
        2 => zstd::bulk::compress(&edit::edited(RECORDS_IN_ORDER.concat(), rest), 1).unwrap_or_default(),
        // One record alone, so that its seal can follow.
        _ => {
            let mut records = RECORDS_IN_ORDER.clone();
            let (which, script) = rest.split_first().unwrap_or((&0, &[]));
            let record = &mut records[usize::from(*which) % RECORDS as usize];
            *record = sealed(&edit::edited(unsealed(record), script));
            zstd::bulk::compress(&records.concat(), 1).unwrap_or_default()
        }
    };
    let name = layout::checkpoint(LogSeq(RECORDS), Hash256::of(&bytes));
    open_with(&name, bytes.into(), &[]);
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![];
    for n in 0..RECORDS {
        let record = object(&layout::log_record(LogSeq(n + 1)));
        let form = (n as u8) << 4;
        seeds.extend([seed(form, &record), seed(form | 1, &unsealed(&record)), seed(form | 2, &[])]);
    }
    seeds.extend([0x2f, 0x3f].map(|form| seed(form, &[])));
    seeds
}
