//! Who can open a vault: holders of a passphrase, or of the secret half of an age key pair.
//!
//! Each recipient has the vault key wrapped for itself. A passphrase goes through Argon2id; its wrap is symmetric, so that nobody
//! without the passphrase can put another vault key in its place.

use crate::credentials::Credentials;
use crate::random::{self, Random};
use crate::secret::{Passphrase, SecretKey};
use crate::{KeyError, Result, hex, sealed};
use age::secrecy::ExposeSecret;
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use zeroize::Zeroizing;

/// What hashing a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    /// RFC 9106's second recommendation.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 4 }
    }
}

impl Cost {
    /// As little as there can be: for tests, whose passphrases are no secret.
    pub const TRIVIAL: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    fn check(self) -> Result<()> {
        const MEMORY_MAX_KIB: u32 = 1 << 20;
        if self.memory_kib > MEMORY_MAX_KIB || self.passes > 64 || self.lanes > 64 {
            let what = format!("{} KiB, {} passes and {} lanes", self.memory_kib, self.passes, self.lanes);
            return Err(KeyError::Cost { what });
        }
        Ok(())
    }
}

/// One who can open a vault, as the key file states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Recipient {
    /// Who knows a passphrase.
    Passphrase {
        /// Its name.
        name: String,
        /// Costs of Argon2id.
        argon2id: Cost,
        /// Salt of 16 bytes, hex.
        salt: String,
        /// The vault key, sealed; hex.
        wrapped: String,
    },
    /// Who has the secret half of a key pair.
    PublicKey {
        /// Its name.
        name: String,
        /// The public half, `age1…`.
        public_key: String,
        /// The vault key in an age file; hex.
        wrapped: String,
    },
}

/// A recipient to be added.
#[derive(Clone, Debug)]
pub enum NewRecipient {
    /// A passphrase, and what hashing it costs.
    Passphrase(Passphrase, Cost),
    /// The public half of an age key pair.
    PublicKey(String),
}

impl NewRecipient {
    /// A new key pair: the recipient, and the secret half as a line of an identity file, which is shown once and kept nowhere.
    pub fn recovery() -> (Self, Zeroizing<String>) {
        let identity = age::x25519::Identity::generate();
        let secret = Zeroizing::new(identity.to_string().expose_secret().to_owned());
        (Self::PublicKey(identity.to_public().to_string()), secret)
    }

    /// The recipient with the vault key wrapped for it.
    pub(crate) fn wrap(
        &self,
        name: &str,
        vault_key: &SecretKey,
        context: &[u8],
        random: &dyn Random,
    ) -> Result<Recipient> {
        match self {
            Self::Passphrase(passphrase, cost) => {
                if passphrase.is_empty() {
                    return Err(KeyError::EmptyPassphrase);
                }
                let salt: [u8; 16] = random::bytes(random)?;
                let wrapped =
                    sealed::seal(&stretch(passphrase, &salt, *cost)?, context, vault_key.bytes(), random)?;
                Ok(Recipient::Passphrase {
                    name: name.to_owned(),
                    argon2id: *cost,
                    salt: hex::encode(&salt),
                    wrapped: hex::encode(&wrapped),
                })
            }
            Self::PublicKey(text) => {
                let text = text.trim();
                // Only what looks like a public key is one; a typing mistake may be a secret.
                let what =
                    if text.starts_with("age1") { format!("'{text}'") } else { "a public key".to_owned() };
                let refuse = |reason: String| KeyError::NotAgeKey { what: what.clone(), reason };
                let key = age::x25519::Recipient::from_str(text).map_err(|e| refuse(e.to_owned()))?;
                let message = public_message(vault_key, context);
                let wrapped = age::encrypt(&key, &message).map_err(|e| refuse(e.to_string()))?;
                Ok(Recipient::PublicKey {
                    name: name.to_owned(),
                    public_key: key.to_string(),
                    wrapped: hex::encode(&wrapped),
                })
            }
        }
    }
}

impl Recipient {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Passphrase { name, .. } | Self::PublicKey { name, .. } => name,
        }
    }

    /// What it is, for people: `passphrase`, or the public key.
    pub fn describe(&self) -> &str {
        match self {
            Self::Passphrase { .. } => "passphrase",
            Self::PublicKey { public_key, .. } => public_key,
        }
    }

    /// The vault key; none where no credential is this recipient's.
    ///
    /// # Errors
    /// [`KeyError::Cost`], and [`KeyError::Forged`] for text that no program wrote.
    pub(crate) fn unwrap(&self, credentials: &Credentials, context: &[u8]) -> Result<Option<SecretKey>> {
        let forged = || KeyError::Forged { reason: format!("recipient '{}' cannot be read", self.name()) };
        match self {
            Self::Passphrase { .. } => {
                for passphrase in &credentials.passphrases {
                    if let Some(key) = self.unwrap_with(passphrase, context)? {
                        return Ok(Some(key));
                    }
                }
                Ok(None)
            }
            Self::PublicKey { wrapped, public_key, .. } => {
                let wrapped = hex::decode(wrapped).ok_or_else(forged)?;
                for identity in &credentials.identities {
                    if identity.to_public().to_string() != *public_key {
                        continue;
                    }
                    let message = Zeroizing::new(age::decrypt(identity, &wrapped).map_err(|_| forged())?);
                    let key = message.get(..32).and_then(SecretKey::from_slice).ok_or_else(forged)?;
                    if *message != *public_message(&key, context) {
                        return Err(forged());
                    }
                    return Ok(Some(key));
                }
                Ok(None)
            }
        }
    }

    /// The vault key, where the passphrase is this recipient's.
    fn unwrap_with(&self, passphrase: &Passphrase, context: &[u8]) -> Result<Option<SecretKey>> {
        let Self::Passphrase { argon2id, salt, wrapped, .. } = self else { return Ok(None) };
        let forged = || KeyError::Forged { reason: format!("recipient '{}' cannot be read", self.name()) };
        let (salt, wrapped) =
            (hex::decode(salt).ok_or_else(forged)?, hex::decode(wrapped).ok_or_else(forged)?);
        argon2id.check()?;
        match sealed::open(&stretch(passphrase, &salt, *argon2id)?, context, &wrapped) {
            Ok(key) => SecretKey::from_slice(&key).map(Some).ok_or_else(forged),
            Err(_) => Ok(None),
        }
    }

    /// The same recipient, to be given another vault key; none for a passphrase that is not among the credentials.
    pub(crate) fn anew(&self, credentials: &Credentials, context: &[u8]) -> Result<Option<NewRecipient>> {
        match self {
            Self::PublicKey { public_key, .. } => Ok(Some(NewRecipient::PublicKey(public_key.clone()))),
            Self::Passphrase { argon2id, .. } => {
                for passphrase in &credentials.passphrases {
                    if self.unwrap_with(passphrase, context)?.is_some() {
                        return Ok(Some(NewRecipient::Passphrase(passphrase.clone(), *argon2id)));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// What an age file of a public key holds: the vault key and where it belongs.
fn public_message(vault_key: &SecretKey, context: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([vault_key.bytes().as_slice(), blake3::hash(context).as_bytes()].concat())
}

fn stretch(passphrase: &Passphrase, salt: &[u8], cost: Cost) -> Result<SecretKey> {
    let refuse = |e: argon2::Error| KeyError::Cost { what: format!("what cannot be had ({e})") };
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(refuse)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.bytes(), salt, key.as_mut())
        .map_err(refuse)?;
    Ok(SecretKey::new(*key))
}
