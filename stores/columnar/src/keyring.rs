//! Who can open a store: its keys are given, changed and taken away by catalog entries, like everything else.
//!
//! Invariant: a key file is durable before an entry names it, and a change that another writer overtook is made anew from
//! what that writer left.

use crate::Result;
use crate::catalog::Catalog;
use crate::encrypt::Sealed;
use crate::keys::of_store;
use crate::names::{self, WriterId};
use crate::seal::{KeysRef, StoreKeys, with_data_key};
use crate::store::ColumnarStore;
use bytes::Bytes;
use keepfast_format::IdentityKey;
use keepfast_keys::{KeyError, Keyring, NewRecipient, Recipient};
use keepfast_model::Hash256;
use keepfast_objects::Put;
use keepfast_store::StoreError;
use std::sync::Arc;

/// What becomes of keys as the next generation.
type KeyChange<'a> = dyn Fn(&Keyring, u64) -> Result<Keyring, KeyError> + Send + Sync + 'a;

impl ColumnarStore {
    /// Whether the store has keys. Needs none of them.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn has_keys(&self) -> Result<bool> {
        Ok(self.shared.newest_keys().await?.is_some())
    }

    /// The generation of the keys and those who can open the store; 0 and nobody without keys. Needs no key.
    ///
    /// # Errors
    /// `Damaged` for a key file that cannot be read.
    pub async fn recipients(&self) -> Result<(u64, Vec<Recipient>)> {
        for _ in 0..100 {
            let Some(keys) = self.shared.newest_keys().await? else { return Ok((0, vec![])) };
            if let Some(file) = self.shared.key_file(&keys).await? {
                return Ok((keys.generation, file.recipients));
            }
            if self.shared.newest_keys().await? == Some(keys) {
                break;
            }
        }
        Err(crate::fault::damaged(self.shared.place.full(names::KEYS), "the key file is missing"))
    }

    /// Adds one who can open the store. A store without keys gets them: its tables are written anew, encrypted, and what was
    /// plain is removed.
    ///
    /// # Errors
    /// `Keys` for a name that is taken and for a passphrase or public key that is none; `Damaged` for a table that cannot be
    /// read, and then nothing is changed.
    pub async fn add_recipient(&self, name: &str, recipient: &NewRecipient) -> Result<()> {
        let random = self.shared.options.random.clone();
        let what = format!("add key {name}");
        let add = |keyring: &Keyring, generation| {
            keyring.with_recipient(generation, name, recipient, random.as_ref())
        };
        let mut first: Option<FirstKeys> = None;
        loop {
            let head = self.shared.head().await?;
            if head.keys.is_some() {
                if let Some(first) = first {
                    self.shared.place.delete(&names::key_file(first.keys.reference.generation)).await?;
                }
                return self.change_keys(&what, Old::MayStay, &add).await;
            }
            let first = match &mut first {
                Some(first) => first,
                none => none.insert(self.first_keys(name, recipient).await?),
            };
            let mut next = head.next(&WriterId::random(), what.clone());
            next.condemned = None;
            next.keys = Some(first.keys.reference.clone());
            if let Err(e) = self.seal_tables(&head, &mut next, &first.keys, &mut first.sealed).await {
                // Another process may have given keys first, and removed what was to be read.
                if self.shared.head().await?.keys.is_none() {
                    return Err(e);
                }
                continue;
            }
            next.sealed_since = Some(next.seq);
            if let Some(done) = self.commit_entry(&head, next, &first.keys).await? {
                self.shared.second_copy(&first.keys.reference).await?;
                self.remove_plain(&done).await?;
                // Files of changes that never came to an entry.
                self.delete_older_keys(first.keys.reference.generation, Old::MayStay).await?;
                self.tend(&head, &done).await;
                return Ok(());
            }
        }
    }

    /// The first keys, in their file.
    async fn first_keys(&self, name: &str, recipient: &NewRecipient) -> Result<FirstKeys> {
        let random = &self.shared.options.random;
        let owner = names::random_hex();
        let none = IdentityKey::new([0; 32]).to_hex();
        loop {
            let generation = self.next_generation().await?;
            let keyring = Keyring::create(&owner, generation, &none, name, recipient, random.as_ref())
                .and_then(|keyring| with_data_key(keyring, random.as_ref()))
                .map_err(|e| of_store(&self.shared, e))?;
            if let Some(keys) = self.write_keys(&owner, keyring).await? {
                return Ok(FirstKeys { keys, sealed: Sealed::default() });
            }
        }
    }

    /// Gives the store a new key of keys. No data are written again.
    ///
    /// # Errors
    /// `NoKeys`, `Locked`; `Keys` when the passphrase of a recipient is missing; `OldKeys` when the keys are changed, and those
    /// before could not be deleted.
    pub async fn rotate_keys(&self) -> Result<()> {
        let options = &self.shared.options;
        self.change_keys("rotate keys", Old::MustGo, &|keyring, generation| {
            keyring.rotated(generation, &options.credentials, options.random.as_ref())
        })
        .await
    }

    /// Removes one who can open the store, with a new key of keys.
    ///
    /// # Errors
    /// As [`Self::rotate_keys`]; `Keys` when there is no such recipient, or no other.
    pub async fn remove_recipient(&self, name: &str) -> Result<()> {
        let options = &self.shared.options;
        self.change_keys(&format!("remove key {name}"), Old::MustGo, &|keyring, generation| {
            keyring.without_recipient(generation, name, &options.credentials, options.random.as_ref())
        })
        .await
    }

    /// Commits what `change` makes of the keys as they are, again whenever another writer came first. Before it, what an
    /// earlier change left undone is done, whatever becomes of this one.
    async fn change_keys(&self, what: &str, old: Old, change: &KeyChange<'_>) -> Result<()> {
        loop {
            let head = self.shared.head().await?;
            let none = || StoreError::NoKeys { store: self.shared.url() };
            let reference = head.keys.as_ref().ok_or_else(none)?;
            let keys = self.shared.place.keys().ok_or_else(none)?;
            if keys.reference != *reference {
                // Another task of this process has seen a newer entry.
                continue;
            }
            self.remove_plain(&head).await?;
            self.shared.second_copy(reference).await?;
            self.delete_older_keys(reference.generation, old).await?;
            let generation = self.next_generation().await?;
            let keyring = change(&keys.keyring, generation).map_err(|e| of_store(&self.shared, e))?;
            let Some(new) = self.write_keys(&reference.store, keyring).await? else { continue };
            let mut next = head.next(&WriterId::random(), what.to_owned());
            next.keys = Some(new.reference.clone());
            if let Some(done) = self.commit_entry(&head, next, &new).await? {
                self.shared.second_copy(&new.reference).await?;
                self.delete_older_keys(new.reference.generation, old).await?;
                self.tend(&head, &done).await;
                return Ok(());
            }
            self.shared.place.delete(&names::key_file(new.reference.generation)).await?;
        }
    }

    /// Writes a key file, which no entry names yet. None when its number is taken.
    async fn write_keys(&self, owner: &str, keyring: Keyring) -> Result<Option<Arc<StoreKeys>>> {
        let (shared, random) = (&self.shared, &self.shared.options.random);
        let refused = |e| of_store(shared, e);
        let file = keyring.to_file(random.as_ref()).map_err(refused)?;
        let name = names::key_file(keyring.generation());
        let bytes: Bytes = shared.place.json(&name, &file)?;
        let reference = KeysRef {
            store: owner.to_owned(),
            generation: keyring.generation(),
            auth: keyring.auth().0,
            stored: Hash256::of(&bytes),
        };
        if shared.place.create(&name, bytes).await? == Put::Existed {
            return Ok(None);
        }
        StoreKeys::new(reference, keyring, random.clone()).map(|keys| Some(Arc::new(keys))).map_err(refused)
    }

    /// Commits an entry with new keys. None when another writer was first.
    async fn commit_entry(
        &self,
        head: &Arc<Catalog>,
        next: Catalog,
        keys: &Arc<StoreKeys>,
    ) -> Result<Option<Arc<Catalog>>> {
        let _turn = self.shared.turn.acquire().await;
        let done = self.shared.try_commit_with(head, next, Some(keys)).await?;
        if done.is_some() {
            self.shared.place.keep_keys(keys.clone());
        }
        Ok(done)
    }

    /// A number that no key file has, whether an entry names it or a dead change left it.
    async fn next_generation(&self) -> Result<u64> {
        let mut highest = 0;
        for folder in [names::KEYS, names::KEYS_COPY] {
            for object in self.shared.place.list(folder).await? {
                highest = highest.max(names::parse_key_file(&object.path).unwrap_or(0));
            }
        }
        Ok(highest + 1)
    }

    /// Deletes key files that the newest one replaces.
    async fn delete_older_keys(&self, newest: u64, old: Old) -> Result<()> {
        let (mut left, mut cause) = (vec![], None);
        for folder in [names::KEYS, names::KEYS_COPY] {
            for object in self.shared.place.list(folder).await? {
                if names::parse_key_file(&object.path).is_none_or(|generation| generation >= newest) {
                    continue;
                }
                if let Err(e) = self.shared.place.delete(&object.path).await {
                    left.push(self.shared.place.full(&object.path));
                    cause.get_or_insert(e);
                }
            }
        }
        match (cause, old) {
            (None, _) => Ok(()),
            (Some(error), Old::MayStay) => {
                tracing::warn!(store = %self, %error, "older key files were not deleted: who could open them still can");
                Ok(())
            }
            (Some(cause), Old::MustGo) => Err(StoreError::OldKeys {
                store: self.shared.url(),
                objects: left.join(", "),
                source: Box::new(cause),
            }),
        }
    }
}

/// Key files that a change of keys replaces, and earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Old {
    /// Those who may not delete leave them to the next change.
    MayStay,
    /// The change is to shut somebody out, which it does not as long as they are there.
    MustGo,
}

/// Keys that a store is about to get, and what is sealed with them already.
#[derive(Debug)]
struct FirstKeys {
    keys: Arc<StoreKeys>,
    sealed: Sealed,
}
