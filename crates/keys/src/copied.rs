//! Key files of copies: the same keys for other recipients.
//!
//! The wrapped keys of a copy's file are byte for byte those of the vault that was copied; only who can open it differs. Recipients are
//! taken from a copy's file only where its code is of the vault key at hand: otherwise somebody who can write to the copy could put
//! their own among them, and be given the next vault key.

use crate::file::KeyFile;
use crate::keyring::Keyring;
use crate::random::Random;
use crate::recipient::{NewRecipient, Recipient};
use crate::{Credentials, KeyError, Result};

impl Keyring {
    /// A file of this keyring for the recipients of a copy alone.
    ///
    /// # Errors
    /// [`KeyError::RecipientExists`] for a name that stands twice; what a recipient is refused for.
    pub fn copied_file(
        &self,
        file: &KeyFile,
        recipients: &[(String, NewRecipient)],
        random: &dyn Random,
    ) -> Result<KeyFile> {
        let (vault_key, context) = self.vault_key();
        let mut wrapped: Vec<Recipient> = vec![];
        for (name, recipient) in recipients {
            if wrapped.iter().any(|r| r.name() == name) {
                return Err(KeyError::RecipientExists { name: name.clone() });
            }
            wrapped.push(recipient.wrap(name, vault_key, &context, random)?);
        }
        Ok(self.for_recipients(file, wrapped))
    }

    /// A file of this keyring for the recipients of an earlier file of the same copy; none where that was not made with the
    /// same vault key.
    pub fn carried_file(&self, file: &KeyFile, earlier: &KeyFile) -> Option<KeyFile> {
        self.has_made(earlier).then(|| self.for_recipients(file, earlier.recipients.clone()))
    }

    /// Whether a file that this keyring made is for exactly these recipients.
    ///
    /// # Errors
    /// [`KeyError::Cost`] and [`KeyError::Forged`] for text that no program wrote.
    pub fn is_for(&self, file: &KeyFile, recipients: &[(String, NewRecipient)]) -> Result<bool> {
        let (_, context) = self.vault_key();
        if !self.has_made(file) || file.recipients.len() != recipients.len() {
            return Ok(false);
        }
        for (name, wanted) in recipients {
            let Some(found) = file.recipients.iter().find(|r| r.name() == name) else { return Ok(false) };
            let same = match (found, wanted) {
                (Recipient::PublicKey { public_key, .. }, NewRecipient::PublicKey(text)) => {
                    *public_key == *text.trim()
                }
                (Recipient::Passphrase { .. }, NewRecipient::Passphrase(passphrase, _)) => {
                    let credentials = Credentials::none().with_passphrase(passphrase.clone());
                    found.unwrap(&credentials, &context)?.is_some()
                }
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn for_recipients(&self, file: &KeyFile, recipients: Vec<Recipient>) -> KeyFile {
        let mut copied = KeyFile { recipients, copy: true, ..file.clone() };
        self.sign(&mut copied);
        copied
    }
}
