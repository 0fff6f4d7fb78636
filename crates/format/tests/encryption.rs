//! Encrypted files: they come back exactly, tell nothing without their keys, and stand in no other's place.

mod support;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use keepfast_format::{
    ChangeWriter, Chunk, EncodedSegment, FileKeys, FormatError, IdentityKey, Manifest, ManifestKind,
    Protection, SegmentFile, SegmentWriter, WriterProfile, read_changes, read_segment,
};
use keepfast_keys::{Cost, KeyError, Keyring, NewRecipient, Passphrase, SystemRandom, TableKey};
use keepfast_model::change::change_schema;
use keepfast_model::{ColumnId, ColumnType, Encryption, ShardId, TableId, TableSchema};
use std::sync::Arc;
use support::{Value, batch, chunk};

const PLANTED: &str = "planted-value-in-a-row";

fn schema() -> TableSchema {
    let columns = vec![
        ("id".to_owned(), ColumnType::Int64, false),
        ("planted_column".to_owned(), ColumnType::Text, true),
        ("open_column".to_owned(), ColumnType::Text, true),
    ];
    TableSchema::of(columns, &["id"]).unwrap()
}

fn rows(schema: &TableSchema) -> RecordBatch {
    let rows: Vec<Vec<Value>> = (0..100)
        .map(|i| {
            vec![Value::Int(i), Value::Text(format!("{PLANTED} {i}")), Value::Text(format!("open-value {i}"))]
        })
        .collect();
    batch(&schema.physical(), &rows)
}

/// Each of the rows put, one after the other.
fn puts(schema: &TableSchema) -> RecordBatch {
    let rows: Vec<Vec<Value>> = (0..100)
        .map(|i| {
            vec![
                Value::Int(0),
                Value::Int(i),
                Value::Text("0".into()),
                Value::Null,
                Value::Int(0),
                Value::Null,
                Value::Null,
                Value::Int(i),
                Value::Text(format!("{PLANTED} {i}")),
                Value::Null,
            ]
        })
        .collect();
    batch(&change_schema(schema), &rows)
}

fn keyring(encryption: &Encryption) -> Keyring {
    let phrase = NewRecipient::Passphrase(Passphrase::new("phrase".into()), Cost::TRIVIAL);
    let keyring = Keyring::create("vault", 2, &"00".repeat(32), "a", &phrase, &SystemRandom).unwrap();
    keyring.with_table(3, &table(), encryption, &SystemRandom).unwrap()
}

fn table() -> TableId {
    TableId("0123456789abcdef0123456789abcdef".into())
}

fn protection(key: &Arc<TableKey>) -> Protection {
    Protection::encrypted(table(), IdentityKey::new([7; 32]), key.clone(), Arc::new(SystemRandom))
}

fn encoded(schema: &TableSchema, key: &Arc<TableKey>) -> EncodedSegment {
    let profile = Arc::new(WriterProfile::choose(schema, &[], 64));
    let writer = SegmentWriter::new(Arc::new(schema.clone()), profile, protection(key));
    let chunk: Chunk = chunk(schema, vec![rows(schema)]);
    writer.encode(writer.identity(&chunk).unwrap(), &ShardId("0".into()), &chunk).unwrap()
}

fn opened(segment: &EncodedSegment, key: &TableKey) -> Result<SegmentFile, FormatError> {
    let wrapped = segment.entry.key.as_deref().expect("an encrypted file has keys");
    let keys = FileKeys::open(key, &table(), segment.entry.id, wrapped)?;
    Ok(SegmentFile { bytes: segment.bytes.clone(), keys: Some(keys) })
}

fn read(file: impl Into<SegmentFile>, columns: Option<&[ColumnId]>) -> Result<RecordBatch, FormatError> {
    let batches = read_segment(file, &schema(), columns, 1_000)?;
    let of = batches.schema();
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&of, &batches).unwrap())
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

fn modes() -> [Encryption; 2] {
    [Encryption::Full, Encryption::Columns { columns: vec![ColumnId(2)] }]
}

