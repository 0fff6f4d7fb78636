//! Memory follows `--memory`, the number of threads and the size of segments, and not the rows of a table.
//!
//! The peak of a process is what the system says of it until it ends.

use crate::run::{Folder, Run};
use std::process::Child;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// The most memory that a process has held so far, in bytes.
fn peak_so_far(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The peak of a command that must succeed with little memory.
fn peak(folder: &Folder, args: &[&str]) -> u64 {
    let bounded = [args, &["--memory", "32MiB", "--threads", "2", "--json"][..]].concat();
    let mut child = folder.command(&bounded).spawn().unwrap();
    let mut peak = 0;
    // What it says is short; it waits for nobody to read it.
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_so_far(&child).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(1));
    }
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{args:?} gave {run:?}");
    assert!(peak > MIB, "{args:?} was not seen");
    peak
}

/// Peaks of a whole life over a table that this query gives.
fn life(rows: &str, change: &str) -> Vec<(&'static str, u64)> {
    let folder = Folder::new();
    folder.sql(&format!("CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO t {rows}"));
    let mut peaks = vec![("backup", peak(&folder, &["backup", "t", "--to", "b"]))];
    folder.sql(change);
    let more: [(&str, &[&str]); 5] = [
        ("incremental", &["backup", "t", "--to", "b", "--mode", "incremental"]),
        ("verify", &["verify", "b", "--level", "compare"]),
        ("restore", &["restore", "t", "--from", "b", "--into", "back"]),
        ("compact", &["compact", "b"]),
        ("prune", &["prune", "b", "--keep-last", "1", "--grace", "0s"]),
    ];
    peaks.extend(more.map(|(name, args)| (name, peak(&folder, args))));
    peaks
}

#[test]
fn eight_times_as_many_rows_take_no_more_memory_than_segments_do() {
    let of = |rows: u64| {
        life(
            &format!("SELECT value, repeat(md5(CAST(value AS TEXT)), 4) FROM generate_series(1, {rows})"),
            "UPDATE t SET v = 'changed' WHERE id % 50 = 0",
        )
    };
    // Segments are larger where there are more rows, and a thread holds some of them; the rows of all take 224 MiB and more.
    let (few, many) = (of(200_000), of(1_600_000));
    let mib = |bytes: u64| bytes / MIB;
    for ((name, few), (_, many)) in few.iter().zip(&many) {
        eprintln!("{name}: {} MiB, of eight times as many rows {} MiB", mib(*few), mib(*many));
    }
    for ((name, few), (_, many)) in few.iter().zip(&many) {
        assert!(
            *many < few + 128 * MIB,
            "{name} took {} MiB, of an eighth of the rows {}",
            mib(*many),
            mib(*few)
        );
        assert!(*many < 256 * MIB, "{name} took {} MiB", mib(*many));
    }
}
