//! Creating the next catalog entry.
//!
//! Invariant: an entry that counts as created stands in the one history of the store. A number that was used and removed can
//! be created once more by a writer that slept; whether it was is told by the entry before, or by the one after.

use crate::catalog::Catalog;
use crate::names;
use crate::seal::StoreKeys;
use crate::shared::Shared;
use crate::{Result, fault};
use keepfast_objects::Put;
use keepfast_store::StoreError;
use std::sync::Arc;

/// Catalog entries before the head that are kept.
const CATALOG_KEPT: u64 = 64;
/// How often old entries are removed.
const CATALOG_SWEEP: u64 = 32;

impl Shared {
    /// Tries to make `next` the entry after `head`. None when another writer was first.
    ///
    /// Everything that was put before is durable when this returns an entry.
    pub async fn try_commit(&self, head: &Arc<Catalog>, next: Catalog) -> Result<Option<Arc<Catalog>>> {
        let keys = self.place.keys();
        if keys.as_ref().map(|keys| &keys.reference) != next.keys.as_ref() {
            // Another task of this process has seen newer keys, so there is a newer entry.
            return Ok(None);
        }
        self.try_commit_with(head, next, keys.as_deref()).await
    }

    /// As [`Self::try_commit`], with the keys that seal the entry.
    pub async fn try_commit_with(
        &self,
        head: &Arc<Catalog>,
        next: Catalog,
        keys: Option<&StoreKeys>,
    ) -> Result<Option<Arc<Catalog>>> {
        debug_assert_eq!(next.seq, head.seq + 1, "entries follow each other");
        let name = names::catalog(next.seq);
        let plain = self.place.json(&name, &next)?;
        let bytes = match keys {
            None => plain,
            Some(keys) => keys.seal_entry(&name, &plain).map_err(|e| self.place.key_error(&name, e))?,
        };
        match self.place.create(&name, bytes.clone()).await {
            Ok(Put::Existed) => return Ok(None),
            Ok(Put::Created) => {}
            // The request may have arrived all the same.
            Err(e @ StoreError::Unavailable { .. }) => match self.place.find(&name).await {
                Ok(Some(found)) if found == bytes => {}
                _ => return Err(e),
            },
            Err(e) => return Err(e),
        }
        if !self.place.exists(&name).await? {
            // Others went on from it and removed it, or the place answers and stores nothing.
            if !self.was_followed(&next).await? {
                return Err(fault::damaged(self.place.full(&name), "it was written and is not there"));
            }
        } else if !self.follows(head, &next).await? {
            let followed = match self.was_followed(&next).await {
                // With keys that this process has not: ours is plain, and of no use to those who have them.
                Err(StoreError::Locked { .. } | StoreError::WrongKey { .. }) => false,
                followed => followed?,
            };
            if !followed {
                // The store ran ahead, and ours is a number long used and removed.
                self.place.delete(&name).await?;
                self.forget_head();
                return Ok(None);
            }
        }
        let next = Arc::new(next);
        self.remember(&next);
        if next.seq.is_multiple_of(CATALOG_SWEEP) {
            // The commit stands whatever becomes of this.
            if let Err(error) = self.sweep_entries(next.seq).await {
                tracing::warn!(%error, "old catalog entries were not removed");
            }
        }
        Ok(Some(next))
    }

    /// Whether what `next` was made of still is the entry before it. Entries are removed from the oldest on.
    async fn follows(&self, head: &Catalog, next: &Catalog) -> Result<bool> {
        if head.seq > 0 {
            return self.place.exists(&names::catalog(head.seq)).await;
        }
        Ok(self.entries().await?.last().is_none_or(|newest| *newest <= next.seq))
    }

    /// Whether the entry after this one was made of it.
    async fn was_followed(&self, entry: &Catalog) -> Result<bool> {
        let after = self.entry(entry.seq + 1).await?;
        Ok(after.is_some_and(|after| after.after.as_ref() == Some(&entry.writer)))
    }

    /// Removes old entries, the oldest first.
    async fn sweep_entries(&self, head: u64) -> Result<()> {
        for seq in self.entries().await?.into_iter().take_while(|seq| seq + CATALOG_KEPT < head) {
            self.place.delete(&names::catalog(seq)).await?;
        }
        Ok(())
    }
}
