//! Checking the Delta logs of tables against their bases.
//!
//! A log that is missing, or shows an older base, is no damage: it is written after a commit, and whoever writes it may die
//! before. One that shows what no base is misleads every reader but Keepfast.

use super::{CheckReport, DamageKind, Touched};
use crate::delta::{DeltaFault, Projected, Shown};
use crate::error::VaultError;
use crate::log::{Log, Point};
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_model::point::Encryption;
use keepfast_model::{BackupName, LogSeq, PointId, TableId, TableName, TablePoint};
use std::collections::{BTreeMap, BTreeSet};

/// A table whose Delta log is not there, or shows an older base: outside readers see older rows, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Its backup.
    pub backup: BackupName,
    /// Its name.
    pub table: TableName,
    /// Its folder.
    pub id: TableId,
}

/// A table as its newest point has it.
#[derive(Clone)]
pub(crate) struct Newest {
    point: Point,
    at: usize,
}

impl Newest {
    /// Every table of a log that has a Delta log.
    fn all(log: &Log) -> Vec<Self> {
        let tables = log.all_points().flat_map(|point| {
            point.tables.iter().enumerate().map(move |(at, table)| (&table.id, (point, at)))
        });
        // Points come oldest first.
        let newest: BTreeMap<_, _> = tables.collect();
        let plain = |(point, at): &(&Point, usize)| point.tables[*at].encryption == Encryption::None;
        newest.into_values().filter(plain).map(|(point, at)| Self { point: point.clone(), at }).collect()
    }

    /// The table of this id.
    pub(crate) fn of(log: &Log, id: &TableId) -> Option<Self> {
        Self::all(log).into_iter().find(|newest| newest.table().id == *id)
    }

    pub(crate) fn table(&self) -> &TablePoint {
        &self.point.tables[self.at]
    }

    fn behind(&self) -> Behind {
        let table = self.table();
        Behind { backup: self.point.backup.clone(), table: table.name.clone(), id: table.id.clone() }
    }

    /// Points with the same base.
    fn points(&self, log: &Log) -> BTreeSet<PointId> {
        let table = self.table();
        let same = |p: &&Point| p.tables.iter().any(|t| t.id == table.id && t.base == table.base);
        log.points(&self.point.backup).filter(same).map(|p| p.id().clone()).collect()
    }
}

/// How a Delta log stands to its table's bases.
enum Standing {
    Newest,
    Behind,
    Damaged(Vec<DeltaFault>),
}

impl Vault {
    /// Checks the Delta logs of all tables whose newest point is among the chosen ones.
    pub(super) async fn check_projections(
        &self,
        log: &Log,
        points: &[Point],
        report: &mut CheckReport,
    ) -> Result<()> {
        let chosen: BTreeSet<LogSeq> = points.iter().map(|p| p.seq()).collect();
        let all = Newest::all(log).into_iter().filter(|n| chosen.contains(&n.point.seq()));
        let mut checked = futures::stream::iter(all.collect::<Vec<_>>())
            .map(|newest| async move {
                let found = self.projection(log, &newest).await?;
                Ok::<_, VaultError>((newest, found))
            })
            .buffer_unordered(self.environment().parallel);
        while let Some((newest, (standing, (objects, bytes)))) = checked.try_next().await? {
            report.objects += objects;
            report.bytes += bytes;
            match standing {
                Standing::Newest => {}
                Standing::Behind => report.behind.push(newest.behind()),
                Standing::Damaged(faults) => {
                    let touched = Touched::table(newest.table().name.clone(), newest.points(log));
                    for DeltaFault { name, what } in faults {
                        report.damage.push(touched.damage(self.target().full(&name), what));
                    }
                }
            }
        }
        report.behind.sort_by(|a, b| (&a.backup, &a.table).cmp(&(&b.backup, &b.table)));
        Ok(())
    }

