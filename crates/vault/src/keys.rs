//! The key file objects of a vault: `keys/<generation>.json`, and for encrypted vaults a second copy of each.
//!
//! The first generation is written with the vault and holds the dedup secret of tables without encryption. Later ones have
//! recipients. The one that the log names last counts; those before it are deleted, since whoever was removed may still open them.

use crate::environment::Environment;
use crate::error::VaultError;
use crate::{layout, seal};
use bytes::Bytes;
use keepfast_format::IdentityKey;
use keepfast_keys::KeyFile;
use keepfast_model::Hash256;
use keepfast_objects::Target;

/// The generation that a vault is made with.
pub(crate) const FIRST_GENERATION: u64 = 1;

/// A key file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub identity: IdentityKey,
    pub stored: Hash256,
    pub file: KeyFile,
}

impl Keys {
    pub(crate) fn decode(path: &str, generation: u64, bytes: &[u8]) -> Result<Self, VaultError> {
        seal::check(bytes).map_err(|reason| VaultError::damaged(path, reason))?;
        // The decoder's own words may quote the secret.
        let file: KeyFile = serde_json::from_slice(bytes)
            .map_err(|e| VaultError::damaged(path, format!("it is not a key file (line {})", e.line())))?;
        if file.generation != generation {
            return Err(VaultError::damaged(path, format!("it is generation {}", file.generation)));
        }
        let identity = IdentityKey::from_hex(&file.dedup_secret)
            .ok_or_else(|| VaultError::damaged(path, "its dedup secret is not 64 hex digits"))?;
        Ok(Self { identity, stored: Hash256::of(bytes), file })
    }

    pub(crate) async fn read(target: &Target, generation: u64) -> Result<Self, VaultError> {
        Self::read_from(target, &layout::key_file(generation), generation).await
    }

    /// The key file that the log names, from whichever copy is the one that was written.
    pub(crate) async fn read_named(
        target: &Target,
        generation: u64,
        stored: Hash256,
    ) -> Result<Self, VaultError> {
        let mut first = None;
        for name in [layout::key_file(generation), layout::key_file_copy(generation)] {
            let error = match Self::read_from(target, &name, generation).await {
                Ok(keys) if keys.stored == stored => return Ok(keys),
                Ok(_) => VaultError::damaged(target.full(&name), "it is not the key file that the log names"),
                Err(e) => e,
            };
            first.get_or_insert(error);
        }
        Err(first.expect("two names were tried"))
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
