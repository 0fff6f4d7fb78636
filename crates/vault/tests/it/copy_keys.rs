//! Copies of a vault for other recipients: who opens them, what is found when their key files are touched, and what every cut leaves.

use crate::common::*;
use bytes::Bytes;
use keepfast_keys::{Cost, Credentials, KeyError, NewRecipient, Passphrase};
use keepfast_model::{Encryption, Selection, TableId, TableName};
use keepfast_objects::Target;
use keepfast_vault::{
    CheckOptions, CheckReport, CopyOptions, CreateOptions, Environment, HealedBy, Vault, VaultError, layout,
};
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SOURCE: &str = "the vault's phrase";
const OTHER: &str = "the copy's phrase";

fn phrase(text: &str) -> NewRecipient {
    NewRecipient::Passphrase(Passphrase::new(text.to_owned()), Cost::TRIVIAL)
}

fn with_key(credentials: Credentials) -> Environment {
    static SEEDS: AtomicU64 = AtomicU64::new(1_000);
    Environment { credentials, ..world(SEEDS.fetch_add(1, Ordering::SeqCst)).environment }
}

async fn open(store: &Arc<InMemory>, text: &str) -> Vault {
    Vault::open_with(memory(store.clone()), with_key(Credentials::passphrase(text))).await.unwrap()
}

fn place(store: &Arc<InMemory>) -> Target {
    Target::new(store.clone(), Default::default(), "memory:copy")
}

fn id_of(table: &str) -> TableId {
    Vault::table_id(&backup("b"), "columnar", &TableName::bare(table), &Selection::default())
}

/// A vault with an encrypted table and a plain one, and two points.
async fn encrypted() -> (Arc<InMemory>, Vault) {
    let store = Arc::new(InMemory::new());
    let environment = with_key(Credentials::passphrase(SOURCE));
    let options = CreateOptions { environment, ..CreateOptions::default() };
    let vault = Vault::create(memory(store.clone()), &options).await.unwrap();
    vault.encrypt_table(&id_of("secret"), &Encryption::Full).await.unwrap();
    add(&vault, "1").await;
    add(&vault, "2").await;
    (store, vault)
}

async fn add(vault: &Vault, run: &str) {
    let samples = [sample("secret", &[run, "same"], &["c"]), sample("open", &[run], &[])];
    back_up(vault, &backup("b"), run, &samples).await.unwrap();
}

fn for_others(recipients: &[(&str, &NewRecipient)]) -> CopyOptions {
    CopyOptions {
        recipients: Some(recipients.iter().map(|(name, r)| ((*name).to_owned(), (*r).clone())).collect()),
    }
}

async fn copied(vault: &Vault, options: &CopyOptions) -> Arc<InMemory> {
    let copy = Arc::new(InMemory::new());
    vault.copy_with(&place(&copy), options, &()).await.unwrap();
    copy
}

async fn check(vault: &Vault) -> CheckReport {
    vault.check(&CheckOptions::default(), &()).await.unwrap()
}

async fn is_whole(store: &Arc<InMemory>, text: &str) -> bool {
    check(&open(store, text).await).await.is_whole()
}

async fn refused(store: &Arc<InMemory>, text: &str) -> bool {
    let opened = open(store, text).await.log().await;
    matches!(opened, Err(VaultError::Keys(KeyError::WrongKey { .. })))
}

fn without_keys(all: BTreeMap<String, Bytes>) -> BTreeMap<String, Bytes> {
    let shared = |name: &str| match name.split_once('/') {
        Some(("keys", file)) => file == "1.json",
        Some((folder, _)) => !["keys-copy", "staging", "checkpoints"].contains(&folder),
        None => true,
    };
    all.into_iter().filter(|(name, _)| shared(name)).collect()
}

async fn newest(vault: &Vault) -> [String; 2] {
    let generation = vault.recipients().await.unwrap().0;
    [layout::key_file(generation), layout::key_file_copy(generation)]
}

