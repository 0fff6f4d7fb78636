//! Parity of stored files: written with the manifests that list them, and made anew where a prune condemned it.
//!
//! A table with parity has, for every group of its files, a few parity files; a copy of every manifest; and the vault a
//! copy of `keepfast.json`. So any single object can be lost. Files are read back to make their parity, which
//! also shows that they stand as they were meant. [`crate::repair`] makes lost ones again.

use crate::commit::NewObject;
use crate::error::VaultError;
use crate::log::Log;
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_format::parity::{encode_block, group, shard_bytes};
use keepfast_format::{FormatError, Manifest, ParityGroup, ParityShard, SegmentEntry};
use keepfast_model::{ByteCount, Encryption, Hash256, ManifestRef, Parity, TableId};
use keepfast_objects::Put;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Bytes of every file of a group that are held at once.
pub(crate) const BLOCK: u64 = 1 << 20;
/// Groups that are worked on at once.
const GROUPS: usize = 2;

/// Manifests that were written, and what was written with them.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// How a point names them.
    pub references: Vec<ManifestRef>,
    /// Objects written now.
    pub objects: Vec<NewObject>,
    /// Stored bytes of the manifests, their copies and their parity.
    pub bytes: ByteCount,
    /// Those of them that are new.
    pub bytes_new: ByteCount,
}

impl Listed {
    fn add(&mut self, path: String, bytes: ByteCount, put: Put) {
        self.bytes += bytes;
        if put == Put::Created {
            self.bytes_new += bytes;
            self.objects.push(NewObject { path, bytes });
        }
    }
}

/// Files that a manifest lists: segments and parity files, with hash and size.
pub(crate) fn listed(manifest: &Manifest) -> impl Iterator<Item = (String, Hash256, ByteCount)> + '_ {
    let files = manifest
        .segments
        .iter()
        .map(|e| (layout::file(manifest.kind, &manifest.table, e), e.stored, e.bytes));
    let groups = manifest.parity.iter().flatten();
    let shards = groups
        .flat_map(|g| g.shards.iter().enumerate())
        .map(|(number, shard)| (layout::parity(&manifest.table, number, shard), shard.stored, shard.bytes));
    files.chain(shards)
}

/// A file of a group: its name, hash and size.
pub(crate) struct Member {
    pub path: String,
    pub stored: Hash256,
    pub bytes: u64,
}

impl Member {
    pub(crate) fn of(manifest: &Manifest, entry: &SegmentEntry) -> Self {
        let path = layout::file(manifest.kind, &manifest.table, entry);
        Self { path, stored: entry.stored, bytes: entry.bytes.0 }
    }
}

/// The files of a group. Positions were checked when the manifest was read.
pub(crate) fn members(manifest: &Manifest, group: &[u32]) -> Vec<Member> {
    group
        .iter()
        .filter_map(|at| manifest.segments.get(*at as usize))
        .map(|entry| Member::of(manifest, entry))
        .collect()
}

/// The blocks in which a group of this length is worked on.
pub(crate) fn blocks(length: u64) -> impl Iterator<Item = Range<u64>> {
    (0..length).step_by(BLOCK as usize).map(move |start| start..(start + BLOCK).min(length))
}

impl Vault {
    /// Stores manifests that list all files of a base or of changes of a table that is encrypted in this way, with parity where the
    /// table has it.
    ///
    /// `earlier` are manifests of the same table: groups that stand in them keep their parity files.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] when a listed file is not what was written; otherwise as [`Self::put_manifest`].
    pub async fn put_manifests(
        &self,
        pages: Vec<Manifest>,
        encryption: &Encryption,
        parity: Option<Parity>,
        earlier: &[ManifestRef],
    ) -> Result<Listed> {
        let mut listed = Listed::default();
        let known = match parity {
            Some(_) => self.known_groups(earlier).await?,
            None => HashMap::new(),
        };
        for mut page in pages {
            if let Some(parity) = parity {
                page.parity = Some(self.put_parity(&page, parity, &known, &mut listed).await?);
            }
            let (reference, put) = self.put_manifest(&page, encryption).await?;
            listed.add(layout::manifest(reference.id), reference.bytes, put);
            if parity.is_some() {
                let copy = self.put_manifest_copy(&reference).await?;
                listed.add(copy.path, copy.bytes, put);
            }
            listed.references.push(reference);
        }
        if parity.is_some() {
            self.put_marker_copy().await?;
        }
        Ok(listed)
    }

