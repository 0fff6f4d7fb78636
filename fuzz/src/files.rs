//! Files that somebody imports: CSV, JSON lines, Parquet.

use crate::{edit, form, seed, small_rows};
use keepfast_files::{ExportOptions, Exporter, Format, ImportOptions, open_import};
use keepfast_model::RowHasher;
use keepfast_store::sample;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Where the files stand: in memory where the system has such a folder.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn import(data: &[u8], options: ImportOptions) {
    let mut file = tempfile::NamedTempFile::new_in(folder()).expect("a temporary file");
    file.write_all(data).expect("room for a temporary file");
    let Ok(import) = open_import(file.path(), options) else { return };
    let hasher = RowHasher::new(import.schema());
    for batch in import.rows() {
        let Ok(batch) = batch else { return };
        hasher.digest(&batch).expect("rows of the schema that the import states");
    }
}

pub(crate) fn csv(data: &[u8]) {
    let Some((form, rest)) = form(data) else { return };
    let options = ImportOptions {
        format: Some(Format::Csv),
        header: form & 1 == 0,
        delimiter: (form & 2 != 0).then_some(b';'),
        schema: (form & 4 != 0).then(|| sample::schema_of(&sample::all_types())),
        batch_rows: 64,
        ..ImportOptions::default()
    };
    import(rest, options);
}

pub(crate) fn csv_seeds() -> Vec<Vec<u8>> {
    let plain =
        "id,name,when,price\n1,\"a \"\"b\"\"\nc\",2026-01-01 00:00:00,1.50\n2,,1999-12-31T23:59:59Z,-3\n";
    let mut seeds = vec![seed(0, plain.as_bytes()), seed(1, b"1,2,3\r\n4,5,6\r\n"), seed(2, b"a;b\n1;x\n")];
    seeds.push(seed(4, &exported(Format::Csv)));
    seeds.push(seed(0, &exported(Format::Csv)));
    seeds
}

pub(crate) fn json(data: &[u8]) {
    let Some((form, rest)) = form(data) else { return };
    let options = ImportOptions {
        format: Some(Format::JsonLines),
        schema: (form & 4 != 0).then(|| sample::schema_of(&sample::all_types())),
        batch_rows: 64,
        ..ImportOptions::default()
    };
    import(rest, options);
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let plain = "{\"id\":1,\"l\":[1,null],\"t\":\"\\u00e4\\ud83d\\ude00\",\"x\":1e3}\n{\"id\":2,\"o\":{\"a\":[{}]}}\n";
    let all = exported(Format::JsonLines);
    vec![seed(0, plain.as_bytes()), seed(4, &all), seed(0, &all)]
}

pub(crate) fn parquet(data: &[u8]) {
    static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| exported(Format::Parquet));
    let Some((form, rest)) = form(data) else { return };
    let bytes = match form % 3 {
        0 => rest.to_vec(),
        1 => edit::edited(FILE.clone(), rest),
        _ => edit::footer_edited(&FILE, rest),
    };
    let options = ImportOptions { format: Some(Format::Parquet), batch_rows: 64, ..ImportOptions::default() };
    import(&bytes, options);
}

pub(crate) fn parquet_seeds() -> Vec<Vec<u8>> {
    vec![seed(0, &exported(Format::Parquet)), seed(1, &[]), seed(2, &[])]
}

/// A file of rows of every type.
fn exported(format: Format) -> Vec<u8> {
    let folder = tempfile::tempdir_in(folder()).expect("a temporary folder");
    let path = folder.path().join("all");
    let schema = sample::schema_of(&sample::all_types());
    let options = ExportOptions { format: Some(format), ..ExportOptions::default() };
    let mut exporter = Exporter::create(&path, &schema, &options).expect("a new file");
    exporter.write(&small_rows(&schema)).expect("rows of the schema");
    exporter.finish().expect("a file that was written");
    std::fs::read(&path).expect("a file that was written")
}
