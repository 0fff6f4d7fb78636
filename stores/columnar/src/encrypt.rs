//! The tables of a store that is given its first keys: written anew, sealed, beside the plain ones, and read back.
//!
//! Invariant: until the catalog entry that names the sealed tables, nothing refers to them and the plain ones are as they
//! were; after it, nothing refers to the plain ones.

use crate::build::{self, Parts};
use crate::catalog::{Catalog, CatalogTable, DroppedTable};
use crate::names::{self, SegmentIds, WriterId};
use crate::seal::StoreKeys;
use crate::shared::Shared;
use crate::sink::{SegmentSink, Target};
use crate::store::ColumnarStore;
use crate::table::TableVersion;
use crate::{Result, fault, rows};
use futures::StreamExt;
use jiff::Timestamp;
use keepfast_model::{Digest, KeyRange, RowHasher, TableId};
use std::collections::HashMap;
use std::sync::Arc;

/// Tables as they were written anew, by the version that they were written from, with the entry that was newest then.
#[derive(Debug, Default)]
pub(crate) struct Sealed(HashMap<(TableId, String), (u64, CatalogTable)>);

impl ColumnarStore {
    /// Makes `next` an entry with keys: each table of `head` is another one with the same rows. What an earlier try wrote of a
    /// version that still is the newest is taken as it is.
    pub(crate) async fn seal_tables(
        &self,
        head: &Catalog,
        next: &mut Catalog,
        keys: &Arc<StoreKeys>,
        sealed: &mut Sealed,
    ) -> Result<()> {
        next.tables.clear();
        // Nobody needs these from now on, however short ago they were dropped.
        next.dropped.iter_mut().for_each(|dropped| dropped.at = Timestamp::UNIX_EPOCH);
        for table in &head.tables {
            let from = (table.id.clone(), table.file.clone());
            let known = match sealed.0.get(&from) {
                // A vacuum may have taken it for what an unfinished load left.
                Some((since, known))
                    if !self.shared.condemned_since(*since, head, &[&known.id.0]).await? =>
                {
                    Some(known.clone())
                }
                _ => None,
            };
            let written = match known {
                Some(known) => known,
                None => {
                    let written = self.seal_table(table, keys).await?;
                    sealed.0.insert(from, (head.seq, written.clone()));
                    written
                }
            };
            next.add(CatalogTable { name: table.name.clone(), replaced: table.replaced.clone(), ..written });
            let (name, id) = (table.name.clone(), table.id.clone());
            next.dropped.push(DroppedTable { name, id, at: Timestamp::UNIX_EPOCH });
        }
        Ok(())
    }

    async fn seal_table(&self, table: &CatalogTable, keys: &Arc<StoreKeys>) -> Result<CatalogTable> {
        let version = TableVersion::open(self.shared.clone(), table).await?;
        // The store as it will be: it reads and writes with the keys that no entry names yet.
        let place = self.shared.place.with_keys(keys.clone());
        let shared = Arc::new(Shared::new(place, self.shared.options.clone()));
        let writer = WriterId::random();
        let target = Target {
            shared: shared.clone(),
            name: version.name().clone(),
            table: TableId(names::random_hex()),
            schema: version.schema().clone(),
            epoch: version.file.epoch,
            target_rows: version.file.target_rows,
            ids: Arc::new(SegmentIds::new(&writer)),
            writer,
            sealed: true,
        };
        let mut sink = SegmentSink::new(target.clone(), version.file.profile.clone());
        let mut all = version.scan(KeyRange::default(), None, rows::BATCH_ROWS);
        while let Some(batch) = all.next().await {
            sink.push(batch?).await?;
        }
        let parts = Parts {
            pieces: sink.finish().await?,
            profile: sink.profile().cloned(),
            added: version.digest(),
            removed: Digest::default(),
            op: "encrypt".into(),
        };
        let nothing = build::nothing(&target.table, &target.schema, target.target_rows);
        let ready = build::build(&target, &nothing, None, parts).await?;
        let written = CatalogTable {
            name: table.name.clone(),
            id: target.table.clone(),
            version: ready.file.version,
            file: ready.file_name.clone(),
            replaced: None,
        };
        // What is read back comes from the place: this one has nothing in its caches.
        let place = self.shared.place.with_keys(keys.clone());
        let fresh = Arc::new(Shared::new(place, self.shared.options.clone()));
        self.read_back(TableVersion::open(fresh, &written).await?, version.digest()).await?;
        Ok(written)
    }

    /// Refuses a table whose rows are not those that it was made of: the plain ones are about to be removed.
    async fn read_back(&self, written: TableVersion, expected: Digest) -> Result<()> {
        let hasher = RowHasher::new(written.schema());
        let mut found = Digest::default();
        let mut all = written.scan(KeyRange::default(), None, rows::BATCH_ROWS);
        while let Some(batch) = all.next().await {
            let (batch, hasher) = (batch?, hasher.clone());
            let digest = self.shared.compute(move || Ok(hasher.digest(&batch)?)).await?;
            found = found.merge(digest);
        }
        if found == expected {
            return Ok(());
        }
        Err(fault::damaged(
            self.shared.place.full(&names::table(written.table())),
            format!("its rows make {found}, and those that it was written from {expected}"),
        ))
    }
}