    /// Parity files of groups that stand in these manifests, by the files of the group.
    async fn known_groups(&self, earlier: &[ManifestRef]) -> Result<HashMap<Vec<Hash256>, Vec<ParityShard>>> {
        let mut known = HashMap::new();
        for reference in earlier {
            let manifest = self.read_manifest(reference).await?;
            for group in manifest.parity.iter().flatten() {
                let files = members(&manifest, &group.members).into_iter().map(|m| m.stored).collect();
                known.insert(files, group.shards.clone());
            }
        }
        Ok(known)
    }

    async fn put_parity(
        &self,
        page: &Manifest,
        parity: Parity,
        known: &HashMap<Vec<Hash256>, Vec<ParityShard>>,
        listed: &mut Listed,
    ) -> Result<Vec<ParityGroup>> {
        let groups = group(&page.segments, parity);
        let made = futures::stream::iter(groups.iter().map(|g| members(page, g)).collect::<Vec<_>>())
            .map(|files| async move {
                let hashes: Vec<Hash256> = files.iter().map(|m| m.stored).collect();
                if let Some(shards) =
                    known.get(&hashes).filter(|shards| shards.len() == usize::from(parity.shards))
                {
                    return Ok((shards.clone(), vec![Put::Existed; shards.len()]));
                }
                self.make_parity(&page.table, &files, usize::from(parity.shards), None).await
            })
            .buffered(GROUPS)
            .try_collect::<Vec<_>>()
            .await?;
        let mut out = vec![];
        for (members, (shards, puts)) in groups.into_iter().zip(made) {
            for (number, (shard, put)) in shards.iter().zip(puts).enumerate() {
                listed.add(layout::parity(&page.table, number, shard), shard.bytes, put);
            }
            out.push(ParityGroup { members, shards });
        }
        Ok(out)
    }

    /// Stores the parity files of a group.
    async fn make_parity(
        &self,
        table: &TableId,
        files: &[Member],
        shards: usize,
        salt: Option<String>,
    ) -> Result<(Vec<ParityShard>, Vec<Put>)> {
        let (mut made, mut puts) = (vec![], vec![]);
        for (number, mut bytes) in self.parity_of(files, shards).await?.into_iter().enumerate() {
            bytes.extend_from_slice(salt.as_deref().unwrap_or_default().as_bytes());
            let shard = ParityShard {
                stored: Hash256::of(&bytes),
                bytes: ByteCount(bytes.len() as u64),
                salt: salt.clone(),
            };
            puts.push(self.target().put_content(&layout::parity(table, number, &shard), bytes.into()).await?);
            made.push(shard);
        }
        Ok((made, puts))
    }

    /// The parity of a group, from its files; each is read once and must be what was written.
    pub(crate) async fn parity_of(&self, files: &[Member], shards: usize) -> Result<Vec<Vec<u8>>> {
        let length = shard_bytes(files.iter().map(|m| m.bytes));
        let mut parity = vec![Vec::with_capacity(length as usize); shards];
        let mut hashers = vec![blake3::Hasher::new(); files.len()];
        for block in blocks(length) {
            let sources: Vec<(String, u64)> = files.iter().map(|m| (m.path.clone(), m.bytes)).collect();
            let read: Vec<Bytes> = futures::stream::iter(sources)
                .map(|(path, bytes)| {
                    let block = block.clone();
                    async move { self.block_of(path, bytes, block).await }
                })
                .buffered(self.environment().parallel)
                .try_collect()
                .await?;
            for (hasher, bytes) in hashers.iter_mut().zip(&read) {
                hasher.update(bytes);
            }
            let size = (block.end - block.start) as usize;
            let encoded = compute(move || encode_block(&read, shards, size)).await?;
            for (whole, piece) in parity.iter_mut().zip(encoded) {
                whole.extend_from_slice(&piece);
            }
        }
        for (member, hasher) in files.iter().zip(hashers) {
            if Hash256(*hasher.finalize().as_bytes()) != member.stored {
                let path = self.target().full(&member.path);
                return Err(VaultError::damaged(path, "its bytes do not match their hash"));
            }
        }
        Ok(parity)
    }

