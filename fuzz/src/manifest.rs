//! Manifests: zstd of JSON.

use crate::{edit, form, seed};
use keepfast_format::{Manifest, ManifestKind, SegmentEntry, WriterProfile};
use keepfast_model::{ByteCount, Digest, Hash256, KeyBytes, ShardId, TableId};
use keepfast_store::sample;

pub(crate) fn run(data: &[u8]) {
    let Some((form, rest)) = form(data) else { return };
    let stored = match form % 3 {
        0 => rest.to_vec(),
        1 => zstd::bulk::compress(rest, 1).unwrap_or_default(),
        _ => edit::edited(example(ManifestKind::Segments, 3), rest),
    };
    let Ok(manifest) = Manifest::decode(&stored) else { return };
    // What is read can be written again, and is then the same.
    let (reference, bytes) = manifest.encode().expect("a manifest that was read can be written");
    let again = Manifest::open(&reference, &bytes).expect("a manifest that was written can be read");
    assert_eq!(again, manifest);
    assert_eq!(again.digest(), manifest.digest());
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![seed(2, &[])];
    for kind in [ManifestKind::Segments, ManifestKind::Changes] {
        for entries in [0, 1, 3] {
            let stored = example(kind, entries);
            let json = zstd::bulk::decompress(&stored, 1 << 20).expect("our own manifest");
            seeds.extend([seed(0, &stored), seed(1, &json)]);
        }
    }
    seeds
}

/// Stored bytes of a manifest with so many entries.
fn example(kind: ManifestKind, entries: u8) -> Vec<u8> {
    let schema = sample::plain();
    let profile = WriterProfile::choose(&schema, &[], 8_192);
    let table = TableId("0123456789abcdef0123456789abcdef".into());
    let number = (kind == ManifestKind::Changes).then_some(1);
    let entry = |n: u8| SegmentEntry {
        id: Hash256([n; 32]),
        stored: Hash256([n + 100; 32]),
        bytes: ByteCount(1_000),
        shard: ShardId("0".into()),
        rows: 10,
        digest: Digest { rows: 10, sum: u128::from(n) },
        min: Some(KeyBytes(vec![1, n])),
        max: Some(KeyBytes(vec![1, n, 9])),
        epoch: 0,
        key: None,
        seq_min: number,
        seq_max: number,
    };
    let page = Manifest::pages(kind, &table, &schema, &profile, (0..entries).map(entry).collect());
    page[0].encode().expect("a manifest").1.to_vec()
}
