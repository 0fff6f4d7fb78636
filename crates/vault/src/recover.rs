//! Recovery from a thief: bringing back what was deleted or replaced, from the versions that the place keeps.
//!
//! Nothing of a vault is ever written twice, so the first version of a name is the genuine one. Whatever hides it is
//! put aside by a delete, and its bytes are put there anew: reading, adding and deleting suffice, and no lock is in the
//! way. The log comes first, then what its points need; what pruning removed stays removed.

use crate::check::{CheckOptions, Damage};
use crate::environment::Environment;
use crate::error::VaultError;
use crate::vault::Vault;
use crate::{Result, layout};
use keepfast_objects::{ObjectVersion, Put, Target};
use std::collections::{BTreeMap, BTreeSet};

/// What a recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverReport {
    /// Objects that were brought back, in full, sorted.
    pub recovered: Vec<String>,
    /// What is damaged all the same.
    pub damage: Vec<Damage>,
}

/// Brings back the objects of the vault at a place. May be repeated.
///
/// # Errors
/// [`VaultError::NoVersions`] where the place keeps none, [`VaultError::NotAVault`] where there never was one; as
/// [`Vault::open`] where it cannot be opened all the same.
pub async fn recover(target: &Target, environment: Environment) -> Result<RecoverReport> {
    let marker = target.versions(layout::MARKER).await?;
    if marker.is_empty() {
        return Err(match target.size(layout::MARKER).await? {
            None if target.immutability().is_some() => VaultError::NotAVault { url: target.url().to_owned() },
            _ => VaultError::NoVersions { url: target.url().to_owned() },
        });
    }
    let mut recovered = BTreeSet::new();
    let log = [layout::LOG, layout::LOG_COPY].map(|folder| format!("{folder}/"));
    for prefix in log.iter().map(String::as_str).chain([layout::MARKER]) {
        for (name, versions) in by_name(target.versions(prefix).await?) {
            bring_back(target, &name, &versions, &mut recovered).await?;
        }
    }
    // Earlier generations may be gone on purpose: dropping a key must not be undone.
    for folder in [layout::KEYS, layout::KEYS_COPY] {
        let keys = by_name(target.versions(&format!("{folder}/")).await?);
        if let Some((name, versions)) = keys.iter().max_by_key(|(name, _)| layout::generation(name)) {
            bring_back(target, name, versions, &mut recovered).await?;
        }
    }
    let vault = Vault::open_with(target.clone(), environment).await?;
    let mut report = RecoverReport::default();
    // A manifest that comes back tells which segments are missing.
    loop {
        report.damage = vault.check(&CheckOptions::default(), &()).await?.damage;
        let before = recovered.len();
        for damage in &report.damage {
            let Some(name) = damage.path.strip_prefix(target.url()).map(|n| n.trim_start_matches('/')) else {
                continue;
            };
            let versions: Vec<ObjectVersion> =
                target.versions(name).await?.into_iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect();
            // Once is enough: an object that is damaged after it was brought back was so from the start.
            if !recovered.contains(&damage.path) {
                bring_back(target, name, &versions, &mut recovered).await?;
            }
        }
        if recovered.len() == before {
            break;
        }
    }
    report.recovered = recovered.into_iter().collect();
    Ok(report)
}

/// Versions of each name, newest first.
fn by_name(versions: Vec<(String, ObjectVersion)>) -> BTreeMap<String, Vec<ObjectVersion>> {
    let mut names: BTreeMap<String, Vec<ObjectVersion>> = BTreeMap::new();
    for (name, version) in versions {
        names.entry(name).or_default().push(version);
    }
    names
}

/// Makes the first version of a name what a reader gets, where something else hides it.
async fn bring_back(
    target: &Target,
    name: &str,
    versions: &[ObjectVersion],
    recovered: &mut BTreeSet<String>,
) -> Result<()> {
    let Some(genuine) = versions.iter().rev().find(|v| !v.deletion) else { return Ok(()) };
    if genuine.latest {
        return Ok(());
    }
    let bytes = target.get_version(name, &genuine.id).await?;
    // An earlier recovery put it there anew.
    if versions.first().is_some_and(|newest| !newest.deletion && newest.bytes == genuine.bytes)
        && target.get(name).await.is_ok_and(|found| found == bytes)
    {
        return Ok(());
    }
    // Two tries: whoever deletes and replaces may still be at it.
    for _ in 0..2 {
        match target.put_new(name, bytes.clone()).await? {
            Put::Created => {
                recovered.insert(target.full(name));
                return Ok(());
            }
            Put::Existed => target.delete(name).await?,
        }
    }
    match target.put_new(name, bytes).await? {
        Put::Created => recovered.insert(target.full(name)),
        Put::Existed => return Err(keepfast_objects::ObjectsError::Exists { path: target.full(name) }.into()),
    };
    Ok(())
}
