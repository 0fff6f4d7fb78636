//! Healing of segments, change segments and parity files.

use super::{HealedBy, Round};
use crate::parity::{Member, blocks, compute, listed, members};
use crate::{Result, layout};
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_format::parity::{restore_block, shard_bytes};
use keepfast_format::{Manifest, ParityGroup};
use keepfast_model::{Hash256, ManifestRef};
use std::collections::{BTreeMap, BTreeSet};

impl Round<'_> {
    pub(super) async fn heal_files(
        &mut self,
        references: &BTreeMap<Hash256, ManifestRef>,
        mut files: BTreeSet<String>,
    ) -> Result<()> {
        for reference in references.values() {
            if files.is_empty() {
                break;
            }
            // A manifest that is lost is in the report already.
            let Ok(manifest) = self.vault.read_manifest(reference).await else { continue };
            for group in manifest.parity.iter().flatten() {
                self.heal_group(&manifest, group, &files).await?;
            }
            for (path, stored, _) in listed(&manifest) {
                if files.contains(&path) && !self.healed.contains_key(&path) {
                    self.fetch(&path, stored).await;
                }
            }
            files.retain(|name| !self.healed.contains_key(name));
        }
        for name in files {
            let why = match self.from {
                Some(from) => format!("{} does not hold it either", from.url()),
                None => {
                    "its table has no parity; `--repair-from` takes it from another copy of the vault".into()
                }
            };
            self.refused.entry(name).or_insert(why);
        }
        Ok(())
    }

    /// Takes a file from the other place.
    async fn fetch(&mut self, name: &str, stored: Hash256) {
        let Some(from) = self.from else { return };
        if let Some(bytes) = self.bytes_of(from, name, stored).await {
            self.replace(name.to_owned(), bytes, HealedBy::Vault(from.url().to_owned())).await;
        }
    }

    /// Makes lost files of a group again, and then its lost parity.
    async fn heal_group(
        &mut self,
        manifest: &Manifest,
        group: &ParityGroup,
        files: &BTreeSet<String>,
    ) -> Result<()> {
        let all = members(manifest, &group.members);
        let shards: Vec<String> =
            group.shards.iter().enumerate().map(|(n, s)| layout::parity(&manifest.table, n, s)).collect();
        let is_lost = |name: &String| files.contains(name) && !self.healed.contains_key(name);
        let lost: Vec<bool> = all.iter().map(|m| is_lost(&m.path)).collect();
        let lost_shards: Vec<bool> = shards.iter().map(is_lost).collect();
        let [count, count_shards] = [&lost, &lost_shards].map(|l| l.iter().filter(|l| **l).count());
        if count + count_shards == 0 {
            return Ok(());
        }
        if count + count_shards > shards.len() && count > 0 {
            let why = format!(
                "{} of the {} files of its parity group are damaged, and parity heals {}",
                count + count_shards,
                all.len() + shards.len(),
                shards.len()
            );
            for name in all.iter().map(|m| &m.path).chain(&shards).filter(|name| is_lost(name)) {
                self.refused.insert(name.clone(), why.clone());
            }
            return Ok(());
        }
        if count > 0 {
            match self.restored(&all, &lost, &shards, &lost_shards).await {
                Ok(restored) => {
                    for (at, bytes) in restored {
                        match Hash256::of(&bytes) == all[at].stored {
                            true => self.replace(all[at].path.clone(), bytes.into(), HealedBy::Parity).await,
                            false => self.refuse(&all[at].path, "parity gives other bytes than were written"),
                        }
                    }
                }
                Err(e) => {
                    for (member, _) in all.iter().zip(&lost).filter(|(_, lost)| **lost) {
                        self.refuse(&member.path, &e.to_string());
                    }
                    return Ok(());
                }
            }
        }
        if count_shards > 0 {
            let made = match self.vault.parity_of(&all, shards.len()).await {
                Ok(made) => made,
                Err(e) => {
                    shards.iter().zip(&lost_shards).filter(|(_, l)| **l).for_each(|(name, _)| {
                        self.refused.insert(name.clone(), e.to_string());
                    });
                    return Ok(());
                }
            };
            for ((mut bytes, shard), name) in made
                .into_iter()
                .zip(&group.shards)
                .zip(&shards)
                .zip(&lost_shards)
                .filter_map(|(x, l)| l.then_some(x))
            {
                bytes.extend_from_slice(shard.salt.as_deref().unwrap_or_default().as_bytes());
                match Hash256::of(&bytes) == shard.stored {
                    true => self.replace(name.clone(), bytes.into(), HealedBy::Parity).await,
                    false => self.refuse(name, "its group gives other parity than was written"),
                }
            }
        }
        Ok(())
    }

    /// The bytes of a group's lost files, by position.
    async fn restored(
        &self,
        all: &[Member],
        lost: &[bool],
        shards: &[String],
        lost_shards: &[bool],
    ) -> Result<BTreeMap<usize, Vec<u8>>> {
        let length = shard_bytes(all.iter().map(|m| m.bytes));
        let sources: Vec<Option<(String, u64)>> = all
            .iter()
            .zip(lost)
            .map(|(m, lost)| (!lost).then(|| (m.path.clone(), m.bytes)))
            .chain(shards.iter().zip(lost_shards).map(|(name, lost)| (!lost).then(|| (name.clone(), length))))
            .collect();
        let mut restored: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for block in blocks(length) {
            let size = (block.end - block.start) as usize;
            let mut read: Vec<Option<Bytes>> = futures::stream::iter(sources.clone())
                .map(|source| {
                    let block = block.clone();
                    async move {
                        match source {
                            Some((path, bytes)) => self.vault.block_of(path, bytes, block).await.map(Some),
                            None => Ok(None),
                        }
                    }
                })
                .buffered(self.vault.environment().parallel)
                .try_collect()
                .await?;
            let parity = read.split_off(all.len());
            for (at, bytes) in compute(move || restore_block(&read, &parity, size)).await? {
                restored.entry(at).or_default().extend_from_slice(&bytes);
            }
        }
        for (at, bytes) in &mut restored {
            bytes.truncate(all[*at].bytes as usize);
        }
        Ok(restored)
    }
}
