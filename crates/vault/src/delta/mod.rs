//! The newest base of a table as a Delta table, so that any Delta reader opens it where it stands.
//!
//! Best effort: no restore reads it, and it can be rebuilt. One version a base: it removes the files that the
//! former base had and this one has not, and adds the new ones. The protocol is that of the Delta transaction log,
//! reader version 1, or 3 with `timestampNtz` where a column is a timestamp without zone. A check compares it with the bases
//! ([`crate::check`]), since outside readers believe it.

mod schema;
mod version;

pub use version::DeltaVersion;

use crate::check::{DamageKind, unreadable};
use crate::error::VaultError;
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_format::Manifest;
use keepfast_model::point::Encryption;
use keepfast_model::{TableId, TablePoint};
use keepfast_objects::{ObjectInfo, Put};
use schema::{delta_schema, holds_time_without_zone};
use std::collections::BTreeMap;
use version::{File, Metadata, Version};

/// What a Delta log says: nothing, or the state after its newest version.
#[derive(Debug, Default)]
pub(crate) struct Projected {
    /// The newest version; none for no log.
    pub version: Option<u64>,
    pub shown: Shown,
    /// Objects and bytes that were read.
    pub read: (u64, u64),
}

/// What readers of a Delta log see. Equal for equal bases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Files by their paths in the table's folder.
    pub files: BTreeMap<String, File>,
    metadata: Option<Metadata>,
    /// Whether readers must know timestamps without zone.
    without_zone: bool,
}

/// An object of a Delta log that is not as it was written.
#[derive(Clone, Debug)]
pub(crate) struct DeltaFault {
    /// Its name in the vault.
    pub name: String,
    pub what: DamageKind,
}

impl Projected {
    /// The name of the newest version of this table's log.
    pub fn name(&self, table: &TableId) -> String {
        version_name(table, self.version.unwrap_or_default())
    }
}

impl Shown {
    /// What a log shows of a base.
    pub fn of(table: &TablePoint, base: &[Manifest]) -> Self {
        // The schema that the files were written with; changes after the base may have added columns.
        let schema = base.first().map_or(&table.schema, |m| &m.schema);
        Self {
            files: base
                .iter()
                .flat_map(|m| &m.segments)
                .map(|e| (format!("{FILES}{}", e.file_name()), File { bytes: e.bytes.0, rows: e.rows }))
                .collect(),
            metadata: Some(Metadata {
                id: as_uuid(&table.id.0),
                name: table.name.table.clone(),
                schema: delta_schema(schema).to_string(),
            }),
            without_zone: schema.columns.iter().any(|c| holds_time_without_zone(&c.column_type)),
        }
    }

    /// Whether readers of this see exactly that base. What they must know besides does no harm.
    pub fn shows(&self, base: &Self) -> bool {
        self.files == base.files
            && self.metadata == base.metadata
            && (self.without_zone || !base.without_zone)
    }

    /// Goes on to the next version, which removes what is there and adds what is not.
    fn apply(&mut self, version: Version) -> Result<(), &'static str> {
        for (path, bytes) in version.removes {
            if self.files.remove(&path).is_none_or(|file| file.bytes != bytes) {
                return Err("it removes a file that is not there");
            }
        }
        for (path, file) in version.adds {
            if self.files.insert(path, file).is_some() {
                return Err("it adds a file that is there");
            }
        }
        self.without_zone = version.without_zone.unwrap_or(self.without_zone);
        self.metadata = version.metadata.or(self.metadata.take());
        match self.metadata {
            Some(_) => Ok(()),
            None => Err("it does not say what its columns are"),
        }
    }
}

/// Folder of a table's base files.
const FILES: &str = "segments/";

impl Vault {
    /// Adds the base of a table as the next version of its Delta log. None where the log shows that base already.
    ///
    /// `base` are the table's base manifests, as [`Vault::read_manifests`] gives them.
    ///
    /// # Errors
    /// [`VaultError::Unsupported`] for an encrypted table, [`VaultError::Objects`], and [`VaultError::Damaged`] for
    /// a Delta log that cannot be read; [`Self::rebuild_projection`] then helps.
    pub async fn project_delta(&self, table: &TablePoint, base: &[Manifest]) -> Result<Option<DeltaVersion>> {
        if table.encryption != Encryption::None {
            return Err(VaultError::Unsupported { what: "a Delta log of an encrypted table".into() });
        }
        let wanted = Shown::of(table, base);
        loop {
            let before = match self.projected(&table.id).await? {
                Ok(before) => before,
                Err(faults) => {
                    let DeltaFault { name, what } = faults.into_iter().next().ok_or_else(nothing_wrong)?;
                    return Err(VaultError::damaged(self.target().full(&name), what.to_string()));
                }
            };
            let at = self.environment().clock.now().as_millisecond();
            let Some(version) = next_version(&before, &wanted, at) else { return Ok(None) };
            let number = before.version.map_or(0, |v| v + 1);
            let name = version_name(&table.id, number);
            let bytes = version.encode(&name);
            if self.target().put_new(&name, bytes.into()).await? == Put::Created {
                return Ok(Some(DeltaVersion(number)));
            }
        }
    }

