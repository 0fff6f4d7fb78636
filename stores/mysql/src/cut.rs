//! One moment over all servers.
//!
//! Invariant: every session of a cut began its snapshot while no server could commit, so all of them see the same moment.
//! With several servers a transaction of an application may have committed on one and not yet on another at that moment. XA
//! transactions are made whole ([`closing`](crate::binlog::closing)); such a cut is `exact` where the store's configuration says that
//! there are no others, and `bounded` otherwise.

use crate::barrier::{Held, Server as AtServer};
use crate::binlog::changes::{self, LogRead, ServerLog};
use crate::binlog::closing::{self, Closed};
use crate::binlog::sink::Kept;
use crate::binlog::{Fault, marker};
use crate::catalog::PhysicalTable;
use crate::connection::Connection;
use crate::decode::{Decoder, needs_exact};
use crate::definitions;
use crate::identity::Witness;
use crate::lockless::{Lockless, Moment};
use crate::names::{full, quoted};
use crate::options::{Lock, Marker, Transactions};
use crate::plan::Piece;
use crate::polite::Watch;
use crate::pool::Pool;
use crate::prove::{Counting, Samples, pieces_of_all, prove};
use crate::store::{Logical, Shared};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, try_unfold};
use jiff::Timestamp;
use keepfast_model::cut::Exactness;
use keepfast_model::{
    ByteCount, Cut, Partition, Position, ShardPosition, SourceProof, TableName, TableSchema,
};
use keepfast_store::{
    BatchStream, CutOptions, Images, OpenCut, Past, PlanOptions, ProofRequest, Result, ScanOptions,
    StoreError, TableAtCut,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use tokio::sync::Mutex;

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
    /// Those that tell whether a table was altered, of each server.
    witnesses: Vec<Option<Arc<Witness>>>,
    logs: Vec<ServerLog>,
    closed: Closed,
    /// Where it was opened without a lock, what its moment is found by.
    lockless: Option<Lockless>,
    /// Whether its moment is over, so that there are changes up to it and no rows.
    past: bool,
    allow_fuzzy: bool,
    /// Counts that were begun before anybody asked for them.
    counting: Mutex<BTreeMap<TableName, Counting>>,
    /// What was read of the logs, by the positions from which it was asked for.
    read: Mutex<Vec<(Vec<ShardPosition>, Arc<LogRead>)>>,
}

impl MySqlCut {
    pub async fn open(shared: Arc<Shared>, tables: &[TableName], options: &CutOptions) -> Result<Self> {
        let (connections, resolved) = Self::resolved(&shared, tables).await?;
        for (table, logical) in &resolved {
            if let Some(shard) = logical.shards.iter().find(|s| !s.table.is_transactional()) {
                return Err(StoreError::Unsupported {
                    store: shared.to_string(),
                    what: format!(
                        "read table '{}' at one moment: '{}' is of engine {}, which keeps no snapshot for readers",
                        table.table, shard.id.0, shard.table.engine
                    ),
                });
            }
        }
        let servers = resolved.values().flat_map(|l| l.shards.iter().map(|s| s.server));
        let several = servers.collect::<BTreeSet<_>>().len() > 1;
        if several && !options.allow_fuzzy && !shared.whole() {
            return Err(StoreError::Unsupported {
                store: shared.to_string(),
                what: "give an exact cut over several servers, unless every transaction on several of them is an XA transaction or carries an id, or the \
                       application pauses; `transactions = \"xa\"`, `\"marker:COLUMN\"`, `\"intents:DATABASE.TABLE\"` and `pause` say so"
                    .into(),
            });
        }
        let mut witnesses = vec![];
        for (at, connection) in connections.into_iter().enumerate() {
            let here = resolved.values().flat_map(|l| &l.shards).filter(|s| s.server == at).map(|s| &s.table);
            let here: Vec<_> = here.collect();
            witnesses.push(match here.is_empty() {
                true => None,
                false => Some(Arc::new(Witness::begin(&shared.servers[at], connection, &here).await?)),
            });
        }
        if shared.lock == Lock::None {
            let unlocked = Self::unlocked(shared, resolved, options.allow_fuzzy).await?;
            return Ok(Self { witnesses, ..unlocked });
        }
        let cut = Self { witnesses, ..Self::hold(shared, resolved).await? };
        if let (false, Exactness::Bounded { .. }) = (options.allow_fuzzy, cut.cut.exactness) {
            let why = cut.closed.torn.as_deref().unwrap_or("transactions may be torn");
            return Err(StoreError::Unsupported {
                store: cut.shared.to_string(),
                what: format!("give an exact cut: {why}"),
            });
        }
        Ok(cut)
    }

