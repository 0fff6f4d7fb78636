//! The server's own word on the content of a cut, found without the decoder that scans use.
//!
//! The server makes a canonical text of each row and its CRC32, and sends both the texts of the columns (in the text protocol; scans
//! use the binary one) and the checksum. This side makes the same text of what arrived and compares; from those texts, and nothing
//! else, it makes the digest of the rows. A digest that agrees with that of the scan is a proof of content: of every value the server's
//! own text, its own checksum, and our value of that text agree with what was scanned.
//!
//! A canonical text joins the columns with commas. NULL is `N`; a value whose text may hold a comma stands behind its length in bytes,
//! and so no two rows that differ have the same text.

use crate::catalog::PhysicalColumn;
use crate::connection::Connection;
use crate::error::failed;
use crate::identity::failed_at;
use crate::names::{full, quoted};
use crate::plan::{Piece, pieces};
use crate::pool::Pool;
use crate::store::{Logical, Server, Shard, Shared};
use crate::texts::Texts;
use crate::wire::WireError;
use futures::stream::{StreamExt, TryStreamExt, iter, unfold};
use keepfast_model::certificate::RangeProof;
use keepfast_model::{Digest, Partition, RowHasher, SourceProof, TableName, TableSchema};
use keepfast_store::{BatchStream, ProofRequest, Result, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;

/// Rows of a table that is always proven whole.
const SMALL: u64 = 100_000;
/// Rows of a partition that is not proven unless everything is.
const LARGE: u64 = 4_000_000;
/// Rows and bytes that are turned into columns at once.
const ROWS: usize = 8192;
const BYTES: usize = 8 << 20;

/// How the text of a column is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    /// What the server makes of the column.
    text: String,
    /// Whether it is a number, a date or the like, which holds no comma.
    plain: bool,
    /// True where the text is not the value: characters that UTF-8 does not have.
    lossy: Option<String>,
}

/// The statement of a canonical text; none for a type that has none.
fn asked(column: &PhysicalColumn) -> Option<Asked> {
    let name = quoted(&column.name);
    let declared = &column.declared;
    let plain = |text: String| Some(Asked { text, plain: true, lossy: None });
    let bytes = |text: String| Some(Asked { text, plain: false, lossy: None });
    match declared.data_type.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal"
            if !declared.column_type.contains("zerofill") =>
        {
            plain(name)
        }
        // The product with one is a double; a text of it has 22 characters at most, which some need more than. JSON has all of them.
        "float" | "double" => {
            plain(format!("IF({name} IS NULL, NULL, CAST(JSON_ARRAY({name} * 1e0) AS CHAR))"))
        }
        "bit" => plain(format!("CAST({name} + 0 AS CHAR)")),
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" | "date" | "time"
        | "datetime" | "timestamp" | "uuid" | "inet4" | "inet6" => plain(format!("CAST({name} AS CHAR)")),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => bytes(name),
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" | "vector" => {
            bytes(format!("CAST({name} AS BINARY)"))
        }
        "json" => bytes(format!("CAST(CAST({name} AS CHAR) AS BINARY)")),
        "enum" | "set" => bytes(format!("CAST(CONVERT({name} USING utf8mb4) AS BINARY)")),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            let collation = column.collation.as_deref()?;
            let charset = collation.split('_').next().unwrap_or(collation);
            if matches!(charset, "utf8mb4" | "utf8mb3" | "utf8" | "ascii") {
                return bytes(format!("CAST({name} AS BINARY)"));
            }
            if !charset.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return None;
            }
            let text = format!("CONVERT({name} USING utf8mb4)");
            let back = format!("CAST(CONVERT({text} USING {charset}) AS BINARY)");
            Some(Asked {
                text: format!("CAST({text} AS BINARY)"),
                plain: false,
                lossy: Some(format!("(NOT {back} <=> CAST({name} AS BINARY))")),
            })
        }
        _ => None,
    }
}

/// The columns of a table as they are asked for.
#[derive(Debug)]
struct Form {
    schema: Arc<TableSchema>,
    plain: Vec<bool>,
    /// What is selected and from where, up to the condition.
    select: String,
}

