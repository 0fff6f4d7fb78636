//! Going through a version's segments in order, loading only the pages that are needed.

use crate::Result;
use crate::shared::Shared;
use crate::sink::{Piece, SegmentSink};
use crate::version::{PageRef, VersionFile};
use keepfast_format::SegmentEntry;
use keepfast_model::TableId;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
enum Slot {
    Page(PageRef),
    Segments(VecDeque<SegmentEntry>),
}

/// The segments of a version that are still ahead.
#[derive(Debug)]
pub(crate) struct Walk {
    shared: Arc<Shared>,
    table: TableId,
    slots: VecDeque<Slot>,
}

impl Walk {
    /// All segments of a version, then these, which follow in key order.
    pub fn new(shared: Arc<Shared>, version: &VersionFile, then: Vec<SegmentEntry>) -> Self {
        let mut slots: VecDeque<Slot> = version.pages.iter().cloned().map(Slot::Page).collect();
        if !then.is_empty() {
            slots.push_back(Slot::Segments(then.into()));
        }
        Self { shared, table: version.table.clone(), slots }
    }

    /// Goes to the first segment whose last key is `key` or comes after it, and takes it.
    ///
    /// What lies before goes to the sink as it is. Where `key` comes after all segments, the last one is taken when it
    /// has fewer rows than `small`, so that rows appended one by one do not make a segment each.
    pub async fn seek(
        &mut self,
        key: &[u8],
        small: u64,
        sink: &mut SegmentSink,
    ) -> Result<Option<SegmentEntry>> {
        loop {
            let last = self.slots.len() == 1;
            match self.slots.front_mut() {
                None => return Ok(None),
                Some(Slot::Page(page)) => {
                    let before = page.max.as_ref().is_some_and(|max| max.0.as_slice() < key);
                    if before && !last {
                        sink.keep(Piece::Page(page.clone()));
                        self.slots.pop_front();
                    } else {
                        self.open().await?;
                    }
                }
                Some(Slot::Segments(segments)) => {
                    let Some(segment) = segments.pop_front() else {
                        self.slots.pop_front();
                        continue;
                    };
                    let before = segment.max.as_ref().is_some_and(|max| max.0.as_slice() < key);
                    if !before || (last && segments.is_empty() && segment.rows < small) {
                        return Ok(Some(segment));
                    }
                    sink.keep(Piece::Kept(segment));
                }
            }
        }
    }

    /// Takes the very next segment.
    pub async fn next(&mut self) -> Result<Option<SegmentEntry>> {
        loop {
            match self.slots.front_mut() {
                None => return Ok(None),
                Some(Slot::Page(_)) => self.open().await?,
                Some(Slot::Segments(segments)) => match segments.pop_front() {
                    Some(segment) => return Ok(Some(segment)),
                    None => {
                        self.slots.pop_front();
                    }
                },
            }
        }
    }

    /// The very next segment, left where it is.
    pub async fn peek(&mut self) -> Result<Option<SegmentEntry>> {
        let next = self.next().await?;
        if let Some(segment) = &next {
            match self.slots.front_mut() {
                Some(Slot::Segments(segments)) => segments.push_front(segment.clone()),
                _ => self.slots.push_front(Slot::Segments([segment.clone()].into())),
            }
        }
        Ok(next)
    }

    /// Everything ahead goes to the sink as it is.
    pub fn rest(&mut self, sink: &mut SegmentSink) {
        for slot in self.slots.drain(..) {
            match slot {
                Slot::Page(page) => sink.keep(Piece::Page(page)),
                Slot::Segments(segments) => segments.into_iter().for_each(|s| sink.keep(Piece::Kept(s))),
            }
        }
    }

    async fn open(&mut self) -> Result<()> {
        if let Some(Slot::Page(page)) = self.slots.front() {
            let segments = self.shared.page(&self.table, page).await?;
            self.slots[0] = Slot::Segments(segments.iter().cloned().collect());
        }
        Ok(())
    }
}
