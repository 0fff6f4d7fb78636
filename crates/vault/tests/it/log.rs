//! The log is read from either copy, completed at its head, and never taken for empty when it is damaged.

use crate::common::*;
use keepfast_model::{Coded, LogSeq};
use keepfast_vault::{AsOf, Vault, VaultError, layout};
use object_store::memory::InMemory;
use std::sync::Arc;

/// Five points of one backup.
async fn five() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    for i in 1..=5 {
        back_up(&vault, &backup("b"), &format!("run {i}"), &[sample("t", &[&i.to_string()], &[])])
            .await
            .unwrap();
    }
    store
}

async fn open(store: &Arc<InMemory>) -> Vault {
    Vault::open_with(memory(store.clone()), world(9).environment).await.unwrap()
}

#[tokio::test]
async fn a_record_that_stands_in_one_copy_is_read_and_completed_at_the_head() {
    let origin = five().await;
    for seq in (1..=5).map(LogSeq) {
        for name in [layout::log_record(seq), layout::log_copy(seq)] {
            let store = fork(&origin);
            tamper(&*store, &name, None).await;
            let log = open(&store).await.log().await.unwrap();
            assert_eq!(log.points(&backup("b")).count(), 5, "without {name}");
            let completed = objects(&*store).await.contains_key(&name);
            assert_eq!(completed, seq == LogSeq(5), "{name}");
        }
    }
}

#[tokio::test]
async fn a_record_damaged_in_one_copy_is_read_from_the_other() {
    let origin = five().await;
    for seq in (1..=5).map(LogSeq) {
        for name in [layout::log_record(seq), layout::log_copy(seq)] {
            let store = fork(&origin);
            tamper(&*store, &name, Some("{}".into())).await;
            assert_eq!(open(&store).await.points(&backup("b")).await.unwrap().len(), 5, "without {name}");
        }
    }
}

#[tokio::test]
async fn a_gap_is_damage_and_names_the_record() {
    let origin = five().await;
    for seq in (1..=4).map(LogSeq) {
        let store = fork(&origin);
        tamper(&*store, &layout::log_record(seq), None).await;
        tamper(&*store, &layout::log_copy(seq), None).await;
        let error = open(&store).await.log().await.unwrap_err();
        assert!(
            matches!(&error, VaultError::Damaged { path, .. } if path.contains(&format!("{:020}", seq.0))),
            "{error}"
        );
        assert_eq!(error.code().0, 224);
    }
}

#[tokio::test]
async fn a_broken_chain_is_damage() {
    let origin = five().await;
    for seq in (1..=4).map(LogSeq) {
        let store = fork(&origin);
        let mut forged = unseal(&objects(&*store).await[&layout::log_record(seq)]);
        forged["at"] = "2001-01-01T00:00:00Z".into();
        for name in [layout::log_record(seq), layout::log_copy(seq)] {
            tamper(&*store, &name, Some(seal(&forged))).await;
        }
        let error = open(&store).await.log().await.unwrap_err();
        assert!(error.to_string().contains(&format!("{:020}", seq.0)), "{error}");
    }
    let store = fork(&origin);
    let mut forged = unseal(&objects(&*store).await[&layout::log_record(LogSeq(1))]);
    forged["prev"] = "1".repeat(64).into();
    for name in ["log/00000000000000000006.json", "log-copy/00000000000000000006.json"] {
        forged["seq"] = 6.into();
        tamper(&*store, name, Some(seal(&forged))).await;
    }
    assert!(open(&store).await.log().await.is_err());
}

#[tokio::test]
async fn two_whole_and_different_copies_at_the_head_are_damage() {
    let store = five().await;
    let mut forged = unseal(&objects(&*store).await[&layout::log_copy(LogSeq(5))]);
    forged["at"] = "2001-01-01T00:00:00Z".into();
    tamper(&*store, &layout::log_copy(LogSeq(5)), Some(seal(&forged))).await;
    assert!(open(&store).await.log().await.is_err());
}

#[tokio::test]
async fn an_open_vault_notices_that_records_it_read_are_gone() {
    let store = five().await;
    let vault = open(&store).await;
    vault.log().await.unwrap();
    for seq in (1..=5).map(LogSeq) {
        tamper(&*store, &layout::log_record(seq), None).await;
        tamper(&*store, &layout::log_copy(seq), None).await;
    }
    assert!(matches!(vault.log().await, Err(VaultError::Damaged { .. })));
    assert!(back_up(&vault, &backup("b"), "next", &[sample("t", &["x"], &[])]).await.is_err());
}

