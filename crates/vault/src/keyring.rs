//! The keys of a vault, as far as they are open, and what they protect.

use crate::error::VaultError;
use crate::keys::{self, FIRST_GENERATION, Keys};
use crate::vault::Vault;
use crate::{Result, layout};
use keepfast_format::{FileKeys, IdentityKey, Protection, SegmentEntry};
use keepfast_keys::{KeyError, Keyring, Recipient, TableKey};
use keepfast_model::{ColumnId, Encryption, Hash256, TableId, TablePoint};
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
    pub(crate) fn named(&self, e: KeyError) -> VaultError {
        keys::at(self.target().full(layout::KEYS), e.of(self.url()))
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

    /// The keys of a table that is encrypted.
    pub(crate) fn needed_table_key(&self, table: &TableId) -> Result<(Arc<TableKey>, Arc<Keyring>)> {
        let locked = || KeyError::Locked { what: self.url().to_owned() };
        let keyring = self.open_keys()?.ok_or_else(locked)?;
        let key = keyring.table(table).cloned();
        let key = key.ok_or_else(|| KeyError::Shredded { what: format!("table {table}") })?;
        Ok((key, keyring))
    }

    /// The keys with which files of a table are written that is to be encrypted in this way; none without encryption.
    ///
    /// Whoever writes says how. What stands in the keyring does not: it may be of an earlier backup of the same name, and a rival
    /// may have dropped it.
    pub(crate) fn writing_keys(
        &self,
        table: &TableId,
        encryption: &Encryption,
    ) -> Result<Option<(Arc<TableKey>, Arc<Keyring>)>> {
        let keyring = self.open_keys()?;
        if *encryption == Encryption::None {
            return Ok(None);
        }
        let key = keyring.as_ref().and_then(|keyring| keyring.table(table)).cloned();
        match (key, keyring) {
            (Some(key), Some(keyring)) if key.serves(encryption) => Ok(Some((key, keyring))),
            _ => Err(VaultError::TableKeysChanged { table: table.to_string() }),
        }
    }

    /// How files of a table are protected that is to be encrypted in this way, with the keys of now.
    ///
    /// # Errors
    /// [`VaultError::TableKeysChanged`] where the table has no keys for it, [`KeyError::Locked`]; otherwise as [`Self::log`].
    pub async fn protection(&self, table: &TableId, encryption: &Encryption) -> Result<Protection> {
        self.log().await?;
        Ok(match self.writing_keys(table, encryption)? {
            Some((key, keyring)) => {
                let identity = IdentityKey::new(*keyring.dedup().bytes());
                Protection::encrypted(table.clone(), identity, key, self.environment().random.clone())
            }
            None => Protection::plain(table.clone(), self.identity_key()),
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
}
