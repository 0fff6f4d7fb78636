//! Prune, hold and release as a user types them.

use crate::run::{Folder, assert_members, files_under};
use std::time::{Duration, Instant};

/// With a backup of this many points, each with other rows.
fn with_points(points: u32) -> Folder {
    give_points(Folder::with_backup(), points)
}

fn give_points(folder: Folder, points: u32) -> Folder {
    for i in 1..points {
        folder.sql(&format!("INSERT INTO example VALUES ({}, 'x', {i})", 10 + i));
        folder.ok(&["backup", "example", "--to", "example_backup", "--mode", "full"]);
    }
    folder
}

fn points(folder: &Folder) -> usize {
    folder.json(&["list", "example_backup"]).as_array().unwrap().len()
}

#[test]
fn a_prune_is_shown_first_and_gives_space_back_after_its_grace() {
    let folder = with_points(4);
    let parquet = || {
        let files = files_under(&folder.join("keepfast-data/vault/tables"));
        files.iter().filter(|f| f.extension().is_some_and(|e| e == "parquet")).count()
    };
    let before = parquet();
    let plan =
        folder.json(&["prune", "example_backup", "--keep-last", "2", "--keep-yearly", "1", "--dry-run"]);
    assert_members(
        &plan,
        &[
            "vault",
            "backup",
            "dry_run",
            "kept",
            "removed",
            "unneeded",
            "orphans",
            "delete_after",
            "deleted",
            "waiting",
            "record",
        ],
    );
    assert_eq!(plan["removed"].as_array().unwrap().len(), 2);
    assert_eq!(plan["kept"][1]["reasons"], serde_json::json!(["newest", "last", "yearly"]));
    assert_eq!(points(&folder), 4, "a plan does nothing");
    assert!(
        folder.ok(&["prune", "example_backup", "--keep-last", "2", "--dry-run"]).contains("nothing was done")
    );
    let done = folder.json(&["prune", "example_backup", "--keep-last", "2"]);
    assert_eq!((&done["dry_run"], &done["record"]), (&false.into(), &5.into()));
    assert_eq!((points(&folder), parquet()), (2, before), "objects wait for their grace");
    folder.ok(&["verify", "example_backup"]);
    let again = folder.json(&["prune", "example_backup", "--keep-last", "1", "--grace", "0s"]);
    assert_eq!(again["removed"].as_array().unwrap().len(), 1);
    assert!(again["waiting"]["objects"].as_u64().unwrap() > 0);
    assert!(parquet() < before);
    folder.ok(&["verify", "example_backup"]);
    folder.sql("DELETE FROM example");
    folder.ok(&["restore", "example", "--from", "example_backup"]);
    assert_eq!(folder.value("SELECT count(*) FROM example"), 6);
    // Without a name it only gives space back.
    assert!(folder.json(&["prune"])["removed"].as_array().unwrap().is_empty());
}

#[test]
fn a_hold_keeps_a_point_until_it_is_released() {
    let folder = with_points(3);
    let held = folder.json(&[
        "hold",
        "example_backup",
        "--point",
        "1",
        "--reason",
        "audit",
        "--until",
        "2999-01-01",
    ]);
    assert_members(&held, &["id", "backup", "point", "until", "reason"]);
    let id = held["id"].as_str().unwrap();
    let shown = folder.json(&["show", "example_backup", "--point", "1"]);
    assert_eq!((&shown["held"], &shown["holds"][0]["id"]), (&true.into(), &id.into()));
    assert!(folder.ok(&["show", "example_backup@1"]).contains("audit"));
    let pruned = folder.json(&["prune", "example_backup", "--keep-last", "1"]);
    assert_eq!(pruned["kept"][0]["holds"][0], id);
    assert_eq!(points(&folder), 2);
    assert!(folder.fails(1, &["drop", "example_backup"]).contains("audit"));
    folder.ok(&["release", id]);
    folder.fails(1, &["release", id]);
    folder.ok(&["prune", "example_backup", "--keep-last", "1"]);
    assert_eq!(points(&folder), 1);
    folder.ok(&["drop", "example_backup"]);
}

#[test]
fn wrong_policies_and_holds_are_refused() {
    let folder = with_points(1);
    for args in [
        &["prune", "example_backup"][..],
        &["prune", "example_backup", "--keep-last", "0"],
        &["prune", "example_backup@1", "--keep-last", "1"],
        &["prune", "example_backup", "--keep-within", "soon"],
        &["prune", "--keep-last", "1"],
        &["hold", "example_backup", "--until", "2001-01-01"],
        &["hold", "example_backup", "--until", "soon"],
    ] {
        folder.fails(2, args);
    }
    folder.fails(1, &["prune", "nothing", "--keep-last", "1"]);
    folder.fails(1, &["hold", "example_backup", "--point", "9"]);
    assert_eq!(points(&folder), 1);
}

/// Backups, restores, compactions, prunes, checks and the like of one backup in processes of their own, for some seconds;
/// with `KEEPFAST_LONG=1` for an hour.
fn rival(folder: &Folder, more: &[&'static [&'static str]]) {
    let time = Duration::from_secs(if std::env::var_os("KEEPFAST_LONG").is_some() { 3600 } else { 4 });
    let usual: [&[&str]; 7] = [
        &["backup", "example", "--to", "example_backup", "--mode", "full"],
        &["backup", "example", "--to", "example_backup"],
        &["prune", "example_backup", "--keep-last", "2", "--grace", "2s"],
        &["compact", "example_backup"],
        &["verify", "example_backup"],
        &["restore", "example", "--from", "example_backup", "--into", "back"],
        &["prune"],
    ];
    let commands = [&usual, more].concat();
    let started = Instant::now();
    let (mut done, mut refused) = (0, 0);
    let mut turn = 0usize;
    while started.elapsed() < time {
        let children: Vec<_> = (0..3)
            .map(|i| {
                let args = commands[(turn * 3 + i * (1 + turn % 5)) % commands.len()];
                (args, folder.command(args).spawn().unwrap())
            })
            .collect();
        for (args, child) in children {
            let run = crate::run::Run::of(child.wait_with_output().unwrap());
            match run.code {
                0 => done += 1,
                // Refused with a reason that a rival gives; run again it succeeds, or was done by the rival.
                1 if ["KF0231", "KF0229", "KF0262", "KF0246", "KF0247"]
                    .iter()
                    .any(|code| run.err.contains(code)) =>
                {
                    refused += 1
                }
                _ => panic!("{args:?} gave {run:?}"),
            }
        }
        turn += 1;
    }
    eprintln!("{done} commands done and {refused} refused in {turn} rounds of three processes");
    folder.ok(&["verify", "example_backup"]);
    folder.ok(&["verify", "example_backup", "--level", "compare"]);
    assert!(done > turn);
}

#[test]
fn rivals_in_processes_of_their_own_lose_nothing() {
    rival(&with_points(2), &[]);
}

#[test]
fn rivals_in_processes_beside_changes_of_keys_lose_nothing() {
    let folder = Folder::with_variables(vec![("KEEPFAST_PASSPHRASE".into(), "correct horse".into())]);
    folder.sql("CREATE TABLE example (id INT PRIMARY KEY, name TEXT, age INT); INSERT INTO example VALUES (1, 'a', 2)");
    folder.ok(&["backup", "example", "--to", "example_backup", "--encrypt", "full"]);
    let folder = give_points(folder, 2);
    rival(
        &folder,
        &[
            &["key", "rotate"],
            &["key", "add", "--recovery"],
            &["key", "list"],
            &["key", "remove", "recovery"],
        ],
    );
}
