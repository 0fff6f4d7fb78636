//! Re-encryption: the same points in another vault, nothing of the old one in it, and what every cut leaves.

use crate::common::*;
use arrow::array::{ArrayRef, BinaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray};
use keepfast_format::{
    ChangeWriter, Manifest, ManifestKind, SegmentWriter, Splitter, WriterProfile, read_changes, read_segment,
};
use keepfast_keys::{Cost, Credentials, KeyError, NewRecipient, Passphrase};
use keepfast_model::change::change_schema;
use keepfast_model::*;
use keepfast_objects::Target;
use keepfast_vault::{
    CheckOptions, CreateOptions, Environment, NewEncryption, NewObject, ReencryptOptions, ReencryptReport,
    Vault, VaultError, layout,
};
use object_store::memory::InMemory;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub const OLD: &str = "the old phrase";
pub const NEW: &str = "the new phrase";
const TARGET_ROWS: u32 = 64;

pub fn with_key(text: &str) -> Environment {
    static SEEDS: AtomicU64 = AtomicU64::new(5_000);
    let environment = world(SEEDS.fetch_add(1, Ordering::SeqCst)).environment;
    Environment { credentials: Credentials::passphrase(text), ..environment }
}

pub async fn open(store: &Arc<InMemory>, text: &str) -> Vault {
    Vault::open_with(memory(store.clone()), with_key(text)).await.unwrap()
}

pub fn place(store: &Arc<InMemory>) -> Target {
    Target::new(store.clone(), Default::default(), "memory:new")
}

pub fn options(encryption: NewEncryption) -> ReencryptOptions {
    let recipient = NewRecipient::Passphrase(Passphrase::new(NEW.into()), Cost::TRIVIAL);
    let recipients = match encryption {
        NewEncryption::None => vec![],
        _ => vec![("office".to_owned(), recipient)],
    };
    ReencryptOptions { recipients, encryption, ..ReencryptOptions::default() }
}

fn id_of(table: &str) -> TableId {
    Vault::table_id(&backup("shop"), "columnar", &TableName::bare(table), &Selection::default())
}

fn rows(names: impl Iterator<Item = (i32, String)>) -> RecordBatch {
    let (ids, names): (Vec<i32>, Vec<String>) = names.unzip();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(ids)), Arc::new(StringArray::from(names))];
    RecordBatch::try_new(schema().physical(), columns).unwrap()
}

fn of_table(table: &str, count: i32, changed: i32) -> RecordBatch {
    rows((0..count).map(|id| (id, format!("planted {table} {id} {}", if id < changed { "new" } else { "" }))))
}

/// A change of the rows `ids`, numbered from `seq`: put with another name, or deleted.
fn changes(ids: std::ops::Range<i32>, seq: i64, delete: bool) -> RecordBatch {
    let n = ids.len();
    let name = |id: i32| (!delete).then(|| format!("planted change {id}"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int8Array::from(vec![if delete { 2 } else { 0 }; n])),
        Arc::new(Int64Array::from_iter_values((seq..).take(n))),
        Arc::new(StringArray::from(vec!["0"; n])),
        Arc::new(StringArray::from(vec![Some("binlog.1:7"); n])),
        Arc::new(Int32Array::from(vec![0; n])),
        Arc::new(BinaryArray::from(vec![None::<&[u8]>; n])),
        Arc::new(Int64Array::from(vec![None::<i64>; n])),
        Arc::new(Int32Array::from_iter_values(ids.clone())),
        Arc::new(StringArray::from_iter(ids.map(name))),
    ];
    RecordBatch::try_new(change_schema(&schema()), columns).unwrap()
}

struct Table<'a> {
    name: &'static str,
    base: RecordBatch,
    changes: &'a [RecordBatch],
    parity: Option<Parity>,
}