impl Form {
    /// For one shard; the names of columns that have no canonical text otherwise.
    fn new(schema: &TableSchema, shard: &Shard) -> Result<Self, Vec<String>> {
        let (mut all, mut unknown) = (vec![], vec![]);
        for column in &schema.columns {
            let physical = shard.table.columns.iter().find(|c| c.name == column.name);
            match physical.and_then(asked) {
                Some(asked) => all.push(asked),
                None => unknown.push(column.name.clone()),
            }
        }
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let parts: Vec<String> = all
            .iter()
            .map(|Asked { text, plain, .. }| match plain {
                true => format!("IFNULL({text}, 'N')"),
                false => format!("IFNULL(LENGTH({text}), 'N'), IFNULL({text}, '')"),
            })
            .collect();
        let texts: Vec<&str> = all.iter().map(|a| a.text.as_str()).collect();
        let lossy: Vec<&str> = all.iter().filter_map(|a| a.lossy.as_deref()).collect();
        let lossy = if lossy.is_empty() { "0".to_owned() } else { lossy.join(" + ") };
        Ok(Self {
            schema: Arc::new(schema.clone()),
            plain: all.iter().map(|a| a.plain).collect(),
            select: format!(
                "SELECT {}, CRC32(CONCAT_WS(',', {})), {lossy} FROM {}",
                texts.join(", "),
                parts.join(", "),
                full(&shard.table.database, &shard.table.name)
            ),
        })
    }
}

/// What was found of some rows.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    digest: Digest,
    /// Rows that the server cannot make one text of: they are longer than its longest message.
    long: u64,
    /// Rows with characters that UTF-8 does not have.
    lossy: u64,
}

impl Found {
    fn merge(self, other: Self) -> Self {
        Self {
            digest: self.digest.merge(other.digest),
            long: self.long + other.long,
            lossy: self.lossy + other.lossy,
        }
    }

    /// Why it proves nothing.
    fn hollow(&self) -> Option<String> {
        match (self.long, self.lossy) {
            (0, 0) => None,
            (0, lossy) => Some(format!("{lossy} rows have characters that UTF-8 does not have")),
            (long, _) => Some(format!(
                "{long} rows are longer than the server's max_allowed_packet, and it has no checksum of them"
            )),
        }
    }
}

enum Wrong {
    Wire(WireError),
    Content(String),
}

impl From<WireError> for Wrong {
    fn from(e: WireError) -> Self {
        Self::Wire(e)
    }
}

/// Reads the texts of some rows with the server's checksum of each.
async fn read(session: &mut Connection, form: &Form, condition: &str) -> Result<Found, Wrong> {
    let hasher = RowHasher::new(&form.schema);
    let mut texts = Texts::new(&form.schema);
    let mut found = Found::default();
    let mut canonical = vec![];
    let take = |texts: &mut Texts, found: &mut Found| {
        let batch = texts.finish().map_err(Wrong::Content)?;
        let digest = hasher.digest(&batch).map_err(|e| Wrong::Content(e.to_string()))?;
        found.digest = found.digest.merge(digest);
        Ok::<_, Wrong>(())
    };
    let mut rows = session.texts(&format!("{}{condition}", form.select)).await?;
    while let Some(mut row) = rows.next().await? {
        canonical.clear();
        for (at, plain) in form.plain.iter().enumerate() {
            let value = row.nullable()?;
            if at > 0 {
                canonical.push(b',');
            }
            match (value, plain) {
                (None, true) => canonical.push(b'N'),
                (None, false) => canonical.extend(b"N,"),
                (Some(value), true) => canonical.extend(value),
                (Some(value), false) => {
                    canonical.extend(format!("{},", value.len()).as_bytes());
                    canonical.extend(value);
                }
            }
            texts.push(at, value).map_err(Wrong::Content)?;
        }
        texts.end_row();
        let stated = row.nullable()?.map(|text| std::str::from_utf8(text).ok()?.parse::<u32>().ok());
        match stated {
            None => found.long += 1,
            Some(stated) if stated == Some(crc32fast::hash(&canonical)) => {}
            Some(_) => {
                return Err(Wrong::Content(
                    "the server's checksum of a row is not that of the texts that it sent".into(),
                ));
            }
        }
        found.lossy += u64::from(row.nullable()?.is_none_or(|text| text != b"0"));
        if !row.is_empty() {
            return Err(WireError::Malformed("a row is longer than its columns").into());
        }
        if texts.rows() >= ROWS || texts.bytes() >= BYTES {
            take(&mut texts, &mut found)?;
        }
    }
    take(&mut texts, &mut found)?;
    Ok(found)
}

