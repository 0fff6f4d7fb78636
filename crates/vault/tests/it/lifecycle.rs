//! Drop, hold, release, deletion after grace, staging, and the Delta projection.

use crate::common::*;
use jiff::{SignedDuration, Timestamp};
use keepfast_model::{Coded, Record, RunId};
use keepfast_objects::{Put, open_target};
use keepfast_vault::{CheckOptions, DeltaVersion, Vault, VaultError};
use object_store::memory::InMemory;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn tables() -> [Sample; 2] {
    [sample("orders", &["a", "b"], &["x"]), sample("items", &["c"], &[])]
}

async fn new_vault(world: &World) -> (Arc<InMemory>, Vault) {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world.options()).await.unwrap();
    (store, vault)
}

async fn assert_readable(vault: &Vault, name: &str) {
    let point = vault.latest(&backup(name)).await.unwrap();
    for table in &point.tables {
        let manifests = vault.read_manifests(table).await.unwrap();
        for entry in manifests.base.iter().flat_map(|m| &m.segments) {
            vault.read_segment(&table.id, entry).await.unwrap();
        }
        for entry in manifests.changes.iter().flat_map(|m| &m.segments) {
            vault.read_change_segment(&table.id, entry).await.unwrap();
        }
    }
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole(), "{:?}", report.damage);
}

#[tokio::test]
async fn a_dropped_backup_is_invisible_at_once_and_deleted_after_its_grace() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    back_up(&vault, &backup("a"), "r1", &tables()).await.unwrap();
    back_up(&vault, &backup("b"), "r2", &tables()).await.unwrap();
    let before = objects(&*store).await.len();
    vault.drop_backup(&backup("a"), DAY).await.unwrap();
    assert_eq!(vault.log().await.unwrap().backups(), [backup("b")]);
    assert_eq!(vault.latest(&backup("a")).await.unwrap_err().code().0, 225);
    assert_eq!(vault.delete_condemned().await.unwrap(), 0, "the grace has not passed");
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole() && report.condemned.objects == 7 && report.orphans.objects == 0, "{report:?}");
    world.clock.pass(DAY);
    assert_eq!(vault.delete_condemned().await.unwrap(), 7);
    assert_eq!(vault.delete_condemned().await.unwrap(), 0);
    assert_eq!(objects(&*store).await.len(), before + 2 - 7);
    assert_readable(&vault, "b").await;
    assert!(matches!(vault.drop_backup(&backup("a"), DAY).await, Err(VaultError::NoBackup { .. })));
}

#[tokio::test]
async fn what_is_backed_up_again_after_a_drop_outlives_the_deletion() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    back_up(&vault, &backup("a"), "r1", &tables()).await.unwrap();
    // One run reads the base before the drop and commits after it; another one begins after the deletion.
    let (point, written) = write_point(&vault, &backup("a"), "r2", &tables()).await.unwrap();
    vault.drop_backup(&backup("a"), DAY).await.unwrap();
    vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await.unwrap();
    assert_readable(&vault, "a").await;
    world.clock.pass(DAY);
    assert_eq!(vault.delete_condemned().await.unwrap(), 7);
    assert_readable(&vault, "a").await;
    back_up(&vault, &backup("a"), "r3", &tables()).await.unwrap();
    assert!(vault.delete_condemned().await.unwrap() > 0, "what stood again under a dead name");
    assert_readable(&vault, "a").await;
    assert_eq!(vault.points(&backup("a")).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_empty_table_can_be_backed_up_again_after_a_drop() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    let empty = [sample("t", &[], &[])];
    back_up(&vault, &backup("a"), "r1", &empty).await.unwrap();
    vault.drop_backup(&backup("a"), SignedDuration::ZERO).await.unwrap();
    back_up(&vault, &backup("a"), "r2", &empty).await.unwrap();
    vault.delete_condemned().await.unwrap();
    assert_readable(&vault, "a").await;
}

