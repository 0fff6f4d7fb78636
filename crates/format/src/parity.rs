//! Parity: a few files from which any few lost files of a group can be made again.
//!
//! Works on stored bytes and knows nothing of what they mean. All files of a group are thought of as filled up with
//! zeros to one length, a multiple of 64 bytes; the parity files are the recovery shards of a Reed-Solomon code over
//! GF(2^16) in 64-byte pieces (Leopard), so that any aligned block of them follows from the same block of the files,
//! and a group of any size is worked on in bounded memory. The bytes are described in `docs/format.md`.
//!
//! Invariant: grouping follows from what the entries are, not from when they were written: an unchanged group of the
//! next base has the same parity files.

use crate::Result;
use crate::error::FormatError;
use crate::manifest::SegmentEntry;
use keepfast_model::{ByteCount, Hash256, Parity};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The length of every block is a multiple of it.
pub const ALIGNMENT: u64 = 64;

/// A group ends after an entry whose stored hash begins with this byte, full or not: so the groups that follow an
/// inserted entry are soon the same as before.
const ENDS: u8 = 0;

/// A parity file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ParityShard {
    /// BLAKE3 of its stored bytes.
    pub stored: Hash256,
    /// Its stored size.
    pub bytes: ByteCount,
    /// Random text that follows the parity, where the name of the file without it is condemned; otherwise none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
}

impl ParityShard {
    /// Its file name, where it is the group's shard of this number.
    pub fn file_name(&self, number: usize) -> String {
        format!("{number}-{}", self.stored)
    }
}

/// Files that share parity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParityGroup {
    /// Positions of their entries in the manifest, in the order of the code.
    pub members: Vec<u32>,
    /// Its parity files, in the order of the code.
    pub shards: Vec<ParityShard>,
}

/// Positions of entries that share parity: of about the same size, since a parity file is as long as the longest of
/// its group, and otherwise in the order of the entries. A file that stands twice is a member once.
pub fn group(entries: &[SegmentEntry], parity: Parity) -> Vec<Vec<u32>> {
    let mut seen = HashSet::new();
    let mut order: Vec<u32> =
        (0u32..).zip(entries).filter(|(_, e)| seen.insert((e.id, e.stored))).map(|(at, _)| at).collect();
    order.sort_by_key(|at| (size_class(entries[*at as usize].bytes.0), *at));
    let mut groups = vec![];
    let mut current = vec![];
    for at in order {
        current.push(at);
        if current.len() == usize::from(parity.data) || entries[at as usize].stored.0[0] == ENDS {
            groups.push(std::mem::take(&mut current));
        }
    }
    if !current.is_empty() {
        groups.push(current);
    }
    groups
}

/// Eight classes for every doubling.
fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(8);
    let doublings = u64::from(bytes.ilog2());
    doublings * 8 + (bytes >> (doublings - 3)) % 8
}

/// The length that all files of a group are filled up to, and the length of its parity files.
pub fn shard_bytes(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.max().unwrap_or(0).max(1).next_multiple_of(ALIGNMENT)
}

/// One block of every parity file. `members` are the same block of every file, shorter or empty where a file ends.
///
/// # Errors
/// [`FormatError::Encode`] for a block that is no multiple of [`ALIGNMENT`], or a member that is longer.
pub fn encode_block(members: &[impl AsRef<[u8]>], shards: usize, block: usize) -> Result<Vec<Vec<u8>>> {
    let refuse = |e| FormatError::encode("parity", e);
    aligned(block)?;
    let mut encoder = ReedSolomonEncoder::new(members.len(), shards, block).map_err(refuse)?;
    let mut filled = vec![0; block];
    for member in members {
        encoder.add_original_shard(fill(&mut filled, member.as_ref())?).map_err(refuse)?;
    }
    let result = encoder.encode().map_err(refuse)?;
    Ok(result.recovery_iter().map(<[u8]>::to_vec).collect())
}

/// One block of every file that is missing, by position. Blocks that are there are given as for [`encode_block`].
///
/// # Errors
/// [`FormatError::Damaged`] when more files are missing than parity files are there.
pub fn restore_block<B: AsRef<[u8]>>(
    members: &[Option<B>],
    shards: &[Option<B>],
    block: usize,
) -> Result<Vec<(usize, Vec<u8>)>> {
    let refuse = |e: reed_solomon_simd::Error| FormatError::Damaged {
        object: "a parity group".into(),
        reason: e.to_string(),
        source: Some(Box::new(e)),
    };
    aligned(block)?;
    if members.iter().all(Option::is_some) {
        return Ok(vec![]);
    }
    let mut decoder = ReedSolomonDecoder::new(members.len(), shards.len(), block).map_err(refuse)?;
    let mut filled = vec![0; block];
    for (at, member) in members.iter().enumerate() {
        if let Some(member) = member {
            decoder.add_original_shard(at, fill(&mut filled, member.as_ref())?).map_err(refuse)?;
        }
    }
    for (at, shard) in shards.iter().enumerate() {
        if let Some(shard) = shard {
            decoder.add_recovery_shard(at, fill(&mut filled, shard.as_ref())?).map_err(refuse)?;
        }
    }
    let result = decoder.decode().map_err(refuse)?;
    Ok(result.restored_original_iter().map(|(at, bytes)| (at, bytes.to_vec())).collect())
}

fn aligned(block: usize) -> Result<()> {
    if block == 0 || !(block as u64).is_multiple_of(ALIGNMENT) {
        return Err(FormatError::damaged("a parity group", format!("its block has {block} bytes")));
    }
    Ok(())
}

fn fill<'a>(filled: &'a mut [u8], bytes: &[u8]) -> Result<&'a [u8]> {
    let Some((head, tail)) = filled.split_at_mut_checked(bytes.len()) else {
        return Err(FormatError::damaged("a parity group", "a block of it is too long"));
    };
    head.copy_from_slice(bytes);
    tail.fill(0);
    Ok(filled)
}
