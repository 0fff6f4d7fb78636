//! A copy of a vault at another place: the same identities, bytes and records, for the same recipients or for others.
//!
//! Only what visible points need is copied, each object checked against its hash on the way. Records follow their
//! objects, oldest first, and `keepfast.json` comes last, so that a copy that was cut off is no vault yet; the same
//! call made again goes on. A place that holds an older state of the same vault is brought up to date.

mod keys;

use crate::check::{CheckOptions, CheckReport, Progress};
use crate::error::VaultError;
use crate::log::Log;
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_keys::NewRecipient;
use keepfast_model::{ByteCount, Hash256, LogSeq, ManifestRef};
use keepfast_objects::{ObjectsError, Put, Target};
use std::collections::BTreeMap;

/// After so many bytes what was copied is made durable: a power failure costs no more than they took.
const SYNCED_BYTES: u64 = 1 << 30;

/// What a copy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Objects written, records and keys not counted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that stood there already.
    pub kept: u64,
    /// Records that the copy had not.
    pub records: u64,
}

/// How a vault is copied.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Who can open the copy, each with a name: they alone. None means who can open the vault, or whoever can open the earlier copy
    /// that is brought up to date.
    pub recipients: Option<Vec<(String, NewRecipient)>>,
}

/// Something to copy.
struct Piece {
    stored: Hash256,
    bytes: ByteCount,
}

impl Vault {
    /// Copies the vault as it stands now to an empty place, or brings an earlier copy up to date.
    ///
    /// Both are then the same vault: what is committed to one of them afterwards makes them differ, and only the one
    /// that was copied to may fall behind.
    ///
    /// # Errors
    /// [`VaultError::NotEmpty`] among foreign objects, [`VaultError::Diverged`] where another vault or another
    /// history stands, [`VaultError::Damaged`] for an object that cannot be copied as it was written.
    ///
    /// A prune beside it may delete what it copies: it then begins again with the log as it is by then.
    pub async fn copy_to(&self, target: &Target, progress: &dyn Progress) -> Result<CopyReport> {
        self.copy_with(target, &CopyOptions::default(), progress).await
    }

    /// As [`Self::copy_to`], for recipients of the copy's own.
    ///
    /// Both hold the same vault key, wrapped for others. A copy keeps its recipients when it is brought up to date without naming
    /// them, until the vault's keys are rotated.
    ///
    /// # Errors
    /// [`VaultError::NoKeys`] where nothing is encrypted, [`VaultError::NoRecipients`] for an empty list,
    /// [`VaultError::OtherRecipients`] for a copy with others, [`VaultError::RecipientsNeeded`] after a rotation,
    /// [`KeyError::Locked`](keepfast_keys::KeyError::Locked); otherwise as [`Self::copy_to`].
    pub async fn copy_with(
        &self,
        target: &Target,
        options: &CopyOptions,
        progress: &dyn Progress,
    ) -> Result<CopyReport> {
        loop {
            let log = self.log().await?;
            match self.copy_of(&log, target, options, progress).await {
                Err(e) if self.is_outdated(&log, &e).await? => {
                    tracing::info!(vault = %self.url(), missing = %e, "the log moved on; the copy begins again");
                }
                done => return done,
            }
        }
    }

    /// Whether what is missing was needed by the log as it was, and is not by the log as it is.
    async fn is_outdated(&self, before: &Log, e: &VaultError) -> Result<bool> {
        let path = match e {
            VaultError::Damaged { path, .. } | VaultError::Objects(ObjectsError::NotFound { path }) => path,
            _ => return Ok(false),
        };
        let name = path.strip_prefix(&self.target().full("")).unwrap_or(path).trim_start_matches('/');
        let log = self.log().await?;
        let condemned = log.is_condemned(name) && !before.is_condemned(name);
        let replaced = name.starts_with(layout::KEYS) && log.keys() != before.keys();
        Ok(condemned || replaced)
    }

