//! The state that actors share: the log, the objects that stand, deletions that were sent, and the time.

use crate::actors::Actor;

/// The protocol, or one that is wrong in one known way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// As it is.
    Sound,
    /// A pruner deletes what it plans to condemn before its record stands.
    DeletesBeforeLogging,
    /// A writer who finds its number taken tries the next one and looks at nothing.
    WriterSkipsRevalidation,
    /// A pruner who finds its number taken commits the same plan under the next one.
    PrunerSkipsRevalidation,
    /// A writer puts a condemned name again instead of another one.
    ReusesNames,
    /// What is condemned may be deleted at once, although clocks differ.
    NoGrace,
    /// A reader logs no hold.
    NoHold,
    /// A pruner does not look for holds.
    PrunerIgnoresHolds,
    /// A compactor does not look whether its point is still the newest.
    CompactorSkipsRevalidation,
}

/// A record of the log; its number is its position. Names and points are sets, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    None,
    Point { names: u16, cut: u8 },
    Prune { points: u16, condemned: u16, delete_after: u8 },
    Hold { by: u8, point: u8, until: u8 },
    Release { by: u8 },
}

pub const RECORDS: usize = 14;
pub const ACTORS: usize = 5;
/// Names from here on are random: nobody puts them twice.
pub const FRESH: u8 = 4;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub protocol: Protocol,
    pub grace: u8,
    pub time: u8,
    /// The time ends here.
    pub end: u8,
    pub log: [Record; RECORDS],
    pub head: u8,
    /// Objects that stand.
    pub present: u16,
    /// Deletions that were sent; each takes effect at any time, any number of times.
    pub sent: u16,
    /// The next random name.
    pub fresh: u8,
    pub actors: [Option<Actor>; ACTORS],
}

impl World {
    pub fn new(protocol: Protocol, grace: u8, actors: &[Actor]) -> Self {
        let mut slots = [None; ACTORS];
        for (slot, actor) in slots.iter_mut().zip(actors) {
            *slot = Some(*actor);
        }
        Self {
            protocol,
            grace,
            time: 0,
            end: 2,
            log: [Record::None; RECORDS],
            head: 0,
            present: 0,
            sent: 0,
            fresh: FRESH,
            actors: slots,
        }
    }

    pub fn append(&mut self, record: Record) {
        self.log[self.head as usize] = record;
        self.head += 1;
    }

    fn records(&self, head: u8) -> impl DoubleEndedIterator<Item = (u8, Record)> + '_ {
        (0..head).map(|at| (at, self.log[at as usize]))
    }

    /// Points that are visible after the first `head` records.
    pub fn visible(&self, head: u8) -> u16 {
        self.records(head).fold(0, |points, (at, record)| match record {
            Record::Point { .. } => points | 1 << at,
            Record::Prune { points: gone, .. } => points & !gone,
            _ => points,
        })
    }

    pub fn newest(&self, head: u8) -> Option<u8> {
        self.visible(head).checked_ilog2().map(|at| at as u8)
    }

    /// Names that these points need.
    pub fn needed(&self, points: u16) -> u16 {
        self.records(RECORDS as u8).filter(|(at, _)| points & (1 << at) != 0).fold(0, |names, (_, record)| {
            match record {
                Record::Point { names: more, .. } => names | more,
                _ => names,
            }
        })
    }

    pub fn point(&self, at: u8) -> (u16, u8) {
        match self.log[at as usize] {
            Record::Point { names, cut } => (names, cut),
            other => unreachable!("{other:?} is no point"),
        }
    }

    /// Names that the first `head` records condemned, and those of them that may be deleted by this clock.
    pub fn condemned(&self, head: u8, clock: u8) -> (u16, u16) {
        self.records(head).fold((0, 0), |(all, due), (_, record)| match record {
            Record::Prune { condemned, delete_after, .. } => {
                (all | condemned, if delete_after <= clock { due | condemned } else { due })
            }
            _ => (all, due),
        })
    }

    /// Points that a hold keeps by this clock.
    pub fn held(&self, head: u8, clock: u8) -> u16 {
        let mut holds: [Option<(u8, u8)>; ACTORS] = [None; ACTORS];
        for (_, record) in self.records(head) {
            match record {
                Record::Hold { by, point, until } => holds[by as usize] = Some((point, until)),
                Record::Release { by } => holds[by as usize] = None,
                _ => {}
            }
        }
        holds.into_iter().flatten().filter(|(_, until)| clock < *until).fold(0, |p, (at, _)| p | 1 << at)
    }

    /// The state as bytes, each field in its place.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.time, self.head, self.fresh];
        out.extend(self.present.to_le_bytes());
        out.extend(self.sent.to_le_bytes());
        for record in &self.log[..self.head as usize] {
            let (kind, a, b, c) = match *record {
                Record::None => (0, 0, 0, 0),
                Record::Point { names, cut } => (1, names, 0, cut),
                Record::Prune { points, condemned, delete_after } => (2, points, condemned, delete_after),
                Record::Hold { by, point, until } => (3, by.into(), point.into(), until),
                Record::Release { by } => (4, by.into(), 0, 0),
            };
            out.extend([kind, c]);
            out.extend(a.to_le_bytes());
            out.extend(b.to_le_bytes());
        }
        for actor in self.actors.iter().flatten() {
            out.extend([
                actor.at as u8,
                actor.seen,
                actor.until,
                actor.renewed.into(),
                actor.committed.into(),
            ]);
            out.extend(actor.names.to_le_bytes());
            out.extend(actor.points.to_le_bytes());
        }
        out
    }

    /// Puts an object under a name that nobody had.
    pub fn put_anew(&mut self) -> u16 {
        assert!(self.fresh < 16, "more names than the model has");
        let name = 1 << self.fresh;
        self.fresh += 1;
        self.present |= name;
        name
    }

    /// A visible point that misses an object.
    pub fn broken(&self) -> Option<String> {
        let missing = self.needed(self.visible(self.head)) & !self.present;
        (missing != 0).then(|| format!("a visible point misses {missing:#b}"))
    }
}
