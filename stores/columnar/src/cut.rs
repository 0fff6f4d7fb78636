//! A cut: one version of each table, all from one catalog entry.
//!
//! The catalog has one history, so the versions that one entry names are one moment of the whole store. The cut is
//! held by an object that a vacuum respects; it is written before the versions are looked at a second time, so that no
//! vacuum can have missed it.

use crate::diff;
use crate::names;
use crate::scan;
use crate::sink::SHARD;
use crate::store::ColumnarStore;
use crate::table::TableVersion;
use crate::{Result, fault};
use async_trait::async_trait;
use jiff::Timestamp;
use keepfast_model::certificate::RangeProof;
use keepfast_model::{
    ByteCount, Cut, Exactness, KeyRange, Partition, Position, ShardId, ShardPosition, SourceProof, TableId,
    TableName,
};
use keepfast_store::{BatchStream, OpenCut, PlanOptions, ProofRequest, ScanOptions, StoreError, TableAtCut};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::sync::PoisonError;

/// One table of a cut.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CutTable {
    /// The name by which it was asked for.
    pub name: TableName,
    pub id: TableId,
    pub file: String,
}

/// What is stored of a cut while it is held, and what its token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub format: u32,
    /// Its object in `holds/`.
    pub id: String,
    pub at: Timestamp,
    /// A vacuum respects it until then.
    pub until: Timestamp,
    pub tables: Vec<CutTable>,
    /// Whether the store has keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
}

/// A cut over tables of a store.
#[derive(Debug)]
pub struct ColumnarCut {
    store: ColumnarStore,
    hold: Hold,
    versions: Vec<TableVersion>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This value gives the hold back.
    Held,
    /// Another value does: one that was attached by token, or none is needed.
    Borrowed,
    Released,
}

impl ColumnarCut {
    /// Takes a cut now.
    pub(crate) async fn open(store: &ColumnarStore, tables: &[TableName]) -> Result<Self> {
        let shared = &store.shared;
        loop {
            let head = shared.head().await?;
            let now = Timestamp::now();
            let mut chosen = vec![];
            for name in tables {
                let entry = head.table(name).ok_or_else(|| shared.no_table(name))?;
                chosen.push((
                    CutTable { name: name.clone(), id: entry.id.clone(), file: entry.file.clone() },
                    entry.clone(),
                ));
            }
            let hold = Hold {
                format: crate::place::FORMAT,
                id: names::random_hex(),
                at: now,
                until: now.checked_add(shared.options.hold_for).unwrap_or(Timestamp::MAX),
                tables: chosen.iter().map(|(t, _)| t.clone()).collect(),
                sealed: head.keys.is_some(),
            };
            let object = names::hold(&hold.id);
            shared.place.put(&object, shared.place.encode(&object, &hold)?).await?;
            // A vacuum that did not see the hold had read the catalog before; then it kept what was newest now.
            let again = shared.head().await?;
            let same = chosen.iter().all(|(t, _)| again.by_id(&t.id).is_some_and(|e| e.file == t.file));
            if !same {
                shared.place.delete(&object).await?;
                continue;
            }
            let mut versions = vec![];
            for (_, entry) in &chosen {
                versions.push(TableVersion::open(shared.clone(), entry).await?);
            }
            return Ok(Self { store: store.clone(), hold, versions, state: Mutex::new(State::Held) });
        }
    }

    /// A cut over one version that something else keeps: the base of a change.
    pub(crate) fn of(store: &ColumnarStore, name: &TableName, version: &TableVersion) -> Self {
        let now = Timestamp::now();
        let table =
            CutTable { name: name.clone(), id: version.table().clone(), file: version.file_name.clone() };
        let hold = Hold {
            format: crate::place::FORMAT,
            id: String::new(),
            at: now,
            until: now,
            tables: vec![table],
            sealed: store.shared.place.keys().is_some(),
        };
        Self {
            store: store.clone(),
            hold,
            versions: vec![version.clone()],
            state: Mutex::new(State::Borrowed),
        }
    }

    /// A cut over versions that are not visible yet.
    pub(crate) fn unpublished(store: &ColumnarStore, tables: Vec<(TableName, TableVersion)>) -> Self {
        let now = Timestamp::now();
        let (held, versions) = tables
            .into_iter()
            .map(|(name, version)| {
                let table = CutTable { name, id: version.table().clone(), file: version.file_name.clone() };
                (table, version)
            })
            .unzip();
        let hold = Hold {
            format: crate::place::FORMAT,
            id: String::new(),
            at: now,
            until: now,
            tables: held,
            sealed: store.shared.place.keys().is_some(),
        };
        Self { store: store.clone(), hold, versions, state: Mutex::new(State::Borrowed) }
    }

    /// Opens a cut from its token.
    pub(crate) async fn attach(store: &ColumnarStore, token: &serde_json::Value) -> Result<Self> {
        let shared = &store.shared;
        let lost = |reason: &str| StoreError::CutLost { store: shared.url(), reason: reason.into() };
        let hold: Hold = serde_json::from_value(token.clone())
            .map_err(|e| lost(&format!("its token cannot be read: {e}")))?;
        if hold.sealed {
            shared.head().await?;
        }
        if !hold.id.is_empty() && !shared.place.exists(&names::hold(&hold.id)).await? {
            return Err(lost("it was released"));
        }
        let mut versions = vec![];
        for table in &hold.tables {
            let file = shared
                .find_version(&table.id, &table.file)
                .await?
                .ok_or_else(|| lost(&format!("the version of table '{}' is gone", table.name)))?;
            versions.push(TableVersion::of(shared.clone(), table.name.clone(), table.file.clone(), file)?);
        }
        Ok(Self { store: store.clone(), hold, versions, state: Mutex::new(State::Borrowed) })
    }

