//! Opening and changing the keys of a vault.
//!
//! A change is a new key file and one record that names it, so it takes the same time whatever the vault holds. The record is
//! authenticated by the key before it. Rivals meet at the record: the loser starts from the winner's keys.

use crate::commit::Revalidate;
use crate::error::VaultError;
use crate::keys::{self, FIRST_GENERATION, Keys};
use crate::log::Log;
use crate::vault::Vault;
use crate::{Result, layout};
use async_trait::async_trait;
use futures::stream::TryStreamExt;
use keepfast_format::{FileKeys, IdentityKey, Protection, SegmentEntry};
use keepfast_keys::{KeyError, Keyring, NewRecipient, Recipient, TableKey};
use keepfast_model::{ColumnId, Encryption, Hash256, Record, TableId, TablePoint};
use keepfast_objects::Put;
use std::sync::Arc;

/// How far the keys of a vault are open.
#[derive(Clone, Debug, Default)]
pub(crate) enum KeyState {
    /// The log names no key file with recipients, as far as it was read.
    #[default]
    None,
    /// It does, and nobody gave a passphrase or an identity.
    Locked(u64),
    /// Open.
    Open(Arc<Keyring>),
}

impl KeyState {
    fn generation(&self) -> u64 {
        match self {
            Self::None => FIRST_GENERATION,
            Self::Locked(generation) => *generation,
            Self::Open(keyring) => keyring.generation(),
        }
    }
}

/// Whether a vault is encrypted, and whether it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// It has no keys: everything in it is plain.
    Plain,
    /// It has keys, and nobody gave a passphrase or an identity that opens them.
    Locked,
    /// It has keys, and they are open.
    Open,
}

/// What becomes of keys as the next generation; none where nothing is to be done.
type KeyChange<'a> = dyn Fn(&Keyring, u64) -> Result<Option<Keyring>, KeyError> + Send + Sync + 'a;

impl Vault {
    /// Opens the key file that the log names, unless it is open already.
    pub(crate) async fn follow_keys(&self, log_keys: Option<(u64, Hash256)>) -> Result<KeyState> {
        let state = self.key_state();
        let Some((generation, stored)) = log_keys.filter(|(g, _)| *g > FIRST_GENERATION) else {
            return Ok(state);
        };
        if state.generation() >= generation {
            return Ok(state);
        }
        let state = if self.environment().credentials.is_empty() {
            KeyState::Locked(generation)
        } else {
            let credentials = &self.environment().credentials;
            let opened = Keys::open_named(self.target(), generation, stored, self.id(), credentials).await;
            KeyState::Open(Arc::new(opened.map_err(|e| match e {
                VaultError::Keys(e) => self.named(e),
                e => e,
            })?))
        };
        self.keep_keys(state.clone());
        Ok(state)
    }

    /// Says which vault a key does not open.
    fn named(&self, e: KeyError) -> VaultError {
        match e {
            KeyError::Forged { reason } => VaultError::damaged(
                self.target().full(layout::KEYS),
                format!("a key file was changed: {reason}"),
            ),
            e => e.of(self.url()).into(),
        }
    }

    /// Whether the vault is encrypted, and whether it is open.
    ///
    /// # Errors
    /// As [`Self::log`].
    pub async fn secrecy(&self) -> Result<Secrecy> {
        self.log().await?;
        Ok(match self.key_state() {
            KeyState::None => Secrecy::Plain,
            KeyState::Locked(_) => Secrecy::Locked,
            KeyState::Open(_) => Secrecy::Open,
        })
    }

    /// The open keyring; none in a vault without keys.
    ///
    /// # Errors
    /// [`KeyError::Locked`]; otherwise as [`Self::log`].
    pub async fn keyring(&self) -> Result<Option<Arc<Keyring>>> {
        self.log().await?;
        self.open_keys()
    }

    /// As [`Self::keyring`], of what was read of the log already.
    pub(crate) fn open_keys(&self) -> Result<Option<Arc<Keyring>>> {
        match self.key_state() {
            KeyState::None => Ok(None),
            KeyState::Locked(_) => Err(KeyError::Locked { what: self.url().to_owned() }.into()),
            KeyState::Open(keyring) => Ok(Some(keyring)),
        }
    }

    /// The keys of a table; none for one without encryption.
    pub(crate) fn table_key(&self, table: &TableId) -> Option<Arc<TableKey>> {
        match self.key_state() {
            KeyState::Open(keyring) => keyring.table(table).cloned(),
            _ => None,
        }
    }

    /// The keys of a table that is encrypted.
    pub(crate) fn needed_table_key(&self, table: &TableId) -> Result<(Arc<TableKey>, Arc<Keyring>)> {
        let locked = || KeyError::Locked { what: self.url().to_owned() };
        let keyring = self.open_keys()?.ok_or_else(locked)?;
        let key = keyring.table(table).cloned();
        let key = key.ok_or_else(|| KeyError::Shredded { what: format!("table {table}") })?;
        Ok((key, keyring))
    }

    /// How files of a table are protected from now on: with its keys where it has some.
    ///
    /// # Errors
    /// [`KeyError::Locked`]; otherwise as [`Self::log`].
    pub async fn protection(&self, table: &TableId) -> Result<Protection> {
        Ok(match self.keyring().await? {
            Some(keyring) if keyring.table(table).is_some() => {
                let key = keyring.table(table).cloned().expect("it was there just now");
                let identity = IdentityKey::new(*keyring.dedup().bytes());
                Protection::encrypted(table.clone(), identity, key, self.environment().random.clone())
            }
            _ => Protection::plain(table.clone(), self.identity_key()),
        })
    }

