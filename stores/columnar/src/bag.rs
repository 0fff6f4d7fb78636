//! Tables without a key: rows are removed by equal content, one for one.

use crate::apply::Applied;
use crate::build::all_segments;
use crate::rows;
use crate::shared::Shared;
use crate::sink::{Piece, SegmentSink, Target};
use crate::spill::HashList;
use crate::version::VersionFile;
use crate::{Result, fault};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::stream::{self, StreamExt, TryStreamExt};
use keepfast_format::SegmentEntry;
use keepfast_model::{Digest, Hash256, RowHasher};
use keepfast_store::StoreError;
use std::collections::HashMap;
use std::sync::Arc;

/// Which rows of a segment go; one a row.
type Marks = HashMap<Hash256, Vec<bool>>;

/// The version's parts without one row for each hash, and then these segments.
///
/// # Errors
/// `Conflict` when a row is not there.
pub(crate) async fn remove(
    target: &Target,
    on: &VersionFile,
    removals: &HashList,
    then: Vec<SegmentEntry>,
    sink: &mut SegmentSink,
) -> Result<Applied> {
    let mut removed = Digest::default();
    if removals.is_empty() {
        on.pages.iter().for_each(|p| sink.keep(Piece::Page(p.clone())));
    } else if removals.digest() == on.digest {
        // Everything goes; nothing has to be read.
        removed = on.digest;
    } else {
        let marks = mark(target, on, removals).await?;
        removed = removals.digest();
        for page in &on.pages {
            let segments = target.shared.page(&target.table, page).await?;
            if !segments.iter().any(|s| marks.contains_key(&s.id)) {
                sink.end_segment().await?;
                sink.keep(Piece::Page(page.clone()));
                continue;
            }
            for segment in segments.iter() {
                match marks.get(&segment.id) {
                    None => {
                        sink.end_segment().await?;
                        sink.keep(Piece::Kept(segment.clone()));
                    }
                    Some(gone) if gone.iter().all(|g| *g) => {}
                    Some(gone) => {
                        for batch in without(target, segment, gone).await? {
                            sink.push(batch).await?;
                        }
                    }
                }
            }
        }
        sink.end_segment().await?;
    }
    then.into_iter().for_each(|s| sink.keep(Piece::Kept(s)));
    Ok(Applied { pieces: sink.finish().await?, added: Digest::default(), removed })
}

/// The rows of a segment that stay.
async fn without(target: &Target, segment: &SegmentEntry, gone: &[bool]) -> Result<Vec<RecordBatch>> {
    let batches =
        rows::read(&target.shared, &target.table, &target.schema, segment, None, rows::BATCH_ROWS).await?;
    let mut at = 0;
    batches
        .iter()
        .map(|batch| {
            let stay: BooleanArray = gone[at..at + batch.num_rows()].iter().map(|g| Some(!g)).collect();
            at += batch.num_rows();
            filter_record_batch(batch, &stay).map_err(rows::kernel)
        })
        .collect()
}

/// Finds one row for each hash. Hashes are looked for some millions at a time, so that memory is bounded.
async fn mark(target: &Target, on: &VersionFile, removals: &HashList) -> Result<Marks> {
    let segments = all_segments(&target.shared, on).await?;
    let mut marks = Marks::new();
    for piece in removals.pieces() {
        let mut wanted: HashMap<u128, u64> = HashMap::new();
        for hash in piece? {
            *wanted.entry(hash).or_default() += 1;
        }
        let mut hashed = stream::iter(segments.clone())
            .map(|segment| {
                let target = target.clone();
                async move {
                    let hashes = row_hashes(&target, &segment).await?;
                    Ok::<_, StoreError>((segment, hashes))
                }
            })
            .buffered(target.shared.options.threads.max(1) + 1);
        while !wanted.is_empty() {
            let Some((segment, hashes)) = hashed.try_next().await? else { break };
            for (row, hash) in hashes.iter().enumerate() {
                let Some(n) = wanted.get_mut(hash) else { continue };
                let marked = marks.entry(segment.id).or_insert_with(|| vec![false; hashes.len()]);
                if marked[row] {
                    continue;
                }
                marked[row] = true;
                *n -= 1;
                if *n == 0 {
                    wanted.remove(hash);
                }
            }
        }
        if !wanted.is_empty() {
            let n: u64 = wanted.values().sum();
            return Err(StoreError::Conflict {
                table: target.name.to_string(),
                reason: format!("{n} rows that were to be removed are no longer there"),
            });
        }
    }
    Ok(marks)
}

/// The hash of every row of a segment.
pub(crate) async fn row_hashes(target: &Target, segment: &SegmentEntry) -> Result<Vec<u128>> {
    let batches =
        rows::read(&target.shared, &target.table, &target.schema, segment, None, rows::BATCH_ROWS).await?;
    let hasher = RowHasher::new(&target.schema);
    let (rows, name) = (segment.rows, target.shared.place.full(&segment.file_name()));
    let hashes = hash_all(&target.shared, hasher, batches).await?;
    if hashes.len() as u64 != rows {
        return Err(fault::damaged(name, "it holds another number of rows than its page says"));
    }
    Ok(hashes)
}

async fn hash_all(shared: &Arc<Shared>, hasher: RowHasher, batches: Vec<RecordBatch>) -> Result<Vec<u128>> {
    shared
        .compute(move || {
            let mut hashes = Vec::new();
            for batch in &batches {
                hashes.append(&mut hasher.hash(batch)?.rows);
            }
            Ok(hashes)
        })
        .await
}
