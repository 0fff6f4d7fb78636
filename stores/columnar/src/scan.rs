//! Reading versions: plans of partitions, and streams of rows.

use crate::table::TableVersion;
use crate::{Result, rows};
use arrow::array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use keepfast_format::SegmentEntry;
use keepfast_model::{ByteCount, ColumnId, KeyBytes, KeyRange, TableSchema};
use keepfast_store::BatchStream;
use std::sync::Arc;

/// Segments of one stream that are read before they are needed.
const AHEAD: usize = 2;

/// A part of a version: a range of keys, or of a bag's segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Keys; unbounded for bags.
    pub range: KeyRange,
    /// The segments of a bag, by number.
    pub segments: Option<(u64, u64)>,
    /// Rows, about.
    pub rows: u64,
    /// Stored bytes, about.
    pub bytes: ByteCount,
}

/// Cuts a version into about `parts` parts of equal size that cover it without gap or overlap.
///
/// Parts of a table with a key begin at `bounds` where some are given, else where segments begin.
pub async fn plan(version: &TableVersion, parts: u32, bounds: &[Vec<u8>]) -> Result<Vec<Part>> {
    let segments = version.segments().await?;
    let total: u64 = segments.iter().map(|s| s.rows).sum();
    let bytes: u64 = segments.iter().map(|s| s.bytes.0).sum();
    let parts = u64::from(parts.max(1));
    let size =
        |rows: u64| ByteCount((u128::from(bytes) * u128::from(rows) / u128::from(total.max(1))) as u64);
    if version.schema().is_bag() {
        return Ok(plan_bag(&segments, total, parts));
    }
    // Where a part may begin, and the rows before it.
    let mut starts: Vec<(KeyBytes, u64)> = vec![];
    let mut before = 0;
    if bounds.is_empty() {
        for segment in &segments {
            if let Some(min) = segment.min.as_ref().filter(|_| before > 0) {
                starts.push((min.clone(), before));
            }
            before += segment.rows;
        }
    } else {
        let mut at = 0;
        for bound in bounds {
            while segments
                .get(at)
                .is_some_and(|s| s.max.as_ref().is_some_and(|m| m.0.as_slice() < bound.as_slice()))
            {
                before += segments[at].rows;
                at += 1;
            }
            if before > 0
                && before < total
                && starts.last().is_none_or(|(k, _)| k.0.as_slice() < bound.as_slice())
            {
                starts.push((KeyBytes(bound.clone()), before));
            }
        }
    }
    let mut chosen: Vec<(KeyBytes, u64)> = vec![];
    for i in 1..parts {
        let wanted = (u128::from(total) * u128::from(i) / u128::from(parts)) as u64;
        let next = starts.partition_point(|(_, rows)| *rows < wanted);
        let Some(start) = starts.get(next) else { break };
        if chosen.last().is_none_or(|last| last.0 < start.0) {
            chosen.push(start.clone());
        }
    }
    let mut out = vec![];
    let mut start: (Option<KeyBytes>, u64) = (None, 0);
    for (key, rows) in chosen {
        let n = rows - start.1;
        out.push(Part {
            range: KeyRange { start: start.0, end: Some(key.clone()) },
            segments: None,
            rows: n,
            bytes: size(n),
        });
        start = (Some(key), rows);
    }
    let n = total - start.1;
    out.push(Part { range: KeyRange { start: start.0, end: None }, segments: None, rows: n, bytes: size(n) });
    Ok(out)
}

fn plan_bag(segments: &[SegmentEntry], total: u64, parts: u64) -> Vec<Part> {
    let each = total.div_ceil(parts).max(1);
    let mut out: Vec<Part> = vec![];
    for (at, segment) in (0..).zip(segments) {
        match out.last_mut() {
            Some(part) if part.rows < each => {
                part.segments = part.segments.map(|(from, _)| (from, at + 1));
                part.rows += segment.rows;
                part.bytes += segment.bytes;
            }
            _ => out.push(Part {
                range: KeyRange::default(),
                segments: Some((at, at + 1)),
                rows: segment.rows,
                bytes: segment.bytes,
            }),
        }
    }
    if out.is_empty() {
        out.push(Part { range: KeyRange::default(), segments: Some((0, 0)), rows: 0, bytes: ByteCount(0) });
    }
    out
}

