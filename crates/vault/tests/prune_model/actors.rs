//! What each actor does, step by step. A step is one operation on the vault: nothing comes between its parts.

use crate::world::{Protocol, Record, World};

/// Who an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A full backup: puts these names and commits a point of them.
    Writer { puts: u16 },
    /// An incremental backup: a point of the newest point's names and these.
    Incremental { puts: u16 },
    /// Reads the newest point and commits one of these names with its cut.
    Compactor { puts: u16 },
    /// Keeps the newest point, and condemns all that no point needs, however young.
    Pruner,
    /// Removes all points.
    Dropper,
    /// Deletes what is due, again and again.
    Deleter,
    /// Reads all objects of the newest point under a hold.
    Reader,
}

/// Where an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Start,
    Put,
    Log,
    StoreAnew,
    Create,
    List,
    Revalidate,
    DeleteEarly,
    Send,
    Hold,
    CreateHold,
    Read,
    Release,
    CreateRelease,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    pub kind: Kind,
    /// How far its clock is ahead.
    pub skew: u8,
    pub at: At,
    /// Records that it has read.
    pub seen: u8,
    /// Names that it puts, lists, condemns or still has to read.
    pub names: u16,
    /// Points that it removes, or the point that it reads.
    pub points: u16,
    /// Until when its hold is.
    pub until: u8,
    /// Whether it renewed its hold.
    pub renewed: bool,
    /// Whether its record stands, or, of a deleter, whether it sent anything.
    pub committed: bool,
}

/// A hold's length.
const TERM: u8 = 2;

impl Actor {
    pub fn new(kind: Kind, skew: u8) -> Self {
        Self {
            kind,
            skew,
            at: At::Start,
            seen: 0,
            names: 0,
            points: 0,
            until: 0,
            renewed: false,
            committed: false,
        }
    }
}

/// What a step came to.
pub struct Step {
    pub label: &'static str,
    /// Harm that the step itself shows.
    pub broken: Option<String>,
}

impl World {
    /// Lets one actor do its next step; none when it has none.
    pub fn step(&mut self, who: usize) -> Option<Step> {
        let mut actor = self.actors[who]?;
        let step = match actor.kind {
            _ if actor.at == At::Done => None,
            Kind::Writer { puts } | Kind::Incremental { puts } | Kind::Compactor { puts } => {
                Some(self.write(&mut actor, puts))
            }
            Kind::Pruner | Kind::Dropper => Some(self.prune(&mut actor)),
            Kind::Deleter => Some(self.delete(&mut actor)),
            Kind::Reader => Some(self.read(&mut actor, who as u8)),
        };
        self.actors[who] = Some(actor);
        step
    }

    fn write(&mut self, actor: &mut Actor, puts: u16) -> Step {
        let mut broken = None;
        let label = match actor.at {
            At::Start => {
                actor.points = self.newest(self.head).map_or(0, |at| 1 << at);
                let known = self.needed(actor.points);
                let compacts = matches!(actor.kind, Kind::Compactor { .. });
                actor.names = puts | if matches!(actor.kind, Kind::Incremental { .. }) { known } else { 0 };
                // What it folds must be there to be read; without a point there is nothing to fold.
                let readable = actor.points != 0 && known & !self.present == 0;
                actor.at = if compacts && !readable { At::Done } else { At::Put };
                actor.seen = 0;
                "latest"
            }
            At::Put => {
                let missing = puts & !self.present;
                self.present |= missing & missing.wrapping_neg();
                actor.at = if (puts & !self.present) == 0 { At::Log } else { At::Put };
                "put_segment"
            }
            At::Log => {
                let again = actor.seen != 0;
                actor.seen = self.head;
                let skips = again && self.protocol == Protocol::WriterSkipsRevalidation;
                actor.at = if skips { At::Create } else { At::StoreAnew };
                let superseded = matches!(actor.kind, Kind::Compactor { .. })
                    && self.newest(self.head).map_or(0, |at| 1u16 << at) != actor.points;
                if superseded && self.protocol != Protocol::CompactorSkipsRevalidation {
                    actor.at = At::Done;
                }
                "log, revalidate"
            }
            At::StoreAnew => {
                let condemned = actor.names & self.condemned(actor.seen, 0).0;
                let name = condemned & condemned.wrapping_neg();
                if name == 0 {
                    actor.at = At::Create;
                } else if self.protocol == Protocol::ReusesNames {
                    self.present |= condemned;
                    actor.at = At::Create;
                } else if self.present & name == 0 {
                    // Pruned: the same command runs again.
                    actor.at = At::Done;
                } else {
                    actor.names = actor.names & !name | self.put_anew();
                }
                "store_condemned_anew"
            }
            At::Create if self.head != actor.seen => {
                actor.at = At::Log;
                "create_record: taken"
            }
            At::Create => {
                let newest = self.newest(self.head).map_or(0, |at| self.point(at).1);
                let cut = match actor.kind {
                    Kind::Compactor { .. } => self.needed_cut(actor.points),
                    _ => newest.max(2) + 1,
                };
                if cut < newest {
                    broken = Some("a compaction hides a newer point".into());
                }
                self.append(Record::Point { names: actor.names, cut });
                (actor.at, actor.committed) = (At::Done, true);
                "create_record: point"
            }
            other => unreachable!("a writer at {other:?}"),
        };
        Step { label, broken }
    }

    fn needed_cut(&self, points: u16) -> u8 {
        self.point(points.trailing_zeros() as u8).1
    }

