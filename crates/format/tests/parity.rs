//! Parity makes lost files again, within its strength and never beyond it.

use keepfast_format::SegmentEntry;
use keepfast_format::parity::{ALIGNMENT, encode_block, group, restore_block, shard_bytes};
use keepfast_model::{ByteCount, Digest, Hash256, Parity, ShardId};
use proptest::prelude::*;
use std::collections::HashSet;

fn entry(name: u64, bytes: u64) -> SegmentEntry {
    SegmentEntry {
        id: Hash256::of(&name.to_le_bytes()),
        stored: Hash256::of(&[name.to_le_bytes(), bytes.to_le_bytes()].concat()),
        bytes: ByteCount(bytes),
        shard: ShardId("0".into()),
        rows: 1,
        digest: Digest { rows: 1, sum: 0 },
        min: None,
        max: None,
        epoch: 0,
        key: None,
        seq_min: None,
        seq_max: None,
    }
}

fn file(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// All parity files of these files, made in blocks of this size.
fn encode(files: &[Vec<u8>], shards: usize, block: usize) -> Vec<Vec<u8>> {
    let length = shard_bytes(files.iter().map(|f| f.len() as u64)) as usize;
    let mut parity = vec![vec![]; shards];
    for start in (0..length).step_by(block) {
        let size = block.min(length - start);
        let blocks: Vec<&[u8]> =
            files.iter().map(|f| &f[start.min(f.len())..(start + size).min(f.len())]).collect();
        for (whole, piece) in parity.iter_mut().zip(encode_block(&blocks, shards, size).unwrap()) {
            whole.extend(piece);
        }
    }
    parity
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_files_within_the_strength_come_back_and_one_more_does_not(
        sizes in prop::collection::vec(0usize..700, 1..20),
        shards in 1usize..6,
        lost in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let files: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, n)| file(i as u64, *n)).collect();
        let parity = encode(&files, shards, 128);
        prop_assert_eq!(&parity, &encode(&files, shards, 1 << 20), "the block's size must not matter");
        let length = parity[0].len();
        let total = files.len() + shards;
        let lost: HashSet<usize> = lost.iter().map(|i| i.index(total)).collect();
        let members: Vec<Option<&Vec<u8>>> =
            files.iter().enumerate().map(|(i, f)| (!lost.contains(&i)).then_some(f)).collect();
        let kept: Vec<Option<&Vec<u8>>> =
            parity.iter().enumerate().map(|(i, f)| (!lost.contains(&(files.len() + i))).then_some(f)).collect();
        let gone = members.iter().filter(|m| m.is_none()).count();
        match restore_block(&members, &kept, length) {
            Ok(restored) => {
                prop_assert!(lost.len() <= shards || gone == 0);
                prop_assert_eq!(restored.len(), gone);
                for (at, bytes) in restored {
                    prop_assert_eq!(&bytes[..files[at].len()], &files[at][..]);
                }
            }
            Err(_) => prop_assert!(lost.len() > shards && gone > 0),
        }
    }
}

/// Sizes of segments whose ends follow from key hashes: most are short and some are long.
fn sizes(count: u64) -> Vec<u64> {
    (0..count)
        .map(|i| {
            let draw = u64::from_le_bytes(Hash256::of(&i.to_be_bytes()).0[..8].try_into().unwrap());
            let uniform = (draw as f64 + 1.0) / (u64::MAX as f64 + 2.0);
            (64_000.0 * (-uniform.ln()).min(8.0)) as u64 + 400
        })
        .collect()
}

fn parity_bytes(entries: &[SegmentEntry], parity: Parity) -> u64 {
    let groups = group(entries, parity);
    let longest = |g: &Vec<u32>| shard_bytes(g.iter().map(|at| entries[*at as usize].bytes.0));
    groups.iter().map(longest).sum::<u64>() * u64::from(parity.shards)
}

