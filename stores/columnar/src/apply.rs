//! Sorted operations meet a version's segments, and new segments come out.
//!
//! Only segments that an operation touches are read and written anew. Rows flow in key order through one splitter, so
//! segments end where their rows say. What goes in and out is counted from the rows themselves, and at the end the
//! old digest, less what went out, plus what came in, must be the digest of the new segments.

use crate::sink::{Piece, SegmentSink, Target};
use crate::stage::{Op, OpCursor, Source, Staging, Window, pick};
use crate::walk::Walk;
use crate::{Result, fault, rows};
use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use keepfast_format::SegmentEntry;
use keepfast_model::{Digest, RowHasher, TableSchema, encode_keys};
use keepfast_store::StoreError;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// All parts of the new version, in order.
    pub pieces: Vec<Piece>,
    /// Rows that came in.
    pub added: Digest,
    /// Rows that went out.
    pub removed: Digest,
}

/// A segment that is being rewritten.
#[derive(Debug)]
struct Current {
    segment: SegmentEntry,
    columns: Vec<ArrayRef>,
    keys: BinaryArray,
    /// The first row that has not been passed on.
    at: usize,
    /// Whether it also takes keys after its last one.
    open_end: bool,
    /// Whether the row that ended it is gone, so that its last rows belong to the next segment.
    end_removed: bool,
}

/// What one thread merges with.
#[derive(Clone, Debug)]
struct Merge {
    table: String,
    schema: Arc<TableSchema>,
    physical: SchemaRef,
    hasher: RowHasher,
}

#[derive(Debug, Default)]
struct Merged {
    out: Vec<RecordBatch>,
    added: Digest,
    removed: Digest,
}

/// Applies staged operations to the segments of a walk.
pub(crate) async fn apply(
    target: &Target,
    mut walk: Walk,
    ops: &mut Staging,
    sink: &mut SegmentSink,
) -> Result<Applied> {
    let merge = Merge {
        table: target.name.to_string(),
        schema: target.schema.clone(),
        physical: target.schema.physical(),
        hasher: RowHasher::new(&target.schema),
    };
    let mut applied = Applied::default();
    let mut ahead = Ahead { target: target.clone(), loading: VecDeque::new() };
    let small = u64::from(target.target_rows) / 2;
    let mut current: Option<Current> = None;
    let mut cursor = Some(ops.cursor()?);
    while let Some(window) = next_window(target, &mut cursor).await? {
        let mut from = 0;
        while from < window.ops.len() {
            let key = window.key(from).to_vec();
            // Leave the segment whose keys lie behind.
            if let Some(done) = current.take_if(|c| !c.takes(&key)) {
                drain(target, &merge, done, &mut walk, Some(&key), sink, &mut applied, &mut ahead).await?;
            }
            if current.is_none()
                && let Some(segment) = walk.seek(&key, small, sink).await?
            {
                let open_end = segment.max.as_ref().is_none_or(|max| max.0 < key);
                let mut loaded = ahead.load(segment).await?;
                loaded.open_end = open_end;
                current = Some(loaded);
            }
            let to = match &current {
                Some(c) => window.end_of(from, c),
                None => window.ops.len(),
            };
            if to - from > 256 {
                ahead.prefetch(&mut walk).await?;
            }
            let (m, w) = (merge.clone(), window.clone());
            let (back, merged) = target
                .shared
                .compute(move || {
                    let mut current = current;
                    let merged = m.step(current.as_mut(), &w, from, to)?;
                    Ok((current, merged))
                })
                .await?;
            current = back;
            take(merged, sink, &mut applied).await?;
            from = to;
        }
    }
    if let Some(done) = current {
        drain(target, &merge, done, &mut walk, None, sink, &mut applied, &mut ahead).await?;
    }
    sink.end_segment().await?;
    walk.rest(sink);
    applied.pieces = sink.finish().await?;
    Ok(applied)
}