    /// Points that go after the first `head` records; none where a hold forbids a drop.
    fn removable(&self, actor: &Actor, head: u8) -> u16 {
        let visible = self.visible(head);
        let held = match self.protocol {
            Protocol::PrunerIgnoresHolds => 0,
            _ => self.held(head, self.time + actor.skew),
        };
        match actor.kind {
            Kind::Dropper if held & visible != 0 => 0,
            Kind::Dropper => visible,
            _ => visible & !self.newest(head).map_or(0, |at| 1 << at) & !held,
        }
    }

    fn prune(&mut self, actor: &mut Actor) -> Step {
        let label = match actor.at {
            At::Start => {
                actor.seen = self.head;
                actor.points = self.removable(actor, self.head);
                actor.at = At::List;
                "plan_prune: log"
            }
            At::List => {
                let stay = self.visible(actor.seen) & !actor.points;
                let mut doomed = self.present & !self.needed(stay) & !self.condemned(actor.seen, 0).0;
                if actor.kind == Kind::Dropper {
                    doomed &= self.needed(actor.points);
                }
                actor.names = doomed;
                actor.at = match self.protocol {
                    Protocol::DeletesBeforeLogging => At::DeleteEarly,
                    _ => At::Revalidate,
                };
                "plan_prune: list"
            }
            At::DeleteEarly => {
                self.sent |= actor.names;
                actor.at = At::Revalidate;
                "deletes before logging"
            }
            At::Revalidate => {
                actor.seen = self.head;
                if self.protocol != Protocol::PrunerSkipsRevalidation {
                    let removable = self.removable(actor, self.head);
                    actor.points = match actor.kind {
                        // A drop takes the points that came meanwhile, and what they need.
                        Kind::Dropper => {
                            actor.names = self.needed(removable);
                            removable
                        }
                        _ => actor.points & removable,
                    };
                    let stay = self.visible(self.head) & !actor.points;
                    actor.names &= !self.needed(stay) & !self.condemned(self.head, 0).0;
                }
                actor.at = if actor.points == 0 && actor.names == 0 { At::Done } else { At::Create };
                "log, revalidate"
            }
            At::Create if self.head != actor.seen => {
                actor.at = At::Revalidate;
                "create_record: taken"
            }
            At::Create => {
                let delete_after = self.time + actor.skew + self.grace;
                self.append(Record::Prune { points: actor.points, condemned: actor.names, delete_after });
                (actor.at, actor.committed) = (At::Done, true);
                "create_record: prune"
            }
            other => unreachable!("a pruner at {other:?}"),
        };
        Step { label, broken: None }
    }

    fn delete(&mut self, actor: &mut Actor) -> Step {
        let label = match actor.at {
            At::Start => {
                // What was sent takes effect again and again anyway.
                actor.names = self.condemned(self.head, self.time + actor.skew).1 & !self.sent;
                actor.at = if actor.names == 0 { At::Start } else { At::List };
                "delete_condemned: log"
            }
            At::List => {
                actor.names &= self.present;
                actor.at = if actor.names == 0 { At::Start } else { At::Send };
                "delete_condemned: list"
            }
            At::Send => {
                self.sent |= actor.names;
                actor.names = 0;
                (actor.at, actor.committed) = (At::Start, true);
                "delete_condemned: delete"
            }
            other => unreachable!("a deleter at {other:?}"),
        };
        Step { label, broken: None }
    }

    fn read(&mut self, actor: &mut Actor, who: u8) -> Step {
        let clock = self.time + actor.skew;
        let mut broken = None;
        let label = match actor.at {
            At::Start => {
                match self.newest(self.head) {
                    Some(at) => {
                        (actor.points, actor.names) = (1 << at, self.point(at).0);
                        actor.at = At::Hold;
                    }
                    None => actor.at = At::Done,
                }
                "latest"
            }
            At::Hold => {
                actor.seen = self.head;
                actor.at = match self.visible(self.head) & actor.points {
                    0 => At::Done,
                    _ => At::CreateHold,
                };
                "log, revalidate"
            }
            At::CreateHold if self.head != actor.seen => {
                actor.at = At::Hold;
                "create_record: taken"
            }
            At::CreateHold => {
                actor.until = clock + TERM;
                let point = actor.points.trailing_zeros() as u8;
                if self.protocol != Protocol::NoHold {
                    self.append(Record::Hold { by: who, point, until: actor.until });
                }
                (actor.at, actor.committed) = (At::Read, true);
                "create_record: hold"
            }
            At::Read if actor.names == 0 => {
                actor.at = At::Release;
                "reads to the end"
            }
            At::Read if clock >= actor.until && actor.renewed => {
                actor.at = At::Done;
                "its hold has run out"
            }
            At::Read if clock + 1 >= actor.until && !actor.renewed => {
                actor.renewed = true;
                actor.at = At::Hold;
                "renews"
            }
            At::Read => {
                let name = actor.names & actor.names.wrapping_neg();
                if self.present & name == 0 {
                    broken = Some(format!("a reader under a hold misses {name:#b}"));
                }
                actor.names &= !name;
                "read_segment"
            }
            At::Release => {
                actor.seen = self.head;
                actor.at = At::CreateRelease;
                "log"
            }
            At::CreateRelease if self.head != actor.seen => {
                actor.at = At::Release;
                "create_record: taken"
            }
            At::CreateRelease => {
                self.append(Record::Release { by: who });
                actor.at = At::Done;
                "create_record: release"
            }
            other => unreachable!("a reader at {other:?}"),
        };
        Step { label, broken }
    }
}