#[tokio::test]
async fn a_commit_whose_objects_a_prune_deleted_fails_and_is_invisible() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    back_up(&vault, &backup("a"), "r1", &tables()).await.unwrap();
    let (point, _) = write_point(&vault, &backup("a"), "r2", &tables()).await.unwrap();
    vault.drop_backup(&backup("a"), SignedDuration::ZERO).await.unwrap();
    vault.delete_condemned().await.unwrap();
    let error = vault.commit(vec![Record::Point(Box::new(point))], &[], &()).await.unwrap_err();
    assert!(matches!(error, VaultError::Pruned { .. }), "{error}");
    assert!(vault.points(&backup("a")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_hold_keeps_a_backup_until_it_is_released_or_runs_out() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    let a = backup("a");
    assert!(matches!(vault.hold(&a, None, None, "user").await, Err(VaultError::NoBackup { .. })));
    let seq = back_up(&vault, &a, "r1", &tables()).await.unwrap();
    let id = vault.hold(&a, Some(seq), None, "audit").await.unwrap();
    let error = vault.drop_backup(&a, DAY).await.unwrap_err();
    assert!(matches!(&error, VaultError::Held { holds, .. } if holds.contains("audit")), "{error}");
    vault.release(&id).await.unwrap();
    assert!(matches!(vault.release(&id).await, Err(VaultError::NoHold { .. })));
    let until =
        Timestamp::from_second(world.clock.0.load(std::sync::atomic::Ordering::SeqCst)).unwrap() + DAY;
    vault.hold(&a, None, Some(until), "reader").await.unwrap();
    assert!(matches!(vault.drop_backup(&a, DAY).await, Err(VaultError::Held { .. })));
    world.clock.pass(DAY);
    vault.drop_backup(&a, DAY).await.unwrap();
    assert!(matches!(vault.hold(&a, Some(seq), None, "late").await, Err(VaultError::NoBackup { .. })));
}

#[tokio::test]
async fn a_damaged_backup_can_be_dropped() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    back_up(&vault, &backup("a"), "r1", &tables()).await.unwrap();
    let names: Vec<_> = objects(&*store).await.into_keys().filter(|n| n.starts_with("manifests/")).collect();
    tamper(&*store, &names[0], None).await;
    tamper(&*store, &names[1], Some("x".into())).await;
    vault.drop_backup(&backup("a"), DAY).await.unwrap();
    assert!(vault.log().await.unwrap().backups().is_empty());
}

