//! One restore point under other keys.

use super::{Reencryption, left_out, manifest_path};
use crate::Result;
use crate::commit::NewObject;
use crate::error::VaultError;
use crate::log::Point;
use keepfast_format::{FormatError, ManifestKind};
use keepfast_keys::KeyError;
use keepfast_model::{BackupPoint, ByteCount, ChangeManifestRef, Digest, TablePoint};

impl Reencryption<'_> {
    /// The point as it stands in the other vault; none where nothing of it can be read.
    pub(super) async fn point_anew(
        &mut self,
        point: &Point,
        written: &mut Vec<NewObject>,
    ) -> Result<Option<BackupPoint>> {
        let mut tables = vec![];
        for table in &point.tables {
            let anew = match table.sealed {
                Some(_) => None,
                None => match self.table_anew(table, written).await {
                    Ok(anew) => Some(anew),
                    Err(e) if is_shredded(&e) => None,
                    Err(e) => return Err(e),
                },
            };
            match anew {
                Some(anew) => tables.push(anew),
                None => self.report.left_out.push(left_out(table, point)),
            }
        }
        Ok((!tables.is_empty()).then(|| BackupPoint { tables, ..BackupPoint::clone(point) }))
    }

    async fn table_anew(&mut self, table: &TablePoint, written: &mut Vec<NewObject>) -> Result<TablePoint> {
        let before: u64 = written.iter().map(|o| o.bytes.0).sum();
        let (mut bytes, mut digest) = (ByteCount(0), Digest::default());
        let mut pairs = vec![];
        for reference in &table.base {
            let known = self.manifest_anew(table, ManifestKind::Segments, reference, written).await?;
            bytes += known.bytes;
            digest = digest.merge(known.digest);
            pairs.push((reference.clone(), known.reference));
        }
        // With changes it is that of the merged rows, which follows from rows and changes that are as they were.
        if table.changes.is_empty() && digest != table.digest {
            let path = table.base.first().map_or_else(String::new, |r| manifest_path(self.source, r));
            let reason = format!("the point states {} and its segments hold {digest}", table.digest);
            return Err(VaultError::damaged(path, reason));
        }
        let mut changes = vec![];
        for change in &table.changes {
            let known = self.manifest_anew(table, ManifestKind::Changes, &change.manifest, written).await?;
            bytes += known.bytes;
            changes.push(ChangeManifestRef { manifest: known.reference, written_by: change.written_by });
        }
        let base = pairs.iter().map(|(_, new)| new.clone()).collect();
        self.newest.insert(table.id.clone(), pairs);
        let protection = self.protection(&table.id).await?;
        Ok(TablePoint {
            base,
            changes,
            bytes,
            bytes_new: ByteCount(written.iter().map(|o| o.bytes.0).sum::<u64>() - before),
            encryption: protection.encryption().clone(),
            key_ids: protection.key_ids().to_owned(),
            sealed: None,
            ..table.clone()
        })
    }
}

fn is_shredded(e: &VaultError) -> bool {
    matches!(
        e,
        VaultError::Keys(KeyError::Shredded { .. })
            | VaultError::Format(FormatError::Keys(KeyError::Shredded { .. }))
    )
}