/// Reads the texts of ranges of shards, as many at once as there are sessions.
async fn read_all(
    pools: &[Arc<Pool>],
    shared: &Shared,
    logical: &Logical,
    jobs: Vec<(usize, Arc<Form>, Piece)>,
) -> Result<Found> {
    let at_once = shared.sessions * pools.len().max(1);
    let jobs = logical.in_turns(jobs, |(shard, ..)| *shard);
    let reads = jobs.into_iter().map(|(shard, form, piece)| async move {
        let shard = &logical.shards[shard];
        let mut session = pools[shard.server].take().await?;
        let found = read(session.connection(), &form, &piece.condition()).await;
        let found = found.map_err(|e| wrong(shard, &shared.servers[shard.server], e))?;
        let address = &shared.servers[shard.server].address;
        session.done().await.map_err(|e| failed("prove the content", address, e))?;
        Ok::<_, StoreError>(found)
    });
    iter(reads)
        .buffer_unordered(at_once)
        .try_fold(Found::default(), |all, found| async move { Ok(all.merge(found)) })
        .await
}

fn wrong(shard: &Shard, server: &Server, wrong: Wrong) -> StoreError {
    match wrong {
        Wrong::Wire(WireError::Broken(e)) => {
            StoreError::CutLost { store: server.address.to_string(), reason: e.to_string() }
        }
        Wrong::Wire(e) => failed_at("prove the content", &shard.table, server, e),
        Wrong::Content(reason) => StoreError::Damaged { object: shard.id.0.clone(), reason },
    }
}

/// A count under way, which ends when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Counting(JoinHandle<Result<u64>>);

impl Counting {
    pub fn begin(shared: Arc<Shared>, pools: Vec<Arc<Pool>>, logical: Logical) -> Self {
        Self(tokio::spawn(async move { count(&shared, &pools, &logical).await }))
    }

