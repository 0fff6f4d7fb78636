//! Deleting what was condemned, after its grace. It may run anywhere, at any time, several times at once, and any of
//! its deletions may arrive late: condemned names are never used again.

use super::reach::references;
use crate::Result;
use crate::check::Leftovers;
use crate::layout;
use crate::vault::Vault;
use futures::stream::TryStreamExt;
use std::collections::HashSet;

impl Vault {
    /// Refuses credentials that may not delete, before anything is condemned that they could not remove.
    ///
    /// # Errors
    /// [`keepfast_objects::ObjectsError::Denied`] as [`crate::VaultError::Objects`].
    pub(crate) async fn refuse_without_delete(&self) -> Result<()> {
        let nothing = format!("{}/{}", layout::STAGING, self.environment().random_id()?);
        Ok(self.target().delete(&nothing).await?)
    }

    /// Deletes condemned objects whose grace has passed. Returns how many there were.
    ///
    /// # Errors
    /// As [`Self::give_back`].
    pub async fn delete_condemned(&self) -> Result<u64> {
        Ok(self.give_back().await?.objects)
    }

    /// Deletes condemned objects whose grace has passed. Returns what that was.
    ///
    /// # Errors
    /// [`crate::VaultError::Objects`]; otherwise as [`Self::log`].
    pub async fn give_back(&self) -> Result<Leftovers> {
        let log = self.log().await?;
        if !log.condemns() {
            return Ok(Leftovers::default());
        }
        let now = self.environment().clock.now();
        let (mut standing, mut tables) = (vec![], HashSet::new());
        for folder in [layout::MANIFESTS, layout::MANIFESTS_COPY, layout::TABLES] {
            let mut listing = self.target().list_stream(folder);
            while let Some(object) = listing.try_next().await? {
                if log.condemned_until(&object.path).is_some_and(|after| after <= now) {
                    tables.extend(layout::table_of(&object.path).map(str::to_owned));
                    standing.push(object);
                }
            }
        }
        if standing.is_empty() {
            return Ok(Leftovers::default());
        }
        // No commit names them; should a writer break that rule, its point must not pay for it.
        let mut all = references(log.all_points());
        let named: HashSet<String> = all.keys().map(|id| layout::manifest(*id)).collect();
        all.retain(|_, (_, table)| tables.contains(&table.0));
        let needed = self.reach(all).await?;
        standing.retain(|o| !named.contains(&o.path) && !needed.names(&o.path));
        let mut given_back = Leftovers::default();
        standing.iter().for_each(|o| given_back.add(o.bytes));
        self.delete_all(standing.into_iter().map(|o| o.path).collect()).await?;
        Ok(given_back)
    }
}
