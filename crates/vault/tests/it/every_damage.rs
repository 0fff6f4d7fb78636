//! A vault with three tables and ten points: whatever is done to any of its objects is found, and named with the
//! tables and points it touches; what it does not touch is read. With parity it is healed, byte for byte, within its strength.
//!
//! `KEEPFAST_LONG=1` flips every byte of every object and swaps every pair (hours); without it, every byte of
//! small objects, and of larger ones and of pairs a sample that follows from the seed.

use crate::common::ten_points::*;
use crate::common::*;
use bytes::Bytes;
use keepfast_model::{Hash256, Parity};
use keepfast_vault::{CheckReport, HealedBy, Vault, layout};
use object_store::memory::InMemory;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SEED: u64 = 41;
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

/// Tables and points, as a report shows them.
type Names = (BTreeSet<String>, BTreeSet<String>);

/// What is known of a vault before it is damaged.
struct Known {
    made: Made,
    contents: BTreeMap<String, Bytes>,
    /// What the loss of an object touches, worked out from the log alone: for segments the points that list them, for a
    /// Delta log those with the base that it shows.
    touched: BTreeMap<String, Names>,
    /// Objects that a program may have died before: the newest record in one copy, and the newest versions of Delta logs.
    may_be_missing: BTreeSet<String>,
}

impl Known {
    async fn of(made: Made) -> Self {
        let contents = objects(&*made.store).await;
        let vault = made.open(fork(&made.store)).await.unwrap();
        let log = vault.log().await.unwrap();
        let head = log.head().unwrap().0;
        let mut may_be_missing = BTreeSet::from([layout::log_record(head), layout::log_copy(head)]);
        let mut touched: BTreeMap<String, Names> = BTreeMap::new();
        let newest = vault.latest(&backup("shop")).await.unwrap();
        for point in log.all_points() {
            for table in &point.tables {
                let manifests = vault.read_manifests(table).await.unwrap();
                let changes = table.changes.iter().map(|c| &c.manifest);
                let listed =
                    table.base.iter().chain(changes).zip(manifests.base.iter().chain(&manifests.changes));
                let mut names = vec![];
                for (reference, manifest) in listed {
                    names.extend(manifest.segments.iter().map(|e| layout::file(manifest.kind, &table.id, e)));
                    names.push(layout::manifest(reference.id));
                }
                let delta: Vec<_> = contents
                    .keys()
                    .filter(|n| n.starts_with(&layout::delta_log(&table.id)))
                    .cloned()
                    .collect();
                may_be_missing.extend(delta.last().cloned());
                if newest.tables.iter().any(|t| t.id == table.id && t.base == table.base) {
                    names.extend(delta);
                }
                for name in names {
                    let (tables, points) = touched.entry(name).or_default();
                    tables.insert(table.name.to_string());
                    points.insert(point.id().to_string());
                }
            }
        }
        Self { made, contents, touched, may_be_missing }
    }

    fn assert_named(&self, report: &CheckReport, name: &str, what: &str) {
        let full = format!("memory:vault/{name}");
        let damage = report.damage.iter().find(|d| d.path == full);
        let damage = damage.unwrap_or_else(|| panic!("{what} of {name} was not found: {:?}", report.damage));
        assert!(!damage.tables.is_empty() && !damage.points.is_empty(), "{what} of {name} touches nothing");
        if let Some((tables, points)) = self.touched.get(name) {
            let show = |items: &mut dyn Iterator<Item = String>| items.collect::<BTreeSet<_>>();
            assert_eq!(show(&mut damage.tables.iter().map(ToString::to_string)), *tables, "{name}");
            assert_eq!(show(&mut damage.points.iter().map(ToString::to_string)), *points, "{name}");
        }
    }