#[tokio::test]
async fn a_copy_for_others_opens_for_them_alone_and_holds_the_same_records_and_bytes() {
    let (store, vault) = encrypted().await;
    let (recovery, identity) = NewRecipient::recovery();
    let copy = copied(&vault, &for_others(&[("other", &phrase(OTHER)), ("recovery", &recovery)])).await;
    assert_eq!(without_keys(objects(&*copy).await), without_keys(objects(&*store).await));
    assert!(is_whole(&copy, OTHER).await && refused(&copy, SOURCE).await && refused(&store, OTHER).await);
    let credentials = Credentials::none().with_identities(&identity).unwrap();
    let opened = Vault::open_with(memory(copy.clone()), with_key(credentials)).await.unwrap();
    assert!(check(&opened).await.is_whole());
    assert!(vault.check_copy(&place(&copy), &()).await.unwrap().is_whole());
    let names: Vec<String> =
        opened.recipients().await.unwrap().1.iter().map(|r| r.name().to_owned()).collect();
    assert_eq!(names, ["other", "recovery"]);
    let theirs = open(&copy, OTHER).await;
    for (ours, theirs) in
        vault.points(&backup("b")).await.unwrap().iter().zip(theirs.points(&backup("b")).await.unwrap())
    {
        assert_eq!(ours.id(), theirs.id());
        assert_eq!(ours.tables, theirs.tables);
    }
    // And from there on for others still; the same bytes, when nobody is named.
    let third = copied(&theirs, &CopyOptions::default()).await;
    assert_eq!(objects(&*third).await, objects(&*copy).await);
    let back = copied(&theirs, &for_others(&[("office", &phrase(SOURCE))])).await;
    assert!(is_whole(&back, SOURCE).await && refused(&back, OTHER).await);
}

#[tokio::test]
async fn every_flipped_byte_of_a_copied_key_file_is_found_and_healed_from_its_other_copy() {
    let (_, vault) = encrypted().await;
    let copy = copied(&vault, &for_others(&[("other", &phrase(OTHER))])).await;
    let whole = objects(&*copy).await;
    let names = newest(&vault).await;
    let mut flipped = 0;
    for name in &names {
        for at in 0..whole[name].len() {
            let mut bytes = whole[name].to_vec();
            bytes[at] ^= 1 << (at % 8);
            let damaged = fork(&copy);
            tamper(&*damaged, name, Some(bytes.into())).await;
            let report = check(&open(&damaged, OTHER).await).await;
            let [damage] = report.damage.as_slice() else { panic!("byte {at} of {name}: {report:?}") };
            assert!(damage.path.ends_with(name) && damage.points.len() == 2, "byte {at}: {damage}");
            flipped += 1;
            if at % 40 == 0 {
                let report = open(&damaged, OTHER).await.repair(None, &()).await.unwrap();
                assert!(report.lost.is_empty() && report.healed[0].by == HealedBy::Copy, "{report:?}");
                assert_eq!(objects(&*damaged).await, whole);
            }
        }
    }
    eprintln!("COUNT {flipped} flipped bytes: of {} in two copies", names[0]);
    assert!(flipped > 2_000, "{flipped}");
}