    /// Tables with their shards and definitions, and a connection to each server.
    async fn resolved(
        shared: &Arc<Shared>,
        tables: &[TableName],
    ) -> Result<(Vec<Connection>, BTreeMap<TableName, Logical>)> {
        let mut connections = shared.connect().await?;
        crate::privileges::check_backup(shared, &mut connections, tables).await?;
        let mut resolved = BTreeMap::new();
        for table in tables {
            resolved.insert(table.clone(), shared.resolve(table, &mut connections).await?);
        }
        definitions::attach(shared, &mut connections, &mut resolved).await?;
        Ok((connections, resolved))
    }

    /// A moment that is over; none where the transaction that it is named by is not in the logs behind the earlier cut.
    pub async fn past(shared: Arc<Shared>, tables: &[TableName], past: &Past) -> Result<Option<Self>> {
        let (_, resolved) = Self::resolved(&shared, tables).await?;
        let used: BTreeSet<usize> =
            resolved.values().flat_map(|l| l.shards.iter().map(|s| s.server)).collect();
        let used: Vec<usize> = used.into_iter().collect();
        let Some(moment) = crate::past::find(&shared, &resolved, &used, past).await? else { return Ok(None) };
        let (logs, closed) = (moment.logs, moment.closed);
        Ok(Some(Self { logs, closed, past: true, ..Self::of(shared, moment.cut, resolved, vec![]) }))
    }

    /// Begins snapshots of these tables on all servers that have a part of them.
    async fn hold(shared: Arc<Shared>, tables: BTreeMap<TableName, Logical>) -> Result<Self> {
        let used: BTreeSet<usize> = tables.values().flat_map(|l| l.shards.iter().map(|s| s.server)).collect();
        let used: Vec<usize> = used.into_iter().collect();
        let several = used.len() > 1;
        let marks = match &shared.transactions {
            Transactions::Marked(marker) if several => {
                Some((marker.clone(), marker::before(&shared, marker, &used).await?))
            }
            _ => None,
        };
        let at = Timestamp::now() - shared.behind;
        let held = crate::hook::paused(shared.pause.as_ref(), crate::barrier::hold(&shared, &used)).await?;
        let closed = match several {
            true => Self::close(&shared, &held, &tables, marks).await?,
            false => Closed::default(),
        };
        let Held { servers, barrier } = held;
        // Replicas are each behind by another time.
        let apart = barrier + shared.behind;
        let whole = shared.whole() && closed.torn.is_none() && shared.behind.is_zero();
        let exactness = match servers.len() {
            0 | 1 => Exactness::Exact,
            _ if whole => Exactness::Exact,
            _ => Exactness::Bounded { ms: u64::try_from(apart.as_millis()).unwrap_or(u64::MAX).max(1) },
        };
        if let Some(why) = &closed.torn {
            tracing::warn!(why, "transactions on several servers may be torn at this cut");
        }
        let mut pools: Vec<Arc<Pool>> = shared.servers.iter().map(|_| Arc::default()).collect();
        let mut watches: Vec<Option<Arc<Watch>>> = shared.servers.iter().map(|_| None).collect();
        let mut logs = vec![];
        for AtServer { server, sessions, position, filtered, .. } in servers {
            if let Some(place) = position {
                let of = (closed.branches.get(&server), closed.groups.get(&server));
                logs.push(ServerLog::record(&shared, server, (place, filtered), &tables, of).await?);
            }
            let at = &shared.servers[server];
            pools[server] = Arc::new(Pool::new(at.address.to_string(), sessions));
            watches[server] = Watch::start(at, shared.limits, pools[server].clone()).await?;
        }
        tracing::info!(ms = barrier.as_millis() as u64, servers = used.len(), "the barrier was held");
        let positions = logs.iter().flat_map(ServerLog::positions).collect();
        let cut = Cut { at, exactness, positions };
        let samples = Samples::new(at.as_second() as usize);
        Ok(Self { watches, samples, logs, closed, ..Self::of(shared, cut, tables, pools) })
    }

