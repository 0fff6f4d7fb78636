//! A vault with three tables and ten points: whatever is done to any of its objects is found, and named with the
//! tables and points it touches. With parity it is healed, byte for byte, within its strength.
//!
//! `KEEPFAST_LONG=1` flips every byte of every object and swaps every pair (hours); without it, every byte of
//! small objects, and of larger ones and of pairs a sample that follows from the seed.

use crate::common::*;
use bytes::Bytes;
use keepfast_model::{Hash256, Parity};
use keepfast_vault::{CheckOptions, CheckReport, RepairReport, Vault};
use object_store::memory::InMemory;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SEED: u64 = 41;
/// Objects of which every byte is flipped.
const SMALL: usize = 100;
const STRENGTH: Parity = Parity { data: 4, shards: 2 };

fn long() -> bool {
    std::env::var_os("KEEPFAST_LONG").is_some_and(|v| v == "1")
}

/// Numbers that follow from the seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 += 1;
        let hash = Hash256::of(&[SEED.to_le_bytes(), self.0.to_le_bytes()].concat());
        (u64::from_le_bytes(hash.0[..8].try_into().unwrap()) % n.max(1) as u64) as usize
    }
}

/// Full, three increments, full, three increments, a compaction, an increment.
async fn ten_points(parity: Option<Parity>) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(9).options()).await.unwrap();
    let text = |n: usize| format!("{n:02} {}", "row ".repeat(3 + n % 5));
    for point in 1..=10 {
        let mut samples = vec![];
        for (name, segments) in [("customers", 1), ("items", 3), ("orders", 6)] {
            // What a base holds: the second full shares most of the first, and the compaction most of that.
            let (base, since) = match point {
                1..=4 => (0, 1),
                5..=8 => (1, 5),
                _ => (2, 9),
            };
            let texts =
                (0..segments).map(|n| format!("{name} {}", text(if n == 0 { n + base * 50 } else { n })));
            let changes = (since + 1..=point).map(|p| format!("{name} change of {p}")).collect();
            samples.push(Sample { name, base: texts.collect(), changes, parity });
        }
        back_up(&vault, &backup("shop"), &format!("r{point}"), &samples).await.unwrap();
    }
    store
}

async fn check(store: Arc<InMemory>) -> CheckReport {
    Vault::check_place(memory(store), world(5).environment, &CheckOptions::default(), &()).await.unwrap()
}

async fn repair(store: Arc<InMemory>) -> RepairReport {
    Vault::repair_place(memory(store), world(5).environment, None, &()).await.unwrap()
}

async fn with(origin: &InMemory, name: &str, bytes: Option<Bytes>) -> Arc<InMemory> {
    let store = fork(origin);
    tamper(&*store, name, bytes).await;
    store
}

fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut changed = bytes.to_vec();
    changed[at] ^= 1 << (at % 8);
    changed.into()
}

/// The newest record may stand in one copy only, as between the two creates of a commit.
fn may_be_missing(name: &str) -> bool {
    name.ends_with("/00000000000000000010.json")
}

/// What the loss of an object touches, worked out from the log alone: for segments the points that list them.
async fn touched(origin: &InMemory) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let vault = Vault::open(memory(fork(origin))).await.unwrap();
    let log = vault.log().await.unwrap();
    let mut all: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for point in log.all_points() {
        for table in &point.tables {
            let manifests = vault.read_manifests(table).await.unwrap();
            let changes = table.changes.iter().map(|c| &c.manifest);
            let listed =
                table.base.iter().chain(changes).zip(manifests.base.iter().chain(&manifests.changes));
            for (reference, manifest) in listed {
                let files = manifest
                    .segments
                    .iter()
                    .map(|e| keepfast_vault::layout::file(manifest.kind, &table.id, e));
                for name in files.chain([keepfast_vault::layout::manifest(reference.id)]) {
                    let (tables, points) = all.entry(name).or_default();
                    tables.insert(table.name.to_string());
                    points.insert(point.id().to_string());
                }
            }
        }
    }
    all
}

fn assert_named(
    report: &CheckReport,
    name: &str,
    touched: &BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
    what: &str,
) {
    let full = format!("memory:vault/{name}");
    let damage = report.damage.iter().find(|d| d.path == full);
    let damage = damage.unwrap_or_else(|| panic!("{what} of {name} was not found: {:?}", report.damage));
    assert!(!damage.tables.is_empty() && !damage.points.is_empty(), "{what} of {name} touches nothing");
    if let Some((tables, points)) = touched.get(name) {
        let show = |items: &mut dyn Iterator<Item = String>| items.collect::<BTreeSet<_>>();
        assert_eq!(show(&mut damage.tables.iter().map(ToString::to_string)), *tables, "{name}");
        assert_eq!(show(&mut damage.points.iter().map(ToString::to_string)), *points, "{name}");
    }
}

