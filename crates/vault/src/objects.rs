//! Segments, change segments and manifests: put under names that follow from their content, checked when read.

use crate::commit::NewObject;
use crate::error::VaultError;
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_format::{EncodedSegment, FormatError, Manifest, ManifestKind, SegmentEntry, SegmentFile};
use keepfast_keys::KeyError;
use keepfast_model::{ByteCount, Encryption, Hash256, ManifestRef, TableId, TablePoint};
use keepfast_objects::Put;
use std::io::Read;

/// Bytes above which hashing is moved off the threads that drive I/O.
const HASH_APART: usize = 1 << 20;

/// The manifests of one table of a point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableManifests {
    /// The base, in key order.
    pub base: Vec<Manifest>,
    /// Changes, oldest first.
    pub changes: Vec<Manifest>,
}

impl Vault {
    /// Stores a segment; durable at the next commit, task result or [`keepfast_objects::Target::sync`].
    ///
    /// # Errors
    /// [`VaultError::Objects`].
    pub async fn put_segment(&self, table: &TableId, segment: &EncodedSegment) -> Result<Put> {
        Ok(self.target().put_content(&layout::segment(table, &segment.entry), segment.bytes.clone()).await?)
    }

    /// Stores a change segment, as [`Self::put_segment`].
    ///
    /// # Errors
    /// [`VaultError::Objects`].
    pub async fn put_change_segment(&self, table: &TableId, segment: &EncodedSegment) -> Result<Put> {
        Ok(self
            .target()
            .put_content(&layout::change_segment(table, &segment.entry), segment.bytes.clone())
            .await?)
    }

    /// Stores a manifest of a table that is encrypted in this way, and says how a point names it.
    ///
    /// A manifest's name follows from what it says. One that stands there may be compressed or sealed otherwise; the
    /// reference then names its bytes. Where something else stands there, such as what a crash tore, the manifest gets
    /// a salt and so another name: a rival may have put other right bytes there meanwhile, and a point may name them.
    ///
    /// # Errors
    /// [`VaultError::TableKeysChanged`], [`VaultError::Objects`] and [`VaultError::Format`].
    pub async fn put_manifest(
        &self,
        manifest: &Manifest,
        encryption: &Encryption,
    ) -> Result<(ManifestRef, Put)> {
        let mut salted: Option<Manifest> = None;
        for _ in 0..3 {
            let manifest = salted.as_ref().unwrap_or(manifest);
            let (mut reference, bytes) = match self.writing_keys(&manifest.table, encryption)? {
                Some((key, keyring)) => {
                    let random = self.environment().random.clone();
                    manifest.encode_sealed(key.table(), keyring.dedup(), random.as_ref())?
                }
                None => manifest.encode()?,
            };
            let name = layout::manifest(reference.id);
            if self.target().put_deferred(&name, bytes).await? == Put::Created {
                return Ok((reference, Put::Created));
            }
            let found = match self.target().get(&name).await {
                Ok(found) => found,
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            };
            if self.identity_of(&found) == Some(reference.id) {
                reference.stored = Hash256::of(&found);
                reference.bytes = ByteCount(found.len() as u64);
                return Ok((reference, Put::Existed));
            }
            tracing::warn!(object = %self.target().full(&name), "a manifest does not say what its name promises; another is written beside it");
            salted = Some(Manifest { salt: Some(self.environment().random_id()?), ..manifest.clone() });
        }
        Err(VaultError::damaged(self.target().full(layout::MANIFESTS), "manifests there come and go"))
    }

    /// Reads a manifest that a point names.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] when it is missing or not what was stored; [`VaultError::Objects`].
    pub async fn read_manifest(&self, reference: &ManifestRef) -> Result<Manifest> {
        self.read_manifest_if_there(reference).await.map_err(|e| self.missing(e))
    }

    /// As [`Self::read_manifest`], but a missing one is [`keepfast_objects::ObjectsError::NotFound`].
    pub(crate) async fn read_manifest_if_there(&self, reference: &ManifestRef) -> Result<Manifest> {
        let name = layout::manifest(reference.id);
        let path = self.target().full(&name);
        let bytes = self.manifest_bytes(reference).await?;
        let manifest = self.decode_manifest(&bytes).map_err(|e| match e {
            FormatError::NewerFormat { .. } | FormatError::Unsupported { .. } => e.into(),
            FormatError::Keys(e @ (KeyError::Locked { .. } | KeyError::Shredded { .. })) => e.into(),
            e => VaultError::Damaged {
                path: path.clone(),
                reason: "it is not a manifest".into(),
                source: Some(Box::new(e)),
            },
        })?;
        if manifest.segments.len() as u64 != u64::from(reference.segments) {
            return Err(VaultError::damaged(path, "it lists another number of segments than its point says"));
        }
        Ok(manifest)
    }

    /// Refuses a table of a point that nobody opened.
    ///
    /// # Errors
    /// [`KeyError::Locked`] for want of a key, [`KeyError::Shredded`] where its key was dropped.
    pub fn check_open(&self, table: &TablePoint) -> Result<()> {
        if table.sealed.is_none() {
            return Ok(());
        }
        self.open_keys()?;
        Err(KeyError::Shredded { what: format!("table '{}'", table.name) }.into())
    }

    /// A manifest from its stored bytes, sealed or not.
    pub(crate) fn decode_manifest(&self, bytes: &[u8]) -> Result<Manifest, FormatError> {
        let Some(table) = Manifest::sealed_for(bytes) else { return Manifest::decode(bytes) };
        let (key, keyring) = self.needed_table_key(&table).map_err(|e| match e {
            VaultError::Keys(e) => FormatError::Keys(e),
            _ => FormatError::Keys(KeyError::Sealed),
        })?;
        Ok(Manifest::decode_sealed(bytes, key.table(), keyring.dedup())?.0)
    }

