//! Which rows are lost with objects that could not be healed.

use super::{KeyGap, Lost};
use crate::Result;
use crate::check::CheckReport;
use crate::layout;
use crate::log::Log;
use crate::vault::Vault;
use keepfast_format::{Manifest, ManifestKind, SegmentEntry};
use keepfast_model::{Hash256, KeyBytes, ManifestRef, TablePoint, TableSchema, key_text};
use std::collections::{BTreeMap, BTreeSet};

impl Vault {
    /// The damage that is left, with the key ranges that it touches.
    pub(super) async fn lost(
        &self,
        report: &CheckReport,
        refused: &BTreeMap<String, String>,
    ) -> Result<Vec<Lost>> {
        if report.is_whole() {
            return Ok(vec![]);
        }
        let mut gaps = match self.log().await {
            Ok(log) => self.gaps(&log, &self.damaged_objects(report).into_keys().collect()).await,
            // Without its records nobody knows what a vault held.
            Err(_) => BTreeMap::new(),
        };
        Ok(report
            .damage
            .iter()
            .map(|damage| {
                let name = damage.path.strip_prefix(&self.target().full("")).unwrap_or(&damage.path);
                let name = name.trim_start_matches('/');
                let why = refused.get(name).cloned().unwrap_or_else(|| "no copy of it is whole".into());
                Lost { damage: damage.clone(), why, gaps: gaps.remove(name).unwrap_or_default() }
            })
            .collect())
    }

    /// Rows that each of these objects holds.
    async fn gaps(&self, log: &Log, damaged: &BTreeSet<String>) -> BTreeMap<String, Vec<KeyGap>> {
        let mut gaps: BTreeMap<String, Vec<KeyGap>> = BTreeMap::new();
        let mut seen: BTreeSet<Hash256> = BTreeSet::new();
        for table in log.all_points().flat_map(|p| &p.tables) {
            let changes: Vec<ManifestRef> = table.changes.iter().map(|c| c.manifest.clone()).collect();
            for (list, kind) in [(&table.base, ManifestKind::Segments), (&changes, ManifestKind::Changes)] {
                for (at, reference) in list.iter().enumerate() {
                    if !seen.insert(reference.id) {
                        continue;
                    }
                    match self.read_manifest(reference).await {
                        Ok(manifest) => {
                            for entry in &manifest.segments {
                                let name = layout::file(kind, &table.id, entry);
                                if damaged.contains(&name) {
                                    gaps.entry(name).or_default().push(gap_of(table, &manifest, entry));
                                }
                            }
                        }
                        Err(_) => {
                            let gap = self.gap_of_manifest(table, list, at, kind).await;
                            gaps.entry(layout::manifest(reference.id)).or_default().push(gap);
                        }
                    }
                }
            }
        }
        gaps
    }

    /// What a lost manifest listed lies between its neighbours, where those can be read.
    async fn gap_of_manifest(
        &self,
        table: &TablePoint,
        list: &[ManifestRef],
        at: usize,
        kind: ManifestKind,
    ) -> KeyGap {
        let mut gap = KeyGap {
            table: table.name.clone(),
            rows: list[at].rows,
            changes: kind == ManifestKind::Changes,
            first: None,
            last: None,
        };
        if kind == ManifestKind::Changes || list.len() == 1 {
            return gap;
        }
        let shown = |key: Option<KeyBytes>| key.map(|key| key_text(&table.schema, &key));
        gap.first = match at.checked_sub(1).map(|at| &list[at]) {
            None => Some("the first row".into()),
            Some(before) => {
                let max = self.read_manifest(before).await.ok().and_then(|m| m.segments.last()?.max.clone());
                shown(max).map(|key| format!("after {key}"))
            }
        };
        gap.last = match list.get(at + 1) {
            None => Some("the last row".into()),
            Some(after) => {
                let min = self.read_manifest(after).await.ok().and_then(|m| m.segments.first()?.min.clone());
                shown(min).map(|key| format!("before {key}"))
            }
        };
        gap
    }
}

fn gap_of(table: &TablePoint, manifest: &Manifest, entry: &SegmentEntry) -> KeyGap {
    let shown = |schema: &TableSchema, key: &Option<KeyBytes>| key.as_ref().map(|key| key_text(schema, key));
    KeyGap {
        table: table.name.clone(),
        rows: entry.rows,
        changes: manifest.kind == ManifestKind::Changes,
        first: shown(&manifest.schema, &entry.min),
        last: shown(&manifest.schema, &entry.max),
    }
}
