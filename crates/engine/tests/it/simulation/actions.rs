//! What a random script is made of. Every step has a text form, so that a script can be replayed from what a failing
//! test printed.

use keepfast_objects::faulty::Fault;
use keepfast_store::random::Random;
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
    /// A backup of all tables is made.
    Backup {
        to: usize,
        mode: &'static str,
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

impl Action {
    fn random(random: &mut Random) -> Self {
        let two = |random: &mut Random| random.below(2) as usize;
        match random.below(100) {
            0..25 => Self::Write { table: two(random), seed: random.below(1_000_000) },
            25..50 => Self::Backup { to: two(random), mode: MODES[[0, 0, 1, 2][random.below(4) as usize]] },
            50..64 => Self::Restore { nth: random.below(6) as usize },
            64..71 => Self::Undo,
            71..78 => Self::Compact { backup: two(random) },
            78..82 => Self::Drop { backup: two(random) },
            82..86 => Self::Hold { backup: two(random) },
            86..90 => Self::Release,
            90..95 => Self::Delete,
            _ => Self::Pass { hours: [1, 30, 24 * 40, -5][random.below(4) as usize] },
        }
    }
}

/// A script of so many steps; about every second goes wrong where the fault fits.
pub fn script(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    (0..steps)
        .map(|_| {
            let action = Action::random(&mut random);
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
            Action::Backup { to, mode } => write!(f, "backup {to} {mode}")?,
            Action::Restore { nth } => write!(f, "restore {nth}")?,
            Action::Undo => write!(f, "undo")?,
            Action::Compact { backup } => write!(f, "compact {backup}")?,
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
                Action::Backup { to: number(1)? as usize % 2, mode }
            }
            "restore" => Action::Restore { nth: number(1)? as usize },
            "undo" => Action::Undo,
            "compact" => Action::Compact { backup: number(1)? as usize % 2 },
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