#[tokio::test]
async fn a_recipient_that_was_left_out_put_in_or_changed_is_found() {
    let (store, vault) = encrypted().await;
    let (recovery, _) = NewRecipient::recovery();
    let copy = copied(&vault, &for_others(&[("other", &phrase(OTHER)), ("recovery", &recovery)])).await;
    let names = newest(&vault).await;
    let (ours, theirs) = (objects(&*store).await, objects(&*copy).await);
    let file = unseal(&theirs[&names[0]]);
    type Edit<'a> = &'a dyn Fn(&mut serde_json::Value);
    let source = unseal(&ours[&names[0]])["recipients"][0].clone();
    let forgeries: [(&str, Edit<'_>); 7] = [
        ("left out", &|json| drop(json["recipients"].as_array_mut().unwrap().pop())),
        ("put in", &|json| json["recipients"].as_array_mut().unwrap().push(source.clone())),
        ("another order", &|json| json["recipients"].as_array_mut().unwrap().reverse()),
        ("another name", &|json| json["recipients"][1]["name"] = "mallory".into()),
        ("no mark", &|json| drop(json.as_object_mut().unwrap().remove("copy"))),
        ("a member more", &|json| json["note"] = "x".into()),
        ("nobody", &|json| {
            json["recipients"] = serde_json::json!([]);
            json.as_object_mut().unwrap().remove("mac");
        }),
    ];
    for (what, edit) in forgeries {
        let mut forged = file.clone();
        edit(&mut forged);
        // Members in the order of a program that wrote them.
        let json: Vec<String> = ["generation", "dedup_secret", "recipients", "keys", "copy", "mac", "note"]
            .iter()
            .filter_map(|member| Some(format!("\"{member}\":{}", forged.get(*member)?)))
            .collect();
        let json = format!("{{{}", json.join(","));
        let sum = keepfast_model::Hash256::of(json.as_bytes());
        let sealed = Bytes::from(format!("{json},\"sum\":\"{sum}\"}}\n"));
        for both in [false, true] {
            let damaged = fork(&copy);
            for name in if both { &names[..] } else { &names[..1] } {
                tamper(&*damaged, name, Some(sealed.clone())).await;
            }
            let report = vault.check_copy(&place(&damaged), &()).await.unwrap();
            let found: Vec<_> = report.damage.iter().map(|d| d.path.clone()).collect();
            assert_eq!(found.len(), if both { 2 } else { 1 }, "{what}: {report:?}");
            assert!(found[0].ends_with(&names[1]) || found[0].ends_with(&names[0]), "{what}");
            if !both {
                assert!(is_whole(&fork(&copy), OTHER).await);
                let theirs = open(&damaged, OTHER).await;
                theirs
                    .latest(&backup("b"))
                    .await
                    .unwrap_or_else(|e| panic!("{what}: its other copy opens: {e}"));
                assert!(theirs.repair(None, &()).await.unwrap().lost.is_empty(), "{what}");
                assert_eq!(objects(&*damaged).await, objects(&*copy).await, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_file_of_another_copy_opens_for_its_recipients_and_a_mixture_is_damage() {
    let (store, vault) = encrypted().await;
    let copy = copied(&vault, &for_others(&[("other", &phrase(OTHER))])).await;
    let (names, ours) = (newest(&vault).await, objects(&*store).await);
    // It is a whole file of the same generation: whoever holds both may put it there, and gives away nothing by it.
    let swapped = fork(&copy);
    for name in &names {
        tamper(&*swapped, name, Some(ours[name].clone())).await;
    }
    assert!(is_whole(&swapped, SOURCE).await && refused(&swapped, OTHER).await);
    for name in &names {
        let mixed = fork(&copy);
        tamper(&*mixed, name, Some(ours[name].clone())).await;
        for text in [SOURCE, OTHER] {
            let report = check(&open(&mixed, text).await).await;
            assert_eq!(report.damage.len(), 2, "{report:?}");
            assert!(report.damage[0].to_string().contains("other recipients"), "{report:?}");
            let before = objects(&*mixed).await;
            let vault = Vault::open_with(
                memory(mixed.clone()),
                with_key(Credentials::passphrase(SOURCE).with_passphrase(Passphrase::new(OTHER.into()))),
            );
            let report = vault.await.unwrap().repair(Some(&memory(store.clone())), &()).await.unwrap();
            assert_eq!(report.lost.len(), 2, "only who made the copy knows: {report:?}");
            assert_eq!(objects(&*mixed).await, before);
        }
        let refused = vault.copy_to(&place(&mixed), &()).await;
        assert!(matches!(refused, Err(VaultError::Damaged { .. })), "{refused:?}");
    }
    // An older file of the vault is not the one that the log names.
    vault.rotate_keys().await.unwrap();
    let rotated = fork(&store);
    for (old, new) in names.iter().zip(&newest(&vault).await) {
        tamper(&*rotated, new, Some(ours[old].clone())).await;
    }
    assert!(open(&rotated, SOURCE).await.log().await.is_err());
    let report = check(&open(&rotated, SOURCE).await).await;
    assert_eq!(report.damage.len(), 2, "{report:?}");
}

#[tokio::test]
async fn a_copy_keeps_its_recipients_when_it_is_brought_up_to_date_until_keys_are_rotated() {
    let (store, vault) = encrypted().await;
    let (recovery, identity) = NewRecipient::recovery();
    let named = for_others(&[("other", &phrase(OTHER)), ("recovery", &recovery)]);
    let copy = copied(&vault, &named).await;
    add(&vault, "3").await;
    let report = vault.copy_to(&place(&copy), &()).await.unwrap();
    assert!(report.records == 1 && report.kept > 0, "{report:?}");
    assert!(is_whole(&copy, OTHER).await && refused(&copy, SOURCE).await);
    assert_eq!(without_keys(objects(&*copy).await), without_keys(objects(&*store).await));

    // A new table is a new generation of the same vault key.
    vault.encrypt_table(&id_of("new"), &Encryption::Full).await.unwrap();
    back_up(&vault, &backup("b"), "4", &[sample("new", &["x"], &[])]).await.unwrap();
    vault.copy_to(&place(&copy), &()).await.unwrap();
    assert!(is_whole(&copy, OTHER).await && refused(&copy, SOURCE).await);
    let keys: Vec<String> = objects(&*copy).await.into_keys().filter(|n| n.starts_with("keys")).collect();
    assert_eq!(keys.len(), 3, "older key files go: {keys:?}");

    vault.rotate_keys().await.unwrap();
    add(&vault, "5").await;
    let before = objects(&*copy).await;
    let refused_update = vault.copy_to(&place(&copy), &()).await.unwrap_err();
    assert!(
        matches!(&refused_update, VaultError::RecipientsNeeded { names, .. } if names == "other, recovery"),
        "{refused_update}"
    );
    assert_eq!(objects(&*copy).await, before);
    // The same command as at first goes on.
    vault.copy_with(&place(&copy), &named, &()).await.unwrap();
    assert!(is_whole(&copy, OTHER).await && refused(&copy, SOURCE).await);
    let credentials = Credentials::none().with_identities(&identity).unwrap();
    let opened = Vault::open_with(memory(copy.clone()), with_key(credentials)).await.unwrap();
    assert!(check(&opened).await.is_whole());
    let again = vault.copy_with(&place(&copy), &named, &()).await.unwrap();
    assert!(again.records == 0 && again.objects == 0, "{again:?}");
    let keys: Vec<String> = objects(&*copy).await.into_keys().filter(|n| n.starts_with("keys")).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[tokio::test]
async fn nobody_who_writes_to_a_copy_is_given_the_next_vault_key() {
    let (store, vault) = encrypted().await;
    let (mallory, secret) = NewRecipient::recovery();
    let copy = copied(&vault, &for_others(&[("other", &phrase(OTHER))])).await;
    // Mallory knew the vault key, and was removed; the copy's file with her key is whole under the old one.
    let old = copied(&vault, &for_others(&[("mallory", &mallory)])).await;
    let names = newest(&vault).await;
    for name in &names {
        let bytes = objects(&*old).await[name].clone();
        tamper(&*copy, name, Some(bytes)).await;
    }
    vault.rotate_keys().await.unwrap();
    let refused = vault.copy_to(&place(&copy), &()).await;
    assert!(matches!(refused, Err(VaultError::RecipientsNeeded { .. })), "{refused:?}");
    vault.copy_with(&place(&copy), &for_others(&[("other", &phrase(OTHER))]), &()).await.unwrap();
    let credentials = Credentials::none().with_identities(&secret).unwrap();
    let opened = Vault::open_with(memory(copy.clone()), with_key(credentials)).await.unwrap();
    assert!(matches!(opened.log().await, Err(VaultError::Keys(KeyError::WrongKey { .. }))));
    assert!(is_whole(&copy, OTHER).await && is_whole(&store, SOURCE).await);
}

#[tokio::test]
async fn what_cannot_be_a_copy_for_others_is_refused_before_anything_is_written() {
    let plain_store = Arc::new(InMemory::new());
    let plain = Vault::create(memory(plain_store), &world(5).options()).await.unwrap();
    back_up(&plain, &backup("b"), "1", &[sample("t", &["a"], &[])]).await.unwrap();
    let (_, vault) = encrypted().await;
    let other = for_others(&[("other", &phrase(OTHER))]);
    let empty = Arc::new(InMemory::new());
    let refused = plain.copy_with(&place(&empty), &other, &()).await;
    assert!(matches!(refused, Err(VaultError::NoKeys { .. })), "{refused:?}");
    let refused = vault.copy_with(&place(&empty), &for_others(&[]), &()).await;
    assert!(matches!(refused, Err(VaultError::NoRecipients)), "{refused:?}");
    let twice = for_others(&[("other", &phrase(OTHER)), ("other", &phrase("x"))]);
    let refused = vault.copy_with(&place(&empty), &twice, &()).await;
    assert!(matches!(refused, Err(VaultError::Keys(KeyError::RecipientExists { .. }))), "{refused:?}");
    let refused = vault.copy_with(&place(&empty), &for_others(&[("e", &phrase(""))]), &()).await;
    assert!(matches!(refused, Err(VaultError::Keys(KeyError::EmptyPassphrase))), "{refused:?}");
    let wrong = for_others(&[("x", &NewRecipient::PublicKey("age1nobody".into()))]);
    let refused = vault.copy_with(&place(&empty), &wrong, &()).await;
    assert!(matches!(refused, Err(VaultError::Keys(KeyError::NotAgeKey { .. }))), "{refused:?}");
    let locked = Vault::open_with(vault.target().clone(), world(6).environment).await.unwrap();
    let refused = locked.copy_with(&place(&empty), &other, &()).await;
    assert!(matches!(refused, Err(VaultError::Keys(KeyError::Locked { .. }))), "{refused:?}");
    assert!(objects(&*empty).await.is_empty());

    let copy = copied(&vault, &other).await;
    let before = objects(&*copy).await;
    for others in [
        for_others(&[("other", &phrase("another phrase"))]),
        for_others(&[("somebody", &phrase(OTHER))]),
        for_others(&[("other", &phrase(OTHER)), ("more", &phrase("more"))]),
        for_others(&[("other", &NewRecipient::recovery().0)]),
    ] {
        let refused = vault.copy_with(&place(&copy), &others, &()).await;
        assert!(matches!(refused, Err(VaultError::OtherRecipients { .. })), "{refused:?}");
    }
    assert_eq!(objects(&*copy).await, before);
}

#[tokio::test]
async fn a_copy_is_healed_with_its_own_key_file_and_gets_the_vault_s_only_where_none_is_left() {
    let (store, vault) = encrypted().await;
    let copy = copied(&vault, &for_others(&[("other", &phrase(OTHER))])).await;
    let (whole, names) = (objects(&*copy).await, newest(&vault).await);
    let both = || with_key(Credentials::passphrase(OTHER).with_passphrase(Passphrase::new(SOURCE.into())));
    let repaired = |damaged: Arc<InMemory>| {
        let (store, environment) = (store.clone(), both());
        async move { Vault::repair_place(memory(damaged), environment, Some(&memory(store)), &()).await.unwrap() }
    };
    for name in &names {
        let damaged = fork(&copy);
        tamper(&*damaged, name, None).await;
        let report = repaired(damaged.clone()).await;
        assert!(report.lost.is_empty() && report.healed[0].by == HealedBy::Copy, "{report:?}");
        assert_eq!(objects(&*damaged).await, whole);
    }
    let damaged = fork(&copy);
    for name in &names {
        let cut = whole[name].slice(..whole[name].len() - 9);
        tamper(&*damaged, name, Some(cut)).await;
    }
    let report = repaired(damaged.clone()).await;
    assert!(!report.lost.is_empty() && report.healed.is_empty(), "{report:?}");
    assert!(report.lost.iter().any(|l| l.why.contains("recipients of this copy alone")), "{report:?}");
    let refused = vault.copy_to(&place(&damaged), &()).await;
    assert!(matches!(refused, Err(VaultError::Damaged { .. })), "{refused:?}");
    vault.copy_with(&place(&damaged), &for_others(&[("other", &phrase(OTHER))]), &()).await.unwrap();
    assert!(is_whole(&damaged, OTHER).await);

    let lost = fork(&copy);
    for name in &names {
        tamper(&*lost, name, None).await;
    }
    let report = repaired(lost.clone()).await;
    assert!(report.lost.is_empty() && matches!(report.healed[0].by, HealedBy::Vault(_)), "{report:?}");
    assert!(is_whole(&lost, SOURCE).await);
}

#[tokio::test]
async fn a_vault_with_a_table_whose_key_was_dropped_is_copied_without_it() {
    let (_, vault) = encrypted().await;
    vault.shred(&id_of("secret"), None).await.unwrap();
    let copy = copied(&vault, &for_others(&[("other", &phrase(OTHER))])).await;
    let theirs = open(&copy, OTHER).await;
    assert!(check(&theirs).await.is_whole());
    let point = theirs.latest(&backup("b")).await.unwrap();
    let open_table = point.tables.iter().find(|t| t.name.table == "open").unwrap();
    assert_eq!(theirs.read_manifests(open_table).await.unwrap().base.len(), 1);
    assert!(!objects(&*copy).await.keys().any(|name| name.contains(&id_of("secret").0)));
}

#[tokio::test]
async fn a_vault_that_went_on_elsewhere_is_brought_up_to_date_from_there() {
    let (store, vault) = encrypted().await;
    for n in 0..260 {
        vault.hold(&backup("b"), None, None, &n.to_string()).await.unwrap();
    }
    assert!(objects(&*store).await.keys().any(|n| n.starts_with("checkpoints/")));
    let copy = copied(&vault, &CopyOptions::default()).await;
    let there = open(&copy, SOURCE).await;
    add(&there, "3").await;
    there.copy_to(&memory(store.clone()), &()).await.unwrap();
    let ours = open(&store, SOURCE).await;
    assert_eq!(ours.log().await.unwrap().head(), there.log().await.unwrap().head());
    assert!(check(&ours).await.is_whole());
}

/// What a place holds: nothing yet, or a copy up to a record that opens for the copy's recipient.
async fn seen(copy: &Arc<InMemory>) -> Option<u64> {
    memory(copy.clone()).size(layout::MARKER).await.unwrap()?;
    let vault = open(copy, OTHER).await;
    let report = check(&vault).await;
    assert!(report.is_whole(), "{:?}", report.damage);
    assert!(refused(copy, SOURCE).await);
    Some(report.head.unwrap().0.0)
}

#[tokio::test]
async fn every_cut_of_a_copy_for_others_leaves_it_whole_or_no_vault_and_the_same_call_goes_on() {
    let (store, vault) = encrypted().await;
    let named = for_others(&[("other", &phrase(OTHER))]);
    let empty = Arc::new(InMemory::new());
    let first = copied(&vault, &named).await;
    let rotated = fork(&store);
    let later = open(&rotated, SOURCE).await;
    later.rotate_keys().await.unwrap();
    add(&later, "3").await;
    let grown = fork(&store);
    let later = open(&grown, SOURCE).await;
    later.encrypt_table(&id_of("new"), &Encryption::Full).await.unwrap();
    let mut cuts = 0;
    for (what, from, to, options) in [
        ("a new copy", &store, &empty, named.clone()),
        ("after a rotation", &rotated, &first, named.clone()),
        ("with recipients carried on", &grown, &first, CopyOptions::default()),
    ] {
        let run = |process: Process, copy: Arc<InMemory>| {
            let (from, options) = (from.clone(), options.clone());
            async move {
                let vault = open(&from, SOURCE).await;
                vault.copy_with(&process.wrap(&place(&copy)), &options, &()).await
            }
        };
        let (clean, copy) = (Process::default(), fork(to));
        run(clean.clone(), copy.clone()).await.unwrap();
        let (before, after) = (seen(to).await, seen(&copy).await);
        let mut of_act = 0;
        for operation in clean.trace() {
            for fault in Fault::ALL.into_iter().filter(|f| f.fits(operation.kind)) {
                let said = format!("{what}: {fault} at {operation}");
                let copy = fork(to);
                let process = Process::new(Script::at(operation.number, fault));
                let done = run(process.clone(), copy.clone()).await;
                of_act += process.fired().len();
                process.settle().await;
                let found = seen(&copy).await;
                // An update is as far as its records are, each of which is whole.
                assert!(found >= before && found <= after, "{said}: {found:?}");
                assert!(done.is_err() || found == after, "{said}: reported and not there: {found:?}");
                run(Process::default(), copy.clone()).await.unwrap_or_else(|e| panic!("{said}: {e}"));
                assert_eq!(seen(&copy).await, after, "{said}");
                assert_eq!(
                    without_keys(objects(&*copy).await).keys().collect::<Vec<_>>(),
                    without_keys(objects(&**from).await).keys().collect::<Vec<_>>(),
                    "{said}"
                );
            }
        }
        eprintln!("{what}: {of_act} cuts at {}", clean.tally());
        cuts += of_act;
    }
    eprintln!("COUNT {cuts} cuts");
    assert!(cuts > 500, "{cuts}");
}
