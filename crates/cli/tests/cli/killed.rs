//! `kill -9` of the program at random moments: earlier points verify, and the same command succeeds.
//!
//! `KEEPFAST_LONG=1` goes on for an hour in each place. `KEEPFAST_SEED` chooses the moments.

use crate::run::{Folder, Run};
use keepfast_testbed::s3::{S3, server_or_skip};
use std::process::Child;
use std::time::{Duration, Instant};

const ROWS: u64 = 40_000;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A command that is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Full,
    Incremental,
    Restore,
    Compact,
    Drop,
    Update,
    Prune,
    /// Only of a vault with keys.
    Rotate,
}

/// Those that any vault can suffer come first.
const VICTIMS: [Victim; 8] = [
    Victim::Full,
    Victim::Incremental,
    Victim::Restore,
    Victim::Compact,
    Victim::Drop,
    Victim::Update,
    Victim::Prune,
    Victim::Rotate,
];

struct Kills {
    folder: Folder,
    vault: String,
    /// The first point's number: keys of a vault take numbers too.
    number: u64,
    /// The sum of all values of the live table, and of the first point.
    live: u64,
    first: u64,
    random: Random,
}

impl Kills {
    fn new(seed: u64, folder: Folder, vault: String) -> Self {
        folder.sql(&format!(
            "CREATE TABLE big (id BIGINT PRIMARY KEY, v BIGINT, t TEXT);
             INSERT INTO big SELECT value, 1, md5(CAST(value AS TEXT)) FROM generate_series(1, {ROWS})"
        ));
        let made = folder.json(&["backup", "big", "--to", &format!("{vault}#b"), "--segment-rows", "1024"]);
        let number = made["point"].as_str().and_then(|p| p.strip_prefix("b@")).unwrap().parse().unwrap();
        let mut kills = Self { folder, vault, number, live: ROWS, first: ROWS, random: Random(seed) };
        kills.folder.ok(&["hold", &kills.backup("b"), "--point", &number.to_string()]);
        kills.change();
        kills
    }

    fn backup(&self, name: &str) -> String {
        format!("{}#{name}", self.vault)
    }

    fn arguments(&self, victim: Victim) -> Vec<String> {
        let b = self.backup("b");
        let first = format!("{b}@{}", self.number);
        let text = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        match victim {
            Victim::Full => text(&["backup", "big", "--to", &b, "--mode", "full"]),
            Victim::Incremental => text(&["backup", "big", "--to", &b]),
            Victim::Restore => text(&["restore", "big", "--from", &first]),
            Victim::Compact => text(&["compact", &b]),
            Victim::Drop => text(&["drop", &self.backup("other")]),
            Victim::Prune => text(&["prune", &b, "--keep-last", "2", "--grace", "0s"]),
            Victim::Rotate => text(&["key", "rotate", "--vault", &self.vault]),
            Victim::Update => text(&["sql", "-c", "UPDATE big SET v = v + 1 WHERE id % 4 = 0"]),
        }
    }

    fn sum(&self) -> u64 {
        self.folder.value("SELECT sum(v) FROM big").as_u64().unwrap()
    }

    /// Changes some rows.
    fn change(&mut self) {
        let id = 1 + self.random.below(ROWS - 100);
        self.folder.sql(&format!("UPDATE big SET v = v + 1 WHERE id BETWEEN {id} AND {}", id + 49));
        self.live += 50;
    }

    fn has(&self, name: &str) -> bool {
        let listed = self.folder.json(&["list", &self.vault]);
        listed.to_string().contains(&format!("\"{name}\""))
    }

    fn spawn(&self, victim: Victim) -> Child {
        let arguments = self.arguments(victim);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.folder.command(&arguments).spawn().unwrap()
    }

    /// What must be there before a command can be killed.
    fn prepare(&mut self, victim: Victim) {
        match victim {
            Victim::Drop if !self.has("other") => {
                drop(self.folder.ok(&["backup", "big", "--to", &self.backup("other")]));
            }
            Victim::Incremental | Victim::Compact => {
                self.change();
                if victim == Victim::Compact {
                    self.folder.ok(&["backup", "big", "--to", &self.backup("b")]);
                }
            }
            _ => {}
        }
    }

