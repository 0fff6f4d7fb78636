//! Nothing secret is said: not by any command, however loud, not when it fails or is killed, and not to the processes it starts.

use crate::planted::{PHRASE, holding, with};
use crate::run::{Folder, Run, files_under, flip};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const WRONG: &str = "planted-wrong-passphrase";

/// Words of rows, keys among them, and of those who open them.
const SECRETS: [&str; 4] = ["planted-key", "planted-value", PHRASE, WRONG];

const PEOPLE: &str = "CREATE TABLE people (email TEXT PRIMARY KEY, planted_column TEXT, city TEXT);
     INSERT INTO people SELECT 'planted-key ' || value, 'planted-value ' || value, 'city ' || (value % 7)
     FROM generate_series(1, 3000)";

/// Commands that are asked for no row: whatever they say, no row is in it. In an order in which each has something to do.
const COMMANDS: [&[&str]; 15] = [
    &["backup", "people", "--to", "b", "--mode", "full", "--segment-rows", "1024", "--encrypt", "full"],
    &["backup", "people", "--to", "b", "--where", "email <> 'a' AND city <> 'b'"],
    &["sql", "-c", "BACKUP TABLE people TO 'b'; EXPLAIN BACKUP TABLE people TO 'b'"],
    &["backup", "people", "--to", "b", "--dry-run"],
    &["verify", "b"],
    &["verify", "b", "--level", "content"],
    &["compact", "b"],
    &["list", "b"],
    &["show", "b"],
    &["restore", "people", "--from", "b", "--into", "back", "--dry-run"],
    &["restore", "people", "--from", "b", "--into", "back"],
    &["prune", "b", "--keep-last", "3"],
    &["key", "rotate"],
    &["key", "list"],
    &["vault", "info", "keepfast-data/vault"],
];

#[track_caller]
fn assert_says_nothing(said: &[u8], who: &str) {
    for word in SECRETS {
        let found = said.windows(word.len()).position(|bytes| bytes == word.as_bytes());
        if let Some(at) = found {
            let about = String::from_utf8_lossy(&said[at.saturating_sub(300)..(at + 60).min(said.len())]);
            panic!("{who} says {word}: …{about}…");
        }
    }
}

fn loud(folder: &Folder, phrase: &str, args: &[&str]) -> Run {
    let output = folder.command(args).env("KEEPFAST_PASSPHRASE", phrase).env("RUST_LOG", "trace").output();
    let run = Run::of(output.unwrap());
    assert_says_nothing(format!("{}{}", run.out, run.err).as_bytes(), &format!("{args:?}"));
    run
}

/// Nothing secret in the vault, or in what commands remember of it. The embedded store holds its rows in clear.
#[track_caller]
fn assert_holds_nothing(folder: &Folder, when: &str) {
    let data = folder.join("keepfast-data");
    let holding: Vec<_> = holding(&data, &SECRETS)
        .into_iter()
        .filter(|f| !f.starts_with(&*data.join("store").to_string_lossy()))
        .collect();
    assert_eq!(holding, [] as [String; 0], "{when}");
    assert!(!files_under(&data.join("vault")).is_empty() && !files_under(&data.join("state")).is_empty());
}

