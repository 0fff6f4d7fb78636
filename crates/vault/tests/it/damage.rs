//! Whatever is done to any object of a vault, the check finds it and says what it touches; nothing panics.

use crate::common::*;
use bytes::Bytes;
use keepfast_model::TableName;
use keepfast_vault::{CheckOptions, CheckReport, DamageKind, Vault, VaultError};
use object_store::memory::InMemory;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Two backups, three points, shared segments, changes.
async fn small() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    let (orders, items) = (sample("orders", &["a", "b"], &[]), sample("items", &["c"], &[]));
    back_up(&vault, &backup("shop"), "r1", &[orders.clone(), items.clone()]).await.unwrap();
    let changed = Sample { changes: vec!["orders d".into()], ..orders.clone() };
    back_up(&vault, &backup("shop"), "r2", &[changed, items]).await.unwrap();
    back_up(&vault, &backup("other"), "r3", &[orders]).await.unwrap();
    store
}

async fn check(store: Arc<InMemory>) -> CheckReport {
    Vault::check_place(memory(store), world(5).environment, &CheckOptions::default(), &()).await.unwrap()
}

/// Objects with one of them changed.
async fn with(origin: &InMemory, name: &str, bytes: Option<Bytes>) -> Arc<InMemory> {
    let store = fork(origin);
    tamper(&*store, name, bytes).await;
    store
}

/// What the loss of each object must be said to touch: tables and points.
fn touches(name: &str, contents: &BTreeMap<String, Bytes>) -> Option<(Vec<&'static str>, Vec<&'static str>)> {
    let text = |name: &str| String::from_utf8_lossy(&contents[name]).into_owned();
    let other = !name.contains(
        &Vault::table_id(&backup("shop"), "columnar", &TableName::bare("orders"), &Default::default()).0,
    );
    if !name.starts_with("tables/") {
        return None;
    }
    Some(match text(name) {
        t if t.contains("items") => (vec!["items"], vec!["shop@1", "shop@2"]),
        t if t.contains("orders d") => (vec!["orders"], vec!["shop@2"]),
        t if t.contains("orders") && other => (vec!["orders"], vec!["other@3"]),
        _ => (vec!["orders"], vec!["shop@1", "shop@2"]),
    })
}

fn assert_found(report: &CheckReport, name: &str, contents: &BTreeMap<String, Bytes>, what: &str) {
    let full = format!("memory:vault/{name}");
    let damage = report.damage.iter().find(|d| d.path == full);
    let damage = damage.unwrap_or_else(|| panic!("{what} of {name} was not found: {:?}", report.damage));
    if let Some((tables, points)) = touches(name, contents) {
        let show = |items: Vec<String>| items.join(" ");
        assert_eq!(show(damage.tables.iter().map(|t| t.table.clone()).collect()), tables.join(" "), "{name}");
        assert_eq!(show(damage.points.iter().map(ToString::to_string).collect()), points.join(" "), "{name}");
        assert_eq!(report.damage.len(), 1, "{what} of {name}: {:?}", report.damage);
    }
    assert!(
        !damage.points.is_empty() && !damage.tables.is_empty(),
        "{what} of {name} touches nothing: {damage}"
    );
}

#[tokio::test]
async fn a_whole_vault_has_no_damage_and_every_byte_is_counted() {
    let store = small().await;
    let report = check(store.clone()).await;
    assert!(report.is_whole(), "{:?}", report.damage);
    let all = objects(&*store).await;
    assert_eq!(report.objects, all.len() as u64);
    assert_eq!(report.bytes, all.values().map(|b| b.len() as u64).sum::<u64>());
    assert_eq!((report.points, report.orphans.objects, report.condemned.objects), (3, 0, 0));
}

#[tokio::test]
async fn every_flipped_byte_of_every_object_is_found() {
    let origin = small().await;
    let contents = objects(&*origin).await;
    for (name, bytes) in &contents {
        for i in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[i] ^= 1 << (i % 8);
            let store = with(&origin, name, Some(changed.into())).await;
            assert_found(&check(store).await, name, &contents, &format!("a flip at byte {i}"));
        }
    }
}

