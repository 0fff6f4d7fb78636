//! Rows on their way back: written beside what is visible, published for all tables by one catalog entry.

use crate::build::{self, Parts, Prepared};
use crate::catalog::{Catalog, CatalogTable, folded, own};
use crate::change::Change;
use crate::cut::ColumnarCut;
use crate::names::{self, WriterId};
use crate::sink::{Piece, SHARD, Target};
use crate::store::ColumnarStore;
use crate::table::TableVersion;
use crate::undo::Step;
use crate::version::{PageRef, VersionFile};
use crate::{Result, fault, join, rows};
use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use keepfast_format::{Manifest, ManifestKind, SegmentEntry, WriterProfile, read_segment};
use keepfast_model::{Digest, KeyRange, ShardId, TableId, TableName};
use keepfast_store::load::{LoadTable, SegmentStream, StoredSegment};
use keepfast_store::{
    BatchStream, Load, LoadMode, LoadOptions, LoadState, LoadedPart, OnDuplicate, OpenCut, Published,
    StoreError,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What every process that takes part in a load knows of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    /// Where it is remembered.
    pub id: String,
    /// The catalog entry it started from.
    pub since: u64,
    at: Timestamp,
    /// For tables that do not say another number.
    target_rows: u32,
    pub tables: Vec<TokenTable>,
    /// Whether the store had keys when it began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sealed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TokenTable {
    pub load: LoadTable,
    /// The id that the loaded rows have; nothing else has it.
    pub id: TableId,
}

/// What one part wrote.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PartToken {
    writer: WriterId,
    profile: Option<WriterProfile>,
    /// Pages that list its segments.
    pages: Vec<PageRef>,
}

/// A table whose parts are together.
#[derive(Debug)]
struct Finished {
    target: Target,
    loaded: Prepared,
    /// Ids that a sweep may have condemned meanwhile.
    writers: Vec<String>,
    merged: Option<Merged>,
}

/// Loaded rows put over an existing table.
#[derive(Debug)]
struct Merged {
    change: Change,
    /// What the change made of the version it met last.
    on: TableVersion,
    ready: Prepared,
}

/// A load under way.
#[derive(Debug)]
pub struct ColumnarLoad {
    pub(crate) store: ColumnarStore,
    pub(crate) token: Token,
    state: Mutex<State>,
}

/// How far it is, as this process knows.
#[derive(Debug)]
enum State {
    Open,
    Finished(Vec<Finished>),
    /// The answer, for a caller that asks again.
    Published(Published),
}

impl ColumnarLoad {
    pub(crate) async fn begin(store: &ColumnarStore, options: LoadOptions) -> Result<Self> {
        let head = store.shared.head().await?;
        let mut tables = vec![];
        for load in options.tables {
            load.schema.check(&load.target.to_string())?;
            if let Some(rule) = &load.shard_rule {
                return Err(StoreError::Unsupported {
                    store: store.shared.url(),
                    what: format!(
                        "put rows of table '{}' into shards by the rule '{rule}': it has none",
                        load.target
                    ),
                });
            }
            if load.mode == LoadMode::Create && head.table(&load.target).is_some() {
                return Err(store.exists(&load.target));
            }
            if load.mode == LoadMode::Merge && load.schema.is_bag() && head.table(&load.target).is_some() {
                return Err(StoreError::Unsupported {
                    store: store.shared.url(),
                    what: format!("merge rows into table '{}', which has no key", load.target),
                });
            }
            tables.push(TokenTable { load, id: TableId(names::random_hex()) });
        }
        let token = Token {
            id: names::random_hex(),
            since: head.seq,
            at: Timestamp::now(),
            target_rows: store.shared.options.target_rows,
            tables,
            sealed: head.keys.is_some(),
        };
        Ok(Self { store: store.clone(), token, state: Mutex::new(State::Open) })
    }

    pub(crate) async fn attach(store: &ColumnarStore, token: &serde_json::Value) -> Result<Self> {
        let token: Token = serde_json::from_value(token.clone()).map_err(|e| StoreError::Unsupported {
            store: store.shared.url(),
            what: format!("go on with this load: its token cannot be read ({e})"),
        })?;
        if token.sealed {
            store.shared.head().await?;
        }
        Ok(Self { store: store.clone(), token, state: Mutex::new(State::Open) })
    }