    /// Snapshots and nothing else.
    fn of(
        shared: Arc<Shared>,
        cut: Cut,
        tables: BTreeMap<TableName, Logical>,
        pools: Vec<Arc<Pool>>,
    ) -> Self {
        Self {
            shared,
            cut,
            tables,
            samples: Samples::new(0),
            watches: vec![None; pools.len()],
            pools,
            witnesses: vec![],
            logs: vec![],
            closed: Closed::default(),
            lockless: None,
            past: false,
            allow_fuzzy: true,
            counting: Mutex::default(),
            read: Mutex::default(),
        }
    }

    /// Begins snapshots of these tables without a lock.
    async fn unlocked(
        shared: Arc<Shared>,
        tables: BTreeMap<TableName, Logical>,
        allow_fuzzy: bool,
    ) -> Result<Self> {
        let used: BTreeSet<usize> = tables.values().flat_map(|l| l.shards.iter().map(|s| s.server)).collect();
        let used: Vec<usize> = used.into_iter().collect();
        let (lockless, opened) = crate::lockless::open(&shared, &used, &tables).await?;
        let mut pools: Vec<Arc<Pool>> = shared.servers.iter().map(|_| Arc::default()).collect();
        let mut watches: Vec<Option<Arc<Watch>>> = shared.servers.iter().map(|_| None).collect();
        for (server, sessions) in opened {
            let at = &shared.servers[server];
            pools[server] = Arc::new(Pool::new(at.address.to_string(), sessions));
            watches[server] = Watch::start(at, shared.limits, pools[server].clone()).await?;
        }
        let cut = Cut { at: Timestamp::now(), exactness: Exactness::Exact, positions: vec![] };
        let lockless = Some(lockless);
        Ok(Self { watches, lockless, allow_fuzzy, ..Self::of(shared, cut, tables, pools) })
    }

    /// The moment of a cut that was opened without a lock; none of another one.
    async fn moment(&self) -> Result<Option<&Moment>> {
        let Some(lockless) = &self.lockless else { return Ok(None) };
        let moment = lockless.moment(&self.shared, &self.tables).await?;
        if let (false, Exactness::Bounded { .. }) = (self.allow_fuzzy, moment.cut.exactness) {
            let why = moment.closed.torn.as_deref().unwrap_or("transactions may be torn");
            return Err(self.shared.unsupported(format!("give an exact cut: {why}")));
        }
        Ok(Some(moment))
    }

    /// The server's word on a table.
    async fn proof(
        &self,
        table: &TableName,
        logical: &Logical,
        request: &ProofRequest,
    ) -> Result<Option<SourceProof>> {
        if let (Some(moment), Some(lockless)) = (self.moment().await?, &self.lockless) {
            let closed = &moment.closed;
            let more = self.rolled(table, closed).map_or(0, |kept| kept.grown(&closed.excluded));
            return lockless.prove(&self.shared, moment, (table, logical), more).await;
        }
        let begun = self.counting.lock().await.remove(table);
        let counting = begun.unwrap_or_else(|| self.count(logical));
        let (shared, pools) = (&self.shared, &self.pools);
        let mut proof = prove(shared, pools, &self.samples, table, logical, request, counting).await?;
        if let Some(kept) = self.closing(table) {
            proof.rows = proof.rows.saturating_add_signed(kept.grown(&self.closed.excluded));
            let images = kept.images(self.closed.excluded.clone()).map_err(|e| not_kept(table, e))?;
            for range in &mut proof.ranges {
                // The snapshots' rows, which are of all ranges at once, are not yet those of the moment.
                range.digest = range.digest.without(images.before).merge(images.after);
            }
            proof.method += "; the rows of transactions that the cut is closed over are counted with them";
        }
        Ok(Some(proof))
    }

