//! Keys of tables beside writers: what is written is encrypted as it says, or is not committed; what is dropped is gone, or it is said.

use crate::common::*;
use keepfast_format::{Manifest, ManifestKind, WriterProfile};
use keepfast_keys::{Cost, Credentials, KeyError, NewRecipient, Passphrase};
use keepfast_model::*;
use keepfast_objects::ObjectsError;
use keepfast_vault::{CreateOptions, Environment, Vault, VaultError, layout};
use object_store::memory::InMemory;
use std::sync::Arc;

const PHRASE: &str = "the phrase";

fn id_of(table: &str) -> TableId {
    Vault::table_id(&backup("b"), "columnar", &TableName::bare(table), &Selection::default())
}

fn with_key(seed: u64) -> Environment {
    Environment { credentials: Credentials::passphrase(PHRASE), ..world(seed).environment }
}

async fn made(seed: u64, encryption: &Encryption) -> (Arc<InMemory>, Vault) {
    let store = Arc::new(InMemory::new());
    let options = CreateOptions { environment: with_key(seed), ..CreateOptions::default() };
    let vault = Vault::create(memory(store.clone()), &options).await.unwrap();
    vault.encrypt_table(&id_of("t"), encryption).await.unwrap();
    (store, vault)
}

async fn open(store: &Arc<InMemory>, seed: u64) -> Vault {
    Vault::open_with(memory(store.clone()), with_key(seed)).await.unwrap()
}

fn columns(ids: &[u32]) -> Encryption {
    Encryption::Columns { columns: ids.iter().map(|id| ColumnId(*id)).collect() }
}

fn page(table: &TableId) -> Manifest {
    let profile = WriterProfile::choose(&schema(), &[], 8_192);
    Manifest::pages(ManifestKind::Segments, table, &schema(), &profile, vec![]).remove(0)
}

fn is_changed<T: std::fmt::Debug>(result: Result<T, VaultError>) -> bool {
    matches!(result, Err(VaultError::TableKeysChanged { .. }))
}

#[tokio::test]
async fn keys_that_an_earlier_backup_left_never_decide_how_a_table_is_encrypted() {
    let ways = [columns(&[2]), columns(&[1, 2]), Encryption::Full];
    for was in &ways {
        for asked in &ways {
            // Nothing names the keys: the first backup was cut off, or dropped.
            let (store, vault) = made(1, was).await;
            vault.encrypt_table(&id_of("t"), asked).await.unwrap();
            for vault in [&vault, &open(&store, 2).await] {
                let protection = vault.protection(&id_of("t"), asked).await.unwrap();
                assert_eq!(protection.encryption(), asked, "it was {was:?}");
                assert_eq!(was == asked, !is_changed(vault.protection(&id_of("t"), was).await), "{was:?}");
            }
        }
        // And where nothing is to be encrypted, nothing is.
        let (_, vault) = made(3, was).await;
        let plain = vault.protection(&id_of("t"), &Encryption::None).await.unwrap();
        assert_eq!((plain.encryption(), plain.key_ids()), (&Encryption::None, ""));
        let (reference, _) = vault.put_manifest(&page(&id_of("t")), &Encryption::None).await.unwrap();
        let stored = vault.target().get(&layout::manifest(reference.id)).await.unwrap();
        assert!(Manifest::decode(&stored).is_ok(), "it is not sealed either");
    }
}

#[tokio::test]
async fn a_writer_whose_table_is_shredded_writes_nothing_in_clear() {
    let (store, vault) = made(4, &Encryption::Full).await;
    vault.protection(&id_of("t"), &Encryption::Full).await.unwrap();
    open(&store, 5).await.shred(&id_of("t"), None).await.unwrap();
    assert!(is_changed(vault.protection(&id_of("t"), &Encryption::Full).await));
    assert!(is_changed(vault.put_manifest(&page(&id_of("t")), &Encryption::Full).await));
    assert!(!objects(&*store).await.keys().any(|name| name.starts_with("manifests/")));
}

#[tokio::test]
async fn a_point_under_keys_that_were_dropped_meanwhile_is_never_committed() {
    for (encryption, column) in
        [(Encryption::Full, None), (columns(&[2]), None), (columns(&[1, 2]), Some(ColumnId(2)))]
    {
        for with_new_keys in [false, true] {
            let (store, vault) = made(6, &encryption).await;
            let to = backup("b");
            back_up(&vault, &to, "1", &[sample("t", &["a"], &[])]).await.unwrap();
            // A long one has written its files, a rival drops the keys, and another backup begins under new ones.
            let (point, written) = write_point(&vault, &to, "2", &[sample("t", &["b"], &[])]).await.unwrap();
            let rival = open(&store, 7).await;
            rival.shred(&id_of("t"), column).await.unwrap();
            if with_new_keys {
                rival.encrypt_table(&id_of("t"), &encryption).await.unwrap();
            }
            let commit = |point: &BackupPoint| {
                let (vault, written, point) = (vault.clone(), written.clone(), point.clone());
                async move { vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await }
            };
            let said = format!("{encryption:?}, new keys {with_new_keys}");
            assert!(is_changed(commit(&point).await), "{said}");
            // Saying that it is under the new ones does not help it where it says how it is encrypted.
            let lie = |change: &dyn Fn(&mut TablePoint)| {
                let mut point = point.clone();
                change(&mut point.tables[0]);
                point
            };
            assert!(is_changed(commit(&lie(&|t| t.encryption = Encryption::None)).await), "{said}");
            assert!(is_changed(commit(&lie(&|t| t.sealed = Some(String::new()))).await), "{said}");
            assert_eq!(vault.points(&to).await.unwrap().len(), 1, "{said}");
            if with_new_keys {
                back_up(&vault, &to, "3", &[sample("t", &["c"], &[])]).await.unwrap();
                let point = open(&store, 8).await.latest(&to).await.unwrap();
                assert!(point.tables[0].sealed.is_none(), "{said}");
            }
        }
    }
}