/// Commits a point with real files.
async fn commit(vault: &Vault, run: &str, tables: &[Table<'_>]) {
    commit_with(vault, run, tables, |_| {}).await;
}

async fn commit_with(vault: &Vault, run: &str, tables: &[Table<'_>], lie: impl Fn(&mut Manifest)) {
    let schema = Arc::new(schema());
    let (mut point, _) =
        write_point(vault, &backup("shop"), run, &[sample("unused", &["x"], &[])]).await.unwrap();
    let template = point.tables.remove(0);
    let mut written: Vec<NewObject> = vec![];
    for table in tables {
        let id = id_of(table.name);
        let protection = protection_of(vault, &id).await.unwrap();
        let profile =
            Arc::new(WriterProfile::choose(&schema, std::slice::from_ref(&table.base), TARGET_ROWS));
        let writer = SegmentWriter::new(schema.clone(), profile.clone(), protection.clone());
        let mut splitter = Splitter::new(schema.clone(), TARGET_ROWS);
        let mut chunks = splitter.push(table.base.clone()).unwrap();
        chunks.extend(splitter.finish().unwrap());
        let mut entries = vec![];
        for chunk in chunks {
            let encoded =
                writer.encode(writer.identity(&chunk).unwrap(), &ShardId("0".into()), &chunk).unwrap();
            vault.put_segment(&id, &encoded).await.unwrap();
            written.push(Vault::segment_object(&id, &encoded.entry));
            entries.push(encoded.entry);
        }
        // Three pages, so that manifests are several.
        let mut pages = vec![];
        for part in entries.chunks(entries.len().div_ceil(3)) {
            pages.extend(Manifest::pages(ManifestKind::Segments, &id, &schema, &profile, part.to_vec()));
        }
        pages.iter_mut().for_each(&lie);
        let base = vault.put_manifests(pages, protection.encryption(), table.parity, &[]).await.unwrap();
        written.extend(base.objects);
        let mut changed = vec![];
        for batch in table.changes {
            let mut writer = ChangeWriter::new(schema.clone(), profile.clone(), protection.clone());
            let mut encoded = writer.push(batch.clone()).unwrap();
            encoded.extend(writer.finish().unwrap());
            for segment in &encoded {
                vault.put_change_segment(&id, segment).await.unwrap();
                written.push(Vault::change_object(&id, &segment.entry));
            }
            let entries = encoded.into_iter().map(|s| s.entry).collect();
            let pages = Manifest::pages(ManifestKind::Changes, &id, &schema, &profile, entries);
            let listed =
                vault.put_manifests(pages, protection.encryption(), table.parity, &[]).await.unwrap();
            written.extend(listed.objects);
            changed.extend(
                listed
                    .references
                    .into_iter()
                    .map(|manifest| ChangeManifestRef { manifest, written_by: Some(LogSeq(1)) }),
            );
        }
        let digest = RowHasher::new(&schema).digest(&table.base).unwrap();
        point.tables.push(TablePoint {
            name: TableName::bare(table.name),
            id,
            base: base.references,
            changes: changed,
            digest,
            certificate: Certificate { rows: digest.rows, ..template.certificate.clone() },
            encryption: protection.encryption().clone(),
            key_ids: protection.key_ids().to_owned(),
            profile: profile.id(),
            target_rows: TARGET_ROWS,
            parity: table.parity,
            ..template.clone()
        });
    }
    point.tables.sort_by(|a, b| a.name.cmp(&b.name));
    vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await.unwrap();
}

const PARITY: Option<Parity> = Some(Parity { data: 4, shards: 2 });

/// Three points of two tables, a dropped backup and a hold between, then a new base that shares files with the first.
pub async fn made(encryption: &Encryption) -> (Arc<InMemory>, Vault) {
    let store = Arc::new(InMemory::new());
    let made = CreateOptions { environment: with_key(OLD), ..CreateOptions::default() };
    let vault = Vault::create(memory(store.clone()), &made).await.unwrap();
    vault.encrypt_table(&id_of("orders"), encryption).await.unwrap();
    let both = [changes(3..40, 1, false), changes(50..60, 100, true)];
    let orders = |changed: i32, changes| Table {
        name: "orders",
        base: of_table("orders", 2_000, changed),
        changes,
        parity: PARITY,
    };
    let items = || Table { name: "items", base: of_table("items", 100, 0), changes: &[], parity: None };
    commit(&vault, "1", &[orders(0, &[]), items()]).await;
    back_up(&vault, &backup("gone"), "g", &[sample("x", &["a"], &[])]).await.unwrap();
    commit(&vault, "2", &[orders(0, &both[..1]), items()]).await;
    vault.drop_backup(&backup("gone"), jiff::SignedDuration::ZERO).await.unwrap();
    vault.hold(&backup("shop"), Some(LogSeq(1)), None, "never held").await.ok();
    vault.hold(&backup("shop"), None, None, "kept").await.unwrap();
    commit(&vault, "3", &[orders(0, &both), items()]).await;
    commit(&vault, "4", &[orders(20, &[])]).await;
    (store, vault)
}

/// All of a vault that is the same however it is encrypted.
async fn state(vault: &Vault) -> Vec<String> {
    let log = vault.log().await.unwrap();
    let mut seen = vec![];
    for point in log.all_points() {
        seen.push(format!("{} {} {:?} {}", point.id(), point.committed_at(), point.cut, point.run));
        for table in &point.tables {
            let TablePoint {
                name,
                digest,
                mode,
                certificate,
                schema,
                dependents,
                target_rows,
                profile,
                parity,
                ..
            } = table;
            seen.push(format!(
                "{name} {digest} {mode:?} {certificate:?} {schema:?} {dependents:?} {target_rows} {profile} {parity:?} {:?}",
                table.changes.iter().map(|c| c.written_by).collect::<Vec<_>>()
            ));
            let manifests = vault.read_manifests(table).await.unwrap();
            for manifest in &manifests.base {
                for entry in &manifest.segments {
                    let file = vault.read_segment(&table.id, entry).await.unwrap();
                    let read = read_segment(file, &manifest.schema, None, 100_000).unwrap();
                    let batches: Vec<_> = read.map(|b| b.unwrap().columns().to_vec()).collect();
                    seen.push(format!("{} {:?} {:?} {:?}", entry.digest, entry.min, entry.max, batches));
                }
            }
            for manifest in &manifests.changes {
                for entry in &manifest.segments {
                    let file = vault.read_change_segment(&table.id, entry).await.unwrap();
                    let batches: Vec<_> = read_changes(file, &manifest.schema, 100_000)
                        .unwrap()
                        .map(|b| b.unwrap().columns().to_vec())
                        .collect();
                    seen.push(format!(
                        "{} {:?} {:?} {:?}",
                        entry.digest, entry.seq_min, entry.seq_max, batches
                    ));
                }
            }
        }
    }
    seen.extend(log.holds().map(|h| format!("{h:?}")));
    seen
}

pub async fn whole(vault: &Vault) {
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole(), "{:?}", report.damage);
}

/// Identities, wrapped keys and secrets by which one vault could be told from its objects.
async fn marks(store: &Arc<InMemory>, vault: &Vault) -> BTreeSet<String> {
    let mut marks = BTreeSet::from([vault.id().to_string(), vault.identity_key().to_hex()]);
    for (name, bytes) in objects(&**store).await {
        if name.starts_with("keys") {
            for key in unseal(&bytes)["keys"].as_array().unwrap() {
                marks.extend(["id", "wrapped"].map(|m| key[m].as_str().unwrap().to_owned()));
            }
        }
    }
    for point in vault.log().await.unwrap().all_points() {
        for table in &point.tables {
            let manifests = vault.read_manifests(table).await.unwrap();
            marks.extend(table.base.iter().map(|m| m.id.to_string()));
            for entry in manifests.base.iter().chain(&manifests.changes).flat_map(|m| &m.segments) {
                marks.extend([entry.id.to_string(), entry.stored.to_string()]);
                marks.extend(entry.key.clone());
            }
        }
    }
    marks
}

#[tokio::test]
async fn points_come_back_under_other_keys_with_the_same_rows_and_nothing_of_the_old_ones() {
    let columns = Encryption::Columns { columns: vec![ColumnId(2)] };
    for (was, asked, found) in [
        (Encryption::Full, NewEncryption::AsItWas, Encryption::Full),
        (Encryption::None, NewEncryption::Full, Encryption::Full),
        (Encryption::Full, NewEncryption::None, Encryption::None),
        (columns.clone(), NewEncryption::AsItWas, columns.clone()),
        (columns, NewEncryption::Full, Encryption::Full),
    ] {
        let (store, vault) = made(&was).await;
        let before = objects(&*store).await;
        let new = Arc::new(InMemory::new());
        let report = vault.reencrypt_to(&place(&new), &options(asked), &()).await.unwrap();
        assert_eq!((report.points, report.kept), (4, 0), "{report:?}");
        assert!(report.left_out.is_empty() && report.objects > 20, "{report:?}");
        assert_eq!(objects(&*store).await, before, "the vault stays as it is");

        let there = open(&new, NEW).await;
        assert_ne!(there.id(), vault.id());
        assert_eq!(state(&there).await, state(&vault).await);
        let checked = there.check(&CheckOptions::default(), &()).await.unwrap();
        assert!(checked.is_whole() && checked.orphans.objects == 0, "{checked:?}");
        let point = there.latest(&backup("shop")).await.unwrap();
        assert_eq!(point.tables[0].encryption, found);
        let ours = vault.latest(&backup("shop")).await.unwrap();
        assert_eq!((point.seq(), point.tables.len()), (ours.seq(), ours.tables.len()));
        assert!(report.objects < 4 * 60, "files of unchanged rows are encoded once: {report:?}");

        let marks = marks(&store, &vault).await;
        for (name, bytes) in objects(&*new).await {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!name.starts_with("staging/"), "{name}");
            assert!(!marks.iter().any(|m| name.contains(m.as_str()) || text.contains(m.as_str())), "{name}");
            let is_plain = found == Encryption::None
                || (asked == NewEncryption::AsItWas && !name.contains(&id_of("orders").0));
            assert!(is_plain || !text.contains("planted"), "{name}");
        }
        if asked != NewEncryption::None {
            let refused = open(&new, OLD).await.log().await;
            assert!(matches!(refused, Err(VaultError::Keys(KeyError::WrongKey { .. }))), "{refused:?}");
        }
        // It goes on by itself: parity heals it, and a further call finds nothing to do.
        let name = objects(&*new)
            .await
            .into_keys()
            .find(|n| n.contains(&id_of("orders").0) && n.contains("/segments/"));
        let lost = fork(&new);
        tamper(&*lost, &name.unwrap(), None).await;
        let healed = open(&lost, NEW).await.repair(None, &()).await.unwrap();
        assert!(healed.lost.is_empty() && healed.healed.len() == 1, "{healed:?}");
        let stands = objects(&*new).await;
        let again = vault.reencrypt_to(&place(&new), &options(asked), &()).await.unwrap();
        assert_eq!((again.points, again.kept, again.objects), (0, 4, 0), "{again:?}");
        assert_eq!(objects(&*new).await, stands);
    }
}

