//! What a person brings to open a vault.

use crate::secret::Passphrase;
use crate::{KeyError, Result};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Passphrases and identities, in the order in which they are tried. Cheap to make, never shown.
#[derive(Clone, Default)]
pub struct Credentials {
    pub(crate) passphrases: Vec<Passphrase>,
    pub(crate) identities: Vec<age::x25519::Identity>,
}

impl Credentials {
    /// None at all: encrypted things stay closed.
    pub fn none() -> Self {
        Self::default()
    }

    /// One passphrase.
    pub fn passphrase(text: &str) -> Self {
        Self::none().with_passphrase(Passphrase::new(text.to_owned()))
    }

    /// Adds a passphrase.
    #[must_use]
    pub fn with_passphrase(mut self, passphrase: Passphrase) -> Self {
        self.passphrases.push(passphrase);
        self
    }

    /// Adds the identities of an age identity file: lines that begin with `AGE-SECRET-KEY-1`; empty lines and those that
    /// begin with `#` do not count.
    ///
    /// # Errors
    /// [`KeyError::NotAgeKey`] with the line's number, never its text.
    pub fn with_identities(mut self, text: &str) -> Result<Self> {
        let text = Zeroizing::new(text.to_owned());
        let before = self.identities.len();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = age::x25519::Identity::from_str(line).map_err(|reason| KeyError::NotAgeKey {
                what: format!("line {number} of the identity file"),
                reason: reason.to_owned(),
            })?;
            self.identities.push(identity);
        }
        if self.identities.len() == before {
            return Err(KeyError::NotAgeKey {
                what: "the identity file".into(),
                reason: "it holds no identity".into(),
            });
        }
        Ok(self)
    }

    /// These, and then others.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        self.passphrases.extend(others.passphrases.iter().cloned());
        self.identities.extend(others.identities.iter().cloned());
        self
    }

    /// Whether there is nothing to try.
    pub fn is_empty(&self) -> bool {
        self.passphrases.is_empty() && self.identities.is_empty()
    }

    /// The first passphrase given.
    pub fn first_passphrase(&self) -> Option<&Passphrase> {
        self.passphrases.first()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} passphrases, {} identities)", self.passphrases.len(), self.identities.len())
    }
}
