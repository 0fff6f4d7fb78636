//! Rows on their way into new segments: split at key hashes, encoded on all cores, put one after the other.
//!
//! Memory is bounded: at most two chunks a core wait or are under way, and a chunk has at most 32 MiB or one row.

use crate::names::{self, SegmentIds, WriterId};
use crate::rows;
use crate::shared::Shared;
use crate::version::PageRef;
use crate::{Result, fault};
use arrow::array::RecordBatch;
use keepfast_format::{Chunk, IdentityKey, Protection, SegmentEntry, SegmentWriter, Splitter, WriterProfile};
use keepfast_model::{Digest, ShardId, TableId, TableName, TableSchema};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The one shard of every table here.
pub(crate) const SHARD: &str = "0";

/// What a writer needs to know of the table it writes to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub shared: Arc<Shared>,
    pub name: TableName,
    pub table: TableId,
    pub schema: Arc<TableSchema>,
    pub epoch: u32,
    pub target_rows: u32,
    pub writer: WriterId,
    pub ids: Arc<SegmentIds>,
    /// Whether the store had keys when the writer began.
    pub sealed: bool,
}

/// Writes rows of one table into segments, in the order they come.
#[derive(Debug)]
pub(crate) struct SegmentSink {
    target: Target,
    profile: Option<WriterProfile>,
    segments: Option<Arc<SegmentWriter>>,
    /// None while a thread has it.
    splitter: Option<Splitter>,
    pieces: VecDeque<Slot>,
    /// Slots that are under way.
    tasks: usize,
    done: Vec<Piece>,
}

/// A part of the new version, in order.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// A page of the old version, as it is.
    Page(PageRef),
    /// A segment of the old version, as it is.
    Kept(SegmentEntry),
    /// A segment that was written.
    New(SegmentEntry),
}

#[derive(Debug)]
enum Slot {
    Ready(Piece),
    Task(JoinHandle<Result<SegmentEntry>>),
}

impl SegmentSink {
    /// A sink for a table; without a profile, one is chosen from the first rows.
    pub fn new(target: Target, profile: Option<WriterProfile>) -> Self {
        Self {
            splitter: Some(Splitter::new(target.schema.clone(), target.target_rows)),
            target,
            profile,
            segments: None,
            pieces: VecDeque::new(),
            tasks: 0,
            done: vec![],
        }
    }

    /// The profile, once rows have come.
    pub fn profile(&self) -> Option<&WriterProfile> {
        self.profile.as_ref()
    }

    /// Digest of all rows that came, whatever became of them.
    pub fn taken(&self) -> Digest {
        self.splitter.as_ref().map(Splitter::taken).unwrap_or_default()
    }

    /// Takes the next rows, which for a table with a key must come in key order.
    pub async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let chunks = self.split(move |s| s.push(batch)).await?;
        for chunk in chunks {
            self.write(chunk).await?;
        }
        Ok(())
    }

    /// Ends the segment under way; the next row begins another.
    pub async fn end_segment(&mut self) -> Result<()> {
        if let Some(chunk) = self.split(|s| Ok(s.finish()?.into_iter().collect())).await?.pop() {
            self.write(chunk).await?;
        }
        Ok(())
    }

    /// Puts a part of the old version after what came so far. The segment under way must have been ended.
    pub fn keep(&mut self, piece: Piece) {
        if self.tasks == 0 { self.done.push(piece) } else { self.pieces.push_back(Slot::Ready(piece)) }
    }

    /// Ends the segment under way, waits for all of them, and gives everything in order.
    pub async fn finish(&mut self) -> Result<Vec<Piece>> {
        self.end_segment().await?;
        while !self.pieces.is_empty() {
            self.settle().await?;
        }
        Ok(std::mem::take(&mut self.done))
    }

    /// Waits for the oldest slot.
    async fn settle(&mut self) -> Result<()> {
        match self.pieces.pop_front() {
            Some(Slot::Ready(piece)) => self.done.push(piece),
            Some(Slot::Task(task)) => {
                self.tasks -= 1;
                self.done.push(Piece::New(task.await.map_err(fault::worker)??));
            }
            None => {}
        }
        Ok(())
    }

    async fn split(
        &mut self,
        work: impl FnOnce(&mut Splitter) -> keepfast_format::Result<Vec<Chunk>> + Send + 'static,
    ) -> Result<Vec<Chunk>> {
        // A push that was dropped half way leaves none, and the sink cannot go on.
        let Some(mut splitter) = self.splitter.take() else {
            return Err(fault::damaged("a write", "it was broken off before"));
        };
        let (splitter, chunks) = self
            .target
            .shared
            .compute(move || {
                let chunks = work(&mut splitter);
                Ok((splitter, chunks))
            })
            .await?;
        self.splitter = Some(splitter);
        chunks.map_err(|e| fault::format(self.target.shared.place.full(&names::table(&self.target.table)), e))
    }

    async fn write(&mut self, chunk: Chunk) -> Result<()> {
        let segments = self.segment_writer(&chunk);
        let most = self.target.shared.options.threads.max(1) * 2;
        while self.tasks >= most {
            self.settle().await?;
        }
        let id = self.target.ids.next();
        let (shared, table) = (self.target.shared.clone(), self.target.table.clone());
        self.tasks += 1;
        self.pieces.push_back(Slot::Task(tokio::spawn(async move {
            let full = shared.place.full(&names::table(&table));
            let encoded = shared
                .compute(move || {
                    let shard = ShardId(SHARD.into());
                    segments.encode(id, &shard, &chunk).map_err(|e| fault::format(full, e))
                })
                .await?;
            shared.place.put(&names::segment(&table, &encoded.entry.file_name()), encoded.bytes).await?;
            Ok(encoded.entry)
        })));
        Ok(())
    }

    fn segment_writer(&mut self, first: &Chunk) -> Arc<SegmentWriter> {
        if let Some(segments) = &self.segments {
            return segments.clone();
        }
        let target = &self.target;
        let profile = self
            .profile
            .get_or_insert_with(|| WriterProfile::choose(&target.schema, &first.batches, target.target_rows));
        // Identities are not computed here: segments are named by their writer.
        let protection = match target.shared.place.keys() {
            None => Protection::plain(target.table.clone(), IdentityKey::new([0; 32])),
            Some(keys) => keys.protection(&target.table),
        };
        let segments = Arc::new(
            SegmentWriter::new(target.schema.clone(), Arc::new(profile.clone()), protection)
                .with_epoch(target.epoch),
        );
        self.segments = Some(segments.clone());
        segments
    }
}

/// Batches of at most this many rows, so that one thread is not kept long.
pub(crate) fn pieces(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    let most = rows::BATCH_ROWS * 8;
    (0..batch.num_rows()).step_by(most).map(move |at| batch.slice(at, most.min(batch.num_rows() - at)))
}
