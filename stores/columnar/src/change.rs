//! A change to one table: rows in and out, made visible as one new version.
//!
//! A change starts from a version and is applied when it commits. Where another writer came first, it is applied anew
//! to the newer version, provided that every row it removed still is what it was, and that every key it inserted is
//! still free; otherwise it is a conflict and nothing is visible. So no update is ever lost.

use crate::apply::apply;
use crate::build::{Parts, Prepared, build};
use crate::find::Finder;
use crate::names::{SegmentIds, WriterId};
use crate::sink::{Piece, SegmentSink, Target};
use crate::spill::HashList;
use crate::stage::{Op, Staging};
use crate::store::ColumnarStore;
use crate::table::TableVersion;
use crate::version::VersionFile;
use crate::walk::Walk;
use crate::{Result, bag, compact, fault, rows, sink};
use arrow::array::{Array, RecordBatch, UInt32Array};
use futures::StreamExt;
use keepfast_format::{SegmentEntry, WriterProfile};
use keepfast_model::{Digest, KeyBytes, KeyRange, RowHasher, encode_keys};
use keepfast_store::{OnDuplicate, StoreError};
use std::collections::HashSet;
use std::sync::Arc;

/// Rows at least, for rows in key order to be written straight into segments behind the table's last row.
const STRAIGHT_ROWS: usize = 4_096;

/// A change that is under way. Dropped without [`Change::commit`], it leaves nothing visible.
#[derive(Debug)]
pub struct Change {
    base: TableVersion,
    /// The catalog entry it started from.
    since: u64,
    target: Target,
    hasher: RowHasher,
    op: String,
    /// Operations on keys, for tables that have one. None once staging was broken off: what it had is lost, and the change
    /// with it.
    staged: Option<Staging>,
    /// Rows written straight into segments: those of bags, and those that come in key order after all others.
    straight: Option<Straight>,
    /// Bags: hashes of rows to remove.
    removals: HashList,
    /// Keys inserted so far, once a call asked whether keys are there.
    keys: Option<HashSet<KeyBytes>>,
}

#[derive(Debug)]
struct Straight {
    op: Op,
    sink: SegmentSink,
    last: KeyBytes,
    /// The segments, once all are written.
    segments: Option<Vec<SegmentEntry>>,
}

impl Change {
    pub(crate) fn new(base: TableVersion, since: u64) -> Self {
        let writer = WriterId::random();
        let target = Target {
            shared: base.shared.clone(),
            name: base.name.clone(),
            table: base.table().clone(),
            schema: base.schema.clone(),
            epoch: base.file.epoch,
            target_rows: base.file.target_rows,
            ids: Arc::new(SegmentIds::new(&writer)),
            sealed: base.shared.place.keys().is_some(),
            writer,
        };
        Self {
            hasher: RowHasher::new(&base.schema),
            staged: Some(base.shared.staging(&base.schema)),
            removals: HashList::new(base.shared.place.scratch()),
            base,
            since,
            target,
            op: "write".into(),
            straight: None,
            keys: None,
        }
    }

    /// The version it started from, for reading.
    pub fn base(&self) -> &TableVersion {
        &self.base
    }

    /// Who writes it.
    pub(crate) fn writer(&self) -> &WriterId {
        &self.target.writer
    }

    /// Names the change in its version's note.
    #[must_use]
    pub fn named(mut self, op: &str) -> Self {
        self.op = op.to_owned();
        self
    }

    /// Adds physical rows in any order. Returns how many are added or replaced.
    ///
    /// # Errors
    /// `Model` when the rows do not fit the schema. A key that exists is refused by [`Self::commit`].
    pub async fn insert(&mut self, batch: RecordBatch, on_duplicate: OnDuplicate) -> Result<u64> {
        let n = batch.num_rows() as u64;
        if n == 0 {
            return Ok(0);
        }
        if self.base.schema.is_bag() {
            self.write_straight(Op::Insert, batch, KeyBytes::default()).await?;
            return Ok(n);
        }
        match on_duplicate {
            OnDuplicate::Refuse => self.put(Op::Insert, batch).await?,
            OnDuplicate::Replace => self.put(Op::Put, batch).await?,
            OnDuplicate::Ignore => return self.insert_absent(batch).await,
        }
        Ok(n)
    }