    pub async fn rows(mut self) -> Result<u64> {
        (&mut self.0).await.unwrap_or_else(|e| {
            let object = "a count of rows".into();
            Err(StoreError::Damaged { object, reason: e.to_string() })
        })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The server's count of a table, and its checksums of what was asked.
pub(crate) async fn prove(
    shared: &Shared,
    pools: &[Arc<Pool>],
    samples: &Samples,
    table: &TableName,
    logical: &Logical,
    request: &ProofRequest,
    counting: Counting,
) -> Result<SourceProof> {
    let counted = "COUNT(*) of each shard, in the snapshot that was read";
    let forms = logical.shards.iter().map(|shard| Form::new(&logical.schema, shard).map(Arc::new));
    let forms: Vec<Arc<Form>> = match forms.collect::<Result<_, _>>() {
        Ok(forms) => forms,
        Err(columns) => {
            let columns: Vec<String> = columns;
            let rows = counting.rows().await?;
            let why = format!("no content, because columns {} have no canonical text", columns.join(", "));
            return Ok(SourceProof { rows, ranges: vec![], method: format!("{counted}; {why}") });
        }
    };
    let sample = || sampled(shared, pools, samples, table, logical, &forms);
    let large = logical.shards.iter().map(|shard| shard.table.rows).sum::<u64>() > SMALL;
    // Beside the count, because one range keeps one processor busy.
    let beside = async {
        match large && !request.full {
            true => sample().await.map(Some),
            false => Ok(None),
        }
    };
    let (rows, said) = tokio::try_join!(counting.rows(), beside)?;
    let only = |why: &str| SourceProof { rows, ranges: vec![], method: format!("{counted}; {why}") };
    if request.full || rows <= SMALL && request.ranges.iter().any(|r| r.is_all()) {
        let mut jobs = vec![];
        let planned = pieces_of_all(shared, pools, logical, shared.sessions as u32).await?;
        for (at, (form, found)) in forms.iter().zip(planned).enumerate() {
            jobs.extend(found.into_iter().map(|piece| (at, form.clone(), piece)));
        }
        let found = read_all(pools, shared, logical, jobs).await?;
        if let Some(why) = found.hollow() {
            return Ok(only(&format!("no content: {why}")));
        }
        let ranges = vec![RangeProof { range: Default::default(), digest: found.digest }];
        return Ok(SourceProof { rows, ranges, method: format!("{counted}, and {BY}, of all rows") });
    }
    let said = match said {
        Some(said) => said,
        None => sample().await?,
    };
    Ok(only(&said))
}

/// How content is proven.
const BY: &str = "CRC32 that the server made of each row's text";

/// Compares the sampled range with its scan; says what that proves.
async fn sampled(
    shared: &Shared,
    pools: &[Arc<Pool>],
    samples: &Samples,
    table: &TableName,
    logical: &Logical,
    forms: &[Arc<Form>],
) -> Result<String> {
    let Some((sample, scanned)) = samples.of(table) else {
        return Ok("no content: no range of a size to be sampled was read whole".into());
    };
    let Some((shard, form)) = logical.shards.get(sample.shard).zip(forms.get(sample.shard)) else {
        return Ok("no content: the sample's shard is not in this cut".into());
    };
    let job = (sample.shard, form.clone(), sample.piece.clone());
    let found = read_all(pools, shared, logical, vec![job]).await?;
    if let Some(why) = found.hollow() {
        return Ok(format!("no content: {why}"));
    }
    compare(&found, scanned, &format!("sampled partition {} in {}", sample.number, shard.id.0))?;
    Ok(format!(
        "{BY}, of {} sampled rows: partition {} of {}",
        scanned.rows, sample.number, sample.partitions
    ))
}

/// Compares the server's texts with what was scanned.
fn compare(found: &Found, scanned: Digest, what: &str) -> Result<()> {
    if found.digest == scanned {
        return Ok(());
    }
    Err(StoreError::Damaged {
        object: what.to_owned(),
        reason: format!(
            "the server's texts have digest {}, and what was scanned has {scanned}",
            found.digest
        ),
    })
}

/// Ranges of each shard that are read side by side, about so many of each.
pub(crate) async fn pieces_of_all(
    shared: &Shared,
    pools: &[Arc<Pool>],
    logical: &Logical,
    each: u32,
) -> Result<Vec<Vec<Piece>>> {
    let shards = logical.in_turns((0..logical.shards.len()).collect(), |at| *at);
    let plans = shards.into_iter().map(|at| async move {
        let shard = &logical.shards[at];
        let server = &shared.servers[shard.server];
        let mut session = pools[shard.server].take().await?;
        let found = pieces(session.connection(), &shard.table, each).await;
        let found = found.map_err(|e| failed_at("plan the reading", &shard.table, server, e))?;
        session.done().await.map_err(|e| failed("plan the reading", &server.address, e))?;
        Ok::<_, StoreError>((at, found))
    });
    let at_once = shared.sessions * pools.len().max(1);
    let mut planned: Vec<_> = iter(plans).buffer_unordered(at_once).try_collect().await?;
    planned.sort_by_key(|(at, _)| *at);
    Ok(planned.into_iter().map(|(_, found)| found).collect())
}

/// The server's count of all rows.
pub(crate) async fn count(shared: &Shared, pools: &[Arc<Pool>], logical: &Logical) -> Result<u64> {
    let counts = logical.in_turns((0..logical.shards.len()).collect(), |at| *at);
    let counts = counts.into_iter().map(|at| async move {
        let shard = &logical.shards[at];
        let sql = format!("SELECT COUNT(*) FROM {}", full(&shard.table.database, &shard.table.name));
        let mut session = pools[shard.server].take().await?;
        let counted = session.connection().rows(&sql).await;
        let server = &shared.servers[shard.server];
        let counted = counted.map_err(|e| failed_at("count the rows", &shard.table, server, e))?;
        session.done().await.map_err(|e| failed("count the rows", &server.address, e))?;
        let text = counted.first().and_then(|row| row.first()?.as_deref());
        let number: Option<u64> = text.and_then(|t| std::str::from_utf8(t).ok()?.parse().ok());
        number.ok_or_else(|| StoreError::Damaged {
            object: shard.id.0.clone(),
            reason: "its count is no number".into(),
        })
    });
    let at_once = shared.sessions * pools.len().max(1);
    iter(counts).buffer_unordered(at_once).try_fold(0, |sum, rows| async move { Ok(sum + rows) }).await
}

/// Of each table one partition, another one in each cut, whose scan is remembered as a digest.
#[derive(Debug)]
pub(crate) struct Samples {
    turn: usize,
    chosen: Arc<Mutex<BTreeMap<TableName, Sample>>>,
}

/// A partition of a plan, and the digest of its scan once that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Its number from 1, of so many.
    number: u32,
    partitions: usize,
    shard: usize,
    piece: Piece,
    scanned: Option<Digest>,
}

impl Samples {
    /// The turn says which partitions are chosen.
    pub fn new(turn: usize) -> Self {
        Self { turn, chosen: Arc::default() }
    }

