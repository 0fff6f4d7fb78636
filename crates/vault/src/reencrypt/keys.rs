//! The keys of a vault that is made by re-encryption.
//!
//! They are written before the first file that needs them, and named by the first record. A call that was cut off between takes up
//! only what a passphrase among its recipients opens: what is wrapped for a public key anybody can make.

use super::Reencryption;
use crate::Result;
use crate::error::VaultError;
use crate::keyring::KeyState;
use crate::keys::{self, FIRST_GENERATION, Keys};
use crate::layout;
use crate::log::Log;
use keepfast_keys::{Credentials, KeyError, Keyring, NewRecipient};
use keepfast_model::{ColumnId, Encryption, Record, TableId};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Reencryption<'_> {
    /// Gives the other vault keys for the tables that it is to have and has not.
    pub(super) async fn prepare_keys(&mut self, log: &Log, standing: &Log) -> Result<()> {
        let wanted = self.wanted(log, standing);
        let random = self.vault.environment().random.clone();
        let mut keyring = match self.vault.open_keys()? {
            Some(open) => {
                if wanted.iter().all(|(table, e)| has(&open, table, e)) {
                    return Ok(());
                }
                Keyring::clone(&open)
            }
            None if wanted.is_empty() && self.options.recipients.is_empty() => return Ok(()),
            None => {
                if let Some(begun) = self.begun(&wanted).await? {
                    return self.keep_pending(begun);
                }
                let generation = self.vault.next_generation(standing).await?;
                let none = || KeyError::NoCredential { what: self.vault.url().to_owned() };
                let ((name, first), others) = self.options.recipients.split_first().ok_or_else(none)?;
                let (owner, secret) = (&self.vault.id().0, self.vault.identity_key().to_hex());
                let mut keyring = Keyring::create(owner, generation, &secret, name, first, random.as_ref())?;
                for (name, recipient) in others {
                    keyring = keyring.with_recipient(generation, name, recipient, random.as_ref())?;
                }
                keyring
            }
        };
        let generation = self.vault.next_generation(standing).await?;
        for (table, encryption) in &wanted {
            if !has(&keyring, table, encryption) {
                keyring = keyring.with_table(generation, table, encryption, random.as_ref())?;
            }
        }
        let bytes = keys::encode(&keyring.to_file(random.as_ref())?)?;
        for name in keys::names(keyring.generation()) {
            self.vault.target().put_content(&name, bytes.clone()).await?;
        }
        self.vault.target().sync().await?;
        self.keep_pending(keyring)
    }

    fn keep_pending(&mut self, keyring: Keyring) -> Result<()> {
        let keyring = Arc::new(keyring);
        self.vault.keep_keys(KeyState::Open(keyring.clone()));
        self.pending = Some(keyring);
        Ok(())
    }

    /// How the tables that are still to come are encrypted: as they are in the other vault already, else as was asked.
    fn wanted(&self, log: &Log, standing: &Log) -> BTreeMap<TableId, Encryption> {
        let fixed: BTreeMap<&TableId, &Encryption> =
            standing.all_points().flat_map(|p| &p.tables).map(|t| (&t.id, &t.encryption)).collect();
        let head = standing.head().map(|(seq, _)| seq);
        let mut wanted: BTreeMap<TableId, Encryption> = BTreeMap::new();
        for table in log.all_points().filter(|p| Some(p.seq()) > head).flat_map(|p| &p.tables) {
            if table.sealed.is_some() {
                continue;
            }
            let encryption = match fixed.get(&table.id) {
                Some(fixed) => (*fixed).clone(),
                None => self.options.encryption.of(&table.encryption),
            };
            if encryption != Encryption::None {
                wanted.insert(table.id.clone(), encryption);
            }
        }
        wanted
    }

    /// Keys that an earlier call wrote, and no record names.
    async fn begun(&self, wanted: &BTreeMap<TableId, Encryption>) -> Result<Option<Keyring>> {
        let target = self.vault.target();
        let mut phrases = Credentials::none();
        for (_, recipient) in &self.options.recipients {
            if let NewRecipient::Passphrase(passphrase, _) = recipient {
                phrases = phrases.with_passphrase(passphrase.clone());
            }
        }
        let listed = target.list(layout::KEYS).await?;
        let newest = listed.iter().filter_map(|o| layout::generation(&o.path)).max();
        let Some(generation) = newest.filter(|g| *g > FIRST_GENERATION && !phrases.is_empty()) else {
            return Ok(None);
        };
        let [name, other] = keys::names(generation);
        let (Ok(bytes), Ok(copy)) = (target.get(&name).await, target.get(&other).await) else {
            return Ok(None);
        };
        let Ok(found) = Keys::decode(&name, generation, &bytes) else { return Ok(None) };
        let Ok(keyring) = Keyring::open(&found.file, &self.vault.id().0, &phrases) else { return Ok(None) };
        let fits = copy == bytes
            && keyring.is_for(&found.file, &self.options.recipients)?
            && found.file.dedup_secret == self.vault.identity_key().to_hex()
            && wanted.iter().all(|(table, encryption)| has(&keyring, table, encryption));
        Ok(fits.then_some(keyring))
    }

    /// The record that names keys, as both copies of their file stand.
    pub(super) async fn pending_record(&self, keyring: &Keyring) -> Result<Record> {
        let generation = keyring.generation();
        let mut both = vec![];
        for name in keys::names(generation) {
            let path = self.vault.target().full(&name);
            let bytes = self.vault.target().get(&name).await.map_err(|e| self.vault.missing(e.into()))?;
            both.push(Keys::decode(&path, generation, &bytes)?);
            if both[0].bytes != bytes || !keyring.has_made(&both[0].file) {
                return Err(VaultError::NotAsWritten { path });
            }
        }
        Ok(Record::Keys { generation, stored: both[0].named })
    }
}

/// Whether a keyring has what a table's files are encrypted with.
fn has(keyring: &Keyring, table: &TableId, encryption: &Encryption) -> bool {
    let columns: &[ColumnId] = match encryption {
        Encryption::Columns { columns } => columns,
        Encryption::None | Encryption::Full => &[],
    };
    keyring.table(table).is_some_and(|key| columns.iter().all(|id| key.column(*id).is_some()))
}