#[tokio::test]
async fn a_point_that_says_another_way_than_its_keys_is_never_committed() {
    let (_, vault) = made(9, &columns(&[2])).await;
    let (point, written) = write_point(&vault, &backup("b"), "1", &[sample("t", &["a"], &[])]).await.unwrap();
    for encryption in [Encryption::Full, Encryption::None, columns(&[1])] {
        let mut point = point.clone();
        point.tables[0].encryption = encryption.clone();
        let refused = vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await;
        assert!(is_changed(refused), "{encryption:?}");
    }
    vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await.unwrap();
}

#[tokio::test]
async fn a_table_that_lost_a_column_is_taken_along_by_a_point_for_which_nothing_of_it_is_written() {
    let (store, vault) = made(10, &columns(&[1, 2])).await;
    back_up(&vault, &backup("b"), "1", &[sample("t", &["a"], &[])]).await.unwrap();
    vault.shred(&id_of("t"), Some(ColumnId(2))).await.unwrap();
    let vault = open(&store, 11).await;
    let point = vault.latest(&backup("b")).await.unwrap();
    assert_eq!(vault.shredded_columns(&point.tables[0]).unwrap(), [ColumnId(2)]);
    let again = BackupPoint { run: RunId("2".into()), ..BackupPoint::clone(&point) };
    vault.commit(vec![Record::Point(Box::new(again))], &[], &()).await.unwrap();
    let point = open(&store, 12).await.latest(&backup("b")).await.unwrap();
    assert_eq!(vault.shredded_columns(&point.tables[0]).unwrap(), [ColumnId(2)]);
}

fn key_files(all: &std::collections::BTreeMap<String, bytes::Bytes>) -> usize {
    all.keys().filter(|name| name.starts_with("keys")).count()
}

#[tokio::test]
async fn what_is_taken_away_is_gone_or_it_is_said_and_the_same_command_ends_it() {
    let (origin, vault) = made(13, &Encryption::Full).await;
    let ops = NewRecipient::Passphrase(Passphrase::new("of ops".into()), Cost::TRIVIAL);
    vault.add_recipient("ops", &ops).await.unwrap();
    for shred in [true, false] {
        let run = |store: Arc<InMemory>, process: Process| async move {
            let vault = Vault::open_with(process.wrap(&memory(store)), with_key(14)).await?;
            match shred {
                true => vault.shred(&id_of("t"), None).await,
                false => vault.remove_recipient("ops").await,
            }
        };
        let clean = Process::default();
        run(fork(&origin), clean.clone()).await.unwrap();
        let deletes: Vec<_> = clean.trace().into_iter().filter(|o| o.kind == Kind::Delete).collect();
        // Who may not delete is refused before anything is changed.
        let store = fork(&origin);
        let append_only = Process::new(Script::at(deletes[0].number, Fault::Refused));
        let refused = run(store.clone(), append_only).await.unwrap_err();
        assert!(matches!(refused, VaultError::Objects(ObjectsError::Denied { .. })), "{refused}");
        assert_eq!(objects(&*store).await, objects(&*origin).await);
        let first = deletes.iter().find(|o| o.path.contains("keys/")).unwrap().number;
        for fault in [Fault::Refused, Fault::Swallowed] {
            let store = fork(&origin);
            let script = (first..first + 100).fold(Script::none(), |script, n| script.and_at(n, fault));
            let said = run(store.clone(), Process::new(script)).await.unwrap_err();
            assert!(matches!(said, VaultError::OlderKeysRemain { .. }), "{fault}: {said}");
            assert_eq!(key_files(&objects(&*store).await), 5, "the first, and two copies of two");
            run(store.clone(), Process::default()).await.unwrap_or_else(|e| panic!("{fault}: {e}"));
            assert_eq!(key_files(&objects(&*store).await), 3, "{fault}");
            let done = run(store.clone(), Process::default()).await.unwrap_err();
            let gone =
                matches!(done, VaultError::Keys(KeyError::Shredded { .. } | KeyError::NoRecipient { .. }));
            assert!(gone, "{fault}: {done}");
        }
    }
}