    fn table(&self, name: &TableName) -> Result<&TokenTable> {
        let wanted = folded(name);
        let found = self.token.tables.iter().find(|t| folded(&t.load.target) == wanted);
        found.ok_or_else(|| self.store.shared.no_table(name))
    }

    /// A writer of a table's loaded rows.
    fn target(&self, table: &TokenTable) -> Target {
        let rows = table.load.segment_rows.unwrap_or(self.token.target_rows);
        let target = self.store.new_table(&table.load.target, &table.load.schema, rows);
        Target { table: table.id.clone(), sealed: self.token.sealed, ..target }
    }

    /// A change that takes the rows of one part.
    pub(crate) fn begin_part(&self, table: &TableName) -> Result<Change> {
        let table = self.table(table)?;
        let target = self.target(table);
        let base = TableVersion {
            shared: self.store.shared.clone(),
            name: target.name.clone(),
            file_name: String::new(),
            file: Arc::new(build::nothing(&table.id, &table.load.schema, target.target_rows)),
            schema: target.schema,
        };
        Ok(Change::new(base, self.token.since))
    }

    /// Ends a part: its rows are in segments, which the part's token lists.
    pub(crate) async fn end_part(&self, table: &TableName, part: u32, change: Change) -> Result<LoadedPart> {
        let table = self.table(table)?;
        let writer = change.writer().clone();
        let (segments, digest, profile) = change.into_segments().await?;
        self.list_part(table, part, &writer, segments, digest, profile).await
    }

    async fn list_part(
        &self,
        table: &TokenTable,
        part: u32,
        writer: &WriterId,
        segments: Vec<SegmentEntry>,
        digest: Digest,
        profile: Option<WriterProfile>,
    ) -> Result<LoadedPart> {
        let shared = &self.store.shared;
        let mut pages = vec![];
        if let Some(profile) = &profile {
            let manifests =
                Manifest::pages(ManifestKind::Segments, &table.id, &table.load.schema, profile, segments);
            for manifest in manifests {
                pages.push(shared.put_page(writer, manifest).await?);
            }
        }
        // Whoever publishes may be another process, whose commit makes only its own objects durable.
        shared.place.sync().await?;
        let token = serde_json::to_value(PartToken { writer: writer.clone(), profile, pages })
            .map_err(|e| fault::damaged("a part's token", e.to_string()))?;
        Ok(LoadedPart { part, digest, token })
    }

    async fn read_part(
        &self,
        table: &TokenTable,
        part: &LoadedPart,
    ) -> Result<(PartToken, Vec<SegmentEntry>)> {
        let token: PartToken = serde_json::from_value(part.token.clone()).map_err(|e| {
            fault::damaged(format!("part {} of '{}'", part.part, table.load.target), e.to_string())
        })?;
        let mut segments = vec![];
        for page in &token.pages {
            segments.extend(self.store.shared.page(&table.id, page).await?.iter().cloned());
        }
        let digest = segments.iter().fold(Digest::default(), |d, s| d.merge(s.digest));
        if digest != part.digest {
            return Err(fault::damaged(
                format!("part {} of '{}'", part.part, table.load.target),
                format!("its segments hold {digest}, and {} was loaded", part.digest),
            ));
        }
        Ok((token, segments))
    }

    async fn finish_table(&self, table: &TokenTable, mut parts: Vec<LoadedPart>) -> Result<Finished> {
        let target = self.target(table);
        parts.sort_by_key(|p| p.part);
        parts.dedup_by_key(|p| p.part);
        let mut segments = vec![];
        let mut profile = None;
        let mut writers = vec![target.writer.0.clone(), table.id.0.clone()];
        let mut digest = Digest::default();
        for part in &parts {
            let (token, of_part) = self.read_part(table, part).await?;
            profile = profile.or(token.profile);
            writers.push(token.writer.0);
            segments.extend(of_part);
            digest = digest.merge(part.digest);
        }
        let schema = &table.load.schema;
        let pieces = if schema.is_bag() {
            segments.into_iter().map(Piece::New).collect()
        } else {
            join::in_key_order(&target, segments, profile.as_ref()).await?
        };
        let nothing = build::nothing(&table.id, schema, target.target_rows);
        let parts = Parts { pieces, profile, added: digest, removed: Digest::default(), op: "load".into() };
        let loaded = build::build(&target, &nothing, None, parts).await?;
        let mut finished = Finished { target, loaded, writers, merged: None };
        if table.load.mode == LoadMode::Merge {
            let head = self.store.shared.head().await?;
            self.merge(&mut finished, &head).await?;
        }
        Ok(finished)
    }

