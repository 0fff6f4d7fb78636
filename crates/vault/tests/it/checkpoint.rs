//! A long log is read from a checkpoint, which is never believed beyond what the log proves.

use crate::common::*;
use keepfast_model::{LogSeq, Record};
use keepfast_objects::faulty::{Fault as Wrong, Kind, Process, Script};
use keepfast_vault::{CheckOptions, Log, Vault, layout};
use object_store::memory::InMemory;
use std::sync::Arc;

/// Records after which the first checkpoint is there.
const MANY: u64 = 300;

/// A vault with a point and many records after it.
async fn long() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    back_up(&vault, &backup("b"), "run", &[sample("t", &["1"], &[])]).await.unwrap();
    go_on(&vault, MANY).await;
    store
}

async fn go_on(vault: &Vault, to: u64) {
    let head = vault.log().await.unwrap().head().map_or(0, |(seq, _)| seq.0);
    for n in head + 1..=to {
        vault.commit(vec![Record::Release { id: format!("{n}") }], &[], &()).await.unwrap();
    }
}

async fn checkpoints(store: &InMemory) -> Vec<String> {
    objects(store).await.into_keys().filter(|name| name.starts_with(layout::CHECKPOINTS)).collect()
}

fn numbers(names: &[String]) -> Vec<u64> {
    names.iter().map(|name| layout::checkpoint_of(name).unwrap().0.0).collect()
}

/// Paths of all damage.
async fn damaged(store: &Arc<InMemory>) -> Vec<String> {
    let vault = Vault::open(memory(store.clone())).await.unwrap();
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    report.damage.iter().map(|d| d.path.clone()).collect()
}

/// The log as a new process reads it, and how many operations that took.
async fn read(store: &Arc<InMemory>) -> (Log, u64) {
    let counted = Faulty::new(store.clone(), u64::MAX, Fault::DiesBefore);
    let vault = Vault::open_with(memory(counted.clone()), world(5).environment).await.unwrap();
    (vault.log().await.unwrap(), counted.operations())
}

fn hashes(log: &Log) -> Vec<(LogSeq, keepfast_model::Hash256)> {
    log.lines().map(|l| (l.seq, l.stored)).collect()
}

#[tokio::test]
async fn a_long_log_is_read_from_its_checkpoint_with_the_same_result() {
    let store = long().await;
    let names = checkpoints(&store).await;
    assert_eq!(numbers(&names), [256]);
    let (with, few) = read(&store).await;
    tamper(&*store, &names[0], None).await;
    let (without, all) = read(&store).await;
    assert_eq!(hashes(&with), hashes(&without));
    assert_eq!(with.points(&backup("b")).count(), 1);
    assert!(few < 60 && all > MANY, "{few} operations with a checkpoint, {all} without");
}

#[tokio::test]
async fn a_checkpoint_that_a_commit_beside_a_check_wrote_is_no_damage() {
    let origin = Arc::new(InMemory::new());
    let vault = Vault::create(memory(origin.clone()), &world(1).options()).await.unwrap();
    go_on(&vault, 255).await;
    // The check lists the log as it was before the commit, and checkpoints as they are after it.
    let committed_and_checked = async |script: Script| {
        let process = Process::new(script);
        let target = process.wrap(&memory(fork(&origin)));
        let vault = Vault::open_with(target.clone(), world(3).environment).await.unwrap();
        go_on(&vault, 256).await;
        let committed = process.trace().len();
        let vault = Vault::open_with(target, world(4).environment).await.unwrap();
        let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
        (process.trace().split_off(committed), report)
    };
    let (trace, report) = committed_and_checked(Script::none()).await;
    assert!(report.is_whole() && report.head.unwrap().0 == LogSeq(256), "{report:?}");
    let listings = trace.iter().filter(|o| o.kind == Kind::List && o.path.starts_with("log"));
    let script =
        listings.take(2).fold(Script::none(), |s, o| s.and_at(o.number, Wrong::Stale { by: o.number }));
    let (_, report) = committed_and_checked(script).await;
    assert_eq!(report.head.unwrap().0, LogSeq(255), "it read the log as it was before");
    assert!(report.is_whole(), "{:?}", report.damage);
}