/// The segments of a version that may hold keys of the range.
pub(crate) async fn segments_of(version: &TableVersion, range: &KeyRange) -> Result<Vec<SegmentEntry>> {
    let outside = |min: &Option<KeyBytes>, max: &Option<KeyBytes>| {
        let before = matches!((&range.start, max), (Some(start), Some(max)) if max < start);
        let after = matches!((&range.end, min), (Some(end), Some(min)) if min >= end);
        before || after
    };
    let mut out = vec![];
    for page in version.file().pages.iter().filter(|p| !outside(&p.min, &p.max)) {
        let segments = version.shared.page(version.table(), page).await?;
        out.extend(segments.iter().filter(|s| !outside(&s.min, &s.max)).cloned());
    }
    Ok(out)
}

/// The rows of a range, in key order.
pub(crate) fn range(
    version: TableVersion,
    range: KeyRange,
    columns: Option<Vec<ColumnId>>,
    batch_rows: usize,
) -> BatchStream {
    let found = async move {
        let segments = segments_of(&version, &range).await?;
        read(&version, segments, range, columns, batch_rows)
    };
    stream::once(found).try_flatten().boxed()
}

/// The rows of a part, in the order of its segments.
pub(crate) fn part(
    version: TableVersion,
    part_segments: (u64, u64),
    columns: Option<Vec<ColumnId>>,
    batch_rows: usize,
) -> BatchStream {
    let found = async move {
        let (from, to) = part_segments;
        let segments = version.segments().await?;
        let chosen = segments
            .into_iter()
            .skip(usize::try_from(from).unwrap_or(usize::MAX))
            .take(usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX))
            .collect();
        read(&version, chosen, KeyRange::default(), columns, batch_rows)
    };
    stream::once(found).try_flatten().boxed()
}

/// The rows of these segments that lie in the range. Key columns are always among the columns.
pub(crate) fn read(
    version: &TableVersion,
    segments: Vec<SegmentEntry>,
    range: KeyRange,
    columns: Option<Vec<ColumnId>>,
    batch_rows: usize,
) -> Result<BatchStream> {
    let version = version.clone();
    let wanted = columns.map(|wanted| with_key(version.schema(), wanted));
    let batch_rows = batch_rows.max(1);
    // What the batches look like, for finding keys in them.
    let seen: Arc<TableSchema> = match &wanted {
        Some(wanted) if !range.is_all() => {
            let names: Vec<String> =
                wanted.iter().filter_map(|id| Some(version.schema().column(*id)?.name.clone())).collect();
            Arc::new(version.schema().project(&names)?)
        }
        _ => version.schema().clone(),
    };
    let cut = Arc::new((seen, range));
    let batches = stream::iter(segments)
        .map(move |segment| {
            let (version, wanted, cut) = (version.clone(), wanted.clone(), cut.clone());
            async move {
                let (seen, range) = cut.as_ref();
                let inside = range.is_all()
                    || (segment.min.as_ref().is_some_and(|m| range.contains(&m.0))
                        && segment.max.as_ref().is_some_and(|m| range.contains(&m.0)));
                let batches = rows::read(
                    &version.shared,
                    version.table(),
                    version.schema(),
                    &segment,
                    wanted,
                    batch_rows,
                )
                .await?;
                let mut out: Vec<Result<RecordBatch>> = Vec::with_capacity(batches.len());
                for batch in batches {
                    let batch = if inside { batch } else { rows::within(seen, &batch, range)? };
                    if batch.num_rows() > 0 {
                        out.push(Ok(batch));
                    }
                }
                Ok::<_, keepfast_store::StoreError>(stream::iter(out))
            }
        })
        .buffered(AHEAD)
        .try_flatten();
    Ok(batches.boxed())
}

/// The columns with the key's, in table order; the hidden column last where it is wanted.
fn with_key(schema: &TableSchema, wanted: Vec<ColumnId>) -> Arc<[ColumnId]> {
    let declared = schema.columns.iter().map(|c| c.id);
    let exact = wanted.contains(&ColumnId::EXACT).then_some(ColumnId::EXACT);
    declared.filter(|id| wanted.contains(id) || schema.key.contains(id)).chain(exact).collect()
}
