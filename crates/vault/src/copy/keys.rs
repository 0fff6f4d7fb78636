//! The key files of a copy: who can open it.
//!
//! A copy has the records of its vault, which name what every copy has of a key file; so its own file may be for other recipients of the
//! same vault key. What stands at the copy is believed only where its code is of the vault key at hand. After a rotation it is of
//! another, so recipients must be named again: whoever writes to the copy could otherwise put a public key there and wait.

use super::CopyOptions;
use crate::error::VaultError;
use crate::keys::{self, FIRST_GENERATION, Keys};
use crate::log::Log;
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use keepfast_keys::Keyring;
use keepfast_objects::Target;
use std::collections::BTreeMap;

/// The key files that a copy is to have.
pub(super) struct CopiedKeys {
    /// The newest generation.
    pub generation: u64,
    pub files: Vec<(String, Bytes)>,
}

impl Vault {
    pub(super) async fn keys_of_copy(
        &self,
        target: &Target,
        log: &Log,
        standing: &BTreeMap<String, u64>,
        options: &CopyOptions,
    ) -> Result<CopiedKeys> {
        if options.recipients.as_ref().is_some_and(Vec::is_empty) {
            return Err(VaultError::NoRecipients);
        }
        let first = layout::key_file(FIRST_GENERATION);
        let mut files = vec![(first.clone(), self.target().get(&first).await?)];
        let newest = log.keys().last_key_value().filter(|(g, _)| **g > FIRST_GENERATION);
        let Some((generation, named)) = newest.map(|(g, named)| (*g, *named)) else {
            return match options.recipients {
                Some(_) => Err(VaultError::NoKeys { url: self.url().to_owned() }),
                None => Ok(CopiedKeys { generation: FIRST_GENERATION, files }),
            };
        };
        let keyring = self.open_keys()?.ok_or_else(|| VaultError::NoKeys { url: self.url().to_owned() })?;
        let made = Keys::read_made(self.target(), generation, named, &keyring).await;
        let here = made.into_iter().next().ok_or_else(|| {
            VaultError::damaged(
                self.target().full(&keys::names(generation)[0]),
                "neither copy of it is whole",
            )
        })?;
        let in_force = in_force(log, standing);
        let bytes = match in_force == Some(generation) {
            true => self.kept(target, &keyring, &here, options).await?,
            false => self.brought(target, log, in_force, &keyring, &here, options).await?,
        };
        files.extend(keys::names(generation).map(|name| (name, bytes.clone())));
        Ok(CopiedKeys { generation, files })
    }

    /// The key file of a copy that has this generation already: the one that stands there.
    async fn kept(
        &self,
        target: &Target,
        keyring: &Keyring,
        here: &Keys,
        options: &CopyOptions,
    ) -> Result<Bytes> {
        let path = target.full(&keys::names(here.file.generation)[0]);
        match (
            Keys::read_made(target, here.file.generation, here.named, keyring).await.as_slice(),
            &options.recipients,
        ) {
            ([first, other], _) if first.bytes != other.bytes => Err(VaultError::damaged(
                path,
                "it and its other copy are both whole, and are for other recipients",
            )),
            ([found, ..], Some(named)) if !keyring.is_for(&found.file, named)? => {
                let names = found.recipients();
                Err(VaultError::OtherRecipients { url: target.url().to_owned(), names })
            }
            ([found, ..], _) => Ok(found.bytes.clone()),
            ([], Some(_)) => self.anew(keyring, here, options),
            ([], None) => Err(VaultError::damaged(path, "neither copy of it is whole")),
        }
    }

    /// The key file of a copy that has an earlier generation, or none.
    async fn brought(
        &self,
        target: &Target,
        log: &Log,
        in_force: Option<u64>,
        keyring: &Keyring,
        here: &Keys,
        options: &CopyOptions,
    ) -> Result<Bytes> {
        // What an earlier call that was cut off wrote is taken up.
        let begun = Keys::read_made(target, here.file.generation, here.named, keyring).await;
        if let Some(recipients) = &options.recipients {
            for found in begun {
                if found.file.copy && keyring.is_for(&found.file, recipients)? {
                    return Ok(found.bytes);
                }
            }
            return self.anew(keyring, here, options);
        }
        let Some((earlier, named)) = in_force.and_then(|g| Some((g, *log.keys().get(&g)?))) else {
            return Ok(here.bytes.clone());
        };
        let stands: Vec<Keys> = Keys::read_both(target, earlier, named).await.into_iter().flatten().collect();
        let made = stands.iter().find(|keys| keyring.has_made(&keys.file));
        match made.or(stands.first()) {
            None => {
                Err(VaultError::damaged(target.full(&keys::names(earlier)[0]), "neither copy of it is whole"))
            }
            Some(keys) if !keys.file.copy => Ok(here.bytes.clone()),
            Some(keys) => match keyring.carried_file(&here.file, &keys.file) {
                Some(file) => keys::encode(&file),
                None => Err(VaultError::RecipientsNeeded {
                    url: target.url().to_owned(),
                    vault: self.url().to_owned(),
                    names: keys.recipients(),
                }),
            },
        }
    }

    fn anew(&self, keyring: &Keyring, here: &Keys, options: &CopyOptions) -> Result<Bytes> {
        let recipients = options.recipients.as_deref().unwrap_or_default();
        let file = keyring.copied_file(&here.file, recipients, self.environment().random.as_ref())?;
        keys::encode(&file)
    }
}

/// The generation that a copy's records name last; none where it is no vault yet, or has none that somebody must open.
fn in_force(log: &Log, standing: &BTreeMap<String, u64>) -> Option<u64> {
    standing.contains_key(layout::MARKER).then_some(())?;
    let lines = log.lines().filter(|line| standing.contains_key(&layout::log_record(line.seq)));
    lines.filter_map(|line| line.keys).max().filter(|g| *g > FIRST_GENERATION)
}