    /// Writes a table's Delta log anew, with this base as its only version.
    ///
    /// # Errors
    /// As [`Self::project_delta`].
    pub async fn rebuild_projection(
        &self,
        table: &TablePoint,
        base: &[Manifest],
    ) -> Result<Option<DeltaVersion>> {
        self.remove_projection(&table.id).await?;
        self.project_delta(table, base).await
    }

    pub(crate) async fn remove_projection(&self, table: &TableId) -> Result<()> {
        let listed = self.target().list(&layout::delta_log(table)).await?;
        // Newest first: a reader that comes between sees an older version rather than a broken one.
        for object in listed.into_iter().rev() {
            self.target().delete(&object.path).await?;
        }
        Ok(())
    }

    /// What a table's Delta log says, or what of it is damaged: at least one object.
    pub(crate) async fn projected(
        &self,
        table: &TableId,
    ) -> Result<std::result::Result<Projected, Vec<DeltaFault>>> {
        let listed = self.target().list(&layout::delta_log(table)).await?;
        let mut faults = vec![];
        let mut next = 0u64;
        let mut versions: Vec<ObjectInfo> = vec![];
        for object in listed {
            let Some(number) = number_of(table, &object.path) else {
                // Readers believe a checkpoint of the Delta log rather than its versions.
                let detail = "Keepfast writes nothing of this name".to_owned();
                faults.push(DeltaFault { name: object.path, what: DamageKind::Changed { detail } });
                continue;
            };
            if number != next {
                faults.push(DeltaFault { name: version_name(table, next), what: DamageKind::Missing });
            }
            next = number.saturating_add(1);
            versions.push(object);
        }
        let mut read = futures::stream::iter(versions)
            .map(|object| async move {
                let bytes = match self.target().get(&object.path).await {
                    Ok(bytes) => Ok(bytes),
                    Err(e) => Err(unreadable(e)?),
                };
                Ok::<_, VaultError>((object.path, bytes))
            })
            .buffered(self.environment().parallel);
        let mut state = Projected::default();
        while let Some((name, bytes)) = read.try_next().await? {
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(what) => {
                    faults.push(DeltaFault { name, what });
                    continue;
                }
            };
            state.read = (state.read.0 + 1, state.read.1 + bytes.len() as u64);
            let applied = Version::decode(&name, &bytes).and_then(|version| match faults.is_empty() {
                true => Ok(state.shown.apply(version)?),
                // What came before it is not known.
                false => Ok(()),
            });
            match applied {
                Ok(()) => state.version = Some(state.version.map_or(0, |v| v + 1)),
                Err(detail) => faults.push(DeltaFault { name, what: DamageKind::Changed { detail } }),
            }
        }
        Ok(if faults.is_empty() { Ok(state) } else { Err(faults) })
    }
}

fn nothing_wrong() -> VaultError {
    VaultError::Record { reason: "a damaged Delta log has no fault".into() }
}

fn version_name(table: &TableId, version: u64) -> String {
    format!("{}/{version:020}.json", layout::delta_log(table))
}

/// The number of a version that has this path; none for anything else.
fn number_of(table: &TableId, path: &str) -> Option<u64> {
    let number = path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()?;
    (version_name(table, number) == path).then_some(number)
}

/// The version that leads to what is wanted; none where there is nothing to do.
fn next_version(before: &Projected, wanted: &Shown, at: i64) -> Option<Version> {
    let Projected { version, shown, .. } = before;
    if version.is_some() && shown.shows(wanted) {
        return None;
    }
    // A file of the same name with other numbers cannot be: names are hashes.
    let of = |files: &BTreeMap<String, File>, but: &BTreeMap<String, File>| {
        let new = files.iter().filter(|(path, _)| !but.contains_key(*path));
        new.map(|(path, file)| (path.clone(), *file)).collect::<Vec<_>>()
    };
    let stated = version.is_some() && (shown.without_zone || !wanted.without_zone);
    Some(Version {
        at,
        operation: if version.is_none() { "CREATE TABLE" } else { "WRITE" }.into(),
        engine: concat!("keepfast ", env!("CARGO_PKG_VERSION")).into(),
        without_zone: (!stated).then_some(wanted.without_zone),
        metadata: wanted.metadata.clone().filter(|_| shown.metadata != wanted.metadata),
        removes: of(&shown.files, &wanted.files).into_iter().map(|(path, file)| (path, file.bytes)).collect(),
        adds: of(&wanted.files, &shown.files),
    })
}

/// Delta wants a UUID; a table id is as long as one.
fn as_uuid(id: &str) -> String {
    let part = |range: std::ops::Range<usize>| id.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}
