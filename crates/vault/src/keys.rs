//! The key file objects of a vault: `keys/<generation>.json`, and for encrypted vaults a second copy of each.
//!
//! The first generation is written with the vault and holds the dedup secret of tables without encryption. Later ones have
//! recipients. The one that the log names last counts; those before it are deleted, since whoever was removed may still open them.

use crate::environment::Environment;
use crate::error::VaultError;
use crate::{layout, seal};
use bytes::Bytes;
use keepfast_format::IdentityKey;
use keepfast_keys::{Credentials, KeyError, KeyFile, Keyring, Random, Recipient};
use keepfast_model::{Hash256, Record, VaultId};
use keepfast_objects::{Put, Target};
use std::sync::Arc;

/// The generation that a vault is made with.
pub(crate) const FIRST_GENERATION: u64 = 1;

/// A key file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub identity: IdentityKey,
    /// The hash by which a record names it.
    pub named: Hash256,
    pub file: KeyFile,
    pub bytes: Bytes,
}

/// The hash by which a record names a key file: of the first, of its bytes; of later ones, of what every copy of the vault has
/// of it. Who may open such a file is bound to it by its code, which only somebody who opened it can check.
pub(crate) fn named(file: &KeyFile, bytes: &[u8]) -> Hash256 {
    match file.generation {
        FIRST_GENERATION => Hash256::of(bytes),
        _ => Hash256::of(&file.shared()),
    }
}

/// Where a generation's file stands, and its other copy.
pub(crate) fn names(generation: u64) -> [String; 2] {
    [layout::key_file(generation), layout::key_file_copy(generation)]
}

impl Keys {
    pub(crate) fn decode(path: &str, generation: u64, bytes: &Bytes) -> Result<Self, VaultError> {
        seal::check(bytes).map_err(|reason| VaultError::damaged(path, reason))?;
        // The decoder's own words may quote the secret.
        let file: KeyFile = serde_json::from_slice(bytes)
            .map_err(|e| VaultError::damaged(path, format!("it is not a key file (line {})", e.line())))?;
        if file.generation != generation {
            return Err(VaultError::damaged(path, format!("it is generation {}", file.generation)));
        }
        if generation > FIRST_GENERATION {
            if file.mac.is_none() || !file.is_encrypted() {
                return Err(VaultError::damaged(path, "it names nobody who could open it"));
            }
            // Its hash and its code are of what it says; so there is one way to say it.
            if encode(&file)? != *bytes {
                return Err(VaultError::damaged(path, "it says more than a key file says"));
            }
        }
        let identity = IdentityKey::from_hex(&file.dedup_secret)
            .ok_or_else(|| VaultError::damaged(path, "its dedup secret is not 64 hex digits"))?;
        Ok(Self { identity, named: named(&file, bytes), file, bytes: bytes.clone() })
    }

    pub(crate) async fn read(target: &Target, generation: u64) -> Result<Self, VaultError> {
        Self::read_from(target, &layout::key_file(generation), generation).await
    }

    /// Both copies of the key file that the log names, each if it is that file, whoever may open it.
    pub(crate) async fn read_both(
        target: &Target,
        generation: u64,
        named: Hash256,
    ) -> [Result<Self, VaultError>; 2] {
        let [first, copy] = names(generation);
        [
            Self::read_named(target, &first, generation, named).await,
            Self::read_named(target, &copy, generation, named).await,
        ]
    }

    /// The copies of the key file that the log names which somebody with this keyring's vault key made.
    pub(crate) async fn read_made(
        target: &Target,
        generation: u64,
        named: Hash256,
        keyring: &Keyring,
    ) -> Vec<Self> {
        let both = Self::read_both(target, generation, named).await;
        both.into_iter().flatten().filter(|keys| keyring.has_made(&keys.file)).collect()
    }

    /// Names of those who can open it.
    pub(crate) fn recipients(&self) -> String {
        self.file.recipients.iter().map(Recipient::name).collect::<Vec<_>>().join(", ")
    }

    async fn read_named(
        target: &Target,
        name: &str,
        generation: u64,
        named: Hash256,
    ) -> Result<Self, VaultError> {
        let keys = Self::read_from(target, name, generation).await?;
        match keys.named == named {
            true => Ok(keys),
            false => Err(VaultError::damaged(target.full(name), "it is not the key file that the log names")),
        }
    }

    /// Opens the key file that the log names, from whichever copy these credentials open.
    pub(crate) async fn open_named(
        target: &Target,
        generation: u64,
        named: Hash256,
        vault: &VaultId,
        credentials: &Credentials,
    ) -> Result<Keyring, VaultError> {
        let mut said: Option<VaultError> = None;
        let mut tried: Option<Bytes> = None;
        for (found, name) in
            Self::read_both(target, generation, named).await.into_iter().zip(names(generation))
        {
            let error = match found {
                Ok(keys) if tried.as_ref() == Some(&keys.bytes) => continue,
                Ok(keys) => match Keyring::open(&keys.file, &vault.0, credentials) {
                    Ok(keyring) => return Ok(keyring),
                    Err(e) => {
                        tried = Some(keys.bytes);
                        at(target.full(&name), e)
                    }
                },
                Err(e) => e,
            };
            // A whole file that does not open says more than the damage of its other copy.
            if said.as_ref().is_none_or(|e| matches!(e, VaultError::Damaged { .. })) {
                said = Some(error);
            }
        }
        Err(said.expect("two names were tried"))
    }

