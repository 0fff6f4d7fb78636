//! What a random script is made of. Every step has a text form, so that a script can be replayed from what a failing
//! test printed.

use keepfast_model::random::Random;
use keepfast_objects::faulty::Fault;
use std::fmt;
use std::str::FromStr;

/// One thing that somebody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Rows are put and removed in a table, as a seed says.
    Write {
        table: usize,
        seed: u64,
    },
    /// A backup of all tables is made, encrypted so; `-` as before.
    Backup {
        to: usize,
        mode: &'static str,
        encrypt: &'static str,
    },
    /// The nth newest of all points is restored.
    Restore {
        nth: usize,
    },
    /// The newest restore is taken back.
    Undo,
    /// A backup's newest point is folded.
    Compact {
        backup: usize,
    },
    /// Of a backup only the newest points stay, as many.
    Prune {
        backup: usize,
        last: u32,
    },
    /// One more can open the vault, or one less.
    Add {
        recipient: usize,
    },
    Remove {
        recipient: usize,
    },
    /// The vault gets a new vault key.
    Rotate,
    /// The keys of a table in a backup are dropped, or that of its secret column.
    Shred {
        backup: usize,
        table: usize,
        column: bool,
    },
    /// A backup is dropped.
    Drop {
        backup: usize,
    },
    /// A backup is held, or all holds are released.
    Hold {
        backup: usize,
    },
    Release,
    /// Condemned objects whose time has come are deleted.
    Delete,
    /// Time passes, in hours; less than none sets the clock back.
    Pass {
        hours: i64,
    },
}

/// An action, and what goes wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub action: Action,
    /// At which operation, and how.
    pub fault: Option<(u64, Fault)>,
}

pub const TABLES: [&str; 2] = ["t", "u"];
pub const BACKUPS: [&str; 2] = ["x", "y"];
const MODES: [&str; 3] = ["auto", "full", "incremental"];
const ENCRYPT: [&str; 3] = ["-", "full", "columns:v"];

impl Action {
    fn random(random: &mut Random) -> Self {
        let two = |random: &mut Random| random.below(2) as usize;
        let three = |random: &mut Random| random.below(3) as usize;
        match random.below(100) {
            0..23 => Self::Write { table: two(random), seed: random.below(1_000_000) },
            23..47 => Self::Backup {
                to: two(random),
                mode: MODES[[0, 0, 1, 2][random.below(4) as usize]],
                encrypt: ENCRYPT[[0, 0, 0, 0, 1, 2][random.below(6) as usize]],
            },
            47..58 => Self::Restore { nth: random.below(6) as usize },
            58..63 => Self::Undo,
            63..69 => Self::Compact { backup: two(random) },
            69..73 => Self::Prune { backup: two(random), last: 1 + random.below(3) as u32 },
            73..76 => Self::Drop { backup: two(random) },
            76..79 => Self::Hold { backup: two(random) },
            79..82 => Self::Release,
            82..87 => Self::Delete,
            87..90 => Self::Pass { hours: [1, 30, 24 * 40, -5][random.below(4) as usize] },
            90..93 => Self::Add { recipient: three(random) },
            93..95 => Self::Remove { recipient: three(random) },
            95..97 => Self::Rotate,
            _ => Self::Shred { backup: two(random), table: two(random), column: random.below(2) == 0 },
        }
    }

    /// The same without any keys.
    fn plain(self) -> Self {
        match self {
            Self::Backup { to, mode, .. } => Self::Backup { to, mode, encrypt: ENCRYPT[0] },
            Self::Add { recipient } | Self::Remove { recipient } => {
                Self::Write { table: recipient % 2, seed: recipient as u64 }
            }
            Self::Rotate => Self::Delete,
            Self::Shred { backup, .. } => Self::Compact { backup },
            other => other,
        }
    }
}