#[tokio::test]
async fn a_refresh_reads_only_what_is_new() {
    let store = five().await;
    let counted = Faulty::new(store.clone(), u64::MAX, Fault::DiesBefore);
    let reader = Vault::open(memory(counted.clone())).await.unwrap();
    reader.log().await.unwrap();
    let before = counted.operations();
    reader.log().await.unwrap();
    assert_eq!(counted.operations() - before, 2, "two listings");
    back_up(&open(&store).await, &backup("b"), "run 6", &[sample("t", &["6"], &[])]).await.unwrap();
    let before = counted.operations();
    assert_eq!(reader.points(&backup("b")).await.unwrap().len(), 6);
    assert_eq!(counted.operations() - before, 4, "two listings, and both copies of the newest record");
}

#[tokio::test]
async fn foreign_files_among_records_are_not_records() {
    let store = five().await;
    for name in [
        "log/readme.txt",
        "log/6.json",
        "log/00000000000000000006.json.bak",
        "log/deep/00000000000000000009.json",
    ] {
        tamper(&*store, name, Some("hello".into())).await;
    }
    assert_eq!(open(&store).await.points(&backup("b")).await.unwrap().len(), 5);
}

#[tokio::test]
async fn newer_formats_are_told_apart_from_damage() {
    let origin = five().await;
    let store = fork(&origin);
    let mut marker = unseal(&objects(&*store).await["keepfast.json"]);
    marker["format"] = 2.into();
    tamper(&*store, "keepfast.json", Some(seal(&marker))).await;
    let error = Vault::open(memory(store)).await.unwrap_err();
    assert!(matches!(error, VaultError::NewerFormat { .. }), "{error}");

    for change in [
        |line: &mut serde_json::Value| line["format"] = 2.into(),
        |line: &mut serde_json::Value| line["records"][0]["record"] = "parity".into(),
    ] {
        let store = fork(&origin);
        for name in [layout::log_record(LogSeq(5)), layout::log_copy(LogSeq(5))] {
            let mut line = unseal(&objects(&*store).await[&name]);
            change(&mut line);
            tamper(&*store, &name, Some(seal(&line))).await;
        }
        let error = open(&store).await.log().await.unwrap_err();
        assert!(matches!(error, VaultError::NewerFormat { .. }), "{error}");
    }
}

#[tokio::test]
async fn points_are_found_by_number_and_time() {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store), &world(1).options()).await.unwrap();
    let b = backup("b");
    let error = vault.latest(&b).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no backup 'b' in memory:vault; it holds none");
    for hour in [3, 1, 2] {
        let (mut point, written) = write_point(&vault, &b, "r", &[sample("t", &["x"], &[])]).await.unwrap();
        point.cut.at = format!("2027-01-01T0{hour}:00:00Z").parse().unwrap();
        vault.commit(vec![keepfast_model::Record::Point(Box::new(point))], &written, &()).await.unwrap();
    }
    let seq = async |as_of| vault.resolve(&b, as_of).await.map(|p| p.seq().0);
    let at = |text: &str| AsOf::Time(text.parse().unwrap());
    assert_eq!(seq(AsOf::Latest).await.unwrap(), 3);
    assert_eq!(seq(AsOf::Point(LogSeq(2))).await.unwrap(), 2);
    assert_eq!(seq(at("2027-01-01T02:30:00Z")).await.unwrap(), 3);
    assert_eq!(seq(at("2027-01-01T01:00:00Z")).await.unwrap(), 2);
    assert_eq!(seq(at("2028-01-01T01:00:00Z")).await.unwrap(), 1);
    let error = seq(at("2026-01-01T00:00:00Z")).await.unwrap_err();
    assert!(
        error.to_string().contains("no restore point as of 2026-01-01T00:00:00Z; it has b@1 "),
        "{error}"
    );
    assert_eq!(seq(AsOf::Point(LogSeq(9))).await.unwrap_err().code().0, 226);
    assert_eq!(vault.latest(&backup("c")).await.unwrap_err().code().0, 225);
}

#[tokio::test]
async fn a_place_without_a_vault_says_so() {
    let store = Arc::new(InMemory::new());
    assert!(matches!(Vault::open(memory(store.clone())).await, Err(VaultError::NotAVault { .. })));
    tamper(&*store, "photos/cat.jpg", Some("x".into())).await;
    assert!(matches!(Vault::open(memory(store.clone())).await, Err(VaultError::NotAVault { .. })));
    let error = Vault::open_or_create(memory(store.clone())).await.unwrap_err();
    assert!(error.to_string().contains("it holds photos/cat.jpg"), "{error}");
    assert_eq!(objects(&*store).await.len(), 1);
    let store = five().await;
    assert!(matches!(
        Vault::create(memory(store.clone()), &world(2).options()).await,
        Err(VaultError::VaultExists { .. })
    ));
    tamper(&*store, "keepfast.json", None).await;
    assert!(matches!(Vault::open(memory(store)).await, Err(VaultError::Damaged { .. })));
}
