//! Deleting what was condemned, after its grace. It may run anywhere, at any time, several times at once, and any of
//! its deletions may arrive late: condemned names are never used again.

use super::reach::references;
use crate::Result;
use crate::layout;
use crate::vault::Vault;
use futures::stream::TryStreamExt;
use std::collections::HashSet;

impl Vault {
    /// Refuses credentials that may not delete, before anything is condemned that they could not remove.
    ///
    /// # Errors
    /// [`keepfast_objects::ObjectsError::Denied`] as [`crate::VaultError::Objects`].
    pub(super) async fn refuse_without_delete(&self) -> Result<()> {
        let nothing = format!("{}/{}", layout::STAGING, self.environment().random_id()?);
        Ok(self.target().delete(&nothing).await?)
    }

    /// Deletes condemned objects whose grace has passed. Returns how many there were.
    ///
    /// # Errors
    /// [`crate::VaultError::Objects`]; otherwise as [`Self::log`].
    pub async fn delete_condemned(&self) -> Result<u64> {
        let log = self.log().await?;
        if !log.condemns() {
            return Ok(0);
        }
        let now = self.environment().clock.now();
        let (mut standing, mut tables) = (vec![], HashSet::new());
        for folder in [layout::MANIFESTS, layout::MANIFESTS_COPY, layout::TABLES] {
            let mut listing = self.target().list_stream(folder);
            while let Some(object) = listing.try_next().await? {
                if log.condemned_until(&object.path).is_some_and(|after| after <= now) {
                    tables.extend(layout::table_of(&object.path).map(str::to_owned));
                    standing.push(object.path);
                }
            }
        }
        if standing.is_empty() {
            return Ok(0);
        }
        // No commit names them; should a writer break that rule, its point must not pay for it.
        let mut all = references(log.all_points());
        let named: HashSet<String> = all.keys().map(|id| layout::manifest(*id)).collect();
        all.retain(|_, (_, table)| tables.contains(&table.0));
        let needed = self.reach(all).await?;
        standing.retain(|path| !named.contains(path) && !needed.names(path));
        self.delete_all(standing).await
    }
}
