//! An encrypted vault: who opens it, what is seen of it without its keys, and that nobody without them can add or change a record.

use crate::common::*;
use keepfast_keys::{Cost, Credentials, KeyError, NewRecipient, Passphrase};
use keepfast_model::{ColumnType, Encryption, LogSeq, Record, Selection, TableId, TableName, TableSchema};
use keepfast_vault::{CheckOptions, Environment, Secrecy, Vault, VaultError, layout};
use object_store::memory::InMemory;
use serde_json::Value;
use std::sync::Arc;

const PHRASE: &str = "planted-passphrase";

fn with_key(world: &World, phrase: &str) -> Environment {
    Environment { credentials: Credentials::passphrase(phrase), ..world.environment.clone() }
}

async fn open(world: &World, store: &Arc<InMemory>, phrase: &str) -> Vault {
    Vault::open_with(memory(store.clone()), with_key(world, phrase)).await.unwrap()
}

fn id_of(table: &str) -> TableId {
    Vault::table_id(&backup("b"), "columnar", &TableName::bare(table), &Selection::default())
}

/// A vault whose table `t` is encrypted, with `points` points.
async fn encrypted(world: &World, points: usize) -> (Arc<InMemory>, Vault) {
    let store = Arc::new(InMemory::new());
    let options =
        keepfast_vault::CreateOptions { environment: with_key(world, PHRASE), ..Default::default() };
    let vault = Vault::create(memory(store.clone()), &options).await.unwrap();
    vault.encrypt_table(&id_of("t"), &Encryption::Full).await.unwrap();
    for n in 0..points {
        commit(&vault, n).await;
    }
    (store, vault)
}

/// One more point with planted words in all that is secret of it.
async fn commit(vault: &Vault, n: usize) -> LogSeq {
    let samples = [sample("t", &[&n.to_string(), "same"], &[])];
    let (mut point, written) = write_point(vault, &backup("b"), &format!("run {n}"), &samples).await.unwrap();
    let table = &mut point.tables[0];
    table.schema =
        TableSchema::of(vec![("planted_column".into(), ColumnType::Int32, false)], &["planted_column"])
            .unwrap();
    table.selection.filter = Some("planted_column > 'planted-literal'".into());
    table.digest.sum = 0x0123_4567_89ab_cdef;
    vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await.unwrap()
}

async fn is_whole(vault: &Vault) -> bool {
    vault.check(&CheckOptions::default(), &()).await.unwrap().is_whole()
}

#[tokio::test]
async fn an_encrypted_vault_opens_with_its_passphrase_and_tells_nothing_secret_without() {
    let world = world(1);
    let (store, vault) = encrypted(&world, 2).await;
    vault
        .put_plan(&keepfast_model::RunId("r".into()), &serde_json::json!({"filter": "planted-literal"}))
        .await
        .unwrap();
    for (name, bytes) in objects(&*store).await {
        let text = String::from_utf8_lossy(&bytes);
        // The samples' segments are no real files; everything that the vault itself writes is looked at.
        assert!(!text.contains("planted") && !text.contains("123456789abcdef"), "{name}: {text}");
    }
    let again = open(&world, &store, PHRASE).await;
    let point = again.latest(&backup("b")).await.unwrap();
    assert_eq!(point.tables[0].schema.columns[0].name, "planted_column");
    assert_eq!(point.tables[0].digest.sum, 0x0123_4567_89ab_cdef);
    assert_eq!(again.read_manifests(&point.tables[0]).await.unwrap().base.len(), 1);
    assert!(is_whole(&again).await);

    let locked = Vault::open_with(memory(store.clone()), world.environment.clone()).await.unwrap();
    assert_eq!(locked.secrecy().await.unwrap(), Secrecy::Locked);
    let point = locked.latest(&backup("b")).await.unwrap();
    assert!(point.tables[0].sealed.is_some() && point.tables[0].schema.columns.is_empty());
    let error = locked.read_manifests(&point.tables[0]).await.unwrap_err();
    assert!(matches!(error, VaultError::Keys(KeyError::Locked { .. })), "{error}");
    let error = locked.check(&CheckOptions::default(), &()).await.unwrap_err();
    assert!(
        matches!(error, VaultError::Keys(KeyError::Locked { .. })),
        "what nobody authenticated is not ok: {error}"
    );
    let error = locked.hold(&backup("b"), None, None, "user").await.unwrap_err();
    assert!(
        matches!(error, VaultError::Keys(KeyError::Locked { .. })),
        "nothing is written without a key: {error}"
    );

    let wrong = Vault::open_with(memory(store), with_key(&world, "another")).await.unwrap();
    let error = wrong.log().await.unwrap_err();
    assert!(matches!(error, VaultError::Keys(KeyError::WrongKey { .. })), "{error}");
    assert!(!error.to_string().contains("another"));
}