    /// Puts rows in the place of those of equal key.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub async fn upsert(&mut self, batch: RecordBatch) -> Result<u64> {
        self.insert(batch, OnDuplicate::Replace).await
    }

    /// Removes rows by the key columns of a physical batch; keys that do not exist are passed over.
    ///
    /// # Errors
    /// `Unsupported` for bags.
    pub async fn delete_keys(&mut self, batch: RecordBatch) -> Result<()> {
        if self.base.schema.is_bag() {
            return Err(self.unsupported("delete by key from a table that has none"));
        }
        self.stage(Op::Delete, batch).await
    }

    /// Removes rows that were read from [`Self::base`]: by key, or by equal content, one for one, in a bag.
    ///
    /// # Errors
    /// `Model` when the rows do not fit the schema. A row that another writer changed meanwhile is a conflict in
    /// [`Self::commit`].
    pub async fn delete(&mut self, rows: RecordBatch) -> Result<u64> {
        let n = rows.num_rows() as u64;
        if self.base.schema.is_bag() {
            let hashes = self.hasher.hash(&rows)?;
            self.removals.extend(&hashes.rows)?;
        } else {
            self.stage(Op::Remove, rows).await?;
        }
        Ok(n)
    }

    /// Puts `new` in the place of `old`, which was read from [`Self::base`]; keys may change.
    ///
    /// # Errors
    /// As [`Self::delete`] and [`Self::insert`].
    pub async fn update(&mut self, old: RecordBatch, new: RecordBatch) -> Result<u64> {
        let n = self.delete(old).await?;
        self.insert(new, OnDuplicate::Refuse).await?;
        Ok(n)
    }

    async fn put(&mut self, op: Op, batch: RecordBatch) -> Result<()> {
        if self.staged()?.is_empty()
            && self.straight.as_ref().is_none_or(|s| s.op == op)
            && let Some(last) = self.straight_after(&batch)?
        {
            return self.write_straight(op, batch, last).await;
        }
        self.stage(op, batch).await
    }

    /// The last key, where the rows come in key order after all others.
    fn straight_after(&self, batch: &RecordBatch) -> Result<Option<KeyBytes>> {
        let after = match &self.straight {
            Some(straight) => Some(&straight.last),
            None if batch.num_rows() < STRAIGHT_ROWS && !self.base.file.pages.is_empty() => return Ok(None),
            None => self.base.file.pages.last().and_then(|p| p.max.as_ref()),
        };
        let keys = encode_keys(&self.base.schema, batch)?;
        let n = keys.len();
        let ascending = after.is_none_or(|after| after.0.as_slice() < keys.value(0))
            && (1..n).all(|i| keys.value(i - 1) < keys.value(i));
        Ok(ascending.then(|| KeyBytes(keys.value(n - 1).to_vec())))
    }

    async fn write_straight(&mut self, op: Op, batch: RecordBatch, last: KeyBytes) -> Result<()> {
        let straight = self.straight.get_or_insert_with(|| Straight {
            op,
            sink: SegmentSink::new(self.target.clone(), self.base.file.profile.clone()),
            last: KeyBytes::default(),
            segments: None,
        });
        straight.last = last;
        for piece in sink::pieces(&batch) {
            straight.sink.push(piece).await?;
        }
        Ok(())
    }

    async fn stage(&mut self, op: Op, batch: RecordBatch) -> Result<()> {
        let mut staged = self.staged.take().ok_or_else(broken_off)?;
        // Encoding keys and spilling computes; small batches are done at once.
        let staged = if batch.num_rows() < 512 {
            staged.add(op, batch)?;
            staged
        } else {
            let pieces: Vec<RecordBatch> = sink::pieces(&batch).collect();
            let work = move || {
                pieces.into_iter().try_for_each(|piece| staged.add(op, piece))?;
                Ok(staged)
            };
            self.target.shared.compute(work).await?
        };
        self.staged = Some(staged);
        Ok(())
    }

    fn staged(&mut self) -> Result<&mut Staging> {
        self.staged.as_mut().ok_or_else(broken_off)
    }

    /// Inserts the rows whose keys are not there yet, and counts them.
    async fn insert_absent(&mut self, batch: RecordBatch) -> Result<u64> {
        let keys = encode_keys(&self.base.schema, &batch)?;
        let seen = self.keys.get_or_insert_default();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|a, b| keys.value(*a).cmp(keys.value(*b)).then(a.cmp(b)));
        let mut finder = Finder::new(self.target.shared.clone(), self.base.file.clone());
        let mut absent: Vec<u32> = vec![];
        for at in order {
            let key = keys.value(at);
            if !finder.has(key).await? && seen.insert(KeyBytes(key.to_vec())) {
                absent.push(at as u32);
            }
        }
        absent.sort_unstable();
        let n = absent.len() as u64;
        let indices = UInt32Array::from(absent);
        let rows = arrow::compute::take_record_batch(&batch, &indices).map_err(rows::kernel)?;
        self.stage(Op::Ignore, rows).await?;
        Ok(n)
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.staged.as_ref().is_some_and(Staging::is_empty)
            && self.straight.is_none()
            && self.removals.is_empty()
    }

    /// Makes all of it visible as one new version, and gives that.
    ///
    /// # Errors
    /// `Row` for a key that exists already; `Conflict` when another writer changed the same rows, or dropped the table.
    pub async fn commit(mut self) -> Result<TableVersion> {
        if self.is_empty() {
            return Ok(self.base);
        }
        let shared = self.target.shared.clone();
        let small = self.straight.is_none() && self.staged()?.is_small() && self.removals.is_empty();
        // A large change is applied before it stands in line. A small one first stands in line: it then meets the
        // version that it will follow.
        let mut prepared = if small { None } else { Some(self.prepare_on(&self.base.clone()).await?) };
        let turn = shared.turn.acquire().await;
        loop {
            let head = shared.head().await?;
            let Some(entry) = head.by_id(&self.target.table).cloned() else {
                return Err(self.base.conflict("it was dropped or replaced"));
            };
            shared.check_sealed(self.target.sealed, &head, &entry.name.to_string())?;
            let known = prepared.as_ref().and_then(|p| p.file.parent.clone());
            let ready = match prepared.take() {
                Some(ready) if known.as_ref() == Some(&entry.file) => ready,
                _ => {
                    let on = TableVersion::open(shared.clone(), &entry).await?;
                    self.prepare_on(&on).await?
                }
            };
            let ids = [self.target.writer.0.as_str(), self.target.table.0.as_str()];
            if shared.condemned_since(self.since, &head, &ids).await? {
                return Err(self.base.conflict("it took so long that what it had written was swept"));
            }
            let mut next = head.next(&self.target.writer, format!("{} {}", self.op, entry.name));
            if let Some(table) = next.by_id_mut(&self.target.table) {
                table.version = ready.file.version;
                table.file = ready.file_name.clone();
            }
            if let Some(done) = shared.try_commit(&head, next).await? {
                drop(turn);
                ColumnarStore { shared: shared.clone() }.tend(&head, &done).await;
                return TableVersion::of(shared.clone(), entry.name, ready.file_name, ready.file);
            }
            prepared = Some(ready);
        }
    }

    /// Writes the version that follows `on`, checking that the change may be made there.
    pub(crate) async fn prepare_on(&mut self, on: &TableVersion) -> Result<Prepared> {
        if on.file_name == self.base.file_name {
            return self.prepare(&on.file.clone(), Some(&on.file_name)).await;
        }
        if on.schema != self.base.schema {
            return Err(self.base.conflict("its columns were altered"));
        }
        self.check_unchanged(on).await?;
        match self.prepare(&on.file.clone(), Some(&on.file_name)).await {
            Err(StoreError::Row { reason, .. }) => {
                Err(self.base.conflict(format!("{reason}, written by another writer")))
            }
            other => other,
        }
    }

    /// All rows of a change to an empty table that will not be committed, in key order, with the digest of what was given.
    pub(crate) async fn into_segments(
        mut self,
    ) -> Result<(Vec<SegmentEntry>, Digest, Option<WriterProfile>)> {
        let (straight, mut given, profile) = self.end_straight().await?;
        if self.staged()?.is_empty() {
            return Ok((straight, given, profile));
        }
        let walk = Walk::new(self.target.shared.clone(), &self.base.file.clone(), straight);
        let mut sink = SegmentSink::new(self.target.clone(), profile);
        let staged = self.staged.as_mut().ok_or_else(broken_off)?;
        let done = apply(&self.target, walk, staged, &mut sink).await?;
        given = given.merge(done.added).without(done.removed);
        let segments = done
            .pieces
            .into_iter()
            .filter_map(|p| match p {
                Piece::New(s) | Piece::Kept(s) => Some(s),
                Piece::Page(_) => None,
            })
            .collect();
        Ok((segments, given, sink.profile().cloned()))
    }

    /// Refuses when a row that this change removes is another one in `on` than in the base.
    async fn check_unchanged(&mut self, on: &TableVersion) -> Result<()> {
        if self.staged()?.is_empty() {
            return Ok(());
        }
        let shared = self.target.shared.clone();
        let mut before = Finder::new(shared.clone(), self.base.file.clone());
        let mut now = Finder::new(shared.clone(), on.file.clone());
        let mut cursor = Some(self.staged()?.cursor()?);
        while let Some(mut moved) = cursor.take() {
            let (moved, window) = shared.compute(move || moved.next().map(|w| (moved, w))).await?;
            let Some(window) = window else { break };
            cursor = Some(moved);
            for i in (0..window.ops.len()).filter(|i| window.ops[*i].op == Op::Remove) {
                let key = window.key(i);
                let (a, b) = (before.segment(key).await?, now.segment(key).await?);
                if a.as_ref().map(|s| s.id) == b.as_ref().map(|s| s.id) {
                    continue;
                }
                let old = before.row(key).await?;
                if old.is_some() && now.row(key).await? != old {
                    let shown = KeyBytes(key.to_vec());
                    return Err(self
                        .base
                        .conflict(format!("the row with the encoded key {shown} was changed")));
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn prepare(&mut self, on: &VersionFile, on_file: Option<&str>) -> Result<Prepared> {
        let (straight, mut added, mut profile) = self.end_straight().await?;
        let mut straight = straight;
        if !self.base.schema.is_bag() && !straight.is_empty() {
            let last = on.pages.last().and_then(|p| p.max.as_ref());
            let first = straight.first().and_then(|s| s.min.as_ref());
            if last >= first {
                // Another writer appended too: our rows are inserted among theirs.
                self.restage(std::mem::take(&mut straight)).await?;
                self.straight = None;
                added = Digest::default();
            }
        }
        let new: HashSet<_> = straight.iter().map(|s| s.id).collect();
        let mut sink = SegmentSink::new(self.target.clone(), on.profile.clone().or(profile.take()));
        let mut removed = Digest::default();
        let mut pieces = if self.base.schema.is_bag() {
            let done = bag::remove(&self.target, on, &self.removals, straight, &mut sink).await?;
            removed = done.removed;
            done.pieces
        } else {
            let walk = Walk::new(self.target.shared.clone(), on, straight);
            let staged = self.staged.as_mut().ok_or_else(broken_off)?;
            let done = apply(&self.target, walk, staged, &mut sink).await?;
            added = added.merge(done.added);
            removed = removed.merge(done.removed);
            done.pieces
        };
        for piece in &mut pieces {
            if let Piece::Kept(segment) = piece
                && new.contains(&segment.id)
            {
                *piece = Piece::New(segment.clone());
            }
        }
        let profile = sink.profile().cloned();
        if self.base.schema.is_bag() {
            pieces = compact::join_last(&self.target, profile.as_ref(), pieces).await?;
        }
        build(&self.target, on, on_file, Parts { pieces, profile, added, removed, op: self.op.clone() }).await
    }

    /// The segments written straight, complete, with the digest of the rows that were given for them.
    async fn end_straight(&mut self) -> Result<(Vec<SegmentEntry>, Digest, Option<WriterProfile>)> {
        let Some(straight) = &mut self.straight else { return Ok((vec![], Digest::default(), None)) };
        if straight.segments.is_none() {
            let written = straight.sink.finish().await?;
            straight.segments = Some(
                written
                    .into_iter()
                    .filter_map(|p| match p {
                        Piece::New(s) => Some(s),
                        Piece::Kept(_) | Piece::Page(_) => None,
                    })
                    .collect(),
            );
        }
        let segments = straight.segments.clone().unwrap_or_default();
        Ok((segments, straight.sink.taken(), straight.sink.profile().cloned()))
    }

    /// Stages rows that were written straight, before everything else.
    async fn restage(&mut self, segments: Vec<SegmentEntry>) -> Result<()> {
        let op = self.straight.as_ref().map_or(Op::Insert, |s| s.op);
        let mut inserts = self.target.shared.staging(&self.base.schema);
        let mut rows = crate::scan::read(&self.base, segments, KeyRange::default(), None, rows::BATCH_ROWS)?;
        while let Some(batch) = rows.next().await {
            inserts.add(op, batch?)?;
        }
        self.staged()?.after_inserts(inserts)
    }

    fn unsupported(&self, what: &str) -> StoreError {
        StoreError::Unsupported { store: self.target.shared.url(), what: what.into() }
    }
}

/// A call that was dropped half way, or failed, leaves a change that cannot go on.
fn broken_off() -> StoreError {
    fault::damaged("a write", "it was broken off before")
}
