//! What can go wrong, and the script that says when.

use crate::{Result, StoreError};
use keepfast_model::random::Random;
use std::sync::{Mutex, PoisonError};

/// One fault. Partitions, batches, rows and parts count from 0; rows and batches within their partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// No cut can be opened.
    CutFails,
    /// The cut is lost after this many batches, for all partitions.
    CutLost {
        /// Batches given before.
        batches: u32,
    },
    /// A plan leaves out a partition: keys, or a whole shard where it is one.
    PartitionForgotten {
        /// The partition.
        partition: u32,
    },
    /// A plan has a partition twice.
    PartitionDoubled {
        /// The partition.
        partition: u32,
    },
    /// A scan ends with an error instead of this batch.
    ScanFails {
        /// The partition.
        partition: u32,
        /// The batch.
        batch: u32,
    },
    /// A scan ends before this batch as if it were complete.
    ScanEndsEarly {
        /// The partition.
        partition: u32,
        /// The batch.
        batch: u32,
    },
    /// A scan leaves out a row.
    RowLost {
        /// The partition.
        partition: u32,
        /// The row.
        row: u64,
    },
    /// A scan gives a row twice.
    RowDoubled {
        /// The partition.
        partition: u32,
        /// The row.
        row: u64,
    },
    /// A row and its neighbour change places in a scan.
    RowsSwapped {
        /// The partition.
        partition: u32,
        /// The row.
        row: u64,
    },
    /// A value that is no key and that of the neighbour row change places in a scan.
    ValueMoved {
        /// The partition.
        partition: u32,
        /// The row.
        row: u64,
    },
    /// A value that is no key is NULL in a scan.
    ValueLost {
        /// The partition.
        partition: u32,
        /// The row.
        row: u64,
    },
    /// Changes, or closing changes, end with an error instead of this batch.
    ChangesFail {
        /// The batch.
        batch: u32,
    },
    /// Changes, or closing changes, leave out one.
    ChangeLost {
        /// The change, counted from 0.
        change: u64,
    },
    /// Changes, or closing changes, give one twice.
    ChangeDoubled {
        /// The change, counted from 0.
        change: u64,
    },
    /// A value that is no key is NULL in a change, or a closing change.
    ChangeValueLost {
        /// The change, counted from 0.
        change: u64,
    },
    /// Changes, or closing changes, end before this batch as if they were complete.
    ChangesEndEarly {
        /// The batch.
        batch: u32,
    },
    /// The store's own proof states another checksum, where it states one.
    ProofWrong,
    /// Writing this part fails half-way.
    PartFails {
        /// The part.
        part: u32,
    },
    /// The store loses a row of this part and says that it has all of them.
    PartLosesRow {
        /// The part.
        part: u32,
        /// The row.
        row: u64,
    },
    /// The store takes a row of this part twice and says that it has each once.
    PartDoublesRow {
        /// The part.
        part: u32,
        /// The row.
        row: u64,
    },
    /// A load cannot be finished.
    FinishFails,
    /// A publication fails; nothing of it is visible.
    PublishFails,
    /// A publication succeeds, but its answer is lost.
    PublishAnswerLost,
}

impl Fault {
    /// Whether the caller is told nothing when it happens.
    pub fn is_silent(&self) -> bool {
        matches!(
            self,
            Self::ScanEndsEarly { .. }
                | Self::RowLost { .. }
                | Self::RowDoubled { .. }
                | Self::RowsSwapped { .. }
                | Self::ValueMoved { .. }
                | Self::ValueLost { .. }
                | Self::ChangeLost { .. }
                | Self::ChangeDoubled { .. }
                | Self::ChangeValueLost { .. }
                | Self::ChangesEndEarly { .. }
                | Self::PartitionForgotten { .. }
                | Self::PartitionDoubled { .. }
                | Self::PartLosesRow { .. }
                | Self::PartDoublesRow { .. }
        )
    }

    /// A fault of a scan that follows from a seed, within tables of at least this many partitions and rows in each.
    pub fn of_scan(seed: u64, partitions: u32, rows: u64) -> Self {
        let mut random = Random::new(seed);
        let kind = random.below(8);
        let partition = random.below(u64::from(partitions)) as u32;
        let row = random.below(rows);
        match kind {
            0 => Self::CutLost { batches: random.below(u64::from(partitions)) as u32 },
            1 => Self::ScanFails { partition, batch: 0 },
            2 => Self::ScanEndsEarly { partition, batch: 0 },
            3 => Self::RowLost { partition, row },
            4 => Self::RowDoubled { partition, row },
            5 => Self::RowsSwapped { partition, row },
            6 => Self::ValueMoved { partition, row },
            _ => Self::ValueLost { partition, row },
        }
    }
}

#[derive(Debug)]
struct Line {
    fault: Fault,
    /// How often it still happens; none means always.
    left: Option<u32>,
    fired: u32,
}

/// The faults to come and those that happened.
#[derive(Debug)]
pub(super) struct Script(Mutex<Vec<Line>>);

impl Script {
    pub fn new(faults: impl IntoIterator<Item = Fault>, times: Option<u32>) -> Self {
        Self(Mutex::new(faults.into_iter().map(|fault| Line { fault, left: times, fired: 0 }).collect()))
    }

    /// Offers every fault to come, once; those that happen are counted.
    pub fn fire_each(&self, mut happen: impl FnMut(&Fault) -> bool) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter_mut().filter(|l| l.left != Some(0)) {
            if happen(&line.fault) {
                line.left = line.left.map(|left| left - 1);
                line.fired += 1;
            }
        }
    }

    /// The first fault to come that this accepts and can make happen.
    pub fn fire<T>(&self, mut happen: impl FnMut(&Fault) -> Option<T>) -> Option<T> {
        let mut done = None;
        self.fire_each(|fault| {
            if done.is_some() {
                return false;
            }
            done = happen(fault);
            done.is_some()
        });
        done
    }

    /// Whether this very fault is to come; it counts as happened.
    pub fn happens(&self, fault: &Fault) -> bool {
        self.fire(|f| (f == fault).then_some(())).is_some()
    }

    /// An error where this very fault is to come.
    pub fn fail(&self, fault: &Fault, what: &str) -> Result<()> {
        if self.happens(fault) { Err(broken(what)) } else { Ok(()) }
    }

    pub fn fired(&self) -> Vec<Fault> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().flat_map(|l| std::iter::repeat_n(l.fault.clone(), l.fired as usize)).collect()
    }
}

/// The error of a fault that is not silent.
pub(super) fn broken(what: &str) -> StoreError {
    StoreError::Unavailable {
        what: what.to_owned(),
        object: "a store that fails on purpose".into(),
        source: "a fault of the test's script".into(),
    }
}
