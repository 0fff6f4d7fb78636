//! Which awkwardness is on.

use crate::PublishKind;

/// How the store reads at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshots {
    /// Every version is kept: cuts are replayable and exact, as HBase's and VoltDB's snapshots are.
    #[default]
    Versions,
    /// The cut is held by a session of this process, as MySQL's is.
    Session {
        /// The session dies after it gave this many batches.
        dies_after: Option<u32>,
    },
    /// There are none: a scan reads what is there when it comes by.
    None {
        /// Cuts are closed from the change log after the scan, as Tablestore's are; they are exact then. Otherwise
        /// they are fuzzy.
        closed_by_log: bool,
    },
}

/// What happens when a key is put into a second shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// The write is refused.
    #[default]
    Refused,
    /// It is stored; plans and changes fail with `DuplicateKey` while it lasts.
    Reported,
    /// It is stored, and only who brings the shards together can notice.
    Unnoticed,
}

/// What is awkward about an [`AwkwardStore`](super::AwkwardStore). By default nothing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awkwardness {
    /// Shards of every table; rows are spread by a hash of their key. Default: 1.
    pub shards: usize,
    /// How it reads at one moment.
    pub snapshots: Snapshots,
    /// Updates are logged as patches of the columns that changed.
    pub patches: bool,
    /// Text keys are scanned in an order that ignores case: not the order of encoded keys.
    pub collated: bool,
    /// What happens when a key is put into a second shard.
    pub duplicates: Duplicates,
    /// Every update moves the row to the next shard.
    pub moving: bool,
    /// Every piece of every shard splits between a plan and its scans.
    pub splitting: bool,
    /// Entries that each shard's change log keeps; older ones are purged. None means all.
    pub log_keeps: Option<usize>,
    /// There is no change log.
    pub no_log: bool,
    /// The store states no counts and checksums of its own.
    pub unproven: bool,
    /// How loads become visible. Default: atomic.
    pub publish: Option<PublishKind>,
    /// Whether loads can merge. Default: true.
    pub merge: bool,
}

impl Default for Awkwardness {
    fn default() -> Self {
        Self {
            shards: 1,
            snapshots: Snapshots::Versions,
            patches: false,
            collated: false,
            duplicates: Duplicates::Refused,
            moving: false,
            splitting: false,
            log_keeps: None,
            no_log: false,
            unproven: false,
            publish: Some(PublishKind::Atomic),
            merge: true,
        }
    }
}