    /// How a table's Delta log stands, and the objects and bytes that were read of it.
    async fn projection(&self, log: &Log, newest: &Newest) -> Result<(Standing, (u64, u64))> {
        let id = &newest.table().id;
        let found = self.projected(id).await?;
        let read = found.as_ref().map_or((0, 0), |projected| projected.read);
        let standing = self.compare_projection(log, newest, found).await?;
        if !matches!(standing, Standing::Damaged(_)) {
            return Ok((standing, read));
        }
        // A backup beside this may have shown a base that it committed since, and a drop or a repair may be at work: what the
        // log of the vault says after the Delta log was read decides.
        let found = self.projected(id).await?;
        let Ok(log) = self.log().await else { return Ok((standing, read)) };
        let standing = match Newest::of(&log, id) {
            Some(newest) => self.compare_projection(&log, &newest, found).await?,
            None => Standing::Newest,
        };
        Ok((standing, read))
    }

    async fn compare_projection(
        &self,
        log: &Log,
        newest: &Newest,
        found: std::result::Result<Projected, Vec<DeltaFault>>,
    ) -> Result<Standing> {
        let projected = match found {
            Ok(projected) => projected,
            Err(faults) => return Ok(Standing::Damaged(faults)),
        };
        if projected.version.is_none() {
            return Ok(Standing::Behind);
        }
        let table = newest.table();
        // A base that cannot be read is in the report already.
        let Some(base) = self.shown_of(table).await? else { return Ok(Standing::Newest) };
        if projected.shown.shows(&base) {
            return Ok(Standing::Newest);
        }
        let mut known = base.files;
        let mut seen = vec![&table.base];
        for older in log.points(&newest.point.backup).rev().flat_map(|p| &p.tables) {
            if older.id != table.id || seen.contains(&&older.base) {
                continue;
            }
            seen.push(&older.base);
            let Some(base) = self.shown_of(older).await? else { return Ok(Standing::Behind) };
            if projected.shown.shows(&base) {
                return Ok(Standing::Behind);
            }
            known.extend(base.files);
        }
        // The base that it shows was pruned since.
        let folder = layout::table(&table.id);
        let files = &projected.shown.files;
        let pruned = files.keys().filter(|path| log.is_condemned(&format!("{folder}/{path}"))).count();
        let stated = files.iter().filter(|(path, file)| known.get(*path) == Some(file)).count();
        if pruned > 0 && pruned + stated >= files.len() {
            return Ok(Standing::Behind);
        }
        let detail = "it shows other files than any base of its table".to_owned();
        let name = projected.name(&table.id);
        Ok(Standing::Damaged(vec![DeltaFault { name, what: DamageKind::Changed { detail } }]))
    }

    /// What a Delta log shows of a table's base; none where that cannot be read.
    async fn shown_of(&self, table: &TablePoint) -> Result<Option<Shown>> {
        let mut base = vec![];
        for reference in &table.base {
            match self.read_manifest(reference).await {
                Ok(manifest) => base.push(manifest),
                Err(VaultError::Damaged { .. } | VaultError::Format(_) | VaultError::Objects(_)) => {
                    return Ok(None);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Some(Shown::of(table, &base)))
    }

    /// Brings Delta logs up to the newest base of their tables. Those that could not be written come back with the reason.
    ///
    /// # Errors
    /// As [`Vault::log`].
    pub async fn project_behind(&self, behind: &[Behind]) -> Result<Vec<(Behind, VaultError)>> {
        let log = self.log().await?;
        let mut failed = vec![];
        for one in behind {
            // Dropped since.
            let Some(newest) = Newest::of(&log, &one.id) else { continue };
            let projected = async {
                let manifests = self.read_manifests(newest.table()).await?;
                self.project_delta(newest.table(), &manifests.base).await
            };
            if let Err(e) = projected.await {
                failed.push((one.clone(), e));
            }
        }
        Ok(failed)
    }
}
