//! Looking up keys in a version, in ascending order.

use crate::shared::Shared;
use crate::version::{PageRef, VersionFile};
use crate::{Result, rows};
use arrow::array::{Array, BinaryArray};
use keepfast_format::SegmentEntry;
use keepfast_model::{ColumnId, RowHasher, TableSchema, encode_keys};
use std::collections::VecDeque;
use std::sync::Arc;

/// Finds rows of one version by keys that ascend from call to call.
#[derive(Debug)]
pub(crate) struct Finder {
    shared: Arc<Shared>,
    version: Arc<VersionFile>,
    schema: Arc<TableSchema>,
    pages: VecDeque<PageRef>,
    segments: VecDeque<SegmentEntry>,
    loaded: Option<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    segment: keepfast_model::Hash256,
    keys: BinaryArray,
    /// Hashes of whole rows; empty where only keys were asked for.
    rows: Vec<u128>,
}

impl Finder {
    pub fn new(shared: Arc<Shared>, version: Arc<VersionFile>) -> Self {
        Self {
            shared,
            schema: Arc::new(version.schema.clone()),
            pages: version.pages.iter().cloned().collect(),
            version,
            segments: VecDeque::new(),
            loaded: None,
        }
    }

    /// The segment that would hold the key.
    pub async fn segment(&mut self, key: &[u8]) -> Result<Option<SegmentEntry>> {
        let before =
            |max: &Option<keepfast_model::KeyBytes>| max.as_ref().is_some_and(|max| max.0.as_slice() < key);
        loop {
            while self.segments.front().is_some_and(|s| before(&s.max)) {
                self.segments.pop_front();
            }
            if let Some(segment) = self.segments.front() {
                return Ok(Some(segment.clone()));
            }
            match self.pages.pop_front() {
                None => return Ok(None),
                Some(page) if before(&page.max) => {}
                Some(page) => {
                    let segments = self.shared.page(&self.version.table, &page).await?;
                    self.segments = segments.iter().cloned().collect();
                }
            }
        }
    }

    /// The hash of the row with this key; none where there is no such row.
    pub async fn row(&mut self, key: &[u8]) -> Result<Option<u128>> {
        let Some(loaded) = self.load(key, true).await? else { return Ok(None) };
        Ok(find(&loaded.keys, key).and_then(|at| loaded.rows.get(at).copied()))
    }

    /// Whether there is a row with this key.
    pub async fn has(&mut self, key: &[u8]) -> Result<bool> {
        let Some(loaded) = self.load(key, false).await? else { return Ok(false) };
        Ok(find(&loaded.keys, key).is_some())
    }

    async fn load(&mut self, key: &[u8], full: bool) -> Result<Option<&Loaded>> {
        let Some(segment) = self.segment(key).await? else { return Ok(None) };
        if segment.min.as_ref().is_some_and(|min| key < min.0.as_slice()) {
            return Ok(None);
        }
        if self.loaded.as_ref().is_none_or(|l| l.segment != segment.id || (full && l.rows.is_empty())) {
            let columns: Option<Arc<[ColumnId]>> = (!full).then(|| self.schema.key.clone().into());
            let batches = rows::read(
                &self.shared,
                &self.version.table,
                &self.schema,
                &segment,
                columns,
                rows::BATCH_ROWS,
            )
            .await?;
            let schema = if full {
                self.schema.clone()
            } else {
                let names: Vec<String> = self.schema.key_names().into_iter().map(str::to_owned).collect();
                Arc::new(self.schema.project(&names)?)
            };
            let loaded = self
                .shared
                .compute(move || {
                    let mut keys = Vec::new();
                    let mut hashes = Vec::new();
                    let hasher = RowHasher::new(&schema);
                    for batch in &batches {
                        keys.push(encode_keys(&schema, batch)?);
                        if full {
                            hashes.append(&mut hasher.hash(batch)?.rows);
                        }
                    }
                    let keys: Vec<&dyn arrow::array::Array> = keys.iter().map(|k| k as _).collect();
                    let keys = match keys.as_slice() {
                        [] => BinaryArray::from_vec(vec![]),
                        keys => {
                            let joined = arrow::compute::concat(keys).map_err(rows::kernel)?;
                            BinaryArray::from(joined.to_data())
                        }
                    };
                    Ok(Loaded { segment: segment.id, keys, rows: hashes })
                })
                .await?;
            self.loaded = Some(loaded);
        }
        Ok(self.loaded.as_ref())
    }
}

fn find(keys: &BinaryArray, key: &[u8]) -> Option<usize> {
    let (mut low, mut high) = (0, keys.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if keys.value(middle) < key { low = middle + 1 } else { high = middle }
    }
    (low < keys.len() && keys.value(low) == key).then_some(low)
}
