//! Keyrings: who can open them, what changes keep, and that no changed file opens.

use keepfast_keys::file::KeyKind;
use keepfast_keys::{
    Cost, Credentials, KeyError, KeyFile, Keyring, NewRecipient, Passphrase, Random, Recipient, SecretKey,
    SystemRandom,
};
use keepfast_model::{ColumnId, Encryption, TableId};
use serde_json::Value;

const OWNER: &str = "5f2c";

fn passphrase(text: &str) -> NewRecipient {
    NewRecipient::Passphrase(Passphrase::new(text.to_owned()), Cost::TRIVIAL)
}

fn keyring() -> Keyring {
    let secret = "00".repeat(32);
    Keyring::create(OWNER, 2, &secret, "office", &passphrase("correct horse"), &SystemRandom).unwrap()
}

fn open(keyring: &Keyring, credentials: &Credentials) -> Result<Keyring, KeyError> {
    Keyring::open(&stored(keyring), OWNER, credentials)
}

/// As it comes back from a file.
fn stored(keyring: &Keyring) -> KeyFile {
    let json = serde_json::to_vec(&keyring.to_file(&SystemRandom).unwrap()).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn table(name: &str) -> TableId {
    TableId(name.to_owned())
}

#[test]
fn each_recipient_opens_the_same_keys_and_nobody_else_does() {
    let (recovery, secret) = NewRecipient::recovery();
    let keyring = keyring()
        .with_table(3, &table("a"), &Encryption::Full, &SystemRandom)
        .unwrap()
        .with_table(4, &table("b"), &Encryption::Columns { columns: vec![ColumnId(2)] }, &SystemRandom)
        .unwrap()
        .with_recipient(5, "recovery", &recovery, &SystemRandom)
        .unwrap();
    let by_passphrase = open(&keyring, &Credentials::passphrase("correct horse\n")).unwrap();
    let identities =
        Credentials::none().with_identities(&format!("# kept in a safe\n{}\n", *secret)).unwrap();
    assert!(by_passphrase == keyring);
    assert!(open(&keyring, &identities).unwrap() == keyring);
    assert_eq!(keyring.recipients().iter().map(Recipient::name).collect::<Vec<_>>(), ["office", "recovery"]);

    assert!(matches!(open(&keyring, &Credentials::none()), Err(KeyError::Locked { .. })));
    let (_, other) = NewRecipient::recovery();
    let others = Credentials::passphrase("correct horses").with_identities(&other).unwrap();
    let error = open(&keyring, &others).unwrap_err();
    assert!(matches!(error, KeyError::WrongKey { .. }), "{error}");
    assert!(error.to_string().contains("office, recovery"), "{error}");
    let elsewhere = Keyring::open(&stored(&keyring), "another vault", &identities).unwrap_err();
    assert!(matches!(elsewhere, KeyError::Forged { .. }), "{elsewhere}");
}

#[test]
fn rotation_changes_the_vault_key_and_keeps_every_other() {
    let before = keyring().with_table(3, &table("a"), &Encryption::Full, &SystemRandom).unwrap();
    let credentials = Credentials::passphrase("correct horse");
    let after = before.rotated(4, &credentials, &SystemRandom).unwrap();
    assert!(after.table(&table("a")) == before.table(&table("a")));
    assert!(after.dedup() == before.dedup());
    assert_eq!(after.auth().0, 4);
    assert!(after.auth_of(2) == before.auth_of(2) && after.auth_of(2).is_some());
    let opened = open(&after, &credentials).unwrap();
    assert!(opened == after);
    // No wrapped key is left as it was, and the old vault key opens none of them.
    let (old, new) = (stored(&before), stored(&after));
    assert!(old.keys.iter().all(|k| new.keys.iter().all(|n| n.wrapped != k.wrapped)));
    let mut mixed = new.clone();
    mixed.recipients = old.recipients;
    assert!(Keyring::open(&mixed, OWNER, &credentials).is_err());
}

#[test]
fn a_removed_recipient_opens_nothing_and_the_last_one_stays() {
    let credentials = Credentials::passphrase("correct horse");
    let two = keyring().with_recipient(3, "home", &passphrase("second"), &SystemRandom).unwrap();
    let unknown = two.without_recipient(4, "hone", &credentials, &SystemRandom).unwrap_err();
    assert!(matches!(unknown, KeyError::NoRecipient { .. }), "{unknown}");
    let needed = two.without_recipient(4, "office", &credentials, &SystemRandom).unwrap_err();
    assert!(matches!(&needed, KeyError::PassphraseNeeded { names } if names == "home"), "{needed}");
    let one = two.without_recipient(4, "home", &credentials, &SystemRandom).unwrap();
    assert!(open(&one, &Credentials::passphrase("second")).is_err());
    assert!(open(&one, &credentials).is_ok());
    let last = one.without_recipient(5, "office", &credentials, &SystemRandom).unwrap_err();
    assert!(matches!(last, KeyError::LastRecipient { .. }), "{last}");
}

#[test]
fn a_dropped_key_is_in_no_file_and_the_others_stay() {
    let columns = Encryption::Columns { columns: vec![ColumnId(2), ColumnId(3)] };
    let keyring = keyring()
        .with_table(3, &table("a"), &columns, &SystemRandom)
        .unwrap()
        .with_table(4, &table("b"), &Encryption::Full, &SystemRandom)
        .unwrap();
    let column = keyring.shredded(5, &table("a"), Some(ColumnId(2))).unwrap();
    let opened = open(&column, &Credentials::passphrase("correct horse")).unwrap();
    let key = opened.table(&table("a")).unwrap();
    assert!(key.column(ColumnId(2)).is_none() && key.column(ColumnId(3)).is_some());
    assert!(column.shredded(6, &table("a"), Some(ColumnId(2))).is_err(), "it is gone already");
    let all = opened.shredded(6, &table("a"), None).unwrap();
    let file = stored(&all);
    assert!(file.keys.iter().all(|k| k.table != Some(table("a"))));
    assert!(open(&all, &Credentials::passphrase("correct horse")).unwrap().table(&table("b")).is_some());
}

#[test]
fn no_member_of_a_key_file_can_be_changed_moved_or_removed() {
    let keyring = keyring()
        .with_table(3, &table("a"), &Encryption::Full, &SystemRandom)
        .unwrap()
        .with_table(4, &table("b"), &Encryption::Full, &SystemRandom)
        .unwrap();
    let credentials = Credentials::passphrase("correct horse");
    let whole = serde_json::to_value(stored(&keyring)).unwrap();
    let opens = |json: &Value| {
        serde_json::from_value::<KeyFile>(json.clone())
            .is_ok_and(|f| Keyring::open(&f, OWNER, &credentials).is_ok())
    };
    assert!(opens(&whole));
    let mut tried = 0;
    let mut refused = |change: &dyn Fn(&mut Value)| {
        let mut json = whole.clone();
        change(&mut json);
        assert_ne!(json, whole, "the change changes something");
        assert!(!opens(&json), "{json}");
        tried += 1;
    };
    let keys = whole["keys"].as_array().unwrap().len();
    for i in 0..keys {
        refused(&|json| drop(json["keys"].as_array_mut().unwrap().remove(i)));
        for j in 0..i {
            refused(&|json| json["keys"].as_array_mut().unwrap().swap(i, j));
            refused(&|json| {
                let (a, b) = (json["keys"][i]["wrapped"].clone(), json["keys"][j]["wrapped"].clone());
                (json["keys"][i]["wrapped"], json["keys"][j]["wrapped"]) = (b, a);
            });
        }
        refused(&|json| json["keys"][i]["id"] = "0000000000000000".into());
    }
    refused(&|json| json["generation"] = 9.into());
    refused(&|json| json["dedup_secret"] = "11".repeat(32).into());
    refused(&|json| json["recipients"][0]["name"] = "elsewhere".into());
    refused(&|json| json["recipients"][0]["salt"] = "00".repeat(16).into());
    refused(&|json| json["recipients"] = Value::Array(vec![]));
    refused(&|json| drop(json.as_object_mut().unwrap().remove("mac")));
    eprintln!("COUNT {tried} changed key files: refused");
}

/// Random bytes that repeat, so that a test knows every key.
#[derive(Debug)]
struct Sevens;

impl Random for Sevens {
    fn fill(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        buffer.fill(7);
        Ok(())
    }
}

#[test]
fn a_file_that_lacks_a_key_is_refused_even_when_its_code_is_right() {
    let secret = "00".repeat(32);
    let keyring = Keyring::create(OWNER, 2, &secret, "office", &passphrase("a"), &Sevens).unwrap();
    let whole = keyring.to_file(&Sevens).unwrap();
    let opened = |without: Option<KeyKind>| {
        let mut file = whole.clone();
        file.keys.retain(|key| Some(key.kind) != without);
        file.mac = None;
        let message = serde_json::to_vec(&file).unwrap();
        file.mac = Some(SecretKey::new([7; 32]).derive("keepfast key file 1").mac(&message));
        Keyring::open(&file, OWNER, &Credentials::passphrase("a"))
    };
    assert!(opened(None).unwrap() == keyring);
    for kind in [KeyKind::Auth, KeyKind::Dedup, KeyKind::Staging] {
        let error = opened(Some(kind)).unwrap_err();
        assert!(matches!(error, KeyError::Forged { .. }), "{kind:?}: {error}");
    }
}

#[test]
fn costs_that_would_fill_memory_are_refused() {
    let mut json = serde_json::to_value(stored(&keyring())).unwrap();
    json["recipients"][0]["argon2id"]["memory_kib"] = u32::MAX.into();
    let file: KeyFile = serde_json::from_value(json).unwrap();
    let error = Keyring::open(&file, OWNER, &Credentials::passphrase("correct horse")).unwrap_err();
    assert!(matches!(error, KeyError::Cost { .. }), "{error}");
}

#[test]
fn a_key_is_never_shown() {
    let secret = SecretKey::new(*b"planted-secret-planted-secret-00");
    let phrase = Passphrase::new("planted-passphrase".into());
    let (_, identity) = NewRecipient::recovery();
    let credentials = Credentials::passphrase("planted-passphrase").with_identities(&identity).unwrap();
    let new = NewRecipient::Passphrase(phrase.clone(), Cost::TRIVIAL);
    let keyring = keyring();
    let shown = format!("{secret:?} {phrase:?} {credentials:?} {new:?} {keyring:?} {:?}", stored(&keyring));
    assert!(!shown.contains("planted") && !shown.contains("AGE-SECRET"), "{shown}");
    let error = Credentials::none().with_identities("AGE-SECRET-KEY-1PLANTED").unwrap_err();
    assert!(!error.to_string().contains("PLANTED"), "{error}");
    for text in ["", "# nothing\n"] {
        assert!(Credentials::none().with_identities(text).is_err());
    }
    assert!(matches!(
        keyring.with_recipient(3, "empty", &passphrase("\n"), &SystemRandom),
        Err(KeyError::EmptyPassphrase)
    ));
}
