//! Tasks in processes of their own.

use crate::run::Folder;

#[test]
fn commands_whose_tasks_are_processes_give_the_same_rows() {
    let folder = Folder::new();
    folder.sql("CREATE TABLE big (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO big SELECT value, 'v' || value FROM generate_series(1, 50000)");
    let threads = folder.json(&["backup", "big", "--to", "by_threads"]);
    let processes = folder.json(&["backup", "big", "--to", "by_processes", "--workers", "processes"]);
    assert_eq!(threads["tables"][0]["digest"], processes["tables"][0]["digest"]);
    folder.sql("DROP TABLE big");
    folder.ok(&["restore", "big", "--from", "by_processes", "--workers", "processes"]);
    assert_eq!(folder.value("SELECT sum(id) FROM big WHERE v = 'v' || id"), 1_250_025_000_i64);
    folder.ok(&["verify", "by_threads", "--level", "compare"]);

    folder.sql("UPDATE big SET v = 'other' WHERE id % 100 = 0");
    for (to, workers) in [("by_threads", "threads"), ("by_processes", "processes")] {
        let changed = folder.json(&["backup", "big", "--to", to, "--workers", workers]);
        assert_eq!(changed["tables"][0]["rows"], 50_000);
        let folded = folder.json(&["compact", to, "--workers", workers]);
        assert_eq!(folded["tables"][0]["mode"], "synthetic");
        assert_eq!(folded["tables"][0]["digest"], changed["tables"][0]["digest"]);
        folder.ok(&["verify", to, "--level", "compare"]);
    }
}

/// A worker that runs its task in another way than the driver asked.
fn worker(folder: &Folder, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let text = format!("#!/bin/sh\nworker='{}'\n{script}\n", env!("CARGO_BIN_EXE_keepfast"));
    let path = folder.write(name, &text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn tasks_that_run_twice_or_are_killed_count_once() {
    let folder = Folder::new();
    folder.sql("CREATE TABLE big (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO big SELECT value, md5(CAST(value AS TEXT)) FROM generate_series(1, 300000)");
    let by_threads = folder.json(&["backup", "big", "--to", "by_threads"]);
    // Every task runs twice; every second process is killed before or while it works, and one after it has finished.
    let twice = worker(
        &folder,
        "twice",
        "task=$(cat); printf %s \"$task\" | $worker \"$@\" >/dev/null && printf %s \"$task\" | $worker \"$@\"",
    );
    let killed = worker(
        &folder,
        "killed",
        &format!(
            "cd {}
             if mkdir first 2>/dev/null; then kill -9 $$; fi
             if mkdir second 2>/dev/null; then cat > task; $worker \"$@\" < task & sleep 0.05; kill -9 $!; exit 1; fi
             if mkdir third 2>/dev/null; then $worker \"$@\"; kill -9 $$; fi
             exec $worker \"$@\"",
            folder.path().display()
        ),
    );
    for (name, program) in [("twice", &twice), ("killed", &killed)] {
        let backed_up = folder.json(&["backup", "big", "--to", name, "--workers", program]);
        assert_eq!(backed_up["tables"][0]["digest"], by_threads["tables"][0]["digest"]);
        assert_eq!(backed_up["tables"][0]["rows"], 300_000);
        for done in ["first", "second", "third"] {
            assert_eq!(folder.join(done).exists(), name == "killed");
            let _ = std::fs::remove_dir(folder.join(done));
        }
        folder.sql("DROP TABLE big");
        // Rows, not whole segments, so that tasks have something to do.
        folder.ok(&["restore", "big", "--from", name, "--workers", program, "--segment-rows", "1024"]);
        for done in ["first", "second", "third"] {
            let _ = std::fs::remove_dir(folder.join(done));
        }
        folder.ok(&["verify", name, "--level", "content"]);
        folder.ok(&["verify", name]);
    }
    assert_eq!(folder.value("SELECT count(DISTINCT id) FROM big WHERE v = md5(CAST(id AS TEXT))"), 300_000);
}

#[test]
fn a_worker_refuses_what_is_no_task() {
    let folder = Folder::new();
    for text in ["", "{}", "not json", "[1,2]", "{\"task\":\"scan\"}"] {
        let run = folder.run_with(&["worker"], text);
        assert!(run.code == 1 || run.code == 2, "{text:?} gave {run:?}");
        run.assert_error();
    }
}