/// A folder with the table, where an encrypted backup of it was made by processes; and what they were called with.
fn backed_up() -> (Folder, String) {
    let folder = Folder::new();
    folder.sql(PEOPLE);
    let script = "#!/bin/sh\nprintf '%s\\n' \"$@\" >> called\nexec \"$KEEPFAST\" \"$@\"\n";
    let worker = folder.write("worker", script);
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let worker = worker.to_str().unwrap();
    let first = [COMMANDS[0], &["-vvv", "--workers", worker][..]].concat();
    let mut command = folder.command(&first);
    command.env("KEEPFAST_PASSPHRASE", PHRASE).env("RUST_LOG", "trace");
    let run = Run::of(command.env("KEEPFAST", env!("CARGO_BIN_EXE_keepfast")).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    assert_says_nothing(format!("{}{}", run.out, run.err).as_bytes(), "a backup by processes");
    let called = std::fs::read_to_string(folder.join("called")).unwrap();
    (folder, called)
}

#[test]
fn no_command_says_a_secret_however_loud_it_is_and_whatever_goes_wrong() {
    let (folder, called) = backed_up();
    assert!(called.contains("worker"), "{called}");
    assert_says_nothing(called.as_bytes(), "the arguments of a worker");
    folder.sql("UPDATE people SET planted_column = 'planted-value new' WHERE city = 'city 3'");
    for args in COMMANDS {
        let run = loud(&folder, PHRASE, &[args, &["-vvv"][..]].concat());
        assert_eq!(run.code, 0, "{args:?} gave {run:?}");
        let run = loud(&folder, PHRASE, &[args, &["--json"][..]].concat());
        assert_eq!(run.code, 0, "{args:?} gave {run:?}");
    }
    assert_holds_nothing(&folder, "after every command");
    let mut refused = 0;
    for args in COMMANDS {
        refused += u32::from(loud(&folder, WRONG, &[args, &["-vvv"][..]].concat()).code == 1);
    }
    assert!(refused > 5, "{refused}");
    assert_holds_nothing(&folder, "after commands without the passphrase");
    let segments = files_under(&folder.join("keepfast-data/vault/tables"));
    let segments = segments.into_iter().filter(|f| f.extension().is_some_and(|e| e == "parquet"));
    let whole: Vec<_> = segments.map(|f| (std::fs::read(&f).unwrap(), f)).collect();
    whole.iter().for_each(|(_, segment)| flip(segment));
    let mut failed = 0;
    for args in COMMANDS {
        failed += u32::from(loud(&folder, PHRASE, &[args, &["-vvv"][..]].concat()).code != 0);
    }
    assert!(failed > 2, "{failed}");
    whole.iter().for_each(|(bytes, segment)| std::fs::write(segment, bytes).unwrap());
    assert_holds_nothing(&folder, "after damage");
    assert_eq!(with(&folder, PHRASE, &["verify", "b", "--level", "content"]).code, 0);
}

#[test]
fn a_killed_command_leaves_and_says_no_secret() {
    let (folder, _) = backed_up();
    let mut killed = 0;
    for args in [COMMANDS[0], COMMANDS[6], COMMANDS[10]] {
        let args = [args, &["-vvv"][..]].concat();
        let began = Instant::now();
        loud(&folder, PHRASE, &args);
        let took = began.elapsed();
        for part in [1, 3] {
            folder.sql(&format!(
                "UPDATE people SET planted_column = 'planted-value {part}' WHERE city = 'city {part}'"
            ));
            let mut command = folder.command(&args);
            let mut child =
                command.env("KEEPFAST_PASSPHRASE", PHRASE).env("RUST_LOG", "trace").spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f64(took.as_secs_f64() * f64::from(part) / 4.0));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            killed += u32::from(output.status.code().is_none());
            assert_says_nothing(&[output.stdout, output.stderr].concat(), &format!("{args:?}, killed"));
            assert_holds_nothing(&folder, &format!("{args:?} was killed"));
        }
    }
    assert!(killed > 1, "{killed} were killed at work");
}

/// The limit of core files of a process.
#[cfg(target_os = "linux")]
fn core_limit(process: u32) -> Option<String> {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max core file size"))?;
    line.split_whitespace().nth(4).map(str::to_owned)
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_protected_before_the_first_secret_of_a_vault_without_keys_is_read() {
    let folder = Folder::new();
    folder.sql(PEOPLE);
    folder.ok(&["backup", "people", "--to", "b"]);
    // Somebody reads the passphrase from a pipe into which nobody has written yet.
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = folder.command(&["key", "add", "ops", "--new-passphrase-file", "pipe"]).spawn().unwrap();
    let began = Instant::now();
    while core_limit(child.id()).as_deref() != Some("0") {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "its memory is not protected: {:?}",
            core_limit(child.id())
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(&pipe, PHRASE).unwrap();
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
}