    async fn copy_of(
        &self,
        log: &Log,
        target: &Target,
        options: &CopyOptions,
        progress: &dyn Progress,
    ) -> Result<CopyReport> {
        let marker = self.target().get(layout::MARKER).await?;
        let standing = self.standing(target, log, &marker).await?;
        let keys = self.keys_of_copy(target, log, &standing, options).await?;
        if !standing.contains_key(layout::MARKER) {
            target.probe(&self.environment().random_id()?).await?;
        }
        let mut report = CopyReport::default();
        let mut expected = BTreeMap::new();
        for (name, bytes) in &keys.files {
            expected.insert(name.clone(), bytes.len() as u64);
            target.put_content(name, bytes.clone()).await?;
        }
        let (manifests, segments) = self.pieces(log).await?;
        // Manifests after what they list, as any run writes them.
        for pieces in [segments, manifests] {
            expected.extend(pieces.iter().map(|(name, p)| (name.clone(), p.bytes.0)));
            let missing: Vec<_> =
                pieces.iter().filter(|(name, p)| standing.get(*name) != Some(&p.bytes.0)).collect();
            report.kept += (pieces.len() - missing.len()) as u64;
            report.objects += missing.len() as u64;
            let bytes = missing.iter().map(|(_, p)| p.bytes.0).sum();
            report.bytes += bytes;
            progress.expect(missing.len() as u64, bytes);
            let missing: Vec<_> =
                missing.into_iter().map(|(name, p)| (name.clone(), p.stored, p.bytes)).collect();
            let mut copied = futures::stream::iter(missing)
                .map(|(name, stored, bytes)| async move {
                    let file = self.read_checked(&name, bytes, stored).await.map_err(|e| self.missing(e))?;
                    target.put_content(&name, file).await?;
                    Ok::<_, VaultError>(bytes.0)
                })
                .buffer_unordered(self.environment().parallel);
            let mut unsynced = 0;
            while let Some(bytes) = copied.try_next().await? {
                progress.checked(1, bytes);
                unsynced += bytes;
                if unsynced >= SYNCED_BYTES {
                    target.sync().await?;
                    unsynced = 0;
                }
            }
        }
        target.sync().await?;
        for (name, bytes) in &keys.files {
            // A rival may have copied here for others.
            if target.get(name).await? != *bytes {
                return Err(self.diverged(target, name));
            }
        }
        let is_vault = standing.contains_key(layout::MARKER);
        if is_vault && !log.lines().all(|line| standing.contains_key(&layout::log_record(line.seq))) {
            // Each record is visible there as soon as it stands.
            self.compare_with(target, &expected).await?;
        }
        for line in log.lines() {
            let (name, copy) = (layout::log_record(line.seq), layout::log_copy(line.seq));
            expected.extend([(name.clone(), line.bytes), (copy.clone(), line.bytes)]);
            if standing.contains_key(&name) && standing.contains_key(&copy) {
                continue;
            }
            let bytes = self.record_bytes(line.seq, line.stored).await?;
            for name in [name, copy] {
                self.copy_same(target, &name, bytes.clone()).await?;
                // Where a record was swallowed the next one would follow nothing.
                if is_vault && target.size(&name).await? != Some(line.bytes) {
                    return Err(VaultError::Incomplete { path: target.full(&name), wrong: 1, total: 1 });
                }
            }
            report.records += 1;
        }
        target.sync().await?;
        self.compare_with(target, &expected).await?;
        if log.has_parity() {
            self.copy_same(target, layout::MARKER_COPY, marker.clone()).await?;
        }
        self.copy_same(target, layout::MARKER, marker.clone()).await?;
        if target.size(layout::MARKER).await? != Some(marker.len() as u64) {
            let path = target.full(layout::MARKER);
            return Err(VaultError::Incomplete { path, wrong: 1, total: 1 });
        }
        if let Err(e) = crate::keys::delete_older(target, keys.generation).await {
            tracing::warn!(copy = %target.url(), error = %e, "older key files were not deleted: who could open them still can");
        }
        Ok(report)
    }

    /// Checks a copy with the keys of this vault, which open it whoever its recipients are.
    ///
    /// # Errors
    /// As [`Vault::check`].
    pub async fn check_copy(&self, target: &Target, progress: &dyn Progress) -> Result<CheckReport> {
        self.log().await?;
        self.elsewhere(target.clone()).check(&CheckOptions::default(), progress).await
    }

    /// Refuses a copy that lacks something, or holds it in another size: a place may answer and store nothing.
    async fn compare_with(&self, target: &Target, expected: &BTreeMap<String, u64>) -> Result<()> {
        let mut standing = BTreeMap::new();
        let mut listing = target.list_stream("");
        while let Some(object) = listing.try_next().await? {
            standing.insert(object.path, object.bytes);
        }
        let mut wrong =
            expected.iter().filter(|(name, bytes)| standing.get(*name) != Some(bytes)).map(|(n, _)| n);
        match wrong.next() {
            None => Ok(()),
            Some(name) => Err(VaultError::Incomplete {
                path: target.full(name),
                wrong: 1 + wrong.count(),
                total: expected.len(),
            }),
        }
    }

