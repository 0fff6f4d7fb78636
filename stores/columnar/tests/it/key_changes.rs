//! Keys of a store come and go: at any stop, beside writers, and against those who were removed.

use crate::common::{
    PHRASE, all_objects, encrypted_memory, encrypted_over, holding, memory, name, opened_by, over,
    passphrase, small, store_over,
};
use crate::encryption::{WORDS, content, copy_of, insert, insert_small, rows, schema, seen_by};
use keepfast_columnar::{ColumnarStore, Options};
use keepfast_keys::{Credentials, Passphrase};
use keepfast_model::Coded;
use keepfast_objects::faulty::{Fault, Kind, Process, Script};
use keepfast_store::StoreError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

#[tokio::test]
async fn recipients_come_and_go_without_any_data_being_written_again() {
    let objects = encrypted_memory().await;
    let store = encrypted_over(&objects);
    insert_small(&store).await;
    let data = || async {
        let all = all_objects(&objects).await;
        all.into_iter().filter(|(path, _)| path.as_ref().starts_with("data/")).collect::<Vec<_>>()
    };
    let before = data().await;
    let other = encrypted_over(&objects);
    content(&other).await.unwrap();
    store.add_recipient("second", &passphrase("the second")).await.unwrap();
    let error = store.add_recipient("second", &passphrase("the second")).await.unwrap_err();
    assert_eq!(error.code().0, 247, "{error}");
    let error = store.rotate_keys().await.unwrap_err();
    assert_eq!(error.code().0, 249, "{error}");
    let both = Credentials::passphrase(PHRASE).with_passphrase(Passphrase::new("the second".into()));
    let both = over(&objects, Options { credentials: both, ..small() });
    both.rotate_keys().await.unwrap();
    // A process that had it open goes on.
    assert_eq!(content(&other).await.unwrap().len(), 2);
    both.remove_recipient("office").await.unwrap();
    assert_eq!(both.remove_recipient("second").await.unwrap_err().code().0, 248);
    assert_eq!(data().await, before, "no data were written again");
    assert_eq!(content(&over(&objects, opened_by("the second"))).await.unwrap().len(), 2);
    for removed in [&other, &encrypted_over(&objects)] {
        let error = content(removed).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::WrongKey { recipients, .. } if recipients == "second"),
            "{error}"
        );
    }
    let paths: Vec<String> = all_objects(&objects).await.into_keys().map(|p| p.to_string()).collect();
    assert_eq!(paths.iter().filter(|p| p.starts_with("keys")).count(), 2, "{paths:?}");
    insert(&both, "t", rows(true, 10..12, "later")).await.unwrap();
    assert_eq!(content(&over(&objects, opened_by("the second"))).await.unwrap()["t"][0].num_rows(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_changes_of_keys_at_once_lose_nothing() {
    let objects = encrypted_memory().await;
    encrypted_over(&objects).create_table(&name("t"), &schema(true), false).await.unwrap();
    let writers = (0..3u32).map(|w| {
        let store = encrypted_over(&objects);
        tokio::spawn(async move {
            for i in 0..10 {
                insert(&store, "t", rows(true, w * 100 + i..w * 100 + i + 1, "written")).await.unwrap();
            }
        })
    });
    let changers = (0..2u32).map(|c| {
        let store = encrypted_over(&objects);
        tokio::spawn(async move {
            for i in 0..4 {
                let (recipient, _) = keepfast_keys::NewRecipient::recovery();
                store.add_recipient(&format!("r{c}-{i}"), &recipient).await.unwrap();
                store.rotate_keys().await.unwrap();
            }
        })
    });
    let all: Vec<_> = writers.chain(changers).collect();
    for task in all {
        task.await.unwrap();
    }
    let store = encrypted_over(&objects);
    assert_eq!(content(&store).await.unwrap()["t"][0].num_rows(), 30);
    let (generation, recipients) = store.recipients().await.unwrap();
    assert_eq!(recipients.len(), 9);
    assert!(generation >= 17, "{generation}");
}

#[tokio::test]
async fn a_change_of_keys_that_stops_anywhere_leaves_a_store_that_opens() {
    let fresh = encrypted_memory().await;
    let plain = memory();
    insert_small(&encrypted_over(&fresh)).await;
    insert_small(&store_over(&plain)).await;
    let expected = content(&encrypted_over(&fresh)).await.unwrap();
    let change = |act: usize, store: ColumnarStore| async move {
        match act {
            0 => store.add_recipient("office", &passphrase(PHRASE)).await,
            1 => store.add_recipient("second", &passphrase(PHRASE)).await,
            _ => store.rotate_keys().await,
        }
    };
    let mut stops = [0; 3];
    for (act, stops) in (0..3).zip(&mut stops) {
        let from = if act == 0 { &plain } else { &fresh };
        let counted = Process::default();
        change(act, seen_by(&counted, &copy_of(from).await)).await.unwrap();
        for operation in counted.trace() {
            for fault in [Fault::DiesBefore, Fault::DiesAfter, Fault::LosesAnswer] {
                if !fault.fits(operation.kind) {
                    continue;
                }
                let said = format!("act {act}, {fault} at {operation}");
                let objects = copy_of(from).await;
                let process = Process::new(Script::at(operation.number, fault));
                let done = change(act, seen_by(&process, &objects)).await;
                let next = encrypted_over(&objects);
                let found = content(&next).await.unwrap_or_else(|e| panic!("{said}: {e}"));
                assert_eq!(found, expected, "{said}");
                let given = next.has_keys().await.unwrap();
                assert!(given || (act == 0 && done.is_err()), "{said}");
                match change(act, next.clone()).await {
                    Ok(()) => {}
                    Err(StoreError::Keys(e)) if e.code().0 == 247 => {}
                    Err(e) => panic!("{said}: again: {e}"),
                }
                assert_eq!(holding(&objects, WORDS).await, [] as [String; 0], "{said}");
                assert_eq!(content(&encrypted_over(&objects)).await.unwrap(), expected, "{said}");
                next.create_table(&name("w"), &schema(true), false).await.unwrap();
                let closed = store_over(&objects).tables().await;
                assert!(matches!(closed, Err(StoreError::Locked { .. })), "{said}");
                *stops += 1;
            }
        }
    }
    eprintln!("COUNT {} cuts: {stops:?} of giving, adding and rotating keys", stops.iter().sum::<i32>());
    assert!(stops.iter().all(|n| *n > 20), "{stops:?}");
}

/// A store that two can open, and its removal of the second.
async fn of_two() -> Arc<dyn ObjectStore> {
    let objects = encrypted_memory().await;
    insert_small(&encrypted_over(&objects)).await;
    encrypted_over(&objects).add_recipient("second", &passphrase("the second")).await.unwrap();
    objects
}

/// Key files by their paths.
async fn key_files(objects: &Arc<dyn ObjectStore>) -> Vec<String> {
    let all = all_objects(objects).await;
    all.into_keys().map(|path| path.to_string()).filter(|path| path.starts_with("keys")).collect()
}

#[tokio::test]
async fn a_removal_that_stops_anywhere_leaves_no_older_key_file_once_it_is_typed_again() {
    let from = of_two().await;
    let counted = Process::default();
    seen_by(&counted, &copy_of(&from).await).remove_recipient("second").await.unwrap();
    let mut refused = 0;
    for operation in counted.trace() {
        for fault in [Fault::DiesBefore, Fault::DiesAfter, Fault::Refused] {
            if !fault.fits(operation.kind) {
                continue;
            }
            let said = format!("{fault} at {operation}");
            let objects = copy_of(&from).await;
            let process = Process::new(Script::at(operation.number, fault));
            let done = seen_by(&process, &objects).remove_recipient("second").await;
            match encrypted_over(&objects).remove_recipient("second").await {
                Ok(()) => assert!(done.is_err(), "{said}"),
                Err(StoreError::Keys(e)) if e.code().0 == 246 => refused += 1,
                Err(e) => panic!("{said}: again: {e}"),
            }
            let files = key_files(&objects).await;
            assert_eq!(files.len(), 2, "{said}: {files:?}");
            let (generation, recipients) = encrypted_over(&objects).recipients().await.unwrap();
            assert_eq!(recipients.len(), 1, "{said}");
            assert!(
                files.iter().all(|f| f.ends_with(&format!("{generation:020}.json"))),
                "{said}: {files:?}"
            );
            assert_eq!(content(&encrypted_over(&objects)).await.unwrap().len(), 2, "{said}");
        }
    }
    assert!(refused > 5, "{refused}");
}

#[tokio::test]
async fn whoever_may_not_delete_hears_that_the_removed_one_still_can_open_the_store() {
    let from = of_two().await;
    let counted = Process::default();
    seen_by(&counted, &copy_of(&from).await).remove_recipient("second").await.unwrap();
    let deletes =
        counted.trace().into_iter().filter(|o| o.kind == Kind::Delete && o.path.starts_with("keys"));
    let script = deletes.fold(Script::none(), |script, o| script.and_at(o.number, Fault::Refused));
    let objects = copy_of(&from).await;
    let error = seen_by(&Process::new(script), &objects).remove_recipient("second").await.unwrap_err();
    assert_eq!(error.code().0, 404, "{error}");
    assert!(error.to_string().contains("keys/00000000000000000002.json"), "{error}");
    assert_eq!(key_files(&objects).await.len(), 4);
    let error = encrypted_over(&objects).remove_recipient("second").await.unwrap_err();
    assert_eq!(error.code().0, 246, "{error}");
    assert_eq!(key_files(&objects).await.len(), 2);
}

#[tokio::test]
async fn entries_that_a_removed_recipient_puts_there_with_old_keys_are_refused() {
    let objects = of_two().await;
    let old = key_files(&objects).await;
    let stolen = all_objects(&objects).await;
    // Who is about to be removed works on in a copy: these entries are sealed as they should be, with keys of then.
    let copy = copy_of(&objects).await;
    let (store, head) = {
        let store = encrypted_over(&objects);
        store.remove_recipient("second").await.unwrap();
        let head = store.catalog().await.unwrap().seq;
        (store, head)
    };
    let thief = over(&copy, opened_by("the second"));
    while thief.catalog().await.unwrap().seq < head + 2 {
        thief.rename(&name("t"), &name("x")).await.unwrap();
        thief.rename(&name("x"), &name("t")).await.unwrap();
    }
    let forged = all_objects(&copy).await;
    let put = |seq: u64| {
        let path = Path::from(format!("catalog/{seq:020}.json"));
        (path.clone(), forged[&path].clone())
    };
    for path in old {
        let path = Path::from(path);
        objects.put(&path, stolen[&path].clone().into()).await.unwrap();
    }
    let expected = content(&store).await.unwrap();
    for seqs in [vec![head + 1], vec![head + 1, head + 2]] {
        for seq in &seqs {
            let (path, bytes) = put(*seq);
            objects.put(&path, bytes.into()).await.unwrap();
        }
        for reader in [&store, &encrypted_over(&objects)] {
            let error = content(reader).await.unwrap_err();
            assert!(matches!(&error, StoreError::Damaged { .. }), "{error}");
        }
    }
    for seq in [head + 1, head + 2] {
        objects.delete(&put(seq).0).await.unwrap();
    }
    assert_eq!(content(&encrypted_over(&objects)).await.unwrap(), expected);

    // The line of the newest keys, with the key that sealed entries before them.
    let line = |bytes: &[u8]| {
        let end = |from: usize| from + bytes[from..].iter().position(|b| *b == b'\n').unwrap();
        let start = end(0) + 1;
        serde_json::from_slice::<serde_json::Value>(&bytes[start..end(start)]).unwrap()
    };
    let newest = all_objects(&objects).await[&Path::from(format!("catalog/{head:020}.json"))].clone();
    let (path, bytes) = put(head + 1);
    let mut mixed = line(&newest);
    mixed["auth"] = line(&bytes)["auth"].clone();
    assert_ne!(mixed, line(&newest));
    let text = format!("keepfast sealed entry 1\n{mixed}\n");
    objects.put(&path, text.into_bytes().into()).await.unwrap();
    for reader in [&store, &encrypted_over(&objects)] {
        let error = content(reader).await.unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { .. }), "{error}");
        assert!(reader.rotate_keys().await.is_err());
    }
}