#[tokio::test]
async fn the_first_finisher_of_a_task_wins_and_its_objects_are_durable_before_its_result() {
    let dir = tempfile::tempdir().unwrap();
    let target = open_target(dir.path().join("vault").to_str().unwrap()).unwrap();
    let vault = Vault::open_or_create(target.clone()).await.unwrap();
    let run = vault.new_run().unwrap();
    assert_eq!(vault.plan::<Value>(&run).await.unwrap(), None);
    assert_eq!(vault.put_plan(&run, &serde_json::json!({"tables": 1})).await.unwrap(), Put::Created);
    for (task, result) in [(0, "zero"), (12, "twelve")] {
        assert_eq!(vault.put_task_result(&run, task, &result).await.unwrap(), Put::Created);
    }
    assert_eq!(vault.put_task_result(&run, 12, &"late").await.unwrap(), Put::Existed);
    let results = vault.task_results::<String>(&run).await.unwrap();
    assert_eq!(results.into_iter().collect::<Vec<_>>(), [(0, "zero".to_owned()), (12, "twelve".to_owned())]);
    assert_eq!(vault.plan::<Value>(&run).await.unwrap(), Some(serde_json::json!({"tables": 1})));
    assert!(vault.task_results::<u32>(&run).await.is_err(), "a result of another type is an error");
    let other = RunId("other".into());
    vault.put_plan(&other, &1).await.unwrap();
    assert_eq!(vault.sweep_run(&run).await.unwrap(), 3);
    assert_eq!(vault.sweep_staging(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(vault.staged_runs().await.unwrap().into_keys().collect::<Vec<_>>(), [other]);
    assert_eq!(vault.sweep_staging(Duration::ZERO).await.unwrap(), 1);
    assert!(vault.put_plan(&RunId("../x".into()), &1).await.is_err());
}

/// All actions of a table's Delta log, by version.
async fn delta(store: &InMemory) -> Vec<Vec<Value>> {
    let log: Vec<_> = objects(store).await.into_iter().filter(|(n, _)| n.contains("/_delta_log/")).collect();
    log.iter()
        .enumerate()
        .map(|(version, (name, bytes))| {
            assert!(name.ends_with(&format!("/_delta_log/{version:020}.json")));
            bytes
                .split(|b| *b == b'\n')
                .filter(|l| !l.is_empty())
                .map(|l| serde_json::from_slice(l).unwrap())
                .collect()
        })
        .collect()
}

fn paths(actions: &[Value], kind: &str) -> Vec<String> {
    actions.iter().filter_map(|a| Some(a.get(kind)?["path"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn each_base_becomes_one_version_of_a_delta_table() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    let project = async || {
        let point = vault.latest(&backup("a")).await.unwrap();
        let table = &point.tables[0];
        let manifests = vault.read_manifests(table).await.unwrap();
        vault.project_delta(table, &manifests.base).await.unwrap()
    };
    back_up(&vault, &backup("a"), "r1", &[sample("t", &["1", "2"], &[])]).await.unwrap();
    assert_eq!(project().await, Some(DeltaVersion(0)));
    assert_eq!(project().await, None, "the same base again");
    back_up(&vault, &backup("a"), "r2", &[sample("t", &["2", "3"], &["change"])]).await.unwrap();
    assert_eq!(project().await, Some(DeltaVersion(1)));
    let log = delta(&store).await;
    assert_eq!(log.len(), 2);
    let of = |text: &str| format!("segments/{}", segment(&format!("t {text}"), 10).entry.file_name());
    let sorted = |mut v: Vec<String>| {
        v.sort();
        v
    };
    assert_eq!(paths(&log[0], "add"), sorted(vec![of("1"), of("2")]));
    assert_eq!((paths(&log[1], "remove"), paths(&log[1], "add")), (vec![of("1")], vec![of("3")]));
    let find = |version: usize, kind: &str| log[version].iter().find_map(|a| a.get(kind));
    assert_eq!(find(0, "protocol").unwrap()["minReaderVersion"], 1);
    assert!(find(1, "protocol").is_none() && find(1, "metaData").is_none());
    let add = find(0, "add").unwrap();
    assert_eq!(add["stats"], "{\"numRecords\":10}");
    assert!(
        add["size"].as_u64().unwrap() > 0 && add["dataChange"] == true && add["partitionValues"].is_object()
    );
    let metadata = find(0, "metaData").unwrap();
    let schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    let expected = serde_json::json!({"type": "struct", "fields": [
        {"name": "id", "type": "integer", "nullable": false, "metadata": {}},
        {"name": "name", "type": "string", "nullable": true, "metadata": {}},
    ]});
    assert_eq!(schema, expected);
    // What stands beside the table is no damage of the vault, and a drop takes it along.
    assert!(vault.check(&CheckOptions::default(), &()).await.unwrap().is_whole());
    vault.drop_backup(&backup("a"), DAY).await.unwrap();
    assert!(delta(&store).await.is_empty());
}

#[tokio::test]
async fn a_table_with_wall_clock_times_states_the_feature_it_needs() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    use keepfast_model::ColumnType as T;
    let types = [
        (T::Boolean, "boolean"),
        (T::Int8, "byte"),
        (T::Int16, "short"),
        (T::UInt8, "short"),
        (T::Int32, "integer"),
        (T::UInt16, "integer"),
        (T::Int64, "long"),
        (T::UInt32, "long"),
        (T::Time, "long"),
        (T::UInt64, "decimal(20,0)"),
        (T::Float32, "float"),
        (T::Float64, "double"),
        (T::Decimal { precision: 10, scale: 2 }, "decimal(10,2)"),
        (T::Text, "string"),
        (T::Uuid, "string"),
        (T::Json, "string"),
        (T::Blob, "binary"),
        (T::Date, "date"),
        (T::Timestamp { zone: true }, "timestamp"),
        (T::Timestamp { zone: false }, "timestamp_ntz"),
    ];
    let mut columns: Vec<_> =
        types.iter().enumerate().map(|(i, (t, _))| (format!("c{i}"), t.clone(), true)).collect();
    columns.push(("list".into(), T::List(Box::new(T::UInt16)), true));
    let schema = keepfast_model::TableSchema::of(columns, &[]).unwrap();
    back_up(&vault, &backup("a"), "r1", &[sample("t", &["1"], &[])]).await.unwrap();
    let point = vault.latest(&backup("a")).await.unwrap();
    let mut base = vault.read_manifests(&point.tables[0]).await.unwrap().base;
    base[0].schema = schema;
    vault.project_delta(&point.tables[0], &base).await.unwrap();
    let log = delta(&store).await;
    let find = |kind: &str| log[0].iter().find_map(|a| a.get(kind)).unwrap();
    assert_eq!(find("protocol")["minReaderVersion"], 3);
    assert_eq!(find("protocol")["readerFeatures"], serde_json::json!(["timestampNtz"]));
    let schema: Value = serde_json::from_str(find("metaData")["schemaString"].as_str().unwrap()).unwrap();
    for (i, (_, name)) in types.iter().enumerate() {
        assert_eq!(schema["fields"][i]["type"], *name);
    }
    let list = &schema["fields"][types.len()]["type"];
    assert_eq!(*list, serde_json::json!({"type": "array", "elementType": "integer", "containsNull": true}));
}

#[tokio::test]
async fn a_lost_delta_log_is_rebuilt_and_an_encrypted_table_has_none() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    back_up(&vault, &backup("a"), "r1", &[sample("t", &["1"], &[])]).await.unwrap();
    let point = vault.latest(&backup("a")).await.unwrap();
    let mut table = point.tables[0].clone();
    let base = vault.read_manifests(&table).await.unwrap().base;
    vault.project_delta(&table, &base).await.unwrap();
    let name = objects(&*store).await.into_keys().find(|n| n.contains("_delta_log")).unwrap();
    tamper(&*store, &name, Some("garbage\n".into())).await;
    assert!(matches!(vault.project_delta(&table, &base).await, Err(VaultError::Damaged { .. })));
    assert_eq!(vault.rebuild_projection(&table, &base).await.unwrap(), Some(DeltaVersion(0)));
    assert_eq!(delta(&store).await.len(), 1);
    table.encryption = keepfast_model::point::Encryption::Full;
    assert!(matches!(vault.project_delta(&table, &base).await, Err(VaultError::Unsupported { .. })));
}

/// Everything that readers of a vault see.
async fn seen(store: &InMemory) -> std::collections::BTreeMap<String, bytes::Bytes> {
    let mut all = objects(store).await;
    all.retain(|name, _| !name.contains("/_delta_log/") && !name.starts_with("staging/"));
    all
}

#[tokio::test]
async fn a_copy_is_the_same_vault_and_is_brought_up_to_date() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    back_up(&vault, &backup("a"), "r1", &tables()).await.unwrap();
    let other = Arc::new(InMemory::new());
    let first = vault.copy_to(&memory(other.clone()), &()).await.unwrap();
    assert_eq!((first.objects, first.kept, first.records), (7, 0, 1));
    assert_eq!(seen(&other).await, seen(&store).await);
    let more = [sample("orders", &["a", "e"], &["x"]), sample("items", &["c"], &[])];
    back_up(&vault, &backup("a"), "r2", &more).await.unwrap();
    let second = vault.copy_to(&memory(other.clone()), &()).await.unwrap();
    assert_eq!((second.objects, second.kept, second.records), (2, 7, 1));
    assert_eq!(seen(&other).await, seen(&store).await);
    assert_eq!(vault.copy_to(&memory(other.clone()), &()).await.unwrap().objects, 0);
    let copy = Vault::open(memory(other.clone())).await.unwrap();
    assert_eq!(copy.id(), vault.id());
    assert_readable(&copy, "a").await;
    // Written to on its own, it is another history.
    back_up(&copy, &backup("a"), "r3", &tables()).await.unwrap();
    assert!(matches!(vault.copy_to(&memory(other), &()).await, Err(VaultError::Diverged { .. })));
    let (stranger, _) = new_vault(&crate::common::world(9)).await;
    assert!(matches!(vault.copy_to(&memory(stranger), &()).await, Err(VaultError::Diverged { .. })));
}

#[tokio::test]
async fn a_copy_that_was_cut_off_goes_on() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    back_up(&vault, &backup("a"), "r1", &tables()).await.unwrap();
    back_up(&vault, &backup("a"), "r2", &[sample("orders", &["a", "e"], &[])]).await.unwrap();
    let counted = Faulty::new(Arc::new(InMemory::new()), u64::MAX, Fault::DiesBefore);
    vault.copy_to(&memory(counted.clone()), &()).await.unwrap();
    for fault in [Fault::DiesBefore, Fault::DiesAfter, Fault::LosesAnswer] {
        for at in 0..counted.operations() {
            let other = Arc::new(InMemory::new());
            let _ = vault.copy_to(&memory(Faulty::new(other.clone(), at, fault)), &()).await;
            vault.copy_to(&memory(other.clone()), &()).await.unwrap();
            assert_eq!(seen(&other).await, seen(&store).await, "{fault:?} at {at}");
        }
    }
}

#[tokio::test]
async fn damage_is_not_copied() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    back_up(&vault, &backup("a"), "r1", &tables()).await.unwrap();
    let name = objects(&*store).await.into_keys().find(|n| n.contains("/segments/")).unwrap();
    tamper(&*store, &name, Some("rot".into())).await;
    let other = Arc::new(InMemory::new());
    let error = vault.copy_to(&memory(other.clone()), &()).await.unwrap_err();
    assert!(matches!(&error, VaultError::Damaged { path, .. } if path.ends_with(&name)), "{error}");
    assert!(matches!(Vault::open(memory(other)).await, Err(VaultError::NotAVault { .. })));
}

