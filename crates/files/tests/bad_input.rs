//! Files that are not what they should be give one error that names the place, and never a panic.

use keepfast_files::{ExportOptions, Exporter, FilesError, Format, ImportOptions, open_import, open_imports};
use keepfast_model::{Coded, ColumnType, TableSchema};
use keepfast_store::sample;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The error's text without the folder.
    fn text(&self, error: &FilesError) -> String {
        assert!(!error.next_step().is_empty());
        assert!((750..800).contains(&error.code().0) || error.code().0 < 100, "{error}");
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text:?}");
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// Opens and reads everything; the rows, or the first error.
fn read(paths: &[PathBuf], options: ImportOptions) -> Result<(TableSchema, usize), FilesError> {
    let import = open_imports(paths, options)?;
    let mut rows = import.rows();
    let mut count = 0;
    for batch in rows.by_ref() {
        count += batch?.num_rows();
    }
    assert!(rows.next().is_none());
    Ok((import.schema().clone(), count))
}

fn people() -> TableSchema {
    let columns = vec![
        ("id".into(), ColumnType::Int32, false),
        ("name".into(), ColumnType::Varchar { length: Some(5) }, true),
        ("age".into(), ColumnType::UInt8, true),
    ];
    TableSchema::of(columns, &["id"]).unwrap()
}

fn into_people() -> ImportOptions {
    ImportOptions { schema: Some(people()), ..Default::default() }
}

#[test]
fn errors_of_text_name_file_line_and_column() {
    let folder = Folder::new();
    for (name, text, error) in [
        (
            "a.csv",
            "id,name,age\n1,Jo,25\n2,\"a\nb\",abc\n",
            "a.csv, line 3, column 'age': 'abc' is not a TINYINT UNSIGNED",
        ),
        (
            "a.csv",
            "id,name,age\n1,Johanna,25\n",
            "a.csv, line 2, column 'name': 'Johanna' is longer than VARCHAR(5) holds",
        ),
        (
            "a.csv",
            "id,name,age\n1,Jo,256\n",
            "a.csv, line 2, column 'age': '256' is out of range for TINYINT UNSIGNED",
        ),
        (
            "a.csv",
            "id,name,age\n,Jo,25\n",
            "a.csv, line 2, column 'id': NULL in a column that is part of the key",
        ),
        ("a.csv", "id,name,age\n1,Jo\n", "a.csv, line 2: 2 fields where 3 were expected"),
        ("a.csv", "id,name,age\n1,\"Jo,25\n", "a.csv, line 2: the quote that opens field 2 is not closed"),
        ("a.csv", "id,name,ago\n", "a.csv, line 1: column 'ago' is not one of the table"),
        ("a.csv", "\nid,id\n", "a.csv, line 2: column 'id' stands twice"),
        ("a.csv", "name,age\n", "a.csv, line 1: column 'id' is missing and may not be NULL"),
        ("a.csv", "", "a.csv is empty: it names no columns"),
        (
            "a.jsonl",
            "{\"id\":1}\n\n{\"id\":1,\"age\":-1}",
            "a.jsonl, line 3, column 'age': '-1' is out of range for TINYINT UNSIGNED",
        ),
        ("a.jsonl", "{\"id\":[1]}", "a.jsonl, line 1, column 'id': '[1]' is not an INT"),
        ("a.jsonl", "{\"id\":1.5}", "a.jsonl, line 1, column 'id': '1.5' is not an INT"),
        (
            "a.jsonl",
            "{\"name\":\"x\"}",
            "a.jsonl, line 1, column 'id': NULL in a column that is part of the key",
        ),
        ("a.jsonl", "{\"id\":1,\"id\":2}", "a.jsonl, line 1: column 'id' stands twice"),
        ("a.jsonl", "{\"id\":1,\"x\":2}", "a.jsonl, line 1: column 'x' is not one of the table"),
        ("a.jsonl", "{\"id\":1", "a.jsonl, line 1: expected ',' or '}' at character 8"),
        (
            "a.json",
            "[{\"id\":1}]",
            "a.json, line 1: expected an object, '{' at character 1; write one object a line, without the array around them",
        ),
    ] {
        let path = folder.write(name, text);
        assert_eq!(folder.text(&read(&[path], into_people()).unwrap_err()), error);
    }
    let path = folder.write("a.jsonl", b"{\"id\":1}\n\xff\n");
    assert_eq!(
        folder.text(&read(&[path], into_people()).unwrap_err()),
        "a.jsonl, line 2: byte 1 is not UTF-8"
    );
}