#[test]
fn parity_of_many_segments_costs_about_what_its_name_says() {
    for (text, count) in [("16+2", 2_000), ("10%", 2_000), ("16+2", 200)] {
        let parity: Parity = text.parse().unwrap();
        let entries: Vec<_> = sizes(count).into_iter().enumerate().map(|(i, n)| entry(i as u64, n)).collect();
        let bytes: u64 = entries.iter().map(|e| e.bytes.0).sum();
        let share = parity_bytes(&entries, parity) as f64 / bytes as f64;
        eprintln!(
            "{text} of {count} segments: {:.1} % of their bytes, {:.1} % by name",
            share * 100.0,
            parity.overhead() * 100.0
        );
        let limit = if count >= 2_000 { 1.18 } else { 1.8 };
        assert!(share < parity.overhead() * limit, "{share}");
    }
}

#[test]
fn every_segment_is_in_exactly_one_group_and_a_file_that_stands_twice_once() {
    let mut entries: Vec<_> = sizes(500).into_iter().enumerate().map(|(i, n)| entry(i as u64, n)).collect();
    entries.push(entries[7].clone());
    let parity = Parity { data: 16, shards: 2 };
    let groups = group(&entries, parity);
    let members: Vec<u32> = groups.concat();
    assert_eq!(members.len(), 500);
    assert_eq!(members.iter().collect::<HashSet<_>>().len(), 500);
    assert!(groups.iter().all(|g| (1..=16).contains(&g.len())));
    assert!(group(&[], parity).is_empty());
}

#[test]
fn a_changed_segment_changes_few_groups() {
    let parity = Parity { data: 16, shards: 2 };
    let before: Vec<_> = sizes(2_000).into_iter().enumerate().map(|(i, n)| entry(i as u64, n)).collect();
    let files = |entries: &[SegmentEntry]| -> HashSet<Vec<Hash256>> {
        let hashes = |g: &Vec<u32>| g.iter().map(|at| entries[*at as usize].stored).collect();
        group(entries, parity).iter().map(hashes).collect()
    };
    let old = files(&before);
    // A few bytes more or fewer in twenty segments, as after an update of clustered rows.
    let mut after = before.clone();
    for at in 900..920 {
        after[at] = entry(10_000 + at as u64, before[at].bytes.0 + 13);
    }
    let changed = files(&after).difference(&old).count();
    // One segment more.
    let mut longer = before.clone();
    longer.insert(1_000, entry(77_777, 64_000));
    let inserted = files(&longer).difference(&old).count();
    eprintln!("{} groups; {changed} change with 20 segments, {inserted} with one more", old.len());
    assert!(changed <= 45 && inserted <= 40, "{changed} {inserted}");
}

#[test]
fn the_code_is_the_one_that_the_format_page_describes() {
    // Vaults that stand hold these bytes: a change of library must give the same ones.
    let files: Vec<Vec<u8>> = (0..5).map(|i| file(i, 100 + i as usize * 31)).collect();
    let parity = encode(&files, 3, ALIGNMENT as usize);
    let hash = Hash256::of(&parity.concat());
    assert_eq!(hash.to_string(), "062f745812116fc7f15c118e7754053ac795253de5450271a49038cfd539219d");
    assert_eq!(
        encode(&[vec![7; 64]], 2, 64),
        [vec![7; 64], vec![7; 64]],
        "the parity of one file is that file"
    );
}

#[test]
fn blocks_that_are_no_blocks_are_refused() {
    assert!(encode_block(&[b"x"], 1, 0).is_err());
    assert!(encode_block(&[b"x"], 1, 63).is_err());
    assert!(encode_block(&[vec![0u8; 65]], 1, 64).is_err());
    assert!(encode_block(&Vec::<Vec<u8>>::new(), 1, 64).is_err());
    let none: [Option<&[u8]>; 2] = [None, None];
    assert!(restore_block(&none, &[None], 64).is_err());
}
