//! Why a vault refused or failed, grouped by what the caller can do.

use keepfast_format::FormatError;
use keepfast_keys::KeyError;
use keepfast_model::{Class, Code, Coded, LogSeq, ModelError};
use keepfast_objects::ObjectsError;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a vault refused or failed. Paths are full, as the target shows them, and free of secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is no vault at this place.
    #[error("{url} is not a vault: it holds no keepfast.json")]
    NotAVault {
        /// The place.
        url: String,
    },
    /// There is a vault at this place already.
    #[error("{url} is a vault already")]
    VaultExists {
        /// The place.
        url: String,
    },
    /// A vault would be made among objects that are not Keepfast's.
    #[error("{url} cannot become a vault: it holds {object}")]
    NotEmpty {
        /// The place.
        url: String,
        /// One object that stands there.
        object: String,
    },
    /// An object was written by a newer program.
    #[error("{path} was written by a newer program: it has {found}")]
    NewerFormat {
        /// The object.
        path: String,
        /// What this program does not know.
        found: String,
    },
    /// An object is missing or is not what was written.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// The decoder's own error.
        #[source]
        source: Option<Source>,
    },
    /// The vault has no visible backup of this name.
    #[error("there is no backup '{backup}' in {url}{}", known_names(.known))]
    NoBackup {
        /// The backup asked for.
        backup: String,
        /// The vault.
        url: String,
        /// Backups that exist.
        known: Vec<String>,
    },
    /// The backup has no such restore point.
    #[error("backup '{backup}' in {url} has no restore point {wanted}{}", known_range(.known))]
    NoPoint {
        /// The backup.
        backup: String,
        /// The vault.
        url: String,
        /// What was asked for, such as `12` or `as of 2026-01-01T00:00:00Z`.
        wanted: String,
        /// Oldest and newest point that exist, each with the time of its cut.
        known: Option<(String, String)>,
    },
    /// A hold keeps what was to be removed.
    #[error("backup '{backup}' is held: {holds}")]
    Held {
        /// The backup.
        backup: String,
        /// The holds, each with its reason.
        holds: String,
    },
    /// Locks keep what was to be removed.
    #[error("restore point {point} is locked until {until}")]
    Locked {
        /// The point that is locked for longest.
        point: String,
        /// Until when.
        until: jiff::Timestamp,
    },
    /// The place locks nothing.
    #[error("{url} cannot lock objects")]
    NoLocks {
        /// The place.
        url: String,
    },
    /// The place locks every object by itself, those too that must stay removable.
    #[error("{url} locks every new object by itself: {rule}")]
    LocksAll {
        /// The place.
        url: String,
        /// How.
        rule: String,
    },
    /// The place keeps no versions of objects.
    #[error("{url} keeps no earlier versions of its objects")]
    NoVersions {
        /// The place.
        url: String,
    },
    /// The place keeps the markers of two vaults, and neither is in force.
    #[error(
        "{url} keeps versions of the keepfast.json of {vaults}, and the newest does not tell which of them it is"
    )]
    TwoVaults {
        /// The place.
        url: String,
        /// The ids of the vaults.
        vaults: String,
    },
    /// The place keeps two logs of one vault, and both fit.
    #[error("{url} keeps two histories that both fit; their newest records are {heads}")]
    TwoHistories {
        /// The place.
        url: String,
        /// Number and hash of the newest record of each.
        heads: String,
    },
    /// There is no hold of this id in force.
    #[error("there is no hold '{id}' in {url}")]
    NoHold {
        /// The id.
        id: String,
        /// The vault.
        url: String,
    },
    /// The retention policy cannot be followed.
    #[error("the retention policy is refused: {reason}")]
    Policy {
        /// Why.
        reason: String,
    },
    /// A plan has nothing left that is still right to do: rivals did it, or changed what it was made from.
    #[error("the plan is out of date: {plan}")]
    Stale {
        /// The plan.
        plan: String,
    },
    /// A newer point was committed while this run worked on an older one.
    #[error("a newer restore point, {newest}, was committed while {base} was worked on")]
    Superseded {
        /// The point that was worked on.
        base: String,
        /// The newest.
        newest: String,
    },
    /// Objects that a commit names are not in the vault; nothing was committed.
    #[error("{path} and {} more of {total} new objects are not in the vault as they were written", .wrong - 1)]
    Incomplete {
        /// The first of them.
        path: String,
        /// How many are missing or have another size.
        wrong: usize,
        /// How many were checked.
        total: usize,
    },
    /// The record stands, but could not be confirmed afterwards.
    #[error("record {seq} is committed, but {path} could not be confirmed")]
    Unconfirmed {
        /// The record.
        seq: LogSeq,
        /// The object that could not be confirmed.
        path: String,
        /// Why not.
        #[source]
        source: Source,
    },
    /// Objects that a commit names were removed by a prune meanwhile.
    #[error("{path} was removed by a prune while this run used it")]
    Pruned {
        /// The object.
        path: String,
    },
    /// A record contradicts itself or the vault.
    #[error("the record was refused: {reason}")]
    Record {
        /// The contradiction.
        reason: String,
    },
    /// An object that was just written holds other bytes; nothing was committed.
    #[error("{path} does not hold what was just written there")]
    NotAsWritten {
        /// The object.
        path: String,
    },
    /// A record is there and no listing shows it, so that nothing can be committed after it.
    #[error("{path} is there, and the place does not list it")]
    Unlisted {
        /// The record.
        path: String,
    },
    /// Two places that should hold one vault hold different histories.
    #[error("{path} is not what {url} has there")]
    Diverged {
        /// The object that differs.
        path: String,
        /// The vault that was to be copied.
        url: String,
    },
    /// A repair was to take objects from a place that holds another vault.
    #[error("{url} is vault {found}, not {expected}")]
    OtherVault {
        /// The place.
        url: String,
        /// The vault it holds.
        found: String,
        /// The vault that is repaired.
        expected: String,
    },
    /// The format has a place for it, and this program does not fill it.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What was asked.
        what: String,
    },
    /// The keys were rotated since a copy was made, and its own recipients are not known well enough to be given the new ones.
    #[error(
        "the keys of {vault} were rotated since {url} was copied from it, and the copy's own recipients were not named: {names}"
    )]
    RecipientsNeeded {
        /// The copy.
        url: String,
        /// The vault it is of.
        vault: String,
        /// Names that the copy's key file states.
        names: String,
    },
    /// A copy is for other recipients than those that were named.
    #[error("{url} is for other recipients: {names}")]
    OtherRecipients {
        /// The copy.
        url: String,
        /// Who can open it.
        names: String,
    },
    /// A copy for recipients was asked for, and none was named.
    #[error("a copy for recipients of its own needs at least one")]
    NoRecipients,
    /// A re-encryption found another vault at the place.
    #[error("{url} holds a vault that was not made by re-encrypting {vault}, or that was written to since")]
    NotReencrypted {
        /// The place.
        url: String,
        /// The vault that is re-encrypted.
        vault: String,
    },
    /// The vault has no keys that could be changed.
    #[error("{url} has no keys: nothing in it is encrypted")]
    NoKeys {
        /// The vault.
        url: String,
    },
    /// Somebody changed the keys meanwhile.
    #[error("the vault's keys were changed meanwhile")]
    KeysChanged,
    /// The keys of a table are not those with which it was, or is to be, written; nothing was committed.
    #[error("the keys of table '{table}' were changed or dropped while it was written")]
    TableKeysChanged {
        /// The table.
        table: String,
    },
    /// The keys are changed, and what came before stands still.
    #[error(
        "the new keys stand, generation {generation}, but {path} remains: whoever can open it still reads all that it opens"
    )]
    OlderKeysRemain {
        /// The older key file, or the folder of them.
        path: String,
        /// The generation in force.
        generation: u64,
        /// Why it was not deleted; none where the place said that it was.
        #[source]
        source: Option<Source>,
    },
    /// There is nothing that a vault's first keys could come with.
    #[error("{url} has no keys and gets none: there is nothing left to be encrypted there")]
    NothingToEncrypt {
        /// The vault.
        url: String,
    },
    /// A key is missing, or does not open what it should.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The system gave no random bytes.
    #[error("no random bytes: {source}")]
    Random {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The place could not be read or written.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// Stored bytes could not be encoded or decoded.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A value of the model was not well formed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

fn known_names(known: &[String]) -> String {
    match known {
        [] => "; it holds none".to_owned(),
        names if names.len() <= 5 => format!("; it holds {}", names.join(", ")),
        names => format!("; it holds {} and {} more", names[..5].join(", "), names.len() - 5),
    }
}

fn known_range(known: &Option<(String, String)>) -> String {
    match known {
        None => String::new(),
        Some((oldest, newest)) if oldest == newest => format!("; it has only {oldest}"),
        Some((oldest, newest)) => format!("; it has {oldest} to {newest}"),
    }
}

impl VaultError {
    /// Damage without a decoder's error.
    pub(crate) fn damaged(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), reason: reason.into(), source: None }
    }
}

