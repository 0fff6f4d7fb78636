//! Reading back what was written, before it is called a backup.
//!
//! A place may say that it stored an object and hold other bytes of the same size. So all manifests of a commit and a
//! few of its segments, others each time, are read and hashed before its record is created: a place that always lies
//! is found at once, one that rarely does by the next check, which reads everything.

use crate::commit::NewObject;
use crate::vault::Vault;
use crate::{Result, VaultError, layout};
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_model::{Hash256, Record};
use std::collections::HashMap;

/// Segments and change segments that are read back at most.
const SEGMENTS: usize = 8;

impl Vault {
    /// Refuses objects that hold other bytes than were written.
    ///
    /// # Errors
    /// [`VaultError::NotAsWritten`], [`VaultError::Incomplete`]; [`VaultError::Objects`].
    pub(crate) async fn read_back(&self, records: &[Record], written: &[NewObject]) -> Result<()> {
        let manifests = manifest_hashes(records);
        let of_manifest = |o: &NewObject| Some((o.path.clone(), *manifests.get(&o.path)?));
        let mut chosen: Vec<(String, Hash256)> = written.iter().filter_map(of_manifest).collect();
        let segments: Vec<_> =
            written.iter().filter_map(|o| Some((&o.path, stated_hash(&o.path)?))).collect();
        let start = u64::from_le_bytes(self.environment().random()?);
        chosen.extend(spread(segments.len(), start).map(|at| (segments[at].0.clone(), segments[at].1)));
        futures::stream::iter(chosen)
            .map(|(path, stored)| async move {
                match self.target().hash(&path).await {
                    Ok((found, _)) if found == stored => Ok(()),
                    Ok(_) => Err(VaultError::NotAsWritten { path: self.target().full(&path) }),
                    // A prune took it meanwhile, or it never stood there: the same command writes it again.
                    Err(e) if e.is_not_found() => Err(VaultError::Incomplete {
                        path: self.target().full(&path),
                        wrong: 1,
                        total: written.len(),
                    }),
                    Err(e) => Err(e.into()),
                }
            })
            .buffer_unordered(self.environment().parallel)
            .try_collect()
            .await
    }
}

/// Positions of a few of `all`, evenly spread from a random one on, so that in time it is each one's turn.
fn spread(all: usize, start: u64) -> impl Iterator<Item = usize> {
    let chosen = all.min(SEGMENTS);
    (0..chosen).map(move |i| ((start % all as u64) as usize + i * all / chosen) % all)
}

/// Hashes of the stored bytes of manifests, by path, as the points among the records name them.
fn manifest_hashes(records: &[Record]) -> HashMap<String, Hash256> {
    let points = records.iter().filter_map(|r| match r {
        Record::Point(point) => Some(point.as_ref()),
        _ => None,
    });
    let references = points
        .flat_map(|p| &p.tables)
        .flat_map(|t| t.base.iter().chain(t.changes.iter().map(|c| &c.manifest)));
    references.map(|m| (layout::manifest(m.id), m.stored)).collect()
}

/// The hash of its bytes that a segment's name states.
fn stated_hash(path: &str) -> Option<Hash256> {
    let name = path.strip_prefix(layout::TABLES)?.rsplit('/').next()?;
    Hash256::from_hex(name.strip_suffix(".parquet")?.split_once('-')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_few_objects_are_chosen_and_over_time_all_of_them() {
        for all in [0, 1, 7, 8, 9, 100] {
            let mut seen = BTreeSet::new();
            for start in 0..200 {
                let chosen: BTreeSet<usize> = spread(all, start).collect();
                assert_eq!(chosen.len(), all.min(SEGMENTS));
                seen.extend(chosen);
            }
            assert_eq!(seen.len(), all);
        }
    }

    #[test]
    fn only_segments_state_the_hash_of_their_bytes() {
        let hash = "ab".repeat(32);
        assert!(stated_hash(&format!("tables/x/segments/{hash}-{hash}.parquet")).is_some());
        for path in [format!("manifests/{hash}"), format!("tables/x/segments/{hash}.parquet"), "log/1".into()]
        {
            assert_eq!(stated_hash(&path), None, "{path}");
        }
    }
}