#[tokio::test]
async fn new_points_and_tables_follow_and_foreign_vaults_are_refused() {
    let (_, vault) = made(&Encryption::Full).await;
    let new = Arc::new(InMemory::new());
    let asked = options(NewEncryption::AsItWas);
    vault.reencrypt_to(&place(&new), &asked, &()).await.unwrap();
    vault.encrypt_table(&id_of("more"), &Encryption::Full).await.unwrap();
    vault.rotate_keys().await.unwrap();
    let orders = Table { name: "orders", base: of_table("orders", 2_000, 40), changes: &[], parity: PARITY };
    let more = Table { name: "more", base: of_table("more", 10, 0), changes: &[], parity: None };
    commit(&vault, "5", &[orders, more]).await;
    let report = vault.reencrypt_to(&place(&new), &asked, &()).await.unwrap();
    assert_eq!((report.points, report.kept), (1, 4), "{report:?}");
    assert!(report.objects < 30, "{report:?}");
    let there = open(&new, NEW).await;
    assert_eq!(state(&there).await, state(&vault).await);
    whole(&there).await;

    let refused = |store: Arc<InMemory>, options: ReencryptOptions| {
        let vault = vault.clone();
        async move {
            let before = objects(&*store).await;
            let refused = vault.reencrypt_to(&place(&store), &options, &()).await;
            assert_eq!(objects(&*store).await, before);
            refused.unwrap_err()
        }
    };
    // Another vault, a plain copy, one that was written to since, one whose keys nobody gave.
    let (foreign, _) = made(&Encryption::None).await;
    let error = refused(foreign, asked.clone()).await;
    assert!(matches!(error, VaultError::NotReencrypted { .. }), "{error}");
    let copy = Arc::new(InMemory::new());
    vault.copy_to(&place(&copy), &()).await.unwrap();
    let error = refused(copy, asked.clone()).await;
    assert!(matches!(error, VaultError::NotReencrypted { .. }), "{error}");
    let other = options(NewEncryption::None);
    let error = refused(fork(&new), other).await;
    assert!(matches!(error, VaultError::Keys(KeyError::Locked { .. })), "{error}");
    there.hold(&backup("shop"), None, None, "written since").await.unwrap();
    let error = refused(new, asked).await;
    assert!(matches!(error, VaultError::NotReencrypted { .. }), "{error}");
    let nobody = ReencryptOptions::default();
    let error = vault.reencrypt_to(&place(&Arc::new(InMemory::new())), &nobody, &()).await.unwrap_err();
    assert!(matches!(error, VaultError::Keys(KeyError::NoCredential { .. })), "{error}");
}