impl Coded for VaultError {
    fn code(&self) -> Code {
        Code(match self {
            Self::NotAVault { .. } => 220,
            Self::VaultExists { .. } => 221,
            Self::NotEmpty { .. } => 222,
            Self::NewerFormat { .. } => 223,
            Self::Damaged { .. } => 224,
            Self::NoBackup { .. } => 225,
            Self::NoPoint { .. } => 226,
            Self::Held { .. } => 227,
            Self::NoHold { .. } => 228,
            Self::Incomplete { .. } => 229,
            Self::Unconfirmed { .. } => 230,
            Self::Pruned { .. } => 231,
            Self::Record { .. } => 232,
            Self::Unsupported { .. } => 233,
            Self::Random { .. } => 234,
            Self::Diverged { .. } => 235,
            Self::RecipientsNeeded { .. } => 274,
            Self::OtherRecipients { .. } => 275,
            Self::NoRecipients => 276,
            Self::NotReencrypted { .. } => 277,
            Self::TwoHistories { .. } => 278,
            Self::TwoVaults { .. } => 279,
            Self::NoKeys { .. } => 253,
            Self::KeysChanged => 254,
            Self::TableKeysChanged { .. } => 256,
            Self::OlderKeysRemain { .. } => 257,
            Self::NothingToEncrypt { .. } => 258,
            Self::Keys(e) => return e.code(),
            Self::Policy { .. } => 260,
            Self::Stale { .. } => 261,
            Self::Superseded { .. } => 262,
            Self::NotAsWritten { .. } => 290,
            Self::Unlisted { .. } => 291,
            Self::OtherVault { .. } => 280,
            Self::Locked { .. } => 270,
            Self::NoLocks { .. } => 271,
            Self::LocksAll { .. } => 272,
            Self::NoVersions { .. } => 273,
            Self::Objects(e) => return e.code(),
            Self::Format(e) => return e.code(),
            Self::Model(e) => return e.code(),
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::Incomplete { .. } | Self::Pruned { .. } | Self::Unconfirmed { .. } => Class::Retry,
            Self::KeysChanged | Self::TableKeysChanged { .. } => Class::Retry,
            Self::Keys(e) => e.class(),
            Self::Stale { .. } | Self::Superseded { .. } => Class::Retry,
            Self::NotAsWritten { .. } | Self::Unlisted { .. } => Class::Retry,
            Self::Record { .. } => Class::Bug,
            Self::Objects(e) => e.class(),
            Self::Format(e) => e.class(),
            Self::Model(e) => e.class(),
            _ => Class::Fix,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NotAVault { .. } => {
                "Check the place; `keepfast backup … --to URL` or `keepfast vault init URL` makes a vault."
            }
            Self::VaultExists { .. } => "Use it as it is, or choose another place.",
            Self::NotEmpty { .. } => "Choose an empty folder or prefix for the vault.",
            Self::NewerFormat { .. } => "Use the newer keepfast that wrote it.",
            Self::Damaged { .. } => {
                "Run `keepfast verify` on the backup: it lists every damaged object and the points it touches; \
                 `verify --repair` heals from copies and parity, with `--repair-from` from another copy of the vault."
            }
            Self::NoBackup { .. } => "`keepfast list` shows the backups of a vault.",
            Self::NoPoint { .. } => "`keepfast list NAME` shows the restore points of a backup.",
            Self::Held { .. } => "Release the hold first, or wait until it ends.",
            Self::Locked { .. } => "Wait until then; nobody can shorten a lock of mode compliance.",
            Self::NoLocks { .. } => {
                "Use an S3 bucket that was made with object lock, or leave `--retain-for` out."
            }
            Self::LocksAll { .. } => {
                "Remove the bucket's default retention: Keepfast locks what points need, and keys and temporary \
                 objects must stay removable."
            }
            Self::NoVersions { .. } => {
                "Restore from another copy of the vault; a bucket with versions or object lock keeps what is deleted."
            }
            Self::TwoVaults { .. } => {
                "Remove the versions of keepfast.json that are not those of your vault, then run the same command again."
            }
            Self::TwoHistories { .. } => {
                "Run the same command again with `--expect HEAD`, the head that a verify of yours printed."
            }
            Self::NoHold { .. } => "`keepfast show NAME` lists the holds of a backup.",
            Self::Incomplete { .. } => "Run the same command again; nothing was committed.",
            Self::Unconfirmed { .. } => "Run `keepfast verify` on the backup before you rely on it.",
            Self::Pruned { .. } => "Run the same command again; it will write the objects anew.",
            Self::Record { .. } => "This is a defect of Keepfast; please report it with the code.",
            Self::Diverged { .. } => {
                "Copy to an empty place; one of the two was written to after it was copied, or is another vault."
            }
            Self::Policy { .. } => "Say what stays, such as `--keep-last 7 --keep-weekly 4`.",
            Self::Stale { .. } => "Run the same command again; it makes a new plan.",
            Self::Superseded { .. } => "Run the same command again; it works on the newest point then.",
            Self::NotAsWritten { .. } | Self::Unlisted { .. } => {
                "Run the same command again; if it stays, the place is not fit for backups."
            }
            Self::OtherVault { .. } => "Name a place that `keepfast vault copy` filled from this vault, or this one from it.",
            Self::Unsupported { .. } => "Leave the option out.",
            Self::RecipientsNeeded { .. } => "Run the same command again and name each of the copy's recipients.",
            Self::OtherRecipients { .. } => {
                "Leave the recipients out to bring the copy up to date as it is; for others copy to an empty place, or rotate the keys first."
            }
            Self::NotReencrypted { .. } => "Choose an empty place.",
            Self::NoRecipients => "Name a public key or a passphrase, or leave the recipients out.",
            Self::NoKeys { .. } => "`keepfast key add` gives it keys.",
            Self::KeysChanged => "Run the same command again.",
            Self::TableKeysChanged { .. } => {
                "Run the backup again: nothing was committed, and it begins anew under the keys that the table has by then."
            }
            Self::OlderKeysRemain { .. } => {
                "Run the same command again with the right to delete: it deletes what is left."
            }
            Self::NothingToEncrypt { .. } => {
                "Leave the recipients out, or give it keys with `keepfast key add --vault URL`."
            }
            Self::Keys(e) => return e.next_step(),
            Self::Random { .. } => "Check the system's source of random bytes, then run the command again.",
            Self::Objects(e) => return e.next_step(),
            Self::Format(e) => return e.next_step(),
            Self::Model(e) => return e.next_step(),
        }
        .to_owned()
    }
}
