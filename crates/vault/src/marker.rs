//! `keepfast.json`: what makes a place a vault.

use crate::error::VaultError;
use crate::{layout, seal};
use bytes::Bytes;
use jiff::Timestamp;
use keepfast_model::VaultId;
use keepfast_objects::Target;
use serde::{Deserialize, Serialize};

/// The newest format this program reads, and the one it writes.
pub(crate) const FORMAT: u32 = 1;

/// Written once, last when a vault is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub format: u32,
    pub vault: VaultId,
    pub created: Timestamp,
    pub program: String,
}

impl Marker {
    pub(crate) fn encode(&self) -> Result<Bytes, VaultError> {
        seal::seal(self).map_err(|e| VaultError::Record { reason: e.to_string() })
    }

    /// Reads stored bytes. A newer format is told apart from damage: every format keeps the seal.
    pub(crate) fn decode(path: &str, bytes: &[u8]) -> Result<Self, VaultError> {
        check_sealed_format(path, bytes)?;
        serde_json::from_slice(bytes).map_err(|e| VaultError::damaged(path, e.to_string()))
    }

    /// Reads a vault's marker, or its copy where it is missing or damaged.
    pub(crate) async fn read(target: &Target) -> Result<Self, VaultError> {
        let first = match Self::read_original(target).await {
            Err(e @ (VaultError::NotAVault { .. } | VaultError::Damaged { .. })) => e,
            other => return other,
        };
        let Ok(bytes) = target.get(layout::MARKER_COPY).await else { return Err(first) };
        match Self::decode(&target.full(layout::MARKER_COPY), &bytes) {
            Ok(marker) => {
                tracing::warn!(object = %target.full(layout::MARKER), "is damaged or missing; its copy is read");
                Ok(marker)
            }
            Err(_) => Err(first),
        }
    }

    async fn read_original(target: &Target) -> Result<Self, VaultError> {
        let path = target.full(layout::MARKER);
        if let Some(marker) = Self::read_standing(target).await? {
            return Ok(marker);
        }
        if target.size(&layout::log_record(keepfast_model::LogSeq(1))).await?.is_none() {
            return Err(VaultError::NotAVault { url: target.url().to_owned() });
        }
        // Somebody may have made the vault between the two requests: its marker came before its log.
        let marker = Self::read_standing(target).await?;
        marker.ok_or_else(|| VaultError::damaged(path, "it is missing, and a log is there"))
    }

    async fn read_standing(target: &Target) -> Result<Option<Self>, VaultError> {
        match target.get(layout::MARKER).await {
            Ok(bytes) => Self::decode(&target.full(layout::MARKER), &bytes).map(Some),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Checks the seal and the stated format of a sealed object.
pub(crate) fn check_sealed_format(path: &str, bytes: &[u8]) -> Result<(), VaultError> {
    #[derive(Deserialize)]
    struct Stated {
        format: u32,
    }
    seal::check(bytes).map_err(|reason| VaultError::damaged(path, reason))?;
    match serde_json::from_slice(bytes) {
        Ok(Stated { format: FORMAT }) => Ok(()),
        Ok(Stated { format }) if format > FORMAT => {
            Err(VaultError::NewerFormat { path: path.to_owned(), found: format!("format {format}") })
        }
        Ok(Stated { format }) => Err(VaultError::damaged(path, format!("it states format {format}"))),
        Err(e) => Err(VaultError::damaged(path, e.to_string())),
    }
}