    /// Puts the loaded rows over the table of their name, where there is one.
    async fn merge(&self, finished: &mut Finished, head: &Arc<Catalog>) -> Result<()> {
        let Some(entry) = head.table(&finished.target.name) else { return Ok(()) };
        let shared = &self.store.shared;
        let on = TableVersion::open(shared.clone(), entry).await?;
        if on.schema().columns != finished.target.schema.columns
            || on.schema().key != finished.target.schema.key
        {
            return Err(StoreError::SchemaChanged {
                table: finished.target.name.to_string(),
                position: "the load".into(),
                reason: "the table to merge into has other columns or another key".into(),
            });
        }
        match &mut finished.merged {
            Some(merged) if merged.change.base().table() == on.table() => {
                merged.ready = merged.change.prepare_on(&on).await?;
                merged.on = on;
            }
            _ => {
                let mut change = Change::new(on.clone(), head.seq).named("merge");
                let mut rows = self.loaded(finished)?.scan(KeyRange::default(), None, rows::BATCH_ROWS);
                while let Some(batch) = rows.next().await {
                    change.upsert(batch?).await?;
                }
                let ready = change.prepare_on(&on).await?;
                finished.writers.push(change.writer().0.clone());
                finished.merged = Some(Merged { change, on, ready });
            }
        }
        Ok(())
    }

    /// A vault's plain segments as one part of a store with keys: their rows, written anew.
    async fn encrypt_segments(
        &self,
        table: &TokenTable,
        part: u32,
        mut segments: SegmentStream,
    ) -> Result<LoadedPart> {
        let shared = &self.store.shared;
        let mut change = self.begin_part(&table.load.target)?;
        while let Some(segment) = segments.next().await {
            let StoredSegment { bytes, .. } = segment?;
            let schema = table.load.schema.clone();
            let what = format!("part {part} of '{}'", table.load.target);
            let batches = shared
                .compute(move || {
                    let read = |e| fault::format(what.clone(), e);
                    let batches = read_segment(bytes, &schema, None, rows::BATCH_ROWS).map_err(read)?;
                    batches.collect::<Result<Vec<_>, _>>().map_err(read)
                })
                .await?;
            for batch in batches {
                change.insert(batch, OnDuplicate::Refuse).await?;
            }
        }
        self.end_part(&table.load.target, part, change).await
    }

    fn loaded(&self, finished: &Finished) -> Result<TableVersion> {
        TableVersion::of(
            self.store.shared.clone(),
            finished.target.name.clone(),
            finished.loaded.file_name.clone(),
            finished.loaded.file.clone(),
        )
    }

    /// Refuses a version whose own file or pages are not stored as they were given to the place. Its rows were read back.
    async fn check_lists(&self, table: &TableId, ready: &Prepared) -> Result<()> {
        let place = &self.store.shared.place;
        let name = names::version(table, &ready.file_name);
        let stored = place.get(&name).await?;
        let same = match place.keys() {
            None => stored == place.json(&name, ready.file.as_ref())?,
            Some(_) => place.decode::<VersionFile>(&name, &stored)? == *ready.file,
        };
        if !same {
            return Err(fault::damaged(place.full(&name), "its bytes are not those that were written"));
        }
        for page in &ready.file.pages {
            let name = names::page(table, &page.name);
            place.check_stored(&name, &place.get(&name).await?, &page.stored)?;
        }
        Ok(())
    }

    fn not_finished(&self) -> StoreError {
        StoreError::Unsupported {
            store: self.store.shared.url(),
            what: "publish or read a load that was not finished here".into(),
        }
    }
}

#[async_trait]
impl Load for ColumnarLoad {
    fn token(&self) -> Option<serde_json::Value> {
        serde_json::to_value(&self.token).ok()
    }

