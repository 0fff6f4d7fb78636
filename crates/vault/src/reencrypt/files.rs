//! One manifest and the files that it lists, under other keys.
//!
//! Files are worked on a few at once, and the entries of each group of them are staged when all of it is durable: a file's data keys
//! stand in its entry, so one that nobody staged is written again.

use super::{Reencryption, manifest_path};
use crate::Result;
use crate::commit::NewObject;
use crate::error::VaultError;
use crate::layout;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_format::{EncodedSegment, FormatError, Manifest, ManifestKind, Reencoder, SegmentEntry};
use keepfast_model::{ByteCount, Digest, Hash256, ManifestRef, RunId, TablePoint};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Files that are staged together.
const GROUP: usize = 16;
/// Files whose rows are in memory at once.
const AT_ONCE: usize = 4;

/// A manifest that has been made anew.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub reference: ManifestRef,
    /// Of what it lists, itself and its parity; none until somebody asked.
    pub sums: Option<(ByteCount, Digest)>,
}

/// A manifest made anew, with stored bytes of all that hangs on it, and the digest of its rows.
pub(super) struct Anew {
    pub reference: ManifestRef,
    pub bytes: ByteCount,
    pub digest: Digest,
}

/// Entries of a group of files, under the keys that were in force.
#[derive(Serialize, Deserialize)]
struct Staged {
    key_ids: String,
    entries: Vec<SegmentEntry>,
}

/// New entries by identity of the old file's rows.
type Shared = HashMap<Hash256, SegmentEntry>;

