//! What points need, as small as it can be held: one short hash an object, each manifest read once.

use crate::error::VaultError;
use crate::log::{NameHash, Point};
use crate::vault::Vault;
use crate::{Result, layout, parity};
use futures::stream::StreamExt;
use keepfast_format::Manifest;
use keepfast_keys::KeyError;
use keepfast_model::{Hash256, ManifestRef, TableId};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The distinct manifests of some points, each with the table that it is of.
pub(super) type References = BTreeMap<Hash256, (ManifestRef, TableId)>;

pub(super) fn references<'a>(points: impl IntoIterator<Item = &'a Point>) -> References {
    let mut all = References::new();
    for table in points.into_iter().flat_map(|p| &p.tables) {
        for reference in table.base.iter().chain(table.changes.iter().map(|c| &c.manifest)) {
            all.entry(reference.id).or_insert_with(|| (reference.clone(), table.id.clone()));
        }
    }
    all
}

/// Objects that some points need.
#[derive(Debug, Default)]
pub(super) struct Reach {
    names: HashSet<NameHash>,
    /// Tables with a manifest that cannot be read: which of their segments it lists cannot be told.
    blind: BTreeSet<TableId>,
}

impl Reach {
    /// Whether one of the points needs the object, or may need it.
    pub fn covers(&self, path: &str) -> bool {
        self.names.contains(&NameHash::of(path))
            || layout::table_of(path).is_some_and(|table| self.blind.contains(&TableId(table.to_owned())))
    }

    /// Manifests that points name, read or not, with their copies.
    pub fn add_manifests(&mut self, ids: impl IntoIterator<Item = Hash256>) {
        let names = ids.into_iter().flat_map(|id| [layout::manifest(id), layout::manifest_copy(id)]);
        self.names.extend(names.map(|path| NameHash::of(&path)));
    }

    /// Whether one of the points is known to need the object.
    pub fn names(&self, path: &str) -> bool {
        self.names.contains(&NameHash::of(path))
    }
}

/// Where a manifest's entries stand, their parity, and the manifest's own copy.
pub(crate) fn listed(id: Hash256, manifest: &Manifest) -> impl Iterator<Item = String> + '_ {
    let copy = manifest.parity.is_some().then(|| layout::manifest_copy(id));
    parity::listed(manifest).map(|(path, ..)| path).chain(copy)
}

impl Vault {
    /// The manifests and everything that they list. A damaged manifest makes its table blind.
    pub(super) async fn reach(&self, references: References) -> Result<Reach> {
        let mut reach = Reach::default();
        self.each_manifest(references, |id, table, manifest| {
            reach.names.insert(NameHash::of(&layout::manifest(id)));
            match manifest {
                Some(manifest) => reach.names.extend(listed(id, &manifest).map(|path| NameHash::of(&path))),
                None => drop(reach.blind.insert(table)),
            }
        })
        .await?;
        Ok(reach)
    }

    /// Gives each manifest once, in no order; none for one that is damaged, or whose table's keys were dropped.
    pub(super) async fn each_manifest(
        &self,
        references: References,
        mut given: impl FnMut(Hash256, TableId, Option<Manifest>) + Send,
    ) -> Result<()> {
        let mut read = futures::stream::iter(references)
            .map(|(id, (reference, table))| async move {
                match self.read_manifest(&reference).await {
                    Ok(manifest) => Ok((id, table, Some(manifest))),
                    Err(VaultError::Damaged { path, .. }) => {
                        tracing::warn!(object = %path, "a damaged manifest hides which segments it lists");
                        Ok((id, table, None))
                    }
                    // Nobody can tell any more what a table listed whose keys were dropped.
                    Err(VaultError::Keys(KeyError::Shredded { .. })) => Ok((id, table, None)),
                    Err(e) => Err(e),
                }
            })
            .buffer_unordered(self.environment().parallel);
        while let Some(manifest) = read.next().await {
            let (id, table, manifest) = manifest?;
            given(id, table, manifest);
        }
        Ok(())
    }
}