    /// Reads every table of every point that the report does not name; how many those are.
    async fn assert_rest_is_read(&self, store: Arc<InMemory>, report: &CheckReport, what: &str) -> u64 {
        let log = self.made.log().await;
        let opened = async {
            let vault = self.made.open(store).await?;
            vault.log().await.map(|_| vault)
        };
        let opened = opened.await;
        let mut read = 0;
        for point in log.all_points() {
            for table in &point.tables {
                let touches = |d: &keepfast_vault::Damage| {
                    d.points.contains(point.id()) && d.tables.contains(&table.name)
                };
                if report.damage.iter().any(touches) {
                    continue;
                }
                let which = || format!("{what}: {} of {}", table.name, point.id());
                let vault = opened.as_ref().unwrap_or_else(|e| panic!("{}: {e}", which()));
                let manifests = vault.read_manifests(table).await;
                let manifests = manifests.unwrap_or_else(|e| panic!("{}: {e}", which()));
                for entry in manifests.base.iter().flat_map(|m| &m.segments) {
                    vault.read_segment(&table.id, entry).await.unwrap_or_else(|e| panic!("{}: {e}", which()));
                }
                for entry in manifests.changes.iter().flat_map(|m| &m.segments) {
                    let file = vault.read_change_segment(&table.id, entry).await;
                    file.unwrap_or_else(|e| panic!("{}: {e}", which()));
                }
                read += 1;
            }
        }
        read
    }
}

fn folder(name: &str) -> &str {
    let kind = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    if kind.starts_with("tables/") { kind.rsplit('/').next().unwrap_or_default() } else { kind }
}

/// How many damages of each kind a vault gets.
struct Effort {
    /// Objects of which every byte is flipped have so many bytes at most.
    small: usize,
    flips: usize,
    cuts: usize,
    replays: usize,
    swaps: usize,
}

/// Damages every object of the vault in every way.
async fn damage_everything(made: Made, effort: &Effort) {
    let known = Known::of(made).await;
    let (made, contents) = (&known.made, &known.contents);
    let whole = made.check(fork(&made.store)).await;
    assert!(whole.is_whole() && whole.behind.is_empty(), "{whole:?}");
    let (mut flips, mut cuts, mut swaps, mut replays, mut deletes, mut read) =
        (0u64, 0u64, 0u64, 0u64, 0u64, 0u64);
    let mut draw = Draw(0);
    for (name, bytes) in contents {
        let every: Vec<usize> = if bytes.len() <= effort.small || long() {
            (0..bytes.len()).collect()
        } else {
            (0..effort.flips).map(|_| draw.below(bytes.len())).chain([0, 1, bytes.len() - 1]).collect()
        };
        for (n, at) in every.into_iter().enumerate() {
            let what = format!("a flip at byte {at}");
            let store = made.with(name, Some(flipped(bytes, at))).await;
            let report = made.check(store.clone()).await;
            known.assert_named(&report, name, &what);
            if n == 0 {
                read += known.assert_rest_is_read(store, &report, &format!("{what} of {name}")).await;
            }
            flips += 1;
        }
        let lengths =
            [0, bytes.len() - 1, 1, bytes.len() / 2, draw.below(bytes.len()), draw.below(bytes.len())];
        for keep in lengths.into_iter().take(effort.cuts) {
            let report = made.check(made.with(name, Some(bytes.slice(..keep))).await).await;
            known.assert_named(&report, name, &format!("a cut to {keep} bytes"));
            cuts += 1;
        }
        for tail in [&b"\n"[..], b"\0", bytes].into_iter().take(effort.cuts) {
            let longer: Bytes = [bytes, tail].concat().into();
            known.assert_named(&made.check(made.with(name, Some(longer)).await).await, name, "an extension");
            cuts += 1;
        }
        let store = made.with(name, None).await;
        let report = made.check(store.clone()).await;
        deletes += 1;
        match known.may_be_missing.contains(name) {
            false => known.assert_named(&report, name, "deletion"),
            true if layout::is_delta(name) => {
                assert!(report.is_whole() && report.behind.len() == 1, "{name}")
            }
            true => {}
        }
        read += known.assert_rest_is_read(store, &report, &format!("deletion of {name}")).await;
        // Any other object of its kind in its place: an older one, or a newer one.
        let kind: Vec<_> =
            contents.iter().filter(|(other, b)| folder(other) == folder(name) && *b != bytes).collect();
        let chosen = if long() { kind.len() } else { kind.len().min(effort.replays) };
        for n in 0..chosen {
            let (other, replayed) = kind[if long() { n } else { draw.below(kind.len()) }];
            let report = made.check(made.with(name, Some(replayed.clone())).await).await;
            known.assert_named(&report, name, &format!("a replay of {other}"));
            replays += 1;
        }
    }
    let names: Vec<&String> = contents.keys().collect();
    let pairs: Vec<(usize, usize)> = if long() {
        (0..names.len()).flat_map(|a| (0..a).map(move |b| (a, b))).collect()
    } else {
        (0..effort.swaps).map(|_| (draw.below(names.len()), draw.below(names.len()))).collect()
    };
    for (a, b) in pairs {
        let (a, b) = (names[a], names[b]);
        if contents[a] == contents[b] {
            continue;
        }
        let store = made.with(a, Some(contents[b].clone())).await;
        tamper(&*store, b, Some(contents[a].clone())).await;
        let report = made.check(store).await;
        for name in [a, b] {
            assert!(
                report.damage.iter().any(|d| d.path.ends_with(name.as_str())),
                "swap of {a} and {b}: {report:?}"
            );
        }
        swaps += 1;
    }
    eprintln!(
        "COUNT {flips} flipped bytes, {cuts} objects cut or extended, {deletes} objects deleted, {replays} replays, {swaps} swaps: found in {} objects, 3 tables, 10 points, seed {SEED}; read {read} tables of points that were not named",
        contents.len()
    );
    assert!(read > 0);
}

