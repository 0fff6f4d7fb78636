//! Tasks in processes of their own.

use crate::run::Folder;

#[test]
fn a_backup_and_a_restore_whose_tasks_are_processes_give_the_same_rows() {
    let folder = Folder::new();
    folder.sql("CREATE TABLE big (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO big SELECT value, 'v' || value FROM generate_series(1, 50000)");
    let threads = folder.json(&["backup", "big", "--to", "by_threads"]);
    let processes = folder.json(&["backup", "big", "--to", "by_processes", "--workers", "processes"]);
    assert_eq!(threads["tables"][0]["digest"], processes["tables"][0]["digest"]);
    folder.sql("DROP TABLE big");
    folder.ok(&["restore", "big", "--from", "by_processes", "--workers", "processes"]);
    assert_eq!(folder.value("SELECT sum(id) FROM big WHERE v = 'v' || id"), 1_250_025_000_i64);
    folder.ok(&["verify", "by_threads", "--level", "compare"]);
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
