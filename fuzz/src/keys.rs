//! A key file that somebody must open.
//!
//! Its keys are sealed and a code is of all its members, so the target can make both right again after an edit: whoever has the
//! vault key, or puts another in its place for a public key, could.

use crate::edit;
use crate::vault::Fixed;
use keepfast_keys::file::WrappedKey;
use keepfast_keys::{Cost, Credentials, KeyFile, Keyring, Recipient, SecretKey, hex, seal};
use std::sync::LazyLock;

/// A key file with a passphrase, a public key, and keys of every kind. It was made with [`Fixed`] as its source of random bytes; what
/// is sealed for the public key differs each time, so the file is kept.
const SAMPLE: &[u8] = include_bytes!("../samples/keys.json");
/// The vault that it is of.
const OWNER: &str = "0123456789abcdef0123456789abcdef";
const PASSPHRASE: &str = "fuzz";
/// The secret half of its public key. It opens this file and nothing else.
const IDENTITY: &str = include_str!("../samples/identity.txt");

static CREDENTIALS: LazyLock<Credentials> = LazyLock::new(|| {
    Credentials::passphrase(PASSPHRASE).with_identities(IDENTITY).expect("an identity that age made")
});

/// Keys that [`Fixed`] gives.
fn fixed_key() -> SecretKey {
    SecretKey::new([7; 32])
}

/// The input is the file's JSON, or edits of the sample; then bits of the form say what is made right again.
pub(crate) fn open(form: u8, rest: &[u8]) {
    let json = if form & 1 == 0 { rest.to_vec() } else { edit::edited(SAMPLE.to_vec(), rest) };
    let Ok(mut file) = serde_json::from_slice::<KeyFile>(&json) else { return };
    if file.recipients.iter().any(is_costly) {
        return;
    }
    if form & 2 != 0 {
        file.keys.iter_mut().for_each(seal_again);
    }
    if form & 4 != 0 {
        file.mac = None;
        let message = serde_json::to_vec(&file).expect("a key file has a JSON form");
        file.mac = Some(fixed_key().derive("keepfast key file 1").mac(&message));
    }
    match Keyring::open(&file, OWNER, &CREDENTIALS) {
        Ok(keyring) => use_all(&keyring),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// What is accepted may take a while and up to a GiB, as its writer wanted; a fuzzer would wait for it.
fn is_costly(recipient: &Recipient) -> bool {
    let Recipient::Passphrase { argon2id: Cost { memory_kib, passes, lanes }, .. } = recipient else {
        return false;
    };
    let accepted = *memory_kib <= 1 << 20 && *passes <= 64 && *lanes <= 64;
    accepted && (*memory_kib > 64 || *passes > 4)
}

fn seal_again(key: &mut WrappedKey) {
    key.wrapped.clear();
    let named = serde_json::to_string(key).expect("a key has a JSON form");
    let context = format!("keepfast key 1\0{OWNER}\0{named}");
    let sealed =
        seal(&fixed_key(), context.as_bytes(), fixed_key().bytes(), &Fixed).expect("a short message");
    key.wrapped = hex::encode(&sealed);
}

/// Asks an open keyring everything, and writes it again.
fn use_all(keyring: &Keyring) {
    let (generation, _) = keyring.auth();
    assert!(keyring.auth_of(generation).is_some());
    let _ = (keyring.dedup(), keyring.staging(), keyring.recipients().len());
    for table in keyring.tables() {
        assert!(keyring.table(table).is_some_and(|key| !format!("{key:?}{}", key.ids()).is_empty()));
    }
    let file = keyring.to_file(&Fixed).expect("keys that were read can be written");
    let again = Keyring::open(&file, OWNER, &CREDENTIALS).expect("keys that were written can be read");
    assert_eq!(again, *keyring);
}

/// Seeds by their form: the JSON as it is, and the sample without an edit.
pub(crate) fn seeds() -> Vec<(u8, &'static [u8])> {
    vec![(0, SAMPLE), (1, &[]), (6, SAMPLE), (7, &[])]
}