#[test]
fn what_cannot_be_opened_is_refused_by_name() {
    let folder = Folder::new();
    let missing = folder.0.path().join("missing.csv");
    let error = open_import(&missing, ImportOptions::default()).unwrap_err();
    assert!(folder.text(&error).starts_with("cannot read missing.csv: "), "{error}");
    let error =
        open_import(folder.0.path(), ImportOptions { format: Some(Format::Csv), ..Default::default() });
    assert!(error.unwrap_err().to_string().contains("it is not a file"));
    let unknown = folder.write("a.xlsx", "");
    let error = open_import(unknown, ImportOptions::default()).unwrap_err();
    assert_eq!(error.code().to_string(), "KF0751");
    let parquet = folder.write("a.parquet.gz", "");
    assert_eq!(open_import(parquet, ImportOptions::default()).unwrap_err().code().to_string(), "KF0752");
    let gz = folder.write("a.csv.gz", "id,name\n");
    let error = open_import(gz, ImportOptions::default()).unwrap_err();
    assert!(
        folder.text(&error).starts_with("a.csv.gz, line 1: the compressed file is damaged or cut off"),
        "{error}"
    );
}

#[test]
fn a_compressed_file_that_is_cut_off_is_an_error() {
    let folder = Folder::new();
    let schema = sample::plain();
    let rows = sample::batch(&schema, 5000, 1);
    for name in ["t.csv.gz", "t.jsonl.zst"] {
        let path = folder.0.path().join(name);
        let mut exporter = Exporter::create(&path, &schema, &ExportOptions::default()).unwrap();
        exporter.write(&rows).unwrap();
        exporter.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = read(&[path], ImportOptions { schema: Some(schema.clone()), ..Default::default() });
        let text = folder.text(&error.unwrap_err());
        assert!(text.contains("cut off"), "{text}");
    }
}

#[test]
fn keys_of_inferred_tables_must_be_there_and_not_null() {
    let folder = Folder::new();
    let keyed = |key: &[&str]| ImportOptions {
        key: key.iter().map(|k| (*k).to_owned()).collect(),
        ..Default::default()
    };
    let path = folder.write("a.csv", "id,note\n1,\n2,x\n");
    let (schema, rows) = read(std::slice::from_ref(&path), keyed(&["ID"])).unwrap();
    assert_eq!((schema.key_names(), rows), (vec!["id"], 2));
    assert!(!schema.columns[0].nullable && schema.columns[1].nullable);
    for (key, error) in [
        (&["note"][..], "a.csv, line 2, column 'note': NULL in a column that is part of the key"),
        (&["x"], "a.csv: column 'x' is named as key but is not in the file"),
        (&["id", "ID"], "a.csv: column 'ID' stands twice in the key"),
    ] {
        assert_eq!(folder.text(&read(std::slice::from_ref(&path), keyed(key)).unwrap_err()), error);
    }
    let path = folder.write("a.jsonl", "{\"a\":1,\"l\":[1]}\n{\"l\":[]}\n");
    let error = folder.text(&read(std::slice::from_ref(&path), keyed(&["a"])).unwrap_err());
    assert_eq!(error, "a.jsonl, line 2, column 'a': NULL in a column that is part of the key");
    let error = folder.text(&read(&[path], keyed(&["l"])).unwrap_err());
    assert_eq!(error, "a.jsonl: column 'l' holds lists or JSON and cannot be a key");
}

#[test]
fn several_files_are_one_table_or_name_file_and_column() {
    let folder = Folder::new();
    let a = folder.write("a.csv", "id,note\n1,x\n");
    let b = folder.write("b.csv", "note,id\n,3000000000\n");
    let (schema, rows) = read(&[a.clone(), b], ImportOptions::default()).unwrap();
    assert_eq!(rows, 2);
    assert_eq!(schema.columns[0].column_type, ColumnType::Int64);
    assert!(!schema.columns[0].nullable && schema.columns[1].nullable);
    let c = folder.write("c.csv", "id,other\n1,x\n");
    let error = folder.text(&read(&[a.clone(), c], ImportOptions::default()).unwrap_err());
    assert!(
        error.starts_with("c.csv: column 'other' is new, unlike ") && error.ends_with("a.csv"),
        "{error}"
    );
    let d = folder.write("d.csv", "id\n1\n");
    let error = folder.text(&read(&[a, d], ImportOptions::default()).unwrap_err());
    assert!(error.starts_with("d.csv: column 'note' is missing, unlike "), "{error}");

    let x = folder.write("x.jsonl", "{\"a\":1}\n");
    let y = folder.write("y.jsonl", "{\"b\":true,\"a\":1.5}\n");
    let (schema, rows) = read(&[x, y], ImportOptions::default()).unwrap();
    assert_eq!(rows, 2);
    let types: Vec<String> =
        schema.columns.iter().map(|c| format!("{} {}", c.column_type, c.nullable)).collect();
    assert_eq!(types, ["decimal(18,1) false", "boolean true"]);

    let parquet = |name: &str, schema: &TableSchema| {
        let path = folder.0.path().join(name);
        let mut exporter = Exporter::create(&path, schema, &ExportOptions::default()).unwrap();
        exporter.write(&sample::batch(schema, 3, 1)).unwrap();
        exporter.finish().unwrap();
        path
    };
    let p = parquet("p.parquet", &people());
    let mut other = people();
    other.columns[2].column_type = ColumnType::Text;
    let q = parquet("q.parquet", &other);
    let error = folder.text(&read(&[p.clone(), q], ImportOptions::default()).unwrap_err());
    assert!(error.starts_with("q.parquet: column 'age' is TEXT, not TINYINT UNSIGNED, unlike "), "{error}");
    // Beside Parquet, text is read as Parquet's columns.
    let csv = folder.write("p.csv", "id,age,name\n77,1,\n");
    let (schema, rows) = read(&[csv, p], ImportOptions::default()).unwrap();
    assert_eq!((schema, rows), (people(), 4));
}