/// A script of so many steps; about every second goes wrong where the fault fits. In one of three there are no keys.
pub fn script(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let keys = random.below(3) > 0;
    (0..steps)
        .map(|_| {
            let action = Action::random(&mut random);
            let action = if keys { action } else { action.plain() };
            let wrong = random.below(2) == 0 && !matches!(action, Action::Pass { .. });
            let fault = wrong.then(|| {
                let fault = match Fault::ALL[random.below(Fault::ALL.len() as u64) as usize] {
                    Fault::PowerFails { .. } => Fault::PowerFails { seed: random.below(1 << 32) },
                    Fault::Late { .. } => Fault::Late { by: 1 + random.below(20) },
                    Fault::Stale { .. } => Fault::Stale { by: 1 + random.below(60) },
                    // The embedded store does not read back what its users write.
                    Fault::Swallowed if matches!(action, Action::Write { .. }) => Fault::LosesRequest,
                    fault => fault,
                };
                (random.below(70), fault)
            });
            Step { action, fault }
        })
        .collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Write { table, seed } => write!(f, "write {table} {seed}")?,
            Action::Backup { to, mode, encrypt } => write!(f, "backup {to} {mode} {encrypt}")?,
            Action::Restore { nth } => write!(f, "restore {nth}")?,
            Action::Undo => write!(f, "undo")?,
            Action::Compact { backup } => write!(f, "compact {backup}")?,
            Action::Prune { backup, last } => write!(f, "prune {backup} {last}")?,
            Action::Add { recipient } => write!(f, "add {recipient}")?,
            Action::Remove { recipient } => write!(f, "remove {recipient}")?,
            Action::Rotate => write!(f, "rotate")?,
            Action::Shred { backup, table, column } => {
                write!(f, "shred {backup} {table} {}", if *column { "column" } else { "table" })?;
            }
            Action::Drop { backup } => write!(f, "drop {backup}")?,
            Action::Hold { backup } => write!(f, "hold {backup}")?,
            Action::Release => write!(f, "release")?,
            Action::Delete => write!(f, "delete")?,
            Action::Pass { hours } => write!(f, "pass {hours}")?,
        }
        match &self.fault {
            Some((at, fault)) => write!(f, " ! {at} {fault}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let refuse = || format!("'{line}' is not a step");
        let (action, fault) = match line.split_once('!') {
            Some((action, fault)) => (action, Some(fault)),
            None => (line, None),
        };
        let words: Vec<&str> = action.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|w| w.parse::<u64>().ok()).ok_or_else(refuse);
        let action = match *words.first().ok_or_else(refuse)? {
            "write" => Action::Write { table: number(1)? as usize % 2, seed: number(2)? },
            "backup" => {
                let mode = MODES.into_iter().find(|m| Some(m) == words.get(2)).ok_or_else(refuse)?;
                let encrypt = words.get(3).unwrap_or(&ENCRYPT[0]);
                let encrypt = ENCRYPT.into_iter().find(|e| e == encrypt).ok_or_else(refuse)?;
                Action::Backup { to: number(1)? as usize % 2, mode, encrypt }
            }
            "restore" => Action::Restore { nth: number(1)? as usize },
            "undo" => Action::Undo,
            "compact" => Action::Compact { backup: number(1)? as usize % 2 },
            "prune" => Action::Prune { backup: number(1)? as usize % 2, last: number(2)? as u32 },
            "add" => Action::Add { recipient: number(1)? as usize % 3 },
            "remove" => Action::Remove { recipient: number(1)? as usize % 3 },
            "rotate" => Action::Rotate,
            "shred" => Action::Shred {
                backup: number(1)? as usize % 2,
                table: number(2)? as usize % 2,
                column: words.get(3) == Some(&"column"),
            },
            "drop" => Action::Drop { backup: number(1)? as usize % 2 },
            "hold" => Action::Hold { backup: number(1)? as usize % 2 },
            "release" => Action::Release,
            "delete" => Action::Delete,
            "pass" => Action::Pass { hours: words.get(1).and_then(|w| w.parse().ok()).ok_or_else(refuse)? },
            _ => return Err(refuse()),
        };
        let fault = match fault.map(|text| text.split_whitespace().collect::<Vec<_>>()) {
            None => None,
            Some(words) => match words.as_slice() {
                [at, fault] => Some((at.parse().map_err(|_| refuse())?, fault.parse()?)),
                _ => return Err(refuse()),
            },
        };
        Ok(Self { action, fault })
    }
}

/// A script as text, one step a line, and back.
pub fn to_text(script: &[Step]) -> String {
    script.iter().map(|step| format!("{step}\n")).collect()
}

pub fn from_text(text: &str) -> Result<Vec<Step>, String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::parse).collect()
}

#[test]
fn a_script_can_be_written_and_read_again() {
    for seed in 0..50 {
        let steps = script(seed, 40);
        assert_eq!(from_text(&to_text(&steps)).unwrap(), steps);
    }
    assert!(from_text("fly 1").is_err() && from_text("backup 0 never").is_err());
}