fn folder(name: &str) -> &str {
    let kind = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    if kind.starts_with("tables/") { kind.rsplit('/').next().unwrap_or_default() } else { kind }
}

#[tokio::test]
async fn every_damage_to_a_vault_without_parity_is_found_and_named() {
    let origin = ten_points(None).await;
    let contents = objects(&*origin).await;
    let touched = touched(&origin).await;
    assert!(check(fork(&origin)).await.is_whole());
    let (mut flips, mut cuts, mut swaps, mut replays, mut deletes) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let mut draw = Draw(0);
    for (name, bytes) in &contents {
        let every: Vec<usize> = if bytes.len() <= SMALL || long() {
            (0..bytes.len()).collect()
        } else {
            (0..20).map(|_| draw.below(bytes.len())).chain([0, 1, bytes.len() - 1]).collect()
        };
        for at in every {
            let report = check(with(&origin, name, Some(flipped(bytes, at))).await).await;
            assert_named(&report, name, &touched, &format!("a flip at byte {at}"));
            flips += 1;
        }
        for keep in [0, 1, bytes.len() / 2, bytes.len() - 1, draw.below(bytes.len()), draw.below(bytes.len())]
        {
            let report = check(with(&origin, name, Some(bytes.slice(..keep))).await).await;
            assert_named(&report, name, &touched, &format!("a cut to {keep} bytes"));
            cuts += 1;
        }
        for tail in [&b"\n"[..], b"\0", bytes] {
            let longer: Bytes = [bytes, tail].concat().into();
            assert_named(
                &check(with(&origin, name, Some(longer)).await).await,
                name,
                &touched,
                "an extension",
            );
            cuts += 1;
        }
        let report = check(with(&origin, name, None).await).await;
        deletes += 1;
        if !may_be_missing(name) {
            assert_named(&report, name, &touched, "deletion");
        }
        // Any other object of its kind in its place: an older one, or a newer one.
        let kind: Vec<_> =
            contents.iter().filter(|(other, b)| folder(other) == folder(name) && *b != bytes).collect();
        let chosen = if long() { kind.len() } else { kind.len().min(4) };
        for n in 0..chosen {
            let (other, replayed) = kind[if long() { n } else { draw.below(kind.len()) }];
            let report = check(with(&origin, name, Some(replayed.clone())).await).await;
            assert_named(&report, name, &touched, &format!("a replay of {other}"));
            replays += 1;
        }
    }
    let names: Vec<&String> = contents.keys().collect();
    let pairs: Vec<(usize, usize)> = if long() {
        (0..names.len()).flat_map(|a| (0..a).map(move |b| (a, b))).collect()
    } else {
        (0..250).map(|_| (draw.below(names.len()), draw.below(names.len()))).collect()
    };
    for (a, b) in pairs {
        let (a, b) = (names[a], names[b]);
        if contents[a] == contents[b] {
            continue;
        }
        let store = with(&origin, a, Some(contents[b].clone())).await;
        tamper(&*store, b, Some(contents[a].clone())).await;
        let report = check(store).await;
        for name in [a, b] {
            assert!(
                report.damage.iter().any(|d| d.path.ends_with(name.as_str())),
                "swap of {a} and {b}: {report:?}"
            );
        }
        swaps += 1;
    }
    eprintln!(
        "COUNT {flips} flipped bytes, {cuts} objects cut or extended, {deletes} objects deleted, {replays} replays, {swaps} swaps: found in {} objects, 3 tables, 10 points, seed {SEED}",
        contents.len()
    );
}

#[tokio::test]
async fn a_deleted_copy_of_the_newest_record_is_completed_and_both_are_found_by_the_head() {
    let origin = ten_points(None).await;
    let head = check(fork(&origin)).await.head.unwrap();
    let [original, copy] = ["log", "log-copy"].map(|f| format!("{f}/00000000000000000010.json"));
    for name in [&original, &copy] {
        let store = with(&origin, name, None).await;
        assert_eq!(Vault::open(memory(store.clone())).await.unwrap().log().await.unwrap().head(), Some(head));
        assert_eq!(objects(&*store).await, objects(&*origin).await);
    }
    let store = with(&origin, &original, None).await;
    tamper(&*store, &copy, None).await;
    let report = check(store).await;
    assert!(report.is_whole(), "an older state of a vault is a vault");
    assert_ne!(report.head, Some(head), "what `--expect` and the remembered head compare");
}

/// Repairs, and sees that every byte is as it was.
async fn assert_healed(store: Arc<InMemory>, contents: &BTreeMap<String, Bytes>, what: &str) {
    let report = repair(store.clone()).await;
    assert!(report.lost.is_empty() && report.check.is_whole(), "{what}: {:?}", report.lost);
    assert!(!report.healed.is_empty(), "{what}: nothing was healed");
    assert_eq!(objects(&*store).await, *contents, "{what}: not byte for byte");
}

