//! Checking a vault that can no longer be opened: without `keepfast.json`, or without its keys.

use super::{CheckOptions, CheckReport, Progress};
use crate::environment::Environment;
use crate::error::VaultError;
use crate::keys::{FIRST_GENERATION, Keys};
use crate::log::vault_of;
use crate::marker::{FORMAT, Marker};
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use futures::stream::TryStreamExt;
use jiff::Timestamp;
use keepfast_format::IdentityKey;
use keepfast_keys::KeyFile;
use keepfast_model::{Hash256, VaultId};
use keepfast_objects::Target;
use std::collections::HashMap;

impl Vault {
    /// As [`Vault::check`], of whatever stands at a place. A missing or damaged `keepfast.json` or key file is then
    /// damage in the report, as long as one record can be read.
    ///
    /// # Errors
    /// [`VaultError::NotAVault`] where nothing of a vault can be found; otherwise as [`Vault::check`].
    pub async fn check_place(
        target: Target,
        environment: Environment,
        options: &CheckOptions,
        progress: &dyn Progress,
    ) -> Result<CheckReport> {
        Self::of_place(target, environment).await?.check(options, progress).await
    }

    /// What stands at a place as a vault: enough to check and to heal it, nothing to write backups to.
    pub(crate) async fn of_place(target: Target, environment: Environment) -> Result<Self> {
        let marker = match Marker::read(&target).await {
            // Of two vaults' objects in one place, the vault is the one that most records belong to.
            Ok(marker) => Marker { vault: owner(&target).await?.unwrap_or(marker.vault), ..marker },
            Err(e @ (VaultError::Damaged { .. } | VaultError::NotAVault { .. })) => Marker {
                format: FORMAT,
                vault: owner(&target).await?.ok_or(e)?,
                created: Timestamp::UNIX_EPOCH,
                program: String::new(),
            },
            Err(e) => return Err(e),
        };
        let keys = match Keys::read(&target, FIRST_GENERATION).await {
            Ok(keys) => keys,
            // Nothing is sealed or named through this vault.
            Err(VaultError::Damaged { .. }) => {
                let file = KeyFile::plain(FIRST_GENERATION, String::new());
                Keys {
                    identity: IdentityKey::new([0; 32]),
                    named: Hash256([0; 32]),
                    file,
                    bytes: Bytes::new(),
                }
            }
            Err(e) => return Err(e),
        };
        Ok(Self::of(target, marker, keys, environment))
    }
}

/// The vault that most readable records belong to.
async fn owner(target: &Target) -> Result<Option<VaultId>> {
    let mut records: HashMap<VaultId, u64> = HashMap::new();
    for folder in [layout::LOG, layout::LOG_COPY] {
        let mut listing = target.list_stream(folder);
        while let Some(object) = listing.try_next().await? {
            if layout::record_number(&object.path).is_none() {
                continue;
            }
            if let Some(vault) = target.get(&object.path).await.ok().and_then(|bytes| vault_of(&bytes)) {
                *records.entry(vault).or_default() += 1;
            }
        }
    }
    Ok(records.into_iter().max_by_key(|(_, n)| *n).map(|(vault, _)| vault))
}
