//! `keys/<generation>.json`: the secrets of a vault. Wrapped keys have their place and are not filled yet.

use crate::environment::Environment;
use crate::error::VaultError;
use crate::{layout, seal};
use bytes::Bytes;
use keepfast_format::IdentityKey;
use keepfast_model::Hash256;
use keepfast_objects::Target;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The generation that a vault is made with; the only one yet.
pub(crate) const FIRST_GENERATION: u64 = 1;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeyFile {
    generation: u64,
    dedup_secret: String,
    recipients: Vec<serde_json::Value>,
    keys: Vec<serde_json::Value>,
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({}, …)", self.generation)
    }
}

/// A key file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub identity: IdentityKey,
    pub stored: Hash256,
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
        Ok(Self { identity, stored: Hash256::of(bytes) })
    }

    pub(crate) async fn read(target: &Target, generation: u64) -> Result<Self, VaultError> {
        let name = layout::key_file(generation);
        let path = target.full(&name);
        match target.get(&name).await {
            Ok(bytes) => Self::decode(&path, generation, &bytes),
            Err(e) if e.is_not_found() => Err(VaultError::damaged(path, "it is missing")),
            Err(e) => Err(e.into()),
        }
    }

    /// The first generation: ours, or that of whoever was first.
    pub(crate) async fn create(target: &Target, environment: &Environment) -> Result<Self, VaultError> {
        let name = layout::key_file(FIRST_GENERATION);
        let file = KeyFile {
            generation: FIRST_GENERATION,
            dedup_secret: IdentityKey::new(environment.random()?).to_hex(),
            recipients: vec![],
            keys: vec![],
        };
        let bytes: Bytes = seal::seal(&file).map_err(|e| VaultError::Record { reason: e.to_string() })?;
        // Whether ours or a rival's: what stands there counts.
        target.put_new(&name, bytes).await?;
        Self::read(target, FIRST_GENERATION).await
    }
}
