//! Whatever the bytes are, reading them gives rows or an error.

mod support;

use bytes::Bytes;
use keepfast_format::{FormatError, WriterProfile, read_segment};
use keepfast_model::{Coded, Hash256, ShardId, TableSchema};
use proptest::prelude::*;
use std::sync::LazyLock;
use support::*;

/// A segment of every type, written in every way.
static SEGMENTS: LazyLock<(TableSchema, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let schema = schema_of(all_types().into_iter().map(|t| (t, true)).collect());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rows: Vec<Row> = (0..50).map(|_| row(&schema).new_tree(&mut runner).unwrap().current()).collect();
    let plain = WriterProfile::choose(&schema, &[], 8);
    let mut dictionary = plain.clone();
    dictionary.columns.iter_mut().for_each(|c| c.dictionary = true);
    let stored = |profile: &WriterProfile| {
        let writer = writer(&schema, profile);
        let chunk = chunk(&schema, vec![batch(&schema.physical(), &rows)]);
        let id = writer.identity(&chunk).unwrap();
        writer.encode(id, &ShardId("0".into()), &chunk).unwrap().bytes.to_vec()
    };
    let segments = vec![stored(&plain), stored(&dictionary)];
    (schema, segments)
});

/// Reads all of it; the number of rows when there was no error.
fn read(bytes: Vec<u8>) -> Result<usize, FormatError> {
    let mut rows = 0;
    for batch in read_segment(Bytes::from(bytes), &SEGMENTS.0, None, 16)? {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

fn quietly<T>(run: impl FnOnce() -> T) -> T {
    static QUIET: LazyLock<()> = LazyLock::new(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // What the decoder asserts is caught; what a test asserts is shown.
            if !info.location().is_some_and(|at| at.file().contains("parquet") || at.file().contains("arrow"))
            {
                loud(info);
            }
        }));
    });
    LazyLock::force(&QUIET);
    run()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn changed_bytes_never_panic(
        which in 0usize..2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = SEGMENTS.1[which].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = quietly(|| read(bytes));
    }

    #[test]
    fn changed_footers_never_panic(which in 0usize..2, at in 8usize..4_000, value in any::<u8>()) {
        let mut bytes = SEGMENTS.1[which].clone();
        let at = bytes.len() - at.min(bytes.len());
        bytes[at] = value;
        let _ = quietly(|| read(bytes));
    }
}

#[test]
fn every_truncation_is_an_error() {
    let whole = &SEGMENTS.1[0];
    assert_eq!(read(whole.clone()).unwrap(), 50);
    for length in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        let error = quietly(|| read(whole[..length].to_vec())).unwrap_err();
        assert_eq!(error.code().to_string(), "KF0101", "{length}: {error}");
    }
    let mut swapped = whole.clone();
    swapped.drain(100..200);
    assert!(quietly(|| read(swapped)).is_err());
}

#[test]
fn other_files_are_not_segments() {
    assert!(read(vec![]).is_err());
    assert!(read(b"PAR1PAR1".to_vec()).is_err());
    assert!(read(vec![0; 1_000]).is_err());
    let mut foreign = Vec::new();
    let (schema, _) = &*SEGMENTS;
    parquet::arrow::ArrowWriter::try_new(&mut foreign, schema.physical(), None).unwrap().close().unwrap();
    assert!(read(foreign).unwrap_err().to_string().contains("not written by keepfast"));
}

#[test]
fn a_newer_format_is_named_as_such() {
    let whole = &SEGMENTS.1[0];
    let needle = b"keepfast.format\x18\x011";
    let at = whole.windows(needle.len()).position(|w| w == needle).unwrap();
    let mut newer = whole.clone();
    newer[at + needle.len() - 1] = b'2';
    let error = read(newer).unwrap_err();
    assert!(matches!(&error, FormatError::NewerFormat { found, known: 1, .. } if found == "2"), "{error}");
}

#[test]
fn damage_names_the_segment() {
    let mut bytes = SEGMENTS.1[0].clone();
    let id = read_segment(Bytes::from(bytes.clone()), &SEGMENTS.0, None, 1).unwrap().identity().unwrap();
    assert_ne!(id, Hash256([0; 32]));
    bytes[4..400].fill(0xff);
    let error = quietly(|| read(bytes)).unwrap_err();
    assert!(error.to_string().contains(&id.to_string()), "{error}");
}