    /// One block of a file; nothing where the file ends before it.
    pub(crate) async fn block_of(&self, path: String, bytes: u64, block: Range<u64>) -> Result<Bytes> {
        let end = block.end.min(bytes);
        if block.start >= end {
            return Ok(Bytes::new());
        }
        let range = block.start..end;
        self.target().get_range(&path, range).await.map_err(|e| self.missing(e.into()))
    }

    /// Makes parity anew where a group's files were stored anew, as `written` says from `first` on, or its parity is
    /// condemned. True where anything was.
    pub(crate) async fn parity_anew(
        &self,
        log: &Log,
        manifest: &mut Manifest,
        first: usize,
        written: &mut Vec<NewObject>,
        new_bytes: &mut u64,
    ) -> Result<bool> {
        let Some(mut groups) = manifest.parity.take() else { return Ok(false) };
        let anew: HashSet<String> = written[first..].iter().map(|w| w.path.clone()).collect();
        let mut changed = false;
        for group in &mut groups {
            let files = members(manifest, &group.members);
            let condemned = |shards: &[ParityShard]| {
                let names = shards.iter().enumerate().map(|(n, s)| layout::parity(&manifest.table, n, s));
                names.into_iter().any(|name| log.is_condemned(&name))
            };
            if !files.iter().any(|m| anew.contains(&m.path)) && !condemned(&group.shards) {
                continue;
            }
            let salt = Some(self.environment().random_id()?);
            let (shards, _) = self.make_parity(&manifest.table, &files, group.shards.len(), salt).await?;
            for (number, shard) in shards.iter().enumerate() {
                *new_bytes += shard.bytes.0;
                let path = layout::parity(&manifest.table, number, shard);
                written.push(NewObject { path, bytes: shard.bytes });
            }
            group.shards = shards;
            changed = true;
        }
        manifest.parity = Some(groups);
        Ok(changed)
    }

    /// Stores the copy of a manifest that stands.
    pub(crate) async fn put_manifest_copy(&self, reference: &ManifestRef) -> Result<NewObject> {
        let name = layout::manifest(reference.id);
        let bytes = self.read_checked(&name, reference.bytes, reference.stored).await?;
        let copy = layout::manifest_copy(reference.id);
        self.target().put_content(&copy, bytes).await?;
        Ok(NewObject { path: copy, bytes: reference.bytes })
    }

    /// Stores the copy of `keepfast.json`, where it is not there yet.
    async fn put_marker_copy(&self) -> Result<()> {
        if self.target().size(layout::MARKER_COPY).await?.is_none() {
            let marker = self.target().get(layout::MARKER).await?;
            self.target().put_new(layout::MARKER_COPY, marker).await?;
        }
        Ok(())
    }

    /// A manifest's stored bytes, from its copy where it is missing or damaged.
    pub(crate) async fn manifest_bytes(&self, reference: &ManifestRef) -> Result<Bytes> {
        let name = layout::manifest(reference.id);
        let first = match self.read_checked(&name, reference.bytes, reference.stored).await {
            Ok(bytes) => return Ok(bytes),
            Err(e) => e,
        };
        let copy = layout::manifest_copy(reference.id);
        match self.read_checked(&copy, reference.bytes, reference.stored).await {
            Ok(bytes) => {
                let object = self.target().full(&name);
                tracing::warn!(%object, error = %first, "a manifest is read from its copy");
                Ok(bytes)
            }
            Err(_) => Err(first),
        }
    }
}

/// Runs a computation apart from the threads that drive I/O.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> keepfast_format::Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| FormatError::Encode { what: "parity".into(), source: Box::new(e) })?
        .map_err(VaultError::from)
}