#[tokio::test]
async fn a_segment_stored_under_another_name_is_the_same_parquet_file_to_its_readers() {
    use arrow::array::{Int32Array, RecordBatch, StringArray};
    use keepfast_format::{
        Manifest, ManifestKind, Protection, SegmentWriter, Splitter, WriterProfile, read_segment,
    };
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    let (mut point, _) = write_point(&vault, &backup("a"), "r1", &[sample("t", &[], &[])]).await.unwrap();
    let (schema, table) = (Arc::new(schema()), &mut point.tables[0]);
    let ids: Vec<i32> = (0..5_000).collect();
    let names: Vec<_> = ids.iter().map(|i| (i % 7 != 0).then(|| format!("name {i}"))).collect();
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int32Array::from(ids)), Arc::new(StringArray::from(names))];
    let batch = RecordBatch::try_new(schema.physical(), columns).unwrap();
    let mut splitter = Splitter::new(schema.clone(), 1_024);
    let mut chunks = splitter.push(batch.clone()).unwrap();
    chunks.extend(splitter.finish().unwrap());
    let profile = Arc::new(WriterProfile::choose(&schema, &[batch], 1_024));
    let protection = Protection::plain(table.id.clone(), vault.identity_key());
    let writer = SegmentWriter::new(schema.clone(), profile.clone(), protection);
    let mut entries = vec![];
    for chunk in &chunks {
        let segment = writer
            .encode(writer.identity(chunk).unwrap(), &keepfast_model::ShardId("0".into()), chunk)
            .unwrap();
        vault.put_segment(&table.id, &segment).await.unwrap();
        entries.push(segment.entry);
    }
    let page = Manifest::pages(ManifestKind::Segments, &table.id, &schema, &profile, entries).remove(0);
    table.base = vec![vault.put_manifest(&page, &Default::default()).await.unwrap().0];
    (table.digest.rows, table.certificate.rows) = (5_000, 5_000);
    let commit = async |point: keepfast_model::BackupPoint| {
        vault.commit(vec![Record::Point(Box::new(point))], &[], &()).await.unwrap();
    };
    let rows = async || {
        let point = vault.latest(&backup("a")).await.unwrap();
        let table = &point.tables[0];
        let mut all = vec![];
        for entry in &vault.read_manifests(table).await.unwrap().base[0].segments {
            let file = vault.read_segment(&table.id, entry).await.unwrap();
            all.extend(read_segment(file, &schema, None, 512).unwrap().map(Result::unwrap));
        }
        (table.base.clone(), arrow::compute::concat_batches(&schema.physical(), &all).unwrap())
    };
    commit(point.clone()).await;
    let (first, before) = rows().await;
    vault.drop_backup(&backup("a"), DAY).await.unwrap();
    commit(point).await;
    let (second, after) = rows().await;
    assert_ne!(first, second);
    assert_eq!(before, after);
}