#[tokio::test]
async fn a_plain_entry_behind_sealed_ones_is_refused_also_where_the_second_copies_of_keys_are_gone() {
    let objects = encrypted_memory().await;
    insert_small(&encrypted_over(&objects)).await;
    let head = encrypted_over(&objects).catalog().await.unwrap().seq;
    let plain = memory();
    store_over(&plain).create_table(&name("t"), &schema(true), false).await.unwrap();
    let first = all_objects(&plain).await[&Path::from("catalog/00000000000000000001.json")].clone();
    let first = String::from_utf8(first.to_vec()).unwrap();
    for path in key_files(&objects).await.into_iter().filter(|path| path.starts_with("keys-copy/")) {
        objects.delete(&Path::from(path)).await.unwrap();
    }
    for seq in [head + 1, head + 2] {
        let text = first.replace("\"seq\":1,", &format!("\"seq\":{seq},"));
        objects.put(&Path::from(format!("catalog/{seq:020}.json")), text.into_bytes().into()).await.unwrap();
        for reader in [encrypted_over(&objects), store_over(&objects)] {
            let error = reader.tables().await.unwrap_err();
            assert!(matches!(&error, StoreError::Damaged { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_known_to_have_keys_is_not_replaced_by_a_plain_one() {
    let objects = memory();
    let known = || Options { sealed: true, ..opened_by(PHRASE) };
    for _ in 0..2 {
        let store = over(&objects, known());
        assert!(matches!(store.tables().await, Err(StoreError::NoKeys { .. })));
        assert!(store.create_table(&name("u"), &schema(true), false).await.is_err());
        // The second time around there is a table.
        store_over(&objects).create_table(&name("t"), &schema(true), true).await.unwrap();
    }
    encrypted_over(&objects).add_recipient("office", &passphrase(PHRASE)).await.unwrap();
    assert_eq!(over(&objects, known()).tables().await.unwrap().len(), 1);
}