#[tokio::test]
async fn encryption_without_a_passphrase_is_refused_before_anything_is_written() {
    let world = world(2);
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world.options()).await.unwrap();
    let before = objects(&*store).await;
    let error = vault.encrypt_table(&id_of("t"), &Encryption::Full).await.unwrap_err();
    assert!(matches!(error, VaultError::Keys(KeyError::NoCredential { .. })), "{error}");
    assert_eq!(objects(&*store).await, before);
}

#[tokio::test]
async fn rotation_rewrites_no_data_and_old_points_stay_readable() {
    let world = world(3);
    let (store, vault) = encrypted(&world, 3).await;
    let data = |all: std::collections::BTreeMap<String, bytes::Bytes>| {
        all.into_iter()
            .filter(|(n, _)| n.starts_with("tables/") || n.starts_with("manifests/"))
            .collect::<Vec<_>>()
    };
    let before = objects(&*store).await;
    vault.rotate_keys().await.unwrap();
    let after = objects(&*store).await;
    assert_eq!(data(before.clone()), data(after.clone()));
    let keys = |all: &std::collections::BTreeMap<String, bytes::Bytes>| {
        all.keys().filter(|n| n.starts_with("keys")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&after).len(), 3, "the first, and two copies of the newest: {:?}", keys(&after));
    assert_ne!(keys(&before), keys(&after));
    commit(&vault, 9).await;
    let again = open(&world, &store, PHRASE).await;
    for point in again.points(&backup("b")).await.unwrap() {
        assert_eq!(again.read_manifests(&point.tables[0]).await.unwrap().base.len(), 1);
    }
    assert!(is_whole(&again).await);
}

#[tokio::test]
async fn a_removed_recipient_opens_nothing_any_more_and_a_new_one_everything() {
    let world = world(4);
    let (store, vault) = encrypted(&world, 1).await;
    let (recovery, identity) = NewRecipient::recovery();
    vault.add_recipient("recovery", &recovery).await.unwrap();
    vault.remove_recipient("passphrase").await.unwrap();
    commit_fails(&Vault::open_with(memory(store.clone()), with_key(&world, PHRASE)).await.unwrap()).await;
    let environment = Environment {
        credentials: Credentials::none().with_identities(&identity).unwrap(),
        ..world.environment.clone()
    };
    let by_identity = Vault::open_with(memory(store.clone()), environment).await.unwrap();
    assert!(is_whole(&by_identity).await);
    commit(&by_identity, 5).await;
    let (_, recipients) = by_identity.recipients().await.unwrap();
    assert_eq!(recipients.iter().map(|r| r.name()).collect::<Vec<_>>(), ["recovery"]);
    let last = by_identity.remove_recipient("recovery").await.unwrap_err();
    assert!(matches!(last, VaultError::Keys(KeyError::LastRecipient { .. })), "{last}");
}

async fn commit_fails(vault: &Vault) {
    let error = vault.log().await.unwrap_err();
    assert!(matches!(error, VaultError::Keys(KeyError::WrongKey { .. })), "{error}");
}

#[tokio::test]
async fn rivals_that_change_keys_at_once_all_succeed_and_none_is_lost() {
    let world = world(5);
    let (store, _) = encrypted(&world, 1).await;
    let mut rivals = vec![];
    for n in 0..6 {
        let vault = open(&world, &store, PHRASE).await;
        vault.log().await.unwrap();
        rivals.push(tokio::spawn(async move {
            let recipient = NewRecipient::Passphrase(Passphrase::new(format!("rival {n}")), Cost::TRIVIAL);
            vault.encrypt_table(&id_of(&format!("rival {n}")), &Encryption::Full).await.unwrap();
            vault.add_recipient(&format!("rival {n}"), &recipient).await.unwrap();
        }));
    }
    for rival in rivals {
        rival.await.unwrap();
    }
    for n in 0..6 {
        let vault = open(&world, &store, &format!("rival {n}")).await;
        assert!(is_whole(&vault).await);
        let keyring = vault.keyring().await.unwrap().unwrap();
        assert_eq!((keyring.recipients().len(), keyring.tables().count()), (7, 7));
    }
}