    /// Begins to count the rows of the snapshots.
    fn count(&self, logical: &Logical) -> Counting {
        Counting::begin(self.shared.clone(), self.pools.clone(), logical.clone())
    }

    /// What a log has of a table, and what the cut was closed over.
    fn of_log(
        &self,
        table: &TableName,
        log: &LogRead,
        from: &[ShardPosition],
        closed: Option<(&Kept, Arc<HashSet<u64>>)>,
    ) -> Result<BatchStream> {
        let kept = match log.tables.get(table) {
            Some(Ok(kept)) => kept,
            Some(Err(fault)) => return Err(self.fault(table, from, fault)),
            None => {
                return Err(StoreError::NoTable { table: table.to_string(), store: self.shared.to_string() });
            }
        };
        let mut all: Vec<_> = kept.iter().map(|kept| kept.read(log.excluded.clone())).collect();
        // The snapshots lack it, so the places of the cut lack it too.
        all.extend(closed.map(|(kept, excluded)| kept.read(excluded)));
        Ok(kept_stream(table.clone(), all.into_iter().flatten()))
    }

    /// Snapshots of tables that nobody else writes to, such as what a load made: without a lock, and of no moment.
    pub async fn private(shared: Arc<Shared>, tables: BTreeMap<TableName, Logical>) -> Result<Self> {
        let used: BTreeSet<usize> = tables.values().flat_map(|l| l.shards.iter().map(|s| s.server)).collect();
        let mut pools: Vec<Arc<Pool>> = shared.servers.iter().map(|_| Arc::default()).collect();
        for server in used {
            let at = &shared.servers[server];
            let sessions = crate::barrier::private(&shared, at).await?;
            pools[server] = Arc::new(Pool::new(at.address.to_string(), sessions));
        }
        let cut = Cut { at: Timestamp::now(), exactness: Exactness::Exact, positions: vec![] };
        Ok(Self::of(shared, cut, tables, pools))
    }

    /// Makes one moment of the snapshots.
    async fn close(
        shared: &Arc<Shared>,
        held: &Held,
        tables: &BTreeMap<TableName, Logical>,
        marks: Option<(Marker, marker::Before)>,
    ) -> Result<Closed> {
        let ends = closing::ends(held);
        let decided = closing::decide(shared, held).await?;
        let marks = marks.as_ref().map(|(marker, before)| (marker, before));
        closing::close_over(shared, tables, &ends, decided, marks).await
    }