    /// Runs a command to its end; what it did is done.
    fn finish(&mut self, victim: Victim) {
        let arguments = self.arguments(victim);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.folder.ok(&arguments);
        match victim {
            Victim::Restore => self.live = self.first,
            Victim::Update => self.live += ROWS / 4,
            _ => {}
        }
    }

    /// Kills a command after a share of the time that it takes; true where it was still running.
    fn kill(&mut self, victim: Victim, took: Duration) -> bool {
        self.prepare(victim);
        let mut child = self.spawn(victim);
        std::thread::sleep(took.mul_f64(self.random.below(1_000) as f64 / 1_000.0));
        child.kill().unwrap();
        let run = Run::of(child.wait_with_output().unwrap());
        assert!(run.code == -1 || run.code == 0, "{victim:?}: {run:?}");
        let killed = run.code == -1;
        let sum = self.sum();
        let done = match victim {
            Victim::Restore => self.first,
            Victim::Update => self.live + ROWS / 4,
            _ => self.live,
        };
        assert!(sum == self.live || sum == done, "{victim:?} is half done: {sum}, before {}", self.live);
        assert!(killed || sum == done, "{victim:?} was reported and is not there");
        self.live = sum;
        self.folder.ok(&["verify", &self.backup("b")]);
        // An update that was done is another one when it is typed again.
        if victim != Victim::Drop || self.has("other") {
            self.finish(victim);
        }
        assert_eq!(self.sum(), self.live, "{victim:?}, typed again");
        self.folder.ok(&["verify", &self.backup("b")]);
        killed
    }
}

/// Kills commands of the first kinds, so many of them.
fn kill_all(mut kills: Kills, victims: &[Victim], enough: u64) {
    let long = std::env::var_os("KEEPFAST_LONG").is_some_and(|value| value == "1");
    let started = Instant::now();
    let mut took = vec![];
    for victim in victims {
        kills.prepare(*victim);
        let began = Instant::now();
        kills.finish(*victim);
        took.push(began.elapsed());
    }
    let (mut tried, mut killed) = (0, 0);
    while if long { started.elapsed() < Duration::from_secs(3600) } else { tried < enough } {
        let which = tried as usize % victims.len();
        killed += u64::from(kills.kill(victims[which], took[which]));
        tried += 1;
    }
    kills.folder.ok(&["restore", "big", "--from", &format!("{}@{}", kills.backup("b"), kills.number)]);
    assert_eq!(kills.sum(), kills.first);
    eprintln!("COUNT {killed} kills: of {tried} commands in {}, in {:?}", kills.vault, started.elapsed());
    assert!(killed * 2 > tried, "{killed} of {tried}");
}

fn seed() -> u64 {
    let seed = std::env::var("KEEPFAST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    eprintln!("seed {seed}");
    seed
}

#[test]
fn a_killed_command_leaves_earlier_points_whole_and_succeeds_when_typed_again() {
    let folder = Folder::new();
    let vault = folder.join("a-vault").display().to_string();
    kill_all(Kills::new(seed(), folder, vault), &VICTIMS[..7], 42);
}

#[test]
fn a_killed_command_leaves_an_encrypted_vault_in_a_bucket_whole() {
    let Some(s3) = server_or_skip("a_killed_command_leaves_an_encrypted_vault_in_a_bucket_whole") else {
        return;
    };
    let bucket = crate::s3::wait(s3.new_bucket("killed", false));
    let mut variables = S3::variables(&s3.settings());
    variables.push(("KEEPFAST_PASSPHRASE".into(), "correct horse".into()));
    let (folder, vault) = (Folder::with_variables(variables), format!("s3://{bucket}/v"));
    folder.ok(&["vault", "init", &vault]);
    folder.ok(&["key", "add", "--vault", &vault]);
    kill_all(Kills::new(seed(), folder, vault), &VICTIMS, 16);
}