    async fn write_part(&self, table: &TableName, part: u32, mut rows: BatchStream) -> Result<LoadedPart> {
        let mut change = self.begin_part(table)?;
        while let Some(batch) = rows.next().await {
            change.insert(batch?, OnDuplicate::Refuse).await?;
        }
        self.end_part(table, part, change).await
    }

    async fn take_segments(
        &self,
        table: &TableName,
        part: u32,
        profile: serde_json::Value,
        mut segments: SegmentStream,
    ) -> Result<LoadedPart> {
        let table = self.table(table)?;
        let refuse = |e: serde_json::Error| {
            fault::damaged(format!("part {part} of '{}'", table.load.target), e.to_string())
        };
        let profile: WriterProfile = serde_json::from_value(profile).map_err(refuse)?;
        if self.store.shared.place.keys().is_some() {
            return self.encrypt_segments(table, part, segments).await;
        }
        let target = self.target(table);
        let shared = &self.store.shared;
        let mut taken = vec![];
        while let Some(segment) = segments.next().await {
            let StoredSegment { entry, bytes } = segment?;
            let entry: SegmentEntry = serde_json::from_value(entry).map_err(refuse)?;
            // Here a segment's name tells its writer, and its rows are those of its stored bytes.
            let entry = SegmentEntry {
                id: target.ids.next(),
                shard: ShardId(SHARD.into()),
                epoch: target.epoch,
                ..entry
            };
            shared.place.put(&names::segment(&table.id, &entry.file_name()), bytes).await?;
            taken.push(entry);
        }
        let digest = taken.iter().fold(Digest::default(), |d, s| d.merge(s.digest));
        self.list_part(table, part, &target.writer, taken, digest, Some(profile)).await
    }

    async fn finish(&self, parts: Vec<(TableName, Vec<LoadedPart>)>) -> Result<()> {
        let mut finished = vec![];
        for table in &self.token.tables {
            let name = folded(&table.load.target);
            let of_table =
                parts.iter().filter(|(t, _)| folded(t) == name).flat_map(|(_, p)| p.clone()).collect();
            finished.push(self.finish_table(table, of_table).await?);
        }
        *self.state.lock().await = State::Finished(finished);
        Ok(())
    }

    async fn open_cut(&self) -> Result<Arc<dyn OpenCut>> {
        let state = self.state.lock().await;
        let State::Finished(tables) = &*state else { return Err(self.not_finished()) };
        let versions = self
            .token
            .tables
            .iter()
            .zip(tables)
            .map(|(token, table)| {
                let version = match &table.merged {
                    Some(merged) => TableVersion::of(
                        self.store.shared.clone(),
                        merged.on.name.clone(),
                        merged.ready.file_name.clone(),
                        merged.ready.file.clone(),
                    )?,
                    None => self.loaded(table)?,
                };
                Ok((token.load.target.clone(), version))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ColumnarCut::unpublished(&self.store, versions)))
    }

