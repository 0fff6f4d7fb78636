//! Ctrl-C ends cleanly with exit code 4, and the same command run again goes on.

use crate::run::{Folder, Run, files_under};
use std::process::Command;
use std::time::{Duration, Instant};

/// Waits until a command has written this many segments; false when it ended before.
fn wait_for_segments(folder: &Folder, child: &mut std::process::Child, wanted: usize) -> bool {
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        let segments = files_under(&folder.join("keepfast-data/vault/tables"))
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "parquet"))
            .count();
        if segments >= wanted {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

fn interrupt(child: &std::process::Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn an_interrupted_backup_commits_nothing_and_goes_on_when_run_again() {
    let folder = Folder::new();
    folder.sql(
        "CREATE TABLE big (id BIGINT PRIMARY KEY, a TEXT, b TEXT);
         INSERT INTO big SELECT value, md5(CAST(value AS TEXT)), md5(CAST(value + 1 AS TEXT)) FROM generate_series(1, 400000)",
    );
    let backup = ["backup", "big", "--to", "b", "--threads", "1", "--segment-rows", "1024"];
    let mut child = folder.command(&backup).spawn().unwrap();
    assert!(wait_for_segments(&folder, &mut child, 3), "the backup ended before it could be interrupted");
    interrupt(&child);
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, 4, "{run:?}");
    run.assert_error();
    assert!(run.err.contains("same command"), "{run:?}");
    assert_eq!(run.out, "");
    assert!(files_under(&folder.join("keepfast-data/vault/log")).is_empty());

    let run = folder.run(&backup);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("going on") && run.out.contains("b@1"), "{run:?}");
    assert_eq!(folder.value("SELECT count(*) FROM backup('b', 'big')"), 400_000);
    folder.ok(&["verify", "b", "--level", "compare"]);
}

#[test]
fn an_interrupted_backup_goes_on_with_other_options_and_takes_only_what_fits_them() {
    let folder = Folder::new();
    folder.sql(
        "CREATE TABLE big (id BIGINT PRIMARY KEY, a TEXT, b TEXT);
         INSERT INTO big SELECT value, md5(CAST(value AS TEXT)), md5(CAST(value + 1 AS TEXT)) FROM generate_series(1, 1000000)",
    );
    for (name, first, then) in [
        (
            "threads",
            ["--threads", "1", "--segment-rows", "1024"],
            ["--threads", "3", "--segment-rows", "1024"],
        ),
        (
            "segments",
            ["--threads", "2", "--segment-rows", "1024"],
            ["--threads", "2", "--segment-rows", "8192"],
        ),
    ] {
        let _ = std::fs::remove_dir_all(folder.join("keepfast-data/vault"));
        let backup = |options: [&'static str; 4]| [&["backup", "big", "--to", name][..], &options].concat();
        let mut child = folder.command(&backup(first)).spawn().unwrap();
        let staged = folder.join("keepfast-data/vault/staging");
        let until = Instant::now() + Duration::from_secs(120);
        // The plan and some tasks that are done.
        while files_under(&staged).len() < 4 && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "no task was done");
            std::thread::sleep(Duration::from_millis(2));
        }
        interrupt(&child);
        assert_eq!(
            Run::of(child.wait_with_output().unwrap()).code,
            4,
            "{name}: it ended before it was interrupted"
        );
        let mut again = backup(then);
        again.push("--json");
        let run = folder.run(&again);
        assert_eq!(run.code, 0, "{name}: {run:?}");
        let whole = folder.json(&[&["backup", "big", "--to", "whole", "--mode", "full"][..], &then].concat());
        let resumed = crate::run::document(&run.out);
        for what in ["rows", "digest", "segments"] {
            assert_eq!(resumed["tables"][0][what], whole["tables"][0][what], "{name}: {what}");
        }
        folder.ok(&["verify", name, "--level", "compare"]);
    }
}

#[test]
fn an_interrupted_query_ends_with_4() {
    let folder = Folder::new();
    let child = folder
        .command(&[
            "query",
            "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b",
        ])
        .spawn()
        .unwrap();
    // The program listens before it runs anything; a second is ample for it to begin.
    std::thread::sleep(Duration::from_secs(1));
    interrupt(&child);
    let began = Instant::now();
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, 4, "{run:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "it ended late");
}
