//! Recovery from a thief: bringing back what was deleted or replaced, from the versions that the place keeps.
//!
//! What readers get and what fits the vault is never touched. The marker names the vault, each record the one before it,
//! records name key files and manifests by their hashes, and names of files hold theirs. Where something else stands, or
//! nothing, the oldest version that fits is put there anew; what hides it is put aside by a delete. So reading, adding
//! and deleting suffice, and no lock is in the way. What pruning or a change of keys removed stays removed.
//!
//! The log comes first ([`history`]), then the key files that it names, then what its points need.

mod history;

use crate::check::{CheckOptions, Damage};
use crate::environment::Environment;
use crate::error::VaultError;
use crate::keys::{self, FIRST_GENERATION, Keys};
use crate::log::{Log, vault_of};
use crate::marker::Marker;
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use history::Record;
use keepfast_keys::{Credentials, Keyring};
use keepfast_model::{Hash256, LogSeq, VaultId};
use keepfast_objects::{ObjectVersion, Put, Target};
use std::collections::{BTreeMap, BTreeSet};

/// How a vault is recovered.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecoverOptions {
    /// A record that was seen in the vault, which tells apart two histories that both fit.
    pub head: Option<(LogSeq, Hash256)>,
}

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
/// [`VaultError::NoVersions`] where the place keeps none, [`VaultError::NotAVault`] where there never was one;
/// [`VaultError::TwoVaults`] and [`VaultError::TwoHistories`] where what is kept does not tell which is the right one, with
/// nothing changed; as [`Vault::open`] where it cannot be opened all the same.
pub async fn recover(
    target: &Target,
    environment: Environment,
    options: &RecoverOptions,
) -> Result<RecoverReport> {
    let mut recovery = Recovery { target, parallel: environment.parallel, recovered: BTreeSet::new() };
    let markers = recovery.versions(&[layout::MARKER, layout::MARKER_COPY]).await?;
    if markers.is_empty() {
        return Err(match target.size(layout::MARKER).await? {
            None if target.immutability().is_some() => VaultError::NotAVault { url: target.url().to_owned() },
            _ => VaultError::NoVersions { url: target.url().to_owned() },
        });
    }
    let vault = recovery.vault(&markers).await?;
    let records = recovery.history(&vault, options.head).await?;
    recovery.bring_back_marker(&vault, &markers).await?;
    recovery.bring_back_keys(&vault, &records, &environment.credentials).await?;
    let opened = Vault::open_with(target.clone(), environment).await?;
    let damage = recovery.bring_back_objects(&opened).await?;
    Ok(RecoverReport { recovered: recovery.recovered.into_iter().collect(), damage })
}

struct Recovery<'a> {
    target: &'a Target,
    parallel: usize,
    /// In full.
    recovered: BTreeSet<String>,
}

/// A version, and whose it is.
type Kept = (String, ObjectVersion);

