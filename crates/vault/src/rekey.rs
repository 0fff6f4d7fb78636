//! Changing the keys of a vault.
//!
//! A change is a new key file and one record that names it, so it takes the same time whatever the vault holds. The record is
//! authenticated by the key before it. Rivals meet at the record: the loser starts from the winner's keys. What a change takes away
//! is gone when no older key file has it any more.

use crate::commit::Revalidate;
use crate::error::VaultError;
use crate::keyring::KeyState;
use crate::keys::{self, FIRST_GENERATION, Keys, NewKeys};
use crate::log::Log;
use crate::vault::Vault;
use crate::{Result, layout};
use async_trait::async_trait;
use futures::stream::TryStreamExt;
use keepfast_keys::{KeyError, KeyFile, Keyring, NewRecipient};
use keepfast_model::{ColumnId, Encryption, Record, TableId};

/// What becomes of keys as the next generation; none where nothing is to be done.
type KeyChange<'a> = dyn Fn(&Keyring, u64) -> Result<Option<Keyring>, KeyError> + Send + Sync + 'a;

impl Vault {
    /// Gives a table keys, where it has none for files that are encrypted so. Those that it has stay.
    ///
    /// A vault without keys gets them first, with the first passphrase of its credentials as its recipient.
    ///
    /// # Errors
    /// [`KeyError::Locked`] without credentials; otherwise as [`Self::commit`].
    pub async fn encrypt_table(&self, table: &TableId, encryption: &Encryption) -> Result<()> {
        if *encryption == Encryption::None {
            return Ok(());
        }
        if self.keyring().await?.is_none() {
            let none = || KeyError::NoCredential { what: self.url().to_owned() };
            let passphrase = self.environment().credentials.first_passphrase().cloned().ok_or_else(none)?;
            let recipient = NewRecipient::Passphrase(passphrase, self.environment().passphrase_cost);
            match self.add_recipient("passphrase", &recipient).await {
                // A rival was faster, and has the same passphrase or the next step fails.
                Ok(()) | Err(VaultError::Keys(KeyError::RecipientExists { .. })) => {}
                Err(e) => return Err(e),
            }
        }
        let random = self.environment().random.clone();
        self.change_keys(&|keyring, generation| match keyring
            .table(table)
            .is_some_and(|key| key.serves(encryption))
        {
            true => Ok(None),
            false => keyring.with_table(generation, table, encryption, random.as_ref()).map(Some),
        })
        .await
    }

    /// Adds one who can open the vault; a vault without keys gets them.
    ///
    /// # Errors
    /// [`KeyError::RecipientExists`], [`KeyError::EmptyPassphrase`], [`KeyError::NotAgeKey`], [`KeyError::Locked`]; otherwise as
    /// [`Self::commit`].
    pub async fn add_recipient(&self, name: &str, recipient: &NewRecipient) -> Result<()> {
        let random = self.environment().random.clone();
        if self.keyring().await?.is_some() {
            return self
                .change_keys(&|keyring, generation| {
                    keyring.with_recipient(generation, name, recipient, random.as_ref()).map(Some)
                })
                .await;
        }
        loop {
            let generation = self.next_generation(&self.log().await?).await?;
            let secret = self.identity_key().to_hex();
            let keyring =
                Keyring::create(&self.id().0, generation, &secret, name, recipient, random.as_ref())?;
            if self.commit_keys(FIRST_GENERATION, keyring).await? {
                return Ok(());
            }
            if self.keyring().await?.is_some() {
                return Err(KeyError::RecipientExists { name: name.to_owned() }.into());
            }
        }
    }

    /// Gives the vault a new vault key. No data are written again.
    ///
    /// # Errors
    /// [`KeyError::PassphraseNeeded`], [`KeyError::Locked`]; otherwise as [`Self::commit`].
    pub async fn rotate_keys(&self) -> Result<()> {
        let environment = self.environment().clone();
        self.change_keys(&|keyring, generation| {
            keyring.rotated(generation, &environment.credentials, environment.random.as_ref()).map(Some)
        })
        .await
    }

    /// Removes one who can open the vault, with a new vault key.
    ///
    /// # Errors
    /// [`KeyError::NoRecipient`], [`KeyError::LastRecipient`], [`KeyError::PassphraseNeeded`]; otherwise as [`Self::shred`].
    pub async fn remove_recipient(&self, name: &str) -> Result<()> {
        let environment = self.environment().clone();
        self.take_away(&|file| file.recipients.iter().any(|r| r.name() == name), &|keyring, generation| {
            keyring
                .without_recipient(generation, name, &environment.credentials, environment.random.as_ref())
                .map(Some)
        })
        .await
    }

    /// Drops the keys of a table, or of one of its secret columns: what they encrypted can never be read again, here.
    ///
    /// # Errors
    /// [`KeyError::Shredded`] where there is no such key. Before anything is changed, [`VaultError::Objects`] without the right to
    /// delete. [`VaultError::OlderKeysRemain`] once the new keys stand: the same call again deletes what is left. Otherwise as
    /// [`Self::commit`].
    pub async fn shred(&self, table: &TableId, column: Option<ColumnId>) -> Result<()> {
        let had = |file: &KeyFile| {
            let is_it = |of: Option<ColumnId>| column.is_none() || of == column;
            file.keys.iter().any(|key| key.table.as_ref() == Some(table) && is_it(key.column))
        };
        let done = self
            .take_away(&had, &|keyring, generation| keyring.shredded(generation, table, column).map(Some))
            .await;
        // What was opened with the dropped key is nothing to be read from memory either.
        self.forget_log();
        done
    }