#[tokio::test]
async fn every_truncated_extended_or_deleted_object_is_found() {
    let origin = small().await;
    let contents = objects(&*origin).await;
    for (name, bytes) in &contents {
        for keep in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let report = check(with(&origin, name, Some(bytes.slice(..keep))).await).await;
            assert_found(&report, name, &contents, "truncation");
            if name.starts_with("tables/") || name.starts_with("manifests/") {
                assert!(matches!(report.damage[0].what, DamageKind::Truncated { .. }), "{:?}", report.damage);
            }
        }
        let longer = [bytes, &b"x"[..]].concat();
        assert_found(
            &check(with(&origin, name, Some(longer.into())).await).await,
            name,
            &contents,
            "extension",
        );
        let report = check(with(&origin, name, None).await).await;
        // The newest record may stand in one copy only, as between the two creates of a commit.
        let newest = name.ends_with("00000000000000000003.json");
        if !newest {
            assert_found(&report, name, &contents, "deletion");
        }
        if name.starts_with("tables/") {
            assert_eq!(report.damage[0].what, DamageKind::Missing);
        }
    }
}

#[tokio::test]
async fn every_swap_of_two_objects_is_found() {
    let origin = small().await;
    let contents = objects(&*origin).await;
    let names: Vec<_> = contents.keys().collect();
    for (i, a) in names.iter().enumerate() {
        for b in &names[..i] {
            if contents[*a] == contents[*b] {
                continue;
            }
            let store = fork(&origin);
            tamper(&*store, a, Some(contents[*b].clone())).await;
            tamper(&*store, b, Some(contents[*a].clone())).await;
            let report = check(store).await;
            for name in [a, b] {
                let full = format!("memory:vault/{name}");
                assert!(
                    report.damage.iter().any(|d| d.path == full),
                    "swap of {a} and {b}: {:?}",
                    report.damage
                );
            }
            if a.contains("segments") && b.contains("segments") && contents[*a].len() == contents[*b].len() {
                assert!(
                    report.damage.iter().all(|d| matches!(d.what, DamageKind::Swapped { .. })),
                    "{report:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn objects_of_another_vault_are_found() {
    let (origin, stranger) = (small().await, Arc::new(InMemory::new()));
    let vault = Vault::create(memory(stranger.clone()), &world(77).options()).await.unwrap();
    for i in 0..3 {
        back_up(&vault, &backup("x"), &i.to_string(), &[sample("t", &["q"], &[])]).await.unwrap();
    }
    let contents = objects(&*origin).await;
    for (name, bytes) in objects(&*stranger).await {
        if contents.contains_key(&name) {
            let report = check(with(&origin, &name, Some(bytes)).await).await;
            assert_found(&report, &name, &contents, "an exchange");
        }
    }
}

#[tokio::test]
async fn a_check_of_one_backup_or_point_reads_only_that() {
    let store = small().await;
    let vault = Vault::open(memory(store.clone())).await.unwrap();
    let options = |name: &str, point| CheckOptions { backup: Some(backup(name)), point };
    let all = vault.check(&CheckOptions::default(), &()).await.unwrap();
    let one = vault.check(&options("other", None), &()).await.unwrap();
    assert!(one.points == 1 && one.bytes < all.bytes);
    let point = vault.check(&options("shop", Some(keepfast_model::LogSeq(1))), &()).await.unwrap();
    assert_eq!(point.points, 1);
    assert!(matches!(vault.check(&options("none", None), &()).await, Err(VaultError::NoBackup { .. })));
    let wrong = vault.check(&options("shop", Some(keepfast_model::LogSeq(3))), &()).await;
    assert!(matches!(wrong, Err(VaultError::NoPoint { .. })));
}

#[tokio::test]
async fn what_no_point_needs_is_counted_and_no_damage() {
    let store = small().await;
    let vault = Vault::open(memory(store)).await.unwrap();
    write_point(&vault, &backup("never"), "r", &[sample("t", &["lost"], &[])]).await.unwrap();
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole());
    assert_eq!(report.orphans.objects, 2);
}

#[tokio::test]
async fn damage_read_by_a_restore_names_the_object_in_full() {
    let store = small().await;
    let vault = Vault::open(memory(store.clone())).await.unwrap();
    let point = vault.latest(&backup("other")).await.unwrap();
    let table = &point.tables[0];
    let manifests = vault.read_manifests(table).await.unwrap();
    let entry = &manifests.base[0].segments[0];
    let good = vault.read_segment(&table.id, entry).await.unwrap().bytes;
    let name = keepfast_vault::layout::segment(&table.id, entry);
    for bytes in [None, Some(good.slice(1..)), Some([b"QAR1", &good[4..]].concat().into())] {
        tamper(&*store, &name, bytes).await;
        let error = vault.read_segment(&table.id, entry).await.unwrap_err();
        assert!(
            matches!(&error, VaultError::Damaged { path, .. } if *path == format!("memory:vault/{name}")),
            "{error}"
        );
    }
    tamper(&*store, &keepfast_vault::layout::manifest(table.base[0].id), None).await;
    assert!(matches!(vault.read_manifests(table).await, Err(VaultError::Damaged { .. })));
}

/// A change somewhere in a JSON tree.
#[derive(Clone, Debug)]
enum Mutation {
    Remove,
    Set(serde_json::Value),
    Wrap,
}

fn mutate(value: &mut serde_json::Value, path: &[u8], mutation: &Mutation) {
    use serde_json::Value;
    let (Some(step), rest) = (path.first(), path.get(1..).unwrap_or_default()) else { return };
    let last = rest.is_empty();
    match value {
        Value::Object(members) if !members.is_empty() => {
            let key = members.keys().nth(*step as usize % members.len()).unwrap().clone();
            if last && matches!(mutation, Mutation::Remove) {
                members.remove(&key);
                return;
            }
            mutate_at(&mut members[&key], rest, mutation);
        }
        Value::Array(items) if !items.is_empty() => {
            let at = *step as usize % items.len();
            if last && matches!(mutation, Mutation::Remove) {
                items.remove(at);
                return;
            }
            mutate_at(&mut items[at], rest, mutation);
        }
        other => mutate_at(other, &[], mutation),
    }
}

fn mutate_at(value: &mut serde_json::Value, rest: &[u8], mutation: &Mutation) {
    if !rest.is_empty() && (value.is_object() || value.is_array()) {
        return mutate(value, rest, mutation);
    }
    match mutation {
        Mutation::Remove => *value = serde_json::Value::Null,
        Mutation::Set(new) => *value = new.clone(),
        Mutation::Wrap => *value = serde_json::json!([value]),
    }
}

fn mutations() -> impl Strategy<Value = Mutation> {
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        Just(u64::MAX.into()),
        Just(serde_json::json!(1e300)),
        Just("../../etc/passwd".into()),
        "[ -~]{0,70}".prop_map(Into::into),
        Just(serde_json::json!({})),
        Just("f".repeat(64).into()),
    ];
    prop_oneof![Just(Mutation::Remove), Just(Mutation::Wrap), scalar.prop_map(Mutation::Set)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn json_that_says_anything_is_an_error_or_a_vault_and_never_a_panic(
        object in any::<prop::sample::Index>(),
        changes in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..7), mutations()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = small().await;
            let contents = objects(&*store).await;
            let names: Vec<_> = contents.keys().filter(|n| n.ends_with(".json") && !n.starts_with("log-copy")).collect();
            let name = object.get(&names);
            let mut value = unseal(&contents[*name]);
            for (path, mutation) in &changes {
                mutate(&mut value, path, mutation);
            }
            let bytes = if value.as_object().is_some_and(|o| !o.is_empty()) { seal(&value) } else { "[]".into() };
            tamper(&*store, name, Some(bytes.clone())).await;
            tamper(&*store, &name.replace("log/", "log-copy/"), Some(bytes)).await;
            let _ = Vault::check_place(memory(store.clone()), world(5).environment, &CheckOptions::default(), &()).await;
            if let Ok(vault) = Vault::open(memory(store)).await {
                if let Ok(log) = vault.log().await {
                    for point in log.all_points() {
                        for table in &point.tables {
                            if let Ok(manifests) = vault.read_manifests(table).await {
                                let _ = vault.project_delta(table, &manifests.base).await;
                            }
                        }
                    }
                }
                let _ = vault.drop_backup(&backup("shop"), jiff::SignedDuration::ZERO).await;
                let _ = vault.delete_condemned().await;
                let _ = back_up(&vault, &backup("shop"), "next", &[sample("t", &["x"], &[])]).await;
            }
        });
    }

    #[test]
    fn bytes_that_say_anything_are_an_error_and_never_a_panic(
        object in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = small().await;
            let contents = objects(&*store).await;
            let names: Vec<_> = contents.keys().collect();
            let name = object.get(&names);
            tamper(&*store, name, Some(bytes.into())).await;
            let report = check(store.clone()).await;
            assert!(!report.is_whole());
            if let Ok(vault) = Vault::open(memory(store)).await {
                let _ = vault.log().await;
            }
        });
    }
}