    fn chosen(&self) -> MutexGuard<'_, BTreeMap<TableName, Sample>> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses one partition of a plan; what was scanned by another plan counts no more.
    pub fn choose(&self, table: &TableName, plan: &[Partition]) {
        let fit: Vec<&Partition> = plan.iter().filter(|p| p.rows_expected <= LARGE).collect();
        let chosen = fit.get(self.turn % fit.len().max(1)).and_then(|partition| {
            let token = &partition.token;
            let shard = token["shard"].as_u64()? as usize;
            let piece = serde_json::from_value(token["piece"].clone()).ok()?;
            let (number, partitions) = (partition.index + 1, plan.len());
            Some(Sample { number, partitions, shard, piece, scanned: None })
        });
        let mut all = self.chosen();
        match chosen {
            Some(sample) => all.insert(table.clone(), sample),
            None => all.remove(table),
        };
    }

    /// Remembers the digest of a scan of all columns that ends, where its partition was chosen.
    pub fn watch(&self, partition: &Partition, schema: &TableSchema, stream: BatchStream) -> BatchStream {
        let (table, index) = (partition.table.clone(), partition.index);
        if self.chosen().get(&table).is_none_or(|sample| sample.number != index + 1) {
            return stream;
        }
        let hasher = RowHasher::new(schema);
        let chosen = self.chosen.clone();
        unfold((stream, Digest::default()), move |(mut stream, mut digest)| {
            let (hasher, chosen, table) = (hasher.clone(), chosen.clone(), table.clone());
            async move {
                let batch = match stream.next().await {
                    Some(Ok(batch)) => batch,
                    Some(Err(e)) => return Some((Err(e), (stream, digest))),
                    None => {
                        let mut chosen = chosen.lock().unwrap_or_else(PoisonError::into_inner);
                        // Another plan may have chosen another one meanwhile.
                        if let Some(sample) = chosen.get_mut(&table).filter(|s| s.number == index + 1) {
                            sample.scanned = Some(digest);
                        }
                        return None;
                    }
                };
                match hasher.digest(&batch) {
                    Ok(more) => digest = digest.merge(more),
                    Err(e) => return Some((Err(e.into()), (stream, digest))),
                }
                Some((Ok(batch), (stream, digest)))
            }
        })
        .boxed()
    }

    /// The sample of a table, where it was scanned to its end.
    fn of(&self, table: &TableName) -> Option<(Sample, Digest)> {
        let sample = self.chosen().get(table)?.clone();
        let scanned = sample.scanned?;
        Some((sample, scanned))
    }
}
