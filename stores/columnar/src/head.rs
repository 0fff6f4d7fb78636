//! Finding the newest catalog entry.
//!
//! Invariant: a process never goes back, neither to an earlier entry nor to earlier keys. One that has seen nothing yet takes the
//! newest entry that is listed, unless what stands beside it tells that somebody without the store's keys put it there.

use crate::catalog::Catalog;
use crate::names;
use crate::seal::{self, KeysRef};
use crate::shared::Shared;
use crate::{Result, fault};
use keepfast_store::StoreError;
use std::sync::{Arc, PoisonError};

impl Shared {
    /// The newest catalog entry, read now.
    ///
    /// A known entry *k* is the head when *k + 1* is absent and, looked at after that, *k* is still there: entries are
    /// removed from the oldest on, so *k + 1* cannot have come and gone.
    pub async fn head(&self) -> Result<Arc<Catalog>> {
        let known = self.known();
        let mut head = match known {
            Some(head) => head,
            None => self.listed_head().await?,
        };
        loop {
            let start = head.seq;
            while let Some(next) = self.entry(head.seq + 1).await? {
                self.check_follows(&next, &head)?;
                head = Arc::new(next);
            }
            let ahead = self.place.keys().map(|keys| keys.reference.generation)
                > head.keys.as_ref().map(|keys| keys.generation);
            // Keys that came with a newer entry: there is one, or there was.
            if !ahead && start > 0 && self.place.exists(&names::catalog(start)).await? {
                break;
            }
            let listed = self.listed_head().await?;
            if listed.seq <= head.seq {
                break;
            }
            self.check_follows(&listed, &head)?;
            head = listed;
        }
        self.remember(&head);
        Ok(head)
    }

    fn check_follows(&self, later: &Catalog, earlier: &Catalog) -> Result<()> {
        let generation = |entry: &Catalog| entry.keys.as_ref().map(|keys| keys.generation);
        if generation(later) < generation(earlier) {
            return Err(self.older_keys(later.seq));
        }
        Ok(())
    }

    fn older_keys(&self, seq: u64) -> StoreError {
        let name = self.place.full(&names::catalog(seq));
        fault::damaged(name, "it is sealed with keys that were replaced before it")
    }

    fn known(&self) -> Option<Arc<Catalog>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remember(&self, head: &Arc<Catalog>) {
        let mut known = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|k| k.seq < head.seq) {
            *known = Some(head.clone());
        }
    }

    /// Forgets what was known, so that the next look at the head begins with a listing.
    pub(crate) fn forget_head(&self) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub async fn entry(&self, seq: u64) -> Result<Option<Catalog>> {
        let name = names::catalog(seq);
        let Some(bytes) = self.place.find(&name).await? else { return Ok(None) };
        let entry = self.open_entry(&name, &bytes).await?;
        if entry.seq != seq {
            return Err(fault::damaged(
                self.place.full(&name),
                format!("it says that it is entry {}", entry.seq),
            ));
        }
        Ok(Some(entry))
    }

    /// Numbers of the entries that exist, ascending.
    pub async fn entries(&self) -> Result<Vec<u64>> {
        let mut found: Vec<u64> = self
            .place
            .list(names::CATALOG)
            .await?
            .iter()
            .filter_map(|o| o.path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    async fn listed_head(&self) -> Result<Arc<Catalog>> {
        let mut doubted = None;
        // An entry that was listed can be removed before it is read, by writers that run ahead.
        for _ in 0..100 {
            let entries = self.entries().await?;
            let head = match entries.last() {
                None => Catalog::empty(),
                Some(newest) => match self.entry(*newest).await? {
                    Some(entry) => entry,
                    None => continue,
                },
            };
            match self.doubt(&head, &entries).await? {
                None => return Ok(Arc::new(head)),
                // Others may have changed the store's keys since the listing. Then there is a newer entry.
                Some(_) if doubted != Some(head.seq) => doubted = Some(head.seq),
                Some(doubt) => return Err(doubt),
            }
        }
        Err(fault::damaged(self.place.full(names::CATALOG), "its newest entry is listed and cannot be read"))
    }

    /// Why the newest of these entries cannot be what the store's writers left.
    async fn doubt(&self, newest: &Catalog, entries: &[u64]) -> Result<Option<StoreError>> {
        match &newest.keys {
            Some(keys) => self.doubt_sealed(newest, keys, entries).await,
            None => self.doubt_plain(newest, entries).await,
        }
    }

    /// Keys go forward only: what they replaced stands in no second copy, and they open the entry before.
    async fn doubt_sealed(
        &self,
        newest: &Catalog,
        keys: &KeysRef,
        entries: &[u64],
    ) -> Result<Option<StoreError>> {
        let older = || Some(self.older_keys(newest.seq));
        let Some(opened) = self.place.keys() else { return Ok(None) };
        if opened.reference.generation > keys.generation {
            return Ok(older());
        }
        let copies = self.place.list(names::KEYS_COPY).await?;
        if copies.iter().filter_map(|o| names::parse_key_file(&o.path)).any(|copy| copy > keys.generation) {
            return Ok(older());
        }
        let Some(before) = entries.iter().rev().find(|seq| **seq < newest.seq) else { return Ok(None) };
        let name = names::catalog(*before);
        let Some(bytes) = self.place.find(&name).await? else { return Ok(None) };
        let refused = |e| self.place.key_error(&name, e);
        let Some(sealed) = seal::sealed_entry(&bytes).map_err(refused)? else { return Ok(None) };
        if sealed.keys.generation > keys.generation {
            return Ok(older());
        }
        Ok(opened.open_entry(&name, &sealed).err().map(refused))
    }

    /// A store that has keys has them for good.
    async fn doubt_plain(&self, newest: &Catalog, entries: &[u64]) -> Result<Option<StoreError>> {
        let before: Vec<u64> = entries.iter().copied().filter(|seq| *seq < newest.seq).collect();
        let mut ends: Vec<u64> = before.first().into_iter().chain(before.last()).copied().collect();
        ends.dedup();
        for seq in ends {
            if self.place.find(&names::catalog(seq)).await?.is_some_and(|bytes| seal::is_sealed(&bytes)) {
                return Ok(Some(self.place.not_sealed(&names::catalog(newest.seq))));
            }
        }
        if !self.options.credentials.is_empty() && !self.place.list(names::KEYS_COPY).await?.is_empty() {
            return Ok(Some(fault::damaged(
                self.place.full(names::CATALOG),
                "the store has keys, and its newest catalog entry is not sealed",
            )));
        }
        if self.options.sealed {
            return Ok(Some(StoreError::NoKeys { store: self.url() }));
        }
        Ok(None)
    }
}