#[tokio::test]
async fn every_damage_to_a_vault_without_parity_is_found_and_named_and_the_rest_is_read() {
    let effort = Effort { small: 100, flips: 20, cuts: 6, replays: 4, swaps: 250 };
    damage_everything(ten_points(None, Keys::No).await, &effort).await;
}

#[tokio::test]
async fn every_damage_to_an_encrypted_vault_is_found_and_named_and_the_rest_is_read() {
    let effort = Effort { small: 0, flips: 3, cuts: 2, replays: 2, swaps: 100 };
    damage_everything(ten_points(Some(STRENGTH), Keys::Yes).await, &effort).await;
}

#[tokio::test]
async fn a_deleted_copy_of_the_newest_record_is_completed_and_both_are_found_by_the_head() {
    let made = ten_points(None, Keys::No).await;
    let origin = &made.store;
    let head = made.check(fork(origin)).await.head.unwrap();
    let [original, copy] = ["log", "log-copy"].map(|f| format!("{f}/00000000000000000010.json"));
    for name in [&original, &copy] {
        let store = made.with(name, None).await;
        assert_eq!(Vault::open(memory(store.clone())).await.unwrap().log().await.unwrap().head(), Some(head));
        assert_eq!(objects(&*store).await, objects(&**origin).await);
    }
    let store = made.with(&original, None).await;
    tamper(&*store, &copy, None).await;
    let report = made.check(store).await;
    assert!(report.is_whole(), "an older state of a vault is a vault");
    assert_ne!(report.head, Some(head), "what `--expect` and the remembered head compare");
}

/// Repairs, and sees that every byte is as it was. A Delta log is written anew, and says the same.
async fn assert_healed(made: &Made, store: Arc<InMemory>, contents: &BTreeMap<String, Bytes>, what: &str) {
    let report = made.repair(store.clone()).await;
    assert!(report.lost.is_empty() && report.check.is_whole(), "{what}: {:?}", report.lost);
    assert!(!report.healed.is_empty(), "{what}: nothing was healed");
    let (mut healed, mut contents) = (objects(&*store).await, contents.clone());
    if report.healed.iter().any(|h| h.by == HealedBy::Base) {
        assert!(report.check.behind.is_empty(), "{what}: {:?}", report.check.behind);
        healed.retain(|name, _| !layout::is_delta(name));
        contents.retain(|name, _| !layout::is_delta(name));
    }
    assert_eq!(healed, contents, "{what}: not byte for byte");
}

