//! Repair from another place, what parity costs and keeps, and what cannot be healed.

use crate::common::*;
use keepfast_format::{Manifest, ManifestKind, WriterProfile};
use keepfast_model::*;
use keepfast_vault::{CheckOptions, HealedBy, Vault, VaultError, layout};
use object_store::memory::InMemory;
use std::sync::Arc;

const PARITY: Option<Parity> = Some(Parity { data: 4, shards: 2 });

async fn made(parity: Option<Parity>, points: usize) -> (Arc<InMemory>, Vault) {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(3).options()).await.unwrap();
    for point in 0..points {
        add(&vault, parity, point).await;
    }
    (store, vault)
}

async fn add(vault: &Vault, parity: Option<Parity>, point: usize) {
    let changes: Vec<String> = (0..point).map(|p| format!("change {p}")).collect();
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    let tables = [sample("orders", &["a", "b", "c", "d", "e"], &changes), sample("items", &["x", "y"], &[])];
    let tables = tables.map(|t| Sample { parity, ..t });
    back_up(vault, &backup("shop"), &format!("r{point}"), &tables).await.unwrap();
}

#[tokio::test]
async fn one_vault_heals_another_whatever_is_left_of_it() {
    for seed in 0..40u64 {
        let (store, _) = made((seed % 2 == 0).then_some(PARITY).flatten(), 4).await;
        let (whole, other) = (objects(&*store).await, fork(&store));
        let mut damaged = 0;
        for (i, (name, bytes)) in whole.iter().enumerate() {
            let draw = Hash256::of(&[seed.to_le_bytes(), (i as u64).to_le_bytes()].concat()).0;
            // One readable record is what a place is known by.
            if draw[0] < 128 || name == "log/00000000000000000001.json" {
                continue;
            }
            let bytes = match draw[1] % 3 {
                0 => None,
                1 => Some(bytes.slice(..bytes.len() / 2)),
                _ => Some([&bytes[1..], b"x"].concat().into()),
            };
            tamper(&*store, name, bytes).await;
            damaged += 1;
        }
        let report =
            Vault::repair_place(memory(store.clone()), world(5).environment, Some(&memory(other)), &()).await;
        let report = report.unwrap();
        assert!(report.lost.is_empty(), "seed {seed}, {damaged} damaged: {:?}", report.lost);
        assert_eq!(objects(&*store).await, whole, "seed {seed}");
    }
}

#[tokio::test]
async fn a_vault_that_fell_behind_its_copy_gets_the_newer_records() {
    let (store, vault) = made(None, 2).await;
    let old = fork(&store);
    add(&vault, None, 2).await;
    let report =
        Vault::open(memory(old.clone())).await.unwrap().repair(Some(&memory(store.clone())), &()).await;
    assert!(report.unwrap().lost.is_empty());
    assert_eq!(objects(&*old).await, objects(&*store).await);
}

#[tokio::test]
async fn nothing_is_taken_from_another_vault_or_another_history() {
    let (store, vault) = made(None, 2).await;
    let fork = fork(&store);
    let forked = Vault::open_with(memory(fork.clone()), world(50).environment).await.unwrap();
    add(&vault, None, 2).await;
    add(&forked, None, 3).await;
    let refused = vault.repair(Some(&memory(fork)), &()).await;
    assert!(matches!(refused, Err(VaultError::Diverged { .. })), "{refused:?}");
    let stranger = Arc::new(InMemory::new());
    Vault::create(memory(stranger.clone()), &world(99).options()).await.unwrap();
    let before = objects(&*store).await;
    let refused = vault.repair(Some(&memory(stranger)), &()).await;
    assert!(matches!(refused, Err(VaultError::OtherVault { .. })), "{refused:?}");
    assert_eq!(objects(&*store).await, before);
}

#[tokio::test]
async fn what_cannot_be_healed_names_tables_points_and_key_ranges() {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(3).options()).await.unwrap();
    let (mut point, mut written) = write_point(
        &vault,
        &backup("shop"),
        "r",
        &[sample("orders", &["a"], &[]), sample("items", &["x"], &[])],
    )
    .await
    .unwrap();
    let table = point.tables.iter_mut().find(|t| t.name.table == "orders").unwrap();
    let schema = schema();
    let key = |n: i32| {
        let column: arrow::array::ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![n]));
        Some(KeyBytes(key::encode_columns(&[column], 1).unwrap().value(0).to_vec()))
    };
    let mut entries = vec![];
    for (i, (first, last)) in [(1, 10), (11, 20), (21, 30)].into_iter().enumerate() {
        let mut s = segment(&format!("keyed {i}"), 10);
        (s.entry.min, s.entry.max) = (key(first), key(last));
        vault.put_segment(&table.id, &s).await.unwrap();
        written.push(Vault::segment_object(&table.id, &s.entry));
        entries.push(s.entry);
    }
    let profile = WriterProfile::choose(&schema, &[], 8_192);
    let pages = entries
        .iter()
        .flat_map(|e| Manifest::pages(ManifestKind::Segments, &table.id, &schema, &profile, vec![e.clone()]));
    let listed = vault.put_manifests(pages.collect(), &Default::default(), None, &[]).await.unwrap();
    written.extend(listed.objects);
    table.base = listed.references;
    (table.digest.rows, table.certificate.rows) = (30, 30);
    let (id, manifests) = (table.id.clone(), table.base.clone());
    vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await.unwrap();

    let lost_segment = layout::segment(&id, &entries[0]);
    tamper(&*store, &lost_segment, None).await;
    let report = vault.repair(None, &()).await.unwrap();
    let [lost] = report.lost.as_slice() else { panic!("{:?}", report.lost) };
    assert!(lost.damage.path.ends_with(&lost_segment) && lost.why.contains("no parity"), "{lost:?}");
    assert_eq!(lost.gaps[0].to_string(), "orders: 10 rows from id = 1 to id = 10");
    assert_eq!(lost.damage.points[0].to_string(), "shop@1");

    // A lost manifest lies between its neighbours.
    tamper(&*store, &layout::manifest(manifests[1].id), None).await;
    let report = vault.repair(None, &()).await.unwrap();
    let gaps: Vec<String> = report.lost.iter().flat_map(|l| &l.gaps).map(ToString::to_string).collect();
    assert!(gaps.contains(&"orders: 10 rows from after id = 10 to before id = 21".to_owned()), "{gaps:?}");
    // The other table is as it was.
    let items = vault.latest(&backup("shop")).await.unwrap();
    let items = items.tables.iter().find(|t| t.name.table == "items").unwrap();
    let manifest = vault.read_manifests(items).await.unwrap().base.remove(0);
    vault.read_segment(&items.id, &manifest.segments[0]).await.unwrap();
}