#[test]
fn parquet_of_other_types_is_converted_exactly_or_refused_with_its_row() {
    use arrow::array::*;
    use parquet::arrow::ArrowWriter;
    use std::sync::Arc;
    let folder = Folder::new();
    let parquet = |columns: Vec<(&str, ArrayRef)>| {
        let path = folder.0.path().join("t.parquet");
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        let mut writer =
            ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    };
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let path = parquet(vec![
        ("age", Arc::new(StringViewArray::from(vec![Some("5"), None, Some("6.0")]))),
        ("id", ids.clone()),
    ]);
    assert_eq!(read(&[path], into_people()).unwrap().1, 3);
    for (column, array, error) in [
        (
            "age",
            Arc::new(Int64Array::from(vec![1, 2, 256])) as ArrayRef,
            "t.parquet, row 3, column 'age': 256 is refused, it does not fit TINYINT UNSIGNED",
        ),
        (
            "age",
            Arc::new(StringArray::from(vec!["1", "x", "2"])),
            "t.parquet, row 2, column 'age': 'x' is not a TINYINT UNSIGNED",
        ),
        (
            "name",
            Arc::new(StringArray::from(vec!["1", "Johanna", "2"])),
            "t.parquet, row 2, column 'name': 'Johanna' is refused, 7 characters do not fit VARCHAR(5)",
        ),
        (
            "name",
            Arc::new(StructArray::from(vec![(
                Arc::new(arrow::datatypes::Field::new("a", arrow::datatypes::DataType::Int64, true)),
                ids.clone(),
            )])),
            "t.parquet: column 'name' has type ",
        ),
        ("other", ids.clone(), "t.parquet: column 'other' is not one of the table"),
    ] {
        let path = parquet(vec![("id", ids.clone()), (column, array)]);
        let text = folder.text(&read(&[path], into_people()).unwrap_err());
        assert!(text.starts_with(error), "{text}");
    }
    let path = parquet(vec![("id", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef)]);
    let error = folder.text(&read(&[path], into_people()).unwrap_err());
    assert_eq!(error, "t.parquet, row 2, column 'id': NULL in a column that is part of the key");
    let path = parquet(vec![("at", Arc::new(TimestampNanosecondArray::from(vec![1000, 1001])) as ArrayRef)]);
    let error = folder.text(&read(&[path], ImportOptions::default()).unwrap_err());
    assert!(error.ends_with("cannot be held exactly by TIMESTAMP"), "{error}");
    assert!(error.starts_with("t.parquet, row 2, column 'at': "), "{error}");
    let path = parquet(vec![(
        "s",
        Arc::new(StructArray::from(vec![(
            Arc::new(arrow::datatypes::Field::new("a", arrow::datatypes::DataType::Int64, true)),
            ids,
        )])) as ArrayRef,
    )]);
    let error = read(&[path], ImportOptions::default()).unwrap_err();
    assert_eq!(error.code().to_string(), "KF0758");
}