async fn next_window(target: &Target, cursor: &mut Option<OpCursor>) -> Result<Option<Window>> {
    let Some(mut moved) = cursor.take() else { return Ok(None) };
    let (moved, window) = target.shared.compute(move || moved.next().map(|w| (moved, w))).await?;
    *cursor = Some(moved);
    Ok(window)
}

async fn take(merged: Merged, sink: &mut SegmentSink, applied: &mut Applied) -> Result<()> {
    applied.added = applied.added.merge(merged.added);
    applied.removed = applied.removed.merge(merged.removed);
    for batch in merged.out {
        sink.push(batch).await?;
    }
    Ok(())
}

/// Passes on what is left of a segment. Where the row that ended it is gone, the next segment is taken along, unless
/// the next operation (at `next`) takes it anyway.
#[allow(clippy::too_many_arguments)]
async fn drain(
    target: &Target,
    merge: &Merge,
    mut done: Current,
    walk: &mut Walk,
    next: Option<&[u8]>,
    sink: &mut SegmentSink,
    applied: &mut Applied,
    ahead: &mut Ahead,
) -> Result<()> {
    loop {
        let (m, end_removed) = (merge.clone(), done.end_removed);
        let merged = target.shared.compute(move || m.rest(&mut done)).await?;
        take(merged, sink, applied).await?;
        if !end_removed {
            break;
        }
        match walk.peek().await? {
            Some(segment)
                if next.is_none_or(|key| segment.max.as_ref().is_some_and(|m| m.0.as_slice() < key)) =>
            {
                walk.next().await?;
                done = ahead.load(segment).await?;
            }
            _ => break,
        }
    }
    // The next segment that is written is a neighbour only when nothing lies between.
    let adjacent = match (walk.peek().await?, next) {
        (Some(segment), Some(key)) => segment.max.as_ref().is_none_or(|max| max.0.as_slice() >= key),
        (None, Some(_)) => true,
        _ => false,
    };
    if adjacent { Ok(()) } else { sink.end_segment().await }
}