#[tokio::test]
async fn an_unchanged_group_keeps_its_parity_and_a_copy_takes_it_along() {
    let (store, vault) = made(PARITY, 1).await;
    let files = |all: &std::collections::BTreeMap<String, bytes::Bytes>| {
        all.keys().filter(|n| n.contains("/parity/")).cloned().collect::<Vec<_>>()
    };
    let before = files(&objects(&*store).await);
    let latest = vault.latest(&backup("shop")).await.unwrap();
    let table = &latest.tables[0];
    let mut again = vault.read_manifests(table).await.unwrap().base;
    again.iter_mut().for_each(|m| m.parity = None);
    let listed = vault.put_manifests(again, &table.encryption, PARITY, &table.base).await.unwrap();
    assert!(listed.objects.is_empty() && listed.bytes_new == ByteCount(0), "{listed:?}");
    add(&vault, PARITY, 0).await;
    assert_eq!(files(&objects(&*store).await), before);
    let other = Arc::new(InMemory::new());
    vault.copy_to(&memory(other.clone()), &()).await.unwrap();
    assert_eq!(objects(&*other).await, objects(&*store).await);
    let copied =
        Vault::open(memory(other)).await.unwrap().check(&CheckOptions::default(), &()).await.unwrap();
    assert!(copied.is_whole() && copied.orphans.objects == 0);
}

#[tokio::test]
async fn a_dropped_backup_takes_its_parity_along_and_names_that_come_back_are_protected_anew() {
    let (store, vault) = made(PARITY, 2).await;
    vault.drop_backup(&backup("shop"), jiff::SignedDuration::ZERO).await.unwrap();
    add(&vault, PARITY, 1).await;
    vault.delete_condemned().await.unwrap();
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole() && report.orphans.objects == 0, "{report:?}");
    let whole = objects(&*store).await;
    let mut healed = 0;
    for name in whole.keys().filter(|n| n.starts_with("tables/") || n.starts_with("manifests")) {
        tamper(&*store, name, None).await;
        let report = vault.repair(None, &()).await.unwrap();
        assert!(report.lost.is_empty(), "{name}: {:?}", report.lost);
        healed += report.healed.len();
    }
    assert_eq!(objects(&*store).await, whole);
    eprintln!("{healed} objects of a backup that came back were healed");
    vault.drop_backup(&backup("shop"), jiff::SignedDuration::ZERO).await.unwrap();
    vault.delete_condemned().await.unwrap();
    let left: Vec<_> = objects(&*store)
        .await
        .into_keys()
        .filter(|n| n.contains("tables/") || n.contains("manifests"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_vault_with_parity_opens_and_reads_without_its_marker_and_manifests() {
    let (store, _) = made(PARITY, 2).await;
    for name in
        objects(&*store).await.into_keys().filter(|n| n.starts_with("manifests/") || n == layout::MARKER)
    {
        tamper(&*store, &name, None).await;
    }
    let vault = Vault::open(memory(store.clone())).await.unwrap();
    let point = vault.latest(&backup("shop")).await.unwrap();
    for table in &point.tables {
        vault.read_manifests(table).await.unwrap();
    }
    let report = vault.repair(None, &()).await.unwrap();
    assert!(report.lost.is_empty() && report.healed.iter().all(|h| h.by == HealedBy::Copy), "{report:?}");
}

#[tokio::test]
async fn a_marker_without_any_copy_is_made_again_from_the_log() {
    let (store, vault) = made(None, 2).await;
    tamper(&*store, layout::MARKER, None).await;
    let report = Vault::repair_place(memory(store.clone()), world(5).environment, None, &()).await.unwrap();
    assert!(report.lost.is_empty() && report.healed[0].by == HealedBy::Log, "{report:?}");
    assert_eq!(Vault::open(memory(store)).await.unwrap().id(), vault.id());
}

#[tokio::test]
async fn a_whole_vault_is_left_as_it_is() {
    let (store, vault) = made(PARITY, 3).await;
    let before = objects(&*store).await;
    let report = vault.repair(None, &()).await.unwrap();
    assert!(report.healed.is_empty() && report.lost.is_empty() && report.check.is_whole());
    assert_eq!(objects(&*store).await, before);
}