impl Recovery<'_> {
    /// What is kept of these names, newest first for each.
    async fn versions(&self, names: &[&str]) -> Result<Vec<Kept>> {
        let mut kept = vec![];
        for name in names {
            kept.extend(self.target.versions(name).await?.into_iter().filter(|(n, _)| n == name));
        }
        Ok(kept)
    }

    /// The bytes of a version; none for the mark of a deletion, and for what somebody removed meanwhile.
    async fn read(&self, (name, version): &Kept) -> Result<Option<Bytes>> {
        if version.deletion {
            return Ok(None);
        }
        match self.target.get_version(name, &version.id).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The vault of the place: of two that stood here one after the other, the one whose marker readers get.
    async fn vault(&self, markers: &[Kept]) -> Result<VaultId> {
        let (mut known, mut live) = (BTreeSet::new(), None);
        for kept in markers {
            let Some(bytes) = self.read(kept).await? else { continue };
            let Ok(marker) = Marker::decode(&kept.0, &bytes) else { continue };
            if kept.1.latest && kept.0 == layout::MARKER {
                live = Some(marker.vault.clone());
            }
            known.insert(marker.vault.0);
        }
        match (known.len(), live) {
            (0, _) => {
                Err(VaultError::damaged(self.target.full(layout::MARKER), "no version of it can be read"))
            }
            (1, _) => Ok(VaultId(known.into_iter().next().unwrap_or_default())),
            // A marker alone is quickly forged.
            (_, Some(live)) if self.has_records(&live).await? => Ok(live),
            _ => Err(VaultError::TwoVaults {
                url: self.target.url().to_owned(),
                vaults: known.into_iter().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    async fn has_records(&self, vault: &VaultId) -> Result<bool> {
        let first = [layout::log_record(LogSeq(1)), layout::log_copy(LogSeq(1))];
        for kept in self.versions(&first.each_ref().map(String::as_str)).await? {
            if self.read(&kept).await?.and_then(|bytes| vault_of(&bytes)).as_ref() == Some(vault) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn bring_back_marker(&mut self, vault: &VaultId, markers: &[Kept]) -> Result<()> {
        for name in [layout::MARKER, layout::MARKER_COPY] {
            // Without parity there never was a copy.
            if name == layout::MARKER || markers.iter().any(|(n, _)| n == name) {
                let fits = |bytes: &Bytes| Marker::decode(name, bytes).is_ok_and(|m| m.vault == *vault);
                self.bring_back(name, markers, fits).await?;
            }
        }
        Ok(())
    }

    /// The first key file, and the newest that the log names. Those between are gone on purpose: whoever was removed, and
    /// keys that were dropped, must not come back.
    async fn bring_back_keys(
        &mut self,
        vault: &VaultId,
        records: &[Record],
        credentials: &Credentials,
    ) -> Result<()> {
        let named: BTreeMap<u64, Hash256> = records.iter().flat_map(|r| r.keys.iter().copied()).collect();
        let first = layout::key_file(FIRST_GENERATION);
        let versions = self.versions(&[&first]).await?;
        let expected = named.get(&FIRST_GENERATION);
        let fits = |bytes: &Bytes| {
            Keys::decode(&first, FIRST_GENERATION, bytes)
                .is_ok_and(|keys| expected.is_none_or(|named| *named == keys.named))
        };
        self.bring_back(&first, &versions, fits).await?;
        let newest = named.last_key_value().filter(|(generation, _)| **generation > FIRST_GENERATION);
        let Some((generation, named)) = newest else { return Ok(()) };
        let names = keys::names(*generation);
        let versions = self.versions(&names.each_ref().map(String::as_str)).await?;
        for name in &names {
            let fitting = |bytes: &Bytes| {
                Keys::decode(name, *generation, bytes).ok().filter(|keys| keys.named == *named)
            };
            // Its hash does not tell whether its recipients are those that it was given; its code does.
            let opens = |keys: &Keys| Keyring::open(&keys.file, &vault.0, credentials).is_ok();
            if credentials.is_empty()
                || !self
                    .bring_back(name, &versions, |bytes| fitting(bytes).is_some_and(|k| opens(&k)))
                    .await?
            {
                self.bring_back(name, &versions, |bytes| fitting(bytes).is_some()).await?;
            }
        }
        Ok(())
    }

    /// What points need, and what is damaged all the same.
    async fn bring_back_objects(&mut self, vault: &Vault) -> Result<Vec<Damage>> {
        // A manifest that comes back tells which files are missing.
        loop {
            let damage = vault.check(&CheckOptions::default(), &()).await?.damage;
            let before = self.recovered.len();
            let log = vault.log().await;
            for damaged in &damage {
                let root = self.target.full("");
                let Some(name) = damaged.path.strip_prefix(&root).map(|n| n.trim_start_matches('/')) else {
                    continue;
                };
                // Once is enough: what is damaged after it was brought back was so from the start.
                if let Some(stored) = log.as_ref().ok().and_then(|log| stated_hash(log, name))
                    && !self.recovered.contains(&damaged.path)
                {
                    let versions = self.versions(&[name]).await?;
                    self.bring_back(name, &versions, |bytes| Hash256::of(bytes) == stored).await?;
                }
            }
            if self.recovered.len() == before {
                return Ok(damage);
            }
        }
    }

    /// Lets readers of a name get bytes that fit, unless they do. False where nothing that is kept fits.
    async fn bring_back(
        &mut self,
        name: &str,
        versions: &[Kept],
        fits: impl Fn(&Bytes) -> bool,
    ) -> Result<bool> {
        let live = versions.iter().find(|(n, v)| n == name && v.latest);
        // Its own versions first, each name's oldest first.
        let own = versions.iter().rev().filter(|(n, _)| n == name);
        let others = versions.iter().rev().filter(|(n, _)| n != name);
        for (at, kept) in live.into_iter().chain(own).chain(others).enumerate() {
            if let Some(bytes) = self.read(kept).await?
                && fits(&bytes)
            {
                if at > 0 || live.is_none() {
                    self.put(name, bytes).await?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts bytes under a name, whatever stands there.
    async fn put(&mut self, name: &str, bytes: Bytes) -> Result<()> {
        // Three tries: whoever deletes and replaces may still be at it.
        for _ in 0..3 {
            if self.target.put_new(name, bytes.clone()).await? == Put::Created {
                self.recovered.insert(self.target.full(name));
                return Ok(());
            }
            self.target.delete(name).await?;
        }
        Err(keepfast_objects::ObjectsError::Exists { path: self.target.full(name) }.into())
    }
}

/// The hash of the bytes that must stand under a name, as the log or the name says.
fn stated_hash(log: &Log, name: &str) -> Option<Hash256> {
    if let Some((layout::MANIFESTS | layout::MANIFESTS_COPY, id)) = name.split_once('/') {
        let tables = log.all_points().flat_map(|p| &p.tables);
        let mut named = tables.flat_map(|t| t.base.iter().chain(t.changes.iter().map(|c| &c.manifest)));
        return named.find(|m| m.id.to_string() == id).map(|m| m.stored);
    }
    layout::stored_hash(name)
}
