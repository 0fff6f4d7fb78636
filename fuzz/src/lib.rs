//! What reads bytes from outside, as targets of a fuzzer.
//!
//! A [`Target`] takes any bytes and calls a reader with them; it returns whatever the reader says, and panics when the
//! reader gives an answer that it must not give. That no input panics, aborts, hangs, or takes more memory than
//! [`Target::memory`] is what its callers watch: the coverage-guided driver (`cargo xtask fuzz`), and
//! the test in `fuzz/tests`, which runs every seed and every input that once found a defect.
//!
//! Formats with hashes, seals and compression would stop random bytes at the door. So the first byte of an input
//! chooses a *form*: the bytes as they are, or edited before they are compressed, sealed or framed as a writer would.

mod config;
mod edit;
mod files;
mod keys;
mod manifest;
mod segment;
mod sql;
mod vault;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use keepfast_model::TableSchema;
use keepfast_store::sample;

/// One reader under attack.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its folder in `fuzz/inputs`.
    pub name: &'static str,
    /// Reads the bytes.
    pub run: fn(&[u8]),
    /// Inputs from real writers, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that reading may take beside those of the input.
    pub base_memory: usize,
    /// Bytes that reading may take for each byte of the input.
    pub memory_factor: usize,
}

impl Target {
    /// Bytes that reading an input of this length may take at once.
    pub fn memory(&self, length: usize) -> usize {
        self.base_memory + self.memory_factor * length
    }
}

const MIB: usize = 1 << 20;

/// Parquet's decoder makes room for what the header of a page states: 1,088 MiB at most, and a page at a time.
const PAGES: usize = 1280 * MIB;

/// All targets.
pub const TARGETS: [Target; 10] = [
    // JSON that compresses well may grow up to the limit of a manifest, and is then read into entries.
    Target {
        name: "manifest",
        run: manifest::run,
        seeds: manifest::seeds,
        base_memory: 768 * MIB,
        memory_factor: 64,
    },
    Target {
        name: "segment",
        run: segment::rows,
        seeds: segment::row_seeds,
        base_memory: PAGES,
        memory_factor: 256,
    },
    Target {
        name: "changes",
        run: segment::changes,
        seeds: segment::change_seeds,
        base_memory: PAGES,
        memory_factor: 256,
    },
    Target {
        name: "keys",
        run: vault::keys,
        seeds: vault::key_seeds,
        base_memory: 16 * MIB,
        memory_factor: 64,
    },
    Target {
        name: "log",
        run: vault::log,
        seeds: vault::log_seeds,
        base_memory: 16 * MIB,
        memory_factor: 64,
    },
    Target { name: "sql", run: sql::run, seeds: sql::seeds, base_memory: 64 * MIB, memory_factor: 2048 },
    Target {
        name: "csv",
        run: files::csv,
        seeds: files::csv_seeds,
        base_memory: 64 * MIB,
        memory_factor: 1024,
    },
    Target {
        name: "json",
        run: files::json,
        seeds: files::json_seeds,
        base_memory: 64 * MIB,
        memory_factor: 1024,
    },
    Target {
        name: "parquet",
        run: files::parquet,
        seeds: files::parquet_seeds,
        base_memory: PAGES,
        memory_factor: 256,
    },
    Target {
        name: "config",
        run: config::run,
        seeds: config::seeds,
        base_memory: 16 * MIB,
        memory_factor: 1024,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

/// The form that an input chooses, and the rest of it.
fn form(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(form, rest)| (*form, rest))
}

/// A seed in this form.
fn seed(form: u8, bytes: &[u8]) -> Vec<u8> {
    [&[form], bytes].concat()
}

/// Rows with values of every kind but the huge ones, which alone would fill an input.
fn small_rows(schema: &TableSchema) -> RecordBatch {
    const BYTES_MAX: usize = 2_048;
    let batch = sample::batch(schema, 40, 1);
    let alone =
        |row: u64| take_record_batch(&batch, &UInt64Array::from(vec![row])).expect("a row of the batch");
    let small =
        |row: &u64| alone(*row).columns().iter().all(|column| column.get_array_memory_size() < BYTES_MAX);
    let rows: Vec<u64> = (0..batch.num_rows() as u64).filter(small).collect();
    take_record_batch(&batch, &UInt64Array::from(rows)).expect("rows of the batch")
}