#[test]
fn nothing_half_written_gets_the_name() {
    let folder = Folder::new();
    let schema = sample::plain();
    let rows = sample::batch(&schema, 10, 1);
    for name in ["t.csv", "t.jsonl", "t.parquet"] {
        let path = folder.0.path().join(name);
        let mut exporter = Exporter::create(&path, &schema, &ExportOptions::default()).unwrap();
        exporter.write(&rows).unwrap();
        assert!(!path.exists());
        drop(exporter);
        assert_eq!(folder.0.path().read_dir().unwrap().count(), 0);

        let late = Exporter::create(&path, &schema, &ExportOptions::default()).unwrap();
        fs::write(&path, "mine").unwrap();
        assert_eq!(late.finish().unwrap_err().code().to_string(), "KF0760");
        let error = Exporter::create(&path, &schema, &ExportOptions::default()).unwrap_err();
        assert_eq!(folder.text(&error), format!("{name} exists already"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let over = ExportOptions { overwrite: true, ..Default::default() };
        Exporter::create(&path, &schema, &over).unwrap().finish().unwrap();
        assert_ne!(fs::read(&path).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();
        assert_eq!(folder.0.path().read_dir().unwrap().count(), 0);
    }
    let error = Exporter::create(folder.0.path().join("no/where.csv"), &schema, &ExportOptions::default());
    assert_eq!(error.unwrap_err().code().to_string(), "KF0750");
    let wrong = sample::batch(&sample::bag(), 1, 1);
    for name in ["t.csv", "t.parquet"] {
        let path = folder.0.path().join(name);
        let mut exporter = Exporter::create(path, &schema, &ExportOptions::default()).unwrap();
        assert_eq!(exporter.write(&wrong).unwrap_err().code().to_string(), "KF0004");
    }
}

/// Bytes that often look like something.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"id,name,age\n"[..]),
        Just(&b"{\"id\":1,\"name\":\"x\"}\n"[..]),
        Just(&b"PAR1"[..]),
        Just(&b"\""[..]),
        Just(&b","[..]),
        Just(&b"\n"[..]),
        Just(&b"\r"[..]),
        Just(&b"1"[..]),
        Just(&b"{"[..]),
        Just(&b"[["[..]),
        Just(&b":"[..]),
        Just(&b"\\ud800"[..]),
        Just(&b"\xff\x00"[..]),
        Just(&b"2024-02-30T25"[..]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|p| p.concat())
}

const NAMES: [&str; 5] = ["r.csv", "r.jsonl", "r.parquet", "r.csv.gz", "r.jsonl.zst"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_rows_or_one_error(bytes in prop_oneof![bytes(), prop::collection::vec(any::<u8>(), 0..200)]) {
        let folder = Folder::new();
        for name in NAMES {
            let path = folder.write(name, &bytes);
            for options in [ImportOptions::default(), into_people(), ImportOptions { header: false, ..Default::default() }] {
                if let Err(error) = read(std::slice::from_ref(&path), options) {
                    folder.text(&error);
                }
            }
        }
    }

    #[test]
    fn damaged_files_are_rows_or_one_error(
        seed in any::<u64>(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = Folder::new();
        let schema = sample::schema_of(&sample::all_types());
        for name in NAMES {
            let path = folder.0.path().join(name);
            let options = ExportOptions { overwrite: true, ..Default::default() };
            let mut exporter = Exporter::create(&path, &schema, &options).unwrap();
            // Without the longest values the file's structure is hit more often.
            exporter.write(&sample::rows(&schema, 32..52, seed)).unwrap();
            exporter.finish().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            for (at, byte) in &hits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            fs::write(&path, bytes).unwrap();
            for options in [ImportOptions::default(), ImportOptions { schema: Some(schema.clone()), ..Default::default() }] {
                if let Err(error) = read(std::slice::from_ref(&path), options) {
                    folder.text(&error);
                }
            }
        }
    }
}

#[test]
fn a_parquet_footer_that_states_more_than_it_holds_is_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    // Version 1, a schema of one root, no rows, and two thousand million row groups.
    let footer = [
        &[0x15, 0x02, 0x19, 0x1c, 0x48, 0x01, b'r', 0x15, 0x00, 0x00, 0x16, 0x00, 0x19, 0xfc][..],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0; 20],
    ]
    .concat();
    let file = [b"PAR1", footer.as_slice(), &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
    std::fs::write(&path, file).unwrap();
    let error = read(&[path], ImportOptions::default()).unwrap_err();
    assert!(
        matches!(error, FilesError::Parquet { .. }) && error.to_string().contains("more entries"),
        "{error}"
    );
}

#[test]
fn a_parquet_page_whose_header_is_not_one_is_refused_before_it_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let schema = sample::plain();
    let mut exporter = Exporter::create(&path, &schema, &ExportOptions::default()).unwrap();
    exporter.write(&sample::batch(&schema, 10, 1)).unwrap();
    exporter.finish().unwrap();
    let mut file = std::fs::read(&path).unwrap();
    read(std::slice::from_ref(&path), ImportOptions::default()).unwrap();
    // The first field of the first header, behind the file's four letters, becomes a list of 2^31 entries.
    file[4..10].copy_from_slice(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff]);
    std::fs::write(&path, file).unwrap();
    let error = read(&[path], ImportOptions::default()).unwrap_err();
    assert!(
        matches!(error, FilesError::Parquet { .. }) && error.to_string().contains("another kind"),
        "{error}"
    );
}
