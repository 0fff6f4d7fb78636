//! Repair: damaged objects are replaced by the bytes that were written, where those can still be had.
//!
//! They come from an object's other copy, from parity, or from another place that holds the same vault, and count
//! only when they have the hash that the log or a manifest states. So a repair can only ever put back what was there:
//! it may be cut off anywhere, run twice at once, and run beside backups. It heals from the top down, since what a
//! lost manifest lists is known only when the manifest is back, and checks anew until nothing more can be healed.

mod files;
mod gaps;
mod keys;
mod report;
mod rest;

pub use report::{Healed, HealedBy, KeyGap, Lost, RepairReport};

use crate::check::{CheckOptions, CheckReport, DamageKind, Progress};
use crate::environment::Environment;
use crate::error::VaultError;
use crate::log::{LogLine, Reading, read_all};
use crate::marker::{FORMAT, Marker};
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use keepfast_model::{Hash256, LogSeq, ManifestRef};
use keepfast_objects::{Put, Target};
use std::collections::{BTreeMap, BTreeSet};

/// Objects that hang on each other: marker, records, manifests, files; and one round to see that all is well.
const ROUNDS: usize = 6;

/// One round of healing.
pub(crate) struct Round<'a> {
    vault: &'a Vault,
    /// The same vault at another place.
    from: Option<&'a Target>,
    /// Damaged objects, relative to the vault.
    damaged: BTreeMap<String, DamageKind>,
    healed: BTreeMap<String, HealedBy>,
    /// Why an object was not healed.
    refused: BTreeMap<String, String>,
}

impl Vault {
    /// Checks the vault and heals what can be healed, from its own copies and parity, and from another place that
    /// holds the same vault. What cannot be healed is in the report, with the key ranges that it touches.
    ///
    /// # Errors
    /// [`VaultError::OtherVault`] when `from` is another vault, [`VaultError::Diverged`] when it has another history;
    /// otherwise as [`Vault::check`].
    pub async fn repair(&self, from: Option<&Target>, progress: &dyn Progress) -> Result<RepairReport> {
        let theirs = match from {
            Some(from) => self.records_of(from).await?,
            None => vec![],
        };
        let mut report = RepairReport::default();
        let mut refused = BTreeMap::new();
        for _ in 0..ROUNDS {
            report.check = self.check(&CheckOptions::default(), progress).await?;
            let mut round = Round {
                vault: self,
                from,
                damaged: self.damaged_objects(&report.check),
                healed: BTreeMap::new(),
                refused: BTreeMap::new(),
            };
            round.heal(&theirs).await?;
            self.target().sync().await?;
            refused = round.refused;
            if round.healed.is_empty() {
                break;
            }
            // What was read before it was healed does not count.
            self.forget_log();
            report.healed.extend(round.healed.into_iter().map(|(name, by)| Healed {
                what: round.damaged.get(&name).cloned().unwrap_or(DamageKind::Missing),
                path: self.target().full(&name),
                by,
            }));
        }
        report.healed.sort_by(|a, b| a.path.cmp(&b.path));
        let root = self.target().full("");
        let names = report.healed.iter().filter_map(|h| h.path.strip_prefix(&root));
        if let Err(e) = self.lock_healed(names.map(|name| name.trim_start_matches('/'))).await {
            tracing::warn!(vault = %self.url(), error = %e, "what was healed is not locked as what it replaced was");
        }
        report.lost = self.lost(&report.check, &refused).await?;
        Ok(report)
    }

    /// As [`Vault::repair`], of whatever stands at a place; see [`Vault::check_place`].
    ///
    /// # Errors
    /// [`VaultError::NotAVault`] where nothing of a vault can be found; otherwise as [`Vault::repair`].
    pub async fn repair_place(
        target: Target,
        environment: Environment,
        from: Option<&Target>,
        progress: &dyn Progress,
    ) -> Result<RepairReport> {
        Self::of_place(target, environment).await?.repair(from, progress).await
    }

