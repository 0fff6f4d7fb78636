//! How the objects of a store with keys are sealed.
//!
//! Invariant: an object opens only under the name and in the store for which it was sealed. Catalog entries say in clear
//! which key file opens them, and what they say is sealed along; everything else is sealed with the store's key.
//! `docs/columnar.md`, "With keys", has the bytes.

use bytes::Bytes;
use keepfast_format::{FileKeys, IdentityKey, Manifest, Protection, SegmentEntry};
use keepfast_keys::{KeyError, Keyring, Random, SecretKey, TableKey, open, seal};
use keepfast_model::{Encryption, Hash256, ManifestRef, TableId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

const OBJECT: &[u8] = b"keepfast sealed object 1\n";
const ENTRY: &[u8] = b"keepfast sealed entry 1\n";
/// The name of the one key of data under which the key file keeps it.
const DATA_KEY: &str = "store";

/// The key file that opens a catalog entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysRef {
    /// The store's random id, to which its keys are bound.
    pub store: String,
    /// Its generation.
    pub generation: u64,
    /// The generation whose key seals catalog entries.
    pub auth: u64,
    /// BLAKE3 of its stored bytes.
    pub stored: Hash256,
}

/// A catalog entry before it is opened.
#[derive(Debug)]
pub(crate) struct SealedEntry<'a> {
    pub keys: KeysRef,
    line: &'a [u8],
    sealed: &'a [u8],
}

/// Whether the bytes say that they are sealed.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(OBJECT) || bytes.starts_with(ENTRY)
}

/// As many of an object's first bytes as [`is_sealed_data`] looks at.
pub(crate) const FIRST_BYTES: u64 = 96;

/// As [`is_sealed`], of any object of a store: pages and segments say so in their own way.
pub(crate) fn is_sealed_data(first: &[u8]) -> bool {
    is_sealed(first) || Manifest::sealed_for(first).is_some() || first.starts_with(b"PARE")
}

/// The parts of a sealed catalog entry; none for a plain one.
pub(crate) fn sealed_entry(bytes: &[u8]) -> Result<Option<SealedEntry<'_>>, KeyError> {
    let Some(rest) = bytes.strip_prefix(ENTRY) else { return Ok(None) };
    let end = rest.iter().take(1024).position(|b| *b == b'\n').ok_or(KeyError::Sealed)?;
    let (line, sealed) = (&rest[..end], &rest[end + 1..]);
    let keys = serde_json::from_slice(line).map_err(|_| KeyError::Sealed)?;
    Ok(Some(SealedEntry { keys, line, sealed }))
}

/// The keys of a store, open.
pub(crate) struct StoreKeys {
    pub reference: KeysRef,
    pub keyring: Keyring,
    data: Arc<TableKey>,
    objects: SecretKey,
    random: Arc<dyn Random>,
}

impl fmt::Debug for StoreKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKeys({:?}, …)", self.reference)
    }
}

/// The keyring with the key of data; one that has it stays as it is.
pub(crate) fn with_data_key(keyring: Keyring, random: &dyn Random) -> Result<Keyring, KeyError> {
    let id = TableId(DATA_KEY.into());
    match keyring.table(&id) {
        Some(_) => Ok(keyring),
        None => keyring.with_table(keyring.generation(), &id, &Encryption::Full, random),
    }
}

impl StoreKeys {
    pub fn new(reference: KeysRef, keyring: Keyring, random: Arc<dyn Random>) -> Result<Self, KeyError> {
        let forged = |reason: &str| KeyError::Forged { reason: reason.into() };
        let data = keyring.table(&TableId(DATA_KEY.into())).cloned();
        let data = data.ok_or_else(|| forged("it has no key of the store's data"))?;
        if keyring.auth().0 != reference.auth || keyring.generation() != reference.generation {
            return Err(forged("it is not the one that the catalog names"));
        }
        let objects = data.table().derive("keepfast store objects 1");
        Ok(Self { reference, keyring, data, objects, random })
    }

    /// Whether these are later keys of the same data. Later keys know all that sealed entries before them, which somebody who
    /// was removed does not.
    pub fn follow(&self, before: &Self) -> bool {
        let (auth, key) = before.keyring.auth();
        self.data == before.data
            && self.keyring.dedup() == before.keyring.dedup()
            && self.keyring.auth_of(auth) == Some(key)
    }

    pub fn seal_entry(&self, name: &str, plain: &[u8]) -> Result<Bytes, KeyError> {
        let line = serde_json::to_vec(&self.reference).expect("numbers and digits have a JSON form");
        let (_, key) = self.keyring.auth();
        let sealed = seal(key, &self.entry_context(name, &line), plain, self.random.as_ref())?;
        Ok([ENTRY, &line, b"\n", &sealed].concat().into())
    }

    /// An entry that was sealed with these keys or earlier ones.
    pub fn open_entry(&self, name: &str, entry: &SealedEntry<'_>) -> Result<Vec<u8>, KeyError> {
        let key = self.keyring.auth_of(entry.keys.auth).ok_or(KeyError::Sealed)?;
        open(key, &self.entry_context(name, entry.line), entry.sealed).map(|plain| plain.to_vec())
    }

    pub fn seal_object(&self, name: &str, plain: &[u8]) -> Result<Bytes, KeyError> {
        let sealed = seal(&self.objects, &self.context("object", name), plain, self.random.as_ref())?;
        Ok([OBJECT, &sealed].concat().into())
    }

    pub fn open_object(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        let sealed = bytes.strip_prefix(OBJECT).ok_or(KeyError::Sealed)?;
        open(&self.objects, &self.context("object", name), sealed).map(|plain| plain.to_vec())
    }

    /// The bytes of a page.
    pub fn seal_page(&self, manifest: &Manifest) -> keepfast_format::Result<(ManifestRef, Bytes)> {
        manifest.encode_sealed(self.data.table(), self.keyring.dedup(), self.random.as_ref())
    }

    pub fn open_page(&self, bytes: &[u8]) -> keepfast_format::Result<Manifest> {
        Manifest::decode_sealed(bytes, self.data.table(), self.keyring.dedup()).map(|(manifest, _)| manifest)
    }

    /// How new segments of a table are encrypted.
    pub fn protection(&self, table: &TableId) -> Protection {
        // Segments are named by their writer, so their identity is keyed by nothing.
        let identity = IdentityKey::new([0; 32]);
        Protection::encrypted(table.clone(), identity, self.data.clone(), self.random.clone())
    }

    /// What opens a segment.
    pub fn file_keys(&self, table: &TableId, entry: &SegmentEntry) -> keepfast_format::Result<FileKeys> {
        let wrapped = entry.key.as_deref().ok_or(KeyError::Sealed)?;
        FileKeys::open(&self.data, table, entry.id, wrapped)
    }

    fn entry_context(&self, name: &str, line: &[u8]) -> Vec<u8> {
        [self.context("entry", name).as_slice(), b"\0", line].concat()
    }

    fn context(&self, kind: &str, name: &str) -> Vec<u8> {
        format!("keepfast store {kind} 1\0{}\0{name}", self.reference.store).into_bytes()
    }
}
