//! What can go wrong with one operation, and the script that says when.
//!
//! Every fault has a text form, so that a script can be printed with a failing test and replayed from there.

use super::trace::Kind;
use keepfast_model::random::Random;
use std::fmt;
use std::str::FromStr;

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The process ends before the request leaves: this operation and all later ones fail without effect.
    DiesBefore,
    /// The process ends after the request arrived: it takes effect, then all later ones fail.
    DiesAfter,
    /// The machine loses power: what was not made durable since the last barrier is whole, torn, empty or gone, and
    /// what was deleted may be back, as the seed says. Then as [`Self::DiesBefore`].
    PowerFails {
        /// Chooses what survives.
        seed: u64,
    },
    /// The request never arrives and an error is returned; later ones work.
    LosesRequest,
    /// It takes effect and an error is returned; later ones work.
    LosesAnswer,
    /// It takes effect, its answer is lost, and the client tries once more by itself: a create then says that the
    /// object exists, a delete that it does not.
    LosesAnswerAndRetries,
    /// An error is returned; the request takes effect after this many further operations, or when
    /// [`Process::settle`](super::Process::settle) is called.
    Late {
        /// Operations that overtake it.
        by: u64,
    },
    /// It waits until this many later operations have begun, or no more come; a listing comes in reverse order.
    Overtaken {
        /// Operations that overtake it.
        by: u64,
    },
    /// No permission.
    Refused,
    /// No space is left for this and any later put of the process.
    Full,
    /// A put or delete is answered with success and has no effect.
    Swallowed,
    /// A listing shows the place as it was this many operations ago: newer objects are missing, deleted ones are there.
    Stale {
        /// Operations of this process that it does not know of.
        by: u64,
    },
}

impl Fault {
    /// One of each kind, the weaker ones with numbers that suit small tests.
    pub const ALL: [Self; 12] = [
        Self::DiesBefore,
        Self::DiesAfter,
        Self::PowerFails { seed: 1 },
        Self::LosesRequest,
        Self::LosesAnswer,
        Self::LosesAnswerAndRetries,
        Self::Late { by: 4 },
        Self::Overtaken { by: 3 },
        Self::Refused,
        Self::Full,
        Self::Swallowed,
        Self::Stale { by: 6 },
    ];

    /// Whether it makes a difference to an operation of this kind.
    pub fn fits(self, kind: Kind) -> bool {
        match self {
            Self::DiesBefore | Self::LosesRequest | Self::Refused => true,
            Self::Overtaken { .. } => kind != Kind::Sync,
            Self::DiesAfter | Self::LosesAnswer | Self::LosesAnswerAndRetries | Self::Late { .. } => {
                kind.changes()
            }
            Self::Swallowed => matches!(kind, Kind::Put | Kind::Delete),
            Self::PowerFails { .. } => matches!(kind, Kind::Put | Kind::Delete | Kind::Sync),
            Self::Full => matches!(kind, Kind::Put | Kind::Sync),
            Self::Stale { .. } => kind == Kind::List,
        }
    }

    /// Whether the process is over after it.
    pub fn ends_the_process(self) -> bool {
        matches!(self, Self::DiesBefore | Self::DiesAfter | Self::PowerFails { .. })
    }

    /// Whether the caller hears nothing of it.
    pub fn is_silent(self) -> bool {
        matches!(
            self,
            Self::LosesAnswerAndRetries | Self::Overtaken { .. } | Self::Swallowed | Self::Stale { .. }
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiesBefore => f.write_str("dies-before"),
            Self::DiesAfter => f.write_str("dies-after"),
            Self::PowerFails { seed } => write!(f, "power-fails:{seed}"),
            Self::LosesRequest => f.write_str("loses-request"),
            Self::LosesAnswer => f.write_str("loses-answer"),
            Self::LosesAnswerAndRetries => f.write_str("loses-answer-and-retries"),
            Self::Late { by } => write!(f, "late:{by}"),
            Self::Overtaken { by } => write!(f, "overtaken:{by}"),
            Self::Refused => f.write_str("refused"),
            Self::Full => f.write_str("full"),
            Self::Swallowed => f.write_str("swallowed"),
            Self::Stale { by } => write!(f, "stale:{by}"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = text.split_once(':').unwrap_or((text, ""));
        let number = || number.parse::<u64>().map_err(|e| format!("'{text}' is not a fault: {e}"));
        Ok(match name {
            "dies-before" => Self::DiesBefore,
            "dies-after" => Self::DiesAfter,
            "power-fails" => Self::PowerFails { seed: number()? },
            "loses-request" => Self::LosesRequest,
            "loses-answer" => Self::LosesAnswer,
            "loses-answer-and-retries" => Self::LosesAnswerAndRetries,
            "late" => Self::Late { by: number()? },
            "overtaken" => Self::Overtaken { by: number()? },
            "refused" => Self::Refused,
            "full" => Self::Full,
            "swallowed" => Self::Swallowed,
            "stale" => Self::Stale { by: number()? },
            _ => return Err(format!("'{text}' is not a fault")),
        })
    }
}

/// When a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    At(u64),
    Always,
}

/// Which operations of a process go wrong, and how. Operations count from 0; a fault that does not fit the operation
/// that has its number does not happen.
#[derive(Clone, Debug, Default)]
pub struct Script {
    lines: Vec<(When, Fault)>,
}

impl Script {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// One fault at one operation.
    pub fn at(operation: u64, fault: Fault) -> Self {
        Self::none().and_at(operation, fault)
    }

    /// This fault at every operation that it fits.
    pub fn always(fault: Fault) -> Self {
        Self { lines: vec![(When::Always, fault)] }
    }

    /// Another fault besides.
    #[must_use]
    pub fn and_at(mut self, operation: u64, fault: Fault) -> Self {
        self.lines.push((When::At(operation), fault));
        self
    }

    /// This many faults of all kinds among the first operations, as the seed says.
    pub fn seeded(seed: u64, faults: usize, operations: u64) -> Self {
        let mut random = Random::new(seed);
        (0..faults).fold(Self::none(), |script, _| {
            let fault = match Fault::ALL[random.below(Fault::ALL.len() as u64) as usize] {
                Fault::PowerFails { .. } => Fault::PowerFails { seed: random.next() },
                Fault::Late { .. } => Fault::Late { by: 1 + random.below(20) },
                Fault::Overtaken { .. } => Fault::Overtaken { by: 1 + random.below(8) },
                Fault::Stale { .. } => Fault::Stale { by: 1 + random.below(40) },
                fault => fault,
            };
            script.and_at(random.below(operations.max(1)), fault)
        })
    }

    /// What goes wrong with an operation.
    pub(super) fn fault(&self, operation: u64, kind: Kind) -> Option<Fault> {
        self.lines
            .iter()
            .find(|(when, fault)| {
                fault.fits(kind) && matches!(when, When::At(n) if *n == operation) | (*when == When::Always)
            })
            .map(|(_, fault)| *fault)
    }

    pub(super) fn any(&self, which: impl Fn(Fault) -> bool) -> bool {
        self.lines.iter().any(|(_, fault)| which(*fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_written_and_read_again() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        for text in ["", "dies", "late", "late:x", "stale:-1"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_script() {
        let faults = |seed| {
            let script = Script::seeded(seed, 5, 100);
            script.lines.iter().map(|(when, fault)| format!("{when:?} {fault}")).collect::<Vec<_>>()
        };
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
    }
}
