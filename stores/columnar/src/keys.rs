//! Following the keys of a store: from the newest catalog entry to the key file that it names, opened once.
//!
//! Invariant: keys are only ever followed forward, to later keys of the same data. A store that had keys in this process
//! has them for good, so nothing plain is read or written in it afterwards.

use crate::Result;
use crate::catalog::Catalog;
use crate::seal::{self, KeysRef, SealedEntry, StoreKeys};
use crate::shared::Shared;
use crate::{fault, names};
use keepfast_keys::{KeyError, KeyFile, Keyring};
use keepfast_model::Hash256;
use keepfast_objects::Put;
use keepfast_store::StoreError;
use std::sync::Arc;

/// A key file as its catalog entry names it; none where both copies are gone.
type Found = Option<KeyFile>;

impl Shared {
    /// The catalog entry in these bytes.
    pub(crate) async fn open_entry(&self, name: &str, bytes: &[u8]) -> Result<Catalog> {
        let refused = |e| self.place.key_error(name, e);
        let Some(sealed) = seal::sealed_entry(bytes).map_err(refused)? else {
            return match self.place.keys() {
                None => self.place.parse(name, bytes),
                Some(_) => Err(self.place.not_sealed(name)),
            };
        };
        let keys = self.follow(name, &sealed).await?;
        if sealed.keys.generation == keys.reference.generation && sealed.keys != keys.reference {
            return Err(fault::damaged(
                self.place.full(name),
                "it names another key file of the same number",
            ));
        }
        let plain = keys.open_entry(name, &sealed).map_err(refused)?;
        let entry: Catalog = self.place.parse(name, &plain)?;
        Ok(Catalog { keys: Some(sealed.keys), ..entry })
    }

    /// Keys that open this entry.
    async fn follow(&self, name: &str, entry: &SealedEntry<'_>) -> Result<Arc<StoreKeys>> {
        let known = |wanted: &KeysRef| {
            let keys = self.place.keys()?;
            (wanted.generation <= keys.reference.generation).then_some(keys)
        };
        // Opening costs memory and time on purpose: once, however many tasks ask.
        let _turn = self.opening.acquire().await;
        let mut wanted = entry.keys.clone();
        for _ in 0..100 {
            if let Some(keys) = known(&wanted) {
                return Ok(keys);
            }
            if self.options.credentials.is_empty() {
                return Err(StoreError::Locked { store: self.url() });
            }
            if let Some(file) = self.key_file(&wanted).await? {
                return self.open_keys(name, wanted, file).await;
            }
            // A change of keys came between; the newest entry names those that open all entries before it.
            match self.newest_keys().await? {
                Some(newest) if newest != wanted => wanted = newest,
                _ => break,
            }
        }
        Err(fault::damaged(self.place.full(&names::key_file(wanted.generation)), "it is missing"))
    }

    async fn open_keys(&self, name: &str, wanted: KeysRef, file: KeyFile) -> Result<Arc<StoreKeys>> {
        let (credentials, random) = (self.options.credentials.clone(), self.options.random.clone());
        let reference = wanted.clone();
        let opened = self
            .compute(move || {
                let keyring = Keyring::open(&file, &reference.store, &credentials);
                Ok(keyring.and_then(|keyring| StoreKeys::new(reference, keyring, random)))
            })
            .await?;
        let keys =
            Arc::new(opened.map_err(|e| self.place.key_error(&names::key_file(wanted.generation), e))?);
        if self.place.keys().is_some_and(|before| !keys.follow(&before)) {
            return Err(fault::damaged(self.place.full(name), "it names keys of another store"));
        }
        self.place.keep_keys(keys.clone());
        if let Err(error) = self.second_copy(&wanted).await {
            tracing::debug!(%error, "the second copy of the key file could not be made");
        }
        Ok(keys)
    }

    /// The key file of a catalog entry, from whichever copy is the one that was written.
    pub(crate) async fn key_file(&self, wanted: &KeysRef) -> Result<Found> {
        let mut damaged = None;
        for name in [names::key_file(wanted.generation), names::key_file_copy(wanted.generation)] {
            let Some(bytes) = self.place.find(&name).await? else { continue };
            if Hash256::of(&bytes) != wanted.stored {
                damaged.get_or_insert(name);
                continue;
            }
            let file: KeyFile = serde_json::from_slice(&bytes).map_err(|e| {
                // The decoder's own words may quote what it read.
                fault::damaged(self.place.full(&name), format!("it is not a key file (line {})", e.line()))
            })?;
            if file.generation == wanted.generation {
                return Ok(Some(file));
            }
        }
        match damaged {
            Some(name) => Err(fault::damaged(
                self.place.full(&name),
                "its bytes are not those of the key file that the catalog names",
            )),
            None => Ok(None),
        }
    }

    /// What the newest catalog entry says of keys, unopened; none of a store without keys.
    pub(crate) async fn newest_keys(&self) -> Result<Option<KeysRef>> {
        for _ in 0..100 {
            let Some(newest) = self.entries().await?.last().copied() else { return Ok(None) };
            let name = names::catalog(newest);
            let Some(bytes) = self.place.find(&name).await? else { continue };
            let sealed = seal::sealed_entry(&bytes).map_err(|e| self.place.key_error(&name, e))?;
            return Ok(sealed.map(|entry| entry.keys));
        }
        Err(fault::damaged(self.place.full(names::CATALOG), "its newest entry is listed and cannot be read"))
    }

    /// Makes the second copy of a key file that a catalog entry names, where it is missing. The first one is written before its
    /// entry and the second one after it: a second copy tells that the store has keys.
    pub(crate) async fn second_copy(&self, keys: &KeysRef) -> Result<()> {
        let (first, second) = (names::key_file(keys.generation), names::key_file_copy(keys.generation));
        if self.place.exists(&second).await? {
            return Ok(());
        }
        let Some(bytes) = self.place.find(&first).await? else { return Ok(()) };
        if Hash256::of(&bytes) == keys.stored
            && self.place.create(&second, bytes).await? == Put::Created
            && !self.place.exists(&first).await?
        {
            // Newer keys came meanwhile, and older ones are to be nowhere.
            self.place.delete(&second).await?;
        }
        Ok(())
    }

    /// Whether what was written with or without keys may be named by the entry after `head`.
    pub(crate) fn check_sealed(&self, sealed: bool, head: &Catalog, table: &str) -> Result<()> {
        if sealed == head.keys.is_some() {
            return Ok(());
        }
        Err(StoreError::Conflict {
            table: table.to_owned(),
            reason: "the store was given keys meanwhile".into(),
        })
    }
}

/// An error of keys where no object is at fault.
pub(crate) fn of_store(shared: &Shared, error: KeyError) -> StoreError {
    shared.place.key_error(names::KEYS, error)
}
