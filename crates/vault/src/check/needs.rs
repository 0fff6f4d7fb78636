//! What points need: every object once, with all tables and points that would miss it.

use super::{DamageKind, Points, Progress, report::Damage};
use crate::check::CheckReport;
use crate::keyring::KeyState;
use crate::log::{Log, Point};
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::StreamExt;
use keepfast_format::{FormatError, Manifest, ManifestKind};
use keepfast_keys::KeyError;
use keepfast_model::{Hash256, ManifestRef, TableId, TableName};
use std::collections::{BTreeMap, BTreeSet};

/// Tables and points that would miss an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    tables: BTreeSet<TableName>,
    points: Points,
}

impl Touched {
    pub(super) fn all(log: &Log) -> Self {
        let mut all = Self::default();
        log.all_points().for_each(|p| all.add_point(p));
        all
    }

    pub(super) fn add_point(&mut self, point: &Point) {
        self.points.insert(point.id().clone());
        self.tables.extend(point.tables.iter().map(|t| t.name.clone()));
    }

    pub(super) fn table(name: TableName, points: Points) -> Self {
        Self { tables: BTreeSet::from([name]), points }
    }

    fn add(&mut self, other: &Self) {
        self.tables.extend(other.tables.iter().cloned());
        self.points.extend(other.points.iter().cloned());
    }

    pub(super) fn damage(&self, path: String, what: DamageKind) -> Damage {
        Damage {
            path,
            what,
            tables: self.tables.iter().cloned().collect(),
            points: self.points.iter().cloned().collect(),
            kept_versions: 0,
        }
    }
}

/// One object that must be there.
#[derive(Clone, Debug)]
pub(super) struct Need {
    pub stored: Hash256,
    pub bytes: u64,
    /// Positions in [`Needs::touched`] of the manifests that list it.
    by: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Segments and change segments by path.
    pub objects: BTreeMap<String, Need>,
    /// Paths of manifests; they have been checked already.
    pub manifests: BTreeSet<String>,
    /// What each manifest's loss touches.
    touched: Vec<Touched>,
    /// Tables with a manifest that cannot be read, and what its loss touches.
    lost: BTreeMap<TableId, Touched>,
}

impl Needs {
    /// What an object's loss touches.
    pub(super) fn touched(&self, need: &Need) -> Touched {
        let mut all = Touched::default();
        need.by.iter().filter_map(|i| self.touched.get(*i as usize)).for_each(|t| all.add(t));
        all
    }
}

impl Needs {
    /// What a segment's loss may touch that only a lost manifest can have listed, with the hash that its name states.
    pub(super) fn stray(&self, path: &str) -> Option<(&Touched, Hash256)> {
        let mut parts = path.strip_prefix(layout::TABLES)?.split('/').skip(1);
        let touched = self.lost.get(&TableId(parts.next()?.to_owned()))?;
        let stored = parts.nth(1)?.strip_suffix(".parquet")?.split_once('-')?.1;
        Some((touched, Hash256::from_hex(stored)?))
    }
}

/// A manifest that must be there, and whose it must be.
struct WantedManifest {
    reference: ManifestRef,
    kind: ManifestKind,
    table: TableId,
    /// Whether it has a copy.
    copied: bool,
    touched: Touched,
}