    /// What a moment has of a table behind its places.
    fn rolled<'a>(&self, table: &TableName, closed: &'a Closed) -> Option<&'a Kept> {
        let at = self.tables.keys().position(|name| name == table)?;
        closed.tables.get(at).filter(|kept| !kept.is_empty())
    }

    /// What the snapshots lack of a table, with the transactions that do not count.
    fn closing(&self, table: &TableName) -> Option<&Kept> {
        self.rolled(table, &self.closed)
    }

    fn fault(&self, table: &TableName, from: &[ShardPosition], fault: &Fault) -> StoreError {
        let position = from.iter().filter(|p| !matches!(p.position, Position::Token(_)));
        let position =
            position.map(|p| format!("{} of {}", p.position, p.shard)).collect::<Vec<_>>().join(", ");
        let table = table.table.clone();
        match fault.clone() {
            Fault::Gone(reason) => StoreError::ChangesGone { table, position, reason },
            Fault::Altered(reason) => StoreError::SchemaChanged { table, position, reason },
        }
    }

    /// None where nobody alters tables, such as what a load made.
    fn witness(&self, server: usize) -> Option<Arc<Witness>> {
        self.witnesses.get(server).cloned().flatten()
    }

    /// An error where there are no rows to read.
    fn has_rows(&self) -> Result<()> {
        match self.past {
            false => Ok(()),
            true => {
                Err(self.shared.unsupported("read rows of a moment that is over; its log has changes".into()))
            }
        }
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
        let moment = self.lockless.as_ref().and_then(Lockless::known);
        moment.map_or_else(|| self.cut.clone(), |moment| moment.cut.clone())
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
        self.has_rows()?;
        let each = options.partitions.div_ceil(logical.shards.len().max(1) as u32).max(1);
        let mut partitions = vec![];
        let planned = pieces_of_all(&self.shared, &self.pools, logical, each).await?;
        for (at, (shard, found)) in logical.shards.iter().zip(planned).enumerate() {
            let rows = found.iter().map(|piece| piece.rows).sum::<u64>().max(1);
            for piece in found {
                partitions.push(Partition {
                    table: table.clone(),
                    index: partitions.len() as u32,
                    shard: shard.id.clone(),
                    range: Default::default(),
                    rows_expected: piece.rows,
                    bytes_expected: ByteCount(
                        (u128::from(shard.table.bytes) * u128::from(piece.rows) / u128::from(rows)) as u64,
                    ),
                    token: serde_json::json!({"shard": at, "piece": piece}),
                });
            }
        }
        self.samples.choose(table, &partitions);
        Ok(partitions)
    }

    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream> {
        let logical = self.logical(&partition.table)?;
        self.has_rows()?;
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
        ) + &order(&logical.schema, &shard.table);
        let decoder = Decoder::new(&schema, options.columns.is_none() && needs_exact(&schema));
        let session = self.pools[shard.server].take().await?;
        let source = crate::scan::Source {
            server: self.shared.servers[shard.server].clone(),
            table: shard.table.clone(),
            watch: self.watches[shard.server].clone(),
            witness: self.witness(shard.server),
        };
        let most = (options.batch_rows, BATCH_BYTES);
        let reading = crate::scan::Reading::new(session, sql, decoder, most, source);
        let batches = try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        });
        Ok(match options.columns {
            None => self.samples.watch(partition, &schema, batches.boxed()),
            Some(_) => batches.boxed(),
        })
    }

    fn scans_in_key_order(&self, table: &TableName) -> bool {
        let Some(logical) = self.tables.get(table) else { return false };
        logical.shards.iter().all(|shard| in_key_order(&logical.schema, &shard.table))
    }

    async fn closing_changes(&self, table: &TableName) -> Result<Option<BatchStream>> {
        self.logical(table)?;
        if let (Some(moment), Some(lockless)) = (self.moment().await?, &self.lockless) {
            let closed =
                self.rolled(table, &moment.closed).map(|kept| (kept, moment.closed.excluded.clone()));
            return self.of_log(table, &moment.changed, &lockless.from(), closed).map(Some);
        }
        let kept = self.closing(table).map(|kept| kept.read(self.closed.excluded.clone()));
        Ok(kept.map(|batches| kept_stream(table.clone(), batches)))
    }

    fn needs_closing(&self) -> bool {
        self.lockless.is_some() || self.tables.keys().any(|table| self.closing(table).is_some())
    }

    async fn changes(&self, table: &TableName, from: &[ShardPosition]) -> Result<BatchStream> {
        let logical = self.logical(table)?;
        if self.lockless.is_none() && !self.past {
            // The proof asks for it, and reading a log leaves the servers idle.
            self.counting.lock().await.entry(table.clone()).or_insert_with(|| self.count(logical));
        }
        let (logs, closed) = match self.moment().await? {
            Some(moment) => (&moment.logs, &moment.closed),
            None => (&self.logs, &self.closed),
        };
        let mut read = self.read.lock().await;
        let log = match read.iter().find(|(since, _)| since == from) {
            Some((_, log)) => log.clone(),
            None => {
                let none = BTreeMap::new();
                let log = Arc::new(changes::read(&self.shared, &self.tables, logs, from, &none).await?);
                read.push((from.to_vec(), log.clone()));
                log
            }
        };
        drop(read);
        let closed = self.rolled(table, closed).map(|kept| (kept, closed.excluded.clone()));
        self.of_log(table, &log, from, closed)
    }

    async fn images(&self, table: &TableName, from: &[ShardPosition]) -> Result<Option<Images>> {
        let closed = match (self.moment().await?, &self.lockless) {
            // Nobody would count what they make of the rows.
            _ if self.past => return Ok(None),
            (Some(_), Some(lockless)) if !lockless.counts(self.logical(table)?) => return Ok(None),
            (Some(moment), _) => &moment.closed,
            (None, _) => &self.closed,
        };
        let read = self.read.lock().await;
        let Some((_, log)) = read.iter().find(|(since, _)| since == from) else { return Ok(None) };
        let Some(Ok(kept)) = log.tables.get(table) else { return Ok(None) };
        let closing = self.rolled(table, closed).map(|kept| (kept, &closed.excluded));
        let all = kept.iter().map(|kept| (kept, &log.excluded)).chain(closing);
        let mut images = Images::default();
        for (kept, but) in all {
            let more = kept.images(but.clone()).map_err(|e| not_kept(table, e))?;
            images.before = images.before.merge(more.before);
            images.after = images.after.merge(more.after);
            images.fresh += more.fresh;
        }
        Ok(Some(images))
    }

    async fn prove(&self, table: &TableName, request: &ProofRequest) -> Result<Option<SourceProof>> {
        let logical = self.logical(table)?;
        if self.past {
            return Ok(None);
        }
        let proof = self.proof(table, logical, request).await;
        for shard in logical.shards.iter().filter(|_| !matches!(proof, Err(StoreError::CutLost { .. }))) {
            if let Some(witness) = self.witness(shard.server) {
                witness.check(&shard.table, true).await?;
            }
        }
        proof
    }
    async fn release(&self) -> Result<()> {
        self.pools.iter().for_each(|pool| pool.close());
        self.lockless.iter().for_each(Lockless::release);
        Ok(())
    }
}

