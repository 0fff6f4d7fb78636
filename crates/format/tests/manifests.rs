//! Manifests are what they say, and nothing else is accepted.

use keepfast_format::{FormatError, Manifest, ManifestKind, SegmentEntry, WriterProfile};
use keepfast_model::{
    ByteCount, Coded, ColumnType, Digest, Hash256, KeyBytes, ManifestRef, ShardId, TableId, TableSchema,
};

fn schema() -> TableSchema {
    TableSchema::of(vec![("id".into(), ColumnType::Int32, false)], &["id"]).unwrap()
}

fn entry(n: u64) -> SegmentEntry {
    SegmentEntry {
        id: Hash256::of(&n.to_le_bytes()),
        stored: Hash256::of(b"stored"),
        bytes: ByteCount(100),
        shard: ShardId("0".into()),
        rows: n,
        digest: Digest { rows: n, sum: u128::from(n) << 64 },
        min: Some(KeyBytes(n.to_be_bytes().to_vec())),
        max: Some(KeyBytes(n.to_be_bytes().to_vec())),
        epoch: 0,
        key: None,
        seq_min: None,
        seq_max: None,
    }
}

fn pages(entries: Vec<SegmentEntry>) -> Vec<Manifest> {
    let table = TableId("t".into());
    Manifest::pages(
        ManifestKind::Segments,
        &table,
        &schema(),
        &WriterProfile::choose(&schema(), &[], 8),
        entries,
    )
}

fn stored(json: &serde_json::Value) -> Vec<u8> {
    zstd::encode_all(serde_json::to_vec(json).unwrap().as_slice(), 1).unwrap()
}

#[test]
fn an_entry_is_written_as_the_format_page_says() {
    let mut one = entry(3);
    one.min = Some(KeyBytes(vec![0x01, 0xab]));
    one.max = Some(KeyBytes(vec![0x01, 0xff]));
    let (id, hash) = (one.id, one.stored);
    assert_eq!(
        serde_json::to_string(&one).unwrap(),
        format!(
            "{{\"id\":\"{id}\",\"stored\":\"{hash}\",\"bytes\":100,\"shard\":\"0\",\"rows\":3,\
             \"digest\":{{\"rows\":3,\"sum\":\"00000000000000030000000000000000\"}},\
             \"min\":\"01ab\",\"max\":\"01ff\",\"epoch\":0,\"key\":null}}"
        )
    );
    assert_eq!(one.file_name(), format!("{id}-{hash}.parquet"));
    (one.min, one.max, one.seq_min, one.seq_max) = (None, None, Some(-1), Some(5));
    let json = serde_json::to_string(&one).unwrap();
    assert!(
        !json.contains("min\":\"")
            && json.ends_with("\"epoch\":0,\"key\":null,\"seq_min\":-1,\"seq_max\":5}")
    );
    assert_eq!(serde_json::from_str::<SegmentEntry>(&json).unwrap(), one);
}

#[test]
fn pages_list_everything_in_order_and_come_back() {
    for n in [0u64, 1, 4_096, 4_097, 10_000] {
        let entries: Vec<SegmentEntry> = (0..n).map(entry).collect();
        let pages = pages(entries.clone());
        assert_eq!(pages.len() as u64, n.div_ceil(4_096).max(1));
        let mut back = Vec::new();
        for page in &pages {
            assert!(page.segments.len() <= 4_096);
            let (reference, bytes) = page.encode().unwrap();
            assert_eq!(reference.rows, page.rows());
            assert_eq!(reference.segments as usize, page.segments.len());
            assert_eq!(reference.stored, Hash256::of(&bytes));
            let read = Manifest::open(&reference, &bytes).unwrap();
            assert_eq!(&read, page);
            assert_eq!(Manifest::decode(&bytes).unwrap(), read);
            back.extend(read.segments);
        }
        assert_eq!(back, entries);
    }
    assert_eq!(pages(vec![entry(2), entry(3)])[0].digest(), Digest { rows: 5, sum: 5 << 64 });
}