impl Vault {
    /// Reads and checks all manifests of the points, and collects what they list.
    pub(super) async fn needs(
        &self,
        points: &[Point],
        report: &mut CheckReport,
        progress: &dyn Progress,
    ) -> Result<Needs> {
        // What the keys of a table encrypted that were dropped on purpose is not there to be checked.
        let dropped = matches!(self.key_state(), KeyState::Open(_));
        let wanted = wanted(points, dropped);
        progress.expect(wanted.len() as u64, wanted.values().map(|w| w.reference.bytes.0).sum());
        let mut needs = Needs::default();
        let mut read = futures::stream::iter(wanted.into_values().collect::<Vec<_>>())
            .map(|w| async move {
                let manifest = self.checked_manifest(&w, &layout::manifest(w.reference.id)).await;
                (w, manifest)
            })
            .buffer_unordered(self.environment().parallel);
        while let Some((w, manifest)) = read.next().await {
            let name = layout::manifest(w.reference.id);
            report.objects += 1;
            report.bytes += w.reference.bytes.0;
            progress.checked(1, w.reference.bytes.0);
            needs.manifests.insert(name.clone());
            let position = needs.touched.len() as u32;
            needs.touched.push(w.touched.clone());
            let mut need = |path: String, stored: Hash256, bytes: u64| {
                let need = Need { stored, bytes, by: vec![] };
                needs.objects.entry(path).or_insert(need).by.push(position);
            };
            let copy = layout::manifest_copy(w.reference.id);
            if w.copied {
                need(copy.clone(), w.reference.stored, w.reference.bytes.0);
            }
            let manifest = match manifest? {
                Ok(manifest) => Some(manifest),
                Err(what) => {
                    report.damage.push(w.touched.damage(self.target().full(&name), what));
                    match w.copied {
                        true => self.checked_manifest(&w, &copy).await?.ok(),
                        false => None,
                    }
                }
            };
            match manifest {
                Some(manifest) => crate::parity::listed(&manifest)
                    .for_each(|(path, stored, bytes)| need(path, stored, bytes.0)),
                None => needs.lost.entry(w.table).or_default().add(&w.touched),
            }
        }
        Ok(needs)
    }

    /// A manifest, or how it is damaged.
    async fn checked_manifest(&self, w: &WantedManifest, name: &str) -> Result<Result<Manifest, DamageKind>> {
        let changed = |detail: &str| Ok(Err(DamageKind::Changed { detail: detail.to_owned() }));
        let bytes = match self.target().get(name).await {
            Ok(bytes) => bytes,
            Err(e) => return super::unreadable(e).map(Err),
        };
        let (expected, found) = (w.reference.bytes.0, bytes.len() as u64);
        if found < expected {
            return Ok(Err(DamageKind::Truncated { expected, found }));
        }
        if Hash256::of(&bytes) != w.reference.stored {
            return changed("its bytes do not match their hash");
        }
        let manifest = match self.decode_manifest(&bytes) {
            Ok(manifest) => manifest,
            Err(
                e @ (FormatError::NewerFormat { .. }
                | FormatError::Unsupported { .. }
                | FormatError::Keys(KeyError::Locked { .. })),
            ) => {
                return Err(e.into());
            }
            Err(e) => return changed(&e.to_string()),
        };
        let rows: u64 = manifest.segments.iter().map(|s| s.rows).fold(0, u64::saturating_add);
        if manifest.table != w.table || manifest.kind != w.kind {
            return changed("it belongs to another table, or is of another kind");
        }
        if manifest.segments.len() as u64 != u64::from(w.reference.segments) || rows != w.reference.rows {
            return changed("it lists other segments than its point says");
        }
        Ok(Ok(manifest))
    }
}

/// Every manifest of the points once. Equal names with other hashes are two: at most one of them can be right.
fn wanted(points: &[Point], dropped: bool) -> BTreeMap<(Hash256, Hash256), WantedManifest> {
    let mut wanted: BTreeMap<_, WantedManifest> = BTreeMap::new();
    for point in points {
        for table in point.tables.iter().filter(|t| !(dropped && t.sealed.is_some())) {
            let base = table.base.iter().map(|m| (m, ManifestKind::Segments));
            let changes = table.changes.iter().map(|c| (&c.manifest, ManifestKind::Changes));
            for (reference, kind) in base.chain(changes) {
                let w = wanted.entry((reference.id, reference.stored)).or_insert_with(|| WantedManifest {
                    reference: reference.clone(),
                    kind,
                    table: table.id.clone(),
                    copied: table.parity.is_some(),
                    touched: Touched::default(),
                });
                w.touched.tables.insert(table.name.clone());
                w.touched.points.insert(point.id().clone());
            }
        }
    }
    wanted
}
