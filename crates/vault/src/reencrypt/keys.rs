//! The keys of a vault that is made by re-encryption.
//!
//! They are written before the first file that needs them, and named by the first record. A call that was cut off between takes up
//! only what a passphrase among its recipients opens: what is wrapped for a public key anybody can make. Where recipients are named,
//! keys that stand are believed only if they are for exactly those: what opens the vault that is read may have leaked, and whoever has
//! it could have put a vault of their own there.

use super::Reencryption;
use crate::Result;
use crate::error::VaultError;
use crate::keyring::KeyState;
use crate::keys::{self, FIRST_GENERATION, Keys, NewKeys};
use crate::layout;
use crate::log::Log;
use keepfast_format::Protection;
use keepfast_keys::{Credentials, KeyError, Keyring, NewRecipient};
use keepfast_model::{Encryption, TableId};
use std::collections::BTreeMap;

impl Reencryption<'_> {
    /// Gives the other vault keys for the tables that it is to have and has not.
    pub(super) async fn prepare_keys(&mut self, log: &Log, standing: &Log) -> Result<()> {
        self.encryption = self.wanted(log, standing);
        let recipients = &self.options.recipients;
        let mut keyring = match self.vault.open_keys()? {
            Some(open) => {
                self.refuse_others(&open, standing).await?;
                if self.is_served(&open) {
                    return Ok(());
                }
                Keyring::clone(&open)
            }
            None if self.encryption.is_empty() && recipients.is_empty() => return Ok(()),
            None if super::to_come(log, standing).next().is_none() => {
                // Keys come with a record, and there is none to come.
                return Err(VaultError::NothingToEncrypt { url: self.vault.url().to_owned() });
            }
            None => {
                if let Some(begun) = self.begun().await? {
                    self.keep_pending(begun);
                    return Ok(());
                }
                self.first_keys(self.vault.next_generation(standing).await?)?
            }
        };
        let generation = self.vault.next_generation(standing).await?;
        let random = self.vault.environment().random.clone();
        for (table, encryption) in &self.encryption {
            if !keyring.table(table).is_some_and(|key| key.serves(encryption)) {
                keyring = keyring.with_table(generation, table, encryption, random.as_ref())?;
            }
        }
        let new = NewKeys::of(keyring, random.as_ref())?;
        if !new.put(self.vault.target()).await? {
            return Err(VaultError::KeysChanged);
        }
        self.vault.target().sync().await?;
        self.keep_pending(new);
        Ok(())
    }

    fn keep_pending(&mut self, new: NewKeys) {
        self.vault.keep_keys(KeyState::Open(new.keyring.clone()));
        self.pending = Some(new);
    }

    fn first_keys(&self, generation: u64) -> Result<Keyring> {
        let random = self.vault.environment().random.as_ref();
        let none = || KeyError::NoCredential { what: self.vault.url().to_owned() };
        let ((name, first), others) = self.options.recipients.split_first().ok_or_else(none)?;
        let (owner, secret) = (&self.vault.id().0, self.vault.identity_key().to_hex());
        let mut keyring = Keyring::create(owner, generation, &secret, name, first, random)?;
        for (name, recipient) in others {
            keyring = keyring.with_recipient(generation, name, recipient, random)?;
        }
        Ok(keyring)
    }

    /// How a table is encrypted in the other vault.
    pub(super) fn way(&self, table: &TableId) -> Encryption {
        self.encryption.get(table).cloned().unwrap_or_default()
    }

    pub(super) async fn protection(&self, table: &TableId) -> Result<Protection> {
        self.vault.protection(table, &self.way(table)).await
    }

    /// Whether a keyring has what all tables to come are encrypted with.
    fn is_served(&self, keyring: &Keyring) -> bool {
        self.encryption.iter().all(|(id, way)| keyring.table(id).is_some_and(|key| key.serves(way)))
    }

    /// Refuses keys that are in force and for others than those that were named.
    async fn refuse_others(&self, open: &Keyring, standing: &Log) -> Result<()> {
        let recipients = &self.options.recipients;
        let Some((generation, named)) = standing.keys().last_key_value().filter(|_| !recipients.is_empty())
        else {
            return Ok(());
        };
        let target = self.vault.target();
        let made = Keys::read_made(target, *generation, *named, open).await;
        if made.is_empty() {
            let path = target.full(&keys::names(*generation)[0]);
            return Err(VaultError::damaged(path, "neither copy of it is whole"));
        }
        for found in made {
            if !open.is_for(&found.file, recipients)? {
                let (url, names) = (target.url().to_owned(), found.recipients());
                return Err(VaultError::OtherRecipients { url, names });
            }
        }
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
    async fn begun(&self) -> Result<Option<NewKeys>> {
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
            && self.is_served(&keyring);
        Ok(fits.then(|| NewKeys::standing(keyring, found)))
    }
}
