//! A load with merged tables, as a cut: rows that were loaded, and those of the standing table whose keys are not among them.

use super::merge::equal;
use super::{MySqlLoad, Target};
use crate::barrier;
use crate::catalog::{self, PhysicalTable};
use crate::cut::MySqlCut;
use crate::decode::{Decoder, needs_exact};
use crate::error::failed;
use crate::identity::failed_at;
use crate::names::{full, quoted};
use crate::plan::{Piece, pieces};
use crate::pool::Pool;
use crate::scan::{Reading, Source};
use crate::store::Shared;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::try_unfold;
use keepfast_model::{ByteCount, Cut, Partition, ShardId, ShardPosition, SourceProof, TableName};
use keepfast_store::{BatchStream, OpenCut, PlanOptions, ProofRequest, Result, ScanOptions, TableAtCut};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of rows in a batch at most, about.
const BATCH_BYTES: usize = 8 << 20;

/// Tables of a load, before it is published or after.
#[derive(Debug)]
pub(super) struct MergedCut {
    shared: Arc<Shared>,
    inner: MySqlCut,
    pools: Vec<Arc<Pool>>,
    tables: BTreeMap<TableName, Vec<Standing>>,
    published: bool,
}

/// A physical table that rows are merged into.
#[derive(Debug)]
struct Standing {
    server: usize,
    table: PhysicalTable,
    staging: String,
}

impl MergedCut {
    /// Before the publication merged tables are all that they will be; after it only their rows with loaded keys. None where a table
    /// is missing.
    pub async fn open(load: &MySqlLoad, published: bool) -> Result<Option<Self>> {
        let shared = load.shared().clone();
        let Some(tables) = load.as_logical(published).await? else { return Ok(None) };
        let mut all = BTreeMap::new();
        for target in load.tables.iter().filter(|target| target.merging) {
            let Some(standing) = standing(load, target).await? else { return Ok(None) };
            all.insert(target.logical.clone(), standing);
        }
        let inner = MySqlCut::private(shared.clone(), tables).await?;
        let used: BTreeSet<usize> = all.values().flatten().map(|standing| standing.server).collect();
        let mut pools: Vec<Arc<Pool>> = shared.servers.iter().map(|_| Arc::default()).collect();
        for server in used {
            let at = &shared.servers[server];
            let sessions = barrier::private(&shared, at).await?;
            pools[server] = Arc::new(Pool::new(at.address.to_string(), sessions));
        }
        Ok(Some(Self { shared, inner, pools, tables: all, published }))
    }

    /// What stands behind a table's name in a SELECT of a piece of it.
    fn condition(&self, standing: &Standing, piece: &Piece) -> String {
        let (live, staging) = (standing.name(), full(&standing.table.database, &standing.staging));
        let piece = piece.condition();
        let and = if piece.is_empty() { " WHERE" } else { " AND" };
        let not = if self.published { "" } else { "NOT " };
        format!(
            "{piece}{and} {not}EXISTS (SELECT 1 FROM {staging} WHERE {})",
            equal(&standing.table.key, &staging, &live)
        )
    }
}

impl Standing {
    fn name(&self) -> String {
        full(&self.table.database, &self.table.name)
    }
}

/// The physical tables that rows are merged into; none where one is missing.
async fn standing(load: &MySqlLoad, target: &Target) -> Result<Option<Vec<Standing>>> {
    let mut all = vec![];
    for place in &target.places {
        let mut at = load.controls.plain(place.server).await?;
        let found = catalog::describe(&mut at, &place.database, &place.name).await;
        let found = found.map_err(|e| load.controls.failed("describe a table", place.server, e))?;
        let Some(table) = found else { return Ok(None) };
        all.push(Standing { server: place.server, table, staging: place.staging.clone() });
    }
    Ok(Some(all))
}

#[async_trait]
impl OpenCut for MergedCut {
    fn cut(&self) -> Cut {
        self.inner.cut()
    }

    fn token(&self) -> Option<serde_json::Value> {
        None
    }

    async fn table(&self, table: &TableName) -> Result<TableAtCut> {
        self.inner.table(table).await
    }

    async fn plan(&self, table: &TableName, options: &PlanOptions) -> Result<Vec<Partition>> {
        let Some(all) = self.tables.get(table) else { return self.inner.plan(table, options).await };
        let mut partitions = match self.published {
            false => self.inner.plan(table, options).await?,
            true => vec![],
        };
        let each = options.partitions.div_ceil(all.len().max(1) as u32).max(1);
        for (at, standing) in all.iter().enumerate() {
            let server = &self.shared.servers[standing.server];
            let mut session = self.pools[standing.server].take().await?;
            let found = pieces(session.connection(), &standing.table, each).await;
            let found = found.map_err(|e| failed_at("plan the reading", &standing.table, server, e))?;
            session.done().await.map_err(|e| failed("plan the reading", &server.address, e))?;
            for piece in found {
                partitions.push(Partition {
                    table: table.clone(),
                    index: partitions.len() as u32,
                    shard: ShardId(format!("{}/{}", server.name(), standing.name())),
                    range: Default::default(),
                    rows_expected: piece.rows,
                    bytes_expected: ByteCount(0),
                    token: serde_json::json!({"standing": at, "piece": piece}),
                });
            }
        }
        Ok(partitions)
    }

    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream> {
        let at = partition.token["standing"].as_u64();
        let (Some(at), Some(all)) = (at, self.tables.get(&partition.table)) else {
            return self.inner.scan(partition, options).await;
        };
        let piece = serde_json::from_value::<Piece>(partition.token["piece"].clone()).ok();
        let (Some(standing), Some(piece)) = (all.get(at as usize), piece) else {
            return Err(self.shared.unsupported("read a partition that it did not plan".into()));
        };
        let mut schema = self.inner.table(&partition.table).await?.schema;
        if let Some(chosen) = &options.columns {
            let key = schema.key.clone();
            schema.columns.retain(|c| chosen.contains(&c.id) || key.contains(&c.id));
        }
        let names: Vec<String> = schema.columns.iter().map(|c| quoted(&c.name)).collect();
        let condition = self.condition(standing, &piece);
        let sql = format!("SELECT {} FROM {}{condition}", names.join(", "), standing.name());
        let decoder = Decoder::new(&schema, options.columns.is_none() && needs_exact(&schema));
        let session = self.pools[standing.server].take().await?;
        let source = Source {
            server: self.shared.servers[standing.server].clone(),
            table: standing.table.clone(),
            watch: None,
            witness: None,
        };
        let reading = Reading::new(session, sql, decoder, (options.batch_rows, BATCH_BYTES), source);
        let batches = try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        });
        Ok(batches.boxed())
    }

    fn scans_in_key_order(&self, table: &TableName) -> bool {
        !self.tables.contains_key(table) && self.inner.scans_in_key_order(table)
    }

    async fn changes(&self, table: &TableName, from: &[ShardPosition]) -> Result<BatchStream> {
        self.inner.changes(table, from).await
    }

    async fn prove(&self, table: &TableName, request: &ProofRequest) -> Result<Option<SourceProof>> {
        match self.tables.contains_key(table) {
            // Nothing has been counted that is not there yet.
            true => Ok(None),
            false => self.inner.prove(table, request).await,
        }
    }

    async fn release(&self) -> Result<()> {
        self.pools.iter().for_each(|pool| pool.close());
        self.inner.release().await
    }
}