#[test]
fn rows_come_back_with_their_keys_and_only_with_them() {
    let schema = schema();
    for mode in modes() {
        let keyring = keyring(&mode);
        let key = keyring.table(&table()).unwrap();
        let segment = encoded(&schema, key);
        assert_eq!(read(opened(&segment, key).unwrap(), None).unwrap(), rows(&schema), "{mode:?}");
        let other = Keyring::clone(&self::keyring(&mode));
        let error = opened(&segment, other.table(&table()).unwrap()).unwrap_err();
        assert!(matches!(error, FormatError::Keys(KeyError::Sealed)), "{error}");
        let secret = [ColumnId(2)];
        assert!(read(segment.bytes.clone(), Some(&secret)).is_err(), "{mode:?}: without a key");
    }
}

#[test]
fn open_columns_are_read_without_keys_and_nothing_of_a_secret_one_is_in_the_file() {
    let schema = schema();
    let [full, columns] = modes();
    let segment = encoded(&schema, keyring(&columns).table(&table()).unwrap());
    assert!(!holds(&segment.bytes, PLANTED));
    let open = read(segment.bytes.clone(), Some(&[ColumnId(1), ColumnId(3)])).unwrap();
    assert_eq!(open, rows(&schema).project(&[0, 2]).unwrap());
    let segment = encoded(&schema, keyring(&full).table(&table()).unwrap());
    for text in [PLANTED, "open-value", "planted_column", "open_column"] {
        assert!(!holds(&segment.bytes, text), "{text}");
    }
    assert!(read(segment.bytes, Some(&[ColumnId(1)])).is_err());
}

#[test]
fn equal_rows_have_one_identity_under_one_key_and_other_bytes_each_time() {
    let schema = schema();
    for mode in modes() {
        let keyring = keyring(&mode);
        let key = keyring.table(&table()).unwrap();
        let (one, two) = (encoded(&schema, key), encoded(&schema, key));
        assert_eq!(one.entry.id, two.entry.id);
        assert_ne!(one.entry.stored, two.entry.stored);
        let other = encoded(&schema, self::keyring(&mode).table(&table()).unwrap());
        assert_ne!(one.entry.id, other.entry.id, "another key is another domain");
    }
}

#[test]
fn no_byte_of_an_encrypted_file_can_be_changed_unseen() {
    let schema = schema();
    let expected = rows(&schema);
    let secret = [ColumnId(2)];
    for mode in modes() {
        let keyring = keyring(&mode);
        let key = keyring.table(&table()).unwrap();
        let segment = encoded(&schema, key);
        let whole = opened(&segment, key).unwrap();
        // What lies in clear is guarded by the file's hash, which its manifest states.
        let (columns, guarded) = match mode {
            Encryption::Columns { .. } => (Some(&secret[..]), expected.project(&[1]).unwrap()),
            _ => (None, expected.clone()),
        };
        let read = |file: SegmentFile| read(file, columns);
        assert_eq!(read(whole.clone()).unwrap(), guarded);
        let (mut harmless, mut refused) = (0, 0);
        for at in 0..segment.bytes.len() {
            let mut bytes = segment.bytes.to_vec();
            bytes[at] ^= 0x40;
            match read(SegmentFile { bytes: bytes.into(), keys: whole.keys.clone() }) {
                Err(_) => refused += 1,
                Ok(found) => {
                    assert_eq!(found, guarded, "{mode:?}: byte {at} changed what was read");
                    harmless += 1;
                }
            }
        }
        eprintln!(
            "COUNT {} flipped bytes: {mode:?}, {refused} refused, {harmless} without any effect",
            segment.bytes.len()
        );
        // The frame's first magic is read by nobody, and lengths stand before modules that are found by the footer. Of a file with
        // open columns, those are not read.
        let most = if columns.is_some() { segment.bytes.len() * 3 / 4 } else { 64 };
        assert!(harmless < most, "{mode:?}: {harmless}");
    }
}