    async fn read_from(target: &Target, name: &str, generation: u64) -> Result<Self, VaultError> {
        let path = target.full(name);
        match target.get(name).await {
            Ok(bytes) => Self::decode(&path, generation, &bytes),
            Err(e) if e.is_not_found() => Err(VaultError::damaged(path, "it is missing")),
            Err(e) => Err(e.into()),
        }
    }

    /// The first generation: ours, or that of whoever was first.
    pub(crate) async fn create(target: &Target, environment: &Environment) -> Result<Self, VaultError> {
        let name = layout::key_file(FIRST_GENERATION);
        let secret = IdentityKey::new(environment.random()?).to_hex();
        let bytes = encode(&KeyFile::plain(FIRST_GENERATION, secret))?;
        // Whether ours or a rival's: what stands there counts.
        target.put_new(&name, bytes).await?;
        Self::read(target, FIRST_GENERATION).await
    }
}

/// The stored bytes of a key file.
pub(crate) fn encode(file: &KeyFile) -> Result<Bytes, VaultError> {
    seal::seal(file).map_err(|e| VaultError::Record { reason: e.to_string() })
}

/// What is said of a key file at this path that does not open.
pub(crate) fn at(path: String, e: KeyError) -> VaultError {
    match e {
        KeyError::Forged { reason } => VaultError::damaged(path, format!("a key file was changed: {reason}")),
        e => e.into(),
    }
}

/// A key file that is to be written, and that no record names yet.
#[derive(Clone, Debug)]
pub(crate) struct NewKeys {
    pub keyring: Arc<Keyring>,
    named: Hash256,
    bytes: Bytes,
}

impl NewKeys {
    pub(crate) fn of(keyring: Keyring, random: &dyn Random) -> Result<Self, VaultError> {
        let file = keyring.to_file(random)?;
        let bytes = encode(&file)?;
        Ok(Self { keyring: Arc::new(keyring), named: named(&file, &bytes), bytes })
    }

    /// A file that stands already, as a call that was cut off left it.
    pub(crate) fn standing(keyring: Keyring, keys: Keys) -> Self {
        Self { keyring: Arc::new(keyring), named: keys.named, bytes: keys.bytes }
    }

    /// Writes both copies. False where somebody else wrote a file of this generation: its name does not tell its bytes, and a record
    /// may name what stands there.
    pub(crate) async fn put(&self, target: &Target) -> Result<bool, VaultError> {
        for name in names(self.keyring.generation()) {
            if target.put_new(&name, self.bytes.clone()).await? == Put::Existed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Refuses unless both copies stand as they were written: a place may answer and store nothing.
    pub(crate) async fn read_back(&self, target: &Target) -> Result<(), VaultError> {
        for name in names(self.keyring.generation()) {
            if target.get(&name).await? != self.bytes {
                return Err(VaultError::NotAsWritten { path: target.full(&name) });
            }
        }
        Ok(())
    }

    /// The record that names it.
    pub(crate) fn record(&self) -> Record {
        Record::Keys { generation: self.keyring.generation(), stored: self.named }
    }
}

/// Key files that the newest one replaces, each with its generation.
pub(crate) async fn older(target: &Target, newest: u64) -> Result<Vec<(String, u64)>, VaultError> {
    let mut found = vec![];
    for folder in [layout::KEYS, layout::KEYS_COPY] {
        for object in target.list(folder).await? {
            let generation = layout::generation(&object.path).unwrap_or(FIRST_GENERATION);
            if generation != FIRST_GENERATION && generation < newest {
                found.push((object.path, generation));
            }
        }
    }
    Ok(found)
}

/// Deletes key files that the newest one replaces: whoever was removed may still open them, and what was dropped is still in them.
///
/// # Errors
/// [`VaultError::OlderKeysRemain`].
pub(crate) async fn delete_older(target: &Target, newest: u64) -> Result<(), VaultError> {
    let remains = |name: &str, source: Option<VaultError>| VaultError::OlderKeysRemain {
        path: target.full(name),
        generation: newest,
        source: source.map(Into::into),
    };
    let found = older(target, newest).await.map_err(|e| remains(layout::KEYS, Some(e)))?;
    for (name, _) in found {
        target.delete(&name).await.map_err(|e| remains(&name, Some(e.into())))?;
        match target.size(&name).await {
            Ok(None) => {}
            Ok(Some(_)) => return Err(remains(&name, None)),
            Err(e) => return Err(remains(&name, Some(e.into()))),
        }
    }
    Ok(())
}