    /// Damaged objects of a report by their names in the vault.
    fn damaged_objects(&self, report: &CheckReport) -> BTreeMap<String, DamageKind> {
        let prefix = self.target().full("");
        report
            .damage
            .iter()
            .filter_map(|d| {
                Some((d.path.strip_prefix(&prefix)?.trim_start_matches('/').to_owned(), d.what.clone()))
            })
            .collect()
    }

    /// The records of another place, which must hold this vault.
    async fn records_of(&self, from: &Target) -> Result<Vec<LogLine>> {
        let marker = Marker::read(from).await?;
        if marker.vault != *self.id() {
            return Err(VaultError::OtherVault {
                url: from.url().to_owned(),
                found: marker.vault.to_string(),
                expected: self.id().to_string(),
            });
        }
        let other = self.elsewhere(from.clone());
        let theirs = read_all(&other).await?.lines;
        let ours = certain(&read_all(self).await?);
        match theirs.iter().find(|l| ours.get(&l.seq).is_some_and(|stored| *stored != l.stored)) {
            Some(line) => Err(VaultError::Diverged {
                path: from.full(&layout::log_record(line.seq)),
                url: self.url().to_owned(),
            }),
            None => Ok(theirs),
        }
    }
}

/// Records of which it is certain which bytes are right: not those whose two copies are whole and differ.
fn certain(reading: &Reading) -> BTreeMap<LogSeq, Hash256> {
    let doubted: BTreeSet<LogSeq> = reading.faults.iter().filter(|f| f.fatal).map(|f| f.seq).collect();
    reading.lines.iter().filter(|l| !doubted.contains(&l.seq)).map(|l| (l.seq, l.stored)).collect()
}

