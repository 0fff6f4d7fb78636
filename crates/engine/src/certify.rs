//! Proof that what was read is what the store holds: all keys, in order, none twice, as many rows, the same content.

use crate::Result;
use crate::error::EngineError;
use crate::task::ScanResult;
use keepfast_format::SegmentEntry;
use keepfast_model::{Certificate, Digest, KeyBytes, KeyRange, Partition, ProofKind, ShardId, TableName};
use keepfast_store::{OpenCut, ProofRequest};
use std::collections::HashMap;
use std::sync::Arc;

/// Checks that partitions cover all keys without gap or overlap. Those of a bag, and pieces that a store cuts in its
/// own order, have no keys to check; the store's count is what proves them.
pub(crate) fn check_cover(table: &TableName, bag: bool, partitions: &[Partition]) -> Result<()> {
    let refuse = |reason: String| Err(EngineError::NotCertified { table: table.to_string(), reason });
    if partitions.is_empty() {
        return refuse("the store planned no partition".into());
    }
    if bag || partitions.iter().all(|p| p.range.is_all()) {
        return Ok(());
    }
    let mut ends: HashMap<&ShardId, Option<&KeyBytes>> = HashMap::new();
    for p in partitions {
        match (ends.get(&p.shard), &p.range.start) {
            (None, None) => {}
            (None, Some(start)) => {
                return refuse(format!("shard '{}' is read from key {start} on only", p.shard));
            }
            (Some(None), _) => {
                return refuse(format!("partitions of shard '{}' overlap after its last", p.shard));
            }
            (Some(Some(end)), Some(start)) if *end == start => {}
            (Some(Some(end)), start) => {
                return refuse(format!(
                    "a partition of shard '{}' ends at key {end} and the next starts at {}",
                    p.shard,
                    start.as_ref().map_or_else(|| "the beginning".to_owned(), ToString::to_string)
                ));
            }
        }
        ends.insert(&p.shard, p.range.end.as_ref());
    }
    match ends.iter().find(|(_, end)| end.is_some()) {
        Some((shard, Some(end))) => refuse(format!("shard '{shard}' is read up to key {end} only")),
        _ => Ok(()),
    }
}

/// The range whose checksum is asked for, and the digest of what was read of it: a partition that rotates from run to
/// run, or everything where partitions are not ranges of one shard's keys.
pub(crate) fn sample(
    partitions: &[Partition],
    results: &[ScanResult],
    run: u32,
) -> (KeyRange, Option<Digest>) {
    let ranges =
        partitions.len() == results.len() && partitions.iter().all(|p| p.shard == partitions[0].shard);
    let at =
        (jiff::Timestamp::now().as_second() as usize).wrapping_add(run as usize) % partitions.len().max(1);
    match (partitions.get(at), results.get(at)) {
        (Some(partition), Some(result)) if ranges => (partition.range.clone(), Some(result.read)),
        _ => (KeyRange::default(), None),
    }
}

/// Checks that segments of one shard ascend without touching.
pub(crate) fn check_order(table: &TableName, segments: &[SegmentEntry]) -> Result<()> {
    for pair in segments.windows(2) {
        if let (Some(max), Some(min)) = (&pair[0].max, &pair[1].min)
            && pair[0].shard == pair[1].shard
            && min <= max
        {
            return Err(EngineError::NotCertified {
                table: table.to_string(),
                reason: format!("key {min} was read after key {max}: rows are doubled or out of order"),
            });
        }
    }
    Ok(())
}

pub(crate) fn counted(rows: u64, partitions: u32) -> Certificate {
    Certificate {
        kind: ProofKind::Own,
        rows,
        partitions,
        content_percent: 0,
        method: "rows counted while they were read".into(),
        at: jiff::Timestamp::now(),
    }
}

/// Compares what was read with what the store itself says.
pub(crate) async fn certify(
    cut: &Arc<dyn OpenCut>,
    table: &TableName,
    request: &ProofRequest,
    read: Digest,
    sampled: Option<Digest>,
    partitions: u32,
) -> Result<Certificate> {
    let refuse = |reason: String| Err(EngineError::NotCertified { table: table.to_string(), reason });
    let at = jiff::Timestamp::now();
    let Some(proof) = cut.prove(table, request).await? else {
        if request.full {
            return refuse("the store has no checksums of its own, and certify = full asks for them".into());
        }
        return Ok(counted(read.rows, partitions));
    };
    if proof.rows != read.rows {
        return refuse(format!("the store counts {} rows and {} were read", proof.rows, read.rows));
    }
    let mut covered = 0;
    for range in &proof.ranges {
        let ours = if range.range.is_all() {
            Some(read)
        } else if request.ranges.contains(&range.range) {
            sampled
        } else {
            None
        };
        match ours {
            Some(ours) if ours == range.digest => covered += ours.rows,
            Some(ours) => {
                return refuse(format!(
                    "the store's checksum is {} and that of the rows read is {ours}",
                    range.digest
                ));
            }
            None => {}
        }
    }
    if request.full && covered < read.rows {
        return refuse(format!(
            "the store's checksums cover {covered} of {} rows, and certify = full asks for all",
            read.rows
        ));
    }
    let percent = (covered.min(read.rows) * 100).checked_div(read.rows).unwrap_or(100);
    Ok(Certificate {
        kind: ProofKind::Source,
        rows: proof.rows,
        partitions,
        content_percent: percent as u8,
        method: proof.method,
        at,
    })
}