/// Objects that have no second copy of any kind.
fn has_no_copy(name: &str, contents: &BTreeMap<String, Bytes>) -> bool {
    name.starts_with("keys/") && !contents.contains_key(&name.replace("keys/", "keys-copy/"))
}

#[tokio::test]
async fn with_parity_every_damage_to_one_object_is_healed_byte_for_byte() {
    let Known { made, contents, may_be_missing, .. } =
        Known::of(ten_points(Some(STRENGTH), Keys::No).await).await;
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
        damages.extend((!may_be_missing.contains(name)).then_some(None));
        for damage in damages {
            assert_healed(&made, made.with(name, damage).await, &contents, name).await;
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
    let Known { made, contents, may_be_missing, .. } =
        Known::of(ten_points(Some(STRENGTH), Keys::No).await).await;
    let healable = |n: &&String| !has_no_copy(n, &contents) && !may_be_missing.contains(*n);
    let names: Vec<&String> = contents.keys().filter(healable).collect();
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
        let store = made.with(a, Some(contents[b].clone())).await;
        tamper(&*store, b, Some(contents[a].clone())).await;
        assert_healed(&made, store, &contents, &format!("swap of {a} and {b}")).await;
        swaps += 1;
        let store = made.with(a, None).await;
        tamper(&*store, b, Some(flipped(&contents[b], draw.below(contents[b].len())))).await;
        assert_healed(&made, store, &contents, &format!("loss of {a} and a flip in {b}")).await;
        pairs += 1;
    }
    eprintln!("COUNT {} damages healed: {swaps} swaps and {pairs} losses of two, seed {SEED}", swaps + pairs);
}

#[tokio::test]
async fn beyond_the_strength_of_parity_only_what_is_lost_is_lost() {
    let made = ten_points(Some(STRENGTH), Keys::No).await;
    let origin = &*made.store;
    let vault = made.open(made.store.clone()).await.unwrap();
    let point = vault.latest(&backup("shop")).await.unwrap();
    let orders = point.tables.iter().find(|t| t.name.table == "orders").unwrap();
    let manifest = vault.read_manifests(orders).await.unwrap().base.remove(0);
    let group = &manifest.parity.as_ref().unwrap()[0];
    assert!(group.members.len() >= 3, "the first group is full");
    let store = fork(origin);
    let file = |at: u32| layout::segment(&orders.id, &manifest.segments[at as usize]);
    for at in &group.members[..3] {
        tamper(&*store, &file(*at), None).await;
    }
    let elsewhere = objects(origin).await.into_keys().find(|n| n.starts_with("manifests/")).unwrap();
    tamper(&*store, &elsewhere, None).await;
    let report = made.repair(store.clone()).await;
    // A file of the group may be in another group of an older point, from which it comes back.
    assert!(report.healed.iter().any(|h| h.path.ends_with(&elsewhere)));
    for lost in &report.lost {
        assert!(lost.why.contains("parity heals 2"), "{}", lost.why);
        assert_eq!(lost.gaps[0].table.table, "orders");
        assert!(lost.damage.points.iter().any(|p| p.to_string() == "shop@10"));
    }
    // One of them comes back from elsewhere: the others follow.
    let name = file(group.members[0]);
    tamper(&*store, &name, Some(objects(origin).await[&name].clone())).await;
    let report = made.repair(store.clone()).await;
    assert!(report.lost.is_empty() && report.check.is_whole());
    assert_eq!(objects(&*store).await, objects(origin).await);
}