#[tokio::test]
async fn a_checkpoint_that_says_anything_else_than_the_log_is_not_believed_and_is_found() {
    let origin = long().await;
    let (right, _) = read(&origin).await;
    let name = checkpoints(&origin).await.remove(0);
    let stored = objects(&*origin).await[&name].to_vec();
    let text = zstd::decode_all(stored.as_slice()).unwrap();
    let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
    let packed = |lines: &[&[u8]]| zstd::encode_all(lines.concat().as_slice(), 1).unwrap();
    // A record that says something else, with a right seal, and every record after it chained to it anew.
    let mut forged: Vec<Vec<u8>> = vec![];
    for (i, line) in lines.iter().enumerate() {
        let mut json = unseal(line);
        if i == 99 {
            json["records"][0]["id"] = "forged".into();
        }
        if let Some(before) = forged.last() {
            json["prev"] = keepfast_model::Hash256::of(before).to_string().into();
        }
        forged.push(seal(&json).to_vec());
    }
    let forged: Vec<&[u8]> = forged.iter().map(Vec::as_slice).collect();
    let mut cases = vec![
        ("cut off", stored[..stored.len() / 2].to_vec()),
        ("empty", vec![]),
        ("nonsense", b"nonsense".to_vec()),
        ("without its first record", packed(&lines[1..])),
        ("without its last record", packed(&lines[..255])),
        ("with a record twice", packed(&[&lines[..100], &lines[99..]].concat())),
        ("without a record", packed(&[&lines[..99], &lines[100..]].concat())),
        ("forged", packed(&forged)),
    ];
    for at in (0..stored.len()).step_by(stored.len() / 12) {
        let mut flipped = stored.clone();
        flipped[at] ^= 0x10;
        cases.push(("flipped", flipped));
    }
    // Each under the old name, and under the one that states its own bytes.
    for (what, bytes) in &cases {
        let store = fork(&origin);
        tamper(&*store, &name, Some(bytes.clone().into())).await;
        let (log, _) = read(&store).await;
        assert_eq!(hashes(&log), hashes(&right), "{what}");
        assert_eq!(damaged(&store).await, [format!("memory:vault/{name}")], "{what}");
        // A repair makes room for the one that is due.
        let vault = Vault::open(memory(store.clone())).await.unwrap();
        let report = vault.repair(None, &()).await.unwrap();
        assert!(report.lost.is_empty() && report.healed.len() == 1, "{what}: {report:?}");
        assert!(damaged(&store).await.is_empty() && numbers(&checkpoints(&store).await) == [MANY], "{what}");
    }
    for (what, bytes) in cases {
        let store = fork(&origin);
        tamper(&*store, &name, None).await;
        let name = layout::checkpoint(LogSeq(256), keepfast_model::Hash256::of(&bytes));
        tamper(&*store, &name, Some(bytes.into())).await;
        let rewritten = what == "flipped" && damaged(&store).await.is_empty();
        let (log, _) = read(&store).await;
        assert_eq!(hashes(&log), hashes(&right), "{what}");
        // Other bytes may be the same text to zstd.
        assert!(rewritten || damaged(&store).await == [format!("memory:vault/{name}")], "{what}");
        let vault = Vault::open_with(memory(store.clone()), world(2).environment).await.unwrap();
        // The next one is made from the records, not from what is damaged.
        go_on(&vault, 600).await;
        let (after, operations) = read(&store).await;
        assert_eq!(hashes(&after).len(), 600, "{what}");
        assert!(operations < 400, "{what}: {operations}");
    }
}

#[tokio::test]
async fn a_checkpoint_hides_no_missing_head_and_a_check_finds_the_records_it_stands_for() {
    let origin = long().await;
    // Everything after the checkpoint is lost, its last record too: no head to hang it on.
    let store = fork(&origin);
    for seq in (256..=MANY).map(LogSeq) {
        tamper(&*store, &layout::log_record(seq), None).await;
        tamper(&*store, &layout::log_copy(seq), None).await;
    }
    assert_eq!(read(&store).await.0.head().unwrap().0, LogSeq(255));
    // A record before it is gone: reading goes on, and a check says so.
    let store = fork(&origin);
    tamper(&*store, &layout::log_record(LogSeq(7)), None).await;
    tamper(&*store, &layout::log_copy(LogSeq(7)), None).await;
    assert_eq!(read(&store).await.0.head().unwrap().0, LogSeq(MANY));
    let vault = Vault::open(memory(store)).await.unwrap();
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.damage.iter().any(|d| d.path.ends_with(&layout::log_record(LogSeq(7)))), "{report:?}");
}

#[tokio::test]
async fn older_checkpoints_are_deleted_and_a_place_that_refuses_them_loses_nothing() {
    let store = long().await;
    let vault = Vault::open_with(memory(store.clone()), world(2).environment).await.unwrap();
    go_on(&vault, 1100).await;
    let names = checkpoints(&store).await;
    assert_eq!(numbers(&names), [768, 1024]);
    let (log, operations) = read(&store).await;
    assert_eq!(log.lines().count(), 1100);
    assert!(operations < 110, "{operations}");
}