#[tokio::test]
async fn what_does_not_hold_the_rows_that_it_states_is_never_made_anew() {
    let (store, vault) = made(&Encryption::Full).await;
    let name = objects(&*store).await.into_keys().find(|n| n.contains("/changes/")).unwrap();
    let mut bytes = objects(&*store).await[&name].to_vec();
    bytes[40] ^= 4;
    let damaged = fork(&store);
    tamper(&*damaged, &name, Some(bytes.into())).await;
    let new = Arc::new(InMemory::new());
    let asked = options(NewEncryption::AsItWas);
    let refused = open(&damaged, OLD).await.reencrypt_to(&place(&new), &asked, &()).await;
    assert!(
        matches!(&refused, Err(VaultError::Damaged { path, .. }) if path.ends_with(&name)),
        "{refused:?}"
    );
    let there = open(&new, NEW).await;
    let stands = there.log().await.unwrap().all_points().count();
    assert!((1..4).contains(&stands), "what came before it stands: {stands}");
    whole(&there).await;
    // Healed, the same call goes on.
    vault.reencrypt_to(&place(&new), &asked, &()).await.unwrap();
    assert_eq!(state(&open(&new, NEW).await).await, state(&vault).await);

    // Manifests that lie are authenticated lies of somebody with the keys, and their rows are looked at all the same.
    type Lie = (&'static str, fn(&mut Manifest));
    let lies: [Lie; 3] = [
        ("digest", |m| m.segments[0].digest.sum ^= 1),
        ("keys", |m| m.segments[0].max = m.segments[0].min.clone()),
        ("rows", |m| {
            let [first, second] = &mut m.segments[..2] else { panic!("two files") };
            (first.rows, first.digest.rows) = (first.rows + 1, first.rows + 1);
            (second.rows, second.digest.rows) = (second.rows - 1, second.rows - 1);
        }),
    ];
    for (what, lie) in lies {
        let liar = open(&fork(&store), OLD).await;
        let orders = Table { name: "orders", base: of_table("orders", 900, 900), changes: &[], parity: None };
        commit_with(&liar, "lie", &[orders], lie).await;
        let refused = liar.reencrypt_to(&place(&Arc::new(InMemory::new())), &asked, &()).await;
        assert!(matches!(refused, Err(VaultError::Damaged { .. })), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn a_table_whose_key_was_dropped_is_left_out_and_said() {
    let (_, vault) = made(&Encryption::Full).await;
    vault.shred(&id_of("orders"), None).await.unwrap();
    let new = Arc::new(InMemory::new());
    let report: ReencryptReport =
        vault.reencrypt_to(&place(&new), &options(NewEncryption::AsItWas), &()).await.unwrap();
    assert_eq!((report.points, report.left_out.len()), (3, 4), "{report:?}");
    // Whoever was cut off before the report is told by the next one.
    let again = vault.reencrypt_to(&place(&new), &options(NewEncryption::AsItWas), &()).await.unwrap();
    assert_eq!((again.points, again.kept), (0, 3));
    assert_eq!(again.left_out, report.left_out);
    let there = open(&new, NEW).await;
    whole(&there).await;
    let log = there.log().await.unwrap();
    assert!(log.all_points().all(|p| p.tables.len() == 1 && p.tables[0].name.table == "items"));
}

/// One table of a few files, two points and a hold.
pub async fn small(encryption: &Encryption) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let made = CreateOptions { environment: with_key(OLD), ..CreateOptions::default() };
    let vault = Vault::create(memory(store.clone()), &made).await.unwrap();
    vault.encrypt_table(&id_of("orders"), encryption).await.unwrap();
    let put = changes(3..9, 1, false);
    for (run, changes) in [("1", vec![]), ("2", vec![put])] {
        let base = of_table("orders", 300, 0);
        commit(&vault, run, &[Table { name: "orders", base, changes: &changes, parity: None }]).await;
        vault.hold(&backup("shop"), None, None, run).await.unwrap();
    }
    store
}

#[tokio::test]
async fn every_cut_leaves_whole_points_and_the_same_call_goes_on() {
    let mut cuts = 0;
    for (was, asked) in [(Encryption::Full, NewEncryption::AsItWas), (Encryption::None, NewEncryption::Full)]
    {
        let store = small(&was).await;
        let expected = state(&open(&store, OLD).await).await;
        let run = |process: Process, new: Arc<InMemory>| {
            let store = store.clone();
            async move {
                let vault = open(&store, OLD).await;
                vault.reencrypt_to(&process.wrap(&place(&new)), &options(asked), &()).await
            }
        };
        let clean = Process::default();
        let files = run(clean.clone(), Arc::new(InMemory::new())).await.unwrap().objects;
        let mut of_act = 0;
        let mut again_at_most = 0;
        for operation in clean.trace() {
            // The way there is the same; only what was not encrypted before is cut in fewer ways.
            let chosen =
                |f: &Fault| was == Encryption::Full || f.ends_the_process() || *f == Fault::Swallowed;
            for fault in Fault::ALL.into_iter().filter(|f| f.fits(operation.kind)).filter(chosen) {
                let said = format!("{was:?}: {fault} at {operation}");
                let new = Arc::new(InMemory::new());
                let process = Process::new(Script::at(operation.number, fault));
                let done = run(process.clone(), new.clone()).await;
                of_act += process.fired().len();
                process.settle().await;
                if memory(new.clone()).size(layout::MARKER).await.unwrap().is_some() {
                    let there = open(&new, NEW).await;
                    whole(&there).await;
                    let found = there.log().await.unwrap().all_points().count();
                    assert!(done.is_err() || found == 2, "{said}: reported and not there");
                }
                let again = run(Process::default(), new.clone()).await;
                let again = again.unwrap_or_else(|e| panic!("{said}: {e}"));
                again_at_most = again_at_most.max(again.objects);
                let there = open(&new, NEW).await;
                assert_eq!(state(&there).await, expected, "{said}");
                whole(&there).await;
                assert!(
                    !objects(&*new).await.keys().any(|n| n.ends_with(".json") && n.starts_with("staging/")),
                    "{said}"
                );
            }
        }
        eprintln!(
            "{was:?}: {of_act} cuts at {}; {files} files, at most {again_at_most} again",
            clean.tally()
        );
        assert!(again_at_most <= files);
        cuts += of_act;
    }
    eprintln!("COUNT {cuts} cuts");
    assert!(cuts > 500, "{cuts}");
}

#[tokio::test]
async fn files_that_were_staged_are_not_encoded_again() {
    let (_, vault) = made(&Encryption::Full).await;
    let asked = options(NewEncryption::AsItWas);
    let clean = Process::default();
    let all = vault.reencrypt_to(&clean.wrap(&place(&Arc::new(InMemory::new()))), &asked, &()).await.unwrap();
    let trace = clean.trace();
    let after = trace.iter().skip_while(|o| !o.path.starts_with("manifests/"));
    let record = after.filter(|o| o.kind == Kind::Put).find(|o| o.path.starts_with("log/")).unwrap();
    let new = Arc::new(InMemory::new());
    // Just before the first point is committed, all of its files are there.
    let cut = Process::new(Script::at(record.number, Fault::DiesBefore));
    assert!(vault.reencrypt_to(&cut.wrap(&place(&new)), &asked, &()).await.is_err());
    let written = objects(&*new).await.keys().filter(|n| n.contains("/segments/")).count() as u64;
    let again = vault.reencrypt_to(&place(&new), &asked, &()).await.unwrap();
    eprintln!("{} files, {written} before the cut, {} after it", all.objects, again.objects);
    assert!(written > 20);
    assert_eq!(written + again.objects, all.objects);
    assert_eq!(state(&open(&new, NEW).await).await, state(&vault).await);
}