impl Reencryption<'_> {
    pub(super) async fn manifest_anew(
        &mut self,
        table: &TablePoint,
        kind: ManifestKind,
        old: &ManifestRef,
        written: &mut Vec<NewObject>,
    ) -> Result<Anew> {
        if let Some(Known { reference, sums }) = self.known.get(&old.id).cloned() {
            let (bytes, digest) = match sums {
                Some(sums) => sums,
                None => sums_of(&self.vault.read_manifest(&reference).await?, &reference),
            };
            let known = Known { reference: reference.clone(), sums: Some((bytes, digest)) };
            self.known.insert(old.id, known);
            return Ok(Anew { reference, bytes, digest });
        }
        let manifest = self.source.read_manifest(old).await?;
        if manifest.table != table.id || manifest.kind != kind {
            let path = manifest_path(self.source, old);
            return Err(VaultError::damaged(path, format!("it is not one of table '{}'", table.name)));
        }
        let pairs = self.newest.get(&table.id).cloned().unwrap_or_default();
        let shared = self.shared(kind, &pairs).await?;
        let segments = self.files_anew(&manifest, &self.run_of(old), shared, written).await?;
        let page = Manifest { segments, parity: None, salt: None, ..manifest };
        let earlier: Vec<ManifestRef> = pairs.into_iter().map(|(_, new)| new).collect();
        let way = self.way(&table.id);
        let listed = self.vault.put_manifests(vec![page], &way, table.parity, &earlier).await?;
        written.extend(listed.objects);
        let [reference] = <[ManifestRef; 1]>::try_from(listed.references)
            .map_err(|_| VaultError::Record { reason: "a manifest became several".into() })?;
        let (bytes, digest) = sums_of(&self.vault.read_manifest(&reference).await?, &reference);
        self.known.insert(old.id, Known { reference: reference.clone(), sums: Some((bytes, digest)) });
        Ok(Anew { reference, bytes, digest })
    }

    /// What this manifest's groups are staged under: follows from it for whoever knows this vault's own secret.
    pub(super) fn run_of(&self, old: &ManifestRef) -> RunId {
        let text = format!("keepfast reencrypt 1\0{}\0{}", self.vault.identity_key().to_hex(), old.id);
        RunId(Hash256::of(text.as_bytes()).to_string()[..32].to_owned())
    }

    /// Files of the table's newest base that stand in the other vault already.
    async fn shared(&self, kind: ManifestKind, pairs: &[(ManifestRef, ManifestRef)]) -> Result<Shared> {
        let mut shared = Shared::new();
        if kind == ManifestKind::Changes {
            return Ok(shared);
        }
        for (old, new) in pairs {
            let (old, new) = (self.source.read_manifest(old).await?, self.vault.read_manifest(new).await?);
            for (old, new) in old.segments.into_iter().zip(new.segments) {
                shared.insert(old.id, new);
            }
        }
        Ok(shared)
    }

    /// The entries of all files of a manifest, in order.
    async fn files_anew(
        &mut self,
        manifest: &Manifest,
        run: &RunId,
        shared: Shared,
        written: &mut Vec<NewObject>,
    ) -> Result<Vec<SegmentEntry>> {
        let protection = self.protection(&manifest.table).await?;
        let key_ids = protection.key_ids().to_owned();
        let mut staged = self.staged(run, &key_ids).await?;
        let reencoder = Arc::new(Reencoder::new(manifest, protection));
        self.progress
            .expect(manifest.segments.len() as u64, manifest.segments.iter().map(|e| e.bytes.0).sum());
        let mut all = Vec::with_capacity(manifest.segments.len());
        for (group, entries) in (0..).zip(manifest.segments.chunks(GROUP)) {
            let object = |entry: &SegmentEntry| NewObject {
                path: layout::file(manifest.kind, &manifest.table, entry),
                bytes: entry.bytes,
            };
            if let Some(found) = staged.remove(&group) {
                if are_of(&found, entries) && self.stand(manifest, &found).await? {
                    written.extend(found.iter().map(object));
                    self.progress.checked(entries.len() as u64, entries.iter().map(|e| e.bytes.0).sum());
                    all.extend(found);
                    continue;
                }
                self.vault.target().delete(&layout::task(run, group)).await?;
            }
            let (this, shared) = (&*self, &shared);
            let anew: Vec<(SegmentEntry, bool)> = futures::stream::iter(entries.to_vec())
                .map(|entry| {
                    let reencoder = reencoder.clone();
                    async move {
                        let stands = shared.get(&entry.id).filter(|e| is_of(e, &entry)).cloned();
                        let anew = match stands {
                            Some(stands) => (stands, false),
                            None => (this.file_anew(manifest, reencoder, &entry).await?, true),
                        };
                        this.progress.checked(1, entry.bytes.0);
                        Ok::<_, VaultError>(anew)
                    }
                })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            let new: Vec<NewObject> = anew.iter().filter(|(_, new)| *new).map(|(e, _)| object(e)).collect();
            self.report.objects += new.len() as u64;
            self.report.bytes += new.iter().map(|o| o.bytes.0).sum::<u64>();
            let entries: Vec<SegmentEntry> = anew.into_iter().map(|(entry, _)| entry).collect();
            if !new.is_empty() {
                let group_done = Staged { key_ids: key_ids.clone(), entries: entries.clone() };
                self.vault.put_task_result(run, group, &group_done).await?;
            }
            written.extend(new);
            all.extend(entries);
        }
        Ok(all)
    }

    /// Whether staged files are there, byte for byte: a place may have answered and stored nothing.
    async fn stand(&self, manifest: &Manifest, entries: &[SegmentEntry]) -> Result<bool> {
        for entry in entries {
            let name = layout::file(manifest.kind, &manifest.table, entry);
            match self.vault.target().hash(&name).await {
                Ok(found) if found == (entry.stored, entry.bytes.0) => {}
                Ok(_) => return Ok(false),
                Err(e) if e.is_not_found() => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }

    async fn file_anew(
        &self,
        manifest: &Manifest,
        reencoder: Arc<Reencoder>,
        entry: &SegmentEntry,
    ) -> Result<SegmentEntry> {
        let path = self.source.target().full(&layout::file(manifest.kind, &manifest.table, entry));
        let file = match manifest.kind {
            ManifestKind::Segments => self.source.read_segment(&manifest.table, entry).await?,
            ManifestKind::Changes => self.source.read_change_segment(&manifest.table, entry).await?,
        };
        let stated = entry.clone();
        let encoded: EncodedSegment =
            crate::parity::compute(move || reencoder.encode(file, &stated)).await.map_err(|e| match e {
                VaultError::Format(e @ FormatError::Damaged { .. }) => VaultError::Damaged {
                    path,
                    reason: "it does not hold what its manifest states".into(),
                    source: Some(Box::new(e)),
                },
                e => e,
            })?;
        match manifest.kind {
            ManifestKind::Segments => self.vault.put_segment(&manifest.table, &encoded).await?,
            ManifestKind::Changes => self.vault.put_change_segment(&manifest.table, &encoded).await?,
        };
        Ok(encoded.entry)
    }

    /// What an earlier call staged under the keys in force. What cannot be used makes room.
    async fn staged(&self, run: &RunId, key_ids: &str) -> Result<BTreeMap<u32, Vec<SegmentEntry>>> {
        match self.vault.task_results::<Staged>(run).await {
            Ok(staged) if staged.values().all(|s| s.key_ids == key_ids) => {
                Ok(staged.into_iter().map(|(group, s)| (group, s.entries)).collect())
            }
            Ok(_) | Err(VaultError::Damaged { .. }) => {
                self.vault.sweep_run(run).await?;
                Ok(BTreeMap::new())
            }
            Err(e) => Err(e),
        }
    }
}

/// Whether new entries are of the rows of old ones.
fn are_of(found: &[SegmentEntry], entries: &[SegmentEntry]) -> bool {
    found.len() == entries.len() && found.iter().zip(entries).all(|(new, old)| is_of(new, old))
}

fn is_of(new: &SegmentEntry, old: &SegmentEntry) -> bool {
    let rows = |e: &SegmentEntry| (e.shard.clone(), e.rows, e.digest, e.min.clone(), e.max.clone(), e.epoch);
    rows(new) == rows(old)
}

fn sums_of(manifest: &Manifest, reference: &ManifestRef) -> (ByteCount, Digest) {
    let files: u64 = crate::parity::listed(manifest).map(|(_, _, bytes)| bytes.0).sum();
    let copies = if manifest.parity.is_some() { 2 } else { 1 };
    let digest = manifest.segments.iter().fold(Digest::default(), |d, s| d.merge(s.digest));
    (ByteCount(files + copies * reference.bytes.0), digest)
}