    /// The version of a table.
    pub(crate) fn version(&self, table: &TableName) -> Result<&TableVersion> {
        if *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Released {
            return Err(StoreError::CutLost {
                store: self.store.shared.url(),
                reason: "it was released".into(),
            });
        }
        let wanted = crate::catalog::folded(table);
        self.hold
            .tables
            .iter()
            .position(|t| crate::catalog::folded(&t.name) == wanted)
            .and_then(|at| self.versions.get(at))
            .ok_or_else(|| self.store.shared.no_table(table))
    }

    /// The version of a table at an earlier position.
    async fn before(&self, table: &TableName, from: &[ShardPosition]) -> Result<TableVersion> {
        let version = self.version(table)?;
        let gone = |position: String, reason: &str| StoreError::ChangesGone {
            table: table.to_string(),
            position,
            reason: reason.into(),
        };
        let id = &version.table().0;
        let Some(position) = from.iter().find(|p| p.shard.0 == *id).map(|p| &p.position) else {
            return Err(gone(
                "that position".into(),
                "the table was made anew since: restored, imported or created",
            ));
        };
        let Position::Version(number) = position else {
            return Err(gone(position.to_string(), "this store never gave such a position"));
        };
        match version.ancestor(*number).await? {
            Some(before) => Ok(before),
            None => Err(gone(position.to_string(), "the version is no longer kept")),
        }
    }
}

/// What a partition of a bag says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Segments {
    segments: (u64, u64),
}

#[async_trait]
impl OpenCut for ColumnarCut {
    fn cut(&self) -> Cut {
        Cut {
            at: self.hold.at,
            exactness: Exactness::Exact,
            positions: self
                .versions
                .iter()
                .map(|v| ShardPosition {
                    shard: ShardId(v.table().0.clone()),
                    position: Position::Version(v.number()),
                })
                .collect(),
        }
    }

    fn token(&self) -> Option<serde_json::Value> {
        serde_json::to_value(&self.hold).ok()
    }

    async fn table(&self, table: &TableName) -> Result<TableAtCut> {
        let version = self.version(table)?;
        Ok(TableAtCut {
            schema: version.schema().as_ref().clone(),
            rows_expected: version.rows(),
            bytes_expected: version.bytes(),
            dependents: vec![],
        })
    }

    async fn plan(&self, table: &TableName, options: &PlanOptions) -> Result<Vec<Partition>> {
        let version = self.version(table)?;
        let parts = scan::plan(version, options.partitions, &options.bounds).await?;
        Ok((0..)
            .zip(parts)
            .map(|(index, part)| Partition {
                table: table.clone(),
                index,
                shard: ShardId(SHARD.into()),
                range: part.range,
                rows_expected: part.rows,
                bytes_expected: part.bytes,
                token: match part.segments {
                    Some(segments) => serde_json::json!(Segments { segments }),
                    None => serde_json::Value::Null,
                },
            })
            .collect())
    }

    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream> {
        let version = self.version(&partition.table)?;
        if !version.schema().is_bag() {
            return Ok(version.scan(partition.range.clone(), options.columns.clone(), options.batch_rows));
        }
        let Segments { segments } = serde_json::from_value(partition.token.clone())
            .map_err(|e| fault::damaged(format!("partition {}", partition.index), e.to_string()))?;
        Ok(scan::part(version.clone(), segments, options.columns.clone(), options.batch_rows))
    }

    async fn changes(&self, table: &TableName, from: &[ShardPosition]) -> Result<BatchStream> {
        let before = self.before(table, from).await?;
        diff::changes(&before, self.version(table)?).await
    }

    async fn changes_expected(&self, table: &TableName, from: &[ShardPosition]) -> Result<Option<ByteCount>> {
        let before = self.before(table, from).await?;
        diff::changed_bytes(&before, self.version(table)?).await.map(Some)
    }

    async fn prove(&self, table: &TableName, _request: &ProofRequest) -> Result<Option<SourceProof>> {
        // The whole is known without reading, so no range is needed.
        let version = self.version(table)?;
        Ok(Some(SourceProof {
            rows: version.rows(),
            ranges: vec![RangeProof { range: KeyRange::default(), digest: version.digest() }],
            method: "count and checksum that the table keeps from the rows as they were given, without reading segments"
                .into(),
        }))
    }

    fn keep(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == State::Held {
            *state = State::Borrowed;
        }
    }

    async fn release(&self) -> Result<()> {
        let before = std::mem::replace(
            &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            State::Released,
        );
        if before == State::Released || self.hold.id.is_empty() {
            return Ok(());
        }
        self.store.shared.place.delete(&names::hold(&self.hold.id)).await
    }
}

impl Drop for ColumnarCut {
    fn drop(&mut self) {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state != State::Held || self.hold.id.is_empty() {
            return;
        }
        // As well as a drop can; a hold that stays ends by its time.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (place, object) = (self.store.shared.place.clone(), names::hold(&self.hold.id));
            runtime.spawn(async move {
                if let Err(error) = place.delete(&object).await {
                    tracing::debug!(%error, "a hold was not removed");
                }
            });
        }
    }
}