    /// What opens a stored segment; none for one without encryption.
    pub(crate) async fn file_keys(&self, table: &TableId, entry: &SegmentEntry) -> Result<Option<FileKeys>> {
        let Some(wrapped) = &entry.key else { return Ok(None) };
        if matches!(self.key_state(), KeyState::None) {
            // Who reads only what others list, as a worker does, has not met the keys yet.
            self.log().await?;
        }
        let (key, _) = self.needed_table_key(table)?;
        let keys = FileKeys::open(&key, table, entry.id, wrapped)?;
        Ok(Some(if self.passes_over_shredded() { keys.passing_over_shredded() } else { keys }))
    }

    /// Columns of a point's table whose keys were dropped since it was written.
    ///
    /// # Errors
    /// As [`Self::check_open`].
    pub fn shredded_columns(&self, table: &TablePoint) -> Result<Vec<ColumnId>> {
        self.check_open(table)?;
        let Encryption::Columns { columns } = &table.encryption else { return Ok(vec![]) };
        let known = self.needed_table_key(&table.id)?.0.ids();
        let known: Vec<&str> = known.split(',').collect();
        let prefix = |id: &ColumnId| format!("{}:", id.0);
        let key_of = |id: &ColumnId| table.key_ids.split(',').find(|key| key.starts_with(&prefix(id)));
        Ok(columns.iter().filter(|id| key_of(id).is_none_or(|key| !known.contains(&key))).copied().collect())
    }

    /// Gives a table keys, where it has none: from now on its files are encrypted so.
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
        self.change_keys(&|keyring, generation| {
            let missing = match keyring.table(table) {
                None => true,
                // A column whose key was dropped gets another one.
                Some(key) => match encryption {
                    Encryption::Columns { columns } => columns.iter().any(|id| key.column(*id).is_none()),
                    _ => false,
                },
            };
            match missing {
                true => keyring.with_table(generation, table, encryption, random.as_ref()).map(Some),
                false => Ok(None),
            }
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
    /// [`KeyError::NoRecipient`], [`KeyError::LastRecipient`], [`KeyError::PassphraseNeeded`]; otherwise as [`Self::commit`].
    pub async fn remove_recipient(&self, name: &str) -> Result<()> {
        let environment = self.environment().clone();
        self.change_keys(&|keyring, generation| {
            keyring
                .without_recipient(generation, name, &environment.credentials, environment.random.as_ref())
                .map(Some)
        })
        .await
    }

    /// Drops the keys of a table, or of one of its secret columns: what they encrypted can never be read again, here.
    ///
    /// # Errors
    /// [`KeyError::Shredded`] where there is no such key; otherwise as [`Self::commit`].
    pub async fn shred(&self, table: &TableId, column: Option<ColumnId>) -> Result<()> {
        self.change_keys(&|keyring, generation| keyring.shredded(generation, table, column).map(Some))
            .await?;
        // What was opened with the dropped key is nothing to be read from memory either.
        self.forget_log();
        Ok(())
    }

    /// Those who can open the vault; none without keys. Needs no key.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] for a key file that cannot be read; otherwise as [`Self::log`].
    pub async fn recipients(&self) -> Result<(u64, Vec<Recipient>)> {
        let log = self.log().await?;
        match log.keys().last_key_value() {
            Some((generation, stored)) if *generation > FIRST_GENERATION => {
                if let KeyState::Open(keyring) = self.key_state() {
                    return Ok((*generation, keyring.recipients().to_vec()));
                }
                let [first, copy] = Keys::read_both(self.target(), *generation, *stored).await;
                let keys = first.or_else(|e| copy.map_err(|_| e))?;
                Ok((*generation, keys.file.recipients))
            }
            _ => Ok((FIRST_GENERATION, vec![])),
        }
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
            self.delete_older_keys(before).await;
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
        let generation = keyring.generation();
        let file = keyring.to_file(self.environment().random.as_ref())?;
        let bytes = keys::encode(&file)?;
        let stored = keys::named(&file, &bytes);
        let names = keys::names(generation);
        for name in &names {
            if self.target().put_new(name, bytes.clone()).await? == Put::Existed {
                return Ok(false);
            }
        }
        for name in &names {
            // A place may answer and store nothing.
            let found = match self.target().get(name).await {
                // A rival changed the keys meanwhile, and deletes what came before.
                Err(e) if e.is_not_found() && self.has_newer_keys(before).await? => return Ok(false),
                found => found.map_err(|e| self.missing(e.into()))?,
            };
            if found != bytes {
                let path = self.target().full(name);
                return Err(VaultError::damaged(path, "it is not what was just written"));
            }
        }
        let record = Record::Keys { generation, stored };
        let step = ChangingKeys { before, keyring: Arc::new(keyring) };
        match self.commit_with_keys(vec![record], &step, step.keyring.clone()).await {
            Ok(_) => {}
            Err(VaultError::KeysChanged) => {
                self.delete_all(names.to_vec()).await?;
                return Ok(false);
            }
            Err(e) => return Err(e),
        }
        self.keep_keys(KeyState::Open(step.keyring));
        self.lock_change_of_keys().await;
        self.delete_older_keys(generation).await;
        Ok(true)
    }

    async fn has_newer_keys(&self, than: u64) -> Result<bool> {
        Ok(self.log().await?.keys().keys().next_back().is_some_and(|newest| *newest > than))
    }

    /// Deletes key files that the newest one replaces. Those who may not delete leave it to the next change.
    async fn delete_older_keys(&self, newest: u64) {
        if let Err(e) = keys::delete_older(self.target(), newest).await {
            tracing::warn!(vault = %self.url(), error = %e, "older key files were not deleted: who could open them still can");
        }
    }
}

/// Refuses when the keys are no longer those that the change was made from.
struct ChangingKeys {
    before: u64,
    keyring: Arc<Keyring>,
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
