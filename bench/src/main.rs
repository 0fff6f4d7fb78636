//! The parts of the benchmark that need Rust: its data, and what row hashes alone cost.
//!
//! `bench/compare.py` runs everything else and calls this program; `docs/bench.md` says what is measured and how.

#![allow(clippy::print_stdout, reason = "a command line program talks on stdout")]

use arrow::array::{RecordBatch, RecordBatchReader};
use keepfast_model::{ColumnType, Digest, RowHasher, TableSchema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::error::Error;
use std::fs::File;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tpchgen::generators::LineItemGenerator;
use tpchgen_arrow::LineItemArrow;

const USAGE: &str = "usage: keepfast-bench lineitem SCALE FILE.parquet | digest FILE.parquet | mysql-floor text|binary SQL… < one URL a line";
/// Rows of a batch, as scans give them.
const BATCH: usize = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["lineitem", scale, file] => make_lineitem(scale.parse()?, file),
        ["digest", file] => time_digest(file),
        ["mysql-floor", form @ ("text" | "binary"), sql @ ..] => drain_servers(*form == "binary", sql),
        _ => Err(USAGE.into()),
    }
}

/// Writes TPC-H's lineitem in key order; prints its rows.
fn make_lineitem(scale: f64, path: &str) -> Result<(), Box<dyn Error>> {
    let rows = LineItemArrow::new(LineItemGenerator::new(scale, 1, 1)).with_batch_size(BATCH);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(1 << 18))
        .build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, rows.schema(), Some(properties))?;
    let mut count = 0;
    for batch in rows {
        let batch = batch?;
        count += batch.num_rows();
        writer.write(&batch)?;
    }
    writer.close()?;
    println!("{{\"rows\":{count}}}");
    Ok(())
}

/// Hashes every row of a file; prints what hashing alone took of a processor, reading and decoding left out.
fn time_digest(path: &str) -> Result<(), Box<dyn Error>> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.with_batch_size(BATCH).build()?;
    let schema = lineitem_schema(&reader)?;
    let physical = schema.physical();
    let hasher = RowHasher::new(&schema);
    let (mut digest, mut took, mut bytes) = (Digest::default(), Duration::ZERO, 0);
    for batch in reader {
        let batch = batch?;
        let columns = batch.columns().iter().zip(physical.fields());
        let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
        let batch = RecordBatch::try_new(physical.clone(), columns.collect::<Result<_, _>>()?)?;
        bytes += batch.get_array_memory_size();
        let start = busy();
        let hashes = hasher.hash(&batch)?;
        digest.add_rows(&hashes.rows);
        took += busy() - start;
    }
    let seconds = took.as_secs_f64();
    println!(
        "{{\"rows\":{},\"sum\":\"{:032x}\",\"seconds\":{seconds},\"bytes\":{bytes}}}",
        digest.rows, digest.sum
    );
    Ok(())
}

/// Time this thread has had on a processor (Linux); elsewhere the time since the first call.
fn busy() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = statistics.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn lineitem_schema(reader: &impl RecordBatchReader) -> Result<TableSchema, Box<dyn Error>> {
    let mut columns = Vec::new();
    for field in reader.schema().fields() {
        let column_type = ColumnType::from_arrow(field.data_type())
            .ok_or_else(|| format!("column {} has the unknown type {}", field.name(), field.data_type()))?;
        columns.push((field.name().clone(), column_type, false));
    }
    Ok(TableSchema::of(columns, &["l_orderkey", "l_linenumber"])?)
}

/// Reads the answers of statements from servers, a thread a server, and drops them: what no reader can be faster than. URLs come by
/// standard input, because they have passwords.
fn drain_servers(binary: bool, sql: &[&str]) -> Result<(), Box<dyn Error>> {
    let urls: Vec<String> = std::io::stdin().lines().collect::<Result<_, _>>()?;
    let bytes = std::thread::scope(|threads| {
        let threads: Vec<_> = urls
            .iter()
            .map(|url| {
                threads.spawn(move || -> Result<u64, String> {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let runtime = runtime.map_err(|e| e.to_string())?;
                    runtime.block_on(keepfast_mysql::testing::drain(url, sql, binary))
                })
            })
            .collect();
        let ended =
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a reader panicked".to_owned())?);
        ended.sum::<Result<u64, String>>()
    })?;
    println!("{{\"bytes\":{bytes}}}");
    Ok(())
}
