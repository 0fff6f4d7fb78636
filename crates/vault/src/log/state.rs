//! What follows from the log: visible points, holds, condemned objects.

use super::line::LogLine;
use crate::Result;
use crate::error::VaultError;
use jiff::Timestamp;
use keepfast_model::{BackupName, BackupPoint, Hash256, LogSeq, PointId, Record, RunId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A visible restore point; dereferences to what was recorded.
#[derive(Clone, PartialEq, Eq)]
pub struct Point {
    id: PointId,
    line: Arc<LogLine>,
    /// Position in the line's records; a `Record::Point` stands there.
    position: usize,
}

impl Point {
    /// Its id, shown as `name@seq`.
    pub fn id(&self) -> &PointId {
        &self.id
    }

    /// Its number in the log.
    pub fn seq(&self) -> LogSeq {
        self.id.seq
    }

    /// When it was committed, by the clock of who did.
    pub fn committed_at(&self) -> Timestamp {
        self.line.at
    }
}

impl Deref for Point {
    type Target = BackupPoint;
    fn deref(&self) -> &BackupPoint {
        match &self.line.records[self.position] {
            Record::Point(point) => point,
            other => unreachable!("a point's position holds {other:?}"),
        }
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Point({})", self.id)
    }
}

/// Something that must stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id, by which it is released.
    pub id: String,
    /// The backup.
    pub backup: BackupName,
    /// The point; none means the whole backup.
    pub point: Option<LogSeq>,
    /// Until when; none means until released.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// The record that took it.
    pub seq: LogSeq,
}

impl Hold {
    /// Whether it is in force at this time.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it keeps this point.
    pub fn keeps(&self, backup: &BackupName, point: LogSeq) -> bool {
        self.backup == *backup && self.point.is_none_or(|p| p == point)
    }
}

/// Which point of a backup is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The newest.
    Latest,
    /// The one of this number.
    Point(LogSeq),
    /// The newest whose cut is not after this time.
    Time(Timestamp),
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("at all"),
            Self::Point(seq) => seq.fmt(f),
            Self::Time(at) => write!(f, "as of {at}"),
        }
    }
}

/// The log up to some record, and what follows from it. A value: it does not change when the vault does.
#[derive(Clone)]
pub struct Log {
    state: Arc<State>,
}

/// An object's name as a short hash: a vault never forgets a condemned name, so it is held small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameHash([u8; 16]);

impl NameHash {
    pub fn of(path: &str) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&Hash256::of(path.as_bytes()).0[..16]);
        Self(short)
    }
}

/// A line of the log as it is remembered when what it says has been applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Its number.
    pub seq: LogSeq,
    /// When it was written, by the clock of who wrote it.
    pub at: Timestamp,
    /// BLAKE3 of its stored bytes.
    pub stored: Hash256,
    /// Its stored size.
    pub bytes: u64,
    /// The run whose point it recorded, visible still or not.
    pub run: Option<RunId>,
    /// The generation of keys that it brought.
    pub keys: Option<u64>,
}

/// Invariant: what is held grows with visible points, holds, names of backups and condemned names (28 bytes each). Of the records
/// that led there nothing but a [`LineInfo`] is held, about 150 bytes each.
#[derive(Clone)]
struct State {
    url: String,
    lines: Vec<LineInfo>,
    points: BTreeMap<LogSeq, Point>,
    holds: BTreeMap<String, Hold>,
    dropped: BTreeMap<BackupName, LogSeq>,
    condemned: HashMap<NameHash, Timestamp>,
    keys: BTreeMap<u64, Hash256>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({} records, {} points)", self.state.lines.len(), self.state.points.len())
    }
}

impl Log {
    /// The log of a vault to which nothing has happened yet.
    pub(crate) fn empty(url: &str) -> Self {
        Self {
            state: Arc::new(State {
                url: url.to_owned(),
                lines: vec![],
                points: BTreeMap::new(),
                holds: BTreeMap::new(),
                dropped: BTreeMap::new(),
                condemned: HashMap::new(),
                keys: BTreeMap::new(),
            }),
        }
    }

    /// This log and the lines after it.
    pub(crate) fn followed_by(&self, lines: Vec<LogLine>) -> Self {
        let mut state = (*self.state).clone();
        for line in lines {
            state.apply(Arc::new(line));
        }
        Self { state: Arc::new(state) }
    }

    /// Number and hash of the newest record; none for an empty log. `verify --expect` compares with it.
    pub fn head(&self) -> Option<(LogSeq, Hash256)> {
        self.state.lines.last().map(|l| (l.seq, l.stored))
    }