    /// What stands at the place, with sizes; refused unless it is nothing, or an earlier state of this vault.
    async fn standing(&self, target: &Target, log: &Log, marker: &Bytes) -> Result<BTreeMap<String, u64>> {
        let mut standing = BTreeMap::new();
        let mut listing = target.list_stream("");
        let folders = [
            layout::LOG,
            layout::LOG_COPY,
            layout::CHECKPOINTS,
            layout::KEYS,
            layout::KEYS_COPY,
            layout::MANIFESTS,
            layout::MANIFESTS_COPY,
            layout::TABLES,
            layout::STAGING,
        ];
        while let Some(object) = listing.try_next().await? {
            let folder = object.path.split_once('/').map(|(folder, _)| folder);
            if ![layout::MARKER, layout::MARKER_COPY].contains(&object.path.as_str())
                && !folder.is_some_and(|f| folders.contains(&f))
            {
                return Err(VaultError::NotEmpty { url: target.url().to_owned(), object: object.path });
            }
            standing.insert(object.path, object.bytes);
        }
        if standing.contains_key(layout::MARKER) && target.get(layout::MARKER).await? != *marker {
            return Err(self.diverged(target, layout::MARKER));
        }
        let hashes: BTreeMap<String, Hash256> =
            log.lines().map(|line| (layout::log_record(line.seq), line.stored)).collect();
        let records: Vec<String> = standing.keys().filter(|name| name.starts_with("log/")).cloned().collect();
        for name in records {
            if hashes.get(&name) != Some(&target.hash(&name).await?.0) {
                return Err(self.diverged(target, &name));
            }
        }
        Ok(standing)
    }

    fn diverged(&self, target: &Target, name: &str) -> VaultError {
        VaultError::Diverged { path: target.full(name), url: self.url().to_owned() }
    }

    /// Puts an object that must be the same wherever this vault is.
    async fn copy_same(&self, target: &Target, name: &str, bytes: Bytes) -> Result<()> {
        match target.put_new(name, bytes).await? {
            Put::Created => Ok(()),
            Put::Existed => Err(self.diverged(target, name)),
        }
    }

    pub(crate) async fn record_bytes(&self, seq: LogSeq, stored: Hash256) -> Result<Bytes> {
        for name in [layout::log_record(seq), layout::log_copy(seq)] {
            match self.target().get(&name).await {
                Ok(bytes) if Hash256::of(&bytes) == stored => return Ok(bytes),
                Ok(_) => {}
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
        }
        let path = self.target().full(&layout::log_record(seq));
        Err(VaultError::damaged(path, "neither copy of it is what was read before"))
    }

    /// All manifests and all segments that visible points need.
    async fn pieces(&self, log: &Log) -> Result<(BTreeMap<String, Piece>, BTreeMap<String, Piece>)> {
        let references: BTreeMap<Hash256, ManifestRef> = log
            .all_points()
            .flat_map(|p| &p.tables)
            // What was encrypted with keys that were dropped is nothing to anybody.
            .filter(|t| t.sealed.is_none())
            .flat_map(|t| t.base.iter().chain(t.changes.iter().map(|c| &c.manifest)))
            .map(|m| (m.id, m.clone()))
            .collect();
        let (mut manifests, mut segments) = (BTreeMap::new(), BTreeMap::new());
        let references: Vec<_> = references.into_values().collect();
        let mut read = futures::stream::iter(references)
            .map(|r| async move { Ok::<_, VaultError>((self.read_manifest(&r).await?, r)) })
            .buffered(self.environment().parallel);
        while let Some((manifest, r)) = read.try_next().await? {
            manifests.insert(layout::manifest(r.id), Piece { stored: r.stored, bytes: r.bytes });
            if manifest.parity.is_some() {
                manifests.insert(layout::manifest_copy(r.id), Piece { stored: r.stored, bytes: r.bytes });
            }
            for (name, stored, bytes) in crate::parity::listed(&manifest) {
                segments.insert(name, Piece { stored, bytes });
            }
        }
        Ok((manifests, segments))
    }
}
