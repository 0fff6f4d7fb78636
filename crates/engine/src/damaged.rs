//! What can still be restored of a damaged table: all keys but those that damaged segments may hold.
//!
//! A key range is left out whole where its base segment, or a change segment that may touch it, is damaged: rows that
//! come back are exactly those of the point. What is left out is named; nothing is left out in silence.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::point::{self, PointPartition};
use futures::{StreamExt, TryStreamExt};
use keepfast_format::{ManifestKind, SegmentEntry};
use keepfast_model::{KeyBytes, ManifestRef, TablePoint, key_text};
use keepfast_objects::ObjectsError;
use keepfast_vault::{Vault, VaultError, layout};
use std::collections::HashSet;

/// A damaged table's readable partitions, and the rows that are left out.
pub(crate) struct Undamaged {
    pub partitions: Vec<PointPartition>,
    /// As `n rows from key to key`.
    pub missing: Vec<String>,
}

impl Engine {
    /// Partitions of a table whose files are all as they were written. Reads every file of the table.
    pub(crate) async fn undamaged(&self, vault: &Vault, table: &TablePoint) -> Result<Undamaged> {
        let mut missing = vec![];
        let changed = !table.changes.is_empty();
        let (mut base, mut changes) = (vec![], vec![]);
        for reference in &table.base {
            match vault.read_manifest(reference).await {
                Ok(manifest) => base.extend(manifest.segments),
                // Without changes the other manifests stand for themselves.
                Err(VaultError::Damaged { .. }) if !changed => missing.push(lost_manifest(reference)),
                Err(e) => return Err(e.into()),
            }
        }
        for change in &table.changes {
            // Nobody can tell which rows a lost list of changes was about.
            changes.extend(vault.read_manifest(&change.manifest).await?.segments);
        }
        let mut damaged: HashSet<String> = HashSet::new();
        for (kind, entries) in [(ManifestKind::Segments, &base), (ManifestKind::Changes, &changes)] {
            damaged.extend(self.damaged_files(vault, table, kind, entries).await?);
        }
        let is_damaged = |kind, e: &SegmentEntry| damaged.contains(&layout::file(kind, &table.id, e));
        let mut partitions = vec![];
        for partition in point::plan(&table.schema, base, changes, usize::MAX) {
            let rows: u64 = partition.base.iter().map(|e| e.rows).sum();
            let whole = !partition.base.iter().any(|e| is_damaged(ManifestKind::Segments, e))
                && !partition.changes.iter().any(|e| is_damaged(ManifestKind::Changes, e));
            if whole {
                partitions.push(partition);
            } else {
                missing.push(lost_rows(table, &partition, rows));
            }
        }
        Ok(Undamaged { partitions, missing })
    }

    async fn damaged_files(
        &self,
        vault: &Vault,
        table: &TablePoint,
        kind: ManifestKind,
        entries: &[SegmentEntry],
    ) -> Result<Vec<String>> {
        let files: Vec<_> =
            entries.iter().map(|e| (layout::file(kind, &table.id, e), e.stored, e.bytes.0)).collect();
        futures::stream::iter(files)
            .map(|(name, stored, bytes)| async move {
                match vault.target().hash(&name).await {
                    Ok(found) if found == (stored, bytes) => Ok(None),
                    Ok(_) | Err(ObjectsError::NotFound { .. } | ObjectsError::NotAFolder { .. }) => {
                        Ok(Some(name))
                    }
                    Err(e) => Err(EngineError::from(VaultError::from(e))),
                }
            })
            .buffered(self.options.threads.max(1) * 2)
            .try_filter_map(|name| async move { Ok(name) })
            .try_collect()
            .await
    }
}

fn lost_manifest(reference: &ManifestRef) -> String {
    format!("{} rows of a lost list of segments ({})", reference.rows, layout::manifest(reference.id))
}

fn lost_rows(table: &TablePoint, partition: &PointPartition, rows: u64) -> String {
    let shown = |key: &KeyBytes| key_text(&table.schema, key);
    let min = partition.range.start.as_ref().or_else(|| partition.base.first()?.min.as_ref());
    let max = partition.base.last().and_then(|e| e.max.as_ref());
    let about = if partition.changes.is_empty() { "" } else { "about " };
    let from = min.map_or_else(|| "the first key".to_owned(), shown);
    let to = match (&partition.range.end, max) {
        (Some(end), _) if !partition.changes.is_empty() => format!("before {}", shown(end)),
        (None, _) if !partition.changes.is_empty() => "the last key".to_owned(),
        (_, Some(max)) => shown(max),
        _ => return format!("{about}{rows} rows of keys that are not known"),
    };
    format!("{about}{rows} rows from {from} to {to}")
}