    /// All lines, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &LineInfo> {
        self.state.lines.iter()
    }

    /// Names of backups with a visible point, sorted.
    pub fn backups(&self) -> Vec<BackupName> {
        let names: BTreeSet<_> = self.state.points.values().map(|p| &p.id.backup).collect();
        names.into_iter().cloned().collect()
    }

    /// All visible points, oldest first.
    pub fn all_points(&self) -> impl DoubleEndedIterator<Item = &Point> {
        self.state.points.values()
    }

    /// Visible points of a backup, oldest first.
    pub fn points(&self, backup: &BackupName) -> impl DoubleEndedIterator<Item = &Point> {
        self.state.points.values().filter(move |p| p.id.backup == *backup)
    }

    /// The record that dropped a backup of this name last.
    pub fn dropped_at(&self, backup: &BackupName) -> Option<LogSeq> {
        self.state.dropped.get(backup).copied()
    }

    /// The newest visible point of a backup.
    pub fn latest(&self, backup: &BackupName) -> Option<&Point> {
        self.points(backup).next_back()
    }

    /// The point of a backup that a time or a number means.
    ///
    /// # Errors
    /// [`VaultError::NoBackup`] without any point, [`VaultError::NoPoint`] without this one.
    pub fn resolve(&self, backup: &BackupName, as_of: AsOf) -> Result<Point> {
        let found = match as_of {
            AsOf::Latest => self.latest(backup),
            AsOf::Point(seq) => self.state.points.get(&seq).filter(|p| p.id.backup == *backup),
            AsOf::Time(at) => {
                self.points(backup).filter(|p| p.cut.at <= at).max_by_key(|p| (p.cut.at, p.id.seq))
            }
        };
        if let Some(point) = found {
            return Ok(point.clone());
        }
        let Some(oldest) = self.points(backup).next() else {
            return Err(VaultError::NoBackup {
                backup: backup.to_string(),
                url: self.state.url.clone(),
                known: self.backups().iter().map(ToString::to_string).collect(),
            });
        };
        let show = |p: &Point| format!("{} (cut at {})", p.id, p.cut.at);
        Err(VaultError::NoPoint {
            backup: backup.to_string(),
            url: self.state.url.clone(),
            wanted: as_of.to_string(),
            known: self.latest(backup).map(|newest| (show(oldest), show(newest))),
        })
    }

    /// Holds that were taken and not released, sorted by id; some may have run out.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.state.holds.values()
    }

    /// The hold of this id.
    pub fn hold(&self, id: &str) -> Option<&Hold> {
        self.state.holds.get(id)
    }

    /// The time until which a condemned object stays; none for one that no prune condemned. Its name is never used
    /// again, whether it is deleted already or not.
    pub fn condemned_until(&self, path: &str) -> Option<Timestamp> {
        self.state.condemned.get(&NameHash::of(path)).copied()
    }

    /// Whether a prune condemned this object.
    pub fn is_condemned(&self, path: &str) -> bool {
        self.condemned_until(path).is_some()
    }

    /// Whether any visible point has a table with parity.
    pub fn has_parity(&self) -> bool {
        self.all_points().any(|p| p.tables.iter().any(|t| t.parity.is_some()))
    }

    /// Whether a prune condemned anything at all.
    pub(crate) fn condemns(&self) -> bool {
        !self.state.condemned.is_empty()
    }

    /// Key files by generation, each with the hash by which its record names it: of the first, of its stored bytes; of later ones, of
    /// what every copy of the vault has of them.
    pub fn keys(&self) -> &BTreeMap<u64, Hash256> {
        &self.state.keys
    }

    pub(crate) fn url(&self) -> &str {
        &self.state.url
    }
}

impl State {
    fn apply(&mut self, line: Arc<LogLine>) {
        for (position, record) in line.records.iter().enumerate() {
            match record {
                Record::Point(point) => {
                    let id = PointId { backup: point.backup.clone(), seq: line.seq };
                    self.points.insert(line.seq, Point { id, line: line.clone(), position });
                }
                Record::Prune { points, condemned, delete_after } => {
                    for seq in points {
                        self.points.remove(seq);
                    }
                    for path in condemned {
                        // Twice condemned is condemned from the earlier time on.
                        let after = self.condemned.entry(NameHash::of(path)).or_insert(*delete_after);
                        *after = (*after).min(*delete_after);
                    }
                }
                Record::Drop { backup } => {
                    self.points.retain(|_, p| p.id.backup != *backup);
                    self.dropped.insert(backup.clone(), line.seq);
                }
                Record::Hold { id, backup, point, until, reason } => {
                    let hold = Hold {
                        id: id.clone(),
                        backup: backup.clone(),
                        point: *point,
                        until: *until,
                        reason: reason.clone(),
                        seq: line.seq,
                    };
                    self.holds.insert(id.clone(), hold);
                }
                Record::Release { id } => {
                    self.holds.remove(id);
                }
                Record::Keys { generation, stored } => {
                    self.keys.insert(*generation, *stored);
                }
            }
        }
        let LogLine { seq, at, stored, bytes, .. } = *line;
        let run = line.records.iter().find_map(|record| match record {
            Record::Point(point) => Some(point.run.clone()),
            _ => None,
        });
        let keys = line.keys().last().map(|(generation, _)| generation);
        self.lines.push(LineInfo { seq, at, stored, bytes, run, keys });
    }
}