#[tokio::test]
async fn no_record_can_be_forged_changed_left_out_or_put_in_without_a_key() {
    let world = world(6);
    let (store, vault) = encrypted(&world, 3).await;
    vault.rotate_keys().await.unwrap();
    commit(&vault, 7).await;
    let head = vault.log().await.unwrap().head().unwrap().0;
    let mut tried = 0;
    for seq in 1..=head.0 {
        let name = layout::log_record(LogSeq(seq));
        let record = unseal(&objects(&*store).await[&name]);
        let mut forged: Vec<(String, Value)> = vec![];
        let mut change = |what: &str, edit: &dyn Fn(&mut Value)| {
            let mut json = record.clone();
            edit(&mut json);
            if json != record {
                forged.push((format!("{what} of record {seq}"), json));
            }
        };
        let set = |json: &mut Value, pointer: &str, value: Value| {
            if let Some(place) = json.pointer_mut(pointer) {
                *place = value;
            }
        };
        change("no code", &|json| json["auth"] = Value::Null);
        change("another generation", &|json| set(json, "/auth/generation", 1.into()));
        change("a made-up code", &|json| {
            json["auth"] = serde_json::json!({"generation": 2, "mac": "00".repeat(32)})
        });
        change("time", &|json| json["at"] = "2020-01-01T00:00:00Z".into());
        change("backup", &|json| set(json, "/records/0/backup", "other".into()));
        change("certificate", &|json| set(json, "/records/0/tables/0/certificate/kind", "source".into()));
        change("keys", &|json| set(json, "/records/0/stored", "00".repeat(32).into()));
        change("no record", &|json| json["records"] = serde_json::json!([{"record": "drop", "backup": "b"}]));
        for (what, json) in changed_leaves(&record) {
            forged.push((format!("{what} of record {seq}"), json));
        }
        for (what, json) in forged {
            let copy = fork(&store);
            // With both copies, and every hash of the chain behind it made to fit.
            let mut prev = None;
            for n in seq..=head.0 {
                let name = layout::log_record(LogSeq(n));
                let mut json = if n == seq { json.clone() } else { unseal(&objects(&*copy).await[&name]) };
                if let Some(prev) = prev {
                    json["prev"] = serde_json::json!(prev);
                }
                let bytes = seal(&json);
                prev = Some(keepfast_model::Hash256::of(&bytes).to_string());
                tamper(&*copy, &name, Some(bytes.clone())).await;
                tamper(&*copy, &layout::log_copy(LogSeq(n)), Some(bytes)).await;
            }
            let vault = open(&world, &copy, PHRASE).await;
            let refused = vault.log().await.is_err();
            let found = match vault.check(&CheckOptions::default(), &()).await {
                Ok(report) => !report.is_whole(),
                // A leaf, such as the format's number, may make it another thing than a record; then no more is said than that.
                Err(_) => what.contains('/'),
            };
            // What came before the first key carries no code; its hash in the next record does.
            assert!(refused && found, "{what}: refused {refused}, found {found}");
            tried += 1;
        }
    }
    eprintln!("COUNT {tried} forged records: refused and found");
}