impl Window {
    /// The first operation from `from` on that the segment does not take.
    fn end_of(&self, from: usize, current: &Current) -> usize {
        let (mut low, mut high) = (from, self.ops.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if current.takes(self.key(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

impl Current {
    fn takes(&self, key: &[u8]) -> bool {
        self.open_end || self.segment.max.as_ref().is_none_or(|max| key <= max.0.as_slice())
    }
}

impl Merge {
    /// Merges operations `from..to` with the rows up to the last of their keys.
    fn step(
        &self,
        mut current: Option<&mut Current>,
        window: &Window,
        from: usize,
        to: usize,
    ) -> Result<Merged> {
        let mut kept: Vec<(u32, u32)> = vec![];
        let mut added: Vec<(u32, u32)> = vec![];
        let mut removed: Vec<(u32, u32)> = vec![];
        let mut i = from;
        while i < to {
            let key = window.key(i);
            let mut old = None;
            if let Some(c) = current.as_deref_mut() {
                while c.at < c.keys.len() && c.keys.value(c.at) < key {
                    kept.push((0, c.at as u32));
                    c.at += 1;
                }
                if c.at < c.keys.len() && c.keys.value(c.at) == key {
                    old = Some((0, c.at as u32));
                    c.at += 1;
                }
            }
            let mut state = old;
            while i < to && window.key(i) == key {
                let op = window.ops[i];
                let new = Some((op.source + 1, op.row));
                state = match op.op {
                    Op::Insert if state.is_some() => {
                        return Err(self.duplicate(&window.sources, op.source, op.row));
                    }
                    Op::Ignore if state.is_some() => state,
                    Op::Insert | Op::Ignore | Op::Put => new,
                    Op::Delete | Op::Remove => None,
                };
                i += 1;
            }
            if state != old {
                removed.extend(old);
                added.extend(state);
                if let (Some(c), Some((_, row)), None) = (current.as_deref_mut(), old, state) {
                    c.end_removed |= row as usize + 1 == c.keys.len();
                }
            }
            kept.extend(state);
        }
        let none: &[ArrayRef] = &[];
        let mut sources: Vec<&[ArrayRef]> = vec![current.as_deref().map_or(none, |c| c.columns.as_slice())];
        sources.extend(window.sources.iter().map(|s| s.columns.as_deref().unwrap_or(none)));
        Ok(Merged {
            out: pick(&self.physical, &sources, &kept)?,
            added: self.digest(&sources, &added)?,
            removed: self.digest(&sources, &removed)?,
        })
    }

    /// The rows that no operation reached.
    fn rest(&self, current: &mut Current) -> Result<Merged> {
        let kept: Vec<(u32, u32)> =
            (current.at as u32..current.keys.len() as u32).map(|row| (0, row)).collect();
        current.at = current.keys.len();
        Ok(Merged { out: pick(&self.physical, &[current.columns.as_slice()], &kept)?, ..Merged::default() })
    }

    fn digest(&self, sources: &[&[ArrayRef]], index: &[(u32, u32)]) -> Result<Digest> {
        let mut digest = Digest::default();
        for batch in pick(&self.physical, sources, index)? {
            digest = digest.merge(self.hasher.digest(&batch)?);
        }
        Ok(digest)
    }

    fn duplicate(&self, sources: &[Source], source: u32, row: u32) -> StoreError {
        let columns = sources.get(source as usize).and_then(|s| s.columns.as_deref()).unwrap_or(&[]);
        let key = key_text(&self.schema, columns, row as usize);
        StoreError::Row { table: self.table.clone(), reason: format!("a row with {key} exists already") }
    }
}

/// A row's key as text, such as `id = 5`.
pub(crate) fn key_text(schema: &TableSchema, columns: &[ArrayRef], row: usize) -> String {
    let parts: Vec<String> = schema
        .key_positions()
        .into_iter()
        .filter_map(|at| {
            let value = keepfast_model::convert::shown(columns.get(at)?.as_ref(), row);
            Some(format!("{} = {value}", schema.columns[at].name))
        })
        .collect();
    if parts.is_empty() { "this key".into() } else { parts.join(", ") }
}

/// Segments that are read before they are needed.
#[derive(Debug)]
struct Ahead {
    target: Target,
    loading: VecDeque<(keepfast_model::Hash256, JoinHandle<Result<Current>>)>,
}

impl Ahead {
    /// Starts reading the segment that comes next.
    async fn prefetch(&mut self, walk: &mut Walk) -> Result<()> {
        if !self.loading.is_empty() {
            return Ok(());
        }
        if let Some(segment) = walk.peek().await? {
            let (target, id) = (self.target.clone(), segment.id);
            self.loading.push_back((id, tokio::spawn(async move { load(&target, segment).await })));
        }
        Ok(())
    }

    async fn load(&mut self, segment: SegmentEntry) -> Result<Current> {
        while let Some((id, task)) = self.loading.pop_front() {
            if id == segment.id {
                return task.await.map_err(fault::worker)?;
            }
            task.abort();
        }
        load(&self.target, segment).await
    }
}

async fn load(target: &Target, segment: SegmentEntry) -> Result<Current> {
    let batch_rows = usize::try_from(segment.rows).unwrap_or(usize::MAX).max(1);
    let batches =
        rows::read(&target.shared, &target.table, &target.schema, &segment, None, batch_rows).await?;
    let schema = target.schema.clone();
    target
        .shared
        .compute(move || {
            let batch = match batches.as_slice() {
                [one] => one.clone(),
                _ => {
                    let (arrow_schema, batches) = rows::uniform(&schema.physical(), &batches)?;
                    concat_batches(&arrow_schema, &batches).map_err(rows::kernel)?
                }
            };
            let keys = encode_keys(&schema, &batch)?;
            Ok(Current {
                segment,
                columns: batch.columns().to_vec(),
                keys,
                at: 0,
                open_end: false,
                end_removed: false,
            })
        })
        .await
}