/// Whether a shard's rows come in the order of the logical key when they are asked for by its primary key: whole numbers, which every
/// server and our keys order alike.
fn in_key_order(schema: &TableSchema, shard: &PhysicalTable) -> bool {
    let number = |name: &&str| {
        let column = shard.columns.iter().find(|c| c.name == **name);
        column.is_some_and(|c| c.declared.data_type.ends_with("int"))
    };
    let key = schema.key_names();
    shard.index.as_deref() == Some("PRIMARY") && !key.is_empty() && key == shard.key && key.iter().all(number)
}

/// Asks for that order.
fn order(schema: &TableSchema, shard: &PhysicalTable) -> String {
    match in_key_order(schema, shard) {
        true => format!(" ORDER BY {}", shard.key.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", ")),
        false => String::new(),
    }
}

fn not_kept(table: &TableName, e: arrow::error::ArrowError) -> StoreError {
    StoreError::Damaged {
        object: format!("what was kept of the changes of '{table}'"),
        reason: e.to_string(),
    }
}

/// Batches that were kept, as a stream.
fn kept_stream(
    table: TableName,
    batches: impl Iterator<Item = Result<arrow::array::RecordBatch, arrow::error::ArrowError>> + Send + 'static,
) -> BatchStream {
    stream::iter(batches.map(move |batch| batch.map_err(|e| not_kept(&table, e))))
        .filter(|batch| std::future::ready(!batch.as_ref().is_ok_and(|batch| batch.num_rows() == 0)))
        .boxed()
}