/// Objects that have no second copy of any kind.
fn has_no_copy(name: &str, contents: &BTreeMap<String, Bytes>) -> bool {
    name.starts_with("keys/") && !contents.contains_key(&name.replace("keys/", "keys-copy/"))
}

#[tokio::test]
async fn with_parity_every_damage_to_one_object_is_healed_byte_for_byte() {
    let origin = ten_points(Some(STRENGTH)).await;
    let contents = objects(&*origin).await;
    assert!(check(fork(&origin)).await.is_whole());
    let mut draw = Draw(1 << 20);
    let (mut healed, mut skipped) = (0u64, 0u64);
    for (name, bytes) in &contents {
        if has_no_copy(name, &contents) {
            skipped += 1;
            continue;
        }
        let flips = if long() { 40 } else { 1 };
        let mut damages: Vec<Option<Bytes>> =
            (0..flips).map(|_| Some(flipped(bytes, draw.below(bytes.len())))).collect();
        damages.push(Some(bytes.slice(..draw.below(bytes.len()))));
        damages.push(Some([bytes, &b"more"[..]].concat().into()));
        damages.push(Some(Bytes::new()));
        damages.extend((!may_be_missing(name)).then_some(None));
        for damage in damages {
            assert_healed(with(&origin, name, damage).await, &contents, name).await;
            healed += 1;
        }
    }
    eprintln!(
        "COUNT {healed} damages healed: byte for byte, in {} objects; {skipped} without a copy left out",
        contents.len()
    );
}

#[tokio::test]
async fn with_parity_swapped_replayed_and_several_lost_objects_are_healed() {
    let origin = ten_points(Some(STRENGTH)).await;
    let contents = objects(&*origin).await;
    let names: Vec<&String> =
        contents.keys().filter(|n| !has_no_copy(n, &contents) && !may_be_missing(n)).collect();
    let mut draw = Draw(2 << 20);
    let (mut swaps, mut pairs) = (0u64, 0u64);
    for _ in 0..if long() { 5_000 } else { 60 } {
        let (a, b) = (names[draw.below(names.len())], names[draw.below(names.len())]);
        // Both copies of one thing at once are beyond what copies can heal.
        let one_thing =
            a.rsplit('/').next() == b.rsplit('/').next() || (!a.contains('/') && !b.contains('/'));
        if contents[a] == contents[b] || one_thing {
            continue;
        }
        let store = with(&origin, a, Some(contents[b].clone())).await;
        tamper(&*store, b, Some(contents[a].clone())).await;
        assert_healed(store, &contents, &format!("swap of {a} and {b}")).await;
        swaps += 1;
        let store = with(&origin, a, None).await;
        tamper(&*store, b, Some(flipped(&contents[b], draw.below(contents[b].len())))).await;
        assert_healed(store, &contents, &format!("loss of {a} and a flip in {b}")).await;
        pairs += 1;
    }
    eprintln!("COUNT {} damages healed: {swaps} swaps and {pairs} losses of two, seed {SEED}", swaps + pairs);
}

#[tokio::test]
async fn beyond_the_strength_of_parity_only_what_is_lost_is_lost() {
    let origin = ten_points(Some(STRENGTH)).await;
    let vault = Vault::open(memory(origin.clone())).await.unwrap();
    let point = vault.latest(&backup("shop")).await.unwrap();
    let orders = point.tables.iter().find(|t| t.name.table == "orders").unwrap();
    let manifest = vault.read_manifests(orders).await.unwrap().base.remove(0);
    let group = &manifest.parity.as_ref().unwrap()[0];
    assert!(group.members.len() >= 3, "the first group is full");
    let store = fork(&origin);
    let file = |at: u32| keepfast_vault::layout::segment(&orders.id, &manifest.segments[at as usize]);
    for at in &group.members[..3] {
        tamper(&*store, &file(*at), None).await;
    }
    let elsewhere = objects(&*origin).await.into_keys().find(|n| n.starts_with("manifests/")).unwrap();
    tamper(&*store, &elsewhere, None).await;
    let report = repair(store.clone()).await;
    // A file of the group may be in another group of an older point, from which it comes back.
    assert!(report.healed.iter().any(|h| h.path.ends_with(&elsewhere)));
    for lost in &report.lost {
        assert!(lost.why.contains("parity heals 2"), "{}", lost.why);
        assert_eq!(lost.gaps[0].table.table, "orders");
        assert!(lost.damage.points.iter().any(|p| p.to_string() == "shop@10"));
    }
    // One of them comes back from elsewhere: the others follow.
    let name = file(group.members[0]);
    tamper(&*store, &name, Some(objects(&*origin).await[&name].clone())).await;
    let report = repair(store.clone()).await;
    assert!(report.lost.is_empty() && report.check.is_whole());
    assert_eq!(objects(&*store).await, objects(&*origin).await);
}
