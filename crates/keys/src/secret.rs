//! Values that are wiped from memory when they are dropped, and never shown.

use crate::random::Random;
use crate::{Result, hex};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A key of 256 bits.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A random key.
    ///
    /// # Errors
    /// [`KeyError::Random`](crate::KeyError::Random).
    pub fn random(random: &dyn Random) -> Result<Self> {
        let mut key = Self([0; 32]);
        crate::random::fill(random, &mut key.0)?;
        Ok(key)
    }

    /// The key of these bytes; none unless there are 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes, for a cipher or a hash.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Another key that follows from this one, and tells nothing about it.
    pub fn derive(&self, purpose: &str) -> Self {
        Self(*blake3::keyed_hash(&self.0, purpose.as_bytes()).as_bytes())
    }

    /// The keyed BLAKE3 of a message as 64 hex digits: who has not the key cannot make it.
    pub fn mac(&self, message: &[u8]) -> String {
        hex::encode(blake3::keyed_hash(&self.0, message).as_bytes())
    }

    /// Whether a code is that of the message, in constant time.
    pub fn is_mac(&self, message: &[u8], code: &str) -> bool {
        let expected = blake3::keyed_hash(&self.0, message);
        // Comparing BLAKE3's own hash type takes the same time whatever differs.
        blake3::Hash::from_hex(code).is_ok_and(|found| found == expected)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// What a person types to open a vault.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

impl ZeroizeOnDrop for Passphrase {}

impl Passphrase {
    /// A passphrase of this text; a newline at its end does not count.
    pub fn new(text: String) -> Self {
        let text = Zeroizing::new(text);
        Self(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Its text, for a child process that needs it as well.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Keyring, TableKey};

    /// Compiles for values that are wiped when they are dropped.
    const fn is_wiped<T: ZeroizeOnDrop>() {}

    #[test]
    fn secrets_are_wiped_when_they_are_dropped() {
        is_wiped::<SecretKey>();
        is_wiped::<Passphrase>();
        is_wiped::<Zeroizing<String>>();
        assert!(std::mem::needs_drop::<Keyring>() && std::mem::needs_drop::<TableKey>());
    }
}