#[test]
fn long_keys_make_more_pages() {
    let long = |n| SegmentEntry {
        min: Some(KeyBytes(vec![1; 6 << 20])),
        max: Some(KeyBytes(vec![2; 6 << 20])),
        ..entry(n)
    };
    let pages = pages((0..3).map(long).collect());
    assert_eq!(pages.len(), 3);
    for page in pages {
        let (reference, bytes) = page.encode().unwrap();
        assert_eq!(Manifest::open(&reference, &bytes).unwrap(), page);
    }
}

#[test]
fn equal_lists_have_one_identity_and_others_another() {
    let id = |entries| pages(entries)[0].encode().unwrap().0.id;
    assert_eq!(id(vec![entry(1), entry(2)]), id(vec![entry(1), entry(2)]));
    assert_ne!(id(vec![entry(1), entry(2)]), id(vec![entry(2), entry(1)]));
    let json = serde_json::to_vec(&pages(vec![entry(1)])[0]).unwrap();
    assert_eq!(id(vec![entry(1)]), Hash256::of(&json));
    let members: Vec<String> =
        serde_json::from_slice::<serde_json::Map<_, _>>(&json).unwrap().keys().cloned().collect();
    assert_eq!(members, ["format", "kind", "table", "schema", "profile", "segments"]);
}

#[test]
fn any_changed_byte_is_found() {
    let (reference, bytes) = pages(vec![entry(1), entry(2)])[0].encode().unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0x10;
        assert!(matches!(Manifest::open(&reference, &changed), Err(FormatError::Damaged { .. })));
        // Without a reference it is still an error or a manifest, never a panic.
        let _ = Manifest::decode(&changed);
        assert!(Manifest::decode(&bytes[..at]).is_err());
    }
    let other = ManifestRef { rows: 4, ..reference.clone() };
    assert!(Manifest::open(&other, &bytes).is_err());
    let other = ManifestRef { id: Hash256::of(b"other"), ..reference };
    assert!(Manifest::open(&other, &bytes).unwrap_err().to_string().contains(&other.id.to_string()));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let good = serde_json::to_value(&pages(vec![entry(1)])[0]).unwrap();
    assert!(Manifest::decode(&stored(&good)).is_ok());
    let refused = |pointer: &str, value: serde_json::Value| {
        let mut json = good.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        Manifest::decode(&stored(&json)).unwrap_err()
    };
    for (pointer, value) in [
        ("/segments/0/rows", 2.into()),
        ("/segments/0/max", "00".into()),
        ("/segments/0/max", serde_json::Value::Null),
        ("/segments/0/min", "0".into()),
        ("/segments/0/id", "zz".into()),
        ("/kind", "changes".into()),
        ("/kind", "other".into()),
        ("/schema/columns", serde_json::Value::Array(vec![])),
        ("/format", 0.into()),
        ("/segments", serde_json::Value::Array(vec![good["segments"][0].clone(); 4_097])),
    ] {
        let error = refused(pointer, value);
        assert_eq!(error.code().to_string(), "KF0101", "{pointer}: {error}");
    }
    let newer = refused("/format", 2.into());
    assert!(matches!(newer, FormatError::NewerFormat { .. }), "{newer}");
    let mut unknown = good;
    unknown["later"] = 1.into();
    assert!(Manifest::decode(&stored(&unknown)).is_ok(), "unknown members are ignored");
}

#[test]
fn a_manifest_that_would_fill_memory_is_refused() {
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 300 << 20), 1).unwrap();
    assert!(bomb.len() < 1 << 20);
    let error = Manifest::decode(&bomb).unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[test]
fn the_errors_tell_what_to_do_next() {
    let error = Manifest::decode(b"nothing").unwrap_err();
    assert_eq!(error.code().to_string(), "KF0101");
    assert!(error.next_step().contains("keepfast verify"));
}
