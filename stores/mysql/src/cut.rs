//! One moment over all servers.
//!
//! Invariant: every session of a cut began its snapshot while no server could commit, so all of them see the same moment.
//! With several servers a transaction of an application may have committed on one and not yet on another at that moment:
//! such a cut is `bounded`, never `exact`.

use crate::barrier::{Held, Server as AtServer};
use crate::decode::{Decoder, needs_exact};
use crate::error::failed;
use crate::names::{full, quoted};
use crate::plan::{Piece, pieces};
use crate::polite::Watch;
use crate::pool::Pool;
use crate::prove::{Samples, prove};
use crate::store::{Logical, Shared};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::try_unfold;
use jiff::Timestamp;
use keepfast_model::cut::Exactness;
use keepfast_model::{ByteCount, Cut, Partition, Position, ShardId, ShardPosition, SourceProof, TableName};
use keepfast_store::{
    BatchStream, CutOptions, OpenCut, PlanOptions, ProofRequest, Result, ScanOptions, StoreError, TableAtCut,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of rows in a batch at most, about.
const BATCH_BYTES: usize = 8 << 20;

/// Sessions that see one moment.
#[derive(Debug)]
pub(crate) struct MySqlCut {
    shared: Arc<Shared>,
    cut: Cut,
    tables: BTreeMap<TableName, Logical>,
    pools: Vec<Arc<Pool>>,
    samples: Samples,
    watches: Vec<Option<Arc<Watch>>>,
}

impl MySqlCut {
    pub async fn open(shared: Arc<Shared>, tables: &[TableName], options: &CutOptions) -> Result<Self> {
        let mut connections = shared.connect().await?;
        crate::privileges::check_backup(&shared, &mut connections, tables).await?;
        let mut resolved = BTreeMap::new();
        for table in tables {
            let logical = shared.resolve(table, &mut connections).await?;
            if let Some(shard) = logical.shards.iter().find(|s| !s.table.is_transactional()) {
                return Err(StoreError::Unsupported {
                    store: shared.to_string(),
                    what: format!(
                        "read table '{}' at one moment: '{}' is of engine {}, which keeps no snapshot for readers",
                        table.table, shard.id.0, shard.table.engine
                    ),
                });
            }
            resolved.insert(table.clone(), logical);
        }
        let servers = resolved.values().flat_map(|l| l.shards.iter().map(|s| s.server));
        if servers.collect::<BTreeSet<_>>().len() > 1 && !options.allow_fuzzy {
            return Err(StoreError::Unsupported {
                store: shared.to_string(),
                what: "give an exact cut over several servers in this version".into(),
            });
        }
        Self::hold(shared, resolved).await
    }

    /// Begins snapshots of these tables on all servers that have a part of them.
    pub async fn hold(shared: Arc<Shared>, tables: BTreeMap<TableName, Logical>) -> Result<Self> {
        let used: BTreeSet<usize> = tables.values().flat_map(|l| l.shards.iter().map(|s| s.server)).collect();
        let used: Vec<usize> = used.into_iter().collect();
        let at = Timestamp::now() - shared.behind;
        let Held { servers, barrier } = crate::barrier::hold(&shared, &used).await?;
        let exactness = match servers.len() {
            0 | 1 => Exactness::Exact,
            _ => Exactness::Bounded { ms: u64::try_from(barrier.as_millis()).unwrap_or(u64::MAX).max(1) },
        };
        let mut pools: Vec<Arc<Pool>> = shared.servers.iter().map(|_| Arc::default()).collect();
        let mut watches: Vec<Option<Arc<Watch>>> = shared.servers.iter().map(|_| None).collect();
        let mut positions = vec![];
        for AtServer { server, sessions, position } in servers {
            let address = &shared.servers[server].address;
            if let Some((file, offset)) = position {
                let shard = ShardId(shared.servers[server].place());
                positions.push(ShardPosition { shard, position: Position::File { file, offset } });
            }
            pools[server] = Arc::new(Pool::new(address.to_string(), sessions));
            watches[server] =
                Watch::start(&shared.servers[server], shared.limits, pools[server].clone()).await?;
        }
        tracing::info!(ms = barrier.as_millis() as u64, servers = used.len(), "the barrier was held");
        let samples = Samples::new(at.as_second() as usize);
        Ok(Self { shared, cut: Cut { at, exactness, positions }, tables, pools, samples, watches })
    }

    fn logical(&self, table: &TableName) -> Result<&Logical> {
        self.tables
            .get(table)
            .ok_or_else(|| StoreError::NoTable { table: table.to_string(), store: self.shared.to_string() })
    }
}

#[async_trait]
impl OpenCut for MySqlCut {
    fn cut(&self) -> Cut {
        self.cut.clone()
    }

    fn token(&self) -> Option<serde_json::Value> {
        None
    }

    async fn table(&self, table: &TableName) -> Result<TableAtCut> {
        let logical = self.logical(table)?;
        Ok(TableAtCut {
            schema: logical.schema.clone(),
            rows_expected: logical.shards.iter().map(|s| s.table.rows).sum(),
            bytes_expected: ByteCount(logical.shards.iter().map(|s| s.table.bytes).sum()),
            dependents: logical.dependents.clone(),
        })
    }

    async fn plan(&self, table: &TableName, options: &PlanOptions) -> Result<Vec<Partition>> {
        let logical = self.logical(table)?;
        let each = options.partitions.div_ceil(logical.shards.len().max(1) as u32).max(1);
        let mut partitions = vec![];
        for (at, shard) in logical.shards.iter().enumerate() {
            let mut session = self.pools[shard.server].take().await?;
            let found = pieces(session.connection(), &shard.table, each).await;
            let address = &self.shared.servers[shard.server].address;
            let found = found.map_err(|e| failed("plan the reading", address, e))?;
            session.done().await.map_err(|e| failed("plan the reading", address, e))?;
            let count = found.len() as u64;
            for piece in found {
                partitions.push(Partition {
                    table: table.clone(),
                    index: partitions.len() as u32,
                    shard: shard.id.clone(),
                    range: Default::default(),
                    rows_expected: shard.table.rows / count,
                    bytes_expected: ByteCount(shard.table.bytes / count),
                    token: serde_json::json!({"shard": at, "piece": piece}),
                });
            }
        }
        self.samples.choose(table, &partitions);
        Ok(partitions)
    }

    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream> {
        let logical = self.logical(&partition.table)?;
        let foreign = || StoreError::Unsupported {
            store: self.shared.to_string(),
            what: "read a partition that it did not plan".into(),
        };
        let shard = partition.token["shard"].as_u64().and_then(|at| logical.shards.get(at as usize));
        let shard = shard.ok_or_else(foreign)?;
        let piece: Piece = serde_json::from_value(partition.token["piece"].clone()).map_err(|_| foreign())?;
        let mut schema = logical.schema.clone();
        if let Some(chosen) = &options.columns {
            schema.columns.retain(|c| chosen.contains(&c.id) || logical.schema.key.contains(&c.id));
        }
        let names: Vec<String> = schema.columns.iter().map(|c| quoted(&c.name)).collect();
        let sql = format!(
            "SELECT {} FROM {}{}",
            names.join(", "),
            full(&shard.table.database, &shard.table.name),
            piece.condition()
        );
        let decoder = Decoder::new(&schema, options.columns.is_none() && needs_exact(&schema));
        let session = self.pools[shard.server].take().await?;
        let address = self.shared.servers[shard.server].address.clone();
        let watch = self.watches[shard.server].clone();
        let reading = crate::scan::Reading::new(
            session,
            sql,
            decoder,
            (options.batch_rows, BATCH_BYTES),
            address,
            watch,
        );
        let batches = try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        });
        Ok(match options.columns {
            None => self.samples.watch(partition, &schema, batches.boxed()),
            Some(_) => batches.boxed(),
        })
    }

    async fn changes(&self, table: &TableName, _: &[ShardPosition]) -> Result<BatchStream> {
        Err(StoreError::Unsupported {
            store: self.shared.to_string(),
            what: format!("give the changes of table '{}' in this version", table.table),
        })
    }

    async fn prove(&self, table: &TableName, request: &ProofRequest) -> Result<Option<SourceProof>> {
        let logical = self.logical(table)?;
        let proof = prove(&self.shared, &self.pools, &self.samples, table, logical, request).await?;
        Ok(Some(proof))
    }

    async fn release(&self) -> Result<()> {
        self.pools.iter().for_each(|pool| pool.close());
        Ok(())
    }
}