#[test]
fn a_file_stands_in_no_other_files_place() {
    let schema = schema();
    for mode in modes() {
        let keyring = keyring(&mode);
        let key = keyring.table(&table()).unwrap();
        let profile = Arc::new(WriterProfile::choose(&schema, &[], 64));
        let writer = SegmentWriter::new(Arc::new(schema.clone()), profile, protection(key));
        let [one, two] = [0, 50].map(|from| {
            let chunk = chunk(&schema, vec![rows(&schema).slice(from, 50)]);
            writer.encode(writer.identity(&chunk).unwrap(), &ShardId("0".into()), &chunk).unwrap()
        });
        let keys = opened(&one, key).unwrap().keys;
        assert!(read(SegmentFile { bytes: two.bytes.clone(), keys }, None).is_err(), "bytes swapped");
        let wrapped = two.entry.key.as_deref().unwrap();
        assert!(FileKeys::open(key, &table(), one.entry.id, wrapped).is_err(), "keys swapped");
        assert!(
            FileKeys::open(key, &TableId("other".into()), two.entry.id, wrapped).is_err(),
            "table swapped"
        );
    }
}

#[test]
fn without_a_columns_key_the_others_are_read_and_that_one_never() {
    let schema = schema();
    let keyring = keyring(&modes()[1]);
    let segment = encoded(&schema, keyring.table(&table()).unwrap());
    let dropped = keyring.shredded(4, &table(), Some(ColumnId(2))).unwrap();
    let file = opened(&segment, dropped.table(&table()).unwrap()).unwrap();
    let open = read(file.clone(), Some(&[ColumnId(1), ColumnId(3)])).unwrap();
    assert_eq!(open, rows(&schema).project(&[0, 2]).unwrap());
    let error = read(file, None).unwrap_err();
    assert!(
        matches!(&error, FormatError::Keys(KeyError::Shredded { what }) if what.contains("planted_column")),
        "{error}"
    );
    // A new key for the column does not bring back what the old one encrypted.
    let again = dropped.with_table(5, &table(), &modes()[1], &SystemRandom).unwrap();
    let file = opened(&segment, again.table(&table()).unwrap()).unwrap();
    assert!(matches!(read(file, None), Err(FormatError::Keys(KeyError::Shredded { .. }))));
}

#[test]
fn changes_come_back_and_tell_nothing_of_secret_columns() {
    let schema = schema();
    for mode in modes() {
        let keyring = keyring(&mode);
        let key = keyring.table(&table()).unwrap();
        let profile = Arc::new(WriterProfile::choose(&schema, &[], 64));
        let mut writer = ChangeWriter::new(Arc::new(schema.clone()), profile, protection(key));
        let changes = puts(&schema);
        let mut segments = writer.push(changes.clone()).unwrap();
        segments.extend(writer.finish().unwrap());
        let [segment] = segments.as_slice() else { panic!("one shard, one segment") };
        assert!(!holds(&segment.bytes, PLANTED), "{mode:?}");
        let back: Vec<_> = read_changes(opened(segment, key).unwrap(), &schema, 1_000)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(back, [changes]);
    }
}

#[test]
fn a_sealed_manifest_opens_with_its_key_under_its_name_only() {
    let schema = schema();
    let keyring = keyring(&Encryption::Full);
    let key = keyring.table(&table()).unwrap();
    let segment = encoded(&schema, key);
    let profile = WriterProfile::choose(&schema, &[], 64);
    let manifest =
        Manifest::pages(ManifestKind::Segments, &table(), &schema, &profile, vec![segment.entry]).remove(0);
    let (reference, bytes) = manifest.encode_sealed(key.table(), keyring.dedup(), &SystemRandom).unwrap();
    assert!(!holds(&bytes, "planted_column"));
    assert_eq!(Manifest::sealed_for(&bytes), Some(table()));
    let (found, name) = Manifest::decode_sealed(&bytes, key.table(), keyring.dedup()).unwrap();
    assert_eq!((found, name), (manifest.clone(), reference.id));
    // The same list has the same name again, in other bytes.
    let (again, other) = manifest.encode_sealed(key.table(), keyring.dedup(), &SystemRandom).unwrap();
    assert_eq!(again.id, reference.id);
    assert_ne!(other, bytes);
    assert!(Manifest::decode(&bytes).is_err());
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert!(Manifest::decode_sealed(&changed, key.table(), keyring.dedup()).is_err(), "byte {at}");
    }
}
