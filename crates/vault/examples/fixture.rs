//! Makes the vault `format-1-encrypted-parity` of `tests/fixtures` and its damages: `fixture FOLDER`.
//!
//! Clock, random bytes and the price of the passphrase are those of tests, so that the same program writes the same bytes. What
//! stands in `tests/fixtures` was written once and stays as it is.

use arrow::array::{ArrayRef, BinaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray};
use jiff::Timestamp;
use keepfast_format::{ChangeWriter, Manifest, ManifestKind, SegmentWriter, Splitter, WriterProfile};
use keepfast_keys::Credentials;
use keepfast_model::change::change_schema;
use keepfast_model::*;
use keepfast_objects::open_target;
use keepfast_vault::testing::{Ticking, environment};
use keepfast_vault::{CreateOptions, Environment, NewObject, Vault};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const PASSPHRASE: &str = "passphrase of the fixtures";
const TARGET_ROWS: u32 = 8;
const PARITY: Parity = Parity { data: 4, shards: 2 };

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder")?);
    let healthy = folder.join("healthy");
    make(&healthy).await?;
    let mut files = BTreeMap::new();
    read(&healthy, &healthy, &mut files)?;
    for (name, changed, removed) in damages(&files)? {
        let fixture = folder.join(name);
        std::fs::create_dir_all(&fixture)?;
        for (path, bytes) in changed {
            let place = fixture.join("changed").join(path);
            std::fs::create_dir_all(place.parent().ok_or("a file stands in a folder")?)?;
            std::fs::write(place, bytes)?;
        }
        if !removed.is_empty() {
            std::fs::write(fixture.join("removed.txt"), removed.join("\n") + "\n")?;
        }
    }
    Ok(())
}

fn read(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> Outcome {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(root, &path, files)?;
        } else {
            files.insert(path.strip_prefix(root)?.to_string_lossy().into_owned(), std::fs::read(&path)?);
        }
    }
    Ok(())
}

type Damage = (&'static str, Vec<(String, Vec<u8>)>, Vec<String>);

fn damages(files: &BTreeMap<String, Vec<u8>>) -> Outcome<Vec<Damage>> {
    let of = |folder: &str| -> Vec<&String> { files.keys().filter(|name| name.contains(folder)).collect() };
    let people = format!("tables/{}/", id_of("people")?);
    let items = format!("tables/{}/", id_of("items")?);
    let flipped = |name: &str, at: usize| {
        let mut bytes = files[name].clone();
        bytes[at] ^= 4;
        (name.to_owned(), bytes)
    };
    let segments = [&people, &items].map(|table| of(&format!("{table}segments/"))[0].clone());
    let [first, newest] = ["keys/1.json", "keys/5.json"].map(str::to_owned);
    Ok(vec![
        ("flipped-segments", segments.iter().map(|name| flipped(name, 100)).collect(), vec![]),
        ("missing-parity-file", vec![], vec![of(&format!("{people}parity/"))[0].clone()]),
        ("missing-newest-key-file", vec![], vec![newest.clone()]),
        ("replayed-key-file", vec![(newest, files[&first].clone())], vec![]),
        ("cut-first-key-file", vec![(first.clone(), files[&first][..80].to_vec())], vec![]),
        (
            "flipped-manifests",
            vec![flipped(of("manifests/")[0], 70), flipped(of("manifests-copy/")[1], 70)],
            vec![],
        ),
        (
            "swapped-segments",
            vec![
                (segments[0].clone(), files[&segments[1]].clone()),
                (segments[1].clone(), files[&segments[0]].clone()),
            ],
            vec![],
        ),
    ])
}

fn schema() -> Outcome<TableSchema> {
    Ok(TableSchema::of(
        vec![
            ("id".into(), ColumnType::Int32, false),
            ("secret".into(), ColumnType::Varchar { length: None }, true),
        ],
        &["id"],
    )?)
}

fn id_of(table: &str) -> Outcome<TableId> {
    Ok(Vault::table_id(&"shop".parse()?, "columnar", &TableName::bare(table), &Selection::default()))
}

fn encryption_of(table: &str) -> Outcome<Encryption> {
    Ok(match table {
        "people" => Encryption::Full,
        _ => Encryption::Columns { columns: vec![schema()?.columns[1].id] },
    })
}

/// A full point, an incremental one, a rotation of keys, and a full one.
async fn make(folder: &Path) -> Outcome {
    let environment = Environment {
        credentials: Credentials::passphrase(PASSPHRASE),
        ..environment(Arc::new(Ticking::at(1_800_000_000)), 4)
    };
    let options = CreateOptions { environment, ..CreateOptions::default() };
    let vault = Vault::create(open_target(&folder.to_string_lossy())?, &options).await?;
    for table in ["people", "items"] {
        vault.encrypt_table(&id_of(table)?, &encryption_of(table)?).await?;
    }
    commit(&vault, 1, &[("people", rows(40, 0)?, None), ("items", rows(12, 0)?, None)]).await?;
    commit(&vault, 2, &[("people", rows(40, 0)?, Some(changes()?)), ("items", rows(12, 0)?, None)]).await?;
    vault.rotate_keys().await?;
    commit(&vault, 3, &[("people", rows(40, 3)?, None), ("items", rows(13, 0)?, None)]).await
}

fn rows(count: i32, changed: i32) -> Outcome<RecordBatch> {
    let text = |id| format!("row {id}{}", if id < changed { ", changed" } else { "" });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(0..count)),
        Arc::new(StringArray::from_iter_values((0..count).map(text))),
    ];
    Ok(RecordBatch::try_new(schema()?.physical(), columns)?)
}