    async fn publish(&self) -> Result<Published> {
        let mut state = self.state.lock().await;
        let finished = match &mut *state {
            State::Open => return Err(self.not_finished()),
            State::Finished(finished) => finished,
            State::Published(published) => return Ok(published.clone()),
        };
        let shared = &self.store.shared;
        let writer = WriterId::random();
        let turn = shared.turn.acquire().await;
        loop {
            let head = shared.head().await?;
            if let Some(published) = self.published_by_another(&head).await? {
                *state = State::Published(published.clone());
                return Ok(published);
            }
            if let Some(token) = self.token.tables.first() {
                shared.check_sealed(self.token.sealed, &head, &token.load.target.to_string())?;
            }
            let names: Vec<String> = self.token.tables.iter().map(|t| t.load.target.to_string()).collect();
            let mut next = head.next(&writer, format!("load {}", names.join(", ")));
            let mut replaced = vec![];
            let mut steps = vec![];
            for (token, table) in self.token.tables.iter().zip(finished.iter_mut()) {
                let ids: Vec<&str> = table.writers.iter().map(String::as_str).collect();
                if shared.condemned_since(self.token.since, &head, &ids).await? {
                    return Err(StoreError::Conflict {
                        table: token.load.target.to_string(),
                        reason: "the load took so long that what it had written was swept".into(),
                    });
                }
                let existing = head.table(&token.load.target).cloned();
                if token.load.mode == LoadMode::Merge
                    && let Some(existing) = &existing
                {
                    if table.merged.as_ref().is_none_or(|m| m.on.file_name != existing.file) {
                        self.merge(table, &head).await?;
                    }
                    let merged = table.merged.as_ref().ok_or_else(|| self.not_finished())?;
                    self.check_lists(&existing.id, &merged.ready).await?;
                    if let Some(entry) = next.by_id_mut(&existing.id) {
                        entry.version = merged.ready.file.version;
                        entry.file = merged.ready.file_name.clone();
                    }
                    steps.push(Step::Merged {
                        id: existing.id.clone(),
                        before: existing.file.clone(),
                        after: merged.ready.file_name.clone(),
                    });
                    replaced.push(None);
                    continue;
                }
                self.check_lists(&token.id, &table.loaded).await?;
                let (kept, step) = put_table(&self.store, &mut next, token, table, existing)?;
                replaced.push(kept);
                steps.push(step);
            }
            let published = Published { replaced, undo: Step::token(&steps)? };
            self.intend(&next, &published).await?;
            if let Some(done) = shared.try_commit(&head, next).await? {
                *state = State::Published(published.clone());
                drop((turn, state));
                self.store.tend(&head, &done).await;
                return Ok(published);
            }
        }
    }

    async fn remember(&self, purpose: &serde_json::Value) -> Result<bool> {
        self.remember_in_place(purpose).await
    }

    async fn note(&self, name: &str, note: &serde_json::Value) -> Result<bool> {
        self.note_in_place(name, note).await
    }

    async fn notes(&self) -> Result<BTreeMap<String, serde_json::Value>> {
        self.notes_in_place().await
    }

    async fn state(&self) -> Result<LoadState> {
        self.state_in_place().await
    }

    async fn forget(&self) -> Result<()> {
        self.forget_in_place().await
    }

    async fn abandon(&self) -> Result<()> {
        // What other processes still write there is swept later.
        *self.state.lock().await = State::Open;
        let place = &self.store.shared.place;
        // First of all nobody may go on with it.
        self.forget_in_place().await?;
        let head = self.store.shared.head().await?;
        for table in self.token.tables.iter().filter(|t| !head.knows(&t.id)) {
            for object in place.list(&names::table(&table.id)).await? {
                place.delete(&object.path).await?;
            }
        }
        Ok(())
    }
}

/// Puts a loaded table under its name, keeping the one that stood there.
fn put_table(
    store: &ColumnarStore,
    next: &mut Catalog,
    token: &TokenTable,
    table: &Finished,
    existing: Option<CatalogTable>,
) -> Result<(Option<TableName>, Step)> {
    let name = own(&token.load.target);
    let mut added = CatalogTable {
        name: name.clone(),
        id: token.id.clone(),
        version: table.loaded.file.version,
        file: table.loaded.file_name.clone(),
        replaced: None,
    };
    let Some(existing) = existing else {
        next.add(added);
        return Ok((None, Step::Created { name, id: token.id.clone() }));
    };
    if token.load.mode != LoadMode::Replace {
        return Err(store.exists(&token.load.target));
    }
    // The table keeps the spelling under which its readers know it.
    added.name = existing.name.clone();
    let name = existing.name.clone();
    // Only the newest replaced table is kept.
    let older: Vec<TableId> = next
        .tables
        .iter()
        .filter(|t| t.replaced.as_ref().is_some_and(|r| folded(r) == folded(&name)))
        .map(|t| t.id.clone())
        .collect();
    for id in &older {
        next.remove(id);
    }
    let kept = (1u32..)
        .map(|n| name.sibling(format!("{}__replaced_{}_{n}", name.table, token.load.replaced_tag)))
        .find(|kept| next.table(kept).is_none())
        .unwrap_or_else(|| name.clone());
    if let Some(at) = next.tables.iter().position(|t| t.id == existing.id) {
        let mut old = next.tables.remove(at);
        old.name = kept.clone();
        old.replaced = Some(name.clone());
        next.add(old);
    }
    next.add(added);
    Ok((Some(kept.clone()), Step::Replaced { name, id: token.id.clone(), kept, old: existing.id }))
}
