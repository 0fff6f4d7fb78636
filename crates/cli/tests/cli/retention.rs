//! Prune, hold and release as a user types them.

use crate::run::{Folder, Run, assert_members, files_under};
use std::collections::{BTreeMap, BTreeSet};
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

/// Numbers of a backup's points that are visible.
fn visible(folder: &Folder, backup: &str) -> BTreeSet<u64> {
    let listed = folder.json(&["list", backup]);
    listed.as_array().unwrap().iter().map(|p| number(p["point"].as_str().unwrap())).collect()
}

fn number(point: &str) -> u64 {
    point.rsplit_once('@').unwrap().1.parse().unwrap()
}

/// Backups, restores, compactions, prunes, checks and the like of one backup in processes of their own, and of another one
/// that is held, for some seconds; with `KEEPFAST_LONG=1` for an hour.
fn rival(folder: &Folder, more: &[&'static [&'static str]]) {
    let long = std::env::var_os("KEEPFAST_LONG").is_some_and(|value| value == "1");
    let time = Duration::from_secs(if long { 3600 } else { 4 });
    let usual: [&[&str]; 8] = [
        &["backup", "example", "--to", "example_backup", "--mode", "full", "--json"],
        &["backup", "example", "--to", "example_backup", "--json"],
        &["prune", "example_backup", "--keep-last", "2", "--grace", "2s"],
        &["compact", "example_backup", "--json"],
        &["verify", "example_backup"],
        &["backup", "example", "--to", "held", "--mode", "full", "--json"],
        &["restore", "example", "--from", "example_backup", "--into", "back"],
        &["prune"],
    ];
    let commands = [&usual, more].concat();
    let mut reported: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for backup in ["example_backup", "held"] {
        folder.ok(&["backup", "example", "--to", backup]);
        reported.insert(backup, visible(folder, backup));
    }
    folder.ok(&["hold", "held", "--reason", "audit"]);
    let mut report = |args: &[&str], out: &str| {
        let Some((_, points)) = reported.iter_mut().find(|(backup, _)| args.contains(backup)) else { return };
        if args.contains(&"--json") {
            points.insert(number(crate::run::document(out)["point"].as_str().unwrap()));
        }
    };
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
        let runs: Vec<_> =
            children.into_iter().map(|(args, child)| (args, child.wait_with_output().unwrap())).collect();
        for (args, output) in runs {
            let run = Run::of(output);
            if run.code == 0 {
                done += 1;
                report(args, &run.out);
                continue;
            }
            // Refused with a reason that a rival gives.
            let says = |run: &Run, codes: &[&str]| codes.iter().any(|code| run.err.contains(code));
            let by_rival = says(&run, &["KF0231", "KF0229", "KF0262", "KF0246", "KF0247"]);
            assert!(run.code == 1 && by_rival, "{args:?} gave {run:?}");
            refused += 1;
            // Alone it succeeds, or the rival did what it would do: a recipient is there, or gone.
            let again = folder.run(args);
            let over = args[0] == "key" && again.code == 1 && says(&again, &["KF0246", "KF0247"]);
            assert!(again.code == 0 || over, "{args:?}, run again alone, gave {again:?}");
            if again.code == 0 {
                report(args, &again.out);
            }
        }
        turn += 1;
    }
    eprintln!(
        "COUNT {done} commands among rivals: and {refused} refused at first, in {turn} rounds of three processes"
    );
    for backup in ["example_backup", "held"] {
        folder.ok(&["verify", backup]);
        folder.ok(&["verify", backup, "--level", "compare"]);
    }
    assert_eq!(
        visible(folder, "held"),
        reported["held"],
        "what was reported and is held is there, and nothing else"
    );
    // Of what is thinned out, the newest point that was reported stays, and nothing stands that nobody reported.
    let (seen, told) = (visible(folder, "example_backup"), &reported["example_backup"]);
    assert_eq!(seen.last(), told.last(), "{seen:?} of {told:?}");
    assert!(seen.is_subset(told), "{seen:?} of {told:?}");
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
