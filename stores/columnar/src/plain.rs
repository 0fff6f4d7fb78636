//! What was written before a store had keys, and its removal.
//!
//! Invariant: whatever is plain in a store with keys is named by no entry that anybody may follow, so it can go at any time. The
//! entries from before the first keys go last, once everything else is gone for good: as long as one is left, every
//! vacuum ends the removal. A change of keys looks for itself, since writers that did not know of the keys may have come later.

use crate::Result;
use crate::catalog::Catalog;
use crate::names;
use crate::seal::{FIRST_BYTES, is_sealed_data};
use crate::store::ColumnarStore;
use crate::{fault, place::Place};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use keepfast_model::TableId;
use keepfast_objects::{ObjectInfo, ObjectsError};
use keepfast_store::StoreError;
use std::collections::HashSet;
use std::time::Duration;

/// Objects looked at or removed at once.
const AT_ONCE: usize = 16;

impl ColumnarStore {
    /// Removes everything that is plain in a store with keys.
    ///
    /// # Errors
    /// When something cannot be removed. Nothing tells then that the removal has ended.
    pub(crate) async fn remove_plain(&self, head: &Catalog) -> Result<()> {
        let Some(since) = head.sealed_since else { return Ok(()) };
        let place = &self.shared.place;
        let plain = self.plain_objects(head).await?;
        stream::iter(plain)
            .map(|path| async move { place.delete(&path).await })
            .buffered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let age = self.sealed_for(head, since).await?;
        place.target.sweep(age).await.map_err(fault::objects)?;
        place.sync().await?;
        let before: Vec<u64> = self.shared.entries().await?.into_iter().filter(|seq| *seq < since).collect();
        for seq in &before {
            place.delete(&names::catalog(*seq)).await?;
        }
        if before.is_empty() { Ok(()) } else { place.sync().await }
    }

    /// Ends the removal where it was cut off.
    pub(crate) async fn end_removal(&self, head: &Catalog) -> Result<()> {
        let Some(since) = head.sealed_since else { return Ok(()) };
        if self.shared.entries().await?.first().is_none_or(|oldest| *oldest >= since) {
            return Ok(());
        }
        self.remove_plain(head).await
    }

    /// Plain objects but for catalog entries. Those of visible tables are sealed, since only entries with keys name them.
    async fn plain_objects(&self, head: &Catalog) -> Result<Vec<String>> {
        let place = &self.shared.place;
        let visible: HashSet<&TableId> = head.tables.iter().map(|table| &table.id).collect();
        // Tables that were sealed: everything of theirs is of no use, whatever it is.
        let sealed: HashSet<&TableId> =
            head.dropped.iter().filter(|d| d.at == Timestamp::UNIX_EPOCH).map(|d| &d.id).collect();
        let hidden = place.folders(names::DATA).await?.into_iter().map(TableId);
        let hidden =
            hidden.filter(|id| !visible.contains(id)).map(|id| (names::table(&id), sealed.contains(&id)));
        let others = [names::HOLDS, names::LOADS, names::CONDEMNED].map(|folder| (folder.to_owned(), false));
        let mut found = vec![];
        for (folder, known) in hidden.chain(others) {
            let objects = stream::iter(place.list(&folder).await?);
            let plain = objects
                .map(|object| async move {
                    let plain = known || is_plain(place, &object).await?;
                    Ok::<_, StoreError>(plain.then_some(object.path))
                })
                .buffered(AT_ONCE)
                .try_filter_map(|path| async move { Ok(path) });
            found.extend(plain.try_collect::<Vec<String>>().await?);
        }
        Ok(found)
    }

    /// How long the store has had keys; of what cannot be told, as long as leftovers of dead writers stay at all.
    async fn sealed_for(&self, head: &Catalog, since: u64) -> Result<Duration> {
        let leftovers = self.shared.options.retention.leftovers;
        let first =
            if head.seq == since { Some(head.at) } else { self.shared.entry(since).await?.map(|e| e.at) };
        let Some(at) = first else { return Ok(leftovers) };
        let age = Timestamp::now().duration_since(at);
        Ok(Duration::try_from(age).unwrap_or_default().min(leftovers))
    }
}

/// Whether an object is there and not sealed.
async fn is_plain(place: &Place, object: &ObjectInfo) -> Result<bool> {
    if object.bytes == 0 {
        return Ok(true);
    }
    match place.target.get_range(&object.path, 0..FIRST_BYTES.min(object.bytes)).await {
        Ok(first) => Ok(!is_sealed_data(&first)),
        Err(ObjectsError::NotFound { .. }) => Ok(false),
        Err(e) => Err(fault::objects(e)),
    }
}
