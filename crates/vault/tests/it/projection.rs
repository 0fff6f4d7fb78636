//! Delta logs of tables: what of them is damage, what only lags, and how both are mended.

use crate::common::*;
use jiff::SignedDuration;
use keepfast_model::TablePoint;
use keepfast_vault::{CheckOptions, CheckReport, HealedBy, PruneOptions, Vault, layout};
use object_store::memory::InMemory;
use serde_json::Value;
use std::sync::Arc;

/// A vault with this many bases of one table, of which the first `shown` were projected.
async fn made(bases: usize, shown: usize) -> (Arc<InMemory>, Vault) {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    for n in 0..bases {
        let texts = [format!("{n}"), format!("{}", n + 1)];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        back_up(&vault, &backup("shop"), &format!("r{n}"), &[sample("t", &texts, &[])]).await.unwrap();
        if n < shown {
            project(&vault).await;
        }
    }
    (store, vault)
}

async fn newest(vault: &Vault) -> TablePoint {
    vault.latest(&backup("shop")).await.unwrap().tables[0].clone()
}

async fn project(vault: &Vault) {
    let table = newest(vault).await;
    let base = vault.read_manifests(&table).await.unwrap().base;
    vault.project_delta(&table, &base).await.unwrap().unwrap();
}

async fn check(store: &Arc<InMemory>) -> CheckReport {
    let vault = Vault::open(memory(store.clone())).await.unwrap();
    vault.check(&CheckOptions::default(), &()).await.unwrap()
}

async fn versions(store: &InMemory) -> Vec<String> {
    objects(store).await.into_keys().filter(|name| layout::is_delta(name)).collect()
}

/// A version without its checksum, changed: what somebody writes who knows the format.
fn forged(bytes: &[u8], change: impl Fn(&mut Value)) -> bytes::Bytes {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    lines[0]["commitInfo"].as_object_mut().unwrap().remove("sum");
    lines.iter_mut().for_each(change);
    lines.iter().map(|l| format!("{l}\n")).collect::<String>().into()
}

#[tokio::test]
async fn a_delta_log_that_shows_what_no_base_is_is_damage_and_is_written_anew() {
    let (origin, _) = made(2, 2).await;
    let name = versions(&origin).await.pop().unwrap();
    let stored = objects(&*origin).await[&name].clone();
    let set = |action: &'static str, field: &'static str, to: Value| {
        forged(&stored, move |line| {
            if let Some(action) = line.get_mut(action) {
                action[field] = to.clone();
            }
        })
    };
    let cases = [
        ("another file", set("add", "path", "segments/other.parquet".into())),
        ("another size", set("add", "size", 1.into())),
        ("other rows", set("add", "stats", "{\"numRecords\":9}".into())),
        ("a filter of rows", set("add", "deletionVector", serde_json::json!({"storageType": "u"}))),
        (
            "nothing removed",
            forged(&stored, |line| {
                if line.get("remove").is_some() {
                    *line = line["add"].clone();
                }
            }),
        ),
        ("no JSON", "{".into()),
        ("nothing", bytes::Bytes::new()),
    ];
    for (what, bytes) in cases {
        let store = fork(&origin);
        tamper(&*store, &name, Some(bytes)).await;
        let report = check(&store).await;
        let damage = &report.damage[..];
        assert_eq!(damage.len(), 1, "{what}: {damage:?}");
        assert_eq!(damage[0].path, format!("memory:vault/{name}"), "{what}");
        assert_eq!(damage[0].tables.iter().map(ToString::to_string).collect::<Vec<_>>(), ["t"]);
        assert_eq!(damage[0].points.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop@2"]);
        let vault = Vault::open(memory(store.clone())).await.unwrap();
        let repaired = vault.repair(None, &()).await.unwrap();
        assert!(repaired.lost.is_empty() && repaired.healed.iter().all(|h| h.by == HealedBy::Base), "{what}");
        let after = check(&store).await;
        assert!(after.is_whole() && after.behind.is_empty(), "{what}: {after:?}");
    }
    // What readers of a Delta log would believe rather than its versions.
    let store = fork(&origin);
    let id = newest(&Vault::open(memory(store.clone())).await.unwrap()).await.id;
    let planted = format!("{}/_last_checkpoint", layout::delta_log(&id));
    tamper(&*store, &planted, Some("{}".into())).await;
    assert_eq!(check(&store).await.damage[0].path, format!("memory:vault/{planted}"));
    Vault::open(memory(store.clone())).await.unwrap().repair(None, &()).await.unwrap();
    assert!(check(&store).await.is_whole() && !versions(&store).await.contains(&planted));
}

#[tokio::test]
async fn a_delta_log_that_is_missing_or_shows_an_older_base_is_told_and_written_when_asked() {
    for shown in [0, 1, 2] {
        let (store, vault) = made(3, shown).await;
        let report = check(&store).await;
        assert!(report.is_whole(), "{shown}: {report:?}");
        assert_eq!(report.behind.iter().map(|b| b.table.to_string()).collect::<Vec<_>>(), ["t"]);
        assert!(vault.project_behind(&report.behind).await.unwrap().is_empty());
        let after = check(&store).await;
        assert!(after.is_whole() && after.behind.is_empty(), "{shown}: {after:?}");
        assert_eq!(versions(&store).await.len(), shown + 1);
    }
}

#[tokio::test]
async fn a_delta_log_that_shows_a_pruned_base_is_behind_and_one_ahead_of_the_log_is_damage() {
    let (store, vault) = made(3, 1).await;
    let keep = keepfast_model::RetentionPolicy { last: 1, ..Default::default() };
    let options = PruneOptions { grace: SignedDuration::ZERO, ..PruneOptions::of(backup("shop"), keep) };
    vault.prune(&vault.plan_prune(&options).await.unwrap()).await.unwrap();
    vault.delete_condemned().await.unwrap();
    let report = check(&store).await;
    assert!(report.is_whole() && report.behind.len() == 1, "{report:?}");

    let (store, _) = made(2, 2).await;
    for name in ["log", "log-copy"].map(|folder| format!("{folder}/00000000000000000002.json")) {
        tamper(&*store, &name, None).await;
    }
    let report = check(&store).await;
    assert!(
        report.damage.len() == 1
            && layout::is_delta(report.damage[0].path.strip_prefix("memory:vault/").unwrap()),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_delta_log_without_checksums_is_read_as_ever() {
    let (store, vault) = made(2, 2).await;
    for name in versions(&store).await {
        let without = forged(&objects(&*store).await[&name], |_| {});
        tamper(&*store, &name, Some(without)).await;
    }
    let report = check(&store).await;
    assert!(report.is_whole() && report.behind.is_empty(), "{report:?}");
    back_up(&vault, &backup("shop"), "next", &[sample("t", &["9"], &[])]).await.unwrap();
    project(&vault).await;
    let report = check(&store).await;
    assert!(report.is_whole() && report.behind.is_empty() && versions(&store).await.len() == 3, "{report:?}");
}
