//! Who can open a store: its keys are given, changed and taken away by catalog entries, like everything else.
//!
//! Invariant: a key file is durable before an entry names it, and a change that another writer overtook is made anew from
//! what that writer left.

use crate::Result;
use crate::catalog::Catalog;
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

    /// Adds one who can open the store. A store without keys and without tables gets them: what it writes from now on is
    /// encrypted.
    ///
    /// # Errors
    /// `HasTables`; `Keys` for a name that is taken and for a passphrase or public key that is none.
    pub async fn add_recipient(&self, name: &str, recipient: &NewRecipient) -> Result<()> {
        let random = self.shared.options.random.clone();
        let add = |keyring: &Keyring, generation| {
            keyring.with_recipient(generation, name, recipient, random.as_ref())
        };
        loop {
            let head = self.shared.head().await?;
            if head.keys.is_some() {
                return self.change_keys(&format!("add key {name}"), &add).await;
            }
            if !head.tables.is_empty() {
                let tables = head.tables.iter().map(|t| t.name.to_string()).collect();
                return Err(StoreError::HasTables { store: self.shared.url(), tables });
            }
            let generation = self.next_generation().await?;
            let owner = names::random_hex();
            let none = IdentityKey::new([0; 32]).to_hex();
            let keyring = Keyring::create(&owner, generation, &none, name, recipient, random.as_ref())
                .and_then(|keyring| with_data_key(keyring, random.as_ref()))
                .map_err(|e| of_store(&self.shared, e))?;
            let mut next = head.next(&WriterId::random(), format!("add key {name}"));
            // What was written without keys is nobody's any more.
            next.condemned = None;
            next.dropped.clear();
            if let Some(keys) = self.commit_keys(&head, next, &owner, keyring).await? {
                self.remove_plain(head.seq).await?;
                return self.shared.second_copy(&keys).await;
            }
        }
    }

    /// Gives the store a new key of keys. No data are written again.
    ///
    /// # Errors
    /// `NoKeys`, `Locked`; `Keys` when the passphrase of a recipient is missing.
    pub async fn rotate_keys(&self) -> Result<()> {
        let options = &self.shared.options;
        self.change_keys("rotate keys", &|keyring, generation| {
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
        self.change_keys(&format!("remove key {name}"), &|keyring, generation| {
            keyring.without_recipient(generation, name, &options.credentials, options.random.as_ref())
        })
        .await
    }

    /// Commits what `change` makes of the keys as they are, again whenever another writer came first.
    async fn change_keys(&self, what: &str, change: &KeyChange<'_>) -> Result<()> {
        loop {
            let head = self.shared.head().await?;
            let none = || StoreError::NoKeys { store: self.shared.url() };
            let reference = head.keys.as_ref().ok_or_else(none)?;
            let keys = self.shared.place.keys().ok_or_else(none)?;
            if keys.reference != *reference {
                continue;
            }
            let generation = self.next_generation().await?;
            let keyring = change(&keys.keyring, generation).map_err(|e| of_store(&self.shared, e))?;
            let next = head.next(&WriterId::random(), what.to_owned());
            if let Some(new) = self.commit_keys(&head, next, &reference.store, keyring).await? {
                self.shared.second_copy(&new).await?;
                self.delete_older_keys(new.generation).await;
                return Ok(());
            }
        }
    }

    /// Writes a key file and the catalog entry that names it. None when another writer was first.
    async fn commit_keys(
        &self,
        head: &Arc<Catalog>,
        mut next: Catalog,
        owner: &str,
        keyring: Keyring,
    ) -> Result<Option<KeysRef>> {
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
        let keys = Arc::new(StoreKeys::new(reference.clone(), keyring, random.clone()).map_err(refused)?);
        next.keys = Some(reference.clone());
        let done = {
            let _turn = shared.turn.acquire().await;
            shared.try_commit_with(head, next, Some(&keys)).await?
        };
        if done.is_none() {
            shared.place.delete(&name).await?;
            return Ok(None);
        }
        shared.place.keep_keys(keys);
        Ok(Some(reference))
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

    /// Deletes key files that the newest one replaces. Those who may not delete leave it to the next change.
    async fn delete_older_keys(&self, newest: u64) {
        let deleted = async {
            for folder in [names::KEYS, names::KEYS_COPY] {
                for object in self.shared.place.list(folder).await? {
                    if names::parse_key_file(&object.path).is_some_and(|generation| generation < newest) {
                        self.shared.place.delete(&object.path).await?;
                    }
                }
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = deleted.await {
            tracing::warn!(store = %self, %error, "older key files were not deleted: who could open them still can");
        }
    }

    /// Removes what was written before the store had keys: entries up to `head`, the oldest first, and everything that they
    /// could name.
    async fn remove_plain(&self, head: u64) -> Result<()> {
        let place = &self.shared.place;
        for folder in [names::DATA, names::HOLDS, names::LOADS, names::CONDEMNED] {
            for object in place.list(folder).await? {
                place.delete(&object.path).await?;
            }
        }
        for seq in self.shared.entries().await?.into_iter().filter(|seq| *seq <= head) {
            place.delete(&names::catalog(seq)).await?;
        }
        Ok(())
    }
}