impl Round<'_> {
    async fn heal(&mut self, theirs: &[LogLine]) -> Result<()> {
        self.heal_records(theirs).await?;
        self.vault.forget_log();
        self.heal_marker().await?;
        self.heal_keys().await?;
        // Without its records a vault is not known well enough to heal anything else of it.
        let Ok(log) = self.vault.log().await else { return Ok(()) };
        let references: BTreeMap<Hash256, ManifestRef> = log
            .all_points()
            .flat_map(|p| &p.tables)
            .flat_map(|t| t.base.iter().chain(t.changes.iter().map(|c| &c.manifest)))
            .map(|m| (m.id, m.clone()))
            .collect();
        for reference in references.values() {
            let names = [layout::manifest(reference.id), layout::manifest_copy(reference.id)];
            self.heal_copies(names, reference.stored).await?;
        }
        let files: BTreeSet<String> = self
            .damaged
            .keys()
            .filter(|name| layout::is_content(name) && layout::table_of(name).is_some())
            .filter(|name| !self.healed.contains_key(*name))
            .cloned()
            .collect();
        if !files.is_empty() {
            self.heal_files(&references, files).await?;
        }
        self.heal_projections(&log).await;
        self.heal_checkpoints(&log).await;
        Ok(())
    }

    async fn heal_records(&mut self, theirs: &[LogLine]) -> Result<()> {
        let reading = read_all(self.vault).await?;
        let ours = certain(&reading);
        for (seq, stored) in &ours {
            let names = [layout::log_record(*seq), layout::log_copy(*seq)];
            self.heal_copies(names, *stored).await?;
        }
        for line in reading.lines.iter().filter(|line| !ours.contains_key(&line.seq)) {
            for name in [layout::log_record(line.seq), layout::log_copy(line.seq)] {
                self.refuse(
                    &name,
                    "its two copies are whole and differ: only another copy of the vault can tell",
                );
            }
        }
        let Some(from) = self.from else { return Ok(()) };
        let elsewhere = self.vault.elsewhere(from.clone());
        for line in theirs.iter().filter(|line| !ours.contains_key(&line.seq)) {
            let bytes = elsewhere.record_bytes(line.seq, line.stored).await?;
            for name in [layout::log_record(line.seq), layout::log_copy(line.seq)] {
                self.replace(name, bytes.clone(), HealedBy::Vault(from.url().to_owned())).await;
            }
        }
        Ok(())
    }

    async fn heal_marker(&mut self) -> Result<()> {
        for (name, other) in [(layout::MARKER, layout::MARKER_COPY), (layout::MARKER_COPY, layout::MARKER)] {
            if !self.damaged.contains_key(name) {
                continue;
            }
            let mut sources = vec![(self.vault.target().clone(), other, HealedBy::Copy)];
            if let Some(from) = self.from {
                let by = HealedBy::Vault(from.url().to_owned());
                sources.extend([(from.clone(), name, by.clone()), (from.clone(), other, by)]);
            }
            let mut found = None;
            for (target, name, by) in sources {
                let Ok(bytes) = target.get(name).await else { continue };
                if Marker::decode(name, &bytes).is_ok_and(|m| m.vault == *self.vault.id()) {
                    found = Some((bytes, by));
                    break;
                }
            }
            if found.is_none() && name == layout::MARKER {
                found = self.marker_of_log().await?.map(|bytes| (bytes, HealedBy::Log));
            }
            match found {
                Some((bytes, by)) => self.replace(name.to_owned(), bytes, by).await,
                None => self.refuse(name, "no copy of it is whole"),
            }
        }
        Ok(())
    }

    /// What `keepfast.json` must say, where no copy of it is left: the log names the vault.
    async fn marker_of_log(&self) -> Result<Option<Bytes>> {
        let Ok(log) = self.vault.log().await else { return Ok(None) };
        let Some(first) = log.lines().next() else { return Ok(None) };
        let marker = Marker {
            format: FORMAT,
            vault: self.vault.id().clone(),
            created: first.at,
            program: concat!("keepfast ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Ok(Some(marker.encode()?))
    }

    /// Heals those of two equal objects that are damaged.
    async fn heal_copies(&mut self, names: [String; 2], stored: Hash256) -> Result<()> {
        for (at, name) in names.iter().enumerate() {
            if !self.damaged.contains_key(name) || self.healed.contains_key(name) {
                continue;
            }
            let copied = self.bytes_of(self.vault.target(), &names[1 - at], stored).await;
            let mut found = copied.map(|bytes| (bytes, HealedBy::Copy));
            if let (None, Some(from)) = (&found, self.from) {
                for name in [name, &names[1 - at]] {
                    if let Some(bytes) = self.bytes_of(from, name, stored).await {
                        found = Some((bytes, HealedBy::Vault(from.url().to_owned())));
                        break;
                    }
                }
            }
            match found {
                Some((bytes, by)) => self.replace(name.clone(), bytes, by).await,
                None => self.refuse(name, "no copy of it is whole"),
            }
        }
        Ok(())
    }

    /// An object that has this hash.
    async fn bytes_of(&self, target: &Target, name: &str, stored: Hash256) -> Option<Bytes> {
        target.get(name).await.ok().filter(|bytes| Hash256::of(bytes) == stored)
    }

    /// Puts the right bytes under the name. Nobody else may put others: the name, or a record that names their hash,
    /// allows only these; so a rival that does the same does no harm.
    async fn replace(&mut self, name: String, bytes: Bytes, by: HealedBy) {
        let target = self.vault.target();
        let put = async {
            match target.put_content(&name, bytes.clone()).await {
                Ok(put) => Ok(put),
                // What cannot even be read may still be replaced.
                Err(_) => target.replace_content(&name, bytes).await.map(|()| Put::Created),
            }
        };
        match put.await {
            Ok(Put::Created | Put::Existed) => {
                self.refused.remove(&name);
                self.healed.insert(name, by);
            }
            Err(e) => self.refuse(&name, &format!("it could not be replaced: {e}")),
        }
    }

    fn refuse(&mut self, name: &str, why: &str) {
        self.refused.insert(name.to_owned(), why.to_owned());
    }
}