    /// A change by which something is gone: it is done when no older key file has it.
    async fn take_away(
        &self,
        had: &(dyn Fn(&KeyFile) -> bool + Send + Sync),
        change: &KeyChange<'_>,
    ) -> Result<()> {
        self.refuse_without_delete().await?;
        let left = match self.keyring().await? {
            Some(keyring) => self.older_has(keyring.generation(), had).await?,
            None => false,
        };
        match self.change_keys(change).await {
            Ok(()) => {}
            // An earlier call changed the keys, and did not delete all that came before.
            Err(VaultError::Keys(KeyError::Shredded { .. } | KeyError::NoRecipient { .. })) if left => {}
            Err(e) => return Err(e),
        }
        match self.open_keys()? {
            Some(keyring) => keys::delete_older(self.target(), keyring.generation()).await,
            None => Ok(()),
        }
    }

    /// Whether a key file before this generation is as asked. One that nobody can read is not.
    async fn older_has(&self, newest: u64, had: &(dyn Fn(&KeyFile) -> bool + Send + Sync)) -> Result<bool> {
        for (path, generation) in keys::older(self.target(), newest).await? {
            match self.target().get(&path).await {
                Ok(bytes) => {
                    if Keys::decode(&path, generation, &bytes).is_ok_and(|keys| had(&keys.file)) {
                        return Ok(true);
                    }
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(false)
    }

    /// Commits what `change` makes of the keys as they are, again whenever a rival changed them meanwhile. `change` gives none
    /// where nothing is to be done.
    async fn change_keys(&self, change: &KeyChange<'_>) -> Result<()> {
        loop {
            let log = self.log().await?;
            let keyring =
                self.open_keys()?.ok_or_else(|| VaultError::NoKeys { url: self.url().to_owned() })?;
            let before = keyring.generation();
            // Whoever changed the keys last may have died before this.
            self.try_to_delete_older_keys(before).await;
            let generation = self.next_generation(&log).await?;
            let Some(next) = change(&keyring, generation).map_err(|e| self.named(e))? else { return Ok(()) };
            if self.commit_keys(before, next).await? {
                return Ok(());
            }
        }
    }

    /// A number that no key file has, whether a record names it or a dead change left it.
    pub(crate) async fn next_generation(&self, log: &Log) -> Result<u64> {
        let mut highest = log.keys().keys().next_back().copied().unwrap_or(FIRST_GENERATION);
        for folder in [layout::KEYS, layout::KEYS_COPY] {
            let mut listing = self.target().list_stream(folder);
            while let Some(object) = listing.try_next().await? {
                highest = highest.max(layout::generation(&object.path).unwrap_or(0));
            }
        }
        Ok(highest + 1)
    }

    /// Writes a key file and the record that names it. False when the keys are no longer those of generation `before`.
    async fn commit_keys(&self, before: u64, keyring: Keyring) -> Result<bool> {
        let new = NewKeys::of(keyring, self.environment().random.as_ref())?;
        let generation = new.keyring.generation();
        if !new.put(self.target()).await? {
            return Ok(false);
        }
        match new.read_back(self.target()).await {
            // A rival changed the keys meanwhile, and deletes what came before.
            Err(VaultError::Objects(e)) if e.is_not_found() && self.has_newer_keys(before).await? => {
                return Ok(false);
            }
            found => found.map_err(|e| self.missing(e))?,
        }
        match self.commit_with_keys(vec![new.record()], &ChangingKeys { before }, new.keyring.clone()).await {
            Ok(_) => {}
            Err(VaultError::KeysChanged) => {
                self.delete_all(keys::names(generation).to_vec()).await?;
                return Ok(false);
            }
            Err(e) => return Err(e),
        }
        self.keep_keys(KeyState::Open(new.keyring));
        self.lock_change_of_keys().await;
        self.try_to_delete_older_keys(generation).await;
        Ok(true)
    }

    async fn has_newer_keys(&self, than: u64) -> Result<bool> {
        Ok(self.log().await?.keys().keys().next_back().is_some_and(|newest| *newest > than))
    }

    /// Deletes key files that the newest one replaces. Those who may not delete leave it to the next change.
    pub(crate) async fn try_to_delete_older_keys(&self, newest: u64) {
        if let Err(e) = keys::delete_older(self.target(), newest).await {
            tracing::warn!(vault = %self.url(), error = %e, "older key files were not deleted: who could open them still can");
        }
    }
}

/// Refuses when the keys are no longer those that the change was made from.
struct ChangingKeys {
    before: u64,
}

#[async_trait]
impl Revalidate for ChangingKeys {
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>> {
        match log.keys().keys().next_back().copied().unwrap_or(FIRST_GENERATION) == self.before {
            true => Ok(records),
            false => Err(VaultError::KeysChanged),
        }
    }
}