/// Every change of one leaf of a tree to another value of its kind, and every tree with one member or item less.
fn changed_leaves(tree: &Value) -> Vec<(String, Value)> {
    fn walk(at: &str, value: &Value, all: &mut Vec<(String, Option<Value>)>) {
        let mut inner = |step: &str, value: &Value| {
            let at = format!("{at}/{}", step.replace('~', "~0").replace('/', "~1"));
            all.push((at.clone(), None));
            walk(&at, value, all);
        };
        let other = match value {
            Value::Object(members) => return members.iter().for_each(|(name, value)| inner(name, value)),
            Value::Array(items) => {
                return items.iter().enumerate().for_each(|(n, value)| inner(&n.to_string(), value));
            }
            Value::Null => "x".into(),
            Value::Bool(found) => (!found).into(),
            Value::Number(found) => found.as_i64().map_or(0, |n| n.wrapping_add(1)).into(),
            Value::String(found) => {
                let last = if found.ends_with('0') { '1' } else { '0' };
                let kept = found.char_indices().next_back().map_or("", |(at, _)| &found[..at]);
                format!("{kept}{last}").into()
            }
        };
        all.push((at.to_owned(), Some(other)));
    }
    let mut all = vec![];
    walk("", tree, &mut all);
    let changed = |(at, other): (String, Option<Value>)| {
        let mut changed = tree.clone();
        match other {
            Some(other) => *changed.pointer_mut(&at).expect("it was met there") = other,
            None => {
                let (within, step) = at.rsplit_once('/').expect("it is in something");
                let step = step.replace("~1", "/").replace("~0", "~");
                match changed.pointer_mut(within).expect("it was met there") {
                    Value::Array(items) => drop(items.remove(step.parse().expect("a number"))),
                    within => drop(within.as_object_mut().expect("an object").remove(&step)),
                }
                return (format!("no {at}"), changed);
            }
        }
        (format!("another {at}"), changed)
    };
    all.into_iter().map(changed).collect()
}

#[tokio::test]
async fn no_member_of_a_key_file_can_be_changed_or_left_out_unseen() {
    let world = world(9);
    let (store, vault) = encrypted(&world, 1).await;
    let columns = Encryption::Columns { columns: vec![keepfast_model::ColumnId(2)] };
    vault.encrypt_table(&id_of("more"), &columns).await.unwrap();
    vault.add_recipient("recovery", &NewRecipient::recovery().0).await.unwrap();
    let (generation, _) = vault.recipients().await.unwrap();
    let names = [layout::key_file(generation), layout::key_file_copy(generation)];
    let changes = changed_leaves(&unseal(&objects(&*store).await[&names[0]]));
    assert!(changes.len() > 80, "{}", changes.len());
    for (what, json) in &changes {
        let copy = fork(&store);
        for name in &names {
            tamper(&*copy, name, Some(seal(json))).await;
        }
        let vault = open(&world, &copy, PHRASE).await;
        let opened = vault.log().await.is_ok();
        let found = vault.check(&CheckOptions::default(), &()).await;
        assert!(!opened && !found.is_ok_and(|report| report.is_whole()), "{what}: opened {opened}");
    }
    eprintln!("{} changes of a key file were refused", changes.len());
}

#[tokio::test]
async fn the_loss_of_one_copy_of_the_key_file_is_found_and_costs_nothing() {
    let world = world(7);
    let (store, vault) = encrypted(&world, 1).await;
    let (generation, _) = vault.recipients().await.unwrap();
    for name in [layout::key_file(generation), layout::key_file_copy(generation)] {
        for change in [None, Some(bytes::Bytes::from_static(b"rot"))] {
            let copy = fork(&store);
            tamper(&*copy, &name, change).await;
            let vault = open(&world, &copy, PHRASE).await;
            vault.latest(&backup("b")).await.unwrap();
            let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
            assert_eq!(report.damage.len(), 1, "{report:?}");
            assert!(report.damage[0].path.ends_with(&name));
        }
    }
}

#[tokio::test]
async fn a_dropped_table_key_leaves_its_points_unreadable_and_others_as_they_were() {
    let world = world(8);
    let (store, vault) = encrypted(&world, 2).await;
    vault.encrypt_table(&id_of("kept"), &Encryption::Full).await.unwrap();
    back_up(&vault, &backup("b"), "kept run", &[sample("kept", &["x"], &[])]).await.unwrap();
    vault.shred(&id_of("t"), None).await.unwrap();
    let again = open(&world, &store, PHRASE).await;
    let points = again.points(&backup("b")).await.unwrap();
    for point in &points[..2] {
        assert!(point.tables[0].sealed.is_some());
        let error = again.read_manifests(&point.tables[0]).await.unwrap_err();
        assert!(matches!(error, VaultError::Keys(KeyError::Shredded { .. })), "{error}");
    }
    assert_eq!(again.read_manifests(&points[2].tables[0]).await.unwrap().base.len(), 1);
    let files: Vec<_> = objects(&*store).await.into_iter().filter(|(n, _)| n.starts_with("keys")).collect();
    let id = id_of("t").0;
    assert!(
        files.iter().all(|(_, bytes)| !String::from_utf8_lossy(bytes).contains(&id)),
        "no file has its key"
    );
    assert!(vault.shred(&id_of("t"), None).await.is_err());
}