    /// The name under which a stored manifest must stand; none when it cannot be read.
    fn identity_of(&self, stored: &[u8]) -> Option<Hash256> {
        let Some(table) = Manifest::sealed_for(stored) else { return identity(stored) };
        let (key, keyring) = self.needed_table_key(&table).ok()?;
        Some(Manifest::decode_sealed(stored, key.table(), keyring.dedup()).ok()?.1)
    }

    /// Reads all manifests of a table of a point, several at once.
    ///
    /// # Errors
    /// As [`Self::read_manifest`]; [`VaultError::Damaged`] also when one belongs to another table or is of another
    /// kind.
    pub async fn read_manifests(&self, table: &TablePoint) -> Result<TableManifests> {
        self.check_open(table)?;
        let base = table.base.iter().map(|m| (m.clone(), ManifestKind::Segments));
        let changes = table.changes.iter().map(|c| (c.manifest.clone(), ManifestKind::Changes));
        let all: Vec<_> = base.chain(changes).collect();
        let read: Vec<Manifest> = futures::stream::iter(all)
            .map(|(reference, kind)| async move {
                let manifest = self.read_manifest(&reference).await?;
                if manifest.table != table.id || manifest.kind != kind {
                    let path = self.target().full(&layout::manifest(reference.id));
                    return Err(VaultError::damaged(
                        path,
                        format!("it is not one of table '{}'", table.name),
                    ));
                }
                Ok(manifest)
            })
            .buffered(self.environment().parallel)
            .try_collect()
            .await?;
        let mut base = read;
        let changes = base.split_off(table.base.len());
        Ok(TableManifests { base, changes })
    }

    /// Reads a segment's file, and what opens it.
    ///
    /// # Errors
    /// [`KeyError::Locked`] and [`KeyError::Shredded`] without the table's key;
    /// [`VaultError::Damaged`] with the full path when it is not what was stored; [`VaultError::Objects`].
    pub async fn read_segment(&self, table: &TableId, entry: &SegmentEntry) -> Result<SegmentFile> {
        let keys = self.file_keys(table, entry).await?;
        let name = layout::segment(table, entry);
        let bytes = self.read_entry(&name, entry).await.map_err(|e| self.missing(e))?;
        Ok(SegmentFile { bytes, keys })
    }

    /// Reads a change segment's file.
    ///
    /// # Errors
    /// As [`Self::read_segment`].
    pub async fn read_change_segment(&self, table: &TableId, entry: &SegmentEntry) -> Result<SegmentFile> {
        let keys = self.file_keys(table, entry).await?;
        let name = layout::change_segment(table, entry);
        let bytes = self.read_entry(&name, entry).await.map_err(|e| self.missing(e))?;
        Ok(SegmentFile { bytes, keys })
    }

    pub(crate) async fn read_entry(&self, name: &str, entry: &SegmentEntry) -> Result<Bytes> {
        self.read_checked(name, entry.bytes, entry.stored).await
    }

    pub(crate) async fn read_checked(&self, name: &str, size: ByteCount, stored: Hash256) -> Result<Bytes> {
        let bytes = self.target().get(name).await?;
        if bytes.len() as u64 != size.0 {
            let reason = format!("it has {} bytes instead of {}", bytes.len(), size.0);
            return Err(VaultError::damaged(self.target().full(name), reason));
        }
        let found = match bytes.len() {
            n if n < HASH_APART => Hash256::of(&bytes),
            _ => {
                let shared = bytes.clone();
                let hashed = tokio::task::spawn_blocking(move || Hash256::of(&shared)).await;
                hashed.map_err(|e| {
                    keepfast_objects::ObjectsError::of("read", self.target().full(name), e.into())
                })?
            }
        };
        if found != stored {
            return Err(VaultError::damaged(self.target().full(name), "its bytes do not match their hash"));
        }
        Ok(bytes)
    }

    /// An object that a point names and that is not there is damage.
    pub(crate) fn missing(&self, e: VaultError) -> VaultError {
        match e {
            VaultError::Objects(keepfast_objects::ObjectsError::NotFound { path }) => {
                VaultError::damaged(path, "it is missing")
            }
            e => e,
        }
    }

    /// A segment as [`Vault::commit`] wants to know it.
    pub fn segment_object(table: &TableId, entry: &SegmentEntry) -> NewObject {
        NewObject { path: layout::segment(table, entry), bytes: entry.bytes }
    }

    /// A change segment as [`Vault::commit`] wants to know it.
    pub fn change_object(table: &TableId, entry: &SegmentEntry) -> NewObject {
        NewObject { path: layout::change_segment(table, entry), bytes: entry.bytes }
    }

    /// A manifest as [`Vault::commit`] wants to know it.
    pub fn manifest_object(reference: &ManifestRef) -> NewObject {
        NewObject { path: layout::manifest(reference.id), bytes: reference.bytes }
    }
}

/// BLAKE3 of the JSON in a stored manifest; none when it cannot be decompressed.
fn identity(stored: &[u8]) -> Option<Hash256> {
    /// More than any manifest holds.
    const JSON_MAX: u64 = 256 << 20;
    let mut json = vec![];
    zstd::stream::Decoder::new(stored).ok()?.take(JSON_MAX).read_to_end(&mut json).ok()?;
    Some(Hash256::of(&json))
}