/// The first three rows are put with another text.
fn changes() -> Outcome<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int8Array::from(vec![0; 3])),
        Arc::new(Int64Array::from_iter_values(1..4)),
        Arc::new(StringArray::from(vec!["0"; 3])),
        Arc::new(StringArray::from(vec![Some("7"); 3])),
        Arc::new(Int32Array::from(vec![0; 3])),
        Arc::new(BinaryArray::from(vec![None::<&[u8]>; 3])),
        Arc::new(Int64Array::from(vec![None::<i64>; 3])),
        Arc::new(Int32Array::from_iter_values(0..3)),
        Arc::new(StringArray::from_iter_values((0..3).map(|id| format!("row {id}, changed")))),
    ];
    Ok(RecordBatch::try_new(change_schema(&schema()?), columns)?)
}

async fn commit(vault: &Vault, run: u64, tables: &[(&str, RecordBatch, Option<RecordBatch>)]) -> Outcome {
    let schema = Arc::new(schema()?);
    let (mut points, mut written) = (vec![], vec![]);
    for (name, base, changes) in tables {
        let id = id_of(name)?;
        let encryption = encryption_of(name)?;
        let protection = vault.protection(&id, &encryption).await?;
        let profile = Arc::new(WriterProfile::choose(&schema, std::slice::from_ref(base), TARGET_ROWS));
        let writer = SegmentWriter::new(schema.clone(), profile.clone(), protection.clone());
        let mut splitter = Splitter::new(schema.clone(), TARGET_ROWS);
        let mut chunks = splitter.push(base.clone())?;
        chunks.extend(splitter.finish()?);
        let mut entries = vec![];
        for chunk in chunks {
            let encoded = writer.encode(writer.identity(&chunk)?, &ShardId("0".into()), &chunk)?;
            vault.put_segment(&id, &encoded).await?;
            written.push(Vault::segment_object(&id, &encoded.entry));
            entries.push(encoded.entry);
        }
        let pages = Manifest::pages(ManifestKind::Segments, &id, &schema, &profile, entries);
        let listed = vault.put_manifests(pages, &encryption, Some(PARITY), &[]).await?;
        let references = listed.references.clone();
        let mut all = listed.objects;
        let mut changed = vec![];
        if let Some(batch) = changes {
            let mut writer = ChangeWriter::new(schema.clone(), profile.clone(), protection.clone());
            let mut encoded = writer.push(batch.clone())?;
            encoded.extend(writer.finish()?);
            for segment in &encoded {
                vault.put_change_segment(&id, segment).await?;
                written.push(Vault::change_object(&id, &segment.entry));
            }
            let entries = encoded.into_iter().map(|s| s.entry).collect();
            let pages = Manifest::pages(ManifestKind::Changes, &id, &schema, &profile, entries);
            let listed = vault.put_manifests(pages, &encryption, Some(PARITY), &[]).await?;
            all.extend(listed.objects);
            let named = |manifest| ChangeManifestRef { manifest, written_by: None };
            changed.extend(listed.references.into_iter().map(named));
        }
        let point = TablePoint {
            name: TableName::bare(*name),
            changes: changed,
            encryption: protection.encryption().clone(),
            key_ids: protection.key_ids().to_owned(),
            profile: profile.id(),
            ..table_point(&schema, id, references, RowHasher::new(&schema).digest(base)?)
        };
        written.extend(all);
        points.push(point);
    }
    points.sort_by(|a: &TablePoint, b| a.name.cmp(&b.name));
    put(vault, run, points, &written).await
}

fn table_point(schema: &TableSchema, id: TableId, base: Vec<ManifestRef>, digest: Digest) -> TablePoint {
    TablePoint {
        id,
        name: TableName::bare("t"),
        selection: Selection::default(),
        schema: schema.clone(),
        mode: WriteMode::Full,
        digest,
        bytes: base.iter().map(|m| m.bytes).sum(),
        segments_new: 0,
        bytes_new: ByteCount(0),
        certificate: Certificate {
            kind: ProofKind::Own,
            rows: digest.rows,
            partitions: 1,
            content_percent: 0,
            method: "counted".into(),
            at: Timestamp::UNIX_EPOCH,
        },
        base,
        changes: vec![],
        encryption: Encryption::None,
        key_ids: String::new(),
        sealed: None,
        dependents: vec![],
        target_rows: TARGET_ROWS,
        profile: Hash256([0; 32]),
        parity: Some(PARITY),
    }
}

async fn put(vault: &Vault, run: u64, tables: Vec<TablePoint>, written: &[NewObject]) -> Outcome {
    let point = BackupPoint {
        backup: "shop".parse()?,
        run: RunId(format!("run {run}")),
        store: "columnar".into(),
        cut: Cut { at: "2027-01-01T00:00:00Z".parse()?, exactness: Exactness::Exact, positions: vec![] },
        tables,
        elapsed_ms: 1,
        program: "keepfast fixture".into(),
        lock: None,
    };
    vault.commit(vec![Record::Point(Box::new(point))], written, &()).await?;
    Ok(())
}
